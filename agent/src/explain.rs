//! What an agent would do, in plain words: who reaches what, who can read it, what is kept, what is refused.

mod remote;

use core::ops::Deref;
use std::path::Path;

use adit_core::{TlsEnd, escape};
use serde_json::{Value, json};

use crate::{
    audit::OnFailure,
    config::{
        Address, AgentConfig, CaptureConfig, ClientMode, Config, CrlMode, EndpointConfig, LogOutput, NamedFile,
        ReleaseUrl, Roots, SocketMode, SocketPlace, TerminationConfig, Token, UpstreamTrust,
    },
    policy::{Bounds, Facts, Policy, Protocol, Refusal, Rule, Verdict, audit_folder},
    remote::Document,
    trust::list_place,
};

mod files;

/// What is in force beside the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    /// The policy, its file and what names it.
    pub(crate) policy: Option<(&'a Policy, &'a Path, &'a str)>,
    pub(crate) frozen: Option<&'a str>,
    /// Where the agent keeps what must last.
    pub(crate) state: Option<&'a Path>,
    /// What the vendor has sent by a command, or why that is not believed.
    pub(crate) remote: &'a Result<Option<Document>, String>,
    /// That nothing of it is kept here, and who may have something all the same.
    pub(crate) elsewhere: Option<&'a str>,
    /// The time, in seconds since 1970.
    pub(crate) now: i64,
}

/// One thing that is so: about what, which of it, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) topic: String,
    pub(crate) key: String,
    pub(crate) text: String,
}

/// Everything that can be said.
#[derive(Clone, Debug)]
pub(crate) struct Explanation {
    pub(crate) statements: Vec<Statement>,
    facts: Value,
}

/// Explains a configuration and what is in force beside it.
pub(crate) fn explain(config: &Config, situation: &Situation<'_>) -> Explanation {
    let mut teller = Teller { statements: Vec::new() };
    teller.network(&config.agent);
    teller.policy(situation);
    let sent = situation.sent(config);
    let all = config.endpoints.iter().map(|own| (own, false)).chain(sent.into_iter().map(|sent| (sent, true)));
    let endpoints: Vec<Value> = all.map(|which| teller.endpoint(which, &config.agent, situation)).collect();
    let remote = teller.remote(config, situation);
    let commands = teller.commands(&config.agent, situation);
    teller.versions(&config.agent, situation);
    let files = teller.files(config, situation);
    teller.kept(config, situation);
    let capture = teller.local(config, situation);
    let facts = json!({
        "policy": situation.policy.map(|(_, file, version)| json!({ "file": file, "version": version })),
        "frozen": situation.frozen,
        "endpoints": endpoints,
        "commands": commands,
        "files": files,
        "remote": remote,
        "capture": capture,
        "audit": situation.policy.filter(|(policy, ..)| policy.audit.enabled).map(|(policy, ..)| json!({
            "path": audit_folder(&policy.audit, situation.state), "keep": policy.audit.keep, "max_size": policy.audit.max_size,
            "max_age_seconds": policy.audit.max_age.as_secs(), "on_failure_refuse": policy.audit.on_failure == OnFailure::Refuse,
        })),
    });
    Explanation { statements: teller.statements, facts }
}

impl Explanation {
    /// Writes everything for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut topic = None;
        for statement in &self.statements {
            if topic != Some(&statement.topic) {
                text.push_str(&format!("{}{}\n", if topic.is_some() { "\n" } else { "" }, statement.topic));
                topic = Some(&statement.topic);
            }
            text.push_str(&format!("  {:12} {}\n", statement.key, statement.text));
        }
        text
    }

    /// Writes everything for programs.
    pub(crate) fn json(&self) -> Value {
        let mut value = self.facts.clone();
        value["statements"] = self.statements.iter().map(Statement::json).collect();
        value
    }
}

impl Statement {
    fn json(&self) -> Value {
        json!({ "topic": self.topic, "key": self.key, "text": self.text })
    }

    fn read(value: &Value) -> Option<Self> {
        let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self { topic: field("topic")?, key: field("key")?, text: field("text")? })
    }
}

/// Reads the statements that [`Explanation::json`] wrote.
pub(crate) fn statements(text: &str) -> Option<Vec<Statement>> {
    let value: Value = serde_json::from_str(text).ok()?;
    value.get("statements")?.as_array()?.iter().map(Statement::read).collect()
}

