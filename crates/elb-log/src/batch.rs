//! Events to batches: bodies of requests, compressed while they are filled.

use std::io::Read as _;
use std::ops::Range;

use bytes::Bytes;
use flate2::read::GzDecoder;

use crate::buffer::Buffer;
use crate::deflate::Deflate;

/// How much is collected before it is compressed. It fits a processor's cache, so a batch that is compressed never has to exist
/// uncompressed.
const PIECE_BYTES: usize = 64 * 1024;

/// Few events are longer.
const LONG_EVENT_BYTES: usize = 16 * 1024;

/// How events stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One JSON array, of which Logstash's json codec makes one event an element.
    JsonArray,
    /// One event a line.
    Lines,
}

/// How a body is compressed; `COMPRESSION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip of a level from 1 to 9.
    Gzip(u32),
}

/// What batches are like.
#[derive(Clone, Copy, Debug)]
pub struct BatchSettings {
    /// A batch ends with this many events; `BATCH_EVENTS`.
    pub max_events: usize,
    /// A batch ends before it has more bytes than this, uncompressed; `BATCH_BYTES`. A single larger event is a batch of its own.
    pub max_bytes: usize,
    /// How events stand in it.
    pub framing: Framing,
    /// How it is compressed.
    pub compression: Compression,
    /// Whether there are bodies at all. A dry run has no use for them.
    pub bodies: bool,
}

/// The body of a request. Clones share its bytes.
#[derive(Clone, Debug)]
pub struct Body {
    /// Compressed if `compression` says so.
    pub bytes: Bytes,
    /// How it is compressed.
    pub compression: Compression,
}

/// Events ready to be sent together.
#[derive(Debug)]
pub struct Batch {
    /// All of them.
    pub body: Body,
    /// Where each event ends in the uncompressed body.
    ends: Vec<u32>,
}

/// A batch that was refused, inflated, so that it can be taken apart. It is a JSON array.
#[derive(Debug)]
pub struct Unpacked {
    text: Bytes,
    ends: Vec<u32>,
    compression: Compression,
}

/// Fills batches, one after the other.
#[derive(Debug)]
pub struct BatchBuilder {
    settings: BatchSettings,
    /// What is not compressed yet; without compression, the whole body.
    piece: Buffer,
    encoder: Encoder,
    ends: Vec<u32>,
    /// Uncompressed bytes of the batch, `piece` included.
    bytes: usize,
}

#[derive(Debug)]
enum Encoder {
    Nothing,
    Plain,
    Gzip(Deflate),
}

