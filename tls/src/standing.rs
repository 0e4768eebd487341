//! Revocation lists in force, and what they say of chains.

use core::{fmt, time::Duration};
use std::{collections::BTreeMap, fs::File, io, path::Path, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{Judge, RevocationList, Scope, TrustError, is_issued, read_opened};

/// Which certificates of a chain a list must speak for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// `chain`: all but the authority's own.
    #[default]
    Chain,
    /// `end-entity`: the caller's alone.
    EndEntity,
}

impl Depth {
    /// Reads `chain` or `end-entity`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "chain" => Some(Self::Chain),
            "end-entity" => Some(Self::EndEntity),
            _ => None,
        }
    }
}

/// Lists that were believed when they were read. That one of them is over is found when a chain is checked.
#[derive(Debug, Default)]
pub struct Standing {
    /// Nothing while there is no list.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    lists: BTreeMap<Scope, RevocationList>,
    depth: Depth,
}

impl Standing {
    /// Takes lists for certificates of `trusted` authorities; of those of one scope the newest counts.
    ///
    /// # Errors
    /// An authority or a list cannot be used.
    pub fn new(
        lists: impl IntoIterator<Item = RevocationList>,
        trusted: &[CertificateDer<'static>],
        depth: Depth,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let mut newest = BTreeMap::<Scope, RevocationList>::new();
        for list in lists {
            if newest.get(&list.scope).is_none_or(|other| other.mark.is_before(&list.mark)) {
                newest.insert(list.scope, list);
            }
        }
        if newest.is_empty() {
            return Ok(Self { depth, ..Self::default() });
        }
        let mut roots = RootCertStore::empty();
        for certificate in trusted {
            roots.add(certificate.clone())?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        // Their ends are judged here, with the grace.
        let builder = builder.with_crls(newest.values().map(|list| list.der.clone()));
        let builder = match depth {
            Depth::Chain => builder,
            Depth::EndEntity => builder.only_check_end_entity_revocation(),
        };
        let verifier = builder.build().map_err(|error| TrustError::Invalid {
            source_name: "revocation lists".to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Self { verifier: Some(verifier), lists: newest, depth })
    }

    /// Returns the lists, by what they speak for.
    pub const fn lists(&self) -> &BTreeMap<Scope, RevocationList> {
        &self.lists
    }

    /// Judges a certificate that an authority has issued. A list is believed for `grace` after its end.
    ///
    /// # Errors
    /// It is revoked, or nobody can say that it is not: no list speaks for it, or the one that does is over.
    pub fn check(
        &self,
        (certificate, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        grace: Duration,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some(verifier) = &self.verifier else {
            return Err(CertificateError::UnknownRevocationStatus.into());
        };
        verifier.verify_client_cert(certificate, intermediates, now)?;
        let judged = match self.depth {
            Depth::Chain => intermediates,
            Depth::EndEntity => &[],
        };
        for der in core::iter::once(certificate).chain(judged) {
            let Ok((_, parsed)) = X509Certificate::from_der(der) else {
                return Err(CertificateError::BadEncoding.into());
            };
            let of_its_issuer = self.lists.values().filter(|list| list.issuer == parsed.issuer().as_raw());
            let over = of_its_issuer.into_iter().find(|list| list.is_over(grace, now.as_secs()));
            if let Some(list) = over {
                return Err(CertificateError::ExpiredRevocationListContext {
                    time: now,
                    next_update: UnixTime::since_unix_epoch(Duration::from_secs(list.next)),
                }
                .into());
            }
        }
        Ok(())
    }
}

/// Returns whose lists are believed: `trusted` authorities, and those of files, as they were opened, that they, or one of these, have
/// issued.
///
/// # Errors
/// A file cannot be used, or has a certificate that none of them issued.
pub fn list_issuers<'f>(
    files: impl IntoIterator<Item = (&'f Path, io::Result<File>)>,
    trusted: &[CertificateDer<'static>],
    provider: &CryptoProvider,
) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let mut issuers = trusted.to_vec();
    for (path, opened) in files {
        let mut left = read_opened(path, opened)?;
        while !left.is_empty() {
            let before = left.len();
            let (issued, rest) = left.into_iter().partition::<Vec<_>, _>(|der| is_issued(der, &issuers, provider));
            issuers.extend(issued);
            if rest.len() == before {
                let problem = format!("{before} of its certificates were not issued by an authority in `ca`");
                return Err(TrustError::Invalid { source_name: path.display().to_string(), problem });
            }
            left = rest;
        }
    }
    Ok(issuers)
}

/// Who is asked whether what an authority has issued is good.
pub trait Revocations: fmt::Debug + Send + Sync {
    /// Judges a chain that an authority has issued.
    ///
    /// # Errors
    /// It is revoked, or nobody can say that it is not.
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error>;
}

/// Returns who judges certificates in handshakes: whom the authorities have issued one, and then whether it is revoked. What an
/// authority has issued and may have revoked is refused, whatever is asked of callers otherwise.
pub fn verifier(judge: Arc<Judge>, revocations: Option<Arc<dyn Revocations>>) -> Arc<dyn ClientCertVerifier> {
    match revocations {
        Some(revocations) => Arc::new(Strict { judge, revocations }),
        None => judge,
    }
}

#[derive(Debug)]
struct Strict {
    judge: Arc<Judge>,
    revocations: Arc<dyn Revocations>,
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
