//! What an uplink tells: what happens to its sessions, endpoints and dials, in order.

use alloc::{string::String, vec::Vec};
use core::{net::SocketAddr, time::Duration};

use adit_core::{BindId, Cause, Code, Command, CommandResult, GiveUp, Refusal, Retry, Welcome, driver::Handle, side};
use bytes::Bytes;

use crate::{ConnectError, SetupError, StepTaken, queue::Receiver};

/// What happens to an uplink, in order.
#[derive(Debug)]
pub struct UplinkEvents {
    pub(super) events: Receiver<UplinkEvent>,
    pub(super) over: bool,
}

/// Something that happened to an uplink.
#[derive(Debug)]
pub enum UplinkEvent {
    /// A target is dialed.
    Dialing {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// Counts the dials, from 1.
        attempt: u64,
        /// The index of the target.
        target: usize,
    },
    /// A dial came to nothing.
    DialFailed {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// The index of the target.
        target: usize,
        /// Why.
        error: DialError,
        /// When the next target is dialed; `None` when that is under way or will not happen.
        retry_in: Option<Duration>,
        /// The steps until there.
        steps: Vec<StepTaken>,
    },
    /// There is a session.
    Connected {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// The index of the target.
        target: usize,
        /// What the network said.
        welcome: Welcome,
        /// The address of the network, or of the proxy before it.
        remote: SocketAddr,
        /// The steps that led there.
        steps: Vec<StepTaken>,
    },
    /// The connection is lost; the session, its endpoints and its streams wait for the next one.
    Suspended {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// Why.
        cause: Cause,
        /// When the network is dialed; `None` when that is under way.
        retry_in: Option<Duration>,
    },
    /// The session goes on over a new connection: no octet and no stream is lost.
    Resumed {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// The index of the target.
        target: usize,
        /// The address of the network, or of the proxy before it.
        remote: SocketAddr,
        /// The steps that led there.
        steps: Vec<StepTaken>,
    },
    /// The session is lost.
    Disconnected {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// Why.
        cause: Cause,
        /// When a target is dialed; `None` when that is under way or will not happen.
        retry_in: Option<Duration>,
    },
    /// The network lets the session drain; another is made.
    Draining {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
    },
    /// A bind is in force.
    Bound {
        /// The place among the sessions of this uplink, from 0. Each session has its own binds.
        lane: u8,
        /// The bind.
        id: BindId,
        /// The endpoint as callers know it.
        url: String,
    },
    /// A bind was refused.
    Rejected {
        /// The place among the sessions of this uplink, from 0. Each session has its own binds.
        lane: u8,
        /// The bind.
        id: BindId,
        /// Why.
        refusal: Refusal,
        /// When it is asked for again.
        retry_in: Duration,
    },
    /// A bind that was in force was taken back.
    Unbound {
        /// The place among the sessions of this uplink, from 0. Each session has its own binds.
        lane: u8,
        /// The bind.
        id: BindId,
        /// Why.
        refusal: Refusal,
        /// When it is asked for again.
        retry_in: Duration,
    },
    /// The network asks for something.
    Command {
        /// What.
        command: Command,
        /// For the log.
        text: String,
        /// What a configuration asks to put in force; empty with any other command.
        document: String,
        /// Answers, yes or no.
        reply: CommandReply,
    },
    /// The network handed out revocation lists. Nothing of them was looked at: they are octets of the peer.
    Revocations {
        /// The place among the sessions of this uplink, from 0.
        lane: u8,
        /// The lists: DER, one after the other, as the network says.
        lists: Bytes,
    },
    /// It is over: the last event.
    GaveUp {
        /// Why.
        reason: GiveUp,
    },
}

/// The answer owed to a remote command. Dropped, it refuses: a command that nobody attends to is not allowed.
#[derive(Debug)]
#[must_use = "a command must be answered"]
pub struct CommandReply {
    pub(super) session: Handle<side::Agent>,
    pub(super) id: u32,
}

/// Why a dial came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// There is no connection.
    #[error(transparent)]
    Connect(ConnectError),
    /// There is a connection and no session.
    #[error(transparent)]
    Setup(SetupError),
    /// The target's host cannot be the name of a certificate.
    #[error("{host} is not a name that a certificate can have")]
    Name {
        /// The host.
        host: String,
    },
    /// It took too long, or the network below changed meanwhile.
    #[error("the attempt was abandoned")]
    Abandoned,
}

impl DialError {
    /// Returns when to dial again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect(error) => error.retry(),
            Self::Setup(SetupError::Closed(cause)) => cause.retry(),
            Self::Setup(SetupError::Tls(_) | SetupError::NotAdit | SetupError::Io(_)) | Self::Abandoned => {
                Retry::Backoff
            }
            Self::Name { .. } => Retry::Never,
        }
    }
}

impl UplinkEvents {
    /// Waits for the next event; `None` after [`UplinkEvent::GaveUp`]. Cancelled, it loses nothing.
    pub async fn next(&mut self) -> Option<UplinkEvent> {
        if self.over {
            return None;
        }
        let event = self.events.recv().await;
        self.over = matches!(event, None | Some(UplinkEvent::GaveUp { .. }));
        event
    }
}

impl CommandReply {
    /// Answers: [`Code::NO_ERROR`] for a command that will be obeyed, or why not.
    pub fn answer(self, code: Code, text: &str) {
        let _ = self.session.answer(&CommandResult { id: self.id, code, text: text.into() });
    }
}

impl Drop for CommandReply {
    fn drop(&mut self) {
        let text = String::from("nobody attends to commands");
        let _ = self.session.answer(&CommandResult { id: self.id, code: Code::FORBIDDEN, text }); // a second answer is none
    }
}
