//! Writes a small file in one step: a path and the file's content come in, and the file exists completely or not at all.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Creates or replaces the file `path`, and creates its directory if necessary. The call blocks until the disk has the file.
///
/// A reader sees the previous file or the whole new one, also after a power failure. Concurrent calls may name the same path:
/// the content of one of them remains. Only the file's owner can read it (mode 0600). A symbolic link at `path` is replaced and
/// never followed.
///
/// # Errors
/// The directory or the file cannot be created, written, or synced to the disk. `path` is a directory.
pub(crate) fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new(""));
    create_directory(directory)?;
    // The name is random and must be new (`O_EXCL`), so neither another writer nor a planted link can own it.
    let mut unfinished = tempfile::Builder::new().prefix(".").suffix(".unfinished").tempfile_in(or_current(directory))?;
    unfinished.write_all(content)?;
    unfinished.as_file().sync_all()?;
    unfinished.persist(path)?;
    sync_directory(directory)
}

/// Creates a directory and the missing ones above it.
fn create_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> =
        directory.ancestors().take_while(|ancestor| !or_current(ancestor).exists()).map(Path::to_owned).collect();
    fs::create_dir_all(or_current(directory))?;
    // The name of a new directory is on the disk when the directory above it is synced.
    missing.iter().filter_map(|created| created.parent()).try_for_each(sync_directory)
}

/// Syncs a directory, so that a power failure does not lose the names in it. Some file systems (FUSE, CIFS, 9P) have no such call,
/// and a directory that this user cannot read is not opened. There the names are as safe as the file system makes them.
fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(or_current(directory)).and_then(|directory| directory.sync_all()) {
        Err(error) if is_no_such_call(error.kind()) => Ok(()),
        synced => synced,
    }
}

fn is_no_such_call(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

/// Returns a path that can be opened: the directory of a bare file name is the current one.
fn or_current(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Returns the names in a directory.
    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn replaces_a_file_and_leaves_no_other() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        let path = directory.join("state.json");
        for content in ["longer content", "short"] {
            write_atomically(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(names(&directory), ["state.json"]);
    }

    #[test]
    fn only_the_owner_can_read_the_file() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x");
        fs::write(&path, "readable by all").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_atomically(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn never_follows_a_planted_link() {
        let root = tempfile::tempdir().unwrap();
        let (victim, path) = (root.path().join("victim"), root.path().join("x.gz"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        // A temporary name that can be guessed would be such a link.
        symlink(&victim, root.path().join("x.unfinished")).unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "the target of the link was overwritten");
        assert!(!path.is_symlink() && fs::read_to_string(&path).unwrap() == "new", "the link was not replaced by the file");
    }

    #[test]
    fn writers_of_one_path_do_not_disturb_each_other() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("one");
        let content = |writer: u8| vec![writer; 10_000];
        std::thread::scope(|scope| {
            let write = |writer| write_atomically(&path, &content(writer));
            let writers: Vec<_> = (0..50).map(|writer| scope.spawn(move || write(writer))).collect();
            for writer in writers {
                writer.join().unwrap().unwrap();
            }
        });
        let written = fs::read(&path).unwrap();
        assert_eq!(written, content(written[0]), "the file contains the content of several writers");
        assert_eq!(names(root.path()), ["one"], "a temporary file remains");
    }

    #[test]
    fn writes_into_a_directory_that_cannot_be_read() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("write-only");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o300)).unwrap();
        write_atomically(&directory.join("x"), b"new").unwrap();
        assert_eq!(fs::read(directory.join("x")).unwrap(), b"new");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_file_system_without_the_call_is_no_error() {
        for errno in [22, 95] {
            assert!(is_no_such_call(io::Error::from_raw_os_error(errno).kind()), "error {errno} fails every write");
        }
        assert!(!is_no_such_call(io::Error::from_raw_os_error(5).kind()), "an input/output error counts as a success");
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("directory");
        fs::create_dir(&path).unwrap();
        write_atomically(&path, b"new").unwrap_err();
        assert_eq!(names(root.path()), ["directory"]);
        write_atomically(&root.path().join("directory/x/y"), b"new").unwrap();
        write_atomically(&root.path().join("directory/x/y/z"), b"new").unwrap_err();
    }
}
