//! A peer that keeps the rules as long as it likes: it knows what it was granted, and picks what it may send.

use alloc::{collections::BTreeMap, string::String, vec, vec::Vec};

use super::{a_hello, encoded, raw};
use crate::{
    Bind, BindId, BindRefusal, Bound, Code, Command, CommandRequest, GoAway, MAX_OFFSET, Open, Refusal, Role, StreamId,
    Unbind, UpstreamProtocol, Violation, Withheld,
    frame::{Encoded, Kind},
};

/// One side without a program.
#[derive(Clone, Debug)]
pub struct Puppet {
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
    pub fn new(role: Role, streams: u32, window: u32) -> Self {
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
    pub fn hear(&mut self, said: &[Encoded]) {
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
    pub fn say(&mut self, what: u8, which: u32) -> Option<Encoded> {
        let frame = self.pick(what, which)?;
        self.sent += u64::from(frame.is_counted());
        Some(frame)
    }

    /// Returns octets that break a rule which the peer can check, picked by two numbers, and the rule; `None` when this one
    /// cannot be broken. The session is over by it.
    pub fn break_rule(&mut self, what: u8, which: u32) -> Option<(Vec<u8>, Violation)> {
        let ours = |count: u32| 2 * count - u32::from(self.role == Role::Agent);
        let next = self.opened + 1;
        let broken = match what % 16 {
            0 => {
                let (id, half) = self.live(which)?;
                let length = usize::try_from(half.credit - half.sent + 1).ok()?;
                let data = Encoded::data(StreamId(id), vec![7; length].into());
                (length <= LONGEST).then_some((octets(&data), Violation::BeyondCredit))?
            }
            1 => {
                let (id, half) = self.live(which)?;
                (octets(&Encoded::fin(StreamId(id), half.sent + 1)), Violation::FinalOffset)
            }
            2 => {
                let beyond = u32::try_from(self.granted + 1).ok()?.checked_add(which % 9)?;
                (octets(&Encoded::open(StreamId(ours(beyond)), &Open::default())), Violation::StreamLimit)
            }
            3 => {
                let theirs = 2 * next - u32::from(self.role == Role::Network);
                (octets(&Encoded::open(StreamId(theirs), &Open::default())), Violation::StreamParity)
            }
            4 => {
                let old = (self.opened > 0).then(|| ours(1 + which % self.opened))?;
                (octets(&Encoded::open(StreamId(old), &Open::default())), Violation::StreamOrder)
            }
            5 => (octets(&Encoded::ack(self.heard + 1 + u64::from(which))), Violation::AckRange),
            6 => {
                let ended = self.streams.iter().filter(|(_, half)| half.ended);
                let ended: Vec<_> = ended.map(|(id, half)| (StreamId(*id), half.sent)).collect();
                let (id, sent) = *ended.get(which as usize % ended.len().max(1))?;
                let again =
                    if which.is_multiple_of(2) { Encoded::fin(id, sent) } else { Encoded::data(id, vec![7].into()) };
                (octets(&again), Violation::StreamEnded)
            }
            7 => (octets(&Encoded::credit(StreamId(ours(next)), 1)), Violation::StreamIdle),
            8 => {
                let kind = if self.role == Role::Agent { Kind::Bound } else { Kind::Unbind };
                (raw(kind.number(), 0, &[]), Violation::WrongSide)
            }
            9 => (self.opened > 0).then(|| {
                (octets(&Encoded::accept(StreamId(ours(1 + which % self.opened)))), Violation::AcceptByOpener)
            })?,
            10 => (raw(Kind::Data.number(), self.any(which)?, &[]), Violation::EmptyData),
            11 => (raw(0x30 + what % 8, 0, &[]), Violation::UnknownType),
            12 => (octets(&Encoded::credit(StreamId(self.any(which)?), MAX_OFFSET + 1)), Violation::OffsetRange),
            13 => {
                let raised =
                    GoAway { last: self.last?.checked_add(1)?, code: Code(0), retry_after: None, text: String::new() };
                (octets(&Encoded::message(Kind::GoAway, &raised)), Violation::GoAwayRaised)
            }
            14 => (raw(Kind::Hello.number(), 0, &encoded(&a_hello())), Violation::SecondHandshake),
            _ => (raw(Kind::Fin.number(), self.any(which)?, &[0; 7]), Violation::FrameLength),
        };
        Some(broken)
    }

    fn pick(&mut self, what: u8, which: u32) -> Option<Encoded> {
        match what % 16 {
            0 | 1 => {
                let fits = u64::from(self.opened) < self.granted;
                fits.then(|| {
                    self.opened += 1;
                    let id = 2 * self.opened - u32::from(self.role == Role::Agent);
                    self.streams.insert(id, Half { credit: self.window, ..Half::default() });
                    Encoded::open(StreamId(id), &Open::default())
                })
            }
            2..=4 => {
                let (id, half) = self.live(which)?;
                let length = (half.credit - half.sent).min(u64::from(which % 3_000) + 1);
                half.sent += length;
                let length = usize::try_from(length).ok()?;
                (length > 0).then(|| Encoded::data(StreamId(id), vec![7; length].into()))
            }
            5 => {
                let (id, half) = self.live(which)?;
                half.ended = true;
                Some(Encoded::fin(StreamId(id), half.sent))
            }
            6 => {
                let (id, half) = self.live(which)?;
                half.ended = true;
                Some(Encoded::reset(StreamId(id), Code(which)))
            }
            7 => Some(Encoded::stop(StreamId(self.any(which)?), Code(which))),
            8 => Some(Encoded::credit(StreamId(self.any(which)?), u64::from(which % 50_000))),
            9 => {
                let (id, half) = self.live(which)?;
                Some(Encoded::blocked(StreamId(id), half.credit))
            }
            10 => {
                let theirs: Vec<u32> = self.streams.iter().filter(|(_, half)| half.theirs).map(|(id, _)| *id).collect();
                Some(Encoded::accept(StreamId(*theirs.get(which as usize % theirs.len().max(1))?)))
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
            (Role::Agent, _) if which.is_multiple_of(5) => {
                let url = alloc::format!("tcp://:{}", which % 7);
                let code = Code(u32::from(which.is_multiple_of(3)));
                Encoded::message(Kind::Withheld, &Withheld { code, ..Withheld::taken_back(url) })
            }
            (Role::Agent, _) => Encoded::message(
                Kind::Unbind,
                &Unbind::new(BindId(which % (self.binds + 1))).cutting((which / 7).is_multiple_of(3)),
            ),
            (Role::Network, 11) if which.is_multiple_of(3) => {
                let request = CommandRequest::new(which, Command::Stop);
                Encoded::message(Kind::Command, &request)
            }
            (Role::Network, 11) if which.is_multiple_of(5) => {
                Encoded::revocations(vec![7; which as usize % 300].into())
            }
            (Role::Network, 11) => Encoded::message(
                Kind::Bound,
                &Bound { id: BindId(id), url: String::new(), tls_end: crate::TlsEnd::Unsaid },
            ),
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

fn bind(id: u32) -> Bind {
    Bind {
        id: BindId(id),
        url: String::from("tcp://:1"),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: crate::TlsEnd::Unsaid,
    }
}

fn octets(frame: &Encoded) -> Vec<u8> {
    let mut octets = Vec::new();
    frame.write(&mut octets);
    octets
}

/// A longer payload breaks another rule, in octets.
const LONGEST: usize = crate::FRAME as usize;
