//! Functions of strings. Positions count code points.

use super::super::{
    budget::Budget,
    env::{Call, Function},
    fault::Fault,
    types::{Kind, Type},
    value::{List, Text, Value},
};

const S: Type = Type::STRING;
const I: Type = Type::INT;

pub(super) fn functions() -> Vec<Function> {
    let list = Type::list(S);
    vec![
        Function::member("contains", &[S, S], Type::BOOL, contains),
        Function::member("startsWith", &[S, S], Type::BOOL, starts_with),
        Function::member("endsWith", &[S, S], Type::BOOL, ends_with),
        Function::member("charAt", &[S, I], S, char_at),
        Function::member("indexOf", &[S, S], I, index_of),
        Function::member("indexOf", &[S, S, I], I, index_of),
        Function::member("lastIndexOf", &[S, S], I, last_index_of),
        Function::member("lastIndexOf", &[S, S, I], I, last_index_of),
        Function::member("lowerAscii", &[S], S, lower_ascii),
        Function::member("upperAscii", &[S], S, upper_ascii),
        Function::member("replace", &[S, S, S], S, replace),
        Function::member("replace", &[S, S, S, I], S, replace),
        Function::member("split", &[S, S], list.clone(), split),
        Function::member("split", &[S, S, I], list.clone(), split),
        Function::member("substring", &[S, I], S, substring),
        Function::member("substring", &[S, I, I], S, substring),
        Function::member("trim", &[S], S, trim),
        Function::member("reverse", &[S], S, reverse),
        Function::member("reverse", &[Type::Of(Kind::List)], Type::Of(Kind::List), reverse),
        Function::member("join", core::slice::from_ref(&list), S, join),
        Function::member("join", &[list, S], S, join),
        Function::global("strings.quote", &[S], S, quote),
    ]
}

fn contains<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text), Value::String(part)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.look(text.len())?;
    Ok(Value::Bool(text.contains(&**part)))
}

fn starts_with<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text), Value::String(part)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.look(part.len().min(text.len()))?;
    Ok(Value::Bool(text.starts_with(&**part)))
}

fn ends_with<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text), Value::String(part)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.look(part.len().min(text.len()))?;
    Ok(Value::Bool(text.ends_with(&**part)))
}

fn char_at<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text), Value::Int(at)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    let start = octet(text, *at, call.budget)?;
    let len = text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    text.part(start, start + len, call.budget).map(Value::String)
}

/// Returns the octet at which a code point begins, or the end.
fn octet(text: &str, at: i64, budget: &mut Budget) -> Result<usize, Fault> {
    budget.look(text.len())?;
    let at = usize::try_from(at).map_err(|_| Fault::IndexOutOfRange)?;
    let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]);
    starts.into_iter().nth(at).ok_or(Fault::IndexOutOfRange)
}

/// Returns the code points before an octet, or -1 for none.
fn position<'a>(text: &str, found: Option<usize>) -> Result<Value<'a>, Fault> {
    let Some(before) = found.and_then(|found| text.get(..found)) else { return Ok(Value::Int(-1)) };
    i64::try_from(before.chars().count()).map(Value::Int).map_err(|_| Fault::Overflow)
}

fn index_of<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (text, part, from) = match call.arguments {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(at)] => (text, part, octet(text, *at, call.budget)?),
        _ => return Err(Fault::NoSuchOverload),
    };
    call.budget.look(text.len().saturating_mul(2))?;
    let found = text.get(from..).and_then(|rest| rest.find(&**part));
    position(text, found.map(|found| from + found))
}

fn last_index_of<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (text, part, last) = match call.arguments {
        [Value::String(text), Value::String(part)] => (text, part, text.len()),
        [Value::String(text), Value::String(part), Value::Int(at)] => (text, part, octet(text, *at, call.budget)?),
        _ => return Err(Fault::NoSuchOverload),
    };
    call.budget.look(text.len().saturating_mul(2))?;
    let end = text.floor_char_boundary(last.saturating_add(part.len()).min(text.len()));
    position(text, text.get(..end).and_then(|rest| rest.rfind(&**part)))
}

fn lower_ascii<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    ascii(call, u8::is_ascii_uppercase, str::to_ascii_lowercase)
}

fn upper_ascii<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    ascii(call, u8::is_ascii_lowercase, str::to_ascii_uppercase)
}

