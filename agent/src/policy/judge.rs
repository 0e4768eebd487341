//! From facts to a verdict.

use core::{fmt, net::IpAddr};

use adit_core::Code;

use super::{Bounds, Limits, Policy, Protocol, Rule};
use crate::{config::Address, errors::Fault};

/// What is known of a connection, or of an endpoint before there is one.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The endpoint's URL: as bound, or as asked for.
    pub endpoint: &'a str,
    /// Where the configuration says that it leads.
    pub upstream: &'a Address,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The address that is dialed; nothing while the name has not been resolved.
    pub address: Option<IpAddr>,
    /// The time, in seconds since 1970.
    pub now: i64,
    /// The latest time that was ever seen under this policy, in seconds since 1970: what has expired by it stays so. An earlier one than
    /// `now` changes nothing.
    pub latest: i64,
    /// What goes on under the policy as a whole, without this connection.
    pub whole: Usage,
    /// What goes on under each rule, without this connection; nothing under those beyond the end.
    pub rules: &'a [Usage],
}

/// What goes on under a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Connections that are open.
    pub connections: u64,
    /// Octets that were carried.
    pub bytes: u64,
    /// Whether one more connection would be more than the rule has a second.
    pub hurried: bool,
}

/// What a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Rule number `rule` allows it.
    Allowed {
        /// From zero, in the order of the file.
        rule: usize,
    },
    /// Nothing allows it.
    Refused(Refusal),
}

/// Why something is refused, by the rule that comes nearest to allowing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What does not fit.
    pub reason: Reason,
    /// The rule that comes nearest; none where no rule is for the endpoint, or the policy as a whole refuses.
    pub rule: Option<String>,
    /// What was seen, and what would fit. For the customer: it names what is inside.
    pub detail: String,
}

/// What does not fit, in the order in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The customer has closed everything.
    Frozen,
    /// No rule is for the endpoint.
    Endpoint,
    /// The configuration names a file that it may not.
    File,
    /// No rule for the endpoint has the upstream's host.
    Host,
    /// The port.
    Port,
    /// The protocol.
    Protocol,
    /// The name has another address than the rule allows.
    Address,
    /// The time has come at which the rule, or the policy, ends.
    Expired,
    /// It is none of the hours.
    Hours,
    /// So many octets were carried as there may be in all.
    Bytes,
    /// So many connections are open as there may be.
    Connections,
    /// More connections come a second than may.
    Rate,
    /// Nothing can be written to the audit log.
    Audit,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Frozen,
        Self::Endpoint,
        Self::File,
        Self::Host,
        Self::Port,
        Self::Protocol,
        Self::Address,
        Self::Expired,
        Self::Hours,
        Self::Bytes,
        Self::Connections,
        Self::Rate,
        Self::Audit,
    ];

    /// Returns the word for the log and for programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Endpoint => "endpoint",
            Self::File => "file",
            Self::Host => "host",
            Self::Port => "port",
            Self::Protocol => "protocol",
            Self::Address => "address",
            Self::Expired => "expired",
            Self::Hours => "hours",
            Self::Bytes => "bytes",
            Self::Connections => "connections",
            Self::Rate => "rate",
            Self::Audit => "audit",
        }
    }

    /// Returns the code that tells the vendor: what another agent may have room for is LIMIT (CODE-005), all else POLICY.
    pub const fn code(self) -> Code {
        match self {
            Self::Connections | Self::Rate | Self::Audit => Code::LIMIT,
            Self::Frozen
            | Self::Endpoint
            | Self::File
            | Self::Host
            | Self::Port
            | Self::Protocol
            | Self::Address
            | Self::Expired
            | Self::Hours
            | Self::Bytes => Code::POLICY, // spec: CODE-005
        }
    }
}

impl Refusal {
    /// Returns whether the endpoint is not even asked for. Whatever else is refused is told to each caller.
    pub(crate) fn bars(&self) -> bool {
        matches!(self.reason, Reason::Endpoint | Reason::File)
    }

    /// Returns what it is by the codes of the agent.
    pub(crate) fn fault(&self) -> Fault {
        if self.reason == Reason::File { Fault::FileRefused } else { Fault::PolicyRefused }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(rule) => write!(f, "rule `{rule}`: ")?,
            None if matches!(self.reason, Reason::Endpoint | Reason::File | Reason::Frozen | Reason::Audit) => {}
            None => f.write_str("the policy as a whole: ")?,
        }
        f.write_str(&self.detail)
    }
}

pub(super) fn judge(policy: &Policy, facts: &Facts<'_>) -> Verdict {
    if let Err(reason) = within(&policy.bounds, facts, facts.whole) {
        let detail = bounds_detail(reason, &policy.bounds, facts.now);
        return Verdict::Refused(Refusal { reason, rule: None, detail });
    }
    let mut nearest: Option<(Reason, &Rule)> = None;
    for (number, rule) in policy.rules.iter().enumerate() {
        match rule.judge(facts, facts.rules.get(number).copied().unwrap_or_default()) {
            Ok(()) => return Verdict::Allowed { rule: number },
            Err(reason) if nearest.is_none_or(|(other, _)| other < reason) => nearest = Some((reason, rule)),
            Err(_) => {}
        }
    }
    Verdict::Refused(match nearest {
        None | Some((Reason::Endpoint, _)) => {
            let detail = format!("no rule is for the endpoint {}", facts.endpoint.escape_debug());
            Refusal { reason: Reason::Endpoint, rule: None, detail }
        }
        Some((reason, rule)) => Refusal { reason, rule: Some(rule.name.clone()), detail: rule.detail(reason, facts) },
    })
}

