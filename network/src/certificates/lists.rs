//! The revocation lists that agents are given: of the private CA, and of the authorities that issued the ingress's own certificates.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use adit_tls::{MAX_STAPLE, joined, split_lists};
use bytes::Bytes;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::{CertificateError, Stamp, list_path};
use crate::{bounded, config::Config};

/// Where lists are, and where they are given out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The folder of the private CA.
    ca: Option<PathBuf>,
    files: Vec<PathBuf>,
    /// The host and the path of `crl.url`.
    published: Option<(String, String)>,
}

/// The lists, as they are in force.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Of the private CA.
    own: Option<Arc<List>>,
    others: Vec<Arc<List>>,
    /// One after the other, by their issuer: the same octets for every session.
    joined: BTreeMap<Vec<u8>, Bytes>,
    pub(super) stamps: Vec<Stamp>,
}

#[derive(Debug)]
struct List {
    der: Bytes,
    issuer: Vec<u8>,
    next: u64,
}

impl Places {
    pub(super) fn new(config: &Config) -> Self {
        let published = config.crl.as_ref().and_then(|crl| crl.url.as_deref()).and_then(host_and_path);
        Self { ca: config.private_ca.clone(), files: config.ingress.crl.clone(), published }
    }

    pub(super) fn stamps(&self) -> Vec<Stamp> {
        let ca = self.ca.iter().map(|folder| Stamp::of(&list_path(folder)));
        ca.chain(self.files.iter().map(|path| Stamp::of(path))).collect()
    }

    /// Reads them; a private CA need not have one.
    pub(super) fn load(&self) -> Result<Lists, CertificateError> {
        let stamps = self.stamps(); // before the reading: what changes meanwhile is read again
        let path = self.ca.as_ref().map(|folder| list_path(folder));
        let own = path.filter(|path| path.exists()).map(|path| read(&path)).transpose()?;
        let mut others = Vec::new();
        for path in &self.files {
            others.extend(read(path)?);
        }
        Ok(Lists::new(own.and_then(|lists| lists.into_iter().next()), others, stamps))
    }

    /// Returns whether the list of the private CA is given out under this name and path, in plain HTTP.
    pub(super) fn is_published(&self, name: &str, path: &str) -> bool {
        self.published.as_ref().is_some_and(|(host, own)| host == name && own == path)
    }

    /// Returns the path at which the list is given out.
    pub(super) fn path(&self) -> &str {
        self.published.as_ref().map_or(PATH, |(_, path)| path)
    }
}

impl Lists {
    fn new(own: Option<Arc<List>>, others: Vec<Arc<List>>, stamps: Vec<Stamp>) -> Self {
        let mut lists = Self { own, others, joined: BTreeMap::new(), stamps };
        let issuers: Vec<_> = lists.all().map(|list| list.issuer.clone()).collect();
        let joined = issuers.into_iter().filter_map(|issuer| Some((joined(&lists.of(&issuer))?.into(), issuer)));
        lists.joined = joined.map(|(octets, issuer)| (issuer, octets)).collect();
        lists
    }

    /// Returns the lists of an issuer, one after the other.
    pub(super) fn joined(&self, issuer: &[u8]) -> Option<Bytes> {
        self.joined.get(issuer).cloned()
    }

    /// Returns whether agents learn nothing new from other lists.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.joined == other.joined
    }

    /// Returns the list of the private CA, and when its successor is due.
    pub(super) fn own(&self) -> Option<(Bytes, u64)> {
        self.own.as_ref().map(|list| (list.der.clone(), list.next))
    }

    /// Returns the lists of an issuer, by its name as certificates have it.
    pub(super) fn of(&self, issuer: &[u8]) -> Vec<&[u8]> {
        self.all().filter(|list| list.issuer == issuer).map(|list| &*list.der).collect()
    }

    /// Returns whether a certificate stands in a list of its issuer.
    pub(super) fn revokes(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
        self.of(certificate.issuer().as_raw()).into_iter().any(|der| {
            CertificateRevocationList::from_der(der).is_ok_and(|(_, list)| {
                list.iter_revoked_certificates().any(|entry| entry.raw_serial() == certificate.raw_serial())
            })
        })
    }

    /// Returns how many lists are too long for a handshake: agents must fetch them.
    pub(super) fn too_long(&self) -> usize {
        self.all().filter(|list| list.der.len() > MAX_STAPLE).count()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<List>> {
        self.own.iter().chain(&self.others)
    }
}

fn read(path: &std::path::Path) -> Result<Vec<Arc<List>>, CertificateError> {
    let invalid = |problem: String| CertificateError::Invalid { path: path.to_owned(), problem };
    let contents = bounded::read(path, MAX_FILE);
    let contents = contents.map_err(|error| CertificateError::File { path: path.to_owned(), error })?;
    let lists = split_lists(contents.octets).map_err(invalid)?;
    let list = |der: rustls::pki_types::CertificateRevocationListDer<'static>| {
        let Ok(([], list)) = CertificateRevocationList::from_der(&der) else {
            return Err(invalid("it is not a revocation list".to_owned()));
        };
        let next = list.next_update().and_then(|next| u64::try_from(next.timestamp()).ok()).unwrap_or(0);
        let issuer = list.issuer().as_raw().to_vec();
        Ok(Arc::new(List { issuer, next, der: Bytes::from(der.to_vec()) }))
    };
    lists.into_iter().map(list).collect()
}

/// Takes `http://HOST[:PORT]/PATH` apart; the port is that of whoever leads there.
fn host_and_path(url: &str) -> Option<(String, String)> {
    let uri: http::Uri = url.parse().ok()?;
    Some((uri.host()?.to_ascii_lowercase(), uri.path().to_owned()))
}

/// Where the list is given out unless `crl.url` says otherwise.
const PATH: &str = "/ca.crl";
/// The octets of a file of lists: 4 MiB.
const MAX_FILE: usize = 4 << 20;
