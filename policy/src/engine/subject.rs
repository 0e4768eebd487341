//! What a run is about: what is known, and what rules may change.

use http::{HeaderName, HeaderValue, Uri, header};

use crate::{
    cel::{Map, Timestamp},
    environment::{Connection, Endpoint, Exchange, Head, Phase, Response},
};

/// A connection, the request on it, and the response to that. What rules change is changed in place.
#[derive(Debug)]
pub struct Subject<'a> {
    connection: &'a Connection,
    endpoint: Endpoint<'a>,
    request: Option<(&'a mut http::request::Parts, Timestamp)>,
    response: Option<&'a mut http::response::Parts>,
    seed: u64,
}

impl<'a> Subject<'a> {
    /// Returns a connection to an endpoint.
    pub fn new(connection: &'a Connection, endpoint: Endpoint<'a>) -> Self {
        Self { connection, endpoint, request: None, response: None, seed: 0 }
    }

    /// Adds a request, whose head was complete at a time. What goes to the upstream is what is here: who serves it has brought its target
    /// into the form in which it is sent. The scheme and the authority are those of its URI, else those of the endpoint and of `host`.
    pub fn with_request(self, request: &'a mut http::request::Parts, received: Timestamp) -> Self {
        Self { request: Some((request, received)), ..self }
    }

    /// Adds the response.
    pub fn with_response(self, response: &'a mut http::response::Parts) -> Self {
        Self { response: Some(response), ..self }
    }

    /// Adds a seed, from which all numbers of `rand` are made: a random one for each connection or request.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Takes what the next random numbers are made of.
    pub fn reseed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Returns what expressions see.
    pub(super) fn exchange(&self, now: Timestamp, vars: Map<'static>, results: Map<'static>) -> Exchange<'_> {
        let mut exchange = Exchange::new(self.connection, self.endpoint, now).with_seed(self.seed);
        exchange.vars = vars;
        exchange.results = results;
        if let Some((request, received)) = &self.request {
            exchange = exchange.with_request(head(request, self.endpoint.protocol, *received));
        }
        match &self.response {
            Some(response) => exchange.with_response(Response::new(response.status.as_u16(), &response.headers)),
            None => exchange,
        }
    }

    /// Makes a change of a phase.
    pub(super) fn apply(&mut self, phase: Phase, change: Change) {
        let headers = match phase {
            Phase::TcpConnect => return,
            Phase::HttpRequest => self.request.as_mut().map(|(request, _)| &mut request.headers),
            Phase::HttpResponse => self.response.as_mut().map(|response| &mut response.headers),
        };
        let Some(headers) = headers else { return };
        match change {
            Change::Add(name, value) => {
                headers.append(name, value);
            }
            Change::Host(value) => {
                headers.insert(header::HOST, value);
            }
            Change::Remove(name) => {
                headers.remove(name);
            }
            Change::Url(uri) => {
                if let Some((request, _)) = &mut self.request {
                    request.uri = uri;
                }
            }
        }
    }
}

/// A change of the request or response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a header after those of its name.
    Add(HeaderName, HeaderValue),
    /// Replaces the host.
    Host(HeaderValue),
    /// Removes all headers of a name.
    Remove(HeaderName),
    /// Replaces the URL.
    Url(Uri),
}

fn head<'a>(request: &'a http::request::Parts, protocol: &'a str, received: Timestamp) -> Head<'a> {
    let uri = &request.uri;
    let host = || request.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    Head {
        method: request.method.as_str(),
        scheme: uri.scheme_str().unwrap_or(protocol),
        authority: uri.authority().map(http::uri::Authority::as_str).or_else(host).unwrap_or_default(),
        path: uri.path(),
        query: uri.query().unwrap_or_default(),
        version: version(request.version),
        headers: &request.headers,
        received,
    }
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_11 => "HTTP/1.1",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/0.9",
    }
}
