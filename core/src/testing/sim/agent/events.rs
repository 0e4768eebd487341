//! What dials come to, and what sessions tell.

use alloc::{format, vec::Vec};

use super::Agent;
use crate::{
    Cause, Code, CommandResult, Duration, Event, Heartbeat, Instant, Retry, Role, StreamId,
    testing::sim::{Broken, cable::Farewell, cable::side, ground::Ground, node::LISTS, talk::Seat},
};

impl Agent {
    pub(super) fn pump_sessions(&mut self, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let mut moved = false;
        for port in self.sessions.values_mut() {
            moved |= port.pump(ground, now)?;
        }
        Ok(moved)
    }

    pub(super) fn attend_sessions(&mut self, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let mut moved = false;
        for attempt in self.sessions.keys().copied().collect::<Vec<_>>() {
            while let Some(event) = self.sessions.get_mut(&attempt).and_then(|port| port.events.pop_front()) {
                moved = true;
                self.attend(attempt, event, ground, now)?;
            }
        }
        self.watch_silence(now);
        Ok(moved)
    }

    /// Tells the uplink when the link of its session falls silent and when it speaks again.
    fn watch_silence(&mut self, now: Instant) {
        let Some(uplink) = &mut self.uplink else { return };
        let silent = |attempt: &u64| self.sessions.get(attempt).is_some_and(|port| port.link.is_silent());
        let current = uplink.current().filter(silent);
        if current != self.silent {
            if let Some(before) = core::mem::replace(&mut self.silent, current) {
                uplink.handle_sound(before, now);
            }
            if let Some(attempt) = current {
                uplink.handle_silence(attempt, now);
            }
        }
    }

    pub(super) fn run_dials(&mut self, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let mut moved = false;
        for attempt in self.dials.keys().copied().collect::<Vec<_>>() {
            let Some(dial) = self.dials.get_mut(&attempt) else { continue };
            match (&mut dial.port, dial.resumes.filter(|_| dial.connected)) {
                (Some(port), _) => {
                    moved |= port.pump(ground, now)?;
                    moved |= self.settle_new(attempt, ground, now)?;
                }
                (None, Some(session)) => moved |= self.settle_resumed(attempt, session, ground, now)?,
                (None, None) => {}
            }
        }
        Ok(moved)
    }

    /// Takes a dial for what it has become: a session, or nothing.
    fn settle_new(&mut self, attempt: u64, ground: &mut Ground, now: Instant) -> Result<bool, Broken> {
        let Some(port) = self.dials.get_mut(&attempt).and_then(|dial| dial.port.as_mut()) else { return Ok(false) };
        if let Some(Event::Established(welcome)) = port.events.pop_front() {
            let resumable = welcome.resume.is_some() && !self.plan.config.resume_window.is_zero();
            ground.say(|| format!("agent {}: dial {attempt} is session {:?}", self.number, port.ledger));
            if let (Some(dial), Some(uplink)) = (self.dials.remove(&attempt), &mut self.uplink) {
                self.sessions.extend(dial.port.map(|port| (attempt, port)));
                uplink.handle_established(attempt, now);
                uplink.handle_offer(attempt, resumable);
            }
            return Ok(true);
        }
        match port.link.cause().map(Cause::retry) {
            Some(retry) => self.fail(attempt, retry, ground).map(|()| true),
            None => Ok(false),
        }
    }

    /// Takes a dial that resumes for what it has become: the session goes on, or waits as before, or is over.
    fn settle_resumed(
        &mut self,
        attempt: u64,
        session: u64,
        ground: &mut Ground,
        now: Instant,
    ) -> Result<bool, Broken> {
        let (retry, resumed) = match self.sessions.get(&session).map(|port| &port.link) {
            Some(link) if link.is_established() => (Retry::Backoff, true),
            Some(link) if link.is_parked() || link.is_finished() || link.cause().is_some() => {
                (link.cause().map_or(Retry::Backoff, Cause::retry), false)
            }
            Some(_) => return Ok(false),
            None => (self.dials.get(&attempt).and_then(|dial| dial.verdict).unwrap_or(Retry::Backoff), false),
        };
        if !resumed {
            return self.fail(attempt, retry, ground).map(|()| true);
        }
        self.dials.remove(&attempt);
        ground.say(|| format!("agent {}: dial {attempt} took session {session} over", self.number));
        if let Some(uplink) = &mut self.uplink {
            uplink.handle_resumed(attempt, now);
            // Lost again already: that may have been told before it was known to be there.
            if self.sessions.get(&session).is_some_and(|port| port.link.is_parked()) {
                uplink.handle_suspended(session, Retry::Backoff, now);
                self.allow(Retry::Backoff, true, now);
            }
        }
        Ok(true)
    }

