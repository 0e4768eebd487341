//! Two real sides over wires, links that are lost and resumed, and beside them a model of queues and sets: whatever the
//! sides say must be what the model allows, and in the end what it demands.

mod app;
mod binds;
mod reference;

use adit_core::{
    BindId, Cause, Code, Config, Duration, Instant, Role,
    testing::{Options, Pair, Path},
};

use crate::Choices;
use app::App;
pub(crate) use reference::pattern;

/// Any two applications over any wire and any number of links.
pub fn model(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let mut run = Run::new(&mut choices);
    for _ in 0..MOST_STEPS {
        if choices.is_over() {
            break;
        }
        run.step(&mut choices);
    }
    run.end(&mut choices);
}

/// One run: the sides, and what is known of them.
struct Run {
    app: App,
    /// Since when there is no link.
    cut: Option<Instant>,
}

impl Run {
    fn new(choices: &mut Choices<'_>) -> Self {
        let window = choices.one_of(&[1_024, 2_000, 16_384, 40_000]);
        let (agent, network) = (small(Config::agent(), window), small(Config::network(), window));
        let path = a_path(choices);
        let write = choices.one_of(&[64 << 10, 1, 13, 700]);
        let (up, down, seed) = (path.clone(), path, choices.number());
        let pair = Pair::established(Options { agent, network, up, down, seed, write, ..Options::default() });
        Self { app: App::new(pair), cut: None }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let app = &mut self.app;
        let side = choices.one_of(&[Role::Agent, Role::Network]);
        match choices.number::<u8>() % 24 {
            0 | 1 => app.open(side),
            2..=5 => {
                if let Some(id) = app.pick(side, choices) {
                    app.write(side, id, choices.size(30_000));
                }
            }
            6..=8 => {
                if let Some(id) = app.pick(side, choices) {
                    let most = 1 + choices.size(9_000);
                    app.read(side, id, most);
                }
            }
            9 => app.with_one(side, choices, App::finish),
            10 => app.with_one(side, choices, App::reset),
            11 => app.with_one(side, choices, App::stop),
            12 => app.with_one(side, choices, App::accept),
            13 => app.with_one(side, choices, App::release),
            14 => app.bind(choices),
            15 => app.answer_bind(choices),
            16 => app.give_up_bind(side, choices),
            17 => app.command(side, choices),
            18..=20 => self.wait(Duration::from_millis(choices.size(3_000) as u64)),
            21 => self.lose(choices),
            22 => self.lose_at_resume(Duration::from_millis(choices.size(300) as u64)),
            _ => self.resume(),
        }
        self.app.observe();
        self.app.assert_bounds();
    }

    /// Lets time pass, never so much that a session without a link is given up.
    fn wait(&mut self, time: Duration) {
        let left = self.cut.map_or(time, |since| PATIENCE.saturating_sub(self.app.pair.now().since(since)));
        self.app.pair.run_for(time.min(left));
    }

    /// Loses the link: at once and known to both, or as a hole that takes octets and gives none.
    fn lose(&mut self, choices: &mut Choices<'_>) {
        if self.cut.is_some() {
            return;
        }
        let pair = &mut self.app.pair;
        let way = choices.number::<u8>() % 9;
        if way < 5 {
            pair.cut();
        } else if way == 8 {
            (pair.up.stalled, pair.down.stalled) = (true, true);
            pair.run_for(Duration::from_secs(26));
        } else {
            (pair.up.hole, pair.down.hole) = (way != 6, way != 7);
            for _ in 0..HOLE_SECONDS {
                pair.run_for(Duration::from_secs(1));
                if pair.agent.link.is_parked() {
                    break;
                }
            }
        }
        assert!(pair.agent.link.is_parked(), "HB-004, RES-003: {:?}", pair.agent.cause());
        self.cut = Some(pair.now());
        if way >= 5 {
            self.resume(); // the network has waited longer
        }
    }

    /// The agent asks to resume, and the new link is lost as well, somewhere in the handshake.
    fn lose_at_resume(&mut self, after: Duration) {
        if self.cut.is_some_and(|since| PATIENCE <= self.app.pair.now().since(since) + after) {
            return;
        }
        self.app.pair.redial_in_vain(after);
        let now = self.app.pair.now();
        self.cut.get_or_insert(now);
        let parked = (self.app.pair.agent.link.is_parked(), self.app.pair.network.link.is_parked());
        assert_eq!(parked, (true, true));
    }

    fn resume(&mut self) {
        if self.cut.take().is_some() {
            self.app.pair.resume();
        }
    }

    /// Brings the run to one of the ends that a session has.
    fn end(mut self, choices: &mut Choices<'_>) {
        let end = choices.number::<u8>() % 6;
        if end == 1 {
            return self.expire();
        }
        self.resume();
        match end {
            2 => {
                let side = choices.one_of(&[Role::Agent, Role::Network]);
                self.app.drain(side);
                self.app.finish_all();
                self.app.complete();
                self.app.assert_drained(side);
            }
            3 => {
                let side = choices.one_of(&[Role::Agent, Role::Network]);
                let code = Code(choices.number());
                self.app.close(side, code);
            }
            _ => {
                if end == 4 {
                    self.app.finish_all();
                }
                self.app.complete();
                self.app.assert_nothing_left();
            }
        }
    }

    /// Nobody comes back in time: both sides end on their own, and what had arrived can still be read.
    fn expire(mut self) {
        if self.cut.is_none() {
            self.app.pair.cut();
        }
        self.app.pair.run_for(Duration::from_secs(40));
        self.app.observe_the_end(&Cause::ResumeExpired);
    }
}

/// Small enough that a run reaches every limit.
fn small(mut config: Config, window: u32) -> Config {
    (config.window, config.window_eager, config.window_max) = (window, window, 80_000);
    (config.pool, config.streams, config.open_streams) = (100_000, 8, 8);
    (config.send_stream, config.send_total) = (20_000, 40_000);
    (config.retain_octets, config.retain_frames) = (65_536, 64);
    config.drain_timeout = Duration::from_secs(3_600); // the wires are slow
    config
}

fn a_path(choices: &mut Choices<'_>) -> Path {
    let (latency, capacity, piece, rate) = choices.one_of(&[
        (1, 300_000, usize::MAX, None),
        (0, 200, 17, None),
        (20, 3_000, 100, None),
        (80, 65_536, 1_000, None),
        (5, 65_536, 1_400, Some(1_000_000)),
        (1, 300_000, 100, Some(10_000_000)),
    ]);
    Path { latency: Duration::from_millis(latency), capacity, piece, rate }
}

/// A bind with this number.
pub(crate) fn a_bind(id: BindId) -> adit_core::Bind {
    adit_core::Bind {
        id,
        url: String::from("tcp://:1"),
        pooling: false,
        upstream_protocol: adit_core::UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    }
}

/// What is said of one of five endpoints that are not asked for.
pub(crate) fn a_hint(choices: &mut Choices<'_>) -> adit_core::Withheld {
    let url = format!("tcp://:{}", 1 + choices.number::<u8>() % 5);
    let code = choices.one_of(&[Code::NO_ERROR, Code::DISALLOWED, Code::CERTIFICATE]);
    adit_core::Withheld { code, ..adit_core::Withheld::taken_back(url) }
}

const MOST_STEPS: usize = 300;
/// How long a run leaves a session without a link: less than the 30 s for which it is kept.
const PATIENCE: Duration = Duration::from_secs(20);
/// Both sides notice a hole within this many seconds, the one that is heard last.
const HOLE_SECONDS: usize = 60;