impl Rule {
    fn judge(&self, facts: &Facts<'_>, usage: Usage) -> Result<(), Reason> {
        let must = |fits: bool, reason| if fits { Ok(()) } else { Err(reason) };
        must(self.endpoints.iter().any(|pattern| pattern.covers(facts.endpoint)), Reason::Endpoint)?;
        let hosts: Vec<_> = self.hosts.iter().filter(|pattern| pattern.covers(facts.upstream)).collect();
        must(!hosts.is_empty(), Reason::Host)?;
        if let Address::Tcp { port, .. } = facts.upstream {
            must(self.ports.iter().any(|ports| ports.have(*port)), Reason::Port)?;
        }
        must(self.protocols.contains(&facts.protocol), Reason::Protocol)?;
        if let Some(address) = facts.address {
            let listed = self.addresses.iter().any(|range| range.has(address));
            must(listed || hosts.iter().any(|host| host.means(address)), Reason::Address)?;
        }
        within(&self.bounds, facts, usage)
    }

    fn detail(&self, reason: Reason, facts: &Facts<'_>) -> String {
        let listed = |items: Vec<String>| items.join(", ");
        match reason {
            Reason::Host => {
                let hosts = listed(self.hosts.iter().map(ToString::to_string).collect());
                format!("the upstream {} is none of {hosts}", shown(facts.upstream))
            }
            Reason::Port => {
                let ports = listed(self.ports.iter().map(ToString::to_string).collect());
                format!("the port of {} is none of {ports}", shown(facts.upstream))
            }
            Reason::Protocol => {
                let protocols = listed(self.protocols.iter().map(ToString::to_string).collect());
                format!("{} is spoken to {}, not {protocols}", facts.protocol, shown(facts.upstream))
            }
            Reason::Address => {
                let seen = facts.address.map(|address| address.to_string()).unwrap_or_default();
                let ranges = listed(self.addresses.iter().map(ToString::to_string).collect());
                let ranges = if ranges.is_empty() { "an address of its own hosts".to_owned() } else { ranges };
                format!("{} is at {seen}, which is not in {ranges}", shown(facts.upstream))
            }
            Reason::Frozen
            | Reason::Endpoint
            | Reason::File
            | Reason::Expired
            | Reason::Hours
            | Reason::Bytes
            | Reason::Connections
            | Reason::Rate
            | Reason::Audit => bounds_detail(reason, &self.bounds, facts.now),
        }
    }
}

/// Returns what of the bounds does not hold.
fn within(bounds: &Bounds, facts: &Facts<'_>, usage: Usage) -> Result<(), Reason> {
    if !bounds.is_valid(facts.now.max(facts.latest)) {
        return Err(Reason::Expired);
    }
    if !bounds.is_open(facts.now) {
        return Err(Reason::Hours);
    }
    let reached = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| limit <= used);
    let Limits { connections, total_bytes, .. } = bounds.limits;
    if reached(total_bytes, usage.bytes) {
        return Err(Reason::Bytes);
    }
    if reached(connections, usage.connections) {
        return Err(Reason::Connections);
    }
    if usage.hurried { Err(Reason::Rate) } else { Ok(()) }
}

impl Bounds {
    /// Returns whether they have not expired.
    pub(super) fn is_valid(&self, now: i64) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }

    /// Returns whether it is one of the hours.
    pub(super) fn is_open(&self, now: i64) -> bool {
        self.hours.is_empty() || self.hours.iter().any(|window| window.holds(now))
    }
}

pub(super) fn bounds_detail(reason: Reason, bounds: &Bounds, now: i64) -> String {
    let number = |limit: Option<u64>| limit.unwrap_or_default();
    match reason {
        Reason::Expired => {
            let expires = bounds.expires.unwrap_or_default();
            let ago = if now < expires { ", by a time that the clock has shown before" } else { "" };
            format!("expired at {}{ago}", crate::clock::utc(expires))
        }
        Reason::Hours => {
            let hours: Vec<_> = bounds.hours.iter().map(ToString::to_string).collect();
            format!("it is {}, and allowed are {}", crate::clock::utc(now), hours.join(", "))
        }
        Reason::Bytes => format!("total_bytes, {}, are used up", number(bounds.limits.total_bytes)),
        Reason::Connections => format!("max_connections, {}, are open", number(bounds.limits.connections)),
        Reason::Rate => {
            format!("more than connections_per_second, {}", number(bounds.limits.connections_per_second))
        }
        Reason::Frozen
        | Reason::Endpoint
        | Reason::File
        | Reason::Host
        | Reason::Port
        | Reason::Protocol
        | Reason::Address
        | Reason::Audit => reason.word().to_owned(),
    }
}

fn shown(upstream: &Address) -> String {
    upstream.to_string().escape_debug().to_string()
}
