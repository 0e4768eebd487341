//! The simulator: agents and nodes, each a real machine, in a world that is one seed's doing.
//!
//! A world has agents (an [`Uplink`](crate::Uplink) and its links, driven as a runtime drives them), nodes (which
//! authenticate, bind, keep lost sessions, drain, restart), and connections between them with latency, rate, pieces and
//! buffers. Callers open streams at the nodes; both ends write and read at their own pace. Meanwhile things go wrong:
//! connections are reset or forgotten, in one direction or both, paths go down, programs restart, machines sleep, clocks
//! jump, versions differ, nodes refuse. After a while nothing goes wrong any more, and within a bound everything has to be as
//! it was meant. Time is virtual; the same seed gives the same world, to the octet.

mod agent;
mod cable;
mod clock;
mod dice;
mod fault;
mod ground;
mod ledger;
mod node;
mod plan;
mod port;
mod report;
mod storm;
mod talk;
mod world;

use alloc::string::String;
use core::fmt;

use crate::Duration;

pub use report::Report;
pub use storm::{Aftermath, Storm};
use world::World;

/// Runs the world of one seed to its end.
///
/// `trace` gets a line for everything that happens.
///
/// # Errors
/// The first law that did not hold.
pub fn run(seed: u64, trace: Option<fn(&str)>) -> Result<Report, Failure> {
    let mut world = World::new(seed, trace);
    world.run().map_err(|Broken { law, text }| Failure { seed, at: world.age(), law, text })?;
    Ok(world.report())
}

/// A world in which a law did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The world.
    pub seed: u64,
    /// When, since the world began.
    pub at: Duration,
    /// The name of the law.
    pub law: &'static str,
    /// What happened.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, at, law, text } = self;
        write!(f, "seed {seed}: {law} does not hold after {at:?}: {text}")
    }
}

/// A law does not hold.
#[derive(Debug)]
struct Broken {
    law: &'static str,
    text: String,
}

impl Broken {
    fn new(law: &'static str, text: impl Into<String>) -> Self {
        Self { law, text: text.into() }
    }
}
