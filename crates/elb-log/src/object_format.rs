//! Recognises objects whose text has no lines of a load balancer: formats and packings that are not read.

use crate::lines::BYTE_ORDER_MARK;

/// What the first bytes of an object's text say about its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectFormat {
    /// The bytes are too few to know.
    Unknown,
    /// Text that may have lines of a load balancer.
    Text,
    /// A format that is not read.
    Unsupported(UnsupportedFormat),
}

/// A format that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsupportedFormat {
    /// What the object is, as the subject of a sentence in the singular: `a W3C log`, `zstd data`.
    pub name: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

const VENDED_ADVICE: &str =
    "set the output format of the delivery destination in CloudWatch Logs (outputFormat) to json or plain";
const PACKING_ADVICE: &str = "decompress the object, or compress it with gzip";

/// Any byte, in the first bytes of a format.
const ANY: u8 = 0xFF;

/// The first bytes of formats that are not read. Text that begins like gzip was compressed more than twice.
const FORMATS: [(&[u8], UnsupportedFormat); 10] = [
    (b"#Version", UnsupportedFormat { name: "a W3C log", advice: VENDED_ADVICE }),
    (b"#Fields:", UnsupportedFormat { name: "a W3C log", advice: VENDED_ADVICE }),
    (b"PAR1", UnsupportedFormat { name: "parquet", advice: VENDED_ADVICE }),
    (b"\x1F\x8B\x08", UnsupportedFormat { name: "gzip data that was compressed more than twice", advice: PACKING_ADVICE }),
    (b"\x28\xB5\x2F\xFD", UnsupportedFormat { name: "zstd data", advice: PACKING_ADVICE }),
    (b"BZh\xFF1AY&SY", UnsupportedFormat { name: "bzip2 data", advice: PACKING_ADVICE }),
    (b"PK\x03\x04", UnsupportedFormat { name: "a zip archive", advice: PACKING_ADVICE }),
    (b"\xFD7zXZ\0", UnsupportedFormat { name: "xz data", advice: PACKING_ADVICE }),
    (b"\x04\x22\x4D\x18", UnsupportedFormat { name: "lz4 data", advice: PACKING_ADVICE }),
    (b"7z\xBC\xAF\x27\x1C", UnsupportedFormat { name: "a 7z archive", advice: PACKING_ADVICE }),
];

impl ObjectFormat {
    /// Recognises the format of an object whose text begins with these bytes.
    ///
    /// ```
    /// use elb_log::object_format::ObjectFormat;
    ///
    /// assert_eq!(ObjectFormat::of(b"h2 2026-03-02T10:15:04Z"), ObjectFormat::Text);
    /// assert_eq!(ObjectFormat::of(b"PA"), ObjectFormat::Unknown);
    /// let ObjectFormat::Unsupported(format) = ObjectFormat::of(b"PAR1") else { panic!("parquet is not read") };
    /// assert_eq!(format.name, "parquet");
    /// ```
    pub fn of(text: &[u8]) -> Self {
        if BYTE_ORDER_MARK.starts_with(text) {
            return ObjectFormat::Unknown;
        }
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        let common = |start: &[u8]| start.iter().zip(text).all(|(&expected, &byte)| expected == byte || expected == ANY);
        match FORMATS.iter().find(|(start, _)| common(start)) {
            Some((start, _)) if text.len() < start.len() => ObjectFormat::Unknown,
            Some((_, format)) => ObjectFormat::Unsupported(*format),
            None => ObjectFormat::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expected: &str) {
        let name = |format| match format {
            ObjectFormat::Unknown => "unknown",
            ObjectFormat::Text => "text",
            ObjectFormat::Unsupported(format) => format.name,
        };
        assert_eq!(name(ObjectFormat::of(text)), expected, "{}", text.escape_ascii());
        if expected != "text" {
            // The format is found once enough bytes are there, and is not mistaken for text before.
            let found: Vec<&str> = (0..text.len()).map(|length| name(ObjectFormat::of(&text[..length]))).collect();
            assert!(found.iter().all(|found| *found == "unknown" || *found == expected), "{found:?}");
        }
    }

    macro_rules! formats {
        ($($name:ident: $text:literal => $expected:literal,)*) => {
            $(#[test] fn $name() { check($text, $expected); })*
        };
    }

    formats! {
        log_line: b"h2 2026-03-02T10:15:04Z app/web/1" => "text",
        log_line_after_a_byte_order_mark: b"\xEF\xBB\xBFh2 2026" => "text",
        nothing: b"" => "unknown",
        byte_order_mark: b"\xEF\xBB\xBF" => "unknown",
        w3c_version: b"#Version: 1.0\n" => "a W3C log",
        w3c_fields: b"#Fields: time elb\n" => "a W3C log",
        w3c_after_a_byte_order_mark: b"\xEF\xBB\xBF#Fields: time elb\n" => "a W3C log",
        comment: b"#comment\n" => "text",
        parquet: b"PAR1\x15\x04" => "parquet",
        gzip: b"\x1F\x8B\x08\0\0" => "gzip data that was compressed more than twice",
        zstd: b"\x28\xB5\x2F\xFD\x04" => "zstd data",
        bzip2: b"BZh91AY&SY\0" => "bzip2 data",
        text_that_begins_like_bzip2: b"BZh9 and more" => "text",
        zip: b"PK\x03\x04\x14" => "a zip archive",
        xz: b"\xFD7zXZ\0\0" => "xz data",
        lz4: b"\x04\x22\x4D\x18\x64" => "lz4 data",
        seven_zip: b"7z\xBC\xAF\x27\x1C\0" => "a 7z archive",
    }
}
