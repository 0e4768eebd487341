//! The vectors, read and written by `adit-core` and read by the schema alone.

use std::collections::BTreeSet;

use adit_conformance::{FrameVectors, Heard, MessageVectors, Schema, ValidFrames, octets};
use adit_core::{
    Bind, BindRefusal, Bound, Close, CommandRequest, CommandResult, GoAway, Hello, Message, Open, Refusal, Unbind,
    UpstreamProtocol, Violation, Welcome, Withheld,
    frame::{Decoder, Encoded, Kind, RawKind},
};

#[test]
fn every_valid_message_is_understood_and_written_again() {
    for vector in MessageVectors::load().valid {
        let hex = octets(&vector.hex).expect("hexadecimal");
        let (value, written) = core_reads(&vector.message, &hex).expect("core knows the message");

        assert_eq!(value, Ok(vector.value), "{}: {}", vector.message, vector.what);
        if vector.canonical {
            assert_eq!(written, hex, "{}: {} is written differently", vector.message, vector.what);
        }
    }
}

#[test]
fn the_schema_alone_understands_what_is_written() {
    let schema = Schema::load();
    for vector in MessageVectors::load().valid.into_iter().filter(|vector| vector.canonical) {
        let hex = octets(&vector.hex).expect("hexadecimal");

        let read = schema.read(&vector.message, &hex);
        assert_eq!(read.as_ref(), Ok(&vector.value), "{}: {}", vector.message, vector.what);
        assert_eq!(schema.write(&vector.message, &vector.value), Ok(hex), "{}: {}", vector.message, vector.what);
    }
}

#[test]
fn every_invalid_message_is_refused_by_its_clause() {
    for vector in MessageVectors::load().invalid {
        let hex = octets(&vector.hex).expect("hexadecimal");
        let (value, _) = core_reads(&vector.message, &hex).expect("core knows the message");
        let violation = value.expect_err(&vector.what);

        // Clauses about values share a violation: telling them apart would help nobody.
        let told: &[&str] = if violation == Violation::Message {
            &["MSG-001", "MSG-003", "MSG-011", "RES-006", "AUTH-008"]
        } else {
            &[violation.clause()]
        };
        assert!(told.contains(&vector.clause.as_str()), "{}: {} is not {violation}", vector.what, vector.clause);
    }
}

#[test]
fn every_message_of_the_schema_has_a_vector() {
    let vectors = MessageVectors::load();
    for message in Schema::load().messages() {
        let nested = ["Heartbeat", "Limits", "Resume", "ResumeOffer", "TlsInfo"].contains(&message);
        assert!(nested || vectors.valid.iter().any(|vector| vector.message == message), "{message}");
    }
}

/// The schema and the codec by hand know the same fields: each is in a vector that the codec reads and writes.
#[test]
fn every_field_of_the_schema_is_in_a_vector() {
    fn walk(schema: &Schema, message: &str, value: &Value, found: &mut BTreeSet<(String, String)>) {
        for (field, kind) in schema.fields(message) {
            if let Some(value) = value.get(field) {
                found.insert((message.to_owned(), field.to_owned()));
                walk(schema, kind, value, found);
            }
        }
    }
    let (schema, mut found) = (Schema::load(), BTreeSet::new());
    for vector in MessageVectors::load().valid.iter().filter(|vector| vector.canonical) {
        walk(&schema, &vector.message, &vector.value, &mut found);
    }
    for message in schema.messages() {
        for (field, _) in schema.fields(message) {
            assert!(found.contains(&(message.to_owned(), field.to_owned())), "{message}.{field} is in no vector");
        }
    }
}

#[test]
fn every_valid_frame_is_understood_in_any_pieces() {
    for vector in FrameVectors::load().valid {
        let hex = octets(&vector.hex).expect("hexadecimal");
        for size in [hex.len(), 1, 3, 7] {
            assert_eq!(heard(&vector, &hex, size), Ok(vector.frames.clone()), "{} in pieces of {size}", vector.what);
        }
    }
}

/// FRAME-002, FRAME-010
#[test]
fn every_valid_frame_cut_anywhere_is_only_what_is_whole() {
    for vector in FrameVectors::load().valid {
        let hex = octets(&vector.hex).expect("hexadecimal");
        for cut in 0..hex.len() {
            let (first, rest) = hex.split_at(cut);
            let whole = heard(&vector, first, first.len().max(1)).expect("valid");
            assert!(vector.frames.starts_with(&whole), "{} cut at {cut}", vector.what);
            assert!(whole.len() < vector.frames.len(), "{} cut at {cut}", vector.what);
            let mut decoder = Decoder::new(vector.limit);
            let mut count = 0;
            for mut piece in [first, rest] {
                while decoder.next(&mut piece).expect("valid").is_some() {
                    count += 1;
                }
            }
            assert_eq!(count, vector.frames.len(), "{} cut at {cut}", vector.what);
        }
    }
}

