//! The one table of errors that the agent tells: those of its own, and those that the network answers with.
//!
//! A number is never used for anything else. ADIT-1000 to 1499 are the agent's; ADIT-2000 to 2999 are the network's, and
//! mean the same there.

use core::fmt;

use adit_core::{Code, Refusal, TLS_ENDS_ELSEWHERE, escape};

/// Who can put an end to the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The one who runs the agent and the upstream.
    Customer,
    /// The one who runs the network.
    Vendor,
}

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked to.
    Fine = 0,
    /// It failed while running.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is not valid.
    Config = 3,
    /// The network refused for good: credentials, ACL, revoked.
    Refused = 4,
    /// The network cannot be reached.
    Unreachable = 5,
    /// The customer's own policy refuses.
    Policy = 6,
    /// No agent runs that could be asked.
    Absent = 7,
    /// `adit freeze` or `adit thaw` did it on the disk, and no running agent confirmed it.
    Unconfirmed = 8,
    /// It was interrupted before it could end in order.
    Interrupted = 130,
}

/// What is known about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stable number: `ADIT-1105` has 1105.
    pub number: u16,
    /// What a command ends with that fails with it.
    pub exit: Exit,
    /// Who must act.
    pub actor: Actor,
    /// A few words.
    pub title: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $exit:ident, $actor:ident, $title:literal, $remedy:literal;)+) => {
        /// An error with a stable number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Fault {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Fault {
            /// Every error, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Returns what is known about the error.
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$name => Entry {
                        number: $number,
                        exit: Exit::$exit,
                        actor: Actor::$actor,
                        title: $title,
                        remedy: $remedy,
                    },)+
                }
            }

            /// Returns the stable code, as `ADIT-1105`.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => concat!("ADIT-", $number),)+ }
            }
        }
    };
}

