//! Conversions.

use super::super::{
    arithmetic::{double_to_int, double_to_uint},
    env::{Call, Function},
    fault::Fault,
    time::{Duration, Timestamp},
    types::Type,
    value::{Text, Value},
};

pub(super) fn functions() -> Vec<Function> {
    let tables: [(&str, Type, &[Type], super::super::env::Body); 8] = [
        ("bool", Type::BOOL, &[Type::BOOL, Type::STRING], bool),
        ("int", Type::INT, &[Type::INT, Type::UINT, Type::DOUBLE, Type::STRING, Type::TIMESTAMP], int),
        ("uint", Type::UINT, &[Type::INT, Type::UINT, Type::DOUBLE, Type::STRING], uint),
        ("double", Type::DOUBLE, &[Type::INT, Type::UINT, Type::DOUBLE, Type::STRING], double),
        (
            "string",
            Type::STRING,
            &[
                Type::BOOL,
                Type::INT,
                Type::UINT,
                Type::DOUBLE,
                Type::STRING,
                Type::BYTES,
                Type::TIMESTAMP,
                Type::DURATION,
            ],
            string,
        ),
        ("bytes", Type::BYTES, &[Type::BYTES, Type::STRING], bytes),
        ("timestamp", Type::TIMESTAMP, &[Type::TIMESTAMP, Type::STRING, Type::INT], timestamp),
        ("duration", Type::DURATION, &[Type::DURATION, Type::STRING], duration),
    ];
    let each = tables.into_iter().flat_map(|(name, result, types, body)| {
        types.iter().map(move |ty| Function::global(name, core::slice::from_ref(ty), result.clone(), body))
    });
    each.collect()
}

/// Longer texts are no number, time or duration.
const LONGEST: usize = 64;

fn short(text: &str) -> Result<&str, Fault> {
    if text.len() > LONGEST { Err(Fault::Invalid("the text is too long to be converted")) } else { Ok(text) }
}

fn bool<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::Bool(truth)] => Ok(Value::Bool(*truth)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(Fault::Invalid("the text is no bool")),
        },
        _ => Err(Fault::NoSuchOverload),
    }
}

fn int<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::Int(number)] => Ok(Value::Int(*number)),
        [Value::Uint(number)] => i64::try_from(*number).map(Value::Int).map_err(|_| Fault::Overflow),
        [Value::Double(number)] => double_to_int(*number).map(Value::Int).ok_or(Fault::Overflow),
        [Value::String(text)] => short(text)?.parse().map(Value::Int).map_err(|_| Fault::Invalid("the text is no int")),
        [Value::Timestamp(at)] => Ok(Value::Int(at.seconds())),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn uint<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::Int(number)] => u64::try_from(*number).map(Value::Uint).map_err(|_| Fault::Overflow),
        [Value::Uint(number)] => Ok(Value::Uint(*number)),
        [Value::Double(number)] => double_to_uint(*number).map(Value::Uint).ok_or(Fault::Overflow),
        [Value::String(text)] => {
            short(text)?.parse().map(Value::Uint).map_err(|_| Fault::Invalid("the text is no uint"))
        }
        _ => Err(Fault::NoSuchOverload),
    }
}

fn double<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::Int(number)] => Ok(Value::Double(*number as f64)),
        [Value::Uint(number)] => Ok(Value::Double(*number as f64)),
        [Value::Double(number)] => Ok(Value::Double(*number)),
        [Value::String(text)] => {
            call.budget.look(text.len())?;
            text.parse().map(Value::Double).map_err(|_| Fault::Invalid("the text is no double"))
        }
        _ => Err(Fault::NoSuchOverload),
    }
}

fn string<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let text = match call.arguments {
        [Value::String(text)] => return Ok(Value::String(text.clone())),
        [Value::Bytes(super::super::value::Octets::Borrowed(octets))] => {
            call.budget.look(octets.len())?;
            let text = core::str::from_utf8(octets).map_err(|_| Fault::Invalid("the octets are not UTF-8"))?;
            return Ok(Value::String(Text::Borrowed(text)));
        }
        [Value::Bytes(octets)] => {
            call.budget.make(octets.len())?;
            let text = core::str::from_utf8(octets).map_err(|_| Fault::Invalid("the octets are not UTF-8"))?;
            return Ok(text.to_owned().into());
        }
        [Value::Bool(truth)] => truth.to_string(),
        [Value::Int(number)] => number.to_string(),
        [Value::Uint(number)] => number.to_string(),
        [Value::Double(number)] => general(*number),
        [Value::Timestamp(at)] => at.to_string(),
        [Value::Duration(span)] => span.to_string(),
        _ => return Err(Fault::NoSuchOverload),
    };
    Value::string(text, call.budget)
}

/// Writes a double as Google's implementation does: the shortest digits that give it again, with an exponent when that is below
/// -4 or above 5.
fn general(number: f64) -> String {
    if !number.is_finite() {
        return not_finite(number).into();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        return format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs());
    }
    number.to_string()
}

/// Returns how what is no finite number is written.
pub(super) fn not_finite(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "+Inf"
    } else {
        "-Inf"
    }
}

fn bytes<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::Bytes(octets)] => Ok(Value::Bytes(octets.clone())),
        [Value::String(Text::Borrowed(text))] => Ok(text.as_bytes().into()),
        [Value::String(text)] => {
            call.budget.make(text.len())?;
            Ok(text.as_bytes().to_vec().into())
        }
        _ => Err(Fault::NoSuchOverload),
    }
}

fn timestamp<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::Timestamp(at)] => Ok(Value::Timestamp(*at)),
        [Value::String(text)] => Timestamp::parse(short(text)?).map(Value::Timestamp),
        [Value::Int(seconds)] => Timestamp::new(*seconds, 0).map(Value::Timestamp).ok_or(Fault::Overflow),
        _ => Err(Fault::NoSuchOverload),
    }
}

fn duration<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::Duration(span)] => Ok(Value::Duration(*span)),
        [Value::String(text)] => Duration::parse(short(text)?).map(Value::Duration),
        _ => Err(Fault::NoSuchOverload),
    }
}
