//! What a firewall must let through for this configuration, name by name and port by port.

use core::net::IpAddr;
use std::sync::Arc;

use adit_tokio::{ConnectOptions, resolve};
use rustls::crypto::CryptoProvider;
use serde_json::{Value, json};

use crate::{
    config::{Address, Config, CrlMode, ReleaseUrl},
    errors::{Error, Fault},
    route::Route,
    trust::list_place,
};

/// Every way out that this configuration needs; there is none in.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    /// Whether a revocation list may have to be fetched from where the network's certificate says.
    may_fetch: bool,
    /// Whether there is a proxy that fetches it.
    by_proxy: bool,
}

/// One way out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Who connects.
    from: &'static str,
    transport: &'static str,
    host: String,
    port: u16,
    /// What the name stands for at this moment.
    addresses: Vec<IpAddr>,
    /// What it is for.
    purpose: &'static str,
    /// For which endpoint; empty for all.
    endpoint: String,
    problem: String,
}

/// Lists what the configuration leads to, and looks names up as the agent would.
///
/// # Errors
/// [`Fault::NetworkUnknown`], [`Fault::RootsUnusable`].
pub(crate) async fn firewall(config: &Config, provider: &Arc<CryptoProvider>) -> Result<Rules, Error> {
    let agent = &config.agent;
    if agent.targets.is_empty() {
        return Err(Fault::NetworkUnknown.into());
    }
    let route = Route::new(agent, provider)?;
    let may_fetch = agent.crl.mode != CrlMode::Off && agent.crl.url.is_none();
    let mut rules = Rules { rules: Vec::new(), may_fetch, by_proxy: route.connect.proxy.is_some() };
    for server in &agent.resolvers {
        for transport in ["udp", "tcp"] {
            let host = server.ip().to_string();
            rules.add(Rule::new("agent", transport, &host, server.port(), "dns").at(&route.connect).await);
        }
    }
    for target in &agent.targets {
        rules.way(&route, &target.host, target.port, "network").await;
    }
    if let Some((host, port)) = list_place(&agent.crl) {
        rules.way(&route, &host, port, "revocation list").await;
    }
    if let Some((host, port)) = agent.update.as_ref().and_then(|releases| ReleaseUrl::host_and_port(&releases.url)) {
        rules.way(&route, &host, port, "releases").await;
    }
    let system = ConnectOptions::default(); // upstreams are resolved by this machine
    for endpoint in &config.endpoints {
        let Some(acme) = endpoint.termination.as_ref().and_then(|termination| termination.acme.as_ref()) else {
            continue;
        };
        let (host, port) = acme.place();
        rules.way(&route, &host, port, "certificate authority").await;
    }
    for endpoint in &config.endpoints {
        if let Address::Tcp { host, port } = &endpoint.upstream.address {
            let rule = Rule::new("agent", "tcp", host, *port, "upstream");
            rules.add(Rule { endpoint: endpoint.name.clone(), ..rule.at(&system).await });
        }
    }
    Ok(rules)
}

impl Rule {
    fn new(from: &'static str, transport: &'static str, host: &str, port: u16, purpose: &'static str) -> Self {
        let (addresses, problem, endpoint) = (Vec::new(), String::new(), String::new());
        Self { from, transport, host: host.to_owned(), port, addresses, purpose, endpoint, problem }
    }

    /// Looks the name up.
    async fn at(mut self, options: &ConnectOptions) -> Self {
        match resolve(&self.host, options).await {
            Ok(mut addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
                self.addresses = addresses;
            }
            Err(error) => self.problem = error.to_string(),
        }
        self
    }

    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    fn text(&self) -> String {
        let purpose = match (self.purpose, self.endpoint.as_str()) {
            (purpose, "") => purpose.to_owned(),
            (purpose, endpoint) => format!("{purpose} of {endpoint}"),
        };
        let mut text = format!("  {:5} {} {}  {purpose}\n", self.from, self.transport, self.authority());
        let is_name = self.host.parse::<IpAddr>().is_err();
        if is_name && !self.addresses.is_empty() {
            let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            text.push_str(&format!("          at present {}\n", addresses.join(", ")));
        }
        if !self.problem.is_empty() {
            text.push_str(&format!("          {}\n", self.problem));
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "from": self.from,
            "transport": self.transport,
            "host": self.host,
            "port": self.port,
            "addresses": self.addresses,
            "purpose": self.purpose,
            "endpoint": if self.endpoint.is_empty() { None } else { Some(&self.endpoint) },
            "problem": if self.problem.is_empty() { None } else { Some(&self.problem) },
        })
    }
}

