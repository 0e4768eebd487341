//! TLS that ends here: the certificate that callers are shown, what is asked of them, and files that change while it runs.

mod files;
mod identity;
mod revocation;

use core::time::Duration;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use adit_core::{TlsInfo, UpstreamProtocol};
use adit_tls::{Judge, Revocations, Scope, TrustError};
use adit_tokio::Stream;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, UnixTime},
    server::ServerConnection,
    sign::SingleCertAndKey,
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    acme::{INTERNAL_ERROR, Met, Proof, refuse},
    clock::utc,
    config::{EndpointConfig, TerminationConfig},
    errors::{Error, Fault},
};

pub(crate) use files::{Facts, Nearness, Pair};
pub(crate) use identity::Identity;
pub(crate) use revocation::Chain;

use files::Stamp;
use revocation::{Lists, Marks, State};

/// How TLS of one endpoint ends here. Files are looked at again for as long as anybody has it.
#[derive(Debug)]
pub(crate) struct Termination {
    name: String,
    config: TerminationConfig,
    provider: Arc<CryptoProvider>,
    /// What handshakes go by; none while the first certificate is ordered.
    terms: Mutex<Option<Arc<Terms>>>,
    /// What an authority is shown that asks whether the name leads here, where the certificate is ordered here.
    proof: Option<Arc<Proof>>,
    marks: Marks,
    trust: watch::Sender<Trust>,
}

/// Counts changes after which who was let in before may be so no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Trust {
    /// Of whom callers' certificates must be from: all must be let in anew.
    authorities: u64,
    /// Of what revocation lists say: each is judged anew.
    lists: u64,
}

/// Waits until a caller that was let in must show anew who it is. Begun before its handshake, it misses nothing.
#[derive(Debug)]
pub(crate) struct Vigil {
    termination: Arc<Termination>,
    changes: watch::Receiver<Trust>,
    began: Trust,
}

/// What handshakes go by.
#[derive(Debug)]
struct Terms {
    server: Arc<ServerConfig>,
    judge: Option<Arc<Judge>>,
    trusted: Vec<CertificateDer<'static>>,
    /// Nothing where the endpoint names no revocation list.
    lists: Option<Arc<Lists>>,
    tells: bool,
    certificate: Option<CertificateDer<'static>>,
    facts: Facts,
}

/// Whom a handshake was with.
pub(crate) enum Accepted {
    Caller(Box<(TlsStream<Stream>, Caller)>),
    /// The authority that the certificate is ordered from: it has seen what it wanted to, and nothing is carried for it.
    Authority,
}

/// What a handshake found out of its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) tls: TlsInfo,
    /// Who it is by its certificate, if it has shown one.
    pub(crate) identity: Option<Identity>,
    /// What is judged anew when revocation lists change.
    pub(crate) chain: Option<Chain>,
    /// What the upstream is told in each request, where that is asked for: nothing of a caller without a certificate.
    pub(crate) fields: Option<Vec<(&'static str, String)>>,
}

impl Termination {
    /// Reads certificate, key and authorities; `None` where TLS of the endpoint does not end here.
    ///
    /// # Errors
    /// [`Fault::CertificateUnusable`]: the endpoint must not be served (V30).
    pub(crate) fn new(endpoint: &EndpointConfig, provider: &Arc<CryptoProvider>) -> Result<Option<Arc<Self>>, Error> {
        let Some(config) = endpoint.termination.clone() else { return Ok(None) };
        let marks = Marks::default();
        let terms = Terms::read(&config, &marks, provider)?;
        let (name, terms) = (endpoint.name.clone(), Mutex::new(terms.map(Arc::new)));
        let proof = config.acme.as_ref().map(|acme| Proof::new(&acme.name, provider));
        let trust = watch::Sender::default();
        Ok(Some(Arc::new(Self { name, config, provider: Arc::clone(provider), terms, proof, marks, trust })))
    }

    /// Returns whether callers are asked for certificates.
    pub(crate) const fn asks(&self) -> bool {
        self.config.clients.is_some()
    }

    /// Returns whether a handshake comes before anything is reached for its caller: who it is must be seen first.
    pub(crate) const fn comes_first(&self) -> bool {
        self.asks() || self.proof.is_some()
    }

