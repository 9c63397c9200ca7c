//! Decompresses an object in bounded steps and without I/O.
//!
//! Compressed bytes come in as they arrive, and text goes out. [`Inflate`] never holds the object or its text:
//!
//! ```
//! use elb_log::buffer::Buffer;
//! use elb_log::inflate::{Inflate, InflateProgress};
//!
//! let mut inflate = Inflate::default();
//! let mut text = Buffer::default();
//! for mut chunk in [b"2026-03-02T10:15:04Z a line".as_slice(), b" in two chunks\n"] {
//!     // One step appends at most 64 KiB.
//!     while inflate.step(&mut chunk, &mut text, 64 * 1024)? == InflateProgress::OutputFull {
//!         // Process the text here, then clear the buffer.
//!         text.clear();
//!     }
//! }
//! inflate.finish(&mut text)?;
//! assert_eq!(&text[..], b"2026-03-02T10:15:04Z a line in two chunks\n");
//! # Ok::<(), elb_log::inflate::InflateError>(())
//! ```

use flate2::{Decompress, FlushDecompress, Status};

use crate::buffer::Buffer;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// zlib's window bits for the largest window, which any gzip stream may use.
const WINDOW_BITS: u8 = 15;

/// Number of bytes that are decompressed from the outer gzip stream at once if there is another one inside.
const OUTER_STEP_BYTES: usize = 16 * 1024;

/// Decompresses one object: a gzip stream of any number of members, or plain text.
///
/// The first two bytes decide whether the object is gzip. Anything else passes unchanged, because Classic Load Balancers write
/// plain text and the S3 console downloads objects already decompressed. A gzip stream inside a gzip stream is decompressed too,
/// because tools that copy logs compress them again. A third one is not.
#[derive(Debug, Default)]
pub struct Inflate {
    outer: Layer,
    inner: Inner,
}

/// What the outer layer decompresses to.
#[derive(Debug)]
enum Inner {
    /// Not known yet. Holds the first bytes, at most two.
    Unknown(Buffer),
    /// Text, of which the first bytes are held and partly written.
    Held { first_bytes: Buffer, written: usize },
    /// Text. The outer layer writes it.
    Text,
    /// Another gzip stream.
    Gzip(Box<InnerGzip>),
}

impl Default for Inner {
    fn default() -> Self {
        Inner::Unknown(Buffer::default())
    }
}

/// A gzip stream inside a gzip stream.
#[derive(Debug, Default)]
struct InnerGzip {
    layer: Layer,
    /// Bytes of the stream.
    bytes: Buffer,
    /// Number of those bytes that are consumed.
    consumed: usize,
    /// The error that follows those bytes.
    outer_fault: Option<Fault>,
}

/// Why [`Inflate::step`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateProgress {
    /// The whole input is consumed, and all text that it yields is written.
    NeedInput,
    /// The maximum number of bytes is written. The input may yield more.
    OutputFull,
}

/// Why compressed data cannot be read, and where.
///
/// A position in gzip data inside gzip data is one in the inner data if that data is invalid, and one in the object if the data
/// around it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The data is invalid, or its checksum does not match.
    #[error("corrupt gzip at compressed byte {at}, after {written} bytes of text")]
    Corrupt {
        /// Number of compressed bytes read.
        at: u64,
        /// Number of bytes of text written before.
        written: u64,
    },
    /// The data ends inside a gzip member.
    #[error("truncated gzip: ends at compressed byte {at} inside a member, after {written} bytes of text")]
    Truncated {
        /// Number of compressed bytes read.
        at: u64,
        /// Number of bytes of text written before.
        written: u64,
    },
    /// Other bytes follow the last gzip member.
    #[error("trailing garbage after the gzip data at compressed byte {at}, after {written} bytes of text")]
    Garbage {
        /// Number of compressed bytes read.
        at: u64,
        /// Number of bytes of text written before.
        written: u64,
    },
}

