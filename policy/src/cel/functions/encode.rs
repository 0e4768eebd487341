//! Base64 (RFC 4648, section 4), as the extension for encoders has it: padding may be left out when it is read.

use super::super::{
    env::{Call, Function},
    fault::Fault,
    types::Type,
    value::Value,
};

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::global("base64.encode", &[Type::BYTES], Type::STRING, encode),
        Function::global("base64.decode", &[Type::STRING], Type::BYTES, decode),
    ]
}

fn encode<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::Bytes(octets)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.make(octets.len().div_ceil(3) * 4)?;
    Ok(base64(octets).into())
}

/// Writes octets as base64.
pub(crate) fn base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let octet = |place: usize| u32::from(group.get(place).copied().unwrap_or_default());
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for place in 0..4 {
            let digit = DIGITS.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or_default();
            text.push(if place > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

fn decode<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::String(text)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.make(text.len())?;
    unbase64(text).map(Value::from)
}

/// Reads base64.
pub(crate) fn unbase64(text: &str) -> Result<Vec<u8>, Fault> {
    let bad = Fault::Invalid("the text is not base64");
    let digits = text.trim_end_matches('=').as_bytes();
    let padding = text.len() - digits.len();
    if digits.len() % 4 == 1 || padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return Err(bad);
    }
    let mut octets = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0;
        for place in 0..4 {
            let value = match group.get(place) {
                Some(digit @ b'A'..=b'Z') => digit - b'A',
                Some(digit @ b'a'..=b'z') => digit - b'a' + 26,
                Some(digit @ b'0'..=b'9') => digit - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return Err(bad),
                None => 0,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, triple @ ..] = bits.to_be_bytes();
        // Bits beyond the last octet would let two texts mean the same.
        if triple.iter().skip(group.len() - 1).any(|octet| *octet != 0) {
            return Err(bad);
        }
        octets.extend(triple.iter().take(group.len() - 1));
    }
    Ok(octets)
}