    /// Returns what an authority is shown, where the certificate is ordered here.
    pub(crate) fn proof(&self) -> Option<Arc<Proof>> {
        self.proof.clone()
    }

    /// Returns what the certificate says, if there is one.
    pub(crate) fn facts(&self) -> Option<Facts> {
        self.terms().map(|terms| terms.facts.clone())
    }

    /// Returns the certificate, if there is one.
    pub(crate) fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.terms()?.certificate.clone()
    }

    /// Returns who waits for a change of whom to believe; never where callers are not asked.
    pub(crate) fn vigil(self: &Arc<Self>) -> Option<Vigil> {
        self.asks().then(|| {
            let changes = self.trust.subscribe();
            let began = *changes.borrow();
            Vigil { termination: Arc::clone(self), changes, began }
        })
    }

    /// Shakes hands with a caller, until `deadline`. On a failure the caller has been sent an alert.
    ///
    /// # Errors
    /// [`Fault::CallerTls`], with what was wrong; [`Fault::NoCertificate`].
    pub(crate) async fn accept(&self, stream: Stream, deadline: Instant) -> Result<Accepted, Error> {
        let (accepting, terms) = match (&self.proof, self.terms()) {
            (None, Some(terms)) => (TlsAcceptor::from(Arc::clone(&terms.server)).accept(stream), terms),
            (None, None) => return Err(Fault::Internal.into()), // without a certificate it is not bound
            (Some(proof), terms) => match (proof.meet(stream, deadline).await?, terms) {
                (Met::Authority, _) => return Ok(Accepted::Authority),
                (Met::Caller(begun), Some(terms)) => (begun.into_stream(Arc::clone(&terms.server)), terms),
                (Met::Caller(begun), None) => {
                    let _ = timeout_at(deadline, refuse(begun.io, INTERNAL_ERROR)).await;
                    return Err(Fault::NoCertificate.into());
                }
            },
        };
        match timeout_at(deadline, accepting.into_fallible()).await {
            Ok(Ok(tls)) => {
                let caller = terms.caller(tls.get_ref().1, &self.provider);
                Ok(Accepted::Caller(Box::new((tls, caller))))
            }
            Ok(Err((error, stream))) => {
                let _ = stream.finish(); // what was said of the failure still goes out; a caller that is gone hears nothing
                Err(Error::new(Fault::CallerTls, told(&error)))
            }
            Err(_) => Err(Error::new(Fault::CallerTls, "no handshake in time".to_owned())),
        }
    }

    /// Says which certificate is shown.
    pub(crate) fn tell(&self) {
        let Some(facts) = self.facts() else {
            let directory = self.config.acme.as_ref().map(|acme| &*acme.directory).unwrap_or_default();
            tracing::warn!(
                name = self.name,
                directory,
                "no certificate yet: callers are refused until one was ordered"
            );
            return;
        };
        let few: Vec<_> = facts.names.iter().take(FEW).cloned().collect();
        let (names, until) = (few.join(", "), utc(facts.until));
        tracing::info!(name = self.name, sha256 = facts.sha256, names, until, "certificate in use");
    }

    /// Looks at the files every now and then, until nobody has it any more. What fails leaves the last in force, and is said.
    pub(crate) async fn watch(this: Weak<Self>) {
        let mut clock = interval(PERIOD);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watcher = Watcher::default();
        loop {
            clock.tick().await;
            let Some(it) = this.upgrade() else { return };
            // Disks may be slow, and a key may be on one that is far away.
            let looked = tokio::task::spawn_blocking(move || {
                watcher.look(&it);
                watcher
            });
            match looked.await {
                Ok(back) => watcher = back,
                Err(_) => return, // the process ends
            }
        }
    }

    /// Takes over what the files hold; returns whether they could be used.
    pub(crate) fn reload(&self) -> bool {
        let new = match Terms::read(&self.config, &self.marks, &self.provider) {
            Ok(Some(new)) => Arc::new(new),
            Ok(None) => return true, // the last stays, if there is one, and whoever orders tells
            Err(error) => {
                let remedy = error.fault.entry().remedy;
                tracing::error!(name = self.name, %error, remedy, "certificate not taken: the last one stays");
                return false;
            }
        };
        let same_trust = self.terms().is_none_or(|old| new.trusted == old.trusted);
        let lists: Vec<_> =
            new.lists.iter().flat_map(|lists| lists.states(0)).map(|(_, list, _)| list.told()).collect();
        *self.terms.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
        if !same_trust {
            tracing::warn!(
                name = self.name,
                "authorities of callers changed: whoever is connected must show its certificate anew"
            );
            self.trust.send_modify(|trust| trust.authorities += 1);
        }
        if !lists.is_empty() {
            tracing::info!(name = self.name, lists = lists.join("; "), "revocation lists of callers were read");
            self.judge_anew();
        }
        self.tell();
        true
    }

    /// What revocation lists say may have changed.
    fn judge_anew(&self) {
        self.trust.send_modify(|trust| trust.lists += 1);
    }

    fn terms(&self) -> Option<Arc<Terms>> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stamps(&self) -> Vec<Stamp> {
        let pair = [&self.config.certificate, &self.config.key].into_iter();
        let pair = pair.filter(|_| self.config.acme.is_none()); // whoever orders says when there is another
        pair.chain(self.config.caller_files()).map(|path| Stamp::of(path)).collect()
    }
}