impl Inflate {
    /// Consumes bytes from the front of `input` and appends their text to `out`, at most `max_bytes`, which must not be zero.
    ///
    /// # Errors
    /// [`InflateError::Corrupt`] and [`InflateError::Garbage`]. The text that was appended before is valid.
    pub fn step(&mut self, input: &mut &[u8], out: &mut Buffer, max_bytes: usize) -> Result<InflateProgress, InflateError> {
        let full = out.len() + max_bytes;
        loop {
            match &mut self.inner {
                Inner::Text => {
                    return self.outer.step(input, out, full - out.len()).map_err(|fault| fault.at(&self.outer, self.written()));
                }
                Inner::Unknown(first_bytes) => {
                    let progress = self.outer.step(input, first_bytes, GZIP_MAGIC.len() - first_bytes.len());
                    match progress {
                        Ok(InflateProgress::NeedInput) if !self.outer.is_plain() && first_bytes.len() < GZIP_MAGIC.len() => {
                            return Ok(InflateProgress::NeedInput);
                        }
                        Ok(_) => self.inner = Inner::of(first_bytes, self.outer.is_plain()),
                        Err(fault) => {
                            // One byte at most, so that `out` has space for it.
                            out.put(first_bytes);
                            self.inner = Inner::Text;
                            return Err(fault.at(&self.outer, self.written()));
                        }
                    }
                }
                Inner::Held { first_bytes, written } => {
                    let length = (first_bytes.len() - *written).min(full - out.len());
                    out.put(&first_bytes[*written..*written + length]);
                    *written += length;
                    if *written == first_bytes.len() {
                        self.inner = Inner::Text;
                    }
                    if out.len() == full {
                        return Ok(InflateProgress::OutputFull);
                    }
                }
                Inner::Gzip(gzip) => return gzip.step(&mut self.outer, input, out, full),
            }
        }
    }

    /// Ends the object. Must be called after all input is consumed.
    ///
    /// An object of a single byte is plain text even if gzip begins with that byte. The byte is appended to `out`.
    ///
    /// # Errors
    /// [`InflateError::Truncated`].
    pub fn finish(&mut self, out: &mut Buffer) -> Result<(), InflateError> {
        match &mut self.inner {
            Inner::Unknown(first_bytes) => {
                let end = self.outer.finish(first_bytes);
                out.put(first_bytes);
                self.inner = Inner::Text;
                end.map_err(|fault| fault.at(&self.outer, self.written()))
            }
            Inner::Held { .. } | Inner::Text => self.outer.finish(out).map_err(|fault| fault.at(&self.outer, self.written())),
            Inner::Gzip(gzip) => {
                self.outer.finish(&mut gzip.bytes).map_err(|fault| fault.at(&self.outer, gzip.layer.written))?;
                gzip.layer.finish(out).map_err(|fault| fault.at(&gzip.layer, gzip.layer.written))
            }
        }
    }

    /// Returns the number of bytes of text written so far.
    pub fn written(&self) -> u64 {
        match &self.inner {
            Inner::Unknown(_) => 0,
            Inner::Held { written, .. } => *written as u64,
            Inner::Text => self.outer.written,
            Inner::Gzip(gzip) => gzip.layer.written,
        }
    }
}

impl Inner {
    /// Returns what begins with these bytes. Plain text is not decompressed, so nothing is inside of it.
    fn of(first_bytes: &mut Buffer, is_plain: bool) -> Self {
        let first_bytes = std::mem::take(first_bytes);
        if !is_plain && first_bytes[..] == GZIP_MAGIC {
            Inner::Gzip(Box::new(InnerGzip { bytes: first_bytes, ..InnerGzip::default() }))
        } else {
            Inner::Held { first_bytes, written: 0 }
        }
    }
}

