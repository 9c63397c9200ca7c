//! The inputs kept for the fuzz targets: those that once failed, and odd ones that must not begin to.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

#[path = "../../../../fuzz/checks.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets use the same file from another crate")]
mod checks;

#[track_caller]
fn replay(target: &str, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.expect("a directory entry").path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "nothing is kept in {}", directory.display());
    inputs.retain(|path| {
        let input = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        catch_unwind(|| check(&input)).is_err()
    });
    assert!(inputs.is_empty(), "these fail as said above, in this order: {inputs:#?}");
}

#[test]
fn lines() {
    replay("lines", checks::lines);
}

#[test]
fn parse() {
    replay("parse", checks::parse);
}

#[test]
fn event() {
    replay("event", checks::event);
}
