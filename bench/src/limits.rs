//! What cannot be avoided: the log is inflated, and the request bodies are deflated. All that the program does beside that is
//! seen in the difference.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::Result;

/// As the program does it: the piece that it inflates at once, and the piece that it compresses at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Inflates a file, and says how much it was.
pub fn inflate(file: &Path) -> Result<()> {
    println!(r#"{{"text_bytes":{}}}"#, drain(file)?);
    Ok(())
}

/// Inflates a file in pieces and drops them.
fn drain(file: &Path) -> Result<usize> {
    let mut decoder = MultiGzDecoder::new(File::open(file)?);
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        match decoder.read(std::hint::black_box(&mut piece))? {
            0 => return Ok(bytes),
            read => bytes += read,
        }
    }
}

/// Inflates a file, and compresses `bytes` of request bodies, each as a gzip stream of its own.
///
/// The bodies are a sample of what the program made of this file, over and over: reading all of them would be work that the
/// program does not have.
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

/// Compresses a body in pieces, as the program does while it writes events.
pub fn gzip(body: &[u8], level: u32) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    for piece in body.chunks(PIECE_BYTES) {
        encoder.write_all(piece)?;
    }
    Ok(encoder.finish()?)
}

/// The bodies that the sink has kept, in the order of their names.
pub fn read_bodies(directory: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let bodies = paths.iter().map(|path| Ok(fs::read(path)?)).collect::<Result<Vec<_>>>()?;
    if bodies.iter().all(Vec::is_empty) {
        return Err(format!("there are no bodies in {}", directory.display()).into());
    }
    Ok(bodies)
}
