//! `restrict-ips`: serves only some callers, by the address of the connection; never by what a header says.

use core::net::IpAddr;

use super::{Action, CONNECT, Config, REQUEST, RESPONSE, Type};
use crate::{
    addresses::{Addresses, MAX_ENTRIES as MAX_NETWORKS},
    cel::Value,
    document::Node,
    engine::{Effect, Failure, Outcome, Refusal, Turn, Why},
};

/// Serves a caller that is allowed and not denied.
#[derive(Debug)]
pub struct RestrictIps {
    /// Whether others are refused; else it is only told.
    pub enforce: bool,
    /// Who may call; nobody when it is empty.
    pub allow: Addresses,
    /// Who may not, whatever is allowed.
    pub deny: Addresses,
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
    let deny = deny.map_or_else(|| Some(Addresses::default()), |node| networks(config, "deny", node));
    Some(Action::RestrictIps(RestrictIps { enforce: enforce?, allow: allow?, deny: deny? }))
}

fn networks<'n>(config: &mut Config<'_, '_, 'n>, key: &str, node: &'n Node) -> Option<Addresses> {
    let nodes = config.list(key, node, MAX_NETWORKS)?;
    let mut entries = Vec::with_capacity(nodes.len());
    let mut whole = true;
    for (key, node) in nodes {
        let Some(text) = config.text(&key, node) else {
            whole = false;
            continue;
        };
        if let Err(bad) = Addresses::parse(&[text]) {
            config.problem(&key, node, bad.to_string(), "Correct it");
            whole = false;
        }
        entries.push(text);
    }
    Addresses::parse(&entries).ok().filter(|_| whole)
}

impl RestrictIps {
    /// Returns whether an address may pass.
    pub fn permits(&self, address: IpAddr) -> bool {
        self.allow.contains(address) && !self.deny.contains(address)
    }

    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let client = turn.facts.connection.client();
        let passes = self.permits(client);
        if turn.tells() {
            let denied = self.deny.network(client);
            let network = denied.or_else(|| self.allow.network(client)).unwrap_or_default();
            let action = Value::from(if passes { "allow" } else { "deny" });
            turn.tell("restrict_ips", [("action", action), ("matched_cidr", Value::from(network))])?;
        }
        Ok(match (passes, self.enforce) {
            (false, true) => Effect::End(Outcome::Refuse(Refusal::new(403, Why::Restricted))),
            (true, _) | (false, false) => Effect::Next,
        })
    }
}
