//! `elbship backfill --plan`: writes what S3 Batch Operations needs to run the function over the objects below a prefix.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;

use elb_log::key::{TimeRange, skip_reason};
use elb_log_shipper::backfill::{BatchJob, Manifest, ManifestError, ManifestWriter, Price, S3Location};
use elb_log_shipper::object::{ListedObject, ObjectRef, SkipReason, Task};
use elb_log_shipper::ship::Shipper;
use indicatif::{HumanBytes, HumanCount};

use crate::cli::{BackfillArgs, ShipArgs, split_s3};
use crate::run::{Exit, build, configure, print, replace_file, say};

/// The manifest's name in the directory of the plan.
const MANIFEST: &str = "manifest.csv";

/// The request's name there.
const REQUEST: &str = "job.json";

/// Runs the command.
pub(crate) async fn run(args: BackfillArgs) -> Exit {
    match try_run(args).await {
        Ok(()) => Exit::Delivered,
        Err(exit) => exit,
    }
}

async fn try_run(args: BackfillArgs) -> Result<(), Exit> {
    if !args.plan {
        return Err(Exit::Usage("give --plan: AWS runs the job, and this program only plans it".to_owned()));
    }
    let sources = sources(&args)?;
    let job = job(&args, &sources)?;
    let dry = ShipArgs { dry_run: true, ..ShipArgs::default() };
    let shipper = build(configure(&dry, None)?, &dry, true)?;
    let failed = |error: io::Error| Exit::Failed(format!("writing the plan to {} failed: {error}", args.out.display()));
    fs::create_dir_all(&args.out).map_err(failed)?;
    let (manifest_file, request_file) = (args.out.join(MANIFEST), args.out.join(REQUEST));
    let unfinished = args.out.join(format!("{MANIFEST}.unfinished"));
    let period = TimeRange { since: args.since, until: args.until };
    let mut plan = Plan::new(&shipper, period, File::create(&unfinished).map_err(failed)?);
    for source in &sources {
        plan.list(source).await.map_err(Exit::Failed)?;
    }
    let (manifest, left_out) = plan.finish().map_err(Exit::Failed)?;
    if manifest.objects == 0 {
        fs::remove_file(&unfinished).map_err(failed)?;
        return Err(Exit::Failed(format!("nothing to ship: no object matches{}", left_out.shown())));
    }
    fs::rename(&unfinished, &manifest_file).map_err(failed)?;
    let request = serde_json::to_string_pretty(&job.request(&manifest)).map_err(|error| failed(error.into()))? + "\n";
    replace_file(&request_file.to_string_lossy(), &request).map_err(failed)?;
    caution(&job, &sources, &left_out);
    print(&page(&job, &manifest, &left_out, &manifest_file, &request_file))
}

/// What is to be backfilled.
fn sources(args: &BackfillArgs) -> Result<Vec<S3Location>, Exit> {
    let place = |path: &String| {
        let (bucket, prefix) = split_s3(path).ok_or_else(|| {
            Exit::Usage(format!("{path} is no s3://BUCKET/PREFIX; S3 Batch Operations reads buckets, and elbship replay files"))
        })?;
        Ok(S3Location { bucket: bucket.to_owned(), key: prefix.to_owned() })
    };
    args.paths.iter().map(place).collect()
}

/// The job. Its own files must not stand among the logs: the function would ship them.
fn job(args: &BackfillArgs, sources: &[S3Location]) -> Result<BatchJob, Exit> {
    let mut manifest = args.manifest.clone();
    if manifest.key.is_empty() || manifest.key.ends_with('/') {
        manifest.key.push_str(MANIFEST);
    }
    for (flag, place) in [("--manifest", &manifest), ("--report", &args.report)] {
        if let Some(source) = sources.iter().find(|source| source.bucket == place.bucket && place.key.starts_with(&source.key)) {
            return Err(Exit::Usage(format!(
                "{flag} {place} is below {source}, where the function would ship it as a log; name another bucket or prefix"
            )));
        }
    }
    let description = format!("elbship backfill {}", args.paths.join(" "));
    let (function, role, report) = (args.function_arn.clone(), args.role_arn.clone(), args.report.clone());
    Ok(BatchJob { function, role, manifest, report, priority: args.priority, description })
}