/// Returns what is no longer so, and what has come to be so.
pub(crate) fn differences<'a>(old: &'a [Statement], new: &'a [Statement]) -> (Vec<&'a Statement>, Vec<&'a Statement>) {
    let gone = old.iter().filter(|statement| !new.contains(statement)).collect();
    (gone, new.iter().filter(|statement| !old.contains(statement)).collect())
}

/// Writes differences for people.
pub(crate) fn differences_text((gone, come): &(Vec<&Statement>, Vec<&Statement>)) -> String {
    let line = |sign: char, statement: &Statement| {
        format!("{sign} {}, {}: {}\n", statement.topic, statement.key, statement.text)
    };
    let mut text = String::new();
    // What became of a thing stands beside what it was.
    let same = |one: &Statement, other: &Statement| (&one.topic, &one.key) == (&other.topic, &other.key);
    for statement in gone {
        text.push_str(&line('-', statement));
        let now = come.iter().filter(|other| same(statement, other));
        text.extend(now.map(|other| line('+', other)));
    }
    let new = come.iter().filter(|statement| !gone.iter().any(|other| same(statement, other)));
    text.extend(new.map(|statement| line('+', statement)));
    if text.is_empty() { "nothing has changed\n".to_owned() } else { text }
}

/// Writes differences for programs.
pub(crate) fn differences_json((gone, come): &(Vec<&Statement>, Vec<&Statement>)) -> Value {
    let list =
        |statements: &[&Statement]| -> Vec<Value> { statements.iter().map(|statement| statement.json()).collect() };
    json!({ "removed": list(gone), "added": list(come) })
}

struct Teller {
    statements: Vec<Statement>,
}

impl Teller {
    fn say(&mut self, topic: &str, key: &str, text: impl Into<String>) {
        let text = escape(&text.into()).to_string();
        self.statements.push(Statement { topic: topic.to_owned(), key: key.to_owned(), text });
    }

    fn network(&mut self, agent: &AgentConfig) {
        let targets: Vec<_> = agent.targets.iter().map(|target| format!("{}:{}", target.host, target.port)).collect();
        let listens = match agent.local.address {
            None => "the agent itself listens to no network".to_owned(),
            Some(address) => format!("the agent itself listens at {address} alone, to programs of this machine"),
        };
        self.say("Network", "dials", format!("{}; {listens}", listed(&targets)));
        if let Some(found) = &agent.proxy {
            let through = agent.targets.iter().filter(|target| agent.proxy_to(&target.host, target.port).is_some());
            let (proxy, from) = (&found.proxy, found.source);
            let text = match through.count() {
                0 => format!("{proxy} ({from}) is not used for it: NO_PROXY, or this machine"),
                all if all == targets.len() => format!("through {proxy} ({from}), which resolves its name"),
                _ => format!("in part through {proxy} ({from}), in part without it: NO_PROXY, or this machine"),
            };
            self.say("Network", "proxy", text);
        }
        let trusted = match &agent.roots {
            Roots::Bundled(_) => "the roots that came with the configuration, and nobody else".to_owned(),
            Roots::Host => "whomever this machine trusts".to_owned(),
            Roots::File(path) => format!("whomever {} names, and nobody else", path.display()),
        };
        self.say("Network", "trusts", trusted);
        let keys: Vec<_> = agent.network_keys.iter().map(ToString::to_string).collect();
        let bound = match keys.as_slice() {
            [] => "to no key: any certificate that is trusted will do".to_owned(),
            _ => format!("to the key {}; a certificate without it is refused, trusted or not", listed(&keys)),
        };
        self.say("Network", "bound", bound);
        let from = match (&agent.crl.url, list_place(&agent.crl)) {
            (Some(url), Some((host, port))) => format!("from {}", by_way(agent, url, &host, port)),
            (Some(url), None) => format!("from {url}"),
            (None, _) if agent.proxy.is_some() => {
                "where its certificate says, through the proxy if there is one for it".to_owned()
            }
            (None, _) => "where its certificate says".to_owned(),
        };
        let (mode, hours) = (agent.crl.mode.word(), agent.crl.refresh);
        let revoked = match agent.crl.mode {
            CrlMode::Require => format!(
                "{mode}: a list must say that the network's certificate is good, always; from the handshake or the session, or fetched {from}, looked for every {hours:?} at least"
            ),
            CrlMode::PreferStapled => format!(
                "{mode}: once a revocation list is known to exist, it must say that the network's certificate is good; from the handshake or the session, or fetched {from}, looked for every {hours:?} at least"
            ),
            CrlMode::Off => format!(
                "{mode}: nobody is asked; a stolen key of the network is believed until its certificate expires"
            ),
        };
        self.say("Network", "revocation", revoked);
    }

