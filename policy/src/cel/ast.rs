//! The tree of an expression, and its text.

use core::fmt::{self, Write as _};

/// A parsed expression. Two are equal when their trees are, wherever their parts stood; [`Display`](fmt::Display) gives a text
/// with that tree.
#[derive(Clone, Debug)]
pub struct Expr {
    /// The octet of the text at which it is pointed.
    pub(super) at: u32,
    /// How deep the tree is.
    pub(super) height: u16,
    pub(super) kind: Kind,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Ident(String),
    Select(Box<Expr>, String),
    /// `has(e.field)`
    Has(Box<Expr>, String),
    Index(Box<[Expr; 2]>),
    /// The receiver if there is one, the name, the arguments.
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Operator, Box<[Expr; 2]>),
    /// `a && b && c`: one node, however long
    All(Vec<Expr>),
    /// `a || b || c`
    Any(Vec<Expr>),
    Conditional(Box<[Expr; 3]>),
    List(Vec<Expr>),
    Map(Vec<[Expr; 2]>),
    /// A macro over the elements of a list or the keys of a map: which, the range, the variable, one or two bodies.
    Fold(Fold, Box<Expr>, String, Vec<Expr>),
}

/// An operator of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    pub(super) const ALL: &[Self] = &[
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::LessOrEqual,
        Self::Greater,
        Self::GreaterOrEqual,
        Self::In,
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Remainder,
    ];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// Returns how tightly it binds (language definition, "Syntax").
    pub(super) fn strength(self) -> u8 {
        match self {
            Self::Equal
            | Self::NotEqual
            | Self::Less
            | Self::LessOrEqual
            | Self::Greater
            | Self::GreaterOrEqual
            | Self::In => RELATION,
            Self::Add | Self::Subtract => SUM,
            Self::Multiply | Self::Divide | Self::Remainder => PRODUCT,
        }
    }
}

pub(super) const CONDITION: u8 = 0;
pub(super) const ANY: u8 = 1;
pub(super) const ALL: u8 = 2;
const RELATION: u8 = 3;
const SUM: u8 = 4;
const PRODUCT: u8 = 5;
pub(super) const UNARY: u8 = 6;
const MEMBER: u8 = 7;

/// A macro that goes over elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    All,
    Exists,
    ExistsOne,
    /// With two bodies, the first says which elements.
    Map,
    Filter,
    SortBy,
}

impl Fold {
    pub(super) fn named(name: &str, bodies: usize) -> Option<Self> {
        match (name, bodies) {
            ("all", 1) => Some(Self::All),
            ("exists", 1) => Some(Self::Exists),
            ("exists_one", 1) => Some(Self::ExistsOne),
            ("map", 1 | 2) => Some(Self::Map),
            ("filter", 1) => Some(Self::Filter),
            ("sortBy", 1) => Some(Self::SortBy),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exists => "exists",
            Self::ExistsOne => "exists_one",
            Self::Map => "map",
            Self::Filter => "filter",
            Self::SortBy => "sortBy",
        }
    }
}

