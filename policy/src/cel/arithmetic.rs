//! Arithmetic, in which nothing wraps (language definition, "Overflow").

use super::{budget::Budget, fault::Fault, value::Value};

pub(super) fn add<'a>(left: &Value<'a>, right: &Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Fault> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.checked_add(*right).map(Value::Int).ok_or(Fault::Overflow),
        (Value::Uint(left), Value::Uint(right)) => left.checked_add(*right).map(Value::Uint).ok_or(Fault::Overflow),
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left + right)),
        (Value::String(left), Value::String(right)) => {
            budget.make(left.len() + right.len())?;
            Ok([&**left, &**right].concat().into())
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            budget.make(left.len() + right.len())?;
            Ok([&**left, &**right].concat().into())
        }
        (Value::List(left), Value::List(right)) => {
            budget.make((left.len() + right.len()) * size_of::<Value<'_>>())?;
            budget.step((left.len() + right.len()) as u64)?;
            Value::list_of_paid(left.iter().chain(right.iter()).collect())
        }
        (Value::Timestamp(at), Value::Duration(span)) | (Value::Duration(span), Value::Timestamp(at)) => {
            at.plus(*span).map(Value::Timestamp)
        }
        (Value::Duration(left), Value::Duration(right)) => left.plus(*right).map(Value::Duration),
        _ => Err(Fault::NoSuchOverload),
    }
}

pub(super) fn subtract<'a>(left: &Value<'_>, right: &Value<'_>) -> Result<Value<'a>, Fault> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.checked_sub(*right).map(Value::Int).ok_or(Fault::Overflow),
        (Value::Uint(left), Value::Uint(right)) => left.checked_sub(*right).map(Value::Uint).ok_or(Fault::Overflow),
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left - right)),
        (Value::Timestamp(left), Value::Timestamp(right)) => left.minus(*right).map(Value::Duration),
        (Value::Timestamp(at), Value::Duration(span)) => at.plus(span.negated()?).map(Value::Timestamp),
        (Value::Duration(left), Value::Duration(right)) => left.minus(*right).map(Value::Duration),
        _ => Err(Fault::NoSuchOverload),
    }
}

pub(super) fn multiply<'a>(left: &Value<'_>, right: &Value<'_>) -> Result<Value<'a>, Fault> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.checked_mul(*right).map(Value::Int).ok_or(Fault::Overflow),
        (Value::Uint(left), Value::Uint(right)) => left.checked_mul(*right).map(Value::Uint).ok_or(Fault::Overflow),
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left * right)),
        _ => Err(Fault::NoSuchOverload),
    }
}

pub(super) fn divide<'a>(left: &Value<'_>, right: &Value<'_>) -> Result<Value<'a>, Fault> {
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(Fault::DivisionByZero),
        (Value::Int(left), Value::Int(right)) => left.checked_div(*right).map(Value::Int).ok_or(Fault::Overflow),
        (Value::Uint(left), Value::Uint(right)) => left.checked_div(*right).map(Value::Uint).ok_or(Fault::Overflow),
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left / right)),
        _ => Err(Fault::NoSuchOverload),
    }
}

pub(super) fn remainder<'a>(left: &Value<'_>, right: &Value<'_>) -> Result<Value<'a>, Fault> {
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => Err(Fault::DivisionByZero),
        (Value::Int(left), Value::Int(right)) => left.checked_rem(*right).map(Value::Int).ok_or(Fault::Overflow),
        (Value::Uint(left), Value::Uint(right)) => left.checked_rem(*right).map(Value::Uint).ok_or(Fault::Overflow),
        _ => Err(Fault::NoSuchOverload),
    }
}

pub(super) fn negate<'a>(operand: &Value<'_>) -> Result<Value<'a>, Fault> {
    match operand {
        Value::Int(number) => number.checked_neg().map(Value::Int).ok_or(Fault::Overflow),
        Value::Double(number) => Ok(Value::Double(-number)),
        _ => Err(Fault::NoSuchOverload),
    }
}

/// Drops the fraction, unless the number is beyond an int. The ends are refused: a double near them stands for more than one int.
#[expect(clippy::cast_possible_truncation, reason = "within the range by the check")]
pub(super) fn double_to_int(number: f64) -> Option<i64> {
    const END: f64 = 9_223_372_036_854_775_808.0; // 2⁶³
    (number > -END && number < END).then_some(number as i64)
}

/// Drops the fraction, unless the number is beyond a uint.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range by the check")]
pub(super) fn double_to_uint(number: f64) -> Option<u64> {
    const END: f64 = 18_446_744_073_709_551_616.0; // 2⁶⁴
    (0.0..END).contains(&number).then_some(number as u64)
}