    fn policy(&mut self, situation: &Situation<'_>) {
        match situation.policy {
            None => self.say("Policy", "file", "there is none: the agent carries whatever its configuration names"),
            Some((policy, file, version)) => {
                let text = format!("{}, version {version}; what no rule allows is refused", file.display());
                self.say("Policy", "file", text);
                let bounds = bounded(&policy.bounds);
                if !bounds.is_empty() {
                    self.say("Policy", "as a whole", bounds.join("; "));
                }
                if policy.rules.is_empty() {
                    self.say("Policy", "rules", "there are none: everything is refused");
                }
                for rule in &policy.rules {
                    self.say("Policy", "rule", described(rule));
                }
                if !policy.authorities.is_empty() {
                    let text = format!("certificates may be ordered from {}", listed(&strings(&policy.authorities)));
                    self.say("Policy", "acme", text);
                }
            }
        }
        if let Some(why) = situation.frozen {
            self.say("Frozen", "since", format!("everything is closed: {why}"));
        }
    }

    fn endpoint(
        &mut self,
        (endpoint, is_sent): (&EndpointConfig, bool),
        agent: &AgentConfig,
        situation: &Situation<'_>,
    ) -> Value {
        let topic = format!("Endpoint {}", endpoint.name);
        if is_sent {
            self.say(&topic, "from", "the vendor, who has sent it by a command");
        }
        let protocol = Protocol::of(endpoint);
        self.say(&topic, "callers", format!("come in at {}", endpoint.url));
        self.say(&topic, "leads to", format!("{} ({protocol})", endpoint.upstream.address));
        let end = endpoint.tls_end();
        self.say(&topic, "read by", readers(end));
        if let Some(text) = endpoint.termination.as_ref().and_then(callers) {
            self.say(&topic, "certificates", text);
        }
        if let Some(text) = behind(endpoint) {
            self.say(&topic, "upstream", text);
        }
        let ordered = self.ordered(&topic, endpoint, (agent, situation));
        let (allowed, rule, reason) = match decide(endpoint, situation) {
            Decision::Unasked => {
                self.say(&topic, "allowed", "by the configuration alone: there is no policy");
                (true, None, None)
            }
            Decision::Allowed(rule) => {
                let mut text = vec![format!("by rule `{}`", rule.name)];
                text.extend(bounded(&rule.bounds));
                self.say(&topic, "allowed", text.join("; "));
                (true, Some(rule.name.clone()), None)
            }
            Decision::Refused(refusal) => {
                self.say(&topic, "refused", refusal.to_string());
                (false, refusal.rule.clone(), Some(refusal.reason.word()))
            }
        };
        json!({
            "name": endpoint.name, "url": endpoint.url, "upstream": endpoint.upstream.address.to_string(),
            "protocol": protocol.word(), "tls_end": end.word(), "allowed": allowed, "rule": rule, "reason": reason,
            "acme": ordered, "remote": is_sent,
        })
    }

