//! The sending half of streams: what the application writes, and what the peer says about it.

use alloc::collections::VecDeque;

use bytes::Bytes;

use super::stream::{SendState, Stream};
use super::{Session, StreamId, enter};
use crate::{Code, Config, Side, Violation, frame::be_u64};

/// A write was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Not now: [`Event::Writable`](crate::Event::Writable) says when.
    #[error("as much is waiting to be sent as may")]
    Blocked,
    /// The peer's application asked to cease.
    #[error("the peer wants no more: {0}")]
    Stopped(Code),
    /// This side has finished or reset the direction.
    #[error("the direction has been ended by this side")]
    Closed,
    /// The session is over.
    #[error("the session is over: {0}")]
    Lost(Code),
}

impl<S: Side> Session<S> {
    /// Takes octets to send from the front of `data`; returns how many. What is taken is cut off `data`.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was taken.
    pub fn write(&mut self, id: StreamId, data: &mut Bytes) -> Result<usize, WriteError> {
        self.write_with(id, data.len(), |room| data.split_to(room))
    }

    /// Takes octets that `take` hands over when it is told how many there is room for, of the `length` that there are.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was taken, and `take` was not called.
    pub fn write_with(
        &mut self,
        id: StreamId,
        length: usize,
        take: impl FnOnce(usize) -> Bytes,
    ) -> Result<usize, WriteError> {
        let over = self.over;
        let Some(stream) = self.streams.get_mut(&id.0) else { return Err(WriteError::Closed) };
        match (stream.send.state, over) {
            (SendState::Stopped(code), _) => return Err(WriteError::Stopped(code)),
            (SendState::Finishing | SendState::Finished | SendState::Reset, _) => return Err(WriteError::Closed),
            (SendState::Open, Some(code)) => return Err(WriteError::Lost(code)),
            (SendState::Open, None) => {}
        }
        // While all streams together have much waiting, each is held to one frame.
        let crowded = self.queued >= self.config.send_total;
        let most = if crowded { self.config.frame } else { self.config.send_stream } as usize;
        let room = most.saturating_sub(stream.send.queued);
        if room == 0 {
            stream.send.waiting = true;
            if crowded && !core::mem::replace(&mut stream.in_crowded, true) {
                self.crowded.push_back(id.0);
            }
            return Err(WriteError::Blocked);
        }
        let taken = take(room.min(length));
        debug_assert!(taken.len() <= room, "no more is taken than there is room for");
        let count = taken.len();
        if count > 0 {
            stream.send.push(taken, &mut self.spare);
            self.queued = self.queued.saturating_add(count as u64);
            ready_or_blocked(id.0, stream, &mut self.ready, &mut self.urgent);
        }
        Ok(count)
    }

    /// Ends the sending direction in order: FIN goes out after what was written.
    ///
    /// # Errors
    /// [`WriteError`], when the direction had been ended otherwise. Finishing twice is not an error.
    pub fn finish(&mut self, id: StreamId) -> Result<(), WriteError> {
        let over = self.over;
        let Some(stream) = self.streams.get_mut(&id.0) else { return Err(WriteError::Closed) };
        match (stream.send.state, over) {
            (SendState::Stopped(code), _) => Err(WriteError::Stopped(code)),
            (SendState::Reset, _) => Err(WriteError::Closed),
            (SendState::Finishing | SendState::Finished, _) => Ok(()),
            (SendState::Open, Some(code)) => Err(WriteError::Lost(code)),
            (SendState::Open, None) => {
                stream.send.state = SendState::Finishing;
                self.make_ready(id.0);
                Ok(())
            }
        }
    }

    /// Ends the sending direction at once: what was not sent is dropped, and the code reaches the peer's application.
    /// Does nothing when the direction has ended.
    pub fn reset(&mut self, id: StreamId, code: Code) {
        self.end_sending(id.0, SendState::Reset, code);
    }

    /// Like [`Self::reset`], unless the direction was finished: then what was written still goes out.
    pub fn reset_unfinished(&mut self, id: StreamId, code: Code) {
        if self.with(id.0, |stream| stream.send.state == SendState::Open) == Some(true) {
            self.reset(id, code);
        }
    }

    pub(super) fn on_stop(&mut self, id: u32, payload: &[u8]) -> Result<(), Violation> {
        let code = Code(crate::frame::be_u32(payload).ok_or(Violation::FrameLength)?);
        if self.known(id)? {
            self.end_sending(id, SendState::Stopped(code), code); // spec: END-004
            self.refused_if_pending(id, code);
            self.tell(id);
            self.remove_if_over(id);
        }
        Ok(())
    }

