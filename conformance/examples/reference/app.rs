//! The application of the scenarios over either runtime; see `scenarios/README.md`.

use core::time::Duration;
use std::{collections::BTreeMap, sync::Arc};

use adit_conformance::Bound;
use adit_core::{
    AgentId, Bind, BindId, BindRefusal, Code, Command, CommandResult, Config, Heartbeat, Hello, Limits, Open, Refusal,
    ResumeOffer, Secret, SessionId, Side, TlsEnd, Unbind, UpstreamProtocol, Withheld,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    rt::{AgentSession, Event, Events, Incoming, NetworkSession, Session, Stream, code_of},
    spawn,
};
use crate::{Acts, Say};

/// What the application is asked to do, and whom it tells what it is told.
pub(crate) struct Desk {
    acts: Acts,
    say: Say,
}

impl Desk {
    pub(crate) const fn new(acts: Acts, say: Say) -> Self {
        Self { acts, say }
    }

    /// Waits for an act; for ever when there will be none.
    async fn act(&mut self) -> Value {
        match self.acts.recv().await {
            Some(act) => act,
            None => core::future::pending().await,
        }
    }

    fn done(&self, whether: bool) {
        (self.say)(if whether { json!({ "done": true }) } else { json!({ "failed": "it cannot be done now" }) });
    }

    fn cannot(&self, act: &Value) {
        (self.say)(json!({ "not_implemented": format!("the act {act}") }));
    }
}

/// The application of a network with one session at a time.
pub(crate) async fn network(first: Incoming, mut agents: UnboundedReceiver<Incoming>, mut desk: Desk) {
    let mut next = Some(first);
    while let Some(incoming) = next {
        next = match admitted(incoming) {
            Some(incoming) if incoming.hello().resume.is_none() => {
                let mut welcome = incoming.welcome(SessionId([7; 16]), "", "");
                welcome.resume = offer(&incoming, 1);
                let (session, events) = incoming.accept(welcome);
                serve(session, events, &mut agents, &mut desk).await
            }
            Some(incoming) => {
                incoming.refuse(refusal(Code::RESUME_UNKNOWN));
                agents.recv().await
            }
            None => agents.recv().await,
        };
    }
}

/// Returns the agent, unless its token is refused.
fn admitted(incoming: Incoming) -> Option<Incoming> {
    if incoming.hello().token.expose() != b"no" {
        return Some(incoming);
    }
    incoming.refuse(refusal(Code::CREDENTIALS));
    None
}

/// Serves one session until another is asked for.
async fn serve(
    session: NetworkSession,
    mut events: Events,
    agents: &mut UnboundedReceiver<Incoming>,
    desk: &mut Desk,
) -> Option<Incoming> {
    let (mut silent, mut urls, mut bound, mut resumed, mut open) =
        (Vec::new(), BTreeMap::new(), Bound::default(), 1, true);
    loop {
        tokio::select! {
            event = events.next(), if open => match event {
                Some(Event::Bind(request)) => {
                    let (id, url) = (request.bind().id, request.bind().url.clone());
                    urls.insert(id, url.clone());
                    if url.contains("silent") {
                        silent.push(request);
                    } else if let Some(code) = bound.bind(id.0, &url, request.bind().tls_end as u32) {
                        session.reject(request, refusal(Code(code)));
                    } else {
                        session.bound(request, &url);
                    }
                    if url.contains("call")
                        && let Ok(stream) = session.open(Open { bind: Some(id), ..Open::default() })
                    {
                        spawn(echo(stream, Arc::clone(&desk.say)));
                    }
                }
                Some(Event::Unbind(unbind)) => {
                    bound.unbind(unbind.id.0);
                    if urls.get(&unbind.id).is_some_and(|url| url.contains("drain")) {
                        session.drain(Code::SHUTDOWN, None, "");
                    }
                    tell(Event::Unbind(unbind), desk);
                }
                Some(event) => tell(event, desk),
                None => open = false,
            },
            agent = agents.recv() => {
                let Some(incoming) = admitted(agent?) else { continue };
                if incoming.hello().resume.is_none() {
                    return Some(incoming);
                }
                resumed += 1;
                let mut welcome = incoming.welcome(SessionId([7; 16]), "", "");
                welcome.resume = offer(&incoming, resumed);
                if let Err(incoming) = incoming.resume(&session, welcome) {
                    incoming.refuse(refusal(Code::RESUME_UNKNOWN));
                }
            },
            act = desk.act() => {
                if let Some(asked) = act.get("unbound") {
                    bound.unbind(number(asked, "id"));
                }
                on_network(&session, &act, desk);
            }
        }
    }
}

