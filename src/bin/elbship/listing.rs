//! Lists the objects that the paths of a replay select, as tasks.

use std::path::Path;

use elb_log::key::{DirectoryMatch, TimeRange, from_aws_logs, skip_reason};
use elb_log::origin::{ObjectName, Origin};
use elb_log_shipper::backfill::S3Location;
use elb_log_shipper::object::{Location, ObjectRef, SkipReason, Task, key_of, key_order};
use elb_log_shipper::ship::Shipper;
use tokio::sync::mpsc::Sender;
use walkdir::{DirEntry, WalkDir};

use crate::cli::split_s3;
use crate::progress::FoundObjects;
use crate::resume::FinishedObjects;

/// The path that stands for standard input.
pub(crate) const STDIN: &str = "-";

/// The objects of a replay.
#[derive(Debug)]
pub(crate) struct Selection {
    pub paths: Vec<String>,
    /// The bucket and the prefix of the objects that local files are copies of.
    pub original_prefix: Option<S3Location>,
    pub time_range: TimeRange,
    /// Objects that an earlier run has delivered.
    pub finished: FinishedObjects,
}

/// What a path contains.
enum Found {
    Task(Task),
    /// An object, or a directory, outside the time range.
    OutsideRange,
}

/// Sends the tasks of one path and counts them.
struct PathListing<'a> {
    selection: &'a Selection,
    tasks: &'a Sender<Task>,
    objects: &'a FoundObjects,
    /// Number of tasks sent.
    sent: usize,
    has_outside: bool,
}

/// The files of a directory, in the order of their keys.
struct Directory<'a> {
    selection: &'a Selection,
    root: &'a Path,
    entries: walkdir::IntoIter,
}

impl Selection {
    /// Sends a task for every object, in the order of the paths and keys. A path that is unreadable or matches nothing becomes a
    /// failed task.
    pub(crate) async fn send_tasks(&self, shipper: &Shipper, tasks: Sender<Task>, objects: &FoundObjects) {
        let mut sent = 0;
        for path in &self.paths {
            let mut listing = PathListing { selection: self, tasks: &tasks, objects, sent: 0, has_outside: false };
            if let Err(error) = listing.list(shipper, path).await {
                listing.send(Task::Fail(name_of_path(path), error)).await;
            }
            sent += listing.sent;
        }
        if sent == 0 {
            let error = "nothing to ship: no object between --since and --until".to_owned();
            objects.add();
            // The channel is closed only if the run has ended.
            let _ = tasks.send(Task::Fail(name_of_path(&self.paths.join(" ")), error)).await;
        }
        objects.set_total(objects.listed());
    }

    /// Counts the objects of local paths, which is faster than shipping them.
    pub(crate) fn count_local(&self, objects: &FoundObjects) {
        let count = |path: &String| {
            if !Path::new(path).is_dir() {
                return u64::from(self.time_range.includes(key_of_file(path)));
            }
            let (mut tasks, mut has_outside) = (0, false);
            for found in Directory::new(self, Path::new(path)) {
                match found {
                    Found::Task(_) => tasks += 1,
                    Found::OutsideRange => has_outside = true,
                }
            }
            // A directory without any object is an error, which counts as one.
            if tasks == 0 && !has_outside { 1 } else { tasks }
        };
        objects.set_total(self.paths.iter().map(count).sum::<u64>().max(1));
    }

    /// Returns a task that ships an object, or skips it if an earlier run has delivered it.
    fn ship_or_resume(&self, object: ObjectRef) -> Task {
        if self.finished.contains(object.name()) {
            return Task::Skip(object.name().clone(), SkipReason::Resumed);
        }
        Task::Ship(object)
    }

    /// Returns the task of an object in S3. A key that was given in full is shipped whatever its name is.
    fn s3_task(&self, bucket: &str, key: String, requested: &str) -> Task {
        if key == requested {
            return self.ship_or_resume(ObjectRef { requested_by_name: true, ..ObjectRef::stored(bucket, key) });
        }
        match skip_reason(&key) {
            Some(reason) => Task::Skip(ObjectName { bucket: bucket.to_owned(), key }, reason.into()),
            None => self.ship_or_resume(ObjectRef::stored(bucket, key)),
        }
    }

    /// Returns the task of a file below `root`, or that it is outside the time range.
    fn file_task(&self, root: &Path, entry: &DirEntry) -> Found {
        let path = entry.path();
        let fail = |reason: &str| Found::Task(Task::Fail(name_of_path(&path.to_string_lossy()), reason.to_owned()));
        let (Some(shown), Some(key)) = (path.to_str(), path.strip_prefix(root).ok().and_then(key_of)) else {
            // Two such names could become one key, and then their lines would have the same event IDs.
            return fail("the name is not UTF-8, so it is not a valid key; rename the file");
        };
        if !entry.file_type().is_file() {
            return fail("neither a file nor a directory");
        }
        if !self.time_range.includes(&key) {
            return Found::OutsideRange;
        }
        let object = self.local_file(path, shown, &key, false);
        Found::Task(match skip_reason(&object.name().key) {
            Some(reason) => Task::Skip(object.name().clone(), reason.into()),
            None => self.ship_or_resume(object),
        })
    }