impl Kind {
    /// Returns how tightly it holds together when it is an operand.
    fn strength(&self) -> u8 {
        match self {
            Self::Conditional(_) => CONDITION,
            Self::Any(_) => ANY,
            Self::All(_) => ALL,
            Self::Binary(operator, _) => operator.strength(),
            Self::Not(_) | Self::Negate(_) => UNARY,
            // A number before a dot or after a minus would be read as another.
            Self::Int(_) | Self::Uint(_) | Self::Double(_) => UNARY,
            Self::Null
            | Self::Bool(_)
            | Self::String(_)
            | Self::Bytes(_)
            | Self::Ident(_)
            | Self::Select(..)
            | Self::Has(..)
            | Self::Index(_)
            | Self::Call(..)
            | Self::List(_)
            | Self::Map(_)
            | Self::Fold(..) => MEMBER,
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Null => f.write_str("null"),
            Kind::Bool(it) => write!(f, "{it}"),
            Kind::Int(it) => write!(f, "{it}"),
            Kind::Uint(it) => write!(f, "{it}u"),
            Kind::Double(it) => write!(f, "{it:?}"),
            Kind::String(it) => quote(f, it),
            Kind::Bytes(it) => {
                f.write_str("b\"")?;
                it.iter().try_for_each(|octet| write!(f, "\\x{octet:02x}"))?;
                f.write_str("\"")
            }
            Kind::Ident(name) => f.write_str(name),
            Kind::Select(operand, field) => select(f, operand, field),
            Kind::Has(operand, field) => {
                f.write_str("has(")?;
                select(f, operand, field)?;
                f.write_str(")")
            }
            Kind::Index(both) => {
                let [operand, index] = &**both;
                write!(f, "{}[{index}]", Tight(operand, MEMBER))
            }
            Kind::Call(receiver, name, arguments) => {
                if let Some(receiver) = receiver {
                    write!(f, "{}.", Tight(receiver, MEMBER))?;
                }
                write!(f, "{name}({})", Row(arguments, ", "))
            }
            // The two signs do not mix without parentheses.
            Kind::Not(operand) => match operand.kind {
                Kind::Not(_) => write!(f, "!{operand}"),
                _ => write!(f, "!{}", Tight(operand, MEMBER)),
            },
            // A minus before a number is part of the number.
            Kind::Negate(operand) => match operand.kind {
                Kind::Negate(_) => write!(f, "-{operand}"),
                Kind::Int(number) if number < 0 => write!(f, "-{number}"),
                Kind::Double(number) if number.is_sign_negative() => write!(f, "-{number:?}"),
                _ => write!(f, "-{}", Tight(operand, MEMBER)),
            },
            Kind::Binary(operator, both) => {
                let [left, right] = &**both;
                let strength = operator.strength();
                write!(f, "{} {} {}", Tight(left, strength), operator.text(), Tight(right, strength + 1))
            }
            Kind::All(operands) => write!(f, "{}", Chain(operands, " && ", ALL + 1)),
            Kind::Any(operands) => write!(f, "{}", Chain(operands, " || ", ANY + 1)),
            Kind::Conditional(three) => {
                let [condition, yes, no] = &**three;
                write!(f, "{} ? {} : {no}", Tight(condition, ANY), Tight(yes, ANY))
            }
            Kind::List(elements) => write!(f, "[{}]", Row(elements, ", ")),
            Kind::Map(entries) => {
                f.write_str("{")?;
                for (index, [key, value]) in entries.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Kind::Fold(fold, range, variable, bodies) => {
                write!(f, "{}.{}({variable}, {})", Tight(range, MEMBER), fold.name(), Row(bodies, ", "))
            }
        }
    }
}

fn select(f: &mut fmt::Formatter<'_>, operand: &Expr, field: &str) -> fmt::Result {
    let plain = field.bytes().all(|octet| octet == b'_' || octet.is_ascii_alphanumeric())
        && !field.starts_with(|c: char| c.is_ascii_digit())
        && !LITERAL_WORDS.contains(&field);
    let tick = if plain { "" } else { "`" };
    write!(f, "{}.{tick}{field}{tick}", Tight(operand, MEMBER))
}

/// Words that are never a name, not even after a dot.
pub(super) const LITERAL_WORDS: &[&str] = &["true", "false", "null", "in"];

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_str("\"")
}

/// An operand, in parentheses unless it holds together at least as tightly as that.
struct Tight<'e>(&'e Expr, u8);

impl fmt::Display for Tight<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(expr, least) = self;
        if expr.kind.strength() < *least { write!(f, "({expr})") } else { write!(f, "{expr}") }
    }
}

struct Row<'e>(&'e [Expr], &'static str);

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Chain(self.0, self.1, CONDITION).fmt(f)
    }
}

struct Chain<'e>(&'e [Expr], &'static str, u8);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(operands, between, least) = self;
        for (index, operand) in operands.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { between }, Tight(operand, *least))?;
        }
        Ok(())
    }
}
