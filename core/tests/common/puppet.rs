//! A peer that keeps the rules as long as it likes: it knows what it was granted, and picks what it may send.

use std::collections::BTreeMap;

use adit_core::{
    BindId, BindRefusal, Bound, Code, GoAway, Refusal, Role,
    frame::{Encoded, Kind},
};

use super::{bind, command, stream, unbind};

/// One side without a program.
#[derive(Clone, Debug)]
pub(crate) struct Puppet {
    role: Role,
    opened: u32,
    granted: u64,
    window: u64,
    streams: BTreeMap<u32, Half>,
    sent: u64,
    heard: u64,
    acknowledged: u64,
    binds: u32,
    last: Option<u32>,
}

/// The direction from the puppet on one stream.
#[derive(Clone, Copy, Debug, Default)]
struct Half {
    credit: u64,
    sent: u64,
    ended: bool,
    theirs: bool,
}

impl Puppet {
    /// Returns a puppet in this role that was granted this in the handshake.
    pub(crate) fn new(role: Role, streams: u32, window: u32) -> Self {
        Self {
            role,
            opened: 0,
            granted: streams.into(),
            window: window.into(),
            streams: BTreeMap::new(),
            sent: 0,
            heard: 0,
            acknowledged: 0,
            binds: 0,
            last: None,
        }
    }

    /// Takes what the side that is tested said.
    pub(crate) fn hear(&mut self, said: &[Encoded]) {
        for frame in said {
            let [.., s0, s1, s2, s3] = *frame.header();
            let id = u32::from_be_bytes([s0, s1, s2, s3]);
            let number = || u64::from_be_bytes(frame.payload().try_into().unwrap_or_default());
            self.heard += u64::from(frame.is_counted());
            if frame.kind() == Kind::Open {
                self.streams.insert(id, Half { credit: self.window, theirs: true, ..Half::default() });
            } else if frame.kind() == Kind::Credit {
                if let Some(half) = self.streams.get_mut(&id) {
                    half.credit = half.credit.max(number());
                }
            } else if frame.kind() == Kind::Streams {
                self.granted = self.granted.max(number());
            }
        }
    }

    /// Returns a frame that may be sent, picked by two numbers; `None` when this one may not.
    pub(crate) fn say(&mut self, what: u8, which: u32) -> Option<Encoded> {
        let frame = self.pick(what, which)?;
        self.sent += u64::from(frame.is_counted());
        Some(frame)
    }

    fn pick(&mut self, what: u8, which: u32) -> Option<Encoded> {
        match what % 16 {
            0 | 1 => {
                let fits = u64::from(self.opened) < self.granted;
                fits.then(|| {
                    self.opened += 1;
                    let id = 2 * self.opened - u32::from(self.role == Role::Agent);
                    self.streams.insert(id, Half { credit: self.window, ..Half::default() });
                    super::open(id)
                })
            }
            2..=4 => {
                let (id, half) = self.live(which)?;
                let length = (half.credit - half.sent).min(u64::from(which % 3_000) + 1);
                half.sent += length;
                let length = usize::try_from(length).ok()?;
                (length > 0).then(|| super::data(id, length))
            }
            5 => {
                let (id, half) = self.live(which)?;
                half.ended = true;
                Some(Encoded::fin(stream(id), half.sent))
            }
            6 => {
                let (id, half) = self.live(which)?;
                half.ended = true;
                Some(Encoded::reset(stream(id), Code(which)))
            }
            7 => Some(Encoded::stop(stream(self.any(which)?), Code(which))),
            8 => Some(Encoded::credit(stream(self.any(which)?), u64::from(which % 50_000))),
            9 => {
                let (id, half) = self.live(which)?;
                Some(Encoded::blocked(stream(id), half.credit))
            }
            10 => {
                let theirs: Vec<u32> = self.streams.iter().filter(|(_, half)| half.theirs).map(|(id, _)| *id).collect();
                Some(Encoded::accept(stream(*theirs.get(which as usize % theirs.len().max(1))?)))
            }
            11 | 12 => Some(self.control(what, which)),
            13 => {
                self.acknowledged = self.acknowledged.max(self.heard - u64::from(which) % (self.heard + 1));
                Some(Encoded::ack(self.acknowledged))
            }
            14 => Some(Encoded::streams(u64::from(which % 20))),
            _ => Some(self.rare(which)),
        }
    }

    /// A message that only this role may send.
    fn control(&mut self, what: u8, which: u32) -> Encoded {
        let id = which % 8;
        match (self.role, what % 16) {
            (Role::Agent, 11) => {
                self.binds += 1;
                Encoded::message(Kind::Bind, &bind(self.binds))
            }
            (Role::Agent, _) => unbind(which % (self.binds + 1)),
            (Role::Network, 11) if which.is_multiple_of(3) => command(which),
            (Role::Network, 11) => Encoded::message(Kind::Bound, &Bound { id: BindId(id), url: String::new() }),
            (Role::Network, _) => {
                let refusal = Refusal { code: Code(which), retry_after: None, text: String::new() };
                let kind = if which.is_multiple_of(2) { Kind::Rejected } else { Kind::Unbound };
                Encoded::message(kind, &BindRefusal { id: BindId(id), refusal })
            }
        }
    }

    fn rare(&mut self, which: u32) -> Encoded {
        if !which.is_multiple_of(4) {
            return Encoded::ping(u64::from(which).to_be_bytes());
        }
        let last = self.last.unwrap_or(20).min(which % 40);
        self.last = Some(last);
        let goaway = GoAway { last, code: Code(which), retry_after: None, text: String::new() };
        Encoded::message(Kind::GoAway, &goaway)
    }

    /// One of the streams on which the puppet may still send.
    fn live(&mut self, which: u32) -> Option<(u32, &mut Half)> {
        let mut live: Vec<_> = self.streams.iter_mut().filter(|(_, half)| !half.ended).collect();
        let place = which as usize % live.len().max(1);
        (place < live.len()).then(|| live.swap_remove(place)).map(|(id, half)| (*id, half))
    }

    /// One of the streams that there ever were.
    fn any(&self, which: u32) -> Option<u32> {
        self.streams.keys().nth(which as usize % self.streams.len().max(1)).copied()
    }
}
