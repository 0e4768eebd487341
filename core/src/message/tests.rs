use alloc::{format, string::String, vec, vec::Vec};
use core::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::Violation;

#[test]
fn a_message_has_the_octets_that_protocol_buffers_give_it() {
    let bind = Bind {
        id: BindId(300),
        url: "tcp://:5432".into(),
        pooling: true,
        upstream_protocol: UpstreamProtocol::Http2,
        name: "db".into(),
        description: String::new(),
        metadata: "é".into(),
        tls_end: TlsEnd::Unsaid,
    };

    assert_eq!(encoded(&bind), b"\x08\xac\x02\x12\x0btcp://:5432\x18\x01\x20\x01\x2a\x02db\x3a\x02\xc3\xa9");
    assert_eq!(Bind::decode(&encoded(&bind)), Ok(bind));
}

#[test]
fn a_nested_message_longer_than_127_octets_keeps_its_place() {
    let tls = TlsInfo { sni: "s".repeat(200), alpn: "h2".into(), ..TlsInfo::default() };
    let open = Open { bind: Some(BindId(0)), tls: Some(tls), endpoint: "https://x".into(), ..Open::default() };

    assert_eq!(Open::decode(&encoded(&open)), Ok(open));
}

#[test]
fn an_empty_message_has_every_default() {
    assert_eq!(Open::decode(&[]), Ok(Open::default()));
    assert_eq!(Close::decode(&[]), Ok(Close { code: Code::NO_ERROR, text: String::new() }));
    assert_eq!(CommandRequest::decode(&[]), Ok(CommandRequest::new(0, Command::Unknown(0))));
}

#[test]
fn an_absent_number_and_a_zero_differ_where_presence_means_something() {
    let refusal = |retry_after| Refusal { code: Code::BUSY, retry_after, text: String::new() };

    for value in [None, Some(Duration::ZERO), Some(Duration::from_millis(1_500))] {
        assert_eq!(Refusal::decode(&encoded(&refusal(value))), Ok(refusal(value)));
    }
    let long = refusal(Some(Duration::from_secs(301)));
    assert_eq!(Refusal::decode(&encoded(&long)), Ok(refusal(Some(Duration::from_secs(300)))));
}

#[test]
fn unknown_fields_of_every_kind_are_skipped_and_the_last_of_two_counts() {
    let octets = [
        b"\x08\x01".as_slice(),                          // code = 1
        b"\x78\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", // 15: number
        b"\x7a\x03abc",                                  // 15: octets
        b"\x79\x00\x00\x00\x00\x00\x00\x00\x00",         // 15: eight octets
        b"\x7d\x00\x00\x00\x00",                         // 15: four octets
        b"\x12\x01a\x08\x80\x02\x12\x01b",               // text = a, code = 0x100, text = b
    ]
    .concat();

    assert_eq!(Close::decode(&octets), Ok(Close { code: Code::VERSION, text: "b".into() }));
}

