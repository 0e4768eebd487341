//! The pump over a transport, a clock and an executor that the test moves by hand.

#[allow(dead_code, reason = "each test file uses its part")]
mod rig;

use core::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Wake,
};

use adit_core::{Cause, Code, Config, Duration, driver::StreamHandle};
use bytes::Bytes;
use rig::{Fault, Nobody, Rig};

#[test]
fn octets_that_come_and_go_one_at_a_time_arrive_whole() {
    let rig = Rig::established(1);
    let (near, far) = rig.open();
    let sent: Vec<u8> = (0..20_000_u32).map(|count| count.to_be_bytes()[3]).collect();
    let (mut left, mut received) = (Bytes::from(sent.clone()), Vec::new());

    while !left.is_empty() {
        let _ = near.poll_write(&mut left, &noop());
        rig.run();
        received.extend(rig::read(&far).0);
    }
    near.finish().expect("open");
    rig.run();
    let (rest, ended) = rig::read(&far);
    received.extend(rest);

    assert_eq!(received, sent);
    assert!(ended);
}

#[test]
fn a_pair_that_has_nothing_to_do_sleeps() {
    let rig = Rig::established(usize::MAX);
    rig.run_for(Duration::from_secs(1));
    let before = rig.polls();

    rig.run_for(Duration::from_secs(100));

    let polls = rig.polls() - before;
    assert!(polls <= 100, "{polls} polls for ten heartbeats of two sides");
    assert_eq!(rig.network().cause(), None);
}

#[test]
fn the_last_handle_ends_the_session_however_fast_the_task_runs() {
    let mut rig = Rig::established(usize::MAX);
    let session = rig.network.handle.take();

    // The task may run on another thread before the handle that woke it is quite gone.
    rig.network.run_within_the_wake(|| drop(session));
    rig.run();

    assert!(rig.network.is_gone(), "the task sleeps, and nobody is left who could wake it");
    assert_eq!(rig.agent().cause(), Some(Cause::Remote(rig::close(Code::NO_ERROR, "nobody is left"))));
}

#[test]
fn the_last_stream_ends_the_session_however_fast_the_task_runs() {
    let mut rig = Rig::established(usize::MAX);
    let (near, far) = rig.open();
    far.reset(Code::CANCELLED);
    far.stop(Code::CANCELLED);
    rig.run();
    drop(rig.network.handle.take());
    rig.run();
    assert!(!rig.network.is_gone(), "a stream is a handle of its session");

    rig.network.run_within_the_wake(|| drop(near));
    rig.run();

    assert!(rig.network.is_gone());
}

#[test]
fn a_link_that_is_given_up_before_it_is_secure_is_gone_at_once() {
    let mut rig = Rig::new(usize::MAX);

    drop(rig.network.handle.take());
    rig.network.run();

    assert!(rig.network.is_gone(), "a silent peer holds a descriptor of somebody who has lost interest");
}

#[test]
fn a_link_that_is_silent_is_given_up_at_once_so_that_a_peer_that_hears_learns_of_it() {
    let rig = Rig::new(usize::MAX);
    rig.establish_resumable();

    rig.break_down(0, Fault::Hole); // the agent hears nothing, and the network hears the agent
    rig.run_for(Duration::from_secs(25));

    assert_eq!(rig.aborted(), (true, false));
    assert!(rig.agent.is_gone(), "an end that waits for a peer which does not answer");
    assert!(rig.network.is_gone(), "the network hears of it");
}

#[test]
fn a_link_that_ends_in_order_is_closed_in_order() {
    let rig = Rig::new(usize::MAX);
    rig.establish_resumable();

    rig.agent().close(Code::NO_ERROR, "");
    rig.run_for(Duration::from_secs(2));

    assert_eq!(rig.aborted(), (false, false));
}