impl InnerGzip {
    /// Decompresses the outer layer, and what it yields.
    fn step(
        &mut self,
        outer: &mut Layer,
        input: &mut &[u8],
        out: &mut Buffer,
        full: usize,
    ) -> Result<InflateProgress, InflateError> {
        loop {
            if out.len() == full {
                return Ok(InflateProgress::OutputFull);
            }
            let mut bytes = &self.bytes[self.consumed..];
            let progress = self.layer.step(&mut bytes, out, full - out.len());
            self.consumed = self.bytes.len() - bytes.len();
            match progress.map_err(|fault| fault.at(&self.layer, self.layer.written))? {
                InflateProgress::OutputFull => return Ok(InflateProgress::OutputFull),
                InflateProgress::NeedInput => {}
            }
            if let Some(fault) = self.outer_fault.take() {
                return Err(fault.at(outer, self.layer.written));
            }
            self.bytes.clear();
            self.consumed = 0;
            // The bytes before a fault are valid.
            self.outer_fault = outer.step(input, &mut self.bytes, OUTER_STEP_BYTES).err();
            if self.bytes.is_empty() && self.outer_fault.is_none() {
                return Ok(InflateProgress::NeedInput);
            }
        }
    }
}

/// One layer of compression: gzip, or none.
#[derive(Debug, Default)]
struct Layer {
    state: LayerState,
    /// Number of compressed bytes read.
    consumed: u64,
    /// Number of bytes written.
    written: u64,
}

#[derive(Debug)]
enum LayerState {
    /// The first two bytes have not arrived yet. Holds the first byte once it has arrived.
    Sniffing(Option<u8>),
    Plain,
    Gzip(Box<Decompress>),
    /// A gzip member has ended, and another one may follow.
    BetweenMembers,
}

impl Default for LayerState {
    fn default() -> Self {
        LayerState::Sniffing(None)
    }
}

/// What is wrong with a layer.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Corrupt,
    Truncated,
    Garbage,
}

impl Fault {
    /// Returns the error of a layer after `written` bytes of text.
    fn at(self, layer: &Layer, written: u64) -> InflateError {
        let at = layer.consumed;
        match self {
            Fault::Corrupt => InflateError::Corrupt { at, written },
            Fault::Truncated => InflateError::Truncated { at, written },
            Fault::Garbage => InflateError::Garbage { at, written },
        }
    }
}

impl Layer {
    /// See [`Inflate::step`].
    fn step(&mut self, input: &mut &[u8], out: &mut Buffer, max_bytes: usize) -> Result<InflateProgress, Fault> {
        let full = out.len() + max_bytes;
        loop {
            match &mut self.state {
                LayerState::Sniffing(first) => match (*first, *input) {
                    (_, []) => return Ok(InflateProgress::NeedInput),
                    (None, [byte, rest @ ..]) => {
                        *first = Some(*byte);
                        *input = rest;
                    }
                    (Some(first), [second, ..]) if [first, *second] == GZIP_MAGIC => {
                        self.state = LayerState::Gzip(Box::new(Decompress::new_gzip(WINDOW_BITS)));
                        self.inflate(&mut [first].as_slice(), out, full)?;
                    }
                    (Some(first), _) => self.pass_first(first, out),
                },
                LayerState::Plain => return Ok(self.pass(input, out, full)),
                LayerState::Gzip(_) => {
                    if let Some(progress) = self.inflate(input, out, full)? {
                        return Ok(progress);
                    }
                }
                LayerState::BetweenMembers => match input {
                    [] => return Ok(InflateProgress::NeedInput),
                    [byte, ..] if *byte == GZIP_MAGIC[0] => {
                        self.state = LayerState::Gzip(Box::new(Decompress::new_gzip(WINDOW_BITS)));
                    }
                    _ => return Err(Fault::Garbage),
                },
            }
        }
    }

    /// See [`Inflate::finish`].
    fn finish(&mut self, out: &mut Buffer) -> Result<(), Fault> {
        match self.state {
            LayerState::Gzip(_) => Err(Fault::Truncated),
            LayerState::Sniffing(Some(only)) => {
                self.pass_first(only, out);
                Ok(())
            }
            LayerState::Sniffing(None) | LayerState::Plain | LayerState::BetweenMembers => Ok(()),
        }
    }

    fn is_plain(&self) -> bool {
        matches!(self.state, LayerState::Plain)
    }

