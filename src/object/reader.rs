//! One object's bytes to blocks of lines.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use elb_log::dead_letter::DEAD_LETTER_START;
use elb_log::inflate::{Inflate, InflateError, InflateProgress};
use elb_log::lines::{Block, LineLimits, LineSplitter};
use elb_log::origin::ObjectName;

use super::{Body, ObjectError, Opened};
use crate::buffer_pool::BufferPool;

/// How much text is made from compressed bytes at once. After each step zlib keeps the last 32 KiB of it, so steps are not small;
/// what is made beyond the end of a block is copied to the next one, so they are not large either.
const STEP_BYTES: usize = 64 * 1024;

/// How objects begin, once inflated, that hold no lines of a load balancer.
const REFUSED: [(&[u8], &str); 3] = [(b"#Version", "a W3C log"), (b"#Fields:", "a W3C log"), (b"PAR1", "parquet")];

/// Reads an object block by block. It holds one block and one chunk of the body, whatever the object's size.
#[derive(Debug)]
pub struct ObjectReader {
    source: Source,
    inflate: Inflate,
    spares: Arc<BufferPool<Block>>,
    /// None once the last block is handed out.
    lines: Option<LineSplitter>,
    /// How long the lines of a dead letter may be; none where it is read like any other object.
    letter_bytes: Option<usize>,
    /// Whether enough has come to know what the object is.
    begun: bool,
    /// How the body ended, once it has. What broke it off is handed out behind the lines that came before.
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
    /// Reads what was opened under `name`. A dead letter may have lines of `letter_bytes`, if that is not none: an event is longer
    /// than the line that it was made of. Blocks are made in the memory of those in `spares`.
    pub fn new(
        name: ObjectName,
        opened: Opened,
        limits: LineLimits,
        letter_bytes: Option<usize>,
        spares: Arc<BufferPool<Block>>,
    ) -> Self {
        ObjectReader {
            source: Source { name, body: opened.body, length: opened.length, received: 0, chunk: Bytes::new() },
            inflate: Inflate::default(),
            spares,
            lines: Some(LineSplitter::new(limits)),
            letter_bytes,
            begun: false,
            end: None,
        }
    }

    /// The next block of lines; none at the end of a whole object.
    ///
    /// # Errors
    /// An object that is broken: after all whole lines that stand before the break, and for good. An object in a format that is
    /// not read: before any line.
    pub async fn next_block(&mut self) -> Result<Option<Block>, ObjectError> {
        while !self.begun {
            self.fill().await;
            self.begun = self.begins_as_lines()? || self.end.is_some();
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

    /// Whether it is known what the object is: one that is refused, a dead letter, or any other.
    fn begins_as_lines(&mut self) -> Result<bool, ObjectError> {
        let Some(lines) = &mut self.lines else { return Ok(true) };
        let text = lines.buffer();
        if let Some((_, format)) = REFUSED.iter().find(|(start, _)| text.starts_with(start)) {
            self.lines = None;
            return Err(ObjectError::Format { name: self.source.name.clone(), format });
        }
        if let Some(bytes) = self.letter_bytes {
            if DEAD_LETTER_START.starts_with(text) && text.len() < DEAD_LETTER_START.len() {
                return Ok(false);
            }
            if text.starts_with(DEAD_LETTER_START) {
                lines.allow_lines_of(bytes);
                return Ok(true);
            }
        }
        Ok(!REFUSED.iter().any(|(start, _)| start.starts_with(text)))
    }

    /// Bytes received from the store.
    pub fn received(&self) -> u64 {
        self.source.received
    }

    /// Bytes of text so far.
    pub fn text_bytes(&self) -> u64 {
        self.inflate.written()
    }

    /// Appends some text to the lines' buffer, or notes how the object ended.
    async fn fill(&mut self) {
        match self.try_fill().await {
            Ok(true) => {}
            Ok(false) => self.end = Some(Ok(())),
            Err(error) => self.end = Some(Err(error)),
        }
    }

    /// False at the end of the object.
    async fn try_fill(&mut self) -> Result<bool, ObjectError> {
        let ObjectReader { source, inflate, spares, lines: Some(lines), .. } = self else { return Ok(false) };
        lines.make_room(|| spares.take());
        let buffer = lines.buffer();
        loop {
            let before = buffer.len();
            let mut input = &source.chunk[..];
            let progress = inflate.step(&mut input, buffer, STEP_BYTES);
            let used = source.chunk.len() - input.len();
            source.chunk.advance(used);
            let progress = progress.map_err(|error| source.data_error(error))?;
            if progress == InflateProgress::OutputFull || buffer.len() > before {
                return Ok(true);
            }
            if !source.receive().await? {
                inflate.finish(buffer).map_err(|error| source.data_error(error))?;
                return Ok(buffer.len() > before);
            }
        }
    }
}

impl Source {
    /// Waits for the next chunk of the body; false at its end.
    async fn receive(&mut self) -> Result<bool, ObjectError> {
        let at = self.received;
        match self.body.chunk(&self.name, at).await? {
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

    fn data_error(&self, source: InflateError) -> ObjectError {
        ObjectError::Data { name: self.name.clone(), source }
    }
}