    /// Gives a dial up. A session that ended with it is told first: the next dial must not try to resume it.
    pub(super) fn fail(&mut self, attempt: u64, retry: Retry, ground: &mut Ground) -> Result<(), Broken> {
        let now = self.clock.read(ground.now);
        let Some(dial) = self.dials.remove(&attempt) else { return Ok(()) };
        if let Some(mut port) = dial.port {
            port.pump(ground, now)?;
            port.events.clear();
            self.leaving.push(port);
        } else if !dial.connected {
            ground.hang_up(dial.cable, Role::Agent, Farewell::Reset);
        }
        let over = dial.resumes.and_then(|session| {
            let link = &self.sessions.get(&session)?.link;
            let cause = link.cause().filter(|_| !link.is_parked() && !link.is_established())?;
            Some((session, cause.retry()))
        });
        let retries = over.map(|(_, retry)| retry);
        self.allow(retry, dial.resumes.is_some() && retries.is_none() && dial.verdict.is_none(), now);
        retries.into_iter().for_each(|retry| self.allow(retry, false, now));
        if let Some(uplink) = &mut self.uplink {
            if let Some((session, retry)) = over {
                uplink.handle_closed(session, retry, now);
            }
            uplink.handle_closed(attempt, retry, now);
        }
        Ok(())
    }

    fn attend(&mut self, attempt: u64, event: Event, ground: &mut Ground, now: Instant) -> Result<(), Broken> {
        let (Some(port), Some(uplink)) = (self.sessions.get_mut(&attempt), &mut self.uplink) else { return Ok(()) };
        let (session, current) = (port.ledger.unwrap_or_default(), uplink.current() == Some(attempt));
        match event {
            Event::Opened(id) => self.open(attempt, id, ground)?,
            Event::Accepted(id) | Event::Readable(id) | Event::Writable(id) => {
                let number = port.ledger.unwrap_or_default();
                if let Some(talk) = ground.ledger(number)?.talks.get(&id.number()).copied() {
                    port.go_on(talk, ground)?;
                }
            }
            Event::Bound(bound) => uplink.handle_bound(attempt, &bound, now),
            Event::Rejected(refused) => uplink.handle_rejected(attempt, refused, now),
            Event::Unbound(refused) => {
                if refused.refusal.code == Code::REPLACED {
                    ground.check_replaced(session)?;
                }
                uplink.handle_unbound(attempt, refused, now);
            }
            Event::GoAway(notice) => {
                uplink.handle_goaway(attempt, &notice, now);
                self.allow(Retry::drain(&notice), false, now);
            }
            Event::Command(request) => {
                let result =
                    CommandResult { id: request.id, code: Code::FORBIDDEN, text: alloc::string::String::new() };
                if let Some(session) = port.link.session_mut() {
                    let answered = session.answer(&result);
                    ground.report.commands += u64::from(answered.is_ok());
                }
            }
            Event::Revocations(lists) if lists == LISTS => {}
            Event::Revocations(lists) => return Err(Broken::new("CRL-001", format!("{lists:?} came"))),
            Event::Suspended(cause) => {
                ground.say(|| format!("agent {}: session {attempt} waits: {cause}", self.number));
                uplink.handle_suspended(attempt, cause.retry(), now);
                self.allow(cause.retry(), true, now);
                self.check_loss(session, &cause, current, ground)?;
            }
            Event::Resumed(welcome) => uplink.handle_offer(attempt, welcome.resume.is_some()),
            Event::Closed(cause) => {
                ground.report.end(&cause);
                ground.say(|| format!("agent {}: session {attempt} is over: {cause}", self.number));
                port.conclude(ground)?;
                uplink.handle_closed(attempt, cause.retry(), now);
                self.allow(cause.retry(), false, now);
                self.check_loss(session, &cause, current, ground)?;
                for dial in self.dials.values_mut().filter(|dial| dial.resumes == Some(attempt)) {
                    dial.verdict = Some(cause.retry());
                }
                self.leaving.extend(self.sessions.remove(&attempt));
            }
            Event::Hello(_)
            | Event::Established(_)
            | Event::Bind(_)
            | Event::Unbind(_)
            | Event::Withheld(_)
            | Event::CommandResult(_) => {
                return Err(Broken::new("harness", format!("an agent hears {event:?}")));
            }
        }
        Ok(())
    }

