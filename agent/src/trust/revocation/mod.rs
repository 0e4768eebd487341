//! Whether the network's certificate is revoked, as far as the customer wants to know (`agent.crl`).
//!
//! A list is believed when it is whole, signed by the authority that issued the certificate, of a time that can be, and no older than
//! the newest that was seen, over restarts too. It comes inside the handshake, inside the session, from a URL by plain HTTP, or from
//! the copy on disk; whence it comes says nothing for it. Once a list is known to exist a certificate is good only while one says so.

mod answer;
mod fetch;
mod kept;
mod points;
mod refresh;
mod times;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use adit_core::escape;
use adit_tls::{KeyPrint, RevocationList, Scope, apart, is_issued, stapled};
use rustls::{
    CertificateError, Error as TlsError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime},
};
use tokio::{sync::Notify, time::Instant};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{
    clock::utc,
    config::{CrlConfig, CrlMode},
    errors::{Error, Fault, clip},
    status::Status,
};
use kept::{Found, Kept};
use points::distribution_points;

pub(crate) use answer::body;
pub(crate) use refresh::Way;
#[cfg(test)]
pub(crate) use times::ListTimes;
pub(crate) use times::{Dated, Times};

/// The lists that are known, and what was judged by them.
#[derive(Debug)]
pub(crate) struct Revocation {
    settings: CrlConfig,
    /// The hosts of `connect_url`: what a certificate names may be fetched from them too.
    hosts: Vec<String>,
    trusted: Vec<CertificateDer<'static>>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    lists: BTreeMap<Scope, Listed>,
    /// The keys of authorities of which a list is known to exist.
    known: BTreeSet<KeyPrint>,
    /// The authorities whose copies on disk were looked at.
    looked: BTreeSet<KeyPrint>,
    /// What was accepted or asked about lately, the newest last.
    chains: VecDeque<Chain>,
    /// What was revoked lately, the newest last: a dial that began before may come to its end after.
    revoked: VecDeque<Chain>,
    /// Why there is no newer list, told with the refusal that comes of it.
    trouble: Option<String>,
    /// A dial waits for a list.
    is_wanted: bool,
    /// What was refused last may be taken once a list is fetched.
    is_pending: bool,
    /// Not before is a list fetched that a dial wants.
    not_before: Option<Instant>,
    /// Why sessions were ended here last.
    ended: Option<Error>,
    /// Whether the last handshake had a list with it.
    is_stapled: bool,
    told: String,
    times: Times,
}

/// A list, and where it is from.
#[derive(Clone, Debug)]
struct Listed {
    list: RevocationList,
    source: String,
    /// Since when it is in force here.
    taken: UnixTime,
}

/// What the network showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) intermediates: Vec<CertificateDer<'static>>,
    pub(crate) name: ServerName<'static>,
}

/// A certificate that is refused: for TLS, and for people.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) error: TlsError,
    pub(crate) told: Error,
    /// Whether a list is being fetched that may change it.
    pub(crate) is_pending: bool,
}

impl Revocation {
    pub(crate) fn new(
        settings: CrlConfig,
        hosts: Vec<String>,
        trusted: Vec<CertificateDer<'static>>,
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        let (state, wake) = (Mutex::default(), Notify::new());
        Self { settings, hosts, trusted, roots, provider, state, wake }
    }

    /// Keeps the last good lists below `folder`, and believes none that is older than those.
    pub(crate) fn keep_in(&self, folder: PathBuf) {
        self.lock().kept = Kept::in_folder(folder);
    }

    /// Waits until what is in force is kept, for a few seconds at most: a disk that hangs does not hold the process. Blocks.
    pub(crate) fn settle(&self) -> bool {
        let kept = self.lock().kept.clone();
        kept.settle(SETTLE)
    }

