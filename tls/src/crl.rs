//! One revocation list, believed: whole, of an authority that may sign lists, signed by it, and of a time that can be.

use core::time::Duration;

use adit_core::escape;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject as _},
};
use x509_parser::{
    certificate::X509Certificate,
    der_parser::oid::Oid,
    prelude::FromDer as _,
    revocation_list::CertificateRevocationList,
    x509::{AlgorithmIdentifier, SubjectPublicKeyInfo},
};

use crate::key::{KeyPrint, sha256};

/// For which certificates a list speaks: a digest of the issuer's key, and of what part of its certificates the list names.
pub type Scope = [u8; 32];

/// How new a list is among those of one scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Its number, big endian and without leading zeros; empty for a list without one.
    pub number: Vec<u8>,
    /// When it was made: seconds since 1970.
    pub issued: i64,
}

impl Mark {
    /// Returns whether this list is older than another one.
    pub fn is_before(&self, other: &Self) -> bool {
        (self.number.len(), &self.number, self.issued) < (other.number.len(), &other.number, other.issued)
    }
}

/// A revocation list.
#[derive(Clone)]
#[non_exhaustive]
pub struct RevocationList {
    /// The list itself.
    pub der: CertificateRevocationListDer<'static>,
    /// The name of its issuer, as certificates have it.
    pub issuer: Vec<u8>,
    /// The same, to be read.
    pub shown: String,
    /// The key that signed it.
    pub key: KeyPrint,
    /// For which certificates it speaks.
    pub scope: Scope,
    /// How new it is.
    pub mark: Mark,
    /// When its successor is due: seconds since 1970.
    pub next: u64,
    /// How many certificates it revokes.
    pub entries: usize,
}

impl core::fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { shown, mark, next, entries, .. } = self;
        f.debug_struct("RevocationList")
            .field("issuer", shown)
            .field("mark", mark)
            .field("next", next)
            .field("entries", entries)
            .finish()
    }
}

impl RevocationList {
    /// Reads a list that one of `issuers` has signed, at the time `now`, in seconds since 1970. That it may be over is the caller's to judge.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(
        der: CertificateRevocationListDer<'static>,
        issuers: &[CertificateDer<'_>],
        provider: &CryptoProvider,
        now: u64,
    ) -> Result<Self, String> {
        let list = Self::signed(der, issuers, provider)?;
        list.is_made(now).map(|()| list)
    }

    /// Reads a list that one of `issuers` has signed, of whatever time.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn signed(
        der: CertificateRevocationListDer<'static>,
        issuers: &[CertificateDer<'_>],
        provider: &CryptoProvider,
    ) -> Result<Self, String> {
        let Ok(([], list)) = CertificateRevocationList::from_der(&der) else {
            return Err("it is not one whole revocation list".to_owned());
        };
        let shown = escape(&list.issuer().to_string()).to_string();
        let parsed = issuers.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1));
        let named: Vec<_> = parsed.filter(|it| it.subject().as_raw() == list.issuer().as_raw()).collect();
        if named.is_empty() {
            return Err(format!("its issuer {shown} is none of the authorities that are believed"));
        }
        let (message, signature) = (list.tbs_cert_list.as_ref(), &*list.signature_value.data);
        let signs = |it: &&X509Certificate<'_>| {
            is_signed(message, (&list.signature_algorithm, signature), it.public_key(), provider)
        };
        let Some(issuer) = named.iter().find(signs) else {
            return Err(format!("its signature is not that of {shown}"));
        };
        if !issuer.key_usage().ok().flatten().is_none_or(|usage| usage.value.crl_sign()) {
            return Err(format!("{shown} may not sign revocation lists (cRLSign)"));
        }
        let issued = list.last_update().timestamp();
        let next = list.next_update().ok_or("it does not say when the next one is due (nextUpdate)")?;
        let number = list.crl_number().map(|number| number.to_bytes_be()).unwrap_or_default();
        let number = number.iter().copied().skip_while(|octet| *octet == 0).collect();
        let part = list.extensions().iter().find(|extension| extension.oid.as_bytes() == ISSUING_DISTRIBUTION_POINT);
        let scope = [issuer.public_key().raw, part.map_or(&[], |extension| extension.value)].concat();
        Ok(Self {
            issuer: list.issuer().as_raw().to_vec(),
            shown,
            key: sha256(issuer.public_key().raw, provider).map(KeyPrint).ok_or("this program has no SHA-256")?,
            scope: sha256(&scope, provider).ok_or("this program has no SHA-256")?,
            mark: Mark { number, issued },
            next: u64::try_from(next.timestamp()).unwrap_or(0),
            entries: list.iter_revoked_certificates().count(),
            der,
        })
    }

    /// Holds the time when it was made against `now`, in seconds since 1970.
    ///
    /// # Errors
    /// It is still to come, for people.
    pub fn is_made(&self, now: u64) -> Result<(), String> {
        if self.mark.issued <= i64::try_from(now.saturating_add(SKEW)).unwrap_or(i64::MAX) {
            return Ok(());
        }
        let made = CertificateRevocationList::from_der(&self.der).map(|(_, list)| list.last_update().to_string());
        Err(format!("it was made at {}, which is still to come by the clock of this host", made.unwrap_or_default()))
    }

    /// Returns since when a certificate is revoked, by its serial number as certificates have it; seconds since 1970.
    ///
    /// It tells what stands in the list, and does not judge: lists may be of a part of the certificates, or of somebody else's.
    pub fn revoked(&self, serial: &[u8]) -> Option<i64> {
        let (_, list) = CertificateRevocationList::from_der(&self.der).ok()?;
        let mut entries = list.iter_revoked_certificates();
        entries.find(|entry| entry.raw_serial() == serial).map(|entry| entry.revocation_date.timestamp())
    }

    /// Returns whether its successor should have come `grace` before `now`, in seconds since 1970, or earlier.
    pub fn is_over(&self, grace: Duration, now: u64) -> bool {
        self.next.saturating_add(grace.as_secs()) <= now
    }

    /// Tells which list this is.
    pub fn told(&self) -> String {
        let number: String = self.mark.number.iter().map(|octet| format!("{octet:02x}")).collect();
        let number = if number.is_empty() { "without a number".to_owned() } else { format!("number 0x{number}") };
        format!("the list of {}, {number}, with {} entries", self.shown, self.entries)
    }
}