    pub(super) fn on_credit(&mut self, id: u32, payload: &[u8]) -> Result<(), Violation> {
        let limit = be_u64(payload).ok_or(Violation::FrameLength)?;
        if limit > crate::MAX_OFFSET {
            return Err(Violation::OffsetRange);
        }
        // spec: CREDIT-009
        if self.known(id)? && self.with(id, |stream| stream.send.credit.raise(limit)).transpose()? == Some(true) {
            self.make_ready(id);
        }
        Ok(())
    }

    pub(super) fn on_streams(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let count = be_u64(payload).ok_or(Violation::FrameLength)?;
        if count > crate::MAX_OFFSET {
            return Err(Violation::OffsetRange);
        }
        self.opened.ours_granted = self.opened.ours_granted.max(count);
        Ok(())
    }

    /// Tells as many of those that the total had held back as there is room for. The others are told when they have sent what
    /// they have waiting, if not before.
    pub(super) fn wake_crowd(&mut self) {
        if self.crowded.is_empty() {
            return;
        }
        let (total, frame) = (self.config.send_total, self.config.frame);
        let mut room = total.saturating_sub(self.queued).div_ceil(u64::from(frame));
        while room > 0
            && let Some(other) = self.crowded.pop_front()
        {
            let waited = self.with(other, |stream| {
                stream.in_crowded = false;
                let waited = core::mem::take(&mut stream.send.waiting);
                stream.news.writable |= waited;
                waited
            });
            room -= u64::from(waited == Some(true));
            self.tell(other);
        }
    }

    pub(super) fn end_sending(&mut self, id: u32, state: SendState, code: Code) {
        let over = self.over.is_some();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.send.is_over() {
            return;
        }
        stream.send.state = state;
        let dropped = stream.send.clear(); // spec: END-012
        stream.owed.accept = false;
        stream.owed.blocked = None;
        stream.news.writable |= core::mem::take(&mut stream.send.waiting);
        self.queued = self.queued.saturating_sub(dropped as u64);
        if !over {
            stream.owed.reset = Some(code); // after its OPEN, also where that has not been sent: no number is skipped
            enter(&mut self.urgent, id, &mut stream.in_urgent);
        }
        self.tell(id);
        self.wake_crowd();
    }

    /// Takes a refusal of a stream that this side opened as the answer to whether it was accepted.
    pub(super) fn refused_if_pending(&mut self, id: u32, code: Code) {
        self.with(id, |stream| {
            if stream.ours && stream.accepted == super::Acceptance::Pending {
                stream.accepted = super::Acceptance::Refused(code);
                stream.news.accepted = true;
            }
        });
    }

    /// Returns whether the stream is there; a violation when it was never opened, as far as the peer can know.
    pub(super) fn known(&self, id: u32) -> Result<bool, Violation> {
        if let Some(stream) = self.streams.get(&id) {
            return if stream.owed.open { Err(Violation::StreamIdle) } else { Ok(true) };
        }
        let highest = if S::ROLE.opened(id) { self.opened.ours } else { self.opened.theirs };
        if id.div_ceil(2) > highest {
            return Err(Violation::StreamIdle); // spec: STREAM-007
        }
        Ok(false) // spec: STREAM-008
    }
}

/// Returns up to how many octets of a stream may wait for its writer to be told that there is room, while so many wait in all.
/// Who is told and finds no room was told in vain.
pub(super) const fn low(config: &Config, queued: u64) -> usize {
    let crowded = queued >= config.send_total;
    (if crowded { config.frame.saturating_sub(1) } else { config.send_stream / 2 }) as usize
}