    /// Judges what the network shows, whose chain is trusted.
    ///
    /// # Errors
    /// It is revoked, or nobody can say that it is not although somebody should.
    pub(crate) fn check(&self, chain: Chain, response: &[u8], now: UnixTime) -> Result<(), Refused> {
        if self.settings.mode == CrlMode::Off {
            return Ok(());
        }
        let issuers = self.issuers(&chain);
        let of_leaf = self.keys_of_issuers(&chain.leaf, &issuers);
        let copies = self.copies(&of_leaf);
        let mut state = self.lock();
        self.look_at(copies, &mut state, &issuers, now);
        state.is_stapled = false;
        match stapled(response) {
            Ok(lists) => {
                for der in lists {
                    state.is_stapled = true;
                    state.known.extend(&of_leaf); // one that cannot be believed is one that exists
                    let taken = self.take(&mut state, der.to_vec(), "the handshake", &issuers, now);
                    if taken == Ok(true) {
                        self.wake.notify_one(); // for the sessions that are there
                    }
                    note(&mut state, "the handshake", taken);
                }
            }
            Err(problem) => {
                state.known.extend(&of_leaf);
                note(&mut state, "the handshake", Err(problem));
            }
        }
        if self.url_of(&chain).is_some() {
            state.known.extend(&of_leaf);
        }
        let judged = self.judge(&state, &chain, &of_leaf, now);
        state.remember(chain);
        state.told = self.standing(&state, judged.as_ref().err());
        state.is_pending = false;
        judged.map_err(|mut refused| {
            let has_url = !self.urls(&state).is_empty();
            let may_fetch = state.not_before.is_none_or(|at| at <= Instant::now());
            if refused.told.fault == Fault::RevocationUnknown && has_url && may_fetch {
                (refused.is_pending, state.is_pending) = (true, true);
                state.is_wanted = true;
                self.wake.notify_one();
            }
            refused
        })
    }

    /// Takes what the network says inside a session: no more is believed than anywhere else, and what is not changes nothing.
    pub(crate) fn hear(&self, octets: &[u8], now: UnixTime) {
        if self.settings.mode == CrlMode::Off {
            return;
        }
        let mut state = self.lock();
        let issuers = self.all_issuers(&state);
        match apart(octets) {
            Ok(lists) => {
                for der in lists {
                    let taken = self.take(&mut state, der.to_vec(), SESSION, &issuers, now); // spec: CRL-004
                    if taken.is_ok() {
                        self.wake.notify_one();
                    }
                    note(&mut state, SESSION, taken);
                }
            }
            Err(problem) => note(&mut state, SESSION, Err(problem)),
        }
    }

    /// A session has a connection: what its handshake was judged by may be old by now.
    pub(crate) fn judge_again(&self) {
        self.wake.notify_one();
    }

    /// Takes note of the times in what the network shows and TLS refuses: nothing else is made of it.
    pub(crate) fn overhear(&self, chain: &Chain, response: &[u8]) {
        let issuers = self.issuers(chain);
        if self.keys_of_issuers(&chain.leaf, &issuers).is_empty() {
            return; // anybody can make one of any time
        }
        let valid = super::describe(&chain.leaf).map(|shown| (shown.not_before, shown.not_after));
        let lists = if self.settings.mode == CrlMode::Off { Vec::new() } else { stapled(response).unwrap_or_default() };
        let mut state = self.lock();
        state.times.certificate = valid;
        for der in lists {
            let der = CertificateRevocationListDer::from(der.to_vec());
            if let Ok(list) = RevocationList::signed(der, &issuers, &self.provider) {
                state.times.hear(&list);
            }
        }
    }

    /// Returns what was heard of the time.
    pub(crate) fn times(&self) -> Times {
        self.lock().times.clone()
    }

    /// Returns whether what was refused last waits for a list that is being fetched.
    pub(crate) fn is_pending(&self) -> bool {
        self.lock().is_pending
    }

