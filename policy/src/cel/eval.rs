//! Evaluation (language definition, "Evaluation" and "Logical operators").

use super::{
    arithmetic,
    ast::{Fold, Operator},
    budget::Budget,
    compare,
    env::{Call, Facts, Function, Prepared},
    fault::Fault,
    program::{Node, Op},
    value::{List, Value},
};

/// Why and where an evaluation ended without a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) at: u32,
    pub(super) fault: Fault,
}

/// Evaluates a node that is in no macro.
pub(super) fn evaluate<'a>(node: &'a Node, facts: &'a dyn Facts, budget: &mut Budget) -> Result<Value<'a>, Stop> {
    value(node, None, &mut Context { facts, budget })
}

#[derive(Debug)]
struct Context<'a, 'b> {
    facts: &'a dyn Facts,
    budget: &'b mut Budget,
}

/// The variable of a macro, on the stack: a macro allocates nothing for it.
#[derive(Debug)]
struct Scope<'s, 'a> {
    value: Value<'a>,
    outer: Option<&'s Self>,
}

/// Returns the value of a node. It goes as deep as the tree, which the parser bounds.
fn value<'a>(node: &'a Node, scope: Option<&Scope<'_, 'a>>, context: &mut Context<'a, '_>) -> Result<Value<'a>, Stop> {
    let stop = |fault| Stop { at: node.at, fault };
    context.budget.step(1).map_err(stop)?;
    match &node.op {
        Op::Constant(constant) => Ok(constant.borrow()),
        Op::Attribute(attribute) => context.facts.attribute(*attribute).ok_or_else(|| stop(Fault::NoSuchAttribute)),
        Op::HasAttribute(attribute) => Ok(Value::Bool(context.facts.attribute(*attribute).is_some())),
        Op::Variable(up) => variable(scope, *up).ok_or_else(|| stop(Fault::NoSuchAttribute)),
        Op::Binary(operator, both) => {
            let [left, right] = &**both;
            let (left, right) = (value(left, scope, context)?, value(right, scope, context)?);
            binary(*operator, &left, &right, context.budget).map_err(stop)
        }
        Op::All(nodes) => logical(nodes, false, scope, context, node.at),
        Op::Any(nodes) => logical(nodes, true, scope, context, node.at),
        Op::Not(operand) => match value(operand, scope, context)? {
            Value::Bool(truth) => Ok(Value::Bool(!truth)),
            _ => Err(stop(Fault::NoSuchOverload)),
        },
        Op::Call(functions, prepared, arguments) => match &**arguments {
            [one] => call(functions, prepared.as_deref(), &[value(one, scope, context)?], context).map_err(stop),
            [one, two] => {
                let arguments = [value(one, scope, context)?, value(two, scope, context)?];
                call(functions, prepared.as_deref(), &arguments, context).map_err(stop)
            }
            [one, two, three] => {
                let arguments =
                    [value(one, scope, context)?, value(two, scope, context)?, value(three, scope, context)?];
                call(functions, prepared.as_deref(), &arguments, context).map_err(stop)
            }
            arguments => {
                let arguments = values(arguments, scope, context)?;
                call(functions, prepared.as_deref(), &arguments, context).map_err(stop)
            }
        },
        Op::Matches(text, pattern) => match value(text, scope, context)? {
            Value::String(text) => pattern.matches(&text, context.budget).map(Value::Bool).map_err(stop),
            _ => Err(stop(Fault::NoSuchOverload)),
        },
        Op::Select(operand, field) => {
            let operand = value(operand, scope, context)?;
            entry(&operand, field, context.budget).and_then(|found| found.ok_or(Fault::NoSuchKey)).map_err(stop)
        }
        Op::Has(operand, field) => {
            let operand = value(operand, scope, context)?;
            entry(&operand, field, context.budget).map(|found| Value::Bool(found.is_some())).map_err(stop)
        }
        Op::Index(both) => {
            let [operand, at] = &**both;
            let (operand, at) = (value(operand, scope, context)?, value(at, scope, context)?);
            index(&operand, &at, context.budget).map_err(stop)
        }
        Op::Conditional(three) => {
            let [condition, yes, no] = &**three;
            match value(condition, scope, context)? {
                Value::Bool(true) => value(yes, scope, context),
                Value::Bool(false) => value(no, scope, context),
                _ => Err(stop(Fault::NoSuchOverload)),
            }
        }
        Op::Negate(operand) => arithmetic::negate(&value(operand, scope, context)?).map_err(stop),
        Op::List(nodes) => {
            let elements = values(nodes, scope, context)?;
            Value::list_of_paid(elements).map_err(stop)
        }
        Op::Map(entries) => map(entries, scope, context, node.at),
        Op::Fold(fold, range, bodies) => {
            let range = value(range, scope, context)?;
            each(*fold, &range, bodies, scope, context, node.at)
        }
    }
}

