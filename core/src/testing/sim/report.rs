//! What happened in a world, or in many.

use core::fmt;

use crate::{Cause, Code, Duration};

/// Counts of what happened: worlds in which nothing happens prove nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Worlds.
    pub worlds: u64,
    /// Things that happened, each at its instant.
    pub steps: u64,
    /// Virtual time.
    pub time: Duration,
    /// Frames sent, those sent again included.
    pub frames: u64,
    /// Frames sent again after a resume.
    pub repeated: u64,
    /// Octets that arrived.
    pub octets: u64,
    /// Dials.
    pub dials: u64,
    /// Of them, those beside a link that was silent.
    pub standbys: u64,
    /// Sessions that were taken from a silent link.
    pub moved: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Times that a session lost its link and was kept, at a node.
    pub suspended: u64,
    /// Times that a session went on over another link.
    pub resumed: u64,
    /// Ends of sessions, at either side, because no link came in time.
    pub expired: u64,
    /// Ends of sessions, at either side, for other reasons.
    pub closed: u64,
    /// Streams.
    pub streams: u64,
    /// Streams whose both directions came to the end that was meant.
    pub whole: u64,
    /// Attempts to take a session over without the right to.
    pub thefts: u64,
    /// Commands answered.
    pub commands: u64,
    /// Worlds in which programs hold several sessions.
    pub shared: u64,
    /// Callers that were served by a session while a sibling of it was lost.
    pub spared: u64,
    /// The longest that it took, after everything was well again, until every endpoint was bound.
    pub back: Duration,
    /// The largest share of the allowed memory that a session took, in thousandths.
    pub memory: u64,
    /// Grows with whatever applications write, read or learn.
    pub(super) progress: u64,
}

impl Report {
    /// Adds what happened in another world.
    pub fn add(&mut self, other: &Self) {
        self.worlds += other.worlds;
        self.steps += other.steps;
        self.time += other.time;
        self.frames += other.frames;
        self.repeated += other.repeated;
        self.octets += other.octets;
        self.dials += other.dials;
        self.standbys += other.standbys;
        self.moved += other.moved;
        self.sessions += other.sessions;
        self.suspended += other.suspended;
        self.resumed += other.resumed;
        self.expired += other.expired;
        self.closed += other.closed;
        self.streams += other.streams;
        self.whole += other.whole;
        self.thefts += other.thefts;
        self.commands += other.commands;
        self.shared += other.shared;
        self.spared += other.spared;
        self.back = self.back.max(other.back);
        self.memory = self.memory.max(other.memory);
    }

    pub(super) fn end(&mut self, cause: &Cause) {
        if cause.stream_code() == Code::RESUME_EXPIRED {
            self.expired += 1;
        } else {
            self.closed += 1;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} worlds, {} steps, {} h of virtual time", self.worlds, self.steps, self.time.as_secs() / 3_600)?;
        writeln!(f, "{} frames, {} of them again; {} octets", self.frames, self.repeated, self.octets)?;
        writeln!(
            f,
            "{} dials, {} of them beside a silent link, {} in its stead; {} sessions: {} times parked, {} times resumed",
            self.dials, self.standbys, self.moved, self.sessions, self.suspended, self.resumed
        )?;
        writeln!(f, "{} ends of sessions because no link came in time, {} others", self.expired, self.closed)?;
        writeln!(
            f,
            "{} streams, {} of them whole; {} thefts refused, {} commands answered",
            self.streams, self.whole, self.thefts, self.commands
        )?;
        writeln!(f, "{} worlds with siblings, {} calls while one was lost", self.shared, self.spared)?;
        write!(f, "the longest way back {:?}, the most memory {} ‰ of what is allowed", self.back, self.memory)
    }
}
