//! Telling systemd how the agent is: sd_notify(3), which is a datagram to a socket that the environment names.
//!
//! Started is an agent whose endpoints are all bound, or refused with a reason; the watchdog is fed for as long as the loop of the
//! agent turns, not only some timer.

use core::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::{ffi::OsStr, sync::Arc};

use crate::{
    errors::clip,
    status::{Board, SessionState, Status},
};

/// The way to systemd, where it started this process and wants to know.
#[derive(Debug)]
pub(crate) struct Notifier {
    way: way::Way,
    watchdog: Option<Duration>,
    /// Whether it was said that the agent is there: reading a configuration again must not say so before.
    is_ready: AtomicBool,
}

impl Notifier {
    /// Returns the way that the environment names.
    pub(crate) fn from_environment() -> Option<Self> {
        let way = way::Way::to(&std::env::var_os("NOTIFY_SOCKET")?)?;
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_meant = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&time| is_meant && time > 0).map(Duration::from_micros);
        Some(Self { way, watchdog, is_ready: AtomicBool::new(false) })
    }

    /// Tells how the agent is, from its start to its end, for as long as it is polled.
    pub(crate) async fn tell(self: Arc<Self>, status: Arc<Status>) {
        let mut told = Told::default();
        let mut clock = tokio::time::interval(self.pace());
        let begun = tokio::time::Instant::now();
        loop {
            clock.tick().await;
            told.waited = begun.elapsed();
            let text = told.next(&status.board(), status.turns(), self.watchdog.is_some());
            if !text.is_empty() {
                self.way.send(&text);
                self.is_ready.fetch_or(told.is_ready, Ordering::Relaxed);
            }
        }
    }

    /// Tells that a configuration is being read.
    pub(crate) fn reloading(&self) {
        if self.is_ready.load(Ordering::Relaxed) {
            self.way.send(&reloading(way::monotonic()));
        }
    }

    /// Tells what became of reading one.
    pub(crate) fn reloaded(&self, problem: Option<&str>) {
        let status = problem.map(|problem| format!("STATUS=configuration not taken: {}\n", line(problem)));
        if self.is_ready.load(Ordering::Relaxed) {
            self.way.send(&format!("READY=1\n{}", status.unwrap_or_default()));
        }
    }

    /// Tells that open connections are given time to finish.
    pub(crate) fn stopping(&self) {
        self.way.send("STOPPING=1\nSTATUS=ending, connections may finish\n");
    }

    /// Returns how often there may be something to tell: well before the watchdog bites.
    fn pace(&self) -> Duration {
        self.watchdog.map_or(PACE, |watchdog| (watchdog / 4).clamp(Duration::from_millis(10), PACE))
    }
}

/// What systemd knows.
#[derive(Debug, Default)]
struct Told {
    is_ready: bool,
    /// Since the start.
    waited: Duration,
    status: String,
    turns: Option<u64>,
}

impl Told {
    /// Returns what is new, as lines of assignments.
    fn next(&mut self, board: &Board, turns: u64, has_watchdog: bool) -> String {
        let mut text = String::new();
        // A boot is not held up by a network that is away.
        if !self.is_ready && (self.waited >= PATIENCE || is_settled(board)) {
            self.is_ready = true;
            text.push_str("READY=1\n");
        }
        let status = describe(board);
        if status != self.status {
            text.push_str(&format!("STATUS={status}\n"));
            self.status = status;
        }
        // While everything is closed there is nothing to turn.
        if has_watchdog && (self.turns.replace(turns) != Some(turns) || board.session == SessionState::Frozen) {
            text.push_str("WATCHDOG=1\n");
        }
        text
    }
}

/// Returns whether everything is as it can be: each endpoint bound, or refused for a reason that is known.
fn is_settled(board: &Board) -> bool {
    let is_known = |problem: &str| !problem.is_empty();
    let mut endpoints = board.endpoints.iter();
    match board.session {
        SessionState::Frozen => true,
        SessionState::Online => endpoints.all(|one| one.bound || is_known(&one.problem) || is_known(&one.refusal)),
        SessionState::Connecting | SessionState::Reconnecting | SessionState::Draining => false,
    }
}

