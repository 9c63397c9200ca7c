//! Builds the TLS trust store and the client certificate of https.

use std::sync::{Arc, OnceLock};

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

/// The certificate authorities that the system trusts. They are read when the first server sends its certificate, and once for
/// all clones, because reading them takes longer than everything else at the start of a process.
#[derive(Clone, Debug)]
pub struct SystemRoots {
    provider: Arc<CryptoProvider>,
    roots: Arc<OnceLock<Roots>>,
}

#[derive(Debug)]
struct Roots {
    /// The certificates that rustls accepts.
    certificates: Vec<CertificateDer<'static>>,
    verifier: Result<Arc<WebPkiServerVerifier>, Error>,
}

/// A client certificate and its private key. `Debug` does not show the key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl SystemRoots {
    /// Creates the trust store. It reads nothing yet.
    pub fn new() -> Self {
        SystemRoots { provider: Arc::new(aws_lc_rs::default_provider()), roots: Arc::default() }
    }

    /// Reads the authorities, and returns them in the form that the AWS SDK accepts.
    pub fn context(&self) -> TlsContext {
        let mut trusted = TrustStore::empty();
        for certificate in &self.roots().certificates {
            trusted.add_pem_certificate(pem(certificate));
        }
        // Building fails for none of the settings of the builder.
        TlsContext::builder().with_trust_store(trusted).build().unwrap_or_default()
    }

    fn roots(&self) -> &Roots {
        self.roots.get_or_init(|| Roots::read(&self.provider))
    }

    fn verifier(&self) -> Result<&WebPkiServerVerifier, Error> {
        self.roots().verifier.as_deref().map_err(Clone::clone)
    }
}

impl Default for SystemRoots {
    fn default() -> Self {
        SystemRoots::new()
    }
}

impl Roots {
    /// Reads the authorities. Like other programs, it leaves out certificates that it cannot read.
    fn read(provider: &Arc<CryptoProvider>) -> Self {
        let found = rustls_native_certs::load_native_certs();
        if !found.errors.is_empty() {
            let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
            tracing::warn!(errors = errors.join("; "), "cannot read some of the certificate authorities of the system");
        }
        let mut store = RootCertStore::empty();
        let certificates: Vec<_> = found.certs.into_iter().filter(|certificate| store.add(certificate.clone()).is_ok()).collect();
        let verifier = if certificates.is_empty() {
            Err(Error::General("the system trusts no certificate authority; install its CA certificates".to_owned()))
        } else {
            let verifier = WebPkiServerVerifier::builder_with_provider(store.into(), Arc::clone(provider)).build();
            verifier.map_err(|error| Error::Other(OtherError(Arc::new(error))))
        };
        Roots { certificates, verifier }
    }
}

impl ServerCertVerifier for SystemRoots {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier()?.verify_server_cert(certificate, intermediates, server, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier()?.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier()?.verify_tls13_signature(message, certificate, signed)
    }

    /// The client offers the schemes before the server sends its certificate, so this must not read the authorities.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Identity {
    /// Reads a certificate chain and its private key from PEM text.
    ///
    /// # Errors
    /// The certificate or the key is missing, or the text contains anything else.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let problem = "does not contain a certificate and its key";
        let (mut chain, mut last_key) = (Vec::new(), None);
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            let (kind, der) = section.map_err(|_| problem)?;
            match PrivateKeyDer::from_pem(kind, der.clone()) {
                Some(key) => last_key = Some(key),
                None if kind == SectionKind::Certificate => chain.push(der.into()),
                None => return Err(problem.to_owned()),
            }
        }
        match last_key {
            Some(key) if !chain.is_empty() => Ok(Identity { chain, key }),
            _ => Err(problem.to_owned()),
        }
    }
}

/// Reads one or more certificates from PEM text.
///
/// # Errors
/// The text contains no certificate, or an invalid one.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|_| "is not valid PEM".to_owned())?;
    if certificates.is_empty() { Err("contains no certificate".to_owned()) } else { Ok(certificates) }
}

/// Returns the TLS settings of an HTTP/1.1 client. It trusts `authorities`, or the system's authorities if there are none, and
/// sends `identity`.
///
/// # Errors
/// A certificate or the key is invalid.
pub fn client_config(
    system: &SystemRoots,
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
) -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(Arc::clone(&system.provider));
    let config = config.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let config = if authorities.is_empty() {
        config.dangerous().with_custom_certificate_verifier(Arc::new(system.clone()))
    } else {
        let mut store = RootCertStore::empty();
        for authority in authorities {
            store.add(authority).map_err(|error| error.to_string())?;
        }
        config.with_root_certificates(store)
    };
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some(Identity { chain, key }) => config.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn pem(certificate: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a certificate and its key as PEM text.
    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["shipper".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn an_identity_needs_a_certificate_and_its_key() {
        let (certificate, key) = pair();
        let public_key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        let both = certificate.clone() + &key;
        assert!(Identity::from_pem(both.as_bytes()).is_ok());
        for text in ["", &certificate, &key, "-----BEGIN CERTIFICATE-----\n", &(both.clone() + public_key)] {
            assert_eq!(Identity::from_pem(text.as_bytes()).unwrap_err(), "does not contain a certificate and its key", "{text}");
        }
        let shown = format!("{:?}", Identity::from_pem(both.as_bytes()));
        assert!(shown.contains("secret key elided"), "{shown}");
    }

    #[test]
    fn rejects_invalid_certificates_before_connecting() {
        let system = SystemRoots::new();
        let of_others = Identity::from_pem((pair().0 + &pair().1).as_bytes()).unwrap();
        assert!(client_config(&system, Vec::new(), Some(of_others)).is_err(), "a key of another certificate is accepted");
        assert!(
            client_config(&system, vec![CertificateDer::from(vec![1, 2, 3])], None).is_err(),
            "an invalid certificate is accepted"
        );
        assert!(system.roots.get().is_none(), "the system's authorities are read too early");
    }
}
