//! From tree to program: names are resolved, known types are checked, constants are computed.

use std::sync::Arc;

use super::{
    ast::{Expr, Fold, Kind as Form, Operator},
    budget::Budget,
    env::{Attribute, Environment, Facts, Function, Prepared},
    error::{CompileError, Position, Refusal},
    eval::evaluate,
    pattern::Pattern,
    program::{Node, Op},
    types::{Kind, Type},
    value::{Octets, Text, Value},
};

/// The octets that the patterns of an expression may take in all.
pub const MAX_PATTERNS: usize = 1 << 20;
/// What a constant may cost to compute; what costs more is computed each time, within the budget of the evaluation. It is small:
/// a short text can make many.
const CONSTANT: Budget = Budget::new(1_000, 1_024);

/// Compiles one text.
#[derive(Debug)]
pub(super) struct Compiler<'e> {
    environment: &'e Environment,
    text: &'e str,
    /// The variables of the macros around, outermost first.
    variables: Vec<(&'e str, Type)>,
    /// The octets that the expression's patterns take so far.
    patterns: usize,
}

/// A part of a program and what is known of its value.
type Typed = (Node, Type);

impl<'e> Compiler<'e> {
    pub(super) fn new(environment: &'e Environment, text: &'e str) -> Self {
        Self { environment, text, variables: Vec::new(), patterns: 0 }
    }

    /// Returns the octets that the patterns take.
    pub(super) const fn patterns(&self) -> usize {
        self.patterns
    }

    /// Compiles a node and all below. It goes as deep as the tree, which the parser bounds.
    pub(super) fn compile(&mut self, expr: &'e Expr) -> Result<Typed, CompileError> {
        let (op, ty) = match &expr.kind {
            Form::Null => (Op::Constant(Value::Null), Type::NULL),
            Form::Bool(it) => (Op::Constant(Value::Bool(*it)), Type::BOOL),
            Form::Int(it) => (Op::Constant(Value::Int(*it)), Type::INT),
            Form::Uint(it) => (Op::Constant(Value::Uint(*it)), Type::UINT),
            Form::Double(it) => (Op::Constant(Value::Double(*it)), Type::DOUBLE),
            Form::String(it) => (Op::Constant(text(it)), Type::STRING),
            Form::Bytes(it) => (Op::Constant(Value::Bytes(Octets::Shared(Arc::from(it.as_slice())))), Type::BYTES),
            Form::Ident(_) => self.name(expr)?,
            Form::Select(operand, field) => self.select(expr, operand, field)?,
            Form::Has(operand, field) => self.has(expr, operand, field)?,
            Form::Index(both) => self.index(expr, both)?,
            Form::Call(receiver, name, arguments) => self.call(expr, receiver.as_deref(), name, arguments)?,
            Form::Not(operand) => (Op::Not(Box::new(self.truth(operand, "!")?)), Type::BOOL),
            Form::Negate(operand) => self.negate(expr, operand)?,
            Form::Binary(operator, both) => self.binary(expr, *operator, both)?,
            Form::All(operands) => (Op::All(self.truths(operands, "&&")?), Type::BOOL),
            Form::Any(operands) => (Op::Any(self.truths(operands, "||")?), Type::BOOL),
            Form::Conditional(three) => self.conditional(expr, three)?,
            Form::List(elements) => {
                let (nodes, types) = self.each(elements)?;
                (Op::List(nodes), Type::list(common(types)))
            }
            Form::Map(entries) => self.map(entries)?,
            Form::Fold(fold, range, variable, bodies) => self.fold(*fold, range, variable, bodies)?,
        };
        let node = Node { at: expr.at, op };
        Ok((settle(node), ty))
    }

    fn name(&self, expr: &Expr) -> Result<(Op, Type), CompileError> {
        if let Form::Ident(name) = &expr.kind
            && let Some(up) = self.variables.iter().rev().position(|(variable, _)| variable == name)
        {
            let ty = self.variables.iter().rev().nth(up).map_or(Type::Dyn, |(_, ty)| ty.clone());
            return Ok((Op::Variable(up), ty));
        }
        let path = path(expr).unwrap_or_default();
        self.declared(&path).ok_or_else(|| self.unknown(expr, &path))
    }

