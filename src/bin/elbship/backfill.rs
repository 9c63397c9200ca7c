//! `elbship backfill --plan`: plans an S3 Batch Operations job that invokes the function for every object below a prefix.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::PathBuf;

use elb_common::redact::redact_other_value;
use elb_log::key::{TimeRange, skip_reason};
use elb_log_shipper::backfill::{BatchJob, Manifest, ManifestError, ManifestWriter, Price, S3Location};
use elb_log_shipper::object::{ListedObject, ObjectRef, SkipReason, Task};
use elb_log_shipper::ship::Shipper;
use indicatif::{HumanBytes, HumanCount};

use crate::cli::{BackfillArgs, ShipArgs, split_s3};
use crate::error::CommandError;
use crate::report::replace_file;
use crate::setup;
use crate::terminal::{print, print_error};

/// Name of the manifest in the directory of the plan.
const MANIFEST: &str = "manifest.csv";

/// Permissions of a new job request, before the umask.
const PUBLIC_MODE: u32 = 0o666;

/// Name of the job request in the directory of the plan.
const REQUEST: &str = "job.json";

/// Runs the command.
pub(crate) async fn run(args: BackfillArgs) -> Result<(), CommandError> {
    if !args.plan {
        return Err(CommandError::Usage(
            "cannot run the job: AWS runs it, and this command only plans it; add --plan".to_owned(),
        ));
    }
    let sources = sources(&args)?;
    let job = job(&args, &sources)?;
    let dry_run = ShipArgs { dry_run: true, ..ShipArgs::default() };
    let shipper = setup::shipper(setup::read_config(&dry_run, None)?, &dry_run, false)?;
    let files = PlanFiles::create(args.out)?;
    let time_range = TimeRange { since: args.since, until: args.until };
    let mut plan = Plan::new(&shipper, time_range, files.begin_manifest()?);
    for source in &sources {
        plan.list(source).await.map_err(CommandError::Failed)?;
    }
    let (manifest, left_out) = plan.finish().map_err(CommandError::Failed)?;
    if manifest.objects == 0 {
        files.discard()?;
        return Err(CommandError::Failed(format!("nothing to ship: no object matches{}", left_out.description())));
    }
    files.finish(&job, &manifest)?;
    print_warnings(&job, &sources, &left_out);
    print(&description(&job, &manifest, &left_out, &files))
}

/// Returns the prefixes to backfill.
fn sources(args: &BackfillArgs) -> Result<Vec<S3Location>, CommandError> {
    let source = |path: &String| {
        let (bucket, prefix) = split_s3(path).ok_or_else(|| {
            CommandError::Usage(format!(
                "cannot backfill {}: not of the form s3://BUCKET/PREFIX; use elbship replay for files",
                redact_other_value(path)
            ))
        })?;
        Ok(S3Location { bucket: bucket.to_owned(), key: prefix.to_owned() })
    };
    args.paths.iter().map(source).collect()
}

/// Returns the job. Its manifest and report must not be below a source, because the function would ship them as logs.
fn job(args: &BackfillArgs, sources: &[S3Location]) -> Result<BatchJob, CommandError> {
    let mut manifest = args.manifest.clone();
    if manifest.key.is_empty() || manifest.key.ends_with('/') {
        manifest.key.push_str(MANIFEST);
    }
    for (flag, file) in [("--manifest", &manifest), ("--report", &args.report)] {
        if let Some(source) = sources.iter().find(|source| source.bucket == file.bucket && file.key.starts_with(&source.key)) {
            return Err(CommandError::Usage(format!(
                "cannot use {flag} {file}: it is below {source}, where the function would ship it as a log; use another bucket or prefix"
            )));
        }
    }
    let description = format!("elbship backfill {}", args.paths.join(" "));
    let (function, role, report) = (args.function_arn.clone(), args.role_arn.clone(), args.report.clone());
    Ok(BatchJob { function, role, manifest, report, priority: args.priority, description })
}

/// The files of a plan. The manifest has another name until it is complete.
struct PlanFiles {
    directory: PathBuf,
    manifest: PathBuf,
    unfinished: PathBuf,
    request: PathBuf,
}

impl PlanFiles {
    /// Creates the directory.
    fn create(directory: PathBuf) -> Result<Self, CommandError> {
        let (manifest, request) = (directory.join(MANIFEST), directory.join(REQUEST));
        let unfinished = directory.join(format!("{MANIFEST}.unfinished"));
        let files = PlanFiles { directory, manifest, unfinished, request };
        fs::create_dir_all(&files.directory).map_err(|error| files.error(&error))?;
        Ok(files)
    }

    fn begin_manifest(&self) -> Result<File, CommandError> {
        File::create(&self.unfinished).map_err(|error| self.error(&error))
    }

    fn discard(&self) -> Result<(), CommandError> {
        fs::remove_file(&self.unfinished).map_err(|error| self.error(&error))
    }

