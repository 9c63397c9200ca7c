//! Splits an object's text into lines, in bounded memory and without I/O.
//!
//! Lines are returned in blocks, because the following stages (parsing, event writing, compression) process a block at a time,
//! and several blocks in parallel:
//!
//! ```
//! use elb_log::lines::{LineLimits, LineSplitter};
//!
//! let mut lines = LineSplitter::new(LineLimits { line_bytes: 1 << 20, block_lines: 2_000, block_bytes: 1 << 20 });
//! let mut found = Vec::new();
//! for chunk in ["one\ntw", "o\r\n", "three"] {
//!     lines.buffer().put(chunk.as_bytes());
//!     while let Some(block) = lines.next_block() {
//!         found.extend(block.lines().map(|line| (line.offset, line.text.to_vec())));
//!     }
//! }
//! let last = lines.finish().unwrap_or_default();
//! found.extend(last.lines().map(|line| (line.offset, line.text.to_vec())));
//! assert_eq!(found, [(0, b"one".to_vec()), (4, b"two".to_vec()), (9, b"three".to_vec())]);
//! ```

use memchr::memchr;

use crate::buffer::Buffer;

/// Limits of lines and of blocks.
#[derive(Clone, Copy, Debug)]
pub struct LineLimits {
    /// Maximum length of a line in bytes; `MAX_LINE_BYTES`. A longer line is cut off.
    pub line_bytes: usize,
    /// Maximum number of lines in a block.
    pub block_lines: usize,
    /// Number of bytes of the object's text after which a block is full.
    pub block_bytes: usize,
}

/// What some programs write at the start of a text. It is not part of the first line, which begins at offset 3.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Number of bytes that the buffer holds beyond a full block: one inflate step, and one line.
const BEYOND_BLOCK_BYTES: usize = 80 * 1024;

/// Maximum number of bytes reserved for a block. Larger blocks grow while they are filled.
const MAX_RESERVED_BYTES: usize = 16 << 20;

/// Consecutive lines of one object.
#[derive(Debug, Default)]
pub struct Block {
    text: Buffer,
    spans: Vec<Span>,
    end: u64,
}

/// One line, without its line feed and without a carriage return directly before the line feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The bytes of the line.
    pub text: &'a [u8],
    /// The offset of the line in the object's decompressed text.
    pub offset: u64,
    /// Whether the line was longer than the limit and is cut off.
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
    /// Returns the lines in their order.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.spans.iter().map(|&Span { start, end, offset, truncated }| Line { text: &self.text[start..end], offset, truncated })
    }

    /// Returns the number of lines.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns whether the block has no lines.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns the offset in the object's decompressed text at which the next block begins. Splitting from there with
    /// [`LineSplitter::start_at`] returns the blocks that follow this one.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn clear(&mut self) {
        self.text.clear();
        self.spans.clear();
    }
}

/// Splits text that arrives in chunks into blocks of lines. Blank lines, which are empty or of spaces only, are skipped, and so is a
/// byte-order mark at the start of the object.
///
/// Append text to [`LineSplitter::buffer`], then call [`LineSplitter::next_block`] until it returns none. At the end of the object
/// call [`LineSplitter::finish`]. Blocks depend only on the text, not on its chunks.
#[derive(Debug)]
pub struct LineSplitter {
    limits: LineLimits,
    block: Block,
    /// End of the text that has been searched for line feeds.
    scanned: usize,
    /// Start of the current line in the buffer.
    start: usize,
    /// Offset of the current line in the object.
    offset: u64,
    /// Number of bytes of the current line that were dropped because the line is too long.
    dropped: u64,
}

impl LineSplitter {
    /// Makes a splitter for one object.
    pub fn new(limits: LineLimits) -> Self {
        LineSplitter { limits, block: Block::default(), scanned: 0, start: 0, offset: 0, dropped: 0 }
    }

