//! Endpoints that the configuration sets: whose they are, who serves them, and which policy they have.
//!
//! Everything is read and checked before anything is swapped: a policy that is not valid leaves the old one in force (V95).

mod check;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_policy::{
    engine::Policy,
    environment::{Endpoint, Phase},
};

use crate::{
    EndpointName, NameMap, NamePattern,
    config::{Config, EndpointConfig, EndpointKind, EndpointUrl, Health},
    policy::{PolicyFault, World, load},
    router::{Configured, Internal, Key, Scheme},
    tls::{EndpointTls, Place, Ways},
};

pub use check::Known;

/// What was read, before the accounts are known by number.
#[derive(Debug, Default)]
pub struct Draft {
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    endpoint: EndpointConfig,
    policy: Option<Read>,
}

/// A policy, and what it was read from.
#[derive(Clone)]
struct Read {
    /// Whose policy it is: two accounts may have internal endpoints of one name.
    account: String,
    file: PathBuf,
    text: Arc<str>,
    policy: Arc<Policy>,
}

/// What the configuration says of endpoints.
#[derive(Debug, Default)]
pub struct Endpoints {
    entries: HashMap<Key, Arc<Settings>>,
    /// Settings of what agents bind, by wildcard: they hold for every name below.
    below: [NameMap<Arc<Settings>>; 3],
}

/// What the configuration says of one endpoint.
#[derive(Debug)]
pub struct Settings {
    /// The endpoint.
    pub key: Key,
    /// Whose it is.
    pub account: i64,
    /// Who serves it.
    pub kind: EndpointKind,
    /// Its rules.
    pub policy: Option<Arc<Policy>>,
    /// When its members are turned away, and how their upstreams are asked.
    pub health: Health,
    /// What rules ask.
    pub world: Arc<World>,
    /// Whether callers are held to more in TLS than elsewhere.
    pub terms: bool,
    read: Option<Read>,
    id: String,
    host: String,
    port: u16,
}

impl Draft {
    /// Reads every policy. What its rules count goes on where they are as in `before`.
    ///
    /// # Errors
    /// All that is wrong with all of them.
    pub fn read(config: &Config, before: Option<&Endpoints>) -> Result<Self, Vec<PolicyFault>> {
        let (mut items, mut faults) = (Vec::new(), Vec::new());
        for endpoint in &config.endpoints {
            let old = before.and_then(|before| before.read(endpoint));
            let read = endpoint.policy.as_ref().map(|file| Read::new(&endpoint.account, file, old));
            match read.transpose() {
                Ok(policy) => {
                    let fault =
                        policy.as_ref().and_then(|read| check::unusable(&read.file, endpoint, &read.policy, config));
                    match fault {
                        Some(fault) => faults.push(fault),
                        None => items.push(Item { endpoint: endpoint.clone(), policy }),
                    }
                }
                // Two endpoints with one file have the same faults.
                Err(found) => {
                    faults.extend(found.into_iter().filter(|fault| !faults.contains(fault)).collect::<Vec<_>>())
                }
            }
        }
        if faults.is_empty() { Ok(Self { items }) } else { Err(faults) }
    }

    /// Returns the names of the accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|item| &*item.endpoint.account)
    }

    /// Returns how TLS ends for each endpoint where it ends here, by its settings or its policy.
    pub fn tls(&self) -> impl Iterator<Item = (NamePattern, Ways)> {
        self.items.iter().filter_map(|Item { endpoint, policy }| {
            let EndpointUrl::Public(Key::Name(_, name)) = &endpoint.url else { return None };
            let (place, policy) = (Place::of(endpoint), policy.as_ref().map(|read| &read.policy));
            // A policy that says what cannot be done was refused when it was read.
            let ways = endpoint.tls.with_policy(policy, place).ok()?;
            let is_here = match place {
                Place::Here => true,
                Place::Carried => ways.is_of_octets(),
                Place::Further => false,
            };
            is_here.then(|| (name.clone(), ways))
        })
    }

    /// Returns the table, with the numbers of the accounts; an endpoint of an account without one is not in it.
    pub fn resolve(self, accounts: &HashMap<String, i64>, world: &Arc<World>) -> Endpoints {
        let mut endpoints = Endpoints::default();
        for Item { endpoint, policy } in self.items {
            let Some(account) = accounts.get(&endpoint.account) else { continue };
            let key = endpoint.url.key(*account);
            let mut settings = Settings::new(key, *account, endpoint.kind, Arc::clone(world));
            settings.policy = policy.as_ref().map(|read| Arc::clone(&read.policy));
            settings.read = policy;
            settings.health = endpoint.health;
            settings.terms = endpoint.tls != EndpointTls::default();
            let settings = Arc::new(settings);
            if let (Key::Name(scheme, name @ NamePattern::Below(_)), EndpointKind::Agent) =
                (&settings.key, settings.kind)
            {
                endpoints.below[*scheme as usize].insert(name.clone(), Arc::clone(&settings));
            }
            endpoints.entries.insert(settings.key.clone(), settings);
        }
        endpoints
    }
}

