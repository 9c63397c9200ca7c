//! Plain bytes to a gzip stream, one stream after the other by the same state.
//!
//! A deflate state is some 270 KiB. Making one for every batch costs more than compressing the events of a small object.

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::buffer::Buffer;

/// zlib's window bits for the largest window.
const WINDOW_BITS: u8 = 15;

/// Room for output is made in steps of this size.
const STEP_BYTES: usize = 32 * 1024;

/// Most streams are not longer.
const OUT_BYTES: usize = 256 * 1024;

/// Writes gzip streams.
pub(crate) struct Deflate {
    state: Compress,
    out: Buffer,
}

impl Deflate {
    /// For streams of a level from 1 to 9.
    pub(crate) fn new(level: u32) -> Self {
        Deflate { state: Compress::new_gzip(Compression::new(level), WINDOW_BITS), out: Buffer::with_capacity(OUT_BYTES) }
    }

    /// Goes on with the stream.
    pub(crate) fn take(&mut self, input: &[u8]) {
        let end = self.state.total_in() + input.len() as u64;
        while self.state.total_in() < end {
            let done = input.len() - (end - self.state.total_in()) as usize;
            self.step(&input[done..], FlushCompress::None);
        }
    }

    /// Ends the stream. What is taken next begins another one.
    pub(crate) fn finish(&mut self) -> Buffer {
        while self.step(&[], FlushCompress::Finish) != Status::StreamEnd {}
        self.state.reset();
        std::mem::take(&mut self.out)
    }

    /// Writes the next stream to this memory. To be called when none is begun.
    pub(crate) fn write_to(&mut self, memory: Buffer) {
        self.out = memory;
    }

    fn step(&mut self, input: &[u8], flush: FlushCompress) -> Status {
        let before = self.state.total_out();
        let status = self.state.compress(input, self.out.room(STEP_BYTES), flush);
        self.out.fill((self.state.total_out() - before) as usize);
        // It fails only for a state that was not made right, and flate2 makes it. A panic leaves the events undelivered and says
        // so; going on would send a body without some of them as if it were whole.
        status.expect("compressing into memory cannot fail")
    }
}

impl std::fmt::Debug for Deflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflate").field("out", &self.out).finish_non_exhaustive()
    }
}
