//! https to receivers with valid and invalid certificates, and to receivers that require a client certificate.

use std::time::{Duration, Instant};

use crate::support::tls::{Authority, self_signed_authority, start};
use crate::support::{Object, Receiver, alb_line, assert_status, elbship, put, run, stderr, stdout};

/// Ships five lines, and returns the exit status and standard error.
async fn ship(url: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let root = tempfile::tempdir().expect("a directory");
    let text: String = (0..5).map(|number| alb_line(number) + "\n").collect();
    let file = put(root.path(), "b", "x.log", text.as_bytes()).display().to_string();
    let output = run(elbship(&["replay", &file, "--to", url]).env("RETRY_BUDGET", "0s").envs(variables.iter().copied())).await;
    (output.status.code().expect("a status"), stderr(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn trusts_certificates_of_the_configured_authority() {
    let authority = Authority::new("trusted");
    let (url, kept) = start(&authority.sign("localhost", false), None).await;
    let root = tempfile::tempdir().expect("a directory");
    let file = put(root.path(), "tls", "ca.pem", authority.certificate.pem().as_bytes()).display().to_string();
    for ca in [authority.certificate.pem(), file] {
        let (status, errors) = ship(&url, &[("LOGSTASH_CA", &ca)]).await;
        assert_eq!(status, 0, "{errors}");
    }
    assert_eq!(kept.drain().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_other_certificates_and_sends_nothing() {
    let (authority, other) = (Authority::new("trusted"), Authority::new("other"));
    let ca = authority.certificate.pem();
    for (server, variables, reason, advice) in [
        (other.sign("localhost", false), vec![("LOGSTASH_CA", ca.as_str())], "UnknownIssuer", "set LOGSTASH_CA"),
        (authority.sign("localhost", false), vec![], "UnknownIssuer", "set LOGSTASH_CA"),
        (authority.sign("localhost", true), vec![("LOGSTASH_CA", ca.as_str())], "expired", "renew the certificate"),
        (authority.sign("elsewhere.example", false), vec![("LOGSTASH_CA", ca.as_str())], "not valid for name", "in LOGSTASH_URL"),
    ] {
        let (url, kept) = start(&server, None).await;
        let (status, errors) = ship(&url, &variables).await;
        assert_eq!((status, kept.drain().len()), (1, 0));
        let explained = errors.contains("the server's certificate is not accepted") && errors.contains(advice);
        assert!(errors.contains(reason) && explained, "{reason} is not explained: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_the_client_certificate_when_it_is_required() {
    let authority = Authority::new("trusted");
    let ca = authority.certificate.pem();
    let (url, kept) = start(&authority.sign("localhost", false), Some(&authority)).await;
    let (certificate, key) = authority.sign("shipper", false);
    let identity = certificate.pem() + &key.serialize_pem();
    let (status, errors) =
        ship(&url, &[("LOGSTASH_CA", &ca), ("LOGSTASH_CLIENT_IDENTITY", &identity), ("LOG_LEVEL", "trace")]).await;
    assert_eq!((status, kept.drain().len()), (0, 5), "{errors}");
    let secret = key.serialize_pem().lines().nth(1).expect("a line of the key").to_owned();
    assert!(!errors.contains(&secret), "the key is shown");

    let (status, errors) = ship(&url, &[("LOGSTASH_CA", &ca)]).await;
    assert_eq!((status, kept.drain().len()), (1, 0));
    assert!(errors.contains("client certificate required or refused"), "{errors}");
    assert!(errors.contains("CertificateRequired") && errors.contains("check LOGSTASH_CLIENT_IDENTITY"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_client_certificate_fails_at_once() {
    let (authority, other) = (Authority::new("trusted"), Authority::new("other"));
    let ca = authority.certificate.pem();
    let (url, kept) = start(&authority.sign("localhost", false), Some(&authority)).await;
    let (certificate, key) = other.sign("shipper", false);
    let identity = certificate.pem() + &key.serialize_pem();
    // Bodies that are larger than the buffers of the sockets, so that writing them fails.
    let object = Object::of_lines(20_000);
    let variables = [
        ("LOGSTASH_CA", ca.as_str()),
        ("LOGSTASH_CLIENT_IDENTITY", &identity),
        ("COMPRESSION", "none"),
        ("BATCH_EVENTS", "20000"),
    ];
    let started = Instant::now();
    let (exit, report, errors) = object.ship(&url, &variables).await;
    assert_eq!((exit, kept.drain().len()), (1, 0), "{errors}");
    assert!(started.elapsed() < Duration::from_secs(20), "it was retried for {:?}", started.elapsed());
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("client certificate required or refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_given_as_authority_is_explained() {
    let (certificate, key) = self_signed_authority("localhost");
    let ca = certificate.pem();
    let (url, _) = start(&(certificate, key), None).await;
    let (status, errors) = ship(&url, &[("LOGSTASH_CA", &ca)]).await;
    assert_eq!(status, 1);
    assert!(errors.contains("it is the certificate of an authority (CA:TRUE)") && errors.contains("CA:FALSE"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_https_to_an_http_port() {
    let receiver = Receiver::start().await;
    let (status, errors) = ship(&receiver.url.replace("http:", "https:"), &[]).await;
    assert_eq!(status, 1);
    assert!(errors.contains("the server does not use TLS on this port; use http://"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_of_one_endpoint_ends_no_run() {
    let authority = Authority::new("trusted");
    let (expired, kept_by_expired) = start(&authority.sign("localhost", true), None).await;
    let (valid, kept) = start(&authority.sign("localhost", false), None).await;
    let ca = authority.certificate.pem();
    let (status, errors) = ship(&format!("{expired},{valid}"), &[("LOGSTASH_CA", &ca)]).await;
    assert_eq!((status, kept_by_expired.drain().len(), kept.drain().len()), (0, 0, 5), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_explains_a_missing_client_certificate_as_a_replay_does() {
    let authority = Authority::new("trusted");
    let (url, _) = start(&authority.sign("localhost", false), Some(&authority)).await;
    let output = run(elbship(&["check", "--to", &url]).env("LOGSTASH_CA", authority.certificate.pem())).await;
    assert_status(&output, 1);
    let text = stdout(&output) + &stderr(&output);
    assert!(text.contains("client certificate required or refused") && text.contains("LOGSTASH_CLIENT_IDENTITY"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_shows_the_version_of_tls_and_the_end_of_the_certificate() {
    let authority = Authority::new("trusted");
    let (url, kept) = start(&authority.sign("localhost", false), None).await;
    let output = run(elbship(&["check", "--to", &url]).env("LOGSTASH_CA", authority.certificate.pem())).await;
    assert_status(&output, 0);
    let page = stdout(&output);
    let line = page.lines().find(|line| line.starts_with("        TLS 1.3, handshake in ")).unwrap_or_else(|| panic!("{page}"));
    // The end that rcgen gives a certificate by default.
    assert!(line.contains(" ms; the server's certificate expires at 4096-01-01T00:00:00Z (in "), "{line}");
    assert!(page.contains("  LOGSTASH_CA              …\n"), "{page}");
    assert_eq!(kept.drain().len(), 0, "the check has sent events");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_http_to_an_https_port() {
    let authority = Authority::new("trusted");
    let (url, _) = start(&authority.sign("localhost", false), None).await;
    let (status, errors) = ship(&url.replace("https", "http"), &[]).await;
    assert_eq!(status, 1);
    assert!(errors.contains("the response is not HTTP"), "{errors}");
}

#[tokio::test]
async fn an_unreadable_certificate_file_is_a_usage_error() {
    let output = run(elbship(&["replay", "x", "--to", "https://localhost/"]).env("LOGSTASH_CA", "no/such.pem")).await;
    assert_status(&output, 2);
    assert!(
        stderr(&output).contains("LOGSTASH_CA=\"no/such.pem\" is neither PEM text nor a readable file"),
        "{}",
        stderr(&output)
    );
}
