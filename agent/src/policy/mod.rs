//! The customer's own policy: what this agent does at most, whatever its configuration and the network want.
//!
//! Its file is the customer's, not the vendor's; once there is one, all is refused that it does not allow. What it decides is a
//! function of facts alone ([`Policy::judge`]): the configuration is held against it and never laid over it.

mod audited;
mod authority;
mod bell;
mod clock;
mod file;
mod files;
mod follow;
mod freeze;
mod guard;
mod hours;
mod judge;
mod keep;
mod mark;
mod meter;
mod pattern;
mod read;
mod seen;
mod ticket;
mod totals;
mod watch;

use core::fmt;

use crate::{
    audit::Settings,
    config::{ConfigFault, EndpointConfig, Kind, RemoteManagement},
};

pub use authority::AuthorityPattern;
pub use file::{Found, find, load};
pub use files::{Files, Reading};
pub use freeze::Freezer;
pub use guard::Guard;
pub use hours::Window;
pub use judge::{Facts, Reason, Refusal, Usage, Verdict};
pub use pattern::{EndpointPattern, HostPattern, Ports, Range};
pub use watch::{Watch, Watching};

pub(crate) use file::is_settled;
pub(crate) use guard::Tie;
pub(crate) use keep::folder as audit_folder;
pub(crate) use ticket::{Moved, Target, Ticket, Way};
#[cfg(unix)]
pub(crate) use watch::spawn;

/// What the customer allows. Without a rule nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// `expires`, `hours` and limits that hold for everything together.
    pub bounds: Bounds,
    /// `allow`: what may be reached; one that fits is enough.
    pub rules: Vec<Rule>,
    /// `commands`: what the vendor may ask for, if the configuration says so too.
    pub commands: Commands,
    /// `capture`: whether what is carried may be recorded; no.
    pub capture: bool,
    /// `audit`: what is written down of what this agent does, and what if that fails.
    pub audit: Settings,
    /// `acme`: whom certificates may be ordered from, if the configuration says so too; nobody.
    pub authorities: Vec<AuthorityPattern>,
    /// `files`: which files the configuration may name to be read.
    pub files: Files,
    /// `updates`: whether anything happens about newer versions that nobody asked for.
    pub updates: Updates,
}

/// One item of `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// `name`: for the log; unique.
    pub name: String,
    /// `endpoints`: where callers may come in.
    pub endpoints: Vec<EndpointPattern>,
    /// `hosts`: the upstreams, as the configuration writes them.
    pub hosts: Vec<HostPattern>,
    /// `addresses`: where they may turn out to be when they are dialed.
    pub addresses: Vec<Range>,
    /// `ports`.
    pub ports: Vec<Ports>,
    /// `protocols`: what is spoken to them.
    pub protocols: Vec<Protocol>,
    /// `expires`, `hours` and limits.
    pub bounds: Bounds,
}

/// When, and how much.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// `expires`: nothing from this time on, in seconds since 1970.
    pub expires: Option<i64>,
    /// `hours`: one of them; any time without.
    pub hours: Vec<Window>,
    /// How much at once, a second and in all.
    pub limits: Limits,
}

/// How much at once, a second and in all; no limit where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// `max_connections`.
    pub connections: Option<u64>,
    /// `connections_per_second`: new ones.
    pub connections_per_second: Option<u64>,
    /// `bytes_per_second`, of both directions together.
    pub bytes_per_second: Option<u64>,
    /// `total_bytes`, of both directions together.
    pub total_bytes: Option<u64>,
}

/// What the vendor may ask for (V50).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Commands {
    /// `stop`.
    pub stop: bool,
    /// `restart`.
    pub restart: bool,
    /// `update`.
    pub update: bool,
    /// `configuration`: to have endpoints beside those of the configuration.
    pub configuration: bool,
}

/// What happens about newer versions of this program without anybody asking (V50).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Updates {
    /// `check`: they are looked for at the start, if the configuration says so too.
    pub check: bool,
    /// `install`: one that is found is installed.
    pub install: bool,
}