/// Puts a stream with data where it can be sent, or owes the peer a word that it is blocked.
pub(super) fn ready_or_blocked(id: u32, stream: &mut Stream, ready: &mut VecDeque<u32>, urgent: &mut VecDeque<u32>) {
    if stream.send.has_work() {
        enter(ready, id, &mut stream.in_ready);
    }
    if !stream.send.queue.is_empty()
        && let Some(offset) = stream.send.credit.say_blocked()
    {
        stream.owed.blocked = Some(offset);
        enter(urgent, id, &mut stream.in_urgent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Open, frame::Kind, side::Network};

    #[test]
    fn a_crowd_that_lasts_is_remembered_once_for_each_stream() {
        let config = Config { send_stream: 16_376, send_total: 32_768, ..Config::network() };
        let peer = Limits { frame: 16_376, window: 1 << 30, streams: 100 };
        let mut session = Session::<Network>::new(&config, peer, false);
        let streams: [StreamId; 8] = core::array::from_fn(|_| session.open(Open::default()).expect("granted"));
        let data = Bytes::from_static(&[7; 4 << 10]);

        for round in 0..2_000 {
            for id in streams {
                while session.write(id, &mut data.clone()).is_ok() {}
            }
            assert!(session.queued >= config.send_total, "it is crowded");
            assert!(session.crowded.len() <= streams.len(), "{} in round {round}", session.crowded.len());
            session.poll_transmit().expect("there is data");
            while session.poll_stream_event().is_some() {}
        }
    }

    #[test]
    fn a_writer_that_was_blocked_is_told_once_when_half_of_what_waited_is_sent() {
        let config = Config { send_stream: 4 * 16_376, window_eager: 16 << 10, ..Config::network() };
        let peer = Limits { frame: 16_376, window: 1 << 20, streams: 100 };
        let mut session = Session::<Network>::new(&config, peer, false);
        let id = session.open(Open::default()).expect("granted");
        let mut data = Bytes::from_static(&[7; 5 * 16_376]);
        assert_eq!(session.write(id, &mut data), Ok(4 * 16_376));
        assert_eq!(session.write(id, &mut data), Err(WriteError::Blocked));
        assert_eq!(session.poll_transmit().map(|frame| frame.kind()), Some(Kind::Open));

        let told = [(); 4].map(|()| {
            assert_eq!(session.poll_transmit().map(|frame| frame.kind()), Some(Kind::Data));
            core::iter::from_fn(|| session.poll_stream_event()).count()
        });

        assert_eq!(told, [0, 1, 0, 0]);
    }

    #[test]
    fn a_writer_who_has_a_frame_waiting_is_not_told_while_as_much_waits_as_all_may_have() {
        let config = Config { send_stream: 4 * 16_376, send_total: 3 * 16_376, ..Config::network() };
        let peer = Limits { frame: 16_376, window: 1 << 20, streams: 100 };
        let mut session = Session::<Network>::new(&config, peer, false);
        let [one, other]: [StreamId; 2] = core::array::from_fn(|_| session.open(Open::default()).expect("granted"));
        for id in [one, other] {
            assert_eq!(session.write(id, &mut Bytes::from_static(&[7; 2 * 16_376])), Ok(2 * 16_376));
        }
        assert_eq!(session.write(one, &mut Bytes::from_static(&[7])), Err(WriteError::Blocked));

        while session.poll_transmit().expect("there is data").kind() != Kind::Data {}

        assert_eq!((session.queued, session.poll_stream_event()), (config.send_total, None));
    }

    #[test]
    fn of_a_crowd_no_more_are_told_than_there_is_room_for() {
        let config = Config { send_stream: 16_376, send_total: 6 * 16_376, ..Config::network() };
        let peer = Limits { frame: 16_376, window: 1 << 30, streams: 100 };
        let mut session = Session::<Network>::new(&config, peer, false);
        let streams: [StreamId; 20] = core::array::from_fn(|_| session.open(Open::default()).expect("granted"));
        for id in streams {
            while session.write(id, &mut Bytes::from_static(&[7; 16_376])).is_ok() {}
        }
        let mut told = |frames: usize| {
            for _ in 0..frames {
                while session.poll_transmit().expect("there is data").kind() != Kind::Data {}
            }
            core::iter::from_fn(|| session.poll_stream_event()).count()
        };

        assert_eq!(told(14), 14, "each that has sent what it had, and nobody else");
        assert_eq!(told(1), 2, "who sent, and one for whom there is room");
        assert_eq!(told(1), 2, "two for whom there is room; who sent has been told");
        assert_eq!(told(4), 2, "all have been told");
    }

    #[test]
    fn streams_that_are_gone_are_not_remembered_in_a_crowd() {
        let config = Config { send_stream: 16_376, send_total: 32_768, ..Config::network() };
        let peer = Limits { frame: 16_376, window: 0, streams: 2_000_000 };
        let mut session = Session::<Network>::new(&config, peer, false);
        for _ in 0..3 {
            let id = session.open(Open::default()).expect("granted");
            while session.write(id, &mut Bytes::from_static(&[7; 8 << 10])).is_ok() {}
        }

        for _ in 0..5_000 {
            let id = session.open(Open::default()).expect("granted");
            while session.write(id, &mut Bytes::from_static(&[7; 8 << 10])).is_ok() {}
            session.release(id);
            while session.poll_transmit().is_some() {}
            session.on_reset(id.number(), &[0; 4]).expect("valid");
        }

        assert_eq!(session.live_streams(), 3);
        assert!(session.crowded.len() <= 100, "{} are remembered", session.crowded.len());
    }
}
