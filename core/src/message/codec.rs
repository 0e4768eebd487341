//! Each message's fields. The numbers are those of `conformance/spec/adit.proto`.

use alloc::{string::String, vec::Vec};

use super::wire::{Fields, Message, Value, Writer};
use super::{
    Bind, BindRefusal, Bound, Close, Command, CommandRequest, CommandResult, DOCUMENT, GoAway, Heartbeat, Hello, LANES,
    Limits, Open, Refusal, Resume, ResumeOffer, TlsEnd, TlsInfo, Unbind, UpstreamProtocol, Welcome, Withheld,
};
use crate::{AgentId, BindId, Code, Duration, FRAME, Secret, SessionId, Violation};

impl Message for Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.numbers(1, &self.versions, VERSIONS);
        writer.octets(2, &self.agent.0, ID);
        writer.number(3, self.incarnation);
        writer.secret(4, &self.token, TOKEN); // spec: SEC-003
        writer.text(5, &self.software, SOFTWARE);
        writer.text(6, &self.metadata, METADATA);
        writer.message(7, &self.heartbeat);
        writer.message(8, &self.limits);
        if let Some(resume) = &self.resume {
            writer.message(9, resume);
        }
        writer.duration(10, self.resume_window);
        writer.number(11, self.lane);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut agent = None;
        let mut hello = Self {
            versions: Vec::new(),
            agent: AgentId::default(),
            incarnation: 0,
            token: Secret::default(),
            software: String::new(),
            metadata: String::new(),
            heartbeat: HEARTBEAT,
            limits: LIMITS,
            resume: None,
            resume_window: Duration::ZERO,
            lane: 0,
        };
        each(input, |field, value| {
            match field {
                1 => value.numbers(&mut hello.versions, VERSIONS)?,
                2 => agent = Some(AgentId(value.array()?)),
                3 => hello.incarnation = value.u64()?,
                4 => hello.token = value.secret(TOKEN)?,
                5 => hello.software = value.text(SOFTWARE)?,
                6 => hello.metadata = value.text(METADATA)?,
                7 => hello.heartbeat = value.message()?,
                8 => hello.limits = value.message()?,
                9 => hello.resume = Some(value.message()?),
                10 => hello.resume_window = value.duration()?,
                11 => hello.lane = value.below(LANES)?, // spec: AUTH-008
                _ => {}                                 // spec: MSG-002, PRE-007
            }
            Ok(())
        })?;
        hello.agent = agent.ok_or(Violation::Message)?; // spec: MSG-003
        Ok(hello)
    }
}

impl Message for Resume {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.octets(1, &self.session.0, ID);
        writer.secret(2, &self.secret, SECRET);
        writer.number(3, self.received);
        writer.number(4, self.attempt);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let (mut session, mut secret, mut received, mut attempt) = (None, Secret::default(), 0, 0);
        each(input, |field, value| {
            match field {
                1 => session = Some(SessionId(value.array()?)),
                2 => secret = value.secret(SECRET)?,
                3 => received = value.u64()?,
                4 => attempt = value.u64()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self { session: session.ok_or(Violation::Message)?, secret, received, attempt })
    }
}

impl Message for Welcome {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.version);
        writer.octets(2, &self.session.0, ID);
        writer.message(3, &self.heartbeat);
        writer.message(4, &self.limits);
        writer.text(5, &self.region, REGION);
        writer.text(6, &self.node, NAME);
        if let Some(offer) = &self.resume {
            writer.message(7, offer);
        }
        if let Some(received) = self.resumed {
            writer.present(8, received);
        }
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut session = None;
        let mut welcome = Self {
            version: 0,
            session: SessionId::default(),
            heartbeat: HEARTBEAT,
            limits: LIMITS,
            region: String::new(),
            node: String::new(),
            resume: None,
            resumed: None,
        };
        each(input, |field, value| {
            match field {
                1 => welcome.version = value.u32()?,
                2 => session = Some(SessionId(value.array()?)),
                3 => welcome.heartbeat = value.message()?,
                4 => welcome.limits = value.message()?,
                5 => welcome.region = value.text(REGION)?,
                6 => welcome.node = value.text(NAME)?,
                7 => welcome.resume = Some(value.message()?),
                8 => welcome.resumed = Some(value.u64()?),
                _ => {}
            }
            Ok(())
        })?;
        welcome.session = session.ok_or(Violation::Message)?;
        Ok(welcome)
    }
}

