//! Certificates and keys from files, checked before they are used.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use adit_core::Secret;
use rustls::{
    InconsistentKeys,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use crate::{
    config::NamedFile,
    errors::{Error, Fault},
    trust::{describe_names, sha256},
};

/// A certificate with its key, as TLS takes it.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certified: CertifiedKey,
    pub(crate) facts: Facts,
}

/// What its holder must know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) names: Vec<String>,
    /// The fingerprint, as `AB:CD:…`.
    pub(crate) sha256: String,
    /// Seconds since 1970.
    pub(crate) from: i64,
    /// Seconds since 1970.
    pub(crate) until: i64,
}

/// How near a certificate is to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nearness {
    /// More than a quarter of its life is left.
    Far,
    /// A quarter or less: it should have been replaced.
    Near,
    /// It is over.
    Over,
}

impl Pair {
    /// Reads a chain and its key; the two must belong together (V36), and nobody else may read the key (V46).
    ///
    /// # Errors
    /// [`Fault::CertificateUnusable`].
    pub(crate) fn load(certificate: &NamedFile, key: &NamedFile, provider: &CryptoProvider) -> Result<Self, Error> {
        let chain = certificate.read_public(MAX_FILE).map_err(|problem| unusable(certificate, problem))?;
        let text = key.read_private(MAX_FILE).map_err(|problem| unusable(key, problem))?;
        Self::parse((certificate, &chain), (key, &text), provider)
    }

    /// Reads a chain and its key from the texts of files with these names.
    ///
    /// # Errors
    /// [`Fault::CertificateUnusable`].
    pub(crate) fn parse(
        (certificate, chain): (&Path, &str),
        (key, text): (&Path, &Secret),
        provider: &CryptoProvider,
    ) -> Result<Self, Error> {
        let private = PrivateKeyDer::from_pem_slice(text.expose())
            .map_err(|_| unusable(key, "it holds no private key in PEM".to_owned()))?;
        let private = provider.key_provider.load_private_key(private);
        let private = private.map_err(|error| unusable(key, format!("the key cannot be used: {error}")))?;
        let chain = read_certificates(chain).map_err(|problem| unusable(certificate, problem))?;
        let facts = Facts::of(&chain[0], provider).ok_or_else(|| {
            unusable(certificate, "what it begins with is not a certificate of version 3 of X.509".to_owned())
        })?;
        let certified = CertifiedKey::new(chain, private);
        match certified.keys_match() {
            Ok(()) => Ok(Self { certified, facts }),
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Err(unusable(key, "whether certificate and key belong together cannot be told".to_owned()))
            }
            Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                Err(unusable(certificate, format!("it does not belong to the key in {}", key.display())))
            }
            Err(error) => Err(unusable(
                certificate,
                format!("it cannot be used, as one that is not of version 3 of X.509: {error}"),
            )),
        }
    }
}

/// Reads a chain: the certificate, then those that issued it.
///
/// # Errors
/// What is wrong with it.
fn read_certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let chain = parsed.map_err(|error| format!("it is not PEM: {error}"))?;
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(format!("it holds {} certificates, not 1 to {MAX_CHAIN}", chain.len()));
    }
    Ok(chain)
}

fn unusable(path: &Path, problem: impl Into<String>) -> Error {
    Error::new(Fault::CertificateUnusable, format!("{}: {}", path.display(), problem.into()))
}

impl Facts {
    pub(crate) fn of(certificate: &CertificateDer<'_>, provider: &CryptoProvider) -> Option<Self> {
        let described = describe_names(certificate, MAX_NAMES)?;
        Some(Self {
            sha256: sha256(certificate, provider)?,
            subject: described.subject,
            issuer: described.issuer,
            names: described.names,
            from: described.not_before,
            until: described.not_after,
        })
    }

    pub(crate) fn nearness(&self) -> Nearness {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let left = self.until.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
        match left {
            ..=0 => Nearness::Over,
            _ if left <= self.until.saturating_sub(self.from) / 4 => Nearness::Near,
            _ => Nearness::Far,
        }
    }

    /// Returns whether a caller that asks for `name`, which may be a wildcard, is content with the certificate.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        self.names.iter().any(|own| {
            let below = own.strip_prefix("*.").zip(name.split_once('.'));
            own.eq_ignore_ascii_case(name) || below.is_some_and(|(own, (_, parent))| own.eq_ignore_ascii_case(parent))
        })
    }
}

/// What tells that a file was written anew, or that others may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp(PathBuf, Option<Vec<i64>>);

impl Stamp {
    /// Looks at a file; one that cannot be looked at has a stamp too.
    pub(super) fn of(path: &Path) -> Self {
        Self(path.to_owned(), std::fs::metadata(path).ok().map(|facts| traits(&facts)))
    }
}

#[cfg(unix)]
fn traits(facts: &std::fs::Metadata) -> Vec<i64> {
    use std::os::unix::fs::MetadataExt as _;

    let (inode, size) = (facts.ino().cast_signed(), facts.size().cast_signed());
    vec![inode, size, facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec()]
}

#[cfg(not(unix))]
fn traits(facts: &std::fs::Metadata) -> Vec<i64> {
    let changed = facts.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let nanos = i64::try_from(changed.as_nanos()).unwrap_or(i64::MAX);
    vec![i64::try_from(facts.len()).unwrap_or(i64::MAX), nanos]
}

/// A file of certificates or a key is not longer, in octets.
const MAX_FILE: u64 = 256 << 10;
/// More names of a certificate are not looked at.
const MAX_NAMES: usize = 200;
/// A chain is not longer.
const MAX_CHAIN: usize = 8;
