//! A subject at the other end of a TLS connection.

use core::time::Duration;
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    sync::Arc,
    thread,
    time::Instant,
};

use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData, StreamOwned,
    pki_types::ServerName,
};

use crate::{Hope, Subject};

/// A connection to a subject; it knows nothing of the subject's application.
///
/// Time is real here. A scenario's wait that ends in 4 or 9 stops short of a bound, by a margin; every other
/// reaches it.
pub struct Wire {
    stream: Box<dyn Transport>,
    socket: TcpStream,
    patience: Patience,
    closed: bool,
    agreed: bool,
    /// When all the time is over that the scenario let pass, at the earliest and at the latest.
    due: (Instant, Instant),
    /// Until when what comes has come before a bound. Later, nobody can tell.
    bound: Option<Instant>,
    /// What came when nobody could tell.
    late: Vec<u8>,
}

/// How long a wire waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For octets that have to come.
    pub something: Duration,
    /// To see that nothing comes.
    pub nothing: Duration,
}

/// TLS over TCP.
trait Transport: Read + Write + Send {}

impl<T: Read + Write + Send> Transport for T {}

impl Wire {
    /// Speaks TLS as a client on a connection that was made.
    ///
    /// # Errors
    /// Why there is no TLS.
    pub fn client(
        socket: TcpStream,
        tls: &Arc<ClientConfig>,
        name: ServerName<'static>,
        patience: Patience,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
        Self::over(StreamOwned::new(connection, prepared(&socket, patience)?), socket, patience)
    }

    /// Speaks TLS as a server on a connection that was accepted.
    ///
    /// # Errors
    /// Why there is no TLS.
    pub fn server(socket: TcpStream, tls: &Arc<ServerConfig>, patience: Patience) -> io::Result<Self> {
        let connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
        Self::over(StreamOwned::new(connection, prepared(&socket, patience)?), socket, patience)
    }

    /// Offers TLS 1.2 and nothing later, as a client; what is open after that has consented.
    ///
    /// # Errors
    /// Why the socket cannot be used.
    pub fn outdated(socket: TcpStream, patience: Patience) -> io::Result<Self> {
        let mut near = prepared(&socket, patience)?;
        near.write_all(&hello_of_tls_1_2())?;
        let mut first = [0];
        let refused = !near.read(&mut first).is_ok_and(|count| count == 1 && first[0] == HANDSHAKE);
        Ok(Self { closed: refused, ..Self::new(near, socket, patience) })
    }

    /// Returns what is left of a connection on which the subject did not consent to TLS.
    pub fn refused(socket: TcpStream, patience: Patience) -> Self {
        Self { closed: true, ..Self::new(io::Cursor::new(Vec::new()), socket, patience) }
    }

    /// Returns whether both sides agreed on the application protocol.
    pub const fn is_agreed(&self) -> bool {
        self.agreed
    }

    fn over<C, S>(mut stream: StreamOwned<C, TcpStream>, socket: TcpStream, patience: Patience) -> io::Result<Self>
    where
        C: core::ops::DerefMut<Target = ConnectionCommon<S>> + Send + 'static,
        S: SideData + Send + 'static,
        StreamOwned<C, TcpStream>: Read + Write,
    {
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let agreed = stream.conn.alpn_protocol() == Some(ALPN);
        Ok(Self { agreed, ..Self::new(stream, socket, patience) })
    }

    fn new(stream: impl Transport + 'static, socket: TcpStream, patience: Patience) -> Self {
        let (stream, now) = (Box::new(stream), Instant::now());
        let (due, late) = ((now, now), Vec::new());
        Self { stream, socket, patience, closed: false, agreed: false, due, bound: None, late }
    }

    /// Returns what arrives, at the latest at `until`.
    fn receive(&mut self, until: Instant) -> Vec<u8> {
        let Some(bound) = self.bound else {
            return if self.late.is_empty() { self.read(until) } else { core::mem::take(&mut self.late) };
        };
        if bound <= Instant::now() {
            return Vec::new();
        }
        let octets = self.read(until);
        if Instant::now() < bound {
            return octets;
        }
        self.late = octets;
        Vec::new()
    }

