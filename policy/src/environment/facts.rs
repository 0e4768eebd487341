//! What is known of a connection, a request and a response; borrowed from who serves them.

use core::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};
use std::sync::OnceLock;

use http::{HeaderMap, HeaderName};

use super::{ATTRIBUTES, certificate::Certificate, fields::Fields};
use crate::cel::{Attribute, Facts, Map, Timestamp, Value};

/// All that is known when a rule is evaluated.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// The connection of the caller.
    pub connection: &'a Connection,
    /// The endpoint that was called.
    pub endpoint: Endpoint<'a>,
    /// The time of this evaluation.
    pub now: Timestamp,
    /// What `set-vars` has set.
    pub vars: Map<'a>,
    /// What actions have told, by their name with `_` for `-`.
    pub results: Map<'a>,
    request: Option<Request<'a>>,
    response: Option<Response<'a>>,
    made: OnceLock<[String; 2]>,
    chance: Chance,
}

/// Numbers that nobody foretells who does not know the seed.
#[derive(Debug)]
struct Chance(AtomicU64);

impl<'a> Exchange<'a> {
    /// Returns what is known when a caller has connected.
    pub fn new(connection: &'a Connection, endpoint: Endpoint<'a>, now: Timestamp) -> Self {
        Self {
            connection,
            endpoint,
            now,
            vars: Map::Borrowed(&[]),
            results: Map::Borrowed(&[]),
            request: None,
            response: None,
            made: OnceLock::new(),
            chance: Chance(AtomicU64::new(0)),
        }
    }

    /// Adds a seed, from which all numbers of `rand` are made.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { chance: Chance(AtomicU64::new(seed)), ..self }
    }

    /// Returns what the next numbers are made of.
    pub fn seed(&self) -> u64 {
        self.chance.0.load(Ordering::Relaxed)
    }

    /// Returns a random number (SplitMix64).
    pub(super) fn random(&self) -> u64 {
        let state = self.chance.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns the address and the URL of the endpoint.
    pub(super) fn endpoint_texts(&self) -> &[String; 2] {
        self.made.get_or_init(|| {
            let Endpoint { protocol, host, port, .. } = self.endpoint;
            let usual = matches!((protocol, port), ("https" | "tls", 443) | ("http", 80));
            let address = format!("{host}:{port}");
            let url = if usual { format!("{protocol}://{host}") } else { format!("{protocol}://{address}") };
            [address, url]
        })
    }

    /// Adds a request.
    pub fn with_request(self, head: Head<'a>) -> Self {
        Self { request: Some(Request::new(head)), ..self }
    }

    /// Adds a response.
    pub fn with_response(self, response: Response<'a>) -> Self {
        Self { response: Some(response), ..self }
    }

    /// Returns the request, if there is one.
    pub fn request(&self) -> Option<&Request<'a>> {
        self.request.as_ref()
    }

    /// Returns the response, if there is one.
    pub fn response(&self) -> Option<&Response<'a>> {
        self.response.as_ref()
    }
}

impl Facts for Exchange<'_> {
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>> {
        (ATTRIBUTES.get(attribute.0)?.get)(self)
    }
}

/// A connection. Its addresses are written once, however many rules read them.
#[derive(Clone, Debug)]
pub struct Connection {
    client: SocketAddr,
    client_ip: String,
    server: SocketAddr,
    server_ip: String,
    start: Timestamp,
    region: String,
    tls: Option<Tls>,
    resumed: bool,
    client_certificate: Option<Box<Certified>>,
}

/// A certificate, and what is made of it once.
#[derive(Clone, Debug)]
struct Certified {
    certificate: Certificate,
    san: String,
}

impl Connection {
    /// Returns a connection. `client` is the peer of the socket, or what a **trusted** proxy told of it; never what a header says.
    pub fn new(client: SocketAddr, server: SocketAddr, start: Timestamp, tls: Option<Tls>) -> Self {
        let text = |address: SocketAddr| address.ip().to_canonical().to_string();
        Self {
            client,
            client_ip: text(client),
            server,
            server_ip: text(server),
            start,
            region: String::new(),
            tls,
            resumed: false,
            client_certificate: None,
        }
    }

    /// Adds the region of the network's node.
    pub fn with_region(self, region: impl Into<String>) -> Self {
        Self { region: region.into(), ..self }
    }

    /// Adds the certificate that the caller has shown; whether somebody vouches for it is the handshake's to say.
    pub fn with_client_certificate(self, certificate: Certificate) -> Self {
        let san = certificate.san();
        Self { client_certificate: Some(Box::new(Certified { certificate, san })), ..self }
    }

    /// Says that the session of TLS was resumed.
    pub fn with_resumption(self) -> Self {
        Self { resumed: true, ..self }
    }

    /// Returns the address of the caller; an IPv4 address never as an IPv6 one.
    pub fn client(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }

    pub(super) fn client_ip(&self) -> &str {
        &self.client_ip
    }

