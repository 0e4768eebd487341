//! Who may ask, and how much at once.

use core::{
    future::Future,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use adit_core::Secret;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Sources, answer,
    http::{Answer, Asked},
};
use crate::errors::Fault;

/// What decides who may ask.
#[derive(Debug)]
pub(super) enum Gate {
    /// The mode of the socket's file. Where it is for its owner alone, the users who may be seen to ask are these.
    #[cfg(unix)]
    Files(Option<[u32; 2]>),
    /// What the system gives a named pipe without a word: its user, administrators and the system write, others only read; and who
    /// cannot write cannot ask.
    #[cfg(windows)]
    Pipe,
    /// A secret, and the names by which the address may be called: a page of a browser that has been led here by a name of its
    /// own does not have them.
    Token { token: Secret, hosts: Vec<String> },
}

impl Gate {
    #[cfg(unix)]
    pub(super) fn files(mode: crate::config::SocketMode) -> Self {
        let owner = mode == crate::config::SocketMode::Owner;
        Self::Files(owner.then(|| [0, rustix::process::geteuid().as_raw()]))
    }

    pub(super) fn token(token: Secret, address: SocketAddr) -> Self {
        let port = address.port();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned(), bracketed(address.ip())];
        let hosts = names.iter().map(|name| format!("{name}:{port}"));
        let bare = names.iter().filter(|_| port == 80).cloned();
        Self::Token { token, hosts: hosts.chain(bare).collect() }
    }

    /// Decides about a question.
    fn check(&self, asked: &Asked) -> Result<(), Answer> {
        let refuse = |status, detail| Err(Answer::refusal(status, Fault::LocalForbidden, detail));
        if asked.has_origin {
            return refuse(403, "pages of browsers may not ask");
        }
        match self {
            #[cfg(unix)]
            Self::Files(_) => Ok(()),
            #[cfg(windows)]
            Self::Pipe => Ok(()),
            Self::Token { token, hosts } => {
                let known = matches!(asked.hosts.as_slice(), [host] if hosts.contains(host));
                match &asked.token {
                    _ if !known => refuse(421, "that is not the name of this address"),
                    Some(given) if given == token => Ok(()),
                    Some(_) => refuse(401, "the token is another"),
                    None => refuse(401, "there is no token: Authorization: Bearer …"),
                }
            }
        }
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// What can be accepted at.
pub(super) trait Listener: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept_one(&mut self, gate: &Gate) -> impl Future<Output = io::Result<Option<Self::Stream>>> + Send;
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept_one(&mut self, _: &Gate) -> io::Result<Option<Self::Stream>> {
        Ok(Some(self.accept().await?.0))
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept_one(&mut self, gate: &Gate) -> io::Result<Option<Self::Stream>> {
        let stream = self.accept().await?.0;
        let Gate::Files(Some(users)) = gate else { return Ok(Some(stream)) };
        // The mode of the file keeps others out; where a system does not look at it, this does.
        let user = stream.peer_cred()?.uid();
        Ok(users.contains(&user).then_some(stream))
    }
}

/// Answers until `stopped`.
pub(super) async fn serve(
    mut listener: impl Listener,
    gate: Arc<Gate>,
    sources: Arc<Sources>,
    mut stopped: watch::Receiver<bool>,
) {
    let (seats, lobby) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Lobby::default());
    let patient = Arc::new(Semaphore::new(MAX_PATIENT));
    let mut talks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Some(_) = talks.join_next(), if !talks.is_empty() => continue,
            accepted = listener.accept_one(&gate) => accepted,
        };
        let stream = match accepted {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(_) => {
                sleep(Duration::from_millis(100)).await; // no file is left, most likely
                continue;
            }
        };
        let seat = match Arc::clone(&seats).try_acquire_owned() {
            Ok(seat) => seat,
            Err(_) => {
                lobby.make_room();
                let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { break };
                seat
            }
        };
        let (visitor, shown_out) = lobby.enter();
        let (gate, sources, patient) = (Arc::clone(&gate), Arc::clone(&sources), Arc::clone(&patient));
        talks.spawn(async move {
            tokio::select! {
                biased;
                Ok(()) = shown_out => {}
                () = talk(stream, &gate, &sources, (&visitor, &patient)) => {}
            }
            drop((visitor, seat));
        });
    }
    talks.shutdown().await;
}

