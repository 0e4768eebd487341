//! Revocation of callers' certificates (V31).
//!
//! Where an endpoint names revocation lists, a certificate of its authorities is good only while a list says so: one that no
//! list speaks for, whose list is over, or that is revoked is refused, in every mode. A list is believed when it is whole,
//! signed by its issuer and no older than the newest that was seen; what cannot be used leaves the one in force, which ends by
//! its own date. After that there is the grace that the operator sets, none by default.

mod fetch;
mod ledger;
mod watch;

use core::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use adit_tls::{RevocationList as List, Scope, Standing, TrustError, list_issuers, split_lists};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
};

use crate::{
    bounded,
    certificates::{Stamp, unix_now},
};

pub use adit_tls::Depth;
pub use fetch::run as fetch;
pub use ledger::Ledger;
pub use watch::run as watch;

/// How revocation is checked: the keys `crl…` of `client_certificates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// `crl`: files with lists.
    pub files: Vec<PathBuf>,
    /// `crl_url`: where lists are fetched.
    pub urls: Vec<String>,
    /// `crl_issuers`: certificates of authorities below those of `ca`, whose lists are believed too.
    pub issuers: Vec<PathBuf>,
    /// `crl_depth`.
    pub depth: Depth,
    /// `crl_grace`: for how long after its end a list is believed.
    pub grace: Duration,
}

/// How a list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// In force.
    Good,
    /// In force, and an eighth of its time or less is left: its successor should be there.
    Near,
    /// Over, and believed for the grace.
    Grace,
    /// Over: certificates of its issuer are refused.
    Over,
    /// Not there yet: certificates are refused unless another list speaks for them.
    Missing,
}

impl State {
    pub(crate) const ALL: [Self; 5] = [Self::Good, Self::Near, Self::Grace, Self::Over, Self::Missing];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Near => "near",
            Self::Grace => "grace",
            Self::Over => "over",
            Self::Missing => "missing",
        }
    }
}

/// The lists of one endpoint, as they are in force.
#[derive(Debug)]
pub(crate) struct Revocations {
    settings: Revocation,
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    ledger: Arc<Ledger>,
    standing: ArcSwap<Standing>,
    /// Counts changes after which a certificate that was good may be so no more.
    generation: AtomicU64,
    /// What the sources looked like, and how lists stood when that was told.
    looked: Mutex<Looked>,
}

#[derive(Debug, Default)]
struct Looked {
    sources: Vec<Source>,
    /// When sources that could not be used are read again, changed or not: a clock may have been wrong.
    retry: Option<u64>,
    states: BTreeMap<Scope, State>,
}

/// What tells that a source has something else.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    File(Stamp),
    Copy(Option<Arc<[u8]>>),
}

impl adit_tls::Revocations for Revocations {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.standing.load().check((certificate, intermediates), self.settings.grace, now)
    }
}

