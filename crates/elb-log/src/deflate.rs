//! Compresses bytes into gzip streams, one stream after the other with the same deflate state.
//!
//! A deflate state has about 270 KiB. Making one for every batch costs more than compressing the events of a small object.

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::buffer::Buffer;

/// zlib's window bits for the largest window.
const WINDOW_BITS: u8 = 15;

/// Number of bytes that are reserved for the output of one step.
const STEP_BYTES: usize = 32 * 1024;

/// Initial capacity of the output. Most streams are shorter.
const OUTPUT_BYTES: usize = 256 * 1024;

/// Writes gzip streams.
pub(crate) struct Deflate {
    state: Compress,
    out: Buffer,
}

impl Deflate {
    /// Makes a writer for streams of a level from 1 to 9.
    pub(crate) fn new(level: u32) -> Self {
        Deflate { state: Compress::new_gzip(Compression::new(level), WINDOW_BITS), out: Buffer::with_capacity(OUTPUT_BYTES) }
    }

    /// Appends the compressed input to the current stream.
    pub(crate) fn compress(&mut self, input: &[u8]) {
        let end = self.state.total_in() + input.len() as u64;
        while self.state.total_in() < end {
            let done = input.len() - (end - self.state.total_in()) as usize;
            self.step(&input[done..], FlushCompress::None);
        }
    }

    /// Ends the current stream and returns it. The next input begins another stream.
    pub(crate) fn finish(&mut self) -> Buffer {
        while self.step(&[], FlushCompress::Finish) != Status::StreamEnd {}
        self.state.reset();
        std::mem::take(&mut self.out)
    }

    /// Writes the next stream to this memory. Must be called between two streams.
    pub(crate) fn reuse(&mut self, memory: Buffer) {
        self.out = memory;
    }

    fn step(&mut self, input: &[u8], flush: FlushCompress) -> Status {
        let before = self.state.total_out();
        let status = self.state.compress(input, self.out.spare_mut(STEP_BYTES), flush);
        self.out.advance((self.state.total_out() - before) as usize);
        // Compression fails only with an invalid state, and flate2 makes a valid one. A panic reports the events as undelivered;
        // continuing would send an incomplete body as if it were complete.
        status.expect("compressing into memory does not fail")
    }
}

impl std::fmt::Debug for Deflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflate").field("out", &self.out).finish_non_exhaustive()
    }
}
