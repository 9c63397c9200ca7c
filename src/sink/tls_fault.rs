//! Explains why TLS does not work with an endpoint, from the error of a connection.

use std::fmt;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why the client and a server cannot use TLS together. No retry helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The server requires a client certificate, or does not accept the client's. With TLS 1.3 the server says so after the
    /// handshake, so the first request fails instead of the connection.
    ClientCertificate(String),
    /// The server's certificate is not accepted: why, and what to do.
    ServerCertificate(String, &'static str),
    /// The server's certificate is the certificate of an authority, such as a self-signed one.
    AuthorityAsServer,
    /// The server does not use TLS on this port.
    PlainPort,
    /// Any other disagreement, such as no common version.
    Handshake(String),
}

impl TlsFault {
    /// Finds the TLS error among the causes of an error. Returns none if there is none, or if a retry may help.
    pub(super) fn find<'a>(mut causes: impl Iterator<Item = &'a (dyn std::error::Error + 'static)>) -> Option<Self> {
        causes.find_map(tls_error).and_then(Self::of)
    }

    fn of(error: &Error) -> Option<Self> {
        match error {
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            Error::InvalidCertificate(CertificateError::Other(other)) if other.to_string().contains("CaUsedAsEndEntity") => {
                Some(TlsFault::AuthorityAsServer)
            }
            Error::InvalidCertificate(reason) => Some(TlsFault::ServerCertificate(reason.to_string(), advice(reason))),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(TlsFault::PlainPort),
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Some(TlsFault::Handshake(error.to_string())),
            _ => None,
        }
    }

    fn of_alert(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Some(TlsFault::ClientCertificate(format!("{alert:?}"))),
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::UnrecognisedName => Some(TlsFault::Handshake(format!("the server sent the alert {alert:?}"))),
            _ => None,
        }
    }
}

/// Returns the TLS error in one cause. I/O errors have it inside, one in the other, and do not name it as their source.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let inside = || tls_error(cause.downcast_ref::<std::io::Error>()?.get_ref()?);
    cause.downcast_ref().or_else(inside)
}

/// Returns what to do about a certificate that is not accepted.
fn advice(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew the certificate",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "use one of the certificate's names in LOGSTASH_URL"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "check the clocks of both machines, and the date from which the certificate is valid"
        }
        CertificateError::Revoked => "renew the certificate, because its authority has revoked it",
        CertificateError::BadEncoding
        | CertificateError::BadSignature
        | CertificateError::UnhandledCriticalExtension
        | CertificateError::InvalidPurpose
        | CertificateError::InvalidPurposeContext { .. } => {
            "create a new server certificate, because this one is damaged or unsuitable"
        }
        _ => "set LOGSTASH_CA to the certificate of its authority",
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsFault::ClientCertificate(alert) => write!(
                f,
                "client certificate required or refused (the server sent the TLS alert {alert}); check LOGSTASH_CLIENT_IDENTITY"
            ),
            TlsFault::ServerCertificate(reason, advice) => {
                write!(f, "the server's certificate is not accepted: {reason}; {advice}")
            }
            TlsFault::AuthorityAsServer => f.write_str(
                "the server's certificate is not accepted: it is the certificate of an authority (CA:TRUE), as openssl makes \
                 self-signed ones; create it with basicConstraints=CA:FALSE, or sign a server certificate with it",
            ),
            TlsFault::PlainPort => {
                f.write_str("the server does not use TLS on this port; use http:// in LOGSTASH_URL, or the port with TLS")
            }
            TlsFault::Handshake(reason) => {
                write!(f, "the TLS handshake failed: {reason}; check the TLS settings of the http input")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn found(error: Error) -> Option<String> {
        let error = io::Error::other(io::Error::other(error));
        TlsFault::find(std::iter::once(&error as &(dyn std::error::Error + 'static))).map(|fault| fault.to_string())
    }

    #[test]
    fn alerts_about_the_client_certificate_name_the_variable() {
        use AlertDescription::{AccessDenied, BadCertificate, CertificateRequired, CertificateUnknown, UnknownCA};
        for alert in [BadCertificate, CertificateRequired, CertificateUnknown, UnknownCA, AccessDenied] {
            let text = found(Error::AlertReceived(alert)).unwrap_or_default();
            assert!(text.starts_with("client certificate required or refused"), "{alert:?}: {text}");
            assert!(text.ends_with("check LOGSTASH_CLIENT_IDENTITY"), "{alert:?}: {text}");
        }
    }

    #[test]
    fn https_to_a_plain_port_is_explained() {
        let text = found(Error::InvalidMessage(InvalidMessage::InvalidContentType)).unwrap_or_default();
        assert!(text.starts_with("the server does not use TLS on this port; use http://"), "{text}");
    }

    #[test]
    fn certificate_errors_are_explained() {
        let text = found(Error::InvalidCertificate(CertificateError::Expired)).unwrap_or_default();
        assert!(text.contains("Expired") && text.ends_with("; renew the certificate"), "{text}");
        let text = found(Error::InvalidCertificate(CertificateError::UnknownIssuer)).unwrap_or_default();
        assert!(text.ends_with("; set LOGSTASH_CA to the certificate of its authority"), "{text}");
    }

    #[test]
    fn no_authority_is_asked_for_if_the_certificate_itself_is_wrong() {
        let advice = |error| found(Error::InvalidCertificate(error)).unwrap_or_default();
        assert!(advice(CertificateError::NotValidYet).contains("check the clocks"), "{}", advice(CertificateError::NotValidYet));
        for error in [CertificateError::BadEncoding, CertificateError::UnhandledCriticalExtension, CertificateError::Revoked] {
            let text = advice(error);
            assert!(!text.contains("LOGSTASH_CA"), "{text}");
        }
    }

    #[test]
    fn what_a_retry_may_repair_is_not_a_fault_of_tls() {
        assert_eq!(found(Error::AlertReceived(AlertDescription::InternalError)), None);
        assert_eq!(found(Error::HandshakeNotComplete), None);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(TlsFault::find(std::iter::once(&reset as &(dyn std::error::Error + 'static))), None);
    }
}
