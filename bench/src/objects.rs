//! Writes generated lines as log objects, as AWS delivers them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::Result;
use crate::generate::{Generator, Kind};

/// The prefix of the objects of one day.
const DAY: &str = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02";

/// Writes `lines` lines in `objects` objects below `directory`, and prints their sizes.
pub fn write(kind: &str, lines: u64, objects: u64, seed: u64, directory: &Path) -> Result<()> {
    let kind = known(kind)?;
    let day = directory.join(DAY);
    fs::create_dir_all(&day)?;
    let mut generator = Generator::new(kind, seed);
    let (mut text_bytes, mut object_bytes) = (0, 0);
    for number in 0..objects {
        let path = day.join(file_name(kind, number));
        let count = lines * (number + 1) / objects - lines * number / objects;
        text_bytes += write_object(kind, &mut generator, count, &path)?;
        object_bytes += fs::metadata(&path)?.len();
    }
    println!(r#"{{"lines":{lines},"objects":{objects},"text_bytes":{text_bytes},"object_bytes":{object_bytes}}}"#);
    Ok(())
}

/// Writes plain lines to one file, and prints its size.
pub fn write_text(kind: &str, lines: u64, seed: u64, file: &Path) -> Result<()> {
    let mut generator = Generator::new(known(kind)?, seed);
    let text_bytes = write_lines(&mut generator, lines, BufWriter::new(File::create(file)?))?.1;
    println!(r#"{{"lines":{lines},"objects":1,"text_bytes":{text_bytes},"object_bytes":{text_bytes}}}"#);
    Ok(())
}

fn known(kind: &str) -> Result<Kind> {
    Kind::named(kind).ok_or_else(|| format!("unknown log type {kind}").into())
}

/// Writes one object. Only Classic Load Balancers deliver plain text.
fn write_object(kind: Kind, generator: &mut Generator, lines: u64, path: &PathBuf) -> Result<u64> {
    let file = BufWriter::new(File::create(path)?);
    if kind == Kind::Classic {
        return Ok(write_lines(generator, lines, file)?.1);
    }
    let (encoder, bytes) = write_lines(generator, lines, GzEncoder::new(file, Compression::new(6)))?;
    encoder.finish()?.flush()?;
    Ok(bytes)
}

fn write_lines<W: Write>(generator: &mut Generator, lines: u64, mut out: W) -> Result<(W, u64)> {
    let (mut line, mut bytes) = (Vec::new(), 0);
    for _ in 0..lines {
        line.clear();
        generator.append(&mut line);
        bytes += line.len() as u64;
        out.write_all(&line)?;
    }
    out.flush()?;
    Ok((out, bytes))
}

fn file_name(kind: Kind, number: u64) -> String {
    let (start, balancer, node, suffix) = match kind {
        Kind::Alb => ("", "app.web.50dc6c495c0c9188", "_203.0.113.7", "log.gz"),
        Kind::Vended => ("", "app.web.50dc6c495c0c9188", "_203.0.113.7", "json.gz"),
        Kind::Nlb => ("", "net.edge.7d2f0c41aa93be05", "", "log.gz"),
        Kind::Classic => ("", "shop-classic", "_203.0.113.7", "log"),
        Kind::AlbConnection => ("conn_log_", "app.web.50dc6c495c0c9188", "_203.0.113.7", "log.gz"),
        Kind::AlbHealthCheck => ("health_check_log_", "app.web.50dc6c495c0c9188", "_203.0.113.7", "log.gz"),
    };
    format!("{start}123456789012_elasticloadbalancing_eu-west-1_{balancer}_20260302T1020Z{node}_{number:08}.{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: Kind, seed: u64) -> Vec<u8> {
        write_lines(&mut Generator::new(kind, seed), 20_000, Vec::new()).expect("writing into memory").0
    }

    #[test]
    fn the_same_seed_gives_the_same_lines() {
        assert_eq!(text(Kind::Alb, 1), text(Kind::Alb, 1));
        assert_ne!(text(Kind::Alb, 1), text(Kind::Alb, 2));
    }

    #[test]
    fn lines_compress_like_real_logs() {
        let text = text(Kind::Alb, 1);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(&text).expect("compressing into memory");
        let ratio = text.len() / encoder.finish().expect("compressing into memory").len();
        assert!((8..12).contains(&ratio), "compressed by a factor of {ratio}, real logs by 8 to 12");
        let width = text.len() / 20_000;
        assert!((650..720).contains(&width), "{width} bytes per line, real lines have about 680");
    }
}
