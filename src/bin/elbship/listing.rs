//! Lists the objects that the paths of a replay select, as tasks.

use std::path::Path;
use std::sync::Arc;

use elb_log::key::{DirectoryMatch, TimeRange, from_aws_logs, skip_reason};
use elb_log::origin::{ObjectName, Origin};
use elb_log_shipper::backfill::S3Location;
use elb_log_shipper::object::{Location, ObjectRef, SkipReason, Task, key_of, key_order};
use elb_log_shipper::ship::Shipper;
use tokio::sync::mpsc::Sender;
use walkdir::{DirEntry, WalkDir};

use crate::cli::split_s3;
use crate::resume::FinishedObjects;

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

/// Sends the tasks of one path and counts them.
struct PathListing<'a> {
    selection: &'a Selection,
    tasks: &'a Sender<Task>,
    /// Number of tasks sent.
    sent: usize,
    /// Number of objects, and directories, outside the time range.
    outside_range: usize,
}

impl Selection {
    /// Sends a task for every object, in the order of the paths and keys. A path that is unreadable or matches nothing becomes a
    /// failed task.
    pub(crate) async fn send_tasks(self, shipper: Arc<Shipper>, tasks: Sender<Task>) {
        let mut sent = 0;
        for path in &self.paths {
            let mut listing = PathListing { selection: &self, tasks: &tasks, sent: 0, outside_range: 0 };
            if let Err(error) = listing.list(&shipper, path).await {
                listing.send(Task::Fail(name_of_path(path), error)).await;
            }
            sent += listing.sent;
        }
        if sent == 0 {
            let error = "nothing to ship: no object between --since and --until".to_owned();
            // The channel is closed only if the run has ended.
            let _ = tasks.send(Task::Fail(name_of_path(&self.paths.join(" ")), error)).await;
        }
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

    /// Returns the task of a file below `root`, or none if the file is outside the time range.
    fn file_task(&self, root: &Path, entry: &DirEntry) -> Option<Task> {
        let path = entry.path();
        let fail = |reason: &str| Some(Task::Fail(name_of_path(&path.to_string_lossy()), reason.to_owned()));
        let (Some(shown), Some(key)) = (path.to_str(), path.strip_prefix(root).ok().and_then(key_of)) else {
            // Two such names could become one key, and then their lines would have the same event IDs.
            return fail("the name is not UTF-8, so it is not a valid key; rename the file");
        };
        if !entry.file_type().is_file() {
            return fail("neither a file nor a directory");
        }
        if !self.time_range.includes(&key) {
            return None;
        }
        let object = self.local_file(path, shown, &key, false);
        Some(match skip_reason(&object.name().key) {
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
            location: Location::File(path.to_owned()),
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
            None if Path::new(path).is_dir() => self.list_directory(Path::new(path)).await,
            None => self.list_file(path).await,
        }
        if self.sent + self.outside_range == 0 {
            return Err("nothing to ship: no object matches".to_owned());
        }
        Ok(())
    }

    async fn list_bucket(&mut self, shipper: &Shipper, bucket: &str, prefix: &str) -> Result<(), String> {
        let mut listing = shipper.store().list(bucket, prefix, self.selection.time_range);
        while let Some(object) = listing.next().await.map_err(|error| error.to_string())? {
            if !self.selection.time_range.includes(&object.key) {
                self.outside_range += 1;
            } else if !self.send(self.selection.s3_task(bucket, object.key, prefix)).await {
                break;
            }
        }
        self.outside_range += usize::from(listing.left_out());
        Ok(())
    }

    /// Sends the task of a single file. It is shipped whatever its name is; a missing file fails when it is opened.
    async fn list_file(&mut self, argument: &str) {
        let path = Path::new(argument);
        let key = from_aws_logs(argument).or_else(|| path.file_name()?.to_str()).unwrap_or(argument);
        if !self.selection.time_range.includes(key) {
            self.outside_range += 1;
            return;
        }
        let object = self.selection.local_file(path, argument, key, true);
        self.send(self.selection.ship_or_resume(object)).await;
    }

    async fn list_directory(&mut self, root: &Path) {
        let (selection, mut directories_outside) = (self.selection, 0);
        let files = WalkDir::new(root).follow_links(true).sort_by(|one, other| key_order(one).cmp(&key_order(other)));
        let entries = files.into_iter().filter_entry(|entry| {
            let keep = entry.depth() == 0 || !selection.is_outside_range(entry);
            directories_outside += usize::from(!keep);
            keep
        });
        for entry in entries {
            let task = match entry {
                Ok(entry) if entry.file_type().is_dir() => continue,
                Ok(entry) => selection.file_task(root, &entry),
                // The other entries can still be read.
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_string_lossy().into_owned();
                    Some(Task::Fail(name_of_path(&path), format!("cannot read the directory: {error}")))
                }
            };
            let Some(task) = task else {
                self.outside_range += 1;
                continue;
            };
            if !self.send(task).await {
                break;
            }
        }
        self.outside_range += directories_outside;
    }

    /// Sends a task, and returns whether the run accepts more of them.
    async fn send(&mut self, task: Task) -> bool {
        self.sent += 1;
        self.tasks.send(task).await.is_ok()
    }
}

fn name_of_path(path: &str) -> ObjectName {
    let (bucket, key) = split_s3(path).unwrap_or(("", path));
    ObjectName { bucket: bucket.to_owned(), key: key.to_owned() }
}
