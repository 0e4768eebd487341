//! The record of one session, kept by someone who sees every frame that either side sends.

use alloc::{collections::BTreeMap, format, vec::Vec};

use super::{Broken, cable::side, talk::Talk};
use crate::{
    Config, Duration, Role, Secret,
    frame::{Encoded, Kind, be_u64},
};

/// What is known of one session.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) agent: usize,
    pub(super) node: usize,
    /// The run of the agent's program.
    pub(super) incarnation: u64,
    tracks: [Track; 2],
    /// By stream.
    pub(super) talks: BTreeMap<u32, usize>,
    /// Every secret that was offered, the newest last.
    pub(super) secrets: Vec<Secret>,
    /// The one that was shown last.
    pub(super) shown: Option<Secret>,
    windows: [Windows; 2],
    /// How long it is kept without a link, at the most.
    pub(super) window: Duration,
}

/// The counted frames of one direction, since the session began.
#[derive(Debug, Default)]
struct Track {
    frames: Vec<u64>,
    /// Which of them comes next on the present link.
    next: usize,
    /// By stream: what was sent, and whether it has ended.
    sent: BTreeMap<u32, (u64, bool)>,
    /// By stream: the credit that was announced to the peer.
    credit: BTreeMap<u32, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Windows {
    first: u64,
    most: u64,
}

impl Ledger {
    pub(super) fn new(
        [agent, node]: [usize; 2],
        incarnation: u64,
        configs: [&Config; 2],
        secret: Option<Secret>,
    ) -> Self {
        Self {
            agent,
            node,
            incarnation,
            tracks: Default::default(),
            talks: BTreeMap::new(),
            secrets: secret.into_iter().collect(),
            shown: None,
            window: configs[0].resume_window.min(configs[1].resume_window),
            windows: configs.map(|config| Windows { first: config.window.into(), most: u64::from(config.window_max) }),
        }
    }

    /// Takes note of a new link, on which this side goes on behind so many frames.
    pub(super) fn go_on(&mut self, role: Role, received: u64) -> Result<(), Broken> {
        let track = &mut self.tracks[side(role)];
        track.next = usize::try_from(received).unwrap_or(usize::MAX);
        if track.next > track.frames.len() {
            let text = format!("{received} frames of the {role:?} were processed of {}", track.frames.len());
            return Err(Broken::new("L4", text));
        }
        Ok(())
    }

    /// Takes note of a frame that this side sends. Returns whether it is sent again.
    pub(super) fn on_frame(&mut self, role: Role, frame: &Encoded, talks: &[Talk]) -> Result<bool, Broken> {
        if !frame.is_counted() {
            return Ok(false);
        }
        let (track, mark) = (&mut self.tracks[side(role)], mark(frame));
        track.next += 1;
        if let Some(known) = track.frames.get(track.next - 1) {
            if *known != mark {
                let text =
                    format!("frame {} of the {role:?} is another when sent again: {:?}", track.next, frame.kind());
                return Err(Broken::new("RES-005", text));
            }
            return Ok(true);
        }
        track.frames.push(mark);
        let [.., s0, s1, s2, s3] = *frame.header();
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        match frame.kind() {
            Kind::Data => self.on_data(role, stream, frame.payload().len() as u64)?,
            Kind::Fin => {
                let sent = self.tracks[side(role)].sent.entry(stream).or_default();
                if be_u64(frame.payload()) != Some(sent.0) || sent.1 {
                    return Err(Broken::new("END-002", format!("stream {stream} ends after {} octets", sent.0)));
                }
                sent.1 = true;
            }
            Kind::Credit => self.on_credit(role, stream, be_u64(frame.payload()).unwrap_or_default(), talks)?,
            Kind::Reset => self.tracks[side(role)].sent.entry(stream).or_default().1 = true,
            Kind::Hello
            | Kind::Welcome
            | Kind::Refuse
            | Kind::Ping
            | Kind::Pong
            | Kind::Ack
            | Kind::Close
            | Kind::Open
            | Kind::Stop
            | Kind::Blocked
            | Kind::Accept
            | Kind::Bind
            | Kind::Bound
            | Kind::Rejected
            | Kind::Unbind
            | Kind::Unbound
            | Kind::Command
            | Kind::CommandResult
            | Kind::Revocations
            | Kind::GoAway
            | Kind::Streams
            | Kind::Withheld => {}
        }
        Ok(false)
    }

    /// L5: nothing is sent without credit.
    fn on_data(&mut self, role: Role, stream: u32, octets: u64) -> Result<(), Broken> {
        let granted = self.tracks[side(role.peer())].credit.get(&stream).copied().unwrap_or_default();
        let granted = granted.max(self.windows[side(role.peer())].first);
        let sent = self.tracks[side(role)].sent.entry(stream).or_default();
        sent.0 += octets;
        if sent.0 > granted || sent.1 {
            let text = format!("stream {stream}: {} octets of the {role:?} where {granted} are granted", sent.0);
            return Err(Broken::new("L5", text));
        }
        Ok(())
    }

    /// L5: what is granted is never more than the largest window beyond what the application took, and never less than
    /// before.
    fn on_credit(&mut self, role: Role, stream: u32, offset: u64, talks: &[Talk]) -> Result<(), Broken> {
        let before = self.tracks[side(role)].credit.insert(stream, offset).unwrap_or_default();
        let Some(talk) = self.talks.get(&stream).and_then(|number| talks.get(*number)) else { return Ok(()) };
        let taken = talk.taken(role);
        if offset > taken + self.windows[side(role)].most || offset < before {
            let text =
                format!("stream {stream}: the {role:?} has taken {taken} octets and grants {offset} after {before}");
            return Err(Broken::new("L5", text));
        }
        Ok(())
    }
}

/// Returns what tells one frame from another: the header, and some of the payload.
fn mark(frame: &Encoded) -> u64 {
    let payload = frame.payload();
    let ends = payload.iter().take(16).chain(payload.iter().rev().take(16));
    let octets = frame.header().iter().chain(ends);
    octets.fold(0xcbf2_9ce4_8422_2325, |sum: u64, octet| (sum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}