    /// Says where the agent orders the certificate itself, and whether the policy lets it.
    fn ordered(
        &mut self,
        topic: &str,
        endpoint: &EndpointConfig,
        (agent, situation): (&AgentConfig, &Situation<'_>),
    ) -> Option<Value> {
        let acme = endpoint.termination.as_ref()?.acme.as_ref()?;
        let (host, port) = acme.place();
        let refusal = situation.policy.and_then(|(policy, ..)| policy.orders(&host, port, situation.now).err());
        let (directory, file) = (&acme.directory, acme.file());
        let shown = by_way(agent, directory, &host, port);
        let text = match &refusal {
            None => format!(
                "ordered by the agent from {shown}, which learns the name and connects to it once for each order; its key is \
                 made here and stays in {}",
                file.display()
            ),
            Some(refusal) => format!("not ordered from {shown}: {refusal}"),
        };
        self.say(topic, "certificate", text);
        Some(json!({ "directory": directory, "file": file, "allowed": refusal.is_none() }))
    }

    /// Tells who on this machine may ask the running agent what; returns whether requests are captured.
    fn local(&mut self, config: &Config, situation: &Situation<'_>) -> bool {
        let topic = "Asked on this machine";
        let local = &config.agent.local;
        let socket = match &local.socket {
            SocketPlace::Off => "there is none".to_owned(),
            SocketPlace::Default => "beside what the agent keeps, for its own user and root".to_owned(),
            SocketPlace::At(path) => match local.mode {
                SocketMode::Owner => format!("{}, for the agent's own user and root", path.display()),
                SocketMode::Group => format!("{}, for the agent's own user, its group and root", path.display()),
            },
        };
        self.say(topic, "socket", format!("{socket}: how the agent is, who is connected, its log"));
        if let Some(address) = local.address {
            self.say(topic, "address", format!("{address}, for whoever can read the file of its token"));
        }
        let on = captures(config, situation);
        let requests = local.capture.requests;
        let text = match (on, requests > 0, situation.policy) {
            (true, ..) => format!("on: the last {requests} requests over HTTP can be read and sent again there"),
            (false, false, _) => "off: agent.local.capture.requests of the configuration is 0".to_owned(),
            (false, true, None) => "off: only a policy can allow it, and there is none".to_owned(),
            (false, true, Some(_)) => "off: the policy does not say `capture: true`, or has expired".to_owned(),
        };
        self.say(topic, "capture", text);
        on
    }

    /// Says where newer versions of this program come from, and what happens unasked.
    fn versions(&mut self, agent: &AgentConfig, situation: &Situation<'_>) {
        let topic = "New versions of this program";
        let Some(releases) = &agent.update else {
            self.say(topic, "come from", "nowhere: the configuration names no place, and nothing is looked for");
            return;
        };
        let place = ReleaseUrl::host_and_port(&releases.url);
        let place =
            place.map_or_else(|| releases.url.clone(), |(host, port)| by_way(agent, &releases.url, &host, port));
        let text = format!("{place}, by the vendor's signature alone, channel {}", releases.channel.word());
        self.say(topic, "come from", text);
        let (check, install) =
            situation.policy.map_or((true, false), |(policy, ..)| (policy.updates.check, policy.updates.install));
        let rests = situation.policy.and_then(|(policy, ..)| policy.rests(situation.now));
        let text = match (releases.check && check, install) {
            (true, _) if rests.is_some() => {
                "nothing at this moment: the policy has expired, or it is none of its hours"
            }
            (false, _) => "nothing: none is looked for",
            (true, false) => "they are looked for at the start, and none is installed",
            (true, true) => "they are looked for at the start and installed",
        };
        self.say(topic, "unasked", text);
    }

    fn kept(&mut self, config: &Config, situation: &Situation<'_>) {
        let topic = "Kept on this machine";
        let capture = if captures(config, situation) {
            let CaptureConfig { requests, head, body, .. } = &config.agent.local.capture;
            format!(
                "the last {requests} requests over HTTP and their answers, in memory alone, each with a head of at most {head} octets and \
                 the first {body} octets of its body; until others take their place, the agent ends, or the policy allows it no more. \
                 Values of fields that let somebody in are left out"
            )
        } else {
            "never written down; in memory for as long as it is on its way".to_owned()
        };
        self.say(topic, "traffic", capture);
        let token = match &config.agent.token {
            Token::Missing => "nowhere".to_owned(),
            Token::Given(_) => {
                format!("in {} or the environment, until it is taken out", listed(&shown(&config.files)))
            }
            Token::File(path) => format!("in {}, until it is taken out", path.display()),
            Token::StandardInput => "in memory, until the agent ends".to_owned(),
        };
        self.say(topic, "authtoken", token);
        let log = match &config.agent.log {
            LogOutput::Off => "there is none".to_owned(),
            LogOutput::File(path) => format!("{}, which grows until it is rotated by others", path.display()),
            LogOutput::Auto | LogOutput::Stderr => {
                "standard error: for as long as whoever collects it keeps it".to_owned()
            }
            LogOutput::Stdout => "standard output: for as long as whoever collects it keeps it".to_owned(),
        };
        let level = &config.agent.log_level;
        self.say(
            topic,
            "log",
            format!("{log}; at level {level}. Callers' addresses are in it at debug and trace, content never"),
        );
        if let Some(state) = situation.state {
            let text = format!(
                "{}: a random name by which the network knows the agent again, until it is deleted",
                state.display()
            );
            self.say(topic, "name", text);
        }
        if let Some(acme) = config.endpoints.iter().find_map(|endpoint| endpoint.termination.as_ref()?.acme.as_ref()) {
            let text = format!(
                "{}: the accounts at authorities and their keys, certificates and their keys, what failed of orders; for this user alone, until they are deleted",
                acme.folder.display()
            );
            self.say(topic, "certificates", text);
        }
        self.say(topic, "audit log", audited(situation));
        self.say(topic, "totals", counted(situation));
        self.say(topic, "addresses", "of upstream names: 5 s in memory, judged again at each connection");
        self.say(
            "Kept by the vendor",
            "everything",
            "what the network keeps is for the vendor to say: it cannot be seen from here",
        );
    }
}

/// Returns whether requests are kept: the configuration asks for it, and a policy that has not expired allows it.
fn captures(config: &Config, situation: &Situation<'_>) -> bool {
    let allowed = situation.policy.is_some_and(|(policy, ..)| policy.captures(situation.now));
    allowed && config.agent.local.capture.requests > 0
}

/// Tells where the audit log is, what is in it, for how long, and what if it cannot be written.
fn audited(situation: &Situation<'_>) -> String {
    let Some((policy, ..)) = situation.policy else {
        return "there is none: a policy asks for it, and there is no policy".to_owned();
    };
    let settings = &policy.audit;
    if !settings.enabled {
        return "there is none: audit.enabled of the policy is false".to_owned();
    }
    let place = audit_folder(settings, situation.state);
    let place = place.map_or_else(|| "nowhere: no folder is known".to_owned(), |place| place.display().to_string());
    let (size, days) = (settings.max_size / 1_024, settings.max_age.as_secs() / 86_400);
    let failure = match settings.on_failure {
        OnFailure::Refuse => "while it cannot be written new connections are refused",
        OnFailure::Continue => "while it cannot be written connections are carried, and counted",
    };
    format!(
        "{place}: sessions, binds, commands, changes of the policy, and each connection with caller, target, times and octets; content never. \
         The last {} files, each of {size} KiB or {days} days; {failure}",
        settings.keep
    )
}

fn counted(situation: &Situation<'_>) -> &'static str {
    let counts = |policy: &Policy| {
        let mut bounds = core::iter::once(&policy.bounds).chain(policy.rules.iter().map(|rule| &rule.bounds));
        bounds.any(|bounds| bounds.limits.total_bytes.is_some())
    };
    match situation.policy {
        Some((policy, ..)) if counts(policy) => {
            "how many octets were carried under each rule, in the state folder, until they are deleted"
        }
        Some(_) | None => "none: no rule has total_bytes",
    }
}

/// What becomes of an endpoint.
enum Decision<'a> {
    /// There is no policy.
    Unasked,
    Allowed(&'a Rule),
    Refused(Refusal),
}

fn decide<'a>(endpoint: &EndpointConfig, situation: &Situation<'a>) -> Decision<'a> {
    let Some((policy, ..)) = situation.policy else { return Decision::Unasked };
    match (policy.judge(&Facts::of(endpoint, situation.now)), policy.names(endpoint)) {
        (Verdict::Allowed { .. }, Err(refusal)) => Decision::Refused(refusal),
        (Verdict::Allowed { rule }, Ok(())) => policy.rules.get(rule).map_or(Decision::Unasked, Decision::Allowed),
        (Verdict::Refused(refusal), _) => Decision::Refused(refusal),
    }
}

