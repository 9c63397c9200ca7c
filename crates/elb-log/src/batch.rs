//! Batches of events: request bodies that are compressed while events are written.
//!
//! A [`BatchBuilder`] takes one event at a time and returns a [`Batch`] when the next one would exceed the limits:
//!
//! ```
//! use elb_log::batch::{BatchBuilder, BatchSettings, Compression, Framing};
//!
//! let settings = BatchSettings {
//!     max_events: 2,
//!     max_bytes: 4 << 20,
//!     framing: Framing::JsonArray,
//!     compression: Compression::None,
//!     bodies: true,
//! };
//! let mut builder = BatchBuilder::new(settings);
//! let mut bodies = Vec::new();
//! for event in ["1", "2", "3"] {
//!     let ((), full) = builder.add(|out| out.put(event.as_bytes()));
//!     bodies.extend(full.map(|batch| batch.body.bytes));
//! }
//! bodies.extend(builder.finish().map(|batch| batch.body.bytes));
//! assert_eq!(bodies, ["[1,2]", "[3]"]);
//! ```

use std::io::Read as _;
use std::ops::Range;

use bytes::Bytes;
use flate2::read::GzDecoder;

use crate::buffer::Buffer;
use crate::deflate::Deflate;

/// Number of bytes collected before they are compressed.
///
/// This many bytes fit into a processor's cache, and a batch is never held uncompressed as a whole.
const COMPRESS_STEP_BYTES: usize = 64 * 1024;

/// Only few events are longer than this.
const LONG_EVENT_BYTES: usize = 16 * 1024;

/// How events are separated in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One JSON array. Logstash's json codec makes one event from each element.
    JsonArray,
    /// One event per line.
    Lines,
}

/// How a body is compressed; `COMPRESSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    None,
    /// gzip with a level from 1 to 9.
    Gzip(u32),
}

/// Limits and form of batches.
#[derive(Clone, Copy, Debug)]
pub struct BatchSettings {
    /// Maximum number of events in a batch; `BATCH_EVENTS`.
    pub max_events: usize,
    /// Maximum size of a batch in bytes, before compression; `BATCH_BYTES`. A single event that is larger becomes a batch of its
    /// own.
    pub max_bytes: usize,
    /// How events are separated.
    pub framing: Framing,
    /// How the body is compressed.
    pub compression: Compression,
    /// Whether bodies are made. A dry run only counts events.
    pub bodies: bool,
}

/// The body of a request. Clones share its bytes.
#[derive(Clone, Debug)]
pub struct Body {
    /// The bytes, compressed as `compression` says.
    pub bytes: Bytes,
    /// How the bytes are compressed.
    pub compression: Compression,
}

/// Events that are ready to be sent in one request.
#[derive(Debug)]
pub struct Batch {
    /// The body with all events.
    pub body: Body,
    /// The offset at which each event ends in the uncompressed body.
    ends: Vec<u32>,
}

/// A decompressed batch whose events can be sent separately, after a receiver has rejected the whole. The framing must be
/// [`Framing::JsonArray`].
#[derive(Debug)]
pub struct Unpacked {
    text: Bytes,
    ends: Vec<u32>,
    compression: Compression,
}

/// Writes events into batches, one batch after the other.
#[derive(Debug)]
pub struct BatchBuilder {
    settings: BatchSettings,
    /// The bytes that are not compressed yet; without compression, the whole body.
    pending: Buffer,
    encoder: Encoder,
    /// The offset at which each event ends in the uncompressed body.
    ends: Vec<u32>,
    /// Size of the uncompressed body so far, `pending` included.
    bytes: usize,
}

#[derive(Debug)]
enum Encoder {
    /// Drops the bytes of a dry run.
    Discard,
    Plain,
    Gzip(Deflate),
}

