//! One end of a connection: a link, driven as a runtime drives it, with the laws that concern it alone.

use alloc::{collections::VecDeque, format, vec::Vec};

use super::{
    Broken,
    cable::{Farewell, Fate},
    ground::{Ground, Happening},
    plan::Skew,
};
use crate::{
    Cause, Config, Duration, Event, Hello, Instant, Link, Loss, Message, Session, Side,
    config::FRAME_MOST,
    frame::{Encoded, Kind, be_u64},
    testing::{encoded, raw},
};

/// A link and the end of the connection below it.
#[derive(Debug)]
pub(super) struct Port<S: Side> {
    pub(super) link: Link<S>,
    /// The connection, until this side has let go of it.
    pub(super) cable: Option<u64>,
    /// What happened and was not looked at.
    pub(super) events: VecDeque<Event>,
    /// The record of the session, once there is one.
    pub(super) ledger: Option<usize>,
    output: Vec<u8>,
    skew: Skew,
    closed: bool,
    /// Since when counted frames of the peer wait to be acknowledged, and how many had been processed then.
    unacknowledged: Option<Instant>,
    acknowledged: Option<u64>,
    /// Since when the session waits for a link, by this side's clock.
    pub(super) waits: Option<Instant>,
    config: Config,
}

impl<S: Side> Port<S> {
    pub(super) fn new(link: Link<S>, cable: u64, config: &Config, skew: Skew) -> Self {
        Self {
            link,
            cable: Some(cable),
            events: VecDeque::new(),
            ledger: None,
            output: Vec::new(),
            skew,
            closed: false,
            unacknowledged: None,
            acknowledged: None,
            waits: None,
            config: config.clone(),
        }
    }

    /// Lets the link do all that it can; returns whether anything moved.
    pub(super) fn pump(&mut self, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let mut moved = false;
        self.expire(now)?;
        for round in 0.. {
            if round > 10_000 {
                return Err(Broken::new("L6", "a link does not come to rest"));
            }
            // Neither waits for the other, whichever comes first.
            let writes_first = ground.dice.percent(50);
            let mut more = if writes_first { self.write(ground, now)? } else { self.read(ground, now)? };
            more |= if writes_first { self.read(ground, now)? } else { self.write(ground, now)? };
            self.collect(ground, now)?;
            moved |= more;
            if !more {
                break;
            }
        }
        let processed = self.link.session().map_or(0, Session::processed);
        if !self.output.is_empty() || self.cable.is_none() {
            self.unacknowledged = None; // nothing can be said
        } else if self.link.is_established()
            && processed > *self.acknowledged.get_or_insert(processed)
            && self.unacknowledged.is_none()
        {
            self.unacknowledged = Some(now);
        }
        self.check(ground, now)?;
        if self.link.is_finished()
            && let Some(cable) = self.cable.take()
        {
            self.output.clear(); // the transport took nothing for as long as closing may take, or is lost
            ground.hang_up(cable, S::ROLE, Farewell::Eof { clean: true });
        }
        Ok(moved)
    }

    /// Takes it that the connection is gone.
    pub(super) fn lose(&mut self, ground: &mut Ground, loss: Loss, now: Instant) {
        if let Some(cable) = self.cable.take() {
            ground.hang_up(cable, S::ROLE, Farewell::Reset);
        }
        self.output.clear();
        self.link.handle_loss(loss, now);
    }

    /// Leaves the connection behind, as a program does that ends: quietly when its machine lost power.
    pub(super) fn abandon(&mut self, quiet: bool, ground: &mut Ground) {
        let Some(cable) = self.cable.take() else { return };
        if quiet {
            ground.doom(cable, &[S::ROLE], Fate::Dead);
        }
        let reset = ground.dice.percent(50);
        ground.hang_up(cable, S::ROLE, if reset { Farewell::Reset } else { Farewell::Eof { clean: false } });
    }

    /// Lets the application of a stream go on.
    pub(super) fn go_on(&mut self, number: usize, ground: &mut Ground) -> Result<(), Broken> {
        let pattern = ground.pattern.clone();
        let (Some(session), Some(talk)) = (self.link.session_mut(), ground.talks.get_mut(number)) else {
            return Ok(());
        };
        let before = talk.progress();
        let wish = talk.act(session, &pattern)?;
        ground.report.progress += talk.progress() - before;
        if let Some(rest) = wish.rest {
            ground.after(rest, Happening::Rested(number, S::ROLE));
        }
        if wish.released {
            ground.say(|| format!("talk {number}: the {:?} is done", S::ROLE));
        }
        Ok(())
    }

    /// Lets the applications of a session that is over learn of it: nothing of it is left.
    pub(super) fn conclude(&mut self, ground: &mut Ground) -> Result<(), Broken> {
        let Some(number) = self.ledger else { return Ok(()) };
        let talks: Vec<usize> = ground.ledger(number)?.talks.values().copied().collect();
        for talk in talks {
            self.go_on(talk, ground)?;
            // One that was let go of before, and had something to say still, goes now.
            if let (Some(session), Some(talk)) = (self.link.session_mut(), ground.talks.get(talk)) {
                session.release(talk.id);
            }
        }
        let Some(session) = self.link.session() else { return Ok(()) };
        let left = (session.live_streams(), session.reserved(), session.stats().queued);
        if left != (0, 0, 0) {
            let talks = ground.talks.iter().filter(|talk| talk.ledger == number);
            let talks: Vec<_> = talks.map(|talk| (talk.number, talk.id, talk.seats)).collect();
            let text = format!("streams, window and queue of session {number} that is over: {left:?}: {talks:?}");
            return Err(Broken::new("L10", text));
        }
        Ok(())
    }

