//! https to receivers that show good certificates and bad ones, and that ask for the client's.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::Listener;
use elb_log_shipper::receive::{ReceiveSettings, router};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

mod support;

use support::{Keep, alb_line, assert_status, elbship, put, run, stderr};

/// An authority and what it has signed.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str, expired: bool) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }
}

/// Accepts TLS connections; a failed handshake is the client's to report.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A receiver behind TLS. It asks for certificates of `clients`, if there are any.
async fn start(server: &(Certificate, KeyPair), clients: Option<&Authority>) -> (String, Keep) {
    let key = PrivateKeyDer::try_from(server.1.serialize_der()).expect("a key");
    let builder = match clients {
        None => ServerConfig::builder().with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).expect("an authority");
            ServerConfig::builder()
                .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier"))
        }
    };
    let config = builder.with_single_cert(vec![server.0.der().clone()], key).expect("a certificate with its key");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let kept = Keep::default();
    let service = router(ReceiveSettings::default(), kept.clone());
    let listener = TlsListener { listener, acceptor: TlsAcceptor::from(Arc::new(config)) };
    tokio::spawn(async move { axum::serve(listener, service).await });
    (format!("https://localhost:{port}/"), kept)
}

/// Ships five lines and gives the exit status and standard error.
async fn ship(url: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let root = tempfile::tempdir().expect("a directory");
    let text: String = (0..5).map(|number| alb_line(number) + "\n").collect();
    let file = put(root.path(), "b", "x.log", text.as_bytes()).display().to_string();
    let output = run(elbship(&["replay", &file, "--to", url]).env("RETRY_BUDGET", "0s").envs(variables.iter().copied())).await;
    (output.status.code().expect("a status"), stderr(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_configured_authority_is_trusted() {
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
async fn other_certificates_are_refused_and_nothing_is_sent() {
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
async fn a_client_certificate_is_shown_where_it_is_asked_for() {
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
async fn http_where_https_is_spoken_is_named() {
    let authority = Authority::new("trusted");
    let (url, _) = start(&authority.sign("localhost", false), None).await;
    let (status, errors) = ship(&url.replace("https", "http"), &[]).await;
    assert_eq!(status, 1);
    assert!(errors.contains("the answer is no HTTP"), "{errors}");
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_wrong_configuration() {
    let output = run(elbship(&["replay", "x", "--to", "https://localhost/"]).env("LOGSTASH_CA", "no/such.pem")).await;
    assert_status(&output, 2);
    assert!(
        stderr(&output).contains("LOGSTASH_CA=\"no/such.pem\" is neither PEM text nor a readable file"),
        "{}",
        stderr(&output)
    );
}
