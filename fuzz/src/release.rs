//! Manifests of releases: any text, manifests that are nearly right, signatures of anybody; versions in their order.

use core::cmp::Ordering;

use adit::{Channel, ReleaseRead, is_signed_release, read_release, version_order};

use crate::Choices;

/// Any manifest is a release within its time, for this machine, below its place, or is refused in one harmless line; its comment must be
/// its own. Nothing counts as signed but what was. Versions are in one order.
pub fn release(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    match choices.below(4) {
        0 => manifest(choices.rest(), "adit stable 1.2.3", 1_796_083_200),
        1 => signed(&mut choices),
        2 => versions(&mut choices),
        _ => {
            let text = made(&mut choices);
            let comment = choices.one_of(COMMENTS);
            manifest(text.as_bytes(), comment, choices.one_of(&[0, 1_796_083_200, i64::MAX, i64::MIN]));
        }
    }
}

fn manifest(text: &[u8], comment: &str, now: i64) {
    let read = |comment: &str| read_release(text, comment, Channel::Stable, TARGET, now);
    let told = read(comment);
    assert_eq!(told, read(comment));
    match told {
        Err(problem) => assert!(problem.len() < 5_000 && !problem.chars().any(char::is_control), "{problem}"),
        Ok(ReleaseRead { version, signed, path, size, sha256 }) => {
            assert_eq!(order(&version, &version), Some(Ordering::Equal), "{version}");
            assert!(comment.starts_with("adit stable ") && signed <= now.saturating_add(86_400));
            assert!(read("adit stable").is_err() && read("adit beta 1.2.3").is_err() && read("").is_err());
            let bad =
                |part: &str| part.is_empty() || part.starts_with('.') || part.contains(['\\', ':', '?', '#', '%']);
            assert!(!path.split('/').any(bad) && path.len() <= 256, "{path}");
            assert!((1..=128 << 20).contains(&size));
            assert!(sha256.len() == 64 && sha256.bytes().all(|digit| digit.is_ascii_hexdigit()), "{sha256}");
            assert!(read_release(text, comment, Channel::Beta, TARGET, now).is_err());
            assert!(read_release(text, comment, Channel::Stable, "another", now).is_err());
            assert!(read_release(text, comment, Channel::Stable, TARGET, i64::MAX).is_err(), "everything expires");
        }
    }
}

/// The one manifest that this key has signed, changed or not, under its signature, changed or not.
fn signed(choices: &mut Choices<'_>) {
    let (mut text, mut signature) = (MANIFEST.to_vec(), SIGNATURE.to_owned());
    assert!(is_signed_release(&text, &signature, KEY));
    match choices.below(3) {
        0 => {
            let at = choices.below(text.len());
            let flip = choices.between(1, 255);
            text[at] ^= u8::try_from(flip).expect("an octet");
        }
        1 => {
            // The lines that are signatures, and the trusted comment. The first is anybody's.
            let lines: Vec<&str> = SIGNATURE.lines().collect();
            let line = choices.between(1, 3);
            let new = String::from_utf8_lossy(choices.octets(100)).replace(['\n', '\r'], "");
            if new == lines[line] {
                return;
            }
            let with = |(at, old): (usize, &&str)| if at == line { new.clone() } else { (*old).to_owned() };
            signature = lines.iter().enumerate().map(with).collect::<Vec<_>>().join("\n");
        }
        _ => {
            signature = String::from_utf8_lossy(choices.octets(400)).into_owned();
            text.extend(choices.rest());
            text.push(b' ');
        }
    }
    assert!(!is_signed_release(&text, &signature, KEY), "{signature}");
}

fn versions(choices: &mut Choices<'_>) {
    let [one, two, three] = [(); 3].map(|()| version(choices));
    let Some(first) = order(&one, &two) else { return };
    assert_eq!(order(&two, &one), Some(first.reverse()), "{one} {two}");
    let Some(second) = order(&two, &three) else { return };
    if first == second {
        assert_eq!(order(&one, &three), Some(first), "{one} {two} {three}");
    }
    // What comes before a version is what is not ripe yet; a text of more than 64 octets is none.
    if !one.contains(['-', '+']) && one.len() <= 64 - "+build".len() {
        assert_eq!(order(&format!("{one}-rc.1"), &one), Some(Ordering::Less), "{one}");
        assert_eq!(order(&format!("{one}+build"), &one), Some(Ordering::Equal), "{one}");
    }
}

fn order(one: &str, two: &str) -> Option<Ordering> {
    let (same, order) = version_order(one, two)?;
    assert_eq!(same, order.is_eq(), "{one} {two}");
    Some(order)
}

fn version(choices: &mut Choices<'_>) -> String {
    if choices.below(8) == 7 {
        return String::from_utf8_lossy(choices.octets(12)).into_owned();
    }
    let mut number = || choices.one_of(&["0", "1", "2", "10", "18446744073709551615", "01", "18446744073709551616"]);
    let mut text = format!("{}.{}.{}", number(), number(), number());
    for at in 0..choices.below(3) {
        text.push(if at == 0 { '-' } else { '.' });
        text.push_str(choices.one_of(&["alpha", "beta", "1", "2", "10", "rc-1", "1a", "0", "-", "Z"]));
    }
    text
}

/// Makes a manifest that is right but for what the choices put in.
fn made(choices: &mut Choices<'_>) -> String {
    let mut artefacts = Vec::new();
    for _ in 0..=choices.below(3) {
        let target = choices.one_of(&[TARGET, "another"]);
        let path = choices.one_of(&["1.2.3/adit", "a", "../a", "a//b", "/a", "a\\\\b", "a?b", ".a", ""]);
        let size = choices.one_of(&["1", "134217728", "134217729", "0", "-1", "1e3"]);
        let hash = choices.one_of(&["0", "f", "G", "é"]).repeat(choices.one_of(&[64, 32, 63, 65]));
        artefacts.push(format!(r#"{{"target": "{target}", "path": "{path}", "size": {size}, "sha256": "{hash}"}}"#));
    }
    let dates =
        &["2026-11-20T08:00:00Z", "2027-11-20T08:00:00Z", "9999-12-31T23:59:59Z", "0000-00-00T00:00:00Z", "soon"];
    let more = choices.one_of(&["", r#", "\u001b[2J": 1"#, r#", "format": 1"#, ", 1"]);
    format!(
        r#"{{"format": {}, "product": "{}", "channel": "{}", "version": "{}", "signed": "{}", "expires": "{}", "artefacts": [{}]{more}}}"#,
        choices.one_of(&["1", "2", "\"1\""]),
        choices.one_of(&["adit", "other"]),
        choices.one_of(&["stable", "beta", "\\u001b"]),
        choices.one_of(&["1.2.3", "1.2.4", "1.2", "1.2.3-beta.1"]),
        choices.one_of(dates),
        choices.one_of(dates),
        artefacts.join(", "),
    )
}

const TARGET: &str = "x86_64-unknown-linux-gnu";
const COMMENTS: &[&str] =
    &["adit stable 1.2.3", "adit stable 1.2.4", "adit stable 1.2.3-beta.1", "adit beta 1.2.3", ""];
const MANIFEST: &[u8] = include_bytes!("../../agent/tests/update/stable.json");
const SIGNATURE: &str = include_str!("../../agent/tests/update/stable.json.minisig");
const KEY: &str = include_str!("../../agent/tests/update/vendor.pub");
