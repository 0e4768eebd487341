//! One stream: two halves that end separately, and what is owed to the peer about them.

use alloc::{boxed::Box, collections::VecDeque};
use bytes::{Bytes, BytesMut};

use super::spare::Spare;
use crate::{
    BindId, Code, Open,
    flow::{RecvCredit, SendCredit},
};

/// A stream as its session keeps it, until both directions ended and the application let go.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What it was opened for, until that is sent or taken.
    pub(crate) open: Option<Box<Open>>,
    /// The bind that it belongs to, so that giving that up can end it.
    pub(crate) bind: Option<BindId>,
    /// Whether this side opened it.
    pub(crate) ours: bool,
    pub(crate) released: bool,
    pub(crate) accepted: Acceptance,
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
    pub(crate) owed: Owed,
    /// Whether it stands in the ring of streams that owe control frames.
    pub(crate) in_urgent: bool,
    /// Whether it stands in the ring of streams that have data to send.
    pub(crate) in_ready: bool,
    /// Whether it stands among those whose writers the total holds back.
    pub(crate) in_crowded: bool,
    /// What the application has not been told.
    pub(crate) news: News,
    pub(crate) in_news: bool,
}

/// Whether the other side handed the stream to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    Pending,
    Accepted,
    Refused(Code),
}

/// The direction from this side to the peer.
#[derive(Debug)]
pub(crate) struct SendHalf {
    pub(crate) credit: SendCredit,
    pub(crate) queue: VecDeque<Bytes>,
    pub(crate) queued: usize,
    pub(crate) state: SendState,
    /// Whether a write was blocked and waits to be told.
    pub(crate) waiting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendState {
    Open,
    /// FIN goes out after what is queued.
    Finishing,
    /// FIN was sent.
    Finished,
    /// RESET is owed or was sent.
    Reset,
    /// The peer asked to cease; RESET is owed or was sent.
    Stopped(Code),
}

/// The direction from the peer to this side.
#[derive(Debug)]
pub(crate) struct RecvHalf {
    pub(crate) credit: RecvCredit,
    pub(crate) queue: VecDeque<Bytes>,
    pub(crate) state: RecvState,
    /// What a reader is told where this side wants no more and the reader has not said so.
    pub(crate) told: Option<Code>,
    /// Whether a read was blocked and waits to be told.
    pub(crate) waiting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecvState {
    Open,
    /// FIN came.
    Ended,
    /// RESET came.
    Reset(Code),
    /// The application wants no more; what arrives is dropped until the peer ends the direction.
    Unwanted,
    /// The application wanted no more, and the peer has ended the direction.
    UnwantedEnded,
}

/// Control frames owed: what is in the set is in it once, the newest value wins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owed {
    // spec: LIM-004
    pub(crate) open: bool,
    pub(crate) accept: bool,
    pub(crate) reset: Option<Code>,
    pub(crate) stop: Option<Code>,
    pub(crate) credit: bool,
    pub(crate) blocked: Option<u64>,
}

/// Events owed to the application.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    pub(crate) opened: bool,
    pub(crate) accepted: bool,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

impl Stream {
    pub(crate) fn new(open: Open, ours: bool, send_window: u32, recv_window: u32) -> Self {
        Self {
            bind: open.bind,
            open: Some(Box::new(open)),
            ours,
            released: false,
            accepted: Acceptance::Pending,
            send: SendHalf {
                credit: SendCredit::new(send_window),
                queue: VecDeque::new(),
                queued: 0,
                state: SendState::Open,
                waiting: false,
            },
            recv: RecvHalf {
                credit: RecvCredit::new(recv_window),
                queue: VecDeque::new(),
                state: RecvState::Open,
                told: None,
                waiting: true,
            },
            owed: Owed::default(),
            in_urgent: false,
            in_ready: false,
            in_crowded: false,
            news: News::default(),
            in_news: false,
        }
    }

    /// Takes that the peer uses the stream as the answer to whether it was accepted.
    pub(crate) fn accept_by_use(&mut self) {
        if self.ours && self.accepted == Acceptance::Pending {
            self.accepted = Acceptance::Accepted;
            self.news.accepted = true;
        }
    }

    /// Returns whether nothing more can happen: both directions ended, nothing owed, the application gone.
    pub(crate) fn is_over(&self) -> bool {
        self.released && !self.owed.any() && self.send.is_over() && self.recv.is_ended() // spec: END-001
    }
}

impl SendHalf {
    pub(crate) const fn is_over(&self) -> bool {
        match self.state {
            SendState::Open | SendState::Finishing => false,
            SendState::Finished | SendState::Reset | SendState::Stopped(_) => true,
        }
    }