impl core::fmt::Debug for Read {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Read").field("file", &self.file).finish_non_exhaustive() // there may be keys in its text
    }
}

impl Read {
    fn new(account: &str, file: &Path, old: Option<&Self>) -> Result<Self, Vec<PolicyFault>> {
        let (text, document) = load(file)?;
        let policy = match old {
            Some(old) if *old.text == *text && old.file == *file => Arc::clone(&old.policy),
            Some(old) => Arc::new(Policy::succeed(document, &old.policy)),
            None => Arc::new(Policy::new(document)),
        };
        Ok(Self { account: account.to_owned(), file: file.to_owned(), text: text.into(), policy })
    }
}

impl Endpoints {
    /// Returns the settings of an endpoint: its own, else those of the nearest wildcard above it that is for what agents bind.
    pub fn find(&self, key: &Key) -> Option<&Arc<Settings>> {
        if self.entries.is_empty() {
            return None;
        }
        let above = || match key {
            Key::Name(scheme, NamePattern::Exact(base) | NamePattern::Below(base)) => {
                self.below[*scheme as usize].above(base)
            }
            Key::Port(_) | Key::Internal(..) => None,
        };
        self.entries.get(key).or_else(above)
    }

    fn read(&self, endpoint: &EndpointConfig) -> Option<&Read> {
        let url = endpoint.url.to_string();
        let reads = self.entries.values().filter(|settings| settings.id == url).filter_map(|it| it.read.as_ref());
        reads.into_iter().find(|read| read.account == endpoint.account)
    }

    /// Returns whether upstreams of any are asked whether they are well.
    pub fn has_probes(&self) -> bool {
        self.entries.values().any(|settings| settings.health.probe.is_some())
    }

    /// Returns whether the configuration names the endpoint itself.
    pub fn names(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// Returns all that is said, of each.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Settings>> {
        self.entries.values()
    }

    /// Returns whether nothing is said of any.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns all of it for the router.
    pub fn configured(&self) -> Vec<Configured> {
        let configured = |settings: &Arc<Settings>| Configured {
            key: settings.key.clone(),
            account: settings.account,
            cloud: settings.kind == EndpointKind::Cloud,
        };
        self.entries.values().map(configured).collect()
    }
}

impl Settings {
    /// Returns settings of an endpoint that has no policy.
    pub fn new(key: Key, account: i64, kind: EndpointKind, world: Arc<World>) -> Self {
        let ((host, port), id) = (place(&key), key.to_string());
        let (health, terms) = (Health::default(), false);
        Self { key, account, kind, policy: None, health, world, terms, read: None, id, host, port }
    }

    /// Returns what expressions see of it.
    pub fn facts(&self) -> Endpoint<'_> {
        Endpoint { id: &self.id, protocol: protocol(&self.key), host: &self.host, port: self.port }
    }

    /// Returns whether it is served by its policy alone.
    pub fn is_cloud(&self) -> bool {
        self.kind == EndpointKind::Cloud
    }

    /// Returns whether something is asked of callers that nobody would ask if TLS did not end here.
    pub fn asks(&self) -> bool {
        self.is_cloud() || self.policy.is_some() || self.terms
    }

    /// Returns whether rules may see the path of a request: then it has one form, and what has two readings is refused (V58).
    pub fn sees_requests(&self) -> bool {
        self.policy.as_ref().is_some_and(|it| it.has(Phase::HttpRequest) || it.has(Phase::HttpResponse))
    }
}