impl BatchBuilder {
    /// Makes a builder whose first batch is empty.
    pub fn new(settings: BatchSettings) -> Self {
        BatchBuilder {
            settings,
            pending: Buffer::with_capacity(COMPRESS_STEP_BYTES + LONG_EVENT_BYTES),
            encoder: if settings.bodies { Encoder::new(settings.compression) } else { Encoder::Discard },
            ends: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds one event, which `write` appends to the given buffer.
    ///
    /// Returns the result of `write`. Also returns a batch, if the event completed one or no longer fitted into it.
    pub fn add<T>(&mut self, write: impl FnOnce(&mut Buffer) -> T) -> (T, Option<Batch>) {
        let start = self.pending.len();
        self.open_event();
        let event = self.pending.len();
        let written = write(&mut self.pending);
        self.close_event();
        let mut batch = None;
        let added = self.pending.len() - start;
        if !self.ends.is_empty() && self.bytes + added + self.closing_bytes() > self.settings.max_bytes {
            let overflow = self.pending[event..].to_vec();
            self.pending.truncate(start);
            batch = self.finish();
            self.open_event();
            self.pending.put(&overflow);
            self.bytes = self.pending.len();
        } else {
            self.bytes += added;
        }
        // Lines are cut off at 16 MiB, so a body stays far below 4 GiB.
        self.ends.push(u32::try_from(self.bytes).unwrap_or(u32::MAX));
        if self.ends.len() == self.settings.max_events {
            batch = self.finish();
        } else if self.pending.len() >= COMPRESS_STEP_BYTES {
            self.encoder.compress(&mut self.pending);
        }
        (written, batch)
    }

    /// Ends the current batch and returns it; none if the batch is empty.
    pub fn finish(&mut self) -> Option<Batch> {
        if self.ends.is_empty() {
            return None;
        }
        if self.settings.framing == Framing::JsonArray {
            self.pending.push(b']');
        }
        let compression = self.settings.compression;
        let bytes = self.encoder.finish(&mut self.pending);
        self.bytes = 0;
        Some(Batch { body: Body { bytes, compression }, ends: std::mem::take(&mut self.ends) })
    }

    /// Uses the memory of a batch that has been sent for the next batch. Must be called while the current batch is empty.
    pub fn reuse(&mut self, batch: Batch) {
        let Batch { body, mut ends } = batch;
        ends.clear();
        self.ends = ends;
        self.encoder.reuse(Buffer::reuse(body.bytes), &mut self.pending);
    }

    fn open_event(&mut self) {
        match self.settings.framing {
            Framing::JsonArray => self.pending.push(if self.ends.is_empty() { b'[' } else { b',' }),
            Framing::Lines => {}
        }
    }

    fn close_event(&mut self) {
        match self.settings.framing {
            Framing::JsonArray => {}
            Framing::Lines => self.pending.push(b'\n'),
        }
    }

    /// Returns the number of bytes that close the body.
    fn closing_bytes(&self) -> usize {
        match self.settings.framing {
            Framing::JsonArray => 1,
            Framing::Lines => 0,
        }
    }
}

impl Batch {
    /// Returns the number of events, which is at least one.
    pub fn event_count(&self) -> usize {
        self.ends.len()
    }

    /// Decompresses the batch.
    pub fn unpack(&self) -> Unpacked {
        let Body { bytes, compression } = self.body.clone();
        let text = match compression {
            Compression::None => bytes,
            Compression::Gzip(_) => {
                let mut text = Vec::new();
                let read = GzDecoder::new(&bytes[..]).read_to_end(&mut text);
                debug_assert!(read.is_ok(), "cannot inflate a body that was deflated here");
                text.into()
            }
        };
        Unpacked { text, ends: self.ends.clone(), compression }
    }
}

impl Unpacked {
    /// Returns the body with all events, uncompressed.
    pub fn whole(&self) -> Body {
        Body { bytes: self.text.clone(), compression: Compression::None }
    }

    /// Returns a body with the events of a range, compressed like the batch.
    pub fn part(&self, events: Range<usize>) -> Body {
        let (start, end) = (self.span(events.start).start, self.span(events.end - 1).end);
        let mut text = Buffer::from([b"[", &self.text[start..end], b"]"].concat().as_slice());
        Body { bytes: Encoder::new(self.compression).finish(&mut text), compression: self.compression }
    }

    /// Returns the JSON of one event.
    pub fn event(&self, index: usize) -> Bytes {
        self.text.slice(self.span(index))
    }

    /// Returns the bytes of an event. Before the first event is the bracket, and before each other event a comma.
    fn span(&self, index: usize) -> Range<usize> {
        let before = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        before + 1..self.ends[index] as usize
    }
}

impl Encoder {
    fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Encoder::Plain,
            Compression::Gzip(level) => Encoder::Gzip(Deflate::new(level)),
        }
    }

