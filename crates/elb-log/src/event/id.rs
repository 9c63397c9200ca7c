//! Event ids. A line always gets the same id: live, from a queue, in a replay, and from a copy under the original name.

use sha2::{Digest, Sha256};

use crate::buffer::Buffer;
use crate::origin::ObjectName;

/// The part of an id that all lines of an object share: the first 32 hex digits of the SHA-256 of bucket and key.
///
/// Load balancers never write to the same key again, because keys end in a random part. The ETag is not part of the id, because
/// it changes when an object is encrypted with another key.
///
/// ```
/// use elb_log::event::IdPrefix;
/// use elb_log::origin::ObjectName;
///
/// let name = ObjectName { bucket: "logs".to_owned(), key: "key".to_owned() };
/// assert_eq!(IdPrefix::of(&name).as_str(), "303024456c5ba67324277814fb68c45c");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix(String);

impl IdPrefix {
    /// Computes the prefix of an object.
    pub fn of(object: &ObjectName) -> Self {
        let digest = Sha256::new()
            .chain_update(object.bucket.as_bytes())
            .chain_update(b"\n")
            .chain_update(object.key.as_bytes())
            .chain_update(b"\n")
            .finalize();
        IdPrefix(hex::encode(&digest[..16]))
    }

    /// Returns the 32 hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Appends the id of the line at `offset`: prefix, `-`, and the offset with at least 12 digits.
    pub fn write(&self, out: &mut Buffer, offset: u64) {
        out.put(self.0.as_bytes());
        out.push(b'-');
        Offset::of(offset).write(out);
    }
}

/// Number of leading zeros that ids may omit: ids have at least 12 of 20 digits, so that they sort in the order of lines.
const OMITTED_ZEROS: usize = 8;

/// The decimal digits of an offset, formatted once for the id and for `log.offset`.
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

    /// Appends the offset in the form of ids, with leading zeros.
    pub(super) fn write(&self, out: &mut Buffer) {
        out.put(&self.digits[self.start.min(OMITTED_ZEROS)..]);
    }

    /// Appends the offset as a JSON number.
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

    // The expected digests come from `printf 'logs\nkey\n' | sha256sum`.
    #[test]
    fn an_id_is_a_digest_of_bucket_and_key_and_the_offset() {
        check("logs", "key", 0, "303024456c5ba67324277814fb68c45c-000000000000");
        check("logs", "key", 1834, "303024456c5ba67324277814fb68c45c-000000001834");
        check("logs", "key", 999_999_999_999, "303024456c5ba67324277814fb68c45c-999999999999");
        check("logs", "key", 1_000_000_000_000, "303024456c5ba67324277814fb68c45c-1000000000000");
        check("logs", "key", u64::MAX, "303024456c5ba67324277814fb68c45c-18446744073709551615");
        check("", "a/ä.log", 7, "901dfd7a9360a752dee4b781e59a8bce-000000000007");
    }
}
