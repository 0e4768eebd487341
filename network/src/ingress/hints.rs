//! What an agent says of endpoints that it does not ask for: shown to whoever runs the network, and nothing else.

use std::{sync::Arc, time::Instant};

use adit_core::{AgentId, Code, SessionId, TlsEnd, Withheld, escape};
use tracing::{debug, info, warn};

use super::{Ingress, Member};
use crate::{
    departures::shown,
    router::{Key, Wish},
    store::{Acl, Claimant, Object},
    withheld::{Hint, Pace},
};

impl Ingress {
    /// Takes a hint, or that one is over. One of an endpoint that is not the account's is kept nowhere.
    pub(super) async fn withheld(&self, (agent, id): (AgentId, SessionId), said: &Withheld, pace: &mut Pace) {
        let (url, code) = (escape(&said.url), said.code);
        if code == Code::NO_ERROR {
            if self.edge.withheld.take_back(id, &said.url) && pace.allows(Instant::now()) {
                info!(session = %id, %agent, %url, "an endpoint is withheld no more");
            }
            return;
        }
        let Some(member) = self.sessions.member(id) else { return };
        let Some(key) = self.hinted(said, &member).await else {
            self.edge.withheld.take_back(id, &said.url); // what was said of it before holds no longer
            debug!(session = %id, %agent, %url, %code, "what is said of an endpoint that is not the account's is left out");
            return;
        };
        let endpoint = key.to_string();
        let kept = self.edge.withheld.note(
            id,
            &said.url,
            Arc::new(key),
            Hint::new(code, &said.text, agent, member.origin.account),
        );
        // The rules of the token may have changed meanwhile, unseen by who looked through what was kept.
        if let Some(member) = self.sessions.member(id) {
            self.recheck_hints(id, &member.acl);
        }
        if pace.allows(Instant::now()) {
            let text = shown(&said.text);
            info!(session = %id, %agent, endpoint, %code, text, kept, "an endpoint is withheld"); // spec: BIND-024
        }
    }

    /// Forgets what was said of endpoints that the rules of the token do not allow any more.
    pub(super) fn recheck_hints(&self, id: SessionId, acl: &Acl) {
        self.edge.withheld.retain(id, |key| acl.allows(Object::from(key))); // spec: AUTH-007, BIND-024
    }

    /// Returns the endpoint that a hint is about, if its account may bind it and no other has it.
    async fn hinted(&self, said: &Withheld, member: &Member) -> Option<Key> {
        let wish = Wish::parse(&said.url).filter(|_| said.tls_end.fits(&said.url))?;
        let key = match if said.tls_end == TlsEnd::Agent { wish.passed_through() } else { wish } {
            Wish::Exact(Key::Port(0)) | Wish::AnyName(_) => return None, // it is not known which it would have been
            Wish::Exact(key) => key,
            Wish::Internal(internal) => Key::Internal(member.origin.account, internal),
        };
        if !member.acl.allows(Object::from(&key)) {
            return None; // spec: BIND-024
        }
        let (endpoint, owned, above) = (key.stored(), key.owned(), key.above());
        let claimant =
            Claimant { endpoint: &endpoint, owned: &owned, above: &above, account: member.origin.account, most: 0 };
        match self.store.is_foreign(claimant).await {
            Ok(is_foreign) => (!is_foreign).then_some(key),
            Err(error) => {
                warn!(%error, "names cannot be checked");
                self.edge.metrics.store_up.set(0);
                None
            }
        }
    }
}