fn variable<'a>(scope: Option<&Scope<'_, 'a>>, up: usize) -> Option<Value<'a>> {
    let mut scope = scope?;
    for _ in 0..up {
        scope = scope.outer?;
    }
    Some(scope.value.clone())
}

/// Evaluates nodes into elements whose room is paid for.
fn values<'a>(
    nodes: &'a [Node],
    scope: Option<&Scope<'_, 'a>>,
    context: &mut Context<'a, '_>,
) -> Result<Vec<Value<'a>>, Stop> {
    let size = nodes.len() * size_of::<Value<'_>>();
    let at = nodes.first().map_or(0, |node| node.at);
    context.budget.make(size).map_err(|fault| Stop { at, fault })?;
    let mut elements = Vec::with_capacity(nodes.len());
    for node in nodes {
        elements.push(value(node, scope, context)?);
    }
    Ok(elements)
}

fn map<'a>(
    entries: &'a [[Node; 2]],
    scope: Option<&Scope<'_, 'a>>,
    context: &mut Context<'a, '_>,
    at: u32,
) -> Result<Value<'a>, Stop> {
    let mut made = Vec::new();
    for [key, held] in entries {
        made.push((value(key, scope, context)?, value(held, scope, context)?));
    }
    Value::map(made, context.budget).map_err(|fault| Stop { at, fault })
}

/// Evaluates operands until one decides; an error is told only when none does, so that their order does not matter.
fn logical<'a>(
    nodes: &'a [Node],
    decides: bool,
    scope: Option<&Scope<'_, 'a>>,
    context: &mut Context<'a, '_>,
    at: u32,
) -> Result<Value<'a>, Stop> {
    let mut verdict = Verdict::new(decides, at);
    for node in nodes {
        if verdict.is_decided(value(node, scope, context))? {
            return Ok(Value::Bool(decides));
        }
    }
    verdict.end()
}

/// Truths and errors, of which one truth decides and errors wait for it.
#[derive(Debug)]
struct Verdict {
    decides: bool,
    at: u32,
    failed: Option<Stop>,
}

impl Verdict {
    fn new(decides: bool, at: u32) -> Self {
        Self { decides, at, failed: None }
    }

    /// Takes the next operand. A limit is never waited with: else a budget could be outrun.
    #[inline]
    fn is_decided(&mut self, operand: Result<Value<'_>, Stop>) -> Result<bool, Stop> {
        let stop = match operand {
            Ok(Value::Bool(truth)) => return Ok(truth == self.decides),
            Ok(_) => Stop { at: self.at, fault: Fault::NoSuchOverload },
            Err(stop) if stop.fault.is_limit() => return Err(stop),
            Err(stop) => stop,
        };
        self.failed.get_or_insert(stop);
        Ok(false)
    }

    fn end<'a>(self) -> Result<Value<'a>, Stop> {
        self.failed.map_or(Ok(Value::Bool(!self.decides)), Err)
    }
}

fn call<'a>(
    functions: &[std::sync::Arc<Function>],
    prepared: Option<&'a dyn Prepared>,
    arguments: &[Value<'a>],
    context: &mut Context<'a, '_>,
) -> Result<Value<'a>, Fault> {
    let function = functions.iter().find(|function| function.accepts(arguments)).ok_or(Fault::NoSuchOverload)?;
    context.budget.step(function.cost)?;
    let mut call = Call { arguments, facts: context.facts, budget: context.budget };
    match prepared {
        Some(prepared) => prepared.call(&mut call),
        None => (function.body)(&mut call),
    }
}

fn binary<'a>(
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>, Fault> {
    match operator {
        Operator::Equal => compare::equal(left, right, budget).map(Value::Bool),
        Operator::NotEqual => compare::equal(left, right, budget).map(|equal| Value::Bool(!equal)),
        Operator::Less => Ok(Value::Bool(compare::order(left, right, budget)?.is_some_and(|order| order.is_lt()))),
        Operator::LessOrEqual => {
            Ok(Value::Bool(compare::order(left, right, budget)?.is_some_and(|order| order.is_le())))
        }
        Operator::Greater => Ok(Value::Bool(compare::order(left, right, budget)?.is_some_and(|order| order.is_gt()))),
        Operator::GreaterOrEqual => {
            Ok(Value::Bool(compare::order(left, right, budget)?.is_some_and(|order| order.is_ge())))
        }
        Operator::In => contains(right, left, budget).map(Value::Bool),
        Operator::Add => arithmetic::add(left, right, budget),
        Operator::Subtract => arithmetic::subtract(left, right),
        Operator::Multiply => arithmetic::multiply(left, right),
        Operator::Divide => arithmetic::divide(left, right),
        Operator::Remainder => arithmetic::remainder(left, right),
    }
}

