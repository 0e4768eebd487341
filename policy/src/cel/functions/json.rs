//! JSON (RFC 8259): `json.encode`, `json.decode`, and the same as members.
//!
//! A number without a fraction that fits is an int, any other a double. A document with a name twice in one object is refused: readers differ
//! in which of the two they take.

use core::fmt::Write;

use super::super::{
    budget::Budget,
    env::{Call, Function},
    fault::Fault,
    parse::MAX_DEPTH,
    types::{Kind, Type},
    value::Value,
};

const BAD: Fault = Fault::Invalid("the text is not JSON");

pub(super) fn functions() -> Vec<Function> {
    let mut functions = vec![
        Function::global("json.decode", &[Type::STRING], Type::Dyn, read),
        Function::member("decodeJson", &[Type::STRING], Type::Dyn, read),
        Function::member("isJson", &[Type::STRING], Type::BOOL, is_json),
    ];
    for kind in [Kind::List, Kind::Map] {
        functions.push(Function::global("json.encode", &[Type::Of(kind)], Type::STRING, write));
        functions.push(Function::member("encodeJson", &[Type::Of(kind)], Type::STRING, write));
    }
    functions
}

fn read<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    decode(text, call.budget)
}

fn is_json<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    match decode(text, call.budget) {
        Ok(_) => Ok(Value::Bool(true)),
        Err(fault) if fault.is_limit() => Err(fault),
        Err(_) => Ok(Value::Bool(false)),
    }
}

fn write<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [value] = call.arguments else { return Err(Fault::NoSuchOverload) };
    let mut text = String::new();
    encode(value, &mut text, call.budget)?;
    Ok(text.into())
}

/// Writes a value. Octets are base64, moments and spans of time are texts.
///
/// # Errors
/// [`Fault::OverBudget`], and [`Fault::Invalid`] for what JSON has not: a number that is none, a key that is no string.
pub(crate) fn encode(value: &Value<'_>, out: &mut String, budget: &mut Budget) -> Result<(), Fault> {
    let before = out.len();
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(it) => _ = write!(out, "{it}"),
        Value::Int(it) => _ = write!(out, "{it}"),
        Value::Uint(it) => _ = write!(out, "{it}"),
        Value::Double(it) if it.is_finite() => _ = write!(out, "{it}"),
        Value::Double(_) => return Err(Fault::Invalid("JSON has no such number")),
        Value::String(it) => quote(it, out),
        Value::Bytes(it) => quote(&super::encode::base64(it), out),
        Value::Timestamp(it) => quote(&it.to_string(), out),
        Value::Duration(it) => quote(&it.to_string(), out),
        Value::Type(it) => quote(it.name(), out),
        Value::List(list) => {
            budget.step(1)?;
            for (at, element) in list.iter().enumerate() {
                out.push(if at == 0 { '[' } else { ',' });
                encode(&element, out, budget)?;
            }
            out.push_str(if list.is_empty() { "[]" } else { "]" });
            return budget.make(list.len() + 1);
        }
        Value::Map(map) => {
            budget.step(1)?;
            for (at, (key, element)) in map.iter().enumerate() {
                out.push(if at == 0 { '{' } else { ',' });
                let Value::String(key) = key else { return Err(Fault::Invalid("a key of JSON is a string")) };
                let before = out.len();
                quote(&key, out);
                budget.make(out.len() - before)?;
                out.push(':');
                encode(&element, out, budget)?;
            }
            out.push_str(if map.is_empty() { "{}" } else { "}" });
            return budget.make(2 * map.len() + 1);
        }
    }
    budget.make(out.len() - before)
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads a document, for whose octets it asks the budget.
///
/// # Errors
/// [`Fault::Invalid`] when it is none, [`Fault::TooDeep`], [`Fault::DuplicateKey`], [`Fault::OverBudget`].
pub(crate) fn decode<'a>(text: &str, budget: &mut Budget) -> Result<Value<'a>, Fault> {
    budget.look(text.len())?;
    let mut reader = Reader { rest: text, budget };
    let value = reader.value(0)?;
    reader.skip();
    if reader.rest.is_empty() { Ok(value) } else { Err(BAD) }
}

struct Reader<'t, 'b> {
    rest: &'t str,
    budget: &'b mut Budget,
}