    /// Returns what a whole name stands for, outside of macros.
    fn declared(&self, path: &str) -> Option<(Op, Type)> {
        if let Some((attribute, ty)) = self.attribute(path) {
            return Some((Op::Attribute(attribute), ty.clone()));
        }
        let kind = Kind::ALL.iter().find(|kind| kind.name() == path)?;
        Some((Op::Constant(Value::Type(*kind)), Type::TYPE))
    }

    fn attribute(&self, path: &str) -> Option<(Attribute, &'e Type)> {
        let at = self.environment.attributes.iter().position(|(name, _)| name == path)?;
        self.environment.attributes.get(at).map(|(_, ty)| (Attribute(at), ty))
    }

    /// Returns the path of a name with dots that begins with no variable.
    fn path(&self, expr: &Expr) -> Option<String> {
        let path = path(expr)?;
        let root = path.split('.').next().unwrap_or_default();
        (!self.variables.iter().any(|(variable, _)| *variable == root)).then_some(path)
    }

    /// Resolves `a.b.c`: the longest declared name with which it begins, and fields of that.
    fn select(&mut self, expr: &'e Expr, operand: &'e Expr, field: &str) -> Result<(Op, Type), CompileError> {
        if let Some(path) = self.path(expr) {
            if let Some(declared) = self.declared(&path) {
                return Ok(declared);
            }
            if let Some(error) = self.unavailable(expr, &path) {
                return Err(error);
            }
            let ends = path.match_indices('.').map(|(end, _)| end);
            if !ends.filter_map(|end| path.get(..end)).any(|begin| self.declared(begin).is_some()) {
                return Err(self.unknown(expr, &path));
            }
        }
        let (node, ty) = self.compile(operand)?;
        let ty = self.field(expr, &ty, field)?;
        Ok((Op::Select(Box::new(node), text(field)), ty))
    }

    fn has(&mut self, expr: &'e Expr, operand: &'e Expr, field: &str) -> Result<(Op, Type), CompileError> {
        if let Some(path) = self.path(operand)
            && let Some((attribute, _)) = self.attribute(&format!("{path}.{field}"))
        {
            return Ok((Op::HasAttribute(attribute), Type::BOOL));
        }
        let (node, ty) = self.compile(operand)?;
        self.field(expr, &ty, field)?;
        Ok((Op::Has(Box::new(node), text(field)), Type::BOOL))
    }

    fn field(&self, expr: &Expr, operand: &Type, field: &str) -> Result<Type, CompileError> {
        match operand {
            Type::Dyn | Type::Of(Kind::Map) => Ok(Type::Dyn),
            Type::Map(key, value) if key.fits(&Type::STRING) => Ok((**value).clone()),
            Type::Of(_) | Type::List(_) | Type::Map(..) => {
                let error =
                    self.error(expr, Refusal::Type, format!("a value of type {operand} has no field `{field}`"));
                Err(match operand.kind() {
                    Some(Kind::List) => error.remedy("write `list[0]` for an element, or `list.exists(x, …)`"),
                    _ => error,
                })
            }
        }
    }

    fn index(&mut self, expr: &'e Expr, both: &'e [Expr; 2]) -> Result<(Op, Type), CompileError> {
        let [operand, at] = both;
        let ((operand, ty), (at, at_ty)) = (self.compile(operand)?, self.compile(at)?);
        let ty = match &ty {
            Type::Dyn | Type::Of(Kind::List | Kind::Map) => Type::Dyn,
            Type::List(element) if at_ty.compares(&Type::INT) => (**element).clone(),
            Type::Map(key, value) if at_ty.compares(key) => (**value).clone(),
            Type::Of(_) | Type::List(_) | Type::Map(..) => {
                let what = format!("a value of type {ty} has no index of type {at_ty}");
                return Err(self.error(expr, Refusal::Type, what));
            }
        };
        Ok((Op::Index(Box::new([operand, at])), ty))
    }

