//! `rate-limit`: lets so many requests with equal keys through in a span of time; others are answered 429 with `retry-after`.
//!
//! `sliding_window` counts in ten slices: in no span of the given length do more pass than the capacity. `token_bucket` lets the capacity through
//! at once, and then as many as fit evenly into the span. What is refused is not counted.
//!
//! Keys are kept while they count, at most [`MAX_KEYS`]. When there is no room, those that come new share one bucket: a flood of keys
//! never lets more through, and those that are known are served as before.

use core::time::Duration;
use std::{sync::Arc, time::Instant};

use http::{HeaderValue, header};

use super::{
    Action, Config, REQUEST, Type,
    buckets::{Algorithm, Buckets},
};
use crate::{
    cel::{Program, Value, json},
    engine::{Effect, Failure, Outcome, Refusal, Turn, Why},
};

pub use super::buckets::MAX_KEYS;

/// Lets so many requests through.
#[derive(Debug)]
pub struct RateLimit {
    /// What it is called, for humans.
    pub name: String,
    /// Whether others are refused; else it is only told.
    pub enforce: bool,
    /// What a key is made of.
    pub keys: Vec<Program>,
    buckets: Arc<Buckets>,
}

pub(super) const TYPE: Type = Type { name: "rate-limit", phases: &[REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [name, enforce, algorithm, capacity, rate, keys] =
        config.map(["name", "enforce", "algorithm", "capacity", "rate", "bucket_key"])?;
    let name = name.map_or(Some(""), |node| config.text("name", node));
    let enforce = config.enforce(enforce);
    let algorithm = config.required("algorithm", algorithm);
    let algorithm = algorithm.and_then(|node| config.choice("algorithm", node, &["sliding_window", "token_bucket"]));
    let capacity = config.required("capacity", capacity);
    let capacity = capacity.and_then(|node| config.int("capacity", node, 1, 2_000_000_000));
    let rate = config.required("rate", rate);
    let rate = rate.and_then(|node| config.duration("rate", node, "1s", "24h"));
    let node = config.required("bucket_key", keys)?;
    let mut keys = Vec::new();
    let given = config.list("bucket_key", node, 10)?;
    if given.is_empty() {
        config.problem("bucket_key", node, "no key", "Write `'all'` in quotes within quotes for one bucket for all");
        return None;
    }
    for (key, node) in given {
        keys.push(config.program(&key, node)?);
    }
    let algorithm = if algorithm? == 0 { Algorithm::SlidingWindow } else { Algorithm::TokenBucket };
    let buckets = Arc::new(Buckets::new(algorithm, u32::try_from(capacity?).ok()?, rate?));
    Some(Action::RateLimit(Box::new(RateLimit { name: name?.into(), enforce: enforce?, keys, buckets })))
}

impl RateLimit {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let mut key = String::new();
        for program in &self.keys {
            let value = program.evaluate(&*turn.facts, turn.budget).map_err(Failure::Expression)?;
            // As JSON, a comma never stands where it could end one key and begin another.
            json::encode(&value, &mut key, turn.budget).map_err(Failure::of)?;
            key.push(',');
        }
        key.pop();
        let wait = self.buckets.take(&key, turn.now.instant);
        if turn.tells() {
            let limited = Value::Bool(wait.is_some());
            turn.tell("rate_limit", [("bucket_key", Value::from(key)), ("limited", limited)])?;
        }
        match wait {
            Some(wait) if self.enforce => Ok(Effect::End(Outcome::Refuse(later(429, Why::Limited, wait)))),
            Some(_) | None => Ok(Effect::Next),
        }
    }

    /// Counts on where an action of the same configuration was.
    pub(super) fn inherit(&mut self, old: &Self) -> bool {
        let same = self.name == old.name
            && self.buckets.is_like(&old.buckets)
            && self.keys.iter().map(Program::text).eq(old.keys.iter().map(Program::text));
        if same {
            self.buckets = Arc::clone(&old.buckets);
        }
        same
    }

    /// Returns how many keys are kept at a time.
    pub fn len(&self, now: Instant) -> usize {
        self.buckets.len(now)
    }

    /// Returns whether no key is kept at a time.
    pub fn is_empty(&self, now: Instant) -> bool {
        self.len(now) == 0
    }
}

/// Returns a refusal that says when to come again, in whole seconds, at least one.
pub(super) fn later(status: u16, why: Why, wait: Duration) -> Refusal {
    let mut refusal = Refusal::new(status, why);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    refusal.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    refusal
}
