//! One side alone between an application and a peer that both do anything.

use adit_core::{
    BindId, Code, Command, CommandResult, Config, Duration, Event, Open, Refusal, Session, Side, Unbind,
    frame::{Encoded, Kind},
    side::{Agent, Network},
    testing::{Lone, Puppet, raw},
};
use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::{bind, plausible, stream};

/// One side alone, and an application that does anything.
pub(crate) struct Alone<S: Tested> {
    pub(crate) lone: Lone<S>,
    puppet: Puppet,
    /// What waits for an answer of the application.
    requests: Vec<Event>,
    pub(crate) told: Vec<Event>,
    pub(crate) closed: usize,
}

/// A side that is tested, with what only its application can do.
pub(crate) trait Tested: Side + Sized {
    fn established() -> Lone<Self>;
    fn control(session: &mut Session<Self>, what: u8, request: Option<Event>);
}

impl Tested for Network {
    fn established() -> Lone<Self> {
        Lone::established_network(config())
    }

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
    fn established() -> Lone<Self> {
        Lone::established_agent(config())
    }

    fn control(session: &mut Session<Self>, what: u8, request: Option<Event>) {
        let id = u32::from(what) % 8;
        match request {
            Some(Event::Command(request)) => {
                let result = CommandResult { id: request.id, code: Code::FORBIDDEN, text: String::new() };
                let _ = session.answer(&result);
            }
            _ if what.is_multiple_of(3) => session.unbind(&Unbind::new(BindId(id))),
            _ if what.is_multiple_of(5) => drop(session.withhold(&super::withheld(&format!("tcp://:{id}")))),
            _ => drop(session.bind(&bind(id))),
        }
    }
}

/// Something that happens to it.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Input(Input),
    Wait(u64),
    Open,
    Act(u8, u32),
    Write(u32, usize),
    Control(u8),
    Drain,
}

/// Something that a peer sends.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Frame { kind: Kind, id: u32, number: u64, length: usize },
    Allowed(u8, u32),
    Octets(Vec<u8>),
}

impl<S: Tested> Alone<S> {
    pub(crate) fn new() -> Self {
        let puppet = Puppet::new(S::ROLE.peer(), config().streams, config().window);
        Self { lone: S::established(), puppet, requests: vec![], told: vec![], closed: 0 }
    }

    /// Does it; returns how many frames may have come.
    pub(crate) fn apply(&mut self, step: &Step) -> usize {
        let now = self.lone.now();
        let session = self.lone.session();
        match step {
            Step::Input(input) => {
                let octets = self.octets_of(input);
                self.lone.hear(&octets);
                return octets.len() / 8 + 1;
            }
            Step::Wait(millis) => self.lone.wait(Duration::from_millis(*millis)),
            Step::Open => drop(session.open(Open::default())),
            Step::Act(what, id) => match what % 6 {
                0 => session.accept_stream(stream(*id)),
                1 => drop(session.read(stream(*id), 700)),
                2 => drop(session.finish(stream(*id))),
                3 => session.reset(stream(*id), Code(7)),
                4 => session.stop(stream(*id), Code(8)),
                _ => session.release(stream(*id)),
            },
            Step::Write(id, length) => drop(session.write(stream(*id), &mut Bytes::from(vec![1; *length]))),
            Step::Control(what) => {
                self.collect();
                let request = self.requests.pop();
                S::control(self.lone.session(), *what, request);
            }
            Step::Drain => session.drain(Code::SHUTDOWN, None, "", now),
        }
        1
    }

    /// Takes all that is said, and lets the puppet know.
    pub(crate) fn say(&mut self) -> Vec<Encoded> {
        let said = self.lone.say();
        self.puppet.hear(&said);
        said
    }

    pub(crate) fn octets_of(&mut self, input: &Input) -> Vec<u8> {
        match input {
            Input::Allowed(what, which) => {
                let mut octets = Vec::new();
                if let Some(frame) = self.puppet.say(*what, *which) {
                    frame.write(&mut octets);
                }
                octets
            }
            Input::Frame { kind, id, number, length } => made_up(*kind, *id, *number, *length),
            Input::Octets(octets) => octets.clone(),
        }
    }

