//! What `--resume` keeps: the objects that have been delivered completely, so that a run that was ended goes on where it was.
//!
//! The file is lines of JSON. The first says of which run it is, each other one names an object that is done:
//!
//! ```text
//! {"state_of":"elbship replay","version":1,"run":{"paths":["s3://logs/"],"to":"https://logstash.example:8443/",…}}
//! {"bucket":"logs","key":"AWSLogs/…","lines":1234}
//! ```
//!
//! A line is appended when every event of its object has been accepted (or is safe in the dead letter), and is on the disk before
//! the next one is written.
//! So a kill at any moment costs at most the lines of objects that just ended, which are then delivered again under the same ids;
//! the end of a line that was cut off is removed. Anything else that is no entry is refused.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use elb_log::event::IdPrefix;
use elb_log::origin::ObjectName;
use elb_log_shipper::ledger::ObjectReport;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What the first line begins with.
const STATE_OF: &str = "elbship replay";

/// Of the file's form.
const VERSION: u64 = 1;

/// Objects that an earlier run has delivered. A number an object: millions fit into memory.
#[derive(Debug, Default)]
pub(crate) struct Finished(HashSet<u128>);

/// A state file, locked, read and ready to be written on.
#[derive(Debug)]
pub(crate) struct ResumeFile {
    path: String,
    file: File,
}

/// Writes a state in a thread of its own: the disk may be slow.
#[derive(Debug)]
pub(crate) struct Recorder {
    path: String,
    entries: mpsc::Sender<String>,
    writing: JoinHandle<io::Result<()>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Head {
    state_of: String,
    version: u64,
    /// The selection and the destination, by their flags.
    run: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    bucket: String,
    key: String,
}

impl Finished {
    pub(crate) fn contains(&self, object: &ObjectName) -> bool {
        !self.0.is_empty() && self.0.contains(&number(object))
    }
}

/// The number that the object's ids begin with.
fn number(object: &ObjectName) -> u128 {
    u128::from_str_radix(IdPrefix::of(object).as_str(), 16).unwrap_or_default()
}

impl ResumeFile {
    /// Opens a state of this run, or begins one.
    ///
    /// # Errors
    /// A file of another run, of another version, or that is no state at all; one that another process is using; and what the
    /// file system says.
    pub(crate) fn open(path: &str, run: Map<String, Value>) -> Result<(ResumeFile, Finished), String> {
        let failed = |error: io::Error| format!("--resume {path}: {error}");
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => format!("--resume {path}: another run is using it"),
            TryLockError::Error(error) => failed(error),
        })?;
        let head = Head { state_of: STATE_OF.to_owned(), version: VERSION, run };
        let head = serde_json::to_string(&head).map_err(|error| failed(error.into()))? + "\n";
        let (length, finished) = read(&file, &head).map_err(|problem| format!("--resume {path}: {problem}"))?;
        file.set_len(length).map_err(failed)?;
        if length == 0 {
            file.write_all(head.as_bytes()).map_err(failed)?;
            sync_entry(path).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        Ok((ResumeFile { path: path.to_owned(), file }, finished))
    }

    /// Begins to write what is recorded.
    pub(crate) fn recorder(self) -> Recorder {
        let (sender, entries) = mpsc::channel();
        let ResumeFile { path, file } = self;
        Recorder { path, entries: sender, writing: std::thread::spawn(move || append(file, &entries)) }
    }
}

impl Recorder {
    /// Notes an object that has ended; only if it is delivered completely.
    pub(crate) fn note(&self, object: &ObjectReport) {
        if object.is_success() {
            let entry = json!({"bucket": object.bucket, "key": object.key, "lines": object.counts.lines});
            // Nobody takes it any more only after a failure, of which `finish` tells.
            let _ = self.entries.send(format!("{entry}\n"));
        }
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn finish(self) -> Result<(), String> {
        let Recorder { path, entries, writing } = self;
        drop(entries);
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("a bug: the writing thread failed")));
        written.map_err(|error| {
            format!("writing --resume {path} failed: {error}; the next run delivers again, under the same ids, what it does not know of")
        })
    }
}

/// How much of the file holds, and which objects it names.
fn read(file: &File, own_head: &str) -> Result<(u64, Finished), String> {
    let mut reader = BufReader::new(file);
    let (mut length, mut finished) = (0, Finished::default());
    let mut line = Vec::new();
    for number_of_line in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
        let whole = line.last() == Some(&b'\n');
        if number_of_line == 1 && (whole || !own_head.as_bytes().starts_with(&line)) {
            check_head(&line, own_head)?;
        } else if whole {
            let entry: Entry = serde_json::from_slice(&line).map_err(|error| {
                format!("line {number_of_line} is no entry of a state ({error}); restore the file, or delete it to deliver everything again, under the same ids")
            })?;
            finished.0.insert(number(&ObjectName { bucket: entry.bucket, key: entry.key }));
        }
        if !whole {
            break;
        }
        length += line.len() as u64;
    }
    Ok((length, finished))
}

