use alloc::{borrow::ToOwned, vec};

use super::*;

fn question(name: &str, kind: Kind) -> Question {
    Question { id: 0x1234, name: name.to_owned(), kind }
}

/// An answer under construction.
struct Reply(Vec<u8>);

impl Reply {
    fn to(question: &Question, flags: u16) -> Self {
        let mut message = question.encode();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        Self(message)
    }

    fn record(mut self, owner: &[u8], kind: u16, data: &[u8]) -> Self {
        self.0[7] += 1;
        self.0.extend_from_slice(owner);
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&[0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).unwrap()]);
        self.0.extend_from_slice(data);
        self
    }
}

const ASKED: &[u8] = b"\xc0\x0c";
const OK: u16 = 0x8180;

#[test]
fn a_question_is_written_as_the_standard_says() {
    let expected = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04node\x07example\x00\x00\x1c\x00\x01";

    assert_eq!(question("node.example", Kind::Aaaa).encode(), expected);
}

#[test]
fn addresses_are_those_of_the_name_and_of_the_kind_that_was_asked_for() {
    let asked = question("a.example", Kind::A);
    let reply = Reply::to(&asked, OK)
        .record(ASKED, 1, &[192, 0, 2, 1])
        .record(b"\x01b\xc0\x0e", 1, &[192, 0, 2, 9])
        .record(ASKED, 28, &[0; 16])
        .record(ASKED, 99, b"something")
        .record(b"\x01A\x07EXAMPLE\x00", 1, &[192, 0, 2, 2]);

    let addresses = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
    assert_eq!(asked.answer(&reply.0), Ok(Answer::Addresses(addresses.to_vec())));

    let asked = question("a.example", Kind::Aaaa);
    let reply = Reply::to(&asked, OK).record(ASKED, 28, &"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    assert_eq!(asked.answer(&reply.0), Ok(Answer::Addresses(vec!["2001:db8::1".parse().unwrap()])));
}

#[test]
fn aliases_are_followed_in_any_order_and_a_circle_ends() {
    let asked = question("a.example", Kind::A);
    let (b, c) = (&b"\x01b\xc0\x0e"[..], &b"\x01c\xc0\x0e"[..]);

    let chain = Reply::to(&asked, OK).record(c, 1, &[192, 0, 2, 1]).record(b, 5, c).record(ASKED, 5, b);
    assert_eq!(asked.answer(&chain.0), Ok(Answer::Addresses(vec!["192.0.2.1".parse().unwrap()])));
    let open = Reply::to(&asked, OK).record(ASKED, 5, b).record(b, 5, c);
    assert_eq!(asked.answer(&open.0), Ok(Answer::Alias("c.example".to_owned())));
    let circle = Reply::to(&asked, OK).record(ASKED, 5, b).record(b, 5, ASKED);
    assert!(matches!(asked.answer(&circle.0), Ok(Answer::Alias(_) | Answer::Nothing)));
}

#[test]
fn what_a_server_says_without_addresses_is_told_apart() {
    let asked = question("a.example", Kind::A);
    let said = |flags| asked.answer(&Reply::to(&asked, flags).0);

    assert_eq!(said(OK), Ok(Answer::Nothing));
    assert_eq!(said(0x8183), Ok(Answer::NoName));
    assert_eq!(said(0x8182), Ok(Answer::Failed(2)));
    assert_eq!(said(0x8185), Ok(Answer::Failed(5)));
    assert_eq!(said(0x8380), Ok(Answer::Truncated));
    let bare = [0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(asked.answer(&bare), Ok(Answer::Failed(1)), "who could not read the question");
}

#[test]
fn what_answers_another_question_is_no_answer() {
    let asked = question("a.example", Kind::A);
    let good = Reply::to(&asked, OK).record(ASKED, 1, &[192, 0, 2, 1]).0;
    let other = |change: &dyn Fn(&mut Question)| {
        let mut asked = asked.clone();
        change(&mut asked);
        asked.answer(&good)
    };

    assert_eq!(other(&|asked| asked.id += 1), Err(NoAnswer::Other));
    assert_eq!(other(&|asked| asked.name = "b.example".to_owned()), Err(NoAnswer::Other));
    assert_eq!(other(&|asked| asked.kind = Kind::Aaaa), Err(NoAnswer::Other));
    assert_eq!(asked.answer(&asked.encode()), Err(NoAnswer::Other), "a question");
    assert_eq!(asked.answer(b""), Err(NoAnswer::Other));
    let mut bare = good;
    bare[5] = 0;
    assert_eq!(asked.answer(&bare), Err(NoAnswer::Other), "addresses without a question");
}

#[test]
fn what_is_cut_or_points_forward_is_malformed() {
    let asked = question("a.example", Kind::A);
    let good = Reply::to(&asked, OK).record(b"\x01b\xc0\x0e", 5, ASKED).record(ASKED, 1, &[192, 0, 2, 1]).0;
    for end in 12..good.len() {
        assert_eq!(asked.answer(&good[..end]), Err(NoAnswer::Malformed), "{end}");
    }
    let here = u8::try_from(asked.encode().len()).unwrap();
    for owner in [&[0xc0, here][..], &[0xc0, 0xff], &[0x40, 0], &[1, b'a', 0xc0, here], &[63]] {
        let bad = Reply::to(&asked, OK).record(owner, 1, &[192, 0, 2, 1]).0;
        assert_eq!(asked.answer(&bad), Err(NoAnswer::Malformed), "{owner:?}");
    }
    for (kind, data) in [(1, &[1, 2, 3][..]), (5, b"\x01b\x00x"), (5, b"\x05b")] {
        let bad = Reply::to(&asked, OK).record(ASKED, kind, data).0;
        assert_eq!(asked.answer(&bad), Err(NoAnswer::Malformed), "{kind}");
    }
    let long = [b"\x3f".as_slice(), &[b'x'; 63]].concat().repeat(4);
    let bad = Reply::to(&asked, OK).record(&[&long, &b"\x00"[..]].concat(), 1, &[192, 0, 2, 1]).0;
    assert_eq!(asked.answer(&bad), Err(NoAnswer::Malformed));
}

#[test]
fn a_name_that_no_host_has_leads_nowhere() {
    let asked = question("a.example", Kind::A);
    let reply = Reply::to(&asked, OK).record(ASKED, 5, b"\x03a b\x00").record(b"\x03a b\x00", 1, &[192, 0, 2, 1]);

    assert_eq!(asked.answer(&reply.0), Ok(Answer::Nothing));
    for (host, name) in [
        ("Node.Example.", Some("node.example")),
        ("a_b-c", Some("a_b-c")),
        ("", None),
        (".", None),
        ("a..b", None),
        ("a b", None),
        ("ä.example", None),
    ] {
        assert_eq!(host_name(host).as_deref(), name, "{host}");
    }
    assert_eq!(host_name(&"x".repeat(64)), None);
    assert_eq!(host_name(&["x".repeat(63).as_str(); 4].join(".")), None);
    assert!(host_name(&[["x".repeat(63).as_str(); 3].join("."), "x".repeat(61)].join(".")).is_some());
}
