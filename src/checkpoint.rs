//! Checkpoints: how far an object was delivered when its invocation ran out of time. The next attempt continues there.
//!
//! A checkpoint is one small JSON object below `DEAD_LETTER_URL`, named after the log object. A checkpoint that is missing, damaged,
//! or of another attempt is ignored: then the whole object is sent again, with the same event IDs.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use elb_common::aws::explain_causes;
use elb_log::event::IdPrefix;
use elb_log::origin::ObjectName;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::atomic_file::write_atomically;
use crate::ledger::SettledPart;
use crate::object::{OpenedObject, S3Call, S3Store, describe_s3_error};

/// The version of the format, which is the value of the first member.
const VERSION: &str = "checkpoint/1";

/// The first bytes of every checkpoint.
pub(crate) const CHECKPOINT_START: &[u8] = br#"{"elbship":"checkpoint/1","#;

/// Maximum length of a checkpoint in bytes. Keys are at most 1,024 bytes long, and each of them is at most six times as long in
/// JSON.
const MAX_BYTES: usize = 64 * 1024;

/// Timeout for reading, writing or deleting a checkpoint, including retries.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Where checkpoints are: below `DEAD_LETTER_URL`.
#[derive(Debug)]
pub enum CheckpointLocation {
    /// Below a prefix in a bucket.
    S3 {
        /// The store.
        store: S3Store,
        /// The bucket.
        bucket: String,
        /// The prefix, without a slash at its end.
        prefix: String,
    },
    /// In a directory.
    Dir(PathBuf),
}

/// Reads, writes and deletes checkpoints.
#[derive(Debug)]
pub struct CheckpointStore {
    location: CheckpointLocation,
    settings: String,
}

/// How far an object was delivered, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    elbship: String,
    bucket: String,
    key: String,
    #[serde(flatten)]
    version: VersionTag,
    /// The notification's delivery, see [`CheckpointOwner`](crate::object::CheckpointOwner).
    owner: String,
    /// A digest of the settings, see [`CheckpointStore::new`].
    settings: String,
    /// What was delivered.
    #[serde(flatten)]
    pub(crate) settled: SettledPart,
}

/// The version of an object. A directory has no ETags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionTag {
    etag: Option<String>,
    modified: String,
}

impl VersionTag {
    /// Returns the version that is being read.
    pub(crate) fn of(object: &OpenedObject) -> Self {
        VersionTag { etag: object.etag.clone(), modified: object.modified.to_string() }
    }
}

impl CheckpointStore {
    /// Creates a store of checkpoints. `settings` is a digest of all settings that decide where events go and what they contain.
    /// Checkpoints of other settings are ignored.
    pub fn new(location: CheckpointLocation, settings: String) -> Self {
        CheckpointStore { location, settings }
    }

    /// Returns the checkpoint of an object that `owner` has left; none if it does not exist, or if it cannot be read within
    /// `limit`. The caller compares the object's version.
    pub(crate) async fn find(&self, object: &ObjectName, owner: &str, limit: Duration) -> Option<Checkpoint> {
        let read = timeout(limit.min(CALL_TIMEOUT), self.read(object)).await;
        let read = read.unwrap_or_else(|_| Err("no response in time".to_owned()));
        match read {
            Ok(text) => Checkpoint::parse(&text?).filter(|found| found.is_of(object, owner, &self.settings)),
            Err(error) => {
                let url = self.url_of(object);
                tracing::warn!(url, error, "cannot read a checkpoint; the object is sent again from its beginning");
                None
            }
        }
    }

    /// Writes the checkpoint of an object. It replaces an earlier one.
    ///
    /// # Errors
    /// The checkpoint could not be written within `limit`. The text is for the object's report.
    pub(crate) async fn write(
        &self,
        object: &ObjectName,
        version: VersionTag,
        owner: &str,
        settled: SettledPart,
        limit: Duration,
    ) -> Result<(), String> {
        let checkpoint = Checkpoint {
            elbship: VERSION.to_owned(),
            bucket: object.bucket.clone(),
            key: object.key.clone(),
            version,
            owner: owner.to_owned(),
            settings: self.settings.clone(),
            settled,
        };
        let written = match serde_json::to_vec(&checkpoint) {
            Ok(text) => timeout(limit.min(CALL_TIMEOUT), self.put(object, text)).await,
            Err(error) => Ok(Err(error.to_string())),
        };
        let written = written.unwrap_or_else(|_| Err("no time is left".to_owned()));
        written.map_err(|error| format!("cannot write the checkpoint {}: {error}", self.url_of(object)))
    }

