//! Regular expressions of bounded size, matched in linear time.

use regex::{Regex, RegexBuilder};

use super::{budget::Budget, fault::Fault};

/// Sizes that a compiled pattern may have, in octets, and the steps that each octet of a text costs that is matched with one.
///
/// The worst time for a text is its length times the number of states: `[ab]*a[ab]{900}c` visits nearly all of its states at each octet.
/// So the size is what a match is charged for, at 512 octets of it a step, which is what was measured for the worst patterns.
const SIZES: &[(usize, u64)] = &[(1 << 11, 4), (1 << 13, 16), (1 << 16, 128), (1 << 18, 512)];
/// The largest pattern that is made while an expression is evaluated.
const DYNAMIC: usize = 1 << 16;
/// The longest pattern.
const MAX_PATTERN: usize = 1_024;
/// How deep groups of a pattern may be nested.
const MAX_NEST: u32 = 32;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    weight: u64,
}

/// Returns the room that compiled patterns take, at most, in octets: the class of its size.
fn room(weight: u64) -> usize {
    SIZES.iter().find(|(_, other)| *other == weight).map_or(0, |(size, _)| *size)
}

impl Pattern {
    /// Compiles a pattern of an expression.
    pub(crate) fn compile(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_PATTERN {
            return Err(format!("the pattern has {} octets, and {MAX_PATTERN} are allowed", pattern.len()));
        }
        let mut refusal = String::new();
        for (size, weight) in SIZES {
            match build(pattern, *size) {
                Ok(regex) => return Ok(Self { regex, weight: *weight }),
                Err(regex::Error::CompiledTooBig(_)) => "the compiled pattern is too large".clone_into(&mut refusal),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err(refusal)
    }

    /// Returns the octets that it takes at most.
    pub(crate) fn octets(&self) -> usize {
        room(self.weight)
    }

    /// Returns whether any part of a text matches.
    pub(super) fn matches(&self, text: &str, budget: &mut Budget) -> Result<bool, Fault> {
        budget.step((text.len() as u64 + 1).saturating_mul(self.weight))?;
        Ok(self.regex.is_match(text))
    }
}

impl Pattern {
    /// Compiles a pattern that is known only when the expression is evaluated. It costs its room, and 10,000 steps and 100 for each of
    /// its octets: about as long as it takes.
    pub(crate) fn made(pattern: &str, budget: &mut Budget) -> Result<Self, Fault> {
        if pattern.len() > MAX_PATTERN {
            return Err(Fault::Invalid("the pattern is too long"));
        }
        budget.make(DYNAMIC)?;
        budget.step(10_000 + 100 * pattern.len() as u64)?;
        let regex = build(pattern, DYNAMIC)
            .map_err(|_| Fault::Invalid("the pattern is no regular expression, or too large"))?;
        let weight = SIZES.iter().find(|(size, _)| *size == DYNAMIC).map_or(1, |(_, weight)| *weight);
        Ok(Self { regex, weight })
    }

    /// Replaces each match in a text by a replacement, in which `$1`, `${1}` and `$name` are what a group matched. Returns the text
    /// and the matches. To find groups takes several times as long as to find out whether there is a match.
    pub(crate) fn replace(
        &self,
        text: &str,
        replacement: &str,
        budget: &mut Budget,
    ) -> Result<(String, Vec<String>), Fault> {
        budget.step((text.len() as u64 + 1).saturating_mul(4 * self.weight))?;
        let (mut whole, mut matches) = (String::new(), Vec::new());
        let mut at = 0;
        for groups in self.regex.captures_iter(text) {
            let Some(found) = groups.get(0) else { continue };
            let before = whole.len();
            whole.push_str(text.get(at..found.start()).unwrap_or_default());
            // A group may be named as often as the replacement has room for it.
            budget.make((replacement.len() / 2).saturating_mul(found.len()).saturating_add(replacement.len()))?;
            groups.expand(replacement, &mut whole);
            budget.make(found.len() + whole.len() - before)?;
            matches.push(found.as_str().to_owned());
            at = found.end();
        }
        let rest = text.get(at..).unwrap_or_default();
        budget.make(rest.len())?;
        whole.push_str(rest);
        Ok((whole, matches))
    }
}

/// Matches a text with a pattern that is known only when the expression is evaluated.
pub(super) fn matches(text: &str, pattern: &str, budget: &mut Budget) -> Result<bool, Fault> {
    Pattern::made(pattern, budget)?.matches(text, budget)
}

fn build(pattern: &str, size: usize) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(size).dfa_size_limit(1 << 18).nest_limit(MAX_NEST).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_pattern_costs_more_than_a_small_one() {
        let cost = |pattern: &str| {
            let mut budget = Budget::new(1_000_000, 0);
            let before = budget.steps();
            assert_eq!(Pattern::compile(pattern).expect(pattern).matches(&"a".repeat(320), &mut budget), Ok(true));
            before - budget.steps()
        };

        assert_eq!(cost("(a+)+$"), 321 * 4);
        assert_eq!(cost(r"^/?\d*a"), 321 * 16);
        assert_eq!(cost("^[a-z]{0,300}"), 321 * 128);
        assert_eq!(cost(r"^\w+@?\w*$"), 321 * 512);
    }

    #[test]
    fn what_no_budget_could_hold_is_refused() {
        for pattern in
            ["(((((((a{9}){9}){9}){9}){9}){9}){9}){9}", "(", "a{99999}", "(?=a)", &"a".repeat(1_025), &"(".repeat(99)]
        {
            assert!(Pattern::compile(pattern).is_err(), "{pattern}");
            assert!(matches("a", pattern, &mut Budget::default()).is_err(), "{pattern}");
        }
    }
}
