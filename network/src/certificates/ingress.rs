//! What agents meet: the certificate of the ingress and those of its custom names, each replaced before its end and as soon as it
//! is revoked, with the revocation list of its issuer inside the handshake.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_tls::staple;
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::{CertificateError, Entry, Pair, PrivateCa, Register, Usage, Validity, certified_key, lists::Lists, pem};
use crate::{EndpointName, config};

/// What the configuration says of the ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// For agents that ask for no name of their own.
    pub(super) files: Option<(PathBuf, PathBuf)>,
    pub(super) names: Vec<String>,
    pub(super) custom: Vec<(EndpointName, Option<(PathBuf, PathBuf)>)>,
}

/// The certificates, as they are in force.
#[derive(Debug, Default)]
pub(super) struct Shown {
    default: Option<Arc<Issue>>,
    custom: Vec<(EndpointName, Option<Arc<Issue>>)>,
}

/// A certificate with its key.
#[derive(Debug)]
struct Issue {
    pair: Pair,
    /// Of the private CA: for whom it is, and what the register must still be told.
    ours: Option<(Vec<String>, Mutex<Option<Entry>>)>,
}

impl Wanted {
    pub(super) fn new(config: &config::Config) -> Self {
        let custom = config.ingress.custom.iter().map(|name| (name.name.clone(), name.files.clone()));
        Self { files: config.ingress.files.clone(), names: default_names(config), custom: custom.collect() }
    }

    /// Returns the files that are read.
    pub(super) fn files(&self) -> impl Iterator<Item = &(PathBuf, PathBuf)> {
        self.files.iter().chain(self.custom.iter().filter_map(|(_, files)| files.as_ref()))
    }
}

impl Shown {
    /// Reads the files, and lets the private CA issue what has none. A certificate of the private CA that is good in `before` stays.
    pub(super) fn load(
        wanted: &Wanted,
        ca: Option<&PrivateCa>,
        before: Option<&Self>,
    ) -> Result<Self, CertificateError> {
        let of = |files: &Option<(PathBuf, PathBuf)>, names: &[String]| match (files, ca) {
            (Some((certificate, key)), _) => {
                Ok(Some(Arc::new(Issue { pair: pem::load(certificate, key)?, ours: None })))
            }
            (None, Some(ca)) => match before.and_then(|before| before.good(ca, names)) {
                Some(good) => Ok(Some(good)),
                None => Issue::of(ca, names).map(|issue| Some(Arc::new(issue))),
            },
            (None, None) => Ok(None),
        };
        let default = of(&wanted.files, &wanted.names)?;
        let custom = wanted.custom.iter().map(|(name, files)| Ok((name.clone(), of(files, &[name.to_string()])?)));
        Ok(Self { default, custom: custom.collect::<Result<_, CertificateError>>()? })
    }

    /// Returns the same with those of the private CA issued anew that are due at `now` or revoked; nothing when none is.
    pub(super) fn rotate(&self, ca: &PrivateCa, lists: &Lists, now: u64) -> Result<Option<Self>, CertificateError> {
        let mut changed = false;
        let mut turn = |issue: &Option<Arc<Issue>>| -> Result<Option<Arc<Issue>>, CertificateError> {
            let Some(old) = issue else { return Ok(None) };
            let Some((names, _)) = old.ours.as_ref().filter(|_| old.is_due(now) || old.is_revoked(lists)) else {
                return Ok(Some(Arc::clone(old)));
            };
            changed = true;
            Ok(Some(Arc::new(Issue::of(ca, names)?)))
        };
        let default = turn(&self.default)?;
        let custom = self.custom.iter().map(|(name, issue)| Ok((name.clone(), turn(issue)?)));
        let custom = custom.collect::<Result<_, CertificateError>>()?;
        Ok(changed.then_some(Self { default, custom }))
    }

    /// Returns whether one of them stands in the list of its issuer.
    pub(super) fn is_revoked(&self, lists: &Lists) -> bool {
        self.all().any(|issue| issue.is_revoked(lists))
    }

    /// Tells the register of the private CA what it does not know yet, so that it can be revoked.
    pub(super) fn note(&self, folder: &Path) -> Result<(), CertificateError> {
        for (_, left) in self.all().filter_map(|issue| issue.ours.as_ref()) {
            let entry = left.lock().clone();
            if let Some(entry) = entry {
                Register::add(folder, entry)?;
                *left.lock() = None;
            }
        }
        Ok(())
    }

