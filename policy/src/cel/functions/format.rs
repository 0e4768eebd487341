//! `text.format(list)` of the extension for strings.

use core::fmt::Write as _;

use super::super::{
    budget::Budget,
    env::Call,
    fault::Fault,
    parse::MAX_DEPTH,
    value::{List, Value},
};
use super::convert::not_finite;

/// The most digits after the point.
const MAX_PRECISION: usize = 100;

/// Replaces each clause of a text, `%s %d %f %e %b %o %x %X`, by the next of a list.
pub(super) fn format<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text), Value::List(list)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    let mut written = Written { text: String::new(), budget: call.budget };
    let mut next = 0;
    let mut rest: &str = text;
    while let Some((before, clause)) = rest.split_once('%') {
        written.push(before)?;
        if let Some(after) = clause.strip_prefix('%') {
            written.push("%")?;
            rest = after;
            continue;
        }
        let (precision, clause) = precision(clause)?;
        let argument = list.get(next).ok_or(Fault::IndexOutOfRange)?;
        next += 1;
        let mut chars = clause.chars();
        written.clause(chars.next(), precision, &argument)?;
        rest = chars.as_str();
    }
    written.push(rest)?;
    Ok(written.text.into())
}

/// Reads `.3` before a clause.
fn precision(clause: &str) -> Result<(usize, &str), Fault> {
    let Some(clause) = clause.strip_prefix('.') else { return Ok((6, clause)) };
    let len = clause.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, clause) = clause.split_at_checked(len).unwrap_or(("", clause));
    match digits.parse() {
        Ok(precision) if precision <= MAX_PRECISION => Ok((precision, clause)),
        _ => Err(Fault::Invalid("the precision of a format is no number up to 100")),
    }
}

/// What is written so far; every octet is paid for.
#[derive(Debug)]
struct Written<'b> {
    text: String,
    budget: &'b mut Budget,
}

impl Written<'_> {
    fn push(&mut self, text: &str) -> Result<(), Fault> {
        self.budget.make(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    fn clause(&mut self, clause: Option<char>, precision: usize, argument: &Value<'_>) -> Result<(), Fault> {
        match (clause, argument) {
            (Some('s'), argument) => self.value(argument, MAX_DEPTH),
            (Some('d' | 'f' | 'e'), Value::Double(number)) if !number.is_finite() => {
                self.push(double_not_finite(*number))
            }
            (Some('d'), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => self.value(argument, 1),
            (Some('f'), argument) => {
                let number = number(argument)?;
                self.push(&format!("{number:.precision$}"))
            }
            (Some('e'), argument) => {
                let number = number(argument)?;
                let text = format!("{number:.precision$e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
                self.push(&format!("{digits}e{sign}{size:0>2}"))
            }
            (Some('b'), Value::Bool(truth)) => self.push(if *truth { "1" } else { "0" }),
            (Some('b' | 'o' | 'x' | 'X'), Value::Int(number)) => {
                let sign = if *number < 0 { "-" } else { "" };
                self.push(sign)?;
                self.radix(clause, number.unsigned_abs())
            }
            (Some('b' | 'o' | 'x' | 'X'), Value::Uint(number)) => self.radix(clause, *number),
            (Some('x' | 'X'), Value::String(text)) => self.hex(text.as_bytes(), clause == Some('X')),
            (Some('x' | 'X'), Value::Bytes(octets)) => self.hex(octets, clause == Some('X')),
            (Some('d' | 'b' | 'o' | 'x' | 'X'), _) => {
                Err(Fault::Invalid("a clause of a format has a value of another type"))
            }
            _ => Err(Fault::Invalid("unknown clause in a format; there are %s %d %f %e %b %o %x %X %%")),
        }
    }

    fn radix(&mut self, clause: Option<char>, number: u64) -> Result<(), Fault> {
        self.push(&match clause {
            Some('b') => format!("{number:b}"),
            Some('o') => format!("{number:o}"),
            Some('X') => format!("{number:X}"),
            _ => format!("{number:x}"),
        })
    }

    fn hex(&mut self, octets: &[u8], upper: bool) -> Result<(), Fault> {
        self.budget.make(octets.len().saturating_mul(2))?;
        for octet in octets {
            // Writing into a string never fails.
            _ = if upper { write!(self.text, "{octet:02X}") } else { write!(self.text, "{octet:02x}") };
        }
        Ok(())
    }

    /// Writes a value as `%s` has it, nested not deeper than that.
    fn value(&mut self, value: &Value<'_>, depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
        self.budget.step(1)?;
        match value {
            Value::Null => self.push("null"),
            Value::Bool(truth) => self.push(if *truth { "true" } else { "false" }),
            Value::Int(number) => self.push(&number.to_string()),
            Value::Uint(number) => self.push(&number.to_string()),
            Value::Double(number) if !number.is_finite() => self.push(double_not_finite(*number)),
            Value::Double(number) => self.push(&number.to_string()),
            Value::String(text) => self.push(text),
            Value::Bytes(octets) => {
                self.budget.make(octets.len().saturating_mul(3))?; // what is not UTF-8 becomes three octets
                self.text.push_str(&String::from_utf8_lossy(octets));
                Ok(())
            }
            Value::Timestamp(at) => self.push(&at.to_string()),
            Value::Duration(span) => self.push(&span.to_string()),
            Value::Type(kind) => self.push(kind.name()),
            Value::List(list) => self.list(list, depth),
            Value::Map(map) => {
                let mut entries = Vec::new();
                for (key, value) in map.iter() {
                    let mut part = Written { text: String::new(), budget: &mut *self.budget };
                    part.value(&key, depth)?;
                    let key = core::mem::take(&mut part.text);
                    part.value(&value, depth)?;
                    entries.push((key, part.text));
                }
                self.budget.step(entries.len() as u64 * u64::from(entries.len().max(1).ilog2()))?;
                entries.sort();
                self.push("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    let between = if index == 0 { "" } else { ", " };
                    for part in [between, key, ": ", value] {
                        self.push(part)?;
                    }
                }
                self.push("}")
            }
        }
    }

    fn list(&mut self, list: &List<'_>, depth: usize) -> Result<(), Fault> {
        self.push("[")?;
        for (index, element) in list.iter().enumerate() {
            self.push(if index == 0 { "" } else { ", " })?;
            self.value(&element, depth)?;
        }
        self.push("]")
    }
}

fn double_not_finite(number: f64) -> &'static str {
    match not_finite(number) {
        "+Inf" => "Infinity",
        "-Inf" => "-Infinity",
        other => other,
    }
}

fn number(value: &Value<'_>) -> Result<f64, Fault> {
    match value {
        Value::Double(number) => Ok(*number),
        Value::Int(number) => Ok(*number as f64),
        Value::Uint(number) => Ok(*number as f64),
        _ => Err(Fault::Invalid("a clause of a format has a value of another type")),
    }
}
