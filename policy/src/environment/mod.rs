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
//! | `conn.server_region` | string | always |
//! | `conn.ts.start` | timestamp | always |
//! | `conn.tls.version` (as `1.3`), `conn.tls.cipher_suite`, `conn.tls.sni`, `conn.tls.negotiated_alpn` | string | when TLS ends here and has begun |
//! | `conn.tls.session_resumed` | bool | as above |
//! | `conn.tls.client.verified`, which that form does not have | bool; false without a certificate of the endpoint's authorities | as above |
//! | `conn.tls.client.fingerprint`, which that form does not have | string: SHA-256, hexadecimal | when the caller has shown a certificate, verified or not |
//! | `conn.tls.client.pem`, `….serial_number`, `….signature_algorithm`, `….subject`, `….issuer`, `….san` | string | when the caller has shown a certificate |
//! | `conn.tls.client.subject.common_name`, and that of `issuer` | string | as above |
//! | `conn.tls.client.subject.country`, `….locality`, `….organization`, `….organizational_unit`, `….postal_code`, `….province`, `….street_address`, and those of `issuer` | list of strings | as above |
//! | `conn.tls.client.san.dns_names`, `….email_addresses`, `….ip_addresses`, `….uris` | list of strings | as above |
//! | `conn.tls.client.validity.not_before`, `….not_after` | timestamp | as above |
//! | `conn.tls.client.extensions` | list of maps of `id`, `critical` and `value` | as above |
//! | `endpoint.id`, `endpoint.protocol`, `endpoint.host`, `endpoint.addr`, `endpoint.url` | string | always |
//! | `endpoint.port` | int | always |
//! | `time.now` | timestamp | always |
//! | `vars`, `actions.ngrok` | map of strings to what actions set | always |
//! | `req.method`, `req.version`, `req.host`, `req.url`, `req.url.scheme`, `req.url.authority`, `req.url.host`, `req.url.path`, `req.url.query`, `req.url.uri` (path and query), `req.url.user_password` | string | with a request |
//! | `req.url.port` | int | when the authority has one |
//! | `req.url.query_params`, `req.headers` | map of strings to lists of strings; names of headers in lower case, and found in any | with a request |
//! | `req.cookies` | map of strings to lists of cookies, which have `name` and `value` | with a request |
//! | `req.user_agent`, `req.location`, `req.content_type`, `req.content_type.raw` | string, empty without the header; the media type without parameters | with a request |
//! | `req.content_type.parameters` | map of strings | with a request |
//! | `req.content_encoding` | list of strings | with a request |
//! | `req.content_length` | int | when the header is there and is a number |
//! | `req.ts.header_received` | timestamp | with a request |
//! | `res.status_code` | int | with a response |
//! | `res.headers`, `res.location`, `res.content_type`, `res.content_type.raw`, `res.content_type.parameters`, `res.content_encoding`, `res.content_length` | as those of the request | as those of the request |
//! | `res.cookies` | map of strings to lists of cookies: `name`, `value`, `domain`, `path`, `same_site`, `secure`, `http_only`, `unparsed_attributes`, and `expires` and `max_age` where they are given | with a response |
//!
//! | functions | give |
//! |---|---|
//! | `inCidrRange(ip, network)`, `inCidrRanges(ip, networks)` | whether the address is in the network, or in one of them |
//! | `hasReqHeader(name)`, `hasResHeader(name)` | whether there is such a header, whatever the case of its name |
//! | `getReqHeader(name)`, `getResHeader(name)` | its values in their order; no element when there is none |
//! | `hasQueryParam(name)`, `getQueryParam(name)` | the same of the query, decoded |
//! | `hasReqCookie(name)` | whether there is such a cookie |
//! | `getReqCookie(name)` | the first one; an error when there is none |
//! | `hasResCookie(name)`, `getResCookie(name)` | the same of a response; of equal names that of the longest path |
//! | `url.escape(text)`, `text.escapeUrl()`, `url.unescape(text)`, `text.unescapeUrl()` | the text with escapes, or without; `+` is a space |
//! | `url.parse(text)`, `text.parseUrl()` | map of the parts that there are: `scheme`, `user_password`, `host`, `hostname`, `port`, `path`, `query`, `fragment` |
//! | `queryString.decode(text)`, `text.decodeQueryString()`, `queryString.encode(map)`, `map.encodeQueryString()` | a query as a map of strings, and back |
//! | `json.decode(text)`, `text.decodeJson()`, `json.encode(value)`, `list.encodeJson()`, `map.encodeJson()` | JSON as a value, and back |
//! | `text.encodeBase64()`, `text.decodeBase64()` | base64 of a text, and back |
//! | `text.isURL()`, `text.isQueryString()`, `text.isJson()`, `text.isPrivateIp()` | whether it is one; of RFC 1918 |
//! | `text.lower()`, `text.upper()` | the text in that case |
//! | `list.slice(from, to)`, `list.flatten()`, `list.flatten(depth)`, `list.sort()`, `list.sortBy(x, key)`, `list.distinct()`, `lists.range(n)` | a list |
//! | `rand.double()`, `rand.int()`, `rand.int(least, most)` | a random number below 1; 0 or 1; one between, both included |
//! | `basic_auth.encode(user, password)` | the credentials as a header has them |
//! | `hash.sha256(text)`, `text.sha256()`, each with `'hex'` (as when it is left out) or `'base64'`; so too `sha512`, `sha1`, `md5`, `crc32`, `crc64`, `xxhash64` | the hash of the text; only the first two say anything about who wrote it |

