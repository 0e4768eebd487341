//! What a vendor says of a release, believed only as far as its signature and its dates reach.

use adit_core::escape;
use minisign_verify::{PublicKey, Signature};
use serde::Deserialize;

use super::Version;
use crate::{
    clock::moment,
    config::Channel,
    errors::{Error, Fault, clip},
};

/// A release that is signed, of the channel that was asked for, and has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) version: Version,
    /// When it was signed, in seconds since 1970: an earlier one than the last that was seen is an old copy.
    pub(crate) signed: i64,
    /// The file for this machine.
    pub(crate) artefact: Artefact,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Artefact {
    /// The triple of the machines that it is for.
    pub(crate) target: String,
    /// Its path below the place of the releases.
    pub(crate) path: String,
    /// In octets.
    pub(crate) size: u64,
    /// SHA-256, 64 digits of hexadecimal.
    pub(crate) sha256: String,
}

/// The form of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    product: String,
    channel: String,
    version: String,
    signed: String,
    expires: String,
    artefacts: Vec<Artefact>,
}

/// What a manifest has to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'w> {
    pub(crate) keys: &'w [PublicKey],
    pub(crate) channel: Channel,
    pub(crate) target: &'w str,
    /// In seconds since 1970.
    pub(crate) now: i64,
}

/// Verifies a manifest by its signature, and reads it.
///
/// Nothing of it is looked at before its signature is found to be of one of the keys: prehashed, with a trusted comment that names
/// product, channel and version, so that the key's signature under anything else is none of these.
///
/// # Errors
/// [`Fault::UpdateUntrusted`]; [`Fault::UpdateNone`] when it has nothing for this machine.
pub(crate) fn verify(text: &[u8], signature: &str, wanted: &Wanted<'_>) -> Result<Release, Error> {
    let signature = Signature::decode(signature.trim_end())
        .map_err(|_| untrusted("its signature is not in minisign's form".to_owned()))?;
    let signed = wanted.keys.iter().any(|key| key.verify(text, &signature, false).is_ok());
    if !signed {
        return Err(untrusted("its signature is of none of the keys in agent.update.public_key".to_owned()));
    }
    read(text, signature.trusted_comment(), wanted)
}

/// Reads a manifest whose signature, trusted comment included, was found to be good.
///
/// # Errors
/// As [`verify`].
pub(super) fn read(text: &[u8], comment: &str, wanted: &Wanted<'_>) -> Result<Release, Error> {
    let manifest: Manifest = serde_json::from_slice(text)
        .map_err(|error| untrusted(format!("it is not in the form of a release: {error}")))?;
    if manifest.format != 1 || manifest.product != PRODUCT {
        return Err(untrusted("it is for another program, or in a form that this version does not know".to_owned()));
    }
    if Channel::parse(&manifest.channel) != Some(wanted.channel) {
        return Err(untrusted(format!("it is of another channel than {}", wanted.channel.word())));
    }
    let named = format!("{PRODUCT} {} {}", manifest.channel, manifest.version);
    if comment != named {
        return Err(untrusted(format!("its trusted comment is not `{named}`")));
    }
    let version = Version::parse(&manifest.version).ok_or_else(|| untrusted("it has no version".to_owned()))?;
    let (signed, expires) = (moment(&manifest.signed), moment(&manifest.expires));
    let (Some(signed), Some(expires)) = (signed, expires) else {
        return Err(untrusted("its dates are none".to_owned()));
    };
    if expires <= wanted.now {
        return Err(untrusted(format!(
            "it expired at {}: what is offered may be old, or this machine's clock is wrong",
            manifest.expires
        )));
    }
    if signed > wanted.now.saturating_add(DAY) {
        return Err(untrusted(format!(
            "it was signed at {}, which is yet to come: this machine's clock may be wrong",
            manifest.signed
        )));
    }
    let mut artefacts = manifest.artefacts.into_iter().filter(|artefact| artefact.target == wanted.target);
    let artefact = artefacts.next();
    let artefact = artefact
        .ok_or_else(|| Error::new(Fault::UpdateNone, format!("version {version} is not made for {}", wanted.target)))?;
    sound(&artefact).map_err(untrusted)?;
    Ok(Release { version, signed, artefact })
}

/// Says what is wrong; what a manifest says for itself is made harmless, whoever has signed it.
fn untrusted(problem: String) -> Error {
    Error::new(Fault::UpdateUntrusted, clip(&escape(&problem).to_string()))
}

fn sound(artefact: &Artefact) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let path = &artefact.path;
    let clean = path.len() <= 256
        && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain));
    if !clean {
        return Err("the path of its program is none below the place of the releases".to_owned());
    }
    if artefact.size == 0 || artefact.size > MAX_PROGRAM {
        return Err(format!("its program has not between 1 and {MAX_PROGRAM} octets"));
    }
    if artefact.sha256.len() != 64 || !artefact.sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("the hash of its program is none".to_owned());
    }
    Ok(())
}

