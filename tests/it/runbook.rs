//! The commands of `docs/operations.md`: they use only what GNU and BSD tools have in common, and they run against moto as far as
//! moto simulates AWS. moto has no Lambda function that runs, no redrive of a queue and no S3 Batch Operations.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::moto::MotoServer;
use crate::support::{Receiver, Scripted, alb_line, as_text, gunzip, gzip, json_lines, program, put, read_json, status};

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// Timeout for one block of commands. Each command of the AWS CLI takes seconds on a busy machine.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(180);

/// Commands and options that exist only in GNU or only in BSD tools, or that differ between them, and what to use instead.
const NOT_PORTABLE: [(&str, &str); 14] = [
    ("zcat ", "gzip -dc"),
    ("date -d", "jq's now and todate"),
    ("date -v", "jq's now and todate"),
    ("date --", "jq's now and todate"),
    ("sed -i", "a new file"),
    ("sed -r", "sed -E"),
    ("grep -P", "grep -E"),
    ("readlink -f", "a path without links"),
    ("stat -", "wc -c"),
    ("base64 -w", "base64 | tr -d '\\n'"),
    ("xargs -r", "while read"),
    ("-printf ", "find without it"),
    ("head -n -", "another command"),
    ("tac ", "tail -r or another order"),
];

/// Returns the lines of every block of commands in a page.
fn command_lines(page: &str) -> Vec<&str> {
    let mut is_command = false;
    let mut found = Vec::new();
    for line in page.lines() {
        match line.trim().strip_prefix("```") {
            Some(language) => is_command = !is_command && matches!(language, "sh" | "console"),
            None if is_command => found.push(line.trim()),
            None => {}
        }
    }
    found
}

#[test]
fn commands_of_the_pages_use_what_gnu_and_bsd_tools_have_in_common() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> =
        std::fs::read_dir(root.join("docs")).expect("the pages").map(|entry| entry.expect("a page").path()).collect();
    paths.extend(["README.md", "CONTRIBUTING.md", "samples/README.md", "registry/README.md"].map(|path| root.join(path)));
    let mut number = 0;
    for path in paths {
        let page = std::fs::read_to_string(&path).expect("a page");
        for line in command_lines(&page) {
            number += 1;
            let words = format!(" {line}");
            for (pattern, instead) in NOT_PORTABLE {
                let is_used = words.contains(&format!(" {pattern}")) || words.contains(&format!("({pattern}"));
                assert!(!is_used, "{}: use {instead} instead of {pattern:?}, in {line}", path.display());
            }
        }
    }
    assert!(number > 50, "the pages have only {number} lines of commands where this test looks");
}

/// Returns the block of commands that contains a text, without the lines that begin with one of `omitted`.
fn block(text: &str, omitted: &[&str]) -> String {
    let blocks = OPERATIONS.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut found = blocks.filter(|block| block.contains(text));
    let block = found.next().unwrap_or_else(|| panic!("docs/operations.md has no command {text:?}; change both together"));
    assert!(found.next().is_none(), "several blocks of docs/operations.md contain {text:?}");
    let lines = block.lines().filter(|line| !omitted.iter().any(|start| line.trim().starts_with(start)));
    lines.fold(String::new(), |block, line| block + line + "\n")
}

/// A stack in moto, and a directory in which the commands run.
struct Runbook {
    aws: MotoServer,
    directory: tempfile::TempDir,
}

impl Runbook {
    async fn start() -> Self {
        let runbook = Runbook { aws: MotoServer::start().await, directory: tempfile::tempdir().expect("a directory") };
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
        std::os::unix::fs::symlink(samples, runbook.directory.path().join("samples")).expect("a link");
        runbook.create_stack().await;
        runbook
    }

