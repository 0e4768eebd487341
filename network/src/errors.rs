//! The one table of errors that callers, agents and operators of the network meet.
//!
//! `docs/errors.md` is generated from it by `adit-network errors --markdown`; a number is never used for anything else.

use core::fmt::{self, Write as _};

use adit_core::Code;

/// Who can put an end to the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The one who calls the endpoint.
    Caller,
    /// The one who runs the agent and the upstream.
    Customer,
    /// The one who runs the network.
    Vendor,
}

/// What is known about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stable number: `ADIT-3001` has 3001.
    pub number: u16,
    /// The HTTP status, where the error is an answer to a caller that speaks HTTP.
    pub status: Option<u16>,
    /// Who must act.
    pub actor: Actor,
    /// A few words.
    pub title: &'static str,
    /// What happened. Says nothing private: callers read it.
    pub explanation: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $status:expr, $actor:ident, $title:literal, $explanation:literal, $remedy:literal;)+) => {
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
                        status: $status,
                        actor: Actor::$actor,
                        title: $title,
                        explanation: $explanation,
                        remedy: $remedy,
                    },)+
                }
            }

            /// Returns the stable code, as `ADIT-3001`.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => concat!("ADIT-", $number),)+ }
            }
        }
    };
}

faults! {
    /// The configuration file cannot be read.
    ConfigUnreadable = 1501, None, Vendor, "configuration not readable",
        "The configuration file of the network cannot be read, is larger than 1 MiB, or may be written by everybody.",
        "Check the path given by --config, its owner and its mode (chmod 640).";
    /// The configuration is not valid.
    ConfigInvalid = 1502, None, Vendor, "configuration not valid",
        "The configuration of the network has faults; each is named with its line and key.",
        "Correct them and run `adit-network config check`.";
    /// A certificate or key cannot be used.
    CertificateInvalid = 1503, None, Vendor, "certificate or key not usable",
        "A certificate file or its key is missing, does not parse, or the two do not belong together.",
        "Replace both files together; the mode of the key must not be wider than 640.";
    /// The database cannot be opened.
    DatabaseUnavailable = 1504, None, Vendor, "database not available",
        "The database of accounts and tokens cannot be opened or migrated.",
        "Check the path `database.path`, the free space and the rights of its folder.";
    /// An address cannot be bound.
    ListenFailed = 1505, None, Vendor, "address not available",
        "The network cannot listen on one of the configured addresses.",
        "Find out who holds the address (ss -ltnp), or choose another.";
    /// The command line asks for something that does not exist.
    NotFound = 1506, None, Vendor, "no such item",
        "A command named an account, token or file that does not exist.",
        "List what there is, for example with `adit-network token list`.";
    /// A token's rule cannot be read.
    RuleInvalid = 1507, None, Vendor, "ACL rule not valid",
        "An ACL rule is not of the form bind:NAME, bind:*.NAME or bind:tcp:PORT.",
        "Give rules such as bind:crm.example.com, bind:*.example.com, bind:tcp:5432 or bind:tcp:5000-5099.";
    /// A policy cannot be read.
    PolicyInvalid = 1508, None, Vendor, "policy not valid",
        "The file of a policy has faults, or cannot be read. The lines above name each with its place.",
        "Correct the file; `adit-network policy check FILE` looks at it alone.";
    /// What is encrypted in the database cannot be opened.
    SecretsLocked = 1509, None, Vendor, "secrets cannot be opened",
        "Keys, certificates and accounts in the database are encrypted, and the key for that is missing, is another one, or a row was changed. Nothing is ordered anew in their place.",
        "Give the key back: secrets.key_file, or ADIT_NETWORK_SECRETS_KEY. A row that was changed is removed with `adit-network certificates remove`.";
    /// The customer does not allow a command.
    CommandRefused = 1510, None, Customer, "command refused by the customer",
        "The agent's configuration, or the policy of its owner, does not allow the command. Nothing is allowed by default.",
        "Ask the customer to set the command in remote_management of the agent's configuration, and in commands of the policy where there is one.";
    /// The agent does not know a command.
    CommandUnknown = 1511, None, Customer, "command not known to the agent",
        "The agent is of a version that does not know the command.",
        "Ask the customer to update the agent.";
    /// The agent cannot do what a command asks.
    CommandUnsupported = 1512, None, Customer, "command not possible there",
        "The customer allows the command, and the agent cannot obey: it has no place for updates, for example, or its program is looked after by another.",
        "Ask the customer; the agent's log says what is missing.";
    /// The agent, or its queue of commands, is busy.
    CommandBusy = 1513, None, Vendor, "busy with other commands",
        "The agent is busy with an earlier command, or as many commands wait as may: 8 of an agent, 1,000 in all.",
        "Wait for the earlier one, and ask again.";
    /// There is no agent of that name.
    AgentUnknown = 1514, None, Vendor, "no such agent",
        "No agent of that id, endpoint or metadata is connected. One that is away is found by its whole id only.",
        "List them with `adit-network agents`; with --all those that are away.";
    /// More than one agent is meant.
    AgentAmbiguous = 1515, None, Vendor, "more than one agent meant",
        "More than one agent has that name; they are listed. Nothing was asked.",
        "Name one by its id, or restrict the account with --account.";
    /// A command was not handed over in its time.
    CommandExpired = 1516, None, Customer, "agent not reached in time",
        "No network that runs held a session of the agent in time. The command was not handed over, and never will be.",
        "Find out why the agent is away (`adit-network agents --all`), and ask again, with a longer --wait if need be.";
    /// Nobody knows what came of a command.
    CommandLost = 1517, None, Customer, "outcome of the command not known",
        "The command was handed over, or was about to be, and no answer came: the agent did not answer in time, its session ended, or the node died. It is not sent again.",
        "Look with `adit-network agents` how the agent is, or ask the customer, before you ask again.";
    /// A command came to nothing for another reason.
    CommandFailed = 1518, None, Vendor, "command failed",
        "The agent answered with another code, or the command could not be handed over. The line says which.",
        "Look into the log of the network.";
    /// The agent found a fault in a document.
    DocumentRefused = 1519, None, Vendor, "document not accepted by the agent",
        "The customer allows the command, and the agent found a fault in the document that was sent. Nothing of it is in force.",
        "Correct the document: the agent's words name the fault.";

    /// The authtoken is not valid.
    Credentials = 2001, None, Customer, "authtoken not valid",
        "The network does not know the authtoken that the agent showed.",
        "Check that the token is complete and meant for this network; ask the vendor for a new one if in doubt.";
    /// The authtoken was revoked.
    Revoked = 2002, None, Customer, "authtoken revoked",
        "The authtoken was valid when the session began and was revoked by the vendor.",
        "Ask the vendor for a new token.";
    /// The ACL does not allow the endpoint.
    Forbidden = 2003, None, Vendor, "endpoint not allowed",
        "The authtoken's ACL does not allow the endpoint. A token without ACL may bind nothing.",
        "Create a token with a rule that covers the endpoint, for example --allow bind:crm.example.com.";
    /// The endpoint is bound by another agent.
    InUse = 2004, None, Customer, "endpoint in use",
        "Another agent has bound the endpoint, and not both ask for pooling.",
        "Stop the other agent, choose another URL, or set pooling_enabled on both.";
    /// The URL cannot be an endpoint.
    BadName = 2005, None, Customer, "URL not possible",
        "The URL is not one that can be bound: scheme http, https, tls or tcp, a host name or a port, nothing else.",
        "Correct the url of the endpoint, for example https://crm.example.com or tcp://:5432.";
    /// Too many sessions.
    TooManySessions = 2006, None, Customer, "too many sessions",
        "The token, the account or the node has as many sessions as it may have.",
        "Stop agents that are not needed, or ask the vendor to raise the limit.";
    /// Too many binds.
    TooManyBinds = 2007, None, Customer, "too many endpoints",
        "The session has bound as many endpoints as it may.",
        "Spread the endpoints over several agents, or ask the vendor to raise the limit.";
    /// The node stops.
    Stopping = 2008, None, Vendor, "network is stopping",
        "The node is being stopped or restarted. Agents connect again by themselves.",
        "Nothing, if it comes back within a minute.";
    /// A newer session of the same agent took over.
    Replaced = 2009, None, Customer, "replaced by a newer session",
        "The same agent opened a newer session, which took over its endpoints.",
        "If two agents run with the same identity, give each its own.";
    /// No common version of the protocol.
    Version = 2010, None, Customer, "version not supported",
        "Agent and network have no version of the protocol in common.",
        "Update the agent, or ask the vendor to update the network.";
    /// The node is too busy for new sessions.
    Busy = 2011, None, Vendor, "network is busy",
        "The node has too many handshakes under way. Agents try again by themselves.",
        "Nothing, if it passes; else add capacity.";
    /// Tokens cannot be checked.
    ControlDegraded = 2012, None, Vendor, "tokens cannot be checked",
        "The database of tokens does not answer. Live tunnels stay; new sessions and binds have to wait.",
        "Look into the log and /readyz of the network; repair the database.";
    /// The network does not serve such endpoints.
    SchemeNotServed = 2013, None, Vendor, "kind of endpoint not served",
        "The network has no listener, port range or certificate for such an endpoint.",
        "Configure the listener, the port range or the certificate on the network, or choose another URL.";
    /// The agent gave the endpoint up.
    Unbound = 2014, None, Customer, "endpoint given up",
        "The agent gave the endpoint up.",
        "Nothing, if it was meant.";
    /// There is no such session to go on with.
    SessionUnknown = 2015, None, Vendor, "session not resumed",
        "There is no session that the agent may go on with: it has expired, or the node was restarted. A new one follows.",
        "Nothing. If it happens while the node runs, raise limits.resume_window or limits.parked_sessions.";
    /// The configuration asks something of callers that the network could not ask if TLS passed through.
    TlsConfigured = 2016, None, Vendor, "TLS of the endpoint ends at the network",
        "By the network's configuration TLS of this endpoint ends at the network: it has a policy or settings of its own there.",
        "Bind it as https without agent_tls_termination, or take `https://NAME` out of `endpoints` in the network's configuration.";

    /// No such endpoint.
    EndpointUnknown = 3001, Some(404), Caller, "endpoint not found",
        "There is no endpoint of this name here.",
        "Check the address. If it is right, the vendor may not have set the endpoint up.";
    /// The endpoint exists, no agent is connected.
    NoAgent = 3002, Some(503), Customer, "no agent online",
        "The endpoint exists, but no agent that serves it is connected.",
        "Start the agent, or look why it cannot connect. Callers may try again.";
    /// The upstream refused.
    UpstreamRefused = 3003, Some(502), Customer, "upstream refused the connection",
        "The agent is connected, but the service behind it does not accept connections.",
        "Start the service, or correct the upstream's address in the agent's configuration.";
    /// The upstream did not answer in time.
    UpstreamTimeout = 3004, Some(504), Customer, "upstream timed out",
        "The service behind the agent did not accept the connection, or did not answer, in time.",
        "Look into the service's load and log, and into firewalls between agent and service.";
    /// The upstream broke the rules of HTTP.
    UpstreamProtocol = 3005, Some(502), Customer, "upstream broke the protocol",
        "The service behind the agent answered with something that is not HTTP as it should be.",
        "Check that upstream.protocol fits the service, and the service's answers.";
    /// The upstream closed early.
    UpstreamClosed = 3006, Some(502), Customer, "upstream closed early",
        "The service behind the agent closed the connection before its answer was complete.",
        "Look into the service's log for the time of the request.";
    /// SNI and Host select different endpoints.
    Misdirected = 3007, Some(421), Caller, "request misdirected",
        "The request names another host than the TLS connection it came on.",
        "Open a connection of its own for each host.";
    /// The request is not well formed.
    RequestMalformed = 3008, Some(400), Caller, "request malformed",
        "The request is not well formed, or it can be read in more than one way.",
        "Correct the client. One length, one host, no line folding, no bare CR or LF.";
    /// The header is too large.
    HeaderTooLarge = 3009, Some(431), Caller, "request header too large",
        "The header of the request has more fields or octets than allowed.",
        "Send a smaller header; often old cookies are the reason.";
    /// A limit of connections is reached.
    TooManyConnections = 3010, Some(503), Vendor, "too many connections",
        "A limit of connections, of the network, the endpoint, the agent or the caller's address, is reached.",
        "Try again later; the vendor can raise the limit.";
    /// The request header did not arrive in time.
    HeaderTimeout = 3011, Some(408), Caller, "request too slow",
        "The header or body of the request did not arrive in time.",
        "Send the request faster, or over a better connection.";
    /// The method is not carried.
    MethodRefused = 3012, Some(405), Caller, "method refused",
        "The method is not carried by this endpoint.",
        "Use another method. CONNECT and TRACE are not carried.";
    /// The node drains.
    Draining = 3013, Some(503), Vendor, "network is stopping",
        "The node is being stopped; another one answers soon.",
        "Try again in a few seconds.";
    /// The upstream cannot be reached.
    UpstreamUnreachable = 3014, Some(502), Customer, "upstream not reachable",
        "The agent cannot resolve or reach the address of the service behind it.",
        "Correct the upstream's address in the agent's configuration, or the network between the two.";
    /// The TLS handshake with the upstream failed.
    UpstreamTls = 3015, Some(502), Customer, "upstream's certificate not accepted",
        "The agent could not agree on TLS with the service behind it, or does not trust its certificate.",
        "Give the agent the CA of the service, or correct the service's certificate.";
    /// The session was lost.
    SessionLost = 3016, Some(502), Customer, "connection to the agent lost",
        "The connection between network and agent broke while the request was under way.",
        "Try again if the request may be repeated. If it happens often, look at the agent's network.";
    /// The customer's policy refuses.
    PolicyRefused = 3017, Some(403), Customer, "refused by the customer's policy",
        "The customer's own policy does not allow this connection at this time.",
        "Ask the customer to allow it.";
    /// The network failed by its own fault.
    Internal = 3018, Some(500), Vendor, "network failed",
        "The network failed by its own fault.",
        "Report the time of the request to the vendor.";
    /// The address in the request is too long.
    TargetTooLong = 3019, Some(414), Caller, "request target too long",
        "The path and query of the request are longer than allowed.",
        "Send a shorter address, and data in the body.";
    /// The version of HTTP is not supported.
    HttpVersion = 3020, Some(505), Caller, "version of HTTP not supported",
        "The request is neither HTTP/1.0, HTTP/1.1 nor HTTP/2.",
        "Use a client that speaks one of them.";
    /// The expectation cannot be met.
    Expectation = 3021, Some(417), Caller, "expectation not met",
        "The request expects something that this endpoint does not do.",
        "Send no Expect field, or 100-continue.";
    /// The server name is not served.
    NameUnknown = 3022, None, Caller, "server name not served",
        "The TLS connection asks for no name, or for one that has no endpoint or certificate here; it is closed with unrecognized_name.",
        "Check the address, and that the client sends the name (SNI).";
    /// The caller's TLS handshake failed.
    CallerTls = 3023, None, Caller, "TLS handshake failed",
        "The caller's TLS handshake failed or took too long; the connection is closed.",
        "Use TLS 1.2 or 1.3 and trust the endpoint's certificate.";
    /// A rule of the endpoint's policy refuses.
    PolicyDenied = 3024, Some(403), Caller, "refused by policy",
        "The policy of the endpoint does not allow the request.",
        "Ask the vendor, naming the id of the request. The verdict of each rule is in the network's access log.";
    /// A rule could not decide.
    PolicyFailed = 3025, Some(500), Vendor, "policy could not decide",
        "A rule of the endpoint's policy could not be decided, or cost more than it may. The request is refused.",
        "Look into the network's access log for the id of the request, and correct the rule that failed.";
    /// No rule of a cloud endpoint answered.
    NoAnswer = 3026, Some(404), Vendor, "no rule answered",
        "The endpoint is served by its policy alone, and no rule of it answered or forwarded the request.",
        "End the policy with a rule that always answers, for example forward-internal or custom-response.";
    /// A policy forwards to nothing.
    ForwardUnknown = 3027, Some(502), Vendor, "forward to no endpoint",
        "The policy forwards to an internal endpoint that the account does not have, or that carries something else: http and https forward to http and https, tls and tcp to tls and tcp.",
        "Start the agent that binds the internal endpoint, or correct the url of forward-internal.";
    /// The path has two readings.
    PathAmbiguous = 3028, Some(400), Caller, "path ambiguous",
        "The path can be read in more than one way, and the endpoint has a policy that looks at it.",
        "Send a path without `..` above the root, backslash, semicolon, control characters, or escapes of slashes and percent signs.";
    /// Policies forward in a circle.
    ForwardLoop = 3029, Some(508), Vendor, "forwarded too often",
        "The policies of internal endpoints forward the request on and on.",
        "Let forward-internal end at an endpoint that an agent binds.";
    /// A rule counts too many requests.
    PolicyLimited = 3030, Some(429), Caller, "too many requests",
        "The policy of the endpoint allows fewer requests, or attempts, in such a time.",
        "Wait as long as Retry-After says, and ask less often.";
    /// A circuit breaker is open.
    PolicyTripped = 3031, Some(503), Customer, "service rests",
        "The service behind the endpoint failed too often; the policy of the endpoint lets it rest.",
        "Try again in a while. Look into the service's log.";
    /// Every member has too much to do.
    MembersBusy = 3032, Some(503), Customer, "services busy",
        "Every service behind the endpoint has as many requests or connections under way, or waiting to be taken, as it may have.",
        "Try again later. If it happens often, add an agent with a service to the endpoint, or raise health.outstanding or health.pending.";
    /// A policy replaces in a body that cannot be searched.
    BodyUnsearched = 3036, Some(415), Caller, "body cannot be searched",
        "The policy of the endpoint replaces in bodies of requests, and this one is a part, or has a coding other than gzip, deflate or br.",
        "Send the body whole and without a coding.";
    /// A policy replaces in an answer that cannot be searched.
    AnswerUnsearched = 3037, Some(502), Vendor, "answer cannot be searched",
        "The policy of the endpoint replaces in bodies of answers, and the upstream sent a part of one, or one with a coding other than gzip, deflate or br, though it was asked for neither.",
        "Let the upstream answer without a coding, or exclude such answers by an expression.";
    /// Too many bodies are changed.
    TooManyBodies = 3038, Some(503), Vendor, "too many bodies in work",
        "Policies replace in as many bodies as limits.replaced_bodies allows.",
        "Try again; if it lasts, raise the limit or replace in fewer bodies.";
    /// A policy broke a body off.
    BodyBroken = 3039, Some(413), Caller, "body not accepted by policy",
        "The policy of the endpoint replaces in bodies of requests, and this one is not of its coding, grows too much, or has what cannot be searched within bounds.",
        "Send a smaller or plain body. The metric adit_policy_bodies_broken_total says why.";
    /// Memory is short.
    Overloaded = 3040, Some(503), Vendor, "overloaded",
        "The network is short of memory and takes no new requests for the moment; what is open goes on.",
        "Try again after the time that Retry-After says. If it lasts, give the network more memory, or lower its limits.";
    /// A source has too many requests under way.
    TooManyRequests = 3041, Some(429), Caller, "too many requests at once",
        "As many requests from the caller's address are under way as the network allows one address.",
        "Wait as long as Retry-After says, and send fewer at a time. The vendor can raise limits.requests_per_source.";
}