fn readers(end: TlsEnd) -> &'static str {
    match end {
        TlsEnd::Network => "the vendor: TLS of callers ends at the network. Nobody between callers, network and agent",
        TlsEnd::Agent => "this machine and the upstream: TLS of callers ends here. Not the vendor",
        TlsEnd::Upstream => {
            "the upstream alone: TLS of callers passes through untouched. Not the vendor, nor this machine"
        }
        TlsEnd::Unsaid => {
            "whoever is between callers and network, and the vendor, unless what is carried is itself encrypted"
        }
    }
}

/// Tells what is asked of callers by the agent itself.
fn callers(termination: &TerminationConfig) -> Option<String> {
    let named = |files: &[NamedFile]| listed(&shown(files));
    let clients = termination.clients.as_ref()?;
    let authorities = named(&clients.authorities);
    let asked = match clients.mode {
        ClientMode::Verify => format!("callers must show one that an authority in {authorities} has issued"),
        ClientMode::Require => {
            format!("callers must show one, whoever issued it; those of {authorities} count as verified")
        }
        ClientMode::Request => format!("callers may show one; those of {authorities} count as verified"),
    };
    let revoked = match &termination.revocation {
        Some(revocation) => format!("good only while a revocation list in {} says so", named(&revocation.lists)),
        None => "nobody is asked whether it is revoked".to_owned(),
    };
    let told = if termination.identity_headers {
        "the upstream is told who it is in the header of each request, and what callers say of that themselves is taken out"
    } else {
        "in HTTP the upstream is told nothing of it, and what callers say of that themselves goes through"
    };
    Some(format!("{asked}; {revoked}; {told}"))
}