    /// No link is lost, and no session expires, unless something was wrong not long ago.
    fn check_loss(&self, session: usize, cause: &Cause, current: bool, ground: &mut Ground) -> Result<(), Broken> {
        let node = ground.ledger(session)?.node;
        let (calm, wished) = (ground.calm(self.number, node), !ground.longest_wish.is_zero());
        let Heartbeat { interval, tolerance } = self.plan.config.heartbeat;
        let patience = (interval + tolerance) * 2 + tolerance * 3 + Duration::from_secs(20);
        let text =
            || format!("agent {}, session {session}: {cause} after {calm:?} in which nothing was wrong", self.number);
        match cause {
            Cause::Dead { .. }
            | Cause::Stalled { .. }
            | Cause::HandshakeTimeout
            | Cause::Eof { .. }
            | Cause::Transport(_)
            | Cause::Unacknowledged
                if patience < calm =>
            {
                Err(Broken::new("HB-004", text()))
            }
            Cause::ResumeExpired => {
                let window = ground.ledger(session)?.window;
                // A session that drains is not resumed. A dial may have begun before and come to nothing.
                let spared = current && Duration::from_secs(25) <= window && window <= calm && !wished;
                if spared { Err(Broken::new("RES-011", text())) } else { Ok(()) }
            }
            Cause::Dead { .. }
            | Cause::Stalled { .. }
            | Cause::HandshakeTimeout
            | Cause::Eof { .. }
            | Cause::Transport(_)
            | Cause::Unacknowledged
            | Cause::Local(_)
            | Cause::Remote(_)
            | Cause::Refused(_)
            | Cause::Violation(_) => Ok(()),
        }
    }

    /// Hands a stream to its application; one for an endpoint that is not wished for is refused.
    fn open(&mut self, attempt: u64, id: StreamId, ground: &mut Ground) -> Result<(), Broken> {
        let Some(port) = self.sessions.get_mut(&attempt) else { return Ok(()) };
        let (number, Some(session)) = (port.ledger.unwrap_or_default(), port.link.session_mut()) else { return Ok(()) };
        let open = session.take_open(id);
        let known = ground.ledger(number)?.talks.get(&id.number()).copied();
        let named = open.as_ref().and_then(|open| open.endpoint.parse::<usize>().ok());
        let (Some(talk), true) = (known.and_then(|talk| ground.talks.get_mut(talk)), known == named) else {
            return Err(Broken::new("L4", format!("stream {id} of session {number} is {named:?} and was {known:?}")));
        };
        if talk.seats[side(Role::Agent)] != Seat::Absent {
            return Err(Broken::new("L4", format!("{talk} is opened twice")));
        }
        if open.and_then(|open| open.bind).is_none_or(|bind| !self.wishes.values().any(|wish| *wish == Some(bind))) {
            (talk.refused, talk.seats[side(Role::Agent)]) = (true, Seat::Gone);
            session.release(id);
            return Ok(());
        }
        talk.seats[side(Role::Agent)] = Seat::Here;
        session.accept_stream(id);
        port.go_on(known.unwrap_or_default(), ground)
    }
}
