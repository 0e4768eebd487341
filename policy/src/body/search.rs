//! The search for a pattern in octets that come in pieces.
//!
//! A simulation of the pattern's automaton that knows where each of its threads began: so it knows at any octet from where on a match may
//! be under way, which is what must be kept. A step is one state looked at; each octet has at most as many as the pattern has states.

use regex_automata::{nfa::thompson::State, util::primitives::StateID};

use super::{Broken, pattern::Compiled};

/// The most octets for which a match may be under way.
pub const WINDOW: usize = 256 << 10;
/// Steps that an octet buys.
const STEPS_PER_OCTET: u64 = 64;
/// Steps that a body may take besides.
const STEPS: u64 = 1 << 20;

/// A search, with the octets that it keeps.
#[derive(Debug)]
pub(super) struct Search {
    /// What was not given out, and before it the octet that stands beside it.
    octets: Vec<u8>,
    /// From where on nothing was given out.
    from: usize,
    /// The next octet to look at.
    at: usize,
    /// How far octets were looked at: only what is looked at for the first time buys steps.
    seen: usize,
    /// Threads after the octet before `at`, the preferred first. They began in this order too.
    pending: Vec<Thread>,
    live: Vec<Thread>,
    /// The match that stands if no preferred one comes.
    found: Option<Match>,
    stack: Vec<StateID>,
    /// At which turn a state was last looked at.
    turns: Vec<u64>,
    turn: u64,
    steps: u64,
}

#[derive(Clone, Copy, Debug)]
struct Thread {
    state: StateID,
    start: usize,
}

