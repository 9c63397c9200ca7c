//! `elbship backfill`: plans an S3 Batch Operations job that invokes the function for every object below a prefix, or only counts
//! the objects and estimates the price.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use elb_common::redact::redact_other_value;
use elb_common::text::plural;
use elb_log::key::{TimeRange, skip_reason};
use elb_log_shipper::backfill::{BatchJob, Manifest, ManifestError, ManifestWriter, Price, S3Location};
use elb_log_shipper::object::{ListedObject, ObjectRef, SkipReason, Task};
use elb_log_shipper::ship::Shipper;
use indicatif::{HumanBytes, HumanCount};

use crate::cli::{BackfillArgs, ShipArgs, split_s3};
use crate::error::CommandError;
use crate::output::Output;
use crate::setup::{self, Input, Use};
use crate::terminal::{print, print_error};
use crate::time_arg::time_range;

/// Name of the manifest in the directory of the plan.
const MANIFEST: &str = "manifest.csv";

/// Permissions of a new job request, before the umask.
const PUBLIC_MODE: u32 = 0o666;

/// Name of the job request in the directory of the plan.
const REQUEST: &str = "job.json";

/// Runs the command.
pub(crate) async fn run(args: BackfillArgs) -> Result<(), CommandError> {
    let time_range = time_range(args.since.as_ref(), args.until.as_ref(), jiff::Timestamp::now())?;
    let sources = sources(&args)?;
    let job = job(&args, &sources)?;
    if job.is_some() && !args.plan {
        return Err(CommandError::Usage(
            "cannot run the job: AWS runs it, and this command only plans it; add --plan".to_owned(),
        ));
    }
    let config = setup::read_config(&ShipArgs::default(), None)?;
    let shipper = setup::shipper(config, Use { input: Input::Store, shown: false, dry_run: true })?;
    let listing = Listing { shipper: &shipper, time_range, sources: &sources };
    let Some(job) = job else {
        let (manifest, left_out) = listing.write(io::sink()).await?;
        check_not_empty(&manifest, &left_out)?;
        print_archived(&left_out);
        return print(&estimate(&manifest, &left_out));
    };
    let files = PlanFiles::create(args.out)?;
    let (manifest, left_out) = listing.write(BufWriter::new(files.begin_manifest()?)).await?;
    if let Err(error) = check_not_empty(&manifest, &left_out) {
        files.discard()?;
        return Err(error);
    }
    files.finish(&job, &manifest)?;
    print_warnings(&job, &sources);
    print_archived(&left_out);
    print(&description(&job, &manifest, &left_out, &files))
}

/// The objects of a backfill.
struct Listing<'a> {
    shipper: &'a Shipper,
    time_range: TimeRange,
    sources: &'a [S3Location],
}

impl Listing<'_> {
    /// Lists the objects and writes their manifest.
    async fn write(&self, out: impl Write) -> Result<(Manifest, LeftOut), CommandError> {
        let mut plan = Plan::new(self.shipper, self.time_range, out);
        for source in self.sources {
            plan.list(source).await.map_err(CommandError::Failed)?;
        }
        plan.finish().map_err(CommandError::Failed)
    }
}

fn check_not_empty(manifest: &Manifest, left_out: &LeftOut) -> Result<(), CommandError> {
    if manifest.objects > 0 {
        return Ok(());
    }
    Err(CommandError::Failed(format!("nothing to ship: no object matches{}", left_out.description())))
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

/// Returns the job, or none without its flags, which are only accepted together. Its manifest and report must not be below a source,
/// because the function would ship them as logs.
fn job(args: &BackfillArgs, sources: &[S3Location]) -> Result<Option<BatchJob>, CommandError> {
    let BackfillArgs {
        function_arn: Some(function), role_arn: Some(role), manifest: Some(manifest), report: Some(report), ..
    } = args
    else {
        return Ok(None);
    };
    let mut manifest = manifest.clone();
    if manifest.key.is_empty() || manifest.key.ends_with('/') {
        manifest.key.push_str(MANIFEST);
    }
    for (flag, file) in [("--manifest", &manifest), ("--report", report)] {
        if let Some(source) = sources.iter().find(|source| source.bucket == file.bucket && file.key.starts_with(&source.key)) {
            return Err(CommandError::Usage(format!(
                "cannot use {flag} {file}: it is below {source}, where the function would ship it as a log; use another bucket or prefix"
            )));
        }
    }
    let description = format!("elbship backfill {}", args.paths.join(" "));
    let (function, role, report) = (function.clone(), role.clone(), report.clone());
    Ok(Some(BatchJob { function, role, manifest, report, priority: args.priority, description }))
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
        let file = Output::open(&self.request.to_string_lossy(), PUBLIC_MODE);
        file.and_then(|file| file.write(&mut request.as_bytes(), PUBLIC_MODE)).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &io::Error) -> CommandError {
        CommandError::Failed(format!("cannot write the plan to {}: {error}", self.directory.display()))
    }
}

