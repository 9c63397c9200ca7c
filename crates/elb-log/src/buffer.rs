//! A byte buffer that is optimised for many short writes.
//!
//! An event consists of about 150 pieces, most of them shorter than 32 bytes. `Vec<u8>` calls the C library's `memcpy` for each
//! piece, which took a third of the time to write an event. [`Buffer`] copies a short piece with two moves of a fixed size that
//! may overlap, or with one move of a fixed size that may write beyond the piece. The compiler turns such moves into a few
//! instructions.

use std::ops::Deref;

use bytes::Bytes;

/// Maximum length of a [`Literal`].
const LITERAL_BYTES: usize = 48;

/// A growable byte buffer. It dereferences to the bytes written so far.
///
/// The memory is zeroed once, when it is allocated. A buffer that is reused therefore costs neither zeroing nor page faults.
///
/// ```
/// use elb_log::buffer::Buffer;
///
/// let mut out = Buffer::default();
/// out.put(b"key=");
/// out.push(b'7');
/// assert_eq!(&out[..], b"key=7");
/// ```
#[derive(Clone, Default)]
pub struct Buffer {
    /// The bytes from `len` on are spare capacity, and their values have no meaning.
    bytes: Vec<u8>,
    len: usize,
}

/// A short text that is known at compile time and is appended with a single move of a fixed size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Literal {
    bytes: [u8; LITERAL_BYTES],
    len: u8,
}

impl Literal {
    /// Makes a literal of a text of at most 48 bytes.
    ///
    /// # Panics
    /// Panics if the text is longer, which in a constant is a compile error.
    pub(crate) const fn new(text: &str) -> Self {
        assert!(text.len() <= LITERAL_BYTES, "a literal is longer than 48 bytes");
        let mut bytes = [0; LITERAL_BYTES];
        let mut at = 0;
        while at < text.len() {
            bytes[at] = text.as_bytes()[at];
            at += 1;
        }
        Literal { bytes, len: text.len() as u8 }
    }

