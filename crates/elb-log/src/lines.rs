//! Text to lines, in bounded memory and without I/O.
//!
//! LineSplitter come in blocks of many, because everything behind this point (parsing, event writing, compression) is done a block at
//! a time, by whichever thread is free.

use memchr::memchr;

use crate::buffer::Buffer;

/// Bounds of a block of lines.
#[derive(Clone, Copy, Debug)]
pub struct LineLimits {
    /// A longer line is cut off here; `MAX_LINE_BYTES`.
    pub line_bytes: usize,
    /// A block is full with this many lines.
    pub block_lines: usize,
    /// A block is full once it covers this many bytes of the object's text.
    pub block_bytes: usize,
}

/// How much more than a block is in the buffer when it is found to be full: what is inflated at once, and a line.
const BEYOND_BLOCK: usize = 80 * 1024;

/// Blocks that may be larger grow as they are filled.
const MOST_AT_ONCE: usize = 16 << 20;

/// A run of whole lines of one object.
#[derive(Debug, Default)]
pub struct Block {
    text: Buffer,
    spans: Vec<Span>,
}

/// One line, without the line feed that ends it and one carriage return before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The line's bytes.
    pub text: &'a [u8],
    /// The byte of the object's text at which the line begins.
    pub offset: u64,
    /// Whether it was longer than the limit and is cut off.
    pub truncated: bool,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    end: usize,
    offset: u64,
    truncated: bool,
}

impl Block {
    /// The lines, in order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.spans.iter().map(|&Span { start, end, offset, truncated }| Line { text: &self.text[start..end], offset, truncated })
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }
}

/// Finds the lines in text that comes in pieces.
///
/// Text is appended to [`LineSplitter::buffer`], then [`LineSplitter::next_block`] is called until it gives none. Blocks depend on the text
/// alone, not on how it was cut into pieces.
#[derive(Debug)]
pub struct LineSplitter {
    limits: LineLimits,
    block: Block,
    /// Up to here the text has been looked through for line feeds.
    scanned: usize,
    /// Where the current line begins in the text.
    start: usize,
    /// Where it begins in the object.
    offset: u64,
    /// How much of the current line was dropped because it is too long.
    dropped: u64,
}

impl LineSplitter {
    /// Starts at the beginning of an object.
    pub fn new(limits: LineLimits) -> Self {
        LineSplitter { limits, block: Block::default(), scanned: 0, start: 0, offset: 0, dropped: 0 }
    }

    /// Makes room for a whole block, if there is none, in the memory of one that is done with. To be called before text is appended
    /// rather than when a block is handed out: until then it may be long.
    pub fn reserve_block(&mut self, memory: impl FnOnce() -> Option<Block>) {
        let room = self.limits.block_bytes.min(MOST_AT_ONCE) + BEYOND_BLOCK;
        if self.block.text.capacity() < room {
            let mut larger = memory().unwrap_or_default();
            larger.clear();
            if larger.text.capacity() < room {
                larger.text = Buffer::with_capacity(room);
            }
            larger.text.put(&self.block.text);
            larger.spans.extend_from_slice(&self.block.spans);
            self.block = larger;
        }
    }

    /// Cuts lines off only at this length.
    pub fn set_max_line_bytes(&mut self, bytes: usize) {
        self.limits.line_bytes = bytes;
    }

    /// The buffer to append text to.
    pub fn buffer(&mut self) -> &mut Buffer {
        &mut self.block.text
    }

    /// A full block, if the text appended so far makes one.
    pub fn next_block(&mut self) -> Option<Block> {
        while let Some(found) = memchr(b'\n', &self.block.text[self.scanned..]) {
            let line_feed = self.scanned + found;
            self.end_line(line_feed);
            if self.is_full() {
                return Some(self.cut());
            }
        }
        self.scanned = self.block.text.len();
        self.drop_excess();
        None
    }

    /// The last block of a whole object. Its last line may lack its line feed.
    pub fn finish(mut self) -> Option<Block> {
        if self.start < self.block.text.len() {
            self.push_span(self.block.text.len() - self.start);
        }
        self.finish_broken()
    }

