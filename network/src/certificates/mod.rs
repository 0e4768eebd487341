//! Which certificate a name gets: one of the operator's own, else one that ACME issued, else one of the private CA.
//!
//! The most specific name wins: an exact one before the nearest wildcard, and for the same name the order above. The private
//! CA comes last whatever the name. Everything is swapped as a whole: what fails leaves what was there (V36, V95).

pub mod acme;
mod ca;
mod ingress;
mod lists;
mod own;
mod pem;
mod register;
pub mod watch;

use core::time::Duration;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Instant,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::sync::watch::{Receiver, Sender};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{
    EndpointName, NameMap, NamePattern,
    config::{CertificateFiles, Config},
};
use acme::Issuer;
use ingress::{Shown, Wanted};
use lists::{Lists, Places};

pub use adit_acme::{Nearness, Validity};
pub use ca::{Issued, PrivateCa, Signed, Usage, certificate_path, key_path, write_answer, write_issued};
pub use own::{Kept, KeptError};
pub(crate) use pem::certified_key;
pub use pem::{Pair, read_pair, read_request, read_secret};
pub use register::{Entry, Reason, Register, Revoked, list_path, serial};
pub(crate) use watch::Stamp;
pub use watch::unix_now;

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
    /// The private CA has not issued it by command.
    #[error("the private CA has no certificate with the serial number {0} in its register")]
    Unknown(String),
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
    /// A request for a certificate is none.
    #[error("not a request for a certificate that can be answered: {0}")]
    Request(rcgen::Error),
    /// A request for a certificate names nobody, or something that is no server's name.
    #[error("the request names no server, or something that is none: give the names")]
    RequestNames,
    /// The program has not chosen its cryptography.
    #[error("no provider of cryptography is installed")]
    NoProvider,
}

/// The certificates of the process.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwap<Loaded>,
    /// Revocation lists that agents are given.
    lists: ArcSwap<Lists>,
    /// Counts the times that they have changed.
    edition: Sender<u64>,
    /// Put in by command.
    own: ArcSwap<NameMap<Pair>>,
    /// Ordered by ACME.
    ordered: ArcSwap<NameMap<Pair>>,
    issuer: OnceLock<Arc<Issuer>>,
}

/// Where a certificate is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A file of the configuration.
    File,
    /// Put in by command.
    Own,
    /// Ordered by ACME.
    Ordered,
    /// The private CA's own.
    PrivateCa,
    /// The file of the ingress.
    Ingress,
}

impl Source {
    /// Returns the word for logs, lists and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Own => "own",
            Self::Ordered => "acme",
            Self::PrivateCa => "private_ca",
            Self::Ingress => "ingress",
        }
    }
}

/// What one reading of the configuration's files gave.
#[derive(Debug)]
pub struct Loaded {
    named: Arc<Named>,
    /// What the files looked like before they were read.
    stamps: Vec<Stamp>,
    /// What they looked like when they could not be used.
    refused: Mutex<Option<Vec<Stamp>>>,
    files: NameMap<Pair>,
    ca: Option<PrivateCa>,
    issued: Mutex<HashMap<EndpointName, (Arc<CertifiedKey>, Instant)>>,
    /// Of files or of the private CA.
    ingress: ArcSwap<Shown>,
}

/// The files and names that the configuration names.
#[derive(Debug)]
struct Named {
    certificates: Vec<CertificateFiles>,
    private_ca: Option<PathBuf>,
    /// What stands in certificates of the private CA: where its revocation list is.
    list_url: Option<String>,
    ingress: Wanted,
    lists: Places,
}

impl Named {
    fn new(config: &Config) -> Self {
        Self {
            certificates: config.certificates.clone(),
            private_ca: config.private_ca.clone(),
            list_url: config.crl.as_ref().and_then(|crl| crl.url.clone()),
            ingress: Wanted::new(config),
            lists: Places::new(config),
        }
    }

    fn stamps(&self) -> Vec<Stamp> {
        let ca = self.private_ca.iter().flat_map(|folder| [certificate_path(folder), key_path(folder)]);
        let pairs = self.certificates.iter().map(|files| (&files.certificate, &files.key));
        let pairs = pairs.chain(self.ingress.files().map(|(certificate, key)| (certificate, key)));
        let stamps = pairs.flat_map(|(certificate, key)| [Stamp::of(certificate), Stamp::of(key)]);
        stamps.chain(ca.map(|path| Stamp::of(&path))).collect()
    }
}

