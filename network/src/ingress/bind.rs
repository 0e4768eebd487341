//! One bind: from the agent's URL to an endpoint that callers reach.

use core::time::Duration;
use std::sync::Arc;

use adit_core::{BindRequest, Code, Refusal, SessionId, TlsEnd};
use adit_tokio::NetworkSession;
use tracing::{info, warn};

use super::{Ingress, Member, refusal};
use crate::{
    EndpointName, Fault, NamePattern,
    departures::Departure,
    router::{BindError, BindWish, Ended, Key, Replaced, Scheme, Wish},
    store::{Acl, Claim, Claimant, Object, StoreError},
};

impl Ingress {
    /// Answers one bind. One that is refused harms no other.
    pub(super) async fn bind(&self, id: SessionId, session: &NetworkSession, request: BindRequest) {
        let number = request.bind().id;
        match self.try_bind(id, session, &request).await {
            Ok(url) => {
                // What an agent does not say follows from the scheme.
                let said = request.bind().tls_end;
                let end = if said == TlsEnd::Unsaid { TlsEnd::of(&url) } else { said };
                self.edge.metrics.tls_end(end);
                info!(session = %id, bind = number.0, url, tls = end.word(), "an endpoint was bound");
                session.bound(request, &url);
                self.unnoted.add(id);
                self.edge.arrived();
            }
            Err((fault, code)) => {
                self.edge.metrics.refuse(fault);
                let asked = adit_core::escape(&request.bind().url);
                info!(session = %id, bind = number.0, url = %asked, code = fault.code(), "a bind was refused");
                session.reject(request, refusal(fault, code, retry_after(fault)));
            }
        }
    }

    async fn try_bind(
        &self,
        id: SessionId,
        session: &NetworkSession,
        request: &BindRequest,
    ) -> Result<String, (Fault, Code)> {
        let bind = request.bind();
        let member = self.sessions.member(id).ok_or((Fault::Busy, Code::BUSY))?;
        if self.edge.router.read().binds(id) >= self.edge.limits.load().binds_per_session {
            self.edge.metrics.limit("binds_per_session");
            return Err((Fault::TooManyBinds, Code::LIMIT));
        }
        let wish = Wish::parse(&bind.url).ok_or((Fault::BadName, Code::BAD_NAME))?;
        if !bind.tls_end.fits(&bind.url) {
            return Err((Fault::SchemeNotServed, Code::UNSUPPORTED)); // spec: BIND-018
        }
        let shown = wish.scheme();
        let wish = if bind.tls_end == TlsEnd::Agent { wish.passed_through() } else { wish }; // spec: BIND-016
        let key = self.permitted(wish, &member)?;
        if self.is_for_the_network(&key) {
            return Err((Fault::TlsConfigured, Code::UNSUPPORTED));
        }
        let key = self.opened(key)?;
        let bound = self.claimed(&key, &member).await.and_then(|()| {
            let wish = BindWish {
                session: id,
                bind: bind.id,
                pooling: bind.pooling,
                upstream: bind.upstream_protocol,
                tls_end: bind.tls_end,
                handle: session.clone(),
            };
            let mut router = self.edge.router.write();
            let bound = router.bind(key.clone(), wish).map_err(|error| match error {
                BindError::InUse => (Fault::InUse, Code::IN_USE),
                BindError::Fenced => (Fault::Replaced, Code::REPLACED),
                BindError::NoSession => (Fault::Busy, Code::BUSY),
            })?;
            self.edge.departures.forget(&key);
            self.edge.withheld.claimed(&key, member.origin.account); // spec: BIND-024
            Ok(bound)
        });
        match bound {
            Ok((_, replaced)) => {
                #[cfg(test)]
                crate::injection::strike(crate::injection::Place::Session);
                self.edge.metrics.binds.inc();
                self.displaced(replaced);
                // Who served the port before may have closed it since: from here on it stays.
                if let Err(refused) = self.opened(key.clone()) {
                    let ended = self.edge.router.write().unbind(id, bind.id);
                    self.ended(ended);
                    return Err(refused);
                }
                Ok(self.url(&key, shown)) // spec: BIND-012
            }
            Err(refused) => {
                self.close_unless_served(&key);
                Err(refused)
            }
        }
    }

