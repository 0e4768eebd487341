//! What a session holds, counted piece by piece, to compare with what its configuration allows.

use alloc::{boxed::Box, collections::VecDeque};
use core::mem::size_of;

use bytes::Bytes;

use super::{Session, stream::Stream};
use crate::{Event, Open, Side, frame::Encoded};

impl<S: Side> Session<S> {
    /// Returns the octets that the session holds: payloads, and the tables that lead to them. Payloads that are shared count
    /// for each who holds them.
    pub(crate) fn held(&self) -> u64 {
        let streams = self.streams.values().map(|stream| held_by(stream)).sum::<usize>();
        let rings =
            [&self.urgent, &self.ready, &self.news, &self.crowded].map(|ring| ring.capacity() * size_of::<u32>());
        let tables = streams + rings.iter().sum::<usize>() + self.control.held();
        (tables as u64).saturating_add(self.outgoing.held())
    }
}

fn held_by(stream: &Stream) -> usize {
    let queues = [&stream.send.queue, &stream.recv.queue].map(pieces);
    let open = stream.open.as_ref().map_or(0, |open| size_of::<Open>() + open.endpoint.len());
    size_of::<(u32, Box<Stream>)>() + size_of::<Stream>() + open + queues.iter().sum::<usize>()
}

fn pieces(queue: &VecDeque<Bytes>) -> usize {
    queue.capacity() * size_of::<Bytes>() + queue.iter().map(Bytes::len).sum::<usize>()
}

/// Returns what frames that wait take.
pub(super) fn frames(queue: &VecDeque<Encoded>) -> usize {
    queue.capacity() * size_of::<Encoded>() + queue.iter().map(|frame| frame.payload().len()).sum::<usize>()
}

/// Returns what events that wait take, without the texts of messages.
pub(super) fn events(queue: &VecDeque<Event>) -> usize {
    let lists = queue.iter().map(|event| if let Event::Revocations(lists) = event { lists.len() } else { 0 });
    queue.capacity() * size_of::<Event>() + lists.sum::<usize>()
}
