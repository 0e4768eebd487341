//! An accept loop that goes on: whatever a peer does in its handshake, and however few descriptors are left.

use alloc::boxed::Box;
use core::{
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use std::{fs::File, io, net::TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::{
    Runtime, Sleep, SocketOptions,
    tasks::{Ended, Tasks},
    timer::within,
};

/// How to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// The connections that the kernel keeps until they are accepted: 4,096.
    pub backlog: u32,
    /// The time that a handshake may take: 10 s.
    pub handshake_timeout: Duration,
    /// The connections whose handshake is not complete: 2,000. One more, and the oldest is dropped, so that peers that
    /// are silent cannot keep out those that are not.
    pub half_open: usize,
    /// What each accepted socket is set to.
    pub socket: SocketOptions,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 4_096,
            handshake_timeout: Duration::from_secs(10),
            half_open: 2_000,
            socket: SocketOptions::link(),
        }
    }
}

/// What an [`Intake`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IntakeStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Handshakes that became something.
    pub completed: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Handshakes that took too long.
    pub expired: u64,
    /// Handshakes dropped because there were too many at a time.
    pub shed: u64,
    /// Connections closed unheard because there was no descriptor for them.
    pub turned_away: u64,
    /// Times that accepting failed for want of descriptors or memory, and was paused.
    pub paused: u64,
}

/// Accepts connections and completes what is to be done with each, many at a time, before it hands out the outcome.
///
/// It works while [`Self::next`] is awaited; between two calls new connections wait in the kernel.
pub struct Intake<R: Runtime, T> {
    /// None once it is shut down.
    listener: Option<R::Listener>,
    options: ListenOptions,
    shake: Box<dyn Fn(R::Tcp, SocketAddr) -> Handshake<T> + Send + Sync>,
    handshakes: Tasks<Outcome<T>>,
    spare: Option<File>,
    paused: Option<R::Sleep>,
    /// How long the next pause will be.
    pause: Duration,
    stats: IntakeStats,
}

type Handshake<T> = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

enum Outcome<T> {
    Completed(T),
    Failed,
    Expired,
}

impl<R: Runtime, T: Send + 'static> Intake<R, T> {
    /// Returns an intake for a listener. `shake` makes of a connection what [`Self::next`] hands out, or nothing; it may
    /// panic, and it is dropped at the deadline.
    pub fn new<F>(
        listener: R::Listener,
        options: ListenOptions,
        shake: impl Fn(R::Tcp, SocketAddr) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Option<T>> + Send + 'static,
    {
        Self {
            listener: Some(listener),
            options,
            shake: Box::new(move |tcp, peer| Box::pin(shake(tcp, peer))),
            handshakes: Tasks::new(),
            spare: spare(),
            paused: None,
            pause: PAUSE,
            stats: IntakeStats::default(),
        }
    }

    /// Returns the next outcome; `None` when it is shut down and no handshake is left. Cancel-safe.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Like [`Self::next`], for use in a poll function.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        for _ in 0..TURN {
            let idle = match self.handshakes.poll_next(cx) {
                Poll::Ready(Some(ended)) => {
                    if let Some(completed) = self.conclude(ended) {
                        return Poll::Ready(Some(completed));
                    }
                    continue;
                }
                Poll::Ready(None) => true,
                Poll::Pending => false,
            };
            if let Some(paused) = &mut self.paused {
                if Pin::new(paused).poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.paused = None;
            }
            match &mut self.listener {
                None if idle => return Poll::Ready(None),
                None => return Poll::Pending,
                Some(listener) => match R::poll_accept(listener, cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok((tcp, peer))) => self.admit(tcp, peer),
                    Poll::Ready(Err(error)) => self.endure(&error),
                },
            }
        }
        cx.waker().wake_by_ref(); // others have their turn
        Poll::Pending
    }

    /// Accepts no more. Handshakes under way go on.
    pub fn shutdown(&mut self) {
        (self.listener, self.paused, self.spare) = (None, None, None);
    }

    /// Returns the address it listens on.
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::NotConnected`] once it is shut down.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        R::local_addr(self.listener.as_ref().ok_or(io::ErrorKind::NotConnected)?)
    }

    /// Returns the counters.
    pub const fn stats(&self) -> IntakeStats {
        self.stats
    }

    /// Returns how many handshakes are under way.
    pub fn half_open(&self) -> usize {
        self.handshakes.len()
    }

    fn admit(&mut self, tcp: R::Tcp, peer: SocketAddr) {
        self.stats.accepted += 1;
        self.pause = PAUSE;
        if self.options.socket.apply(R::socket(&tcp)).is_err() {
            self.stats.failed += 1; // gone already
            return;
        }
        if self.handshakes.len() >= self.options.half_open.max(1) {
            self.handshakes.abort_oldest();
            self.stats.shed += 1;
        }
        let limit = self.options.handshake_timeout;
        let shake = (self.shake)(tcp, peer);
        self.handshakes.spawn::<R>(async move {
            match within::<R, _>(limit, shake).await {
                Some(Some(completed)) => Outcome::Completed(completed),
                Some(None) => Outcome::Failed,
                None => Outcome::Expired,
            }
        });
    }

    fn conclude(&mut self, ended: Ended<Outcome<T>>) -> Option<T> {
        match ended {
            Ended::Done(Outcome::Completed(completed)) => {
                self.stats.completed += 1;
                return Some(completed);
            }
            Ended::Done(Outcome::Expired) => self.stats.expired += 1,
            Ended::Done(Outcome::Failed) | Ended::Panicked | Ended::Aborted => self.stats.failed += 1,
        }
        None
    }

    /// Takes an error of the listener. What concerns one connection is over with it; all else is taken for want of
    /// something that time brings back, because an accept loop that ends is an outage.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds of IO errors are many and grow")]
    fn endure(&mut self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::Interrupted => {}
            _ => {
                self.turn_away();
                self.stats.paused += 1;
                self.paused = Some(R::Sleep::start(self.pause));
                self.pause = self.pause.saturating_mul(2).min(MAX_PAUSE);
            }
        }
    }

    /// Gives the descriptor in reserve to the connection that waits, to close it: its peer learns at once what would
    /// else be a silence, and the listener does not stay readable forever.
    fn turn_away(&mut self) {
        if self.spare.take().is_some()
            && let Some(listener) = &mut self.listener
            && let Poll::Ready(Ok((tcp, _))) = R::poll_accept(listener, &mut Context::from_waker(Waker::noop()))
        {
            drop(tcp);
            self.stats.turned_away += 1;
        }
        self.spare = spare();
    }
}

impl<R: Runtime, T> fmt::Debug for Intake<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("listener", &self.listener).field("stats", &self.stats).finish_non_exhaustive()
    }
}

/// Listens on an address, not blocking; a runtime makes its own listener of it. An unspecified IPv6 address takes IPv4 too.
///
/// # Errors
/// What the operating system says: the address is in use, not ours, or not allowed.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Elsewhere the option would let another program take the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if let SocketAddr::V6(v6) = address {
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

/// Takes a descriptor in reserve.
fn spare() -> Option<File> {
    File::open(if cfg!(windows) { "NUL" } else { "/dev/null" }).ok()
}

/// Connections and outcomes before other tasks have their turn.
const TURN: usize = 64;
const PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);