    /// Writes the first byte of plain text.
    fn pass_first(&mut self, first: u8, out: &mut Buffer) {
        out.push(first);
        (self.consumed, self.written) = (1, 1);
        self.state = LayerState::Plain;
    }

    /// Copies plain text until `out` has `full` bytes.
    fn pass(&mut self, input: &mut &[u8], out: &mut Buffer, full: usize) -> InflateProgress {
        let length = input.len().min(full - out.len());
        out.put(&input[..length]);
        *input = &input[length..];
        self.consumed += length as u64;
        self.written += length as u64;
        if input.is_empty() { InflateProgress::NeedInput } else { InflateProgress::OutputFull }
    }

    /// Calls zlib once. Returns none if the caller should continue, because a member ended or zlib made progress.
    fn inflate(&mut self, input: &mut &[u8], out: &mut Buffer, full: usize) -> Result<Option<InflateProgress>, Fault> {
        let LayerState::Gzip(member) = &mut self.state else { return Ok(None) };
        let (consumed, written) = (member.total_in(), member.total_out());
        let max_bytes = full - out.len();
        let status = member.decompress(input, out.spare_mut(max_bytes), FlushDecompress::None);
        let (used, made) = (member.total_in() - consumed, member.total_out() - written);
        out.advance(usize::try_from(made).unwrap_or(max_bytes));
        self.consumed += used;
        self.written += made;
        *input = usize::try_from(used).ok().and_then(|used| input.get(used..)).unwrap_or_default();
        match status {
            Err(_) => Err(Fault::Corrupt),
            Ok(Status::StreamEnd) => {
                self.state = LayerState::BetweenMembers;
                Ok(None)
            }
            Ok(Status::Ok | Status::BufError) if out.len() == full => Ok(Some(InflateProgress::OutputFull)),
            Ok(Status::Ok | Status::BufError) if input.is_empty() => Ok(Some(InflateProgress::NeedInput)),
            Ok(Status::Ok) => Ok(None),
            Ok(Status::BufError) => Err(Fault::Corrupt),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// Inflates chunks of `chunk` bytes in steps of at most `max_bytes`.
    fn inflate(data: &[u8], chunk: usize, max_bytes: usize) -> (Vec<u8>, Result<(), InflateError>) {
        let (mut inflate, mut all, mut out) = (Inflate::default(), Vec::new(), Buffer::default());
        for mut input in data.chunks(chunk) {
            loop {
                let progress = inflate.step(&mut input, &mut out, max_bytes);
                assert!(out.len() <= max_bytes, "a step wrote {} bytes too many", out.len() - max_bytes);
                all.extend_from_slice(&out);
                out.clear();
                match progress {
                    Ok(InflateProgress::NeedInput) => break,
                    Ok(InflateProgress::OutputFull) => {}
                    Err(error) => return (all, Err(error)),
                }
            }
        }
        let end = inflate.finish(&mut out);
        all.extend_from_slice(&out);
        (all, end)
    }

    proptest! {
        #[test]
        fn inflates_any_members_in_any_chunks(
            members in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
            chunk in 1_usize..80,
            max_bytes in 1_usize..80,
        ) {
            prop_assume!(!members.concat().starts_with(&GZIP_MAGIC));
            let data: Vec<u8> = members.iter().flat_map(|member| gzip(member)).collect();
            prop_assert_eq!(inflate(&data, chunk, max_bytes), (members.concat(), Ok(())));
        }

        #[test]
        fn passes_plain_text(text in prop::collection::vec(any::<u8>(), 0..300), chunk in 1_usize..80, max_bytes in 1_usize..80) {
            prop_assume!(!text.starts_with(&GZIP_MAGIC));
            prop_assert_eq!(inflate(&text, chunk, max_bytes), (text, Ok(())));
        }

        #[test]
        fn inflates_gzip_inside_gzip_in_any_chunks(
            members in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
            cut in 0_usize..1000,
            chunk in 1_usize..80,
            max_bytes in 1_usize..80,
        ) {
            let inner: Vec<u8> = members.iter().flat_map(|member| gzip(member)).collect();
            let (first, second) = inner.split_at(cut % inner.len());
            let data = [gzip(first), gzip(second)].concat();
            prop_assert_eq!(inflate(&data, chunk, max_bytes), (members.concat(), Ok(())));
        }

        #[test]
        fn a_broken_object_has_the_same_text_and_error_in_any_chunks(
            text in prop::collection::vec(any::<u8>(), 0..300),
            layers in 1_usize..=2,
            at in 0_usize..1000,
            flip in any::<u8>(),
            cut in any::<bool>(),
            chunk in 1_usize..80,
            max_bytes in 1_usize..80,
        ) {
            let mut data = (0..layers).fold(text, |data, _| gzip(&data));
            let at = at % data.len();
            data[at] ^= flip;
            if cut {
                data.truncate(at + 1);
            }
            prop_assert_eq!(inflate(&data, chunk, max_bytes), inflate(&data, usize::MAX, 1 << 20));
        }

        #[test]
        fn rejects_a_truncated_object(
            text in prop::collection::vec(any::<u8>(), 0..300),
            cut in 2_usize..1000,
            chunk in 1_usize..80,
        ) {
            prop_assume!(!text.starts_with(&GZIP_MAGIC));
            let data = gzip(&text);
            let cut = 2 + cut % (data.len() - 2);
            let (read, end) = inflate(&data[..cut], chunk, 50);
            prop_assert!(matches!(end, Err(InflateError::Truncated { at, .. }) if at == cut as u64), "cut at {}: {:?}", cut, end);
            prop_assert!(text.starts_with(&read));
        }

        #[test]
        fn never_returns_other_text_for_a_corrupt_object(
            text in prop::collection::vec(any::<u8>(), 1..300),
            at in 0_usize..1000,
            flip in 1_u8..=255,
        ) {
            let mut data = gzip(&text);
            let at = 10 + at % (data.len() - 10);
            data[at] ^= flip;
            let (read, end) = inflate(&data, 64, 50);
            prop_assert!(end.is_err() || read == text);
        }
    }

    #[test]
    fn inflates_no_more_than_two_layers() {
        let once = gzip(b"one line\n");
        let twice = gzip(&once);
        assert_eq!(inflate(&twice, 64, 64), (b"one line\n".to_vec(), Ok(())));
        assert_eq!(inflate(&gzip(&twice), 64, 64), (once, Ok(())));
    }

    #[test]
    fn text_before_a_fault_of_the_outer_layer_is_complete() {
        let text = "a line of a log\n".repeat(10_000);
        let data = gzip(&gzip(text.as_bytes()));
        let (read, end) = inflate(&data[..data.len() - 9], 10, 100);
        assert!(matches!(end, Err(InflateError::Truncated { .. })), "{end:?}");
        let (whole, _) = inflate(&gzip(text.as_bytes()), 10, 100);
        assert!(whole.starts_with(&read) && read.len() > 1_000, "only {} bytes of text", read.len());
    }

    #[test]
    fn errors_name_the_position() {
        let good = gzip(b"one line\n");
        let mut corrupt = good.clone();
        let crc = corrupt.len() - 8;
        corrupt[crc] ^= 1;
        let garbage = [good.as_slice(), b"\0\0"].concat();
        let second_truncated = [good.as_slice(), &good[..15]].concat();
        let message = |data: &[u8]| inflate(data, 64, 64).1.unwrap_err().to_string();
        let end = good.len();
        assert_eq!(
            message(&garbage),
            format!("trailing garbage after the gzip data at compressed byte {end}, after 9 bytes of text")
        );
        assert_eq!(
            message(&second_truncated),
            format!(
                "truncated gzip: ends at compressed byte {} inside a member, after {} bytes of text",
                end + 15,
                9 + inflate(&good[..15], 64, 64).0.len()
            )
        );
        assert!(message(&corrupt).starts_with("corrupt gzip at compressed byte "), "{}", message(&corrupt));
    }
}
