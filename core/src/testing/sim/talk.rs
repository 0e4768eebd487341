//! A stream with the applications at both its ends, and what each of the four wrote and read.

use alloc::format;
use core::fmt;

use bytes::Bytes;

use super::{Broken, cable::side, dice::Dice, ground::PERIOD};
use crate::{Code, Duration, ReadError, Role, Session, Side, StreamId, WriteError};

/// One stream of a world.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) number: usize,
    pub(super) ledger: usize,
    pub(super) id: StreamId,
    pub(super) seats: [Seat; 2],
    /// Whether the agent did not know what it is for.
    pub(super) refused: bool,
    /// By who writes.
    lanes: [Lane; 2],
}

/// What one application holds of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// It has not heard of the stream.
    Absent,
    Here,
    /// It has let go, after both directions ended.
    Gone,
    /// Its program ended first.
    Dead,
}

/// One direction.
#[derive(Debug)]
struct Lane {
    plan: Lanes,
    written: u64,
    /// How the writing application ended it, or learned of its end.
    wrote: Option<End>,
    writer_rests: bool,
    read: u64,
    /// How the reading application ended it, or learned of its end.
    got: Option<End>,
    reader_rests: bool,
}

/// What the applications mean to do in one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    pub(super) length: u64,
    /// Instead of an orderly end.
    pub(super) reset: Option<Code>,
    /// After how many octets the reader wants no more.
    pub(super) stop: Option<(u64, Code)>,
    pub(super) write: Pace,
    pub(super) read: Pace,
}

/// How fast an application is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The most octets at once.
    pub(super) chunk: usize,
    /// How many octets are followed by how long a rest.
    pub(super) rest: Option<(u64, Duration)>,
}

/// How a direction ended, as one application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// In order, after all of it.
    Fin,
    /// The writer gave up.
    Reset(Code),
    /// The reader wanted no more.
    Stopped(Code),
    /// The session is over.
    Lost(Code),
}

/// What an application wishes after it did what it could.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    pub(super) rest: Option<Duration>,
    pub(super) released: bool,
}

impl Talk {
    pub(super) fn new(number: usize, ledger: usize, id: StreamId, plans: [Lanes; 2]) -> Self {
        Self { number, ledger, id, seats: [Seat::Absent, Seat::Here], refused: false, lanes: plans.map(Lane::new) }
    }

    /// Lets an application write and read what it can.
    pub(super) fn act<S: Side>(&mut self, session: &mut Session<S>, pattern: &Bytes) -> Result<Wish, Broken> {
        let mut wish = Wish::default();
        if self.seats[side(S::ROLE)] != Seat::Here {
            return Ok(wish);
        }
        let salt = self.salt();
        let [ours, theirs] = [S::ROLE, S::ROLE.peer()].map(side);
        let over = session.over().is_some();
        let rests = self.lanes[ours].write(session, self.id, &pattern.slice(salt[ours]..), over)?;
        let rests = [rests, self.lanes[theirs].read(session, self.id, &pattern.slice(salt[theirs]..), over)?];
        wish.rest = rests.into_iter().flatten().min();
        if self.lanes[ours].wrote.is_some() && self.lanes[theirs].got.is_some() {
            session.release(self.id);
            self.seats[ours] = Seat::Gone;
            wish.released = true;
        }
        self.check()?;
        Ok(wish)
    }

    /// Takes note that an application has rested.
    pub(super) const fn rested(&mut self, role: Role) {
        self.lanes[side(role)].writer_rests = false;
        self.lanes[side(role.peer())].reader_rests = false;
    }

    /// Returns what an application has taken of what the other wrote.
    pub(super) const fn taken(&self, role: Role) -> u64 {
        self.lanes[side(role.peer())].read
    }