impl Message for ResumeOffer {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.secret(1, &self.secret, SECRET);
        writer.duration(2, self.window);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut offer = Self { secret: Secret::default(), window: Duration::ZERO };
        each(input, |field, value| {
            match field {
                1 => offer.secret = value.secret(SECRET)?,
                2 => offer.window = value.duration()?,
                _ => {}
            }
            Ok(())
        })?;
        if offer.secret.expose().len() < SECRET_LEAST {
            return Err(Violation::Message); // spec: RES-006
        }
        Ok(offer)
    }
}

impl Message for Heartbeat {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.duration(1, self.interval);
        writer.duration(2, self.tolerance);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut heartbeat = HEARTBEAT;
        each(input, |field, value| {
            match field {
                1 => heartbeat.interval = value.duration()?,
                2 => heartbeat.tolerance = value.duration()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(heartbeat)
    }
}

impl Message for Limits {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.present(1, self.frame); // absent means another limit than zero
        writer.number(2, self.window);
        writer.number(3, self.streams);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut limits = LIMITS;
        each(input, |field, value| {
            match field {
                1 => limits.frame = value.u32()?,
                2 => limits.window = value.u32()?,
                3 => limits.streams = value.u32()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(limits)
    }
}

impl Message for Refusal {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.code.0);
        writer.maybe_duration(2, self.retry_after);
        writer.text(3, &self.text, TEXT);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut refusal = Self { code: Code::NO_ERROR, retry_after: None, text: String::new() };
        each(input, |field, value| {
            match field {
                1 => refusal.code = Code(value.u32()?),
                2 => refusal.retry_after = Some(value.duration()?.min(RETRY_AFTER)), // spec: GO-004
                3 => refusal.text = value.text(TEXT)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(refusal)
    }
}

impl Message for Close {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.code.0);
        writer.text(2, &self.text, TEXT);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut close = Self { code: Code::NO_ERROR, text: String::new() };
        each(input, |field, value| {
            match field {
                1 => close.code = Code(value.u32()?), // spec: GO-007, a code that is not known is no fault
                2 => close.text = value.text(TEXT)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(close)
    }
}

impl Message for GoAway {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.last);
        writer.number(2, self.code.0);
        writer.maybe_duration(3, self.retry_after);
        writer.text(4, &self.text, TEXT);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut notice = Self { last: 0, code: Code::NO_ERROR, retry_after: None, text: String::new() };
        each(input, |field, value| {
            match field {
                1 => notice.last = value.u32()?,
                2 => notice.code = Code(value.u32()?),
                3 => notice.retry_after = Some(value.duration()?.min(RETRY_AFTER)), // spec: GO-004
                4 => notice.text = value.text(TEXT)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(notice)
    }
}

impl Message for Open {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        if let Some(bind) = self.bind {
            writer.present(1, bind.0);
        }
        writer.address(2, self.caller);
        writer.address(3, self.local);
        if let Some(tls) = &self.tls {
            writer.message(4, tls);
        }
        writer.text(5, &self.endpoint, URL);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        if input.len() > OPEN {
            return Err(Violation::OpenTooLong); // spec: STREAM-006
        }
        let mut open = Self::default();
        each(input, |field, value| {
            match field {
                1 => open.bind = Some(BindId(value.u32()?)),
                2 => open.caller = Some(value.address()?),
                3 => open.local = Some(value.address()?),
                4 => open.tls = Some(value.message()?),
                5 => open.endpoint = value.text(URL)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(open)
    }
}

impl Message for TlsInfo {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.text(1, &self.sni, TLS_TEXT);
        writer.text(2, &self.alpn, TLS_TEXT);
        writer.text(3, &self.version, TLS_TEXT);
        writer.text(4, &self.cipher, TLS_TEXT);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut tls = Self::default();
        each(input, |field, value| {
            match field {
                1 => tls.sni = value.text(TLS_TEXT)?,
                2 => tls.alpn = value.text(TLS_TEXT)?,
                3 => tls.version = value.text(TLS_TEXT)?,
                4 => tls.cipher = value.text(TLS_TEXT)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(tls)
    }
}

impl Message for Bind {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.id.0);
        writer.text(2, &self.url, URL);
        writer.number(3, self.pooling);
        writer.number(4, self.upstream_protocol.number());
        writer.text(5, &self.name, NAME);
        writer.text(6, &self.description, TEXT);
        writer.text(7, &self.metadata, METADATA);
        writer.number(8, self.tls_end.number());
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut bind = Self {
            id: BindId(0),
            url: String::new(),
            pooling: false,
            upstream_protocol: UpstreamProtocol::default(),
            name: String::new(),
            description: String::new(),
            metadata: String::new(),
            tls_end: TlsEnd::Unsaid,
        };
        each(input, |field, value| {
            match field {
                1 => bind.id = BindId(value.u32()?),
                2 => bind.url = value.text(URL)?,
                3 => bind.pooling = value.bool()?,
                4 => bind.upstream_protocol = UpstreamProtocol::from_number(value.u32()?)?,
                5 => bind.name = value.text(NAME)?,
                6 => bind.description = value.text(TEXT)?,
                7 => bind.metadata = value.text(METADATA)?,
                8 => bind.tls_end = TlsEnd::from_number(value.u32()?)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(bind)
    }
}

impl Message for Bound {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.id.0);
        writer.text(2, &self.url, URL);
        writer.number(3, self.tls_end.number());
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut bound = Self { id: BindId(0), url: String::new(), tls_end: TlsEnd::Unsaid };
        each(input, |field, value| {
            match field {
                1 => bound.id = BindId(value.u32()?),
                2 => bound.url = value.text(URL)?,
                3 => bound.tls_end = TlsEnd::from_number(value.u32()?)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(bound)
    }
}

impl Message for Unbind {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.id.0);
        writer.number(2, self.cut);
        writer.number(3, self.code.0);
        writer.text(4, &self.text, TEXT);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut unbind = Self::new(BindId(0));
        each(input, |field, value| {
            match field {
                1 => unbind.id = BindId(value.u32()?),
                2 => unbind.cut = value.bool()?,
                3 => unbind.code = Code(value.u32()?), // spec: BIND-020, a code that is not known is no fault
                4 => unbind.text = value.text(TEXT)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(unbind)
    }
}

impl Message for Withheld {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.text(1, &self.url, URL);
        writer.number(2, self.code.0);
        writer.text(3, &self.text, TEXT);
        writer.number(4, self.tls_end.number());
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut withheld = Self::taken_back("");
        each(input, |field, value| {
            match field {
                1 => withheld.url = value.text(URL)?,
                2 => withheld.code = Code(value.u32()?), // spec: BIND-021, a code that is not known is no fault
                3 => withheld.text = value.text(TEXT)?,
                4 => withheld.tls_end = TlsEnd::from_number(value.u32()?)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(withheld)
    }
}

impl Message for BindRefusal {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.id.0);
        writer.message(2, &self.refusal);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut no =
            Self { id: BindId(0), refusal: Refusal { code: Code::NO_ERROR, retry_after: None, text: String::new() } };
        each(input, |field, value| {
            match field {
                1 => no.id = BindId(value.u32()?),
                2 => no.refusal = value.message()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(no)
    }
}

impl Message for CommandRequest {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.id);
        writer.number(2, self.command.number());
        writer.text(3, &self.text, TEXT);
        if self.document.len() <= DOCUMENT {
            writer.text(4, &self.document, DOCUMENT); // spec: CMD-006, half of it might ask for something else
        }
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut request = Self::new(0, Command::Unknown(0));
        each(input, |field, value| {
            match field {
                1 => request.id = value.u32()?,
                2 => request.command = Command::from_number(value.u32()?),
                3 => request.text = value.text(TEXT)?,
                4 => request.document = value.text(DOCUMENT)?, // spec: CMD-006
                _ => {}
            }
            Ok(())
        })?;
        Ok(request)
    }
}

impl Message for CommandResult {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut writer = Writer(out);
        writer.number(1, self.id);
        writer.number(2, self.code.0);
        writer.text(3, &self.text, TEXT);
    }

    fn decode(input: &[u8]) -> Result<Self, Violation> {
        let mut result = Self { id: 0, code: Code::NO_ERROR, text: String::new() };
        each(input, |field, value| {
            match field {
                1 => result.id = value.u32()?,
                2 => result.code = Code(value.u32()?),
                3 => result.text = value.text(TEXT)?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(result)
    }
}

impl UpstreamProtocol {
    const fn number(self) -> u32 {
        match self {
            Self::Http1 => 0,
            Self::Http2 => 1,
        }
    }

    const fn from_number(number: u32) -> Result<Self, Violation> {
        match number {
            0 => Ok(Self::Http1),
            1 => Ok(Self::Http2),
            _ => Err(Violation::Message), // spec: MSG-003
        }
    }
}

impl TlsEnd {
    const fn number(self) -> u32 {
        match self {
            Self::Unsaid => 0,
            Self::Network => 1,
            Self::Agent => 2,
            Self::Upstream => 3,
        }
    }

    const fn from_number(number: u32) -> Result<Self, Violation> {
        match number {
            0 => Ok(Self::Unsaid),
            1 => Ok(Self::Network),
            2 => Ok(Self::Agent),
            3 => Ok(Self::Upstream),
            _ => Err(Violation::Message), // spec: MSG-003
        }
    }
}

impl Command {
    const fn number(self) -> u32 {
        match self {
            Self::Stop => 1,
            Self::Restart => 2,
            Self::Update => 3,
            Self::Configuration => 4,
            Self::Unknown(number) => number,
        }
    }

    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Stop,
            2 => Self::Restart,
            3 => Self::Update,
            4 => Self::Configuration,
            _ => Self::Unknown(number), // spec: CMD-002
        }
    }
}

fn each<'a>(input: &'a [u8], mut set: impl FnMut(u32, Value<'a>) -> Result<(), Violation>) -> Result<(), Violation> {
    let mut fields = Fields(input);
    while let Some((field, value)) = fields.next()? {
        // spec: MSG-009
        set(field, value)?;
    }
    Ok(())
}

/// The longest OPEN, in octets.
pub(crate) const OPEN: usize = 4_096;

const ID: usize = 16;
const VERSIONS: usize = 16;
const TOKEN: usize = 512;
const SOFTWARE: usize = 256;
const METADATA: usize = 4_096;
const REGION: usize = 64;
const NAME: usize = 253;
const TEXT: usize = 1_024;
const URL: usize = 512;
const TLS_TEXT: usize = 255;
const SECRET: usize = 64;
const SECRET_LEAST: usize = 16;
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// What is announced by saying nothing.
const HEARTBEAT: Heartbeat = Heartbeat { interval: Duration::ZERO, tolerance: Duration::ZERO };
const LIMITS: Limits = Limits { frame: FRAME, window: 0, streams: 0 }; // spec: PRE-009
