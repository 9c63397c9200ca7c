//! Where the bytes of a line are that split it, found for the whole line at once.
//!
//! A line has some 35 fields, so it would be searched through some 50 times, each time for a few bytes; starting a search costs
//! more than such a search itself. Instead every byte is looked at once, sixteen at a time, and leaves one bit.

use wide::{i8x16, u8x16};

/// Bytes that one word of bits stands for.
const WORD_BYTES: usize = 64;

/// What was found in a line. One scan serves many lines, one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    /// A bit for each space.
    spaces: Vec<u64>,
    /// A bit for each quote and each backslash.
    quotes: Vec<u64>,
    /// How many of those there are.
    quote_count: u32,
    /// Whether there are only ASCII characters, no control character but DEL, and no backslash.
    simple: bool,
}

impl Scan {
    /// Scans a line.
    pub fn read(&mut self, line: &[u8]) {
        self.spaces.clear();
        self.quotes.clear();
        (self.quote_count, self.simple) = (0, true);
        let (words, rest) = line.as_chunks::<WORD_BYTES>();
        for word in words {
            self.read_word(word);
        }
        if !rest.is_empty() {
            // A letter is neither a space nor a quote nor anything that has to be escaped.
            let mut last = [b'x'; WORD_BYTES];
            last[..rest.len()].copy_from_slice(rest);
            self.read_word(&last);
        }
    }

    /// The first space at or behind `at`.
    #[inline]
    pub fn next_space(&self, at: usize) -> Option<usize> {
        next(&self.spaces, at)
    }

    /// The first quote or backslash at or behind `at`.
    #[inline]
    pub fn next_quote(&self, at: usize) -> Option<usize> {
        next(&self.quotes, at)
    }

    /// How many quotes the line has, if it has only ASCII characters, no control character but DEL, and no backslash.
    pub fn quotes_of_simple_line(&self) -> Option<usize> {
        self.simple.then_some(self.quote_count as usize)
    }

    #[inline(always)]
    fn read_word(&mut self, word: &[u8; WORD_BYTES]) {
        let (mut spaces, mut quotes) = (0, 0);
        let mut odd = u8x16::ZERO;
        for (index, chunk) in word.as_chunks::<16>().0.iter().enumerate() {
            let chunk = u8x16::new(*chunk);
            let backslash = chunk.simd_eq(u8x16::splat(b'\\'));
            let quote = chunk.simd_eq(u8x16::splat(b'"')) | backslash;
            spaces |= bits(chunk.simd_eq(u8x16::splat(b' ')), index);
            quotes |= bits(quote, index);
            // Bytes from 128 on are negative numbers, so they are below the first printable character, too.
            odd |= backslash | low(chunk);
        }
        self.spaces.push(spaces);
        self.quotes.push(quotes);
        self.quote_count += quotes.count_ones();
        self.simple &= !odd.any();
    }
}

#[inline(always)]
fn low(chunk: u8x16) -> u8x16 {
    chunk.cast_signed().simd_lt(i8x16::splat(0x20)).cast_unsigned()
}

#[inline(always)]
fn bits(chunk: u8x16, index: usize) -> u64 {
    u64::from(chunk.to_bitmask()) << (16 * index)
}

/// The first bit at or behind `at`.
#[inline(always)]
fn next(words: &[u64], at: usize) -> Option<usize> {
    let mut index = at / WORD_BYTES;
    let mut bits = words.get(index)? & (u64::MAX << (at % WORD_BYTES));
    while bits == 0 {
        index += 1;
        bits = *words.get(index)?;
    }
    Some(index * WORD_BYTES + bits.trailing_zeros() as usize)
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
        for at in 0..=line.len() + 1 {
            assert_eq!(scan.next_space(at), search(line, at, b" "), "the space from {at} on in {:?}", line.escape_ascii());
            assert_eq!(scan.next_quote(at), search(line, at, b"\"\\"), "the quote from {at} on in {:?}", line.escape_ascii());
        }
        let simple = line.iter().all(|&byte| matches!(byte, 0x20..0x80) && byte != b'\\');
        let quotes = line.iter().filter(|&&byte| byte == b'"').count();
        assert_eq!(scan.quotes_of_simple_line(), simple.then_some(quotes), "{:?}", line.escape_ascii());
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