    /// Says why sessions were ended here last.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.lock().ended.clone()
    }

    /// Tells how it stands.
    pub(crate) fn told(&self) -> String {
        match self.settings.mode {
            CrlMode::Off => "off: whether the network's certificate is revoked is never asked".to_owned(),
            CrlMode::Require | CrlMode::PreferStapled => self.lock().told.clone(),
        }
    }

    /// Shows how it stands, for people.
    pub(crate) fn show(&self, status: &Status) {
        let told = self.told();
        if status.board().revocation != told {
            status.change(|board| board.revocation = told);
        }
    }

    /// Returns the chains that would not be accepted any more, each with why.
    fn lost(&self, now: UnixTime) -> Vec<(Chain, Error)> {
        let state = self.lock();
        let chains = state.chains.iter().chain(&state.revoked);
        let lost = chains.filter_map(|chain| {
            let of_leaf = self.keys_of_issuers(&chain.leaf, &self.issuers(chain));
            let refused = self.judge_standing(&state, chain, &of_leaf, now).err()?;
            Some((chain.clone(), refused.told))
        });
        lost.collect()
    }

    /// Judges a chain that was accepted. That its time has passed ends no session: a certificate is renewed without that, and
    /// it says who is there only when it is shown. Whether it is revoked is asked as of its last moment, of lists of today.
    fn judge_standing(&self, state: &State, chain: &Chain, of_leaf: &[KeyPrint], now: UnixTime) -> Result<(), Refused> {
        let Some(last) = chain.last_moment().filter(|last| *last < now.as_secs()) else {
            return self.judge(state, chain, of_leaf, now);
        };
        self.judge(state, chain, of_leaf, UnixTime::since_unix_epoch(Duration::from_secs(last)))?;
        let mut lists = state.lists.values().map(|listed| &listed.list).filter(|list| of_leaf.contains(&list.key));
        let is_over = lists.clone().next().is_some() && lists.all(|list| list.next <= now.as_secs());
        if is_over {
            return Err(self.unknown(state, chain, Some(CertificateError::ExpiredRevocationList.into())));
        }
        Ok(())
    }

    /// Judges by what is known.
    fn judge(&self, state: &State, chain: &Chain, of_leaf: &[KeyPrint], now: UnixTime) -> Result<(), Refused> {
        let is_known = self.settings.mode == CrlMode::Require
            || self.settings.url.is_some()
            || of_leaf.iter().any(|key| state.known.contains(key));
        let lists: Vec<_> = state.lists.values().map(|listed| listed.list.der.clone()).collect();
        if !state.lists.values().any(|listed| of_leaf.contains(&listed.list.key)) {
            return if is_known { Err(self.unknown(state, chain, None)) } else { Ok(()) };
        }
        let verify = |builder: rustls::client::ServerCertVerifierBuilder| {
            let verifier = builder.with_crls(lists.clone()).enforce_revocation_expiration().build();
            let verifier = verifier.map_err(|error| TlsError::General(error.to_string()))?;
            verifier.verify_server_cert(&chain.leaf, &chain.intermediates, &chain.name, &[], now)
        };
        let builder =
            || WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&self.provider));
        // A list must speak for the certificate itself; of those above it, what lists there are.
        let own = verify(builder().only_check_end_entity_revocation());
        let above = || verify(builder().allow_unknown_revocation_status());
        match own.and_then(|_| above()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused(state, chain, error)),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is wrong, nobody can say that it is good")]
    fn refused(&self, state: &State, chain: &Chain, error: TlsError) -> Refused {
        match &error {
            TlsError::InvalidCertificate(CertificateError::Revoked) => {
                let told = Error::new(Fault::CertificateRevoked, self.revoked(state, chain));
                Refused { error, told, is_pending: false }
            }
            _ => self.unknown(state, chain, Some(error)),
        }
    }

    fn unknown(&self, state: &State, chain: &Chain, error: Option<TlsError>) -> Refused {
        let problem = match &error {
            Some(TlsError::InvalidCertificate(
                CertificateError::ExpiredRevocationListContext { .. } | CertificateError::ExpiredRevocationList,
            )) => self.over(state, chain),
            Some(error) => format!("{}: {error}", describe(&chain.leaf)),
            None => format!("{}: there is no list of its issuer", describe(&chain.leaf)),
        };
        let trouble = state.trouble.as_ref().map(|trouble| format!("; {trouble}")).unwrap_or_default();
        let told = Error::new(Fault::RevocationUnknown, clip(&format!("{problem}{trouble}")));
        let error = error.unwrap_or_else(|| CertificateError::UnknownRevocationStatus.into());
        Refused { error, told, is_pending: false }
    }

    /// Says of what list a certificate is, and since when.
    fn revoked(&self, state: &State, chain: &Chain) -> String {
        let found = core::iter::once(&chain.leaf).chain(&chain.intermediates).find_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            state.lists.values().find_map(|Listed { list, source, .. }| {
                if list.issuer != certificate.issuer().as_raw() {
                    return None;
                }
                let since = list.revoked(certificate.raw_serial())?;
                let serial = certificate.raw_serial_as_string();
                let (who, told, since) = (describe(der), list.told(), utc(since));
                Some(format!("{who}, serial number {serial}: revoked at {since} by {told} (from {source})"))
            })
        });
        clip(&found.unwrap_or_else(|| describe(&chain.leaf)))
    }

    fn over(&self, state: &State, chain: &Chain) -> String {
        let issuers = self.keys_of_issuers(&chain.leaf, &self.issuers(chain));
        let lists = state.lists.values().filter(|listed| issuers.contains(&listed.list.key));
        let newest = lists.max_by_key(|listed| listed.list.next);
        newest.map_or_else(String::new, |Listed { list, .. }| {
            let next = utc(i64::try_from(list.next).unwrap_or(i64::MAX));
            format!("{}: {} is over: its successor was due at {next}", describe(&chain.leaf), list.told())
        })
    }

    /// Says how things stand after a judgement.
    fn standing(&self, state: &State, refused: Option<&Refused>) -> String {
        if let Some(refused) = refused {
            return refused.told.to_string();
        }
        let newest = state.lists.values().max_by_key(|listed| listed.list.next);
        match newest {
            None => "not asked: the network's authority is not known to have a revocation list".to_owned(),
            Some(Listed { list, source, taken }) => {
                let [taken, until] = [taken.as_secs(), list.next].map(|at| utc(i64::try_from(at).unwrap_or(i64::MAX)));
                format!("not revoked by {}, from {source} at {taken}, good until {until}", list.told())
            }
        }
    }

    /// Takes a list if it can be believed; returns whether it is new.
    fn take(
        &self,
        state: &mut State,
        octets: Vec<u8>,
        source: &str,
        issuers: &[CertificateDer<'static>],
        now: UnixTime,
    ) -> Result<bool, String> {
        let der = CertificateRevocationListDer::from(octets);
        let list = RevocationList::signed(der, issuers, &self.provider)?;
        state.times.hear(&list);
        list.is_made(now.as_secs())?;
        state.known.insert(list.key);
        if list.next <= now.as_secs() {
            let next = utc(i64::try_from(list.next).unwrap_or(i64::MAX));
            return Err(format!("{} is over: its successor was due at {next}", list.told()));
        }
        if let Some(newest) = state.lists.get(&list.scope) {
            if list.mark.is_before(&newest.list.mark) {
                return Err(format!("{} is older than one that was in force already", list.told()));
            }
            if list.mark == newest.list.mark {
                return Ok(false);
            }
        }
        // What the verifier cannot use must not take the place of what it can.
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), Arc::clone(&self.provider));
        builder.with_crls([list.der.clone()]).build().map_err(|error| format!("{}: {error}", list.told()))?;
        if !state.lists.contains_key(&list.scope) && state.lists.len() >= MAX_LISTS {
            return Err(format!("there are {MAX_LISTS} revocation lists already"));
        }
        state.kept.keep(&list);
        state.lists.insert(list.scope, Listed { list, source: source.to_owned(), taken: now });
        Ok(true)
    }

    /// Reads what an earlier run has kept, once for each authority: not while others wait for what is known.
    fn copies(&self, of_leaf: &[KeyPrint]) -> Vec<(KeyPrint, Vec<Found>)> {
        let (kept, new) = {
            let state = self.lock();
            let new: Vec<_> = of_leaf.iter().copied().filter(|key| !state.looked.contains(key)).collect();
            (state.kept.clone(), new)
        };
        new.into_iter().map(|key| (key, kept.copies(key))).collect()
    }

    /// Takes what an earlier run has kept.
    fn look_at(
        &self,
        copies: Vec<(KeyPrint, Vec<Found>)>,
        state: &mut State,
        issuers: &[CertificateDer<'static>],
        now: UnixTime,
    ) {
        for (key, copies) in copies {
            if !state.looked.insert(key) {
                continue;
            }
            for (path, copy) in copies {
                // It is believed no more than any other: who can write there could go back otherwise.
                state.known.insert(key);
                let shown = path.display().to_string();
                let read = copy.and_then(|octets| {
                    let der = CertificateRevocationListDer::from(octets);
                    RevocationList::read(der, issuers, &self.provider, now.as_secs())
                });
                match read {
                    Ok(list) if state.lists.get(&list.scope).is_none_or(|it| it.list.mark.is_before(&list.mark)) => {
                        let listed = Listed { list, source: shown, taken: now };
                        state.lists.insert(listed.list.scope, listed); // over or not: it is how new one must be
                    }
                    Ok(_) => {}
                    Err(problem) => tracing::warn!(file = shown, problem, "a kept revocation list cannot be used"),
                }
            }
        }
    }

    /// Returns whose lists are believed: the trusted authorities, and of those that were shown the ones that they issued.
    fn issuers(&self, chain: &Chain) -> Vec<CertificateDer<'static>> {
        let (mut believed, mut left) = (self.trusted.clone(), chain.intermediates.clone());
        loop {
            let before = left.len();
            let (issued, rest): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|der| is_issued(der, &believed, &self.provider));
            believed.extend(issued);
            if rest.len() == before {
                return believed;
            }
            left = rest;
        }
    }

    /// Returns whose lists are believed, with what was shown lately.
    fn all_issuers(&self, state: &State) -> Vec<CertificateDer<'static>> {
        let mut issuers = self.trusted.clone();
        for chain in &state.chains {
            issuers.extend(self.issuers(chain).into_iter().skip(self.trusted.len()));
        }
        issuers
    }

    /// Returns the keys of the authorities that issued the certificate.
    fn keys_of_issuers(&self, leaf: &CertificateDer<'static>, issuers: &[CertificateDer<'static>]) -> Vec<KeyPrint> {
        let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return Vec::new() };
        let named = issuers.iter().filter(|der| {
            X509Certificate::from_der(der).is_ok_and(|(_, it)| it.subject().as_raw() == parsed.issuer().as_raw())
        });
        let signed = named.filter(|der| is_issued(leaf, core::slice::from_ref(*der), &self.provider));
        signed.filter_map(|der| KeyPrint::of(der, &self.provider)).collect()
    }

    /// Returns where the list of a certificate can be fetched.
    fn url_of(&self, chain: &Chain) -> Option<String> {
        self.settings.url.clone().or_else(|| distribution_points(&chain.leaf).into_iter().next())
    }

    /// Returns where lists are fetched: what the customer says, or what certificates name.
    fn urls(&self, state: &State) -> Vec<String> {
        if let Some(url) = &self.settings.url {
            return vec![url.clone()];
        }
        let mut urls: Vec<_> = state.chains.iter().flat_map(|chain| distribution_points(&chain.leaf)).collect();
        urls.sort_unstable();
        urls.dedup();
        urls.truncate(MAX_URLS);
        urls
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chain {
    /// Returns the last second at which all of it is valid, since 1970.
    fn last_moment(&self) -> Option<u64> {
        let ends = core::iter::once(&self.leaf).chain(&self.intermediates).filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            u64::try_from(certificate.validity().not_after.timestamp()).ok()
        });
        ends.min()
    }
}

