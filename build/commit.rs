// Finds the commit of a clone in git's own files, so that a build does not need git. Included by `build.rs`, and by its test.

use std::fs;
use std::path::{Path, PathBuf};

/// Length of a commit as it is shown.
const SHORT: usize = 12;

/// A commit, and the files that change with it.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The start of the commit's hash.
    pub(crate) short: String,
    /// The files that the hash was read from.
    pub(crate) files: Vec<PathBuf>,
}

/// Returns the commit that is checked out in `root`, or none if it is not the root of a clone.
pub(crate) fn find(root: &Path) -> Option<Commit> {
    let directory = git_directory(&root.join(".git"))?;
    let head = directory.join("HEAD");
    let text = fs::read_to_string(&head).ok()?;
    // The branches of a linked worktree are in the directory of the main one.
    let common = fs::read_to_string(directory.join("commondir")).ok();
    let common = common.map_or_else(|| directory.clone(), |path| directory.join(path.trim()));
    let (hash, file) = match text.trim().strip_prefix("ref: ") {
        None => (text.trim().to_owned(), head.clone()),
        Some(branch) => hash_of(&common, branch)?,
    };
    let short = hash.get(..SHORT).filter(|short| short.bytes().all(|byte| byte.is_ascii_hexdigit()))?.to_owned();
    Some(Commit { short, files: vec![head, file] })
}

/// Returns the directory `.git`; in a linked worktree, `.git` is a file that names it.
fn git_directory(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let text = fs::read_to_string(path).ok()?;
    Some(path.parent()?.join(text.strip_prefix("gitdir: ")?.trim()))
}

/// Returns the hash of a branch, and the file that contains it.
fn hash_of(directory: &Path, branch: &str) -> Option<(String, PathBuf)> {
    let loose = directory.join(branch);
    if let Ok(hash) = fs::read_to_string(&loose) {
        return Some((hash.trim().to_owned(), loose));
    }
    let packed = directory.join("packed-refs");
    let text = fs::read_to_string(&packed).ok()?;
    let hash = text.lines().find_map(|line| line.strip_suffix(branch)?.strip_suffix(' '))?;
    Some((hash.to_owned(), packed))
}
