//! Files that a command writes. They are opened before the command begins its work, and standard output or a pipe is never
//! truncated, whatever its name is.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, IsTerminal as _, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Names of the process's standard error.
const STDERR: [&str; 3] = ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"];

/// A file to write.
#[derive(Debug)]
pub(crate) enum Output {
    /// Standard output, also under a name such as `/dev/stdout`, or if the file is the one that standard output is redirected to.
    Stdout,
    /// Standard error, in the same ways.
    Stderr,
    /// A pipe, a device, or a file behind a symbolic link.
    InPlace(File),
    /// A plain file, which is replaced as a whole, so that a reader never sees half of it. It may not exist yet.
    Replaced(PathBuf),
}

impl Output {
    /// Opens a file, and changes nothing of it yet. `-` is standard output. A new file gets the permissions `mode`, as far as the
    /// umask allows.
    ///
    /// # Errors
    /// The file, or its directory, cannot be written.
    pub(crate) fn open(target: &str, mode: u32) -> io::Result<Output> {
        if target == "-" {
            return Ok(Output::Stdout);
        }
        let path = Path::new(target);
        let existing = fs::metadata(path).ok();
        if STDERR.contains(&target) || existing.as_ref().is_some_and(|file| is_same(file, io::stderr().as_fd())) {
            // On a terminal, both are the same file.
            let is_stdout = existing.as_ref().is_some_and(|file| is_same(file, io::stdout().as_fd()));
            return Ok(if is_stdout && !STDERR.contains(&target) { Output::Stdout } else { Output::Stderr });
        }
        if existing.as_ref().is_some_and(|file| is_same(file, io::stdout().as_fd())) {
            return Ok(Output::Stdout);
        }
        if fs::symlink_metadata(path).map_or(true, |metadata| metadata.is_file()) {
            return Ok(Output::Replaced(path.to_owned()));
        }
        OpenOptions::new().write(true).create(true).truncate(false).mode(mode).open(path).map(Output::InPlace)
    }

    /// Returns a temporary file without a name, in the directory of a file that will be replaced.
    ///
    /// # Errors
    /// The temporary file cannot be created.
    pub(crate) fn spool(&self) -> io::Result<File> {
        match self {
            Output::Replaced(path) => tempfile::tempfile_in(directory_of(path)),
            Output::Stdout | Output::Stderr | Output::InPlace(_) => tempfile::tempfile(),
        }
    }

    /// Writes the whole content. A file that is replaced keeps its permissions.
    ///
    /// # Errors
    /// The content cannot be written.
    pub(crate) fn write(self, content: &mut dyn Read, mode: u32) -> io::Result<()> {
        match self {
            Output::Stdout => copy(content, &mut io::stdout()),
            Output::Stderr => copy(content, &mut io::stderr()),
            Output::InPlace(mut file) => {
                truncate(&file)?;
                copy(content, &mut file)
            }
            Output::Replaced(path) => replace(&path, content, mode),
        }
    }

    /// Returns a writer for what arrives little by little. It truncates a plain file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn into_writer(self) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Output::Stdout => Box::new(io::stdout()),
            Output::Stderr => Box::new(io::stderr()),
            Output::InPlace(file) => {
                truncate(&file)?;
                Box::new(file)
            }
            Output::Replaced(path) => Box::new(File::create(path)?),
        })
    }
}

/// Returns whether a file is the one that is open here. Devices such as `/dev/null` can be open in several places without being
/// shared, unless they are terminals.
fn is_same(file: &Metadata, open: BorrowedFd<'_>) -> bool {
    let Ok(open) = open.try_clone_to_owned().map(File::from) else { return false };
    let Ok(metadata) = open.metadata() else { return false };
    let is_shared = !metadata.file_type().is_char_device() || open.is_terminal();
    is_shared && (file.dev(), file.ino()) == (metadata.dev(), metadata.ino())
}

fn truncate(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

fn copy(content: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    io::copy(content, to)?;
    to.flush()
}

fn replace(path: &Path, content: &mut dyn Read, mode: u32) -> io::Result<()> {
    let mut unfinished = tempfile::Builder::new();
    let unfinished = unfinished.prefix(".").suffix(".unfinished").permissions(Permissions::from_mode(mode));
    let mut unfinished = unfinished.tempfile_in(directory_of(path))?;
    io::copy(content, unfinished.as_file_mut())?;
    if let Ok(replaced) = fs::metadata(path) {
        unfinished.as_file().set_permissions(replaced.permissions())?;
    }
    unfinished.as_file().sync_all()?;
    unfinished.persist(path)?;
    Ok(())
}

fn directory_of(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).to_owned()
}