    fn call(
        &mut self,
        expr: &'e Expr,
        receiver: Option<&'e Expr>,
        name: &str,
        arguments: &'e [Expr],
    ) -> Result<(Op, Type), CompileError> {
        // `base64.encode(x)` is a function of a name with a dot, not one of a value.
        if let Some(path) = receiver.and_then(|receiver| self.path(receiver)) {
            let full = format!("{path}.{name}");
            if self.environment.functions.contains_key(&full) {
                let (nodes, types) = self.each(arguments)?;
                return self.choose(expr, &full, false, nodes, &types);
            }
            if let Some(error) = self.unavailable(expr, &full) {
                return Err(error);
            }
        }
        if !self.environment.functions.contains_key(name) {
            let names = self.environment.functions.keys().map(String::as_str);
            return Err(self
                .error(expr, Refusal::Name, format!("unknown function `{name}`"))
                .did_you_mean(name, names.chain(["all", "exists", "exists_one", "map", "filter", "sortBy", "has"])));
        }
        let (nodes, types) = self.each(receiver.into_iter().chain(arguments))?;
        self.choose(expr, name, receiver.is_some(), nodes, &types)
    }

    /// Chooses the signatures that the types allow.
    fn choose(
        &mut self,
        expr: &Expr,
        name: &str,
        member: bool,
        mut nodes: Vec<Node>,
        types: &[Type],
    ) -> Result<(Op, Type), CompileError> {
        let all = self.environment.functions.get(name).map(Vec::as_slice).unwrap_or_default();
        let fitting: Vec<Arc<Function>> =
            all.iter().filter(|function| function.takes(member, types)).cloned().collect();
        let Some(first) = fitting.first() else {
            return Err(self.no_signature(expr, name, member, types, all));
        };
        let same = fitting.iter().all(|function| function.result == first.result);
        let ty = if same { first.result.clone() } else { Type::Dyn };
        if name == "matches"
            && let Some(Node { op: Op::Constant(Value::String(pattern)), .. }) = nodes.last()
        {
            let pattern = Pattern::compile(pattern).map_err(|what| {
                self.error(expr, Refusal::Pattern, what).remedy(
                    "the syntax is RE2's: no look-around, no back-references; write r'…' so that \\ needs no other",
                )
            })?;
            self.patterns = self.patterns.saturating_add(pattern.octets());
            if self.patterns > MAX_PATTERNS {
                let what = format!("the patterns of the expression take more than {MAX_PATTERNS} octets in all");
                return Err(self.error(expr, Refusal::Limit, what).remedy("join them, or make them simpler"));
            }
            nodes.pop();
            if let Some(subject) = nodes.pop() {
                return Ok((Op::Matches(Box::new(subject), pattern), ty));
            }
        }
        if let [_, Node { op: Op::Constant(Value::String(zone)), .. }] = &*nodes
            && name.starts_with("get")
            && super::time::offset(zone).is_none()
        {
            let what = format!("unknown time zone {:?}", &**zone);
            return Err(self.error(expr, Refusal::Type, what).remedy("write UTC or an offset such as +05:30"));
        }
        let prepared = match &*fitting {
            [function] => self.prepare(function, &mut nodes)?,
            _ => None,
        };
        Ok((Op::Call(fitting, prepared, nodes), ty))
    }

    /// Lets a function make something of its constant arguments.
    fn prepare(&self, function: &Function, nodes: &mut [Node]) -> Result<Option<Box<dyn Prepared>>, CompileError> {
        let Some(prepare) = function.prepare else { return Ok(None) };
        let known: Vec<Option<Value<'static>>> = nodes.iter().map(constant).collect();
        let prepared = prepare(&known).map_err(|bad| {
            let at = nodes.get(bad.argument).map_or(0, |node| node.at);
            CompileError::new(Position::of(self.text, at as usize), Refusal::Argument, bad.what)
        })?;
        // A list that is too long to be a constant is one here, so that no call makes it again.
        for (node, value) in nodes.iter_mut().zip(known) {
            if let Some(value) = value {
                node.op = Op::Constant(value);
            }
        }
        Ok(prepared)
    }

