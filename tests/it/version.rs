//! The version of the command line, and the commit in it.

use std::path::Path;

use crate::support::{as_text, assert_status, elbship, run, stdout};

mod commit {
    include!("../../build/commit.rs");
}

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

/// Writes a file of a clone.
fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("creating directories");
    std::fs::write(path, text).expect("writing a file");
}

#[test]
fn finds_the_commit_without_git() {
    let root = tempfile::tempdir().expect("a directory");
    let found = |name: &str| commit::find(&root.path().join(name)).map(|commit| commit.short);
    let write = |name: &str, text: &str| write(root.path(), name, text);
    write("branch/.git/HEAD", "ref: refs/heads/main\n");
    write("branch/.git/refs/heads/main", &format!("{HASH}\n"));
    write("packed/.git/HEAD", "ref: refs/heads/main\n");
    let older = "f".repeat(40);
    write("packed/.git/packed-refs", &format!("# pack-refs\n{older} refs/heads/not/main\n{HASH} refs/heads/main\n"));
    write("detached/.git/HEAD", &format!("{HASH}\n"));
    write("worktree/.git", "gitdir: ../branch/.git/worktrees/x\n");
    write("branch/.git/worktrees/x/HEAD", "ref: refs/heads/other\n");
    write("branch/.git/worktrees/x/commondir", "../..\n");
    write("branch/.git/refs/heads/other", &format!("{HASH}\n"));
    for clone in ["branch", "packed", "detached", "worktree"] {
        assert_eq!(found(clone).as_deref(), Some(&HASH[..12]), "{clone}");
    }
    write("empty/.git/HEAD", "ref: refs/heads/unborn\n");
    write("strange/.git/HEAD", "no hash\n");
    for archive in ["missing", "empty", "strange"] {
        assert_eq!(found(archive), None, "{archive}");
    }
    let files = commit::find(&root.path().join("branch")).expect("a commit").files;
    let names: Vec<String> = files.iter().map(|file| as_text(file.strip_prefix(root.path()).expect("a file"))).collect();
    assert_eq!(names, ["branch/.git/HEAD", "branch/.git/refs/heads/main"], "a new commit would not change the version");
}

#[tokio::test]
async fn the_version_says_what_was_built() {
    for arguments in [&["--version"][..], &["replay", "--version"]] {
        let output = run(&mut elbship(arguments)).await;
        assert_status(&output, 0);
        let version = stdout(&output);
        assert!(version.starts_with("elbship") && version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        assert!(version.contains("(debug build)") || version.contains("(commit ") || !version.contains('('), "{version}");
    }
}
