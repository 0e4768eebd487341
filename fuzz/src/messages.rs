//! Control messages: one law for each parser.

use core::{fmt::Debug, net::SocketAddr, time::Duration};

use adit_core::{
    AgentId, Bind, BindId, BindRefusal, Bound, Close, Code, Command, CommandRequest, CommandResult, GoAway, Heartbeat,
    Hello, LANES, Limits, Message, Open, Refusal, Resume, ResumeOffer, Secret, SessionId, TlsEnd, TlsInfo, Unbind,
    UpstreamProtocol, Welcome, Withheld,
};

use crate::Choices;

macro_rules! parsers {
    ($($(#[doc = $doc:literal])+ $name:ident: $make:path;)+) => {
        $(
            $(#[doc = $doc])+
            pub fn $name(octets: &[u8]) {
                law(octets, $make);
            }
        )+
    };
}

parsers! {
    /// BIND.
    bind: a_bind;
    /// REJECTED and UNBOUND.
    bind_refusal: a_bind_refusal;
    /// BOUND.
    bound: a_bound;
    /// CLOSE.
    close: a_close;
    /// COMMAND.
    command: a_command;
    /// COMMAND_RESULT.
    command_result: a_command_result;
    /// GOAWAY.
    goaway: a_goaway;
    /// HELLO, and the request to resume in it.
    hello: a_hello;
    /// OPEN, and what TLS said in it.
    open: an_open;
    /// REFUSE.
    refusal: a_refusal;
    /// UNBIND.
    unbind: an_unbind;
    /// WELCOME, and the offer to resume in it.
    welcome: a_welcome;
    /// WITHHELD.
    withheld: a_withheld;
}

/// Values of a message within its limits, or a little beyond them.
pub(crate) struct Maker<'c, 'a> {
    pub(crate) choices: &'c mut Choices<'a>,
    pub(crate) beyond: bool,
}

fn law<M: Message + PartialEq + Debug>(octets: &[u8], make: fn(&mut Maker<'_, '_>) -> M) {
    let mut choices = Choices::new(octets);
    match choices.number::<u8>() % 4 {
        0 => any_octets::<M>(choices.rest()),
        1 => {
            let mut maker = Maker { choices: &mut choices, beyond: false };
            let value = make(&mut maker);
            let octets = encode(&value);
            assert_eq!(M::decode(&octets).as_ref(), Ok(&value), "what is written is read again");
            unknown_fields(&octets, &value, &mut choices);
        }
        2 => {
            let value = make(&mut Maker { choices: &mut choices, beyond: true });
            let octets = encode(&value);
            assert!(octets.len() <= FRAME_LEAST, "every message fits: {}", octets.len());
            assert!(M::decode(&octets).is_ok(), "what is too long is cut by who writes it: {value:?}");
            any_octets::<M>(&octets);
        }
        _ => {
            let mut octets = encode(&make(&mut Maker { choices: &mut choices, beyond: false }));
            damage(&mut octets, &mut choices);
            any_octets::<M>(&octets);
        }
    }
}

/// What can be read is written in one way, which reads the same.
fn any_octets<M: Message + PartialEq + Debug>(octets: &[u8]) {
    let Ok(value) = M::decode(octets) else { return };
    let canonical = encode(&value);
    assert_eq!(M::decode(&canonical).as_ref(), Ok(&value));
    assert_eq!(encode(&value), canonical);
    assert!(canonical.len() <= FRAME_LEAST, "every message fits: {}", canonical.len());
}

/// MSG-002: a field of a later version says nothing, wherever it stands.
fn unknown_fields<M: Message + PartialEq + Debug>(octets: &[u8], value: &M, choices: &mut Choices<'_>) {
    let field = choices.between(100, 2_000) as u64;
    let mut unknown = Vec::new();
    let kind = choices.one_of(&[0u64, 1, 2, 5]);
    varint(&mut unknown, field << 3 | kind);
    match kind {
        0 => varint(&mut unknown, choices.number()),
        1 => unknown.extend([7; 8]),
        5 => unknown.extend([7; 4]),
        _ => {
            let content = choices.octets(20);
            varint(&mut unknown, content.len() as u64);
            unknown.extend(content);
        }
    }
    let before = [&unknown, octets].concat();
    let after = [octets, &unknown].concat();
    assert_eq!(M::decode(&before).as_ref(), Ok(value));
    assert_eq!(M::decode(&after).as_ref(), Ok(value));
}

/// Changes, drops, doubles or cuts octets.
pub(crate) fn damage(octets: &mut Vec<u8>, choices: &mut Choices<'_>) {
    for _ in 0..choices.between(1, 4) {
        let at = choices.below(octets.len());
        match choices.number::<u8>() % 6 {
            0 => {
                let bit = choices.below(8);
                octets.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= 1 << bit);
            }
            1 => {
                let new = choices.number();
                octets.iter_mut().skip(at).take(1).for_each(|octet| *octet = new);
            }
            2 => octets.truncate(at),
            3 => drop(octets.drain(at..octets.len().min(at + 3))),
            4 => {
                let end = octets.len().min(at + choices.between(1, 40));
                octets.extend_from_within(at..end);
            }
            _ => {
                let new = choices.octets(4);
                octets.splice(at..at, new.iter().copied());
            }
        }
    }
}

fn a_bind(maker: &mut Maker<'_, '_>) -> Bind {
    let protocols = [UpstreamProtocol::Http1, UpstreamProtocol::Http2];
    Bind {
        id: BindId(maker.choices.number()),
        url: maker.text(512),
        pooling: maker.choices.coin(),
        upstream_protocol: maker.choices.one_of(&protocols),
        name: maker.text(253),
        description: maker.text(1_024),
        metadata: maker.text(4_096),
        tls_end: a_tls_end(maker),
    }
}

fn a_bind_refusal(maker: &mut Maker<'_, '_>) -> BindRefusal {
    BindRefusal { id: BindId(maker.choices.number()), refusal: a_refusal(maker) }
}

fn a_bound(maker: &mut Maker<'_, '_>) -> Bound {
    Bound { id: BindId(maker.choices.number()), url: maker.text(512), tls_end: a_tls_end(maker) }
}

fn a_tls_end(maker: &mut Maker<'_, '_>) -> TlsEnd {
    maker.choices.one_of(&[TlsEnd::Unsaid, TlsEnd::Network, TlsEnd::Agent, TlsEnd::Upstream])
}

fn a_close(maker: &mut Maker<'_, '_>) -> Close {
    Close { code: maker.code(), text: maker.text(1_024) }
}

fn a_command(maker: &mut Maker<'_, '_>) -> CommandRequest {
    let unknown = Command::Unknown(maker.choices.number::<u32>().max(5));
    let known = [Command::Stop, Command::Restart, Command::Update, Command::Configuration];
    let command = maker.choices.one_of(&[known.as_slice(), &[Command::Unknown(0), unknown]].concat());
    let (text, document) = (maker.text(1_024), maker.text(adit_core::DOCUMENT));
    CommandRequest { text, document, ..CommandRequest::new(maker.choices.number(), command) }
}

fn a_command_result(maker: &mut Maker<'_, '_>) -> CommandResult {
    CommandResult { id: maker.choices.number(), code: maker.code(), text: maker.text(1_024) }
}

pub(crate) fn a_goaway(maker: &mut Maker<'_, '_>) -> GoAway {
    let retry_after = maker.retry_after();
    GoAway { last: maker.choices.number(), code: maker.code(), retry_after, text: maker.text(1_024) }
}

pub(crate) fn a_hello(maker: &mut Maker<'_, '_>) -> Hello {
    let versions = (0..maker.choices.between(0, if maker.beyond { 20 } else { 16 })).map(|_| maker.choices.number());
    Hello {
        versions: versions.collect(),
        agent: AgentId(maker.choices.number()),
        incarnation: maker.choices.number(),
        token: maker.secret(0, 512),
        software: maker.text(256),
        metadata: maker.text(4_096),
        heartbeat: maker.heartbeat(),
        limits: maker.limits(),
        resume: maker.choices.coin().then(|| Resume {
            session: SessionId(maker.choices.number()),
            secret: maker.secret(0, 64),
            received: maker.choices.number(),
            attempt: maker.choices.number(),
        }),
        resume_window: maker.duration(),
        lane: maker.choices.number::<u8>() % LANES,
    }
}

pub(crate) fn an_open(maker: &mut Maker<'_, '_>) -> Open {
    Open {
        bind: maker.choices.maybe(|choices| BindId(choices.number())),
        caller: maker.choices.maybe(an_address),
        local: maker.choices.maybe(an_address),
        tls: maker.choices.coin().then(|| TlsInfo {
            sni: maker.text(255),
            alpn: maker.text(255),
            version: maker.text(255),
            cipher: maker.text(255),
        }),
        endpoint: maker.text(512),
    }
}

pub(crate) fn a_refusal(maker: &mut Maker<'_, '_>) -> Refusal {
    Refusal { code: maker.code(), retry_after: maker.retry_after(), text: maker.text(1_024) }
}

fn an_unbind(maker: &mut Maker<'_, '_>) -> Unbind {
    let unbind = Unbind::new(BindId(maker.choices.number())).cutting(maker.choices.coin());
    unbind.because(maker.code(), maker.text(1_024))
}

fn a_withheld(maker: &mut Maker<'_, '_>) -> Withheld {
    Withheld { url: maker.text(512), code: maker.code(), text: maker.text(1_024), tls_end: a_tls_end(maker) }
}

pub(crate) fn a_welcome(maker: &mut Maker<'_, '_>) -> Welcome {
    Welcome {
        version: maker.choices.number(),
        session: SessionId(maker.choices.number()),
        heartbeat: maker.heartbeat(),
        limits: maker.limits(),
        region: maker.text(64),
        node: maker.text(253),
        resume: maker.choices.coin().then(|| ResumeOffer { secret: maker.secret(16, 64), window: maker.duration() }),
        resumed: maker.choices.maybe(Choices::number),
    }
}

fn an_address(choices: &mut Choices<'_>) -> SocketAddr {
    let port = choices.number();
    if choices.coin() {
        SocketAddr::from((choices.number::<[u8; 16]>(), port))
    } else {
        SocketAddr::from((choices.number::<[u8; 4]>(), port))
    }
}

impl Maker<'_, '_> {
    /// Returns a text of at most `limit` octets, or a few more.
    fn text(&mut self, limit: usize) -> String {
        let most = if self.beyond { limit + 9 } else { limit };
        let length = self.choices.size(most);
        let filler = self.choices.one_of(&['a', '\0', 'é', '大', '🚇', '\u{202e}']);
        let mut text = String::from_utf8_lossy(self.choices.octets(length.min(12))).into_owned();
        while text.len() < length {
            text.push(filler);
        }
        while text.len() > most {
            text.pop();
        }
        text
    }

    fn secret(&mut self, least: usize, limit: usize) -> Secret {
        let length = self.choices.size(if self.beyond { limit + 9 } else { limit }).max(least);
        let mut octets = self.choices.octets(length).to_vec();
        octets.resize(length, 7);
        Secret::new(octets)
    }

    fn code(&mut self) -> Code {
        if self.choices.coin() { Code(self.choices.number()) } else { self.choices.one_of(Code::ALL).0 }
    }

    /// At most 300 s count.
    fn retry_after(&mut self) -> Option<Duration> {
        let most = if self.beyond { u64::MAX } else { 300_000 };
        self.choices.maybe(|choices| Duration::from_millis(choices.long(0, most)))
    }

    fn duration(&mut self) -> Duration {
        Duration::from_millis(self.choices.number())
    }

    fn heartbeat(&mut self) -> Heartbeat {
        Heartbeat { interval: self.duration(), tolerance: self.duration() }
    }

    fn limits(&mut self) -> Limits {
        Limits { frame: self.choices.number(), window: self.choices.number(), streams: self.choices.number() }
    }
}

fn encode(message: &impl Message) -> Vec<u8> {
    let mut octets = Vec::new();
    message.encode(&mut octets);
    octets
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

/// Every message fits in this payload, in octets (MSG-005).
const FRAME_LEAST: usize = 8_192;