    fn no_signature(
        &self,
        expr: &Expr,
        name: &str,
        member: bool,
        types: &[Type],
        all: &[Arc<Function>],
    ) -> CompileError {
        let known: Vec<String> = all.iter().map(|it| signature(name, it.member, &it.parameters)).collect();
        self.error(expr, Refusal::Type, format!("there is no `{}`", signature(name, member, types)))
            .remedy(format!("there is `{}`", known.join("`, `")))
    }

    fn negate(&mut self, expr: &'e Expr, operand: &'e Expr) -> Result<(Op, Type), CompileError> {
        let (node, ty) = self.compile(operand)?;
        if !matches!(ty, Type::Dyn | Type::Of(Kind::Int | Kind::Double)) {
            return Err(self.error(expr, Refusal::Type, format!("a value of type {ty} cannot be negated")));
        }
        Ok((Op::Negate(Box::new(node)), ty))
    }

    fn binary(&mut self, expr: &'e Expr, operator: Operator, both: &'e [Expr; 2]) -> Result<(Op, Type), CompileError> {
        let [left, right] = both;
        let ((left, left_ty), (right, right_ty)) = (self.compile(left)?, self.compile(right)?);
        let ty = binary(operator, &left_ty, &right_ty).ok_or_else(|| {
            let what = format!("there is no `{left_ty} {} {right_ty}`", operator.text());
            let error = self.error(expr, Refusal::Type, what);
            match operator {
                Operator::Equal | Operator::NotEqual => error.remedy("the two are never equal; convert one of them"),
                Operator::In => error.remedy("what is right of `in` is a list of such elements, or a map of such keys"),
                _ => error.remedy("convert one of them, as by `string(x)`, `int(x)` or `double(x)`"),
            }
        })?;
        Ok((Op::Binary(operator, Box::new([left, right])), ty))
    }

    fn conditional(&mut self, expr: &'e Expr, three: &'e [Expr; 3]) -> Result<(Op, Type), CompileError> {
        let [condition, yes, no] = three;
        let condition = self.truth(condition, "?")?;
        let ((yes, ty), (no, no_ty)) = (self.compile(yes)?, self.compile(no)?);
        if !ty.fits(&no_ty) && ty != Type::NULL && no_ty != Type::NULL {
            let what = format!("a condition chooses between {ty} and {no_ty}");
            return Err(self.error(expr, Refusal::Type, what).remedy("give both one type, or write `dyn(x)`"));
        }
        Ok((Op::Conditional(Box::new([condition, yes, no])), ty.or(&no_ty)))
    }

