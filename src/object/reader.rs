//! Reads an object: the bytes of its body come in, blocks of lines go out.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use elb_log::dead_letter::DEAD_LETTER_START;
use elb_log::inflate::{Inflate, InflateError, InflateProgress};
use elb_log::lines::{Block, LineLimits, LineSplitter};
use elb_log::origin::ObjectName;

use super::body::{Body, OpenedObject};
use super::error::ObjectError;
use crate::buffer_pool::BufferPool;

/// Maximum number of bytes of text that one step inflates. After each step zlib copies the last 32 KiB of the text, so steps are
/// not small. Text after the end of a block is copied to the next block, so they are not large either.
const STEP_BYTES: usize = 64 * 1024;

/// The first bytes, after inflating, of formats without lines of a load balancer.
const UNSUPPORTED_FORMATS: [(&[u8], &str); 3] = [(b"#Version", "a W3C log"), (b"#Fields:", "a W3C log"), (b"PAR1", "parquet")];

/// Reads an object block by block. It holds one block and one chunk of the body, independent of the object's size.
#[derive(Debug)]
pub(crate) struct ObjectReader {
    source: Source,
    inflate: Inflate,
    block_pool: Arc<BufferPool<Block>>,
    /// None after the last block was returned.
    lines: Option<LineSplitter>,
    /// Maximum length of a line in a dead letter. If none, a dead letter is read like any other object.
    dead_letter_line_bytes: Option<usize>,
    /// Whether enough bytes were read to know the object's format.
    is_format_known: bool,
    /// How the body ended, if it has. An error is returned after the lines before it.
    end: Option<Result<(), ObjectError>>,
}

/// The body, chunk by chunk, checked against its length.
#[derive(Debug)]
struct Source {
    name: ObjectName,
    body: Body,
    length: Option<u64>,
    received: u64,
    chunk: Bytes,
}

impl ObjectReader {
    /// Reads the object `name`. With `dead_letter_line_bytes`, the lines of a dead letter may have this length: an event is longer
    /// than the line that it was made from. Blocks reuse the memory of those in `block_pool`.
    pub(crate) fn new(
        name: ObjectName,
        object: OpenedObject,
        limits: LineLimits,
        dead_letter_line_bytes: Option<usize>,
        block_pool: Arc<BufferPool<Block>>,
    ) -> Self {
        ObjectReader {
            source: Source { name, body: object.body, length: object.length, received: 0, chunk: Bytes::new() },
            inflate: Inflate::default(),
            block_pool,
            lines: Some(LineSplitter::new(limits)),
            dead_letter_line_bytes,
            is_format_known: false,
            end: None,
        }
    }

    /// Returns the next block of lines, or none at the end of a complete object.
    ///
    /// # Errors
    /// The object is broken: the error follows all complete lines before the break, and a further call returns none. Or its
    /// format is not supported: the error comes before any line.
    pub(crate) async fn next_block(&mut self) -> Result<Option<Block>, ObjectError> {
        while !self.is_format_known {
            self.fill().await;
            self.is_format_known = self.detect_format()? || self.end.is_some();
        }
        loop {
            if let Some(block) = self.lines.as_mut().and_then(LineSplitter::next_block) {
                return Ok(Some(block));
            }
            match (&self.end, self.lines.take()) {
                (None, Some(lines)) => {
                    self.lines = Some(lines);
                    self.fill().await;
                }
                (Some(end), Some(lines)) => {
                    let last = if end.is_ok() { lines.finish() } else { lines.finish_broken() };
                    if last.is_some() {
                        return Ok(last);
                    }
                }
                (_, None) => return self.end.take().unwrap_or(Ok(())).map(|()| None),
            }
        }
    }

    /// Returns the number of bytes received from the store so far.
    pub(crate) fn received(&self) -> u64 {
        self.source.received
    }

    /// Returns the number of bytes of text so far.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.inflate.written()
    }

    /// Detects from the first bytes whether the object is a dead letter, in an unsupported format, or any other object. Returns
    /// false if there are too few bytes to know.
    fn detect_format(&mut self) -> Result<bool, ObjectError> {
        let Some(lines) = &mut self.lines else { return Ok(true) };
        let text = lines.buffer();
        if let Some((_, format)) = UNSUPPORTED_FORMATS.iter().find(|(start, _)| text.starts_with(start)) {
            self.lines = None;
            return Err(ObjectError::UnsupportedFormat { name: self.source.name.clone(), format });
        }
        if let Some(bytes) = self.dead_letter_line_bytes {
            if DEAD_LETTER_START.starts_with(text) && text.len() < DEAD_LETTER_START.len() {
                return Ok(false);
            }
            if text.starts_with(DEAD_LETTER_START) {
                lines.set_max_line_bytes(bytes);
                return Ok(true);
            }
        }
        Ok(!UNSUPPORTED_FORMATS.iter().any(|(start, _)| start.starts_with(text)))
    }

    /// Appends some text to the lines' buffer, or records how the object ended.
    async fn fill(&mut self) {
        match self.try_fill().await {
            Ok(true) => {}
            Ok(false) => self.end = Some(Ok(())),
            Err(error) => self.end = Some(Err(error)),
        }
    }

    /// Returns false at the end of the object.
    async fn try_fill(&mut self) -> Result<bool, ObjectError> {
        let ObjectReader { source, inflate, block_pool, lines: Some(lines), .. } = self else { return Ok(false) };
        lines.reserve_block(|| block_pool.take());
        let buffer = lines.buffer();
        loop {
            let before = buffer.len();
            let mut input = &source.chunk[..];
            let progress = inflate.step(&mut input, buffer, STEP_BYTES);
            let used = source.chunk.len() - input.len();
            source.chunk.advance(used);
            let progress = progress.map_err(|error| source.corrupt(error))?;
            if progress == InflateProgress::OutputFull || buffer.len() > before {
                return Ok(true);
            }
            if !source.receive().await? {
                inflate.finish(buffer).map_err(|error| source.corrupt(error))?;
                return Ok(buffer.len() > before);
            }
        }
    }
}

impl Source {
    /// Waits for the next chunk of the body. Returns false at its end.
    async fn receive(&mut self) -> Result<bool, ObjectError> {
        let at = self.received;
        match self.body.next_chunk(&self.name, at).await? {
            Some(chunk) => {
                self.received += chunk.len() as u64;
                self.chunk = chunk;
                Ok(true)
            }
            None => match self.length {
                Some(length) if at < length => Err(ObjectError::Short { name: self.name.clone(), at, length }),
                _ => Ok(false),
            },
        }
    }

    fn corrupt(&self, source: InflateError) -> ObjectError {
        ObjectError::Corrupt { name: self.name.clone(), source }
    }
}