impl Commands {
    /// Returns what both allow.
    #[must_use]
    pub const fn intersect(self, other: RemoteManagement) -> RemoteManagement {
        let Self { stop, restart, update, configuration } = self;
        RemoteManagement { stop, restart, update, configuration }.intersect(other)
    }
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP without TLS.
    Http,
    /// HTTP in TLS.
    Https,
    /// Octets that the agent knows nothing of.
    Tcp,
    /// TLS: the agent's own around octets, or the caller's that is passed on.
    Tls,
}

impl Protocol {
    /// Every one, in the order of [`Self::word`].
    pub const ALL: [Self; 4] = [Self::Http, Self::Https, Self::Tcp, Self::Tls];

    /// Returns the word for it: `http`, `https`, `tcp`, `tls`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.word() == text)
    }

    /// Returns what is spoken to the upstream of an endpoint.
    pub fn of(endpoint: &EndpointConfig) -> Self {
        match (endpoint.kind, endpoint.upstream.tls.is_some()) {
            (Kind::Http, false) => Self::Http,
            (Kind::Http, true) => Self::Https,
            (Kind::Tcp, false) => Self::Tcp,
            (Kind::Tcp, true) | (Kind::Tls, _) => Self::Tls,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Policy {
    /// Reads the text of a policy; `file` is named by faults.
    ///
    /// # Errors
    /// Every fault, in the order of lines. There is no policy that is valid in part.
    pub fn parse(file: &std::path::Path, text: &str) -> Result<Self, Vec<ConfigFault>> {
        read::policy(file, text)
    }

    /// Returns whether what is carried may be recorded at a time, in seconds since 1970.
    pub fn captures(&self, now: i64) -> bool {
        self.capture && self.bounds.is_valid(now)
    }

    /// Returns why nothing is done under the policy at a time, in seconds since 1970: it has expired, or it is none of its hours.
    pub fn rests(&self, now: i64) -> Option<String> {
        let reason = match (self.bounds.is_valid(now), self.bounds.is_open(now)) {
            (false, _) => Reason::Expired,
            (true, false) => Reason::Hours,
            (true, true) => return None,
        };
        Some(format!("the policy: {}", judge::bounds_detail(reason, &self.bounds, now)))
    }

    /// Decides whether the agent may speak to a certificate authority at a time, in seconds since 1970.
    ///
    /// # Errors
    /// Why not.
    pub fn orders(&self, host: &str, port: u16, now: i64) -> Result<(), Refusal> {
        authority::judge(self, host, port, now)
    }

    /// Decides whether the configuration may name a file to be read.
    ///
    /// # Errors
    /// Why not.
    pub fn reads(&self, reading: &Reading<'_>) -> Result<(), Refusal> {
        files::judge(self, reading)
    }

    /// Decides whether an endpoint of the configuration may name the files that it names, as they are on this machine.
    ///
    /// # Errors
    /// The first that it may not, and why.
    pub(crate) fn names(&self, endpoint: &EndpointConfig) -> Result<(), Refusal> {
        let refused = endpoint.named.iter().find_map(|named| {
            let refusal = named.file.refusal(self)?;
            Some(Refusal { detail: format!("{}: {}", named.key, refusal.detail), ..refusal })
        });
        refused.map_or(Ok(()), Err)
    }

    /// Decides. The same facts have the same verdict: nothing is asked, remembered or counted here.
    pub fn judge(&self, facts: &Facts<'_>) -> Verdict {
        judge::judge(self, facts)
    }
}

impl<'a> Facts<'a> {
    /// Returns what an endpoint of the configuration is before anybody has come.
    pub fn of(endpoint: &'a EndpointConfig, now: i64) -> Self {
        Facts {
            endpoint: &endpoint.url,
            upstream: &endpoint.upstream.address,
            protocol: Protocol::of(endpoint),
            address: None,
            now,
            latest: now,
            whole: Usage::default(),
            rules: &[],
        }
    }
}

#[cfg(test)]
mod tests;