/// A manifest that is being written.
struct Plan<'a, W> {
    shipper: &'a Shipper,
    time_range: TimeRange,
    writer: ManifestWriter<W>,
    left_out: LeftOut,
}

/// Number of objects that the manifest leaves out, and of archived objects in it.
#[derive(Debug, Default)]
struct LeftOut {
    outside_range: u64,
    skipped: BTreeMap<String, u64>,
    archived: u64,
}

impl<'a, W: Write> Plan<'a, W> {
    fn new(shipper: &'a Shipper, time_range: TimeRange, out: W) -> Self {
        Plan { shipper, time_range, writer: ManifestWriter::new(out), left_out: LeftOut::default() }
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

fn print_warnings(job: &BatchJob, sources: &[S3Location]) {
    for (what, file) in [("the manifest", &job.manifest), ("the report", &job.report)] {
        if sources.iter().any(|source| source.bucket == file.bucket) {
            print_error(&format!("warning: {what} is in the bucket of the logs; do not notify the function of {file}"));
        }
    }
}

fn print_archived(left_out: &LeftOut) {
    match left_out.archived {
        0 => {}
        1 => print_error("warning: 1 object is archived, and its task will fail; restore the object first"),
        archived => {
            print_error(&format!(
                "warning: {archived} objects are archived, and their tasks will fail; restore the objects first"
            ));
        }
    }
}

/// Describes the objects.
fn counts(manifest: &Manifest, left_out: &LeftOut) -> String {
    let objects = plural(manifest.objects, "object");
    let (number, size) = (HumanCount(manifest.objects), HumanBytes(manifest.object_bytes));
    format!("{number} {objects} of {size} compressed{}", left_out.description())
}

/// Describes the price of the job.
fn price(manifest: &Manifest) -> String {
    let price = Price::of(manifest);
    let objects = format!("{} {}", HumanCount(manifest.objects), plural(manifest.objects, "object"));
    [
        format!("about {:.2} US$ at list prices of us-east-1, without data transfer:", price.total()),
        format!("  {:>8.2}  one S3 Batch Operations job", price.job),
        format!("  {:>8.2}  {objects} in the job", price.objects),
        format!("  {:>8.2}  one GET request for each object", price.requests),
        format!("  {:>8.2}  one invocation of the function for each object", price.invocations),
        format!("  {:>8.2}  Lambda time (256 MB, arm64), if the function does not wait for a busy Logstash", price.time),
    ]
    .join("\n")
}

/// Describes the objects and the price of a job that is not planned yet.
fn estimate(manifest: &Manifest, left_out: &LeftOut) -> String {
    let next = "to plan the job, add --plan, --function-arn, --role-arn, --manifest and --report";
    [&counts(manifest, left_out), "", &price(manifest), "", next].join("\n")
}

/// Describes the plan, its price, and the commands that start the job.
fn description(job: &BatchJob, manifest: &Manifest, left_out: &LeftOut, files: &PlanFiles) -> String {
    let (manifest_file, request_file) = (files.manifest.display().to_string(), files.request.display().to_string());
    let [upload, create] = job.commands(manifest, &manifest_file, &request_file);
    [
        counts(manifest, left_out),
        format!("wrote {manifest_file} and {request_file}"),
        String::new(),
        price(manifest),
        String::new(),
        "upload the manifest, then create the job, which starts at once:".to_owned(),
        format!("  {upload}"),
        format!("  {create}"),
    ]
    .join("\n")
}