/// Hears one question and answers it.
async fn talk<S>(mut stream: S, gate: &Gate, sources: &Sources, (visitor, patient): (&Visitor, &Arc<Semaphore>))
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (answer, is_read) = match timeout(HEAD, hear(&mut stream)).await {
        Err(_) => (Answer::refusal(408, Fault::LocalRequest, "no whole question came in time"), false),
        Ok(Err(_)) => return, // gone
        Ok(Ok(Err(answer))) => (answer, false),
        Ok(Ok(Ok(asked))) => match gate.check(&asked) {
            Err(answer) => (answer, true),
            Ok(()) => {
                let patience = Patience { visitor, turns: patient };
                (answer::answer(&asked, sources, &patience).await, true)
            }
        },
    };
    let said = async {
        stream.write_all(&answer.octets()).await?;
        stream.shutdown().await?;
        if !is_read || cfg!(windows) {
            // Closed with octets unread, or a pipe before it was read, the answer might be lost on its way.
            let mut rest = stream.take(MAX_UNREAD);
            tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        }
        io::Result::Ok(())
    };
    let _ = timeout(ANSWER, said).await; // who is gone hears nothing
}

/// Reads a head; what follows it is not looked at.
async fn hear<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Result<Asked, Answer>> {
    let mut head = Vec::with_capacity(1_024);
    loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(if end + 4 == head.len() {
                Asked::read(&head)
            } else {
                Err(Answer::refusal(413, Fault::LocalRequest, "one question a connection, without a body"))
            });
        }
        if head.len() >= MAX_HEAD {
            return Ok(Err(Answer::refusal(431, Fault::LocalRequest, "the question is too long")));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Lets a question take long: so many may at once, and they are not shown out.
pub(super) struct Patience<'a> {
    visitor: &'a Visitor,
    turns: &'a Arc<Semaphore>,
}

impl Patience<'_> {
    /// Returns what is held while it takes long; nothing when too many others do.
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        let turn = Arc::clone(self.turns).try_acquire_owned().ok()?;
        self.visitor.leave_lobby();
        Some(turn)
    }
}

/// Those who are being heard or answered, the oldest first: when too many come, the oldest makes room. Who asks at once is
/// answered before; who says nothing holds up nobody.
#[derive(Clone, Debug, Default)]
struct Lobby(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    visitors: BTreeMap<u64, oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Visitor {
    lobby: Lobby,
    number: u64,
}

impl Lobby {
    fn enter(&self) -> (Visitor, oneshot::Receiver<()>) {
        let (show_out, shown_out) = oneshot::channel();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.visitors.insert(number, show_out);
        drop(waiting);
        (Visitor { lobby: self.clone(), number }, shown_out)
    }

    fn make_room(&self) {
        if let Some((_, show_out)) = self.lock().visitors.pop_first() {
            let _ = show_out.send(()); // it may have gone by itself
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visitor {
    fn leave_lobby(&self) {
        self.lobby.lock().visitors.remove(&self.number);
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.leave_lobby();
    }
}

/// Connections at once, at each place where the agent may be asked.
const MAX_CONNECTIONS: usize = 32;
/// Of them those that wait for something, or send a request again.
const MAX_PATIENT: usize = 12;
/// How long a question may take to come.
const HEAD: Duration = Duration::from_secs(5);
/// How long an answer may take to be taken.
const ANSWER: Duration = Duration::from_secs(10);
/// A question is not longer, in octets.
const MAX_HEAD: usize = 8 << 10;
/// So much of what nobody wanted to hear is thrown away, in octets.
const MAX_UNREAD: u64 = 64 << 10;

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