    /// The last block of an object that broke off. What stands behind the last line feed is no line.
    pub fn finish_broken(self) -> Option<Block> {
        (!self.block.is_empty()).then_some(self.block)
    }

    /// Ends the current line at `line_feed`.
    fn end_line(&mut self, line_feed: usize) {
        let length = line_feed - self.start;
        let carriage_return = self.dropped == 0 && self.block.text[self.start..line_feed].last() == Some(&b'\r');
        self.push_span(length - usize::from(carriage_return));
        self.offset += length as u64 + 1 + self.dropped;
        self.dropped = 0;
        self.start += length + 1;
        self.scanned = self.start;
    }

    /// Notes the current line, of which `length` bytes are there, unless it is blank.
    fn push_span(&mut self, length: usize) {
        let kept = length.min(self.limits.line_bytes);
        if kept > 0 || self.dropped > 0 {
            self.drop_blank_start();
            let truncated = self.dropped > 0 || length > self.limits.line_bytes;
            self.block.spans.push(Span { start: self.start, end: self.start + kept, offset: self.offset, truncated });
        }
    }

    /// Forgets the blank lines at the start of a block. They leave no span, so any number of them could pile up there.
    fn drop_blank_start(&mut self) {
        if self.block.is_empty() && self.start > 0 {
            self.block.text.drop_front(self.start);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.start = 0;
        }
    }

    fn is_full(&self) -> bool {
        // Measured in the object, because the buffer also depends on how the text was cut into pieces.
        let covered = self.block.spans.first().map_or(0, |first| self.offset - first.offset);
        self.block.len() >= self.limits.block_lines || covered >= self.limits.block_bytes as u64
    }

    /// Takes the block up to the current line, whose beginning moves to a new one.
    fn cut(&mut self) -> Block {
        let next = Block { text: Buffer::from(&self.block.text[self.start..]), spans: Vec::new() };
        let mut block = std::mem::replace(&mut self.block, next);
        block.text.truncate(self.start);
        (self.start, self.scanned) = (0, 0);
        block
    }

