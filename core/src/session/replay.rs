//! Counted frames: how many went out, how many are acknowledged, and those kept until they are.

use alloc::collections::VecDeque;

use crate::{Config, Duration, Instant, MAX_OFFSET, Violation, frame::Encoded};

/// The direction from this side to the peer.
#[derive(Debug)]
pub(crate) struct Outgoing {
    sent: u64,
    acknowledged: u64,
    kept: VecDeque<Encoded>,
    kept_octets: u64,
    /// The frames at the end of `kept` that have not been sent on the present link.
    again: usize,
    keeps: bool,
    max_frames: u64,
    max_octets: u64,
}

impl Outgoing {
    pub(crate) const fn new(keeps: bool, config: &Config) -> Self {
        Self {
            sent: 0,
            acknowledged: 0,
            kept: VecDeque::new(),
            kept_octets: 0,
            again: 0,
            keeps,
            max_frames: config.retain_frames as u64,
            max_octets: config.retain_octets,
        }
    }

    /// Returns whether another counted frame may go out.
    pub(crate) fn has_room(&self) -> bool {
        // spec: RES-004
        !self.keeps || (self.kept_octets < self.max_octets && (self.kept.len() as u64) < self.max_frames)
    }

    /// Counts a frame that goes out.
    pub(crate) fn on_sent(&mut self, frame: &Encoded) {
        self.sent = self.sent.saturating_add(1); // spec: RES-001
        if self.keeps {
            self.kept_octets = self.kept_octets.saturating_add(frame.len() as u64);
            self.kept.push_back(frame.clone());
        }
    }

    /// Takes the peer's count of processed frames; a count that is not higher changes nothing.
    pub(crate) fn on_ack(&mut self, count: u64) -> Result<(), Violation> {
        if count > self.sent.saturating_sub(self.again as u64) {
            return Err(Violation::AckRange); // spec: RES-002
        }
        while self.acknowledged < count {
            self.acknowledged = self.acknowledged.saturating_add(1);
            if let Some(frame) = self.kept.pop_front() {
                self.kept_octets = self.kept_octets.saturating_sub(frame.len() as u64);
            }
        }
        if self.kept.is_empty() && self.kept.capacity() > IDLE_CAPACITY {
            self.kept = VecDeque::new();
        }
        Ok(())
    }

    /// Returns whether a peer that has processed so many frames can be given the rest.
    pub(crate) const fn can_resume_at(&self, received: u64) -> bool {
        self.keeps && self.acknowledged <= received && received <= self.sent
    }

    /// Sends again, on a new link, all that the peer has not processed.
    pub(crate) fn resume_at(&mut self, received: u64) -> Result<(), Violation> {
        self.again = 0;
        self.on_ack(received)?;
        self.again = self.kept.len(); // spec: RES-005
        Ok(())
    }

    /// Returns the next frame to send again.
    pub(crate) fn poll_again(&mut self) -> Option<Encoded> {
        let frame = self.kept.get(self.kept.len().checked_sub(self.again)?).filter(|_| self.again > 0)?.clone();
        self.again -= 1;
        Some(frame)
    }

    /// Returns whether there are frames to send again.
    pub(crate) const fn repeats(&self) -> bool {
        self.again > 0
    }

    pub(crate) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns whether the peer has processed every counted frame.
    pub(crate) const fn is_acknowledged(&self) -> bool {
        self.acknowledged == self.sent
    }

    #[cfg(feature = "testing")]
    pub(super) fn held(&self) -> u64 {
        self.kept_octets + (self.kept.capacity() * size_of::<Encoded>()) as u64
    }

    pub(crate) const fn kept_octets(&self) -> u64 {
        self.kept_octets
    }
}

/// The direction from the peer to this side.
#[derive(Debug)]
pub(crate) struct Incoming {
    processed: u64,
    octets: u64,
    due: Option<Instant>,
    owed: bool,
    max_octets: u64,
    max_delay: Duration,
}

impl Incoming {
    pub(crate) const fn new(config: &Config) -> Self {
        Self {
            processed: 0,
            octets: 0,
            due: None,
            owed: false,
            max_octets: config.ack_octets as u64,
            max_delay: config.ack_delay,
        }
    }

    /// Counts a frame that was processed.
    pub(crate) fn on_processed(&mut self, octets: usize, now: Instant) {
        self.processed = self.processed.saturating_add(1).min(MAX_OFFSET);
        self.octets = self.octets.saturating_add(octets as u64);
        if self.octets >= self.max_octets {
            self.owed = true; // spec: RES-003
        }
        if self.owed {
            self.due = None;
        } else if self.due.is_none() {
            self.due = Some(now + self.max_delay);
        }
    }

    /// Owes an acknowledgement at once.
    pub(crate) const fn owe(&mut self) {
        self.owed = true;
        self.due = None;
    }

