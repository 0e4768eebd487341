//! The agent's configuration: YAML files, `ADIT_*` in the environment before them, flags before both.
//!
//! Reading is pure; every fault is found in one go. Only files that were named are read, never one found by searching (V46).

mod acme;
mod edit;
mod file;
mod load;
mod local;
mod merge;
mod place;
mod reach;
mod read;
mod releases;
mod remote;
mod route;
pub(crate) mod section;
mod termination;
mod upstream;
mod url;
pub(crate) mod values;
pub(crate) mod yaml;

use core::{net::SocketAddr, time::Duration};
use std::{path::PathBuf, sync::Arc};

use adit_core::{Heartbeat, Secret, TlsEnd, UpstreamProtocol};
use adit_tokio::{Proxy, Target};

use crate::policy::Guard;

pub use acme::{AcmeConfig, ExternalAccount, ExternalKey};
pub use adit_tls::{ClientMode, KeyPrint, TlsVersion};
pub use edit::{EditError, set_authtoken};
pub use file::NamedFile;
pub use load::{default_path, token};
pub use releases::{Channel, Releases};
pub use section::{ConfigFault, Overrides};
pub use upstream::{Address, ProxyVersion};
pub use values::Kind;

pub(crate) use acme::{VARIABLE as EAB_VARIABLE, place};
pub(crate) use edit::{replace, replace_as, sync_folder, write_out};
pub(crate) use file::{Leave, Named};
pub(crate) use load::{Text, fault, read_private, read_public};
pub(crate) use place::locate;
pub(crate) use reach::Reach;
pub(crate) use read::endpoint_without_file;
pub(crate) use remote::{Sent, document, told};
pub(crate) use section::nearest;
pub(crate) use upstream::{Cover, is_forbidden};
pub(crate) use url::{ListUrl, ReleaseUrl};
pub(crate) use values::log_filter;

/// Everything that the agent is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// `agent`: how to reach the network, and how to behave.
    pub agent: AgentConfig,
    /// `endpoints`: what to bind, and where it leads.
    pub endpoints: Vec<EndpointConfig>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What else the section `agent` names to be read.
    pub(crate) named: Vec<Named>,
    leave: Arc<Leave>,
}

impl Config {
    /// Reads no file that these files name unless the policy of `guard` lets them name it; the first guard stays. What the command
    /// line or the environment names is the customer's word.
    pub fn under(&self, guard: &Arc<Guard>) {
        self.leave.under(guard);
    }

    /// Returns all files that are named, with their keys.
    pub(crate) fn named(&self) -> impl Iterator<Item = &Named> {
        self.named.iter().chain(self.endpoints.iter().flat_map(|endpoint| &endpoint.named))
    }
}

/// The section `agent`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentConfig {
    /// `connect_url`: where the network listens; several are tried in turn.
    pub targets: Vec<Target>,
    /// `server_name`: the name that the network's certificate must have; that of `connect_url` without.
    pub server_name: Option<String>,
    /// `connect_cas`, and `connect_ca_pem` for `trusted`.
    pub roots: Roots,
    /// `dns_resolver_ips`: who is asked for the addresses of the network and its proxy; empty for this machine's resolver.
    pub resolvers: Vec<SocketAddr>,
    /// `proxy_url`, or `HTTPS_PROXY` and the like: through what the network is reached.
    pub proxy: Option<ProxyConfig>,
    /// `network_key`: the keys that the network's certificate must have or be issued with; empty takes any that is trusted.
    pub network_keys: Vec<KeyPrint>,
    /// `crl`, `crl_url` and `crl_refresh`: whether the network's certificate is revoked.
    pub crl: CrlConfig,
    /// `authtoken` or `authtoken_file`.
    pub token: Token,
    /// `heartbeat_interval`, 10 s, and `heartbeat_tolerance`, 15 s.
    pub heartbeat: Heartbeat,
    /// `resume_window`: how long a session waits for its next connection, 30 s; 0s to end it with its connection.
    pub resume_window: Duration,
    /// `sessions`: how many sessions are held at once, 1 to 8, each with a connection of its own; 1.
    pub sessions: u8,
    /// `metadata`: text for the vendor, at most 4,096 octets.
    pub metadata: String,
    /// `log`: where the log goes.
    pub log: LogOutput,
    /// `log_level`: error, warn, info, debug, trace, or a filter such as `info,adit=debug`.
    pub log_level: String,
    /// `log_format`: term on a terminal, logfmt elsewhere.
    pub log_format: Option<LogFormat>,
    /// `remote_management`: what the vendor may ask for.
    pub remote_management: RemoteManagement,
    /// `update`: where new versions of this program are.
    pub update: Option<Releases>,
    /// `max_connections`: how many connections are carried at once, 10,000.
    pub max_connections: usize,
    /// `drain_timeout`: how long open connections may take after a signal, 30 s.
    pub drain_timeout: Duration,
    /// `local`: what programs on this machine may ask the running agent.
    pub local: LocalConfig,
}