mod certificate;
mod cookies;
mod facts;
mod fields;
mod functions;
mod hashes;
mod lists;
mod texts;

use std::sync::LazyLock;

pub use self::{
    certificate::{Certificate, Extension, Extensions, Name, Texts},
    facts::{Connection, Endpoint, Exchange, Head, Request, Response, Tls},
};
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
    for (name, remedy) in UNAVAILABLE {
        environment.unavailable(name, remedy);
    }
    for function in functions::functions(phase)
        .into_iter()
        .chain(hashes::functions())
        .chain(lists::functions())
        .chain(texts::functions())
    {
        environment.function(function);
    }
    environment
}

/// What that form has and this one has not, and what to do about it.
const UNAVAILABLE: &[(&str, &str)] = &[
    ("conn.geo", PLACES),
    ("conn.client_ip.geo", PLACES),
    ("conn.ip_intel", ADDRESSES),
    ("conn.client_ip.categories", ADDRESSES),
    ("conn.client_ip.as", ADDRESSES),
    ("conn.bytes_in", "rules run before the bytes of a connection are counted"),
    ("conn.bytes_out", "rules run before the bytes of a connection are counted"),
    ("conn.ts.end", "rules run before a connection ends"),
    ("conn.tls.ja4_fingerprint", "the network does not make fingerprints of handshakes"),
    ("req.trailers", "rules run before trailers come, which follow the body"),
    ("res.trailers", "rules run before trailers come, which follow the body"),
    ("req.ts.body_received", "rules run before the body has come"),
    ("req.url.raw", "rules see what the upstream gets; write `req.url`"),
    ("req.url.raw_path", "rules see what the upstream gets; write `req.url.path`"),
    ("req.user_agent.name", USER_AGENT),
    ("req.user_agent.version", USER_AGENT),
    ("req.user_agent.os", USER_AGENT),
    ("req.user_agent.os_version", USER_AGENT),
    ("req.user_agent.device", USER_AGENT),
    ("req.user_agent.is_mobile", USER_AGENT),
    ("req.user_agent.is_tablet", USER_AGENT),
    ("req.user_agent.is_desktop", USER_AGENT),
    ("req.user_agent.is_bot", USER_AGENT),
    ("req.user_agent.url", USER_AGENT),
    ("secrets.get", "there is no vault here; write the secret into the policy, a file that only the network may read"),
];

const PLACES: &str = "there is no database of places here; match `conn.client_ip` with `inCidrRanges`";
const ADDRESSES: &str = "there is no database of addresses here; match `conn.client_ip` with `inCidrRanges`";
const USER_AGENT: &str = "there is no database of programs here; match the text of `req.user_agent`";

/// One attribute: its name, the phase from which it is known, its type, and where its value is.
struct Entry {
    name: &'static str,
    since: Phase,
    ty: fn() -> Type,
    get: for<'f> fn(&'f Exchange<'_>) -> Option<Value<'f>>,
}