    pub(super) fn client_port(&self) -> u16 {
        self.client.port()
    }

    pub(super) fn server_ip(&self) -> &str {
        &self.server_ip
    }

    pub(super) fn server_port(&self) -> u16 {
        self.server.port()
    }

    pub(super) fn start(&self) -> Timestamp {
        self.start
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    pub(super) fn resumed(&self) -> Option<bool> {
        self.tls.as_ref().map(|_| self.resumed)
    }

    pub(super) fn certificate(&self) -> Option<&Certificate> {
        self.client_certificate.as_ref().map(|it| &it.certificate)
    }

    pub(super) fn san(&self) -> Option<&str> {
        self.client_certificate.as_ref().map(|it| it.san.as_str())
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }
}

/// What a TLS handshake has agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The version, as `1.3`.
    pub version: String,
    /// The cipher suite by its name of IANA.
    pub cipher_suite: String,
    /// The name that the caller asked for.
    pub sni: String,
    /// The protocol of ALPN; empty when none was agreed on.
    pub alpn: String,
}

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint<'a> {
    /// Its identity.
    pub id: &'a str,
    /// `http`, `https`, `tcp` or `tls`.
    pub protocol: &'a str,
    /// Its name.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
}

/// The head of a request, exactly as it goes to the upstream: what policy sees is what is served.
#[derive(Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host that was asked for, with its port if one was given.
    pub authority: &'a str,
    /// The path, with its leading slash.
    pub path: &'a str,
    /// What stands after the question mark; empty when there is none.
    pub query: &'a str,
    /// The version, as `HTTP/2.0`.
    pub version: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// When the head was complete.
    pub received: Timestamp,
}

/// A request. What costs more than to look at it is made when a rule first asks.
#[derive(Debug)]
pub struct Request<'a> {
    head: Head<'a>,
    headers: OnceLock<Fields<'a>>,
    url: OnceLock<String>,
    cookies: OnceLock<Fields<'a>>,
    query: OnceLock<Fields<'a>>,
}

impl<'a> Request<'a> {
    fn new(head: Head<'a>) -> Self {
        Self { head, headers: OnceLock::new(), url: OnceLock::new(), cookies: OnceLock::new(), query: OnceLock::new() }
    }

    /// Returns the head.
    pub fn head(&self) -> &Head<'a> {
        &self.head
    }

    /// Returns the URL.
    pub fn url(&self) -> &str {
        self.url.get_or_init(|| {
            let Head { scheme, authority, path, query, .. } = self.head;
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{scheme}://{authority}{path}{mark}{query}")
        })
    }

    pub(super) fn headers(&self) -> &Fields<'a> {
        self.headers.get_or_init(|| Fields::headers(self.head.headers))
    }

    pub(super) fn cookies(&self) -> &Fields<'a> {
        self.cookies.get_or_init(|| Fields::cookies(self.head.headers))
    }

    pub(super) fn query(&self) -> &Fields<'a> {
        self.query.get_or_init(|| Fields::query(self.head.query))
    }

    /// Returns the host of the authority, without the brackets of an IPv6 address.
    pub fn host(&self) -> &'a str {
        split(self.head.authority).0
    }

    pub(super) fn port(&self) -> Option<u16> {
        split(self.head.authority).1
    }

    /// Returns the path and the query.
    pub(super) fn target(&self) -> &str {
        let url = self.url();
        url.get(self.head.scheme.len() + 3 + self.head.authority.len()..).unwrap_or_default()
    }

    /// Returns what stands before the at sign of the authority.
    pub(super) fn user_password(&self) -> &'a str {
        self.head.authority.rsplit_once('@').map_or("", |(user, _)| user)
    }
}

/// Splits an authority into host, without the brackets of an IPv6 address, and port.
fn split(authority: &str) -> (&str, Option<u16>) {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

/// The head of a response.
#[derive(Debug)]
pub struct Response<'a> {
    /// The status.
    pub status: u16,
    headers: &'a HeaderMap,
    fields: OnceLock<Fields<'a>>,
    cookies: OnceLock<Fields<'a>>,
}

impl<'a> Response<'a> {
    /// Returns the head of a response.
    pub fn new(status: u16, headers: &'a HeaderMap) -> Self {
        Self { status, headers, fields: OnceLock::new(), cookies: OnceLock::new() }
    }

    /// Returns its headers as they came.
    pub fn map(&self) -> &'a HeaderMap {
        self.headers
    }

    /// Returns whether there is a header of a name.
    pub fn has(&self, name: &HeaderName) -> bool {
        self.headers.contains_key(name)
    }

    pub(super) fn headers(&self) -> &Fields<'a> {
        self.fields.get_or_init(|| Fields::headers(self.headers))
    }

    pub(super) fn cookies(&self) -> &Fields<'a> {
        self.cookies.get_or_init(|| Fields::set_cookies(self.headers))
    }
}

/// What the state of chance goes on by.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
