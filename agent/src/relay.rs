//! One carried connection: bytes between a caller and an upstream, each direction by itself.

mod front;
mod vouching;

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
    vouch::{Refusal as Refused, Say, Step, Voucher},
};

pub(crate) use front::Front;

use vouching::Vouching;

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
    /// A request of the caller is not carried: it was told why, where that could be said; the upstream saw a reset.
    Refused(Refused),
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
    /// Octets go to the upstream.
    fn up(&self, data: &[u8]) {
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
/// else. Where there is a voucher, it says in each request who calls.
pub(crate) async fn relay(
    (front, voucher): (Front, Option<Voucher>),
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
    let vouching = voucher.map(|voucher| Box::new(Vouching::new(voucher)));
    let mut relay =
        Relay { front, socket, vouching, up: Some(up), down: Some(down), tick: None, cut, ticket, onlooker };
    let ending = poll_fn(|cx| relay.poll(cx)).await;
    let Relay { front, socket, down, .. } = relay;
    match &ending {
        Ending::Complete => return ending,
        // What was finished in order still goes out: many a caller closes as soon as it has read the end.
        Ending::Truncated | Ending::Refused(_) if down.is_none() => {}
        Ending::Caller(_) | Ending::Truncated | Ending::Refused(_) => front.abort(Code::CANCELLED),
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
    vouching: Option<Box<Vouching>>,
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

/// What was taken of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gathered {
    /// There may be more.
    Some,
    /// That is all there is.
    All,
    /// It has to wait: for an answer of the upstream, or by the rate of the policy.
    Held,
    /// The upstream takes nothing more.
    Over,
    /// Nothing more goes to the upstream.
    Refused,
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
        if let (Some(vouching), Ok((up, down))) = (&mut self.vouching, &waits) {
            if let Some(ending) = vouching.poll_ending((*up, *down), cx) {
                return Poll::Ready(ending);
            }
            if vouching.poll_turn(*up, cx) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
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
            let (gathered, octets) = if is_ready {
                up.gather((&mut self.front, self.vouching.as_deref_mut()), &self.onlooker, cx)?
            } else {
                (Gathered::Held, 0) // the caller owes nothing
            };
            self.ticket.carried(Way::Up, octets);
            let written = if up.waiting.is_empty() {
                match gathered {
                    Gathered::Some | Gathered::All | Gathered::Held => {}
                    Gathered::Refused => return self.poll_discard(cx),
                    Gathered::Over => {
                        self.front.stop(Code::CONNECTION_RESET);
                        self.up = None;
                        return Ok(Wait::Ended);
                    }
                }
                let done = if up.ended { self.socket.poll_shutdown(cx) } else { self.socket.poll_flush(cx) };
                match done {
                    Poll::Pending => return Ok(Wait::Socket),
                    Poll::Ready(Ok(())) if up.ended => {
                        self.up = None;
                        return Ok(Wait::Ended);
                    }
                    Poll::Ready(Ok(())) => {
                        return Ok(match gathered {
                            Gathered::Some => Wait::Turn,
                            Gathered::Held => Wait::Socket,
                            Gathered::All | Gathered::Over | Gathered::Refused => Wait::Caller,
                        });
                    }
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
            // What is here was said: between two answers something of our own may stand.
            match self.vouching.as_mut().map_or(Say::Nothing, |vouching| vouching.voucher.poll_down()) {
                Say::Nothing => {}
                Say::Between(octets) => {
                    down.rest = octets;
                    continue;
                }
                Say::Last(octets) => {
                    (down.rest, down.ended) = (octets, true);
                    continue;
                }
                Say::Cut => return Err(self.refused()),
            }
            if self.ticket.poll_ready(cx).is_pending() {
                return Ok(Wait::Socket);
            }
            match self.socket.poll_read(cx) {
                Poll::Pending => return Ok(Wait::Socket),
                Poll::Ready(Ok(data)) if data.is_empty() => {
                    self.onlooker.down(&data);
                    down.ended = true;
                    if let Some(vouching) = &mut self.vouching {
                        vouching.voucher.handle_down_end();
                    }
                }
                Poll::Ready(Ok(data)) => {
                    self.ticket.carried(Way::Down, data.len());
                    self.onlooker.down(&data);
                    if let Some(vouching) = &mut self.vouching {
                        vouching.voucher.handle_down(&data);
                    }
                    down.rest = data;
                }
                Poll::Ready(Err(_)) => return Err(Ending::Upstream),
            }
        }
        Ok(Wait::Turn)
    }

    /// Throws away what the caller sends behind a request that is refused.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Result<Wait, Ending> {
        for _ in 0..TURN {
            if self.ticket.poll_ready(cx).is_pending() {
                return Ok(Wait::Caller);
            }
            match self.front.poll_read(cx) {
                Poll::Pending => return Ok(Wait::Caller),
                Poll::Ready(Ok(Some(data))) => {
                    self.onlooker.carried.sent(data.len());
                    self.ticket.carried(Way::Up, data.len());
                }
                Poll::Ready(Ok(None)) => {
                    self.up = None;
                    return Ok(Wait::Ended);
                }
                Poll::Ready(Err(_)) => return Err(self.refused()),
            }
        }
        Ok(Wait::Turn)
    }

    fn refused(&self) -> Ending {
        let why = self.vouching.as_ref().and_then(|vouching| vouching.voucher.refusal());
        why.map_or(Ending::Caller(Code::CANCELLED), Ending::Refused)
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
    /// Takes what the caller has sent, and with a voucher what of that goes on; returns how many octets it took.
    fn gather(
        &mut self,
        (front, mut vouching): (&mut Front, Option<&mut Vouching>),
        onlooker: &Onlooker,
        cx: &mut Context<'_>,
    ) -> Result<(Gathered, usize), Ending> {
        let mut octets = 0;
        while !self.ended && self.waiting.len() < BATCH {
            match vouching.as_mut().map(|vouching| vouching.voucher.poll_up()) {
                Some(Step::Pass(data)) => {
                    onlooker.up(&data);
                    self.waiting.push(data);
                    continue;
                }
                Some(Step::Held) => return Ok((Gathered::Held, octets)),
                Some(Step::Over) => return Ok((Gathered::Over, octets)),
                Some(Step::Refused) => return Ok((Gathered::Refused, octets)),
                Some(Step::More) | None => {}
            }
            match front.poll_read(cx) {
                Poll::Pending => return Ok((Gathered::All, octets)),
                Poll::Ready(Ok(Some(data))) if data.is_empty() => {}
                Poll::Ready(Ok(Some(data))) => {
                    octets += data.len();
                    onlooker.carried.sent(data.len());
                    match &mut vouching {
                        Some(vouching) => vouching.voucher.handle_up(data),
                        None => {
                            onlooker.up(&data);
                            self.waiting.push(data);
                        }
                    }
                }
                Poll::Ready(Ok(None)) => self.ended = true,
                Poll::Ready(Err(error)) => return Err(caller(&error)),
            }
        }
        Ok((Gathered::Some, octets))
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