/// The section `local` of `agent`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalConfig {
    /// `socket`: a Unix socket; where the agent keeps its state, unless it is said otherwise.
    pub socket: SocketPlace,
    /// `mode` of the socket: 0600, or 0660 for its group.
    pub mode: SocketMode,
    /// `address`: loopback, and TCP, in addition; not without.
    pub address: Option<SocketAddr>,
    /// `token_file`: what who comes over TCP must know; made where there is none.
    pub token_file: Option<NamedFile>,
    /// `capture`: the last requests over HTTP.
    pub capture: CaptureConfig,
}

/// Where the local socket is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SocketPlace {
    /// Where the agent keeps its state.
    #[default]
    Default,
    /// Nowhere.
    Off,
    /// There.
    At(PathBuf),
}

/// Who may speak to the local socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketMode {
    /// The agent's user, and root.
    #[default]
    Owner,
    /// The socket's group as well.
    Group,
}

impl SocketMode {
    /// Returns the bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Group => 0o660,
        }
    }
}

/// The section `capture` of `local`. Nothing is kept unless the customer's own policy allows it as well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CaptureConfig {
    /// `requests`: how many are kept, in memory; none.
    pub requests: usize,
    /// `head`: the longest head that is read, 16 KiB.
    pub head: usize,
    /// `body`: how many octets of a body are kept, 16 KiB.
    pub body: usize,
    /// `redact`: names of fields and parameters whose values are not kept, in addition to those that never are.
    pub redact: Vec<String>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self { requests: 0, head: 16 << 10, body: 16 << 10, redact: Vec::new() }
    }
}

/// One item of `endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointConfig {
    /// `name`: unique among the endpoints.
    pub name: String,
    /// `url`: what to ask the network for.
    pub url: String,
    /// What the endpoint carries.
    pub kind: Kind,
    /// `upstream`.
    pub upstream: UpstreamConfig,
    /// `agent_tls_termination`: TLS of callers ends at the agent; without, where the URL says.
    pub termination: Option<TerminationConfig>,
    /// `pooling_enabled`: whether other agents may bind the endpoint as well; no.
    pub pooling: bool,
    /// `metadata`: text for the vendor, at most 4,096 octets.
    pub metadata: String,
    /// `description`: text for people, at most 1,024 octets.
    pub description: String,
    /// The files that are named.
    pub(crate) named: Vec<Named>,
}

/// The section `upstream` of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamConfig {
    /// `url`: where connections are carried to.
    pub address: Address,
    /// Whom an `https://` or `tls://` upstream must be; `None` for plain ones.
    pub tls: Option<UpstreamTrust>,
    /// Whether `url` says that it speaks HTTP.
    pub is_http: bool,
    /// `protocol`: the HTTP that the network speaks through the tunnel, http1.
    pub protocol: UpstreamProtocol,
    /// `proxy_protocol`: whether a header tells the upstream who calls.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `connect_timeout`: how long connecting may take, 10 s.
    pub connect_timeout: Duration,
}

impl EndpointConfig {
    /// Returns where TLS of callers ends, and so who can read what they send.
    pub fn tls_end(&self) -> TlsEnd {
        if self.termination.is_some() { TlsEnd::Agent } else { TlsEnd::of(&self.url) }
    }
}

/// The section `agent_tls_termination` of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TerminationConfig {
    /// `server_certificate`: PEM, the certificate and those that issued it; `NAME.pem` beside the configuration.
    pub certificate: NamedFile,
    /// `server_private_key`: PEM; `NAME.key` beside the configuration.
    pub key: NamedFile,
    /// `min_version`: 1.2.
    pub min_version: TlsVersion,
    /// `max_version`: 1.3.
    pub max_version: TlsVersion,
    /// `mutual_tls_certificate_authorities` and `mutual_tls_verification_strategy`: without them no certificate is asked for.
    pub clients: Option<ClientCertificates>,
    /// `mutual_tls_crl` and `mutual_tls_crl_issuers`: without them nobody asks whether certificates of callers are revoked.
    pub revocation: Option<RevocationConfig>,
    /// `mutual_tls_identity_headers`: whether upstreams are told in each request who the caller is by its certificate; no.
    pub identity_headers: bool,
    /// The HTTP that callers may agree on, where the upstream speaks HTTP.
    pub http: Option<UpstreamProtocol>,
    /// `acme`: the agent orders the certificate itself. Then certificate and key are in one file in its state folder.
    pub acme: Option<AcmeConfig>,
}

