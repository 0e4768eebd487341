//! Keeps the lists new while the agent runs, and ends sessions whose network they speak against.

use core::{future::pending, pin::pin, time::Duration};
use std::sync::Arc;

use adit_core::Code;
use adit_tls::RevocationList;
use adit_tokio::{Target, Uplink};
use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Dated, PATIENCE, Revocation, note};
use crate::{
    config::{CrlMode, ListUrl},
    errors::{Error, Fault},
    route::Route,
    status::Status,
};

/// How the network is reached.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) targets: Vec<Target>,
    pub(crate) route: Route,
    /// What its certificate must be for, where that is not the target.
    pub(crate) name: Option<ServerName<'static>>,
    pub(crate) tls: Arc<ClientConfig>,
}

/// How the lists were refreshed last, and when they are next.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Instant,
    failures: u32,
}

impl Revocation {
    /// Looks after the lists until it is dropped.
    pub(crate) async fn run(self: Arc<Self>, uplink: Uplink, way: Way, status: Arc<Status>) {
        if self.settings.mode == CrlMode::Off {
            return;
        }
        let mut turn = Turn { at: Instant::now() + self.settings.refresh, failures: 0 };
        let judge = || {
            self.end_lost(|leaf, text| {
                let of_leaf = |peer: &adit_core::tls::Peer| peer.certificate.as_ref() == Some(leaf);
                uplink.close_where(of_leaf, Code::UNTRUSTED, text) // spec: CRL-005
            });
            self.show(&status);
        };
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep_until(self.next_look(turn.at)) => {}
            }
            judge();
            let is_wanted = self.lock().is_wanted;
            let mut is_last = false;
            if is_wanted || turn.at <= Instant::now() {
                let is_fresh = self.judging(Box::pin(self.refresh(&way)), judge).await;
                is_last = !is_fresh && self.is_ending();
                turn = self.next_turn(turn, is_fresh);
                let mut state = self.lock();
                state.is_wanted = false;
                state.not_before = (!is_fresh).then_some(turn.at);
                drop(state);
                judge();
            }
            if is_wanted || is_last {
                // With a list, or to say why there is none; or by the way that sessions take, which may lead through a proxy: what
                // they carry goes on.
                uplink.reconnect_now();
            }
        }
    }

    /// Does what may take its time, and judges meanwhile whenever there is something to judge.
    pub(crate) async fn judging<T>(&self, work: impl Future<Output = T>, judge: impl Fn()) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.wake.notified() => {}
                () = self.list_ends() => {}
            }
            judge();
        }
    }

    /// Waits until the next list is over.
    async fn list_ends(&self) {
        match self.next_end() {
            Some(end) => sleep_until(end).await,
            None => pending().await,
        }
    }

    /// Fetches what a handshake has asked for, once.
    pub(crate) async fn fetch_wanted(&self, route: &Route) {
        let urls = {
            let state = self.lock();
            self.urls(&state)
        };
        let mut is_good = false;
        for url in urls {
            is_good |= self.fetch(&url, route).await;
        }
        let mut state = self.lock();
        state.is_wanted = false;
        state.not_before = (!is_good).then(|| Instant::now() + SOON);
    }

    /// Returns when to look next: at the next turn, or when a list is over.
    fn next_look(&self, turn: Instant) -> Instant {
        self.next_end().map_or(turn, |end| end.min(turn))
    }

    /// Returns when the next list is over.
    fn next_end(&self) -> Option<Instant> {
        let now = UnixTime::now().as_secs();
        let state = self.lock();
        let ends = state.lists.values().map(|listed| listed.list.next).filter(|next| *next > now);
        ends.min().map(|next| Instant::now() + Duration::from_secs(next - now))
    }

    /// Returns whether a list that came in a handshake has an eighth of its time left, or less.
    fn is_ending(&self) -> bool {
        let (now, state) = (UnixTime::now().as_secs(), self.lock());
        let is_near = |list: &RevocationList| {
            let life = list.next.saturating_sub(u64::try_from(list.mark.issued).unwrap_or(0));
            list.next.saturating_sub(now) <= life / 8
        };
        state.is_stapled && state.lists.values().any(|listed| is_near(&listed.list))
    }

    /// Half of the time that is left, and not more than the customer says; after a failure soon, then later and later.
    fn next_turn(&self, before: Turn, is_fresh: bool) -> Turn {
        let most = self.settings.refresh;
        if !is_fresh {
            let failures = before.failures.saturating_add(1);
            let wait = SOON.saturating_mul(1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX)).min(most);
            return Turn { at: Instant::now() + wait, failures };
        }
        let now = UnixTime::now().as_secs();
        let ends = self.lock().lists.values().map(|listed| listed.list.next).min();
        let left = ends.map_or(most, |next| Duration::from_secs(next.saturating_sub(now)) / 2);
        Turn { at: Instant::now() + left.clamp(SOON.min(most), most), failures: 0 }
    }

    /// Gets what lists there are; returns whether that went well.
    async fn refresh(&self, way: &Way) -> bool {
        let (urls, is_stapled) = {
            let state = self.lock();
            (self.urls(&state), state.is_stapled)
        };
        let both = self.settings.mode == CrlMode::Require;
        let shaken = is_stapled && self.shake(way).await;
        if shaken && (!both || urls.is_empty()) {
            return true;
        }
        let mut is_fresh = !urls.is_empty() || shaken;
        for url in urls {
            is_fresh &= self.fetch(&url, &way.route).await;
        }
        is_fresh || shaken
    }

    /// Shakes hands with the network anew and says nothing: what is stapled then is taken as it is in any handshake.
    async fn shake(&self, way: &Way) -> bool {
        let mut done = false;
        for target in &way.targets {
            let tls = (Arc::clone(&way.tls), way.name.clone());
            match adit_tokio::greet(target, &way.route.connect, tls, PATIENCE).await.error {
                None => done |= self.lock().is_stapled,
                Some(error) => tracing::debug!(host = target.host, %error, "no list was had from the network"),
            }
        }
        done
    }

    async fn fetch(&self, url: &str, route: &Route) -> bool {
        let names_itself = self.settings.url.is_none();
        let Some(parsed) = ListUrl::parse(url) else { return false };
        let (host, port) = parsed.place();
        let source = route.shown(url, host, port);
        let got = timeout(PATIENCE, parsed.get(names_itself, &self.hosts, route)).await;
        let got = got.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        let list = got.and_then(|fetched| {
            if let Some(dated) = fetched.dated.and_then(|(named, times)| Dated::new(named, times, &source)) {
                self.lock().times.dated = Some(dated);
            }
            fetched.list
        });
        let taken = list.and_then(|octets| self.offer(octets, &source));
        let is_good = taken.is_ok();
        note(&mut self.lock(), &source, taken);
        is_good
    }

    /// Takes what a URL led to.
    pub(super) fn offer(&self, octets: Vec<u8>, source: &str) -> Result<bool, String> {
        let lists = adit_tls::split_lists(octets)?;
        if lists.len() > super::MAX_LISTS {
            return Err(format!("it holds {} revocation lists", lists.len()));
        }
        let mut state = self.lock();
        let issuers = self.all_issuers(&state);
        let mut is_new = false;
        for list in lists {
            is_new |= self.take(&mut state, list.to_vec(), source, &issuers, UnixTime::now())?;
        }
        Ok(is_new)
    }

    /// Ends the sessions whose certificate would not be accepted any more: `close` ends those of a certificate, says why, and returns
    /// how many they were. A dial that was on its way may come later: what is revoked is judged then too.
    pub(super) fn end_lost(&self, close: impl Fn(&CertificateDer<'static>, &str) -> usize) {
        let lost = self.lost(UnixTime::now());
        for (chain, told) in &lost {
            let before = self.lock().ended.replace(told.clone()); // known before the end is
            let sessions = close(&chain.leaf, &telling(told));
            if sessions > 0 {
                let remedy = told.fault.entry().remedy;
                tracing::error!(sessions, error = %told, remedy, "the network's certificate is not good any more: its sessions end");
            } else {
                self.lock().ended = before;
            }
        }
        let mut state = self.lock();
        let latest = state
            .chains
            .back()
            .or_else(|| state.revoked.back())
            .and_then(|chain| lost.iter().find(|(other, _)| other == chain));
        state.told = latest.map_or_else(|| self.standing(&state, None), |(_, told)| told.to_string());
        // Of what is revoked nobody asks for lists any more.
        for (chain, _) in lost.into_iter().filter(|(_, told)| told.fault == Fault::CertificateRevoked) {
            state.condemn(chain);
        }
    }
}

/// What the network is told: no more than which rule it is.
fn telling(told: &Error) -> String {
    told.fault.to_string()
}

/// After a failure it is tried again after so long, then twice as long each time.
const SOON: Duration = Duration::from_secs(5);
