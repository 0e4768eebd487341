//! Memory that goes from one use to the next: a session at work allocates nothing, one at rest holds nothing.

use alloc::{collections::VecDeque, vec::Vec};

use bytes::{Bytes, BytesMut};

/// A few buffers and a few queues.
#[derive(Debug)]
pub(crate) struct Spare {
    /// For one long frame each. One is free when nobody holds any of its octets.
    buffers: Vec<BytesMut>,
    /// Empty ones, of streams that have nothing to keep.
    queues: Vec<VecDeque<Bytes>>,
    frame: usize,
}

impl Spare {
    /// Returns nothing yet, for frames of up to `frame` octets.
    pub(crate) const fn new(frame: u32) -> Self {
        Self { buffers: Vec::new(), queues: Vec::new(), frame: frame as usize }
    }

    /// Returns a copy of `octets`, in the first buffer that is free.
    pub(crate) fn copy(&mut self, octets: &[u8]) -> Bytes {
        // Who holds an octet holds a buffer: at least half of it is filled, so that he holds at most twice what he was given.
        if octets.len() <= self.frame / 2 || octets.len() > self.frame {
            return Bytes::copy_from_slice(octets);
        }
        let free = self.buffers.iter_mut().position(|buffer| buffer.try_reclaim(octets.len())).or_else(|| self.add());
        let Some(buffer) = free.and_then(|place| self.buffers.get_mut(place)) else {
            return Bytes::copy_from_slice(octets);
        };
        buffer.extend_from_slice(octets);
        buffer.split().freeze()
    }

    /// Takes the memory of a queue that is empty.
    pub(crate) fn keep(&mut self, queue: &mut VecDeque<Bytes>) {
        if queue.is_empty() {
            let queue = core::mem::take(queue);
            if self.queues.len() < QUEUES && queue.capacity() <= PIECES {
                self.queues.push(queue);
            }
        }
    }

    /// Gives memory to a queue that has none.
    pub(crate) fn lend(&mut self, queue: &mut VecDeque<Bytes>) {
        if queue.capacity() == 0 {
            *queue = self.queues.pop().unwrap_or_default();
        }
    }

    /// Returns whether there is anything.
    #[cfg(test)]
    pub(super) const fn holds(&self) -> bool {
        !self.buffers.is_empty() || !self.queues.is_empty()
    }

    /// Gives back what is free now, and what is not as soon as it is.
    pub(crate) fn clear(&mut self) {
        (self.buffers, self.queues) = (Vec::new(), Vec::new());
    }

    fn add(&mut self) -> Option<usize> {
        let place = self.buffers.len();
        (place < MOST).then(|| {
            self.buffers.push(BytesMut::with_capacity(self.frame));
            place
        })
    }
}

/// Returns the most that is kept for frames of up to `frame` octets, in octets.
pub(crate) const fn most(frame: u32) -> u64 {
    MOST as u64 * (frame as u64 + BOOKS) + (QUEUES * PIECES * size_of::<Bytes>()) as u64
}

/// What arrives at once before a reader has had its turn, in frames.
const MOST: usize = 16;
const QUEUES: usize = 32;
const PIECES: usize = 64;
const BOOKS: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_all_of_it_was_dropped_and_not_before() {
        let mut spare = Spare::new(100);
        let mut first = spare.copy(&[1; 100]);
        let (at, rest) = (first.as_ptr(), first.split_off(90));

        drop(first);
        let second = spare.copy(&[2; 51]);
        assert_ne!(second.as_ptr(), at);
        drop(rest);
        let third = spare.copy(&[3; 100]);

        assert_eq!((third.as_ptr(), second.as_ref(), third.as_ref()), (at, &[2; 51][..], &[3; 100][..]));
    }

    #[test]
    fn what_fills_no_more_than_half_of_a_buffer_has_memory_of_its_own() {
        let mut spare = Spare::new(100);

        assert_eq!(spare.copy(&[7; 50]), [7; 50].as_slice());
        assert_eq!(spare.buffers.len(), 0);
        assert_eq!(spare.copy(&[7; 51]), [7; 51].as_slice());
        assert_eq!(spare.buffers.len(), 1);
        for (length, buffers) in [(100, 1), (101, 0)] {
            let mut spare = Spare::new(100);
            assert_eq!(spare.copy(&[7; 101][..length]), [7; 101][..length]);
            assert_eq!(spare.buffers.len(), buffers, "{length}");
        }
    }

    #[test]
    fn a_queue_goes_from_a_stream_that_emptied_it_to_the_next() {
        let (mut spare, mut queue, mut next) = (Spare::new(100), VecDeque::with_capacity(8), VecDeque::new());

        queue.push_back(Bytes::from_static(b"one"));
        spare.keep(&mut queue);
        assert_eq!((queue.len(), spare.queues.len()), (1, 0));
        queue.clear();
        spare.keep(&mut queue);
        spare.lend(&mut next);

        assert_eq!((queue.capacity(), next.capacity(), spare.queues.len()), (0, 8, 0));
    }

    #[test]
    fn no_more_queues_are_kept_than_a_few_and_none_that_grew_long() {
        let mut spare = Spare::new(100);

        spare.keep(&mut VecDeque::with_capacity(PIECES + 1));
        assert_eq!(spare.queues.len(), 0);
        for _ in 0..=QUEUES {
            spare.keep(&mut VecDeque::with_capacity(PIECES));
        }

        assert_eq!(spare.queues.len(), QUEUES);
    }

    #[test]
    fn what_is_kept_at_most_is_each_buffer_with_its_books_and_each_queue() {
        assert_eq!(most(100), 16 * (100 + 128) + 32 * 64 * 32);
    }

    #[test]
    fn readers_that_hold_on_get_copies_and_no_more_buffers() {
        let mut spare = Spare::new(100);

        let held: Vec<Bytes> = (0..40).map(|count| spare.copy(&[count; 99])).collect();

        assert_eq!(spare.buffers.len(), MOST);
        assert!((0..40).zip(&held).all(|(count, octets)| *octets == [count; 99].as_slice()));
    }
}
