//! The laws that hold whatever a peer, a transport and an application do.
#![cfg(feature = "testing")]

mod common;

use adit_core::{
    BindRequest, Cause, Code, Config, Duration, Event, Open, ReadError, Refusal, StreamId, WriteError,
    frame::{Encoded, Kind},
    side,
    testing::{Lone, Options, Pair, Path, Peer, raw},
};
use bytes::Bytes;
use common::{puppet::Puppet, *};
use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// L1, L3, L5 (CREDIT-008), L6, L10, L12: a made-up peer and any application.
    #[test]
    fn nothing_that_arrives_breaks_a_law(steps in vec(step(), 1..80)) {
        let mut alone = Alone::new();
        for step in &steps {
            let heard = alone.apply(step);
            let said = alone.say().len();
            alone.check()?;
            // What is owed is a set: a few frames for each that came, for each stream and each timer.
            prop_assert!(said <= 6 * heard + 8 * alone.streams() + 8, "L12: {said} frames were said to {heard}");
        }
        alone.lone.link.close(Code::NO_ERROR, "", alone.lone.now());
        alone.lone.wait(Duration::from_secs(6));
        alone.check()?;
        prop_assert!(alone.lone.link.is_finished(), "L10: the link did not end");
        prop_assert_eq!(alone.closed, 1, "L10: one terminal event");
        prop_assert_eq!(alone.lone.link.poll_timeout(), None);
    }

    /// L10: a peer that falls silent at any point.
    #[test]
    fn silence_ends_every_link(steps in vec(step(), 0..40)) {
        let mut alone = Alone::new();
        for step in &steps {
            alone.apply(step);
            alone.say();
        }
        alone.lone.wait(Duration::from_secs(60));
        alone.check()?;

        prop_assert!(alone.lone.link.is_finished());
        prop_assert_eq!(alone.closed, 1);
    }

    /// L7: any pieces give the same.
    #[test]
    fn pieces_do_not_matter(steps in vec(input(), 1..40), sizes in vec(1usize..30, 1..20)) {
        let mut model = Alone::new();
        let octets: Vec<u8> = steps.iter().flat_map(|input| model.octets_of(input)).collect();
        let mut whole = Lone::established_network(config());
        whole.hear(&octets);

        let mut pieces = Lone::established_network(config());
        let (mut rest, mut sizes) = (octets.as_slice(), sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            pieces.hear(piece);
            rest = after;
        }

        prop_assert_eq!(whole.cause(), pieces.cause());
        prop_assert_eq!(whole.events(), pieces.events());
        prop_assert_eq!(whole.say(), pieces.say());
    }

    /// L8, L11: polling in another order, or twice, changes nothing; nor does running again.
    #[test]
    fn polls_only_hand_out(steps in vec(step(), 1..60)) {
        let (mut once, mut twice) = (Alone::new(), Alone::new());
        for step in &steps {
            once.apply(step);
            let said = once.say();
            once.collect();

            twice.apply(step);
            let _ = twice.lone.link.poll_timeout();
            twice.collect();
            let _ = (twice.lone.link.wants_transmit(), twice.lone.link.poll_timeout());
            twice.collect();
            prop_assert_eq!(&said, &twice.say());
            twice.collect();
            prop_assert_eq!(once.lone.link.poll_timeout(), twice.lone.link.poll_timeout());
        }
        prop_assert_eq!(format!("{:?}", once.told), format!("{:?}", twice.told));
    }

    /// CODE-004: a frame that ends the session has changed nothing else.
    #[test]
    fn what_is_refused_changes_nothing(steps in vec(step(), 0..40), last in input()) {
        let (mut with, mut without) = (Alone::new(), Alone::new());
        for step in &steps {
            with.apply(step);
            with.say();
            without.apply(step);
            without.say();
        }
        let octets = with.octets_of(&last);
        with.lone.hear(&octets);
        if !matches!(with.lone.cause(), Some(Cause::Violation(_))) || without.lone.cause().is_some() {
            return Ok(());
        }
        let session = |alone: &mut Alone| {
            let session = alone.lone.session();
            (session.live_streams(), session.reserved(), session.processed(), session.stats().data_received)
        };
        prop_assert_eq!(session(&mut with), session(&mut without));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// L2, L4, L5, L9: two sound sides over any wire finish every stream, with every octet as it was written.
    #[test]
    fn every_stream_finishes_whole(
        flows in vec((any::<bool>(), 0usize..40_000, 0usize..40_000), 1..6),
        path in path(),
        write in prop_oneof![1usize..20, 100usize..70_000],
        window in 1_024u32..40_000,
        seed in any::<u64>(),
    ) {
        let small = |mut config: Config| {
            (config.window, config.window_eager, config.window_max) = (window, window, 80_000);
            (config.pool, config.streams, config.open_streams) = (100_000, 16, 16);
            (config.send_stream, config.send_total) = (20_000, 40_000);
            (config.retain_octets, config.retain_frames) = (65_536, 64);
            config
        };
        let options = Options {
            agent: small(Config::agent()),
            network: small(Config::network()),
            up: path.clone(),
            down: path,
            seed,
            resumable: true,
            write,
        };
        let mut pair = Pair::established(options);
        let mut flows: Vec<Flow> = flows.into_iter().map(|flow| Flow::open(&mut pair, flow)).collect();

        for round in 0.. {
            prop_assert!(round < 60_000, "L9: not finished in ten minutes");
            pair.run_for(Duration::from_millis(10));
            prop_assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
            let done = flows.iter_mut().map(|flow| flow.go_on(&mut pair)).filter(|done| *done).count();
            bounded(&mut pair)?;
            if done == flows.len() {
                break;
            }
        }
        pair.run_for(Duration::from_secs(2));

        for flow in &flows {
            flow.check()?;
        }
        for live in [pair.agent.session().stats(), pair.network.session().stats()] {
            prop_assert_eq!((live.streams_live, live.queued, live.retained), (0, 0, 0));
        }
    }

    /// L4: after a cut, what was read is the beginning of what was written.
    #[test]
    fn a_cut_leaves_a_prefix(
        flows in vec((any::<bool>(), 0usize..40_000, 0usize..40_000), 1..5),
        path in path(),
        rounds in 0u32..40,
    ) {
        let options = Options { up: path.clone(), down: path, ..Options::default() };
        let mut pair = Pair::established(options);
        let mut flows: Vec<Flow> = flows.into_iter().map(|flow| Flow::open(&mut pair, flow)).collect();
        for _ in 0..rounds {
            pair.run_for(Duration::from_millis(1));
            flows.iter_mut().for_each(|flow| { flow.go_on(&mut pair); });
        }
        pair.cut();
        for flow in &mut flows {
            flow.go_on(&mut pair);
            flow.check_prefix()?;
        }
        let closed = |event: &&Event| matches!(event, Event::Closed(_));
        prop_assert_eq!(pair.agent.take_events().iter().filter(closed).count(), 1);
        prop_assert_eq!(pair.network.take_events().iter().filter(closed).count(), 1);
    }
}

