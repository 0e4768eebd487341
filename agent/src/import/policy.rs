//! Policies: those that stand in their file, and the switches of older forms that are actions of a policy here.

use std::collections::BTreeSet;

use super::{
    Extra, Level, Made,
    theirs::{Item, Map},
    write::Out,
};
use crate::config::{
    Kind,
    yaml::{Node, Place, Value},
};

/// A policy for the network.
#[derive(Debug, Default)]
pub(super) struct Rules {
    phases: Vec<(String, Vec<Out>)>,
}

impl Rules {
    /// Takes the phases of theirs; returns whether it has the form.
    pub(super) fn take(&mut self, node: &Node, kind: Kind, typed: &BTreeSet<Place>) -> bool {
        let Value::Map(entries) = &node.value else { return false };
        let mut fine = true;
        for (phase, _, node) in entries {
            let phase = match (phase.as_str(), kind) {
                ("enabled", _) => continue,
                ("inbound", Kind::Http) => "on_http_request",
                ("inbound", Kind::Tls | Kind::Tcp) => "on_tcp_connect",
                ("outbound", _) => "on_http_response",
                (phase, _) => phase,
            };
            match (&node.value, out(node, typed)) {
                (Value::List(_), Out::List(rules)) => self.phase(phase).extend(rules),
                (Value::Null, _) => {}
                _ => fine = false,
            }
        }
        fine
    }

    /// Adds a rule of one action.
    fn add(&mut self, phase: &str, action: &str, config: Out, expressions: Vec<String>) {
        let mut rule = Vec::new();
        if !expressions.is_empty() {
            rule.push(("expressions".to_owned(), Out::texts(expressions)));
        }
        let action = Out::map([("type", Out::text(action)), ("config", config)]);
        rule.push(("actions".to_owned(), Out::List(vec![action])));
        self.phase(phase).push(Out::Map(rule));
    }

    /// Keeps them in a file beside the configuration.
    pub(super) fn keep(self, name: &str, made: &mut Made<'_>) {
        if self.phases.is_empty() {
            return;
        }
        let mut text = String::from(
            "# For the vendor's network: what becomes of those who call the endpoint. It may hold secrets.\n",
        );
        let phases = self.phases.into_iter().map(|(phase, rules)| (phase, Out::List(rules))).collect();
        Out::Map(phases).write(0, &mut text);
        made.extras.push(Extra { name: format!("{name}.policy.yml"), text });
    }

    fn phase(&mut self, name: &str) -> &mut Vec<Out> {
        let at = self.phases.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.phases.push((name.to_owned(), Vec::new()));
            self.phases.len() - 1
        });
        &mut self.phases[at].1
    }
}

/// Takes the switches that are actions here; those that protected something are added to `unprotected`.
pub(super) fn switches(
    map: &mut Map<'_>,
    name: &str,
    upstream: &str,
    rules: &mut Rules,
    unprotected: &mut Vec<String>,
) {
    let file = format!("written to {name}.policy.yml: a policy is the network's");
    let mut protects = |item: &Item<'_>, what: &str| {
        item.note(Level::Protection, &file, GIVE);
        unprotected.push(what.to_owned());
    };
    restrict(map, rules, &mut protects);
    if let Some(item) = map.take_any(&["basic_auth", "auth"]) {
        protects(&item, "basic_auth");
        let config = Out::map([("credentials", Out::texts(item.texts()))]);
        rules.add(REQUEST, "basic-auth", config, Vec::new());
    }
    if let Some(item) = map.take("verify_webhook") {
        protects(&item, "verify_webhook");
        let mut below = item.map();
        let text =
            |item: Option<Item<'_>>| item.inspect(Item::carried).and_then(|item| item.text()).unwrap_or_default();
        let (provider, secret) = (text(below.take("provider")), text(below.take("secret")));
        below.finish();
        let config = Out::map([("provider", Out::Text(provider)), ("secret", Out::Text(secret))]);
        rules.add(REQUEST, "verify-webhook", config, Vec::new());
    }
    if let Some(item) = map.take("user_agent_filter") {
        protects(&item, "user_agent_filter");
        let mut below = item.map();
        let mut list = |key| below.take(key).inspect(Item::carried).map(|item| item.texts()).unwrap_or_default();
        let (allow, deny) = (list("allow"), list("deny"));
        below.finish();
        let any = |patterns: &[String]| {
            let tests: Vec<_> =
                patterns.iter().map(|pattern| format!("req.user_agent.matches({})", literal(pattern))).collect();
            tests.join(" || ")
        };
        let expressions = match (allow.is_empty(), deny.is_empty()) {
            (true, true) => None,
            (false, true) => Some(vec![format!("!({})", any(&allow))]),
            (true, false) => Some(vec![any(&deny)]),
            (false, false) => Some(vec![any(&deny), format!("!({})", any(&allow))]),
        };
        if let Some(expressions) = expressions {
            rules.add(REQUEST, "deny", Out::map([("status_code", Out::Plain("403".to_owned()))]), expressions);
        }
    }
    changes(map, &file, upstream, rules);
    for (key, problem, remedy) in LOST {
        if let Some(item) = map.take(key) {
            item.note(Level::Protection, problem, remedy);
            unprotected.push((*key).to_owned());
        }
    }
}

