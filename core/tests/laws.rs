//! The laws that hold whatever a peer, a transport and an application do.
#![cfg(feature = "testing")]

mod common;

use adit_core::{
    Cause, Code, Config, Duration, Event, Open, ReadError, StreamId, WriteError,
    side::{Agent, Network},
    testing::{Options, Pair, Path, Peer},
};
use common::alone::{Alone, Input, Step, Tested, input, step};
use proptest::{collection::vec, prelude::*};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// L1, L3, L5 (CREDIT-008), L6, L10, L12: a made-up peer and any application.
    #[test]
    fn nothing_that_arrives_breaks_a_law(steps in vec(step(), 1..80)) {
        lawful::<Network>(&steps)?;
        lawful::<Agent>(&steps)?;
    }

    /// L10: a peer that falls silent at any point.
    #[test]
    fn silence_ends_every_link(steps in vec(step(), 0..40)) {
        ends::<Network>(&steps)?;
        ends::<Agent>(&steps)?;
    }

    /// L7: any pieces give the same.
    #[test]
    fn pieces_do_not_matter(steps in vec(input(), 1..40), sizes in vec(1usize..30, 1..20)) {
        same_in_pieces::<Network>(&steps, &sizes)?;
        same_in_pieces::<Agent>(&steps, &sizes)?;
    }

    /// L8, L11: polling in another order, or twice, changes nothing; nor does running again.
    #[test]
    fn polls_only_hand_out(steps in vec(step(), 1..60)) {
        same_in_any_order::<Network>(&steps)?;
        same_in_any_order::<Agent>(&steps)?;
    }

    /// CODE-004: a frame that ends the session has changed nothing else.
    #[test]
    fn what_is_refused_changes_nothing(steps in vec(step(), 0..40), last in input()) {
        same_but_refused::<Network>(&steps, &last)?;
        same_but_refused::<Agent>(&steps, &last)?;
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
        let options = Options {
            agent: small(Config::agent(), window),
            network: small(Config::network(), window),
            up: path.clone(),
            down: path,
            seed,
            resumable: true,
            write,
        };
        let mut pair = Pair::established(options);
        let mut flows: Vec<Flow> = flows.into_iter().map(|flow| Flow::open(&mut pair, flow)).collect();

        finish(&mut pair, &mut flows)?;
    }

    /// L4 across any number of cut links: every octet once, every end, whatever was on its way, the resume included.
    #[test]
    fn every_stream_finishes_whole_over_many_links(
        flows in vec((any::<bool>(), 0usize..200_000, 0usize..200_000), 1..6),
        path in path(),
        cuts in vec((0u64..300, 0u64..400, any::<bool>()), 1..12),
        write in prop_oneof![1usize..20, 100usize..70_000],
        window in 1_024u32..40_000,
        seed in any::<u64>(),
    ) {
        let (agent, network) = (small(Config::agent(), window), small(Config::network(), window));
        let options = Options { agent, network, up: path.clone(), down: path, seed, write, ..Options::default() };
        let mut pair = Pair::established(options);
        let mut flows: Vec<Flow> = flows.into_iter().map(|flow| Flow::open(&mut pair, flow)).collect();

        for (before, after, lost_at_resume) in cuts {
            pair.run_for(Duration::from_millis(before));
            flows.iter_mut().for_each(|flow| { flow.go_on(&mut pair); });
            if lost_at_resume && pair.agent.link.is_established() {
                pair.redial_in_vain(Duration::from_millis(after / 10));
            } else {
                pair.cut();
            }
            prop_assert_eq!((pair.agent.link.is_parked(), pair.network.link.is_parked()), (true, true));
            flows.iter_mut().for_each(|flow| { flow.go_on(&mut pair); });
            pair.run_for(Duration::from_millis(after));
            pair.resume();
        }
        finish(&mut pair, &mut flows)?;
    }

    /// L11: the same seed and inputs give the same, at every instant.
    #[test]
    fn the_same_happens_again(
        flows in vec((any::<bool>(), 0usize..20_000, 0usize..20_000), 1..5),
        path in path(),
        seed in any::<u64>(),
    ) {
        let options = Options { up: path.clone(), down: path, seed, ..Options::default() };
        let mut pairs = [options.clone(), options].map(Pair::established);
        let mut flows = pairs.each_mut().map(|pair| flows.iter().map(|flow| Flow::open(pair, *flow)).collect::<Vec<_>>());
        for _ in 0..40 {
            let [one, other] = [0, 1].map(|place| {
                let (pair, flows): (&mut Pair, _) = (&mut pairs[place], &mut flows[place]);
                pair.run_for(Duration::from_millis(7));
                let done: Vec<bool> = flows.iter_mut().map(|flow| flow.go_on(pair)).collect();
                let sent = (pair.up.sent(), pair.down.sent(), pair.agent.session().stats());
                (sent, done, pair.agent.take_events(), pair.network.take_events())
            });
            prop_assert_eq!(one, other);
        }
        let [one, other] = pairs.map(|pair| (format!("{:?}", pair.agent.link), format!("{:?}", pair.network.link)));
        prop_assert_eq!(one, other);
    }

    /// L9: a transport that takes one octet at a time is enough, if it takes many.
    #[test]
    fn the_narrowest_wire_is_enough(
        flows in vec((any::<bool>(), 0usize..3_000, 0usize..3_000), 1..5),
        capacity in 1usize..12,
        write in 1usize..12,
    ) {
        let path = Path { latency: Duration::from_millis(1), capacity, piece: 1, rate: None };
        let mut pair = Pair::established(Options { up: path.clone(), down: path, write, ..Options::default() });
        let mut flows: Vec<Flow> = flows.into_iter().map(|flow| Flow::open(&mut pair, flow)).collect();

        let mut left = flows.len();
        for _ in 0..100 {
            pair.run_for(Duration::from_secs(1));
            left = flows.iter_mut().filter_map(|flow| (!flow.go_on(&mut pair)).then_some(())).count();
        }

        prop_assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
        prop_assert_eq!(left, 0, "L9");
        for flow in &flows {
            flow.check()?;
        }
    }

    /// L4: after a cut, what was read is the beginning of what was written.
    #[test]
    fn a_cut_leaves_a_prefix(
        flows in vec((any::<bool>(), 0usize..40_000, 0usize..40_000), 1..5),
        path in path(),
        rounds in 0u32..40,
    ) {
        let options = Options { up: path.clone(), down: path, resumable: false, ..Options::default() };
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

/// A configuration whose limits are soon reached.
fn small(mut config: Config, window: u32) -> Config {
    (config.window, config.window_eager, config.window_max) = (window, window, 80_000);
    (config.pool, config.streams, config.open_streams) = (100_000, 16, 16);
    (config.send_stream, config.send_total) = (20_000, 40_000);
    (config.retain_octets, config.retain_frames) = (65_536, 64);
    config
}

/// L2, L4, L5, L9: every stream finishes with every octet as it was written, and what was taken is given back.
fn finish(pair: &mut Pair, flows: &mut [Flow]) -> Result<(), TestCaseError> {
    for round in 0.. {
        prop_assert!(round < 60_000, "L9: not finished in ten minutes");
        pair.run_for(Duration::from_millis(10));
        prop_assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
        let done = flows.iter_mut().map(|flow| flow.go_on(pair)).filter(|done| *done).count();
        bounded(pair)?;
        if done == flows.len() {
            break;
        }
    }
    pair.run_for(Duration::from_secs(2));

    for flow in flows {
        flow.check()?;
    }
    for live in [pair.agent.session().stats(), pair.network.session().stats()] {
        prop_assert_eq!((live.streams_live, live.queued, live.retained), (0, 0, 0));
    }
    prop_assert_eq!((pair.agent.session().reserved(), pair.network.session().reserved()), (0, 0), "L5: given back");
    Ok(())
}

fn lawful<S: Tested>(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut alone = Alone::<S>::new();
    for step in steps {
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
    Ok(())
}

fn ends<S: Tested>(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut alone = Alone::<S>::new();
    for step in steps {
        alone.apply(step);
        alone.say();
    }
    alone.lone.wait(Duration::from_secs(60));
    alone.check()?;

    prop_assert!(alone.lone.link.is_finished());
    prop_assert_eq!(alone.closed, 1);
    Ok(())
}

fn same_in_pieces<S: Tested>(steps: &[Input], sizes: &[usize]) -> Result<(), TestCaseError> {
    let mut model = Alone::<S>::new();
    let octets: Vec<u8> = steps.iter().flat_map(|input| model.octets_of(input)).collect();
    let (mut whole, mut pieces) = (S::established(), S::established());
    whole.hear(&octets);

    let (mut rest, mut sizes) = (octets.as_slice(), sizes.iter().cycle());
    while let Some(size) = sizes.next().filter(|_| !rest.is_empty()) {
        let (piece, after) = rest.split_at(rest.len().min(*size));
        pieces.hear(piece);
        rest = after;
    }

    prop_assert_eq!(whole.cause(), pieces.cause());
    prop_assert_eq!(whole.events(), pieces.events());
    prop_assert_eq!(whole.say(), pieces.say());
    Ok(())
}

fn same_in_any_order<S: Tested>(steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut once, mut twice) = (Alone::<S>::new(), Alone::<S>::new());
    for step in steps {
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
    Ok(())
}

fn same_but_refused<S: Tested>(steps: &[Step], last: &Input) -> Result<(), TestCaseError> {
    let (mut with, mut without) = (Alone::<S>::new(), Alone::<S>::new());
    for step in steps {
        with.apply(step);
        with.say();
        without.apply(step);
        without.say();
    }
    let octets = with.octets_of(last);
    with.lone.hear(&octets);
    if !matches!(with.lone.cause(), Some(Cause::Violation(_))) || without.lone.cause().is_some() {
        return Ok(());
    }
    let session = |alone: &mut Alone<S>| {
        let session = alone.lone.session();
        (session.live_streams(), session.reserved(), session.processed(), session.stats().data_received)
    };
    prop_assert_eq!(session(&mut with), session(&mut without));
    Ok(())
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