impl Revocations {
    /// Reads the lists that there are.
    ///
    /// # Errors
    /// A file cannot be used: the endpoint must not be served.
    pub(super) fn new(
        settings: Revocation,
        trusted: &[CertificateDer<'static>],
        provider: &Arc<CryptoProvider>,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, TrustError> {
        if trusted.is_empty() {
            return Err(TrustError::Nobody);
        }
        let this = Self {
            settings,
            trusted: trusted.to_vec(),
            provider: Arc::clone(provider),
            ledger: Arc::clone(ledger),
            standing: ArcSwap::default(),
            generation: AtomicU64::new(0),
            looked: Mutex::default(),
        };
        this.looked.lock().sources = this.sources(); // before the reading: what changes meanwhile is read again
        this.standing.store(Arc::new(this.load(unix_now())?));
        Ok(this)
    }

    /// Returns how often it has changed whom these lists let in.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns where lists are fetched.
    pub(super) fn urls(&self) -> &[String] {
        &self.settings.urls
    }

    /// Takes what a URL led to, if it can be used.
    ///
    /// # Errors
    /// It cannot: what is in force stays.
    pub(super) fn offer(&self, url: &str, octets: Vec<u8>, now: u64) -> Result<u64, String> {
        let issuers = self.issuers().map_err(|error| error.to_string())?;
        let mut next = u64::MAX;
        for der in split_lists(octets.clone())? {
            let list = List::read(der, &issuers, &self.provider, now)?;
            self.is_no_roll_back(&list)?;
            next = next.min(list.next);
        }
        self.ledger.keep(url, octets);
        Ok(next)
    }

    /// Looks at the sources, and reads them again when one has changed; nothing when there is nothing new.
    pub(super) fn refresh(&self, now: u64) -> Option<Result<Vec<String>, TrustError>> {
        let sources = self.sources();
        {
            let mut looked = self.looked.lock();
            if looked.sources == sources && looked.retry.is_none_or(|retry| now < retry) {
                return None;
            }
            looked.sources = sources;
        }
        let loaded = self.load(now);
        self.looked.lock().retry = loaded.is_err().then(|| now.saturating_add(RETRY));
        Some(loaded.map(|standing| {
            let told = standing.lists().values().map(List::told).collect();
            self.standing.store(Arc::new(standing));
            self.generation.fetch_add(1, Ordering::AcqRel);
            told
        }))
    }

    /// Returns how each list stands, and those of which that has changed since it was asked last.
    pub(super) fn states(&self, now: u64) -> (Vec<State>, Vec<(String, State)>) {
        let standing = self.standing.load();
        let states: BTreeMap<_, _> =
            standing.lists().iter().map(|(scope, list)| (*scope, self.state(list, now))).collect();
        let mut looked = self.looked.lock();
        let changed =
            states.iter().filter(|(scope, state)| looked.states.get(*scope).copied().unwrap_or(State::Good) != **state);
        let changed: Vec<_> =
            changed.filter_map(|(scope, state)| Some((standing.lists().get(scope)?.told(), *state))).collect();
        if changed.iter().any(|(_, state)| *state == State::Over) {
            self.generation.fetch_add(1, Ordering::AcqRel); // who came in while it was good is judged anew
        }
        let missing = self.settings.urls.iter().filter(|url| self.ledger.copy(url).is_none()).count();
        let all = states.values().copied().chain(core::iter::repeat_n(State::Missing, missing)).collect();
        looked.states = states;
        (all, changed)
    }

    fn state(&self, list: &List, now: u64) -> State {
        let (left, issued) = (list.next.saturating_sub(now), u64::try_from(list.mark.issued).unwrap_or(0));
        match left {
            0 if list.is_over(self.settings.grace, now) => State::Over,
            0 => State::Grace,
            left if left <= list.next.saturating_sub(issued) / 8 => State::Near,
            _ => State::Good,
        }
    }

    fn sources(&self) -> Vec<Source> {
        let Revocation { files, issuers, urls, .. } = &self.settings;
        let files = files.iter().chain(issuers).map(|path| Source::File(Stamp::of(path)));
        files.chain(urls.iter().map(|url| Source::Copy(self.ledger.copy(url)))).collect()
    }

    fn load(&self, now: u64) -> Result<Standing, TrustError> {
        let issuers = self.issuers()?;
        let mut lists = Vec::new();
        let mut size = 0;
        for (name, octets) in self.read()? {
            let invalid = |problem| TrustError::Invalid { source_name: name.clone(), problem };
            size += octets.len();
            if size > MAX_LISTS {
                return Err(invalid(format!("the lists of one endpoint are larger than {MAX_LISTS} octets together")));
            }
            for der in split_lists(octets).map_err(invalid)? {
                let list = List::read(der, &issuers, &self.provider, now).map_err(invalid)?;
                self.is_no_roll_back(&list).map_err(invalid)?;
                lists.push(list);
            }
        }
        let standing = Standing::new(lists, &self.trusted, self.settings.depth, &self.provider)?;
        for list in standing.lists().values() {
            self.ledger.note(list.scope, &list.mark);
        }
        Ok(standing)
    }

    /// Reads the files, and the copies of what was fetched.
    fn read(&self) -> Result<Vec<(String, Vec<u8>)>, TrustError> {
        let mut all = Vec::new();
        for path in &self.settings.files {
            let failed = |error| TrustError::File { path: path.clone(), error };
            all.push((path.display().to_string(), bounded::read(path, MAX_SOURCE).map_err(failed)?.octets));
        }
        for url in &self.settings.urls {
            all.extend(self.ledger.copy(url).map(|copy| (url.clone(), copy.to_vec())));
        }
        Ok(all)
    }

    fn issuers(&self) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        let files = self.settings.issuers.iter().map(|path| (path.as_path(), std::fs::File::open(path)));
        list_issuers(files, &self.trusted, &self.provider)
    }

    fn is_no_roll_back(&self, list: &List) -> Result<(), String> {
        match self.ledger.newest(&list.scope) {
            Some(newest) if list.mark.is_before(&newest) => {
                Err(format!("{} is older than one that was in force already", list.told()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// The octets of a file, or of what a URL leads to: 4 MiB.
pub(super) const MAX_SOURCE: usize = 4 << 20;
/// Sources that cannot be used are read again after so many seconds.
const RETRY: u64 = 60;
/// The octets of all lists of one endpoint: 16 MiB.
const MAX_LISTS: usize = 16 << 20;

#[cfg(test)]
mod tests;