#[test]
fn what_is_not_well_formed_is_a_violation() {
    let malformed: &[(&str, &[u8])] = &[
        ("a tag alone", b"\x08"),
        ("a number without end", b"\x08\x80"),
        ("eleven octets of number", b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00"),
        ("more than 64 bits", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        ("more than 32 bits", b"\x08\x80\x80\x80\x80\x10"),
        ("a tag of more than 32 bits", b"\x88\x80\x80\x80\x80\x01\x00"),
        ("field zero", b"\x00\x01"),
        ("a group", b"\x0b\x0c"),
        ("kind six", b"\x0e"),
        ("kind seven", b"\x0f"),
        ("a text shorter than said", b"\x12\x02a"),
        ("a length past any memory", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        ("four octets cut", b"\x7d\x00\x00\x00"),
        ("eight octets cut", b"\x79\x00"),
        ("octets where a number belongs", b"\x0a\x00"),
        ("a number where a text belongs", b"\x10\x00"),
        ("four octets where a text belongs", b"\x15abcd"),
        ("no UTF-8", b"\x12\x01\xff"),
        ("a surrogate", b"\x12\x03\xed\xa0\x80"),
    ];
    for (what, octets) in malformed {
        assert_eq!(Close::decode(octets), Err(Violation::Message), "{what}");
    }
    let beyond_64_bits = b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02";
    assert_eq!(Refusal::decode(beyond_64_bits), Err(Violation::Message));
}

#[test]
fn every_text_is_accepted_at_its_limit_and_refused_beyond() {
    let too_long = Err(Violation::MessageTooLong);
    let text = |field: u8, length: usize| delimited(field, &vec![b'x'; length]);
    for (field, limit) in [(4, 512), (5, 256), (6, 4_096)] {
        let hello = |length| Hello::decode(&[delimited(2, &[1; 16]), text(field, length)].concat()).map(|_| ());
        assert_eq!((hello(limit), hello(limit + 1)), (Ok(()), too_long), "HELLO field {field}");
    }
    for (field, limit) in [(5, 64), (6, 253)] {
        let welcome = |length| Welcome::decode(&[delimited(2, &[1; 16]), text(field, length)].concat()).map(|_| ());
        assert_eq!((welcome(limit), welcome(limit + 1)), (Ok(()), too_long), "WELCOME field {field}");
    }
    for (field, limit) in [(2, 512), (5, 253), (6, 1_024), (7, 4_096)] {
        let bind = |length| Bind::decode(&text(field, length)).map(|_| ());
        assert_eq!((bind(limit), bind(limit + 1)), (Ok(()), too_long), "BIND field {field}");
    }
    for field in 1..=4 {
        let tls = |length| Open::decode(&delimited(4, &text(field, length))).map(|_| ());
        assert_eq!((tls(255), tls(256)), (Ok(()), too_long), "OPEN field 4.{field}");
    }
    assert_eq!(Open::decode(&text(5, 513)), Err(Violation::MessageTooLong));
    assert_eq!(Refusal::decode(&text(3, 1_025)), Err(Violation::MessageTooLong));
    assert_eq!(Close::decode(&text(2, 1_025)), Err(Violation::MessageTooLong));
    assert_eq!(GoAway::decode(&text(4, 1_025)), Err(Violation::MessageTooLong));
    assert_eq!(Bound::decode(&text(2, 513)), Err(Violation::MessageTooLong));
    assert_eq!(CommandRequest::decode(&text(3, 1_025)), Err(Violation::MessageTooLong));
    let request = |length| CommandRequest::decode(&text(4, length)).map(|request| request.document.len());
    assert_eq!((request(DOCUMENT), request(DOCUMENT + 1)), (Ok(DOCUMENT), Err(Violation::MessageTooLong)));
    assert_eq!(CommandResult::decode(&text(3, 1_025)), Err(Violation::MessageTooLong));
    assert_eq!(BindRefusal::decode(&delimited(2, &text(3, 1_025))), Err(Violation::MessageTooLong));
}

#[test]
fn an_open_is_at_most_4096_octets_unknown_fields_included() {
    let open = |length| Open::decode(&delimited(15, &vec![0; length])).map(|_| ());

    assert_eq!(open(4_096 - 3), Ok(()));
    assert_eq!(open(4_096 - 2), Err(Violation::OpenTooLong));
}

#[test]
fn versions_come_packed_or_one_by_one_and_are_at_most_sixteen() {
    let with = |versions: &[u8]| {
        Hello::decode(&[delimited(2, &[1; 16]), versions.to_vec()].concat()).map(|hello| hello.versions)
    };

    assert_eq!(with(b"\x0a\x03\x01\x80\x02\x08\x03"), Ok(vec![1, 256, 3]));
    assert_eq!(with(&delimited(1, &[1; 16])), Ok(vec![1; 16]));
    assert_eq!(with(&delimited(1, &[1; 17])), Err(Violation::MessageTooLong));
    assert_eq!(with(&b"\x08\x01".repeat(17)), Err(Violation::MessageTooLong));
    assert_eq!(with(&delimited(1, &[1, 0x80])), Err(Violation::Message));
}

#[test]
fn identifiers_are_present_and_sixteen_octets() {
    for length in [0, 15, 17] {
        let id = delimited(2, &vec![1; length]);
        assert_eq!(Hello::decode(&id), Err(Violation::Message), "{length} octets");
        assert_eq!(Welcome::decode(&id), Err(Violation::Message), "{length} octets");
    }
    assert_eq!(Hello::decode(&[]), Err(Violation::Message));
    assert_eq!(Welcome::decode(&[]), Err(Violation::Message));
    assert_eq!(Resume::decode(&delimited(2, &[1; 16])), Err(Violation::Message));
    assert!(Welcome::decode(&delimited(2, &[1; 16])).is_ok());
}

#[test]
fn a_resume_secret_is_16_to_64_octets() {
    let offer = |length| ResumeOffer::decode(&delimited(1, &vec![1; length])).map(|_| ());

    assert_eq!((offer(16), offer(64)), (Ok(()), Ok(())));
    assert_eq!((offer(15), offer(65)), (Err(Violation::Message), Err(Violation::MessageTooLong)));
}

#[test]
fn an_address_is_six_or_eighteen_octets() {
    for text in ["192.0.2.7:443", "[2001:db8::7]:65535", "[::ffff:192.0.2.7]:1", "0.0.0.0:0"] {
        let address: SocketAddr = text.parse().expect("an address");
        let open = Open { caller: Some(address), ..Open::default() };
        assert_eq!(Open::decode(&encoded(&open)), Ok(open));
    }
    for length in [0, 1, 2, 5, 7, 17, 19] {
        let open = Open::decode(&delimited(2, &vec![1; length]));
        assert_eq!(open, Err(Violation::Message), "{length} octets");
    }
}

#[test]
fn absent_limits_are_the_usual_frame_and_nothing_else() {
    assert_eq!(Limits::decode(&[]), Ok(Limits { frame: 16_376, window: 0, streams: 0 }));
}

#[test]
fn a_frame_limit_of_zero_is_not_taken_for_an_absent_one() {
    let limits = Limits { frame: 0, window: 1, streams: 2 };

    assert_eq!(Limits::decode(&encoded(&limits)), Ok(limits));
}

/// BIND-020, MSG-004
#[test]
fn a_reason_that_is_too_long_is_cut_by_who_says_it_and_refused_by_who_hears_it() {
    let long = Unbind::new(BindId(3)).because(Code(0x9999), "ü".repeat(600));
    let cut = Unbind::decode(&encoded(&long));
    assert_eq!(cut, Ok(Unbind::new(BindId(3)).because(Code(0x9999), "ü".repeat(512))));

    let octets = [b"\x08\x03\x22\x81\x08".as_slice(), &[b'x'; 1_025]].concat();
    assert_eq!(Unbind::decode(&octets), Err(Violation::MessageTooLong));
}

/// MSG-002: who knows nothing of reasons, and who says none, understand each other.
#[test]
fn giving_up_without_a_reason_says_what_it_always_said() {
    assert_eq!(encoded(&Unbind::new(BindId(3)).cutting(true)), b"\x08\x03\x10\x01");
    assert_eq!(Unbind::decode(b"\x08\x03"), Ok(Unbind::new(BindId(3))));
}

/// BIND-021, MSG-004
#[test]
fn what_is_withheld_arrives_as_it_was_sent_within_its_limits() {
    for tls_end in [TlsEnd::Unsaid, TlsEnd::Network, TlsEnd::Agent, TlsEnd::Upstream] {
        for code in [Code::NO_ERROR, Code::DISALLOWED, Code(u32::MAX)] {
            let withheld = Withheld { url: "https://a.example".into(), code, text: "why".into(), tls_end };
            assert_eq!(Withheld::decode(&encoded(&withheld)), Ok(withheld));
        }
    }
    assert_eq!(Withheld::decode(&[]), Ok(Withheld::taken_back("")));
    let long = Withheld { text: "ü".repeat(600), ..Withheld::taken_back("x".repeat(600)) };
    let cut = Withheld { text: "ü".repeat(512), ..Withheld::taken_back("x".repeat(512)) };
    assert_eq!(Withheld::decode(&encoded(&long)), Ok(cut));
    for (field, most) in [(b"\x0a", 512), (b"\x1a", 1_024_u16)] {
        let octets = |length: u16| {
            let [low, high] = [length & 0x7f | 0x80, length >> 7].map(|octet| u8::try_from(octet).expect("seven bits"));
            [field.as_slice(), &[low, high], &vec![b'x'; length.into()]].concat()
        };
        assert!(Withheld::decode(&octets(most)).is_ok());
        assert_eq!(Withheld::decode(&octets(most + 1)), Err(Violation::MessageTooLong));
    }
    assert_eq!(Withheld::decode(b"\x20\x04"), Err(Violation::Message), "MSG-003: an end of TLS that there is not");
}

#[test]
fn what_is_given_up_and_what_is_asked_arrives_as_it_was_sent() {
    for cut in [false, true] {
        let silent = Unbind::new(BindId(3)).cutting(cut);
        assert_eq!(Unbind::decode(&encoded(&silent)), Ok(silent.clone()));
        let unbind = silent.because(Code::DISALLOWED, "why");
        assert_eq!(Unbind::decode(&encoded(&unbind)), Ok(unbind));
    }
    let commands = [Command::Stop, Command::Restart, Command::Update, Command::Configuration];
    for (number, command) in (1..).zip(commands) {
        let request = CommandRequest { text: "why".into(), ..CommandRequest::new(9, command) };
        let octets = encoded(&request);
        assert_eq!(octets, [b"\x08\x09\x10".as_slice(), &[number], b"\x1a\x03why"].concat());
        assert_eq!(CommandRequest::decode(&octets), Ok(request));
    }
    for retry_after in [None, Some(Duration::from_secs(40))] {
        let goaway = GoAway { last: 7, code: Code::SHUTDOWN, retry_after, text: "bye".into() };
        assert_eq!(GoAway::decode(&encoded(&goaway)), Ok(goaway));
    }
    let http1 = Bind::decode(b"\x20\x00").map(|bind| bind.upstream_protocol);
    assert_eq!(http1, Ok(UpstreamProtocol::Http1), "a default that is said all the same");
}

/// CMD-006: and with everything else it has, the longest fits in the smallest frame.
#[test]
fn a_document_that_is_too_long_is_left_out_by_who_says_it_and_never_cut() {
    let with = |document: String| CommandRequest {
        document,
        text: "x".repeat(1_024),
        ..CommandRequest::new(u32::MAX, Command::Unknown(u32::MAX))
    };
    let (whole, longer) = (with("x".repeat(DOCUMENT)), with("x".repeat(DOCUMENT + 1)));

    assert!(encoded(&whole).len() <= 8_192);
    assert_eq!(CommandRequest::decode(&encoded(&whole)), Ok(whole));
    assert_eq!(CommandRequest::decode(&encoded(&longer)), Ok(with(String::new())));
}

#[test]
fn an_unknown_command_is_kept_and_an_unknown_upstream_protocol_is_not() {
    let request = CommandRequest::new(9, Command::Unknown(77));

    assert_eq!(CommandRequest::decode(&encoded(&request)), Ok(request));
    assert_eq!(Bind::decode(b"\x20\x02"), Err(Violation::Message));
    assert_eq!(Bind::decode(b"\x40\x03").map(|bind| bind.tls_end), Ok(TlsEnd::Upstream));
    assert_eq!(Bind::decode(b"\x40\x04"), Err(Violation::Message));
    assert_eq!(Bound::decode(b"\x18\x04"), Err(Violation::Message));
}

#[test]
fn what_is_too_long_is_cut_between_characters_so_that_the_peer_accepts_it() {
    let close = Close { code: Code::NO_ERROR, text: format!("{}ééé", "x".repeat(1_021)) };
    let cut = Close::decode(&encoded(&close)).expect("within the limit");

    assert_eq!(cut.text, format!("{}é", "x".repeat(1_021)));
}

/// RES-014
#[test]
fn no_secret_shows_in_debug_output() {
    let hello = Hello { token: Secret::new(*b"hunter2"), ..hello() };

    assert!(!format!("{hello:?}").contains("hunter2"));
}

#[test]
fn a_message_cut_anywhere_is_a_shorter_message_or_a_violation() {
    let octets = encoded(&hello());

    for end in 0..octets.len() {
        let (cut, _) = octets.split_at(end);
        assert_ne!(Hello::decode(cut), Ok(hello()), "cut at {end}");
    }
}

proptest! {
    #[test]
    fn any_octets_are_decoded_or_refused(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        survives::<Hello>(&octets)?;
        survives::<Welcome>(&octets)?;
        survives::<Refusal>(&octets)?;
        survives::<Close>(&octets)?;
        survives::<GoAway>(&octets)?;
        survives::<Open>(&octets)?;
        survives::<Bind>(&octets)?;
        survives::<Bound>(&octets)?;
        survives::<Unbind>(&octets)?;
        survives::<Withheld>(&octets)?;
        survives::<BindRefusal>(&octets)?;
        survives::<CommandRequest>(&octets)?;
        survives::<CommandResult>(&octets)?;
    }

    #[test]
    fn a_damaged_hello_is_decoded_or_refused(at in 0usize..200, to in any::<u8>()) {
        let mut octets = encoded(&hello());
        let length = octets.len();
        if let Some(octet) = octets.get_mut(at % length) {
            *octet = to;
        }
        survives::<Hello>(&octets)?;
    }

    #[test]
    fn a_hello_arrives_as_it_was_sent(
        versions in prop::collection::vec(any::<u32>(), 0..=16),
        agent in any::<[u8; 16]>(),
        incarnation in any::<u64>(),
        lane in 0..LANES,
        token in prop::collection::vec(any::<u8>(), 0..=512),
        software in ".{0,64}",
        millis in any::<u64>(),
        limits in (1u32.., any::<u32>(), any::<u32>()),
        resume in prop::option::of((any::<[u8; 16]>(), prop::collection::vec(any::<u8>(), 0..=64), any::<u64>(), any::<u64>())),
    ) {
        let (frame, window, streams) = limits;
        let hello = Hello {
            versions,
            agent: AgentId(agent),
            incarnation,
            token: Secret::new(token),
            software,
            metadata: String::new(),
            heartbeat: Heartbeat { interval: Duration::from_millis(millis), tolerance: Duration::ZERO },
            limits: Limits { frame, window, streams },
            resume: resume.map(|(session, secret, received, attempt)| Resume {
                session: SessionId(session),
                secret: Secret::new(secret),
                received,
                attempt,
            }),
            resume_window: Duration::from_millis(millis),
            lane,
        };
        prop_assert_eq!(Hello::decode(&encoded(&hello)), Ok(hello));
    }

    #[test]
    fn an_open_arrives_as_it_was_sent(
        bind in prop::option::of(any::<u32>()),
        caller in prop::option::of(any::<([u8; 16], u16)>()),
        local in prop::option::of(any::<([u8; 4], u16)>()),
        tls in prop::option::of(".{0,60}"),
        endpoint in ".{0,120}",
    ) {
        let open = Open {
            bind: bind.map(BindId),
            caller: caller.map(|(ip, port)| SocketAddr::from((ip, port))),
            local: local.map(|(ip, port)| SocketAddr::from((ip, port))),
            tls: tls.map(|sni| TlsInfo { sni, ..TlsInfo::default() }),
            endpoint,
        };
        prop_assert_eq!(Open::decode(&encoded(&open)), Ok(open));
    }
}

/// BIND-012
#[test]
fn what_the_network_chose_is_asked_for_by_name() {
    for (wish, bound, chosen) in [
        ("https://", "https://a.example", Some("https://a.example")),
        ("HTTPS:///", "https://a.example:8443/", Some("HTTPS://a.example")),
        ("tcp://:0", "tcp://network.example:4711", Some("tcp://:4711")),
        ("tcp://any:0/", "tcp://:4711", Some("tcp://:4711")),
        ("https://a.example", "https://a.example:8443", None),
        ("tcp://:4711", "tcp://:4711", None),
        ("tcp://", "tcp://:1", None),
        ("https://", "nonsense", None),
    ] {
        let bind = Bind {
            id: BindId(1),
            url: wish.into(),
            pooling: false,
            upstream_protocol: UpstreamProtocol::Http1,
            name: String::new(),
            description: String::new(),
            metadata: String::new(),
            tls_end: TlsEnd::Unsaid,
        };
        assert_eq!(bind.chosen(bound).as_deref(), chosen, "{wish} {bound}");
        let open = ["https://", "HTTPS:///", "tcp://:0", "tcp://any:0/"].contains(&wish);
        assert_eq!(bind.leaves_open(), open, "{wish}");
    }
}

/// Whatever was understood is said again in the same words.
fn survives<M: Message + PartialEq + core::fmt::Debug>(octets: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(message) = M::decode(octets) {
        prop_assert_eq!(M::decode(&encoded(&message)), Ok(message));
    }
    Ok(())
}

fn hello() -> Hello {
    Hello {
        versions: vec![1, 2],
        agent: AgentId([0xa5; 16]),
        incarnation: 3,
        token: Secret::new(*b"adit_token"),
        software: "adit/0.1".into(),
        metadata: "m".into(),
        heartbeat: Heartbeat { interval: Duration::from_secs(10), tolerance: Duration::from_secs(15) },
        limits: Limits { frame: 16_376, window: 16_384, streams: 100 },
        resume: Some(Resume { session: SessionId([7; 16]), secret: Secret::new([9; 32]), received: 12, attempt: 3 }),
        resume_window: Duration::from_secs(30),
        lane: 7,
    }
}

fn encoded(message: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

fn delimited(field: u8, octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(octets.len()).expect("short");
    let [low, _] = (length & 0x7f | 0x80).to_le_bytes();
    let [high, _] = (length >> 7).to_le_bytes();
    [&[field << 3 | 2, low, high], octets].concat()
}