impl Fault {
    /// Returns the fault that tells a caller why its stream ended with `code`.
    pub const fn of_stream(code: Code) -> Self {
        match code {
            Code::UPSTREAM_REFUSED => Self::UpstreamRefused,
            Code::UPSTREAM_TIMEOUT => Self::UpstreamTimeout,
            Code::UPSTREAM_UNREACHABLE => Self::UpstreamUnreachable,
            Code::UPSTREAM_TLS => Self::UpstreamTls,
            Code::CONNECTION_RESET | Code::APPLICATION | Code::CANCELLED => Self::UpstreamClosed,
            Code::SESSION_LOST | Code::DRAIN_TIMEOUT => Self::SessionLost,
            Code::POLICY => Self::PolicyRefused,
            Code::LIMIT | Code::BUSY | Code::STREAM_LIMIT => Self::TooManyConnections,
            Code::REFUSED | Code::UNBOUND | Code::REPLACED | Code::SHUTDOWN => Self::NoAgent,
            Code(_) => Self::SessionLost,
        }
    }

    /// Returns whether it tells against the member that was to serve.
    pub const fn is_of_member(self) -> bool {
        matches!(
            self,
            Self::UpstreamRefused
                | Self::UpstreamTimeout
                | Self::UpstreamUnreachable
                | Self::UpstreamTls
                | Self::UpstreamProtocol
                | Self::UpstreamClosed
        )
    }