/// Takes lists apart, in DER or PEM, all or nothing.
///
/// # Errors
/// What is wrong with them, for people.
pub fn split_lists(octets: Vec<u8>) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    if octets.first() == Some(&SEQUENCE) {
        return Ok(vec![octets.into()]);
    }
    let count = |what: &[u8]| octets.windows(what.len()).filter(|window| *window == what).count();
    let begun = count(b"-----BEGIN");
    if begun != count(b"-----END") || !octets.trim_ascii_end().ends_with(b"-----") {
        return Err("it is neither DER nor PEM, or a part of it is cut off".to_owned());
    }
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&octets).collect();
    let lists = lists.map_err(|error| error.to_string())?;
    if lists.is_empty() || lists.len() != begun {
        return Err("it does not hold revocation lists alone (BEGIN X509 CRL)".to_owned());
    }
    Ok(lists)
}

/// Returns whether one of `issuers` has the name of a certificate's issuer and the key that signed it.
pub fn is_issued(der: &CertificateDer<'_>, issuers: &[CertificateDer<'_>], provider: &CryptoProvider) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let parsed = issuers.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1));
    let (message, signature) = (certificate.tbs_certificate.as_ref(), &*certificate.signature_value.data);
    parsed
        .filter(|it| it.subject().as_raw() == certificate.issuer().as_raw())
        .any(|it| is_signed(message, (&certificate.signature_algorithm, signature), it.public_key(), provider))
}

/// Verifies a signature by the algorithms that TLS itself believes.
fn is_signed(
    message: &[u8],
    (algorithm, signature): (&AlgorithmIdentifier<'_>, &[u8]),
    key: &SubjectPublicKeyInfo<'_>,
    provider: &CryptoProvider,
) -> bool {
    let (of_signature, of_key) = (object(&algorithm.algorithm), object(&key.algorithm.algorithm));
    let all = provider.signature_verification_algorithms.all.iter();
    let mut fit = all
        .filter(|it| it.signature_alg_id().starts_with(&of_signature) && it.public_key_alg_id().starts_with(&of_key));
    fit.any(|it| it.verify_signature(&key.subject_public_key.data, message, signature).is_ok())
}

/// Returns an object identifier as it is encoded.
fn object(oid: &Oid<'_>) -> Vec<u8> {
    let octets = oid.as_bytes();
    [&[6, u8::try_from(octets.len()).unwrap_or(u8::MAX)], octets].concat()
}

/// Clocks of authorities may be a little ahead, in seconds.
const SKEW: u64 = 300;
/// What DER begins with.
const SEQUENCE: u8 = 0x30;
/// 2.5.29.28
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
