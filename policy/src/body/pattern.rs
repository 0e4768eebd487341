//! Patterns for bodies.

use core::fmt;
use std::sync::Arc;

use regex_automata::{
    nfa::thompson::{NFA, State, WhichCaptures, pikevm::PikeVM},
    util::{primitives::StateID, syntax},
};

/// The longest pattern, in octets.
pub const MAX_PATTERN: usize = 1_024;
/// The largest compiled pattern, in octets.
const MAX_COMPILED: usize = 64 << 10;

/// A regular expression of RE2's syntax over octets: `\d`, `\w`, `\s` and `\b` know ASCII, `.` is any octet but a line feed.
///
/// So an octet that is no UTF-8 hides nothing from it. `(?u:[äö])` is a class of characters.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

pub(super) struct Compiled {
    pub(super) nfa: NFA,
    pub(super) captures: PikeVM,
    /// Which octets a match can begin with.
    pub(super) first: [bool; 256],
    /// Whether what stands beside a match decides about it.
    pub(super) looks: bool,
}

/// Why a pattern is refused, for humans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern(pub String);

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for BadPattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pattern").field("states", &self.0.nfa.states().len()).finish()
    }
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// It is no regular expression, too long, too large, or matches where there is nothing: what would be replaced?
    pub fn compile(pattern: &str) -> Result<Self, BadPattern> {
        if pattern.len() > MAX_PATTERN {
            let what = format!("the pattern has {} octets, and {MAX_PATTERN} are allowed", pattern.len());
            return Err(BadPattern(what));
        }
        let syntax = syntax::Config::new().unicode(false).utf8(false).nest_limit(32);
        let hir = syntax::parse_with(pattern, &syntax).map_err(|error| BadPattern(error.to_string()))?;
        let properties = hir.properties();
        if properties.minimum_len() == Some(0) {
            return Err(BadPattern("the pattern also matches where there is nothing; write `+` for `*`".into()));
        }
        if properties.look_set().contains_word_unicode() {
            return Err(BadPattern("a word boundary of Unicode; write `(?-u:\\b)`".into()));
        }
        let config = NFA::config().utf8(false).nfa_size_limit(Some(MAX_COMPILED)).which_captures(WhichCaptures::All);
        let nfa = NFA::compiler().configure(config).build_from_hir(&hir).map_err(|error| {
            BadPattern(if error.size_limit().is_some() {
                "the compiled pattern is too large".into()
            } else {
                error.to_string()
            })
        })?;
        let first = first(&nfa);
        let looks = !nfa.look_set_any().is_empty();
        let captures = PikeVM::new_from_nfa(nfa.clone()).map_err(|error| BadPattern(error.to_string()))?;
        Ok(Self(Arc::new(Compiled { nfa, captures, first, looks })))
    }

    /// Returns about how many octets it takes.
    pub fn octets(&self) -> usize {
        self.0.nfa.memory_usage()
    }

    pub(super) fn compiled(&self) -> &Compiled {
        &self.0
    }
}

/// Finds the octets with which a match can begin; what must stand beside it is not looked at.
fn first(nfa: &NFA) -> [bool; 256] {
    let mut first = [false; 256];
    let mut seen = vec![false; nfa.states().len()];
    let mut stack = vec![nfa.start_anchored()];
    let mut mark = |start: u8, end: u8| (start..=end).for_each(|octet| first[usize::from(octet)] = true);
    while let Some(id) = stack.pop() {
        if core::mem::replace(&mut seen[id.as_usize()], true) {
            continue;
        }
        match nfa.state(id) {
            State::ByteRange { trans } => mark(trans.start, trans.end),
            State::Sparse(sparse) => sparse.transitions.iter().for_each(|trans| mark(trans.start, trans.end)),
            State::Dense(dense) => {
                let some = |(octet, next): (usize, &StateID)| (*next != StateID::ZERO).then_some(octet);
                let octets = dense.transitions.iter().enumerate().filter_map(some);
                octets.filter_map(|octet| u8::try_from(octet).ok()).for_each(|octet| mark(octet, octet));
            }
            State::Look { next, .. } | State::Capture { next, .. } => stack.push(*next),
            State::Union { alternates } => stack.extend(alternates.iter()),
            State::BinaryUnion { alt1, alt2 } => stack.extend([*alt1, *alt2]),
            State::Fail | State::Match { .. } => {}
        }
    }
    first
}
