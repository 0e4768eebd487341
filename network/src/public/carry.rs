//! One connection of a caller, carried octet by octet: TCP, TLS that passes through, and what TLS that ends here says.

use std::sync::Arc;

use adit_core::{Code, Open};
use bytes::Bytes;

use super::{
    Room,
    line::Line,
    relay::{Ending, Relay},
};
use crate::{
    Caller, Carried, Edge, Fault, Phase,
    patience::patient,
    policy::{admit, connection},
    router::{Key, Outcome},
    seeing::Visit,
};

/// A connection that is to be carried.
pub(super) struct Entered {
    pub(super) line: Line,
    pub(super) caller: Caller,
    pub(super) room: Room,
    /// What the caller has sent already.
    pub(super) first: Vec<u8>,
}

/// Carries a connection to an agent that serves `key`, and to the next one when the first could not hand it over.
pub(super) async fn carry(edge: Arc<Edge>, entered: Entered, key: Arc<Key>) {
    let Entered { mut line, caller, room: _room, first } = entered;
    let mut phase = edge.phase();
    let (address, local, tls, ends_here) = (caller.address, caller.local, caller.tls.clone(), line.is_secured());
    let mut visit = Visit::begin(&edge, &key, caller);
    let key = if edge.settings(&key).is_some() {
        let connection = connection(visit.caller());
        let admitted = tokio::select! {
            biased;
            admitted = Box::pin(admit(&edge, key, &connection, &mut visit)) => admitted,
            _ = phase.wait_for(|phase| *phase == Phase::Ending) => return line.reset(),
        };
        // What expects TLS of the caller's own is not given what was inside.
        match admitted.and_then(|key| if ends_here && key.passes_tls() { Err(Fault::PolicyFailed) } else { Ok(key) }) {
            Ok(key) => key,
            Err(fault) => {
                edge.metrics.refuse(fault);
                visit.refuse(fault);
                return line.reset();
            }
        }
    } else {
        key
    };
    let open = Open {
        bind: None,
        caller: Some(address), // spec: ADDR-001
        local: Some(local),
        tls,
        endpoint: key.to_string(), // spec: ADDR-002
    };
    tokio::select! {
        biased;
        ended = attempt(&edge, &mut line, &key, (open, first), &mut visit) => match ended {
            Ok(Ending::Complete) => visit.whole = true,
            Ok(Ending::Caller) | Err(()) => line.reset(),
            Ok(Ending::Stalled) => {
                edge.metrics.limit("stall_timeout");
                line.reset();
            }
            Ok(Ending::Upstream(code)) => {
                edge.metrics.stream_failure(code);
                line.reset();
            }
        },
        _ = phase.wait_for(|phase| *phase == Phase::Ending) => line.reset(),
    }
}