faults! {
    /// The configuration cannot be read or is not valid.
    ConfigInvalid = 1001, Config, Customer, "configuration not valid",
        "Correct what is named, with its line and key, and run `adit config check`.";
    /// There is no authtoken.
    TokenMissing = 1002, Config, Customer, "no authtoken",
        "Run `adit config add-authtoken`, set ADIT_AUTHTOKEN, or name a file in authtoken_file.";
    /// The authtoken cannot be read.
    TokenUnreadable = 1003, Config, Customer, "authtoken not readable",
        "Check the file and its mode (chmod 600); it holds the token and nothing else.";
    /// Roots to trust cannot be used.
    RootsUnusable = 1004, Config, Customer, "trusted certificates not usable",
        "Check the PEM file; it must hold at least one certificate of an authority.";
    /// A name of the command line is not an endpoint.
    EndpointUnknown = 1005, Config, Customer, "no such endpoint",
        "Use a name from `endpoints` in the configuration.";
    /// Nothing says where the network is.
    NetworkUnknown = 1006, Config, Customer, "no network to connect to",
        "Set agent.connect_url in the configuration, ADIT_CONNECT_URL or --connect-url.";
    /// The log cannot be written.
    LogUnwritable = 1007, Failed, Customer, "log not writable",
        "Check the path given by log, its folder and rights.";
    /// A file of the agent cannot be written.
    FileUnwritable = 1008, Failed, Customer, "file not writable",
        "Check the path, its folder and rights.";
    /// The program failed by its own fault.
    Internal = 1009, Failed, Vendor, "agent failed",
        "Report what was done and the log to the vendor.";

    /// A certificate or key with which TLS would end here cannot be used.
    CertificateUnusable = 1010, Config, Customer, "certificate of the endpoint not usable",
        "Check the files that agent_tls_termination names; `adit certificate request` makes a key and asks for a certificate.";
    /// An authority that certificates are ordered from cannot be reached or used.
    DirectoryUnreachable = 1011, Unreachable, Customer, "certificate authority not reachable",
        "Check acme.directory and acme.ca, and that this machine may reach it over HTTPS; `adit firewall` prints what to open. It is asked again by itself.";
    /// An authority does not issue a certificate.
    OrderRefused = 1012, Failed, Customer, "certificate authority does not issue",
        "Do what it says: it must reach the endpoint's name at port 443 of the network, and allow the account and the name. Then `adit certificate renew NAME` tries at once.";
    /// An authority wants to be left alone for a while.
    OrderLimited = 1013, Failed, Customer, "certificate authority limits orders",
        "Nothing: it is asked again when the authority lets it. If that is too late, ask the authority for a higher limit.";
    /// There is no certificate yet.
    NoCertificate = 1014, Failed, Customer, "no certificate yet",
        "Nothing, if it passes within a minute; else see in `adit status` why none was issued.";

    /// What is to be a service would not work as one.
    ServiceUnfit = 1021, Config, Customer, "not fit for a service",
        "Do what is said, and run the command again: nothing was installed.";
    /// The system's manager of services did not do what it was told.
    ServiceManager = 1022, Failed, Customer, "service manager failed",
        "Look into what it says; `adit service install --dry-run` prints every step, to be done by hand.";
    /// The user may not do that.
    ServiceRights = 1023, Failed, Customer, "rights of the administrator needed",
        "Run it by sudo, or as Administrator; --dry-run needs no rights.";
    /// Another agent's configuration cannot be made into one of this agent.
    ImportImpossible = 1030, Config, Customer, "configuration cannot be imported",
        "Correct what is named in their file, with its line and key; `ngrok config check` says more about it.";

    /// Nothing says where new versions are.
    UpdateUnconfigured = 1031, Config, Vendor, "no place for updates configured",
        "Ask the vendor for agent.update, with its url and public_key, or update in the way that the agent was installed.";
    /// The place of new versions cannot be reached.
    UpdateUnreachable = 1032, Unreachable, Customer, "releases not reachable",
        "Check agent.update.url, and that this machine may reach it over HTTPS; if both are right, tell the vendor.";
    /// What is offered is not the vendor's, or is too old to be believed.
    UpdateUntrusted = 1033, Failed, Vendor, "release not trusted",
        "Nothing was changed. Ask the vendor; somebody on the path may offer something else in its place.";
    /// There is no program for this machine.
    UpdateNone = 1034, Failed, Vendor, "no release for this machine",
        "Ask the vendor for one.";
    /// Somebody else looks after the program's file.
    UpdateManaged = 1035, Failed, Customer, "program is looked after by another",
        "Update it in the way that it was installed; `adit update --managed` replaces it all the same.";
    /// The new version does not run, or does not connect.
    UpdateFailed = 1036, Failed, Vendor, "new version does not work here",
        "The version before is in its place. Report it to the vendor; `adit update --retry` takes it once more.";

    /// The network's name cannot be resolved.
    HostUnknown = 1101, Unreachable, Customer, "network's name not known",
        "Check agent.connect_url, and that this machine's DNS resolves the name.";
    /// The network refuses connections.
    ConnectRefused = 1102, Unreachable, Customer, "network refused the connection",
        "Check host and port in agent.connect_url; if they are right, the network is down or a firewall refuses.";
    /// The network does not answer.
    ConnectTimeout = 1103, Unreachable, Customer, "network did not answer in time",
        "Check that firewalls allow outgoing TCP to the host and port in agent.connect_url.";
    /// There is no way to the network.
    ConnectUnreachable = 1104, Unreachable, Customer, "network not reachable",
        "Check this machine's network, routes and firewalls.";
    /// The network's certificate is from nobody that is trusted.
    NotTrusted = 1105, Unreachable, Customer, "network's certificate not trusted",
        "Somebody on the path may be inspecting TLS: compare issuer and fingerprint with what the vendor says. If they are the vendor's, set agent.connect_cas to its PEM file. If they are those of your own inspecting proxy, (1) trust its root: put it into the PEM file that agent.connect_cas names; or (2) add a bypass rule there for what `adit firewall` prints; or (3) run the agent where nothing inspects. If nobody of yours inspects, do not connect.";
    /// The network's certificate is for other names.
    WrongName = 1106, Unreachable, Customer, "network's certificate is for another name",
        "Use one of the names of the certificate in agent.connect_url.";
    /// The network's certificate has expired.
    Expired = 1107, Unreachable, Vendor, "network's certificate has expired",
        "If this machine's clock is right, the vendor must renew the certificate; if not, set the clock.";
    /// The network's certificate is not valid yet.
    NotYetValid = 1108, Unreachable, Customer, "network's certificate is not valid yet",
        "Set this machine's clock; if it is right, the vendor must replace the certificate.";
    /// The other end is not an Adit network.
    NotAdit = 1109, Unreachable, Customer, "not an Adit network",
        "Check host and port in agent.connect_url: what answers there is something else, or a proxy or balancer before the network that ends TLS itself and does not pass adit/1 on.";
    /// TLS failed otherwise.
    TlsFailed = 1110, Unreachable, Customer, "TLS with the network failed",
        "Check host and port in agent.connect_url, and that no proxy on the path changes TLS.";
    /// The network's certificate was revoked.
    CertificateRevoked = 1111, Unreachable, Vendor, "network's certificate was revoked",
        "Do not connect; the vendor must replace the certificate.";
    /// The connection to the network was lost.
    ConnectionLost = 1112, Unreachable, Customer, "connection to the network lost",
        "Nothing, if it comes back by itself; else look at the path between the two.";
    /// The network was silent for too long.
    Silent = 1113, Unreachable, Customer, "network was silent for too long",
        "Nothing, if it comes back by itself; else look for firewalls that forget idle connections.";
    /// The network broke the protocol.
    Protocol = 1114, Unreachable, Vendor, "network broke the protocol",
        "Update the agent, and report it to the vendor.";
    /// The network would end TLS of callers elsewhere than it was asked to.
    TlsEndsElsewhere = 1115, Refused, Vendor, "network would end TLS of callers elsewhere",
        "No connection is taken. Ask the vendor why its network would read what callers send; one that is too old does not know that TLS can end at the agent.";

    /// Nobody says that the network's certificate is not revoked.
    RevocationUnknown = 1121, Unreachable, Vendor, "nobody says that the network's certificate is not revoked",
        "Let this machine reach the URL that is named (port 80), or ask the vendor to staple a list that is not over. agent.crl: off asks no more, and then a stolen key of the network is believed.";
    /// No key of the network's certificate is the one that this agent is bound to.
    OtherNetwork = 1122, Unreachable, Customer, "network's key is not the one that this agent is bound to",
        "Compare the keys with what the vendor says. If they are the vendor's, set agent.network_key to the one of its authority; if not, it is somebody else's network.";
    /// This machine's clock is wrong.
    ClockWrong = 1123, Unreachable, Customer, "this machine's clock is wrong, or somebody else's is",
        "Set this machine's clock, and let the system keep it in step (timedatectl set-ntp true, chrony, w32tm). If it is right, tell the vendor what is said here.";
    /// The proxy cannot be reached.
    ProxyUnreachable = 1131, Unreachable, Customer, "proxy not reachable",
        "Check host and port in agent.proxy_url or HTTPS_PROXY, and that the proxy runs; set agent.proxy_url to none where no proxy is needed.";
    /// The proxy wants to know who asks.
    ProxyCredentialsWanted = 1132, Unreachable, Customer, "proxy wants credentials",
        "Write them into agent.proxy_url: http://user:password@host:port, and chmod 600 the file. Only Basic and SOCKS passwords are spoken: where the proxy offers only others, let its owner allow this host without.";
    /// The proxy does not take user or password.
    ProxyCredentialsRefused = 1133, Unreachable, Customer, "proxy does not take the credentials",
        "Check user and password in agent.proxy_url; what is not a letter or digit is written as %XX there.";
    /// The proxy's rules forbid the network, or what else was asked for.
    ProxyForbidden = 1134, Unreachable, Customer, "proxy's rules forbid the destination",
        "Ask whoever runs the proxy to allow CONNECT to the host and port that were asked for; `adit firewall` prints them.";
    /// The proxy cannot reach the network, or what else was asked for.
    ProxyDestination = 1135, Unreachable, Customer, "proxy cannot reach the destination",
        "Check host and port in agent.connect_url or agent.update.url; if they are right, the proxy's own DNS, routes or firewall stop it, or what is there is down.";
    /// The proxy refuses for another reason.
    ProxyRefused = 1136, Unreachable, Customer, "proxy refused",
        "Look into the proxy's log for the reason; some say so as well when they cannot reach the host and port that were asked for.";
    /// What answers is not such a proxy.
    NotAProxy = 1137, Unreachable, Customer, "not such a proxy",
        "Check scheme, host and port in agent.proxy_url: http://, https:// for a proxy that speaks TLS itself, socks5://.";
    /// TLS with the proxy failed.
    ProxyTls = 1138, Unreachable, Customer, "TLS with the proxy failed",
        "Set agent.proxy_cas to the PEM file of the proxy's authority, name the proxy in agent.proxy_url as its certificate does, or write http:// if it speaks no TLS.";
    /// The proxy does not answer.
    ProxySilent = 1139, Unreachable, Customer, "proxy gave no answer",
        "Check scheme and port in agent.proxy_url, and the proxy's log; it may wait for the host and port in agent.connect_url, which it cannot reach.";

    /// The upstream refuses connections.
    UpstreamRefused = 1201, Failed, Customer, "upstream refused the connection",
        "Start the service, or correct upstream.url.";
    /// The upstream does not answer.
    UpstreamTimeout = 1202, Failed, Customer, "upstream did not answer in time",
        "Look into the service's load, and into firewalls between agent and service.";
    /// The upstream cannot be reached.
    UpstreamUnreachable = 1203, Failed, Customer, "upstream not reachable",
        "Correct upstream.url, or the network between agent and service.";
    /// The upstream's certificate is not accepted.
    UpstreamTls = 1204, Failed, Customer, "TLS with the upstream failed",
        "Set upstream.ca to the PEM file of its authority, or correct the service's certificate.";
    /// The upstream's address is one that is never dialed.
    UpstreamForbidden = 1205, Failed, Customer, "upstream's address is never dialed",
        "Link-local, metadata and multicast addresses are not upstreams; correct upstream.url or the name's address.";
    /// There are too many connections.
    TooManyConnections = 1206, Failed, Customer, "too many connections",
        "Raise agent.max_connections or the limit of open files, or spread the load over several agents.";
    /// A caller and this agent did not agree on TLS.
    CallerTls = 1207, Failed, Customer, "TLS with a caller failed",
        "Nothing, if the caller is a scanner. Else compare what it offers and shows with agent_tls_termination.";
    /// A request of a caller is not carried to an upstream that is told who calls.
    CallerRequest = 1208, Failed, Customer, "request of a caller refused",
        "Nothing, if the caller is a scanner. Else it, or a program between, must write requests by the letter of HTTP/1.1; see mutual_tls_identity_headers.";

    /// A remote command is not allowed.
    CommandForbidden = 1301, Failed, Customer, "remote command not allowed",
        "Allow it in agent.remote_management if it is wanted.";
    /// A remote command is not possible with this build.
    CommandUnsupported = 1302, Failed, Customer, "remote command not supported by this build",
        "Update the agent in the way that it was installed.";

    /// The customer's own policy cannot be read or is not valid.
    PolicyInvalid = 1401, Config, Customer, "policy not valid",
        "Correct what is named, with its line and key; nothing runs under a policy that is valid in part.";
    /// The customer's own policy does not allow it.
    PolicyRefused = 1402, Policy, Customer, "refused by the customer's policy",
        "If it is wanted, let a rule of the policy allow it; `adit explain` says which rules there are.";
    /// Everything is closed.
    Frozen = 1403, Policy, Customer, "frozen by the customer",
        "Run `adit thaw`, or remove the file that is named, when it may go on.";

    /// Nothing can be written to the audit log.
    AuditUnwritable = 1404, Failed, Customer, "audit log cannot be written",
        "Make room, or correct the folder and its rights; `audit.on_failure` of the policy says what becomes of connections meanwhile.";
    /// The audit log is not as it was written.
    AuditBroken = 1405, Failed, Customer, "audit log does not fit together",
        "Find out who changed it. Keep the folder as evidence under another name: the agent begins a new chain.";
    /// There is no audit log to be read.
    AuditMissing = 1406, Failed, Customer, "audit log cannot be read",
        "Name its folder with --path, as a user who may read it.";
    /// What was carried before is not known.
    TotalsUnknown = 1407, Failed, Customer, "totals of the policy, or its time, are not known",
        "Nothing is carried under what has total_bytes or expires. Correct the file that is named, or remove it to begin anew.";
    /// TLS of callers does not end here.
    TlsNotOurs = 1408, Failed, Customer, "TLS of callers does not end here",
        "Whoever holds the certificate that is served can read what callers send. Ask the vendor; see the model of the endpoint in `adit explain`.";

    /// The name that callers call cannot be resolved.
    EndpointNameUnknown = 1409, Unreachable, Customer, "name of the endpoint not known",
        "Check the name in the URL, and whether callers' DNS has it; --connect-to HOST:PORT asks at an address without it.";
    /// Where callers call something answers that is no TLS.
    EndpointNotTls = 1410, Unreachable, Customer, "no TLS where callers call",
        "Check the port, or --connect-to. If they are right, callers meet something else there: a proxy that wants to be logged in to, or a service without TLS.";
    /// There is no policy where there was one.
    PolicyGone = 1411, Config, Customer, "policy that was in force is gone",
        "Put it back; to do without a policy, remove the file that is named. Without one the agent carries whatever its configuration names.";

    /// The configuration names a file that the customer's policy does not let it name.
    FileRefused = 1412, Policy, Customer, "file that the configuration must not name",
        "If the agent is to read it, add its path to `files` of the policy. If not, correct the configuration, and find out who wrote that.";

    /// Where callers call nobody answers.
    EndpointUnreachable = 1413, Unreachable, Customer, "no answer where callers call",
        "Check host and port in the URL, or --connect-to, and whether firewalls let this machine call there; where only a proxy may, set agent.proxy_url.";

    /// What programs on this machine would ask the agent by cannot be had.
    LocalUnusable = 1471, Failed, Customer, "local interface not possible",
        "Correct agent.local in the configuration or what is named. Connections are carried all the same.";
    /// No agent answers on this machine.
    NoAgent = 1472, Absent, Customer, "no agent answers here",
        "Start one: `adit start --all`. If one runs, name its configuration with --config, or its socket with --socket.";
    /// The agent answers others.
    LocalForbidden = 1473, Failed, Customer, "agent does not answer you",
        "Ask as the agent's user or as root; over TCP with the token of the file that agent.local.token_file names, and to its own name.";
    /// The local interface has nothing of that kind.
    LocalUnknown = 1474, Failed, Customer, "agent has no such thing",
        "Look at what there is: `adit status`, `adit requests list`.";
    /// What was asked cannot be understood.
    LocalRequest = 1475, Failed, Customer, "agent does not understand the question",
        "Use an `adit` of the agent's own version, or ask as docs/local.md says.";
    /// No requests are kept.
    CaptureOff = 1476, Policy, Customer, "requests are not captured",
        "If it is wanted: `capture: true` in the policy, and a number in agent.local.capture.requests; then start the agent anew.";
    /// A request that was kept cannot be sent again.
    ReplayRefused = 1477, Failed, Customer, "request not sent again",
        "Do what the detail says, or send the request by other means.";

    /// The authtoken is not valid.
    Credentials = 2001, Refused, Customer, "authtoken not valid",
        "Check that the token is complete and meant for this network; ask the vendor for a new one if in doubt.";
    /// The authtoken was revoked.
    Revoked = 2002, Refused, Customer, "authtoken revoked",
        "Ask the vendor for a new token.";
    /// The ACL does not allow the endpoint.
    Forbidden = 2003, Refused, Vendor, "endpoint not allowed by the token's ACL",
        "Ask the vendor to allow the endpoint, or bind one that is allowed.";
    /// The endpoint is bound by another agent.
    InUse = 2004, Refused, Customer, "endpoint in use by another agent",
        "Stop the other agent, choose another url, or set pooling_enabled on both.";
    /// The URL cannot be bound.
    BadName = 2005, Refused, Customer, "URL not possible",
        "Correct the url of the endpoint, for example https://crm.example.com or tcp://:5432.";
    /// A limit of sessions is reached.
    SessionLimit = 2006, Refused, Customer, "too many sessions",
        "Stop agents that are not needed, or ask the vendor to raise the limit.";
    /// A limit of endpoints is reached.
    BindLimit = 2007, Refused, Customer, "too many endpoints",
        "Spread the endpoints over several agents, or ask the vendor to raise the limit.";
    /// The node stops.
    Stopping = 2008, Unreachable, Vendor, "network is stopping",
        "Nothing, if it comes back within a minute.";
    /// The same agent has a newer session.
    Replaced = 2009, Refused, Customer, "replaced by a newer session of the same agent",
        "If two agents run with the same configuration, give each its own.";
    /// There is no common version.
    Version = 2010, Refused, Customer, "version of the protocol not supported",
        "Update the agent, or ask the vendor to update the network.";
    /// The network is busy.
    Busy = 2011, Unreachable, Vendor, "network is busy",
        "Nothing, if it passes.";
    /// The network cannot check tokens.
    TokensUnchecked = 2012, Unreachable, Vendor, "network cannot check tokens at present",
        "Nothing, if it passes; else tell the vendor.";
    /// The kind of endpoint is not served.
    Unsupported = 2013, Refused, Vendor, "kind of endpoint not served",
        "Choose another url, or ask the vendor to serve this kind.";
    /// The endpoint was given up.
    Unbound = 2014, Failed, Customer, "endpoint given up",
        "Nothing, if it was meant.";
    /// TLS of the endpoint ends at the network by its configuration.
    TlsConfigured = 2016, Refused, Vendor, "TLS of the endpoint ends at the network",
        "Ask the vendor to take the endpoint out of the network's configuration, or bind it as https without agent_tls_termination.";
    /// Something that this version does not know.
    Other = 2099, Unreachable, Vendor, "network refused",
        "Update the agent, or ask the vendor.";
}