/// Where a match is in [`Search::octets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Search {
    pub(super) fn new(pattern: &Compiled) -> Self {
        Self {
            octets: Vec::new(),
            from: 0,
            at: 0,
            seen: 0,
            pending: Vec::new(),
            live: Vec::new(),
            found: None,
            stack: Vec::new(),
            turns: vec![0; pattern.nfa.states().len()],
            turn: 0,
            steps: STEPS,
        }
    }

    pub(super) fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Looks for the next match; nothing when more octets are needed, or `last` and there is no more.
    pub(super) fn next(&mut self, pattern: &Compiled, last: bool) -> Result<Option<Match>, Broken> {
        loop {
            if self.pending.is_empty() && self.found.is_none() {
                let rest = self.octets.get(self.at..).unwrap_or_default();
                let skipped = rest.iter().position(|octet| pattern.first[usize::from(*octet)]).unwrap_or(rest.len());
                self.at += skipped;
                self.buy();
            }
            let next = self.octets.get(self.at).copied();
            if next.is_none() && !last && pattern.looks {
                return Ok(None);
            }
            self.spread(pattern, next.is_some());
            if self.live.is_empty()
                && let Some(found) = self.found.take()
            {
                return Ok(Some(self.take(found)));
            }
            let Some(octet) = next else {
                if last {
                    self.pending.clear();
                    return Ok(self.found.take().map(|found| self.take(found)));
                }
                // Looked at again when the next octet is there: what only waits for it stays as it is.
                core::mem::swap(&mut self.pending, &mut self.live);
                return Ok(None);
            };
            self.spend(self.live.len())?;
            self.step(pattern, octet);
            self.at += 1;
            self.buy();
            if self.at - self.kept() > WINDOW {
                return Err(Broken::Window);
            }
        }
    }

    /// Returns the octets from the last match, or from the last call, to where a match is under way, and forgets them.
    pub(super) fn release(&mut self, out: &mut Vec<u8>) {
        let kept = self.kept();
        out.extend_from_slice(self.octets.get(self.from..kept).unwrap_or_default());
        self.from = kept;
        // Moving what is left costs no more than what was given out.
        let past = self.from.saturating_sub(1);
        if past > 0 && past >= self.octets.len() - past {
            self.octets.drain(..past);
            self.from -= past;
            self.at -= past;
            self.seen -= past;
            self.pending.iter_mut().for_each(|thread| thread.start -= past);
            if let Some(found) = &mut self.found {
                found.start -= past;
                found.end -= past;
            }
        }
    }

    /// Returns what stands before a match and was not given out, and passes over the match.
    pub(super) fn pass(&mut self, found: Match) -> &[u8] {
        let before = self.from..found.start;
        self.from = found.end;
        self.octets.get(before).unwrap_or_default()
    }

    /// Returns the octets as far as they were looked at for a match: what decided it, and what stands beside it.
    pub(super) fn context(&self) -> &[u8] {
        self.octets.get(..self.octets.len().min(self.seen + 1)).unwrap_or_default()
    }

    /// Pays for steps.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Broken> {
        self.steps = self.steps.checked_sub(steps as u64).ok_or(Broken::Steps)?;
        Ok(())
    }

    /// Returns from where on octets are kept.
    fn kept(&self) -> usize {
        let thread = self.pending.first().map_or(self.at, |thread| thread.start);
        self.found.map_or(thread, |found| found.start.min(thread))
    }

    fn buy(&mut self) {
        let new = self.at.saturating_sub(self.seen);
        self.seen += new;
        self.steps = self.steps.saturating_add(STEPS_PER_OCTET * new as u64);
    }

    /// Ends a match: the search goes on behind it.
    fn take(&mut self, found: Match) -> Match {
        self.pending.clear();
        self.at = found.end;
        found
    }

    /// Follows all threads to the states that take an octet; a new one begins here unless a match was found.
    fn spread(&mut self, pattern: &Compiled, begin: bool) {
        self.turn += 1;
        self.live.clear();
        for at in 0..self.pending.len() {
            let Some(Thread { state, start }) = self.pending.get(at).copied() else { break };
            if self.follow(pattern, state, start) {
                self.found = Some(Match { start, end: self.at });
                break; // the others are less preferred
            }
        }
        self.pending.clear();
        if begin && self.found.is_none() {
            // No pattern matches nothing.
            let _ = self.follow(pattern, pattern.nfa.start_anchored(), self.at);
        }
    }

    /// Returns whether the thread matches here; threads that are preferred to that are live.
    fn follow(&mut self, pattern: &Compiled, state: StateID, start: usize) -> bool {
        self.stack.clear();
        self.stack.push(state);
        while let Some(id) = self.stack.pop() {
            let Some(turn) = self.turns.get_mut(id.as_usize()) else { continue };
            if core::mem::replace(turn, self.turn) == self.turn {
                continue;
            }
            match pattern.nfa.state(id) {
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) => {
                    self.live.push(Thread { state: id, start });
                }
                State::Look { look, next } => {
                    if pattern.nfa.look_matcher().matches(*look, &self.octets, self.at) {
                        self.stack.push(*next);
                    }
                }
                State::Union { alternates } => self.stack.extend(alternates.iter().rev()),
                State::BinaryUnion { alt1, alt2 } => self.stack.extend([*alt2, *alt1]),
                State::Capture { next, .. } => self.stack.push(*next),
                State::Fail => {}
                State::Match { .. } => return true,
            }
        }
        false
    }

    /// Takes an octet.
    fn step(&mut self, pattern: &Compiled, octet: u8) {
        let next = |state: StateID| match pattern.nfa.state(state) {
            State::ByteRange { trans } => trans.matches_byte(octet).then_some(trans.next),
            State::Sparse(sparse) => sparse.matches_byte(octet),
            State::Dense(dense) => dense.matches_byte(octet),
            State::Look { .. }
            | State::Union { .. }
            | State::BinaryUnion { .. }
            | State::Capture { .. }
            | State::Fail
            | State::Match { .. } => None,
        };
        let taken = self.live.iter().filter_map(|thread| Some(Thread { state: next(thread.state)?, ..*thread }));
        self.pending.extend(taken);
    }
}
