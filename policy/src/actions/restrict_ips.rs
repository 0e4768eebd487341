//! `restrict-ips`: serves only some callers, by the address of the connection; never by what a header says.

use super::{Action, CONNECT, Config, REQUEST, RESPONSE, Type};
use crate::{
    addresses::{Addresses, MAX_ENTRIES as MAX_NETWORKS},
    cel::Value,
    document::{MAX_ENTRIES, Node, Template},
    engine::{Effect, Failure, Outcome, Refusal, Turn, Why},
};

/// Serves a caller that is allowed and not denied.
#[derive(Debug)]
pub struct RestrictIps {
    /// Whether others are refused; else it is only told.
    pub enforce: bool,
    /// Who may call; nobody when it is empty.
    allow: Networks,
    /// Who may not, whatever is allowed.
    deny: Networks,
}

/// Networks: those that are written out, and those that expressions name.
#[derive(Debug, Default)]
struct Networks {
    /// Read once.
    constant: Addresses,
    /// Read each time.
    rendered: Vec<Template>,
}

pub(super) const TYPE: Type = Type { name: "restrict-ips", phases: &[CONNECT, REQUEST, RESPONSE], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [enforce, allow, deny, policies] = config.map(["enforce", "allow", "deny", "ip_policies"])?;
    if let Some(policies) = policies {
        let remedy = "List the networks under `allow` and `deny`";
        config.problem("ip_policies", policies, "not available: there is no store of such policies", remedy);
    }
    let enforce = config.enforce(enforce);
    let allow = match allow {
        Some(node) => networks(config, "allow", node),
        // Who is not allowed may not call, so that nobody could: what is meant is somebody.
        None => {
            config.whole(
                "no `allow`, so that nobody may call",
                "Add `allow: [0.0.0.0/0, \"::/0\"]` for all but who is denied",
            );
            None
        }
    };
    let deny = deny.map_or_else(|| Some(Networks::default()), |node| networks(config, "deny", node));
    Some(Action::RestrictIps(RestrictIps { enforce: enforce?, allow: allow?, deny: deny? }))
}

fn networks<'n>(config: &mut Config<'_, '_, 'n>, key: &str, node: &'n Node) -> Option<Networks> {
    let nodes = config.list(key, node, MAX_NETWORKS)?;
    let (mut entries, mut rendered) = (Vec::with_capacity(nodes.len()), Vec::new());
    let mut whole = true;
    for (key, node) in nodes {
        let Some(text) = config.text(&key, node) else {
            whole = false;
            continue;
        };
        if text.contains("${") {
            match config.template(&key, node) {
                Some(template) => rendered.push(template),
                None => whole = false,
            }
            continue;
        }
        if let Err(bad) = Addresses::parse(&[text]) {
            config.problem(&key, node, bad.to_string(), "Correct it");
            whole = false;
        }
        entries.push(text);
    }
    if rendered.len() > MAX_ENTRIES {
        let what = format!("{} networks with expressions in them", rendered.len());
        config.problem(key, node, what, format!("Write up to {MAX_ENTRIES}, and the others out"));
        return None;
    }
    let constant = Addresses::parse(&entries).ok().filter(|_| whole)?;
    Some(Networks { constant, rendered })
}

impl Networks {
    /// Returns the networks that expressions name. One that is none refuses, as it would where it is written out.
    fn made(&self, turn: &mut Turn<'_, '_>) -> Result<Addresses, Failure> {
        if self.rendered.is_empty() {
            return Ok(Addresses::default());
        }
        let entries = self.rendered.iter().map(|template| turn.render(template)).collect::<Result<Vec<_>, _>>()?;
        Addresses::parse(&entries).map_err(|_| Failure::Network)
    }
}

impl RestrictIps {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let client = turn.facts.connection.client();
        let (allow, deny) = (self.allow.made(turn)?, self.deny.made(turn)?);
        let [allow, deny] = [[&self.allow.constant, &allow], [&self.deny.constant, &deny]];
        let has = |networks: &[&Addresses]| networks.iter().any(|networks| networks.contains(client));
        let passes = has(&allow) && !has(&deny);
        if turn.tells() {
            let network = deny.into_iter().chain(allow).find_map(|networks| networks.network(client));
            let action = Value::from(if passes { "allow" } else { "deny" });
            let network = Value::from(network.unwrap_or_default());
            turn.tell("restrict_ips", [("action", action), ("matched_cidr", network)])?;
        }
        Ok(match (passes, self.enforce) {
            (false, true) => Effect::End(Outcome::Refuse(Refusal::new(403, Why::Restricted))),
            (true, _) | (false, false) => Effect::Next,
        })
    }
}
