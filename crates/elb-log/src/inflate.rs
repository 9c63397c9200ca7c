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

/// Decompresses one object: a gzip stream of any number of members, or plain text.
///
/// The first two bytes decide whether the object is gzip. Anything else passes unchanged, because Classic Load Balancers write
/// plain text and the S3 console downloads objects already decompressed.
#[derive(Debug)]
pub struct Inflate {
    state: InflateState,
    /// Number of compressed bytes read.
    consumed: u64,
    /// Number of bytes of text written.
    written: u64,
}

#[derive(Debug)]
enum InflateState {
    /// The first two bytes have not arrived yet. Holds the first byte once it has arrived.
    Sniffing(Option<u8>),
    Plain,
    Gzip(Box<Decompress>),
    /// A gzip member has ended, and another one may follow.
    BetweenMembers,
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

impl Default for Inflate {
    fn default() -> Self {
        Inflate { state: InflateState::Sniffing(None), consumed: 0, written: 0 }
    }
}

impl Inflate {
    /// Consumes bytes from the front of `input` and appends their text to `out`, at most `max_bytes`, which must not be zero.
    ///
    /// # Errors
    /// [`InflateError::Corrupt`] and [`InflateError::Garbage`]. The text that was appended before is valid.
    pub fn step(&mut self, input: &mut &[u8], out: &mut Buffer, max_bytes: usize) -> Result<InflateProgress, InflateError> {
        let full = out.len() + max_bytes;
        loop {
            match &mut self.state {
                InflateState::Sniffing(first) => match (*first, *input) {
                    (_, []) => return Ok(InflateProgress::NeedInput),
                    (None, [byte, rest @ ..]) => {
                        *first = Some(*byte);
                        *input = rest;
                    }
                    (Some(first), [second, ..]) if [first, *second] == GZIP_MAGIC => {
                        self.state = InflateState::Gzip(Box::new(Decompress::new_gzip(WINDOW_BITS)));
                        self.inflate(&mut [first].as_slice(), out, full)?;
                    }
                    (Some(first), _) => self.pass_first(first, out),
                },
                InflateState::Plain => return Ok(self.pass(input, out, full)),
                InflateState::Gzip(_) => {
                    if let Some(progress) = self.inflate(input, out, full)? {
                        return Ok(progress);
                    }
                }
                InflateState::BetweenMembers => match input {
                    [] => return Ok(InflateProgress::NeedInput),
                    [byte, ..] if *byte == GZIP_MAGIC[0] => {
                        self.state = InflateState::Gzip(Box::new(Decompress::new_gzip(WINDOW_BITS)));
                    }
                    _ => return Err(InflateError::Garbage { at: self.consumed, written: self.written }),
                },
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
        match self.state {
            InflateState::Gzip(_) => Err(InflateError::Truncated { at: self.consumed, written: self.written }),
            InflateState::Sniffing(Some(only)) => {
                self.pass_first(only, out);
                Ok(())
            }
            InflateState::Sniffing(None) | InflateState::Plain | InflateState::BetweenMembers => Ok(()),
        }
    }

    /// Returns the number of bytes of text written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the first byte of plain text.
    fn pass_first(&mut self, first: u8, out: &mut Buffer) {
        out.push(first);
        (self.consumed, self.written) = (1, 1);
        self.state = InflateState::Plain;
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
    fn inflate(&mut self, input: &mut &[u8], out: &mut Buffer, full: usize) -> Result<Option<InflateProgress>, InflateError> {
        let InflateState::Gzip(member) = &mut self.state else { return Ok(None) };
        let (consumed, written) = (member.total_in(), member.total_out());
        let max_bytes = full - out.len();
        let status = member.decompress(input, out.spare_mut(max_bytes), FlushDecompress::None);
        let (used, made) = (member.total_in() - consumed, member.total_out() - written);
        out.advance(usize::try_from(made).unwrap_or(max_bytes));
        self.consumed += used;
        self.written += made;
        *input = usize::try_from(used).ok().and_then(|used| input.get(used..)).unwrap_or_default();
        match status {
            Err(_) => Err(InflateError::Corrupt { at: self.consumed, written: self.written }),
            Ok(Status::StreamEnd) => {
                self.state = InflateState::BetweenMembers;
                Ok(None)
            }
            Ok(Status::Ok | Status::BufError) if out.len() == full => Ok(Some(InflateProgress::OutputFull)),
            Ok(Status::Ok | Status::BufError) if input.is_empty() => Ok(Some(InflateProgress::NeedInput)),
            Ok(Status::Ok) => Ok(None),
            Ok(Status::BufError) => Err(InflateError::Corrupt { at: self.consumed, written: self.written }),
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
            let data: Vec<u8> = members.iter().flat_map(|member| gzip(member)).collect();
            prop_assert_eq!(inflate(&data, chunk, max_bytes), (members.concat(), Ok(())));
        }

        #[test]
        fn passes_plain_text(text in prop::collection::vec(any::<u8>(), 0..300), chunk in 1_usize..80, max_bytes in 1_usize..80) {
            prop_assume!(!text.starts_with(&GZIP_MAGIC));
            prop_assert_eq!(inflate(&text, chunk, max_bytes), (text, Ok(())));
        }

        #[test]
        fn rejects_a_truncated_object(
            text in prop::collection::vec(any::<u8>(), 0..300),
            cut in 2_usize..1000,
            chunk in 1_usize..80,
        ) {
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
