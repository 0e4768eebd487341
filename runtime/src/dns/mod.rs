//! Names resolved by DNS servers that are named, instead of whatever this machine asks.
//!
//! A stub: it asks for A and AAAA, follows aliases, and keeps nothing. Each question has a number and a port that nobody can
//! guess, and an answer must repeat the question.

mod message;

use alloc::{string::String, vec, vec::Vec};
use core::{
    future::{Future, poll_fn},
    hash::{BuildHasher as _, Hasher as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use std::{
    hash::RandomState,
    io::{self, IoSlice},
    net::UdpSocket,
};

use super::{Datagrams, Runtime, Sleep, SystemClock, timer::within};
use adit_core::driver::{Clock as _, Transport};

pub use message::{Answer, Kind, NoAnswer, Question, host_name};

/// DNS servers to ask, in place of the resolver of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resolver {
    /// Asked in this order; one that is silent, refuses or fails gives way to the next, the last to the first, twice in all.
    pub servers: Vec<SocketAddr>,
    /// How long one of them may take: 1.5 s.
    pub patience: Duration,
}

impl Resolver {
    /// Asks these servers.
    #[must_use]
    pub const fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, patience: Duration::from_millis(1_500) }
    }

    /// Returns the addresses of a name: those of version 6 first, and when one version has some the other has 250 ms to follow.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for a name that does not exist or has no address, else why no server answered.
    pub(crate) async fn resolve<R: Runtime>(&self, host: &str) -> Result<Vec<IpAddr>, io::ErrorKind> {
        let name = host_name(host).ok_or(io::ErrorKind::InvalidInput)?;
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(Vec::from([Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])); // RFC 6761
        }
        let mut six = pin!(self.lookup::<R>(name.clone(), Kind::Aaaa));
        let mut four = pin!(self.lookup::<R>(name, Kind::A));
        let (mut sixes, mut fours): (Option<Found>, Option<Found>) = (None, None);
        let mut grace: Option<R::Sleep> = None;
        poll_fn(|cx| {
            poll_once(&mut sixes, six.as_mut(), cx);
            poll_once(&mut fours, four.as_mut(), cx);
            let has = |found: &Option<Found>| matches!(found, Some(Ok(addresses)) if !addresses.is_empty());
            if sixes.is_some() && fours.is_some() {
                return Poll::Ready(());
            }
            if has(&sixes) || has(&fours) {
                return Pin::new(grace.get_or_insert_with(|| R::Sleep::start(GRACE))).poll(cx);
            }
            Poll::Pending
        })
        .await;
        let mut found = Vec::new();
        let mut failed = io::ErrorKind::NotFound;
        for answer in [sixes, fours].into_iter().flatten() {
            match answer {
                Ok(addresses) => found.extend(addresses),
                Err(kind) => failed = kind,
            }
        }
        if found.is_empty() { Err(failed) } else { Ok(found) }
    }

    /// Looks one kind of address up, from alias to alias; none for a name without.
    async fn lookup<R: Runtime>(&self, mut name: String, kind: Kind) -> Found {
        for _ in 0..MAX_HOPS {
            match self.ask::<R>(&Question { id: number(), name, kind }).await? {
                Answer::Addresses(addresses) => return Ok(addresses),
                Answer::Alias(target) => name = target,
                Answer::Nothing | Answer::NoName => return Ok(Vec::new()),
                Answer::Truncated | Answer::Failed(_) => return Err(io::ErrorKind::InvalidData),
            }
        }
        Err(io::ErrorKind::InvalidData) // aliases without end
    }

    async fn ask<R: Runtime>(&self, question: &Question) -> Result<Answer, io::ErrorKind> {
        let mut failed = io::ErrorKind::AddrNotAvailable;
        for server in self.servers.iter().chain(&self.servers).take(MAX_TRIES) {
            // Another number each time: an answer to a try that was given up counts for nothing.
            let question = Question { id: number(), ..question.clone() };
            match within::<R, _>(self.patience, exchange::<R>(*server, &question)).await {
                Some(Ok(Answer::Failed(_))) => failed = io::ErrorKind::InvalidData,
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(kind)) => failed = kind,
                None => failed = io::ErrorKind::TimedOut,
            }
        }
        Err(failed)
    }
}

type Found = Result<Vec<IpAddr>, io::ErrorKind>;

fn poll_once<F: Future>(output: &mut Option<F::Output>, future: Pin<&mut F>, cx: &mut Context<'_>) {
    if output.is_none()
        && let Poll::Ready(ready) = future.poll(cx)
    {
        *output = Some(ready);
    }
}

/// Asks one server: in a datagram, and over TCP when the answer is too long for one.
async fn exchange<R: Runtime>(server: SocketAddr, question: &Question) -> Result<Answer, io::ErrorKind> {
    let answer = by_datagram::<R>(server, question).await.map_err(|error| error.kind())?;
    if answer == Answer::Truncated {
        return by_stream::<R>(server, question).await.map_err(|error| error.kind());
    }
    Ok(answer)
}

async fn by_datagram<R: Runtime>(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let any: SocketAddr =
        if server.is_ipv6() { (Ipv6Addr::UNSPECIFIED, 0).into() } else { (Ipv4Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?; // a port of its own each time, which the system chooses
    socket.connect(server)?; // and so nobody else is heard
    socket.set_nonblocking(true)?;
    let mut socket = R::udp(socket)?;
    let message = question.encode();
    poll_fn(|cx| socket.poll_send(cx, &message)).await?;
    let mut buffer = vec![0; DATAGRAM];
    for _ in 0..MAX_DATAGRAMS {
        let count = poll_fn(|cx| socket.poll_recv(cx, &mut buffer)).await?;
        match question.answer(buffer.get(..count).unwrap_or_default()) {
            Ok(answer) => return Ok(answer),
            Err(NoAnswer::Other | NoAnswer::Malformed) => {} // it may be somebody else's: the right one may follow
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

async fn by_stream<R: Runtime>(server: SocketAddr, question: &Question) -> io::Result<Answer> {
    let mut io = R::Socket::from(R::dial(server).await?);
    let message = question.encode();
    let length = u16::try_from(message.len()).unwrap_or_default(); // a name is short
    let whole = [&length.to_be_bytes()[..], &message].concat();
    let mut left = whole.as_slice();
    while !left.is_empty() {
        match poll_fn(|cx| io.poll_write(cx, &[IoSlice::new(left)])).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => left = left.get(count..).unwrap_or_default(),
        }
    }
    let mut length = [0; 2];
    read(&mut io, &mut length).await?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    read(&mut io, &mut answer).await?;
    match question.answer(&answer) {
        Ok(Answer::Truncated) | Err(_) => Err(io::ErrorKind::InvalidData.into()),
        Ok(answer) => Ok(answer),
    }
}

async fn read(io: &mut impl Transport, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match poll_fn(|cx| io.poll_read(cx, buffer)).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer = buffer.get_mut(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Returns a number that nobody outside can foretell: a keyed hash, whose keys the system gave, of what it was not asked for before.
fn number() -> u16 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(SystemClock.now().as_nanos());
    let [high, low, ..] = hasher.finish().to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// How long the other version of addresses has to follow.
const GRACE: Duration = Duration::from_millis(250);
/// Questions that aliases may lead to.
const MAX_HOPS: usize = 8;
/// Servers that are asked for one answer.
const MAX_TRIES: usize = 8;
/// Datagrams that are looked at for one answer.
const MAX_DATAGRAMS: usize = 32;
/// A datagram is not longer, in octets: without an extension of DNS it has 512.
const DATAGRAM: usize = 4_096;