    /// Renames the manifest and writes the job request.
    fn finish(&self, job: &BatchJob, manifest: &Manifest) -> Result<(), CommandError> {
        fs::rename(&self.unfinished, &self.manifest).map_err(|error| self.error(&error))?;
        let request = serde_json::to_string_pretty(&job.request(manifest)).map_err(|error| self.error(&error.into()))? + "\n";
        replace_file(&self.request.to_string_lossy(), &mut request.as_bytes(), PUBLIC_MODE).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &io::Error) -> CommandError {
        CommandError::Failed(format!("cannot write the plan to {}: {error}", self.directory.display()))
    }
}

/// A manifest that is being written.
struct Plan<'a> {
    shipper: &'a Shipper,
    time_range: TimeRange,
    writer: ManifestWriter<BufWriter<File>>,
    left_out: LeftOut,
}

/// Number of objects that the manifest leaves out, and of archived objects in it.
#[derive(Debug, Default)]
struct LeftOut {
    outside_range: u64,
    skipped: BTreeMap<String, u64>,
    archived: u64,
}

impl<'a> Plan<'a> {
    fn new(shipper: &'a Shipper, time_range: TimeRange, file: File) -> Self {
        Plan { shipper, time_range, writer: ManifestWriter::new(BufWriter::new(file)), left_out: LeftOut::default() }
    }

    async fn list(&mut self, source: &S3Location) -> Result<(), String> {
        let mut listing = self.shipper.store().list(&source.bucket, &source.key, self.time_range);
        while let Some(object) = listing.next().await.map_err(|error| error.to_string())? {
            self.add(&source.bucket, &object).map_err(|error| error.to_string())?;
        }
        self.left_out.outside_range += u64::from(listing.left_out());
        Ok(())
    }

    /// Adds an object unless the function would skip it.
    fn add(&mut self, bucket: &str, object: &ListedObject) -> Result<(), ManifestError> {
        if !self.time_range.includes(&object.key) {
            self.left_out.outside_range += 1;
        } else if let Some(reason) = self.skip_reason(bucket, object) {
            *self.left_out.skipped.entry(reason.to_string()).or_default() += 1;
        } else {
            self.left_out.archived += u64::from(object.archived);
            self.writer.add(bucket, &object.key, object.bytes)?;
        }
        Ok(())
    }

    /// Returns why the function would skip an object.
    fn skip_reason(&self, bucket: &str, object: &ListedObject) -> Option<SkipReason> {
        if let Some(reason) = skip_reason(&object.key) {
            return Some(reason.into());
        }
        if object.bytes == 0 {
            return Some(SkipReason::Empty);
        }
        match self.shipper.skip_dead_letter(Task::Ship(ObjectRef::stored(bucket, object.key.as_str()))) {
            Task::Skip(_, reason) => Some(reason),
            Task::Ship(_) | Task::Fail(..) => None,
        }
    }

    fn finish(self) -> Result<(Manifest, LeftOut), String> {
        let manifest = self.writer.finish().map_err(|error| error.to_string())?;
        Ok((manifest, self.left_out))
    }
}

impl LeftOut {
    /// Returns the end of a sentence; empty if nothing is left out.
    fn description(&self) -> String {
        let mut parts: Vec<String> = self.skipped.iter().map(|(reason, objects)| format!("{objects} × {reason}")).collect();
        if self.outside_range > 0 {
            parts.push("objects outside --since and --until".to_owned());
        }
        if parts.is_empty() { String::new() } else { format!("; left out: {}", parts.join(", ")) }
    }
}

fn print_warnings(job: &BatchJob, sources: &[S3Location], left_out: &LeftOut) {
    for (what, file) in [("the manifest", &job.manifest), ("the report", &job.report)] {
        if sources.iter().any(|source| source.bucket == file.bucket) {
            print_error(&format!("warning: {what} is in the bucket of the logs; do not notify the function of {file}"));
        }
    }
    if left_out.archived > 0 {
        let archived = left_out.archived;
        print_error(&format!("warning: {archived} objects are archived, and their tasks will fail; restore the objects first"));
    }
}

/// Describes the plan, its price, and the commands that start the job.
fn description(job: &BatchJob, manifest: &Manifest, left_out: &LeftOut, files: &PlanFiles) -> String {
    let price = Price::of(manifest);
    let (manifest_file, request_file) = (files.manifest.display().to_string(), files.request.display().to_string());
    let [upload, create] = job.commands(manifest, &manifest_file, &request_file);
    let objects = HumanCount(manifest.objects);
    [
        format!("{objects} objects of {} compressed{}", HumanBytes(manifest.object_bytes), left_out.description()),
        format!("wrote {manifest_file} and {request_file}"),
        String::new(),
        format!("about {:.2} US$ at list prices of us-east-1, without data transfer:", price.total()),
        format!("  {:>8.2}  one S3 Batch Operations job", price.job),
        format!("  {:>8.2}  {objects} objects in the job", price.objects),
        format!("  {:>8.2}  one GET request for each object", price.requests),
        format!("  {:>8.2}  one invocation of the function for each object", price.invocations),
        format!("  {:>8.2}  Lambda time (256 MB, arm64), if the function does not wait for a busy Logstash", price.time),
        String::new(),
        "upload the manifest, then create the job, which starts at once:".to_owned(),
        format!("  {upload}"),
        format!("  {create}"),
    ]
    .join("\n")
}