/// A network alone, and an application that does anything.
struct Alone {
    lone: Lone<side::Network>,
    puppet: Puppet,
    heard: Vec<u8>,
    requests: Vec<BindRequest>,
    told: Vec<Event>,
    closed: usize,
}

/// Something that happens to it.
#[derive(Clone, Debug)]
enum Step {
    Input(Input),
    Wait(u64),
    Open,
    Act(u8, u32),
    Write(u32, usize),
    Answer(bool),
    Drain,
}

/// Something that a peer sends.
#[derive(Clone, Debug)]
enum Input {
    Frame { kind: Kind, id: u32, number: u64, length: usize },
    Allowed(u8, u32),
    Octets(Vec<u8>),
}

impl Alone {
    fn new() -> Self {
        let puppet = Puppet::new(config().streams, config().window);
        let lone = Lone::established_network(config());
        Self { lone, puppet, heard: vec![], requests: vec![], told: vec![], closed: 0 }
    }

    /// Does it; returns how many frames may have come.
    fn apply(&mut self, step: &Step) -> usize {
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
            Step::Answer(yes) => {
                self.collect();
                let session = self.lone.session();
                match (self.requests.pop(), yes) {
                    (Some(request), true) => session.bound(request, "tcp://:1"),
                    (Some(request), false) => {
                        session.reject(request, Refusal { code: Code(1), retry_after: None, text: String::new() });
                    }
                    (None, _) => {}
                }
            }
            Step::Drain => session.drain(Code::SHUTDOWN, None, "", now),
        }
        1
    }

    /// Takes all that is said, and lets the puppet know.
    fn say(&mut self) -> Vec<Encoded> {
        let said = self.lone.say();
        self.puppet.hear(&said);
        said
    }

    fn octets_of(&mut self, input: &Input) -> Vec<u8> {
        let octets = match input {
            Input::Allowed(what, which) => {
                let mut octets = Vec::new();
                if let Some(frame) = self.puppet.say(*what, *which) {
                    frame.write(&mut octets);
                }
                octets
            }
            Input::Frame { kind, id, number, length } => made_up(*kind, *id, *number, *length),
            Input::Octets(octets) => octets.clone(),
        };
        self.heard.extend(&octets);
        octets
    }

    fn collect(&mut self) {
        for event in self.lone.events() {
            self.closed += usize::from(matches!(event, Event::Closed(_)));
            if let Event::Bind(request) = event {
                self.requests.push(request);
            } else {
                self.told.push(event);
            }
        }
    }

    fn streams(&mut self) -> usize {
        self.lone.session().live_streams()
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
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
        let held = session.reserved() + 7 * u64::from(config.window) + stats.queued + stats.retained;
        prop_assert!(held <= config.worst_case_memory(), "L2: {held}");
        Ok(())
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => input().prop_map(Step::Input),
        2 => prop_oneof![0u64..40, 0u64..9_000].prop_map(Step::Wait),
        2 => Just(Step::Open),
        6 => (any::<u8>(), some_stream()).prop_map(|(what, id)| Step::Act(what, id)),
        3 => (some_stream(), 0usize..5_000).prop_map(|(id, length)| Step::Write(id, length)),
        2 => any::<bool>().prop_map(Step::Answer),
        1 => Just(Step::Drain),
    ]
}

