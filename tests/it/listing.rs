//! Lists the keys of a bucket, for a replay and for the plan of a backfill.

use std::path::Path;
use std::sync::{Arc, Mutex};

use s3s::dto::{
    CommonPrefix, GetObjectInput, GetObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object, ObjectStorageClass,
    StreamingBlob,
};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use tokio::process::Command;

use crate::support::s3::Server;
use crate::support::{alb_key, alb_line, assert_status, read_json, run, stderr, stdout};

/// Maximum number of keys in a page, as in S3.
const PAGE: usize = 1_000;

/// The flags that every plan of a backfill needs.
const JOB: [&str; 9] = [
    "--plan",
    "--function-arn",
    "arn:aws:lambda:eu-west-1:123456789012:function:backfill",
    "--role-arn",
    "arn:aws:iam::123456789012:role/batch",
    "--manifest",
    "s3://plans/elb/",
    "--report",
    "s3://plans/elb/report",
];

/// A bucket `logs`. Each object is one line, unless its key contains `empty`. An object is archived if its key contains
/// `archived`.
struct Keys {
    /// Sorted.
    keys: Vec<String>,
    /// The prefixes that were listed, once for each page.
    listed: Arc<Mutex<Vec<String>>>,
}

impl Keys {
    async fn serve(keys: &[String]) -> Bucket {
        let listed: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        let front = Keys { keys, listed: Arc::clone(&listed) };
        Bucket { server: Server::serve(tempfile::tempdir().expect("a directory"), front).await, listed }
    }

    /// Returns what a listing shows of a key: the key, or its directory.
    fn shown(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
        let below = key.strip_prefix(prefix)?;
        let end = delimiter.and_then(|delimiter| below.find(delimiter)).map_or(key.len(), |at| prefix.len() + at + 1);
        Some(key[..end].to_owned())
    }
}

#[async_trait::async_trait]
impl S3 for Keys {
    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let ListObjectsV2Input { bucket, prefix, delimiter, continuation_token, .. } = request.input;
        if bucket != "logs" {
            return Err(s3_error!(NoSuchBucket));
        }
        let (prefix, after) = (prefix.unwrap_or_default(), continuation_token.unwrap_or_default());
        self.listed.lock().expect("no panic while holding").push(prefix.clone());
        let mut names: Vec<String> = self
            .keys
            .iter()
            .filter_map(|key| Keys::shown(key, &prefix, delimiter.as_deref()))
            .filter(|name| *name > after)
            .collect();
        names.dedup();
        let is_truncated = names.len() > PAGE;
        names.truncate(PAGE);
        let next_continuation_token = names.last().filter(|_| is_truncated).cloned();
        let (directories, keys): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| delimiter.is_some() && name.ends_with('/'));
        let object = |key: String| Object {
            size: Some(i64::from(!key.contains("empty"))),
            storage_class: key.contains("archived").then(|| ObjectStorageClass::from_static(ObjectStorageClass::GLACIER)),
            key: Some(key),
            ..Object::default()
        };
        Ok(S3Response::new(ListObjectsV2Output {
            contents: Some(keys.into_iter().map(object).collect()),
            common_prefixes: Some(directories.into_iter().map(|prefix| CommonPrefix { prefix: Some(prefix) }).collect()),
            is_truncated: Some(is_truncated),
            next_continuation_token,
            ..ListObjectsV2Output::default()
        }))
    }

    async fn get_object(&self, _: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let body = StreamingBlob::from(Body::from(alb_line(0) + "\n"));
        Ok(S3Response::new(GetObjectOutput { body: Some(body), ..GetObjectOutput::default() }))
    }
}

/// A server with a bucket of these keys.
struct Bucket {
    server: Server,
    listed: Arc<Mutex<Vec<String>>>,
}

impl Bucket {
    /// Returns the prefixes that were listed since the last call.
    fn listed(&self) -> Vec<String> {
        std::mem::take(&mut *self.listed.lock().expect("no panic while holding"))
    }

    fn elbship(&self, arguments: &[&str]) -> Command {
        self.server.elbship(arguments)
    }

    /// Returns the command that plans a backfill.
    fn backfill(&self, arguments: &[&str]) -> Command {
        let out = self.server.root.path().join("plan").display().to_string();
        self.elbship(&[&["backfill"], arguments, &["--out", &out], &JOB].concat())
    }

    /// Reads a file of the plan.
    fn plan(&self, file: &str) -> String {
        std::fs::read_to_string(self.server.root.path().join("plan").join(file)).expect("a file of the plan")
    }
}

/// Returns the key of an object in the directory of `day` whose interval ends at `end`.
fn key_of_day(prefix: &str, account: &str, region: &str, day: &str, end: &str) -> String {
    format!(
        "{prefix}AWSLogs/{account}/elasticloadbalancing/{region}/{day}/\
         {account}_elasticloadbalancing_{region}_app.web.50dc6c495c0c9188_{end}_203.0.113.7_x.log.gz"
    )
}