impl Vigil {
    /// Is ready when a caller may not go on: other authorities are believed, or `chain` is good no more by the lists.
    pub(crate) async fn end(mut self, chain: Option<Chain>) {
        while self.changes.changed().await.is_ok() {
            let trust = *self.changes.borrow_and_update();
            let lists = self.termination.terms().and_then(|terms| terms.lists.clone());
            let stands = lists.zip(chain.as_ref()).is_none_or(|(lists, chain)| lists.let_stand(chain));
            if trust.authorities != self.began.authorities || !stands {
                return;
            }
        }
        core::future::pending().await
    }
}

impl Terms {
    /// Reads everything; nothing where a certificate is ordered and there is none that could be used.
    fn read(config: &TerminationConfig, marks: &Marks, provider: &Arc<CryptoProvider>) -> Result<Option<Self>, Error> {
        let pair = match Pair::load(&config.certificate, &config.key, provider) {
            Ok(pair) => Some(pair),
            Err(_) if config.acme.is_some() => None,
            Err(error) => return Err(error),
        };
        let unusable = |error: TrustError| Error::new(Fault::CertificateUnusable, error.to_string());
        let (trusted, judge) = match &config.clients {
            Some(clients) => {
                let mut trusted = Vec::new();
                for file in &clients.authorities {
                    trusted.extend(adit_tls::read_opened(file, file.open_any()).map_err(unusable)?);
                }
                let judge = Judge::new(clients.mode, &trusted, Identity::is_readable, provider).map_err(unusable)?;
                (trusted, Some(Arc::new(judge)))
            }
            None => (Vec::new(), None),
        };
        let lists = match &config.revocation {
            Some(revocation) => Some(Arc::new(Lists::read(revocation, &trusted, marks, provider).map_err(unusable)?)),
            None => None,
        };
        let Some(Pair { certified, facts }) = pair else { return Ok(None) };
        let certificate = certified.cert.first().cloned();
        let (versions, resolver) = ((config.min_version, config.max_version), SingleCertAndKey::from(certified));
        let revocations = lists.clone().map(|lists| lists as Arc<dyn Revocations>);
        let verifier = judge.clone().map(|judge| adit_tls::verifier(judge, revocations));
        let server = adit_tls::server_config(versions, verifier, Arc::new(resolver), provider);
        let mut server = server.map_err(|error| Error::new(Fault::CertificateUnusable, error.to_string()))?;
        server.alpn_protocols = config.http.map(alpn).map(<[u8]>::to_vec).into_iter().collect();
        let (server, tells) = (Arc::new(server), config.identity_headers);
        Ok(Some(Self { server, judge, trusted, lists, tells, certificate, facts }))
    }

