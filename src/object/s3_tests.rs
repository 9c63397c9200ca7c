//! S3 that is silent, slow, or sends something else than the program has asked for. Time is paused, so no test waits.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use elb_log::key::TimeRange;
use tokio::time::{Instant, sleep, timeout};

use super::store::Store;
use super::test_s3::{Answer, ETAG, OBJECT, Step, TestS3, name, rest, right_rest, whole};
use crate::dead_letter::DeadLetterDestination;
use crate::reason::Reason;
use crate::sink::{Outcome, RejectedEvent, Response};

fn secs(range: std::ops::RangeInclusive<u64>, since: Instant) {
    let elapsed = since.elapsed();
    assert!(range.contains(&elapsed.as_secs()), "took {elapsed:?} instead of {range:?} s");
}

#[tokio::test(start_paused = true)]
async fn reading_and_writing_end_in_time_if_s3_is_silent() {
    let s3 = TestS3::new(|_, _| Answer::Silence);
    let started = Instant::now();
    let error = s3.open().await.unwrap_err();
    let expected = "cannot read s3://logs/x.log at byte 0: S3 does not respond: ";
    assert!(error.to_string().starts_with(expected) && !error.is_permanent(), "{error}");
    secs(29..=30, started);
    assert_eq!(s3.requests(), 3, "an attempt has no timeout of its own");

    let started = Instant::now();
    let error = s3.store().put("logs", "x", ByteStream::from_static(b"x")).await.unwrap_err();
    assert!(error.starts_with("S3 does not respond: ") && !error.contains("s3:PutObject"), "{error}");
    secs(29..=30, started);
    assert_eq!(s3.requests(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_listing_ends_in_time_if_s3_is_silent() {
    let s3 = TestS3::new(|_, _| Answer::Silence);
    let started = Instant::now();
    let error = Store::S3(s3.store()).list("logs", "AWSLogs/", TimeRange::default()).next().await.unwrap_err();
    assert!(error.to_string().starts_with("cannot list s3://logs/AWSLogs/: S3 does not respond: "), "{error}");
    secs(59..=60, started);
    assert_eq!(s3.requests(), 3, "an attempt has no timeout of its own");
}

#[tokio::test(start_paused = true)]
async fn connecting_to_s3_has_a_timeout() {
    let s3 = TestS3::new(|_, _| whole(&[Step::Data(OBJECT)]));
    assert_eq!(s3.read().await.unwrap(), OBJECT);
    let timeouts = s3.connect_timeouts.lock().unwrap().clone();
    assert!(
        !timeouts.is_empty() && timeouts.iter().all(|timeout| *timeout == Some(Duration::from_millis(3_100))),
        "{timeouts:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn resumes_a_body_that_stalls() {
    let s3 = TestS3::resuming(&[Step::Data(b"01"), Step::Data(b"23"), Step::Hang], right_rest);
    let started = Instant::now();
    assert_eq!(s3.read().await.unwrap(), OBJECT);
    secs(20..=21, started);
    assert_eq!(*s3.ranges.lock().unwrap(), [None, Some("bytes=4-".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_for_good_fails_in_time() {
    for (rest, most) in [((|| Answer::Silence) as fn() -> Answer, 75), (|| whole_rest(&[Step::Hang]), 130)] {
        let s3 = TestS3::resuming(&[Step::Data(b"0123"), Step::Hang], rest);
        let started = Instant::now();
        let error = s3.read().await.unwrap_err();
        assert!(error.to_string().starts_with("cannot read s3://logs/x.log at byte 4: S3 "), "{error}");
        secs(70..=most, started);
        assert_eq!(s3.requests(), 6);
    }
}

/// Returns a response to a request for the bytes from 4 on, with this body.
fn whole_rest(body: &[Step]) -> Answer {
    let headers = [("etag", ETAG), ("content-length", "6"), ("content-range", "bytes 4-9/10")]
        .map(|(name, value)| (name, value.to_owned()));
    Answer::Response { status: 206, headers: headers.to_vec(), body: body.to_vec() }
}

#[tokio::test(start_paused = true)]
async fn never_gives_up_a_slow_body() {
    let pause = Step::Pause(Duration::from_secs(19));
    let steps: Vec<Step> = OBJECT.chunks(1).flat_map(|byte| [pause, Step::Data(byte)]).collect();
    let s3 = TestS3::new(move |_, _| whole(&steps));
    assert_eq!(s3.read().await.unwrap(), OBJECT);
    assert_eq!(s3.requests(), 1, "the body was resumed although its bytes arrive");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_a_stalled_body() {
    let [short, long] = [2, 15].map(|secs| Step::Pause(Duration::from_secs(secs)));
    let s3 = TestS3::new(move |_, _| whole(&[Step::Data(b"0123"), short, long, Step::Data(b"456789")]));
    let mut object = s3.open().await.unwrap();
    let mut bytes = object.body.next_chunk(&name(), 0).await.unwrap().unwrap().to_vec();
    // The reader begins to wait, and then it is busy for a long time.
    timeout(Duration::from_secs(1), object.body.next_chunk(&name(), 0)).await.unwrap_err();
    sleep(Duration::from_secs(600)).await;
    bytes.extend(object.body.next_chunk(&name(), 0).await.unwrap().unwrap());
    assert_eq!((bytes.as_slice(), s3.requests()), (OBJECT, 1), "the body was resumed although only the reader was slow");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_drops_its_future_does_not_disturb_a_resume() {
    let late = || Answer::Late(Duration::from_secs(9), Box::new(right_rest()));
    let s3 = TestS3::resuming(&[Step::Data(b"0123"), Step::Break], late);
    let mut object = s3.open().await.unwrap();
    let mut bytes = object.body.next_chunk(&name(), 0).await.unwrap().unwrap().to_vec();
    let mut dropped = 0;
    while bytes.len() < OBJECT.len() {
        match timeout(Duration::from_millis(300), object.body.next_chunk(&name(), 0)).await {
            Ok(chunk) => bytes.extend(chunk.unwrap().unwrap()),
            Err(_) => dropped += 1,
        }
    }
    assert!(dropped > 20, "the future was dropped only {dropped} times");
    assert_eq!((bytes.as_slice(), s3.requests()), (OBJECT, 2), "the request was repeated");
}

#[tokio::test(start_paused = true)]
async fn a_resume_takes_no_bytes_of_another_version_or_place() {
    type Rest = fn() -> Answer;
    let cases: [(Rest, &str, usize); 7] = [
        (|| rest(Some("\"1\""), Some("bytes 4-9/10"), b"xxxxxx"), "the object changed while it was read", 2),
        (|| rest(None, Some("bytes 4-9/10"), b"xxxxxx"), "the store sent no ETag", 6),
        (|| rest(Some(ETAG), Some("bytes 3-8/10"), b"xxxxxx"), "the bytes from 3 on instead of those from 4 on", 6),
        (|| rest(Some(ETAG), Some("bytes 4-9/11"), b"xxxxxx"), "the object has 11 bytes", 6),
        (|| rest(Some(ETAG), Some("bytes 4-9/10"), b"xxxxxxxxxx"), "another Content-Length", 6),
        (|| rest(Some(ETAG), None, b"xxxxxxxxxx"), "the whole object instead of the rest", 6),
        (|| rest(Some(ETAG), Some("4-9"), b"xxxxxx"), "the invalid Content-Range \"4-9\"", 6),
    ];
    for (rest, expected, requests) in cases {
        let s3 = TestS3::resuming(&[Step::Data(b"0123"), Step::Break], rest);
        let error = s3.read().await.expect_err(expected);
        assert!(error.to_string().starts_with("cannot read s3://logs/x.log at byte 4: "), "{error}");
        assert!(error.to_string().contains(expected), "{expected:?} is not the error: {error}");
        assert_eq!((s3.requests(), error.is_permanent()), (requests, requests == 2), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resume_succeeds_after_wrong_responses() {
    let s3 = TestS3::new(|number, _| match number {
        0 => whole(&[Step::Data(b"0123"), Step::Break]),
        1 => rest(Some(ETAG), None, OBJECT),
        _ => right_rest(),
    });
    assert_eq!(s3.read().await.unwrap(), OBJECT);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_strong_etag_is_not_resumed() {
    for etag in [None, Some("W/\"0\"")] {
        let s3 = TestS3::new(move |_, _| {
            let headers = etag.map(|etag| ("etag", etag.to_owned())).into_iter().collect();
            Answer::Response { status: 200, headers, body: vec![Step::Data(b"0123"), Step::Break] }
        });
        let error = s3.read().await.unwrap_err();
        assert!(error.to_string().ends_with("; the body cannot be resumed, because the store sent no ETag"), "{error}");
        assert_eq!((s3.requests(), error.is_permanent()), (1, false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_break_after_the_last_byte() {
    let s3 = TestS3::new(|_, _| whole(&[Step::Data(OBJECT), Step::Break]));
    assert_eq!(s3.read().await.unwrap(), OBJECT);
    assert_eq!(s3.requests(), 1, "the end of a complete body was requested again");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_progresses_is_resumed_without_limit() {
    const PIECE: usize = 1024 * 1024;
    const PIECES: usize = 12;
    let object: &'static [u8] = vec![b'x'; PIECES * PIECE].leak();
    let s3 = TestS3::new(|number, request| {
        let at: usize =
            request.headers().get("range").map_or(0, |range| range["bytes=".len()..].trim_end_matches('-').parse().unwrap());
        assert_eq!(at, number * PIECE, "a resume asks for another place");
        let length = object.len();
        let headers = [
            ("etag", ETAG.to_owned()),
            ("content-length", (length - at).to_string()),
            ("content-range", format!("bytes {at}-{}/{length}", length - 1)),
        ];
        let body = vec![Step::Data(&object[at..at + PIECE]), Step::Break];
        Answer::Response { status: if number == 0 { 200 } else { 206 }, headers: headers.to_vec(), body }
    });
    assert_eq!(s3.read().await.unwrap().len(), object.len());
    assert_eq!(s3.requests(), PIECES);
}

/// Returns the response of S3 to a request that it does not serve.
fn refusal(status: u16, code: &str, message: &str, region: Option<&str>) -> TestS3 {
    let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>").leak().as_bytes();
    let region = region.map(str::to_owned);
    TestS3::new(move |_, _| {
        let mut headers = vec![("x-amz-request-id", "4Z2".to_owned())];
        headers.extend(region.clone().map(|region| ("x-amz-bucket-region", region)));
        Answer::Response { status, headers, body: vec![Step::Data(body)] }
    })
}

const KMS: &str = "User: arn:aws:sts::123456789012:assumed-role/shipper/f is not authorized to perform: kms:Decrypt on resource: \
    arn:aws:kms:eu-west-1:123456789012:key/k because no identity-based policy allows the kms:Decrypt action";

const ENDPOINT_POLICY: &str = "User: u is not authorized to perform: s3:GetObject on resource: o because no VPC endpoint policy \
    allows the s3:GetObject action";

const WRONG_REGION: &str = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'";

const CUSTOMER_KEY: &str = "The object was stored using a form of Server Side Encryption. The correct parameters must be provided \
    to retrieve the object.";

#[tokio::test(start_paused = true)]
async fn an_error_of_s3_says_why_and_whether_a_retry_helps() {
    let in_eu = "the bucket is in eu-west-1; set AWS_REGION=eu-west-1";
    for (status, code, message, expected, reason, is_permanent) in [
        (404, "NoSuchKey", "no", "no such object", Reason::NotFound, true),
        (404, "NoSuchBucket", "no", "no such bucket", Reason::NotFound, true),
        (
            403,
            "AccessDenied",
            "no",
            "AccessDenied: no (HTTP 403, request ID 4Z2); allow s3:GetObject on it",
            Reason::Denied,
            true,
        ),
        (403, "AccessDenied", KMS, "action (HTTP 403, request ID 4Z2); allow kms:Decrypt on the key", Reason::Denied, true),
        (403, "AccessDenied", ENDPOINT_POLICY, "allow it in the policy of the VPC endpoint", Reason::Denied, true),
        (403, "InvalidObjectState", "no", "the object is archived; restore it, then replay it", Reason::Archived, true),
        (301, "PermanentRedirect", "no", in_eu, Reason::WrongRegion, true),
        (400, "AuthorizationHeaderMalformed", WRONG_REGION, in_eu, Reason::WrongRegion, true),
        (307, "TemporaryRedirect", "no", "S3 does so for some hours after a bucket was created", Reason::Unreadable, false),
        (
            400,
            "KMS.DisabledException",
            "k is disabled.",
            "KMS.DisabledException: k is disabled. (HTTP 400, request ID 4Z2); make the KMS key",
            Reason::Encrypted,
            true,
        ),
        (400, "KMS.ThrottlingException", "slow", "KMS.ThrottlingException: slow", Reason::Unreadable, false),
        (400, "InvalidRequest", CUSTOMER_KEY, "the object has a key of the customer (SSE-C)", Reason::Encrypted, true),
        (405, "MethodNotAllowed", "no", "MethodNotAllowed: no (HTTP 405, request ID 4Z2); check that", Reason::InvalidName, true),
        (503, "SlowDown", "no", "SlowDown", Reason::Unreadable, false),
        (500, "InternalError", "no", "InternalError", Reason::Unreadable, false),
        (
            400,
            "ExpiredToken",
            "no",
            "ExpiredToken: no (HTTP 400, request ID 4Z2); renew the AWS credentials",
            Reason::Unreadable,
            false,
        ),
    ] {
        let s3 = refusal(status, code, message, Some("eu-west-1"));
        let error = s3.open().await.unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with("cannot read s3://logs/x.log") && !shown.contains('\n'), "{shown}");
        assert!(shown.contains(expected), "{expected:?} is not the error of {code}: {shown}");
        assert_eq!((error.reason(), error.is_permanent()), (reason, is_permanent), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn listing_and_writing_name_the_reason_of_s3_too() {
    let message =
        "User: u is not authorized to perform: s3:ListBucket on resource: b with an explicit deny in a service control policy";
    for (status, code, message, expected) in [
        (403, "AccessDenied", "no", "; allow s3:ListBucket on the bucket, in the role and in the bucket policy"),
        (403, "AccessDenied", message, "; allow it in the service control policy of the AWS organization: s3:ListBucket"),
        (
            301,
            "PermanentRedirect",
            "no",
            "; the bucket is in eu-west-1; set AWS_REGION=eu-west-1, or deploy the function in that region",
        ),
    ] {
        let s3 = refusal(status, code, message, Some("eu-west-1"));
        let error = Store::S3(s3.store()).list("logs", "", TimeRange::default()).next().await.unwrap_err().to_string();
        assert!(error.starts_with("cannot list s3://logs/: ") && error.ends_with(expected), "{error}");
    }
    let error =
        refusal(403, "AccessDenied", "no", None).store().put("logs", "x", ByteStream::from_static(b"x")).await.unwrap_err();
    assert_eq!(
        error,
        "AccessDenied: no (HTTP 403, request ID 4Z2); allow s3:PutObject on it, in the role and in the bucket policy"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_has_the_time_and_the_etag_of_s3() {
    let s3 = TestS3::new(|_, _| {
        let headers =
            [("etag", ETAG), ("last-modified", "Mon, 02 Mar 2026 10:20:05 GMT")].map(|(name, value)| (name, value.to_owned()));
        Answer::Response { status: 200, headers: headers.to_vec(), body: vec![Step::Data(OBJECT)] }
    });
    let object = s3.open().await.unwrap();
    assert_eq!((object.modified.to_string(), object.etag.as_deref()), ("2026-03-02T10:20:05Z".to_owned(), Some("0")));
}

#[tokio::test(start_paused = true)]
async fn the_dead_letters_of_a_batch_share_their_time() {
    let s3 = TestS3::new(|_, _| Answer::Silence);
    let destination = DeadLetterDestination::S3 { store: s3.store(), bucket: "logs".to_owned(), prefix: "dead".to_owned() };
    let rejected = |id: &str| RejectedEvent {
        event: format!(r#"{{"@metadata":{{"_id":"{id}"}}}}"#).into(),
        endpoint: "http://127.0.0.1:1/".to_owned(),
        outcome: Outcome::Response(Response { status: 400, ..Response::default() }),
    };
    let started = Instant::now();
    let written = destination.write(&[rejected("aa-1"), rejected("bb-1"), rejected("cc-1")], Duration::from_secs(12)).await;
    assert_eq!(started.elapsed().as_secs(), 12, "each dead letter had the whole time");
    let error = written.error().unwrap();
    assert_eq!(
        (written.events, error.as_str()),
        (0, "cannot write the dead letter s3://logs/dead/aa-1-1-1.ndjson.gz: no time is left (further errors: 2)")
    );
}