/// Replays one day of a path, and returns the keys of its objects.
async fn replayed(s3: &Bucket, path: &str) -> Vec<String> {
    let report = s3.server.report();
    let arguments = ["replay", path, "--since", "2026-03-02", "--until", "2026-03-03", "--dry-run", "--report", &report];
    assert_status(&run(&mut s3.elbship(&arguments)).await, 0);
    let report = read_json(Path::new(&report));
    let objects = report["objects"].as_array().expect("objects").iter();
    objects.map(|object| object["key"].as_str().expect("a key").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_only_the_selected_days_and_their_neighbours() {
    let days = [
        ("2025/03/02", "20250302T1200Z"),
        ("2026/02/28", "20260228T1200Z"),
        ("2026/03/01", "20260301T1200Z"),
        ("2026/03/01", "20260302T0000Z"),
        ("2026/03/02", "20260302T1200Z"),
        ("2026/03/02", "20260303T0000Z"),
        ("2026/03/03", "20260302T2355Z"),
        ("2026/03/03", "20260303T1200Z"),
        ("2026/03/04", "20260304T1200Z"),
        ("2026/04/02", "20260402T1200Z"),
    ];
    let (mut keys, mut expected) = (Vec::new(), Vec::new());
    for (account, region) in [("123456789012", "eu-west-1"), ("123456789012", "us-east-1"), ("210987654321", "eu-west-1")] {
        for (day, end) in days {
            let key = key_of_day("team a/", account, region, day, end);
            if end.starts_with("20260302") {
                expected.push(key.clone());
            }
            keys.push(key);
        }
    }
    keys.push("team a/AWSLogs/123456789012/CloudTrail/eu-west-1/2026/03/02/x.json.gz".to_owned());
    let s3 = Keys::serve(&keys).await;
    assert_eq!(replayed(&s3, "s3://logs/").await, expected);
    let listed = s3.listed();
    let lists = |part: &str| listed.iter().any(|prefix| prefix.contains(part));
    for day in ["/2026/03/01/", "/2026/03/02/", "/2026/03/03/"] {
        assert!(lists(day), "{day} is not listed: {listed:?}");
    }
    for other in ["/2025/", "/2026/02/", "/2026/04/", "/2026/03/04/", "CloudTrail"] {
        assert!(!lists(other), "{other} is listed: {listed:?}");
    }

    // The result is the same from every level, and if the prefix ends inside a name.
    let region = "team a/AWSLogs/123456789012/elasticloadbalancing/eu-west-1";
    for prefix in [format!("{region}/"), region.to_owned(), format!("{region}/2026/03/"), format!("{region}/2026/03/0")] {
        assert_eq!(replayed(&s3, &format!("s3://logs/{prefix}")).await, expected[..3], "{prefix}");
    }
    assert_eq!(replayed(&s3, &format!("s3://logs/{region}/2026/03/03/")).await, expected[2..3]);
    assert_eq!(replayed(&s3, "s3://logs/team a/AWSLogs/123456789012/elasticload").await, expected[..6]);
    s3.listed();
    let output = run(&mut s3.elbship(&["replay", "s3://logs/team a/", "--until", "2020-01-01", "--dry-run"])).await;
    assert_status(&output, 1);
    assert!(stderr(&output).contains("no object between --since and --until"), "{}", stderr(&output));
    assert!(!s3.listed().iter().any(|prefix| prefix.contains("/2026/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_only_the_selected_days_in_hive_style_directories() {
    let key = |service: &str, day: &str, end: &str| {
        format!(
            "AWSLogs/aws-account-id=123456789012/aws-service={service}/aws-region=eu-west-1/{day}/\
             123456789012_elasticloadbalancing_eu-west-1_app.web.50dc6c495c0c9188_{end}_203.0.113.7_x.log.gz"
        )
    };
    let wanted = key("elasticloadbalancing", "year=2026/month=03/day=02", "20260302T1200Z");
    let s3 = Keys::serve(&[
        wanted.clone(),
        key("elasticloadbalancing", "year=2025/month=03/day=02", "20250302T1200Z"),
        key("elasticloadbalancing", "year=2026/month=03/day=03", "20260303T1200Z"),
        key("elasticloadbalancing", "year=2026/month=03/day=04", "20260304T1200Z"),
        key("elasticloadbalancing", "year=2026/month=04/day=02", "20260402T1200Z"),
        key("vpcflowlogs", "year=2026/month=03/day=02", "20260302T1200Z"),
    ])
    .await;
    assert_eq!(replayed(&s3, "s3://logs/").await, [wanted]);
    let listed = s3.listed();
    for other in ["year=2025/", "month=04/", "day=04/", "vpcflowlogs"] {
        assert!(!listed.iter().any(|prefix| prefix.contains(other)), "{other} is listed: {listed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_a_backfill_over_pages_of_keys() {
    let keys: Vec<String> = (0..10_000).map(|number| alb_key(&format!("{number:05}"))).collect();
    let s3 = Keys::serve(&keys).await;
    let output = run(&mut s3.backfill(&["s3://logs/AWSLogs/"])).await;
    assert_status(&output, 0);
    assert_eq!(s3.listed().len(), 10);
    let expected: String = keys.iter().map(|key| format!("logs,{key}\n")).collect();
    assert_eq!(s3.plan("manifest.csv"), expected);
    let page = stdout(&output);
    for said in ["10,000 objects of 9.77 KiB compressed", "about 0.27 US$", "aws s3api put-object ", "aws s3control create-job "]
    {
        assert!(page.contains(said), "{said:?} is missing:\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_names_what_the_function_would_ship() {
    let keys = [alb_key("a b+c"), alb_key("ä,\"%41"), "archived.log".to_owned(), "renamed.log".to_owned()];
    let mut all = keys.to_vec();
    for other in ["AWSLogs/123456789012/ELBAccessLogTestFile", "AWSLogs/123456789012/new/", "dead/letter.gz", "empty.log"] {
        all.push(other.to_owned());
    }
    let s3 = Keys::serve(&all).await;
    let day = ["s3://logs/", "--since", "2026-03-02", "--until", "2026-03-03"];
    let output = run(s3.backfill(&day).env("DEAD_LETTER_URL", "s3://logs/dead")).await;
    assert_status(&output, 0);
    let decode = |line: &str| {
        let key = line.strip_prefix("logs,").expect("the bucket").replace('+', " ");
        percent_encoding::percent_decode_str(&key).decode_utf8().expect("UTF-8").into_owned()
    };
    let manifest = s3.plan("manifest.csv");
    let mut expected = keys.to_vec();
    expected.sort_unstable();
    assert_eq!(manifest.lines().map(decode).collect::<Vec<_>>(), expected);
    assert!(manifest.contains("a%20b%2Bc") && manifest.contains("%C3%A4%2C%22%2541"), "{manifest}");
    for reason in ["1 × an empty object", "1 × a dead letter", "1 × the test object"] {
        assert!(stdout(&output).contains(reason), "{reason:?} is missing:\n{}", stdout(&output));
    }
    assert!(stderr(&output).contains("1 object is archived"), "{}", stderr(&output));
    let job: serde_json::Value = serde_json::from_str(&s3.plan("job.json")).expect("JSON");
    assert_eq!(job["Manifest"]["Location"]["ObjectArn"], "arn:aws:s3:::plans/elb/manifest.csv");

    let before = (manifest, s3.plan("job.json"));
    assert_status(&run(s3.backfill(&day).env("DEAD_LETTER_URL", "s3://logs/dead")).await, 0);
    assert_eq!((s3.plan("manifest.csv"), s3.plan("job.json")), before, "a second plan is different");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_no_plan_for_an_impossible_backfill() {
    let s3 = Keys::serve(&["x.log".to_owned()]).await;
    for (arguments, status, reason) in [
        (vec!["s3://logs/nothing/"], 1, "nothing to ship: no object matches"),
        (vec!["s3://no-such-bucket/"], 1, "cannot list s3://no-such-bucket/: "),
        (vec!["logs/"], 2, "cannot backfill logs/: not of the form s3://BUCKET/PREFIX"),
        (vec!["s3://plans/"], 2, "cannot use --manifest s3://plans/elb/manifest.csv: it is below s3://plans/"),
    ] {
        let output = run(&mut s3.backfill(&arguments)).await;
        assert_status(&output, status);
        assert!(stderr(&output).contains(reason), "{reason:?} is missing:\n{}", stderr(&output));
        assert!(!s3.server.root.path().join("plan/job.json").exists(), "a request was written for {arguments:?}");
    }
    let arguments = [&["backfill", "s3://logs/"], &JOB[1..]].concat();
    let output = run(&mut s3.elbship(&arguments)).await;
    assert_status(&output, 2);
    assert!(stderr(&output).contains("add --plan"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_without_a_function_only_counts() {
    let keys: Vec<String> = (0..1_500).map(|number| alb_key(&format!("{number:05}"))).collect();
    let s3 = Keys::serve(&keys).await;
    for flags in [&[][..], &["--plan"]] {
        let mut backfill = s3.elbship(&["backfill", "s3://logs/AWSLogs/"]);
        let output = run(backfill.args(flags).current_dir(s3.server.root.path())).await;
        assert_status(&output, 0);
        for said in ["1,500 objects of 1.46 KiB compressed\n", "about 0.25 US$", "1,500 objects in the job", "--function-arn"] {
            assert!(stdout(&output).contains(said), "{said:?} is missing:\n{}", stdout(&output));
        }
        assert!(!stdout(&output).contains("aws s3"), "{}", stdout(&output));
        assert!(!s3.server.root.path().join("backfill").exists(), "a plan was written without a function");
    }
    let output = run(&mut s3.elbship(&["backfill", "s3://logs/", "--role-arn", JOB[4]])).await;
    assert_status(&output, 2);
    assert!(stderr(&output).contains("--function-arn"), "{}", stderr(&output));
    let output = run(&mut s3.elbship(&["backfill", "s3://logs/", "--since", "1d", "--until", "7d"])).await;
    assert_status(&output, 2);
}