/// MSG-001: what is left of a message is another message, or none; both ways nothing but the codes of messages.
#[test]
fn every_message_cut_anywhere_is_another_or_refused() {
    for vector in MessageVectors::load().valid {
        let hex = octets(&vector.hex).expect("hexadecimal");
        for cut in 0..hex.len() {
            let (read, written) = core_reads(&vector.message, hex.get(..cut).expect("shorter")).expect("known");
            match read {
                Ok(value) => {
                    let again = core_reads(&vector.message, &written).expect("known").0;
                    assert_eq!(again, Ok(value), "{} cut at {cut}", vector.what);
                }
                Err(violation) => assert_eq!(violation.code(), adit_core::Code::MESSAGE, "{}", vector.what),
            }
        }
    }
}

#[test]
fn every_invalid_frame_is_refused_from_its_header_by_its_clause() {
    for vector in FrameVectors::load().invalid {
        let hex = octets(&vector.hex).expect("hexadecimal");
        let (before, last) = hex.split_at(7);
        let mut decoder = Decoder::new(vector.limit);

        let (mut before, mut last) = (before, last);
        assert_eq!(decoder.next(&mut before), Ok(None), "{}: refused too early", vector.what);
        let violation = decoder.next(&mut last).expect_err(&vector.what);
        assert_eq!(violation.clause(), vector.clause, "{}", vector.what);
    }
}

