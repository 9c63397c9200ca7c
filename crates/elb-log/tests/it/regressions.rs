//! Replays the inputs that are kept for the fuzz targets: inputs that failed once, and unusual inputs.

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
    assert!(!inputs.is_empty(), "{} has no inputs", directory.display());
    inputs.retain(|path| {
        let input = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        catch_unwind(|| check(&input)).is_err()
    });
    assert!(inputs.is_empty(), "these inputs failed, in the order of the messages above: {inputs:#?}");
}

#[test]
fn lines_inputs_pass() {
    replay("lines", checks::lines);
}

#[test]
fn parse_inputs_pass() {
    replay("parse", checks::parse);
}

#[test]
fn event_inputs_pass() {
    replay("event", checks::event);
}
