//! Which certificate a name gets: from a file, or issued by the private CA when it is first asked for.
//!
//! Everything is swapped as a whole: a reload that fails leaves what was there (V36, V95).

mod ca;
mod pem;

use core::time::Duration;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    EndpointName, NameMap, NamePattern,
    config::{CertificateFiles, Config},
};

pub use ca::{Issued, PrivateCa, certificate_path, write_issued};

/// A certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is there already.
    #[error("{}: is there already and is not replaced", .0.display())]
    Exists(PathBuf),
    /// A key that others may read.
    #[error("{}: others may read or change the key; run chmod 600", .0.display())]
    KeyMode(PathBuf),
    /// What a file holds cannot be used.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A certificate cannot be issued.
    #[error("cannot issue a certificate: {0}")]
    Issue(rcgen::Error),
    /// The program has not chosen its cryptography.
    #[error("no provider of cryptography is installed")]
    NoProvider,
}

/// The certificates of the public side.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwap<Loaded>,
}

/// What one reading of the configuration gave.
#[derive(Debug)]
pub struct Loaded {
    files: NameMap<Arc<CertifiedKey>>,
    ca: Option<PrivateCa>,
    issued: Mutex<HashMap<EndpointName, (Arc<CertifiedKey>, Instant)>>,
    ingress: Arc<CertifiedKey>,
}

impl Loaded {
    /// Reads every certificate that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be used; no name is then served from a part of them.
    pub fn read(config: &Config) -> Result<Self, CertificateError> {
        let ca = config.private_ca.as_deref().map(PrivateCa::load).transpose()?;
        let mut files = NameMap::default();
        for CertificateFiles { names, certificate, key } in &config.certificates {
            let certified = pem::load(certificate, key)?;
            for name in names {
                files.insert(name.clone(), Arc::clone(&certified));
            }
        }
        let ingress = match (&config.ingress.files, &ca) {
            (Some((certificate, key)), _) => pem::load(certificate, key)?,
            (None, Some(ca)) => issue(ca, &ingress_names(config))?,
            (None, None) => {
                let problem = "the ingress has neither a certificate nor a private CA".to_owned();
                return Err(CertificateError::Invalid { path: PathBuf::new(), problem });
            }
        };
        Ok(Self { files, ca, issued: Mutex::default(), ingress })
    }

    /// Returns true when the name has a certificate or can get one.
    pub fn covers(&self, name: &NamePattern) -> bool {
        let (NamePattern::Exact(base) | NamePattern::Below(base)) = name;
        let by_file = match name {
            NamePattern::Exact(name) => self.files.find(name).is_some(),
            NamePattern::Below(_) => self.files.get(name).is_some() || self.files.find(base).is_some(),
        };
        self.ca.is_some() || by_file
    }

    fn find(&self, name: &EndpointName) -> Option<Arc<CertifiedKey>> {
        if let Some(certified) = self.files.find(name) {
            return Some(Arc::clone(certified));
        }
        let ca = self.ca.as_ref()?;
        let mut issued = self.issued.lock();
        if let Some((certified, at)) = issued.get(name)
            && at.elapsed() < RENEW_AFTER
        {
            return Some(Arc::clone(certified));
        }
        let certified = issue(ca, &[name.to_string()]).ok()?;
        if issued.len() >= MAX_ISSUED {
            issued.clear(); // names are those of live endpoints; below a wildcard callers could make up any number
        }
        issued.insert(name.clone(), (Arc::clone(&certified), Instant::now()));
        Some(certified)
    }
}

impl Certificates {
    /// Takes what was read.
    pub fn new(loaded: Loaded) -> Self {
        Self { current: ArcSwap::from_pointee(loaded) }
    }

    /// Replaces all of it; connections that stand keep theirs.
    pub fn replace(&self, loaded: Loaded) {
        self.current.store(Arc::new(loaded));
    }

    /// Returns true when the name has a certificate or can get one.
    pub fn covers(&self, name: &NamePattern) -> bool {
        self.current.load().covers(name)
    }

    /// Returns true when the name has a certificate from a file.
    pub fn has_file(&self, name: &EndpointName) -> bool {
        self.current.load().files.find(name).is_some()
    }

    /// Returns the certificate of a name.
    pub fn find(&self, name: &EndpointName) -> Option<Arc<CertifiedKey>> {
        self.current.load().find(name)
    }
}

/// Gives callers the certificate of the name they ask for.
#[derive(Debug)]
pub struct ByName(pub Arc<Certificates>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = EndpointName::parse(hello.server_name()?).ok()?;
        self.0.find(&name)
    }
}

/// Gives agents the certificate of the ingress.
#[derive(Debug)]
pub struct ForAgents(pub Arc<Certificates>);

impl ResolvesServerCert for ForAgents {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.load().ingress))
    }
}

fn issue(ca: &PrivateCa, names: &[String]) -> Result<Arc<CertifiedKey>, CertificateError> {
    let issued = ca.issue(names)?;
    pem::certified_key(&issued.chain, &issued.key, Path::new("private CA"))
}

fn ingress_names(config: &Config) -> Vec<String> {
    if !config.ingress.names.is_empty() {
        return config.ingress.names.clone();
    }
    let concrete = config.ingress.listen.iter().map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(concrete.map(|ip| ip.to_string()));
    names.dedup();
    names
}

/// A certificate of the private CA is replaced after two thirds of its term.
const RENEW_AFTER: Duration = Duration::from_secs(ca::LEAF_TERM.as_secs() / 3 * 2);
const MAX_ISSUED: usize = 10_000;

#[cfg(test)]
mod tests;
