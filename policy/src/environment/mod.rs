//! What an expression of a policy may name: attributes of a connection, a request and a response, and functions of the network.
//!
//! The names, their types and what functions give are those of ngrok's traffic policy, so that its expressions run as they are; what is not
//! here is refused by name when an expression is compiled. Where that form forgives, this one does not: a network that cannot be
//! read is refused when it is a constant and is an error of the evaluation when it is not, where that form answers `false`. Who restricts
//! by an expression treats an error as a refusal.
//!
//! | attributes | type | known |
//! |---|---|---|
//! | `conn.client_ip`, `conn.server_ip` | string; an IPv4 address is written as one, however the socket has it | always |
//! | `conn.client_port`, `conn.server_port` | int | always |
//! | `conn.ts.start` | timestamp | always |
//! | `conn.tls.version`, `conn.tls.cipher_suite`, `conn.tls.sni`, `conn.tls.negotiated_alpn` | string | when TLS ends here and has begun |
//! | `endpoint.id`, `endpoint.protocol`, `endpoint.host` | string | always |
//! | `endpoint.port` | int | always |
//! | `time.now` | timestamp | always |
//! | `vars`, `actions.ngrok` | map of strings to what actions set | always |
//! | `req.method`, `req.version`, `req.host`, `req.url`, `req.url.scheme`, `req.url.authority`, `req.url.host`, `req.url.path`, `req.url.query` | string | with a request |
//! | `req.url.port` | int | when the authority has one |
//! | `req.url.query_params`, `req.headers` | map of strings to lists of strings; names of headers in lower case | with a request |
//! | `req.cookies` | map of strings to lists of cookies, which have `name` and `value` | with a request |
//! | `req.user_agent`, `req.content_type` | string; the media type without parameters | when the header is there |
//! | `req.content_length` | int | when the header is there and is a number |
//! | `req.ts.header_received` | timestamp | with a request |
//! | `res.status_code` | int | with a response |
//! | `res.headers`, `res.content_type`, `res.content_length` | as those of the request | as those of the request |
//!
//! | functions | give |
//! |---|---|
//! | `inCidrRange(ip, network)`, `inCidrRanges(ip, networks)` | whether the address is in the network, or in one of them |
//! | `hasReqHeader(name)`, `hasResHeader(name)` | whether there is such a header, whatever the case of its name |
//! | `getReqHeader(name)`, `getResHeader(name)` | its values in their order; no element when there is none |
//! | `hasQueryParam(name)`, `getQueryParam(name)` | the same of the query, decoded |
//! | `hasReqCookie(name)` | whether there is such a cookie |
//! | `getReqCookie(name)` | the first one; an error when there is none |
//! | `basic_auth.encode(user, password)` | the credentials as a header has them |
//! | `hash.sha256(text)`, `text.sha256()`, each with `'hex'` (as when it is left out) or `'base64'`; so too `sha512`, `sha1`, `md5`, `crc32`, `crc64`, `xxhash64` | the hash of the text; only the first two say anything about who wrote it |

mod facts;
mod fields;
mod functions;
mod hashes;

use std::sync::LazyLock;

pub use self::facts::{Connection, Endpoint, Exchange, Head, Request, Response, Tls};

use crate::cel::{Attribute, Environment, Type, Value};

/// When rules are evaluated. A later phase knows all that an earlier one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// A caller connected.
    TcpConnect,
    /// A request came.
    HttpRequest,
    /// The upstream answered.
    HttpResponse,
}

impl Phase {
    /// All of them, the earliest first.
    pub const ALL: [Self; 3] = [Self::TcpConnect, Self::HttpRequest, Self::HttpResponse];

    /// Returns its name in a document.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpConnect => "on_tcp_connect",
            Self::HttpRequest => "on_http_request",
            Self::HttpResponse => "on_http_response",
        }
    }

    /// Returns what expressions of this phase may name. They are evaluated with an [`Exchange`].
    pub fn environment(self) -> &'static Environment {
        static ENVIRONMENTS: LazyLock<[Environment; 3]> = LazyLock::new(|| Phase::ALL.map(declare));
        let [connect, request, response] = &*ENVIRONMENTS;
        match self {
            Self::TcpConnect => connect,
            Self::HttpRequest => request,
            Self::HttpResponse => response,
        }
    }
}

fn declare(phase: Phase) -> Environment {
    let mut environment = Environment::standard();
    // The table is sorted by phase: the place in it is the attribute in every environment.
    for entry in ATTRIBUTES.iter().filter(|entry| entry.since <= phase) {
        environment.attribute(entry.name, (entry.ty)());
    }
    for function in functions::functions(phase).into_iter().chain(hashes::functions()) {
        environment.function(function);
    }
    environment
}

/// One attribute: its name, the phase from which it is known, its type, and where its value is.
struct Entry {
    name: &'static str,
    since: Phase,
    ty: fn() -> Type,
    get: for<'f> fn(&'f Exchange<'_>) -> Option<Value<'f>>,
}

const REQ_HEADERS: Attribute = named("req.headers");
const REQ_COOKIES: Attribute = named("req.cookies");
const QUERY_PARAMS: Attribute = named("req.url.query_params");
const RES_HEADERS: Attribute = named("res.headers");