fn restrict(map: &mut Map<'_>, rules: &mut Rules, protects: &mut impl FnMut(&Item<'_>, &str)) {
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    if let Some(item) = map.take("ip_restriction") {
        protects(&item, "ip_restriction");
        let mut below = item.map();
        if let Some(item) = below.take("allow_cidrs") {
            item.carried();
            allow.extend(item.texts());
        }
        if let Some(item) = below.take("deny_cidrs") {
            item.carried();
            deny.extend(item.texts());
        }
        below.finish();
    }
    for (key, list) in [("allow_cidr", &mut allow), ("deny_cidr", &mut deny)] {
        if let Some(item) = map.take(key) {
            protects(&item, key);
            list.extend(item.texts());
        }
    }
    if allow.is_empty() && deny.is_empty() {
        return;
    }
    if allow.is_empty() {
        allow = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    }
    let mut config = vec![("allow".to_owned(), Out::texts(allow))];
    if !deny.is_empty() {
        config.push(("deny".to_owned(), Out::texts(deny)));
    }
    rules.add("on_tcp_connect", "restrict-ips", Out::Map(config), Vec::new());
}

/// Takes what changes requests and answers, and protects nothing.
fn changes(map: &mut Map<'_>, file: &str, upstream: &str, rules: &mut Rules) {
    if let Some(item) = map.take("circuit_breaker") {
        item.note(Level::Changed, file, GIVE);
        let threshold = item.text().filter(|text| text.parse::<f64>().is_ok_and(|part| (0.0..=1.0).contains(&part)));
        match threshold {
            Some(part) => {
                rules.add(REQUEST, "circuit-breaker", Out::map([("error_threshold", Out::Plain(part))]), Vec::new())
            }
            None => item.refuse("not a part from 0 to 1"),
        }
    }
    if let Some(item) = map.take("compression") {
        if item.text().as_deref() == Some("true") {
            item.note(Level::Changed, file, GIVE);
            rules.add(RESPONSE, "compress-response", Out::Map(Vec::new()), Vec::new());
        } else {
            item.carried();
        }
    }
    for (key, phase) in [("request_header", REQUEST), ("response_header", RESPONSE)] {
        let Some(item) = map.take(key) else { continue };
        item.note(Level::Changed, file, GIVE);
        let mut below = item.map();
        if let Some(item) = below.take("remove") {
            item.carried();
            rules.add(phase, "remove-headers", Out::map([("headers", Out::texts(item.texts()))]), Vec::new());
        }
        if let Some(item) = below.take("add") {
            item.carried();
            let headers = item.texts().into_iter().filter_map(|header| {
                let (name, value) = header.split_once(':')?;
                Some((name.trim().to_owned(), Out::text(value.trim())))
            });
            rules.add(phase, "add-headers", Out::map([("headers", Out::Map(headers.collect()))]), Vec::new());
        }
        below.finish();
    }
    if let Some(item) = map.take("host_header") {
        let host = match item.text().as_deref() {
            Some("preserve" | "") | None => {
                item.carried();
                return;
            }
            Some("rewrite") => upstream_host(upstream),
            Some(other) => other.to_owned(),
        };
        item.note(Level::Changed, file, GIVE);
        let headers = Out::map([("host", Out::Text(host))]);
        rules.add(REQUEST, "add-headers", Out::map([("headers", headers)]), Vec::new());
    }
}

/// Returns what a browser would say as Host for the upstream.
fn upstream_host(upstream: &str) -> String {
    let rest = upstream.split_once("://").map_or(upstream, |(_, rest)| rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.bytes().all(|b| b.is_ascii_digit()) { format!("localhost:{rest}") } else { rest.to_owned() }
}

/// Writes a text as CEL does.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn out(node: &Node, typed: &BTreeSet<Place>) -> Out {
    match &node.value {
        Value::Null => Out::Plain("null".to_owned()),
        Value::Text(text) if typed.contains(&node.place) => Out::Plain(text.clone()),
        Value::Text(text) => Out::text(text),
        Value::List(items) => Out::List(items.iter().map(|item| out(item, typed)).collect()),
        Value::Map(entries) => Out::Map(entries.iter().map(|(key, _, node)| (key.clone(), out(node, typed))).collect()),
    }
}

/// What to do with a policy.
pub(super) const GIVE: &str = "Check it with `adit-network policy check`, and give it to the vendor: the endpoint's `policy` in the network's configuration names it";
const REQUEST: &str = "on_http_request";
const RESPONSE: &str = "on_http_response";
/// What no action does.
const LOST: &[(&str, &str, &str)] = &[
    (
        "oauth",
        "the network asks no provider who callers are",
        "Let jwt-validation in the network's policy check a token, or a proxy before the service ask",
    ),
    (
        "oidc",
        "the network asks no provider who callers are",
        "Let jwt-validation in the network's policy check a token, or a proxy before the service ask",
    ),
    ("saml", "the network asks no provider who callers are", "Let a proxy before the service ask"),
];
