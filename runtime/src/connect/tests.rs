use alloc::sync::Arc;
use core::future::pending;
use std::sync::Mutex;

use super::*;
use crate::testing::{Nap, Virtual, now, run};

const STAGGER: Duration = Duration::from_millis(250);

#[test]
fn families_take_turns_and_the_preferred_one_begins() {
    let ordered = |list: &[&str]| interleave(list.iter().map(|address| at(address)), 0);

    assert_eq!(
        ordered(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]),
        ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"].map(at)
    );
    assert_eq!(ordered(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]), ["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"].map(at));
    assert!(ordered(&[]).is_empty());
}

#[test]
fn who_begins_at_another_address_goes_round_within_each_family() {
    let list = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].map(at);
    let from = |first| interleave(list.into_iter(), first).into_iter().take(3).collect::<Vec<_>>();

    assert_eq!(from(1), ["[::2]:1", "2.2.2.2:1", "[::3]:1"].map(at));
    assert_eq!(from(4), ["[::2]:1", "1.1.1.1:1", "[::3]:1"].map(at));
    assert_eq!(from(3), from(0)[..1].iter().copied().chain(["2.2.2.2:1", "[::2]:1"].map(at)).collect::<Vec<_>>());
}

#[test]
fn each_address_has_a_head_start_of_a_quarter_second() {
    run(async {
        let (dial, dialed) = recording(|address| match address.port() {
            3 => Ok(Duration::from_millis(10)),
            _ => Err(Duration::MAX),
        });

        let connected = race::<Virtual, _, _>(ports([1, 2, 3, 4]), STAGGER, dial).await;

        assert_eq!(connected, Ok(3));
        assert_eq!(*dialed.lock().unwrap(), [(1, 0), (2, 250), (3, 500)]);
    });
}

#[test]
fn after_a_failure_the_next_address_is_tried_at_once() {
    run(async {
        let (dial, dialed) = recording(|address| match address.port() {
            1 => Err(Duration::from_millis(100)),
            2 => Ok(Duration::from_secs(1)),
            _ => Err(Duration::MAX),
        });

        let connected = race::<Virtual, _, _>(ports([1, 2, 3]), STAGGER, dial).await;

        assert_eq!(connected, Ok(2));
        assert_eq!(*dialed.lock().unwrap(), [(1, 0), (2, 100), (3, 350)]);
    });
}

#[test]
fn a_slow_first_address_may_still_win() {
    run(async {
        let (dial, _) = recording(|address| match address.port() {
            1 => Ok(Duration::from_millis(600)),
            _ => Ok(Duration::from_millis(900)),
        });

        assert_eq!(race::<Virtual, _, _>(ports([1, 2]), STAGGER, dial).await, Ok(1));
    });
}

#[test]
fn when_all_fail_the_most_telling_failure_is_told() {
    run(async {
        let dial = |address: SocketAddr| async move {
            let kind = match address.port() {
                1 => io::ErrorKind::NetworkUnreachable,
                2 => io::ErrorKind::ConnectionRefused,
                _ => io::ErrorKind::TimedOut,
            };
            Err::<u16, _>(kind.into())
        };

        assert_eq!(
            race::<Virtual, _, _>(ports([1, 2, 3]), STAGGER, dial).await,
            Err(ConnectError::Refused { address: at("[::1]:2") })
        );
        assert_eq!(
            race::<Virtual, _, _>(ports([1]), STAGGER, dial).await,
            Err(ConnectError::Unreachable { address: at("[::1]:1") })
        );
    });
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<u16>> + Send>>;
type Record = Arc<Mutex<Vec<(u16, u128)>>>;

/// A dial that does what `plan` says, and the ports and milliseconds at which it was called.
fn recording(plan: impl Fn(SocketAddr) -> Result<Duration, Duration>) -> (impl Fn(SocketAddr) -> Attempt, Record) {
    let (start, dialed) = (now(), Record::default());
    let record = Arc::clone(&dialed);
    let dial = move |address: SocketAddr| -> Attempt {
        record.lock().unwrap().push((address.port(), (now() - start).as_millis()));
        let plan = plan(address);
        Box::pin(async move {
            match plan {
                Ok(delay) => Nap::start(delay).await,
                Err(Duration::MAX) => pending().await,
                Err(delay) => {
                    Nap::start(delay).await;
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
            }
            Ok(address.port())
        })
    };
    (dial, dialed)
}

fn ports<const N: usize>(ports: [u16; N]) -> VecDeque<SocketAddr> {
    ports.map(|port| SocketAddr::new(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]), port)).into()
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}