impl Reader<'_, '_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn takes(&mut self, text: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value<'a>(&mut self, depth: usize) -> Result<Value<'a>, Fault> {
        self.budget.step(1)?;
        if depth >= MAX_DEPTH {
            return Err(Fault::TooDeep);
        }
        self.skip();
        match self.rest.as_bytes().first() {
            Some(b'"') => {
                let text = self.string()?;
                Value::string(text, self.budget)
            }
            Some(b'[') => self.list(depth),
            Some(b'{') => self.map(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.takes("true") => Ok(Value::Bool(true)),
            _ if self.takes("false") => Ok(Value::Bool(false)),
            _ if self.takes("null") => Ok(Value::Null),
            _ => Err(BAD),
        }
    }

    fn list<'a>(&mut self, depth: usize) -> Result<Value<'a>, Fault> {
        self.takes("[");
        let mut elements = Vec::new();
        if !self.takes("]") {
            loop {
                elements.push(self.value(depth + 1)?);
                if self.takes("]") {
                    break;
                }
                if !self.takes(",") {
                    return Err(BAD);
                }
            }
        }
        Value::list(elements, self.budget)
    }

    fn map<'a>(&mut self, depth: usize) -> Result<Value<'a>, Fault> {
        self.takes("{");
        let mut entries = Vec::new();
        if !self.takes("}") {
            loop {
                self.skip();
                let key = self.string()?;
                let key = Value::string(key, self.budget)?;
                if !self.takes(":") {
                    return Err(BAD);
                }
                entries.push((key, self.value(depth + 1)?));
                if self.takes("}") {
                    break;
                }
                if !self.takes(",") {
                    return Err(BAD);
                }
            }
        }
        Value::map(entries, self.budget)
    }

    fn number<'a>(&mut self) -> Result<Value<'a>, Fault> {
        let part = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at_checked(end).ok_or(BAD)?;
        self.rest = rest;
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, after) =
            digits.split_at_checked(digits.find(['.', 'e', 'E']).unwrap_or(digits.len())).ok_or(BAD)?;
        let all = |text: &str| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        if !all(whole) || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(BAD);
        }
        if after.is_empty() {
            if let Ok(number) = text.parse() {
                return Ok(Value::Int(number));
            }
        } else {
            let (fraction, exponent) =
                after.split_at_checked(after.find(['e', 'E']).unwrap_or(after.len())).ok_or(BAD)?;
            let bare = exponent.strip_prefix(['e', 'E']).map(|it| it.strip_prefix(['-', '+']).unwrap_or(it));
            if fraction.strip_prefix('.').is_some_and(|it| !all(it)) || bare.is_some_and(|it| !all(it)) {
                return Err(BAD);
            }
        }
        text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Double).ok_or(BAD)
    }

    fn string(&mut self) -> Result<String, Fault> {
        let mut text = String::new();
        let mut rest = self.rest.strip_prefix('"').ok_or(BAD)?;
        loop {
            let at = rest.find(|c: char| c == '"' || c == '\\' || u32::from(c) < 0x20).ok_or(BAD)?;
            let (plain, from) = rest.split_at_checked(at).ok_or(BAD)?;
            text.push_str(plain);
            if let Some(after) = from.strip_prefix('"') {
                self.rest = after;
                return Ok(text);
            }
            let mut after = from.strip_prefix('\\').ok_or(BAD)?.chars();
            text.push(match after.next().ok_or(BAD)? {
                c @ ('"' | '\\' | '/') => c,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => escaped(&mut after)?,
                _ => return Err(BAD),
            });
            rest = after.as_str();
        }
    }
}

/// Reads four digits, or two times four that are one character (RFC 8259, section 7).
fn escaped(rest: &mut core::str::Chars<'_>) -> Result<char, Fault> {
    let high = unit(rest)?;
    if !(0xd800..0xdc00).contains(&high) {
        return char::from_u32(high).ok_or(BAD);
    }
    if rest.next() != Some('\\') || rest.next() != Some('u') {
        return Err(BAD);
    }
    let low = unit(rest)?;
    if !(0xdc00..0xe000).contains(&low) {
        return Err(BAD);
    }
    char::from_u32(0x1_0000 + ((high - 0xd800) << 10 | (low - 0xdc00))).ok_or(BAD)
}

fn unit(rest: &mut core::str::Chars<'_>) -> Result<u32, Fault> {
    let mut unit = 0;
    for _ in 0..4 {
        unit = unit << 4 | rest.next().and_then(|c| c.to_digit(16)).ok_or(BAD)?;
    }
    Ok(unit)
}
