//! One carried connection: bytes between a stream and an upstream, each direction by itself.

use core::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use std::io::{self, IoSlice};

use adit_core::Code;
use adit_tokio::{CHUNK, Stream, code_of};
use bytes::{Buf as _, Bytes};
use tokio::{
    io::AsyncWrite as _,
    time::{Sleep, sleep},
};

use crate::upstream::Socket;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both directions ended in order.
    Complete,
    /// The caller's side was reset, or the session was lost; the upstream saw a reset.
    Caller(Code),
    /// The upstream reset; the caller's side was told.
    Upstream,
}

/// Carries until both directions have ended. `first` goes to the upstream before all else.
pub(crate) async fn relay(stream: Stream, socket: Socket, first: Bytes) -> Ending {
    let mut up = Up { waiting: Vec::new(), ended: false };
    if !first.is_empty() {
        up.waiting.push(first);
    }
    let down = Down { rest: Bytes::new(), ended: false };
    let mut relay = Relay { stream, socket, up: Some(up), down: Some(down), tick: None };
    let ending = poll_fn(|cx| relay.poll(cx)).await;
    let Relay { stream, socket, .. } = relay;
    match ending {
        Ending::Complete => {}
        Ending::Caller(_) => {
            stream.abort(Code::CANCELLED);
            socket.abort();
        }
        Ending::Upstream => {
            stream.abort(Code::CONNECTION_RESET); // spec: END-007
            socket.abort();
        }
    }
    ending
}

struct Relay {
    stream: Stream,
    socket: Socket,
    /// `None` once the direction has ended.
    up: Option<Up>,
    down: Option<Down>,
    /// Runs while nothing would tell that the caller is gone.
    tick: Option<Pin<Box<Sleep>>>,
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
    Stream,
    Socket,
    /// Its turn is over; it goes on at once.
    Turn,
    Ended,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let waits = self.poll_up(cx).and_then(|up| Ok((up, self.poll_down(cx)?)));
        match waits {
            Err(ending) => Poll::Ready(ending),
            Ok((Wait::Ended, Wait::Ended)) => Poll::Ready(Ending::Complete),
            Ok((Wait::Turn, _) | (_, Wait::Turn)) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok((Wait::Stream, _) | (_, Wait::Stream)) => {
                self.tick = None;
                Poll::Pending
            }
            Ok((Wait::Socket | Wait::Ended, Wait::Socket | Wait::Ended)) => self.poll_tick(cx),
        }
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<Wait, Ending> {
        let Some(up) = &mut self.up else { return Ok(Wait::Ended) };
        for _ in 0..TURN {
            let more = up.gather(&mut self.stream, cx)?;
            let written = if up.waiting.is_empty() {
                let done = if up.ended { self.socket.poll_shutdown(cx) } else { self.socket.poll_flush(cx) };
                match done {
                    Poll::Pending => return Ok(Wait::Socket),
                    Poll::Ready(Ok(())) if up.ended => {
                        self.up = None;
                        return Ok(Wait::Ended);
                    }
                    Poll::Ready(Ok(())) => return Ok(if more { Wait::Turn } else { Wait::Stream }),
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
                self.stream.stop(Code::CONNECTION_RESET);
                self.up = None;
                return Ok(Wait::Ended);
            }
        }
        Ok(Wait::Turn)
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<Wait, Ending> {
        let Some(down) = &mut self.down else { return Ok(Wait::Ended) };
        for _ in 0..TURN {
            match self.stream.poll_write_bytes(cx, &mut down.rest) {
                Poll::Pending => return Ok(Wait::Stream),
                Poll::Ready(Err(error)) => return Err(caller(&error)),
                Poll::Ready(Ok(())) => {}
            }
            if down.ended {
                self.stream.finish().map_err(|error| caller(&error))?;
                self.down = None;
                return Ok(Wait::Ended);
            }
            match self.socket.poll_read(cx) {
                Poll::Pending => return Ok(Wait::Socket),
                Poll::Ready(Ok(data)) if data.is_empty() => down.ended = true,
                Poll::Ready(Ok(data)) => down.rest = data,
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
                && let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_write(cx, &[])
            {
                return Poll::Ready(caller(&error));
            }
        }
    }
}

impl Up {
    /// Takes what the stream has; returns whether there may be more.
    fn gather(&mut self, stream: &mut Stream, cx: &Context<'_>) -> Result<bool, Ending> {
        while !self.ended && self.waiting.len() < BATCH {
            match stream.poll_read_bytes(cx, CHUNK) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(Some(data))) if data.is_empty() => {}
                Poll::Ready(Ok(Some(data))) => self.waiting.push(data),
                Poll::Ready(Ok(None)) => self.ended = true,
                Poll::Ready(Err(error)) => return Err(caller(&error)),
            }
        }
        Ok(true)
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
    Ending::Caller(code_of(error).unwrap_or(Code::CANCELLED))
}

/// Pieces written to a socket at once; of at most a frame each, together as much as a socket takes.
const BATCH: usize = 8;
/// Steps of one direction before the others have their turn.
const TURN: usize = 16;
/// How often a connection that waits for its upstream alone looks for its caller.
const TICK: Duration = Duration::from_secs(1);
