//! Endpoints as an operator sees them: whether a caller would find somebody who serves, end to end.

use std::{collections::HashSet, sync::Arc};

use adit_policy::environment::Phase;
use serde_json::{Value, json};

use crate::{
    Edge, NamePattern,
    departures::Departure,
    edge::now,
    metrics::{EndpointLabel, ReadyLabel},
    router::{Found, Internal, Key, Seen, Standing},
    withheld::Hint,
};

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which.
    pub key: Arc<Key>,
    /// Whether its policy serves it, and no agent.
    pub cloud: bool,
    /// Whether a caller finds somebody who is well: a member that is connected, not turned away and not found unwell; of a cloud
    /// endpoint that forwards, behind one of its forwards.
    pub ready: bool,
    /// Who serves it.
    pub members: Vec<Seen>,
    /// Who left it last, and why, if nobody came since.
    pub left: Option<Departure>,
    /// What agents say that do not ask for it.
    pub withheld: Vec<Hint>,
    /// Whether it is only known for one of these: nobody serves it, and the configuration does not name it.
    pub gone: bool,
}

impl Edge {
    /// Returns every endpoint that is served, configured, withheld or was left, those first that are not ready, and last those that are gone.
    pub fn views(&self) -> Vec<View> {
        let keys: HashSet<_> =
            self.keys().into_iter().chain(self.departures.keys()).chain(self.withheld.keys()).collect();
        let mut views: Vec<_> = keys.into_iter().map(|key| self.view(key)).collect();
        views.sort_by_cached_key(|view| (view.gone, view.ready, view.key.stored()));
        views
    }

    /// Returns one endpoint.
    pub fn view(&self, key: Arc<Key>) -> View {
        let cloud = self.settings(&key).is_some_and(|settings| settings.key == *key && settings.is_cloud());
        let members = self.router.read().see(&key, &self.rules(&key), now());
        let ready = self.is_ready(&key, DEPTH);
        let (left, withheld) = (self.departures.of(&key), self.withheld.of(&key));
        let configured = self.settings(&key).is_some_and(|settings| settings.key == *key);
        let gone = members.is_empty() && !configured;
        View { key, cloud, ready, members, left, withheld, gone }
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
        let gone = views.iter().filter(|view| view.gone).count();
        let list: Vec<_> = views.iter().take(MOST).map(View::json).collect();
        let page = json!({ "ready": ready, "not_ready": views.len() - ready - gone, "gone": gone, "endpoints": list });
        Some((url.is_none() || ready == views.len(), page))
    }

    /// Keeps the numbers about readiness. `shown` are the endpoints that had one of their own.
    pub fn measure_readiness(&self, shown: &mut Vec<EndpointLabel>) {
        let (endpoints, mut counts, mut named) = (self.endpoints.load(), [0_usize; 2], Vec::new());
        for key in self.keys() {
            let ready = self.is_ready(&key, DEPTH);
            counts[usize::from(ready)] += 1;
            // What agents make up is not shown by name: only what the configuration names, and not without end.
            if named.len() < MOST && endpoints.names(&key) {
                named.push((EndpointLabel { endpoint: key.stored() }, ready));
            }
        }
        for (ready, count) in ["false", "true"].into_iter().zip(counts) {
            let gauge = self.metrics.pools.endpoints.get_or_create(&ReadyLabel { ready });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (label, ready) in &named {
            self.metrics.pools.endpoint_ready.get_or_create(label).set(i64::from(*ready));
        }
        for gone in shown.iter().filter(|label| named.iter().all(|(named, _)| named != *label)) {
            self.metrics.pools.endpoint_ready.remove(gone);
        }
        *shown = named.into_iter().map(|(label, _)| label).collect();
    }

    /// Returns every endpoint that is served or configured.
    fn keys(&self) -> HashSet<Arc<Key>> {
        let mut keys: HashSet<_> = self.router.read().live().map(|(key, _)| Arc::clone(key)).collect();
        for settings in self.endpoints.load().all() {
            // One for what agents bind below a name is none by itself.
            let wildcard = matches!(settings.key, Key::Name(_, NamePattern::Below(_))) && !settings.is_cloud();
            if !wildcard && !keys.contains(&settings.key) {
                keys.insert(Arc::new(settings.key.clone()));
            }
        }
        keys
    }

    fn is_ready(&self, key: &Key, depth: usize) -> bool {
        let settings = self.settings(key).filter(|settings| settings.key == *key && settings.is_cloud());
        let Some(settings) = settings else {
            return self.router.read().is_ready(key, &self.rules(key), now());
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
        let mut page = json!({ "endpoint": self.key.stored(), "type": kind, "ready": self.ready, "members": members });
        if let (Some(left), Some(fields)) = (&self.left, page.as_object_mut()) {
            fields.insert("left".to_owned(), left.json());
        }
        if let (false, Some(fields)) = (self.withheld.is_empty(), page.as_object_mut()) {
            let hints: Vec<_> = self.withheld.iter().take(MOST_MEMBERS).map(Hint::json).collect();
            fields.insert("withheld".to_owned(), hints.into());
        }
        page
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
