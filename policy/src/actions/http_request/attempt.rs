//! What is told of a request and of its answer.

use core::net::IpAddr;

use http::HeaderMap;

use crate::{
    cel::{Attribute, Facts, Value},
    engine::{Failure, FetchError, Turn},
};

/// A request, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(super) milliseconds: u128,
    pub(super) result: Result<Told, FetchError>,
}

/// What is told of an answer.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) address: Option<IpAddr>,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Told {
    pub(super) fn of(answer: http::Response<Vec<u8>>) -> Self {
        let (parts, body) = answer.into_parts();
        let address = parts.extensions.get::<IpAddr>().copied();
        Self { status: parts.status.as_u16(), address, headers: parts.headers, body }
    }

    fn address(&self) -> String {
        self.address.map(|address| address.to_string()).unwrap_or_default()
    }
}

impl Attempt {
    /// Returns an element of `attempts`.
    pub(super) fn listed(&self, turn: &mut Turn<'_, '_>) -> Result<Value<'static>, Failure> {
        let time = Value::from(self.milliseconds.to_string());
        let mut entries = vec![("response_time_ms".into(), time)];
        if let Ok(told) = &self.result {
            entries.push(("resolved_ip".into(), Value::from(told.address())));
            entries.push(("response_header".into(), headers(turn, &told.headers)?));
            entries.push(("response_status_code".into(), Value::Int(told.status.into())));
        }
        turn.map(entries)
    }

    /// Returns `res`: the answer, or an empty map.
    pub(super) fn answer(&self, turn: &mut Turn<'_, '_>) -> Result<Value<'static>, Failure> {
        let Ok(told) = &self.result else { return turn.map(Vec::new()) };
        turn.pay(told.body.len(), 0)?;
        let body = String::from_utf8_lossy(&told.body).into_owned();
        let header = headers(turn, &told.headers)?;
        turn.map(vec![
            ("resolved_ip".into(), Value::from(told.address())),
            ("header".into(), header.clone()),
            ("headers".into(), header),
            ("status_code".into(), Value::Int(told.status.into())),
            ("statusCode".into(), Value::Int(told.status.into())),
            ("time_ms".into(), Value::from(self.milliseconds.to_string())),
            ("body".into(), Value::from(body)),
        ])
    }
}

/// Returns `req`: a request as it was sent.
pub(super) fn request(turn: &mut Turn<'_, '_>, request: &http::Request<Vec<u8>>) -> Result<Value<'static>, Failure> {
    turn.pay(request.body().len(), 0)?;
    let body = String::from_utf8_lossy(request.body()).into_owned();
    let header = headers(turn, request.headers())?;
    turn.map(vec![
        ("method".into(), Value::from(request.method().as_str().to_owned())),
        ("header".into(), header),
        ("url".into(), Value::from(request.uri().to_string())),
        ("body".into(), Value::from(body)),
    ])
}

fn headers(turn: &mut Turn<'_, '_>, headers: &HeaderMap) -> Result<Value<'static>, Failure> {
    let mut entries = Vec::with_capacity(headers.keys_len());
    for name in headers.keys() {
        let mut values = Vec::new();
        for value in headers.get_all(name) {
            turn.pay(value.len(), 0)?;
            values.push(Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        entries.push((name.as_str().to_owned(), turn.list(values)?));
    }
    turn.map(entries)
}

/// What `retry_condition` sees: `attempts`, and `last_attempt`.
pub(super) struct Seen {
    pub(super) attempts: i64,
    pub(super) last: Value<'static>,
}

impl Facts for Seen {
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>> {
        match attribute.0 {
            0 => Some(Value::Int(self.attempts)),
            1 => Some(self.last.clone()),
            _ => None,
        }
    }
}