    /// Returns a number that grows with all that happens on the stream.
    pub(super) fn progress(&self) -> u64 {
        let ends = |lane: &Lane| u64::from(lane.wrote.is_some()) + u64::from(lane.got.is_some());
        self.lanes.iter().map(|lane| lane.written + lane.read + ends(lane)).sum()
    }

    /// Returns whether no application waits for anything.
    pub(super) fn is_over(&self) -> bool {
        self.seats.iter().all(|seat| matches!(seat, Seat::Gone | Seat::Dead | Seat::Absent))
    }

    /// Returns whether both directions came to the end that was meant.
    pub(super) fn is_whole(&self) -> bool {
        let lost = |end| matches!(end, None | Some(End::Lost(_)));
        !self.lanes.iter().any(|lane| lost(lane.wrote) || lost(lane.got))
    }

    /// L4 and the ends: what one application saw goes with what the other did.
    fn check(&self) -> Result<(), Broken> {
        let refused = [Some(End::Reset(Code::REFUSED)), Some(End::Stopped(Code::REFUSED))];
        let never_opened = self.seats[side(Role::Agent)] == Seat::Absent
            && (refused.contains(&self.lanes[0].got) || refused.contains(&self.lanes[1].wrote));
        if self.refused || never_opened {
            return Ok(());
        }
        for (role, lane) in ["agent", "network"].into_iter().zip(&self.lanes) {
            if lane.read > lane.written {
                return Err(Broken::new("L4", format!("{self}: more was read than the {role} wrote")));
            }
            // BIND-004: a bind that was given up with all its streams.
            let cut = |end| matches!(end, Some(End::Reset(Code::UNBOUND) | End::Stopped(Code::UNBOUND)));
            if cut(lane.wrote) || cut(lane.got) {
                continue;
            }
            let fits = match (lane.wrote, lane.got) {
                (_, None | Some(End::Lost(_) | End::Stopped(_))) => true,
                (Some(End::Fin), Some(End::Fin)) => lane.read == lane.plan.length,
                (Some(End::Reset(sent)), Some(End::Reset(got))) => sent == got,
                (_, Some(End::Fin | End::Reset(_))) => false,
            };
            if !fits {
                let ends = format!("{:?} became {:?} after {} octets", lane.wrote, lane.got, lane.read);
                return Err(Broken::new("L4", format!("{self}, written by the {role}: {ends}")));
            }
            if let Some(End::Stopped(code)) = lane.wrote
                && lane.plan.stop.is_none_or(|(_, meant)| meant != code)
            {
                return Err(Broken::new("END-004", format!("{self}: the {role} was stopped with {code}")));
            }
        }
        Ok(())
    }

    /// Returns where in the pattern the content of each direction begins.
    const fn salt(&self) -> [usize; 2] {
        [self.number * 7_919 % PERIOD, (self.number * 7_919 + 104_729) % PERIOD]
    }
}

impl Lane {
    const fn new(plan: Lanes) -> Self {
        Self { plan, written: 0, wrote: None, writer_rests: false, read: 0, got: None, reader_rests: false }
    }

    fn write<S: Side>(
        &mut self,
        session: &mut Session<S>,
        id: StreamId,
        content: &Bytes,
        over: bool,
    ) -> Result<Option<Duration>, Broken> {
        let Lanes { length, reset, write: Pace { chunk, rest }, .. } = self.plan;
        let mut burst = 0;
        while self.wrote.is_none() && (over || !self.writer_rests) {
            let result = if self.written < length {
                let start = usize::try_from(self.written % PERIOD as u64).unwrap_or(0);
                let most = usize::try_from(length - self.written).unwrap_or(usize::MAX);
                let end = content.len().min(start + chunk.min(most));
                session.write(id, &mut content.slice(start..end)).map(|count| self.written += count as u64)
            } else if let Some(code) = reset {
                session.reset(id, code);
                self.wrote = Some(End::Reset(code));
                Ok(())
            } else {
                session.finish(id).map(|()| self.wrote = Some(End::Fin))
            };
            burst += chunk as u64;
            match result {
                Ok(()) => {}
                Err(WriteError::Blocked) => return Ok(None),
                Err(WriteError::Stopped(code)) => self.wrote = Some(End::Stopped(code)),
                Err(WriteError::Lost(code)) => self.wrote = Some(End::Lost(code)),
                Err(WriteError::Closed) => return Err(Broken::new("L4", format!("stream {id} is not there"))),
            }
            if let Some((octets, pause)) = rest
                && octets <= burst
                && self.wrote.is_none()
                && !over
            {
                self.writer_rests = true;
                return Ok(Some(pause));
            }
        }
        Ok(None)
    }

