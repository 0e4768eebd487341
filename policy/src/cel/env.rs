//! What an expression may name: attributes and functions, with their types.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    budget::Budget, compile::Compiler, error::CompileError, fault::Fault, functions, parse::parse, program::Program,
    types::Type, value::Value,
};

/// An attribute that was declared, by its place in the order of declarations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attribute(pub usize);

/// What is known when an expression is evaluated.
pub trait Facts {
    /// Returns what an attribute has, of the type that was declared, or nothing where there is no such thing (a response before
    /// there is one). Borrow rather than copy: it is asked again at each mention.
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>>;
}

/// What a function is called with.
#[derive(Debug)]
pub struct Call<'c, 'a> {
    /// The receiver first, if there is one; of the declared kinds and number.
    pub arguments: &'c [Value<'a>],
    /// The facts of this evaluation.
    pub facts: &'a dyn Facts,
    /// What may still be spent. A function that looks at more than some octets, or makes anything, asks first.
    pub budget: &'c mut Budget,
}

impl core::fmt::Debug for dyn Facts + '_ {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Facts")
    }
}

/// How a function computes its value.
pub type Body = for<'a> fn(&mut Call<'_, 'a>) -> Result<Value<'a>, Fault>;

/// What a function made of its constant arguments.
pub trait Prepared: core::fmt::Debug + Send + Sync {
    /// Computes the value, as a [`Body`] does.
    ///
    /// # Errors
    /// As the body.
    fn call<'a>(&'a self, call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault>;
}

/// Looks at the arguments that are constants, once, when an expression is compiled; nothing stands for the others. What it makes of them
/// is called in place of the body.
pub type Prepare = fn(&[Option<Value<'static>>]) -> Result<Option<Box<dyn Prepared>>, BadArgument>;

/// A constant with which a function can never be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadArgument {
    /// Which argument, from zero; the receiver first, if there is one.
    pub argument: usize,
    /// What is wrong, for a human.
    pub what: String,
}

/// A function: one signature of a name, and what it costs. Several may share a name.
#[derive(Clone, Debug)]
pub struct Function {
    pub(super) name: String,
    /// Whether the first parameter stands before the dot.
    pub(super) member: bool,
    pub(super) parameters: Vec<Type>,
    pub(super) result: Type,
    pub(super) cost: u64,
    /// Whether it knows nothing but its arguments, so that it may be called once when it is compiled.
    pub(super) constant: bool,
    pub(super) body: Body,
    pub(super) prepare: Option<Prepare>,
}

impl Function {
    /// Declares `name(a, b)`; a name with dots, `net.in_cidr`, is written just so.
    pub fn global(name: &str, parameters: &[Type], result: Type, body: Body) -> Self {
        Self {
            name: name.into(),
            member: false,
            parameters: parameters.into(),
            result,
            cost: 0,
            constant: false,
            body,
            prepare: None,
        }
    }

    /// Declares `a.name(b)`, where `a` is the first parameter.
    pub fn member(name: &str, parameters: &[Type], result: Type, body: Body) -> Self {
        Self { member: true, ..Self::global(name, parameters, result, body) }
    }

    /// Lets each call cost that many steps, above the one of its node.
    pub fn cost(self, steps: u64) -> Self {
        Self { cost: steps, ..self }
    }

    /// Says that equal arguments always give an equal value: a call of constants is then a constant.
    pub fn constant(self) -> Self {
        Self { constant: true, ..self }
    }

    /// Lets the function see its constant arguments when an expression is compiled, if no other signature of its name fits the call.
    pub fn prepare(self, prepare: Prepare) -> Self {
        Self { prepare: Some(prepare), ..self }
    }

    /// Returns whether it can be called so, as far as types are known.
    pub(super) fn takes(&self, member: bool, arguments: &[Type]) -> bool {
        self.member == member
            && self.parameters.len() == arguments.len()
            && self.parameters.iter().zip(arguments).all(|(parameter, argument)| parameter.fits(argument))
    }

    /// Returns whether it can be called with these values.
    #[inline]
    pub(super) fn accepts(&self, arguments: &[Value<'_>]) -> bool {
        let fits =
            |(parameter, argument): (&Type, &Value<'_>)| parameter.kind().is_none_or(|kind| kind == argument.kind());
        self.parameters.iter().zip(arguments).all(fits)
    }
}

/// What an expression may name.
#[derive(Clone, Debug)]
pub struct Environment {
    pub(super) attributes: Vec<(String, Type)>,
    pub(super) functions: BTreeMap<String, Vec<Arc<Function>>>,
    /// Names that are asked for and are not there, and what to do.
    pub(super) unavailable: BTreeMap<String, String>,
}

impl Environment {
    /// Returns an environment with the functions of the language, of the extension for strings and of base64, and no attribute.
    pub fn standard() -> Self {
        let mut environment = Self { attributes: Vec::new(), functions: BTreeMap::new(), unavailable: BTreeMap::new() };
        for function in functions::standard() {
            environment.function(function.constant());
        }
        environment
    }

    /// Declares an attribute. Its name may have dots: `req.url.path`; the longest declared name that an expression begins with is
    /// meant. A name that is declared again means the first.
    pub fn attribute(&mut self, name: &str, ty: Type) -> Attribute {
        self.attributes.push((name.into(), ty));
        Attribute(self.attributes.len() - 1)
    }

    /// Returns the name of an attribute.
    pub fn name(&self, attribute: Attribute) -> Option<&str> {
        self.attributes.get(attribute.0).map(|(name, _)| name.as_str())
    }

    /// Says what to do without an attribute or a function that is not there. What begins with its name and a dot is meant too.
    pub fn unavailable(&mut self, name: &str, remedy: &str) {
        self.unavailable.insert(name.into(), remedy.into());
    }

    /// Declares a function.
    pub fn function(&mut self, function: Function) {
        self.functions.entry(function.name.clone()).or_default().push(Arc::new(function));
    }

    /// Compiles an expression: every name is resolved, every type that is known is checked, what is constant is computed.
    ///
    /// # Errors
    /// [`CompileError`], with the place, what was wrong and what may help.
    pub fn compile(&self, text: &str) -> Result<Program, CompileError> {
        let expr = parse(text)?;
        let mut compiler = Compiler::new(self, text);
        let (root, ty) = compiler.compile(&expr)?;
        let patterns = compiler.patterns();
        Ok(Program::new(text, root, ty, patterns))
    }
}
