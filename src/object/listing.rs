//! The keys below a prefix in S3, without those of directories that are not of the time.

use std::collections::VecDeque;

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{Object, ObjectStorageClass};

use elb_log::key::{DirectoryMatch, TimeRange};

use super::s3::{self, Pages};
use super::{Listed, S3Store};

/// A way through the directories of a bucket, in the order of keys. It holds a page of each directory on the way down.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    store: &'a S3Store,
    bucket: &'a str,
    period: &'a TimeRange,
    levels: Vec<Level>,
    /// Whether directories were left out.
    pub(super) left_out: bool,
}

#[derive(Debug)]
struct Level {
    pages: Pages,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
enum Entry {
    Object(Listed),
    /// With a slash at its end.
    Directory(String),
}

impl<'a> Walk<'a> {
    pub(super) async fn new(store: &'a S3Store, bucket: &'a str, prefix: &str, period: &'a TimeRange) -> Self {
        let mut walk = Walk { store, bucket, period, levels: Vec::new(), left_out: false };
        let directory = &prefix[..prefix.rfind('/').map_or(0, |slash| slash + 1)];
        walk.descend(prefix, period.visit(directory)).await;
        walk
    }

    /// The next object; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Listed>, String> {
        while let Some(level) = self.levels.last_mut() {
            match level.entries.pop_front() {
                Some(Entry::Object(object)) => return Ok(Some(object)),
                Some(Entry::Directory(directory)) => self.descend(&directory, self.period.visit(&directory)).await,
                None => match level.pages.next().await {
                    Some(page) => level.entries = entries(page.map_err(|error| s3::detail(&error))?),
                    None => drop(self.levels.pop()),
                },
            }
        }
        Ok(None)
    }

    async fn descend(&mut self, prefix: &str, visit: DirectoryMatch) {
        let delimiter = match visit {
            DirectoryMatch::Outside => {
                self.left_out = true;
                return;
            }
            DirectoryMatch::Inside => None,
            DirectoryMatch::Partial => Some("/"),
        };
        let pages = self.store.pages(self.bucket, prefix, delimiter).await;
        self.levels.push(Level { pages, entries: VecDeque::new() });
    }
}

/// What a page holds, in the order of keys.
fn entries(page: ListObjectsV2Output) -> VecDeque<Entry> {
    let objects = page.contents.unwrap_or_default().into_iter().filter_map(listed).map(Entry::Object);
    let directories = page.common_prefixes.unwrap_or_default().into_iter().filter_map(|common| common.prefix);
    let mut entries: Vec<Entry> = objects.chain(directories.map(Entry::Directory)).collect();
    entries.sort_by(|one, other| one.name().cmp(other.name()));
    entries.into()
}

fn listed(object: Object) -> Option<Listed> {
    let archived = matches!(object.storage_class, Some(ObjectStorageClass::Glacier | ObjectStorageClass::DeepArchive));
    let bytes = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    Some(Listed { key: object.key?, bytes, archived })
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Entry::Object(object) => &object.key,
            Entry::Directory(directory) => directory,
        }
    }
}
