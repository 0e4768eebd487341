//! Functions of the language definition ("List of standard definitions"), of the extension for strings, of base64 and of JSON.

mod convert;
pub(crate) mod encode;
mod format;
pub(crate) mod json;
mod strings;
mod times;

use super::{
    env::{Call, Function},
    fault::Fault,
    pattern,
    types::{Kind, Type},
    value::Value,
};

/// Returns every function that is always there.
pub(super) fn standard() -> Vec<Function> {
    let mut functions = vec![
        Function::global("dyn", &[Type::Dyn], Type::Dyn, same),
        Function::global("type", &[Type::Dyn], Type::TYPE, ty),
        Function::global("matches", &[Type::STRING, Type::STRING], Type::BOOL, matches),
        Function::member("matches", &[Type::STRING, Type::STRING], Type::BOOL, matches),
    ];
    for kind in [Kind::String, Kind::Bytes, Kind::List, Kind::Map] {
        functions.push(Function::global("size", &[Type::Of(kind)], Type::INT, size));
        functions.push(Function::member("size", &[Type::Of(kind)], Type::INT, size));
    }
    functions.extend(convert::functions());
    functions.extend(strings::functions());
    functions.push(Function::member("format", &[Type::STRING, Type::Of(Kind::List)], Type::STRING, format::format));
    functions.extend(encode::functions());
    functions.extend(json::functions());
    functions.extend(times::functions());
    functions
}

fn same<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    call.arguments.first().cloned().ok_or(Fault::NoSuchOverload)
}

fn ty<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    call.arguments.first().map(|value| Value::Type(value.kind())).ok_or(Fault::NoSuchOverload)
}

fn size<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let size = match call.arguments {
        [Value::String(text)] => {
            call.budget.look(text.len())?;
            text.chars().count()
        }
        [Value::Bytes(octets)] => octets.len(),
        [Value::List(list)] => list.len(),
        [Value::Map(map)] => map.len(),
        _ => return Err(Fault::NoSuchOverload),
    };
    i64::try_from(size).map(Value::Int).map_err(|_| Fault::Overflow)
}

fn matches<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    match call.arguments {
        [Value::String(text), Value::String(pattern)] => pattern::matches(text, pattern, call.budget).map(Value::Bool),
        _ => Err(Fault::NoSuchOverload),
    }
}