impl Rules {
    /// Adds the way to what is outside: through the proxy, if there is one for it.
    async fn way(&mut self, route: &Route, host: &str, port: u16, purpose: &'static str) {
        let Some(proxy) = route.proxy(host, port) else {
            self.add(Rule::new("agent", "tcp", host, port, purpose).at(&route.connect).await);
            return;
        };
        self.add(Rule::new("agent", "tcp", &proxy.host, proxy.port, "proxy").at(&route.connect).await);
        // Whatever the name means to the proxy: it is resolved there.
        self.add(Rule::new("proxy", "tcp", host, port, purpose));
    }

    fn add(&mut self, rule: Rule) {
        if !self.rules.contains(&rule) {
            self.rules.push(rule);
        }
    }

    /// Returns them for a person.
    pub(crate) fn text(&self) -> String {
        let shown = |inner| {
            let rules = self.rules.iter().filter(move |rule| (rule.purpose == "upstream") == inner);
            rules.map(Rule::text).collect::<String>()
        };
        let named: Vec<_> = self.rules.iter().filter(|rule| matches!(rule.purpose, "network" | "proxy")).collect();
        let block: Vec<_> = named.iter().filter(|rule| rule.from == "agent").collect();
        let block: Vec<_> = block.iter().map(|rule| rule.authority()).collect();
        let system = if self.rules.iter().any(|rule| rule.purpose == "dns") {
            ""
        } else {
            "  and DNS as this machine is set up for it\n"
        };
        let list = match (self.may_fetch, self.by_proxy) {
            (false, _) => String::new(),
            (true, false) => format!("{LIST}\n"),
            (true, true) => format!("{LIST}, from the proxy unless NO_PROXY excepts it\n"),
        };
        let upstreams = shown(true);
        let upstreams = if upstreams.is_empty() { "  none\n".to_owned() } else { upstreams };
        format!(
            "To open, outwards:\n{}{list}{system}To open, to services inside:\n{upstreams}To open, inwards: nothing.\n\
             To block, so that nothing goes: {}\n\
             Addresses may change; where a firewall knows names, let it go by those.\n",
            shown(false),
            block.join(", "),
        )
    }

    /// Returns them as one JSON object.
    pub(crate) fn json(&self) -> String {
        let outbound: Vec<_> = self.rules.iter().map(Rule::json).collect();
        let by = self.may_fetch.then_some(if self.by_proxy { "proxy" } else { "agent" });
        json!({ "outbound": outbound, "inbound": [], "list_of_certificate": self.may_fetch, "list_of_certificate_from": by })
            .to_string()
    }
}

/// What cannot be said before the certificate is seen.
const LIST: &str = "  and, where the network's certificate names a revocation list that the network does not bring itself, tcp to where it says";

#[cfg(test)]
mod tests {
    use super::*;

