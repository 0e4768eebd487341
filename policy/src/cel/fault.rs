//! Why an expression has no value.

use core::fmt;

use super::error::Position;

/// What a [`Budget`](super::Budget) holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Work.
    Steps,
    /// Memory.
    Octets,
}

/// Why an evaluation has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It would cost more than its budget. No operator absorbs this.
    OverBudget(Resource),
    /// A value would be nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH). No operator absorbs this.
    TooDeep,
    /// The facts do not have the attribute.
    NoSuchAttribute,
    /// A map does not have the key.
    NoSuchKey,
    /// An operator or function is not defined for values of these types.
    NoSuchOverload,
    /// A list does not have the index, or a text the position.
    IndexOutOfRange,
    /// A number, time or duration does not fit its type.
    Overflow,
    /// A whole number was divided by zero.
    DivisionByZero,
    /// A map would have one key twice.
    DuplicateKey,
    /// A value cannot be the key of a map.
    InvalidKey,
    /// An argument is not of the form that the function demands.
    Invalid(&'static str),
}

impl Fault {
    /// Returns whether the caller's limits are the reason, and not the expression's logic.
    pub fn is_limit(self) -> bool {
        match self {
            Self::OverBudget(_) | Self::TooDeep => true,
            Self::NoSuchAttribute
            | Self::NoSuchKey
            | Self::NoSuchOverload
            | Self::IndexOutOfRange
            | Self::Overflow
            | Self::DivisionByZero
            | Self::DuplicateKey
            | Self::InvalidKey
            | Self::Invalid(_) => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OverBudget(Resource::Steps) => "over its budget of steps",
            Self::OverBudget(Resource::Octets) => "over its budget of octets",
            Self::TooDeep => "a value is nested too deep",
            Self::NoSuchAttribute => "no such attribute",
            Self::NoSuchKey => "no such key",
            Self::NoSuchOverload => "no such overload",
            Self::IndexOutOfRange => "index out of range",
            Self::Overflow => "out of range",
            Self::DivisionByZero => "division by zero",
            Self::DuplicateKey => "a key is there twice",
            Self::InvalidKey => "unsupported key type",
            Self::Invalid(what) => what,
        })
    }
}

/// Why an evaluation has no value, and at which place of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where in the text.
    pub at: Position,
    /// Why.
    pub fault: Fault,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.fault)
    }
}

impl core::error::Error for Error {}
