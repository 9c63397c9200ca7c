//! What the paths of a replay mean: objects, one after the other.

use std::path::Path;
use std::sync::Arc;

use elb_log::key::{DirectoryMatch, TimeRange, from_aws_logs, skip_reason};
use elb_log::origin::{ObjectName, Origin};
use elb_log_shipper::object::{Location, ObjectRef, SkipReason, Task, key_of, key_order};
use elb_log_shipper::ship::Shipper;
use tokio::sync::mpsc::Sender;
use walkdir::{DirEntry, WalkDir};

use crate::cli::{TakenAs, split_s3};
use crate::resume::Finished;

/// Which objects a replay is about.
#[derive(Debug)]
pub(crate) struct Selection {
    pub paths: Vec<String>,
    pub taken_as: Option<TakenAs>,
    pub period: TimeRange,
    /// What an earlier run has delivered.
    pub finished: Finished,
}

/// What a path of the command line led to.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// Objects and failures handed on.
    sent: usize,
    /// Objects, and directories, left out because of their time.
    out_of_time: usize,
}

impl Selection {
    /// Sends a task for every object, in order. A path that is unreadable or matches nothing is a failed task of its own.
    pub(crate) async fn send_tasks(self, shipper: Arc<Shipper>, tasks: Sender<Task>) {
        let mut total = Found::default();
        for path in &self.paths {
            let mut found = Found::default();
            let listed = match split_s3(path) {
                Some((bucket, prefix)) => self.list_bucket(&shipper, bucket, prefix, &tasks, &mut found).await,
                None => self.list_local(Path::new(path), path, &tasks, &mut found).await,
            };
            let error = match listed {
                Ok(()) if found.sent + found.out_of_time == 0 => Some("nothing to ship: no object matches".to_owned()),
                Ok(()) => None,
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                found.sent += 1;
                // Nobody listens any more only where the run has been given up.
                let _ = tasks.send(Task::Fail(name_of_path(path), error)).await;
            }
            total.sent += found.sent;
        }
        if total.sent == 0 {
            let error = "nothing to ship: no object is of the time from --since to --until".to_owned();
            let _ = tasks.send(Task::Fail(name_of_path(&self.paths.join(" ")), error)).await;
        }
    }

    async fn list_bucket(
        &self,
        shipper: &Shipper,
        bucket: &str,
        prefix: &str,
        tasks: &Sender<Task>,
        found: &mut Found,
    ) -> Result<(), String> {
        let mut listing = shipper.store().list(bucket, prefix, self.period);
        while let Some(object) = listing.next().await.map_err(|error| error.to_string())? {
            if !self.period.includes(&object.key) {
                found.out_of_time += 1;
                continue;
            }
            found.sent += 1;
            if tasks.send(self.resumed(object_task(bucket, object.key, prefix))).await.is_err() {
                break;
            }
        }
        found.out_of_time += usize::from(listing.left_out());
        Ok(())
    }

    /// An object that an earlier run has delivered is not read again.
    fn resumed(&self, task: Task) -> Task {
        match task {
            Task::Ship(object) if self.finished.contains(object.name()) => Task::Skip(object.name().clone(), SkipReason::Resumed),
            task => task,
        }
    }

    async fn list_local(&self, root: &Path, argument: &str, tasks: &Sender<Task>, found: &mut Found) -> Result<(), String> {
        if !root.is_dir() {
            // Asked for by its name, a file is read whatever it is called; opening it says if it is there.
            let below = from_aws_logs(argument).or_else(|| root.file_name()?.to_str()).unwrap_or(argument);
            let in_time = self.period.includes(below);
            if in_time {
                let _ = tasks.send(self.resumed(Task::Ship(self.local_file(root, argument, below, true)))).await;
            }
            found.sent += usize::from(in_time);
            found.out_of_time += usize::from(!in_time);
            return Ok(());
        }
        let mut left_out = 0;
        let walk = WalkDir::new(root).follow_links(true).sort_by(|one, other| key_order(one).cmp(&key_order(other)));
        let of_time = walk.into_iter().filter_entry(|entry| {
            let keep = entry.depth() == 0 || !self.leaves_out(entry);
            left_out += usize::from(!keep);
            keep
        });
        for entry in of_time {
            let task = match entry {
                Ok(entry) if entry.file_type().is_dir() => continue,
                Ok(entry) => self.file_task(root, &entry),
                // What follows is there all the same.
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_string_lossy().into_owned();
                    Some(Task::Fail(name_of_path(&path), format!("reading the directory failed: {error}")))
                }
            };
            found.sent += usize::from(task.is_some());
            found.out_of_time += usize::from(task.is_none());
            if let Some(task) = task
                && tasks.send(task).await.is_err()
            {
                break;
            }
        }
        found.out_of_time += left_out;
        Ok(())
    }

    /// None for a file that is not of the time.
    fn file_task(&self, root: &Path, entry: &DirEntry) -> Option<Task> {
        let path = entry.path();
        let fail = |reason: &str| Some(Task::Fail(name_of_path(&path.to_string_lossy()), reason.to_owned()));
        let (Some(shown), Some(below)) = (path.to_str(), path.strip_prefix(root).ok().and_then(key_of)) else {
            // Two such names could become one key, and their lines one another's.
            return fail("its name is not UTF-8, as a key has to be; rename it");
        };
        if !entry.file_type().is_file() {
            return fail("it is neither a file nor a directory");
        }
        if !self.period.includes(&below) {
            return None;
        }
        let object = self.local_file(path, shown, &below, false);
        Some(match skip_reason(&object.name().key) {
            Some(reason) => Task::Skip(object.name().clone(), reason.into()),
            None => self.resumed(Task::Ship(object)),
        })
    }

    /// `shown` is the path as given, `below` what follows the prefix that local files are taken for.
    fn local_file(&self, path: &Path, shown: &str, below: &str, requested_by_name: bool) -> ObjectRef {
        let origin = match &self.taken_as {
            None => Origin::LocalFile(ObjectName { bucket: String::new(), key: shown.to_owned() }),
            Some(TakenAs { bucket, prefix }) => {
                let key = if prefix.is_empty() { below.to_owned() } else { format!("{prefix}/{below}") };
                Origin::Bucket(ObjectName { bucket: bucket.clone(), key })
            }
        };
        ObjectRef { origin, location: Location::File(path.to_owned()), requested_by_name, notified_at: None }
    }

    fn leaves_out(&self, entry: &DirEntry) -> bool {
        let directory = entry.path().to_str().filter(|_| entry.file_type().is_dir());
        directory.is_some_and(|directory| self.period.match_directory(&format!("{directory}/")) == DirectoryMatch::Outside)
    }
}

/// A key that is the whole of what was asked for is read whatever its name.
fn object_task(bucket: &str, key: String, requested: &str) -> Task {
    if key == requested {
        return Task::Ship(ObjectRef { requested_by_name: true, ..ObjectRef::stored(bucket, key) });
    }
    match skip_reason(&key) {
        Some(reason) => Task::Skip(ObjectName { bucket: bucket.to_owned(), key }, reason.into()),
        None => Task::Ship(ObjectRef::stored(bucket, key)),
    }
}

fn name_of_path(path: &str) -> ObjectName {
    let (bucket, key) = split_s3(path).unwrap_or(("", path));
    ObjectName { bucket: bucket.to_owned(), key: key.to_owned() }
}
