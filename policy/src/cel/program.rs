//! A compiled expression.

use std::sync::Arc;

use super::{
    ast::{Fold, Operator},
    budget::Budget,
    env::{Attribute, Facts, Function, Prepared},
    error::Position,
    eval::{Stop, evaluate},
    fault::Error,
    pattern::Pattern,
    types::Type,
    value::Value,
};

/// An expression, ready to be evaluated as often as one likes, by any thread.
#[derive(Debug)]
pub struct Program {
    text: String,
    root: Node,
    ty: Type,
    patterns: usize,
}

impl Program {
    pub(super) fn new(text: &str, root: Node, ty: Type, patterns: usize) -> Self {
        Self { text: text.into(), root, ty, patterns }
    }

    /// Evaluates the expression. The value borrows from the facts and from the program.
    ///
    /// # Errors
    /// [`Error`] with the place and why. [`Fault::is_limit`](super::Fault::is_limit) tells what the budget ended; who decides
    /// whether somebody may pass refuses for either.
    pub fn evaluate<'a>(&'a self, facts: &'a dyn Facts, budget: &mut Budget) -> Result<Value<'a>, Error> {
        evaluate(&self.root, facts, budget)
            .map_err(|Stop { at, fault }| Error { at: Position::of(&self.text, at as usize), fault })
    }

    /// Returns what is known of the type of every value it gives.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// Returns the octets that its patterns take, at most [`MAX_PATTERNS`](super::MAX_PATTERNS).
    pub fn patterns(&self) -> usize {
        self.patterns
    }

    /// Returns its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns every attribute that it may read, some of them perhaps twice.
    pub fn attributes(&self) -> Vec<Attribute> {
        let (mut found, mut left) = (Vec::new(), vec![&self.root]);
        while let Some(Node { op, .. }) = left.pop() {
            match op {
                Op::Attribute(attribute) | Op::HasAttribute(attribute) => found.push(*attribute),
                Op::Constant(_) | Op::Variable(_) => {}
                Op::Select(node, _) | Op::Has(node, _) | Op::Not(node) | Op::Negate(node) | Op::Matches(node, _) => {
                    left.push(node);
                }
                Op::Index(both) | Op::Binary(_, both) => left.extend(both.iter()),
                Op::Conditional(three) => left.extend(three.iter()),
                Op::All(nodes) | Op::Any(nodes) | Op::List(nodes) | Op::Call(_, _, nodes) => left.extend(nodes),
                Op::Map(entries) => left.extend(entries.iter().flatten()),
                Op::Fold(_, range, bodies) => {
                    left.push(range);
                    left.extend(bodies);
                }
            }
        }
        found
    }
}

/// A part of a program, and the octet of the text where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: u32,
    pub(super) op: Op,
}

/// What a part does.
#[derive(Debug)]
pub(super) enum Op {
    Constant(Value<'static>),
    Attribute(Attribute),
    HasAttribute(Attribute),
    /// The variable of a macro, counted from the innermost.
    Variable(usize),
    Select(Box<Node>, Value<'static>),
    Has(Box<Node>, Value<'static>),
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Binary(Operator, Box<[Node; 2]>),
    All(Vec<Node>),
    Any(Vec<Node>),
    Conditional(Box<[Node; 3]>),
    List(Vec<Node>),
    Map(Vec<[Node; 2]>),
    /// Signatures of one name and number of arguments; the first that accepts the values is called, by what it prepared.
    Call(Vec<Arc<Function>>, Option<Box<dyn Prepared>>, Vec<Node>),
    Matches(Box<Node>, Pattern),
    Fold(Fold, Box<Node>, Vec<Node>),
}

impl Op {
    /// Returns whether it is computed from constants alone, and in the same way each time.
    pub(super) fn is_settled(&self) -> bool {
        let constant = |node: &Node| matches!(node.op, Self::Constant(_));
        match self {
            Self::Constant(_) | Self::Attribute(_) | Self::HasAttribute(_) | Self::Variable(_) | Self::Fold(..) => {
                false
            }
            Self::Select(node, _) | Self::Has(node, _) | Self::Matches(node, _) => constant(node),
            Self::Not(node) | Self::Negate(node) => constant(node),
            Self::Index(both) | Self::Binary(_, both) => both.iter().all(constant),
            Self::Conditional(three) => three.iter().all(constant),
            Self::All(nodes) | Self::Any(nodes) | Self::List(nodes) => nodes.iter().all(constant),
            Self::Map(entries) => entries.iter().flatten().all(constant),
            Self::Call(functions, _, nodes) => {
                functions.iter().all(|function| function.constant) && nodes.iter().all(constant)
            }
        }
    }
}
