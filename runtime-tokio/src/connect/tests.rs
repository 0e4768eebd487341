use core::{future::pending, pin::Pin};
use std::sync::{Arc, Mutex};

use tokio::{net::TcpListener, time::sleep};

use super::*;

const STAGGER: Duration = Duration::from_millis(250);

#[test]
fn families_take_turns_and_the_preferred_one_begins() {
    let ordered = |list: &[&str]| interleave(list.iter().map(|address| at(address)));

    assert_eq!(
        ordered(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]),
        ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"].map(at)
    );
    assert_eq!(ordered(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]), ["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"].map(at));
    assert!(ordered(&[]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_address_has_a_head_start_of_a_quarter_second() {
    let (dial, dialed) = recording(|address| match address.port() {
        3 => Ok(Duration::from_millis(10)),
        _ => Err(Duration::MAX),
    });

    let connected = race(ports([1, 2, 3, 4]), STAGGER, dial).await;

    assert_eq!(connected, Ok(3));
    assert_eq!(*dialed.lock().unwrap(), [(1, 0), (2, 250), (3, 500)]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_next_address_is_tried_at_once() {
    let (dial, dialed) = recording(|address| match address.port() {
        1 => Err(Duration::from_millis(100)),
        2 => Ok(Duration::from_secs(1)),
        _ => Err(Duration::MAX),
    });

    let connected = race(ports([1, 2, 3]), STAGGER, dial).await;

    assert_eq!(connected, Ok(2));
    assert_eq!(*dialed.lock().unwrap(), [(1, 0), (2, 100), (3, 350)]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_first_address_may_still_win() {
    let (dial, _) = recording(|address| match address.port() {
        1 => Ok(Duration::from_millis(600)),
        _ => Ok(Duration::from_millis(900)),
    });

    assert_eq!(race(ports([1, 2]), STAGGER, dial).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn when_all_fail_the_most_telling_failure_is_told() {
    let dial = |address: SocketAddr| async move {
        let kind = match address.port() {
            1 => io::ErrorKind::NetworkUnreachable,
            2 => io::ErrorKind::ConnectionRefused,
            _ => io::ErrorKind::TimedOut,
        };
        Err::<u16, _>(kind.into())
    };

    assert_eq!(race(ports([1, 2, 3]), STAGGER, dial).await, Err(ConnectError::Refused { address: at("[::1]:2") }));
    assert_eq!(race(ports([1]), STAGGER, dial).await, Err(ConnectError::Unreachable { address: at("[::1]:1") }));
}

#[tokio::test]
async fn a_name_is_resolved_and_the_socket_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();

    for host in ["localhost", "127.0.0.1"] {
        let stream = connect(host, port, &ConnectOptions::default()).await.expect(host);
        assert!(stream.nodelay().unwrap());
    }
}

#[tokio::test]
async fn an_ipv6_address_may_stand_in_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().unwrap().port();

    for host in ["[::1]", "::1"] {
        connect(host, port, &ConnectOptions::default()).await.expect(host);
    }
}

#[tokio::test]
async fn a_port_without_a_listener_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);

    let error = connect("127.0.0.1", address.port(), &ConnectOptions::default()).await.unwrap_err();

    assert_eq!(error, ConnectError::Refused { address });
    assert_eq!(error.to_string(), format!("{address} refused the connection"));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_said_to_be_that() {
    let error = connect("does-not-exist.invalid", 1, &ConnectOptions::default()).await.unwrap_err();

    assert!(matches!(&error, ConnectError::Resolve { host, .. } if host == "does-not-exist.invalid"), "{error:?}");
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<u16>> + Send>>;
type Record = Arc<Mutex<Vec<(u16, u128)>>>;

/// A dial that does what `plan` says, and the ports and milliseconds at which it was called.
fn recording(plan: impl Fn(SocketAddr) -> Result<Duration, Duration>) -> (impl Fn(SocketAddr) -> Attempt, Record) {
    let (start, dialed) = (Instant::now(), Record::default());
    let record = Arc::clone(&dialed);
    let dial = move |address: SocketAddr| -> Attempt {
        record.lock().unwrap().push((address.port(), start.elapsed().as_millis()));
        let plan = plan(address);
        Box::pin(async move {
            match plan {
                Ok(delay) => sleep(delay).await,
                Err(Duration::MAX) => pending().await,
                Err(delay) => {
                    sleep(delay).await;
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
