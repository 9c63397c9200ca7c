//! The log objects of a seed: what is in them, how they are encoded, and how the store has them.

use elb_log::buffer::Buffer;
use elb_log::event::IdPrefix;
use elb_log::origin::ObjectName;
use fastrand::Rng;

use crate::simulation::schedule::{BUCKET, MAX_LINE_BYTES};
use crate::support::{alb_key, alb_line, gzip};

/// How an object is available in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    Whole,
    Missing,
    Denied,
    /// The end is missing, so that the gzip data is incomplete.
    Truncated,
    /// The checksum is wrong, or other bytes follow the gzip data.
    Corrupt,
}

/// One of the two contents that an object has: it may be overwritten while it is read. Lines of both have the same offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    First,
    Second,
}

/// One line that is not blank.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: String,
    /// The line's offset in the text.
    pub(crate) offset: u64,
    /// The line as text, if it is UTF-8 and not longer than `MAX_LINE_BYTES`, in both versions.
    pub(crate) text: Option<(String, String)>,
    /// Whether no endpoint ever accepts its event.
    pub(crate) is_bad: bool,
}

/// One log object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) key: String,
    /// The bytes of the first and of the second version.
    pub(crate) bodies: [Vec<u8>; 2],
    /// The length of the text.
    pub(crate) text_bytes: usize,
    pub(crate) availability: Availability,
    /// The time, in milliseconds, at which the second version replaces the first.
    pub(crate) replaced_ms: Option<u64>,
    /// Whether responses have an ETag.
    pub(crate) has_etag: bool,
    pub(crate) lines: Vec<Line>,
    /// The unusual parts of the object, as names of faults.
    pub(crate) features: Vec<&'static str>,
}

/// What a seed decides about all of its objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectSettings {
    /// One of this number of lines is bad.
    pub(crate) bad_one_in: usize,
    /// Whether lines may be longer than `MAX_LINE_BYTES`.
    pub(crate) overlong: bool,
    /// The time at which the last fault ends, in milliseconds.
    pub(crate) faults_end_ms: u64,
}

/// The text of an object while it is drawn.
struct Text {
    prefix: IdPrefix,
    bytes: Vec<u8>,
    lines: Vec<Line>,
    features: Vec<&'static str>,
}

impl Object {
    /// Bad events are sparse, so that a refused part has neighbours that are accepted.
    pub(crate) fn draw(rng: &mut Rng, number: usize, settings: ObjectSettings) -> Self {
        let directory = ["", "team a+b/", "größe=1/"][rng.usize(..3)];
        let key = format!("{directory}{}", alb_key(&format!("{number}x{:08x}", rng.u32(..))));
        let text = Text::draw(rng, &key, settings);
        let availability = match rng.u8(..24) {
            0 => Availability::Missing,
            1 => Availability::Denied,
            2 if !text.lines.is_empty() => Availability::Truncated,
            3 => Availability::Corrupt,
            _ => Availability::Whole,
        };
        let Text { bytes, lines, mut features, .. } = text;
        let encoding = Encoding::draw(rng, availability, &mut features);
        let is_readable = matches!(availability, Availability::Whole);
        let replaced_ms = (is_readable && rng.u8(..8) == 0).then(|| rng.u64(..settings.faults_end_ms.clamp(1, 600)));
        let (text_bytes, second) = (bytes.len(), encoding.encode(second_version(&bytes)));
        Object {
            key,
            bodies: [encoding.encode(bytes), second],
            text_bytes,
            availability,
            replaced_ms,
            has_etag: rng.u8(..12) > 0,
            lines,
            features,
        }
    }

    /// Returns the version at a time in milliseconds.
    pub(crate) fn version(&self, now: u64) -> Version {
        if self.replaced_ms.is_some_and(|replaced| replaced <= now) { Version::Second } else { Version::First }
    }

    /// Returns the indices of the bad lines.
    pub(crate) fn bad_lines(&self) -> usize {
        self.lines.iter().filter(|line| line.is_bad).count()
    }
}

impl Text {
    fn draw(rng: &mut Rng, key: &str, settings: ObjectSettings) -> Self {
        let prefix = IdPrefix::of(&ObjectName { bucket: BUCKET.to_owned(), key: key.to_owned() });
        let mut text = Text { prefix, bytes: Vec::new(), lines: Vec::new(), features: Vec::new() };
        let line_end: &[u8] = if rng.u8(..4) == 0 { b"\r\n" } else { b"\n" };
        let blank_one_in = if rng.u8(..4) == 0 { 6 } else { u8::MAX };
        let lines = if rng.u8(..8) == 0 { 0 } else { rng.usize(1..90) };
        for number in 0..lines {
            if rng.u8(..blank_one_in) == 0 {
                text.features.push("blank lines");
                text.bytes.extend_from_slice(line_end);
            }
            text.add_line(rng, number, settings);
            text.bytes.extend_from_slice(line_end);
        }
        if line_end == b"\r\n" && lines > 0 {
            text.features.push("lines that end with CRLF");
        }
        if lines > 0 && rng.u8(..6) == 0 {
            text.features.push("last line without a line feed");
            text.bytes.truncate(text.bytes.len() - line_end.len());
        }
        if lines == 0 && rng.bool() {
            text.features.push("only blank lines");
            text.bytes.extend_from_slice(b"\n\r\n");
        }
        text
    }

