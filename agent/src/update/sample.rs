//! What is decided about manifests and versions without IO, for who fuzzes it.

use core::{cmp::Ordering, slice::from_ref};

use minisign_verify::PublicKey;

use super::{
    Version,
    manifest::{Release, Wanted, read, verify},
};
use crate::config::Channel;

/// What of a release was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRead {
    /// Its version.
    pub version: String,
    /// When it was signed, in seconds since 1970.
    pub signed: i64,
    /// Where its program is, below the place of the releases.
    pub path: String,
    /// The octets of its program.
    pub size: u64,
    /// The SHA-256 of its program in hexadecimal.
    pub sha256: String,
}

/// Reads a manifest whose signature is taken to be good, at a time in seconds since 1970.
///
/// # Errors
/// What is wrong with it, for people.
pub fn read_release(
    text: &[u8],
    comment: &str,
    channel: Channel,
    target: &str,
    now: i64,
) -> Result<ReleaseRead, String> {
    let wanted = Wanted { keys: &[], channel, target, now };
    let Release { version, signed, artefact } = read(text, comment, &wanted).map_err(|error| error.to_string())?;
    let (path, size, sha256) = (artefact.path, artefact.size, artefact.sha256);
    Ok(ReleaseRead { version: version.to_string(), signed, path, size, sha256 })
}

/// Returns whether a manifest of the channel stable is believed to be signed by a key in minisign's form, at whatever time it is.
pub fn is_signed_release(text: &[u8], signature: &str, key: &str) -> bool {
    let Ok(key) = PublicKey::decode(key.trim_end()) else { return false };
    // What is not signed is refused whatever it holds, and the same with another time.
    let target = "x86_64-unknown-linux-gnu";
    let at = |now| verify(text, signature, &Wanted { keys: from_ref(&key), channel: Channel::Stable, target, now });
    (0..40).any(|year| at(1_767_225_600 + year * 31_556_952).is_ok())
}

/// Compares two versions: whether they are equal, and their order; nothing when one of them is none.
pub fn version_order(one: &str, other: &str) -> Option<(bool, Ordering)> {
    let (one, other) = (Version::parse(one)?, Version::parse(other)?);
    Some((one == other, one.cmp(&other)))
}