/// Says in a line how the agent is.
fn describe(board: &Board) -> String {
    let bound = board.endpoints.iter().filter(|endpoint| endpoint.bound).count();
    let endpoints = format!("{bound} of {} endpoints bound", board.endpoints.len());
    let trouble = board.trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
    let refused = board.endpoints.iter().find(|endpoint| !endpoint.bound && !endpoint.problem.is_empty());
    let refused = refused.map(|endpoint| format!("; {}: {}", endpoint.name, endpoint.problem)).unwrap_or_default();
    line(&match board.session {
        SessionState::Connecting => format!("connecting{trouble}"),
        SessionState::Online => format!("online; {endpoints}{refused}"),
        SessionState::Reconnecting => format!("reconnecting{trouble}"),
        SessionState::Draining => "ending, connections may finish".to_owned(),
        SessionState::Frozen => format!("frozen: {}", board.frozen.as_deref().unwrap_or("everything is closed")),
    })
}

/// A new line would begin an assignment of its own.
fn line(text: &str) -> String {
    clip(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn reloading(monotonic: Option<Duration>) -> String {
    let since = monotonic.map(|time| format!("MONOTONIC_USEC={}\n", time.as_micros())).unwrap_or_default();
    format!("RELOADING=1\n{since}")
}

/// How long a boot waits for the network, at most.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often there may be something to tell.
const PACE: Duration = Duration::from_millis(500);

#[cfg(unix)]
mod way {
    use std::os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    };

    use super::{Duration, OsStr};

    /// A socket of the Unix family, by path or by a name of its own kind.
    #[derive(Debug)]
    pub(super) struct Way {
        socket: UnixDatagram,
        to: SocketAddr,
    }

    impl Way {
        pub(super) fn to(name: &OsStr) -> Option<Self> {
            let to = address(name)?;
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(Self { socket, to })
        }

        /// Sends what may be lost: it is told again, or the next one tells it better.
        pub(super) fn send(&self, text: &str) {
            if let Err(error) = self.socket.send_to_addr(text.as_bytes(), &self.to) {
                tracing::debug!(%error, "systemd is not told");
            }
        }
    }

    fn address(name: &OsStr) -> Option<SocketAddr> {
        match name.as_bytes() {
            [b'@', name @ ..] => abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(name).ok(),
            _ => None, // vsock and what else may come
        }
    }

    #[cfg(target_os = "linux")]
    fn abstract_name(name: &[u8]) -> Option<SocketAddr> {
        <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name).ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn abstract_name(_: &[u8]) -> Option<SocketAddr> {
        None
    }

    pub(super) fn monotonic() -> Option<Duration> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Some(Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?))
    }
}

#[cfg(not(unix))]
mod way {
    use super::{Duration, OsStr};

    #[derive(Debug)]
    pub(super) struct Way;

    impl Way {
        pub(super) const fn to(_: &OsStr) -> Option<Self> {
            None
        }

        pub(super) const fn send(&self, _: &str) {}
    }