    /// Compresses the pending bytes and empties the buffer. Without compression the bytes stay in it.
    fn compress(&mut self, pending: &mut Buffer) {
        match self {
            Encoder::Discard => pending.clear(),
            Encoder::Plain => {}
            Encoder::Gzip(deflate) => {
                deflate.compress(pending);
                pending.clear();
            }
        }
    }

    /// Returns the body, the pending bytes included, and empties the buffer.
    fn finish(&mut self, pending: &mut Buffer) -> Bytes {
        self.compress(pending);
        match self {
            Encoder::Discard => Bytes::new(),
            Encoder::Plain => std::mem::take(pending).into_bytes(),
            Encoder::Gzip(deflate) => deflate.finish().into_bytes(),
        }
    }

    /// Writes the next body to this memory.
    fn reuse(&mut self, memory: Buffer, pending: &mut Buffer) {
        match self {
            Encoder::Discard => {}
            Encoder::Plain => *pending = memory,
            Encoder::Gzip(deflate) => deflate.reuse(memory),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(max_events: usize, max_bytes: usize, framing: Framing, compression: Compression) -> BatchSettings {
        BatchSettings { max_events, max_bytes, framing, compression, bodies: true }
    }

    fn text(body: &Body) -> String {
        let mut text = String::new();
        match body.compression {
            Compression::None => (&body.bytes[..]).read_to_string(&mut text).unwrap(),
            Compression::Gzip(_) => GzDecoder::new(&body.bytes[..]).read_to_string(&mut text).unwrap(),
        };
        text
    }

    fn batches(settings: BatchSettings, events: &[String]) -> Vec<(usize, String)> {
        let mut builder = BatchBuilder::new(settings);
        let mut batches = Vec::new();
        for event in events {
            batches.extend(builder.add(|out| out.put(event.as_bytes())).1);
        }
        batches.extend(builder.finish());
        batches.iter().map(|batch| (batch.event_count(), text(&batch.body))).collect()
    }

    #[test]
    fn ends_a_batch_at_the_maximum_number_of_events() {
        let events = ["1", "2", "3"].map(str::to_owned);
        let array = settings(2, 1_000, Framing::JsonArray, Compression::None);
        assert_eq!(batches(array, &events), [(2, "[1,2]".to_owned()), (1, "[3]".to_owned())]);
        let lines = settings(2, 1_000, Framing::Lines, Compression::None);
        assert_eq!(batches(lines, &events), [(2, "1\n2\n".to_owned()), (1, "3\n".to_owned())]);
    }

    #[test]
    fn ends_a_batch_before_the_maximum_size() {
        let events = ["11", "22", "33333333", "4"].map(str::to_owned);
        let limited = settings(100, 7, Framing::JsonArray, Compression::None);
        let expected = [(2, "[11,22]"), (1, "[33333333]"), (1, "[4]")].map(|(events, text)| (events, text.to_owned()));
        assert_eq!(batches(limited, &events), expected);
    }

    #[test]
    fn counts_events_in_the_same_batches_without_bodies() {
        let mut builder =
            BatchBuilder::new(BatchSettings { bodies: false, ..settings(10, 7, Framing::JsonArray, Compression::None) });
        let counts: Vec<usize> = ["11", "22", "33333333", "4"]
            .iter()
            .filter_map(|event| builder.add(|out| out.put(event.as_bytes())).1)
            .map(|batch| batch.event_count() + batch.body.bytes.len())
            .collect();
        assert_eq!((counts, builder.finish().map(|batch| batch.event_count())), (vec![2, 1], Some(1)));
    }

    #[test]
    fn a_batch_in_reused_memory_holds_only_its_own_events() {
        for compression in [Compression::None, Compression::Gzip(6)] {
            let mut builder = BatchBuilder::new(settings(10, 1 << 20, Framing::JsonArray, compression));
            for (event, repeats) in [("a long event, ", 20_000), ("short", 1), ("a longer one, ", 30_000)] {
                let event = format!("\"{}\"", event.repeat(repeats));
                assert!(builder.add(|out| out.put(event.as_bytes())).1.is_none());
                let batch = builder.finish().unwrap();
                assert_eq!((batch.event_count(), text(&batch.body)), (1, format!("[{event}]")));
                builder.reuse(batch);
            }
        }
    }

    #[test]
    fn returns_no_batch_without_events() {
        assert_eq!(batches(settings(2, 100, Framing::JsonArray, Compression::Gzip(1)), &[]), []);
    }

    #[test]
    fn unpacks_a_batch_into_its_events() {
        for compression in [Compression::None, Compression::Gzip(6)] {
            // The second event is longer than one compression step.
            let events = ["{}".to_owned(), format!("\"{}\"", "x".repeat(2 * COMPRESS_STEP_BYTES)), "3".to_owned()];
            let mut builder = BatchBuilder::new(settings(10, 1 << 20, Framing::JsonArray, compression));
            for event in &events {
                assert!(builder.add(|out| out.put(event.as_bytes())).1.is_none());
            }
            let batch = builder.finish().unwrap();
            let unpacked = batch.unpack();
            assert_eq!(text(&unpacked.whole()), text(&batch.body));
            assert_eq!(unpacked.whole().compression, Compression::None);
            for (index, event) in events.iter().enumerate() {
                assert_eq!(unpacked.event(index), event.as_bytes());
            }
            assert_eq!(text(&unpacked.part(1..3)), format!("[{},{}]", events[1], events[2]));
            assert_eq!((text(&unpacked.part(0..1)), unpacked.part(0..1).compression), ("[{}]".to_owned(), compression));
        }
    }

    #[test]
    fn an_event_that_does_not_fit_starts_the_next_batch() {
        let mut builder = BatchBuilder::new(settings(10, 7, Framing::JsonArray, Compression::None));
        assert!(builder.add(|out| out.put(b"1111")).1.is_none());
        assert_eq!(builder.add(|out| out.put(b"222")).1.unwrap().unpack().event(0), "1111");
        assert!(builder.add(|out| out.put(b"3")).1.is_none());
        let last = builder.finish().unwrap().unpack();
        assert_eq!((last.event(0), last.event(1)), (Bytes::from("222"), Bytes::from("3")));
    }

    proptest! {
        #[test]
        fn joined_batches_equal_the_events_and_keep_the_limits(
            sizes in prop::collection::vec(1_usize..50_000, 0..40),
            events in 1_usize..10,
            bytes in 1_usize..200_000,
            level in 0_u32..=9,
        ) {
            let texts: Vec<String> = sizes.iter().enumerate().map(|(index, size)| format!("{:01$}", index, size)).collect();
            let compression = if level == 0 { Compression::None } else { Compression::Gzip(level) };
            let batches = batches(settings(events, bytes, Framing::JsonArray, compression), &texts);
            let mut joined = Vec::new();
            for (count, text) in &batches {
                let inside: Vec<&str> = text.strip_prefix('[').unwrap().strip_suffix(']').unwrap().split(',').collect();
                prop_assert_eq!(*count, inside.len());
                prop_assert!(inside.len() <= events);
                prop_assert!(text.len() <= bytes || inside.len() == 1, "{} bytes in a batch of {}", text.len(), inside.len());
                joined.extend(inside.into_iter().map(str::to_owned));
            }
            prop_assert_eq!(joined, texts);
        }
    }
}
