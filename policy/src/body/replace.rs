//! What is found is replaced.

use std::sync::Arc;

use regex_automata::{Anchored, Input};

use super::{
    Broken,
    pattern::Pattern,
    search::{Match, Search},
};

/// The longest text that something is replaced with, in octets.
pub const MAX_TEXT: usize = 8_192;
/// What a push may make, at most: 1 MiB, and 64 times what went in.
const MAX_MADE: usize = 1 << 20;
const MAX_GROWTH: usize = 64;
/// Steps that each octet costs of a match whose groups are looked for.
const STEPS_PER_GROUPED: usize = 16;

/// What is replaced by what.
#[derive(Clone, Debug)]
pub struct Replacement {
    from: Pattern,
    to: Arc<[u8]>,
    /// Whether the text names groups of the match.
    grouped: bool,
}

impl Replacement {
    /// Replaces all that `from` matches by `to`, in which `$1`, `${1}` and `${name}` stand for groups of the match and `$$` for a dollar.
    /// A text of more than [`MAX_TEXT`] octets is cut there.
    pub fn new(from: Pattern, to: &str) -> Self {
        let to = to.as_bytes().get(..MAX_TEXT).unwrap_or(to.as_bytes());
        Self { from, to: to.into(), grouped: to.contains(&b'$') }
    }
}

/// Replaces in octets that come in pieces.
#[derive(Debug)]
pub struct Replacer {
    replacement: Replacement,
    search: Search,
    matched: bool,
}

impl Replacer {
    /// Returns one for a body.
    pub fn new(replacement: Replacement) -> Self {
        let search = Search::new(replacement.from.compiled());
        Self { replacement, search, matched: false }
    }

    /// Takes octets, and appends what is not part of a match that is under way.
    ///
    /// # Errors
    /// [`Broken`]: nothing more may be taken or given.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        self.search.push(octets);
        let most = out.len().saturating_add(MAX_MADE).saturating_add(octets.len().saturating_mul(MAX_GROWTH));
        self.go_on(false, most, out)
    }

    /// Ends the body, and appends the rest.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.go_on(true, out.len().saturating_add(MAX_MADE), out)
    }

    /// Returns whether anything was replaced.
    pub fn matched(&self) -> bool {
        self.matched
    }

    fn go_on(&mut self, last: bool, most: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
        while let Some(found) = self.search.next(self.replacement.from.compiled(), last)? {
            self.matched = true;
            out.extend_from_slice(self.search.pass(found));
            self.write(found, most, out)?;
        }
        self.search.release(out);
        Ok(())
    }

    fn write(&mut self, found: Match, most: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
        let Replacement { from, to, grouped } = &self.replacement;
        let len = found.end - found.start;
        let references = if *grouped { to.iter().filter(|octet| **octet == b'$').count() } else { 0 };
        let longest = to.len().saturating_add(references.saturating_mul(len));
        if out.len().saturating_add(longest) > most {
            return Err(Broken::Growth);
        }
        if !grouped {
            out.extend_from_slice(to);
            return Ok(());
        }
        self.search.spend(len.saturating_mul(STEPS_PER_GROUPED))?;
        let captures = &from.compiled().captures;
        let octets = self.search.context();
        // The search has decided where the match is; from there the same match is found again, with its groups.
        let input = Input::new(octets).range(found.start..).anchored(Anchored::Yes);
        let mut groups = captures.create_captures();
        captures.captures(&mut captures.create_cache(), input, &mut groups);
        debug_assert_eq!(groups.get_match().map(|it| it.range()), Some(found.start..found.end), "both find the same");
        groups.interpolate_bytes_into(octets, to, out);
        Ok(())
    }
}
