//! One side alone between an application and a peer: the peer keeps the rules as long as it likes, and then no longer.

use adit_core::{
    BindId, Cause, Code, Command, CommandResult, Config, Duration, Event, Loss, Open, Refusal, Session, Side, StreamId,
    Unbind, Violation,
    frame::Kind,
    side::{Agent, Network},
    testing::{Lone, Puppet, closed_with, raw},
};

use crate::{Choices, messages::damage};

/// A session of either side: frames that are allowed, frames that break a rule, and damaged ones, while the application does
/// anything.
pub fn session(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    match choices.number::<u8>() % 3 {
        0 => run::<Network>(Lone::established_network(config()), &mut choices),
        1 => run::<Network>(Lone::resumable_network(config()), &mut choices),
        _ => run::<Agent>(Lone::established_agent(config()), &mut choices),
    }
}

/// A side that is tested, with what only its application can do.
trait Tested: Side + Sized {
    fn control(session: &mut Session<Self>, what: u8, request: Option<Event>);
}

/// One side, its peer, and what was seen of both.
struct Run<S: Side> {
    lone: Lone<S>,
    puppet: Puppet,
    /// What waits for an answer of the application.
    requests: Vec<Event>,
    closed: Vec<Cause>,
    /// The rule that was broken just before.
    broken: Option<Violation>,
    /// Whether the peer sent what it does not know of: from there on it cannot say which rule it breaks.
    confused: bool,
}

fn run<S: Tested>(lone: Lone<S>, choices: &mut Choices<'_>) {
    let puppet = Puppet::new(S::ROLE.peer(), config().streams, config().window);
    let mut run = Run { lone, puppet, requests: Vec::new(), closed: Vec::new(), broken: None, confused: false };
    for _ in 0..MOST_STEPS {
        if choices.is_over() {
            break;
        }
        let heard = run.step(choices);
        let said = run.settle();
        // What is owed is a set: a few frames for each that came, for each stream and each timer.
        let most = 6 * heard + 8 * run.lone.session().live_streams() + 8;
        assert!(said <= most, "L12: {said} frames were said to {heard}");
        run.check();
    }
    run.end(choices);
}

impl<S: Tested> Run<S> {
    /// Lets one thing happen; returns how many frames may have come.
    fn step(&mut self, choices: &mut Choices<'_>) -> usize {
        let what = choices.number::<u8>() % 32;
        if what < 18 {
            let octets = self.input(what, choices);
            self.lone.hear(&octets);
            return octets.len() / 8 + 1;
        }
        let now = self.lone.now();
        let id = some_stream(choices);
        let session = self.lone.session();
        match what {
            18 | 19 => {
                let time = Duration::from_millis(choices.size(9_000) as u64);
                let puppet = &mut self.puppet;
                self.lone.wait_and_say(time, |frame| puppet.hear(core::slice::from_ref(frame)));
            }
            20 => {
                let bind = choices.maybe(|choices| BindId(u32::from(choices.number::<u8>() % 8)));
                _ = session.open(Open { bind, ..Open::default() });
            }
            21 => {
                drop(session.take_open(id));
                session.accept_stream(id);
            }
            22 | 23 => drop(session.read(id, 1 + choices.size(9_000))),
            24 => drop(session.finish(id)),
            25 => session.reset(id, Code(choices.number())),
            26 => session.stop(id, Code(choices.number())),
            27 => session.release(id),
            28 | 29 => drop(session.write(id, &mut vec![1; choices.size(9_000)].into())),
            30 => {
                let request = self.requests.pop();
                S::control(session, choices.number(), request);
            }
            _ => match choices.number::<u8>() % 16 {
                0 => self.lone.link.handle_loss(Loss::Reset, now),
                1 => self.lone.link.handle_eof(choices.coin(), now),
                2 => self.lone.link.close(Code(choices.number()), "bye", now),
                _ => session.drain(Code::SHUTDOWN, None, "", now),
            },
        }
        1
    }

    /// Returns what the peer sends.
    fn input(&mut self, what: u8, choices: &mut Choices<'_>) -> Vec<u8> {
        let mut octets = Vec::new();
        if what < 14
            && let Some(frame) = self.puppet.say(choices.number(), choices.number())
        {
            frame.write(&mut octets);
        }
        self.confused |= matches!(what, 12 | 13 | 16 | 17);
        if what == 12 && choices.number::<u8>() < 20 {
            octets = flood(choices);
        }
        match what {
            14 | 15 if self.lone.cause().is_none() && !self.confused => {
                if let Some((wrong, violation)) = self.puppet.break_rule(choices.number(), choices.number()) {
                    self.broken = Some(violation);
                    return wrong;
                }
            }
            16 => {
                let kind = choices.one_of(Kind::ALL);
                let stream = if kind.of_stream() { some_stream(choices).number() } else { 0 };
                octets = raw(kind.number(), stream, choices.octets(8));
            }
            13 | 17 => damage(&mut octets, choices),
            _ => {}
        }
        octets
    }

