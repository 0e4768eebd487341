//! The model: what both applications did, and what each of them may be told for it.

use std::collections::BTreeMap;

use adit_core::{Code, ReadError, Role, WriteError};

/// Every stream that was ever opened.
#[derive(Debug, Default)]
pub(super) struct Reference {
    pub(super) streams: BTreeMap<u32, Stream>,
}

/// A stream, as both its applications see it together.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) opener: Role,
    /// Whether the other side was told of it.
    pub(super) told: bool,
    /// Whether it crossed the announcement of an end, so that nobody will be told.
    pub(super) refused: bool,
    /// How often the opener was told of its fate.
    pub(super) answers: usize,
    pub(super) accepted: bool,
    pub(super) from_agent: Half,
    pub(super) from_network: Half,
}

/// One direction: octets are a count, because each follows from its place.
#[derive(Debug, Default)]
pub(super) struct Half {
    pub(super) written: usize,
    pub(super) read: usize,
    pub(super) finished: bool,
    /// What the writer abandoned it with, first.
    pub(super) reset: Option<Code>,
    /// What the reader asked to cease with, first.
    pub(super) stopped: Option<Code>,
    /// Whether the writer, the reader let go.
    pub(super) writer_gone: bool,
    pub(super) reader_gone: bool,
    /// Whether the reader was told that it would get nothing until it is told otherwise; so the writer.
    pub(super) reader_waits: bool,
    pub(super) writer_waits: bool,
    /// What the reader was told last.
    pub(super) end: Option<End>,
}

/// An end that a reader saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    Reset(Code),
}

impl Stream {
    pub(super) fn new(opener: Role) -> Self {
        Self {
            opener,
            told: false,
            refused: false,
            answers: 0,
            accepted: false,
            from_agent: Half::default(),
            from_network: Half::default(),
        }
    }

    /// Returns the direction in which this side writes.
    pub(super) const fn from(&mut self, side: Role) -> &mut Half {
        match side {
            Role::Agent => &mut self.from_agent,
            Role::Network => &mut self.from_network,
        }
    }

    /// Returns the direction in which this side reads.
    pub(super) const fn towards(&mut self, side: Role) -> &mut Half {
        self.from(side.peer())
    }

    /// Returns whether this side may act on the stream: it opened it, or was told of it.
    pub(super) fn known_to(&self, side: Role) -> bool {
        self.opener == side || self.told
    }

    /// Returns what the opener may learn of its fate: taken only if it was used, refused only if it was refused.
    pub(super) fn allows_fate(&self, fate: Option<Result<(), Code>>) -> bool {
        let (back, forth) = match self.opener {
            Role::Agent => (&self.from_network, &self.from_agent),
            Role::Network => (&self.from_agent, &self.from_network),
        };
        match fate {
            None => true,
            Some(Ok(())) => self.accepted || back.written > 0 || back.finished,
            Some(Err(Code::REFUSED)) if self.refused => true,
            Some(Err(code)) => {
                back.reset == Some(code)
                    || back.stopped == Some(code)
                    || forth.stopped == Some(code)
                    || forth.writer_gone
            }
        }
    }

    /// Returns whether the opener will be told of its fate, once everything has arrived.
    pub(super) fn has_fate(&self) -> bool {
        let (back, forth) = match self.opener {
            Role::Agent => (&self.from_network, &self.from_agent),
            Role::Network => (&self.from_agent, &self.from_network),
        };
        self.refused
            || self.accepted
            || back.written > 0
            || back.finished
            || back.reset.is_some()
            || back.stopped.is_some()
            || (forth.stopped.is_some() && !forth.finished && forth.reset.is_none())
    }
}