/// A random number, each time another one; no expression can write its name.
const CHANCE: &str = "(a random number)";
const RANDOM: Attribute = named(CHANCE);
const RES_COOKIES: Attribute = named("res.cookies");
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
const BOOL: fn() -> Type = || Type::BOOL;
const UINT: fn() -> Type = || Type::UINT;
const TEXTS: fn() -> Type = || Type::list(Type::STRING);
const STRINGS: fn() -> Type = || Type::map(Type::STRING, Type::STRING);
const EXTENSIONS: fn() -> Type = || Type::list(Type::map(Type::STRING, Type::Dyn));
const SET_COOKIES: fn() -> Type = || Type::map(Type::STRING, Type::list(Type::map(Type::STRING, Type::Dyn)));
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
        entry(C, "conn.server_region", STRING, |it| Some(it.connection.region().into())),
        entry(C, "conn.ts.start", TIMESTAMP, |it| Some(Value::Timestamp(it.connection.start()))),
        entry(C, "conn.tls.version", STRING, |it| Some(it.connection.tls()?.version.as_str().into())),
        entry(C, "conn.tls.cipher_suite", STRING, |it| Some(it.connection.tls()?.cipher_suite.as_str().into())),
        entry(C, "conn.tls.sni", STRING, |it| Some(it.connection.tls()?.sni.as_str().into())),
        entry(C, "conn.tls.negotiated_alpn", STRING, |it| Some(it.connection.tls()?.alpn.as_str().into())),
        entry(C, "conn.tls.session_resumed", BOOL, |it| it.connection.resumed().map(Value::Bool)),
        entry(C, "conn.tls.client.verified", BOOL, |it| {
            it.connection.tls()?;
            Some(Value::Bool(it.connection.certificate().is_some_and(|certificate| certificate.verified)))
        }),
        entry(C, "conn.tls.client.fingerprint", STRING, |it| {
            Some(it.connection.certificate()?.fingerprint.as_str().into())
        }),
        entry(C, "conn.tls.client.pem", STRING, |it| Some(it.connection.certificate()?.pem.as_str().into())),
        entry(C, "conn.tls.client.serial_number", STRING, |it| {
            Some(it.connection.certificate()?.serial_number.as_str().into())
        }),
        entry(C, "conn.tls.client.signature_algorithm", STRING, |it| {
            Some(it.connection.certificate()?.signature_algorithm.as_str().into())
        }),
        entry(C, "conn.tls.client.subject", STRING, |it| {
            Some(it.connection.certificate()?.subject.text.as_str().into())
        }),
        entry(C, "conn.tls.client.subject.common_name", STRING, |it| {
            Some(it.connection.certificate()?.subject.common_name.as_str().into())
        }),
        entry(C, "conn.tls.client.subject.country", TEXTS, |it| {
            Some(it.connection.certificate()?.subject.country.value())
        }),
        entry(C, "conn.tls.client.subject.locality", TEXTS, |it| {
            Some(it.connection.certificate()?.subject.locality.value())
        }),
        entry(C, "conn.tls.client.subject.organization", TEXTS, |it| {
            Some(it.connection.certificate()?.subject.organization.value())
        }),
        entry(C, "conn.tls.client.subject.organizational_unit", TEXTS, |it| {
            Some(it.connection.certificate()?.subject.organizational_unit.value())
        }),
        entry(C, "conn.tls.client.subject.postal_code", TEXTS, |it| {
            Some(it.connection.certificate()?.subject.postal_code.value())
        }),
        entry(C, "conn.tls.client.subject.province", TEXTS, |it| {
            Some(it.connection.certificate()?.subject.province.value())
        }),
        entry(C, "conn.tls.client.subject.street_address", TEXTS, |it| {
            Some(it.connection.certificate()?.subject.street_address.value())
        }),
        entry(C, "conn.tls.client.issuer", STRING, |it| Some(it.connection.certificate()?.issuer.text.as_str().into())),
        entry(C, "conn.tls.client.issuer.common_name", STRING, |it| {
            Some(it.connection.certificate()?.issuer.common_name.as_str().into())
        }),
        entry(C, "conn.tls.client.issuer.country", TEXTS, |it| {
            Some(it.connection.certificate()?.issuer.country.value())
        }),
        entry(C, "conn.tls.client.issuer.locality", TEXTS, |it| {
            Some(it.connection.certificate()?.issuer.locality.value())
        }),
        entry(C, "conn.tls.client.issuer.organization", TEXTS, |it| {
            Some(it.connection.certificate()?.issuer.organization.value())
        }),
        entry(C, "conn.tls.client.issuer.organizational_unit", TEXTS, |it| {
            Some(it.connection.certificate()?.issuer.organizational_unit.value())
        }),
        entry(C, "conn.tls.client.issuer.postal_code", TEXTS, |it| {
            Some(it.connection.certificate()?.issuer.postal_code.value())
        }),
        entry(C, "conn.tls.client.issuer.province", TEXTS, |it| {
            Some(it.connection.certificate()?.issuer.province.value())
        }),
        entry(C, "conn.tls.client.issuer.street_address", TEXTS, |it| {
            Some(it.connection.certificate()?.issuer.street_address.value())
        }),
        entry(C, "conn.tls.client.san", STRING, |it| it.connection.san().map(Value::from)),
        entry(C, "conn.tls.client.san.dns_names", TEXTS, |it| Some(it.connection.certificate()?.dns_names.value())),
        entry(C, "conn.tls.client.san.email_addresses", TEXTS, |it| {
            Some(it.connection.certificate()?.email_addresses.value())
        }),
        entry(C, "conn.tls.client.san.ip_addresses", TEXTS, |it| {
            Some(it.connection.certificate()?.ip_addresses.value())
        }),
        entry(C, "conn.tls.client.san.uris", TEXTS, |it| Some(it.connection.certificate()?.uris.value())),
        entry(C, "conn.tls.client.validity.not_before", TIMESTAMP, |it| {
            Some(Value::Timestamp(it.connection.certificate()?.not_before))
        }),
        entry(C, "conn.tls.client.validity.not_after", TIMESTAMP, |it| {
            Some(Value::Timestamp(it.connection.certificate()?.not_after))
        }),
        entry(C, "conn.tls.client.extensions", EXTENSIONS, |it| Some(it.connection.certificate()?.extensions.value())),
        entry(C, "endpoint.id", STRING, |it| Some(it.endpoint.id.into())),
        entry(C, "endpoint.protocol", STRING, |it| Some(it.endpoint.protocol.into())),
        entry(C, "endpoint.host", STRING, |it| Some(it.endpoint.host.into())),
        entry(C, "endpoint.port", INT, |it| Some(Value::Int(it.endpoint.port.into()))),
        entry(C, "endpoint.addr", STRING, |it| it.endpoint_texts().first().map(|text| text.as_str().into())),
        entry(C, "endpoint.url", STRING, |it| it.endpoint_texts().last().map(|text| text.as_str().into())),
        entry(C, "time.now", TIMESTAMP, |it| Some(Value::Timestamp(it.now))),
        entry(C, "vars", MADE, |it| Some(Value::Map(it.vars.clone()))),
        entry(C, "actions.ngrok", MADE, |it| Some(Value::Map(it.results.clone()))),
        entry(C, CHANCE, UINT, |it| Some(Value::Uint(it.random()))),
        entry(Q, "req.method", STRING, |it| Some(it.request()?.head().method.into())),
        entry(Q, "req.version", STRING, |it| Some(it.request()?.head().version.into())),
        entry(Q, "req.host", STRING, |it| Some(it.request()?.head().authority.into())),
        entry(Q, "req.headers", LISTS, |it| Some(it.request()?.headers().value())),
        entry(Q, "req.cookies", COOKIES, |it| Some(it.request()?.cookies().value())),
        entry(Q, "req.url", STRING, |it| Some(it.request()?.url().into())),
        entry(Q, "req.url.scheme", STRING, |it| Some(it.request()?.head().scheme.into())),
        entry(Q, "req.url.authority", STRING, |it| Some(it.request()?.head().authority.into())),
        entry(Q, "req.url.host", STRING, |it| Some(it.request()?.host().into())),
        entry(Q, "req.url.user_password", STRING, |it| Some(it.request()?.user_password().into())),
        entry(Q, "req.url.port", INT, |it| it.request()?.port().map(|port| Value::Int(port.into()))),
        entry(Q, "req.url.path", STRING, |it| Some(it.request()?.head().path.into())),
        entry(Q, "req.url.query", STRING, |it| Some(it.request()?.head().query.into())),
        entry(Q, "req.url.uri", STRING, |it| Some(it.request()?.target().into())),
        entry(Q, "req.url.query_params", LISTS, |it| Some(it.request()?.query().value())),
        entry(Q, "req.user_agent", STRING, |it| Some(it.request()?.headers().first("user-agent"))),
        entry(Q, "req.location", STRING, |it| Some(it.request()?.headers().first("location"))),
        entry(Q, "req.content_type", STRING, |it| Some(it.request()?.headers().media_type())),
        entry(Q, "req.content_type.raw", STRING, |it| Some(it.request()?.headers().first("content-type"))),
        entry(Q, "req.content_type.parameters", STRINGS, |it| Some(it.request()?.headers().media_parameters())),
        entry(Q, "req.content_encoding", TEXTS, |it| Some(it.request()?.headers().elements("content-encoding"))),
        entry(Q, "req.content_length", INT, |it| it.request()?.headers().content_length()),
        entry(Q, "req.ts.header_received", TIMESTAMP, |it| Some(Value::Timestamp(it.request()?.head().received))),
        entry(S, "res.status_code", INT, |it| Some(Value::Int(it.response()?.status.into()))),
        entry(S, "res.headers", LISTS, |it| Some(it.response()?.headers().value())),
        entry(S, "res.cookies", SET_COOKIES, |it| Some(it.response()?.cookies().value())),
        entry(S, "res.location", STRING, |it| Some(it.response()?.headers().first("location"))),
        entry(S, "res.content_type", STRING, |it| Some(it.response()?.headers().media_type())),
        entry(S, "res.content_type.raw", STRING, |it| Some(it.response()?.headers().first("content-type"))),
        entry(S, "res.content_type.parameters", STRINGS, |it| Some(it.response()?.headers().media_parameters())),
        entry(S, "res.content_encoding", TEXTS, |it| Some(it.response()?.headers().elements("content-encoding"))),
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
