//! What a calendar and a clock say of a timestamp, and how long a duration is.

use super::super::{
    env::{Body, Call, Function},
    fault::Fault,
    time::{Civil, offset},
    types::Type,
    value::Value,
};

pub(super) fn functions() -> Vec<Function> {
    let of_timestamp: [(&str, Body); 10] = [
        ("getFullYear", |call| civil(call, |civil| civil.year)),
        ("getMonth", |call| civil(call, |civil| civil.month - 1)),
        ("getDate", |call| civil(call, |civil| civil.day)),
        ("getDayOfMonth", |call| civil(call, |civil| civil.day - 1)),
        ("getDayOfWeek", |call| civil(call, |civil| civil.weekday)),
        ("getDayOfYear", |call| civil(call, |civil| civil.day_of_year)),
        ("getHours", |call| civil(call, |civil| civil.hour)),
        ("getMinutes", |call| civil(call, |civil| civil.minute)),
        ("getSeconds", |call| civil(call, |civil| civil.second)),
        ("getMilliseconds", |call| civil(call, |civil| civil.millisecond)),
    ];
    let of_duration: [(&str, Body); 4] = [
        ("getHours", |call| span(call, |nanos| nanos / 3_600_000_000_000)),
        ("getMinutes", |call| span(call, |nanos| nanos / 60_000_000_000)),
        ("getSeconds", |call| span(call, |nanos| nanos / 1_000_000_000)),
        ("getMilliseconds", |call| span(call, |nanos| nanos / 1_000_000 % 1_000)),
    ];
    let mut functions = Vec::new();
    for (name, body) in of_timestamp {
        functions.push(Function::member(name, &[Type::TIMESTAMP], Type::INT, body));
        functions.push(Function::member(name, &[Type::TIMESTAMP, Type::STRING], Type::INT, body));
    }
    for (name, body) in of_duration {
        functions.push(Function::member(name, &[Type::DURATION], Type::INT, body));
    }
    functions
}

fn civil<'a>(call: &Call<'_, 'a>, get: fn(&Civil) -> i64) -> Result<Value<'a>, Fault> {
    let (at, offset) = match call.arguments {
        [Value::Timestamp(at)] => (at, 0),
        [Value::Timestamp(at), Value::String(zone)] => {
            (at, offset(zone).ok_or(Fault::Invalid("the time zone is neither UTC nor an offset"))?)
        }
        _ => return Err(Fault::NoSuchOverload),
    };
    Ok(Value::Int(get(&at.civil(offset))))
}

fn span<'a>(call: &Call<'_, 'a>, get: fn(i64) -> i64) -> Result<Value<'a>, Fault> {
    let [Value::Duration(span)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    Ok(Value::Int(get(span.nanos())))
}
