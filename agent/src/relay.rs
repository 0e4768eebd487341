//! One carried connection: bytes between a caller and an upstream, each direction by itself.

mod front;

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use adit_core::Code;
use adit_tokio::code_of;
use bytes::{Buf as _, Bytes};
use tokio::time::{Sleep, sleep};

use crate::{
    capture::Tee,
    policy::{Refusal, Ticket, Way},
    status::Carried,
    upstream::Socket,
};

pub(crate) use front::Front;

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both directions ended in order.
    Complete,
    /// The caller's side was reset, or the session was lost; the upstream saw a reset.
    Caller(Code),
    /// The caller's TLS ended without saying so: what it sent may be a part only, and the upstream saw a reset.
    Truncated,
    /// The upstream reset; the caller's side was told.
    Upstream,
    /// It may not go on; both sides saw a reset.
    Cut,
    /// The customer's own policy does not allow it any more; both sides saw a reset.
    Revoked(Refusal),
}

/// What is ready when a connection may not go on.
pub(crate) type Cut = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who looks on while a connection is carried.
pub(crate) struct Onlooker {
    pub(crate) carried: Arc<Carried>,
    /// Reads along, where that is allowed and asked for.
    pub(crate) tee: Option<Tee>,
}

impl Onlooker {
    fn up(&self, data: &[u8]) {
        self.carried.sent(data.len());
        if let Some(tee) = &self.tee {
            tee.up(data);
        }
    }

    fn down(&self, data: &[u8]) {
        self.carried.received(data.len());
        if let Some(tee) = &self.tee {
            tee.down(data);
        }
    }
}

/// Carries until both directions have ended, or until `cut` is ready or `ticket` revoked. `first` goes to the upstream before all
/// else.
pub(crate) async fn relay(
    front: Front,
    socket: Socket,
    first: Bytes,
    (cut, ticket): (Option<Cut>, Ticket),
    onlooker: Onlooker,
) -> Ending {
    let mut up = Up { waiting: Vec::new(), ended: false };
    if !first.is_empty() {
        up.waiting.push(first);
    }
    let down = Down { rest: Bytes::new(), ended: false };
    let mut relay = Relay { front, socket, up: Some(up), down: Some(down), tick: None, cut, ticket, onlooker };
    let ending = poll_fn(|cx| relay.poll(cx)).await;
    let Relay { front, socket, down, .. } = relay;
    match &ending {
        Ending::Complete => return ending,
        // What was finished in order still goes out: many a caller closes as soon as it has read the end.
        Ending::Truncated if down.is_none() => {}
        Ending::Caller(_) | Ending::Truncated => front.abort(Code::CANCELLED),
        Ending::Upstream => front.abort(Code::CONNECTION_RESET), // spec: END-007
        Ending::Cut => front.abort(Code::POLICY),
        Ending::Revoked(refusal) => front.abort(refusal.reason.code()),
    }
    socket.abort();
    ending
}

struct Relay {
    front: Front,
    socket: Socket,
    /// `None` once the direction has ended.
    up: Option<Up>,
    down: Option<Down>,
    /// Runs while nothing would tell that the caller is gone.
    tick: Option<Pin<Box<Sleep>>>,
    cut: Option<Cut>,
    ticket: Ticket,
    onlooker: Onlooker,
}

/// Towards the upstream.
struct Up {
    waiting: Vec<Bytes>,
    ended: bool,
}

/// Towards the caller.
struct Down {
    rest: Bytes,
    ended: bool,
}

