//! The event's id: the same for the same line, whatever way it came.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::buffer::Buffer;
use crate::origin::ObjectName;

/// The part of an id that all lines of an object share: the first 32 hex digits of the SHA-256 of bucket and key.
///
/// Load balancers never rewrite a key, since it ends in a random part. The ETag is no part of the id: it changes when an object
/// is encrypted anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// The prefix for an object.
    pub fn of(object: &ObjectName) -> Self {
        let digest = Sha256::new()
            .chain_update(object.bucket.as_bytes())
            .chain_update(b"\n")
            .chain_update(object.key.as_bytes())
            .chain_update(b"\n")
            .finalize();
        let mut prefix = String::with_capacity(32);
        for byte in &digest[..16] {
            // Writing to a string cannot fail.
            let _ = write!(prefix, "{byte:02x}");
        }
        IdPrefix(prefix)
    }

    /// The 32 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Appends the id of the line at `offset`: prefix, `-`, and the offset.
    pub fn write(&self, out: &mut Buffer, offset: u64) {
        out.put(self.0.as_bytes());
        out.push(b'-');
        Offset::of(offset).write(out);
    }
}

/// In ids, offsets have at least 12 digits of the 20 that there can be, so that ids sort as lines do.
const MOST_ZEROS: usize = 8;

/// An offset in digits.
pub(super) struct Offset {
    digits: [u8; 20],
    start: usize,
}

impl Offset {
    pub(super) fn of(offset: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut significant = itoa::Buffer::new();
        let significant = significant.format(offset).as_bytes();
        let start = digits.len() - significant.len();
        digits[start..].copy_from_slice(significant);
        Offset { digits, start }
    }

    /// Appends it as it stands in ids.
    pub(super) fn write(&self, out: &mut Buffer) {
        out.put(&self.digits[self.start.min(MOST_ZEROS)..]);
    }

    /// Appends it as a number.
    pub(super) fn write_number(&self, out: &mut Buffer) {
        out.put(&self.digits[self.start..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bucket: &str, key: &str, offset: u64, expected: &str) {
        let mut id = Buffer::default();
        IdPrefix::of(&ObjectName { bucket: bucket.to_owned(), key: key.to_owned() }).write(&mut id, offset);
        assert_eq!(String::from_utf8_lossy(&id), expected);
    }

    // The digests are those of `printf 'logs\nkey\n' | sha256sum`.
    #[test]
    fn id_is_the_digest_of_bucket_and_key_and_the_offset() {
        check("logs", "key", 0, "303024456c5ba67324277814fb68c45c-000000000000");
        check("logs", "key", 1834, "303024456c5ba67324277814fb68c45c-000000001834");
        check("logs", "key", 999_999_999_999, "303024456c5ba67324277814fb68c45c-999999999999");
        check("logs", "key", 1_000_000_000_000, "303024456c5ba67324277814fb68c45c-1000000000000");
        check("logs", "key", u64::MAX, "303024456c5ba67324277814fb68c45c-18446744073709551615");
        check("", "a/ä.log", 7, "901dfd7a9360a752dee4b781e59a8bce-000000000007");
    }
}