fn protocol(key: &Key) -> &'static str {
    match key {
        Key::Name(scheme, _) | Key::Internal(_, Internal::Name(scheme, _)) => scheme.word(),
        Key::Port(_) | Key::Internal(_, Internal::Port(..)) => "tcp",
    }
}

fn place(key: &Key) -> (String, u16) {
    let usual = |scheme: &Scheme| if *scheme == Scheme::Http { 80 } else { 443 };
    let text = EndpointName::to_string;
    match key {
        Key::Name(scheme, name) => (name.to_string(), usual(scheme)),
        Key::Port(port) => (String::new(), *port),
        Key::Internal(_, Internal::Name(scheme, name)) => (text(name), usual(scheme)),
        Key::Internal(_, Internal::Port(name, port)) => (text(name), *port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_wildcard_hold_for_what_agents_bind_below_it_and_those_of_a_cloud_endpoint_do_not() {
        let endpoints = endpoints(&[
            ("https://*.a.example", EndpointKind::Agent),
            ("https://x.a.example", EndpointKind::Agent),
            ("https://*.b.a.example", EndpointKind::Cloud),
        ]);
        let found = |url| endpoints.find(&Key::parse(url).unwrap()).map(|found| found.id.as_str());

        assert_eq!(found("https://x.a.example"), Some("https://x.a.example"));
        assert_eq!(found("https://y.a.example"), Some("https://*.a.example"));
        assert_eq!(found("https://*.x.a.example"), Some("https://*.a.example"));
        assert_eq!(found("https://y.b.a.example"), Some("https://*.a.example"));
        assert_eq!(found("https://*.b.a.example"), Some("https://*.b.a.example"));
        assert_eq!(found("http://y.a.example"), None);
        assert_eq!(found("https://a.example"), None);
        assert_eq!(found("tcp://:1"), None);
    }

    #[test]
    fn a_policy_that_says_what_it_said_goes_on_counting() {
        let folder = std::env::temp_dir().join(format!("adit-endpoints-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |text: &str| std::fs::write(folder.join("p.yml"), text).unwrap();
        let config = config(&folder);
        write("on_http_request:\n- actions: [{type: deny}]\n");
        let first = resolve(Draft::read(&config, None).unwrap());
        let again = resolve(Draft::read(&config, Some(&first)).unwrap());
        write("on_http_request:\n- actions: [{type: deny, config: {status_code: 404}}]\n");
        let other = resolve(Draft::read(&config, Some(&again)).unwrap());
        write("on_http_request:\n- actions: [{type: custom-respons}]\n");
        let faults = Draft::read(&config, Some(&other)).unwrap_err();
        std::fs::remove_dir_all(&folder).unwrap();

        let policy = |of: &Endpoints| of.entries.values().next().unwrap().policy.clone().unwrap();
        assert!(Arc::ptr_eq(&policy(&first), &policy(&again)));
        assert!(!Arc::ptr_eq(&policy(&again), &policy(&other)));
        let text = faults[0].to_string();
        assert!(text.starts_with(&format!("{}:2:20: ", folder.join("p.yml").display())), "{text}");
        assert!(text.ends_with("Did you mean `custom-response`?"), "{text}");
    }

    fn config(folder: &Path) -> Config {
        let text = "version: 1\ningress: {listen: '127.0.0.1:1', certificate: a, key: b}\nhttp: {listen: '127.0.0.1:2'}\n\
                    endpoints: [{url: 'http://a.example', account: acme, policy: p.yml}]\n";
        Config::parse(text, folder, Default::default()).unwrap()
    }

    fn resolve(draft: Draft) -> Endpoints {
        draft.resolve(&HashMap::from([("acme".to_owned(), 7)]), &Arc::default())
    }

    fn endpoints(items: &[(&str, EndpointKind)]) -> Endpoints {
        let mut config = config(Path::new("/"));
        let template = config.endpoints.remove(0);
        for (url, kind) in items {
            let url = EndpointUrl::Public(Key::parse(url).unwrap());
            config.endpoints.push(EndpointConfig { url, kind: *kind, policy: None, ..template.clone() });
        }
        resolve(Draft::read(&config, None).unwrap())
    }
}