    /// Returns the bytes of the text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl Buffer {
    /// Makes an empty buffer that holds at least `bytes` bytes without growing.
    ///
    /// Capacity that is never written to costs no physical memory, because the operating system allocates a page on first use.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Buffer { bytes: vec![0; bytes + LITERAL_BYTES], len: 0 }
    }

    /// Appends bytes.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.bytes.get_mut(self.len..end) {
            Some(spare) => copy(spare, bytes),
            None => self.put_slowly(bytes),
        }
        self.len = end;
    }

    /// Appends one byte.
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.len) {
            Some(spare) => *spare = byte,
            None => self.put_slowly(&[byte]),
        }
        self.len += 1;
    }

    /// Appends a literal.
    #[inline(always)]
    pub(crate) fn put_literal(&mut self, literal: &Literal) {
        match self.bytes.get_mut(self.len..).and_then(|spare| spare.first_chunk_mut()) {
            Some(spare) => *spare = literal.bytes,
            None => self.put_slowly(literal.as_bytes()),
        }
        self.len += usize::from(literal.len);
    }

    /// Appends a literal, bytes, and a suffix of known length.
    ///
    /// One update of the length is faster than three, because each update waits for the one before.
    #[inline(always)]
    pub(crate) fn put_parts<const N: usize>(&mut self, literal: &Literal, bytes: &[u8], suffix: &[u8; N]) {
        let start = usize::from(literal.len);
        let end = start + bytes.len();
        match self.bytes.get_mut(self.len..self.len + end + N + LITERAL_BYTES) {
            Some(spare) => {
                spare[..LITERAL_BYTES].copy_from_slice(&literal.bytes);
                copy(&mut spare[start..end], bytes);
                spare[end..end + N].copy_from_slice(suffix);
                self.len += end + N;
            }
            None => {
                self.put_literal(literal);
                self.put(bytes);
                self.put(suffix);
            }
        }
    }

    /// Inserts bytes at `at` and moves the following bytes to the right.
    pub(crate) fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.put(bytes);
        self.bytes[at..self.len].rotate_right(bytes.len());
    }

    /// Replaces the byte at `at`.
    pub(crate) fn set(&mut self, at: usize, byte: u8) {
        self.bytes[..self.len][at] = byte;
    }

    /// Keeps the first `len` bytes and drops the rest.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Drops all bytes and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Drops the first `length` bytes and moves the rest to the front.
    pub(crate) fn drop_front(&mut self, length: usize) {
        self.bytes.copy_within(length..self.len, 0);
        self.len -= length;
    }

    /// Returns `length` bytes of spare capacity to write to. [`Buffer::advance`] appends the bytes that were written.
    pub(crate) fn spare_mut(&mut self, length: usize) -> &mut [u8] {
        let end = self.len + length;
        if end > self.bytes.len() {
            self.grow(end);
        }
        &mut self.bytes[self.len..end]
    }

    /// Appends the first `length` bytes of the spare capacity.
    pub(crate) fn advance(&mut self, length: usize) {
        self.len = self.bytes.len().min(self.len + length);
    }

    /// Returns the size of the allocated memory in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Converts the buffer into immutable bytes without a copy.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        self.bytes.truncate(self.len);
        self.bytes.into()
    }

    /// Makes an empty buffer in the memory of `bytes`. If the memory is shared, the buffer starts without memory.
    pub(crate) fn reuse(bytes: Bytes) -> Self {
        let Ok(bytes) = bytes.try_into_mut() else { return Buffer::default() };
        let mut bytes = Vec::from(bytes);
        bytes.resize(bytes.capacity(), 0);
        Buffer { bytes, len: 0 }
    }

    /// Grows the buffer and writes bytes after its end. The caller adds their length.
    #[cold]
    #[inline(never)]
    fn put_slowly(&mut self, bytes: &[u8]) {
        self.spare_mut(bytes.len()).copy_from_slice(bytes);
    }

    /// Grows in steps that leave at most a fifth of the memory unused, because the function may have only 128 MB.
    #[cold]
    fn grow(&mut self, needed: usize) {
        let target = needed + needed / 4 + LITERAL_BYTES;
        self.bytes.reserve_exact(target - self.bytes.len());
        self.bytes.resize(self.bytes.capacity(), 0);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).field("capacity", &self.capacity()).finish()
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        Buffer { bytes: bytes.to_vec(), len: bytes.len() }
    }
}

/// Copies `from` to `to`, which has the same length.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    let length = from.len();
    if length > 64 {
        to.copy_from_slice(from);
    } else if length > 32 {
        copy_ends::<32>(to, from);
    } else if length >= 16 {
        copy_ends::<16>(to, from);
    } else if length >= 8 {
        copy_ends::<8>(to, from);
    } else if length >= 4 {
        copy_ends::<4>(to, from);
    } else if length > 0 {
        // One to three bytes: the first, the middle and the last one.
        to[0] = from[0];
        to[length / 2] = from[length / 2];
        to[length - 1] = from[length - 1];
    }
}

