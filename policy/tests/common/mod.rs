//! Facts as a policy has them, and shorthands.
#![allow(dead_code, reason = "each test file uses some of it")]

use adit_policy::cel::{
    Attribute, Budget, CompileError, Environment, Error, Facts, List, ListSource, Map, MapSource, Timestamp, Type,
    Value,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Returns headers in their order.
pub(crate) fn headers(headers: &[(&str, &[u8])]) -> HeaderMap {
    let header = |(name, value): &(&str, &[u8])| {
        (HeaderName::try_from(*name).expect("a name"), HeaderValue::from_bytes(value).expect("a value"))
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().map(header) {
        map.append(name, value);
    }
    map
}

/// A request, of which nothing is copied.
pub(crate) struct Request {
    client_ip: &'static str,
    headers: Headers,
    accepts: Values,
    response: Option<i64>,
}

impl Default for Request {
    fn default() -> Self {
        let headers = &[("accept", "text/html"), ("host", "a.example"), ("x", "abc")];
        Self { client_ip: "1.2.3.4", headers: Headers(headers), accepts: Values(&["text/html", "*/*"]), response: None }
    }
}

impl Facts for Request {
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>> {
        Some(match attribute.0 {
            0 => self.client_ip.into(),
            1 => Value::Map(Map::Source(&self.headers)),
            2 => "/a/b".into(),
            3 => Value::Timestamp(Timestamp::new(1_234_567_890, 0)?),
            4 => return self.response.map(Value::Int),
            5 => Value::Int(7),
            6 => Value::List(List::Source(&self.accepts)),
            _ => return None,
        })
    }
}

/// Each name once.
pub(crate) struct Headers(&'static [(&'static str, &'static str)]);

pub(crate) struct Values(&'static [&'static str]);

impl MapSource for Headers {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &Value<'_>) -> Option<Value<'_>> {
        let name = key.as_str()?;
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into())
    }

    fn key(&self, index: usize) -> Option<Value<'_>> {
        self.0.get(index).map(|(name, _)| (*name).into())
    }
}

impl ListSource for Values {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<Value<'_>> {
        self.0.get(index).map(|value| (*value).into())
    }
}

pub(crate) fn environment() -> Environment {
    let mut environment = Environment::standard();
    environment.attribute("conn.client_ip", Type::STRING);
    environment.attribute("req.headers", Type::map(Type::STRING, Type::STRING));
    environment.attribute("req.url.path", Type::STRING);
    environment.attribute("time.now", Type::TIMESTAMP);
    environment.attribute("res.status_code", Type::INT);
    environment.attribute("any", Type::Dyn);
    environment.attribute("req.accepts", Type::list(Type::STRING));
    environment
}

/// Returns what an expression is for the usual request, or why it is nothing.
pub(crate) fn outcome(text: &str) -> Result<String, String> {
    let program = environment().compile(text).map_err(|error: CompileError| error.to_string())?;
    let request = Request::default();
    let value = program.evaluate(&request, &mut Budget::default()).map_err(|error: Error| error.to_string())?;
    Ok(format!("{value:?}"))
}

/// Returns whether an expression is true.
pub(crate) fn is_true(text: &str) -> bool {
    outcome(text).unwrap_or_else(|error| panic!("{text}: {error}")) == "Bool(true)"
}

/// Returns why an expression has no value.
pub(crate) fn failure(text: &str) -> String {
    match outcome(text) {
        Ok(value) => panic!("{text} is {value}"),
        Err(error) => error,
    }
}