/// What a direction waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Caller,
    Socket,
    /// Its turn is over; it goes on at once.
    Turn,
    Ended,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if let Poll::Ready(refusal) = self.ticket.poll_revoked(cx) {
            return Poll::Ready(Ending::Revoked(refusal));
        }
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Ending::Cut);
        }
        let waits = self.poll_up(cx).and_then(|up| Ok((up, self.poll_down(cx)?)));
        match waits {
            Err(ending) => Poll::Ready(ending),
            Ok((Wait::Ended, Wait::Ended)) => Poll::Ready(Ending::Complete),
            Ok((Wait::Turn, _) | (_, Wait::Turn)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok((Wait::Caller, _) | (_, Wait::Caller)) => {
                self.tick = None;
                Poll::Pending
            }
            Ok((Wait::Socket | Wait::Ended, Wait::Socket | Wait::Ended)) => self.poll_tick(cx),
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<Wait, Ending> {
        let Some(up) = &mut self.up else { return Ok(Wait::Ended) };
        for _ in 0..TURN {
            // At the rate of the policy nothing more is taken; what was taken goes on.
            let is_ready = self.ticket.poll_ready(cx).is_ready();
            let (more, octets) = if is_ready { up.gather(&mut self.front, &self.onlooker, cx)? } else { (false, 0) };
            self.ticket.carried(Way::Up, octets);
            let written = if up.waiting.is_empty() {
                let done = if up.ended { self.socket.poll_shutdown(cx) } else { self.socket.poll_flush(cx) };
                match done {
                    Poll::Pending => return Ok(Wait::Socket),
                    Poll::Ready(Ok(())) if up.ended => {
                        self.up = None;
                        return Ok(Wait::Ended);
                    }
                    Poll::Ready(Ok(())) => return Ok(if more { Wait::Turn } else { Wait::Caller }),
                    Poll::Ready(Err(error)) => Err(error),
                }
            } else {
                match up.write(&mut self.socket, cx) {
                    Poll::Pending => return Ok(Wait::Socket),
                    Poll::Ready(result) => result,
                }
            };
            if written.is_err() {
                // It takes no more, but may have said something before: the other direction tells how it ends.
                self.front.stop(Code::CONNECTION_RESET);
                self.up = None;
                return Ok(Wait::Ended);
            }
        }
        Ok(Wait::Turn)
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<Wait, Ending> {
        let Some(down) = &mut self.down else { return Ok(Wait::Ended) };
        for _ in 0..TURN {
            let written = match self.front.poll_write(cx, &mut down.rest) {
                Poll::Ready(Ok(())) if down.ended => self.front.poll_finish(cx),
                written @ (Poll::Ready(_) | Poll::Pending) => written,
            };
            match written {
                Poll::Pending => return Ok(Wait::Caller),
                Poll::Ready(Err(error)) => return Err(caller(&error)),
                Poll::Ready(Ok(())) if down.ended => {
                    self.down = None;
                    return Ok(Wait::Ended);
                }
                Poll::Ready(Ok(())) => {}
            }
            if self.ticket.poll_ready(cx).is_pending() {
                return Ok(Wait::Socket);
            }
            match self.socket.poll_read(cx) {
                Poll::Pending => return Ok(Wait::Socket),
                Poll::Ready(Ok(data)) if data.is_empty() => {
                    self.onlooker.down(&data);
                    down.ended = true;
                }
                Poll::Ready(Ok(data)) => {
                    self.ticket.carried(Way::Down, data.len());
                    self.onlooker.down(&data);
                    down.rest = data;
                }
                Poll::Ready(Err(_)) => return Err(Ending::Upstream),
            }
        }
        Ok(Wait::Turn)
    }

    /// Looks once a second whether the caller is gone, while no direction waits for it.
    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        loop {
            let tick = self.tick.get_or_insert_with(|| Box::pin(sleep(TICK)));
            if tick.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.tick = None;
            if self.down.is_some()
                && let Poll::Ready(Err(error)) = self.front.poll_alive(cx)
            {
                return Poll::Ready(caller(&error));
            }
        }
    }
}

impl Up {
    /// Takes what the caller has sent; returns whether there may be more, and how many octets it took.
    fn gather(
        &mut self,
        front: &mut Front,
        onlooker: &Onlooker,
        cx: &mut Context<'_>,
    ) -> Result<(bool, usize), Ending> {
        let mut octets = 0;
        while !self.ended && self.waiting.len() < BATCH {
            match front.poll_read(cx) {
                Poll::Pending => return Ok((false, octets)),
                Poll::Ready(Ok(Some(data))) if data.is_empty() => {}
                Poll::Ready(Ok(Some(data))) => {
                    octets += data.len();
                    onlooker.up(&data);
                    self.waiting.push(data);
                }
                Poll::Ready(Ok(None)) => self.ended = true,
                Poll::Ready(Err(error)) => return Err(caller(&error)),
            }
        }
        Ok((true, octets))
    }

    fn write(&mut self, socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); BATCH];
        let count = self.waiting.len().min(BATCH);
        for (slice, data) in slices.iter_mut().zip(&self.waiting) {
            *slice = IoSlice::new(data);
        }
        let mut written = match socket.poll_write(&slices[..count], cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        };
        let mut whole = 0;
        for data in &mut self.waiting {
            let part = written.min(data.len());
            data.advance(part);
            written -= part;
            whole += usize::from(data.is_empty());
        }
        self.waiting.drain(..whole);
        if self.waiting.is_empty() {
            self.waiting = Vec::new(); // an idle connection keeps no memory
        }
        Poll::Ready(Ok(()))
    }
}

fn caller(error: &io::Error) -> Ending {
    match code_of(error) {
        None if error.kind() == io::ErrorKind::UnexpectedEof => Ending::Truncated,
        code => Ending::Caller(code.unwrap_or(Code::CANCELLED)),
    }
}

/// Pieces written to a socket at once; of at most a frame each, together as much as a socket takes.
const BATCH: usize = 8;
/// Steps of one direction before the others have their turn.
const TURN: usize = 16;
/// How often a connection that waits for its upstream alone looks for its caller.
const TICK: Duration = Duration::from_secs(1);