    /// Deletes the checkpoint of an object. A failure is only logged, because no attempt needs the checkpoint of a finished object.
    pub(crate) async fn delete(&self, object: &ObjectName, limit: Duration) {
        let deleted = timeout(limit.min(CALL_TIMEOUT), self.remove(object)).await;
        if let Err(error) = deleted.unwrap_or_else(|_| Err("no time is left".to_owned())) {
            let url = self.url_of(object);
            tracing::warn!(
                url,
                error,
                "cannot delete a checkpoint; it is ignored and expires, if its bucket has a lifecycle rule"
            );
        }
    }

    /// Returns the text of a checkpoint, or none if it does not exist. 403 counts as missing, because S3 returns it for missing objects
    /// to a role without `s3:ListBucket`.
    async fn read(&self, object: &ObjectName) -> Result<Option<Vec<u8>>, String> {
        match &self.location {
            CheckpointLocation::S3 { store, bucket, prefix } => {
                let request = store.client().await.get_object().bucket(bucket).key(key_of(prefix, object));
                let found = match request.send().await {
                    Ok(found) => found,
                    Err(error) if matches!(status(&error), Some(403 | 404)) => return Ok(None),
                    Err(error) => return Err(describe_s3_error(S3Call::Get, &error)),
                };
                let length = found.content_length().and_then(|length| usize::try_from(length).ok());
                if length.is_none_or(|length| length > MAX_BYTES) {
                    return Err(format!("it is longer than {MAX_BYTES} bytes"));
                }
                let text = found.body.collect().await.map_err(|error| explain_causes(&error))?;
                Ok(Some(text.to_vec()))
            }
            CheckpointLocation::Dir(directory) => match tokio::fs::read(directory.join(name_of(object))).await {
                Ok(text) => Ok(Some(text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    async fn put(&self, object: &ObjectName, text: Vec<u8>) -> Result<(), String> {
        match &self.location {
            CheckpointLocation::S3 { store, bucket, prefix } => {
                let request = store.client().await.put_object().bucket(bucket).key(key_of(prefix, object));
                let request = request.content_type("application/json").body(ByteStream::from(text));
                let written = request.send().await.map(drop);
                written.map_err(|error| describe_s3_error(S3Call::Put, &error))
            }
            CheckpointLocation::Dir(directory) => {
                let path = directory.join(name_of(object));
                let written = tokio::task::spawn_blocking(move || write_atomically(&path, &text)).await;
                written.map_err(io::Error::other).flatten().map_err(|error| error.to_string())
            }
        }
    }

    async fn remove(&self, object: &ObjectName) -> Result<(), String> {
        match &self.location {
            CheckpointLocation::S3 { store, bucket, prefix } => {
                let request = store.client().await.delete_object().bucket(bucket).key(key_of(prefix, object));
                let deleted = request.send().await.map(drop);
                deleted.map_err(|error| describe_s3_error(S3Call::Delete, &error))
            }
            CheckpointLocation::Dir(directory) => match tokio::fs::remove_file(directory.join(name_of(object))).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.to_string()),
                _ => Ok(()),
            },
        }
    }

    /// Returns the URL or path of a checkpoint.
    fn url_of(&self, object: &ObjectName) -> String {
        match &self.location {
            CheckpointLocation::S3 { bucket, prefix, .. } => format!("s3://{bucket}/{}", key_of(prefix, object)),
            CheckpointLocation::Dir(directory) => directory.join(name_of(object)).display().to_string(),
        }
    }
}

impl Checkpoint {
    fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().filter(|found: &Self| found.elbship == VERSION && found.settled.is_consistent())
    }

    fn is_of(&self, object: &ObjectName, owner: &str, settings: &str) -> bool {
        (self.bucket == object.bucket && self.key == object.key) && self.owner == owner && self.settings == settings
    }

    /// Returns whether the checkpoint is of this version of its object.
    pub(crate) fn is_of_version(&self, version: &VersionTag) -> bool {
        self.version == *version
    }
}

/// Returns the name of an object's checkpoint.
fn name_of(object: &ObjectName) -> String {
    format!("checkpoints/{}", IdPrefix::of(object).as_str())
}

fn key_of(prefix: &str, object: &ObjectName) -> String {
    format!("{prefix}/{}", name_of(object))
}

fn status<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}