    /// Returns the certificate for who asks for a name: that of the name, else the one of the ingress.
    ///
    /// `stored` is what else there may be of a name, from the database.
    pub(super) fn find(
        &self,
        wanted: &Wanted,
        name: Option<&EndpointName>,
        stored: impl Fn(&EndpointName) -> Option<Arc<CertifiedKey>>,
    ) -> Option<Arc<CertifiedKey>> {
        let custom = name.and_then(|name| self.custom.iter().find(|(own, _)| own == name));
        if let Some((name, issue)) = custom {
            return issue.as_ref().map(|issue| Arc::clone(&issue.pair.certified)).or_else(|| stored(name));
        }
        if let Some(issue) = &self.default {
            return Some(Arc::clone(&issue.pair.certified));
        }
        let mut own = wanted.names.iter().filter_map(|own| EndpointName::parse(own).ok());
        match name {
            Some(name) => own.any(|own| own == *name).then(|| stored(name))?,
            None => own.find_map(|own| stored(&own)),
        }
    }

    /// Returns each certificate that is from a file, with the name that it is for, if it is not for all.
    pub(super) fn of_files(&self) -> impl Iterator<Item = (String, Validity)> {
        let default = self.default.iter().map(|issue| (String::new(), issue));
        let custom = self.custom.iter().filter_map(|(name, issue)| Some((name.to_string(), issue.as_ref()?)));
        default.chain(custom).filter(|(_, issue)| issue.ours.is_none()).map(|(name, it)| (name, it.pair.validity))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Issue>> {
        self.default.iter().chain(self.custom.iter().filter_map(|(_, issue)| issue.as_ref()))
    }

    fn good(&self, ca: &PrivateCa, names: &[String]) -> Option<Arc<Issue>> {
        let is_good = |issue: &&Arc<Issue>| {
            let same = issue.ours.as_ref().is_some_and(|(own, _)| own == names);
            same && ca.is_issuer_of(&issue.pair.certified.cert) && !issue.is_due(super::unix_now())
        };
        self.all().find(is_good).cloned()
    }
}

impl Issue {
    fn of(ca: &PrivateCa, names: &[String]) -> Result<Self, CertificateError> {
        let issued = ca.issue(names)?;
        let pair = certified_key(&issued.chain, &issued.key, Path::new("private CA"))?;
        let entry = Entry {
            serial: issued.serial.trim_start_matches('0').to_owned(),
            names: names.to_vec(),
            usage: Usage::Server,
            not_after: issued.not_after,
            revoked: None,
        };
        Ok(Self { pair, ours: Some((names.to_vec(), Mutex::new(Some(entry)))) })
    }

    /// At two thirds of its life, and before its life begins: the clock was ahead when it was issued, and agents take it for not valid.
    fn is_due(&self, now: u64) -> bool {
        let Validity { from, .. } = self.pair.validity;
        now < from || now >= from.saturating_add(self.pair.validity.life() / 3 * 2)
    }

    fn is_revoked(&self, lists: &Lists) -> bool {
        self.pair.certified.cert.first().is_some_and(|leaf| lists.revokes(leaf))
    }
}

/// Returns the certificate with the list of its issuer beside it.
pub(super) fn stapled(certified: &Arc<CertifiedKey>, lists: &Lists) -> Arc<CertifiedKey> {
    let leaf = certified.cert.first().and_then(|leaf| Some(X509Certificate::from_der(leaf).ok()?.1));
    let Some(leaf) = leaf else { return Arc::clone(certified) };
    let Some(response) = staple(&lists.of(leaf.issuer().as_raw())) else { return Arc::clone(certified) };
    let mut with = CertifiedKey::clone(certified);
    with.ocsp = Some(response);
    Arc::new(with)
}

fn default_names(config: &config::Config) -> Vec<String> {
    if !config.ingress.names.is_empty() {
        return config.ingress.names.clone();
    }
    let concrete = config.ingress.listen.iter().map(|address| address.ip()).filter(|ip| !ip.is_unspecified());
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(concrete.map(|ip| ip.to_string()));
    names.dedup();
    names
}
