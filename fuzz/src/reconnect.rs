//! The part of an agent that outlives its sessions: any network, any order of news, any time.

use std::collections::{BTreeMap, BTreeSet};

use adit_core::{
    Action, BindId, BindRefusal, Bound, Code, Duration, GoAway, Instant, Notice, ReconnectPolicy, Refusal, Retry,
    Unbind, Uplink,
};

use crate::Choices;

/// One dial at a time, delays that are bounded both ways, binds asked for once, and an end that is one.
pub fn reconnect(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let targets = choices.between(0, 3);
    let now = Instant::from_nanos(1_000_000_000);
    let uplink = Uplink::new(targets, ReconnectPolicy::default(), choices.number(), now);
    let mut run = Run { uplink, now, targets, ..Run::new(now) };
    run.obey();
    for _ in 0..400 {
        if choices.is_over() {
            break;
        }
        run.step(&mut choices);
        run.obey();
        run.check();
    }
    run.end();
}

/// An uplink, and what a driver knows.
struct Run {
    uplink: Uplink,
    now: Instant,
    targets: usize,
    /// The dial in progress, and the session that it is to resume.
    dial: Option<(u64, Option<u64>)>,
    /// Sessions that live, by attempt: what binds each was asked for.
    sessions: BTreeMap<u64, BTreeSet<u32>>,
    /// What each session was told of what is withheld.
    told: BTreeMap<u64, BTreeMap<String, Code>>,
    /// The dial beside a silent link, and how far it is.
    beside: Option<(u64, Beside)>,
    /// The session whose link is silent.
    silent: Option<u64>,
    /// Whether one was offered to be resumed.
    offered: BTreeSet<u64>,
    draining: BTreeSet<u64>,
    suspended: BTreeSet<u64>,
    last: u64,
    dials: Vec<Instant>,
    wishes: BTreeSet<u32>,
    over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Connecting,
    Connected,
    Securing,
    Secured,
    Moving,
}

