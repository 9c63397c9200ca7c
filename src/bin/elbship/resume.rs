//! The state file of `--resume`: the objects that were delivered completely, so that an interrupted run can continue.
//!
//! The file is lines of JSON. The first line identifies the run, and each other line names a delivered object:
//!
//! ```text
//! {"state_of":"elbship replay","version":1,"run":{"paths":["s3://logs/"],"to":"https://logstash.example:8443/",…}}
//! {"bucket":"logs","key":"AWSLogs/…","lines":1234}
//! ```
//!
//! A line is appended when every event of its object was accepted or dead-lettered. It is synced to the disk before later
//! lines are written. A process that is killed therefore loses at most the lines of the objects that just ended. The next run
//! delivers these objects again, with the same event IDs, and removes an incomplete last line. Any other invalid line is an error.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use elb_log::event::IdPrefix;
use elb_log::origin::ObjectName;
use elb_log_shipper::ledger::ObjectReport;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::report::PRIVATE_MODE;

/// Value of `state_of` in the first line.
const STATE_OF: &str = "elbship replay";

/// Version of the file format.
const VERSION: u64 = 1;

/// The objects that an earlier run has delivered, one number for each, so that millions of them fit into memory.
#[derive(Debug, Default)]
pub(crate) struct FinishedObjects(HashSet<u128>);

/// A state file with the objects in it, and the time when its first run began.
type OpenedFile = (ResumeFile, FinishedObjects, Option<Timestamp>);

/// A state file that is locked and read.
#[derive(Debug)]
pub(crate) struct ResumeFile {
    path: String,
    file: File,
}

/// Appends to a state file, in its own thread because the disk may be slow.
#[derive(Debug)]
pub(crate) struct ResumeWriter {
    path: String,
    entries: mpsc::Sender<String>,
    thread: JoinHandle<io::Result<()>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Header {
    state_of: String,
    version: u64,
    /// The selection and the destination, by the names of their flags.
    run: Map<String, Value>,
    /// When the first run began, if `--since` or `--until` is an age.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    bucket: String,
    key: String,
}

impl FinishedObjects {
    pub(crate) fn contains(&self, object: &ObjectName) -> bool {
        !self.0.is_empty() && self.0.contains(&object_number(object))
    }
}

/// Returns the number with which the object's event IDs begin.
fn object_number(object: &ObjectName) -> u128 {
    u128::from_str_radix(IdPrefix::of(object).as_str(), 16).unwrap_or_default()
}

impl ResumeFile {
    /// Opens the state file of a run, or creates it with this time of its start. Returns also the objects in it, and the time of
    /// its start.
    ///
    /// # Errors
    /// A file that belongs to another run, has another version, is not a state file, is used by another process, or cannot be read.
    pub(crate) fn open(path: &str, run: Map<String, Value>, started_at: Option<Timestamp>) -> Result<OpenedFile, String> {
        ResumeFile::try_open(path, run, started_at).map_err(|problem| format!("cannot resume from {path}: {problem}"))
    }

    fn try_open(path: &str, run: Map<String, Value>, started_at: Option<Timestamp>) -> Result<OpenedFile, String> {
        let failed = |error: io::Error| error.to_string();
        // Keys and paths are not for every user of the machine.
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(PRIVATE_MODE);
        let mut file = options.open(path).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => "another run uses the file".to_owned(),
            TryLockError::Error(error) => failed(error),
        })?;
        let header =
            Header { state_of: STATE_OF.to_owned(), version: VERSION, run, started_at: started_at.map(|time| time.to_string()) };
        let header = serde_json::to_string(&header).map_err(|error| error.to_string())? + "\n";
        let State { length, finished, started_at: known } = read(&file, &header)?;
        file.set_len(length).map_err(failed)?;
        if length == 0 {
            file.write_all(header.as_bytes()).map_err(failed)?;
            sync_directory(path).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        Ok((ResumeFile { path: path.to_owned(), file }, finished, known.or(started_at)))
    }

    /// Starts the thread that appends to the file.
    pub(crate) fn into_writer(self) -> ResumeWriter {
        let (sender, entries) = mpsc::channel();
        let ResumeFile { path, file } = self;
        ResumeWriter { path, entries: sender, thread: std::thread::spawn(move || append(file, &entries)) }
    }
}