    /// Returns when the link wants to be woken.
    pub(super) fn due(&self) -> Option<Instant> {
        self.link.poll_timeout().map(|deadline| deadline.at)
    }

    /// Returns whether nothing will come of this end any more.
    pub(super) fn is_spent(&self) -> bool {
        self.cable.is_none() && self.events.is_empty() && !self.link.is_parked() && self.link.cause().is_some()
    }

    fn expire(&mut self, now: Instant) -> Result<(), Broken> {
        if self.due().is_some_and(|due| due <= now) {
            self.link.handle_timeout(now);
        }
        match self.link.poll_timeout() {
            Some(deadline) if deadline.at <= now => {
                let text = format!("{:?} is due at {:?} after time passed until {now:?}", deadline.why, deadline.at);
                Err(Broken::new("L3", text))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn write(&mut self, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let Some(cable) = self.cable else { return Ok(false) };
        let mut moved = false;
        loop {
            while self.output.len() < BATCH
                && let Some(frame) = self.link.poll_transmit(now)
            {
                self.put(&frame, ground, now)?;
            }
            if self.output.is_empty() {
                return Ok(moved);
            }
            let taken = ground.send(cable, S::ROLE, &self.output);
            self.output.drain(..taken);
            self.link.handle_written(taken, self.output.len(), now);
            if taken == 0 {
                return Ok(moved);
            }
            moved = true;
        }
    }

    /// RES-003: counted frames are acknowledged in time, where the transport takes it and the machine is awake.
    fn watch_ack(&mut self, frame: &Encoded, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        let (Some(number), Kind::Ack) = (self.ledger, frame.kind()) else { return Ok(()) };
        self.acknowledged = be_u64(frame.payload());
        let Some(since) = self.unacknowledged.take() else { return Ok(()) };
        let late = now.since(since + self.config.ack_delay);
        let ledger = ground.ledger(number)?;
        let (agent, node) = (ledger.agent, ledger.node);
        if late > MILLISECOND && ground.calm(agent, node) > late * 2 {
            return Err(Broken::new(
                "RES-003",
                format!("session {number}: the {:?} acknowledges {late:?} late", S::ROLE),
            ));
        }
        Ok(())
    }

    /// Writes a frame as this program's version does.
    fn put(&mut self, frame: &Encoded, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        self.watch_ack(frame, ground, now)?;
        ground.report.frames += 1;
        if let Some(number) = self.ledger {
            let (ledgers, talks) = (&mut ground.ledgers, &ground.talks);
            if let Some(ledger) = ledgers.get_mut(number)
                && ledger.on_frame(S::ROLE, frame, talks)?
            {
                ground.report.repeated += 1;
            }
        }
        if ground.traces() {
            let [.., s0, s1, s2, s3] = *frame.header();
            let (stream, kind) = (u32::from_be_bytes([s0, s1, s2, s3]), frame.kind());
            let (role, cable, length) = (S::ROLE, self.cable.unwrap_or_default(), frame.payload().len());
            ground.say(|| format!("cable {cable}: {role:?} sends {kind:?} of stream {stream}, {length} octets"));
        }
        match self.skew {
            Skew::None => frame.write(&mut self.output),
            Skew::Versions(_) | Skew::Fields | Skew::Extensions => self.put_skewed(frame, ground),
        }
        Ok(())
    }

    fn put_skewed(&mut self, frame: &Encoded, ground: &mut Ground) {
        let (kind, mut payload) = (frame.kind(), frame.payload().to_vec());
        let is_message = kind.fixed_length().is_none() && !matches!(kind, Kind::Data | Kind::Revocations);
        match self.skew {
            Skew::Versions(versions) if kind == Kind::Hello => {
                if let Ok(hello) = Hello::decode(&payload) {
                    let versions = versions.iter().copied().filter(|version| *version > 0).collect();
                    payload = encoded(&Hello { versions, ..hello });
                }
            }
            Skew::Fields if is_message => payload.extend(UNKNOWN_FIELDS),
            Skew::None | Skew::Versions(_) | Skew::Fields | Skew::Extensions => {}
        }
        let [.., s0, s1, s2, s3] = *frame.header();
        self.output.extend(raw(kind.number(), u32::from_be_bytes([s0, s1, s2, s3]), &payload));
        let extends = self.skew == Skew::Extensions && self.link.is_established();
        if extends && ground.dice.percent(2) {
            let number = u8::try_from(ground.dice.between(0xc0, 0xff)).unwrap_or(0xff);
            let payload = ground.dice.size(0, 40);
            self.output.extend(raw(number, 0, &alloc::vec![7; payload]));
        }
    }

    fn read(&mut self, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let mut moved = false;
        while let Some(cable) = self.cable
            && let Some(arrived) = ground.receive(cable, S::ROLE)
        {
            moved = true;
            match arrived {
                Ok(octets) => {
                    ground.report.octets += octets.len() as u64;
                    self.link.handle_input(&octets, now);
                }
                Err(farewell) => {
                    match farewell {
                        Farewell::Eof { clean } => self.link.handle_eof(clean, now),
                        Farewell::Reset => self.link.handle_loss(Loss::Reset, now),
                    }
                    self.cable = None;
                    self.output.clear();
                    ground.hang_up(cable, S::ROLE, Farewell::Eof { clean: false });
                }
            }
            self.collect(ground, now)?;
        }
        Ok(moved)
    }

    /// Takes what the link tells, and notes from where both sides go on.
    pub(super) fn collect(&mut self, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        while let Some(event) = self.link.poll_event() {
            if self.closed {
                return Err(Broken::new("L10", format!("{event:?} comes after the end")));
            }
            if let Event::Closed(cause) | Event::Suspended(cause) = &event
                && let Cause::Violation(_) = cause
            {
                return Err(Broken::new("rules", format!("the {:?} finds that {cause}", S::ROLE)));
            }
            self.closed = matches!(event, Event::Closed(_));
            self.watch(&event, ground, now)?;
            if let Event::Resumed(welcome) = &event
                && let Some(number) = self.ledger
            {
                ground.ledger(number)?.go_on(S::ROLE, welcome.resumed.unwrap_or_default())?;
            } else if let Event::Established(welcome) = &event {
                self.ledger = Some(number_of(welcome.session));
            }
            self.events.push_back(event);
        }
        Ok(())
    }

    /// RES-011: a session waits for a link for as long as was agreed on, no longer and no less.
    fn watch(&mut self, event: &Event, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        let Some(number) = self.ledger else { return Ok(()) };
        match event {
            Event::Suspended(_) => self.waits = self.waits.or(Some(now)),
            Event::Resumed(_) => self.waits = None,
            Event::Closed(Cause::ResumeExpired) => {
                let window = ground.ledger(number)?.window;
                if let Some(waited) =
                    self.waits.map(|since| now.since(since)).filter(|waited| *waited + MILLISECOND < window)
                {
                    let text = format!("session {number} is given up after {waited:?} of {window:?}");
                    return Err(Broken::new("RES-011", text));
                }
            }
            Event::Closed(_)
            | Event::Hello(_)
            | Event::Established(_)
            | Event::Bind(_)
            | Event::Unbind(_)
            | Event::Withheld(_)
            | Event::CommandResult(_)
            | Event::Bound(_)
            | Event::Rejected(_)
            | Event::Unbound(_)
            | Event::Command(_)
            | Event::Revocations(_)
            | Event::Opened(_)
            | Event::Accepted(_)
            | Event::Readable(_)
            | Event::Writable(_)
            | Event::GoAway(_) => {}
        }
        Ok(())
    }

    /// L2, L5, L6: the bounds, and rest when there is nothing to do.
    fn check(&mut self, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        if let Some(session) = self.link.session() {
            let (held, retained) = (self.link.held(), session.stats().retained);
            let allowed = self.config.worst_case_memory();
            let keeps = self.config.retain_octets + u64::from(FRAME_MOST);
            if held > allowed || session.reserved() > self.config.pool || retained > keeps {
                let text = format!("{held} octets where {allowed} are allowed, {retained} of them retained");
                return Err(Broken::new("L2", text));
            }
            ground.report.memory = ground.report.memory.max(held * 1_000 / allowed.max(1));
        }
        if self.output.is_empty() && self.cable.is_some() {
            if self.link.poll_transmit(now).is_some() {
                return Err(Broken::new("L6", "there is more to write after everything was written"));
            }
            if self.link.wants_transmit() {
                return Err(Broken::new("L6", "it wants to write and has nothing"));
            }
        }
        if self.link.is_finished() && !self.link.is_parked() && self.link.poll_timeout().is_some() {
            return Err(Broken::new("L10", "an end has a timer"));
        }
        Ok(())
    }
}

/// Returns the name of the session with this record.
pub(super) fn name_of(number: usize) -> crate::SessionId {
    let mut octets = [0x5e; 16];
    octets[..8].copy_from_slice(&(number as u64).to_be_bytes());
    crate::SessionId(octets)
}

/// Returns the record of the session with this name.
pub(super) fn number_of(session: crate::SessionId) -> usize {
    let octets = session.0.first_chunk().copied().unwrap_or_default();
    usize::try_from(u64::from_be_bytes(octets)).unwrap_or(usize::MAX)
}

const BATCH: usize = 64 << 10;

/// A number and a text that a later version might add, as protocol buffers write them: fields 200 and 201.
const UNKNOWN_FIELDS: &[u8] = &[0xc0, 0x0c, 0x2a, 0xca, 0x0c, 0x03, b'n', b'e', b'w'];

/// What durations on the wire are counted in.
const MILLISECOND: Duration = Duration::from_millis(1);
