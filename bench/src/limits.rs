//! The lower limits of the program's work: inflating the log, and compressing the request bodies. Everything else that the program
//! does is in the difference.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::Result;

/// Size of an inflate step and of a compression step, as in the program.
const STEP_BYTES: usize = 64 * 1024;

/// Inflates a file and prints the size of its text.
pub fn inflate(file: &Path) -> Result<()> {
    println!(r#"{{"text_bytes":{}}}"#, drain(file)?);
    Ok(())
}

/// Inflates a file in steps and drops the text.
fn drain(file: &Path) -> Result<usize> {
    let mut decoder = MultiGzDecoder::new(File::open(file)?);
    let mut text = vec![0; STEP_BYTES];
    let mut bytes = 0;
    loop {
        match decoder.read(std::hint::black_box(&mut text))? {
            0 => return Ok(bytes),
            read => bytes += read,
        }
    }
}

/// Inflates a file, and compresses `bytes` bytes of request bodies, each as a separate gzip stream.
///
/// The bodies are a sample of the program's output for this file, used repeatedly. Reading all bodies would be work that the
/// program does not do.
pub fn reach(file: &Path, bodies: &Path, bytes: u64) -> Result<()> {
    drain(file)?;
    let mut left = bytes;
    let mut compressed = 0;
    for body in read_bodies(bodies)?.iter().cycle() {
        if left == 0 {
            break;
        }
        let body = &body[..body.len().min(usize::try_from(left)?)];
        compressed += gzip(body, 1)?.len();
        left -= body.len() as u64;
    }
    println!(r#"{{"compressed_bytes":{compressed}}}"#);
    Ok(())
}

/// Compresses a body in steps, as the program does while it writes events.
pub fn gzip(body: &[u8], level: u32) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    for chunk in body.chunks(STEP_BYTES) {
        encoder.write_all(chunk)?;
    }
    Ok(encoder.finish()?)
}

/// Reads the bodies that the sink has kept, in the order of their names.
pub fn read_bodies(directory: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let bodies = paths.iter().map(|path| Ok(fs::read(path)?)).collect::<Result<Vec<_>>>()?;
    if bodies.iter().all(Vec::is_empty) {
        return Err(format!("no bodies in {}", directory.display()).into());
    }
    Ok(bodies)
}