    pub(super) const fn monotonic() -> Option<Duration> {
        None
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use adit_core::TlsEnd;

    use super::*;
    use crate::status::EndpointState;

    fn board(session: SessionState, endpoints: &[(bool, &str)]) -> Board {
        let endpoint = |&(bound, problem): &(bool, &str)| EndpointState {
            name: "web".into(),
            url: "https://a.example".into(),
            upstream: "localhost:1".into(),
            tls: TlsEnd::Network,
            bound,
            problem: problem.into(),
            told: String::new(),
            refusal: String::new(),
            certificate: None,
            remote: false,
        };
        Board { session, endpoints: endpoints.iter().map(endpoint).collect(), ..Board::default() }
    }

    #[test]
    fn started_is_said_once_and_only_when_every_endpoint_is_bound_or_refused() {
        let table = [
            (SessionState::Connecting, &[(false, "")][..], false),
            (SessionState::Online, &[(true, ""), (false, "")], false),
            (SessionState::Reconnecting, &[(true, "")], false),
            (SessionState::Draining, &[(true, "")], false),
            (SessionState::Online, &[(true, ""), (true, "")], true),
            (SessionState::Online, &[(true, ""), (false, "ADIT-2003: no")], true),
            (SessionState::Frozen, &[(false, "")], true),
        ];
        for (session, endpoints, is_ready) in table {
            let (mut told, board) = (Told::default(), board(session, endpoints));

            assert_eq!(told.next(&board, 0, false).contains("READY=1\n"), is_ready, "{board:?}");
            assert_eq!(told.next(&board, 0, false), "", "nothing new");
        }
    }

    #[test]
    fn a_boot_waits_a_minute_for_a_network_that_is_away_and_is_told_what_is_wrong() {
        let mut told = Told::default();
        let connecting = Board { trouble: Some("ADIT-1103: no answer".into()), ..board(SessionState::Connecting, &[]) };

        assert_eq!(told.next(&connecting, 0, false), "STATUS=connecting: ADIT-1103: no answer\n");
        told.waited = Duration::from_millis(59_999);
        assert_eq!(told.next(&connecting, 0, false), "");
        told.waited = Duration::from_secs(60);
        assert_eq!(told.next(&connecting, 0, false), "READY=1\n");
        assert_eq!(told.next(&connecting, 0, false), "");
    }

    #[test]
    fn what_is_said_is_one_line_whatever_others_write() {
        let mut told = Told::default();
        let board = board(SessionState::Online, &[(true, ""), (false, "no\nREADY=1\nMAINPID=1")]);

        let text = told.next(&board, 0, false);

        assert_eq!(text, "READY=1\nSTATUS=online; 1 of 2 endpoints bound; web: no READY=1 MAINPID=1\n");
    }

    #[test]
    fn the_watchdog_is_fed_only_while_the_loop_turns_or_everything_is_closed() {
        let mut told = Told::default();
        let (online, frozen) = (board(SessionState::Online, &[]), board(SessionState::Frozen, &[]));

        assert!(told.next(&online, 1, true).contains("WATCHDOG=1\n"));
        assert_eq!(told.next(&online, 1, true), "", "it stands still");
        assert_eq!(told.next(&online, 2, true), "WATCHDOG=1\n");
        assert!(told.next(&frozen, 2, true).ends_with("WATCHDOG=1\n"));
        assert_eq!(told.next(&frozen, 2, true), "WATCHDOG=1\n");
        assert_eq!(
            Told::default().next(&online, 7, false),
            "READY=1\nSTATUS=online; 0 of 0 endpoints bound\n",
            "nobody asked for it"
        );
    }

    #[test]
    fn a_reload_says_when_it_began() {
        assert_eq!(reloading(Some(Duration::from_micros(1_234_567))), "RELOADING=1\nMONOTONIC_USEC=1234567\n");
    }

    #[test]
    fn datagrams_go_to_a_path() {
        let path = crate::testing::folder("notify").join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        let way = way::Way::to(path.as_os_str()).unwrap();

        way.send("READY=1\n");

        let mut octets = [0; 64];
        let count = socket.recv(&mut octets).unwrap();
        assert_eq!(&octets[..count], b"READY=1\n");
        assert!(way::Way::to(OsStr::new("vsock:2:1")).is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn datagrams_go_to_an_abstract_name() {
        use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};

        let name = format!("adit-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();

        way::Way::to(OsStr::new(&format!("@{name}"))).unwrap().send("STOPPING=1\n");

        let mut octets = [0; 64];
        let count = socket.recv(&mut octets).unwrap();
        assert_eq!(&octets[..count], b"STOPPING=1\n");
    }
}
