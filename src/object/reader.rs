//! Reads an object: the bytes of its body come in, blocks of lines go out.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use elb_log::dead_letter::DEAD_LETTER_START;
use elb_log::inflate::{Inflate, InflateError, InflateProgress};
use elb_log::lines::{Block, LineLimits, LineSplitter};
use elb_log::object_format::ObjectFormat;
use elb_log::origin::ObjectName;

use super::body::{Body, OpenedObject};
use super::error::ObjectError;
use crate::buffer_pool::BufferPool;
use crate::checkpoint::CHECKPOINT_START;

/// Maximum number of bytes of text that one step inflates. After each step zlib copies the last 32 KiB of the text, so steps are
/// not small. Text after the end of a block is copied to the next block, so they are not large either.
const STEP_BYTES: usize = 64 * 1024;

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
    /// Whether the object is a checkpoint, of which nothing is read.
    is_checkpoint: bool,
    /// The offset in the text at which the first line is read.
    start: u64,
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
            is_checkpoint: false,
            start: 0,
            end: None,
        }
    }

    /// Continues at `offset` in the text, where an earlier attempt has ended a block: the text before is inflated and dropped. Call it
    /// before the first block is read.
    pub(crate) fn start_at(&mut self, offset: u64) {
        self.start = offset;
        // The earlier attempt knew the format.
        self.is_format_known = offset > 0;
        if let Some(lines) = &mut self.lines {
            lines.start_at(offset);
        }
    }

    /// Returns the next block of lines, or none at the end of a complete object.
    ///
    /// # Errors
    /// The object is broken: the error follows all complete lines before the break, and a further call returns none. Or its
    /// format is not supported: the error comes before any line.
    pub(crate) async fn next_block(&mut self) -> Result<Option<Block>, ObjectError> {
        self.skip_to_start().await?;
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

    /// Inflates the text before the start and drops it.
    async fn skip_to_start(&mut self) -> Result<(), ObjectError> {
        while self.text_bytes() < self.start {
            self.fill().await;
            // A chunk of the body can inflate to a long text. The deadline interrupts the reading only where it waits.
            tokio::task::consume_budget().await;
            if let Some(lines) = &mut self.lines {
                lines.buffer().clear();
            }
            if let Some(end) = &mut self.end
                && self.inflate.written() < self.start
            {
                self.lines = None;
                let (name, offset, length) = (self.source.name.clone(), self.start, self.inflate.written());
                self.start = 0;
                return std::mem::replace(end, Ok(())).and(Err(ObjectError::BeforeCheckpoint { name, offset, length }));
            }
        }
        Ok(())
    }

    /// Returns whether the object is a checkpoint, once a block was asked for.
    pub(crate) fn is_checkpoint(&self) -> bool {
        self.is_checkpoint
    }

    /// Returns the number of bytes received from the store so far.
    pub(crate) fn received(&self) -> u64 {
        self.source.received
    }

    /// Returns the number of bytes of text so far.
    pub(crate) fn text_bytes(&self) -> u64 {
        self.inflate.written()
    }

    /// Detects from the first bytes whether the object is a checkpoint, a dead letter, in an unsupported format, or any other object. Returns
    /// false if there are too few bytes to know.
    fn detect_format(&mut self) -> Result<bool, ObjectError> {
        let Some(lines) = &mut self.lines else { return Ok(true) };
        let text = lines.buffer();
        let format = ObjectFormat::of(text);
        if let ObjectFormat::Unsupported(format) = format {
            self.lines = None;
            return Err(ObjectError::UnsupportedFormat { name: self.source.name.clone(), format });
        }
        if text.starts_with(CHECKPOINT_START) {
            (self.is_checkpoint, self.lines, self.end) = (true, None, Some(Ok(())));
            return Ok(true);
        }
        if let Some(bytes) = self.dead_letter_line_bytes
            && text.starts_with(DEAD_LETTER_START)
        {
            lines.set_max_line_bytes(bytes);
            return Ok(true);
        }
        let dead_letter = self.dead_letter_line_bytes.map(|_| DEAD_LETTER_START);
        let mut starts = [CHECKPOINT_START].into_iter().chain(dead_letter);
        Ok(format != ObjectFormat::Unknown && !starts.any(|start| start.starts_with(text)))
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
        let ObjectReader { source, inflate, block_pool, lines: Some(lines), start, .. } = self else { return Ok(false) };
        lines.reserve_block(|| block_pool.take());
        let buffer = lines.buffer();
        let to_skip = usize::try_from(start.saturating_sub(inflate.written())).unwrap_or(usize::MAX);
        let step_bytes = if to_skip == 0 { STEP_BYTES } else { STEP_BYTES.min(to_skip) };
        loop {
            let before = buffer.len();
            let mut input = &source.chunk[..];
            let progress = inflate.step(&mut input, buffer, step_bytes);
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