fn on_network(session: &NetworkSession, act: &Value, desk: &Desk) {
    if let Some(asked) = act.get("unbound") {
        desk.done(session.unbound(BindId(number(asked, "id")), refusal(Code(number(asked, "code")))));
    } else if let Some(asked) = act.get("command") {
        let command = match number(asked, "command") {
            1 => Command::Stop,
            2 => Command::Restart,
            3 => Command::Update,
            4 => {
                let document = asked.get("document").and_then(Value::as_str).unwrap_or_default();
                return desk.done(session.configure(document, "").is_ok());
            }
            other => Command::Unknown(other),
        };
        desk.done(session.command(command, "").is_ok());
    } else if let Some(asked) = act.get("revocations") {
        let text = asked.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
        desk.done(session.tell_revocations(&text.into()).is_ok());
    } else {
        on_any(session, act, desk);
    }
}

/// The application of an agent.
pub(crate) async fn agent(session: &AgentSession, events: &mut Events<adit_core::side::Agent>, desk: &mut Desk) {
    session.bind(&bind(1, "tcp://:1", 0)).expect("the first");
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Command(request)) => {
                    session.answer(&CommandResult { id: request.id, code: Code::FORBIDDEN, text: String::new() });
                }
                Some(Event::Suspended(_)) => (desk.say)(json!({ "event": "suspended" })),
                Some(event) => tell(event, desk),
                None => return,
            },
            act = desk.act() => on_agent(session, &act, desk),
        }
    }
}

fn on_agent(session: &AgentSession, act: &Value, desk: &Desk) {
    if let Some(asked) = act.get("bind") {
        let url = asked.get("url").and_then(Value::as_str).unwrap_or_default();
        desk.done(session.bind(&bind(number(asked, "id"), url, number(asked, "tls_end"))).is_ok());
    } else if let Some(asked) = act.get("unbind") {
        let cut = asked.get("cut").and_then(Value::as_bool).unwrap_or(false);
        let text = asked.get("text").and_then(Value::as_str).unwrap_or_default();
        let unbind = Unbind::new(BindId(number(asked, "id"))).cutting(cut);
        session.unbind(&unbind.because(Code(number(asked, "code")), text));
        desk.done(true);
    } else if let Some(asked) = act.get("withheld") {
        desk.done(session.withhold(&withheld(asked)).is_ok());
    } else {
        on_any(session, act, desk);
    }
}

fn on_any<S: Side>(session: &Session<S>, act: &Value, desk: &Desk) {
    if let Some(asked) = act.get("open") {
        let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let bind = asked.get("bind").map(|_| BindId(number(asked, "bind")));
        let opened = session.open(Open { bind, endpoint: text("endpoint"), ..Open::default() });
        desk.done(opened.is_ok());
        if let Ok(stream) = opened {
            let finish = asked.get("finish").and_then(Value::as_bool).unwrap_or(false);
            spawn(send(stream, text("text"), finish, Arc::clone(&desk.say)));
        }
    } else if act.get("drain").is_some() {
        session.drain(Code::SHUTDOWN, None, "");
        desk.done(true);
    } else if let Some(asked) = act.get("close") {
        session.close(Code(number(asked, "code")), "");
        desk.done(true);
    } else {
        desk.cannot(act);
    }
}