fn contains(range: &Value<'_>, wanted: &Value<'_>, budget: &mut Budget) -> Result<bool, Fault> {
    let Value::List(list) = range else {
        return entry(range, wanted, budget).map(|found| found.is_some());
    };
    if let List::Borrowed(items) = list {
        for item in *items {
            budget.step(1)?;
            if compare::equal(item, wanted, budget)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    for item in list.iter() {
        budget.step(1)?;
        if compare::equal(&item, wanted, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks a key up in what must be a map.
fn entry<'a>(map: &Value<'a>, key: &Value<'_>, budget: &mut Budget) -> Result<Option<Value<'a>>, Fault> {
    let Value::Map(map) = map else { return Err(Fault::NoSuchOverload) };
    if let Value::String(text) = key {
        // As often as a sorted map has halves.
        budget.look(text.len().saturating_mul(map.len().max(1).ilog2() as usize + 1))?;
    }
    Ok(map.get(key))
}

fn index<'a>(operand: &Value<'a>, at: &Value<'_>, budget: &mut Budget) -> Result<Value<'a>, Fault> {
    let Value::List(list) = operand else {
        return entry(operand, at, budget)?.ok_or(Fault::NoSuchKey);
    };
    let at = match at {
        Value::Int(at) => usize::try_from(*at).ok(),
        Value::Uint(at) => usize::try_from(*at).ok(),
        Value::Double(at) if at.fract() == 0.0 => {
            arithmetic::double_to_int(*at).and_then(|at| usize::try_from(at).ok())
        }
        _ => return Err(Fault::NoSuchOverload),
    };
    at.and_then(|at| list.get(at)).ok_or(Fault::IndexOutOfRange)
}

/// Evaluates a macro over the elements of a list or the keys of a map.
fn each<'a>(
    fold: Fold,
    range: &Value<'a>,
    bodies: &'a [Node],
    outer: Option<&Scope<'_, 'a>>,
    context: &mut Context<'a, '_>,
    at: u32,
) -> Result<Value<'a>, Stop> {
    let stop = |fault| Stop { at, fault };
    let len = match range {
        Value::List(list) => list.len(),
        Value::Map(map) => map.len(),
        _ => return Err(stop(Fault::NoSuchOverload)),
    };
    let mut verdict = Verdict::new(fold == Fold::Exists, at);
    let mut found = 0;
    let mut made = Vec::new();
    let mut sorted = Vec::new();
    for position in 0..len {
        context.budget.step(1).map_err(stop)?;
        let element = match range {
            Value::List(list) => list.get(position),
            Value::Map(map) => map.key(position),
            _ => None,
        };
        let Some(element) = element else { break };
        let scope = Scope { value: element, outer };
        let (condition, transform) = match (fold, bodies) {
            (Fold::Map | Fold::SortBy, [transform]) => (None, Some(transform)),
            (Fold::Map, [condition, transform]) => (Some(condition), Some(transform)),
            (_, bodies) => (bodies.first(), None),
        };
        if let Some(condition) = condition {
            let truth = value(condition, Some(&scope), context);
            if matches!(fold, Fold::All | Fold::Exists) {
                if verdict.is_decided(truth)? {
                    return Ok(Value::Bool(fold == Fold::Exists));
                }
                continue;
            }
            match truth? {
                Value::Bool(false) => continue,
                Value::Bool(true) => found += 1,
                _ => return Err(stop(Fault::NoSuchOverload)),
            }
        }
        if let (Fold::SortBy, Some(key)) = (fold, transform) {
            context.budget.make(size_of::<[Value<'_>; 2]>()).map_err(stop)?;
            sorted.push((value(key, Some(&scope), context)?, scope.value));
            continue;
        }
        if matches!(fold, Fold::Map | Fold::Filter) {
            context.budget.make(size_of::<Value<'_>>()).map_err(stop)?;
            made.push(match transform {
                Some(transform) => value(transform, Some(&scope), context)?,
                None => scope.value,
            });
        }
    }
    match fold {
        Fold::All | Fold::Exists => verdict.end(),
        Fold::ExistsOne => Ok(Value::Bool(found == 1)),
        Fold::Map | Fold::Filter => Value::list_of_paid(made).map_err(stop),
        Fold::SortBy => compare::sort(sorted, context.budget).and_then(Value::list_of_paid).map_err(stop),
    }
}