impl BatchBuilder {
    /// Starts an empty batch.
    pub fn new(settings: BatchSettings) -> Self {
        BatchBuilder {
            settings,
            piece: Buffer::with_capacity(PIECE_BYTES + LONG_EVENT_BYTES),
            encoder: if settings.bodies { Encoder::new(settings.compression) } else { Encoder::Nothing },
            ends: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds the one event that `write` appends to the buffer given to it. Also returns a batch, if this event ended it or did
    /// not fit in any more.
    pub fn add<T>(&mut self, write: impl FnOnce(&mut Buffer) -> T) -> (T, Option<Batch>) {
        let start = self.piece.len();
        self.open_event();
        let event = self.piece.len();
        let written = write(&mut self.piece);
        self.close_event();
        let mut batch = None;
        if !self.ends.is_empty() && self.bytes + (self.piece.len() - start) + self.tail() > self.settings.max_bytes {
            let late = self.piece[event..].to_vec();
            self.piece.truncate(start);
            batch = self.finish();
            self.open_event();
            self.piece.put(&late);
            self.bytes = self.piece.len();
        } else {
            self.bytes += self.piece.len() - start;
        }
        // Lines are cut off at 16 MiB, so a body never comes near the limit of the type.
        self.ends.push(u32::try_from(self.bytes).unwrap_or(u32::MAX));
        if self.ends.len() == self.settings.max_events {
            batch = self.finish();
        } else if self.piece.len() >= PIECE_BYTES {
            self.encoder.take(&mut self.piece);
        }
        (written, batch)
    }

    /// Ends the batch; none if it is empty.
    pub fn finish(&mut self) -> Option<Batch> {
        if self.ends.is_empty() {
            return None;
        }
        if self.settings.framing == Framing::JsonArray {
            self.piece.push(b']');
        }
        let compression = self.settings.compression;
        let bytes = self.encoder.finish(&mut self.piece);
        self.bytes = 0;
        Some(Batch { body: Body { bytes, compression }, ends: std::mem::take(&mut self.ends) })
    }

    /// Fills the memory of a batch again that is done with. To be called while no batch is begun.
    pub fn reuse(&mut self, batch: Batch) {
        let Batch { body, mut ends } = batch;
        ends.clear();
        self.ends = ends;
        self.encoder.reuse(Buffer::reuse(body.bytes), &mut self.piece);
    }

    fn open_event(&mut self) {
        match self.settings.framing {
            Framing::JsonArray => self.piece.push(if self.ends.is_empty() { b'[' } else { b',' }),
            Framing::Lines => {}
        }
    }

    fn close_event(&mut self) {
        match self.settings.framing {
            Framing::JsonArray => {}
            Framing::Lines => self.piece.push(b'\n'),
        }
    }

    /// The bytes that end the body.
    fn tail(&self) -> usize {
        match self.settings.framing {
            Framing::JsonArray => 1,
            Framing::Lines => 0,
        }
    }
}

impl Batch {
    /// How many events it holds, at least one.
    pub fn event_count(&self) -> usize {
        self.ends.len()
    }

    /// Inflates it.
    pub fn unpack(&self) -> Unpacked {
        let Body { bytes, compression } = self.body.clone();
        let text = match compression {
            Compression::None => bytes,
            Compression::Gzip(_) => {
                let mut text = Vec::new();
                let read = GzDecoder::new(&bytes[..]).read_to_end(&mut text);
                debug_assert!(read.is_ok(), "inflating what was deflated here failed");
                text.into()
            }
        };
        Unpacked { text, ends: self.ends.clone(), compression }
    }
}

impl Unpacked {
    /// The whole batch, uncompressed.
    pub fn whole(&self) -> Body {
        Body { bytes: self.text.clone(), compression: Compression::None }
    }

    /// Some of its events, compressed as the batch was.
    pub fn part(&self, events: Range<usize>) -> Body {
        let (start, end) = (self.span(events.start).start, self.span(events.end - 1).end);
        let mut text = Buffer::from([b"[", &self.text[start..end], b"]"].concat().as_slice());
        Body { bytes: Encoder::new(self.compression).finish(&mut text), compression: self.compression }
    }

    /// The JSON of one event.
    pub fn event(&self, index: usize) -> Bytes {
        self.text.slice(self.span(index))
    }

    /// Between two events stands a comma, and before the first one the bracket.
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

    /// Compresses the piece and empties it. What is not compressed stays where it is.
    fn take(&mut self, piece: &mut Buffer) {
        match self {
            Encoder::Nothing => piece.clear(),
            Encoder::Plain => {}
            Encoder::Gzip(deflate) => {
                deflate.take(piece);
                piece.clear();
            }
        }
    }

    /// The body, with the last piece, which it empties.
    fn finish(&mut self, piece: &mut Buffer) -> Bytes {
        self.take(piece);
        match self {
            Encoder::Nothing => Bytes::new(),
            Encoder::Plain => std::mem::take(piece).into_bytes(),
            Encoder::Gzip(deflate) => deflate.finish().into_bytes(),
        }
    }

    /// Takes memory for the next body.
    fn reuse(&mut self, memory: Buffer, piece: &mut Buffer) {
        match self {
            Encoder::Nothing => {}
            Encoder::Plain => *piece = memory,
            Encoder::Gzip(deflate) => deflate.write_to(memory),
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
    fn a_batch_ends_with_its_last_event() {
        let events = ["1", "2", "3"].map(str::to_owned);
        let array = settings(2, 1_000, Framing::JsonArray, Compression::None);
        assert_eq!(batches(array, &events), [(2, "[1,2]".to_owned()), (1, "[3]".to_owned())]);
        let lines = settings(2, 1_000, Framing::Lines, Compression::None);
        assert_eq!(batches(lines, &events), [(2, "1\n2\n".to_owned()), (1, "3\n".to_owned())]);
    }

    #[test]
    fn a_batch_ends_before_it_is_too_large() {
        let events = ["11", "22", "33333333", "4"].map(str::to_owned);
        let limited = settings(100, 7, Framing::JsonArray, Compression::None);
        let expected = [(2, "[11,22]"), (1, "[33333333]"), (1, "[4]")].map(|(events, text)| (events, text.to_owned()));
        assert_eq!(batches(limited, &events), expected);
    }

    #[test]
    fn without_bodies_events_are_counted_in_the_same_batches() {
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
    fn a_batch_in_the_memory_of_another_holds_its_own_events_alone() {
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
    fn no_events_make_no_batch() {
        assert_eq!(batches(settings(2, 100, Framing::JsonArray, Compression::Gzip(1)), &[]), []);
    }

    #[test]
    fn a_batch_comes_apart_into_its_events() {
        for compression in [Compression::None, Compression::Gzip(6)] {
            // One of them does not fit into a piece.
            let events = ["{}".to_owned(), format!("\"{}\"", "x".repeat(2 * PIECE_BYTES)), "3".to_owned()];
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
    fn an_event_that_did_not_fit_any_more_begins_the_next_batch() {
        let mut builder = BatchBuilder::new(settings(10, 7, Framing::JsonArray, Compression::None));
        assert!(builder.add(|out| out.put(b"1111")).1.is_none());
        assert_eq!(builder.add(|out| out.put(b"222")).1.unwrap().unpack().event(0), "1111");
        assert!(builder.add(|out| out.put(b"3")).1.is_none());
        let last = builder.finish().unwrap().unpack();
        assert_eq!((last.event(0), last.event(1)), (Bytes::from("222"), Bytes::from("3")));
    }

    proptest! {
        #[test]
        fn rejoined_batches_are_the_events_and_keep_the_limits(
            sizes in prop::collection::vec(1_usize..50_000, 0..40),
            events in 1_usize..10,
            bytes in 1_usize..200_000,
            level in 0_u32..=9,
        ) {
            let texts: Vec<String> = sizes.iter().enumerate().map(|(index, size)| format!("{:01$}", index, size)).collect();
            let compression = if level == 0 { Compression::None } else { Compression::Gzip(level) };
            let batches = batches(settings(events, bytes, Framing::JsonArray, compression), &texts);
            let mut rejoined = Vec::new();
            for (count, text) in &batches {
                let inside: Vec<&str> = text.strip_prefix('[').unwrap().strip_suffix(']').unwrap().split(',').collect();
                prop_assert_eq!(*count, inside.len());
                prop_assert!(inside.len() <= events);
                prop_assert!(text.len() <= bytes || inside.len() == 1, "{} bytes in a batch of {}", text.len(), inside.len());
                rejoined.extend(inside.into_iter().map(str::to_owned));
            }
            prop_assert_eq!(rejoined, texts);
        }
    }
}
