//! Octets between a caller's socket and a stream, each direction by itself. While nothing moves, nothing is buffered.

use core::{
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use std::{collections::VecDeque, io};

use adit_core::Code;
use adit_tokio::{CHUNK, Stream, code_of};
use bytes::Bytes;
use tokio::{
    io::Interest,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    carry::{Kept, Refused},
    line::Line,
};

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both directions ended in order.
    Complete,
    /// The caller reset the connection, or went away.
    Caller,
    /// The caller did not take what waited for it.
    Stalled,
    /// The far side reset the stream, or the session is lost.
    Upstream(Code),
}

/// One connection on its way.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    line: &'a mut Line,
    stream: Stream,
    inward: Inward,
    outward: Outward,
}

/// From the caller to the upstream.
#[derive(Debug)]
struct Inward {
    waiting: VecDeque<Bytes>,
    state: Direction,
    /// Waits for octets of the caller: a reset shows there.
    listens: bool,
    carried: u64,
}

/// From the upstream to the caller.
#[derive(Debug)]
struct Outward {
    waiting: VecDeque<Bytes>,
    queued: usize,
    state: Direction,
    stall: Stall,
    carried: u64,
}

/// Watches that what waits for the caller goes on.
#[derive(Debug)]
struct Stall {
    most: Duration,
    since: Option<Instant>,
    /// Set as rarely as can be: to the end of an earlier wait or of this one.
    sleep: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Open,
    /// The source has ended; what waits goes out, then the end.
    Ending,
    Ended,
}

impl<'a> Relay<'a> {
    /// Returns a relay that begins with what the caller has sent already. What waits for the caller longer than `stall`
    /// without any progress ends the connection.
    pub(super) fn new(line: &'a mut Line, stream: Stream, first: &[Bytes], stall: Duration) -> Self {
        let waiting = first.iter().cloned().collect();
        let stall = Stall { most: stall, since: None, sleep: None };
        Self {
            line,
            stream,
            inward: Inward { waiting, state: Direction::Open, listens: false, carried: 0 },
            outward: Outward { waiting: VecDeque::new(), queued: 0, state: Direction::Open, stall, carried: 0 },
        }
    }

    /// Carries until both directions have ended.
    pub(super) async fn run(&mut self) -> Ending {
        let ending = self.watched(Self::poll).await.unwrap_or(Ending::Caller);
        match ending {
            Ending::Complete => {}
            Ending::Caller | Ending::Stalled => self.stream.abort(Code::CONNECTION_RESET), // spec: END-007
            Ending::Upstream(_) => self.stream.abort(Code::CANCELLED),
        }
        ending
    }

    /// Forwards what the caller sends, and keeps it, until the upstream has the connection or does not take it.
    pub(super) async fn accepted(&mut self, kept: &mut Kept) -> Result<(), Refused> {
        let accepted = self.watched(|relay, cx| relay.poll_accepted(kept, cx)).await.unwrap_or(Err(Refused::Caller));
        if accepted == Err(Refused::Caller) {
            self.stream.abort(Code::CONNECTION_RESET);
        }
        accepted
    }