fn check_head(line: &[u8], own_head: &str) -> Result<(), String> {
    let no_state = "this is no state of elbship replay; name another file";
    let head: Head = serde_json::from_slice(line).map_err(|_| no_state)?;
    let own: Head = serde_json::from_str(own_head).map_err(|_| no_state)?;
    if head.state_of != own.state_of {
        return Err(no_state.to_owned());
    }
    if head.version != own.version {
        return Err(format!(
            "the state is of version {}, and this program reads {VERSION}; delete it to begin anew",
            head.version
        ));
    }
    let mut names = own.run.keys().chain(head.run.keys());
    let Some(name) = names.find(|&name| head.run.get(name) != own.run.get(name)) else { return Ok(()) };
    let shown = |run: &Map<String, Value>| run.get(name).unwrap_or(&Value::Null).to_string();
    Err(format!(
        "this is the state of another run: {name} was {} and is {} now; run it as before, or name another file",
        shown(&head.run),
        shown(&own.run)
    ))
}

/// Whatever has come meanwhile reaches the disk together.
fn append(mut file: File, entries: &mpsc::Receiver<String>) -> io::Result<()> {
    while let Ok(first) = entries.recv() {
        let text: String = std::iter::once(first).chain(entries.try_iter()).collect();
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
    }
    Ok(())
}

/// A new file is safe only when its directory is.
fn sync_entry(path: &str) -> io::Result<()> {
    let directory = Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run(to: &str) -> Map<String, Value> {
        let Value::Object(run) = json!({"paths": ["s3://logs/"], "to": to}) else { panic!("an object") };
        run
    }

    fn name(key: &str) -> ObjectName {
        ObjectName { bucket: "logs".to_owned(), key: key.to_owned() }
    }

    fn delivered(key: &str) -> ObjectReport {
        ObjectReport { complete: true, ..ObjectReport::unread(&name(key)) }
    }

    /// A state with two objects, and its path.
    fn written() -> (tempfile::TempDir, String) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state").display().to_string();
        let recorder = ResumeFile::open(&path, run("http://a/")).unwrap().0.recorder();
        recorder.note(&delivered("one"));
        recorder.note(&delivered("ü \n\"two"));
        recorder.note(&ObjectReport::failed(&name("failed"), "x".to_owned()));
        recorder.finish().unwrap();
        (root, path)
    }

    fn reopened(path: &str) -> Result<usize, String> {
        ResumeFile::open(path, run("http://a/")).map(|(_, finished)| finished.0.len())
    }

    #[test]
    fn what_was_delivered_is_known_again_and_what_failed_is_not() {
        let (_root, path) = written();
        let (_, finished) = ResumeFile::open(&path, run("http://a/")).unwrap();
        assert!(finished.contains(&name("one")) && finished.contains(&name("ü \n\"two")));
        assert!(!finished.contains(&name("failed")) && !finished.contains(&name("other")));
    }

    #[test]
    fn a_kill_while_writing_loses_no_more_than_the_line_that_was_being_written() {
        let (_root, path) = written();
        let text = fs::read(&path).unwrap();
        // The disk is asked to keep each of them, so not every byte is tried: every seventh, and the last.
        for length in (0..text.len()).step_by(7).chain([text.len() - 1, text.len()]) {
            fs::write(&path, &text[..length]).unwrap();
            let whole_lines = text[..length].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(reopened(&path), Ok(whole_lines.saturating_sub(1)), "cut off at byte {length}");
            let recorder = ResumeFile::open(&path, run("http://a/")).unwrap().0.recorder();
            recorder.note(&delivered("three"));
            recorder.finish().unwrap();
            assert_eq!(reopened(&path), Ok(whole_lines.max(1)), "cut off at byte {length}, and written on");
        }
    }

    #[test]
    fn the_state_of_another_run_is_refused() {
        let (_root, path) = written();
        let error = ResumeFile::open(&path, run("http://b/")).unwrap_err();
        assert!(error.contains("this is the state of another run: to was \"http://a/\" and is \"http://b/\" now"), "{error}");
    }

    #[test]
    fn what_is_no_state_is_refused_and_left_as_it_is() {
        let (_root, path) = written();
        let whole = fs::read_to_string(&path).unwrap();
        for (text, expected) in [
            ("precious notes".to_owned(), "this is no state of elbship replay"),
            ("{}\n".to_owned(), "this is no state of elbship replay"),
            (whole.replace("\"version\":1", "\"version\":2"), "the state is of version 2"),
            (whole.replacen("\"bucket\"", "\"basket\"", 1), "line 2 is no entry of a state"),
            (whole.replacen("{\"bucket\"", "\0\0\0", 1), "line 2 is no entry of a state"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = reopened(&path).unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn two_runs_do_not_share_a_state() {
        let (_root, path) = written();
        let open = ResumeFile::open(&path, run("http://a/")).unwrap();
        assert!(reopened(&path).unwrap_err().contains("another run is using it"));
        drop(open);
        assert_eq!(reopened(&path), Ok(2));
    }
}
