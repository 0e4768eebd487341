//! Types (language definition, "Values" and "Gradual type checking").

use core::fmt;

/// The type of a value, as `type(x)` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null_type`
    Null,
    /// `bool`
    Bool,
    /// `int`
    Int,
    /// `uint`
    Uint,
    /// `double`
    Double,
    /// `string`
    String,
    /// `bytes`
    Bytes,
    /// `list`
    List,
    /// `map`
    Map,
    /// `google.protobuf.Timestamp`
    Timestamp,
    /// `google.protobuf.Duration`
    Duration,
    /// `type`
    Type,
}

impl Kind {
    pub(crate) const ALL: &[Self] = &[
        Self::Null,
        Self::Bool,
        Self::Int,
        Self::Uint,
        Self::Double,
        Self::String,
        Self::Bytes,
        Self::List,
        Self::Map,
        Self::Timestamp,
        Self::Duration,
        Self::Type,
    ];

    /// Returns its name in the language.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::List => "list",
            Self::Map => "map",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::Type => "type",
        }
    }

    /// Returns whether it is one of the three kinds of number.
    pub(crate) fn is_number(self) -> bool {
        match self {
            Self::Int | Self::Uint | Self::Double => true,
            Self::Null
            | Self::Bool
            | Self::String
            | Self::Bytes
            | Self::List
            | Self::Map
            | Self::Timestamp
            | Self::Duration
            | Self::Type => false,
        }
    }
}

/// What is known of a value before there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Nothing is known.
    Dyn,
    /// A value of that kind, of which no more is to be known; a list or map of anything.
    Of(Kind),
    /// A list of such elements.
    List(Box<Self>),
    /// A map of such keys and values.
    Map(Box<Self>, Box<Self>),
}

impl Type {
    /// Null.
    pub const NULL: Self = Self::Of(Kind::Null);
    /// True or false.
    pub const BOOL: Self = Self::Of(Kind::Bool);
    /// A whole number with a sign, of 64 bits.
    pub const INT: Self = Self::Of(Kind::Int);
    /// A whole number without a sign, of 64 bits.
    pub const UINT: Self = Self::Of(Kind::Uint);
    /// A number with a fraction, of 64 bits.
    pub const DOUBLE: Self = Self::Of(Kind::Double);
    /// Text.
    pub const STRING: Self = Self::Of(Kind::String);
    /// Octets.
    pub const BYTES: Self = Self::Of(Kind::Bytes);
    /// A moment.
    pub const TIMESTAMP: Self = Self::Of(Kind::Timestamp);
    /// A span of time.
    pub const DURATION: Self = Self::Of(Kind::Duration);
    /// The type of a value.
    pub const TYPE: Self = Self::Of(Kind::Type);

    /// Returns the type of a list of such elements.
    pub fn list(element: Self) -> Self {
        Self::List(Box::new(element))
    }

    /// Returns the type of a map of such keys and values.
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Box::new(key), Box::new(value))
    }

    /// Returns the kind, if that much is known.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Dyn => None,
            Self::Of(kind) => Some(*kind),
            Self::List(_) => Some(Kind::List),
            Self::Map(..) => Some(Kind::Map),
        }
    }

    /// Returns whether a value of one type may be one of the other.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(one), Self::List(two)) => one.fits(two),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.fits(other_key) && value.fits(other_value)
            }
            (Self::Of(_) | Self::List(_) | Self::Map(..), _) => self.kind() == other.kind(),
        }
    }

    /// Returns whether values of the two types may be equal; numbers of different kinds may.
    pub(crate) fn compares(&self, other: &Self) -> bool {
        let numbers = |ty: &Self| ty.kind().is_some_and(Kind::is_number);
        match (self.kind(), other.kind()) {
            (None | Some(Kind::Null), _) | (_, None | Some(Kind::Null)) => true,
            (one, two) => one == two || (numbers(self) && numbers(other)),
        }
    }

    /// Returns what is known of a value that is of one type or the other.
    pub(crate) fn or(self, other: &Self) -> Self {
        if self == *other {
            return self;
        }
        match (self, other) {
            (Self::List(one), Self::List(two)) => Self::list(one.or(two)),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                Self::map(key.or(other_key), value.or(other_value))
            }
            (Self::Dyn | Self::Of(_) | Self::List(_) | Self::Map(..), _) => Self::Dyn,
        }
    }

    /// Returns what is known of an element that a macro goes over.
    pub(crate) fn element(&self) -> Option<Self> {
        match self {
            Self::List(element) => Some((**element).clone()),
            Self::Map(key, _) => Some((**key).clone()),
            Self::Dyn | Self::Of(Kind::List | Kind::Map) => Some(Self::Dyn),
            Self::Of(_) => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Of(kind) => f.write_str(kind.name()),
            Self::List(element) => write!(f, "list({element})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
        }
    }
}
