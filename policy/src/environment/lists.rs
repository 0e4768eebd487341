//! Functions of lists, and chance.

use super::RANDOM;
use crate::cel::{Call, Fault, Function, Kind, List, Type, Value, arrange, equal};

const LIST: Type = Type::Of(Kind::List);

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function::member("slice", &[LIST, Type::INT, Type::INT], LIST, slice).constant(),
        Function::member("flatten", &[LIST], LIST, flatten).constant(),
        Function::member("flatten", &[LIST, Type::INT], LIST, flatten).constant(),
        Function::member("sort", &[LIST], LIST, sort).constant(),
        Function::member("distinct", &[LIST], LIST, distinct).constant(),
        Function::global("lists.range", &[Type::INT], Type::list(Type::INT), range).constant(),
        Function::global("rand.double", &[], Type::DOUBLE, double),
        Function::global("rand.int", &[], Type::INT, int),
        Function::global("rand.int", &[Type::INT, Type::INT], Type::INT, int),
    ]
}

fn slice<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = call.arguments else {
        return Err(Fault::NoSuchOverload);
    };
    let place = |at: i64| usize::try_from(at).map_err(|_| Fault::IndexOutOfRange);
    let (start, end) = (place(*start)?, place(*end)?);
    if start > end || end > list.len() {
        return Err(Fault::IndexOutOfRange);
    }
    call.budget.step((end - start) as u64)?;
    let elements = (start..end).map_while(|at| list.get(at)).collect();
    Value::list(elements, call.budget)
}

fn flatten<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (list, depth) = match call.arguments {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => {
            (list, usize::try_from(*depth).map_err(|_| Fault::Invalid("the depth is negative"))?)
        }
        _ => return Err(Fault::NoSuchOverload),
    };
    let mut flat = Vec::new();
    flatten_into(list, depth, &mut flat, call)?;
    Value::list(flat, call.budget)
}

/// Goes as deep as values are nested, which is bounded.
fn flatten_into<'a>(
    list: &List<'a>,
    depth: usize,
    flat: &mut Vec<Value<'a>>,
    call: &mut Call<'_, 'a>,
) -> Result<(), Fault> {
    for element in list.iter() {
        call.budget.step(1)?;
        if let Value::List(inner) = &element
            && depth > 0
        {
            flatten_into(inner, depth - 1, flat, call)?;
            continue;
        }
        call.budget.make(size_of::<Value<'_>>())?;
        flat.push(element);
    }
    Ok(())
}

fn sort<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::List(list)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    call.budget.make(list.len().saturating_mul(3 * size_of::<Value<'_>>()))?;
    let pairs = list.iter().map(|element| (element.clone(), element)).collect();
    let elements = arrange(pairs, call.budget)?;
    Value::list(elements, call.budget)
}

fn distinct<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::List(list)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    let mut found: Vec<Value<'a>> = Vec::new();
    for element in list.iter() {
        let mut known = false;
        for other in &found {
            call.budget.step(1)?;
            if equal(other, &element, call.budget)? {
                known = true;
                break;
            }
        }
        if !known {
            call.budget.make(size_of::<Value<'_>>())?;
            found.push(element);
        }
    }
    Value::list(found, call.budget)
}

fn range<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let [Value::Int(end)] = call.arguments else { return Err(Fault::NoSuchOverload) };
    let size = usize::try_from(*end).unwrap_or(0);
    call.budget.make(size.saturating_mul(size_of::<Value<'_>>()))?;
    Value::list((0..*end).map(Value::Int).collect(), call.budget)
}

fn random(call: &Call<'_, '_>) -> Result<u64, Fault> {
    match call.facts.attribute(RANDOM) {
        Some(Value::Uint(number)) => Ok(number),
        _ => Err(Fault::NoSuchAttribute),
    }
}

/// At least 0 and less than 1.
fn double<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    // A double holds 53 bits of a fraction.
    #[expect(clippy::cast_precision_loss, reason = "of 53 bits nothing is lost")]
    let part = (random(call)? >> 11) as f64 / (1_u64 << 53) as f64;
    Ok(Value::Double(part))
}

/// At least the first, and at most the second; 0 or 1 when they are not given.
fn int<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (least, most) = match call.arguments {
        [] => (0, 1),
        [Value::Int(least), Value::Int(most)] => (*least, *most),
        _ => return Err(Fault::NoSuchOverload),
    };
    if least < 0 || most < least {
        return Err(Fault::Invalid("the bounds are negative, or the first is more than the second"));
    }
    let count = u128::from(least.abs_diff(most)) + 1;
    let offset = (u128::from(random(call)?) * count) >> 64;
    i64::try_from(offset).ok().and_then(|offset| least.checked_add(offset)).map(Value::Int).ok_or(Fault::Overflow)
}