    fn caller(&self, connection: &ServerConnection, provider: &CryptoProvider) -> Caller {
        let version = connection.protocol_version().and_then(|version| version.as_str());
        let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        let alpn = connection.alpn_protocol().map(|alpn| String::from_utf8_lossy(alpn).into_owned());
        let tls = TlsInfo {
            sni: connection.server_name().unwrap_or_default().to_owned(),
            alpn: alpn.unwrap_or_default(),
            version: version.unwrap_or_default().replace('_', "."),
            cipher: cipher.unwrap_or_default().to_owned(),
        };
        let Some((certificate, intermediates)) = connection.peer_certificates().and_then(|shown| shown.split_first())
        else {
            return Caller { tls, identity: None, chain: None, fields: self.tells.then(Vec::new) };
        };
        let verified = self.judge.as_ref().is_some_and(|judge| judge.vouches(certificate, intermediates));
        let chain = (verified && self.lists.is_some()).then(|| Chain::new(certificate, intermediates));
        let identity = Identity::read(certificate, verified, provider);
        let fields = self.tells.then(|| identity.as_ref().map(Identity::fields).unwrap_or_default());
        Caller { tls, identity, chain, fields }
    }
}

/// What is remembered from one look at the files to the next.
#[derive(Debug, Default)]
struct Watcher {
    /// The files as they were when they were read last.
    read: Option<Vec<Stamp>>,
    /// The files as they were at the last look.
    seen: Vec<Stamp>,
    /// How near the certificate's end was when it was told last, and when.
    told: Option<(Nearness, std::time::Instant)>,
    /// How revocation lists stood, where that was not well.
    lists: BTreeMap<Scope, State>,
    /// When files that could not be used were read: a clock may have been wrong, or what one file says may belong to another.
    failed: Option<std::time::Instant>,
}

impl Watcher {
    /// Reads the files when they have changed and stood still since the last look: a file that is half written is no change.
    fn look(&mut self, it: &Termination) {
        let now = it.stamps();
        let read = self.read.get_or_insert_with(|| now.clone());
        let is_new = now != *read && now == self.seen;
        if is_new || self.failed.is_some_and(|at| at.elapsed() >= RETRY) {
            *read = now.clone();
            self.failed = (!it.reload()).then(std::time::Instant::now);
        }
        self.seen = now;
        self.warn(it);
        self.look_at_lists(it, UnixTime::now().as_secs());
    }

    /// Tells how revocation lists stand where that has changed; of one that is over, whoever came in by it is judged anew.
    fn look_at_lists(&mut self, it: &Termination, now: u64) {
        let Some(terms) = it.terms() else { return };
        let before = core::mem::take(&mut self.lists);
        for (scope, list, state) in terms.lists.iter().flat_map(|lists| lists.states(now)) {
            self.lists.insert(scope, state);
            if state == before.get(&scope).copied().unwrap_or(State::Good) {
                continue;
            }
            let (name, list) = (&it.name, list.told());
            match state {
                State::Good => tracing::info!(name, list, "a revocation list of callers is in force"),
                State::Near => {
                    tracing::warn!(
                        name,
                        list,
                        "a revocation list of callers comes to its end and there is no newer one"
                    );
                }
                State::Over => {
                    tracing::error!(
                        name,
                        list,
                        "a revocation list of callers is over: certificates of its issuer are refused"
                    );
                    it.judge_anew();
                }
            }
        }
    }

    /// Warns of a certificate that comes to its end: when it comes nearer, and once a day.
    fn warn(&mut self, it: &Termination) {
        let Some(facts) = it.facts() else { return };
        let nearness = facts.nearness();
        let fresh = self.told.is_some_and(|(told, at)| nearness <= told && at.elapsed() < DAY);
        if nearness == Nearness::Far || fresh {
            return;
        }
        self.told = Some((nearness, std::time::Instant::now()));
        let (until, certificate) = (utc(facts.until), it.config.certificate.display());
        if nearness == Nearness::Over {
            tracing::error!(name = it.name, %certificate, until, "certificate has expired: callers refuse it");
        } else {
            tracing::warn!(name = it.name, %certificate, until, "certificate comes to its end and was not replaced");
        }
    }
}

/// Returns what a caller may agree on: what the upstream speaks.
const fn alpn(protocol: UpstreamProtocol) -> &'static [u8] {
    match protocol {
        UpstreamProtocol::Http1 => b"http/1.1",
        UpstreamProtocol::Http2 => b"h2",
    }
}

/// Says why a handshake failed.
fn told(error: &io::Error) -> String {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(error) => error.to_string(),
        None => format!("the caller is gone: {error}"),
    }
}

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// After how long files that could not be used are read again, changed or not.
const RETRY: Duration = Duration::from_secs(60);
/// So many names of a certificate are said in the log.
const FEW: usize = 8;
const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
