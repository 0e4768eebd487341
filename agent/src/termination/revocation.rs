//! Whether certificates of callers are revoked (V31).
//!
//! Where an endpoint names lists, a certificate of its authorities is good only while a list says so, in every mode, and for the whole
//! chain. A file that cannot be used leaves the lists in force, which end by their own date; over is over, without a grace.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use adit_tls::{Depth, Mark, RevocationList, Revocations, Scope, Standing, TrustError, list_issuers, split_lists};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
};

use crate::config::RevocationConfig;

/// How new the newest list of each scope was that was ever in force here; none goes back behind it.
#[derive(Debug, Default)]
pub(super) struct Marks(Mutex<BTreeMap<Scope, Mark>>);

/// Lists as handshakes ask them.
#[derive(Debug)]
pub(super) struct Lists(Standing);

/// A chain that was good, to be judged by later lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    certificate: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
}

/// How a list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Good,
    /// An eighth of its time or less is left: its successor should be there.
    Near,
    /// Certificates of its issuer are refused.
    Over,
}

impl Lists {
    /// Reads the lists that an endpoint names.
    ///
    /// # Errors
    /// One cannot be used, or is older than one that was in force.
    pub(super) fn read(
        config: &RevocationConfig,
        trusted: &[CertificateDer<'static>],
        marks: &Marks,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let files = config.issuers.iter().map(|file| (&**file, file.open_any()));
        let issuers = list_issuers(files, trusted, provider)?;
        let (mut lists, mut size) = (Vec::new(), 0);
        for file in &config.lists {
            let invalid = |problem| TrustError::Invalid { source_name: file.display().to_string(), problem };
            let octets = file.octets(MAX_FILE).map_err(|error| TrustError::File { path: file.to_path_buf(), error })?;
            size += octets.len();
            if size > MAX_LISTS {
                return Err(invalid(format!("the lists of one endpoint are larger than {MAX_LISTS} octets together")));
            }
            for der in split_lists(octets).map_err(invalid)? {
                let list = RevocationList::read(der, &issuers, provider, UnixTime::now().as_secs()).map_err(invalid)?;
                marks.is_no_roll_back(&list).map_err(invalid)?;
                lists.push(list);
            }
        }
        let standing = Standing::new(lists, trusted, Depth::Chain, provider)?;
        marks.note(&standing);
        Ok(Self(standing))
    }

    /// Returns whether a chain that was good is so by these lists.
    pub(super) fn let_stand(&self, chain: &Chain) -> bool {
        self.check(&chain.certificate, &chain.intermediates, UnixTime::now()).is_ok()
    }

    /// Returns each list with how it stands at a time, in seconds since 1970.
    pub(super) fn states(&self, now: u64) -> impl Iterator<Item = (Scope, &RevocationList, State)> {
        self.0.lists().iter().map(move |(scope, list)| (*scope, list, State::of(list, now)))
    }
}

impl Revocations for Lists {
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.0.check((certificate, intermediates), Duration::ZERO, now)
    }
}

impl Chain {
    pub(super) fn new(certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Self {
        let intermediates = intermediates.iter().map(|der| der.clone().into_owned()).collect();
        Self { certificate: certificate.clone().into_owned(), intermediates }
    }
}

impl State {
    fn of(list: &RevocationList, now: u64) -> Self {
        let (left, issued) = (list.next.saturating_sub(now), u64::try_from(list.mark.issued).unwrap_or(0));
        if list.is_over(Duration::ZERO, now) {
            Self::Over
        } else if left <= list.next.saturating_sub(issued) / 8 {
            Self::Near
        } else {
            Self::Good
        }
    }
}

impl Marks {
    fn is_no_roll_back(&self, list: &RevocationList) -> Result<(), String> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match marks.get(&list.scope) {
            Some(newest) if list.mark.is_before(newest) => {
                Err(format!("{} is older than one that was in force already", list.told()))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn note(&self, standing: &Standing) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // None of them is older than what stands there.
        marks.extend(standing.lists().iter().map(|(scope, list)| (*scope, list.mark.clone())));
    }
}

/// The octets of a file: 4 MiB.
const MAX_FILE: u64 = 4 << 20;
/// The octets of all lists of one endpoint: 16 MiB.
const MAX_LISTS: usize = 16 << 20;

#[cfg(test)]
#[cfg(unix)]
#[path = "revocation_tests.rs"]
mod tests;