impl Loaded {
    /// Reads every certificate that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be used; no name is then served from a part of them.
    pub fn read(config: &Config) -> Result<Self, CertificateError> {
        Self::load(Arc::new(Named::new(config)), None)
    }

    /// Reads everything; what the private CA has issued for the ingress in `before` stays as long as it is good.
    fn load(named: Arc<Named>, before: Option<&Shown>) -> Result<Self, CertificateError> {
        let stamps = named.stamps(); // before the reading: what changes meanwhile is read again
        let ca = named.private_ca.as_deref().map(PrivateCa::load).transpose()?;
        let ca = ca.map(|ca| ca.naming(named.list_url.clone()));
        let mut files = NameMap::default();
        for CertificateFiles { names, certificate, key } in &named.certificates {
            let pair = pem::load(certificate, key)?;
            for name in names {
                files.insert(name.clone(), pair.clone());
            }
        }
        let ingress = ArcSwap::from_pointee(Shown::load(&named.ingress, ca.as_ref(), before)?);
        Ok(Self { named, stamps, refused: Mutex::default(), files, ca, issued: Mutex::default(), ingress })
    }

    fn of_ca(&self, name: &EndpointName) -> Option<Arc<CertifiedKey>> {
        let ca = self.ca.as_ref()?;
        let mut issued = self.issued.lock();
        if let Some((certified, at)) = issued.get(name)
            && at.elapsed() < RENEW_AFTER
        {
            return Some(Arc::clone(certified));
        }
        let certified = issue(ca, &[name.to_string()]).ok()?.certified;
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
        Self {
            lists: ArcSwap::from_pointee(loaded.named.lists.load().unwrap_or_default()),
            edition: Sender::default(),
            current: ArcSwap::from_pointee(loaded),
            own: ArcSwap::default(),
            ordered: ArcSwap::default(),
            issuer: OnceLock::new(),
        }
    }

    /// Takes who orders certificates; the first one stays.
    pub fn set_issuer(&self, issuer: Arc<Issuer>) {
        let _ = self.issuer.set(issuer);
    }

    /// Replaces those that were ordered.
    pub(crate) fn set_ordered(&self, ordered: NameMap<Pair>) {
        self.ordered.store(Arc::new(ordered));
    }

    /// Tells who orders certificates that somebody may hold something new.
    pub fn wake(&self) {
        if let Some(issuer) = self.issuer.get() {
            issuer.wake();
        }
    }

    /// Tries at once what could not be ordered.
    pub fn retry(&self) {
        if let Some(issuer) = self.issuer.get() {
            issuer.retry();
        }
    }

    /// Returns the answer to a CA that asks for a path of a name, while an order waits for it.
    pub fn challenge_http(&self, name: &EndpointName, path: &str) -> Option<String> {
        self.issuer.get()?.challenges().http(name, path)
    }

    /// Returns the certificate for a CA that asks for a name, while an order waits for it.
    pub fn challenge_tls(&self, name: &EndpointName) -> Option<Arc<CertifiedKey>> {
        self.issuer.get()?.challenges().tls(name)
    }

    /// Returns whether a name has a certificate; waits a little while its first one is under way. `held` is the endpoint that
    /// has the name: without one, nothing is ordered.
    pub async fn wait(&self, name: &EndpointName, held: Option<&NamePattern>) -> bool {
        if let (Some(issuer), Some(held)) = (self.issuer.get(), held) {
            issuer.wait(held, || self.is_ready(name)).await;
        }
        self.find(name).is_some()
    }

    /// Returns true when one of the operator's own certificates convinces who asks for the name.
    pub(crate) fn has_own(&self, name: &NamePattern) -> bool {
        let (loaded, own) = (self.current.load(), self.own.load());
        let has = |map: &NameMap<Pair>| match name {
            NamePattern::Exact(exact) => {
                map.exact(exact).is_some() || exact.parents().next().is_some_and(|parent| map.below(parent).is_some())
            }
            NamePattern::Below(parent) => map.below(parent).is_some(),
        };
        has(&loaded.files) || has(&own)
    }

