//! The receiving half of streams: what arrives, and what the application reads.

use alloc::collections::VecDeque;

use bytes::Bytes;

use super::stream::{RecvState, Stream};
use super::{Session, StreamId, enter};
use crate::{
    Code, Instant, MAX_OFFSET, Message, Open, Role, Side, Violation,
    frame::{be_u32, be_u64},
};

/// A read gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Not now: [`Event::Readable`](crate::Event::Readable) says when.
    #[error("nothing has arrived")]
    Blocked,
    /// The peer's application ended the direction with this code; what had not been read is gone.
    #[error("the peer reset the stream: {0}")]
    Reset(Code),
    /// This side has said that it wants no more.
    #[error("this side wanted no more")]
    Closed,
    /// The session is over, and the direction had not ended.
    #[error("the session is over: {0}")]
    Lost(Code),
}

impl<S: Side> Session<S> {
    /// Returns the next octets of a stream, at most `most`; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`]: there is nothing to return.
    pub fn read(&mut self, id: StreamId, most: usize) -> Result<Option<Bytes>, ReadError> {
        let over = self.over;
        let Some(stream) = self.streams.get_mut(&id.0) else { return Err(ReadError::Closed) };
        match stream.recv.state {
            RecvState::Reset(code) => return Err(ReadError::Reset(code)),
            RecvState::Unwanted | RecvState::UnwantedEnded => {
                return Err(stream.recv.told.map_or(ReadError::Closed, ReadError::Reset));
            }
            RecvState::Open | RecvState::Ended => {}
        }
        let Some(front) = stream.recv.queue.front_mut() else {
            return match (stream.recv.state, over) {
                (RecvState::Ended, _) => Ok(None),
                (_, Some(code)) => Err(ReadError::Lost(code)),
                (_, None) => {
                    stream.recv.waiting = true;
                    Err(ReadError::Blocked)
                }
            };
        };
        let chunk =
            if front.len() <= most { stream.recv.queue.pop_front().unwrap_or_default() } else { front.split_to(most) };
        self.spare.keep(&mut stream.recv.queue);
        let (first, pool) = (u64::from(self.config.window), &mut self.pool);
        if stream.recv.credit.on_consumed(chunk.len(), first, pool) && stream.recv.state == RecvState::Open {
            stream.owed.credit = true;
            enter(&mut self.urgent, id.0, &mut stream.in_urgent);
        }
        Ok(Some(chunk))
    }

    /// Says that the application wants no more of a stream: what has arrived is dropped, and the peer is asked to cease.
    /// Does nothing when the direction has ended and everything was read.
    pub fn stop(&mut self, id: StreamId, code: Code) {
        let over = self.over.is_some();
        let Some(stream) = self.streams.get_mut(&id.0) else { return };
        match stream.recv.state {
            RecvState::Unwanted | RecvState::UnwantedEnded | RecvState::Reset(_) => return,
            RecvState::Ended => stream.recv.state = RecvState::UnwantedEnded,
            RecvState::Open => {
                stream.recv.state = RecvState::Unwanted;
                stream.owed.credit = false; // spec: CREDIT-015
                if !over {
                    stream.owed.stop = Some(code);
                }
            }
        }
        stream.recv.queue = VecDeque::new();
        if stream.owed.stop.is_some() {
            self.make_urgent(id.0);
        }
    }

    pub(super) fn on_open(&mut self, id: u32, payload: &[u8]) -> Result<(), Violation> {
        if !S::ROLE.peer().opened(id) {
            return Err(Violation::StreamParity); // spec: STREAM-001
        }
        let count = id.div_ceil(2);
        if count <= self.opened.theirs {
            return Err(Violation::StreamOrder); // spec: STREAM-002
        }
        if u64::from(count) > self.opened.theirs_granted {
            return Err(Violation::StreamLimit); // spec: STREAM-004
        }
        let open = Open::decode(payload)?; // spec: CODE-004, before anything is changed
        let skipped = count.saturating_sub(self.opened.theirs).saturating_sub(1);
        self.opened.theirs_over = self.opened.theirs_over.saturating_add(u64::from(skipped));
        self.opened.theirs = count;
        self.stats.streams_accepted = self.stats.streams_accepted.saturating_add(1);
        self.insert(id, open, false);
        if self.control.refuses(id) {
            self.refuse_stream(id, Code::REFUSED); // spec: GO-001
        } else {
            self.with(id, |stream| stream.news.opened = true);
            self.tell(id);
        }
        Ok(())
    }