    /// Lets time pass; returns whether an acknowledgement has become due by it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        let due = self.due.take_if(|due| *due <= now).is_some();
        self.owed |= due;
        due
    }

    /// Returns the count to acknowledge if one is owed, or if there is one and something else is written anyway.
    pub(crate) fn poll_ack(&mut self, riding: bool) -> Option<u64> {
        (self.owed || (riding && self.due.is_some())).then(|| {
            self.owed = false;
            self.due = None;
            self.octets = 0;
            self.processed
        })
    }

    pub(crate) const fn owed(&self) -> bool {
        self.owed
    }

    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(crate) const fn processed(&self) -> u64 {
        self.processed
    }
}

const IDLE_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, StreamId};

    /// RES-004
    #[test]
    fn there_is_room_below_both_bounds_and_always_where_nothing_is_kept() {
        let octets = Config { retain_octets: 24, ..Config::network() };
        let frames = Config { retain_frames: 2, ..Config::network() };
        for config in [octets, frames] {
            let (mut keeps, mut forgets) = (Outgoing::new(true, &config), Outgoing::new(false, &config));
            let rooms = [(); 3].map(|()| {
                keeps.on_sent(&frame(0));
                forgets.on_sent(&frame(0));
                (keeps.has_room(), forgets.has_room())
            });
            assert_eq!(rooms, [(true, true), (false, true), (false, true)]);
            assert_eq!((keeps.kept_octets(), forgets.kept_octets()), (36, 0));
        }
    }

    /// RES-002, RES-005, RES-015
    #[test]
    fn what_was_not_processed_is_sent_again_and_not_acknowledged_before() {
        let mut outgoing = Outgoing::new(true, &Config::network());
        (0..4).for_each(|count| outgoing.on_sent(&frame(count)));
        assert_eq!(outgoing.on_ack(1), Ok(()));
        assert_eq!([0, 1, 4, 5].map(|count| outgoing.can_resume_at(count)), [false, true, true, false]);

        assert_eq!(outgoing.resume_at(2), Ok(()));
        assert_eq!(outgoing.on_ack(3), Err(Violation::AckRange));
        assert_eq!((outgoing.repeats(), outgoing.poll_again()), (true, Some(frame(2))));
        assert_eq!(outgoing.on_ack(3), Ok(()));
        assert_eq!((outgoing.repeats(), outgoing.poll_again()), (true, Some(frame(3))));
        assert_eq!((outgoing.repeats(), outgoing.poll_again()), (false, None));

        assert!(!outgoing.is_acknowledged());
        assert_eq!(outgoing.on_ack(4), Ok(()));
        assert_eq!((outgoing.is_acknowledged(), outgoing.kept_octets(), outgoing.poll_again()), (true, 0, None));
        assert!(!Outgoing::new(false, &Config::network()).can_resume_at(0));
    }

    #[test]
    fn memory_for_many_frames_is_given_back_and_that_for_a_few_is_not() {
        for (frames, capacity) in [(IDLE_CAPACITY, IDLE_CAPACITY), (IDLE_CAPACITY + 1, 0)] {
            let mut outgoing = Outgoing::new(true, &Config::network());
            (0..frames).for_each(|_| outgoing.on_sent(&frame(0)));
            assert_eq!(outgoing.on_ack(frames as u64 - 1), Ok(()));
            assert!(outgoing.kept.capacity() >= frames, "one still waits");
            assert_eq!(outgoing.on_ack(frames as u64), Ok(()));
            assert_eq!(outgoing.kept.capacity(), capacity);
        }
    }

    /// RES-003
    #[test]
    fn an_acknowledgement_is_owed_after_so_many_octets_or_so_long_and_rides_along_before() {
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let config = Config { ack_octets: 100, ack_delay: Duration::from_millis(25), ..Config::network() };
        let mut incoming = Incoming::new(&config);

        incoming.on_processed(99, at(0));
        incoming.on_processed(0, at(10));
        assert_eq!((incoming.owed(), incoming.due(), incoming.poll_ack(false)), (false, Some(at(25)), None));
        assert_eq!((incoming.handle_timeout(at(24)), incoming.handle_timeout(at(25))), (false, true));
        assert_eq!((incoming.due(), incoming.poll_ack(false)), (None, Some(2)));

        incoming.on_processed(99, at(30));
        incoming.on_processed(1, at(30));
        assert_eq!((incoming.owed(), incoming.due(), incoming.poll_ack(false)), (true, None, Some(4)));

        assert_eq!(incoming.poll_ack(true), None, "nothing has come");
        incoming.on_processed(1, at(40));
        assert_eq!((incoming.poll_ack(true), incoming.due(), incoming.poll_ack(true)), (Some(5), None, None));
    }

    fn frame(number: u32) -> Encoded {
        Encoded::reset(StreamId(1), Code(number))
    }
}