    fn read(&mut self, until: Instant) -> Vec<u8> {
        let mut buffer = vec![0; 128 << 10];
        let patience = until.saturating_duration_since(Instant::now()).max(LEAST);
        if self.socket.set_read_timeout(Some(patience)).is_err() {
            self.closed = true;
        }
        match self.stream.read(&mut buffer) {
            Ok(0) => self.closed = true,
            Ok(count) => {
                buffer.truncate(count);
                return buffer;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => self.closed = true,
        }
        Vec::new()
    }
}

impl Subject for Wire {
    fn hear(&mut self, octets: &[u8]) {
        // What the subject does not take because it has closed shows in what it said.
        let _ = self.stream.write_all(octets).and_then(|()| self.stream.flush());
        let now = Instant::now();
        (self.due, self.bound) = ((self.due.0.min(now), now), None);
    }

    fn say(&mut self) -> Vec<u8> {
        self.receive(Instant::now() + LEAST)
    }

    fn wait(&mut self, millis: u64) -> Vec<u8> {
        let time = Duration::from_millis(millis);
        let (earliest, latest) = self.due;
        self.due = (earliest + time, latest.max(Instant::now()) + time);
        // The subject may have begun to count a little before the wire did.
        self.bound = (millis % 5 == 4).then(|| self.due.0 - (time / 4).min(LEEWAY));
        // Nor can it have begun to count before it read them, which may take it a while.
        let until = match self.bound {
            Some(bound) => bound - (time / 20).min(MARGIN),
            None => self.due.1 + (time / 10).min(LEEWAY),
        };
        let mut said = Vec::new();
        while Instant::now() < until && !self.closed {
            said.extend(self.receive(until));
        }
        thread::sleep(until.saturating_duration_since(Instant::now()));
        said
    }

    fn cut(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn more(&mut self, hope: Hope) -> Vec<u8> {
        let now = Instant::now();
        match hope {
            Hope::Something => {
                self.bound = None;
                self.receive(self.due.1.max(now) + self.patience.something)
            }
            Hope::Nothing => self.receive(now + self.patience.nothing),
        }
    }

    fn lacks(&self, requirement: &str) -> Option<String> {
        (requirement == "turns").then(|| "an application of one task: one behind sockets has others".to_owned())
    }
}

impl core::fmt::Debug for Wire {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Wire").field("socket", &self.socket).field("closed", &self.closed).finish_non_exhaustive()
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self { something: Duration::from_secs(5), nothing: Duration::from_millis(30) }
    }
}

fn prepared(socket: &TcpStream, patience: Patience) -> io::Result<TcpStream> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(patience.something))?;
    socket.set_write_timeout(Some(patience.something))?;
    socket.try_clone()
}

/// A ClientHello of TLS 1.2, as old programs send it.
fn hello_of_tls_1_2() -> Vec<u8> {
    let ciphers = [0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x30, 0x00, 0x9c];
    let groups = [0x00, 0x0a, 0, 6, 0, 4, 0x00, 0x1d, 0x00, 0x17];
    let formats = [0x00, 0x0b, 0, 2, 1, 0];
    let signatures = [0x00, 0x0d, 0, 8, 0, 6, 0x04, 0x03, 0x08, 0x04, 0x04, 0x01];
    let protocols = [&[0x00, 0x10, 0, 9, 0, 7, 6][..], ALPN].concat();
    let extensions = [&groups[..], &formats, &signatures, &protocols].concat();
    let mut body = vec![0x03, 0x03];
    body.extend([0x5a; 32]);
    body.push(0); // no session
    body.extend(prefixed(&ciphers));
    body.extend([1, 0]); // no compression
    body.extend(prefixed(&extensions));
    let message = [&[1, 0][..], &prefixed(&body)].concat();
    [&[HANDSHAKE, 0x03, 0x01][..], &prefixed(&message)].concat()
}

/// The octets behind their number, in two octets.
fn prefixed(octets: &[u8]) -> Vec<u8> {
    let [.., high, low] = octets.len().to_be_bytes();
    [&[high, low][..], octets].concat()
}

const HANDSHAKE: u8 = 22;
const ALPN: &[u8] = b"adit/1";
const LEAST: Duration = Duration::from_millis(1);
const MARGIN: Duration = Duration::from_secs(1);
const LEEWAY: Duration = Duration::from_millis(300);