/// Tells who can read between the agent and the upstream, where that is more than the two.
fn behind(endpoint: &EndpointConfig) -> Option<&'static str> {
    let loopback = |host: &str| {
        host.eq_ignore_ascii_case("localhost")
            || host.parse().is_ok_and(|address: core::net::IpAddr| address.is_loopback())
    };
    match (&endpoint.upstream.tls, &endpoint.upstream.address) {
        (Some(UpstreamTrust::DangerAnybody), _) => {
            Some("its certificate is not checked: whoever is between this machine and it reads and changes everything")
        }
        (Some(UpstreamTrust::Host | UpstreamTrust::File(_)), _) => Some("TLS, and its certificate is checked"),
        (None, Address::Unix(_)) => None,
        (None, Address::Tcp { host, .. }) if loopback(host) => None,
        (None, Address::Tcp { .. }) => {
            Some("the agent adds no TLS: whoever is between this machine and it reads what callers do not encrypt")
        }
    }
}

fn described(rule: &Rule) -> String {
    let endpoints = listed(&strings(&rule.endpoints));
    let mut text = vec![format!("`{}`: from {endpoints} to {}", rule.name, listed(&strings(&rule.hosts)))];
    if !rule.ports.is_empty() {
        text.push(format!("ports {}", listed(&strings(&rule.ports))));
    }
    if !rule.addresses.is_empty() {
        text.push(format!("only at {}", listed(&strings(&rule.addresses))));
    }
    text.push(format!("speaking {}", listed(&strings(&rule.protocols))));
    text.extend(bounded(&rule.bounds));
    text.join("; ")
}

fn bounded(bounds: &Bounds) -> Vec<String> {
    let limits = &bounds.limits;
    let mut text = Vec::new();
    text.extend(bounds.expires.map(|expires| format!("until {}", crate::clock::utc(expires))));
    if !bounds.hours.is_empty() {
        text.push(format!("at {}", listed(&strings(&bounds.hours))));
    }
    text.extend(limits.connections.map(|most| format!("at most {most} connections at once")));
    text.extend(limits.connections_per_second.map(|most| format!("at most {most} new connections a second")));
    text.extend(limits.bytes_per_second.map(|most| format!("at most {most} octets a second")));
    text.extend(limits.total_bytes.map(|most| format!("{most} octets in all")));
    text
}

fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn shown(files: &[impl Deref<Target = Path>]) -> Vec<String> {
    files.iter().map(|file| file.display().to_string()).collect()
}

/// Names a URL, and the proxy through which what is there is asked.
fn by_way(agent: &AgentConfig, url: &str, host: &str, port: u16) -> String {
    agent.proxy_to(host, port).map_or_else(|| url.to_owned(), |proxy| format!("{url} through {proxy}"))
}

fn listed(items: &[String]) -> String {
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