    /// Takes all that is said and told; returns how many frames were said.
    fn settle(&mut self) -> usize {
        let said = self.lone.say();
        self.puppet.hear(&said);
        assert_eq!(self.lone.say(), [], "L8");
        for event in self.lone.events() {
            match event {
                Event::Bind(_) | Event::Command(_) => self.requests.push(event),
                Event::Closed(cause) => {
                    crate::text::tell(&cause);
                    self.closed.push(cause);
                }
                Event::Hello(_)
                | Event::Established(_)
                | Event::Unbind(_)
                | Event::Withheld(_)
                | Event::CommandResult(_)
                | Event::Bound(_)
                | Event::Rejected(_)
                | Event::Unbound(_)
                | Event::Revocations(_)
                | Event::Opened(_)
                | Event::Accepted(_)
                | Event::Readable(_)
                | Event::Writable(_)
                | Event::GoAway(_)
                | Event::Suspended(_)
                | Event::Resumed(_) => assert!(self.closed.is_empty(), "L10: {event:?} after the end"),
            }
        }
        assert_eq!(self.lone.events(), []);
        if let Some(violation) = self.broken.take() {
            assert_eq!(self.lone.cause(), Some(&Cause::Violation(violation)), "CODE-003");
            assert_eq!(closed_with(&said), Some(violation.code()), "CODE-002: {said:?}");
            assert!(self.lone.link.is_finished());
        }
        said.len()
    }

    fn check(&mut self) {
        let now = self.lone.now();
        assert!(!self.lone.link.wants_transmit(), "L6: it wants to say more and does not");
        self.lone.link.handle_timeout(now);
        let next = self.lone.link.poll_timeout();
        assert!(next.is_none_or(|deadline| deadline.at > now), "L3: {next:?} at {now:?}");
        assert!(self.closed.len() <= 1, "L10: {:?}", self.closed);
        assert!(self.lone.link.rtt().is_none_or(|rtt| rtt <= Duration::from_secs(120)));
        let (session, config) = (self.lone.session(), config());
        let stats = session.stats();
        assert_eq!(session.over().is_some(), !self.closed.is_empty(), "a session ends with its link, and not before");
        assert!(session.reserved() <= config.pool, "L5");
        if session.live_streams() == 0 {
            assert_eq!((session.reserved(), stats.queued), (0, 0), "END-009: nothing is left of streams that are gone");
        }
        let held = session.reserved() + 7 * u64::from(config.window) + stats.queued + stats.retained;
        assert!(held <= config.worst_case_memory(), "L2: {held}");
    }

    /// L10: a link that is closed, or whose peer falls silent, ends once and within its time.
    fn end(mut self, choices: &mut Choices<'_>) {
        if choices.coin() {
            let now = self.lone.now();
            self.lone.link.close(Code::NO_ERROR, "", now);
            self.settle();
            self.lone.wait(Duration::from_secs(6));
        } else {
            self.lone.wait(Duration::from_secs(100)); // heartbeat, the wait for a resume, and the last words
        }
        self.settle();
        assert!(self.lone.link.is_finished(), "L10: the link did not end");
        assert_eq!(self.closed.len(), 1, "L10: one terminal event: {:?}", self.closed);
        assert_eq!(self.lone.link.poll_timeout(), None);
    }
}

impl Tested for Network {
    fn control(session: &mut Session<Self>, what: u8, request: Option<Event>) {
        let refusal = Refusal { code: Code(1), retry_after: None, text: String::new() };
        match request {
            Some(Event::Bind(request)) if what.is_multiple_of(2) => session.bound(request, "tcp://:1"),
            Some(Event::Bind(request)) => session.reject(request, refusal),
            _ if what.is_multiple_of(3) => drop(session.command(Command::Stop, "")),
            _ if what.is_multiple_of(5) => drop(session.tell_revocations(vec![7; usize::from(what)].into())),
            _ => drop(session.unbound(BindId(u32::from(what) % 8), refusal)),
        }
    }
}

impl Tested for Agent {
    fn control(session: &mut Session<Self>, what: u8, request: Option<Event>) {
        let id = BindId(u32::from(what) % 8);
        match request {
            Some(Event::Command(request)) => {
                let result = CommandResult { id: request.id, code: Code::FORBIDDEN, text: String::new() };
                let _ = session.answer(&result);
            }
            _ if what.is_multiple_of(3) => session.unbind(&Unbind::new(id).cutting(what.is_multiple_of(2))),
            _ => drop(session.bind(&crate::model::a_bind(id))),
        }
    }
}

/// So much of something that is harmless once that it is an attack.
fn flood(choices: &mut Choices<'_>) -> Vec<u8> {
    let kind = choices.one_of(&[Kind::Ping.number(), Kind::Pong.number(), 0x90, 0xd0]);
    let stream = 0;
    raw(kind, stream, &choices.number::<[u8; 8]>()).repeat(choices.between(1, 60))
}

/// Mostly one of the first, which there may be.
fn some_stream(choices: &mut Choices<'_>) -> StreamId {
    let number =
        if choices.number::<u8>() < 250 { 1 + u32::from(choices.number::<u8>() % 12) } else { choices.number() };
    StreamId::new(number).or(StreamId::new(1)).expect("not zero")
}

/// Small enough that a run reaches every limit.
fn config() -> Config {
    let mut config = Config::network();
    (config.streams, config.open_streams, config.pool) = (4, 3, 9_000);
    (config.window, config.window_eager, config.window_max) = (2_048, 2_048, 8_192);
    (config.send_stream, config.send_total) = (16_376, 32_768);
    (config.unanswered, config.binds, config.oddities) = (5, 4, 20);
    config
}

const MOST_STEPS: usize = 300;
