//! `circuit-breaker`: answers 503 in place of an upstream that fails too often, so that it can recover.
//!
//! Answers are counted in a window of ten slices. When there are enough of them and the part with a status of 500 or more, or without an
//! answer, reaches the threshold, the breaker trips: requests are refused for a time. Then one request is let through. Its answer
//! closes the breaker or trips it again; when there is none within that time, another one is let through.

use core::time::Duration;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{Action, Config, REQUEST, Type, rate_limit::later};
use crate::{
    document::{Node, Value},
    engine::{Effect, Failure, Outcome, Turn, Why},
};

/// Refuses requests to an upstream that fails.
#[derive(Debug)]
pub struct CircuitBreaker {
    /// Whether it refuses; else it does nothing.
    pub enforce: bool,
    breaker: Arc<Breaker>,
}

pub(super) const TYPE: Type = Type { name: "circuit-breaker", phases: &[REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [threshold, volume, window, tripped, buckets, enforce] = config.map([
        "error_threshold",
        "volume_threshold",
        "window_duration",
        "tripped_duration",
        "num_buckets",
        "enforce",
    ])?;
    let threshold = threshold.map_or(Some(0.5), |node| part(config, node));
    let volume = volume.map_or(Some(10), |node| config.int("volume_threshold", node, 1, 2_000_000_000));
    let ten = Some(Duration::from_secs(10));
    let window = window.map_or(ten, |node| config.duration("window_duration", node, "1s", "2m"));
    let tripped = tripped.map_or(ten, |node| config.duration("tripped_duration", node, "1s", "2m"));
    let buckets = buckets.map_or(Some(10), |node| config.int("num_buckets", node, 10, 10));
    let enforce = config.enforce(enforce);
    let limits =
        Limits { threshold: threshold?, volume: u64::try_from(volume?).ok()?, window: window?, tripped: tripped? };
    buckets?;
    let breaker = Breaker { limits, state: Mutex::new(State::Closed(Window::default())) };
    Some(Action::CircuitBreaker(CircuitBreaker { enforce: enforce?, breaker: Arc::new(breaker) }))
}

fn part(config: &mut Config<'_, '_, '_>, node: &Node) -> Option<f64> {
    let part = match &node.value {
        Value::Int(0) => Some(0.0),
        Value::Int(1) => Some(1.0),
        Value::Number(number) => Some(number.get()).filter(|part| (0.0..=1.0).contains(part)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if part.is_none() {
        config.problem("error_threshold", node, "no part of the whole", "Write one from 0 to 1, as 0.25");
    }
    part
}

impl CircuitBreaker {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        if !self.enforce {
            return Ok(Effect::Next);
        }
        match self.breaker.pass(turn.now.instant) {
            Ok(pass) => {
                turn.arm(pass);
                Ok(Effect::Next)
            }
            Err(wait) => Ok(Effect::End(Outcome::Refuse(later(503, Why::Tripped, wait)))),
        }
    }

    /// Counts on where an action of the same configuration was.
    pub(super) fn inherit(&mut self, old: &Self) -> bool {
        let same = self.breaker.limits == old.breaker.limits && self.enforce == old.enforce;
        if same {
            self.breaker = Arc::clone(&old.breaker);
        }
        same
    }
}

#[derive(Debug)]
struct Breaker {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Limits {
    threshold: f64,
    volume: u64,
    window: Duration,
    tripped: Duration,
}

#[derive(Debug)]
enum State {
    Closed(Window),
    /// Refuses until then, and then until the one that is let through is answered.
    Tripped {
        until: Instant,
    },
}

/// Answers and failures of the last ten slices; the current one is the first.
#[derive(Debug, Default)]
struct Window {
    begun: Option<Instant>,
    counts: [(u64, u64); 10],
}

/// Leave to call the upstream, for which it is told what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    breaker: Arc<Breaker>,
    trial: bool,
}

impl Breaker {
    /// Returns leave to call, or for how long there is none.
    fn pass(self: &Arc<Self>, now: Instant) -> Result<Pass, Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let until = match &mut *state {
            State::Closed(window) => {
                window.advance(now, self.limits.window);
                let (total, failed) = window.totals();
                // Both are far below 2^53.
                #[expect(clippy::cast_precision_loss, reason = "counts of seconds")]
                let reached = failed as f64 >= self.limits.threshold * total as f64;
                if total < self.limits.volume || !reached {
                    return Ok(Pass { breaker: Arc::clone(self), trial: false });
                }
                now + self.limits.tripped
            }
            // One is let through; if nothing comes of it, the next one after as long again.
            State::Tripped { until } if *until <= now => {
                *until = now + self.limits.tripped;
                return Ok(Pass { breaker: Arc::clone(self), trial: true });
            }
            State::Tripped { until } => return Err(until.saturating_duration_since(now)),
        };
        *state = State::Tripped { until };
        Err(self.limits.tripped)
    }
}

impl Pass {
    /// Takes what came of the call: whether the upstream answered, and not with a failure of its own.
    pub(crate) fn conclude(&self, well: bool, now: Instant) {
        let mut state = self.breaker.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            State::Closed(window) => {
                window.advance(now, self.breaker.limits.window);
                if let Some((total, failed)) = window.counts.first_mut() {
                    *total += 1;
                    *failed += u64::from(!well);
                }
            }
            State::Tripped { .. } if self.trial && well => *state = State::Closed(Window::default()),
            State::Tripped { until } if self.trial => *until = now + self.breaker.limits.tripped,
            // It was let through before the breaker tripped: what it says is old.
            State::Tripped { .. } => {}
        }
    }
}

impl Window {
    fn advance(&mut self, now: Instant, window: Duration) {
        let begun = *self.begun.get_or_insert(now);
        let slice = window / 10;
        let passed = now.saturating_duration_since(begun).as_nanos() / slice.as_nanos().max(1);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let forgotten = usize::try_from(passed).unwrap_or(usize::MAX).min(self.counts.len());
        self.counts.rotate_right(forgotten);
        self.counts.iter_mut().take(forgotten).for_each(|count| *count = (0, 0));
        self.begun = Some(if forgotten == self.counts.len() { now } else { begun + slice * passed });
    }

    fn totals(&self) -> (u64, u64) {
        self.counts.iter().fold((0, 0), |(total, failed), (more, bad)| (total + more, failed + bad))
    }
}