fn input() -> impl Strategy<Value = Input> {
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
fn config() -> Config {
    let mut config = Config::network();
    (config.streams, config.open_streams, config.pool) = (4, 3, 9_000);
    (config.window, config.window_eager, config.window_max) = (2_048, 2_048, 8_192);
    (config.send_stream, config.send_total) = (16_376, 32_768);
    (config.unanswered, config.binds, config.oddities) = (5, 4, 20);
    config
}

/// A stream with its two writers and two readers.
struct Flow {
    id: StreamId,
    from_agent: Direction,
    from_network: Direction,
    open: bool,
}

/// One direction as the applications at both its ends see it.
struct Direction {
    octets: Vec<u8>,
    written: usize,
    finished: bool,
    read: Vec<u8>,
    ended: bool,
}

impl Flow {
    fn open(pair: &mut Pair, (by_agent, up, down): (bool, usize, usize)) -> Self {
        let open = Open::default();
        let id = if by_agent { pair.agent.session().open(open) } else { pair.network.session().open(open) };
        let id = id.expect("within the grant");
        Self { id, from_agent: Direction::new(id, up), from_network: Direction::new(id, down), open: true }
    }

    /// Writes and reads what can be; returns whether all is done.
    fn go_on(&mut self, pair: &mut Pair) -> bool {
        if !self.open {
            return true;
        }
        self.from_agent.write(self.id, &mut pair.agent);
        self.from_network.write(self.id, &mut pair.network);
        self.from_agent.read(self.id, &mut pair.network);
        self.from_network.read(self.id, &mut pair.agent);
        let done =
            self.from_agent.finished && self.from_network.finished && self.from_agent.ended && self.from_network.ended;
        if done {
            pair.agent.session().release(self.id);
            pair.network.session().release(self.id);
            self.open = false;
        }
        done
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for direction in [&self.from_agent, &self.from_network] {
            prop_assert!(direction.read == direction.octets, "L4: stream {} is not what was written", self.id);
        }
        Ok(())
    }

    fn check_prefix(&self) -> Result<(), TestCaseError> {
        for direction in [&self.from_agent, &self.from_network] {
            prop_assert!(direction.octets.starts_with(&direction.read), "L4: stream {}", self.id);
            prop_assert!(!direction.ended || direction.read.len() == direction.octets.len(), "L4: an end too early");
        }
        Ok(())
    }
}

impl Direction {
    fn new(id: StreamId, length: usize) -> Self {
        let [.., shift] = id.number().to_be_bytes();
        let octets = (0..=250u8).cycle().map(|octet| octet ^ shift).take(length).collect();
        Self { octets, written: 0, finished: false, read: Vec::new(), ended: false }
    }

    fn write<S: adit_core::Side>(&mut self, id: StreamId, peer: &mut Peer<S>) {
        while self.written < self.octets.len() {
            match peer.write(id, &self.octets[self.written..]) {
                Ok(count) => self.written += count,
                Err(WriteError::Blocked) => return,
                Err(_) => return, // cut, or not there yet
            }
        }
        if !self.finished {
            self.finished = peer.session().finish(id).is_ok();
        }
    }

    fn read<S: adit_core::Side>(&mut self, id: StreamId, peer: &mut Peer<S>) {
        match peer.read(id) {
            Ok((octets, ended)) => {
                self.read.extend(octets);
                self.ended |= ended;
            }
            Err(ReadError::Blocked | ReadError::Closed | ReadError::Lost(_)) => {}
            Err(error) => panic!("stream {id}: {error}"),
        }
    }
}

fn path() -> impl Strategy<Value = Path> {
    let capacity = prop_oneof![200usize..2_000, 2_000usize..300_000];
    let rate = prop::option::of(50_000u64..10_000_000);
    (0u64..80, capacity, 1usize..5_000, rate).prop_map(|(latency, capacity, piece, rate)| Path {
        latency: Duration::from_millis(latency),
        capacity,
        piece,
        rate,
    })
}

fn bounded(pair: &mut Pair) -> Result<(), TestCaseError> {
    for session in [pair.agent.session().stats(), pair.network.session().stats()] {
        prop_assert!(session.queued <= 40_000 + 16 * 16_376, "L2: {} octets are queued", session.queued);
        prop_assert!(session.retained <= 65_536 + 16_384, "L2: {} octets are retained", session.retained);
    }
    let reserved = [pair.agent.session().reserved(), pair.network.session().reserved()];
    prop_assert!(reserved.iter().all(|octets| *octets <= 100_000), "L5: {reserved:?}");
    Ok(())
}
