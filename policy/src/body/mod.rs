//! What is done to bodies on their way: replaced, inflated, compressed; in pieces as they come, within bounds.
//!
//! A [`Pipeline`] takes octets and gives octets. What comes out does not depend on how what went in was cut, and it keeps no more than
//! its parts need: a match that is under way, an event that is not complete.
//!
//! | part | keeps at most | breaks the body off when |
//! |---|---|---|
//! | [`Replacer`] | [`WINDOW`] octets | a match is under way for longer; searching takes more than 64 steps an octet; an octet becomes very many |
//! | [`Events`] | [`MAX_EVENT`] octets | an event is longer; as above |
//! | [`Inflater`] | the window of the coding | the content is larger than [`MAX_INFLATED`], or than [`MAX_RATIO`] times what came; it is not of that coding |
//! | [`Compressor`] | the window of the coding | never |
//!
//! A body that is broken off is told as that on both sides. It is never passed on unsearched: whoever replaces something wants it gone.

mod compress;
mod events;
mod heads;
mod inflate;
mod negotiate;
mod pattern;
mod pipeline;
mod replace;
mod search;
mod wish;

pub use compress::Compressor;
pub use events::{Events, Field, MAX_EVENT};
pub use heads::{Compression, Refused, answer_to_compress, answer_to_replace, is_event_stream, request_to_replace};
pub use inflate::{Inflater, MAX_INFLATED, MAX_RATIO};
pub use negotiate::{Algorithm, negotiate};
pub use pattern::{BadPattern, MAX_PATTERN, Pattern};
pub use pipeline::{Pipeline, SLICE, Stage};
pub use replace::{MAX_TEXT, Replacement, Replacer};
pub use search::WINDOW;
pub use wish::{MAX_REPLACEMENTS, Wish, ask_for_whole, for_answer, for_request};

/// Why a body is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// A match is under way for more than [`WINDOW`] octets: what it would be cannot be kept.
    Window,
    /// The patterns take more steps than a body of this length may take.
    Steps,
    /// A few octets become more than may be kept.
    Growth,
    /// An event is longer than [`MAX_EVENT`].
    Event,
    /// The content is larger than [`MAX_INFLATED`].
    Inflated,
    /// The content is larger than [`MAX_RATIO`] times what came.
    Ratio,
    /// The body is not of the coding that it says it is of, or its end is missing.
    Coding,
}

impl Broken {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Window, Self::Steps, Self::Growth, Self::Event, Self::Inflated, Self::Ratio, Self::Coding];

    /// Returns its name in numbers and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Steps => "steps",
            Self::Growth => "growth",
            Self::Event => "event",
            Self::Inflated => "inflated",
            Self::Ratio => "ratio",
            Self::Coding => "coding",
        }
    }
}

impl core::fmt::Display for Broken {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Window => "a match is under way for longer than may be kept",
            Self::Steps => "the patterns take more steps than a body of this length may take",
            Self::Growth => "a few octets become more than may be kept",
            Self::Event => "an event is longer than may be kept",
            Self::Inflated => "the inflated content is larger than is allowed",
            Self::Ratio => "the inflated content is larger than what came may become",
            Self::Coding => "the body is not of its coding, or has no end",
        })
    }
}

impl core::error::Error for Broken {}
