//! From octets to frames, whatever pieces they come in.

use alloc::vec::Vec;

use super::{Frame, HEADER, Header, RawKind};
use crate::Violation;

/// Finds frames in the octets of a link.
///
/// A frame that lies whole in the input is handed out where it lies. One that comes in pieces is collected in a buffer
/// that grows with what has arrived, never with what a header promises, and that is given back at the next pause between
/// two frames. After a violation nothing more is taken.
#[derive(Debug)]
pub struct Decoder {
    limit: u32,
    state: State,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The first `have` octets of a header are there.
    Header { octets: [u8; HEADER], have: usize },
    /// The payload is being collected in the buffer.
    Payload { header: Header, left: usize },
    /// The payload of an extension is being thrown away.
    Discard { header: Header, left: usize },
    /// The peer broke a rule.
    Failed(Violation),
}

impl Decoder {
    /// Returns a decoder that accepts payloads of up to `max_frame` octets.
    pub const fn new(max_frame: u32) -> Self {
        // spec: FRAME-010, nothing of a frame outlives its link
        Self { limit: max_frame, state: State::START, buffer: Vec::new() }
    }

    /// Changes the longest payload, in octets, for headers that are complete from here on.
    pub const fn set_limit(&mut self, max_frame: u32) {
        self.limit = max_frame;
    }

    /// Returns the next frame and takes its octets off the front of `input`; `None` when the input is used up.
    ///
    /// # Errors
    /// The rule that the peer broke, told as soon as the header shows it; the same one at every later call.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Frame<'a>>, Violation> {
        loop {
            match self.state {
                State::Header { octets, have } => {
                    let Some(octets) = self.header(octets, have, input) else { return Ok(None) };
                    let header = Header::parse(octets, self.limit).map_err(|violation| self.fail(violation))?;
                    let left = header.length as usize;
                    if let RawKind::Extension(_) = header.kind {
                        self.state = State::Discard { header, left };
                        continue;
                    }
                    if let Some((payload, rest)) = input.split_at_checked(left) {
                        self.state = State::START;
                        *input = rest;
                        return Ok(Some(Frame { header, payload }));
                    }
                    self.state = State::Payload { header, left };
                }
                State::Payload { header, left } => {
                    let taken = split(input, left);
                    self.collect(taken, left);
                    if taken.len() < left {
                        self.state = State::Payload { header, left: left - taken.len() };
                        return Ok(None);
                    }
                    self.state = State::START;
                    return Ok(Some(Frame { header, payload: &self.buffer }));
                }
                State::Discard { header, left } => {
                    let taken = split(input, left).len();
                    if taken < left {
                        self.state = State::Discard { header, left: left - taken };
                        return Ok(None);
                    }
                    self.state = State::START;
                    return Ok(Some(Frame { header, payload: &[] }));
                }
                State::Failed(violation) => return Err(violation), // spec: CODE-003
            }
        }
    }

    /// Returns whether the input so far ends between two frames.
    pub const fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header { have: 0, .. })
    }

    /// Returns the octets that the decoder has allocated.
    pub const fn allocated(&self) -> usize {
        self.buffer.capacity()
    }

    /// Returns a whole header, or keeps what there is of one.
    fn header(&mut self, mut octets: [u8; HEADER], have: usize, input: &mut &[u8]) -> Option<[u8; HEADER]> {
        self.buffer.clear();
        let missing = octets.get_mut(have..).unwrap_or_default();
        let taken = split(input, missing.len());
        missing.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        if taken.len() == missing.len() {
            return Some(octets); // spec: FRAME-002
        }
        self.state = State::Header { octets, have: have + taken.len() };
        self.buffer = Vec::new();
        None
    }

    /// Adds to the buffer, of whose payload `left` octets are still to come.
    fn collect(&mut self, octets: &[u8], left: usize) {
        if self.buffer.capacity() - self.buffer.len() < octets.len() {
            self.buffer.reserve_exact(left.min(octets.len().max(STEP))); // spec: FRAME-009
        }
        self.buffer.extend_from_slice(octets);
    }

    fn fail(&mut self, violation: Violation) -> Violation {
        self.state = State::Failed(violation);
        self.buffer = Vec::new();
        violation
    }
}

impl State {
    const START: Self = Self::Header { octets: [0; HEADER], have: 0 };
}

/// Takes up to `most` octets off the front of `input`.
fn split<'a>(input: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at_checked(most).unwrap_or((*input, &[]));
    *input = rest;
    taken
}

/// What the buffer grows by at least, in octets, so that a frame that trickles in is not moved for each octet.
const STEP: usize = 4_096;
