//! Certificates and keys from PEM, checked before they are used.

use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::CertificateError;

/// Reads a chain and its key from files.
pub(super) fn load(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain = read(certificate)?;
    let key = read_key_text(key)?;
    certified_key(&chain, &key, certificate)
}

/// Reads a key; one that others may read or write is refused (V46).
pub(super) fn read_key_text(path: &Path) -> Result<String, CertificateError> {
    let text = read(path)?;
    let facts = fs::metadata(path).map_err(|error| CertificateError::File { path: path.to_owned(), error })?;
    if facts.permissions().mode() & 0o037 != 0 {
        return Err(CertificateError::KeyMode(path.to_owned()));
    }
    Ok(text)
}

/// Makes of a chain and a key what TLS takes; the two must belong together (V36).
pub(super) fn certified_key(chain: &str, key: &str, path: &Path) -> Result<Arc<CertifiedKey>, CertificateError> {
    let invalid = |problem: String| CertificateError::Invalid { path: path.to_owned(), problem };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(error.to_string()))?;
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(invalid(format!("it holds {} certificates, not 1 to {MAX_CHAIN}", chain.len())));
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| invalid(format!("its key: {error}")))?;
    let provider = CryptoProvider::get_default().ok_or(CertificateError::NoProvider)?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| invalid(format!("its key: {error}")))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| invalid(format!("certificate and key do not belong together: {error}")))?;
    Ok(Arc::new(certified))
}

fn read(path: &Path) -> Result<String, CertificateError> {
    let failed = |error| CertificateError::File { path: path.to_owned(), error };
    let mut text = String::new();
    fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)).map_err(failed)?;
    Ok(text)
}

const MAX_FILE: u64 = 256 << 10;
const MAX_CHAIN: usize = 8;