impl Run {
    fn new(now: Instant) -> Self {
        Self {
            uplink: Uplink::new(0, ReconnectPolicy::default(), 0, now),
            now,
            targets: 0,
            dial: None,
            beside: None,
            silent: None,
            sessions: BTreeMap::new(),
            told: BTreeMap::new(),
            offered: BTreeSet::new(),
            draining: BTreeSet::new(),
            suspended: BTreeSet::new(),
            last: 0,
            dials: Vec::new(),
            wishes: BTreeSet::new(),
            over: false,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let now = self.now;
        let attempt = self.some_attempt(choices);
        match choices.number::<u8>() % 18 {
            0 | 1 => self.answer(choices),
            2 => self.fail_dial(choices),
            3 => self.lose(attempt, choices),
            4 => self.suspend(attempt, choices),
            5 => {
                let offered = choices.coin();
                self.uplink.handle_offer(attempt, offered);
                if offered {
                    self.offered.insert(attempt)
                } else {
                    self.offered.remove(&attempt)
                };
            }
            6 => {
                let notice =
                    GoAway { last: 0, code: a_code(choices), retry_after: a_delay(choices), text: String::new() };
                if self.dial.is_none_or(|(dial, _)| dial != attempt) {
                    self.uplink.handle_goaway(attempt, &notice, now);
                }
                if self.sessions.contains_key(&attempt) {
                    self.draining.insert(attempt);
                }
            }
            7 => self.uplink.handle_network_change(now),
            8 if choices.coin() => self.uplink.withhold(crate::model::a_hint(choices), now),
            8 => {
                let id = self.uplink.bind(crate::model::a_bind(BindId(0)), now);
                assert!(self.wishes.insert(id.0), "each wish has its own number");
            }
            9 => {
                let id = BindId(choices.number::<u8>().into());
                self.wishes.remove(&id.0);
                self.uplink.unbind(Unbind::new(id).cutting(choices.coin()), now);
            }
            10 => self.answer_bind(attempt, choices),
            11 => self.stale(choices),
            12 if choices.number::<u8>() < 30 => {
                self.uplink.shutdown(Duration::from_millis(choices.size(60_000) as u64), now);
            }
            14 => self.fall_silent(attempt),
            15 => self.speak(attempt),
            12 | 13 => self.pass(Duration::from_millis(choices.size(40_000) as u64)),
            _ => {
                if let Some(deadline) = self.uplink.poll_timeout() {
                    self.now = self.now.max(deadline.at);
                    self.uplink.handle_timeout(self.now);
                }
            }
        }
    }

    /// The dial comes out well.
    fn answer(&mut self, choices: &mut Choices<'_>) {
        let beside = self.beside.filter(|(beside, _)| self.dial.is_some_and(|(dial, _)| dial == *beside));
        if let Some((attempt, stage)) = beside.filter(|(_, stage)| *stage != Beside::Moving) {
            match stage {
                Beside::Connecting => {
                    self.beside = Some((attempt, Beside::Connected));
                    self.uplink.handle_connected(attempt, self.now);
                }
                Beside::Securing => {
                    self.beside = Some((attempt, Beside::Secured));
                    self.uplink.handle_secured(attempt, self.now);
                }
                Beside::Connected | Beside::Secured | Beside::Moving => {} // it waits for consent
            }
            return;
        }
        let Some((attempt, resumes)) = self.dial.take() else { return };
        match resumes {
            Some(session) => {
                self.suspended.remove(&session);
                self.silent.take_if(|silent| *silent == session);
                self.uplink.handle_resumed(attempt, self.now);
            }
            None => {
                self.sessions.insert(attempt, BTreeSet::new());
                self.uplink.handle_established(attempt, self.now);
            }
        }
        if choices.coin() {
            let current = resumes.unwrap_or(attempt);
            self.uplink.handle_offer(current, true);
            self.offered.insert(current);
        }
    }

    fn fall_silent(&mut self, attempt: u64) {
        if self.sessions.contains_key(&attempt) && self.silent.is_none() {
            self.silent = Some(attempt);
            self.uplink.handle_silence(attempt, self.now);
        }
    }

    fn speak(&mut self, attempt: u64) {
        if self.silent.take_if(|silent| *silent == attempt).is_some() {
            self.uplink.handle_sound(attempt, self.now);
        }
    }

    fn fail_dial(&mut self, choices: &mut Choices<'_>) {
        let Some((attempt, _)) = self.dial.take() else { return };
        self.uplink.handle_closed(attempt, a_retry(choices), self.now);
    }

    fn lose(&mut self, attempt: u64, choices: &mut Choices<'_>) {
        if self.sessions.remove(&attempt).is_some() {
            self.silent.take_if(|silent| *silent == attempt);
            self.uplink.handle_closed(attempt, a_retry(choices), self.now);
        }
    }

    fn suspend(&mut self, attempt: u64, choices: &mut Choices<'_>) {
        if self.sessions.contains_key(&attempt) && self.offered.contains(&attempt) {
            let current = self.uplink.current() == Some(attempt);
            let news = self.uplink.handle_suspended(attempt, a_retry(choices), self.now);
            assert!(!news || current, "a session that is not current is not resumed");
            if news {
                assert!(self.suspended.insert(attempt), "told twice");
                self.silent.take_if(|silent| *silent == attempt);
            }
        }
    }

    fn answer_bind(&mut self, attempt: u64, choices: &mut Choices<'_>) {
        let id = BindId(u32::from(choices.number::<u8>() % 20));
        let refusal = Refusal { code: a_code(choices), retry_after: a_delay(choices), text: String::new() };
        let no = BindRefusal { id, refusal };
        let answer = choices.number::<u8>() % 3;
        if let Some(asked) = self.sessions.get_mut(&attempt).filter(|_| answer > 0) {
            asked.remove(&id.0); // one that is in force is not asked for again
        }
        match answer {
            0 => {
                let bound = Bound { id, url: String::from("tcp://:1"), tls_end: Default::default() };
                self.uplink.handle_bound(attempt, &bound, self.now);
            }
            1 => self.uplink.handle_rejected(attempt, no, self.now),
            _ => self.uplink.handle_unbound(attempt, no, self.now),
        }
    }

    /// News of what is long gone changes nothing that can be seen.
    fn stale(&mut self, choices: &mut Choices<'_>) {
        let attempt = choices.long(0, self.last);
        if self.sessions.contains_key(&attempt) || self.dial.is_some_and(|(dial, _)| dial == attempt) {
            return;
        }
        let current = self.uplink.current();
        match choices.number::<u8>() % 3 {
            0 => self.uplink.handle_closed(attempt, a_retry(choices), self.now),
            1 => assert!(!self.uplink.handle_suspended(attempt, a_retry(choices), self.now)),
            _ => self.uplink.handle_resumed(attempt, self.now),
        }
        assert_eq!(self.uplink.current(), current);
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        // As a driver that sleeps: late, and once.
        self.now = until;
        self.uplink.handle_timeout(until);
    }

    /// Does what is to be done, as a driver; what it may not ask for panics.
    fn obey(&mut self) {
        let mut count = 0;
        while let Some(action) = self.uplink.poll_action() {
            count += 1;
            assert!(count < 1_000, "no end of actions");
            assert!(!self.over, "after the last action: {action:?}");
            match action {
                Action::Dial { attempt, target } => self.dial(attempt, None, target),
                Action::Resume { attempt, session, target } => {
                    assert!(self.sessions.contains_key(&session), "there is no session {session}");
                    assert!(self.offered.contains(&session) || self.suspended.contains(&session), "nobody offered it");
                    assert_eq!(self.uplink.current(), Some(session), "only the current session is resumed");
                    self.dial(attempt, Some(session), target);
                }
                Action::StandBy { attempt, session, target } => {
                    assert!(self.offered.contains(&session), "nobody offered it");
                    assert!(self.silent == Some(session), "its link speaks, or is lost");
                    assert_eq!(self.uplink.current(), Some(session), "only the current session has another way");
                    self.dial(attempt, Some(session), target);
                    self.beside = Some((attempt, Beside::Connecting));
                }
                Action::Proceed { attempt } => {
                    assert!(self.dial.is_some_and(|(dial, _)| dial == attempt), "there is no dial {attempt}");
                    let stage = match self.beside {
                        Some((beside, Beside::Connected)) if beside == attempt => Beside::Securing,
                        Some((beside, Beside::Secured)) if beside == attempt => Beside::Moving,
                        other => panic!("{attempt} is allowed a step, and {other:?} is there"),
                    };
                    assert!(self.silent.is_some(), "its link speaks");
                    self.beside = Some((attempt, stage));
                }
                Action::Hangup { attempt } => {
                    self.dial = self.dial.filter(|(dial, _)| *dial != attempt);
                    self.sessions.remove(&attempt);
                }
                Action::Bind { attempt, bind } => {
                    assert!(self.wishes.contains(&bind.id.0), "nobody wishes for {:?}", bind.id);
                    if let Some(asked) = self.sessions.get_mut(&attempt) {
                        assert!(asked.insert(bind.id.0), "{:?} is asked for twice", bind.id);
                        assert!(asked.len() <= 120, "BIND-007");
                    }
                    assert!(!self.draining.contains(&attempt), "a session that drains is asked for nothing");
                }
                Action::Unbind { attempt, unbind } => {
                    if let Some(asked) = self.sessions.get_mut(&attempt) {
                        asked.remove(&unbind.id.0);
                    }
                }
                Action::Withhold { attempt, withheld } => {
                    assert_eq!(self.uplink.current(), Some(attempt));
                    let told = self.told.entry(attempt).or_default();
                    let code = (withheld.code != Code::NO_ERROR).then_some(withheld.code);
                    let before = match code {
                        Some(code) => told.insert(withheld.url, code),
                        None => told.remove(&withheld.url),
                    };
                    assert_ne!(before, code, "said again, or taken back and not said");
                }
                Action::Drain { attempt } => drop(self.draining.insert(attempt)),
                Action::GiveUp(_) => self.over = true,
            }
        }
        while let Some(notice) = self.uplink.poll_notice() {
            match notice {
                Notice::Rejected { retry_in, .. } | Notice::Unbound { retry_in, .. } => {
                    assert!(retry_in >= Duration::from_millis(500) && retry_in <= LONGEST, "{retry_in:?}");
                }
                Notice::Draining { .. } | Notice::Bound { .. } => {}
            }
        }
    }

    fn dial(&mut self, attempt: u64, resumes: Option<u64>, target: usize) {
        assert!(self.dial.is_none(), "two dials at once: {attempt} beside {:?}", self.dial);
        assert!(attempt > self.last, "a number is used again");
        assert!(target < self.targets, "there is no target {target}");
        self.last = attempt;
        self.dial = Some((attempt, resumes));
        self.dials.push(self.now);
        let lately = self.dials.iter().rev().take_while(|at| self.now.since(**at) < Duration::from_secs(1)).count();
        assert!(lately <= MOST_A_SECOND, "{lately} dials in a second");
    }

    fn check(&mut self) {
        self.uplink.handle_timeout(self.now);
        assert_eq!(self.uplink.poll_action(), None, "a time that is handled is handled");
        let next = self.uplink.poll_timeout();
        assert!(next.is_none_or(|deadline| deadline.at > self.now), "L3: {next:?} at {:?}", self.now);
        if let Some(current) = self.uplink.current() {
            assert!(self.sessions.contains_key(&current), "the current session is gone");
        }
        if let Some(wait) = self.uplink.redial_in(self.now) {
            assert!(wait <= LONGEST, "it would not come back for {wait:?}");
        }
        // Without a session that lives, somebody dials or will.
        let lives = self.uplink.current().is_some_and(|current| !self.suspended.contains(&current));
        if !lives && !self.over && self.dial.is_none() {
            assert!(next.is_some(), "it waits for nothing");
        }
    }

    /// Whatever went before, an end is asked for and comes in time.
    fn end(mut self) {
        self.uplink.shutdown(Duration::from_secs(5), self.now);
        self.obey();
        assert!(self.dial.is_none(), "a dial goes on after the end");
        self.pass(Duration::from_secs(6));
        self.obey();
        assert!(self.over, "it has not given up");
        assert_eq!(self.uplink.poll_timeout(), None);
        assert!(self.sessions.keys().all(|attempt| self.uplink.current() != Some(*attempt)));
        self.uplink.handle_network_change(self.now);
        self.pass(Duration::from_secs(600));
        assert_eq!(self.uplink.poll_action(), None, "over is over");
    }

    /// Returns an attempt that made a session, mostly.
    fn some_attempt(&self, choices: &mut Choices<'_>) -> u64 {
        let live: Vec<u64> = self.sessions.keys().copied().collect();
        match live.last() {
            Some(last) if choices.number::<u8>() < 180 => *last,
            Some(_) => choices.one_of(&live),
            None => choices.long(0, self.last),
        }
    }
}

fn a_retry(choices: &mut Choices<'_>) -> Retry {
    let after = Retry::After(Duration::from_millis(choices.size(400_000) as u64));
    if choices.coin() {
        return Retry::session(a_code(choices), a_delay(choices));
    }
    choices.one_of(&[Retry::Backoff, Retry::Soon, Retry::Now, Retry::Never, after])
}

fn a_code(choices: &mut Choices<'_>) -> Code {
    choices.one_of(Code::ALL).0
}

fn a_delay(choices: &mut Choices<'_>) -> Option<Duration> {
    choices.maybe(|choices| Duration::from_millis(choices.size(400_000) as u64))
}

/// The longest that a peer may ask to wait, and a tenth.
const LONGEST: Duration = Duration::from_secs(330);
/// A delay is at least 100 ms, but for one at once after a session that lasted.
const MOST_A_SECOND: usize = 14;