/// Changes letters; a text without one to change is not copied.
fn ascii<'a>(
    call: &mut Call<'_, 'a>,
    changes: fn(&u8) -> bool,
    change: fn(&str) -> String,
) -> Result<Value<'a>, Fault> {
    let [Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.look(text.len())?;
    if !text.bytes().any(|octet| changes(&octet)) {
        return Ok(Value::String(text.clone()));
    }
    call.budget.make(text.len())?;
    Ok(change(text).into())
}

/// Returns how often something is done for a limit, which below zero means always.
fn limit(limit: i64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn replace<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (text, old, new, most) = match call.arguments {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, usize::MAX),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(most)] => {
            (text, old, new, limit(*most))
        }
        _ => return Err(Fault::NoSuchOverload),
    };
    call.budget.look(text.len())?;
    let times = text.matches(&**old).take(most).count();
    if times == 0 {
        return Ok(Value::String(text.clone()));
    }
    // What it grows to is known before it grows.
    let size = (text.len() - times * old.len()).saturating_add(times.saturating_mul(new.len()));
    call.budget.make(size)?;
    Ok(text.replacen(&**old, new, times).into())
}

fn split<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (text, by, most) = match call.arguments {
        [Value::String(text), Value::String(by)] => (text, by, usize::MAX),
        [Value::String(text), Value::String(by), Value::Int(most)] => (text, by, limit(*most)),
        _ => return Err(Fault::NoSuchOverload),
    };
    call.budget.look(text.len())?;
    let mut parts = Vec::new();
    let mut start = 0;
    if by.is_empty() {
        while start < text.len() && parts.len() < most {
            let next = text.get(start..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
            let end = if parts.len() + 1 == most { text.len() } else { start + next };
            push(&mut parts, text, start, end, call.budget)?;
            start = end;
        }
        return Value::list_of_paid(parts);
    }
    if most == 0 {
        return Value::list_of_paid(parts);
    }
    loop {
        let rest = text.get(start..).unwrap_or_default();
        let found = if parts.len() + 1 < most { rest.find(&**by) } else { None };
        let Some(found) = found else {
            push(&mut parts, text, start, text.len(), call.budget)?;
            break;
        };
        push(&mut parts, text, start, start + found, call.budget)?;
        start += found + by.len();
    }
    Value::list_of_paid(parts)
}

fn push<'a>(
    parts: &mut Vec<Value<'a>>,
    text: &Text<'a>,
    start: usize,
    end: usize,
    budget: &mut Budget,
) -> Result<(), Fault> {
    budget.make(size_of::<Value<'_>>())?;
    parts.push(Value::String(text.part(start, end, budget)?));
    Ok(())
}

fn substring<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (text, start, end) = match call.arguments {
        [Value::String(text), Value::Int(start)] => (text, octet(text, *start, call.budget)?, text.len()),
        [Value::String(text), Value::Int(start), Value::Int(end)] => {
            (text, octet(text, *start, call.budget)?, octet(text, *end, call.budget)?)
        }
        _ => return Err(Fault::NoSuchOverload),
    };
    text.part(start, end, call.budget).map(Value::String)
}

fn trim<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.look(text.len())?;
    let start = text.len() - text.trim_start().len();
    text.part(start, start + text.trim().len(), call.budget).map(Value::String)
}

fn reverse<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::String(text)] => {
            call.budget.make(text.len())?;
            Ok(text.chars().rev().collect::<String>().into())
        }
        [Value::List(list)] => {
            call.budget.make(list.len() * size_of::<Value<'_>>())?;
            Value::list_of_paid((0..list.len()).rev().filter_map(|index| list.get(index)).collect())
        }
        _ => Err(Fault::NoSuchOverload),
    }
}

fn join<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (list, between) = match call.arguments {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(between)] => (list, &**between),
        _ => return Err(Fault::NoSuchOverload),
    };
    let mut joined = String::new();
    for (index, part) in List::iter(list).enumerate() {
        call.budget.step(1)?;
        let Value::String(part) = part else { return Err(Fault::NoSuchOverload) };
        let between = if index == 0 { "" } else { between };
        call.budget.make(between.len() + part.len())?;
        joined.push_str(between);
        joined.push_str(&part);
    }
    Ok(joined.into())
}

fn quote<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.make(text.len().saturating_mul(2) + 2)?; // each octet becomes at most two
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{07}' => quoted.push_str("\\a"),
            '\u{08}' => quoted.push_str("\\b"),
            '\u{0c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{0b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(quoted.into())
}