    /// Waits for `poll`; `None` when the caller resets the connection while nothing is read from it.
    async fn watched<T>(&mut self, mut poll: impl FnMut(&mut Self, &mut Context<'_>) -> Poll<T>) -> Option<T> {
        let socket = self.line.socket();
        let mut reset = pin!(socket.ready(Interest::ERROR));
        poll_fn(|cx| match poll(self, cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if self.inward.listens => Poll::Pending,
            Poll::Pending => reset.as_mut().poll(cx).map(|_| None),
        })
        .await
    }

    fn poll_accepted(&mut self, kept: &mut Kept, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        if let Poll::Ready(result) = self.stream.poll_accepted(cx) {
            return Poll::Ready(result.map_err(Refused::Upstream));
        }
        match self.poll_inward(Some(kept), cx) {
            Poll::Ready(Err(Ending::Upstream(_))) | Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            Poll::Ready(Err(Ending::Caller | Ending::Stalled | Ending::Complete)) => Poll::Ready(Err(Refused::Caller)),
        }
    }

    /// Ends the stream at once.
    pub(super) fn abort(&self, code: Code) {
        self.stream.abort(code);
    }

    pub(super) const fn carried_in(&self) -> u64 {
        self.inward.carried
    }

    pub(super) const fn carried_out(&self) -> u64 {
        self.outward.carried
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        let outward = match self.poll_outward(cx) {
            Poll::Ready(Err(ending)) => return Poll::Ready(ending),
            Poll::Ready(Ok(())) => true,
            Poll::Pending => false,
        };
        match self.poll_inward(None, cx) {
            Poll::Ready(Err(ending)) => Poll::Ready(ending),
            Poll::Ready(Ok(())) if outward => Poll::Ready(Ending::Complete),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_inward(&mut self, mut kept: Option<&mut Kept>, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let Inward { waiting, state, listens, carried } = &mut self.inward;
        *listens = false;
        for _ in 0..TURN {
            while let Some(front) = waiting.front_mut() {
                let before = front.len();
                let written = self.stream.poll_write_bytes(cx, front);
                *carried += (before - front.len()) as u64;
                if front.is_empty() {
                    waiting.pop_front();
                }
                match written {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(stopped(&error, state, waiting)),
                }
            }
            match *state {
                Direction::Ended => return Poll::Ready(Ok(())),
                Direction::Ending => {
                    *state = Direction::Ended;
                    // The far side may have ended it meanwhile: then there is nothing to finish.
                    let _ = self.stream.finish();
                    return Poll::Ready(Ok(()));
                }
                Direction::Open => {}
            }
            let room = kept.as_ref().map_or(CHUNK, |kept| kept.room());
            if room == 0 {
                return Poll::Pending;
            }
            let read = self.line.poll_read(room, cx);
            *listens = read.is_pending();
            match ready!(read) {
                Ok(chunk) if chunk.is_empty() => *state = Direction::Ending,
                Ok(chunk) => {
                    if let Some(kept) = &mut kept {
                        kept.push(chunk.clone());
                    }
                    waiting.push_back(chunk);
                }
                Err(_) => return Poll::Ready(Err(Ending::Caller)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_outward(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let Outward { waiting, queued, state, stall, carried } = &mut self.outward;
        for _ in 0..TURN {
            while *state == Direction::Open && *queued < GATHER {
                match self.stream.poll_read_bytes(cx, usize::MAX) {
                    Poll::Ready(Ok(Some(chunk))) => {
                        *queued += chunk.len();
                        waiting.push_back(chunk);
                    }
                    Poll::Ready(Ok(None)) => *state = Direction::Ending,
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(Ending::Upstream(code_of(&error).unwrap_or(Code::INTERNAL))));
                    }
                    Poll::Pending => break,
                }
            }
            if waiting.is_empty() {
                drop(mem::take(waiting));
                let written = match *state {
                    Direction::Open => self.line.poll_flush(cx),
                    Direction::Ending => self.line.poll_shutdown(cx),
                    Direction::Ended => return Poll::Ready(Ok(())),
                };
                match written {
                    Poll::Ready(Ok(())) => stall.since = None,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Ending::Caller)),
                    Poll::Pending => return stall.poll(cx).map(|()| Err(Ending::Stalled)),
                }
                if *state == Direction::Open {
                    return Poll::Pending;
                }
                *state = Direction::Ended;
                return Poll::Ready(Ok(()));
            }
            match self.line.poll_write(waiting, cx) {
                Poll::Ready(Ok(written)) => {
                    *queued -= written;
                    *carried += written as u64;
                    stall.since = None;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Ending::Caller)),
                Poll::Pending => return stall.poll(cx).map(|()| Err(Ending::Stalled)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Stall {
    /// Is ready when there has been no progress for too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let due = *self.since.get_or_insert(now) + self.most;
        if due <= now {
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while sleep.as_mut().poll(cx).is_ready() {
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// The far side takes no more of this direction; the other one tells how the connection ends.
fn stopped(error: &io::Error, state: &mut Direction, waiting: &mut VecDeque<Bytes>) -> Result<(), Ending> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        *state = Direction::Ended;
        waiting.clear();
        return Ok(());
    }
    Err(Ending::Upstream(code_of(error).unwrap_or(Code::INTERNAL)))
}

/// What is gathered before it is written, in octets.
const GATHER: usize = 256 << 10;
/// Pieces that one direction moves before the other has its turn.
const TURN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_now_and_then_is_not_stalled_and_what_stands_still_is() {
        let (start, secs) = (Instant::now(), Duration::from_secs);
        let mut stall = Stall { most: secs(30), since: None, sleep: None };

        for _ in 0..10 {
            let waited = tokio::time::timeout(secs(20), poll_fn(|cx| stall.poll(cx))).await;
            assert!(waited.is_err(), "after {:?}", start.elapsed());
            stall.since = None;
        }
        poll_fn(|cx| stall.poll(cx)).await;

        assert_eq!(start.elapsed(), secs(230));
    }
}
