//! A buffer for what is written in many small pieces.
//!
//! An event is some hundred and fifty pieces, most of them shorter than 32 bytes. A `Vec` hands each of them to the C library's
//! copy, and that was a third of the time that an event took. Here a short piece is copied by two moves of a fixed size that may
//! overlap, or by one move of a fixed size that may write beyond the piece, which the compiler makes into a few instructions.

use std::ops::Deref;

use bytes::Bytes;

/// The longest [`Literal`].
const LITERAL_BYTES: usize = 48;

/// Bytes that grow at the end.
///
/// Its memory is initialised when it is allocated and never again, so a buffer that is used again and again costs neither that
/// nor the page faults of new memory.
#[derive(Clone, Default)]
pub struct Buffer {
    /// What is behind `len` is room, of no meaning.
    bytes: Vec<u8>,
    len: usize,
}

/// A text that is known when the program is compiled, ready to be copied in one move.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Literal {
    bytes: [u8; LITERAL_BYTES],
    len: u8,
}

impl Literal {
    /// A piece of this text, of at most 48 bytes; a longer one does not compile in a constant.
    pub const fn new(text: &str) -> Self {
        assert!(text.len() <= LITERAL_BYTES, "longer than a piece can be");
        let mut bytes = [0; LITERAL_BYTES];
        let mut at = 0;
        while at < text.len() {
            bytes[at] = text.as_bytes()[at];
            at += 1;
        }
        Literal { bytes, len: text.len() as u8 }
    }

    /// Its text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl Buffer {
    /// An empty buffer that need not grow before it holds so many bytes. What is never written to costs no memory: the system gives
    /// pages when they are touched.
    pub fn with_capacity(bytes: usize) -> Self {
        Buffer { bytes: vec![0; bytes + LITERAL_BYTES], len: 0 }
    }

    /// Appends bytes.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.bytes.get_mut(self.len..end) {
            Some(room) => copy(room, bytes),
            None => self.put_slowly(bytes),
        }
        self.len = end;
    }

    /// Appends a byte.
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        match self.bytes.get_mut(self.len) {
            Some(room) => *room = byte,
            None => self.put_slowly(&[byte]),
        }
        self.len += 1;
    }

    /// Appends a piece.
    #[inline(always)]
    pub fn put_literal(&mut self, piece: &Literal) {
        match self.bytes.get_mut(self.len..).and_then(|room| room.first_chunk_mut()) {
            Some(room) => *room = piece.bytes,
            None => self.put_slowly(piece.as_bytes()),
        }
        self.len += usize::from(piece.len);
    }

    /// Appends a piece, bytes, and a few more bytes whose number is known. Writing the end of a buffer once costs less than writing
    /// it three times, because each time has to wait for the one before.
    #[inline(always)]
    pub fn put_parts<const N: usize>(&mut self, piece: &Literal, bytes: &[u8], last: &[u8; N]) {
        let start = usize::from(piece.len);
        let end = start + bytes.len();
        match self.bytes.get_mut(self.len..self.len + end + N + LITERAL_BYTES) {
            Some(room) => {
                room[..LITERAL_BYTES].copy_from_slice(&piece.bytes);
                copy(&mut room[start..end], bytes);
                room[end..end + N].copy_from_slice(last);
                self.len += end + N;
            }
            None => {
                self.put_literal(piece);
                self.put(bytes);
                self.put(last);
            }
        }
    }

    /// Puts bytes before those that stand at `at`.
    pub fn insert(&mut self, at: usize, bytes: &[u8]) {
        self.put(bytes);
        self.bytes[at..self.len].rotate_right(bytes.len());
    }

    /// Changes the byte at `at`.
    pub fn set(&mut self, at: usize, byte: u8) {
        self.bytes[..self.len][at] = byte;
    }

    /// Forgets all but the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets the first `length` bytes, and moves the rest to the front.
    pub fn drop_front(&mut self, length: usize) {
        self.bytes.copy_within(length..self.len, 0);
        self.len -= length;
    }

    /// `length` bytes of room, to be written to and then taken by [`Buffer::fill`].
    pub fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.len + length;
        if end > self.bytes.len() {
            self.grow(end);
        }
        &mut self.bytes[self.len..end]
    }

    /// Appends the first `length` bytes of the room.
    pub fn fill(&mut self, length: usize) {
        self.len = self.bytes.len().min(self.len + length);
    }

    /// How much memory it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Its bytes for good, without a copy.
    pub fn into_bytes(mut self) -> Bytes {
        self.bytes.truncate(self.len);
        self.bytes.into()
    }

    /// An empty buffer in the memory of bytes that nobody else holds any more; a new one where somebody does.
    pub fn reuse(bytes: Bytes) -> Self {
        let Ok(bytes) = bytes.try_into_mut() else { return Buffer::default() };
        let mut bytes = Vec::from(bytes);
        bytes.resize(bytes.capacity(), 0);
        Buffer { bytes, len: 0 }
    }

    /// Writes bytes for which there was no room to where the buffer ends.
    #[cold]
    #[inline(never)]
    fn put_slowly(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    /// In steps that leave at most a fifth unused, since memory is what bounds the function.
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

/// Copies to a place of the same length.
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
        // The first, the second if there are two or three, and the last.
        to[0] = from[0];
        to[length / 2] = from[length / 2];
        to[length - 1] = from[length - 1];
    }
}