/// A program is not larger, in octets.
const MAX_PROGRAM: u64 = 128 << 20;
const PRODUCT: &str = "adit";
/// How far clocks may differ, in seconds.
const DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    // Made with minisign 0.11: `minisign -G -W`, `minisign -S -t 'adit stable 1.2.3'`; the files are in agent/tests/update.
    fn file(name: &str) -> String {
        let path = format!("{}/tests/update/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn key(name: &str) -> PublicKey {
        PublicKey::decode(file(name).trim_end()).unwrap()
    }

    /// 2026-12-01.
    const NOW: i64 = 1_796_083_200;

    fn told(manifest: &str, signature: &str, change: impl FnOnce(&mut Wanted<'_>)) -> Result<Release, String> {
        let keys = [key("other.pub"), key("vendor.pub")];
        let mut wanted = Wanted { keys: &keys, channel: Channel::Stable, target: "x86_64-unknown-linux-gnu", now: NOW };
        change(&mut wanted);
        verify(file(manifest).as_bytes(), &file(signature), &wanted).map_err(|error| error.to_string())
    }

    #[test]
    fn a_release_that_is_signed_and_fresh_is_taken() {
        let release = told("stable.json", "stable.json.minisig", |_| {}).unwrap();

        assert_eq!(release.version, Version::parse("1.2.3").unwrap());
        assert_eq!(release.artefact.path, "1.2.3/adit-x86_64-unknown-linux-gnu");
    }

    #[test]
    fn a_release_that_is_anything_else_is_refused() {
        let none = [];
        type Change = fn(&mut Wanted<'_>);
        let table: [(&str, &str, Change, &str); 8] = [
            ("stable.json", "beta.json.minisig", |_| {}, "none of the keys"),
            ("beta.json", "stable.json.minisig", |_| {}, "none of the keys"),
            ("stable.json", "legacy.json.minisig", |_| {}, "none of the keys"),
            ("beta.json", "beta.json.minisig", |_| {}, "another channel than stable"),
            ("stable.json", "comment.json.minisig", |_| {}, "trusted comment is not `adit stable 1.2.3`"),
            ("stable.json", "stable.json.minisig", |wanted| wanted.now += 400 * DAY, "expired at"),
            ("stable.json", "stable.json.minisig", |wanted| wanted.now -= 400 * DAY, "yet to come"),
            ("stable.json", "stable.json.minisig", |wanted| wanted.target = "sparc", "not made for sparc"),
        ];
        for (manifest, signature, change, expected) in table {
            let refused = told(manifest, signature, change).unwrap_err();
            assert!(refused.contains(expected), "{manifest} {signature}: {refused}");
        }
        let wanted = Wanted { keys: &none, channel: Channel::Stable, target: "x", now: NOW };
        assert!(verify(b"{}", "nonsense", &wanted).unwrap_err().to_string().contains("minisign's form"));
        let changed = file("stable.json").replace("1.2.3", "1.2.4");
        let keys = [key("vendor.pub")];
        let wanted = Wanted { keys: &keys, channel: Channel::Stable, target: "x86_64-unknown-linux-gnu", now: NOW };
        assert!(verify(changed.as_bytes(), &file("stable.json.minisig"), &wanted).is_err());
    }

    #[test]
    fn a_manifest_is_believed_until_the_second_at_which_it_expires_and_a_day_before_it_was_signed() {
        let at = |now| told("stable.json", "stable.json.minisig", |wanted| wanted.now = now).map(|_| ());
        let (signed, expires) = (moment("2026-11-20T08:00:00Z").unwrap(), moment("2027-05-20T08:00:00Z").unwrap());

        assert_eq!((at(expires - 1), at(signed - DAY)), (Ok(()), Ok(())));
        assert!(at(expires).unwrap_err().contains("expired at 2027-05-20T08:00:00Z"));
        assert!(at(signed - DAY - 1).unwrap_err().contains("signed at 2026-11-20T08:00:00Z, which is yet to come"));
    }

    #[test]
    fn what_a_manifest_says_moves_no_cursor() {
        let keys = [];
        let wanted = Wanted { keys: &keys, channel: Channel::Stable, target: "x", now: NOW };
        for text in [
            r#"{"\u001b[2J": 1}"#,
            r#"{"format": 1, "product": "adit", "channel": "stable", "version": "1.2.3+\u001b[2J", "signed": "", "expires": "", "artefacts": []}"#,
        ] {
            let refused = read(text.as_bytes(), "", &wanted).unwrap_err().to_string();
            assert!(!refused.chars().any(char::is_control), "{refused:?}");
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_a_size_and_a_hash_that_are_none_are_refused() {
        let fine = Artefact { target: String::new(), path: "a/b-1.2_x+3".to_owned(), size: 1, sha256: "0".repeat(64) };
        assert_eq!(sound(&fine), Ok(()));
        let with = |path: &str| sound(&Artefact { path: path.to_owned(), ..fine.clone() });
        let elsewhere = [
            "", "/a", "../a", "a/../b", "a/..", "a//b", "a?b", "a#b", "a b", "a/", "a/.b", ".hidden", "http://x",
            "a\\b",
        ];
        for path in elsewhere.into_iter().chain(["a%2e%2e/b", "a\nb", "ä", &"a".repeat(257)]) {
            assert!(with(path).is_err(), "{path}");
        }
        assert_eq!(with(&"a".repeat(256)), Ok(()));
        assert_eq!(sound(&Artefact { size: MAX_PROGRAM, ..fine.clone() }), Ok(()));
        for size in [0, MAX_PROGRAM + 1] {
            assert!(sound(&Artefact { size, ..fine.clone() }).is_err());
        }
        for hash in ["", &"0".repeat(63), &"g".repeat(64)] {
            assert!(sound(&Artefact { sha256: hash.to_owned(), ..fine.clone() }).is_err());
        }
    }
}
