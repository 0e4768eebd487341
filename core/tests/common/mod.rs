//! What tests with a made-up peer share.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod alone;

use adit_core::{
    Bind, BindId, BindRefusal, Bound, Cause, Close, Code, Command, CommandRequest, CommandResult, Config, Event,
    GoAway, Open, ReadError, Refusal, Side, StreamId, Unbind, UpstreamProtocol, Violation, Withheld,
    frame::{Encoded, Kind},
    testing::{Lone, a_hello, a_welcome, closed_with, encoded, raw},
};

/// The session is over by this violation: it is told once, to the application and to the peer, and nothing else is.
pub(crate) fn assert_violation<S: Side>(lone: &mut Lone<S>, violation: Violation) {
    assert_eq!(lone.cause(), Some(&Cause::Violation(violation)));
    let closed: Vec<_> = lone.events().into_iter().filter(|event| matches!(event, Event::Closed(_))).collect();
    assert_eq!(closed, [Event::Closed(Cause::Violation(violation))]);
    let said = lone.say();
    assert_eq!(closed_with(&said), Some(violation.code()), "{said:?}");
    assert_eq!(said.last().map(Encoded::kind), Some(Kind::Close));
    assert!(lone.link.is_finished());
}

/// A frame of this type that is well formed by itself.
pub(crate) fn plausible(kind: Kind, id: u32) -> Vec<u8> {
    let text = String::new();
    let refusal = Refusal { code: Code::BUSY, retry_after: None, text: text.clone() };
    let no = BindRefusal { id: BindId(1), refusal: refusal.clone() };
    let payload = match kind {
        Kind::Hello => encoded(&a_hello()),
        Kind::Welcome => encoded(&a_welcome()),
        Kind::Refuse => encoded(&refusal),
        Kind::Ping | Kind::Pong | Kind::Credit | Kind::Blocked | Kind::Fin | Kind::Streams | Kind::Ack => vec![0; 8],
        Kind::Close => encoded(&Close { code: Code::NO_ERROR, text }),
        Kind::Open => encoded(&Open::default()),
        Kind::Data => vec![1],
        Kind::Reset | Kind::Stop => vec![0; 4],
        Kind::Accept => vec![],
        Kind::Bind => encoded(&bind(1)),
        Kind::Bound => encoded(&Bound { id: BindId(1), url: text, tls_end: Default::default() }),
        Kind::Rejected | Kind::Unbound => encoded(&no),
        Kind::Unbind => encoded(&Unbind::new(BindId(1))),
        Kind::Withheld => encoded(&withheld("tcp://:1")),
        Kind::Command => encoded(&CommandRequest { text, ..CommandRequest::new(1, Command::Stop) }),
        Kind::CommandResult => encoded(&CommandResult { id: 1, code: Code::NO_ERROR, text }),
        Kind::Revocations => vec![0x30, 0],
        Kind::GoAway => encoded(&GoAway { last: 0, code: Code::NO_ERROR, retry_after: None, text }),
    };
    raw(kind.number(), if kind.of_stream() { id.max(1) } else { 0 }, &payload)
}

pub(crate) fn read<S: Side>(lone: &mut Lone<S>, id: u32) -> Result<usize, ReadError> {
    let session = lone.session();
    let mut length = 0;
    loop {
        match session.read(stream(id), usize::MAX) {
            Ok(Some(chunk)) => length += chunk.len(),
            Err(error) if length == 0 => return Err(error),
            Ok(None) | Err(_) => return Ok(length),
        }
    }
}

pub(crate) fn small_windows(window: u32) -> Config {
    network(|config| (config.window, config.window_eager) = (window, window))
}

pub(crate) fn network(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::network();
    change(&mut config);
    config
}

pub(crate) fn agent(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::agent();
    change(&mut config);
    config
}

pub(crate) fn open(id: u32) -> Encoded {
    Encoded::open(stream(id), &Open::default())
}

pub(crate) fn data(id: u32, length: usize) -> Encoded {
    Encoded::data(stream(id), vec![7; length].into())
}

pub(crate) fn unbind(id: u32) -> Encoded {
    Encoded::message(Kind::Unbind, &Unbind::new(BindId(id)))
}

/// Returns which counted frames were said.
pub(crate) fn counted(said: &[Encoded]) -> Vec<Kind> {
    said.iter().map(Encoded::kind).filter(|kind| kind.is_counted()).collect()
}

/// A hint that the customer's policy has no rule for the endpoint.
pub(crate) fn withheld(url: &str) -> Withheld {
    let text = String::from("the customer's policy does not allow the endpoint");
    Withheld { code: Code::DISALLOWED, text, ..Withheld::taken_back(url) }
}

pub(crate) fn command(id: u32) -> Encoded {
    Encoded::message(Kind::Command, &CommandRequest::new(id, Command::Stop))
}

pub(crate) fn bind(id: u32) -> Bind {
    Bind {
        id: BindId(id),
        url: String::from("tcp://:1"),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: String::new(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    }
}

pub(crate) fn stream(id: u32) -> StreamId {
    StreamId::new(id).expect("not zero")
}
