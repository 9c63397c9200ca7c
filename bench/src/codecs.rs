//! Measures compressors and levels on the program's own request bodies: CPU time to deflate and to inflate, and size.

use std::hint::black_box;
use std::path::Path;

use flate2::{Decompress, FlushDecompress};
use libdeflater::{CompressionLvl, Compressor};

use crate::Result;
use crate::limits::{gzip, read_bodies};
use crate::measure::cpu_ns_of_this_process;

/// Compresses and decompresses the bodies repeatedly, until `bytes` bytes are processed, and prints the CPU time of each direction.
///
/// The function measures its own CPU time, so that both directions are separate and exclude reading the bodies.
pub fn run(name: &str, level: u32, bodies: &Path, bytes: u64) -> Result<()> {
    let codec = Codec::named(name, level)?;
    let bodies = read_bodies(bodies)?;
    let all: u64 = bodies.iter().map(|body| body.len() as u64).sum();
    let times = (bytes / all).max(1);
    let mut compressed = Vec::new();
    let (deflate, ()) = cpu_of(|| {
        for _ in 0..times {
            compressed = bodies.iter().map(|body| codec.compress(body)).collect::<Result<_>>()?;
        }
        Ok(())
    })?;
    let (inflate, ()) = cpu_of(|| {
        for _ in 0..times {
            for (body, original) in compressed.iter().zip(&bodies) {
                codec.inflate(body, original.len())?;
            }
        }
        Ok(())
    })?;
    let size: usize = compressed.iter().map(Vec::len).sum();
    println!(
        r#"{{"bytes":{},"compressed_bytes":{},"deflate_ns":{deflate},"inflate_ns":{inflate}}}"#,
        all * times,
        size as u64 * times
    );
    Ok(())
}

enum Codec {
    Zlib(u32),
    Libdeflate(CompressionLvl),
    Miniz(u8),
}

impl Codec {
    fn named(name: &str, level: u32) -> Result<Self> {
        match name {
            "zlib-rs" => Ok(Codec::Zlib(level)),
            "libdeflate" => {
                let level = CompressionLvl::new(i32::try_from(level)?);
                Ok(Codec::Libdeflate(level.map_err(|error| format!("{error:?}"))?))
            }
            "miniz_oxide" => Ok(Codec::Miniz(u8::try_from(level)?)),
            other => Err(format!("unknown codec {other}; use zlib-rs, libdeflate or miniz_oxide").into()),
        }
    }

    fn compress(&self, body: &[u8]) -> Result<Vec<u8>> {
        match *self {
            Codec::Zlib(level) => gzip(body, level),
            Codec::Libdeflate(level) => {
                let mut compressor = Compressor::new(level);
                let mut out = vec![0; compressor.gzip_compress_bound(body.len())];
                let length = compressor.gzip_compress(body, &mut out)?;
                out.truncate(length);
                Ok(out)
            }
            // A zlib frame instead of a gzip frame. Its Adler-32 instead of a CRC makes no measurable difference.
            Codec::Miniz(level) => Ok(miniz_oxide::deflate::compress_to_vec_zlib(body, level)),
        }
    }

    /// Decompresses with zlib-rs for every codec, because the question is how much work the receiver has.
    fn inflate(&self, body: &[u8], length: usize) -> Result<()> {
        let mut decoder = match self {
            Codec::Miniz(_) => Decompress::new(true),
            Codec::Zlib(_) | Codec::Libdeflate(_) => Decompress::new_gzip(15),
        };
        let mut out = Vec::with_capacity(length + 1);
        decoder.decompress_vec(body, &mut out, FlushDecompress::Finish)?;
        if black_box(out).len() == length {
            Ok(())
        } else {
            Err("a decompressed body differs in length from the original".into())
        }
    }
}

fn cpu_of<T>(work: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
    let before = cpu_ns_of_this_process()?;
    let result = work()?;
    Ok((cpu_ns_of_this_process()? - before, result))
}