/// A manifest that is being made.
struct Plan<'a> {
    shipper: &'a Shipper,
    period: TimeRange,
    writer: ManifestWriter<BufWriter<File>>,
    left_out: LeftOut,
}

/// Objects that the manifest does not name, and archived ones that it does.
#[derive(Debug, Default)]
struct LeftOut {
    out_of_time: u64,
    skipped: BTreeMap<String, u64>,
    archived: u64,
}

impl<'a> Plan<'a> {
    fn new(shipper: &'a Shipper, period: TimeRange, file: File) -> Self {
        Plan { shipper, period, writer: ManifestWriter::new(BufWriter::new(file)), left_out: LeftOut::default() }
    }

    async fn list(&mut self, source: &S3Location) -> Result<(), String> {
        let mut listing = self.shipper.store().list(&source.bucket, &source.key, self.period);
        while let Some(object) = listing.next().await.map_err(|error| error.to_string())? {
            self.add(&source.bucket, &object).map_err(|error| error.to_string())?;
        }
        self.left_out.out_of_time += u64::from(listing.left_out());
        Ok(())
    }

    /// Adds an object unless the function would skip it.
    fn add(&mut self, bucket: &str, object: &ListedObject) -> Result<(), ManifestError> {
        if !self.period.includes(&object.key) {
            self.left_out.out_of_time += 1;
        } else if let Some(reason) = self.skip(bucket, object) {
            *self.left_out.skipped.entry(reason.to_string()).or_default() += 1;
        } else {
            self.left_out.archived += u64::from(object.archived);
            self.writer.add(bucket, &object.key, object.bytes)?;
        }
        Ok(())
    }

    fn skip(&self, bucket: &str, object: &ListedObject) -> Option<SkipReason> {
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
    /// As the rest of a sentence; empty if there is nothing.
    fn shown(&self) -> String {
        let mut parts: Vec<String> = self.skipped.iter().map(|(reason, objects)| format!("{objects} × {reason}")).collect();
        if self.out_of_time > 0 {
            parts.push("what is not of the time from --since to --until".to_owned());
        }
        if parts.is_empty() { String::new() } else { format!("; left out: {}", parts.join(", ")) }
    }
}

/// Says what could go wrong with the job.
fn caution(job: &BatchJob, sources: &[S3Location], left_out: &LeftOut) {
    for (what, place) in [("the manifest", &job.manifest), ("the report", &job.report)] {
        if sources.iter().any(|source| source.bucket == place.bucket) {
            say(&format!("caution: {what} goes to the bucket of the logs; the function must not be notified of {place}"));
        }
    }
    if left_out.archived > 0 {
        say(&format!("caution: {} objects are archived, and their tasks will fail; restore them first", left_out.archived));
    }
}

/// What the plan is, what it costs, and how it becomes a job.
fn page(job: &BatchJob, manifest: &Manifest, left_out: &LeftOut, manifest_file: &Path, request_file: &Path) -> String {
    let price = Price::of(manifest);
    let (manifest_name, request_name) = (manifest_file.display().to_string(), request_file.display().to_string());
    let [upload, create] = job.commands(manifest, &manifest_name, &request_name);
    let objects = HumanCount(manifest.objects);
    [
        format!("{objects} objects of {} compressed{}", HumanBytes(manifest.object_bytes), left_out.shown()),
        format!("wrote {manifest_name} and {request_name}"),
        String::new(),
        format!("about {:.2} US$ by the list prices of us-east-1, without the transfer of data:", price.total()),
        format!("  {:>8.2}  one job of S3 Batch Operations", price.job),
        format!("  {:>8.2}  its {objects} objects", price.objects),
        format!("  {:>8.2}  a GET request for each", price.requests),
        format!("  {:>8.2}  an invocation of the function for each", price.invocations),
        format!("  {:>8.2}  the function's time (256 MB, arm64), unless it waits for a busy Logstash", price.time),
        String::new(),
        "upload the manifest, then create the job, which begins at once:".to_owned(),
        format!("  {upload}"),
        format!("  {create}"),
    ]
    .join("\n")
}
