//! What handshakes ask: whom the authorities have issued a certificate, and then whether it is revoked.

use std::sync::Arc;

use adit_tls::Judge;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::Revocations;

/// Returns who judges certificates in handshakes.
pub(crate) fn verifier(judge: Arc<Judge>, revocations: Option<Arc<Revocations>>) -> Arc<dyn ClientCertVerifier> {
    match revocations {
        Some(revocations) => Arc::new(Strict { judge, revocations }),
        None => judge,
    }
}

/// Refuses what an authority has issued and may have revoked, whatever is asked of callers otherwise.
#[derive(Debug)]
struct Strict {
    judge: Arc<Judge>,
    revocations: Arc<Revocations>,
}

impl ClientCertVerifier for Strict {
    fn client_auth_mandatory(&self) -> bool {
        self.judge.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.judge.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.judge.verify_client_cert(certificate, intermediates, now)?;
        if self.judge.vouches(certificate, intermediates) {
            self.revocations.check(certificate, intermediates, now)?; // V31
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}