    /// Decides whether the token may have the endpoint, and whether the network serves such endpoints.
    fn permitted(&self, wish: Wish, member: &Member) -> Result<Key, (Fault, Code)> {
        let key = match wish {
            Wish::Exact(key) => key,
            Wish::AnyName(scheme) => Key::Name(scheme, self.made_up_name()?), // spec: BIND-012
            Wish::Internal(internal) => Key::Internal(member.origin.account, internal), // spec: BIND-017
        };
        if !member.acl.allows(Object::from(&key)) {
            return Err((Fault::Forbidden, Code::FORBIDDEN)); // spec: BIND-002
        }
        let entrances = &self.entrances;
        let served = match &key {
            Key::Name(Scheme::Http, name) => entrances.http.is_some() && self.is_ours(name),
            Key::Name(Scheme::Https, name) => {
                entrances.https.is_some() && self.is_ours(name) && self.edge.certificates.covers(name)
            }
            Key::Name(Scheme::Tls, name) => entrances.https.is_some() && self.is_ours(name),
            Key::Port(port) => entrances.tcp.is_some() && entrances.ports.iter().any(|range| range.contains(*port)),
            Key::Internal(..) => true, // no listener leads there
        };
        if served { Ok(key) } else { Err((Fault::SchemeNotServed, Code::UNSUPPORTED)) }
    }

    /// Returns whether the configuration asks something of the endpoint's callers that would be left out if TLS passed through.
    fn is_for_the_network(&self, key: &Key) -> bool {
        let Key::Name(Scheme::Tls, _) = key else { return false };
        let settings = key.with_other_tls().and_then(|other| self.edge.settings(&other));
        settings.is_some_and(|settings| settings.asks())
    }

    /// Takes back what passes through although the configuration wants its TLS to end here.
    pub(crate) fn take_passed_through(&self) {
        let mut router = self.edge.router.write();
        let lost: Vec<_> =
            router.live().filter(|(key, _)| self.is_for_the_network(key)).map(|(key, _)| Arc::clone(key)).collect();
        let taken = router.take_back(&lost);
        drop(router);
        self.taken(taken);
    }

    fn is_ours(&self, name: &NamePattern) -> bool {
        let domains = &self.entrances.domains;
        domains.is_empty() || domains.iter().any(|domain| NamePattern::Below(domain.clone()).covers(name))
    }

    fn made_up_name(&self) -> Result<NamePattern, (Fault, Code)> {
        let refused = (Fault::BadName, Code::BAD_NAME);
        let domain = self.entrances.domains.first().ok_or(refused)?;
        let mut random = [0_u8; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| (Fault::Busy, Code::INTERNAL))?;
        let label: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
        EndpointName::parse(&format!("{label}.{}", domain.as_str())).map(NamePattern::Exact).map_err(|_| refused)
    }

    /// Opens the port of a TCP endpoint.
    fn opened(&self, key: Key) -> Result<Key, (Fault, Code)> {
        match (&key, &self.entrances.tcp) {
            (Key::Port(port), Some(ports)) => ports.open(*port).map(Key::Port).map_err(|error| {
                warn!(port, %error, "a TCP port cannot be opened");
                (Fault::SchemeNotServed, Code::BUSY) // whoever has it may leave: asked again with the usual backoff
            }),
            (Key::Name(..) | Key::Port(_) | Key::Internal(..), _) => Ok(key),
        }
    }

    async fn claimed(&self, key: &Key, member: &Member) -> Result<(), (Fault, Code)> {
        match self.claim(key, member.origin.account).await {
            Ok(Claim::Owned) => Ok(()),
            Ok(Claim::Taken) => Err((Fault::InUse, Code::IN_USE)), // no word about whose it is
            Ok(Claim::Limit) => {
                self.edge.metrics.limit("endpoints_per_account");
                Err((Fault::TooManyBinds, Code::LIMIT))
            }
            Err(error) => {
                warn!(%error, "names cannot be checked");
                self.edge.metrics.store_up.set(0);
                Err((Fault::ControlDegraded, Code::BUSY))
            }
        }
    }

