//! Endpoints as an operator sees them: whether a caller would find somebody who serves, end to end.

use std::collections::BTreeSet;

use adit_policy::environment::Phase;
use serde_json::{Value, json};

use crate::{
    Edge,
    edge::now,
    metrics::{EndpointLabel, ReadyLabel},
    router::{Found, Internal, Key, Seen, Standing},
};

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which.
    pub key: Key,
    /// Whether its policy serves it, and no agent.
    pub cloud: bool,
    /// Whether a caller finds somebody who is well: a member that is connected, not turned away and not found unwell; of a cloud
    /// endpoint that forwards, behind one of its forwards.
    pub ready: bool,
    /// Who serves it.
    pub members: Vec<Seen>,
}

impl Edge {
    /// Returns every endpoint that is served or configured, those first that are not ready.
    pub fn views(&self) -> Vec<View> {
        let mut keys: BTreeSet<String> = self.router.read().live().map(|(key, _)| key.stored()).collect();
        keys.extend(self.endpoints.load().all().map(|settings| settings.key.stored()));
        let mut views: Vec<_> = keys.iter().filter_map(|key| Key::parse(key)).map(|key| self.view(key)).collect();
        views.sort_by_key(|view| view.ready);
        views
    }

    /// Returns one endpoint.
    pub fn view(&self, key: Key) -> View {
        let cloud = self.settings(&key).is_some_and(|settings| settings.key == key && settings.is_cloud());
        let members = self.router.read().see(&key, &self.rules(&key), now());
        let ready = self.is_ready(&key, DEPTH);
        View { key, cloud, ready, members }
    }

    /// Tells of all endpoints, or of those that are called `url`, and whether these are ready; none when there is none.
    pub fn page(&self, url: Option<&str>) -> Option<(bool, Value)> {
        let mut views = self.views();
        if let Some(url) = url {
            views.retain(|view| view.is_called(url));
            if views.is_empty() {
                return None;
            }
        }
        let ready = views.iter().filter(|view| view.ready).count();
        let list: Vec<_> = views.iter().take(MOST).map(View::json).collect();
        let page = json!({ "ready": ready, "not_ready": views.len() - ready, "endpoints": list });
        Some((url.is_none() || ready == views.len(), page))
    }

    /// Keeps the numbers about readiness. `shown` are the endpoints that had one of their own.
    pub fn measure_readiness(&self, shown: &mut Vec<EndpointLabel>) {
        let (views, endpoints) = (self.views(), self.endpoints.load());
        for (ready, word) in [(true, "true"), (false, "false")] {
            let count = views.iter().filter(|view| view.ready == ready).count();
            let gauge = self.metrics.pools.endpoints.get_or_create(&ReadyLabel { ready: word });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        // What agents make up is not shown by name: only what the configuration names, and not without end.
        let named = views.iter().filter(|view| endpoints.names(&view.key)).take(MOST);
        let named: Vec<_> = named.map(|view| (EndpointLabel { endpoint: view.key.stored() }, view.ready)).collect();
        for (label, ready) in &named {
            self.metrics.pools.endpoint_ready.get_or_create(label).set(i64::from(*ready));
        }
        for gone in shown.iter().filter(|label| named.iter().all(|(named, _)| named != *label)) {
            self.metrics.pools.endpoint_ready.remove(gone);
        }
        *shown = named.into_iter().map(|(label, _)| label).collect();
    }

    fn is_ready(&self, key: &Key, depth: usize) -> bool {
        let settings = self.settings(key).filter(|settings| settings.key == *key && settings.is_cloud());
        let Some(settings) = settings else {
            return self.router.read().see(key, &self.rules(key), now()).iter().any(Seen::is_ready);
        };
        let forwards = [Phase::TcpConnect, Phase::HttpRequest].into_iter().flat_map(|phase| {
            let policy = settings.policy.iter();
            policy.flat_map(move |policy| policy.forwards(phase)).map(|forward| forward.url.constant())
        });
        let mut forwards = forwards.peekable();
        // Where a forward leads that an expression chooses is known per request only.
        forwards.peek().is_none()
            || forwards.any(|url| url.is_none_or(|url| depth > 0 && self.leads(settings.account, url, depth - 1)))
    }

    fn leads(&self, account: i64, url: &str, depth: usize) -> bool {
        let Some(internal) = Internal::parse(url) else { return false };
        let found = self.router.read().find_internal(account, &internal);
        match found {
            Found::Live(key) => self.is_ready(&key, depth),
            Found::Idle(_) | Found::Unknown => false,
        }
    }
}

impl View {
    /// Returns it for programs to read.
    pub fn json(&self) -> Value {
        let members: Vec<_> = self.members.iter().take(MOST_MEMBERS).map(member).collect();
        let kind = if self.cloud { "cloud" } else { "agent" };
        json!({ "endpoint": self.key.stored(), "type": kind, "ready": self.ready, "members": members })
    }

    /// Returns whether an operator means this endpoint by `url`.
    pub fn is_called(&self, url: &str) -> bool {
        self.key.to_string() == url || self.key.stored() == url
    }
}

fn member(seen: &Seen) -> Value {
    let state = match (seen.connected, seen.standing) {
        (false, _) => "not connected",
        (true, Standing::Fine) => "ready",
        (true, Standing::Try) => "about to be tried",
        (true, Standing::Out) => "turned away",
    };
    json!({
        "session": seen.session.to_string(),
        "state": state,
        "outstanding": seen.outstanding,
        "rtt_ms": seen.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
    })
}

/// Endpoints on a page and among the numbers.
const MOST: usize = 1_000;
const MOST_MEMBERS: usize = 100;
/// How many endpoints forward to each other on the way.
const DEPTH: usize = 4;
