//! Bodies that arrive in small pieces, break, or are not log objects.

use std::sync::Arc;

use elb_log::lines::LineLimits;

use super::body::Body;
use super::error::ObjectError;
use super::reader::ObjectReader;
use super::test_s3::{Answer, Step, TestS3, name};
use crate::buffer_pool::BufferPool;

const LIMITS: LineLimits = LineLimits { line_bytes: 60, block_lines: 2, block_bytes: 1_000 };

/// Maximum length of a dead-letter line.
const DEAD_LETTER_LINE_BYTES: usize = 500;

/// Reads an object that arrives in pieces of `size` bytes, and returns its lines and how it ended.
async fn read(text: &'static str, size: usize, end: Step) -> (Vec<String>, Result<(), ObjectError>) {
    let s3 = TestS3::new(move |_, _| {
        let pieces = text.as_bytes().chunks(size).map(Step::Data);
        Answer::Response { status: 200, headers: Vec::new(), body: pieces.chain([end]).collect() }
    });
    let object = s3.open().await.unwrap();
    let mut reader = ObjectReader::new(name(), object, LIMITS, Some(DEAD_LETTER_LINE_BYTES), Arc::new(BufferPool::new(1)));
    lines_of(&mut reader).await
}

async fn lines_of(reader: &mut ObjectReader) -> (Vec<String>, Result<(), ObjectError>) {
    let mut lines = Vec::new();
    loop {
        match reader.next_block().await {
            Ok(Some(block)) => lines.extend(block.lines().map(|line| String::from_utf8(line.text.to_vec()).unwrap())),
            Ok(None) => return (lines, Ok(())),
            Err(error) => {
                assert!(matches!(reader.next_block().await, Ok(None)), "something follows the error");
                return (lines, Err(error));
            }
        }
    }
}

/// The end of a complete body.
const COMPLETE: Step = Step::Data(b"");

#[tokio::test(start_paused = true)]
async fn lines_do_not_depend_on_the_pieces_of_the_body() {
    for size in [1, 2, 5, 1_000] {
        let (lines, end) = read("one\ntwo\nthree\n\nlast", size, COMPLETE).await;
        assert_eq!(lines, ["one", "two", "three", "last"], "in pieces of {size} bytes");
        end.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_body_has_only_its_complete_lines() {
    for size in [1, 1_000] {
        let (lines, end) = read("one\ntwo\nthree\nhal", size, Step::Break).await;
        assert_eq!(lines, ["one", "two", "three"], "in pieces of {size} bytes");
        assert!(matches!(end, Err(ObjectError::Unreadable { at: 17, .. })), "{end:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unsupported_format_is_detected_in_pieces() {
    for (text, expected) in [
        ("#Version: 1.0\nx\n", "a W3C log"),
        ("#Fields: a b\nx\n", "a W3C log"),
        ("PAR1\n\0", "parquet"),
        ("PK\x03\x04", "a zip archive"),
    ] {
        for size in [1, 3, 1_000] {
            let (lines, end) = read(text, size, COMPLETE).await;
            let Err(ObjectError::UnsupportedFormat { format, .. }) = end else { panic!("{text:?} was read: {lines:?}") };
            assert_eq!((format.name, lines.len()), (expected, 0), "{text:?} in pieces of {size} bytes");
        }
    }
    for (text, lines) in [("#Vers", 1), ("P", 1), ("#comment\nPAR\n", 2), ("", 0)] {
        let (read, end) = read(text, 1, COMPLETE).await;
        assert_eq!((read.len(), end.is_ok()), (lines, true), "{text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_detected_in_pieces() {
    let long: &str = format!(r#"{{"elbship":"dead-letter/1","id":"{}"}}"#, "7".repeat(300)).leak();
    for size in [1, 10, 1_000] {
        let (lines, end) = read(long, size, COMPLETE).await;
        assert_eq!(lines, [long], "in pieces of {size} bytes");
        end.unwrap();
    }
    let other: &str = long.replace("dead-letter/1", "dead-letter/9").leak();
    let (lines, _) = read(other, 1, COMPLETE).await;
    assert_eq!(lines, [&other[..60]], "a line of another format is not cut off");
}

#[tokio::test]
async fn a_file_that_shrinks_is_broken() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.log");
    std::fs::write(&path, "one\ntwo\nhal").unwrap();
    let mut object = super::dir::open_file(&name(), &path).await.unwrap();
    assert!(matches!(object.body, Body::File(_)));
    // The length that the file had when it was opened.
    object.length = Some(12);
    let mut reader = ObjectReader::new(name(), object, LIMITS, None, Arc::new(BufferPool::new(1)));
    let (lines, end) = lines_of(&mut reader).await;
    assert_eq!(lines, ["one", "two"]);
    assert!(matches!(end, Err(ObjectError::Short { at: 11, length: 12, .. })), "{end:?}");
}