/// Copies the first `N` and the last `N` bytes, which together are all bytes of a slice of at most `2 * N` bytes.
#[inline(always)]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn copies_every_length_and_nothing_else() {
        let text: Vec<u8> = (0..=255).collect();
        for length in 0..=200 {
            let mut buffer = Buffer::default();
            buffer.put(b"before");
            buffer.put(&text[..length]);
            buffer.put(b"after");
            assert_eq!(&buffer[..], [b"before".as_slice(), &text[..length], b"after"].concat(), "{length} bytes");
        }
    }

    #[test]
    fn reuses_memory_unless_it_is_shared() {
        let mut buffer = Buffer::default();
        buffer.put(&[1; 1_000]);
        let capacity = buffer.capacity();
        let bytes = buffer.into_bytes();
        let clone = bytes.clone();
        assert_eq!(Buffer::reuse(bytes).capacity(), 0, "a clone shares the memory");
        let reused = Buffer::reuse(clone);
        assert_eq!((reused.len(), reused.capacity()), (0, capacity));
    }

    #[derive(Clone, Debug)]
    enum Change {
        Put(Vec<u8>),
        Push(u8),
        Literal(String),
        Parts(String, Vec<u8>, u8),
        Insert(usize, Vec<u8>),
        Set(usize, u8),
        Truncate(usize),
        DropFront(usize),
        Spare(Vec<u8>, usize),
        Reuse,
    }

    fn changes() -> impl Strategy<Value = Change> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..150);
        prop_oneof![
            8 => bytes().prop_map(Change::Put),
            4 => any::<u8>().prop_map(Change::Push),
            4 => "[a-z]{0,48}".prop_map(Change::Literal),
            8 => ("[a-z]{0,48}", bytes(), any::<u8>()).prop_map(|(literal, bytes, last)| Change::Parts(literal, bytes, last)),
            1 => (any::<usize>(), bytes()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
            1 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            1 => any::<usize>().prop_map(Change::Truncate),
            1 => any::<usize>().prop_map(Change::DropFront),
            1 => (bytes(), 0_usize..100).prop_map(|(bytes, more)| Change::Spare(bytes, more)),
            1 => Just(Change::Reuse),
        ]
    }

    /// Makes the same change to a buffer and to a vector.
    fn apply(change: Change, buffer: &mut Buffer, vec: &mut Vec<u8>) {
        match change {
            Change::Insert(at, bytes) => {
                let at = at % (vec.len() + 1);
                buffer.insert(at, &bytes);
                vec.splice(at..at, bytes);
            }
            Change::Set(at, byte) if !vec.is_empty() => {
                let at = at % vec.len();
                buffer.set(at, byte);
                vec[at] = byte;
            }
            Change::Set(..) => {}
            Change::Truncate(length) => {
                let length = length % (vec.len() + 1);
                buffer.truncate(length);
                vec.truncate(length);
            }
            Change::DropFront(length) => {
                let length = length % (vec.len() + 1);
                buffer.drop_front(length);
                vec.drain(..length);
            }
            Change::Reuse => {
                *buffer = Buffer::reuse(std::mem::take(buffer).into_bytes());
                vec.clear();
            }
            appended => vec.extend(append(appended, buffer)),
        }
    }

    /// Makes a change that appends bytes, and returns these bytes.
    fn append(change: Change, buffer: &mut Buffer) -> Vec<u8> {
        match change {
            Change::Put(bytes) => {
                buffer.put(&bytes);
                bytes
            }
            Change::Push(byte) => {
                buffer.push(byte);
                vec![byte]
            }
            Change::Literal(text) => {
                buffer.put_literal(&Literal::new(&text));
                text.into_bytes()
            }
            Change::Parts(literal, bytes, last) => {
                buffer.put_parts(&Literal::new(&literal), &bytes, &[last]);
                buffer.put_parts(&Literal::new(&literal), &bytes, b"");
                [literal.as_bytes(), &bytes, &[last], literal.as_bytes(), &bytes].concat()
            }
            Change::Spare(bytes, more) => {
                buffer.spare_mut(bytes.len() + more)[..bytes.len()].copy_from_slice(&bytes);
                buffer.advance(bytes.len());
                bytes
            }
            other => panic!("{other:?} does not append"),
        }
    }

    proptest! {
        #[test]
        fn holds_the_bytes_that_a_vector_would_hold(changes in prop::collection::vec(changes(), 0..40)) {
            let (mut buffer, mut vec) = (Buffer::default(), Vec::new());
            for change in changes {
                apply(change, &mut buffer, &mut vec);
                prop_assert_eq!(&buffer[..], &vec[..]);
            }
        }
    }
}