    async fn create_stack(&self) {
        let mut outputs = json!({});
        for (name, value) in [
            ("LogKeyPrefix", "elb"),
            ("LogBucketName", "logs"),
            ("ShipperLogGroupName", "shipper"),
            ("RegistryLogGroupName", "registry"),
            ("DeadLetterUrl", "s3://dead/elb"),
            ("BackfillBucketName", "plans"),
            ("BackfillFunctionArn", "arn:aws:lambda:eu-west-1:123456789012:function:backfill"),
            ("BackfillJobRoleArn", "arn:aws:iam::123456789012:role/backfill"),
        ] {
            outputs[name] = json!({"Value": value});
        }
        for (name, queue) in [
            ("NotificationQueueUrl", "notifications"),
            ("DeadLetterQueueUrl", "dead-letters"),
            ("RegistryDeadLetterQueueUrl", "registry-dead-letters"),
        ] {
            outputs[name] = json!({"Value": format!("{}/123456789012/{queue}", self.aws.endpoint)});
        }
        let template = json!({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}, "Outputs": outputs});
        std::fs::write(self.directory.path().join("stack.json"), template.to_string()).expect("writing the template");
        let script = "
            aws cloudformation create-stack --stack-name elb-log-shipper-prod --template-body file://stack.json
            for bucket in logs dead plans; do
              aws s3api create-bucket --bucket $bucket --create-bucket-configuration LocationConstraint=eu-west-1
            done
            for queue in notifications dead-letters registry-dead-letters; do aws sqs create-queue --queue-name $queue; done
            for group in shipper registry; do
              aws logs create-log-group --log-group-name $group
              aws logs create-log-stream --log-group-name $group --log-stream-name stream
            done";
        self.run_without_outputs(script, &[]).await;
    }

    /// Runs commands after those at the start of the page, and returns their standard output.
    async fn run(&self, script: &str, variables: &[(&str, &str)]) -> String {
        self.run_without_outputs(&format!("{}\n{script}", block("STACK=", &[])), variables).await
    }

    async fn run_without_outputs(&self, script: &str, variables: &[(&str, &str)]) -> String {
        // Version 1 of the AWS CLI uses the endpoint of the environment for most services only.
        let script = format!("set -euo pipefail\naws() {{ command aws --endpoint-url \"$AWS_ENDPOINT_URL\" \"$@\"; }}\n{script}");
        let elbship = Path::new(env!("CARGO_BIN_EXE_elbship")).parent().expect("a directory");
        let path = format!("{}:{}", elbship.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = program("bash", &["-c", &script]);
        shell
            .current_dir(self.directory.path())
            .env("PATH", path)
            .env("HOME", std::env::var_os("HOME").unwrap_or_default())
            .env("AWS_ENDPOINT_URL", &self.aws.endpoint)
            .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_PAGER", "")])
            .envs([("AWS_REGION", "eu-west-1"), ("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_EC2_METADATA_DISABLED", "true")])
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        let output = timeout(BLOCK_TIMEOUT, shell.output()).await.expect("an end of the commands").expect("a shell");
        let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "the commands fail; correct docs/operations.md:\n{script}\n{shown}\n{errors}");
        shown.into_owned()
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).expect("a file that the commands write")
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto and the AWS CLI: run ./check, which installs them into .venv"]
async fn runs_the_smoke_test_and_replays_the_day() {
    let (runbook, receiver) = (Runbook::start().await, Receiver::start().await);
    // `aws logs tail` is not in version 1 of the AWS CLI, and follows a log for ever.
    let smoke_test = block("--include '*_net.edge.*'", &["aws logs tail"]);
    let shown =
        runbook.run(&(smoke_test + &block("/eu-west-1/2026/03/02/\" --report", &[])), &[("LOGSTASH_URL", &receiver.url)]).await;
    assert_eq!(receiver.events().len(), 4, "the sample object has four lines");
    assert!(shown.contains("\"delivered\": 4"), "{shown}");

    let since = block("elbship replay \"$logs/\" --since \"$start\"", &[]);
    let shown = runbook.run(&format!("start=2026-03-01T00:00:00Z\n{since}"), &[("LOGSTASH_URL", &receiver.url)]).await;
    assert!(shown.contains("\"delivered\": 4"), "{shown}");

    let shown = runbook.run("aws s3 ls --recursive \"$logs/123456789012/\" | sort | tail -n 3", &[]).await;
    assert!(shown.contains("net.edge"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto and the AWS CLI: run ./check, which installs them into .venv"]
async fn looks_into_the_queues() {
    let runbook = Runbook::start().await;
    let shown = runbook.run(&block("ApproximateNumberOfMessagesNotVisible", &[]), &[]).await;
    assert_eq!(shown.matches("\"ApproximateNumberOfMessages\"").count(), 2, "{shown}");

    let event = std::fs::read_to_string(runbook.directory.path().join("samples/events/s3-put.json")).expect("an event");
    let failed = json!({"requestContext": {"condition": "RetriesExhausted"}, "responsePayload": {"errorMessage": "no store"},
                        "requestPayload": {"detail-type": "x"}});
    let send = "aws sqs send-message --queue-url \"$(out DeadLetterQueueUrl)\" --message-body \"$EVENT\" > sent.json
                aws sqs send-message --queue-url \"$(out RegistryDeadLetterQueueUrl)\" --message-body \"$FAILED\" >> sent.json";
    runbook.run(send, &[("EVENT", event.as_str()), ("FAILED", &failed.to_string())]).await;
    let shown = runbook.run(&block("fromjson | .. | .key? // empty", &[]), &[]).await;
    assert!(shown.starts_with("AWSLogs/123456789012/") && shown.lines().count() == 1, "{shown}");
    let shown = runbook.run(&block("aws autoscaling describe-auto-scaling-instances", &[]), &[]).await;
    assert!(shown.contains("\"why\": \"RetriesExhausted\"") && shown.contains("\"error\": \"no store\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto and the AWS CLI: run ./check, which installs them into .venv"]
async fn asks_the_log_for_causes_and_alerts() {
    let runbook = Runbook::start().await;
    let failed = json!({"level": "ERROR", "reason": "denied", "load_balancer": "app/web"}).to_string();
    let alert = json!({"timestamp": "T", "state": "raised", "problem": "last_server", "message": "none left"}).to_string();
    let shipper = json!([{"timestamp": 0, "message": failed.clone()}, {"timestamp": 0, "message": failed}]);
    let registry = json!([{"timestamp": 0, "message": alert}]);
    let write = "events() { jq --argjson now \"$(date +%s)\" 'map(.timestamp = $now * 1000)' <<< \"$1\"; }
                 put() { aws logs put-log-events --log-group-name \"$1\" --log-stream-name stream --log-events \"$2\" > put.json; }
                 put shipper \"$(events \"$SHIPPER\")\"
                 put registry \"$(events \"$REGISTRY\")\"";
    runbook.run(write, &[("SHIPPER", shipper.to_string().as_str()), ("REGISTRY", &registry.to_string())]).await;
    let shown = runbook.run(&block("jq -r '[.reason, .load_balancer] | @tsv'", &[]), &[]).await;
    assert_eq!(shown.trim(), "2 denied\tapp/web");
    let shown = runbook.run(&block(".timestamp, .state, .problem, .message", &[]), &[]).await;
    assert_eq!(shown.trim(), "T\traised\tlast_server\tnone left");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto and the AWS CLI: run ./check, which installs them into .venv"]
async fn sends_dead_letters_again_and_removes_them() {
    let runbook = Runbook::start().await;
    let rejecting = Scripted::start(|_, request| {
        let gzipped = request.headers.contains_key("content-encoding");
        let body = if gzipped { gunzip(&request.body) } else { request.body.clone() };
        if String::from_utf8_lossy(&body).contains("\"query\":\"id=3\"") {
            return Response::builder().status(400).body(Body::from("rejected by the test")).expect("a response");
        }
        status(200)
    })
    .await;
    let text: String = (0..9).map(|number| alb_line(number) + "\n").collect();
    let file = as_text(&put(runbook.directory.path(), "copies", "x.log.gz", &gzip(text.as_bytes())));
    let variables = [("LOGSTASH_URL", rejecting.url.as_str()), ("DEAD_LETTER_URL", "s3://dead/elb")];
    runbook.run(&format!("elbship replay '{file}'"), &variables).await;

    let shown = runbook.run(&block("aws s3 ls --recursive --summarize", &[]), &[]).await;
    assert!(shown.contains("Total Objects: 1"), "{shown}");
    let shown = runbook.run(&block("aws s3 sync --exclude 'checkpoints/*'", &[]), &[]).await;
    assert!(shown.lines().any(|line| line.trim().starts_with("1 refused\t400\t")), "{shown}");

    let receiver = Receiver::start().await;
    let variables = [("LOGSTASH_URL", receiver.url.as_str()), ("DEAD_LETTER_URL", "s3://dead/elb")];
    runbook.run(&block("env -u DEAD_LETTER_URL elbship replay", &[]), &variables).await;
    assert_eq!(receiver.events().len(), 1, "the dead letter has one event");
    let shown = runbook.run("aws s3 ls --recursive s3://dead/ | wc -l; ls dead-letters | wc -l", &[]).await;
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["0", "0"], "dead letters that were sent again are left");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto and the AWS CLI: run ./check, which installs them into .venv"]
async fn plans_a_backfill_and_the_job_for_its_failures() {
    let runbook = Runbook::start().await;
    let key = "elb/AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2025/03/02/a b.log.gz";
    let copy = format!("gzip -c stack.json > x.gz && aws s3 cp x.gz 's3://logs/{key}'");
    let plan = block("elbship backfill \"$logs/\" --plan", &["sam deploy"]);
    let shown = runbook.run(&format!("{copy}\n{plan}"), &[]).await;
    let upload = shown.lines().find(|line| line.trim().starts_with("aws s3api put-object")).expect("the command that uploads");
    runbook.run(upload, &[]).await;
    assert!(runbook.file("backfill/manifest.csv").starts_with("logs,elb/AWSLogs/"), "{}", runbook.file("backfill/manifest.csv"));

    // As S3 Batch Operations reports it: the key is URL-encoded, and the message spans lines.
    let report = format!("logs,{},,failed,200,,\"access\ndenied\"\n", key.replace(' ', "%20"));
    std::fs::write(runbook.directory.path().join("report.csv"), report).expect("writing the report");
    let job = "JOB=job-1\naws s3 cp report.csv \"s3://plans/backfill/reports/job-$JOB/results/1.csv\"\n";
    let again = block("--key backfill/again.csv", &["aws s3control create-job"]);
    let shown = runbook.run(&format!("{job}{}{again}", block("python3 - $(find", &[])), &[]).await;
    assert_eq!(runbook.file("again.csv"), format!("logs,{}\n", key.replace(' ', "%20")), "{shown}");
    let request: Value = serde_json::from_str(&runbook.file("again.json")).expect("JSON");
    assert_eq!(request["Manifest"]["Location"]["ObjectArn"], "arn:aws:s3:::plans/backfill/again.csv");
    assert!(request["ClientRequestToken"].as_str().is_some_and(|token| token.starts_with("again-")), "{request}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto and the AWS CLI: run ./check, which installs them into .venv"]
async fn enables_eventbridge_and_rotates_the_secret() {
    let runbook = Runbook::start().await;
    let enable = block("get-bucket-notification-configuration", &[]);
    runbook.run(&format!("BUCKET=logs\n{enable}"), &[]).await;
    assert_eq!(read_json(&runbook.directory.path().join("after.json")), json!({"EventBridgeConfiguration": {}}));

    let old = "arn:aws:sqs:eu-west-1:123456789012:elb-log-shipper-old-NotificationQueue-X";
    let other = json!({"LambdaFunctionArn": "arn:aws:lambda:eu-west-1:123456789012:function:other"});
    let before = json!({"QueueConfigurations": [{"QueueArn": old}], "LambdaFunctionConfigurations": [other]});
    std::fs::write(runbook.directory.path().join("before.json"), before.to_string()).expect("writing the configuration");
    runbook.run(&block("jq --arg dead", &[]), &[]).await;
    let after = read_json(&runbook.directory.path().join("after.json"));
    assert_eq!((&after["QueueConfigurations"], &after["LambdaFunctionConfigurations"]), (&json!([]), &json!([other])));

    let create = "aws secretsmanager create-secret --name logstash --secret-string old > created.json
                  LOGSTASH_SECRET_ARN=logstash\necho '{\"username\":\"u\",\"password\":\"p\"}' > secret.json\n";
    let rotate = block("aws secretsmanager put-secret-value", &[]);
    let read = "aws secretsmanager get-secret-value --secret-id logstash --query SecretString --output text";
    let shown = runbook.run(&format!("{create}{rotate}{read}"), &[]).await;
    assert!(json_lines(shown.trim_end().lines().last().unwrap_or_default())[0]["password"] == "p", "{shown}");
}