/// Copies the first `N` bytes and the last ones; between them nothing is left if there are at most `2 * N`.
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
    fn pieces_of_every_length_arrive_whole_and_touch_nothing_else() {
        let text: Vec<u8> = (0..=255).collect();
        for length in 0..=200 {
            let mut buffer = Buffer::default();
            buffer.put(b"before");
            buffer.put(&text[..length]);
            buffer.put(b"behind");
            assert_eq!(&buffer[..], [b"before", &text[..length], b"behind"].concat(), "a piece of {length} bytes");
        }
    }

    #[test]
    fn what_is_taken_back_is_used_again() {
        let mut buffer = Buffer::default();
        buffer.put(&[1; 1_000]);
        let capacity = buffer.capacity();
        let bytes = buffer.into_bytes();
        let held = bytes.clone();
        assert_eq!(Buffer::reuse(bytes).capacity(), 0, "somebody holds the bytes, so their memory is not free");
        let reused = Buffer::reuse(held);
        assert_eq!((reused.len(), reused.capacity()), (0, capacity));
    }

    #[derive(Clone, Debug)]
    enum Change {
        Put(Vec<u8>),
        Push(u8),
        Literal(String),
        All(String, Vec<u8>, u8),
        Insert(usize, Vec<u8>),
        Set(usize, u8),
        Truncate(usize),
        DropFront(usize),
        Room(Vec<u8>, usize),
        Reuse,
    }

    fn changes() -> impl Strategy<Value = Change> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..150);
        prop_oneof![
            8 => bytes().prop_map(Change::Put),
            4 => any::<u8>().prop_map(Change::Push),
            4 => "[a-z]{0,48}".prop_map(Change::Literal),
            8 => ("[a-z]{0,48}", bytes(), any::<u8>()).prop_map(|(piece, bytes, last)| Change::All(piece, bytes, last)),
            1 => (any::<usize>(), bytes()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
            1 => (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            1 => any::<usize>().prop_map(Change::Truncate),
            1 => any::<usize>().prop_map(Change::DropFront),
            1 => (bytes(), 0_usize..100).prop_map(|(bytes, more)| Change::Room(bytes, more)),
            1 => Just(Change::Reuse),
        ]
    }

    proptest! {
        #[test]
        fn it_holds_what_a_vector_would(changes in prop::collection::vec(changes(), 0..40)) {
            let (mut buffer, mut vec) = (Buffer::default(), Vec::new());
            for change in changes {
                match change {
                    Change::Put(bytes) => {
                        buffer.put(&bytes);
                        vec.extend_from_slice(&bytes);
                    }
                    Change::Push(byte) => {
                        buffer.push(byte);
                        vec.push(byte);
                    }
                    Change::Literal(text) => {
                        buffer.put_literal(&Literal::new(&text));
                        vec.extend_from_slice(text.as_bytes());
                    }
                    Change::All(piece, bytes, last) => {
                        buffer.put_parts(&Literal::new(&piece), &bytes, &[last]);
                        buffer.put_parts(&Literal::new(&piece), &bytes, b"");
                        vec.extend([piece.as_bytes(), &bytes, &[last], piece.as_bytes(), &bytes].concat());
                    }
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
                    Change::Room(bytes, more) => {
                        buffer.room(bytes.len() + more)[..bytes.len()].copy_from_slice(&bytes);
                        buffer.fill(bytes.len());
                        vec.extend_from_slice(&bytes);
                    }
                    Change::Reuse => {
                        buffer = Buffer::reuse(buffer.into_bytes());
                        vec.clear();
                    }
                }
                prop_assert_eq!(&buffer[..], &vec[..]);
            }
        }
    }
}
