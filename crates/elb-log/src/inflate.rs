//! Compressed bytes to plain ones, in bounded steps and without I/O.

use flate2::{Decompress, FlushDecompress, Status};

use crate::buffer::Buffer;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// zlib's window bits for the largest window, which any gzip stream may use.
const WINDOW_BITS: u8 = 15;

/// Inflates an object. Whether it is gzip is seen from its first two bytes; anything else passes unchanged, since classic load
/// balancers write plain text and the S3 console hands out objects already inflated.
#[derive(Debug)]
pub struct Inflate {
    state: InflateState,
    /// Compressed bytes consumed.
    consumed: u64,
    /// Bytes written.
    written: u64,
}

#[derive(Debug)]
enum InflateState {
    /// Too few bytes have come to tell. Holds the first one once it is there.
    Sniffing(Option<u8>),
    Plain,
    Gzip(Box<Decompress>),
    /// A gzip member ended. Another may follow.
    BetweenMembers,
}

/// Why an inflating step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateProgress {
    /// All input was consumed and everything it yields is written.
    NeedInput,
    /// The room is used up; there may be more.
    OutputFull,
}

/// What is wrong with the compressed data, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The data or its checksum contradicts itself.
    #[error("corrupt gzip at compressed byte {at}, after {written} bytes of text")]
    Corrupt {
        /// Compressed bytes consumed.
        at: u64,
        /// Bytes of text before.
        written: u64,
    },
    /// The data ends inside a gzip member.
    #[error("truncated gzip: ends at compressed byte {at} inside a member, after {written} bytes of text")]
    Truncated {
        /// Compressed bytes consumed.
        at: u64,
        /// Bytes of text before.
        written: u64,
    },
    /// Something that is no gzip member follows one.
    #[error("garbage behind the gzip data at compressed byte {at}, after {written} bytes of text")]
    Garbage {
        /// Compressed bytes consumed.
        at: u64,
        /// Bytes of text before.
        written: u64,
    },
}

impl Default for Inflate {
    fn default() -> Self {
        Inflate { state: InflateState::Sniffing(None), consumed: 0, written: 0 }
    }
}

impl Inflate {
    /// Consumes from the front of `input` and appends what it yields to `out`, at most `room` bytes, which must not be zero.
    ///
    /// # Errors
    /// Data that is corrupt or followed by garbage. What was appended before is good.
    pub fn step(&mut self, input: &mut &[u8], out: &mut Buffer, room: usize) -> Result<InflateProgress, InflateError> {
        let full = out.len() + room;
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
                    (Some(first), _) => {
                        out.push(first);
                        (self.consumed, self.written) = (1, 1);
                        self.state = InflateState::Plain;
                    }
                },
                InflateState::Plain => {
                    let length = input.len().min(full - out.len());
                    out.put(&input[..length]);
                    *input = &input[length..];
                    self.consumed += length as u64;
                    self.written += length as u64;
                    return Ok(if input.is_empty() { InflateProgress::NeedInput } else { InflateProgress::OutputFull });
                }
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

    /// To be called when all input has been consumed.
    ///
    /// # Errors
    /// Data that ends inside a gzip member. A single byte that could have begun one is plain text; it is appended to `out`.
    pub fn finish(&mut self, out: &mut Buffer) -> Result<(), InflateError> {
        match self.state {
            InflateState::Gzip(_) => Err(InflateError::Truncated { at: self.consumed, written: self.written }),
            InflateState::Sniffing(Some(only)) => {
                out.push(only);
                (self.consumed, self.written) = (1, 1);
                self.state = InflateState::Plain;
                Ok(())
            }
            InflateState::Sniffing(None) | InflateState::Plain | InflateState::BetweenMembers => Ok(()),
        }
    }

    /// Compressed bytes consumed so far.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Bytes of text written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// One call of zlib. None when a member ended and the loop should look at what follows.
    fn inflate(&mut self, input: &mut &[u8], out: &mut Buffer, full: usize) -> Result<Option<InflateProgress>, InflateError> {
        let InflateState::Gzip(member) = &mut self.state else { return Ok(None) };
        let (consumed, written) = (member.total_in(), member.total_out());
        let room = full - out.len();
        let status = member.decompress(input, out.spare_mut(room), FlushDecompress::None);
        let (used, made) = (member.total_in() - consumed, member.total_out() - written);
        out.advance(usize::try_from(made).unwrap_or(room));
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

    /// Inflates in pieces of `chunk` bytes into rooms of `room` bytes.
    fn inflate(data: &[u8], chunk: usize, room: usize) -> (Vec<u8>, Result<(), InflateError>) {
        let (mut inflate, mut all, mut out) = (Inflate::default(), Vec::new(), Buffer::default());
        for mut input in data.chunks(chunk) {
            loop {
                let progress = inflate.step(&mut input, &mut out, room);
                assert!(out.len() <= room, "{} bytes for which there was no room", out.len() - room);
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
        fn any_chunking_of_any_members_gives_the_same_text(
            members in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4),
            chunk in 1_usize..80,
            room in 1_usize..80,
        ) {
            let data: Vec<u8> = members.iter().flat_map(|member| gzip(member)).collect();
            prop_assert_eq!(inflate(&data, chunk, room), (members.concat(), Ok(())));
        }

        #[test]
        fn plain_text_passes(text in prop::collection::vec(any::<u8>(), 0..300), chunk in 1_usize..80, room in 1_usize..80) {
            prop_assume!(!text.starts_with(&GZIP_MAGIC));
            prop_assert_eq!(inflate(&text, chunk, room), (text, Ok(())));
        }

        #[test]
        fn a_truncated_object_is_never_a_shorter_success(
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
        fn a_changed_byte_is_never_a_success_with_other_text(
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
        assert_eq!(message(&garbage), format!("garbage behind the gzip data at compressed byte {end}, after 9 bytes of text"));
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