    pub(super) fn on_data(&mut self, id: u32, payload: &[u8]) -> Result<(), Violation> {
        if payload.is_empty() {
            return Err(Violation::EmptyData); // spec: STREAM-012
        }
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.owed.open) else {
            self.known(id)?;
            return Err(Violation::StreamEnded); // what the peer has not ended is still in the table
        };
        if stream.recv.is_ended() {
            return Err(Violation::StreamEnded); // spec: STREAM-009
        }
        stream.recv.credit.on_data(payload.len())?; // spec: END-011, also where it is not wanted
        self.stats.data_received = self.stats.data_received.saturating_add(payload.len() as u64);
        if stream.recv.state == RecvState::Open {
            // spec: STREAM-010, what is not wanted is thrown away
            stream.recv.push(payload, &mut self.spare); // spec: STREAM-011
            stream.news.readable |= core::mem::take(&mut stream.recv.waiting);
            stream.accept_by_use();
            if stream.news.any() {
                enter(&mut self.news, id, &mut stream.in_news);
            }
        }
        Ok(())
    }

    pub(super) fn on_fin(&mut self, id: u32, payload: &[u8]) -> Result<(), Violation> {
        let offset = be_u64(payload).ok_or(Violation::FrameLength)?;
        if !self.known(id)? {
            return Err(Violation::StreamEnded);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.recv.is_ended() {
            return Err(Violation::StreamEnded); // spec: END-008
        }
        if offset != stream.recv.credit.received() {
            return Err(Violation::FinalOffset); // spec: END-002
        }
        stream.recv.state = match stream.recv.state {
            RecvState::Unwanted => RecvState::UnwantedEnded,
            RecvState::Open | RecvState::Ended | RecvState::Reset(_) | RecvState::UnwantedEnded => RecvState::Ended,
        };
        stream.owed.credit = false;
        stream.owed.stop = None;
        stream.news.readable |= core::mem::take(&mut stream.recv.waiting);
        stream.accept_by_use();
        self.tell(id);
        self.remove_if_over(id);
        Ok(())
    }

    pub(super) fn on_reset(&mut self, id: u32, payload: &[u8]) -> Result<(), Violation> {
        let code = Code(be_u32(payload).ok_or(Violation::FrameLength)?); // spec: END-006
        if !self.known(id)? {
            return Ok(()); // spec: END-008
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.recv.is_ended() && stream.recv.queue.is_empty() {
            return Ok(()); // spec: END-005
        }
        stream.recv.state = match stream.recv.state {
            RecvState::Unwanted | RecvState::UnwantedEnded => RecvState::UnwantedEnded,
            RecvState::Open | RecvState::Ended | RecvState::Reset(_) => RecvState::Reset(code),
        };
        stream.recv.queue = VecDeque::new(); // spec: END-003
        stream.owed.credit = false;
        stream.owed.stop = None;
        stream.news.readable |= core::mem::take(&mut stream.recv.waiting);
        self.refused_if_pending(id, code);
        self.tell(id);
        self.remove_if_over(id);
        Ok(())
    }

    pub(super) fn on_blocked(&mut self, id: u32, payload: &[u8], now: Instant) -> Result<(), Violation> {
        let offset = be_u64(payload).ok_or(Violation::FrameLength)?;
        if offset > MAX_OFFSET {
            return Err(Violation::OffsetRange); // spec: CREDIT-004
        }
        if !self.known(id)? {
            return Ok(());
        }
        let (most, pool) = (u64::from(self.config.window_max), &mut self.pool);
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let recv = &mut stream.recv;
        // The window is the bottleneck only where the reader keeps up: a slow reader holds its own window and no more.
        let keeps_up = recv.credit.unread() <= recv.credit.window() / 2;
        if recv.state == RecvState::Open && keeps_up && recv.credit.is_news(offset) {
            let useful = recv.credit.on_stalled(self.rtt, now);
            let doubled = recv.credit.window().saturating_mul(2).min(most).min(useful);
            if recv.credit.grow(doubled, pool) && recv.credit.is_due() {
                stream.owed.credit = true;
                self.make_urgent(id);
            }
        }
        Ok(())
    }

    pub(super) fn on_accept(&mut self, id: u32) -> Result<(), Violation> {
        if !S::ROLE.opened(id) {
            return Err(Violation::AcceptByOpener); // spec: STREAM-013
        }
        if self.known(id)? {
            self.with(id, Stream::accept_by_use);
            self.tell(id);
        }
        Ok(())
    }

    /// Ends both directions of a stream that will not be processed.
    fn refuse_stream(&mut self, id: u32, code: Code) {
        self.reset(StreamId(id), code);
        self.stop(StreamId(id), code);
        self.with(id, |stream| stream.released = true);
    }
}

const _: () = assert!(matches!(Role::Agent.peer(), Role::Network));