    /// Keeps memory bounded inside a line that is too long. Its limit and one byte more are kept, because that byte may be the
    /// carriage return of a line that is just short enough.
    fn drop_excess(&mut self) {
        let keep = self.start + self.limits.line_bytes + 1;
        if self.block.text.len() > keep {
            self.dropped += (self.block.text.len() - keep) as u64;
            self.block.text.truncate(keep);
            self.scanned = keep;
        }
        self.drop_blank_start();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: LineLimits = LineLimits { line_bytes: 8, block_lines: 3, block_bytes: 16 };

    /// The lines as `offset:text`, `!` for a truncated one, and `|` where a block ends.
    fn show(text: &[u8], piece: usize, whole: bool) -> String {
        let mut lines = LineSplitter::new(LIMITS);
        let mut shown = Vec::new();
        let mut show = |block: Block| {
            shown.extend(block.lines().map(|Line { text, offset, truncated }| {
                format!("{offset}:{}{}", text.escape_ascii(), if truncated { "!" } else { "" })
            }));
            shown.push("|".to_owned());
        };
        for piece in text.chunks(piece) {
            lines.buffer().put(piece);
            while let Some(block) = lines.next_block() {
                show(block);
            }
        }
        let last = if whole { lines.finish() } else { lines.finish_broken() };
        last.map(&mut show);
        shown.join(" ")
    }

    macro_rules! lines {
        ($($name:ident: $text:literal => $expected:literal,)*) => {
            $(#[test] fn $name() { assert_eq!(show($text, usize::MAX, true), $expected); })*
        };
    }

    lines! {
        nothing: b"" => "",
        one: b"a\n" => "0:a |",
        last_line_without_line_feed: b"a\nb" => "0:a 2:b |",
        carriage_return_belongs_to_the_end: b"a\r\nb\r\n" => "0:a 3:b |",
        one_carriage_return_only: b"a\r\r\n" => "0:a\\r |",
        carriage_return_without_line_feed_is_text: b"a\r" => "0:a\\r |",
        blank_lines_are_no_lines_but_count: b"\n\r\na\n\n" => "3:a |",
        only_blank_lines: b"\n\n\r\n" => "",
        spaces_are_a_line: b"  \n" => "0:   |",
        longest_line: b"12345678\n" => "0:12345678 |",
        longest_line_with_carriage_return: b"12345678\r\n" => "0:12345678 |",
        too_long: b"123456789\nb\n" => "0:12345678! 10:b |",
        much_too_long: b"123456789012345678901234567890\nb\n" => "0:12345678! | 31:b |",
        too_long_by_its_carriage_return: b"12345678\r\r\nb\n" => "0:12345678! 11:b |",
        too_long_at_the_end: b"b\n1234567890" => "0:b 2:12345678! |",
        carriage_return_at_the_limit_without_line_feed: b"12345678\r" => "0:12345678! |",
        block_of_three: b"a\nb\nc\nd\n" => "0:a 2:b 4:c | 6:d |",
        block_of_sixteen_bytes: b"1234567\n1234567\nd\n" => "0:1234567 8:1234567 | 16:d |",
    }

    #[test]
    fn bytes_behind_the_last_line_feed_of_a_broken_object_are_no_line() {
        assert_eq!(show(b"a\nb", usize::MAX, false), "0:a |");
        assert_eq!(show(b"a", usize::MAX, false), "");
    }

    #[test]
    fn memory_stays_bounded_inside_an_endless_line_and_among_blank_ones() {
        for byte in [b'x', b'\n'] {
            let mut lines = LineSplitter::new(LIMITS);
            for _ in 0..1_000 {
                lines.buffer().put(&[byte; 100]);
                assert!(lines.next_block().is_none());
                assert!(lines.buffer().len() <= 9, "{} bytes of {:?} are kept", lines.buffer().len(), char::from(byte));
            }
        }
    }

    #[test]
    fn memory_of_another_block_is_used_and_its_lines_are_not() {
        let mut other = LineSplitter::new(LIMITS);
        other.reserve_block(|| None);
        other.buffer().put(b"x\ny\n");
        assert!(other.next_block().is_none());
        let other = other.finish().expect("a block");
        let capacity = other.text.capacity();
        let mut lines = LineSplitter::new(LIMITS);
        lines.buffer().put(b"a\nb");
        assert!(lines.next_block().is_none());
        lines.reserve_block(|| Some(other));
        assert_eq!(lines.buffer().capacity(), capacity);
        lines.reserve_block(|| panic!("there is room"));
        lines.buffer().put(b"c\n");
        assert!(lines.next_block().is_none());
        let block = lines.finish().expect("a block");
        let found: Vec<_> = block.lines().map(|line| (line.offset, line.text)).collect();
        assert_eq!(found, [(0, b"a".as_slice()), (2, b"bc")]);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines_and_blocks(
            text in prop::collection::vec(prop::sample::select(b"ab\r\n\n".as_slice()), 0..200),
            piece in 1_usize..40,
        ) {
            prop_assert_eq!(show(&text, piece, true), show(&text, usize::MAX, true));
            prop_assert_eq!(show(&text, piece, false), show(&text, usize::MAX, false));
        }

        #[test]
        fn lines_are_those_of_a_naive_split(text in prop::collection::vec(prop::sample::select(b"ab\r\n\n".as_slice()), 0..200)) {
            let mut expected = Vec::new();
            let mut offset = 0;
            for piece in text.split_inclusive(|&byte| byte == b'\n') {
                let line = piece.strip_suffix(b"\n").map_or(piece, |line| line.strip_suffix(b"\r").unwrap_or(line));
                if !line.is_empty() {
                    let cut = &line[..line.len().min(LIMITS.line_bytes)];
                    expected.push(format!("{offset}:{}{}", cut.escape_ascii(), if cut.len() < line.len() { "!" } else { "" }));
                }
                offset += piece.len();
            }
            let shown = show(&text, 7, true);
            let found: Vec<&str> = shown.split(' ').filter(|word| !word.is_empty() && *word != "|").collect();
            prop_assert_eq!(found, expected);
        }
    }
}
