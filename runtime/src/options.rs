//! What the sockets below a session are set to.

use core::time::Duration;
use std::io;

use socket2::{SockRef, TcpKeepalive};

/// Options of a TCP socket. What a platform does not have is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// Whether small writes leave at once: yes. Nagle's algorithm would hold back what the scheduler has just ordered.
    pub nodelay: bool,
    /// Keep-alive probes for as long as nothing moves: first after 30 s, then every 10 s, three of them.
    /// Where there is a [`Self::user_timeout`], Linux counts that and not the probes: below a [`Self::link`] the heartbeat decides.
    pub keepalive: Option<Keepalive>,
    /// How long the peer may leave octets unacknowledged before the kernel gives up: 60 s, and for a [`Self::link`] a day.
    pub user_timeout: Option<Duration>,
    /// The octets that the kernel takes beyond what is under way: 128 KiB. What waits longer can still be overtaken.
    pub notsent_lowat: Option<u32>,
}

/// When keep-alive probes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The silence before the first probe.
    pub idle: Duration,
    /// The time between two probes.
    pub interval: Duration,
    /// The probes without an answer that end the connection.
    pub retries: u32,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: Some(Keepalive { idle: Duration::from_secs(30), interval: Duration::from_secs(10), retries: 3 }),
            user_timeout: Some(LEFT),
            notsent_lowat: Some(128 << 10),
        }
    }
}

impl SocketOptions {
    /// Returns the options of a socket below a session, which has a heartbeat.
    ///
    /// The kernel must not judge such a connection: it counts from the first octet that it sent again, and as long as there is
    /// always one under way, as where a path that loses some is full, it does not begin anew, however much is acknowledged.
    #[must_use]
    pub fn link() -> Self {
        Self { user_timeout: Some(DAY), ..Self::default() }
    }

    /// Sets the options.
    ///
    /// # Errors
    /// What the operating system says; a connection that is gone already says so here on some.
    pub fn apply<'a>(&self, socket: impl Into<SockRef<'a>>) -> io::Result<()> {
        let socket = socket.into();
        socket.set_tcp_nodelay(self.nodelay)?;
        if let Some(Keepalive { idle, interval, retries }) = self.keepalive {
            let probes = TcpKeepalive::new().with_time(idle).with_interval(interval);
            #[cfg(not(any(windows, target_os = "openbsd")))]
            let probes = probes.with_retries(retries);
            #[cfg(any(windows, target_os = "openbsd"))]
            let _ = retries;
            socket.set_tcp_keepalive(&probes)?;
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            socket.set_tcp_user_timeout(self.user_timeout)?;
            if let Some(octets) = self.notsent_lowat {
                socket.set_tcp_notsent_lowat(octets)?;
            }
        }
        Ok(())
    }
}

/// Leaves a socket that is about to be closed to the kernel, which then has to come to an end by itself.
#[doc(hidden)]
pub fn leave_to_kernel<'a>(socket: impl Into<SockRef<'a>>) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.into().set_tcp_user_timeout(Some(LEFT)); // one that is gone needs no limit
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
}

const LEFT: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Lets a socket be closed by a reset, at once.
#[doc(hidden)]
pub fn reset_when_closed<'a>(socket: impl Into<SockRef<'a>>) {
    let _ = socket.into().set_linger(Some(Duration::ZERO)); // where it cannot be told it is closed as usual
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_options_are_set() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");

        SocketOptions::default().apply(&stream).expect("linux has them all");

        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("an option"));
        assert!(socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), 3);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(Duration::from_secs(60)));
        assert_eq!(socket.tcp_notsent_lowat().expect("an option"), 128 << 10);
    }

    #[test]
    fn the_kernel_judges_no_link_before_it_is_left_to_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("a listener");
        let timeout = || SockRef::from(&stream).tcp_user_timeout().expect("an option");

        SocketOptions::link().apply(&stream).expect("linux has them all");
        assert_eq!(timeout(), Some(Duration::from_secs(86_400)));
        leave_to_kernel(&stream);
        assert_eq!(timeout(), Some(Duration::from_secs(60)));
    }
}