    async fn rules(agent: &str, endpoints: &str) -> Rules {
        let config = crate::testing::config(&format!("version: 1\nagent:\n{agent}endpoints:\n{endpoints}"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let roots = crate::config::Roots::Bundled(crate::testing::root_pem());
        let mut config = config;
        config.agent.roots = roots;
        firewall(&config, &provider).await.unwrap()
    }

    const CRM: &str = "  - { name: crm, url: 'https://crm.example.com', upstream: { url: '10.0.0.7:8080' } }\n";

    #[tokio::test]
    async fn what_is_dialed_is_listed_and_nothing_else() {
        let rules = rules("  connect_url: [192.0.2.1, '[2001:db8::1]:4443']\n", CRM).await;

        assert_eq!(
            rules.text(),
            format!(
                "To open, outwards:\n  agent tcp 192.0.2.1:443  network\n  agent tcp [2001:db8::1]:4443  network\n{LIST}\n  \
             and DNS as this machine is set up for it\nTo open, to services inside:\n  agent tcp 10.0.0.7:8080  upstream of crm\n\
             To open, inwards: nothing.\nTo block, so that nothing goes: 192.0.2.1:443, [2001:db8::1]:4443\n\
             Addresses may change; where a firewall knows names, let it go by those.\n"
            )
        );
    }

    #[tokio::test]
    async fn where_revocation_lists_are_fetched_is_listed_while_they_are() {
        let with =
            |mode: &str| format!("  connect_url: 192.0.2.1\n  crl: {mode}\n  crl_url: http://192.0.2.7:8081/list\n");

        let listed = rules(&with("require"), CRM).await.text();
        assert!(listed.contains("  agent tcp 192.0.2.7:8081  revocation list\n"), "{listed}");
        assert!(!rules(&with("off"), CRM).await.text().contains("192.0.2.7"));
    }

    #[tokio::test]
    async fn lists_and_releases_go_the_way_of_sessions() {
        let update = format!("  update: {{ url: 'https://192.0.2.8/adit', public_key: {KEY} }}\n");
        let list = "  connect_url: node.example.com\n  crl_url: http://192.0.2.7:8081/list\n";
        let proxy = "  proxy_url: socks5://192.0.2.9:1080\n";

        let direct = rules(&format!("{list}{update}"), CRM).await.text();
        for line in ["agent tcp 192.0.2.7:8081  revocation list", "agent tcp 192.0.2.8:443  releases"] {
            assert!(direct.contains(&format!("  {line}\n")), "{direct}");
        }
        let through = rules(&format!("{list}{update}{proxy}"), CRM).await.text();
        for line in [
            "agent tcp 192.0.2.9:1080  proxy",
            "proxy tcp 192.0.2.7:8081  revocation list",
            "proxy tcp 192.0.2.8:443  releases",
        ] {
            assert!(through.contains(&format!("  {line}\n")), "{through}");
        }
        assert!(!through.contains("agent tcp 192.0.2.7") && !through.contains("agent tcp 192.0.2.8"), "{through}");
        let named = rules(&format!("  connect_url: node.example.com\n{proxy}"), CRM).await;
        assert!(named.text().contains(&format!("{LIST}, from the proxy unless NO_PROXY excepts it\n")));
        let json: Value = serde_json::from_str(&named.json()).unwrap();
        assert_eq!(json["list_of_certificate_from"], json!("proxy"));
    }

    const KEY: &str = "RWSw/Ftq9sAsstwFr3Inb8cDRVIAerhEZ0C6wuAXvtEpWct+eYv1U1QF";

    #[tokio::test]
    async fn whom_certificates_are_ordered_from_is_listed() {
        let endpoint = "  - name: crm\n    url: https://crm.example.com\n    upstream: { url: '10.0.0.7:8080' }\n    \
                        agent_tls_termination: { acme: { accept_terms: true, directory: 'https://192.0.2.8:14000/dir' } }\n";

        let listed = rules("  connect_url: 192.0.2.1\n", endpoint).await.text();
        assert!(listed.contains("  agent tcp 192.0.2.8:14000  certificate authority\n"), "{listed}");
        let proxied = "  connect_url: 192.0.2.1\n  proxy_url: http://192.0.2.9:3128\n";
        let listed = rules(proxied, endpoint).await.text();
        assert!(listed.contains("  proxy tcp 192.0.2.8:14000  certificate authority\n"), "{listed}");
    }

    #[tokio::test]
    async fn with_a_proxy_the_agent_dials_the_proxy_and_the_proxy_the_network() {
        let agent = "  connect_url: node.example.com\n  proxy_url: http://u:s3cret@192.0.2.9:3128\n  dns_resolver_ips: 192.0.2.53\n";
        let rules = rules(agent, CRM).await;

        let json: Value = serde_json::from_str(&rules.json()).unwrap();
        let told: Vec<_> = json["outbound"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| {
                let word = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
                format!("{} {} {}:{} {}", word("from"), word("transport"), word("host"), rule["port"], word("purpose"))
            })
            .collect();
        assert_eq!(
            told,
            [
                "agent udp 192.0.2.53:53 dns",
                "agent tcp 192.0.2.53:53 dns",
                "agent tcp 192.0.2.9:3128 proxy",
                "proxy tcp node.example.com:443 network",
                "agent tcp 10.0.0.7:8080 upstream",
            ]
        );
        assert_eq!(json["inbound"], json!([]));
        assert!(rules.text().contains("so that nothing goes: 192.0.2.9:3128\n"), "{}", rules.text());
        assert!(!rules.json().contains("s3cret") && !rules.text().contains("s3cret"));
    }
}
