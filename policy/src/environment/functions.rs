//! Functions of addresses, headers, queries and cookies.

use core::net::IpAddr;

use super::{Phase, QUERY_PARAMS, REQ_COOKIES, REQ_HEADERS, RES_COOKIES, RES_HEADERS};
use crate::{
    addresses::{Addresses, means, shortened},
    cel::{Attribute, BadArgument, Call, Fault, Function, List, Map, Prepared, Type, Value, base64},
};

const S: Type = Type::STRING;

pub(super) fn functions(phase: Phase) -> Vec<Function> {
    let strings = Type::list(S);
    let cookie = Type::map(S, S);
    let mut functions = vec![
        Function::global("inCidrRange", &[S, S], Type::BOOL, in_range).constant().prepare(networks),
        Function::global("inCidrRanges", &[S, strings.clone()], Type::BOOL, in_ranges).constant().prepare(networks),
        Function::global("basic_auth.encode", &[S, S], S, basic_auth).constant(),
    ];
    if phase >= Phase::HttpRequest {
        functions.extend([
            Function::global("hasReqHeader", &[S], Type::BOOL, |call| header(call, REQ_HEADERS).map(there))
                .prepare(|known| Header::prepare(known, REQ_HEADERS, there)),
            Function::global("getReqHeader", &[S], strings.clone(), |call| header(call, REQ_HEADERS).map(all))
                .prepare(|known| Header::prepare(known, REQ_HEADERS, all)),
            Function::global("hasQueryParam", &[S], Type::BOOL, |call| exact(call, QUERY_PARAMS).map(there)),
            Function::global("getQueryParam", &[S], strings.clone(), |call| exact(call, QUERY_PARAMS).map(all)),
            Function::global("hasReqCookie", &[S], Type::BOOL, |call| exact(call, REQ_COOKIES).map(there)),
            Function::global("getReqCookie", &[S], cookie, |call| match exact(call, REQ_COOKIES)? {
                Some(Value::List(cookies)) => cookies.get(0).ok_or(Fault::NoSuchKey),
                _ => Err(Fault::NoSuchKey),
            }),
        ]);
    }
    if phase >= Phase::HttpResponse {
        functions.extend([
            Function::global("hasResHeader", &[S], Type::BOOL, |call| header(call, RES_HEADERS).map(there))
                .prepare(|known| Header::prepare(known, RES_HEADERS, there)),
            Function::global("hasResCookie", &[S], Type::BOOL, |call| exact(call, RES_COOKIES).map(there)),
            Function::global("getResCookie", &[S], Type::map(S, Type::Dyn), |call| match exact(call, RES_COOKIES)? {
                Some(Value::List(cookies)) => cookies.get(0).ok_or(Fault::NoSuchKey),
                _ => Err(Fault::NoSuchKey),
            }),
            Function::global("getResHeader", &[S], strings, |call| header(call, RES_HEADERS).map(all))
                .prepare(|known| Header::prepare(known, RES_HEADERS, all)),
        ]);
    }
    functions
}