/// GO-006
#[test]
fn a_link_whose_last_words_nobody_takes_lets_its_transport_go_in_time() {
    let rig = Rig::new(4_096);
    rig.establish();
    let (near, _far) = rig.open();
    while let Poll::Ready(Ok(_)) = near.poll_write(&mut Bytes::from_static(&[0; 1 << 10]), &noop()) {
        rig.network.run(); // and the agent reads nothing
    }

    rig.network().close(Code::SHUTDOWN, "");
    rig.run_network_for(Duration::from_millis(4_999));
    assert!(!rig.network.is_gone());
    rig.run_network_for(Duration::from_millis(1));

    assert!(rig.network.is_gone(), "a transport that is held for longer than the rule says");
    assert_eq!(rig.aborted(), (false, true));
}

#[test]
fn a_peer_that_hangs_up_and_reads_nothing_is_not_left_to_the_kernel() {
    let rig = Rig::new(4_096);
    rig.establish();
    let (near, _far) = rig.open();
    while let Poll::Ready(Ok(_)) = near.poll_write(&mut Bytes::from_static(&[0; 1 << 10]), &noop()) {
        rig.network.run(); // and the agent reads nothing
    }

    rig.end_up();
    rig.run_network_for(Duration::from_millis(999));
    assert!(!rig.network.is_gone());
    rig.run_network_for(Duration::from_millis(1));

    assert!(rig.network.is_gone());
    assert_eq!(rig.aborted(), (false, true));
}

#[test]
fn a_drain_ends_in_time_also_when_nothing_can_be_sent() {
    let mut config = Config::network();
    (config.retain_frames, config.drain_timeout) = (64, Duration::from_secs(2));
    let rig = Rig::with(usize::MAX, Config::agent(), config);
    rig.establish_resumable();
    let (near, _far) = rig.open();
    for _ in 0..100 {
        let _ = near.poll_write(&mut Bytes::from_static(b"x"), &noop());
        rig.network.run(); // and the agent acknowledges nothing
    }

    rig.network().drain(Code::SHUTDOWN, None, "");
    rig.run_network_for(Duration::from_secs(2));

    assert_eq!(rig.network().cause(), Some(Cause::Local(Code::DRAIN_TIMEOUT)));
}

#[test]
fn who_no_longer_waits_for_the_end_is_forgotten() {
    let rig = Rig::established(usize::MAX);
    let nobody = Arc::new(Nobody);

    for _ in 0..10 {
        let (closed, gone) = (pin!(rig.network().closed()), pin!(rig.network().gone()));
        let waker = Waker::from(Arc::clone(&nobody));
        let mut cx = Context::from_waker(&waker);
        assert!(closed.poll(&mut cx).is_pending());
        assert!(gone.poll(&mut cx).is_pending());
    }

    assert_eq!(Arc::strong_count(&nobody), 1);
}

/// A worker that runs both the task and who reads would else let the peer stand still without credit.
#[test]
fn who_is_woken_has_his_turn_before_the_task_reads_on() {
    let rig = Rig::established(usize::MAX);
    let (near, far) = rig.open();
    let reader = Arc::new(Reader { rig, near, far, turns: Mutex::default() });
    reader.send();
    assert!(reader.far.poll_read(usize::MAX, &Context::from_waker(&Arc::clone(&reader).into())).is_pending());

    while reader.rig.agent.run() | reader.rig.network.run() {}

    let turns = reader.turns.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(turns.len() >= 2 && turns.is_sorted_by(|one, next| one < next), "woken when the task ran: {turns:?}");
}

/// Reads all within the call that wakes it, and lets more come. Remembers how often the task had run each time.
struct Reader {
    rig: Rig,
    near: StreamHandle,
    far: StreamHandle,
    turns: Mutex<Vec<usize>>,
}

impl Reader {
    fn send(&self) {
        let _ = self.near.poll_write(&mut Bytes::from_static(&[7; 10_000]), &noop());
        self.rig.network.run();
    }
}

impl Wake for Reader {
    fn wake(self: Arc<Self>) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.push(self.rig.agent.polls());
        while self.far.poll_read(usize::MAX, &Context::from_waker(&Arc::clone(&self).into())).is_ready() {}
        if turns.len() < 5 {
            self.send();
        }
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