impl State {
    fn remember(&mut self, chain: Chain) {
        self.forget(&chain);
        push(&mut self.chains, chain);
    }

    /// What is revoked is asked about no more, and judged all the same.
    fn condemn(&mut self, chain: Chain) {
        self.forget(&chain);
        push(&mut self.revoked, chain);
    }

    fn forget(&mut self, chain: &Chain) {
        for chains in [&mut self.chains, &mut self.revoked] {
            chains.retain(|known| known.leaf != chain.leaf);
        }
    }
}

fn push(chains: &mut VecDeque<Chain>, chain: Chain) {
    if chains.len() >= MAX_CHAINS {
        chains.pop_front();
    }
    chains.push_back(chain);
}

/// Tells what became of a list.
fn note(state: &mut State, source: &str, taken: Result<bool, String>) {
    match taken {
        Ok(true) => {
            tracing::info!(source, "a newer revocation list is in force");
            state.trouble = None;
        }
        Ok(false) => state.trouble = None,
        Err(problem) => {
            let problem = clip(&escape(&problem).to_string());
            tracing::warn!(source, problem, "a revocation list is not believed");
            state.trouble = Some(format!("{source}: {problem}"));
        }
    }
}

fn describe(der: &[u8]) -> String {
    super::describe(der).map_or_else(
        || "the certificate".to_owned(),
        |it| format!("the certificate of \"{}\", issued by \"{}\"", it.subject, it.issuer),
    )
}

/// Where a list is from that the network has told in a session.
const SESSION: &str = "the session";
/// Lists at a time: of each authority there is one, or a few that share its certificates.
const MAX_LISTS: usize = 16;
/// What was accepted lately and is judged again: certificates, not connections.
const MAX_CHAINS: usize = 64;
/// Where is fetched, at most.
const MAX_URLS: usize = 4;
/// The octets of a list: 4 MiB.
const MAX_LIST: usize = 4 << 20;
/// How long the end waits for the disk.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a whole fetch may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
#[cfg(unix)]
mod tests;