impl Half {
    /// Takes what a reader got; panics when it may not.
    pub(super) fn on_read(&mut self, id: u32, from: Role, got: &Result<Option<bytes::Bytes>, ReadError>) {
        self.reader_waits = *got == Err(ReadError::Blocked);
        match got {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty() && self.end.is_none(), "stream {id}: {self:?}");
                assert!(self.stopped.is_none(), "stream {id}: read after it was not wanted");
                assert!(
                    self.read + chunk.len() <= self.written,
                    "L4: stream {id} gave more than was written: {self:?}"
                );
                let expected = pattern(id, from, self.read, chunk.len());
                assert!(*chunk == expected, "L4: stream {id} from {}: not what was written there", self.read);
                self.read += chunk.len();
            }
            Ok(None) => {
                assert!(self.finished && self.read == self.written, "L4: stream {id}: an end too early: {self:?}");
                assert!(self.end.is_none_or(|end| end == End::Whole), "stream {id}: two ends: {self:?}");
                self.end = Some(End::Whole);
            }
            Err(ReadError::Reset(code)) => {
                assert_eq!(self.reset, Some(*code), "stream {id}: a reset that nobody made: {self:?}");
                assert!(self.end != Some(End::Whole), "stream {id}: two ends: {self:?}");
                self.end = Some(End::Reset(*code));
            }
            Err(ReadError::Closed) => assert!(self.stopped.is_some(), "stream {id}: {self:?}"),
            Err(ReadError::Blocked) => assert!(self.end.is_none(), "stream {id}: it had ended: {self:?}"),
            Err(error) => panic!("stream {id}: {error}: {self:?}"),
        }
    }

    /// Takes what a writer of so many octets got; panics when it may not.
    pub(super) fn on_write(&mut self, id: u32, length: usize, got: Result<usize, WriteError>) {
        let ended = self.finished || self.reset.is_some();
        match got {
            Ok(count) => {
                assert!(!ended, "stream {id}: written after its end: {self:?}");
                assert!(count <= length && (count > 0 || length == 0), "stream {id}: {count} of {length}");
                self.written += count;
            }
            Err(WriteError::Blocked) => {
                assert!(!ended, "stream {id}: {self:?}");
                self.writer_waits = true;
            }
            Err(WriteError::Stopped(code)) => {
                assert_eq!(self.stopped, Some(code), "stream {id}: {self:?}");
                self.reset.get_or_insert(code); // so it ends with the code of who asked
            }
            Err(WriteError::Closed) => assert!(ended, "stream {id}: nobody has ended it: {self:?}"),
            Err(error) => panic!("stream {id}: {error}: {self:?}"),
        }
    }

    /// The reader asks to cease, and the direction may end with that code unless it has ended.
    pub(super) const fn on_stop(&mut self, code: Code) {
        if self.stopped.is_none() {
            self.stopped = Some(code);
        }
    }

    /// The writer abandons it. What was finished may have gone out before.
    pub(super) const fn on_reset(&mut self, code: Code) {
        if self.reset.is_none() {
            self.reset = Some(code);
        }
    }

    /// Panics unless the reader has got all that it will: called when everything has arrived and was read.
    pub(super) fn assert_complete(&self, id: u32) {
        if self.stopped.is_some() || self.reader_gone {
            return;
        }
        match (self.finished, self.reset) {
            (true, Some(code)) => {
                assert!(
                    self.end == Some(End::Reset(code)) || (self.end == Some(End::Whole) && self.read == self.written),
                    "L9: stream {id} has not ended: {self:?}"
                );
            }
            (false, Some(code)) => assert_eq!(self.end, Some(End::Reset(code)), "L9: stream {id}: {self:?}"),
            (true, None) => assert_eq!((self.end, self.read), (Some(End::Whole), self.written), "L9: stream {id}"),
            (false, None) => assert_eq!((self.end, self.read), (None, self.written), "L9: stream {id}: {self:?}"),
        }
        let may_wait = self.finished || self.reset.is_some();
        assert!(may_wait || !self.writer_waits, "L9: stream {id}: nobody told the writer that there is room");
    }
}

/// The octets that this side writes on this stream from `start` on: no shift of them is like another.
pub(crate) fn pattern(id: u32, from: Role, start: usize, length: usize) -> bytes::Bytes {
    let salt = id.wrapping_mul(2).wrapping_add(u32::from(from == Role::Agent));
    let octet = |place: usize| {
        let [.., low] = ((place as u64).wrapping_add(u64::from(salt) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56)
            .to_be_bytes();
        low
    };
    (start..start + length).map(octet).collect()
}
