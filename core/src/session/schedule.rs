//! What goes out next: control first, then the streams with data in turn, one frame each.

use super::send::{low, ready_or_blocked};
use super::{Session, StreamId, enter, stream::SendState};
use crate::{Side, frame::Encoded};

impl<S: Side> Session<S> {
    /// Returns the next counted frame to send, decided as late as it is asked for.
    pub(crate) fn poll_transmit(&mut self) -> Option<Encoded> {
        if self.over.is_some() {
            return None;
        }
        if self.outgoing.repeats() {
            return self.outgoing.poll_again();
        }
        if !self.outgoing.has_room() {
            return None;
        }
        let frame = self.next_frame()?;
        self.outgoing.on_sent(&frame);
        Some(frame)
    }

    /// Returns whether [`Self::poll_transmit`] may have something to give.
    pub(crate) fn wants_transmit(&self) -> bool {
        let owes = self.control.has_output() || self.owes_streams() || self.exhausted;
        let has_new = owes || !self.urgent.is_empty() || !self.ready.is_empty();
        self.over.is_none() && (self.outgoing.repeats() || (has_new && self.outgoing.has_room()))
    }

    fn next_frame(&mut self) -> Option<Encoded> {
        if let Some(frame) = self.control.poll_output() {
            return Some(frame);
        }
        if self.owes_streams() {
            self.opened.theirs_granted = self.grantable();
            return Some(Encoded::streams(self.opened.theirs_granted));
        }
        self.next_urgent().or_else(|| self.next_data()) // spec: CREDIT-011
    }

    /// Returns how many streams the peer may be told it may open, in all.
    fn grantable(&self) -> u64 {
        self.opened.theirs_over.saturating_add(u64::from(self.config.streams))
    }

    fn owes_streams(&self) -> bool {
        let step = u64::from(self.config.streams / 4).max(1); // spec: STREAM-016
        self.grantable().saturating_sub(self.opened.theirs_granted) >= step
    }

    fn next_urgent(&mut self) -> Option<Encoded> {
        while let Some(id) = self.urgent.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let (number, owed) = (StreamId(id), &mut stream.owed);
            // OPEN is the first frame of a stream, whatever else is owed.
            let frame = if core::mem::take(&mut owed.open) {
                // spec: STREAM-014
                stream.open.take().map(|open| Encoded::open(number, &open))
            } else if core::mem::take(&mut owed.accept) {
                Some(Encoded::accept(number))
            } else if let Some(code) = owed.reset.take() {
                Some(Encoded::reset(number, code))
            } else if let Some(code) = owed.stop.take() {
                Some(Encoded::stop(number, code))
            } else if core::mem::take(&mut owed.credit) {
                Some(Encoded::credit(number, stream.recv.credit.announce()))
            } else {
                owed.blocked.take().map(|offset| Encoded::blocked(number, offset))
            };
            stream.in_urgent = stream.owed.any();
            if stream.in_urgent {
                self.urgent.push_back(id);
            }
            self.remove_if_over(id);
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    fn next_data(&mut self) -> Option<Encoded> {
        while let Some(id) = self.ready.pop_front() {
            let most = self.peer.frame as usize;
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            stream.in_ready = false;
            let send = &mut stream.send;
            if !send.has_work() {
                continue; // spec: CREDIT-013
            }
            let credit = usize::try_from(send.credit.available()).unwrap_or(usize::MAX);
            let Some(front) = send.queue.front_mut() else {
                send.state = SendState::Finished;
                let frame = Encoded::fin(StreamId(id), send.credit.used());
                self.remove_if_over(id);
                return Some(frame);
            };
            let length = front.len().min(most).min(credit); // spec: CREDIT-012, FRAME-012
            let data =
                if length == front.len() { send.queue.pop_front().unwrap_or_default() } else { front.split_to(length) };
            self.spare.keep(&mut send.queue);
            send.credit.spend(length); // spec: CREDIT-005
            send.queued = send.queued.saturating_sub(length);
            let finishes = send.queue.is_empty() && send.state == SendState::Finishing;
            self.queued = self.queued.saturating_sub(length as u64);
            self.stats.data_sent = self.stats.data_sent.saturating_add(length as u64);
            if finishes {
                stream.in_ready = true;
                self.ready.push_front(id); // FIN follows its last octet
            } else {
                ready_or_blocked(id, stream, &mut self.ready, &mut self.urgent);
            }
            if stream.send.waiting && stream.send.queued <= low(&self.config, self.queued) {
                stream.send.waiting = false;
                stream.news.writable = true;
                enter(&mut self.news, id, &mut stream.in_news);
            }
            self.wake_crowd();
            return Some(Encoded::data(StreamId(id), data));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_STREAM, OpenError};
    use super::*;
    use crate::{
        Config, Instant, Limits, Open,
        frame::Kind,
        side::{Agent, Network},
    };

    /// STREAM-003
    #[test]
    fn a_side_whose_numbers_are_used_up_opens_the_last_and_drains() {
        fn drains<S: Side>() {
            let peer = Limits { frame: 16_376, window: 0, streams: u32::MAX };
            let mut session = Session::<S>::new(&Config::network(), peer, false);
            session.opened.ours = MAX_STREAM / 2 - u32::from(S::ROLE == crate::Role::Network);

            let last = session.open(Open::default());
            let number = if S::ROLE == crate::Role::Agent { MAX_STREAM } else { MAX_STREAM - 1 };
            assert_eq!(last.map(StreamId::number), Ok(number));
            assert_eq!(session.open(Open::default()), Err(OpenError::Draining));

            assert!(session.wants_transmit() && !session.is_draining());
            session.drain_exhausted(Instant::ZERO);
            assert!(session.is_draining());
            let said = core::iter::from_fn(|| session.poll_transmit());
            assert_eq!(said.filter(|frame| frame.kind() == Kind::GoAway).count(), 1);
            assert!(!session.wants_transmit());
        }
        assert_eq!(MAX_STREAM, 0x7fff_ffff);
        drains::<Agent>();
        drains::<Network>();
    }
}
