//! The part of Google's Common Expression Language that a gateway's policy needs.
//!
//! The language is that of <https://github.com/google/cel-spec/blob/v0.25.1/doc/langdef.md> ("language definition" below). Not part
//! of it: messages of Protocol Buffers, containers, optional values.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not defined for any other type of value says so in one arm"
)]

mod ast;
mod error;
mod lex;
mod parse;

pub use ast::Expr;
pub use error::{CompileError, Position, Refusal};
pub use parse::{MAX_DEPTH, MAX_LENGTH, MAX_NODES, parse};