    fn map(&mut self, entries: &'e [[Expr; 2]]) -> Result<(Op, Type), CompileError> {
        let (mut nodes, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for [key, value] in entries {
            let ((key_node, key_ty), (value, value_ty)) = (self.compile(key)?, self.compile(value)?);
            if !matches!(key_ty, Type::Dyn | Type::Of(Kind::Bool | Kind::Int | Kind::Uint | Kind::String)) {
                return Err(self
                    .error(key, Refusal::Type, format!("a value of type {key_ty} cannot be the key of a map"))
                    .remedy("a key is a bool, an int, a uint or a string"));
            }
            nodes.push([key_node, value]);
            keys.push(key_ty);
            values.push(value_ty);
        }
        Ok((Op::Map(nodes), Type::map(common(keys), common(values))))
    }

    fn fold(
        &mut self,
        fold: Fold,
        range: &'e Expr,
        variable: &'e str,
        bodies: &'e [Expr],
    ) -> Result<(Op, Type), CompileError> {
        let (range_node, range_ty) = self.compile(range)?;
        let element = range_ty.element().ok_or_else(|| {
            let what =
                format!("`{}` goes over a list or the keys of a map, not a value of type {range_ty}", fold.name());
            self.error(range, Refusal::Type, what)
        })?;
        self.variables.push((variable, element.clone()));
        let compiled = self.bodies(fold, bodies);
        self.variables.pop();
        let (nodes, last) = compiled?;
        let ty = match fold {
            Fold::All | Fold::Exists | Fold::ExistsOne => Type::BOOL,
            Fold::Map => Type::list(last),
            Fold::Filter | Fold::SortBy => Type::list(element),
        };
        Ok((Op::Fold(fold, Box::new(range_node), nodes), ty))
    }

    /// Compiles the bodies of a macro, which are conditions but for what `map` makes and `sortBy` orders by.
    fn bodies(&mut self, fold: Fold, bodies: &'e [Expr]) -> Result<(Vec<Node>, Type), CompileError> {
        let (mut nodes, mut last) = (Vec::new(), Type::Dyn);
        for (index, body) in bodies.iter().enumerate() {
            if matches!(fold, Fold::Map | Fold::SortBy) && index + 1 == bodies.len() {
                let (node, ty) = self.compile(body)?;
                nodes.push(node);
                last = ty;
            } else {
                nodes.push(self.truth(body, fold.name())?);
            }
        }
        Ok((nodes, last))
    }

    fn each(&mut self, exprs: impl IntoIterator<Item = &'e Expr>) -> Result<(Vec<Node>, Vec<Type>), CompileError> {
        let (mut nodes, mut types) = (Vec::new(), Vec::new());
        for expr in exprs {
            let (node, ty) = self.compile(expr)?;
            nodes.push(node);
            types.push(ty);
        }
        Ok((nodes, types))
    }

    fn truths(&mut self, exprs: &'e [Expr], operator: &str) -> Result<Vec<Node>, CompileError> {
        exprs.iter().map(|expr| self.truth(expr, operator)).collect()
    }

    fn truth(&mut self, expr: &'e Expr, operator: &str) -> Result<Node, CompileError> {
        let (node, ty) = self.compile(expr)?;
        if !ty.fits(&Type::BOOL) {
            let what = format!("`{operator}` asks for a bool, and this is of type {ty}");
            let error = self.error(expr, Refusal::Type, what);
            return Err(match ty {
                Type::STRING => error.remedy("write `x != ''`"),
                Type::INT => error.remedy("write `x != 0`"),
                _ => error.remedy("compare it with something"),
            });
        }
        Ok(node)
    }

    fn unavailable(&self, expr: &Expr, path: &str) -> Option<CompileError> {
        let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
        let (name, remedy) =
            ends.filter_map(|end| path.get(..end)).find_map(|name| self.environment.unavailable.get_key_value(name))?;
        Some(self.error(expr, Refusal::Name, format!("`{name}` is not available")).remedy(remedy))
    }

    fn unknown(&self, expr: &Expr, path: &str) -> CompileError {
        let variables = self.variables.iter().map(|(name, _)| *name);
        let names = self.environment.attributes.iter().map(|(name, _)| name.as_str()).chain(variables);
        let error = self.error(expr, Refusal::Name, format!("unknown attribute `{path}`"));
        if self.environment.functions.contains_key(path) {
            return error.remedy(format!("`{path}` is a function: write `{path}(…)`"));
        }
        error.did_you_mean(path, names)
    }

    fn error(&self, expr: &Expr, refusal: Refusal, what: impl Into<String>) -> CompileError {
        CompileError::new(Position::of(self.text, expr.at as usize), refusal, what)
    }
}

/// Returns the type of an operation, nothing if no values of these types have one.
fn binary(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    let among = |kinds: &[[Kind; 3]]| {
        let fits = |ty: &Type, kind: Kind| ty.kind().is_none_or(|known| known == kind);
        let mut results =
            kinds.iter().filter(|[a, b, _]| fits(left, *a) && fits(right, *b)).map(|[.., result]| *result);
        let first = results.next()?;
        Some(if results.all(|result| result == first) { Type::Of(first) } else { Type::Dyn })
    };
    match operator {
        Operator::Equal | Operator::NotEqual => left.compares(right).then_some(Type::BOOL),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let ordered = |ty: &Type| !matches!(ty.kind(), Some(Kind::Null | Kind::List | Kind::Map | Kind::Type));
            (ordered(left) && ordered(right) && left.compares(right)).then_some(Type::BOOL)
        }
        Operator::In => {
            let found = right.element()?;
            left.compares(&found).then_some(Type::BOOL)
        }
        Operator::Add if left.kind() == Some(Kind::List) && right.kind() == Some(Kind::List) => {
            Some(Type::list(left.element()?.or(&right.element()?)))
        }
        Operator::Add => among(SUMS),
        Operator::Subtract => among(DIFFERENCES),
        Operator::Multiply | Operator::Divide => among(NUMBERS),
        Operator::Remainder => among(NUMBERS.get(..2)?),
    }
}