    pub(crate) fn collect(&mut self) {
        for event in self.lone.events() {
            self.closed += usize::from(matches!(event, Event::Closed(_)));
            if matches!(event, Event::Bind(_) | Event::Command(_)) {
                self.requests.push(event);
            } else {
                self.told.push(event);
            }
        }
    }

    pub(crate) fn streams(&mut self) -> usize {
        self.lone.session().live_streams()
    }

    pub(crate) fn check(&mut self) -> Result<(), TestCaseError> {
        let now = self.lone.now();
        self.lone.say();
        prop_assert_eq!(self.lone.say(), []);
        prop_assert!(!self.lone.link.wants_transmit(), "L6: it wants to say more and does not");
        self.lone.link.handle_timeout(now);
        let next = self.lone.link.poll_timeout();
        prop_assert!(next.is_none_or(|deadline| deadline.at > now), "L3: {next:?} at {now:?}");
        self.collect();
        prop_assert_eq!(self.lone.events(), []);
        prop_assert!(self.closed <= 1, "L10: two terminal events");
        let (session, config) = (self.lone.session(), config());
        prop_assert!(session.reserved() <= config.pool, "L5");
        let stats = session.stats();
        if session.live_streams() == 0 {
            prop_assert_eq!(
                (session.reserved(), stats.queued),
                (0, 0),
                "END-009: nothing is left of streams that are gone"
            );
        }
        let held = session.reserved() + 7 * u64::from(config.window) + stats.queued + stats.retained;
        prop_assert!(held <= config.worst_case_memory(), "L2: {held}");
        Ok(())
    }
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => input().prop_map(Step::Input),
        2 => prop_oneof![0u64..40, 0u64..9_000].prop_map(Step::Wait),
        2 => Just(Step::Open),
        6 => (any::<u8>(), some_stream()).prop_map(|(what, id)| Step::Act(what, id)),
        3 => (some_stream(), 0usize..5_000).prop_map(|(id, length)| Step::Write(id, length)),
        2 => any::<u8>().prop_map(Step::Control),
        1 => Just(Step::Drain),
    ]
}

pub(crate) fn input() -> impl Strategy<Value = Input> {
    let kind = || prop::sample::select(Kind::ALL);
    let number = prop_oneof![0u64..4, 0u64..5_000, Just(1 << 62), any::<u64>()];
    prop_oneof![
        200 => (any::<u8>(), any::<u32>()).prop_map(|(what, which)| Input::Allowed(what, which)),
        3 => (kind(), some_stream(), number, 0usize..1_500)
            .prop_map(|(kind, id, number, length)| Input::Frame { kind, id, number, length }),
        1 => vec(any::<u8>(), 0..40).prop_map(Input::Octets),
    ]
}

fn some_stream() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 1u32..9, 1 => any::<u32>().prop_map(|id| id.max(1))]
}

fn made_up(kind: Kind, id: u32, number: u64, length: usize) -> Vec<u8> {
    let id = if kind.of_stream() { id } else { 0 };
    let payload = match kind.fixed_length() {
        Some(8) => number.to_be_bytes().to_vec(),
        Some(4) => vec![0, 0, 2, 1],
        Some(_) => vec![],
        None if kind == Kind::Data => vec![5; length.max(1)],
        None => return plausible(kind, id),
    };
    raw(kind.number(), id, &payload)
}

/// Small enough that a test reaches every limit.
pub(crate) fn config() -> Config {
    let mut config = Config::network();
    (config.streams, config.open_streams, config.pool) = (4, 3, 9_000);
    (config.window, config.window_eager, config.window_max) = (2_048, 2_048, 8_192);
    (config.send_stream, config.send_total) = (16_376, 32_768);
    (config.unanswered, config.binds, config.oddities) = (5, 4, 20);
    config
}
