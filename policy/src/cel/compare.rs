//! Equality and order (language definition, "Equality" and "Ordering").

use core::cmp::Ordering;

use super::{
    arithmetic::{double_to_int, double_to_uint},
    budget::Budget,
    fault::Fault,
    parse::MAX_DEPTH,
    value::Value,
};

/// Returns whether two values are equal: numbers by their size whatever their kinds, else only within one type.
///
/// # Errors
/// [`Fault::OverBudget`], and [`Fault::TooDeep`] for facts that are nested too deep.
#[inline]
pub(crate) fn equal(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<bool, Fault> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            budget.look(left.len())?;
            Ok(**left == **right)
        }
        _ => equal_within(left, right, MAX_DEPTH, budget),
    }
}

fn equal_within(left: &Value<'_>, right: &Value<'_>, depth: usize, budget: &mut Budget) -> Result<bool, Fault> {
    let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
    Ok(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::String(left), Value::String(right)) => {
            budget.look(left.len().min(right.len()))?;
            **left == **right
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            budget.look(left.len().min(right.len()))?;
            **left == **right
        }
        (Value::Timestamp(left), Value::Timestamp(right)) => left == right,
        (Value::Duration(left), Value::Duration(right)) => left == right,
        (Value::Type(left), Value::Type(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.iter().zip(right.iter()) {
                budget.step(1)?;
                if !equal_within(&left, &right, depth, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(left), Value::Map(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (key, left) in left.iter() {
                budget.step(1)?;
                budget.look(key.as_str().map_or(0, str::len))?;
                let Some(right) = right.get(&key) else { return Ok(false) };
                if !equal_within(&left, &right, depth, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        _ => numbers(left, right) == Some(Some(Ordering::Equal)),
    })
}

/// Returns the order of two values of one type, or of two numbers; none when a number is not one.
///
/// # Errors
/// [`Fault::NoSuchOverload`] for others, and [`Fault::OverBudget`].
pub(super) fn order(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<Option<Ordering>, Fault> {
    Ok(match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::String(left), Value::String(right)) => {
            budget.look(left.len().min(right.len()))?;
            Some((**left).cmp(&**right)) // by octets is by code points
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            budget.look(left.len().min(right.len()))?;
            Some((**left).cmp(&**right))
        }
        (Value::Timestamp(left), Value::Timestamp(right)) => Some(left.cmp(right)),
        (Value::Duration(left), Value::Duration(right)) => Some(left.cmp(right)),
        _ => numbers(left, right).ok_or(Fault::NoSuchOverload)?,
    })
}

/// Returns the order of two numbers by size, nothing when one value is no number, nothing within when one is not a number.
///
/// A whole number beside a double is taken as the nearest double, as Google's implementations and vectors have it.
fn numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Double(_), _) | (_, Value::Double(_)) => double(left)?.partial_cmp(&double(right)?),
        _ => Some(whole(left)?.cmp(&whole(right)?)),
    })
}

fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Double(number) => Some(*number),
        _ => None,
    }
}

/// Returns the whole number that a value is, exactly.
fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        Value::Double(number) if number.fract() == 0.0 => {
            double_to_int(*number).map(i128::from).or_else(|| double_to_uint(*number).map(i128::from))
        }
        _ => None,
    }
}

/// The order in which a map keeps its keys: numbers by size, then texts, then bools, then what is no key.
pub(super) fn keys(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    match (left, right) {
        (Value::String(left), Value::String(right)) => (**left).cmp(&**right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        _ => match (whole(left), whole(right)) {
            (Some(left), Some(right)) => left.cmp(&right),
            _ => rank(left).cmp(&rank(right)).then(Ordering::Less),
        },
    }
}

fn rank(value: &Value<'_>) -> u8 {
    match value {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Null
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Map(_)
        | Value::Timestamp(_)
        | Value::Duration(_)
        | Value::Type(_) => 3,
    }
}

/// Returns values in the order of their keys, which are of one type that has one; equal ones stay as they are.
pub(crate) fn sort<'a>(mut pairs: Vec<(Value<'a>, Value<'a>)>, budget: &mut Budget) -> Result<Vec<Value<'a>>, Fault> {
    let alike = pairs.windows(2).all(|two| matches!(two, [(one, _), (other, _)] if one.kind() == other.kind()));
    if !alike || !pairs.iter().all(|(key, _)| has_place(key)) {
        return Err(Fault::NoSuchOverload);
    }
    // All is paid for before: a comparison that ends in the middle would leave no order.
    let longest = pairs.iter().map(|(key, _)| octets(key)).max().unwrap_or(0) as u64 / 32 + 1;
    let halves = u64::from(pairs.len().max(1).ilog2()) + 1;
    budget.step((pairs.len() as u64).saturating_mul(halves).saturating_mul(longest))?;
    let mut free = Budget::new(u64::MAX, u64::MAX);
    pairs.sort_by(|(one, _), (other, _)| order(one, other, &mut free).ok().flatten().unwrap_or(Ordering::Equal));
    Ok(pairs.into_iter().map(|(_, value)| value).collect())
}

/// Returns whether values of its type have an order in which it has a place.
fn has_place(value: &Value<'_>) -> bool {
    match value {
        Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::Duration(_) => true,
        Value::Double(number) => !number.is_nan(),
        Value::Null | Value::List(_) | Value::Map(_) | Value::Type(_) => false,
    }
}

fn octets(value: &Value<'_>) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Bytes(octets) => octets.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_different_kinds_are_compared_by_size() {
        for (left, right, order) in [
            (Value::Int(-1), Value::Uint(u64::MAX), Some(Ordering::Less)),
            (Value::Int(i64::MAX), Value::Uint(9_223_372_036_854_775_808), Some(Ordering::Less)),
            (Value::Double(f64::INFINITY), Value::Uint(u64::MAX), Some(Ordering::Greater)),
            (Value::Double(-0.5), Value::Int(0), Some(Ordering::Less)),
            (Value::Double(-0.0), Value::Uint(0), Some(Ordering::Equal)),
            (Value::Double(9_223_372_036_854_775_808.0), Value::Int(i64::MAX), Some(Ordering::Equal)),
            (Value::Double(f64::NAN), Value::Int(0), None),
        ] {
            assert_eq!(numbers(&left, &right), Some(order), "{left:?} {right:?}");
            assert_eq!(numbers(&right, &left), Some(order.map(Ordering::reverse)), "{right:?} {left:?}");
        }
    }

    #[test]
    fn keys_are_one_only_when_they_are_exactly_of_one_size() {
        assert!(keys(&Value::Double(9_007_199_254_740_992.0), &Value::Int(9_007_199_254_740_993)).is_lt());
        assert!(keys(&Value::Double(3.0), &Value::Uint(3)).is_eq());
        assert!(!keys(&Value::Double(3.1), &Value::Uint(3)).is_eq());
        assert!(!keys(&Value::Double(f64::NAN), &Value::Double(f64::NAN)).is_eq());
        assert!(!keys(&Value::Null, &Value::Null).is_eq());
    }
}