fn there(found: Option<Value<'_>>) -> Value<'_> {
    Value::Bool(found.is_some())
}

fn all(found: Option<Value<'_>>) -> Value<'_> {
    found.unwrap_or(Value::List(List::Borrowed(&[])))
}

/// Returns what a name has, as it is written.
fn exact<'a>(call: &mut Call<'_, 'a>, among: Attribute) -> Result<Option<Value<'a>>, Fault> {
    let [name @ Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.look(text.len())?;
    Ok(fields(call, among)?.get(name))
}

/// Returns what a header has, whatever the case of its name.
fn header<'a>(call: &mut Call<'_, 'a>, among: Attribute) -> Result<Option<Value<'a>>, Fault> {
    let [Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.make(text.len())?;
    Ok(fields(call, among)?.get(&text.to_ascii_lowercase().into()))
}

fn fields<'a>(call: &Call<'_, 'a>, among: Attribute) -> Result<Map<'a>, Fault> {
    match call.facts.attribute(among) {
        Some(Value::Map(map)) => Ok(map),
        _ => Err(Fault::NoSuchAttribute),
    }
}

/// A header whose name is a constant: in lower case, once.
#[derive(Debug)]
struct Header {
    name: Value<'static>,
    among: Attribute,
    answer: for<'v> fn(Option<Value<'v>>) -> Value<'v>,
}

impl Header {
    fn prepare(
        known: &[Option<Value<'static>>],
        among: Attribute,
        answer: for<'v> fn(Option<Value<'v>>) -> Value<'v>,
    ) -> Result<Option<Box<dyn Prepared>>, BadArgument> {
        let [Some(Value::String(name))] = known else { return Ok(None) };
        let token = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet);
        if name.is_empty() || !name.bytes().all(token) {
            let what = format!("`{}` can be no name of a header; write it as in `x-api-key`", shortened(name));
            return Err(BadArgument { argument: 0, what });
        }
        Ok(Some(Box::new(Self { name: name.to_ascii_lowercase().into(), among, answer })))
    }
}

impl Prepared for Header {
    fn call<'a>(&'a self, call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
        Ok((self.answer)(fields(call, self.among)?.get(&self.name)))
    }
}

/// Networks that are constants: read once.
#[derive(Debug)]
struct Networks(Addresses);

impl Prepared for Networks {
    fn call<'a>(&'a self, call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
        let [Value::String(ip), _] = call.arguments else { return Err(Fault::NoSuchOverload) };
        Ok(Value::Bool(self.0.contains(address(ip)?)))
    }
}

fn networks(known: &[Option<Value<'static>>]) -> Result<Option<Box<dyn Prepared>>, BadArgument> {
    let [ip, networks] = known else { return Ok(None) };
    if let Some(Value::String(ip)) = ip
        && address(ip).is_err()
    {
        let what = format!("`{}` is no IP address; write `10.1.2.3`, `2001:db8::1` or `conn.client_ip`", shortened(ip));
        return Err(BadArgument { argument: 0, what });
    }
    let entries: Vec<String> = match networks {
        Some(one @ Value::String(_)) => one.as_str().map(String::from).into_iter().collect(),
        Some(Value::List(list)) => {
            let text = |value: Value<'_>| match value.as_str() {
                Some(text) => Ok(text.into()),
                None => Err(format!("a network is a string, not of type {}", value.kind().name())),
            };
            list.iter().map(text).collect::<Result<_, _>>().map_err(|what| BadArgument { argument: 1, what })?
        }
        _ => return Ok(None),
    };
    match Addresses::parse(&entries) {
        Ok(addresses) => Ok(Some(Box::new(Networks(addresses)))),
        Err(bad) => Err(BadArgument { argument: 1, what: bad.to_string() }),
    }
}

fn in_range<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(ip), Value::String(network)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    means(network, address(ip)?).map(Value::Bool).ok_or(NO_NETWORK)
}

/// Each network is read, also after one that has the address: whether there is an error does not depend on who calls.
fn in_ranges<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(ip), Value::List(networks)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    let ip = address(ip)?;
    let mut found = false;
    for network in networks.iter() {
        call.budget.step(2)?;
        found |= network.as_str().and_then(|network| means(network, ip)).ok_or(NO_NETWORK)?;
    }
    Ok(Value::Bool(found))
}

const NO_NETWORK: Fault = Fault::Invalid("the text is no IP address and no network");

fn address(text: &str) -> Result<IpAddr, Fault> {
    text.parse().map_err(|_| Fault::Invalid("the text is no IP address"))
}

fn basic_auth<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(user), Value::String(password)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    if user.contains(':') {
        return Err(Fault::Invalid("the name of a user has a colon")); // RFC 7617, section 2
    }
    call.budget.make((user.len() + password.len() + 8).saturating_mul(3))?; // the pair, and a third more for each octet, and the prefix
    Ok(format!("Basic {}", base64(format!("{}:{}", &**user, &**password).as_bytes())).into())
}
