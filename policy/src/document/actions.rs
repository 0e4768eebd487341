//! What a rule does.

use core::net::IpAddr;

use super::{
    MAX_ENTRIES,
    read::{Reader, join},
    template::Template,
    yaml::{Node, Place, Value},
};
use crate::{
    addresses::{Addresses, MAX_ENTRIES as MAX_NETWORKS},
    cel::nearest,
    environment::Phase,
};

/// What a rule does when its expressions are true.
#[derive(Debug)]
pub enum Action {
    /// `deny`: answers with a status and serves nothing; of a connection, closes it.
    Deny {
        /// From 400 to 599; 403 when none is given.
        status: u16,
    },
    /// `close-connection`: closes the connection without an answer.
    CloseConnection,
    /// `restrict-ips`: serves only some callers.
    RestrictIps {
        /// Whether others are refused; else it is only told.
        enforce: bool,
        /// Who may call; anybody when it is not given.
        allow: Option<Addresses>,
        /// Who may not, whatever is allowed.
        deny: Addresses,
    },
    /// `add-headers`: adds headers, names in lower case.
    AddHeaders(Vec<(String, Template)>),
    /// `remove-headers`: removes all headers of these names, in lower case.
    RemoveHeaders(Vec<String>),
    /// `custom-response`: answers so.
    CustomResponse {
        /// From 200 to 599.
        status: u16,
        /// Its headers, names in lower case.
        headers: Vec<(String, Template)>,
        /// Its body.
        body: Template,
    },
    /// `set-vars`: sets `vars`, one after another.
    SetVars(Vec<(String, Template)>),
    /// `log`: tells this with what is told of the request.
    Log(Vec<(String, Template)>),
}

impl Action {
    /// Returns whether `restrict-ips` with these lists lets an address pass.
    pub fn permits(allow: Option<&Addresses>, deny: &Addresses, address: IpAddr) -> bool {
        allow.is_none_or(|allow| allow.contains(address)) && !deny.contains(address)
    }
}

const CONNECT: Phase = Phase::TcpConnect;
const REQUEST: Phase = Phase::HttpRequest;
const RESPONSE: Phase = Phase::HttpResponse;

/// The types that are built, and in which phases they are available.
const TYPES: &[(&str, &[Phase])] = &[
    ("deny", &[CONNECT, REQUEST]),
    ("close-connection", &[CONNECT, REQUEST]),
    ("restrict-ips", &[CONNECT, REQUEST, RESPONSE]),
    ("add-headers", &[REQUEST, RESPONSE]),
    ("remove-headers", &[REQUEST, RESPONSE]),
    ("custom-response", &[REQUEST, RESPONSE]),
    ("set-vars", &[CONNECT, REQUEST, RESPONSE]),
    ("log", &[CONNECT, REQUEST, RESPONSE]),
];

/// Types of that form that are not built.
const OTHERS: &[&str] = &[
    "basic-auth",
    "circuit-breaker",
    "compress-response",
    "forward-internal",
    "http-request",
    "jwt-validation",
    "oauth",
    "openid-connect",
    "owasp-crs-request",
    "owasp-crs-response",
    "rate-limit",
    "redirect",
    "request-body-find-replace",
    "response-body-find-replace",
    "saml",
    "sse-find-replace",
    "terminate-tls",
    "url-rewrite",
    "verify-webhook",
];

/// Reads an action; nothing when there is a problem.
pub(super) fn action(reader: &mut Reader<'_>, phase: Phase, path: &str, node: &Node) -> Option<Action> {
    let [kind, config] = reader.map(path, node, ["type", "config"], &[])?;
    let Some(kind) = kind else {
        reader.problem(node.place, path, "an action without a type", "Add `type: deny`, or another");
        return None;
    };
    let key = join(path, "type");
    let name = reader.text(&key, kind)?;
    let Some((_, phases)) = TYPES.iter().find(|(known, _)| *known == name) else {
        let names = || TYPES.iter().map(|(known, _)| *known);
        if OTHERS.contains(&name) {
            let remedy = format!("There is `{}`", names().collect::<Vec<_>>().join("`, `"));
            reader.problem(kind.place, &key, format!("`{name}` is not available yet"), remedy);
        } else {
            let remedy = nearest(name, names().chain(OTHERS.iter().copied())).map_or_else(
                || format!("There is `{}`", names().collect::<Vec<_>>().join("`, `")),
                |near| format!("Did you mean `{near}`?"),
            );
            reader.problem(kind.place, &key, "unknown type of action", remedy);
        }
        return None;
    };
    if !phases.contains(&phase) {
        let names: Vec<_> = phases.iter().map(|phase| phase.name()).collect();
        let what = format!("`{name}` is not available in {}", phase.name());
        reader.problem(kind.place, &key, what, format!("Move it to {}", names.join(" or ")));
        return None;
    }
    let empty = Node { place: node.place, value: Value::Map(Vec::new()) };
    let config = Config {
        phase,
        path: join(path, "config"),
        node: config.filter(|node| node.value != Value::Null).unwrap_or(&empty),
    };
    match name {
        "deny" => config.deny(reader),
        "close-connection" => reader.map(&config.path, config.node, [], &[]).map(|[]| Action::CloseConnection),
        "restrict-ips" => config.restrict_ips(reader),
        "add-headers" => config.add_headers(reader),
        "remove-headers" => config.remove_headers(reader),
        "custom-response" => config.custom_response(reader),
        "set-vars" => config.set_vars(reader),
        _ => config.log(reader),
    }
}

