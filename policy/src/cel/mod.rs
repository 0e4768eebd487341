//! The part of Google's Common Expression Language that a gateway's policy needs, within a budget.
//!
//! The language is that of <https://github.com/google/cel-spec/blob/v0.25.1/doc/langdef.md> ("language definition" below), with the
//! extensions for strings and encoders. Not part of it: messages of Protocol Buffers, containers, optional values, time zones by
//! name. An expression is compiled once: names are resolved, known types are checked, patterns and constants are
//! made. It is evaluated against [`Facts`] as often as there are callers, and never costs more than its [`Budget`].
//!
//! ```
//! use adit_policy::cel::{Attribute, Budget, Environment, Facts, Type, Value};
//!
//! struct Caller<'a>(&'a str);
//!
//! impl Facts for Caller<'_> {
//!     fn attribute(&self, _: Attribute) -> Option<Value<'_>> {
//!         Some(self.0.into())
//!     }
//! }
//!
//! let mut environment = Environment::standard();
//! environment.attribute("conn.client_ip", Type::STRING);
//! let program = environment.compile("conn.client_ip.startsWith('10.')")?;
//!
//! let verdict = program.evaluate(&Caller("10.1.2.3"), &mut Budget::default())?;
//! assert_eq!(verdict, Value::Bool(true));
//!
//! let refused = environment.compile("conn.client_ib == '10.1.2.3'").unwrap_err();
//! assert_eq!(refused.to_string(), "1:6: unknown attribute `conn.client_ib`; did you mean `conn.client_ip`?");
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Limits
//! | what | limit | when it is reached |
//! |---|---|---|
//! | octets of a text | [`MAX_LENGTH`] | the text is refused |
//! | nested expressions, and values | [`MAX_DEPTH`] | the text is refused; [`Fault::TooDeep`] |
//! | nodes of a text | [`MAX_NODES`] | the text is refused |
//! | steps and octets of an evaluation | [`Budget`] | [`Fault::OverBudget`], which no operator absorbs |
//! | octets of all patterns | [`MAX_PATTERNS`] | the text is refused |
//! | a pattern | 1,024 octets, 256 KiB compiled; 64 KiB when it is no constant | the text is refused; [`Fault::Invalid`] |
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not defined for any other type of value says so in one arm"
)]

mod arithmetic;
mod ast;
mod budget;
mod compare;
mod compile;
mod env;
mod error;
mod eval;
mod fault;
mod functions;
mod lex;
mod parse;
mod pattern;
mod program;
mod time;
mod types;
mod value;

pub use ast::Expr;
pub use budget::{Budget, OCTETS_PER_STEP};
pub(crate) use compare::{equal, sort as arrange};
pub use compile::MAX_PATTERNS;
pub use env::{Attribute, BadArgument, Body, Call, Environment, Facts, Function, Prepare, Prepared};
pub(crate) use error::nearest;
pub use error::{CompileError, Position, Refusal};
pub use fault::{Error, Fault, Resource};
pub(crate) use functions::{
    encode::{base64, unbase64},
    json,
};
pub use parse::{MAX_DEPTH, MAX_LENGTH, MAX_NODES, parse};
pub(crate) use pattern::Pattern;
pub use program::Program;
pub use time::{Duration, Timestamp};
pub use types::{Kind, Type};
pub use value::{List, ListSource, Map, MapSource, Octets, Owned, Text, Value};