    /// Reads every certificate that a new configuration names, as [`Loaded::read`] does; what the private CA has issued for the ingress
    /// stays as long as it is good.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn read(&self, config: &Config) -> Result<Loaded, CertificateError> {
        Loaded::load(Arc::new(Named::new(config)), Some(&self.current.load().ingress.load()))
    }

    /// Replaces what is from files; connections that stand keep theirs.
    pub fn replace(&self, loaded: Loaded) {
        self.current.store(Arc::new(loaded));
    }

    /// Reads the files again when one of them has changed; `None` when there is nothing new.
    ///
    /// # Errors
    /// When they cannot be used: what was there stays, and the next change is looked at.
    pub fn refresh(&self) -> Option<Result<(), CertificateError>> {
        let current = self.current.load_full();
        let stamps = current.named.stamps();
        if stamps == current.stamps || current.refused.lock().as_ref() == Some(&stamps) {
            return None;
        }
        match Loaded::load(Arc::clone(&current.named), Some(&current.ingress.load())) {
            Ok(loaded) => {
                // A reload that came in between is newer than what was read here.
                self.current.compare_and_swap(&current, Arc::new(loaded));
                Some(Ok(()))
            }
            Err(error) => {
                *current.refused.lock() = Some(stamps);
                Some(Err(error))
            }
        }
    }

    /// Replaces those that were put in by command; tells whether anything is different.
    pub fn set_own(&self, kept: Vec<Kept>) -> bool {
        let mut own = NameMap::default();
        for Kept { names, pair, .. } in kept {
            for name in names {
                own.insert(name, pair.clone());
            }
        }
        let old = self.own.swap(Arc::new(own));
        let own = self.own.load();
        let same = |(name, pair): (NamePattern, &Pair)| {
            old.get(&name).is_some_and(|before: &Pair| before.certified.cert == pair.certified.cert)
        };
        old.iter().count() != own.iter().count() || !own.iter().all(same)
    }

    /// Returns true when the name has a certificate or can get one.
    pub fn covers(&self, name: &NamePattern) -> bool {
        let (NamePattern::Exact(base) | NamePattern::Below(base)) = name;
        let loaded = self.current.load();
        let covers = |map: &NameMap<Pair>| match name {
            NamePattern::Exact(name) => map.find(name).is_some(),
            NamePattern::Below(_) => map.get(name).is_some() || map.find(base).is_some(),
        };
        let ordered = || self.issuer.get().is_some_and(|issuer| issuer.can_order(name));
        loaded.ca.is_some() || covers(&loaded.files) || covers(&self.own.load()) || ordered()
    }

    /// Returns true when the name has a certificate that no CA has to issue first.
    pub fn is_ready(&self, name: &EndpointName) -> bool {
        self.ready(name).is_some()
    }

    /// Returns the folder of the private CA.
    fn private_ca(&self) -> Option<PathBuf> {
        self.current.load().named.private_ca.clone()
    }

    /// Returns true when there is a private CA, which has a certificate for every name.
    pub fn has_private_ca(&self) -> bool {
        self.current.load().ca.is_some()
    }

    /// Returns the certificate of a name.
    pub fn find(&self, name: &EndpointName) -> Option<Arc<CertifiedKey>> {
        self.ready(name).or_else(|| self.current.load().of_ca(name))
    }

    fn ready(&self, name: &EndpointName) -> Option<Arc<CertifiedKey>> {
        let (loaded, own, ordered) = (self.current.load(), self.own.load(), self.ordered.load());
        let (files, own, ordered) = (&loaded.files, &**own, &**ordered);
        let exact = files.exact(name).or_else(|| own.exact(name)).or_else(|| ordered.exact(name));
        let mut nearest = true;
        let below = || {
            name.parents().find_map(|parent| {
                // A CA's wildcard stands for one label; what the operator names is the operator's to know.
                let ordered = if core::mem::take(&mut nearest) { ordered.below(parent) } else { None };
                files.below(parent).or_else(|| own.below(parent)).or(ordered)
            })
        };
        exact.or_else(below).map(|pair| Arc::clone(&pair.certified))
    }

    /// Returns the certificate of the ingress for the name that the agent asks for, with the revocation list of its issuer.
    fn of_ingress(&self, name: Option<&EndpointName>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.current.load();
        let found = loaded.ingress.load().find(&loaded.named.ingress, name, |name| self.ready(name))?;
        Some(ingress::stapled(&found, &self.lists.load()))
    }

    /// Reads the revocation lists again when one has changed; `None` when there is nothing new.
    ///
    /// # Errors
    /// When one cannot be used: the ones before stay, and are tried again.
    pub fn refresh_lists(&self) -> Option<Result<usize, CertificateError>> {
        let loaded = self.current.load();
        if self.lists.load().stamps == loaded.named.lists.stamps() {
            return None;
        }
        Some(loaded.named.lists.load().map(|lists| {
            let (too_long, is_other) = (lists.too_long(), !lists.says_the_same(&self.lists.load()));
            self.lists.store(Arc::new(lists));
            if is_other {
                self.edition.send_modify(|edition| *edition += 1);
            }
            too_long
        }))
    }

    /// Returns a number that is another once the revocation lists for agents have changed, and who is told so.
    pub(crate) fn edition(&self) -> Receiver<u64> {
        self.edition.subscribe()
    }

    /// Returns who issued the certificate of the ingress for a name, as certificates have it.
    pub(crate) fn issuer_for_agents(&self, name: Option<&str>) -> Option<Arc<[u8]>> {
        let name = name.and_then(|name| EndpointName::parse(name).ok());
        let shown = self.of_ingress(name.as_ref())?;
        let (_, leaf) = X509Certificate::from_der(shown.cert.first()?).ok()?;
        Some(leaf.issuer().as_raw().into())
    }

    /// Returns the revocation lists of an issuer, one after the other.
    pub(crate) fn lists_of(&self, issuer: &[u8]) -> Option<Bytes> {
        self.lists.load().joined(issuer)
    }

    /// Issues what the private CA has issued for the ingress anew where two thirds of its life are over, or it is revoked. Returns
    /// whether it did, and whether anything was revoked. Sessions stay: whoever shakes hands from here on meets the new one.
    ///
    /// # Errors
    /// When it cannot be issued: the old one stays.
    pub fn rotate(&self, now: u64) -> Result<Option<Rotated>, CertificateError> {
        let loaded = self.current.load();
        let Some(ca) = &loaded.ca else { return Ok(None) };
        let (shown, lists) = (loaded.ingress.load_full(), self.lists.load());
        let Some(new) = shown.rotate(ca, &lists, now)? else { return Ok(None) };
        let rotated = if shown.is_revoked(&lists) { Rotated::Revoked } else { Rotated::Due };
        loaded.ingress.store(Arc::new(new));
        Ok(Some(rotated))
    }

    /// Notes in the register of the private CA what it has issued for the ingress, so that it can be revoked.
    ///
    /// # Errors
    /// When the register cannot be written; the next call tries again.
    pub fn note_issued(&self) -> Result<(), CertificateError> {
        let loaded = self.current.load();
        let Some(folder) = &loaded.named.private_ca else { return Ok(()) };
        loaded.ingress.load().note(folder)
    }

    /// Returns the revocation list of the private CA in DER, and when its successor is due.
    pub fn list(&self) -> Option<(Bytes, u64)> {
        self.lists.load().own()
    }

    /// Returns the path at which the list of the private CA is given out.
    pub fn list_path(&self) -> String {
        self.current.load().named.lists.path().to_owned()
    }

    /// Returns the list of the private CA where it is given out under this name and path.
    pub fn published(&self, name: &EndpointName, path: &str) -> Option<Bytes> {
        let loaded = self.current.load();
        loaded.named.lists.is_published(name.as_str(), path).then(|| Some(self.list()?.0))?
    }

    /// Returns every certificate with the name that it is shown for, if for one only, and its end.
    pub fn all(&self) -> Vec<(String, Source, Validity)> {
        let loaded = self.current.load();
        let of = |map: &NameMap<Pair>, source| {
            let all: Vec<_> = map.iter().map(|(name, pair)| (name.to_string(), source, pair.validity)).collect();
            all
        };
        let mut all = of(&loaded.files, Source::File);
        all.extend(of(&self.own.load(), Source::Own));
        all.extend(of(&self.ordered.load(), Source::Ordered));
        if let Some(ca) = &loaded.ca {
            all.push((String::new(), Source::PrivateCa, ca.validity()));
        }
        all.extend(loaded.ingress.load().of_files().map(|(name, validity)| (name, Source::Ingress, validity)));
        all
    }
}

/// Why a certificate of the ingress was issued anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// Two thirds of its life were over.
    Due,
    /// It was revoked: who came in under it must come in anew.
    Revoked,
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
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| EndpointName::parse(name).ok());
        self.0.of_ingress(name.as_ref())
    }
}

fn issue(ca: &PrivateCa, names: &[String]) -> Result<Pair, CertificateError> {
    let issued = ca.issue(names)?;
    certified_key(&issued.chain, &issued.key, Path::new("private CA"))
}

/// A certificate of the private CA is replaced after two thirds of its term.
const RENEW_AFTER: Duration = Duration::from_secs(ca::LEAF_TERM.as_secs() / 3 * 2);
const MAX_ISSUED: usize = 10_000;

#[cfg(test)]
mod tests;
