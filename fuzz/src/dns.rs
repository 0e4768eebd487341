//! What a DNS server answers: any octets, and answers that are nearly right.

use adit_runtime::sans_io::{Answer, Kind, NoAnswer, Question, host_name};

use crate::Choices;

/// Any octets are an answer to the question, or to another, or none; what is an answer repeats the question, names hosts only, and
/// has addresses of the kind that was asked for.
pub fn dns(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let kind = choices.one_of(&[Kind::A, Kind::Aaaa]);
    let question = Question { id: 0x1234, name: choices.one_of(NAMES).to_owned(), kind };
    let message = if choices.coin() { choices.rest().to_vec() } else { made(&question, &mut choices) };

    let answer = question.answer(&message);

    assert_eq!(answer, question.answer(&message));
    let another = Question { id: 0x4321, ..question.clone() };
    if answer.is_ok() {
        assert_eq!(another.answer(&message), Err(NoAnswer::Other), "{message:?}");
    }
    match answer {
        Ok(Answer::Addresses(addresses)) => {
            assert!((1..=64).contains(&addresses.len()), "{message:?}");
            assert!(addresses.iter().all(|address| address.is_ipv6() == (kind == Kind::Aaaa)), "{message:?}");
            let other = Question { name: "other.example".to_owned(), ..question.clone() };
            assert_eq!(other.answer(&message), Err(NoAnswer::Other), "{message:?}");
        }
        Ok(Answer::Alias(name)) => {
            assert_eq!(host_name(&name).as_ref(), Some(&name), "{message:?}");
            assert_ne!(name, question.name, "{message:?}");
        }
        Ok(Answer::Nothing | Answer::NoName | Answer::Truncated | Answer::Failed(_)) | Err(_) => {}
    }
}

/// Makes an answer that is right but for what the choices put in.
fn made(question: &Question, choices: &mut Choices<'_>) -> Vec<u8> {
    let mut message = question.encode();
    let flags = choices.one_of(&[0x8180_u16, 0x8183, 0x8182, 0x8380, 0x0100, 0xffff]);
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    let count = choices.below(6);
    message[7] = u8::try_from(count).unwrap_or_default();
    for _ in 0..count {
        message.extend_from_slice(choices.one_of(OWNERS));
        message.extend_from_slice(&choices.one_of(&[1_u16, 28, 5, 2, 0xffff]).to_be_bytes());
        message.extend_from_slice(&choices.one_of(&[1_u16, 3]).to_be_bytes());
        message.extend_from_slice(&[0, 0, 0, 60]);
        let data = match choices.below(4) {
            0 => choices.octets(4),
            1 => choices.octets(16),
            2 => choices.one_of(OWNERS),
            _ => choices.octets(3),
        };
        message.extend_from_slice(&u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
        message.extend_from_slice(data);
    }
    let end = message.len() - choices.below(message.len().min(20));
    message.truncate(end);
    message
}

const NAMES: &[&str] = &["node.example", "a", "x.y.z"];

const OWNERS: &[&[u8]] = &[
    b"\xc0\x0c",
    b"\x01b\xc0\x0e",
    b"\x01b\x00",
    b"\x04node\x07example\x00",
    b"\x03a b\x00",
    b"\x00",
    b"\xc0\xff",
    b"\xc0\x21",
    b"\x3f",
];
