//! Whose certificates are believed.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime, pem::PemObject as _},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{Authorities, ClientMode};

/// The authorities of an endpoint cannot be used: it must not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it holds cannot be used.
    #[error("{source_name}: {problem}")]
    Invalid {
        /// The file, or where else the text is from.
        source_name: String,
        /// Why.
        problem: String,
    },
    /// `verify` without anybody to verify against.
    #[error("mode `verify` needs `ca`: the certificates of the authorities that are believed")]
    Nobody,
    /// TLS cannot be set up so.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Reads the certificates of authorities, all or nothing.
///
/// # Errors
/// [`TrustError`]; nothing is widened to somebody else's authorities (V30).
pub fn read(authorities: &[Authorities]) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut all = Vec::new();
    for source in authorities {
        all.extend(match source {
            Authorities::Pem(text) => certificates(text)
                .map_err(|problem| TrustError::Invalid { source_name: "the policy".to_owned(), problem })?,
            Authorities::File(path) => read_opened(path, File::open(path))?,
        });
    }
    Ok(all)
}

/// Reads the certificates of authorities from a file, which was opened by who knows whether it may be read.
///
/// # Errors
/// [`TrustError`], that it could not be opened as well.
pub fn read_opened(path: &Path, opened: io::Result<File>) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let failed = |error| TrustError::File { path: path.to_owned(), error };
    let invalid = |problem| TrustError::Invalid { source_name: path.display().to_string(), problem };
    let mut text = String::new();
    opened.and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text)).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        // A part of it may be whole certificates, and would leave others out without a word.
        return Err(invalid(format!("it is longer than {MAX_FILE} octets")));
    }
    certificates(&text).map_err(invalid)
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    // A file that was cut anywhere but between two certificates does not end so.
    if !text.trim_end().ends_with("-----END CERTIFICATE-----") {
        return Err("it does not end with a whole certificate in PEM".to_owned());
    }
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = parsed.map_err(|error| error.to_string())?;
    if text.matches("-----BEGIN").count() != text.matches("-----END").count() {
        return Err("a part of it is cut off".to_owned());
    }
    if found.is_empty() || found.len() > MAX_AUTHORITIES {
        return Err(format!("it holds {} certificates, not 1 to {MAX_AUTHORITIES}", found.len()));
    }
    let mut names = 0;
    for (at, der) in found.iter().enumerate() {
        let number = at + 1;
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) if certificate.is_ca() => names += certificate.subject().as_raw().len(),
            Ok(([], _)) => return Err(format!("certificate {number} is not one of an authority (CA:TRUE)")),
            Ok(_) | Err(_) => return Err(format!("certificate {number} is not well formed")),
        }
    }
    // They are told to every caller before it has shown anything.
    if names > MAX_NAMES { Err("the names of the authorities are too long together".to_owned()) } else { Ok(found) }
}

/// Judges the certificates that callers show. Whoever shows one has its key: that is part of every handshake.
#[derive(Debug)]
pub struct Judge {
    mode: ClientMode,
    /// Nothing where no authority is configured.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    readable: fn(&CertificateDer<'_>) -> bool,
    provider: Arc<CryptoProvider>,
}

impl Judge {
    /// Returns a judge that believes `trusted` authorities. Certificates that are not `readable`, well formed and not too large to
    /// be told of, are refused.
    ///
    /// # Errors
    /// [`TrustError::Nobody`], or a certificate that cannot be an authority's.
    pub fn new(
        mode: ClientMode,
        trusted: &[CertificateDer<'static>],
        readable: fn(&CertificateDer<'_>) -> bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let authorities = if trusted.is_empty() {
            if mode == ClientMode::Verify {
                return Err(TrustError::Nobody);
            }
            None
        } else {
            let mut roots = RootCertStore::empty();
            for certificate in trusted {
                roots.add(certificate.clone())?;
            }
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            Some(builder.build().map_err(|error| rustls::Error::General(error.to_string()))?)
        };
        Ok(Self { mode, authorities, readable, provider: Arc::clone(provider) })
    }

    /// Returns whether one of the authorities issued a certificate that was accepted.
    pub fn vouches(&self, certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
        let verify = |verifier: &Arc<dyn ClientCertVerifier>| {
            verifier.verify_client_cert(certificate, intermediates, UnixTime::now()).is_ok()
        };
        // Where it is a condition of the handshake it has been found already.
        self.mode == ClientMode::Verify || self.authorities.as_ref().is_some_and(verify)
    }
}

impl ClientCertVerifier for Judge {
    fn client_auth_mandatory(&self) -> bool {
        self.mode != ClientMode::Request
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.as_ref().map_or(&[], |verifier| verifier.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let size = intermediates.iter().fold(certificate.len(), |size, one| size.saturating_add(one.len()));
        if intermediates.len() >= MAX_CHAIN || size > MAX_CHAIN_SIZE {
            return Err(CertificateError::ApplicationVerificationFailure.into()); // V32
        }
        if !(self.readable)(certificate) {
            return Err(CertificateError::BadEncoding.into());
        }
        match (self.mode, &self.authorities) {
            (ClientMode::Verify, Some(verifier)) => verifier.verify_client_cert(certificate, intermediates, now),
            (ClientMode::Verify, None) => Err(CertificateError::UnknownIssuer.into()), // V30
            (ClientMode::Request | ClientMode::Require, _) => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The octets of a file of authorities.
const MAX_FILE: u64 = 1 << 20;
const MAX_AUTHORITIES: usize = 100;
/// The names of all authorities together, in octets.
const MAX_NAMES: usize = 16 << 10;
/// The certificates that a caller may show, its own included.
const MAX_CHAIN: usize = 8;
const MAX_CHAIN_SIZE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_refused_and_never_cut() {
        let path = std::env::temp_dir().join(format!("adit-tls-long-{}.pem", std::process::id()));
        let read_with = |octets: u64| {
            let text = " ".repeat(usize::try_from(octets).unwrap());
            std::fs::write(&path, text).unwrap();
            read(&[Authorities::File(path.clone())]).unwrap_err().to_string()
        };

        assert!(read_with(MAX_FILE + 1).contains("longer"));
        assert!(!read_with(MAX_FILE).contains("longer"));
        std::fs::remove_file(&path).unwrap();
    }
}
