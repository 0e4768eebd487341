//! The audit log: records of any texts, in any pieces, cut, changed, moved; any octets.

use adit::audit::{Checker, Hasher, Header, Link, MAX_LINE, Misfit, Record, Scanner, Stamp};
use rustls::crypto::aws_lc_rs;

use crate::Choices;

/// What is written holds together, however hostile the texts, and in any pieces. Cut anywhere, whole records stay and what is torn is
/// counted; an octet that is another is told at its record; so is a record that is left out, said twice or moved. Octets of anybody
/// are no chain.
pub fn audit(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let Some(hasher) = Hasher::of(&aws_lc_rs::default_provider()) else { return };
    if choices.coin() {
        let rest = choices.rest();
        let found = scan(&[rest], hasher);
        assert!(!matches!(found, Ok((1.., _))), "a chain that nobody wrote");
        let _ = Header::read(rest, hasher);
        return;
    }
    let (chain, ends, last) = written(&mut choices, hasher);
    let pieces = pieces(&mut choices, &chain);
    assert_eq!(scan(&pieces, hasher), Ok((ends.len(), 0)));
    if ends.is_empty() {
        return;
    }
    let before = |at: usize| ends.iter().filter(|end| **end <= at).count();
    let cut = choices.below(chain.len() + 1);
    let kept = ends.iter().rfind(|end| **end <= cut).copied().unwrap_or(0);
    assert_eq!(scan(&[&chain[..cut]], hasher), Ok((before(cut), (cut - kept) as u64)));

    let (at, to) = (choices.below(chain.len()), choices.number::<u8>());
    let mut changed = chain.clone();
    changed[at] = to;
    match scan(&[&changed], hasher) {
        Ok((count, torn)) => assert!(to == chain[at] || at + 1 == chain.len() && count + 1 == ends.len() && torn > 0),
        Err((count, _)) => assert!(to != chain[at] && count == before(at), "{at}"),
    }

    let lines: Vec<&[u8]> = chain.split_inclusive(|octet| *octet == b'\n').collect();
    let (one, other) = (choices.below(lines.len()), choices.below(lines.len()));
    let mut moved = lines.clone();
    let line = moved.remove(one);
    if choices.coin() {
        moved.insert(other.min(moved.len()), line);
        let is_same = moved == lines;
        assert_eq!(checked(&moved.concat(), hasher) == Ok(Some(last)), is_same);
    } else if one > 0 && one + 1 < lines.len() {
        assert_eq!(scan(&[&moved.concat()], hasher).err().map(|(count, _)| count), Some(one));
    } else if one == 0 && lines.len() > 1 {
        assert!(matches!(checked(&moved.concat(), hasher), Err(Misfit::Beginning { first: 2 })));
    }
}

/// Writes records; returns the octets, where each ends, and the last.
fn written(choices: &mut Choices<'_>, hasher: Hasher) -> (Vec<u8>, Vec<usize>, Link) {
    let (mut chain, mut ends, mut link) = (Vec::new(), Vec::new(), Link::START);
    for _ in 0..choices.below(6) {
        let mut record = Record::new(choices.one_of(&["connection", "end", "clock", "removed"]));
        for _ in 0..choices.below(20) {
            let text = String::from_utf8_lossy(choices.octets(24)).repeat(1 + choices.size(200));
            record = record.text(choices.one_of(&["caller", "through", "through_hash", "text"]), &text);
            record = record.number("through", choices.number());
        }
        let stamp = Stamp { wall: choices.number(), passed: choices.number() };
        let begin = chain.len();
        link = record.encode(&mut chain, link, stamp, hasher);
        assert!(chain.len() - begin <= MAX_LINE);
        ends.push(chain.len());
    }
    (chain, ends, link)
}

fn pieces<'a>(choices: &mut Choices<'_>, mut octets: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !octets.is_empty() && pieces.len() < 64 {
        let (piece, rest) = octets.split_at(choices.between(1, octets.len()));
        pieces.push(piece);
        octets = rest;
    }
    pieces.push(octets);
    pieces
}

/// Returns how many records hold together and how many octets are behind them, or how many do before one that does not fit.
fn scan(pieces: &[&[u8]], hasher: Hasher) -> Result<(usize, u64), (usize, Misfit)> {
    let (mut scanner, mut count) = (Scanner::new(Checker::new(hasher)), 0);
    for piece in pieces {
        let mut rest = *piece;
        while scanner.scan(&mut rest).map_err(|misfit| (count, misfit))?.is_some() {
            count += 1;
        }
    }
    Ok((count, scanner.torn()))
}

/// Returns the last record, if all hold together and the beginning is not missing.
fn checked(octets: &[u8], hasher: Hasher) -> Result<Option<Link>, Misfit> {
    let mut scanner = Scanner::new(Checker::new(hasher));
    let mut rest = octets;
    while scanner.scan(&mut rest)?.is_some() {}
    scanner.checker().finish()
}