    fn add_line(&mut self, rng: &mut Rng, number: usize, settings: ObjectSettings) {
        let mut id = Buffer::default();
        let offset = self.bytes.len() as u64;
        self.prefix.write(&mut id, offset);
        let bytes = match rng.u8(..40) {
            0 if settings.overlong => {
                self.features.push("overlong line");
                vec![b'x'; rng.usize(MAX_LINE_BYTES + 1..MAX_LINE_BYTES + 2_000)]
            }
            1 => {
                self.features.push("line of any bytes");
                (0..rng.usize(1..40)).map(|_| rng.u8(..)).filter(|byte| !b"\r\n".contains(byte)).chain([b'.']).collect()
            }
            2..12 => alb_line(number).into_bytes(),
            _ => format!("line {number} is not an access log line").into_bytes(),
        };
        let second = second_version(&bytes);
        let text = match (String::from_utf8(bytes.clone()), String::from_utf8(second)) {
            (Ok(first), Ok(second)) if first.len() <= MAX_LINE_BYTES => Some((first, second)),
            _ => None,
        };
        let is_bad = number % settings.bad_one_in == settings.bad_one_in / 2;
        self.lines.push(Line { id: String::from_utf8(id.to_vec()).expect("hex digits"), offset, text, is_bad });
        self.bytes.extend_from_slice(&bytes);
    }
}

/// How the text of an object becomes its body.
enum Encoding {
    Plain,
    /// Members of gzip, whose ends are these shares of the text, in 1/256.
    Gzip(Vec<u8>),
    /// Gzip of which only this share remains, in 1/256.
    Truncated(u8),
    /// Gzip with a wrong checksum.
    BadChecksum,
    /// Gzip and then other bytes.
    Garbage,
}

impl Encoding {
    fn draw(rng: &mut Rng, availability: Availability, features: &mut Vec<&'static str>) -> Self {
        match (availability, rng.u8(..4)) {
            (Availability::Truncated, _) => Encoding::Truncated(rng.u8(..)),
            (Availability::Corrupt, 0 | 1) => Encoding::BadChecksum,
            (Availability::Corrupt, _) => Encoding::Garbage,
            (_, 0) => Encoding::Plain,
            (_, 1) => {
                features.push("several gzip members");
                let mut ends: Vec<u8> = (0..rng.usize(1..4)).map(|_| rng.u8(..)).collect();
                ends.sort_unstable();
                Encoding::Gzip(ends)
            }
            _ => Encoding::Gzip(Vec::new()),
        }
    }

    /// A text without bytes becomes a body without bytes, unless the object is corrupt.
    fn encode(&self, text: Vec<u8>) -> Vec<u8> {
        let at = |share: u8, length: usize| usize::from(share) * length / 256;
        match self {
            Encoding::Plain => text,
            Encoding::Gzip(_) if text.is_empty() => text,
            Encoding::Gzip(shares) => {
                let (mut body, mut start) = (Vec::new(), 0);
                for end in shares.iter().map(|&share| at(share, text.len())).chain([text.len()]) {
                    body.extend(gzip(&text[start..end]));
                    start = end;
                }
                body
            }
            Encoding::Truncated(share) => {
                let mut body = gzip(&text);
                // The first three bytes say that it is gzip.
                body.truncate((3 + at(*share, body.len() - 3)).min(body.len() - 1));
                body
            }
            Encoding::BadChecksum => {
                let mut body = gzip(&text);
                let checksum = body.len() - 8;
                body[checksum] ^= 1;
                body
            }
            Encoding::Garbage => [gzip(&text), b"garbage".to_vec()].concat(),
        }
    }
}

/// Returns another text with lines of the same lengths.
fn second_version(text: &[u8]) -> Vec<u8> {
    let mut second = text.to_vec();
    for (word, other) in [(b"shop", b"SHOP"), (b"line", b"LINE")] {
        let mut at = 0;
        while let Some(found) = second[at..].windows(word.len()).position(|window| window == word) {
            second[at + found..at + found + other.len()].copy_from_slice(other);
            at += found + other.len();
        }
    }
    second
}