impl Fault {
    /// Returns the fault behind the network's refusal of a session or the end of one.
    pub const fn of_session(code: Code) -> Self {
        match code {
            Code::LIMIT => Self::SessionLimit,
            code => Self::of_code(code),
        }
    }

    /// Returns the fault behind the network's refusal of a bind.
    pub const fn of_bind(code: Code) -> Self {
        match code {
            Code::LIMIT => Self::BindLimit,
            code => Self::of_code(code),
        }
    }

    /// Returns the network's error with this number.
    fn of_network(number: u16) -> Option<Self> {
        let mut theirs = Self::ALL.iter().filter(|fault| fault.entry().number >= 2_000);
        theirs.find(|fault| fault.entry().number == number).copied()
    }

    const fn of_code(code: Code) -> Self {
        match code {
            Code::CREDENTIALS => Self::Credentials,
            Code::REVOKED => Self::Revoked,
            Code::FORBIDDEN => Self::Forbidden,
            Code::IN_USE => Self::InUse,
            Code::BAD_NAME => Self::BadName,
            Code::SHUTDOWN => Self::Stopping,
            Code::REPLACED => Self::Replaced,
            Code::VERSION => Self::Version,
            Code::BUSY => Self::Busy,
            Code::UNSUPPORTED => Self::Unsupported,
            Code::UNBOUND => Self::Unbound,
            Code::INTERNAL => Self::TokensUnchecked,
            Code(_) => Self::Other,
        }
    }
}