    /// Returns whether the data ring has something to do for this stream.
    pub(crate) fn has_work(&self) -> bool {
        match self.state {
            SendState::Open => !self.queue.is_empty() && self.credit.available() > 0,
            SendState::Finishing => self.queue.is_empty() || self.credit.available() > 0, // spec: CREDIT-014
            SendState::Finished | SendState::Reset | SendState::Stopped(_) => false,
        }
    }

    /// Keeps octets to be sent.
    pub(crate) fn push(&mut self, octets: Bytes, spare: &mut Spare) {
        self.queued = self.queued.saturating_add(octets.len());
        if !join(&mut self.queue, &octets) {
            spare.lend(&mut self.queue);
            self.queue.push_back(octets);
        }
    }

    /// Drops what is queued; returns how many octets that was.
    pub(crate) fn clear(&mut self) -> usize {
        self.queue = VecDeque::new();
        core::mem::take(&mut self.queued)
    }
}

impl RecvHalf {
    /// Keeps octets that arrived.
    pub(crate) fn push(&mut self, octets: &[u8], spare: &mut Spare) {
        if !join(&mut self.queue, octets) {
            spare.lend(&mut self.queue);
            self.queue.push_back(spare.copy(octets));
        }
    }

    /// Returns whether the peer has ended the direction.
    pub(crate) const fn is_ended(&self) -> bool {
        match self.state {
            RecvState::Open | RecvState::Unwanted => false,
            RecvState::Ended | RecvState::Reset(_) | RecvState::UnwantedEnded => true,
        }
    }
}

impl Owed {
    pub(crate) const fn any(&self) -> bool {
        self.open || self.accept || self.credit || self.reset.is_some() || self.stop.is_some() || self.blocked.is_some()
    }
}

impl News {
    pub(crate) const fn any(self) -> bool {
        self.opened || self.accepted || self.readable || self.writable
    }
}

/// Adds a small piece to a small one before it; returns whether it did. What a piece costs beside its octets would else fill
/// the memory, not what a window allows; and what is sent in one frame costs one.
fn join(queue: &mut VecDeque<Bytes>, octets: &[u8]) -> bool {
    let Some(last) = queue.back_mut().filter(|last| last.len() < JOINED && octets.len() < JOINED) else { return false };
    let mut joined = core::mem::take(last).try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
    joined.extend_from_slice(octets);
    *last = joined.freeze();
    true
}

/// A piece that is shorter, in octets, is joined with the next.
const JOINED: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn octets_in_small_pieces_are_kept_in_order_and_cost_little_more_than_themselves() {
        let mut stream = Stream::new(Open::default(), false, 0, 0);
        let mut sent = Vec::new();

        for count in 0..20_000u32 {
            let length = if count % 1_000 == 0 { 2_000 } else { 3 };
            let piece: Vec<u8> = count.to_be_bytes().into_iter().cycle().skip(2).take(length).collect();
            stream.recv.push(&piece, &mut Spare::new(4_000));
            sent.extend(piece);
        }

        let pieces = &stream.recv.queue;
        assert!(pieces.len() <= 60_000 / JOINED + 3 * 20, "{} pieces", pieces.len());
        assert_eq!(pieces.iter().flatten().copied().collect::<Vec<u8>>(), sent);
    }

    #[test]
    fn a_piece_is_joined_that_is_short_to_one_that_is_short() {
        let joins = |before, piece| {
            let mut queue = VecDeque::from([Bytes::from(alloc::vec![1; before])]);
            join(&mut queue, &alloc::vec![2; piece])
        };

        assert!(joins(JOINED - 1, JOINED - 1));
        assert!(!joins(JOINED, 1) && !joins(1, JOINED));
    }

    #[test]
    fn a_piece_that_the_application_holds_stays_as_it_was() {
        let mut stream = Stream::new(Open::default(), false, 0, 0);
        stream.recv.push(b"one", &mut Spare::new(4));
        let held = stream.recv.queue.front().cloned().unwrap_or_default();

        stream.recv.push(b"two", &mut Spare::new(4));

        assert_eq!(held, b"one".as_slice());
        assert_eq!(stream.recv.queue, [Bytes::from_static(b"onetwo")]);
    }

    #[test]
    fn small_pieces_that_wait_to_be_sent_are_joined() {
        let mut stream = Stream::new(Open::default(), true, 0, 0);

        for piece in [b"a".as_slice(), b"b", &[7; 2_000], b"c", b"d"] {
            stream.send.push(Bytes::copy_from_slice(piece), &mut Spare::new(4));
        }

        assert_eq!(stream.send.queue, [Bytes::from_static(b"ab"), Bytes::from_static(&[7; 2_000]), "cd".into()]);
        assert_eq!(stream.send.queued, 2_004);
    }
}
