//! Finds the bytes that split a line, for the whole line at once.
//!
//! A line has dozens of fields, so a parser would search it some 50 times, each time for a few bytes, and starting a search takes
//! longer than so short a search. Instead the scan reads every byte once, sixteen at a time, and keeps one bit for it.

use wide::{i8x16, u8x16};

/// Number of bytes that one word of bits stands for.
const WORD_BYTES: usize = 64;

/// The positions of spaces and quotes in a line. One scan serves many lines, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    words: Vec<Word>,
    /// Whether the line has only ASCII characters, no control character except DEL, and no backslash.
    simple: bool,
}

/// The positions of spaces and quotes in [`WORD_BYTES`] bytes.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// A bit for each space.
    spaces: u64,
    /// A bit for each quote and each backslash.
    quotes: u64,
}

impl Scan {
    /// Scans a line.
    pub(super) fn read(&mut self, line: &[u8]) {
        let (whole, rest) = line.as_chunks::<WORD_BYTES>();
        let mut odd = u8x16::ZERO;
        self.words.clear();
        self.words.extend(whole.iter().map(|bytes| Word::read(bytes, &mut odd)));
        // A space follows the line, as one follows each of its fields.
        let mut last = [b' '; WORD_BYTES];
        last[..rest.len()].copy_from_slice(rest);
        self.words.push(Word::read(&last, &mut odd));
        self.simple = !odd.any();
    }

    /// Calls `found` with the start and the end of each field, quotes included, and returns whether the line is plain: it has only
    /// ASCII characters, no control character except DEL, no backslash, and every quote is at the start or the end of a field. If
    /// it is not plain, the fields found are meaningless.
    ///
    /// In a plain line, a space separates fields if and only if an even number of quotes comes before it.
    #[inline(always)]
    pub(super) fn split_plain(&self, mut found: impl FnMut(usize, usize)) -> bool {
        if !self.simple {
            return false;
        }
        let (mut start, mut inside, mut space_before) = (0, 0, 1);
        for (index, word) in self.words.iter().enumerate() {
            let Word { spaces, quotes } = *word;
            // The bits from each opening quote to just before its closing quote.
            let quoted = parity(quotes) ^ inside;
            inside = if quoted >> 63 == 1 { u64::MAX } else { 0 };
            let following = self.words.get(index + 1).map_or(1, |next| next.spaces & 1);
            let behind_space = spaces << 1 | space_before;
            let before_space = spaces >> 1 | following << 63;
            space_before = spaces >> 63;
            if (quotes & quoted & !behind_space) | (quotes & !quoted & !before_space) != 0 {
                return false;
            }
            let mut separators = spaces & !quoted;
            while separators != 0 {
                let end = index * WORD_BYTES + separators.trailing_zeros() as usize;
                separators &= separators - 1;
                found(start, end);
                start = end + 1;
            }
        }
        inside == 0
    }

    /// Returns the position of the first space at or after `at`.
    #[inline(always)]
    pub(super) fn next_space(&self, at: usize) -> Option<usize> {
        self.next(at, |word| word.spaces)
    }

    /// Returns the position of the first quote or backslash at or after `at`.
    #[inline(always)]
    pub(super) fn next_quote(&self, at: usize) -> Option<usize> {
        self.next(at, |word| word.quotes)
    }

    #[inline(always)]
    fn next(&self, at: usize, sought: impl Fn(&Word) -> u64) -> Option<usize> {
        let mut index = at / WORD_BYTES;
        let mut bits = sought(self.words.get(index)?) & (u64::MAX << (at % WORD_BYTES));
        while bits == 0 {
            index += 1;
            bits = sought(self.words.get(index)?);
        }
        Some(index * WORD_BYTES + bits.trailing_zeros() as usize)
    }
}

impl Word {
    /// Reads the bytes, and adds those that are not simple to `odd`.
    #[inline(always)]
    fn read(bytes: &[u8; WORD_BYTES], odd: &mut u8x16) -> Self {
        let mut word = Word { spaces: 0, quotes: 0 };
        for (index, chunk) in bytes.as_chunks::<16>().0.iter().enumerate() {
            let chunk = u8x16::new(*chunk);
            let backslash = chunk.simd_eq(u8x16::splat(b'\\'));
            let quote = chunk.simd_eq(u8x16::splat(b'"')) | backslash;
            word.spaces |= bits(chunk.simd_eq(u8x16::splat(b' ')), index);
            word.quotes |= bits(quote, index);
            // As signed numbers, bytes from 128 on are negative, so they are below the first printable character, too.
            *odd |= backslash | low(chunk);
        }
        word
    }
}

/// Returns a bit for each position at or before which an odd number of bits is set.
#[inline(always)]
fn parity(mut bits: u64) -> u64 {
    for distance in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << distance;
    }
    bits
}

#[inline(always)]
fn low(chunk: u8x16) -> u8x16 {
    chunk.cast_signed().simd_lt(i8x16::splat(0x20)).cast_unsigned()
}

#[inline(always)]
fn bits(chunk: u8x16, index: usize) -> u64 {
    u64::from(chunk.to_bitmask()) << (16 * index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the scan is to find, one byte at a time.
    fn search(line: &[u8], from: usize, sought: &[u8]) -> Option<usize> {
        (from..line.len()).find(|&at| sought.contains(&line[at]))
    }

    #[track_caller]
    fn check(scan: &mut Scan, line: &[u8]) {
        scan.read(line);
        for at in 0..=line.len() {
            let space = search(line, at, b" ").unwrap_or(line.len());
            assert_eq!(scan.next_space(at), Some(space), "the space from {at} on in {:?}", line.escape_ascii());
            assert_eq!(scan.next_quote(at), search(line, at, b"\"\\"), "the quote from {at} on in {:?}", line.escape_ascii());
        }
        let simple = line.iter().all(|&byte| matches!(byte, 0x20..0x80) && byte != b'\\');
        assert_eq!(scan.simple, simple, "{:?}", line.escape_ascii());
    }

    #[test]
    fn every_byte_is_told_apart_at_every_place() {
        let mut scan = Scan::default();
        for byte in 0..=255 {
            for at in [0, 1, 15, 16, 31, 63, 64, 65, 127] {
                let mut line = [b'a'; 130];
                line[at] = byte;
                check(&mut scan, &line);
            }
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_search_byte_by_byte_finds(
            line in prop::collection::vec(prop_oneof![3 => prop::sample::select(b"aA -0~".as_slice()), 2 => prop::sample::select(b"\"\\".as_slice()), 1 => any::<u8>()], 0..300),
            before in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut scan = Scan::default();
            scan.read(&before);
            check(&mut scan, &line);
        }

        #[test]
        fn it_knows_simple_lines(line in "[ -\\[\\]-~]{0,200}") {
            check(&mut Scan::default(), line.as_bytes());
        }
    }
}
