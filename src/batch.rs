//! Events to batches: bodies of requests, compressed while they are filled.

use std::io::{self, Read as _, Write as _};
use std::ops::Range;

use bytes::Bytes;
use flate2::Compression as Level;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// How much is collected before it is compressed. It fits a processor's cache, so a batch that is compressed never has to exist
/// uncompressed.
const PIECE_BYTES: usize = 64 * 1024;

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
    pub events: usize,
    /// A batch ends before it has more bytes than this, uncompressed; `BATCH_BYTES`. A single larger event is a batch of its own.
    pub bytes: usize,
    /// How events stand in it.
    pub framing: Framing,
    /// How it is compressed.
    pub compression: Compression,
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
    piece: Vec<u8>,
    encoder: Encoder,
    ends: Vec<u32>,
    /// Uncompressed bytes of the batch, `piece` included.
    bytes: usize,
}

#[derive(Debug)]
enum Encoder {
    Plain,
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl BatchBuilder {
    /// Starts an empty batch.
    pub fn new(settings: BatchSettings) -> Self {
        BatchBuilder {
            settings,
            piece: Vec::with_capacity(PIECE_BYTES),
            encoder: Encoder::new(settings.compression),
            ends: Vec::new(),
            bytes: 0,
        }
    }

    /// Adds the one event that `write` appends to the buffer given to it. Also returns a batch, if this event ended it or did
    /// not fit in any more.
    pub fn add<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> (T, Option<Batch>) {
        let start = self.piece.len();
        self.open_event();
        let event = self.piece.len();
        let written = write(&mut self.piece);
        self.close_event();
        let mut batch = None;
        if !self.ends.is_empty() && self.bytes + (self.piece.len() - start) + self.tail() > self.settings.bytes {
            let late = self.piece.split_off(event);
            self.piece.truncate(start);
            batch = self.finish();
            self.open_event();
            self.piece.extend_from_slice(&late);
            self.bytes = self.piece.len();
        } else {
            self.bytes += self.piece.len() - start;
        }
        // Lines are cut off at 16 MiB, so a body never comes near the limit of the type.
        self.ends.push(u32::try_from(self.bytes).unwrap_or(u32::MAX));
        if self.ends.len() == self.settings.events {
            batch = self.finish();
        } else if self.piece.len() >= PIECE_BYTES {
            self.compress_piece();
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
        let body = std::mem::replace(&mut self.encoder, Encoder::new(compression)).finish(&mut self.piece);
        self.bytes = 0;
        Some(Batch { body: Body { bytes: body.into(), compression }, ends: std::mem::take(&mut self.ends) })
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

    fn compress_piece(&mut self) {
        self.encoder.take(&mut self.piece);
    }
}

impl Batch {
    /// How many events it holds, at least one.
    pub fn events(&self) -> usize {
        self.ends.len()
    }

    /// Inflates it.
    pub fn unpack(&self) -> Unpacked {
        let Body { bytes, compression } = self.body.clone();
        let text = match compression {
            Compression::None => bytes,
            Compression::Gzip(_) => {
                let mut text = Vec::new();
                into_memory(GzDecoder::new(&bytes[..]).read_to_end(&mut text));
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
        let mut text = [b"[", &self.text[start..end], b"]"].concat();
        Body { bytes: Encoder::new(self.compression).finish(&mut text).into(), compression: self.compression }
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
            Compression::Gzip(level) => Encoder::Gzip(Box::new(GzEncoder::new(Vec::new(), Level::new(level)))),
        }
    }

    /// Compresses the piece and empties it. What is not compressed stays where it is.
    fn take(&mut self, piece: &mut Vec<u8>) {
        if let Encoder::Gzip(encoder) = self {
            into_memory(encoder.write_all(piece));
            piece.clear();
        }
    }

    /// The body, with the last piece.
    fn finish(mut self, piece: &mut Vec<u8>) -> Vec<u8> {
        self.take(piece);
        match self {
            Encoder::Plain => std::mem::take(piece),
            Encoder::Gzip(encoder) => into_memory(encoder.finish()),
        }
    }
}

/// Compressing into a vector fails only where memory does, and then the allocator has aborted already.
fn into_memory<T: Default>(result: io::Result<T>) -> T {
    debug_assert!(result.is_ok(), "compressing into memory failed");
    result.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(events: usize, bytes: usize, framing: Framing, compression: Compression) -> BatchSettings {
        BatchSettings { events, bytes, framing, compression }
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
            batches.extend(builder.add(|out| out.extend_from_slice(event.as_bytes())).1);
        }
        batches.extend(builder.finish());
        batches.iter().map(|batch| (batch.events(), text(&batch.body))).collect()
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
                assert!(builder.add(|out| out.extend_from_slice(event.as_bytes())).1.is_none());
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
        assert!(builder.add(|out| out.extend_from_slice(b"1111")).1.is_none());
        assert_eq!(builder.add(|out| out.extend_from_slice(b"222")).1.unwrap().unpack().event(0), "1111");
        assert!(builder.add(|out| out.extend_from_slice(b"3")).1.is_none());
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
