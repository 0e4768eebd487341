//! What the application is asked to do by nobody on the wire, and what it is told; see `README.md` of this crate.

use adit_core::{
    Bind, BindId, BindRefusal, Code, Command, Event, Open, StreamId, TlsEnd, Unbind, UpstreamProtocol, Withheld,
    side::{Agent, Network},
};
use serde_json::{Value, json};

use super::{Echo, Line, refusal};

impl Echo<Network> {
    /// Does an act; returns whether it could be done, or nothing when the act is not known.
    pub(super) fn act_as_network(&mut self, act: &Value) -> Option<bool> {
        if let Some(asked) = act.get("unbound") {
            let refusal = refusal(Code(number(asked, "code")));
            self.bound.unbind(number(asked, "id"));
            Some(self.lone.session().unbound(BindId(number(asked, "id")), refusal))
        } else if let Some(asked) = act.get("command") {
            let command = match number(asked, "command") {
                1 => Command::Stop,
                2 => Command::Restart,
                3 => Command::Update,
                4 => {
                    let document = asked.get("document").and_then(Value::as_str).unwrap_or_default();
                    return Some(self.lone.session().configure(document, "").is_ok());
                }
                other => Command::Unknown(other),
            };
            Some(self.lone.session().command(command, "").is_ok())
        } else if let Some(asked) = act.get("revocations") {
            let text = asked.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
            Some(self.lone.session().tell_revocations(text.into()).is_ok())
        } else {
            self.act_as_any(act)
        }
    }
}

impl Echo<Agent> {
    /// Does an act; returns whether it could be done, or nothing when the act is not known.
    pub(super) fn act_as_agent(&mut self, act: &Value) -> Option<bool> {
        if let Some(asked) = act.get("bind") {
            let url = asked.get("url").and_then(Value::as_str).unwrap_or_default();
            Some(self.lone.session().bind(&bind(number(asked, "id"), url, number(asked, "tls_end"))).is_ok())
        } else if let Some(asked) = act.get("unbind") {
            let cut = asked.get("cut").and_then(Value::as_bool).unwrap_or(false);
            let text = asked.get("text").and_then(Value::as_str).unwrap_or_default();
            let unbind = Unbind::new(BindId(number(asked, "id"))).cutting(cut);
            self.lone.session().unbind(&unbind.because(Code(number(asked, "code")), text));
            Some(true)
        } else if let Some(asked) = act.get("withheld") {
            Some(self.lone.session().withhold(&withheld(asked)).is_ok())
        } else {
            self.act_as_any(act)
        }
    }
}

impl<S: adit_core::Side> Echo<S> {
    fn act_as_any(&mut self, act: &Value) -> Option<bool> {
        let now = self.lone.now();
        if let Some(asked) = act.get("open") {
            let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let bind = asked.get("bind").map(|_| BindId(number(asked, "bind")));
            let opened = self.lone.session().open(Open { bind, endpoint: text("endpoint"), ..Open::default() });
            let finishing = asked.get("finish").and_then(Value::as_bool).unwrap_or(false);
            let line = Line { back: text("text").into(), over: false, mine: true, finishing };
            Some(opened.map(|id| self.streams.insert(id, line)).is_ok())
        } else if act.get("drain").is_some() {
            self.lone.session().drain(Code::SHUTDOWN, None, "", now);
            Some(true)
        } else if let Some(asked) = act.get("close") {
            self.lone.link.close(Code(number(asked, "code")), "", now);
            Some(true)
        } else {
            None
        }
    }

    /// Keeps what the application is told by an event.
    pub(super) fn tell(&mut self, event: &Event) {
        let refused = |how: &str, BindRefusal { id, refusal }: &BindRefusal| json!({ "event": how, "id": id.0, "code": refusal.code.0 });
        self.told.extend(match event {
            Event::Bound(bound) => Some(json!({ "event": "bound", "id": bound.id.0, "url": bound.url })),
            Event::Rejected(refusal) => Some(refused("rejected", refusal)),
            Event::Unbound(refusal) => Some(refused("unbound", refusal)),
            Event::Unbind(Unbind { id, code, text, .. }) => {
                Some(json!({ "event": "given_up", "id": id.0, "code": code.0, "text": text }))
            }
            Event::Withheld(Withheld { url, code, text, .. }) => {
                Some(json!({ "event": "withheld", "url": url, "code": code.0, "text": text }))
            }
            Event::CommandResult(result) => Some(json!({ "event": "result", "id": result.id, "code": result.code.0 })),
            Event::Revocations(lists) => Some(json!({ "event": "revocations", "octets": lists.len() })),
            Event::GoAway(goaway) => Some(json!({ "event": "goaway", "code": goaway.code.0 })),
            Event::Suspended(_) => Some(json!({ "event": "suspended" })),
            Event::Resumed(_) => Some(json!({ "event": "resumed" })),
            Event::Closed(_) => Some(json!({ "event": "closed" })),
            Event::Hello(_)
            | Event::Established(_)
            | Event::Opened(_)
            | Event::Accepted(_)
            | Event::Readable(_)
            | Event::Writable(_)
            | Event::Bind(_)
            | Event::Command(_) => None,
        });
    }
}

/// How the direction of a stream to the application ended.
pub(super) fn ended(id: StreamId, code: Option<Code>) -> Value {
    code.map_or_else(
        || json!({ "event": "ended", "stream": id.number(), "by": "fin" }),
        |code| json!({ "event": "ended", "stream": id.number(), "by": "reset", "code": code.0 }),
    )
}

fn number(asked: &Value, name: &str) -> u32 {
    asked.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

/// Returns the wish for an endpoint.
pub(super) fn bind(id: u32, url: &str, tls_end: u32) -> Bind {
    Bind {
        id: BindId(id),
        url: url.to_owned(),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: tls_end_of(tls_end),
    }
}

fn withheld(asked: &Value) -> Withheld {
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (code, tls_end) = (Code(number(asked, "code")), tls_end_of(number(asked, "tls_end")));
    Withheld { url: text("url"), code, text: text("text"), tls_end }
}

fn tls_end_of(number: u32) -> TlsEnd {
    [TlsEnd::Network, TlsEnd::Agent, TlsEnd::Upstream].into_iter().find(|end| *end as u32 == number).unwrap_or_default()
}