impl Actor {
    /// Returns the word for texts and JSON: `customer` or `vendor`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Vendor => "vendor",
        }
    }
}

/// A fault, and what is known of this case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Which.
    pub fault: Fault,
    /// What was seen; may be empty. Safe to print.
    pub detail: String,
}

impl Error {
    /// Returns a fault with what was seen.
    pub const fn new(fault: Fault, detail: String) -> Self {
        Self { fault, detail }
    }

    /// Returns what is wrong with a configuration that leaves nothing to do.
    pub(crate) fn no_endpoints() -> Self {
        Self::new(Fault::EndpointUnknown, "the configuration has no endpoints".to_owned())
    }

    /// Returns the fault behind a refused bind, with what the network said.
    pub fn of_bind(refusal: &Refusal) -> Self {
        if (refusal.code, &*refusal.text) == (Code::UNSUPPORTED, TLS_ENDS_ELSEWHERE) {
            return Fault::TlsEndsElsewhere.into();
        }
        Self::said(Fault::of_bind(refusal.code), refusal)
    }

    /// Returns the fault behind a refused session, with what the network said.
    pub fn of_session(refusal: &Refusal) -> Self {
        Self::said(Fault::of_session(refusal.code), refusal)
    }

    /// Takes the network's own words, made harmless and short, and its own number where it gives one.
    fn said(fault: Fault, refusal: &Refusal) -> Self {
        let text = refusal.text.as_str();
        let numbered = text.strip_prefix("ADIT-").and_then(|rest| rest.split_once(": "));
        let numbered = numbered.and_then(|(number, rest)| Some((Fault::of_network(number.parse().ok()?)?, rest)));
        let (fault, text) = numbered.unwrap_or((fault, text));
        Self::new(fault, clip(&escape(text).to_string()))
    }
}