    /// Returns the seconds after which a caller may try again, where waiting helps.
    pub const fn retry_after(self) -> Option<u32> {
        if matches!(
            self,
            Self::NoAgent
                | Self::TooManyConnections
                | Self::Draining
                | Self::MembersBusy
                | Self::Overloaded
                | Self::TooManyRequests
        ) {
            Some(5)
        } else {
            None
        }
    }
}

impl Actor {
    /// Returns the word for texts and JSON: `caller`, `customer` or `vendor`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Customer => "customer",
            Self::Vendor => "vendor",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.entry().title)
    }
}

impl core::error::Error for Fault {}

/// Returns the table as the page `docs/errors.md`.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    let mut group = 0;
    for fault in Fault::ALL {
        let entry = fault.entry();
        if entry.number / 1000 != group {
            group = entry.number / 1000;
            page.push_str(match group {
                1 => "\n## Running the network\n",
                2 => "\n## Sessions and binds\n\nAn agent shows these as it gets them.\n",
                _ => "\n## Answers to callers\n",
            });
        }
        let status = entry.status.map_or_else(String::new, |status| format!(" · HTTP {status}"));
        let written = write!(
            page,
            "\n### {code}: {title}\n\nTo act: {actor}{status}\n\n{explanation}\n\n*What to do:* {remedy}\n",
            code = fault.code(),
            title = entry.title,
            actor = entry.actor.word(),
            explanation = entry.explanation,
            remedy = entry.remedy,
        );
        debug_assert!(written.is_ok(), "a String takes every text");
    }
    page
}

const HEAD: &str = "\
# Errors of the network

<!-- Generated by `adit-network errors --markdown`; do not edit. -->

Every error has a number that never changes its meaning. *Caller* is who calls an endpoint, *customer* who runs the agent and
the upstream, *vendor* who runs the network.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_codes_follow_them() {
        let numbers: Vec<_> = Fault::ALL.iter().map(|fault| fault.entry().number).collect();

        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(Fault::ALL.iter().all(|fault| fault.code() == format!("ADIT-{}", fault.entry().number)));
    }

    #[test]
    fn every_answer_to_an_http_caller_has_an_error_status() {
        for fault in Fault::ALL {
            let entry = fault.entry();
            assert!(entry.status.is_none_or(|status| (400..=599).contains(&status)), "{fault}");
            let answers =
                (3001..=3999).contains(&entry.number) && !matches!(fault, Fault::NameUnknown | Fault::CallerTls);
            assert_eq!(entry.status.is_some(), answers, "{fault}");
        }
    }

    #[test]
    fn the_page_in_the_repository_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");

        let page = std::fs::read_to_string(path).unwrap();

        assert!(page == markdown(), "stale: run `adit-network errors --markdown > docs/errors.md`");
    }
}