    /// Makes sure that the buffer has capacity for a whole block, and takes the memory from the block that `recycle` returns.
    ///
    /// Call it directly before text is appended, not when a block is returned: a long time may pass in between, and the memory is
    /// not needed during that time.
    pub fn reserve_block(&mut self, recycle: impl FnOnce() -> Option<Block>) {
        let capacity = self.limits.block_bytes.min(MAX_RESERVED_BYTES) + BEYOND_BLOCK_BYTES;
        if self.block.text.capacity() < capacity {
            let mut larger = recycle().unwrap_or_default();
            larger.clear();
            if larger.text.capacity() < capacity {
                larger.text = Buffer::with_capacity(capacity);
            }
            larger.text.put(&self.block.text);
            larger.spans.extend_from_slice(&self.block.spans);
            self.block = larger;
        }
    }

    /// Sets the offset of the text that is appended next. Call it before any text is appended, with the start of a line.
    pub fn start_at(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Changes the maximum length of a line.
    pub fn set_max_line_bytes(&mut self, bytes: usize) {
        self.limits.line_bytes = bytes;
    }

    /// Returns the buffer to append text to.
    pub fn buffer(&mut self) -> &mut Buffer {
        &mut self.block.text
    }

    /// Returns a full block; none if the text so far does not fill one.
    pub fn next_block(&mut self) -> Option<Block> {
        self.skip_byte_order_mark();
        while let Some(found) = memchr(b'\n', &self.block.text[self.scanned..]) {
            let line_feed = self.scanned + found;
            self.end_line(line_feed);
            if self.is_full() {
                return Some(self.take_block());
            }
        }
        self.scanned = self.block.text.len();
        self.drop_excess();
        None
    }

    /// Returns the last block of a complete object. Its last line may lack the line feed.
    pub fn finish(mut self) -> Option<Block> {
        self.skip_byte_order_mark();
        let length = self.block.text.len() - self.start;
        if length > 0 {
            self.push_span(length);
            self.offset += length as u64 + self.dropped;
        }
        self.finish_broken()
    }

    /// Returns the last block of an object that could not be read to its end. The bytes after the last line feed are dropped,
    /// because they are only a part of a line.
    pub fn finish_broken(mut self) -> Option<Block> {
        self.block.end = self.offset;
        (!self.block.is_empty()).then_some(self.block)
    }

    fn skip_byte_order_mark(&mut self) {
        if self.offset == 0 && self.block.text.starts_with(BYTE_ORDER_MARK) {
            self.start = BYTE_ORDER_MARK.len();
            self.scanned = self.scanned.max(self.start);
            self.offset = self.start as u64;
        }
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

    /// Adds the current line, of which the buffer holds `length` bytes, unless the line is blank.
    fn push_span(&mut self, length: usize) {
        let kept = length.min(self.limits.line_bytes);
        let truncated = self.dropped > 0 || length > self.limits.line_bytes;
        // Of a line that is too long, only the start is known.
        if truncated || !is_blank(&self.block.text[self.start..self.start + kept]) {
            self.drop_leading_blank_lines();
            self.block.spans.push(Span { start: self.start, end: self.start + kept, offset: self.offset, truncated });
        }
    }

    /// Drops the blank lines at the start of a block. They have no span and would otherwise use memory without limit.
    fn drop_leading_blank_lines(&mut self) {
        if self.block.is_empty() && self.start > 0 {
            self.block.text.drop_front(self.start);
            self.scanned = self.scanned.saturating_sub(self.start);
            self.start = 0;
        }
    }

    fn is_full(&self) -> bool {
        // Measured in the object, because the size of the buffer also depends on the chunks.
        let covered = self.block.spans.first().map_or(0, |first| self.offset - first.offset);
        self.block.len() >= self.limits.block_lines || covered >= self.limits.block_bytes as u64
    }

    /// Returns the block up to the current line, and moves the start of that line to a new block.
    fn take_block(&mut self) -> Block {
        let next = Block { text: Buffer::from(&self.block.text[self.start..]), ..Block::default() };
        let mut block = std::mem::replace(&mut self.block, next);
        block.text.truncate(self.start);
        block.end = self.offset;
        (self.start, self.scanned) = (0, 0);
        block
    }

    /// Bounds the memory of a line that is too long. One byte more than the limit is kept, because this byte may be the carriage
    /// return of a line that is just short enough.
    fn drop_excess(&mut self) {
        let keep = self.start + self.limits.line_bytes + 1;
        if self.block.text.len() > keep {
            self.dropped += (self.block.text.len() - keep) as u64;
            self.block.text.truncate(keep);
            self.scanned = keep;
        }
        self.drop_leading_blank_lines();
    }
}

/// Returns whether a line has nothing but spaces.
#[inline]
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|&byte| byte == b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: LineLimits = LineLimits { line_bytes: 8, block_lines: 3, block_bytes: 16 };

    /// Returns the blocks of the text from `start` on.
    fn blocks(text: &[u8], start: usize, chunk: usize, complete: bool) -> Vec<Block> {
        let mut lines = LineSplitter::new(LIMITS);
        lines.start_at(start as u64);
        let mut blocks = Vec::new();
        for chunk in text[start..].chunks(chunk) {
            lines.buffer().put(chunk);
            while let Some(block) = lines.next_block() {
                blocks.push(block);
            }
        }
        blocks.extend(if complete { lines.finish() } else { lines.finish_broken() });
        blocks
    }

    /// Shows the lines as `offset:text`, with `!` after a truncated line and `|` at the end of a block.
    fn show_blocks(blocks: &[Block]) -> String {
        let mut shown = Vec::new();
        for block in blocks {
            shown.extend(block.lines().map(|Line { text, offset, truncated }| {
                format!("{offset}:{}{}", text.escape_ascii(), if truncated { "!" } else { "" })
            }));
            shown.push("|".to_owned());
        }
        shown.join(" ")
    }

    fn show(text: &[u8], chunk: usize, complete: bool) -> String {
        show_blocks(&blocks(text, 0, chunk, complete))
    }

    macro_rules! lines {
        ($($name:ident: $text:literal => $expected:literal,)*) => {
            $(#[test] fn $name() { assert_eq!(show($text, usize::MAX, true), $expected); })*
        };
    }

    lines! {
        empty_text: b"" => "",
        one_line: b"a\n" => "0:a |",
        last_line_without_line_feed: b"a\nb" => "0:a 2:b |",
        removes_the_carriage_return_before_a_line_feed: b"a\r\nb\r\n" => "0:a 3:b |",
        removes_only_one_carriage_return: b"a\r\r\n" => "0:a\\r |",
        keeps_a_carriage_return_without_line_feed: b"a\r" => "0:a\\r |",
        skips_blank_lines_but_counts_their_bytes: b"\n\r\na\n\n" => "3:a |",
        only_blank_lines: b"\n\n\r\n" => "",
        skips_lines_of_spaces: b"  \n \r\na\n   " => "6:a |",
        keeps_a_line_of_spaces_that_is_too_long: b"         \n" => "0:        ! |",
        skips_a_byte_order_mark: b"\xEF\xBB\xBFa\nb\n" => "3:a 5:b |",
        skips_a_byte_order_mark_before_a_blank_line: b"\xEF\xBB\xBF\r\nb\n" => "5:b |",
        only_a_byte_order_mark: b"\xEF\xBB\xBF" => "",
        keeps_a_second_byte_order_mark: b"\xEF\xBB\xBF\xEF\xBB\xBFa\n" => "3:\\xef\\xbb\\xbfa |",
        keeps_a_byte_order_mark_after_the_start: b"a\n\xEF\xBB\xBFb\n" => "0:a 2:\\xef\\xbb\\xbfb |",
        line_of_maximum_length_after_a_byte_order_mark: b"\xEF\xBB\xBF12345678\n" => "3:12345678 |",
        line_of_maximum_length: b"12345678\n" => "0:12345678 |",
        line_of_maximum_length_with_carriage_return: b"12345678\r\n" => "0:12345678 |",
        line_one_byte_too_long: b"123456789\nb\n" => "0:12345678! 10:b |",
        line_that_covers_more_than_a_block: b"123456789012345678901234567890\nb\n" => "0:12345678! | 31:b |",
        line_too_long_by_a_carriage_return: b"12345678\r\r\nb\n" => "0:12345678! 11:b |",
        last_line_too_long_without_line_feed: b"b\n1234567890" => "0:b 2:12345678! |",
        last_line_too_long_by_a_carriage_return: b"12345678\r" => "0:12345678! |",
        ends_a_block_after_three_lines: b"a\nb\nc\nd\n" => "0:a 2:b 4:c | 6:d |",
        ends_a_block_after_sixteen_bytes: b"1234567\n1234567\nd\n" => "0:1234567 8:1234567 | 16:d |",
    }

    #[test]
    fn drops_the_last_partial_line_of_a_broken_object() {
        assert_eq!(show(b"a\nb", usize::MAX, false), "0:a |");
        assert_eq!(show(b"a", usize::MAX, false), "");
    }

    #[test]
    fn a_block_ends_where_the_next_line_begins() {
        let ends = |text: &[u8], complete| blocks(text, 0, 2, complete).iter().map(Block::end).collect::<Vec<_>>();
        assert_eq!(ends(b"a\nb\r\nc\n\nd", true), [7, 9]);
        assert_eq!(ends(b"a\nb\r\nc\n\nd", false), [7]);
        assert_eq!(ends(b"a\n1234567890", true), [12], "the end includes the bytes that were cut off");
    }

    #[test]
    fn memory_is_bounded_in_long_lines_and_among_blank_lines() {
        for byte in [b'x', b'\n'] {
            let mut lines = LineSplitter::new(LIMITS);
            for _ in 0..1_000 {
                lines.buffer().put(&[byte; 100]);
                assert!(lines.next_block().is_none());
                assert!(lines.buffer().len() <= 9, "the buffer holds {} bytes of {:?}", lines.buffer().len(), char::from(byte));
            }
        }
    }

    #[test]
    fn recycles_the_memory_of_a_block_but_not_its_lines() {
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
        lines.reserve_block(|| panic!("the buffer already has the capacity"));
        lines.buffer().put(b"c\n");
        assert!(lines.next_block().is_none());
        let block = lines.finish().expect("a block");
        let found: Vec<_> = block.lines().map(|line| (line.offset, line.text)).collect();
        assert_eq!(found, [(0, b"a".as_slice()), (2, b"bc")]);
    }

    /// Text of lines that are often blank, in one of two cases after a byte-order mark.
    fn text_with_marks() -> impl Strategy<Value = Vec<u8>> {
        let text = prop::collection::vec(prop::sample::select(b"abc \r\n\n".as_slice()), 0..300);
        (any::<bool>(), text).prop_map(|(mark, text)| if mark { [BYTE_ORDER_MARK, &text].concat() } else { text })
    }

    proptest! {
        #[test]
        fn blocks_do_not_depend_on_the_chunks(
            text in text_with_marks(),
            chunk in 1_usize..40,
        ) {
            prop_assert_eq!(show(&text, chunk, true), show(&text, usize::MAX, true));
            prop_assert_eq!(show(&text, chunk, false), show(&text, usize::MAX, false));
        }

        #[test]
        fn splitting_from_the_end_of_a_block_returns_the_blocks_after_it(
            text in text_with_marks(),
            chunk in 1_usize..40,
            complete: bool,
        ) {
            let all = blocks(&text, 0, usize::MAX, complete);
            for (index, block) in all.iter().enumerate() {
                let end = usize::try_from(block.end()).expect("a short text");
                prop_assert_eq!(show_blocks(&blocks(&text, end, chunk, complete)), show_blocks(&all[index + 1..]));
            }
        }

        #[test]
        fn finds_the_lines_of_a_naive_split(text in prop::collection::vec(prop::sample::select(b"ab \r\n\n".as_slice()), 0..200)) {
            let mut expected = Vec::new();
            let mut offset = 0;
            for line_with_end in text.split_inclusive(|&byte| byte == b'\n') {
                let line = line_with_end.strip_suffix(b"\n").map_or(line_with_end, |line| line.strip_suffix(b"\r").unwrap_or(line));
                if line.len() > LIMITS.line_bytes || line.iter().any(|&byte| byte != b' ') {
                    let cut = &line[..line.len().min(LIMITS.line_bytes)];
                    expected.push(format!("{offset}:{}{}", cut.escape_ascii(), if cut.len() < line.len() { "!" } else { "" }));
                }
                offset += line_with_end.len();
            }
            let shown = show(&text, 7, true);
            let expected: Vec<&str> = expected.iter().flat_map(|line| line.split(' ')).filter(|word| !word.is_empty()).collect();
            let found: Vec<&str> = shown.split(' ').filter(|word| !word.is_empty() && *word != "|").collect();
            prop_assert_eq!(found, expected);
        }
    }
}