/// What is asked of callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// How much.
    pub mode: ClientMode,
    /// Whom certificates must come from, PEM; [`ClientMode::Verify`] needs it.
    pub authorities: Vec<NamedFile>,
}

/// Who says which certificates of callers are revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationConfig {
    /// `mutual_tls_crl`: files with lists, PEM or DER, at most 16.
    pub lists: Vec<NamedFile>,
    /// `mutual_tls_crl_issuers`: certificates of authorities below those that are named, whose lists are believed too.
    pub issuers: Vec<NamedFile>,
}

impl TerminationConfig {
    /// Returns the files by which certificates of callers are judged.
    pub(crate) fn caller_files(&self) -> impl Iterator<Item = &NamedFile> {
        let authorities = self.clients.iter().flat_map(|clients| &clients.authorities);
        authorities
            .chain(self.revocation.iter().flat_map(|revocation| revocation.lists.iter().chain(&revocation.issuers)))
    }
}

/// The proxy before the network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProxyConfig {
    /// What it is, and what is reached without it (`NO_PROXY`). TLS with it is yet to be prepared.
    pub proxy: Proxy,
    /// `proxy_cas`: whom the certificate of an `https` proxy must be from.
    pub roots: ProxyRoots,
    /// What named it: a key, or a variable.
    pub source: &'static str,
}

impl AgentConfig {
    /// Returns the URL of the proxy that the way to a server outside leads through, without credentials.
    pub(crate) fn proxy_to(&self, host: &str, port: u16) -> Option<String> {
        let proxy = self.proxy.as_ref().map(|found| &found.proxy);
        proxy.filter(|proxy| proxy.carries(host, port)).map(ToString::to_string)
    }
}

/// Whom the certificate of a proxy must be from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyRoots {
    /// `host`: whom this machine trusts.
    Host,
    /// The certificates of a PEM file.
    File(NamedFile),
}

/// Whom the network's certificate must be from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// `trusted`: the vendor's roots, which came with the configuration in `connect_ca_pem`.
    Bundled(String),
    /// `host`: whom this machine trusts.
    Host,
    /// The certificates of a PEM file.
    File(NamedFile),
}

/// How it is found out whether the network's certificate is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrlConfig {
    /// `crl`.
    pub mode: CrlMode,
    /// `crl_url`: where lists are fetched, by plain HTTP; without it, where the certificate says.
    pub url: Option<String>,
    /// `crl_refresh`: after how long lists are looked for again at the latest, 1 h.
    pub refresh: Duration,
}

/// How much is asked about revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlMode {
    /// `require`: there must be a list that says so, always.
    Require,
    /// `prefer-stapled`: what the network brings into the handshake is enough; once a list is known to exist, there must be one.
    PreferStapled,
    /// `off`: nothing. A stolen key of the network is believed until its certificate expires.
    Off,
}

impl CrlMode {
    /// Returns the word of the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Require => "require",
            Self::PreferStapled => "prefer-stapled",
            Self::Off => "off",
        }
    }
}

/// Whom an upstream's certificate must be from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamTrust {
    /// Whom this machine trusts.
    Host,
    /// `ca`: the certificates of a PEM file.
    File(NamedFile),
    /// `insecure`: anybody. Who is on the path reads and changes everything.
    DangerAnybody,
}

/// Where the authtoken is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// Nowhere.
    Missing,
    /// `authtoken` or `ADIT_AUTHTOKEN`.
    Given(Secret),
    /// `authtoken_file`.
    File(NamedFile),
    /// `authtoken_file: -`.
    StandardInput,
}

/// Where the log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error, unless a terminal shows the state.
    #[default]
    Auto,
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Term,
    /// `key=value`.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// What the vendor may ask this agent for; nothing, unless the customer says so (V50).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteManagement {
    /// `stop`: to end.
    pub stop: bool,
    /// `restart`: to make its session anew.
    pub restart: bool,
    /// `update`: to replace itself by a newer version.
    pub update: bool,
    /// `configuration`: to have endpoints beside those of the configuration; only under a policy that says so too.
    pub configuration: bool,
}

impl RemoteManagement {
    /// Returns what both let the vendor ask for.
    pub(crate) const fn intersect(self, other: Self) -> Self {
        Self {
            stop: self.stop && other.stop,
            restart: self.restart && other.restart,
            update: self.update && other.update,
            configuration: self.configuration && other.configuration,
        }
    }
}

#[cfg(test)]
mod tests;