/// Returns the place of a name in the table; a name that is not there does not compile.
const fn named(name: &str) -> Attribute {
    let mut at = 0;
    loop {
        if same(ATTRIBUTES[at].name.as_bytes(), name.as_bytes()) {
            return Attribute(at);
        }
        at += 1;
    }
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    one.len() == other.len()
}

const STRING: fn() -> Type = || Type::STRING;
const INT: fn() -> Type = || Type::INT;
const TIMESTAMP: fn() -> Type = || Type::TIMESTAMP;
const MADE: fn() -> Type = || Type::map(Type::STRING, Type::Dyn);
const LISTS: fn() -> Type = || Type::map(Type::STRING, Type::list(Type::STRING));
const COOKIES: fn() -> Type = || Type::map(Type::STRING, Type::list(Type::map(Type::STRING, Type::STRING)));

const ATTRIBUTES: &[Entry] = &{
    use Phase::{HttpRequest as Q, HttpResponse as S, TcpConnect as C};
    const fn entry(
        since: Phase,
        name: &'static str,
        ty: fn() -> Type,
        get: for<'f> fn(&'f Exchange<'_>) -> Option<Value<'f>>,
    ) -> Entry {
        Entry { name, since, ty, get }
    }
    [
        entry(C, "conn.client_ip", STRING, |it| Some(it.connection.client_ip().into())),
        entry(C, "conn.client_port", INT, |it| Some(Value::Int(it.connection.client_port().into()))),
        entry(C, "conn.server_ip", STRING, |it| Some(it.connection.server_ip().into())),
        entry(C, "conn.server_port", INT, |it| Some(Value::Int(it.connection.server_port().into()))),
        entry(C, "conn.ts.start", TIMESTAMP, |it| Some(Value::Timestamp(it.connection.start()))),
        entry(C, "conn.tls.version", STRING, |it| Some(it.connection.tls()?.version.as_str().into())),
        entry(C, "conn.tls.cipher_suite", STRING, |it| Some(it.connection.tls()?.cipher_suite.as_str().into())),
        entry(C, "conn.tls.sni", STRING, |it| Some(it.connection.tls()?.sni.as_str().into())),
        entry(C, "conn.tls.negotiated_alpn", STRING, |it| Some(it.connection.tls()?.alpn.as_str().into())),
        entry(C, "endpoint.id", STRING, |it| Some(it.endpoint.id.into())),
        entry(C, "endpoint.protocol", STRING, |it| Some(it.endpoint.protocol.into())),
        entry(C, "endpoint.host", STRING, |it| Some(it.endpoint.host.into())),
        entry(C, "endpoint.port", INT, |it| Some(Value::Int(it.endpoint.port.into()))),
        entry(C, "time.now", TIMESTAMP, |it| Some(Value::Timestamp(it.now))),
        entry(C, "vars", MADE, |it| Some(Value::Map(it.vars.clone()))),
        entry(C, "actions.ngrok", MADE, |it| Some(Value::Map(it.results.clone()))),
        entry(Q, "req.method", STRING, |it| Some(it.request()?.head().method.into())),
        entry(Q, "req.version", STRING, |it| Some(it.request()?.head().version.into())),
        entry(Q, "req.host", STRING, |it| Some(it.request()?.head().authority.into())),
        entry(Q, "req.headers", LISTS, |it| Some(it.request()?.headers().value())),
        entry(Q, "req.cookies", COOKIES, |it| Some(it.request()?.cookies().value())),
        entry(Q, "req.url", STRING, |it| Some(it.request()?.url().into())),
        entry(Q, "req.url.scheme", STRING, |it| Some(it.request()?.head().scheme.into())),
        entry(Q, "req.url.authority", STRING, |it| Some(it.request()?.head().authority.into())),
        entry(Q, "req.url.host", STRING, |it| Some(it.request()?.host().into())),
        entry(Q, "req.url.port", INT, |it| it.request()?.port().map(|port| Value::Int(port.into()))),
        entry(Q, "req.url.path", STRING, |it| Some(it.request()?.head().path.into())),
        entry(Q, "req.url.query", STRING, |it| Some(it.request()?.head().query.into())),
        entry(Q, "req.url.query_params", LISTS, |it| Some(it.request()?.query().value())),
        entry(Q, "req.user_agent", STRING, |it| it.request()?.headers().first("user-agent")),
        entry(Q, "req.content_type", STRING, |it| it.request()?.headers().media_type()),
        entry(Q, "req.content_length", INT, |it| it.request()?.headers().content_length()),
        entry(Q, "req.ts.header_received", TIMESTAMP, |it| Some(Value::Timestamp(it.request()?.head().received))),
        entry(S, "res.status_code", INT, |it| Some(Value::Int(it.response()?.status.into()))),
        entry(S, "res.headers", LISTS, |it| Some(it.response()?.headers().value())),
        entry(S, "res.content_type", STRING, |it| it.response()?.headers().media_type()),
        entry(S, "res.content_length", INT, |it| it.response()?.headers().content_length()),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_has_one_place_in_every_phase() {
        assert!(ATTRIBUTES.is_sorted_by_key(|entry| entry.since));
        assert_eq!(ATTRIBUTES.get(RES_HEADERS.0).map(|entry| entry.name), Some("res.headers"));
    }
}