/// The configuration of an action, and where it is.
struct Config<'n> {
    phase: Phase,
    path: String,
    node: &'n Node,
}

impl<'n> Config<'n> {
    fn map<const N: usize>(&self, reader: &mut Reader<'_>, known: [&str; N]) -> Option<[Option<&'n Node>; N]> {
        reader.map(&self.path, self.node, known, &[])
    }

    fn key(&self, key: &str) -> String {
        join(&self.path, key)
    }

    fn missing(&self, reader: &mut Reader<'_>, key: &str) {
        reader.problem(self.node.place, &self.path, format!("no `{key}`"), "Add it");
    }

    fn deny(&self, reader: &mut Reader<'_>) -> Option<Action> {
        let [status] = self.map(reader, ["status_code"])?;
        let status = status.map_or(Some(403), |node| self.status(reader, node, 400))?;
        Some(Action::Deny { status })
    }

    fn status(&self, reader: &mut Reader<'_>, node: &Node, least: u16) -> Option<u16> {
        let key = self.key("status_code");
        let number = reader.int(&key, node)?;
        let status = u16::try_from(number).ok().filter(|status| (least..600).contains(status));
        if status.is_none() {
            reader.problem(
                node.place,
                &key,
                format!("{number} is no such status"),
                format!("Write one from {least} to 599"),
            );
        }
        status
    }

    fn restrict_ips(&self, reader: &mut Reader<'_>) -> Option<Action> {
        let [enforce, allow, deny, policies] = self.map(reader, ["enforce", "allow", "deny", "ip_policies"])?;
        if let Some(policies) = policies {
            let remedy = "List the networks under `allow` and `deny`";
            reader.problem(policies.place, &self.key("ip_policies"), "not available yet", remedy);
        }
        if allow.is_none() && deny.is_none() {
            reader.problem(self.node.place, &self.path, "neither `allow` nor `deny`", "Add one of them");
            return None;
        }
        let enforce = enforce.map_or(Some(true), |node| reader.truth(&self.key("enforce"), node));
        let allow = allow.map(|node| self.networks(reader, "allow", node));
        let deny = deny.map_or_else(|| Some(Addresses::default()), |node| self.networks(reader, "deny", node));
        // A list that is wrong is not one that was not given: without `allow`, anybody may call.
        let allow = match allow {
            Some(None) => return None,
            Some(given) => given,
            None => None,
        };
        Some(Action::RestrictIps { enforce: enforce?, allow, deny: deny? })
    }

    fn networks(&self, reader: &mut Reader<'_>, key: &str, node: &Node) -> Option<Addresses> {
        let path = self.key(key);
        let Value::List(_) = node.value else {
            reader.list(&path, Some(node), MAX_NETWORKS);
            return None;
        };
        let nodes = reader.list(&path, Some(node), MAX_NETWORKS);
        let mut entries = Vec::with_capacity(nodes.len());
        let mut whole = true;
        for (at, node) in nodes.iter().enumerate() {
            let path = format!("{path}[{at}]");
            let Some(text) = reader.text(&path, node) else {
                whole = false;
                continue;
            };
            if let Err(bad) = Addresses::parse(&[text]) {
                reader.problem(node.place, &path, bad.to_string(), "Correct it");
                whole = false;
            }
            entries.push(text);
        }
        Addresses::parse(&entries).ok().filter(|_| whole)
    }