    fn read<S: Side>(
        &mut self,
        session: &mut Session<S>,
        id: StreamId,
        content: &Bytes,
        over: bool,
    ) -> Result<Option<Duration>, Broken> {
        let Lanes { stop, read: Pace { chunk, rest }, .. } = self.plan;
        let mut burst = 0;
        while self.got.is_none() && (over || !self.reader_rests) {
            if let Some((_, code)) = stop.filter(|(after, _)| *after <= self.read) {
                session.stop(id, code);
                self.got = Some(End::Stopped(code));
                continue;
            }
            match session.read(id, chunk) {
                Ok(Some(octets)) => {
                    self.compare(&octets, content, id)?;
                    burst += octets.len() as u64;
                }
                Ok(None) => self.got = Some(End::Fin),
                Err(ReadError::Blocked) => return Ok(None),
                Err(ReadError::Reset(code)) => self.got = Some(End::Reset(code)),
                Err(ReadError::Lost(code)) => self.got = Some(End::Lost(code)),
                Err(ReadError::Closed) => return Err(Broken::new("L4", format!("stream {id} is not there"))),
            }
            if let Some((octets, pause)) = rest
                && octets <= burst
                && self.got.is_none()
                && !over
            {
                self.reader_rests = true;
                return Ok(Some(pause));
            }
        }
        Ok(None)
    }

    /// L4: each octet once, in order.
    fn compare(&mut self, octets: &Bytes, content: &Bytes, id: StreamId) -> Result<(), Broken> {
        let start = usize::try_from(self.read % PERIOD as u64).unwrap_or(0);
        let mut rest = octets.as_ref();
        let mut from = start;
        while !rest.is_empty() {
            let length = rest.len().min(PERIOD - from);
            let (piece, after) = rest.split_at(length);
            if content.get(from..from + length) != Some(piece) {
                let text = format!("stream {id}: behind octet {} comes something else than was written", self.read);
                return Err(Broken::new("L4", text));
            }
            (rest, from) = (after, 0);
        }
        self.read += octets.len() as u64;
        Ok(())
    }
}

impl Lanes {
    /// Draws what two applications mean to do in one direction.
    pub(super) fn draw(dice: &mut Dice, most: u64) -> Self {
        let length = if dice.percent(10) { 0 } else { dice.spread(1, most) };
        let code = |dice: &mut Dice| Code(0x1000 + u32::try_from(dice.between(0, 99)).unwrap_or(0));
        Self {
            length,
            reset: dice.percent(10).then(|| code(dice)),
            stop: dice.percent(7).then(|| (dice.between(0, length), code(dice))),
            write: Pace::draw(dice, length),
            read: Pace::draw(dice, length),
        }
    }
}

impl Pace {
    fn draw(dice: &mut Dice, length: u64) -> Self {
        let chunk = usize::try_from(dice.spread((length / 100).max(1), 64 << 10)).unwrap_or(1);
        let rest = dice.percent(50).then(|| {
            let octets = dice.spread((length / 40).max(1), 64 << 10);
            (octets, dice.spread_millis(1, 2_000))
        });
        Self { chunk, rest }
    }
}

impl fmt::Display for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "talk {} (session {}, stream {})", self.number, self.ledger, self.id)
    }
}
