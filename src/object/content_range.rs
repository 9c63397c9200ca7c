//! The `Content-Range` header of a partial response: which bytes of an object its body contains.

/// The range of a partial response: `bytes 100-199/200`. RFC 9110, section 14.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    /// The position of the first byte.
    first: u64,
    /// The position of the last byte.
    last: u64,
    /// The length of the whole object in bytes, unless it is `*`.
    total: Option<u64>,
}

impl ContentRange {
    /// Parses a header. A response without it contains the whole object: the store ignored the requested range.
    ///
    /// # Errors
    /// The header is missing or invalid. The text is for an error.
    pub(super) fn of(header: Option<&str>) -> Result<Self, String> {
        let header = header.ok_or("the store sent the whole object instead of the rest")?;
        let parsed = ContentRange::parse(header).filter(|range| range.first <= range.last);
        parsed.ok_or_else(|| format!("the store sent the invalid Content-Range {header:?}"))
    }

    fn parse(header: &str) -> Option<Self> {
        let (range, total) = header.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        Some(ContentRange { first: first.parse().ok()?, last: last.parse().ok()?, total })
    }

    /// Checks that a response contains the object's bytes from `at` on. `length` is the length of the whole object, and
    /// `content_length` that of the response, both if they are known.
    ///
    /// # Errors
    /// The response contains other bytes. The text is for an error.
    pub(super) fn check(self, at: u64, length: Option<u64>, content_length: Option<i64>) -> Result<(), String> {
        let ContentRange { first, last, total } = self;
        if first != at {
            return Err(format!("the store sent the bytes from {first} on instead of those from {at} on"));
        }
        if let (Some(total), Some(length)) = (total, length)
            && total != length
        {
            return Err(format!("the store says that the object has {total} bytes, and said before that it has {length}"));
        }
        if total.is_some_and(|total| last.checked_add(1) != Some(total)) {
            return Err(format!("the store sent only the bytes {first}-{last}, and not the rest of the object"));
        }
        let announced = content_length.map(u64::try_from);
        if announced.is_some_and(|announced| announced.ok().and_then(|bytes| bytes.checked_sub(1)) != Some(last - first)) {
            return Err(format!("the store sent the bytes {first}-{last} with another Content-Length"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_headers() {
        let range = |header| ContentRange::of(Some(header)).map(|range| (range.first, range.last, range.total)).ok();
        assert_eq!(range("bytes 100-199/200"), Some((100, 199, Some(200))));
        assert_eq!(range("bytes 0-0/*"), Some((0, 0, None)));
        for invalid in ["", "bytes */200", "bytes 100-199", "bytes 200-199/300", "items 1-2/3", "bytes -1-2/3", "bytes 1-2/x"] {
            assert_eq!(range(invalid), None, "{invalid:?}");
        }
        assert!(ContentRange::of(None).is_err());
    }

    #[test]
    fn accepts_only_the_bytes_that_were_asked_for() {
        let range = ContentRange { first: 100, last: 199, total: Some(200) };
        let unknown = ContentRange { total: None, ..range };
        for (range, at, length, content_length, accepted) in [
            (range, 100, Some(200), Some(100), true),
            (range, 100, None, None, true),
            (unknown, 100, Some(200), Some(100), true),
            (range, 99, Some(200), Some(100), false),
            (range, 101, Some(200), Some(100), false),
            (range, 100, Some(201), Some(100), false),
            (range, 100, Some(200), Some(99), false),
            (range, 100, Some(200), Some(-1), false),
        ] {
            assert_eq!(
                range.check(at, length, content_length).is_ok(),
                accepted,
                "{range:?} for {at}, {length:?}, {content_length:?}"
            );
        }
    }

    #[test]
    fn the_largest_range_does_not_overflow() {
        let range = ContentRange::of(Some(&format!("bytes 0-{}/*", u64::MAX))).unwrap();
        assert!(range.check(0, None, Some(1)).is_err());
    }
}