#[test]
fn the_encoder_writes_the_octets_of_the_vectors() {
    let vectors = FrameVectors::load();
    for vector in vectors.valid.iter().filter(|vector| !vector.what.contains("reserved")) {
        let mut out = Vec::new();
        for frame in &vector.frames {
            let (Some(kind), Some(payload)) = (Kind::from_number(frame.r#type), &frame.payload) else { continue };
            if let Some(frame) = encoded(kind, frame.stream, &octets(payload).expect("hexadecimal")) {
                frame.write(&mut out);
            }
        }
        assert!(out.is_empty() || out == octets(&vector.hex).expect("hexadecimal"), "{}", vector.what);
    }
}

/// The frame as its constructor makes it; `None` for those that carry messages.
fn encoded(kind: Kind, stream: u32, payload: &[u8]) -> Option<Encoded> {
    let id = adit_core::StreamId::new(stream);
    let eight = || payload.try_into().expect("eight octets");
    let number = || u64::from_be_bytes(eight());
    let code = || adit_core::Code(u32::from_be_bytes(payload.try_into().expect("four octets")));
    match kind {
        Kind::Ping => Some(Encoded::ping(eight())),
        Kind::Pong => Some(Encoded::pong(eight())),
        Kind::Ack => Some(Encoded::ack(number())),
        Kind::Streams => Some(Encoded::streams(number())),
        Kind::Data => Some(Encoded::data(id?, payload.to_vec().into())),
        Kind::Fin => Some(Encoded::fin(id?, number())),
        Kind::Reset => Some(Encoded::reset(id?, code())),
        Kind::Stop => Some(Encoded::stop(id?, code())),
        Kind::Credit => Some(Encoded::credit(id?, number())),
        Kind::Blocked => Some(Encoded::blocked(id?, number())),
        Kind::Accept => Some(Encoded::accept(id?)),
        Kind::Open => Open::decode(payload)
            .ok()
            .filter(|open| *open != Open::default())
            .map(|open| Encoded::open(id.expect("OPEN names a stream"), &open)),
        Kind::Revocations => Some(Encoded::revocations(payload.to_vec().into())),
        Kind::Bound => Some(Encoded::message(kind, &Bound::decode(payload).expect("valid"))),
        Kind::Hello
        | Kind::Welcome
        | Kind::Refuse
        | Kind::Close
        | Kind::Bind
        | Kind::Rejected
        | Kind::Unbind
        | Kind::Unbound
        | Kind::Command
        | Kind::CommandResult
        | Kind::GoAway
        | Kind::Withheld => None,
    }
}

fn heard(vector: &ValidFrames, hex: &[u8], size: usize) -> Result<Vec<Heard>, Violation> {
    let mut decoder = Decoder::new(vector.limit);
    let mut found = Vec::new();
    for mut piece in hex.chunks(size) {
        while let Some(frame) = decoder.next(&mut piece)? {
            let (r#type, payload) = match frame.header.kind {
                RawKind::Known(kind) => (kind.number(), Some(to_hex(frame.payload))),
                RawKind::Extension(number) => (number, None),
            };
            let counted = frame.header.kind.is_counted();
            found.push(Heard { r#type, stream: frame.header.stream, counted, payload });
        }
    }
    Ok(found)
}

/// What core reads, as a value of the schema, and what it writes for that.
fn core_reads(message: &str, hex: &[u8]) -> Option<(Result<Value, Violation>, Vec<u8>)> {
    fn both<M: Message>(hex: &[u8], value: fn(&M) -> Value) -> (Result<Value, Violation>, Vec<u8>) {
        let read = M::decode(hex);
        let mut out = Vec::new();
        if let Ok(message) = &read {
            message.encode(&mut out);
        }
        (read.as_ref().map(value).map_err(|violation| *violation), out)
    }
    Some(match message {
        "Hello" => both::<Hello>(hex, value::hello),
        "Welcome" => both::<Welcome>(hex, value::welcome),
        "Refusal" => both::<Refusal>(hex, value::refusal),
        "Close" => both::<Close>(hex, value::close),
        "GoAway" => both::<GoAway>(hex, value::goaway),
        "Open" => both::<Open>(hex, value::open),
        "Bind" => both::<Bind>(hex, value::bind),
        "Bound" => both::<Bound>(hex, value::bound),
        "Unbind" => both::<Unbind>(hex, value::unbind),
        "Withheld" => both::<Withheld>(hex, value::withheld),
        "BindRefusal" => both::<BindRefusal>(hex, value::bind_refusal),
        "CommandRequest" => both::<CommandRequest>(hex, value::command),
        "CommandResult" => both::<CommandResult>(hex, value::command_result),
        _ => return None,
    })
}

use serde_json::Value;

/// Messages of core as values of the schema: what is its default is left out.
mod value {
    use super::*;
    use adit_core::{Command, Duration, Heartbeat, Limits, TlsEnd, TlsInfo};
    use core::net::SocketAddr;
    use serde_json::{Map, json};

    pub(crate) fn hello(hello: &Hello) -> Value {
        let resume = hello.resume.as_ref().map(|resume| {
            object([
                ("session", octets(&resume.session.0)),
                ("secret", octets(resume.secret.expose())),
                ("received", number(resume.received)),
                ("attempt", number(resume.attempt)),
            ])
        });
        object([
            ("versions", (!hello.versions.is_empty()).then(|| json!(hello.versions))),
            ("agent", octets(&hello.agent.0)),
            ("incarnation", number(hello.incarnation)),
            ("token", octets(hello.token.expose())),
            ("software", text(&hello.software)),
            ("metadata", text(&hello.metadata)),
            ("heartbeat", heartbeat(hello.heartbeat)),
            ("limits", limits(hello.limits)),
            ("resume", resume),
            ("resume_window_ms", number(millis(hello.resume_window))),
            ("lane", number(hello.lane)),
        ])
    }

    pub(crate) fn welcome(welcome: &Welcome) -> Value {
        let resume = welcome.resume.as_ref().map(|offer| {
            object([("secret", octets(offer.secret.expose())), ("window_ms", number(millis(offer.window)))])
        });
        object([
            ("version", number(welcome.version)),
            ("session", octets(&welcome.session.0)),
            ("heartbeat", heartbeat(welcome.heartbeat)),
            ("limits", limits(welcome.limits)),
            ("region", text(&welcome.region)),
            ("node", text(&welcome.node)),
            ("resume", resume),
            ("resumed", welcome.resumed.map(|count| json!(count))),
        ])
    }

    pub(crate) fn refusal(refusal: &Refusal) -> Value {
        object([
            ("code", number(refusal.code.0)),
            ("retry_after_ms", retry_after(refusal.retry_after)),
            ("text", text(&refusal.text)),
        ])
    }

    pub(crate) fn close(close: &Close) -> Value {
        object([("code", number(close.code.0)), ("text", text(&close.text))])
    }

    pub(crate) fn goaway(goaway: &GoAway) -> Value {
        object([
            ("last", number(goaway.last)),
            ("code", number(goaway.code.0)),
            ("retry_after_ms", retry_after(goaway.retry_after)),
            ("text", text(&goaway.text)),
        ])
    }

    pub(crate) fn open(open: &Open) -> Value {
        object([
            ("bind", open.bind.map(|bind| json!(bind.0))),
            ("caller", address(open.caller)),
            ("local", address(open.local)),
            ("tls", open.tls.as_ref().map(tls)),
            ("endpoint", text(&open.endpoint)),
        ])
    }

    pub(crate) fn bind(bind: &Bind) -> Value {
        let http2 = bind.upstream_protocol == UpstreamProtocol::Http2;
        object([
            ("id", number(bind.id.0)),
            ("url", text(&bind.url)),
            ("pooling", bind.pooling.then_some(Value::Bool(true))),
            ("upstream_protocol", number(u32::from(http2))),
            ("name", text(&bind.name)),
            ("description", text(&bind.description)),
            ("metadata", text(&bind.metadata)),
            ("tls_end", tls_end(bind.tls_end)),
        ])
    }

    pub(crate) fn bound(bound: &Bound) -> Value {
        object([("id", number(bound.id.0)), ("url", text(&bound.url)), ("tls_end", tls_end(bound.tls_end))])
    }

    fn tls_end(end: TlsEnd) -> Option<Value> {
        number(match end {
            TlsEnd::Unsaid => 0_u32,
            TlsEnd::Network => 1,
            TlsEnd::Agent => 2,
            TlsEnd::Upstream => 3,
        })
    }

    pub(crate) fn unbind(unbind: &Unbind) -> Value {
        object([
            ("id", number(unbind.id.0)),
            ("cut", unbind.cut.then_some(Value::Bool(true))),
            ("code", number(unbind.code.0)),
            ("text", text(&unbind.text)),
        ])
    }

    pub(crate) fn withheld(withheld: &Withheld) -> Value {
        object([
            ("url", text(&withheld.url)),
            ("code", number(withheld.code.0)),
            ("text", text(&withheld.text)),
            ("tls_end", tls_end(withheld.tls_end)),
        ])
    }

    pub(crate) fn bind_refusal(no: &BindRefusal) -> Value {
        object([("id", number(no.id.0)), ("refusal", Some(refusal(&no.refusal)))])
    }

    pub(crate) fn command(request: &CommandRequest) -> Value {
        let command = match request.command {
            Command::Stop => 1,
            Command::Restart => 2,
            Command::Update => 3,
            Command::Configuration => 4,
            Command::Unknown(number) => number,
        };
        object([
            ("id", number(request.id)),
            ("command", number(command)),
            ("text", text(&request.text)),
            ("document", text(&request.document)),
        ])
    }

    pub(crate) fn command_result(result: &CommandResult) -> Value {
        object([("id", number(result.id)), ("code", number(result.code.0)), ("text", text(&result.text))])
    }

    fn tls(tls: &TlsInfo) -> Value {
        object([
            ("sni", text(&tls.sni)),
            ("alpn", text(&tls.alpn)),
            ("version", text(&tls.version)),
            ("cipher", text(&tls.cipher)),
        ])
    }

    fn heartbeat(heartbeat: Heartbeat) -> Option<Value> {
        let (interval, tolerance) = (millis(heartbeat.interval), millis(heartbeat.tolerance));
        Some(object([("interval_ms", number(interval)), ("tolerance_ms", number(tolerance))]))
    }

    fn limits(limits: Limits) -> Option<Value> {
        let Limits { frame, window, streams } = limits;
        Some(object([("frame", number(frame)), ("window", number(window)), ("streams", number(streams))]))
    }

    fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
        let present = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(present.collect::<Map<_, _>>())
    }

    fn number(number: impl Into<u64>) -> Option<Value> {
        let number = number.into();
        (number != 0).then(|| json!(number))
    }

    fn text(text: &str) -> Option<Value> {
        (!text.is_empty()).then(|| json!(text))
    }

    fn octets(octets: &[u8]) -> Option<Value> {
        (!octets.is_empty()).then(|| json!(to_hex(octets)))
    }

    fn address(address: Option<SocketAddr>) -> Option<Value> {
        let address = address?;
        let ip = match address {
            SocketAddr::V4(v4) => v4.ip().octets().to_vec(),
            SocketAddr::V6(v6) => v6.ip().octets().to_vec(),
        };
        octets(&[ip, address.port().to_be_bytes().to_vec()].concat())
    }

    fn retry_after(time: Option<Duration>) -> Option<Value> {
        time.map(|time| json!(millis(time)))
    }

    fn millis(time: Duration) -> u64 {
        u64::try_from(time.as_millis()).expect("it came as 64 bits")
    }
}

fn to_hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