    /// Returns a reference to a file. `shown` is its path as given; `key` is its key below the original prefix.
    fn local_file(&self, path: &Path, shown: &str, key: &str, requested_by_name: bool) -> ObjectRef {
        let origin = match &self.original_prefix {
            None => Origin::LocalFile(ObjectName { bucket: String::new(), key: shown.to_owned() }),
            Some(S3Location { bucket, key: prefix }) => {
                let key = if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") };
                Origin::Bucket(ObjectName { bucket: bucket.clone(), key })
            }
        };
        ObjectRef {
            origin,
            location: if shown == STDIN { Location::Stdin } else { Location::File(path.to_owned()) },
            requested_by_name,
            notified_at: None,
            checkpoint_owner: None,
        }
    }

    fn is_outside_range(&self, entry: &DirEntry) -> bool {
        let directory = entry.path().to_str().filter(|_| entry.file_type().is_dir());
        directory.is_some_and(|directory| self.time_range.match_directory(&format!("{directory}/")) == DirectoryMatch::Outside)
    }
}

impl PathListing<'_> {
    async fn list(&mut self, shipper: &Shipper, path: &str) -> Result<(), String> {
        match split_s3(path) {
            Some((bucket, prefix)) => self.list_bucket(shipper, bucket, prefix).await?,
            None if Path::new(path).is_dir() => {
                for found in Directory::new(self.selection, Path::new(path)) {
                    self.add(found).await;
                }
            }
            None => self.list_file(path).await,
        }
        if self.sent == 0 && !self.has_outside {
            return Err("nothing to ship: no object matches".to_owned());
        }
        Ok(())
    }

    async fn list_bucket(&mut self, shipper: &Shipper, bucket: &str, prefix: &str) -> Result<(), String> {
        let mut listing = shipper.store().list(bucket, prefix, self.selection.time_range);
        while let Some(object) = listing.next().await.map_err(|error| error.to_string())? {
            let is_selected = self.selection.time_range.includes(&object.key);
            let task = || Found::Task(self.selection.s3_task(bucket, object.key, prefix));
            let found = if is_selected { task() } else { Found::OutsideRange };
            self.add(found).await;
        }
        self.has_outside |= listing.left_out();
        Ok(())
    }

    /// Sends the task of a single file. It is shipped whatever its name is; a missing file fails when it is opened.
    async fn list_file(&mut self, argument: &str) {
        let (path, key) = (Path::new(argument), key_of_file(argument));
        if !self.selection.time_range.includes(key) {
            self.has_outside = true;
            return;
        }
        let object = self.selection.local_file(path, argument, key, true);
        self.send(self.selection.ship_or_resume(object)).await;
    }

    async fn add(&mut self, found: Found) {
        match found {
            Found::Task(task) => self.send(task).await,
            Found::OutsideRange => self.has_outside = true,
        }
    }

    async fn send(&mut self, task: Task) {
        self.sent += 1;
        self.objects.add();
        // The channel is closed only if the run has ended.
        let _ = self.tasks.send(task).await;
    }
}

impl<'a> Directory<'a> {
    fn new(selection: &'a Selection, root: &'a Path) -> Self {
        let files = WalkDir::new(root).follow_links(true).sort_by(|one, other| key_order(one).cmp(&key_order(other)));
        Directory { selection, root, entries: files.into_iter() }
    }

    /// Returns the failed task of an entry that cannot be read. The other entries can still be read.
    fn unreadable(&self, error: &walkdir::Error) -> Task {
        let path = error.path().unwrap_or(self.root);
        let reason = match std::fs::read_link(path) {
            Ok(target) if !path.exists() && error.loop_ancestor().is_none() => {
                format!("a link to {}, which does not exist; remove the link, or restore its target", target.display())
            }
            _ => format!("cannot read the directory: {error}"),
        };
        Task::Fail(name_of_path(&path.to_string_lossy()), reason)
    }
}

impl Iterator for Directory<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            match self.entries.next()? {
                Ok(entry) if !entry.file_type().is_dir() => return Some(self.selection.file_task(self.root, &entry)),
                Ok(entry) if entry.depth() > 0 && self.selection.is_outside_range(&entry) => {
                    self.entries.skip_current_dir();
                    return Some(Found::OutsideRange);
                }
                Ok(_) => {}
                Err(error) => return Some(Found::Task(self.unreadable(&error))),
            }
        }
    }
}

/// Returns the key of a file that was named.
fn key_of_file(path: &str) -> &str {
    from_aws_logs(path).or_else(|| Path::new(path).file_name()?.to_str()).unwrap_or(path)
}

fn name_of_path(path: &str) -> ObjectName {
    let (bucket, key) = split_s3(path).unwrap_or(("", path));
    ObjectName { bucket: bucket.to_owned(), key: key.to_owned() }
}