impl ResumeWriter {
    /// Records an object if it was delivered completely.
    pub(crate) fn record(&self, object: &ObjectReport) {
        if object.is_success() {
            let entry = json!({"bucket": object.bucket, "key": object.key, "lines": object.counts.lines});
            // The thread ends early only after an error, which `finish` returns.
            let _ = self.entries.send(format!("{entry}\n"));
        }
    }

    /// Waits until all records are on the disk.
    ///
    /// # Errors
    /// A record cannot be written.
    pub(crate) fn finish(self) -> Result<(), String> {
        let ResumeWriter { path, entries, thread } = self;
        drop(entries);
        let written = thread.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked, which is a bug")));
        written.map_err(|error| {
            format!("cannot write the state file {path}: {error}; the next run delivers the missing objects again, with the same event IDs")
        })
    }
}

/// What a state file contains.
#[derive(Default)]
struct State {
    /// Length of its complete lines, in bytes.
    length: u64,
    finished: FinishedObjects,
    started_at: Option<Timestamp>,
}

fn read(file: &File, own_header: &str) -> Result<State, String> {
    let mut reader = BufReader::new(file);
    let mut state = State::default();
    let mut line = Vec::new();
    for line_number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
        let is_complete = line.last() == Some(&b'\n');
        if line_number == 1 && (is_complete || !is_start_of_header(&line, own_header)) {
            state.started_at = check_header(&line, own_header)?;
        } else if is_complete {
            let entry: Entry = serde_json::from_slice(&line).map_err(|error| {
                format!("line {line_number} is invalid ({error}); restore the file, or delete it to deliver everything again with the same event IDs")
            })?;
            state.finished.0.insert(object_number(&ObjectName { bucket: entry.bucket, key: entry.key }));
        }
        if !is_complete {
            break;
        }
        state.length += line.len() as u64;
    }
    Ok(state)
}

/// Returns whether a line that is not complete is the start of this run's header. The time of the start, at its end, may differ.
fn is_start_of_header(line: &[u8], own_header: &str) -> bool {
    let fixed = own_header.find("\"started_at\":").unwrap_or(own_header.len());
    let (own, length) = (own_header.as_bytes(), line.len().min(fixed));
    own[..length] == line[..length] && line.len() <= own.len()
}

/// Returns the time when the first run began, if the header has one.
fn check_header(line: &[u8], own_header: &str) -> Result<Option<Timestamp>, String> {
    let not_a_state_file = "not a state file of elbship replay; name another file";
    let header: Header = serde_json::from_slice(line).map_err(|_| not_a_state_file)?;
    let own: Header = serde_json::from_str(own_header).map_err(|_| not_a_state_file)?;
    if header.state_of != own.state_of {
        return Err(not_a_state_file.to_owned());
    }
    if header.version != own.version {
        return Err(format!(
            "the state file has version {}, and this program reads version {VERSION}; delete the file to start again",
            header.version
        ));
    }
    let mut names = own.run.keys().chain(header.run.keys());
    let Some(name) = names.find(|&name| header.run.get(name) != own.run.get(name)) else {
        return Ok(header.started_at.and_then(|time| time.parse().ok()));
    };
    let shown = |run: &Map<String, Value>| run.get(name).unwrap_or(&Value::Null).to_string();
    Err(format!(
        "the state file belongs to another run: {name} was {} and is now {}; use the flags of that run, or name another file",
        shown(&header.run),
        shown(&own.run)
    ))
}

/// Appends entries until the channel is closed. All entries that are waiting are synced together.
fn append(mut file: File, entries: &mpsc::Receiver<String>) -> io::Result<()> {
    while let Ok(first) = entries.recv() {
        let text: String = std::iter::once(first).chain(entries.try_iter()).collect();
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
    }
    Ok(())
}

