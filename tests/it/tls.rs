//! https to receivers with valid and invalid certificates, and to receivers that require a client certificate.

use crate::support::tls::{Authority, start};
use crate::support::{alb_line, assert_status, elbship, put, run, stderr};

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
    for (server, variables, reason) in [
        (other.sign("localhost", false), vec![("LOGSTASH_CA", ca.as_str())], "UnknownIssuer"),
        (authority.sign("localhost", false), vec![], "UnknownIssuer"),
        (authority.sign("localhost", true), vec![("LOGSTASH_CA", ca.as_str())], "expired"),
        (authority.sign("elsewhere.example", false), vec![("LOGSTASH_CA", ca.as_str())], "not valid for name"),
    ] {
        let (url, kept) = start(&server, None).await;
        let (status, errors) = ship(&url, &variables).await;
        assert_eq!((status, kept.drain().len()), (1, 0));
        assert!(errors.contains(reason) && errors.contains("no connection"), "{reason} is not named: {errors}");
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
    assert!(errors.contains("CertificateRequired") || errors.contains("certificate required"), "{errors}");
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