    /// Notes in the database that an endpoint is the account's.
    pub(crate) async fn claim(&self, key: &Key, account: i64) -> Result<Claim, StoreError> {
        let (endpoint, owned) = (key.stored(), key.owned());
        let most = self.edge.limits.load().endpoints_per_account;
        let above = key.above();
        self.store.claim(Claimant { endpoint: &endpoint, owned: &owned, above: &above, account, most }).await
    }

    /// Tells older sessions of the same agent what they lost; one that has nothing left is a ghost and ends.
    fn displaced(&self, replaced: Vec<Replaced>) {
        for Replaced { session, bind, empty } in replaced {
            self.edge.metrics.binds.dec();
            self.unnoted.add(session);
            let Some(ghost) = self.sessions.get(session) else { continue };
            let Refusal { code, text, .. } = refusal(Fault::Replaced, Code::REPLACED, None);
            if empty {
                info!(%session, "a session was replaced by a newer one of the same agent");
                ghost.close(code, &text); // spec: AUTH-005
            } else {
                ghost.unbound(bind, Refusal { code, text, retry_after: None });
            }
        }
    }

    /// Tells sessions which binds the configuration took from them.
    pub(crate) fn taken(&self, taken: Vec<Replaced>) {
        for Replaced { session, bind, .. } in taken {
            self.edge.metrics.binds.dec();
            self.unnoted.add(session);
            info!(%session, bind = bind.0, "the configuration took an endpoint back");
            if let Some(handle) = self.sessions.get(session) {
                handle.unbound(bind, refusal(Fault::InUse, Code::IN_USE, None));
            }
        }
    }

    /// Takes note of binds that ended.
    pub(super) fn ended(&self, ended: impl IntoIterator<Item = Ended>) {
        for Ended { key, .. } in ended {
            self.edge.metrics.binds.dec();
            self.close_unless_served(&key);
        }
    }

    /// Ends the sessions of a token that have bound what its ACL no longer allows; the agents come back for the rest.
    pub(crate) fn recheck(&self, token: &str, acl: &Acl) {
        if !self.sessions.set_acl(token, acl) {
            return;
        }
        for (id, session) in self.sessions.of_token(token) {
            self.recheck_hints(id, acl);
            let agent = self.sessions.member(id).map(|member| member.origin.agent).unwrap_or_default();
            let mut router = self.edge.router.write();
            let lost = router.recheck(id, |key| acl.allows(Object::from(key))); // spec: AUTH-007
            for (_, ended) in &lost {
                let why = Departure::taken_back(Code::FORBIDDEN, "the rules of the token have changed", (agent, id));
                self.edge.departures.note(&ended.key, why);
            }
            drop(router);
            if lost.is_empty() {
                continue;
            }
            for (bind, ended) in lost {
                info!(session = %id, bind = bind.0, endpoint = %ended.key, "an endpoint is not allowed any more");
                self.ended([ended]);
            }
            // What was taken away must not live on in open connections: the agent comes back for what is left (V42, V75).
            session.close(Code::SHUTDOWN, "the rules of the token have changed");
        }
    }

    pub(crate) fn close_unless_served(&self, key: &Key) {
        if let (Key::Port(port), Some(ports)) = (key, &self.entrances.tcp) {
            ports.close_unserved(*port);
        }
    }

    /// Returns the URL as callers write it, with the scheme that was asked for: `https` may pass through as `tls` does.
    fn url(&self, key: &Key, shown: Option<Scheme>) -> String {
        let Key::Name(scheme, name) = key else { return key.to_string() };
        let (port, usual) = match scheme {
            Scheme::Http => (self.entrances.http, 80),
            Scheme::Https | Scheme::Tls => (self.entrances.https, 443),
        };
        let scheme = shown.unwrap_or(*scheme).word();
        match port {
            Some(port) if port != usual => format!("{scheme}://{name}:{port}"),
            Some(_) | None => format!("{scheme}://{name}"),
        }
    }
}

fn retry_after(fault: Fault) -> Option<Duration> {
    (fault == Fault::ControlDegraded).then_some(Duration::from_secs(5))
}