    fn add_headers(&self, reader: &mut Reader<'_>) -> Option<Action> {
        let [headers] = self.map(reader, ["headers"])?;
        let Some(headers) = headers else {
            self.missing(reader, "headers");
            return None;
        };
        self.headers(reader, headers).map(Action::AddHeaders)
    }

    fn headers(&self, reader: &mut Reader<'_>, node: &Node) -> Option<Vec<(String, Template)>> {
        let path = self.key("headers");
        let named = self.named(reader, &path, node)?;
        let mut headers = Vec::new();
        for (name, place, template) in named {
            let key = join(&path, name);
            if !is_token(name) {
                reader.problem(place, &key, "no name of a header", "Write it as in `x-api-key`");
            } else if template.has_control() {
                reader.problem(place, &key, "a control character in a header", "Write it on one line");
            } else {
                headers.push((name.to_ascii_lowercase(), template));
            }
        }
        Some(headers)
    }

    fn remove_headers(&self, reader: &mut Reader<'_>) -> Option<Action> {
        let [headers] = self.map(reader, ["headers"])?;
        let Some(node) = headers else {
            self.missing(reader, "headers");
            return None;
        };
        let path = self.key("headers");
        let mut names = Vec::new();
        for (at, node) in reader.list(&path, Some(node), MAX_ENTRIES).iter().enumerate() {
            let path = format!("{path}[{at}]");
            match reader.text(&path, node) {
                Some(name) if is_token(name) => names.push(name.to_ascii_lowercase()),
                Some(_) => reader.problem(node.place, &path, "no name of a header", "Write it as in `x-api-key`"),
                None => {}
            }
        }
        Some(Action::RemoveHeaders(names))
    }

    fn custom_response(&self, reader: &mut Reader<'_>) -> Option<Action> {
        let [status, headers, body] = self.map(reader, ["status_code", "headers", "body"])?;
        if status.is_none() {
            self.missing(reader, "status_code");
        }
        let status = status.and_then(|node| self.status(reader, node, 200));
        let headers = headers.map_or_else(|| Some(Vec::new()), |node| self.headers(reader, node));
        let body =
            body.map_or_else(|| Some(Template::default()), |node| self.template(reader, &self.key("body"), node));
        Some(Action::CustomResponse { status: status?, headers: headers?, body: body? })
    }

    fn set_vars(&self, reader: &mut Reader<'_>) -> Option<Action> {
        let [vars] = self.map(reader, ["vars"])?;
        if vars.is_none() {
            self.missing(reader, "vars");
        }
        let path = self.key("vars");
        let mut set = Vec::new();
        for (at, node) in reader.list(&path, vars, MAX_ENTRIES).iter().enumerate() {
            let named = self.named(reader, &format!("{path}[{at}]"), node).unwrap_or_default();
            set.extend(named.into_iter().map(|(name, _, template)| (name.into(), template)));
        }
        Some(Action::SetVars(set))
    }

    fn log(&self, reader: &mut Reader<'_>) -> Option<Action> {
        let [metadata] = self.map(reader, ["metadata"])?;
        let Some(metadata) = metadata else {
            self.missing(reader, "metadata");
            return None;
        };
        let named = self.named(reader, &self.key("metadata"), metadata)?;
        Some(Action::Log(named.into_iter().map(|(name, _, template)| (name.into(), template)).collect()))
    }

    /// Reads a map of names to templates.
    fn named(&self, reader: &mut Reader<'_>, path: &str, node: &'n Node) -> Option<Vec<(&'n str, Place, Template)>> {
        let entries = reader.entries(path, node)?;
        if entries.is_empty() || entries.len() > MAX_ENTRIES {
            let what = format!("{} entries", entries.len());
            reader.problem(node.place, path, what, format!("Write from 1 to {MAX_ENTRIES}"));
            return None;
        }
        let mut named = Vec::new();
        for (name, place, node) in entries {
            let template = self.template(reader, &join(path, name), node);
            named.extend(template.map(|template| (&**name, *place, template)));
        }
        Some(named)
    }

    fn template(&self, reader: &mut Reader<'_>, path: &str, node: &Node) -> Option<Template> {
        let text = reader.text(path, node)?;
        if reader.is_full() {
            return None;
        }
        Template::parse(self.phase.environment(), text)
            .map_err(|(begin, error)| reader.refused(node.place, path, text, begin, error))
            .ok()
            .filter(|template| reader.has_room(node.place, path, template.patterns()))
    }
}

fn is_token(name: &str) -> bool {
    let token = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
    !name.is_empty() && name.bytes().all(token)
}