fn tell(event: Event, desk: &Desk) {
    let told = match event {
        Event::Opened(stream) => {
            spawn(echo(stream, Arc::clone(&desk.say)));
            return;
        }
        Event::Bound(bound) => json!({ "event": "bound", "id": bound.id.0, "url": bound.url }),
        Event::Rejected(BindRefusal { id, refusal }) => {
            json!({ "event": "rejected", "id": id.0, "code": refusal.code.0 })
        }
        Event::Unbound(BindRefusal { id, refusal }) => {
            json!({ "event": "unbound", "id": id.0, "code": refusal.code.0 })
        }
        Event::Unbind(Unbind { id, code, text, .. }) => {
            json!({ "event": "given_up", "id": id.0, "code": code.0, "text": text })
        }
        Event::Withheld(Withheld { url, code, text, .. }) => {
            json!({ "event": "withheld", "url": url, "code": code.0, "text": text })
        }
        Event::CommandResult(result) => json!({ "event": "result", "id": result.id, "code": result.code.0 }),
        Event::Revocations(lists) => json!({ "event": "revocations", "octets": lists.len() }),
        Event::GoAway(goaway) => json!({ "event": "goaway", "code": goaway.code.0 }),
        Event::Suspended(_) => json!({ "event": "suspended" }),
        Event::Resumed(_) => json!({ "event": "resumed" }),
        Event::Closed(_) => json!({ "event": "closed" }),
        Event::Bind(_) | Event::Command(_) => return,
    };
    (desk.say)(told);
}

/// Sends back what comes, and tells how it ended.
async fn echo(mut stream: Stream, say: Say) {
    match stream.open().map(|open| open.endpoint.as_str()) {
        Some("drop") => return,
        Some("deaf") => core::future::pending().await,
        Some("sink") => {
            stream.accept();
            core::future::pending().await
        }
        Some(_) => stream.accept(),
        None => {}
    }
    loop {
        match stream.read_bytes(4_096).await {
            Ok(Some(mut chunk)) => {
                if let Err(error) = stream.write_bytes(&mut chunk).await {
                    return say(ended(&stream, code_of(&error)));
                }
            }
            Ok(None) => {
                let _ = stream.finish(); // a direction that is over stays over
                return say(ended(&stream, None));
            }
            Err(error) => {
                let code = code_of(&error).unwrap_or(Code::INTERNAL);
                say(ended(&stream, Some(code)));
                return stream.reset(code);
            }
        }
    }
}

/// Sends a text, reads all that comes, and tells how it ended.
async fn send(mut stream: Stream, text: String, finish: bool, say: Say) {
    let sent = stream.write_bytes(&mut text.into_bytes().into()).await;
    if finish && sent.is_ok() {
        let _ = stream.finish(); // a direction that is over stays over
    }
    loop {
        match stream.read_bytes(4_096).await {
            Ok(Some(_)) => {}
            Ok(None) => return say(ended(&stream, None)),
            Err(error) => return say(ended(&stream, Some(code_of(&error).unwrap_or(Code::INTERNAL)))),
        }
    }
}

fn ended(stream: &Stream, code: Option<Code>) -> Value {
    let stream = stream.id().number();
    code.map_or_else(
        || json!({ "event": "ended", "stream": stream, "by": "fin" }),
        |code| json!({ "event": "ended", "stream": stream, "by": "reset", "code": code.0 }),
    )
}

fn number(asked: &Value, name: &str) -> u32 {
    asked.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
}

fn offer(incoming: &Incoming, count: u8) -> Option<ResumeOffer> {
    let window = incoming.resume_window();
    (!window.is_zero()).then(|| ResumeOffer { secret: Secret::new([count; 32]), window })
}

fn refusal(code: Code) -> Refusal {
    Refusal { code, retry_after: None, text: String::new() }
}

fn withheld(asked: &Value) -> Withheld {
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (code, tls_end) = (Code(number(asked, "code")), tls_end_of(number(asked, "tls_end")));
    Withheld { url: text("url"), code, text: text("text"), tls_end }
}

fn tls_end_of(number: u32) -> TlsEnd {
    [TlsEnd::Network, TlsEnd::Agent, TlsEnd::Upstream].into_iter().find(|end| *end as u32 == number).unwrap_or_default()
}

fn bind(id: u32, url: &str, tls_end: u32) -> Bind {
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

/// Returns the HELLO of an agent.
pub(crate) fn hello(token: &str, config: &Config) -> Hello {
    Hello {
        versions: vec![],
        agent: AgentId([1; 16]),
        incarnation: 1,
        token: Secret::new(token.as_bytes()),
        software: String::new(),
        metadata: String::new(),
        heartbeat: Heartbeat { interval: Duration::ZERO, tolerance: Duration::ZERO },
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: config.resume_window,
        lane: 0,
    }
}
