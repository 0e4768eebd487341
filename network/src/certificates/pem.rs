//! Certificates and keys from PEM, checked before they are used.

use std::{path::Path, sync::Arc};

use adit_acme::Validity;
use adit_core::Secret;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::CertificateError;
use crate::{
    NamePattern,
    bounded::{self, Contents},
};

/// A certificate with its key, as TLS takes it, and what its holder must know of it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The chain and the key.
    pub certified: Arc<CertifiedKey>,
    /// From when to when it is valid.
    pub validity: Validity,
    /// The names that it stands for.
    pub names: Vec<NamePattern>,
}

/// Reads a chain and its key from files.
pub(super) fn load(certificate: &Path, key: &Path) -> Result<Pair, CertificateError> {
    let chain = read(certificate)?;
    let key = read_key_text(key)?;
    certified_key(&chain, &key, certificate)
}

/// Reads the texts of a chain and its key.
///
/// # Errors
/// When a file cannot be read, or others may read the key.
pub fn read_pair(certificate: &Path, key: &Path) -> Result<(String, Secret), CertificateError> {
    Ok((read(certificate)?, Secret::new(read_key_text(key)?)))
}

/// Reads a request for a certificate.
///
/// # Errors
/// When it cannot be read.
pub fn read_request(path: &Path) -> Result<String, CertificateError> {
    read(path)
}

/// Reads a secret from a file that nobody else may read.
///
/// # Errors
/// When it cannot be read, or others may.
pub fn read_secret(path: &Path) -> Result<Secret, CertificateError> {
    Ok(Secret::new(read_key_text(path)?))
}

/// Reads a key; one that others may read or write is refused (V46).
pub(super) fn read_key_text(path: &Path) -> Result<String, CertificateError> {
    let failed = |error| CertificateError::File { path: path.to_owned(), error };
    let contents = bounded::read(path, MAX_FILE).map_err(failed)?;
    if contents.mode & 0o037 != 0 {
        return Err(CertificateError::KeyMode(path.to_owned()));
    }
    contents.text().map_err(failed)
}

/// Makes of a chain and a key what TLS takes; the two must belong together (V36).
pub(crate) fn certified_key(chain: &str, key: &str, path: &Path) -> Result<Pair, CertificateError> {
    let invalid = |problem: String| CertificateError::Invalid { path: path.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(invalid(format!("it holds {} certificates, not 1 to {MAX_CHAIN}", chain.len())));
    }
    let (validity, names) = facts(&chain[0]).map_err(invalid)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| invalid(format!("its key: {error}")))?;
    let provider = CryptoProvider::get_default().ok_or(CertificateError::NoProvider)?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| invalid(format!("its key: {error}")))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| invalid(format!("certificate and key do not belong together: {error}")))?;
    Ok(Pair { certified: Arc::new(certified), validity, names })
}

/// Returns from when to when a certificate is valid, and for which names.
fn facts(certificate: &CertificateDer<'_>) -> Result<(Validity, Vec<NamePattern>), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let validity =
        Validity { from: seconds(parsed.validity().not_before), until: seconds(parsed.validity().not_after) };
    let alternatives = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let names = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let names = names.filter_map(|name| {
        let x509_parser::extensions::GeneralName::DNSName(text) = name else { return None };
        NamePattern::parse(text).ok()
    });
    Ok((validity, names.collect()))
}

/// Reads a text of certificates.
pub(super) fn read(path: &Path) -> Result<String, CertificateError> {
    let contents = bounded::read(path, MAX_FILE).and_then(Contents::text);
    contents.map_err(|error| CertificateError::File { path: path.to_owned(), error })
}

const MAX_FILE: usize = 256 << 10;
const MAX_CHAIN: usize = 8;
