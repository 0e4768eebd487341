//! Functions of texts: URLs, queries, base64, case.

use core::{fmt::Write, net::IpAddr};

use crate::cel::{Budget, Call, Fault, Function, Kind, Type, Value, base64, unbase64};

const S: Type = Type::STRING;

pub(super) fn functions() -> Vec<Function> {
    let strings = Type::map(S, S);
    let map = Type::Of(Kind::Map);
    let (global, member) = (Function::global, Function::member);
    vec![
        global("url.escape", &[S], S, escape).constant(),
        member("escapeUrl", &[S], S, escape).constant(),
        global("url.unescape", &[S], S, unescape).constant(),
        member("unescapeUrl", &[S], S, unescape).constant(),
        global("url.parse", &[S], strings.clone(), parse).constant(),
        member("parseUrl", &[S], strings.clone(), parse).constant(),
        member("isURL", &[S], Type::BOOL, is_url).constant(),
        global("queryString.decode", &[S], strings.clone(), decode_query).constant(),
        member("decodeQueryString", &[S], strings, decode_query).constant(),
        global("queryString.encode", core::slice::from_ref(&map), S, encode_query).constant(),
        member("encodeQueryString", &[map], S, encode_query).constant(),
        member("isQueryString", &[S], Type::BOOL, is_query).constant(),
        member("encodeBase64", &[S], S, encode_base64).constant(),
        member("decodeBase64", &[S], S, decode_base64).constant(),
        member("lower", &[S], S, |call| cased(call, str::to_lowercase)).constant(),
        member("upper", &[S], S, |call| cased(call, str::to_uppercase)).constant(),
        member("isPrivateIp", &[S], Type::BOOL, is_private).constant(),
    ]
}

/// Returns the only argument, for whose octets it asks the budget, `times` as many.
fn one<'c, 'a>(call: &'c mut Call<'_, 'a>, times: usize) -> Result<&'c Value<'a>, Fault> {
    let [value @ Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.make(text.len().saturating_mul(times))?;
    Ok(value)
}

fn escape<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = one(call, 3)?.as_str().unwrap_or_default();
    Ok(escaped(text).into())
}

/// Escapes all but what is reserved for nothing (RFC 3986, section 2.3).
fn escaped(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => whole.push(char::from(octet)),
            _ => _ = write!(whole, "%{octet:02X}"),
        }
    }
    whole
}

fn unescape<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = one(call, 1)?.as_str().unwrap_or_default();
    unescaped(text).map(Value::from).ok_or(Fault::Invalid("the text has an escape that is none"))
}

/// Returns the text without its escapes, `+` as a space; nothing when one is no escape, or the octets are no text.
fn unescaped(text: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        octets.push(match octet {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            octet => octet,
        });
    }
    String::from_utf8(octets).ok()
}

/// Reads an absolute URL into its parts; those that are empty are not there.
fn parse<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    const NONE: Fault = Fault::Invalid("the text is no URL");
    let text = one(call, 2)?.as_str().unwrap_or_default();
    let (whole, fragment) = text.split_once('#').unwrap_or((text, ""));
    let uri: http::Uri = whole.parse().map_err(|_| NONE)?;
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or(NONE)?;
    let (user, host) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
    let path = if uri.path() == "/" && !whole.contains(&format!("{authority}/")) { "" } else { uri.path() };
    let port = authority.port_u16().map(|port| port.to_string()).unwrap_or_default();
    let parts = [
        ("scheme", scheme),
        ("user_password", user),
        ("host", host),
        ("hostname", authority.host()),
        ("port", &port),
        ("path", path),
        ("query", uri.query().unwrap_or_default()),
        ("fragment", fragment),
    ];
    let parts = parts.into_iter().filter(|(_, part)| !part.is_empty());
    let parts = parts.map(|(name, part)| (Value::from(name), Value::from(part.to_owned()))).collect();
    Value::map(parts, call.budget)
}

fn is_url<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match parse(call) {
        Ok(_) => Ok(Value::Bool(true)),
        Err(fault) if fault.is_limit() => Err(fault),
        Err(_) => Ok(Value::Bool(false)),
    }
}

/// Reads a query; of a name twice the first counts. What is no escape stays as it is written.
fn decode_query<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = one(call, 1)?.as_str().unwrap_or_default();
    let mut entries: Vec<(Value<'a>, Value<'a>)> = Vec::new();
    let mut steps = 0;
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| unescaped(text).unwrap_or_else(|| text.to_owned());
        let name = plain(name);
        steps += entries.len() as u64 + 1;
        if !entries.iter().any(|(other, _)| other.as_str() == Some(&name)) {
            entries.push((name.into(), plain(value).into()));
        }
        if entries.len() > MAX_PAIRS {
            return Err(Fault::Invalid("the query has too many names"));
        }
    }
    call.budget.step(steps / 16)?;
    Value::map(entries, call.budget)
}

/// The most names of a query that is read by a function.
const MAX_PAIRS: usize = 1_000;

/// Writes a query, names in their order. A list of texts is one name several times.
fn encode_query<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::Map(map)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    let mut whole = String::new();
    let mut add = |name: &str, value: &Value<'_>, budget: &mut Budget| {
        let value = plain(value)?;
        budget.make((name.len() + value.len()).saturating_mul(3).saturating_add(2))?;
        let and = if whole.is_empty() { "" } else { "&" };
        _ = write!(whole, "{and}{}={}", escaped(name), escaped(&value));
        Ok::<(), Fault>(())
    };
    for (name, value) in map.iter() {
        let Value::String(name) = name else { return Err(Fault::InvalidKey) };
        if let Value::List(list) = &value {
            for element in list.iter() {
                add(&name, &element, call.budget)?;
            }
        } else {
            add(&name, &value, call.budget)?;
        }
    }
    Ok(whole.into())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a value of any other type has no place in a query")]
fn plain(value: &Value<'_>) -> Result<String, Fault> {
    match value {
        Value::String(text) => Ok(String::from(&**text)),
        Value::Bool(it) => Ok(it.to_string()),
        Value::Int(it) => Ok(it.to_string()),
        Value::Uint(it) => Ok(it.to_string()),
        Value::Double(it) => Ok(it.to_string()),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn is_query<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = one(call, 1)?.as_str().unwrap_or_default();
    let pair = |pair: &str| {
        let named = pair.split_once('=').is_some_and(|(name, _)| !name.is_empty());
        named && unescaped(pair).is_some() && !pair.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
    };
    Ok(Value::Bool(text.split('&').all(pair)))
}

fn encode_base64<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = one(call, 2)?.as_str().unwrap_or_default();
    Ok(base64(text.as_bytes()).into())
}

fn decode_base64<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = one(call, 1)?.as_str().unwrap_or_default();
    let octets = unbase64(text)?;
    String::from_utf8(octets).map(Value::from).map_err(|_| Fault::Invalid("the octets are no text"))
}

/// Writes a text in another case, which may take three times the octets.
fn cased<'a>(call: &mut Call<'_, 'a>, write: fn(&str) -> String) -> Result<Value<'a>, Fault> {
    let text = one(call, 3)?.as_str().unwrap_or_default();
    Ok(write(text).into())
}

/// Tells of an address of RFC 1918. What is no address is none of those.
fn is_private<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = one(call, 1)?.as_str().unwrap_or_default();
    let address = text.parse::<IpAddr>().map(|address| address.to_canonical());
    Ok(Value::Bool(matches!(address, Ok(IpAddr::V4(address)) if address.is_private())))
}
