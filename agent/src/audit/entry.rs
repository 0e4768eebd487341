//! What is told of each thing that happens.

use adit_core::Open;

use super::Record;

/// A record before it has its place.
pub(crate) struct Draft;

impl Draft {
    /// The agent begins.
    pub(crate) fn start(in_order: Option<bool>) -> Record {
        let record = Record::new("start").text("version", env!("CARGO_PKG_VERSION"));
        let record = record.number("process", std::process::id().into());
        match in_order {
            Some(in_order) => record.flag("ended_in_order", in_order),
            None => record,
        }
    }

    /// A session began, was resumed, lost its connection, or ended.
    pub(crate) fn session(event: &str, lane: u8) -> Record {
        Record::new("session").text("event", event).number("lane", lane.into())
    }

    /// An endpoint was bound, refused, taken back or given up.
    pub(crate) fn bind(event: &str, endpoint: &str) -> Record {
        Record::new("bind").text("event", event).text("endpoint", endpoint)
    }

    /// A certificate was ordered for an endpoint, or could not be.
    pub(crate) fn certificate(event: &str, endpoint: &str, host: &str, directory: &str) -> Record {
        let record = Record::new("certificate").text("event", event).text("endpoint", endpoint);
        record.text("host", host).text("directory", directory)
    }

    /// The configuration was read again.
    pub(crate) fn configuration(event: &str) -> Record {
        Record::new("configuration").text("event", event)
    }

    /// A newer version took the place of this program, did not, stays, or was put back.
    pub(crate) fn update(event: &str, version: Option<&str>) -> Record {
        Record::new("update").text("event", event).maybe("version", version)
    }

    /// The vendor asked for something.
    pub(crate) fn command(command: &str, text: &str, decision: &str) -> Record {
        Record::new("command").text("command", command).text("text", text).text("decision", decision)
    }
}

/// Adds who calls, as the network tells it.
pub(crate) fn caller_of(record: Record, open: Option<&Open>) -> Record {
    let Some(open) = open else { return record };
    let caller = open.caller.map(|caller| caller.to_string());
    let local = open.local.map(|local| local.to_string());
    let sni = open.tls.as_ref().map(|tls| tls.sni.as_str()).filter(|sni| !sni.is_empty());
    record.maybe("caller", caller.as_deref()).maybe("called", local.as_deref()).maybe("sni", sni)
}