/// Syncs the directory of a new file: until then, the file itself may be lost.
fn sync_directory(path: &str) -> io::Result<()> {
    let directory = Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use elb_log_shipper::reason::Reason;

    use super::*;

    fn run(to: &str) -> Map<String, Value> {
        let Value::Object(run) = json!({"paths": ["s3://logs/"], "to": to}) else { panic!("expected an object") };
        run
    }

    fn name(key: &str) -> ObjectName {
        ObjectName { bucket: "logs".to_owned(), key: key.to_owned() }
    }

    fn delivered(key: &str) -> ObjectReport {
        ObjectReport { complete: true, ..ObjectReport::unread(&name(key)) }
    }

    /// Returns a state file with two objects, and its path.
    fn written() -> (tempfile::TempDir, String) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state").display().to_string();
        let writer = ResumeFile::open(&path, run("http://a/"), None).unwrap().0.into_writer();
        writer.record(&delivered("one"));
        writer.record(&delivered("ü \n\"two"));
        writer.record(&ObjectReport::failed(&name("failed"), Reason::Listing, "x".to_owned()));
        writer.finish().unwrap();
        (root, path)
    }

    fn reopened(path: &str) -> Result<usize, String> {
        ResumeFile::open(path, run("http://a/"), None).map(|(_, finished, _)| finished.0.len())
    }

    #[test]
    fn remembers_delivered_objects_but_not_failed_ones() {
        let (_root, path) = written();
        let (_, finished, _) = ResumeFile::open(&path, run("http://a/"), None).unwrap();
        assert!(finished.contains(&name("one")) && finished.contains(&name("ü \n\"two")));
        assert!(!finished.contains(&name("failed")) && !finished.contains(&name("other")));
    }

    #[test]
    fn loses_only_the_incomplete_last_line() {
        let (_root, path) = written();
        let text = fs::read(&path).unwrap();
        // Each length costs several syncs, so the test tries every seventh length, and the last two.
        for length in (0..text.len()).step_by(7).chain([text.len() - 1, text.len()]) {
            fs::write(&path, &text[..length]).unwrap();
            let whole_lines = text[..length].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(reopened(&path), Ok(whole_lines.saturating_sub(1)), "cut off at byte {length}");
            let writer = ResumeFile::open(&path, run("http://a/"), None).unwrap().0.into_writer();
            writer.record(&delivered("three"));
            writer.finish().unwrap();
            assert_eq!(reopened(&path), Ok(whole_lines.max(1)), "cut off at byte {length}, then continued");
        }
    }

    #[test]
    fn rejects_the_file_of_another_run() {
        let (_root, path) = written();
        let error = ResumeFile::open(&path, run("http://b/"), None).unwrap_err();
        assert!(
            error.contains("the state file belongs to another run: to was \"http://a/\" and is now \"http://b/\""),
            "{error}"
        );
    }

    #[test]
    fn rejects_and_keeps_a_file_that_is_not_a_state_file() {
        let (_root, path) = written();
        let whole = fs::read_to_string(&path).unwrap();
        for (text, expected) in [
            ("precious notes".to_owned(), "not a state file of elbship replay"),
            ("{}\n".to_owned(), "not a state file of elbship replay"),
            (whole.replace("\"version\":1", "\"version\":2"), "the state file has version 2"),
            (whole.replacen("\"bucket\"", "\"basket\"", 1), "line 2 is invalid"),
            (whole.replacen("{\"bucket\"", "\0\0\0", 1), "line 2 is invalid"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = reopened(&path).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn only_the_owner_can_read_a_new_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_root, path) = written();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn ages_count_from_the_first_run() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state").display().to_string();
        let times = ["2026-03-02T00:00:00Z", "2026-03-09T00:00:00.5Z"].map(|time| time.parse::<Timestamp>().unwrap());
        let started_at = times.map(|now| ResumeFile::open(&path, run("http://a/"), Some(now)).unwrap().2);
        assert_eq!(started_at, [Some(times[0]); 2], "the second run selects other objects than the first");
        let text = fs::read(&path).unwrap();
        for length in 0..text.len() {
            fs::write(&path, &text[..length]).unwrap();
            let reopened = ResumeFile::open(&path, run("http://a/"), Some(times[1])).map(|(_, _, started_at)| started_at);
            assert_eq!(reopened, Ok(Some(times[1])), "cut off at byte {length}");
        }
    }

    #[test]
    fn locks_the_file_for_one_run() {
        let (_root, path) = written();
        let open = ResumeFile::open(&path, run("http://a/"), None).unwrap();
        assert!(reopened(&path).unwrap_err().contains("another run uses the file"));
        drop(open);
        assert_eq!(reopened(&path), Ok(2));
    }
}