/// Finds an agent whose upstream takes the connection, and carries it to its end.
async fn attempt(
    edge: &Edge,
    line: &mut Line,
    key: &Key,
    (open, first): (Open, Vec<u8>),
    visit: &mut Visit,
) -> Result<Ending, ()> {
    let (wait, most, stall) = {
        let limits = edge.limits.load();
        (limits.accept_timeout, limits.replay_size, limits.stall_timeout)
    };
    let mut kept = Kept { octets: vec![Bytes::from(first)], size: 0, most };
    kept.size = kept.octets.iter().map(Bytes::len).sum();
    kept.octets.retain(|piece| !piece.is_empty());
    let mut tried = Vec::new();
    loop {
        let Carried { stream, session, lease, agent, watch, pending, .. } =
            match edge.open(key, &open, &mut tried).await {
                Ok(carried) => carried,
                Err(fault) => {
                    edge.metrics.refuse(fault);
                    visit.refuse(fault);
                    return Err(());
                }
            };
        #[cfg(test)]
        crate::injection::strike(crate::injection::Place::Caller);
        let mut relay = Relay::new(line, stream, &kept.octets, stall);
        // An agent that did not say so in time may hand the connection over at this very moment.
        let accepted = patient(wait, || session.waited(), relay.accepted(&mut kept)).await;
        drop(pending);
        match accepted.unwrap_or(Err(Refused::Overdue)) {
            Ok(()) => {
                edge.report(key, &watch, Outcome::Fine);
                drop((kept, session, open, tried));
                let ending = relay.run().await;
                edge.metrics.bytes_in.inc_by(relay.carried_in());
                edge.metrics.bytes_out.inc_by(relay.carried_out());
                (visit.agent, visit.received, visit.sent) = (Some(agent), relay.carried_in(), relay.carried_out());
                drop(lease);
                return Ok(ending);
            }
            Err(Refused::Caller) => return Ok(Ending::Caller),
            Err(refused @ (Refused::Upstream(_) | Refused::Overdue)) => {
                let code = refused.code();
                edge.metrics.stream_failure(code);
                relay.abort(Code::CANCELLED);
                if Fault::of_stream(code).is_of_member() {
                    edge.report(key, &watch, Outcome::Failed);
                }
                let other = may_repeat(refused, kept.size) && edge.has_other(key, &tried);
                if !other || !edge.may_retry(&watch, code) {
                    edge.metrics.refuse(Fault::of_stream(code));
                    visit.refuse(Fault::of_stream(code));
                    return Err(());
                }
                edge.metrics.retries.inc();
                visit.retries += 1;
            }
        }
    }
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The caller is gone.
    Caller,
    /// The agent, or its upstream, said so.
    Upstream(Code),
    /// Nobody said anything in time.
    Overdue,
}

/// What the caller has sent and no upstream has taken for certain: at the limit nothing more is read.
#[derive(Debug)]
pub(super) struct Kept {
    octets: Vec<Bytes>,
    size: usize,
    most: usize,
}

impl Kept {
    pub(super) const fn room(&self) -> usize {
        self.most.saturating_sub(self.size)
    }

    pub(super) fn push(&mut self, octets: Bytes) {
        self.size += octets.len();
        self.octets.push(octets);
    }
}

impl Refused {
    const fn code(self) -> Code {
        match self {
            Self::Caller => Code::CONNECTION_RESET,
            Self::Upstream(code) => code,
            Self::Overdue => Code::UPSTREAM_TIMEOUT,
        }
    }
}

/// Returns true when no upstream can have heard anything of the caller, who sent `sent` octets.
///
/// An agent that says why not has handed nothing over. One that is lost, or silent, may have done so unheard: then only a
/// caller that has not said anything can be served by another.
fn may_repeat(refused: Refused, sent: usize) -> bool {
    match refused {
        Refused::Caller => false,
        Refused::Overdue | Refused::Upstream(Code::SESSION_LOST) => sent == 0,
        Refused::Upstream(code) => matches!(
            code,
            Code::UPSTREAM_REFUSED
                | Code::UPSTREAM_TIMEOUT
                | Code::UPSTREAM_UNREACHABLE
                | Code::UPSTREAM_TLS
                | Code::REFUSED
                | Code::UNBOUND
                | Code::LIMIT
                | Code::BUSY
                | Code::SHUTDOWN
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upstream_may_have_heard_is_never_said_to_another() {
        for refused in [Refused::Upstream(Code::SESSION_LOST), Refused::Overdue] {
            assert!(may_repeat(refused, 0), "{refused:?}");
            assert!(!may_repeat(refused, 1), "{refused:?}");
        }
        assert!(!may_repeat(Refused::Upstream(Code::CONNECTION_RESET), 0));
        assert!(!may_repeat(Refused::Upstream(Code::POLICY), 0));
        assert!(!may_repeat(Refused::Caller, 0));
    }

    #[test]
    fn what_an_agent_says_it_has_not_handed_over_goes_to_another() {
        for code in [Code::UPSTREAM_REFUSED, Code::UPSTREAM_TIMEOUT, Code::REFUSED, Code::UNBOUND] {
            assert!(may_repeat(Refused::Upstream(code), 65_536), "{code}");
        }
    }
}
