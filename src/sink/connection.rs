//! Describes the connection to an endpoint: its addresses, its TLS session, and the time of each step. Batches are not sent over
//! this connection, so a description that stops early does not explain an error; the outcome of a request does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reqwest::Url;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::endpoint::Endpoint;

/// The steps of a connection, up to the first one that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Addresses of the endpoint's host, in the order in which they are tried. Empty if the host name does not resolve.
    pub addresses: Vec<SocketAddr>,
    /// The first address that accepted a connection, and how long that took.
    pub connected: Option<(SocketAddr, Duration)>,
    /// The TLS session, for https.
    pub tls: Option<TlsSession>,
}

/// A TLS session with an endpoint whose certificate was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// Protocol version, such as `TLS 1.3`.
    pub version: String,
    /// Duration of the handshake.
    pub handshake: Duration,
    /// When the server's certificate expires; none if the time cannot be read.
    pub expires: Option<Timestamp>,
}

impl Connection {
    /// Connects to an endpoint and disconnects. `limit` is the timeout of each step.
    pub(super) async fn describe(endpoint: &Endpoint, tls: &ClientConfig, limit: Duration) -> Connection {
        let addresses = match endpoint.address() {
            Some(address) => vec![address],
            None => timeout(limit, resolve(endpoint.url())).await.unwrap_or_default(),
        };
        let Some((stream, address, duration)) = connect(&addresses, limit).await else {
            return Connection { addresses, ..Connection::default() };
        };
        let tls = match endpoint.url().scheme() {
            "https" => timeout(limit, shake_hands(stream, endpoint.url(), tls)).await.ok().flatten(),
            _ => None,
        };
        Connection { addresses, connected: Some((address, duration)), tls }
    }
}

/// Returns the addresses of the URL's host.
async fn resolve(url: &Url) -> Vec<SocketAddr> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Vec::new() };
    lookup_host((without_brackets(host), port)).await.map(Iterator::collect).unwrap_or_default()
}

async fn connect(addresses: &[SocketAddr], limit: Duration) -> Option<(TcpStream, SocketAddr, Duration)> {
    for address in addresses {
        let started = Instant::now();
        if let Ok(Ok(stream)) = timeout(limit, TcpStream::connect(address)).await {
            return Some((stream, *address, started.elapsed()));
        }
    }
    None
}

async fn shake_hands(stream: TcpStream, url: &Url, tls: &ClientConfig) -> Option<TlsSession> {
    let name = ServerName::try_from(without_brackets(url.host_str()?).to_owned()).ok()?;
    let started = Instant::now();
    let stream = TlsConnector::from(Arc::new(tls.clone())).connect(name, stream).await.ok()?;
    let (_, session) = stream.get_ref();
    Some(TlsSession {
        version: version_name(session.protocol_version()?),
        handshake: started.elapsed(),
        expires: session.peer_certificates().and_then(|chain| expiry(chain.first()?)),
    })
}

/// Returns a host without the brackets that a URL has around an IPv6 address.
fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn version_name(version: ProtocolVersion) -> String {
    match version {
        ProtocolVersion::TLSv1_2 => "TLS 1.2".to_owned(),
        ProtocolVersion::TLSv1_3 => "TLS 1.3".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Returns when a certificate expires. `certificate` is in DER form.
fn expiry(certificate: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_when_a_certificate_expires() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 3, 2);
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert_eq!(expiry(certificate.der()), "2031-03-02T00:00:00Z".parse().ok());
        assert_eq!(expiry(b"not a certificate"), None);
    }

    #[test]
    fn an_ipv6_host_has_no_brackets() {
        assert_eq!(without_brackets("[::1]"), "::1");
        assert_eq!(without_brackets("logs.example"), "logs.example");
    }
}