const NUMBERS: &[[Kind; 3]] = &[[Kind::Int; 3], [Kind::Uint; 3], [Kind::Double; 3]];
const SUMS: &[[Kind; 3]] = &[
    [Kind::Int; 3],
    [Kind::Uint; 3],
    [Kind::Double; 3],
    [Kind::String; 3],
    [Kind::Bytes; 3],
    [Kind::List; 3],
    [Kind::Duration; 3],
    [Kind::Timestamp, Kind::Duration, Kind::Timestamp],
    [Kind::Duration, Kind::Timestamp, Kind::Timestamp],
];
const DIFFERENCES: &[[Kind; 3]] = &[
    [Kind::Int; 3],
    [Kind::Uint; 3],
    [Kind::Double; 3],
    [Kind::Duration; 3],
    [Kind::Timestamp, Kind::Duration, Kind::Timestamp],
    [Kind::Timestamp, Kind::Timestamp, Kind::Duration],
];

/// No facts: constants need none.
#[derive(Debug)]
struct Nothing;

impl Facts for Nothing {
    fn attribute(&self, _: Attribute) -> Option<Value<'_>> {
        None
    }
}

/// Replaces what is computed from constants by its value. What is an error stays: it may never be reached.
fn settle(node: Node) -> Node {
    if !node.op.is_settled() {
        return node;
    }
    let mut budget = CONSTANT.clone();
    // What the value is made of was paid for when it was made.
    let settled = evaluate(&node, &Nothing, &mut budget)
        .ok()
        .and_then(|value| value.detach(&mut Budget::new(u64::MAX, u64::MAX)).ok());
    match settled {
        Some(value) => Node { at: node.at, op: Op::Constant(value) },
        None => node,
    }
}

/// Returns the value of a constant, or of a list of constants of any length.
fn constant(node: &Node) -> Option<Value<'static>> {
    let held = |node: &Node| if let Op::Constant(value) = &node.op { Some(value.clone()) } else { None };
    match &node.op {
        Op::List(nodes) => Value::list_of_paid(nodes.iter().map(held).collect::<Option<_>>()?).ok(),
        _ => held(node),
    }
}

/// Returns `a.b.c` of a name with dots.
fn path(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Form::Ident(name) => Some(name.clone()),
        Form::Select(operand, field) => {
            let mut path = path(operand)?;
            path.push('.');
            path.push_str(field);
            Some(path)
        }
        _ => None,
    }
}

fn common(types: Vec<Type>) -> Type {
    types.into_iter().reduce(|one, other| one.or(&other)).unwrap_or(Type::Dyn)
}

fn text(text: &str) -> Value<'static> {
    Value::String(Text::Shared(Arc::from(text)))
}

fn signature(name: &str, member: bool, types: &[Type]) -> String {
    let row = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
    match types {
        [receiver, arguments @ ..] if member => format!("{receiver}.{name}({})", row(arguments)),
        _ => format!("{name}({})", row(types)),
    }
}