/// Returns at most 1 KiB of a text that somebody else wrote (V94).
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(1_024).collect()
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self { fault, detail: String::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.entry().title)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl core::error::Error for Fault {}
impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_stay_in_their_range() {
        let numbers: Vec<_> = Fault::ALL.iter().map(|fault| fault.entry().number).collect();

        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert!(numbers.iter().all(|number| matches!(number, 1_000..=1_499 | 2_000..=2_999)));
    }

    #[test]
    fn every_fault_says_what_it_is_and_what_to_do() {
        for fault in Fault::ALL {
            let entry = fault.entry();
            assert_eq!(fault.code(), format!("ADIT-{}", entry.number));
            assert!(!entry.title.is_empty() && entry.remedy.ends_with('.'), "{fault}");
            assert!(!matches!(entry.exit, Exit::Fine | Exit::Usage | Exit::Unconfirmed | Exit::Interrupted), "{fault}");
        }
    }

    #[test]
    fn each_code_of_the_network_has_its_number() {
        let table = [
            (Code::CREDENTIALS, 2001, 2001),
            (Code::REVOKED, 2002, 2002),
            (Code::FORBIDDEN, 2003, 2003),
            (Code::IN_USE, 2004, 2004),
            (Code::BAD_NAME, 2005, 2005),
            (Code::LIMIT, 2006, 2007),
            (Code::SHUTDOWN, 2008, 2008),
            (Code::REPLACED, 2009, 2009),
            (Code::VERSION, 2010, 2010),
            (Code::BUSY, 2011, 2011),
            (Code::UNSUPPORTED, 2013, 2013),
            (Code::UNBOUND, 2014, 2014),
            (Code(0x1ff), 2099, 2099),
        ];
        for (code, session, bind) in table {
            assert_eq!(Fault::of_session(code).entry().number, session, "{code}");
            assert_eq!(Fault::of_bind(code).entry().number, bind, "{code}");
        }
    }

    #[test]
    fn the_network_may_say_its_number_more_precisely() {
        let told = |text: &str| {
            let error = Error::of_session(&Refusal { code: Code::LIMIT, retry_after: None, text: text.to_owned() });
            (error.fault, error.detail)
        };

        assert_eq!(told("ADIT-2012: the database is away"), (Fault::TokensUnchecked, "the database is away".into()));
        assert_eq!(told("ADIT-2006: enough"), (Fault::SessionLimit, "enough".into()));
        for text in ["ADIT-1003: not yours to say", "ADIT-2777: new", "plain"] {
            assert_eq!(told(text), (Fault::SessionLimit, text.to_owned()));
        }
    }

    #[test]
    fn what_the_network_says_is_made_harmless() {
        let refusal =
            Refusal { code: Code::FORBIDDEN, retry_after: None, text: format!("a\u{1b}]0;x\n{}", "y".repeat(5_000)) };

        let text = Error::of_bind(&refusal).to_string();

        assert!(!text.contains(['\u{1b}', '\n']), "{text}");
        assert!(text.len() < 1_200);
    }
}
