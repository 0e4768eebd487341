//! Authtokens: `adit_<public id>_<secret>_<checksum>`.
//!
//! The public id finds the row, the secret (256 bits) is stored as SHA-256 and compared in constant time (V74), the
//! checksum lets scanners of leaked secrets tell a token from noise (V73).

use adit_core::Secret;
use aws_lc_rs::{digest, rand};
use subtle::ConstantTimeEq as _;

/// A token as it is shown, once.
#[derive(Debug)]
pub struct NewToken {
    /// What the lists show.
    pub id: String,
    /// The token.
    pub token: Secret,
}

/// What is stored of a secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hash(pub(super) [u8; 32]);

/// What an agent showed, taken apart. What is malformed has an id that no row has, so that it takes the same path.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) id: String,
    hash: Hash,
}

impl NewToken {
    /// Makes a token.
    ///
    /// # Errors
    /// When the system gives no entropy.
    pub(super) fn generate() -> Result<(Self, Hash), aws_lc_rs::error::Unspecified> {
        let (mut id, mut secret) = ([0; ID_OCTETS], [0; 32]);
        rand::fill(&mut id)?;
        rand::fill(&mut secret)?;
        let (id, secret) = (base32(&id), base32(&secret));
        let body = format!("adit_{id}_{secret}");
        let token = Secret::new(format!("{body}_{}", checksum(&body)));
        Ok((Self { id, token }, Hash::of(secret.as_bytes())))
    }
}

impl Hash {
    fn of(secret: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(sha256(secret).as_ref());
        Self(hash)
    }
}

impl Shown {
    /// Takes apart what an agent showed.
    pub(super) fn new(token: &Secret) -> Self {
        let text = String::from_utf8_lossy(token.expose());
        let parts = parts(&text);
        let (id, secret) = parts.unwrap_or(("", ""));
        Self { id: id.to_owned(), hash: Hash::of(secret.as_bytes()) }
    }

    /// Returns whether the secret is the stored one; takes the same time whether there is a stored one or not.
    pub(super) fn fits(&self, stored: Option<&[u8]>) -> bool {
        let expected = stored.and_then(|hash| <[u8; 32]>::try_from(hash).ok());
        let equal = self.hash.0.ct_eq(&expected.unwrap_or([0; 32]));
        bool::from(equal) & expected.is_some()
    }
}

fn parts(token: &str) -> Option<(&str, &str)> {
    let (body, sum) = token.rsplit_once('_').unwrap_or((token, ""));
    let is_whole = sum == checksum(body); // of what is malformed too: the work is the same (AUTH-001)
    let (id, secret) = body.strip_prefix("adit_")?.split_once('_')?;
    let well_formed = id.len() == ID_LETTERS && secret.len() == SECRET_LETTERS && is_whole;
    (well_formed && [id, secret].iter().all(|part| part.bytes().all(|b| ALPHABET.contains(&b)))).then_some((id, secret))
}

pub(super) fn checksum(body: &str) -> String {
    base32(&sha256(body.as_bytes()).as_ref()[..5])
}

fn sha256(octets: &[u8]) -> digest::Digest {
    #[cfg(test)]
    work::HASHES.set(work::HASHES.get() + 1);
    digest::digest(&digest::SHA256, octets)
}

/// What was done for a token, in the thread of a test.
#[cfg(test)]
pub(super) mod work {
    use core::cell::Cell;

    thread_local! {
        pub(in super::super) static HASHES: Cell<usize> = const { Cell::new(0) };
        pub(in super::super) static QUESTIONS: Cell<usize> = const { Cell::new(0) };
    }
}

/// Writes octets as RFC 4648 base32 in lower case, without padding.
fn base32(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for octet in octets {
        bits = (bits << 8 | u32::from(*octet)) & 0xfff;
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(letter(bits >> held));
        }
    }
    if held > 0 {
        text.push(letter(bits << (5 - held)));
    }
    text
}

fn letter(bits: u32) -> char {
    char::from(ALPHABET[(bits & 31) as usize])
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_OCTETS: usize = 10;
const ID_LETTERS: usize = 16;
const SECRET_LETTERS: usize = 52;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_has_the_documented_form_and_fits_its_hash() {
        let (new, hash) = NewToken::generate().unwrap();

        let text = String::from_utf8(new.token.expose().to_vec()).unwrap();
        assert_eq!(text.split('_').map(str::len).collect::<Vec<_>>(), [4, ID_LETTERS, SECRET_LETTERS, 8]);
        let shown = Shown::new(&new.token);
        assert_eq!(shown.id, new.id);
        assert!(shown.fits(Some(&hash.0)));
    }

    #[test]
    fn no_other_token_fits() {
        let (one, hash) = NewToken::generate().unwrap();
        let (other, _) = NewToken::generate().unwrap();
        let mut cut = one.token.expose().to_vec();
        cut.pop();

        assert!(!Shown::new(&other.token).fits(Some(&hash.0)));
        assert!(!Shown::new(&one.token).fits(None));
        assert!(!Shown::new(&one.token).fits(Some(&[])));
        for malformed in [cut, Vec::new(), b"adit___".to_vec(), vec![0xff; 80], b"adit".repeat(200)] {
            let shown = Shown::new(&Secret::new(malformed));
            assert_eq!(shown.id, "");
            assert!(!shown.fits(Some(&hash.0)));
        }
    }

    #[test]
    fn the_missing_hash_is_not_the_hash_of_zeros() {
        let shown = Shown { id: String::new(), hash: Hash([0; 32]) };

        assert!(!shown.fits(None));
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        let table =
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foob", "mzxw6yq"), ("fooba", "mzxw6ytb")];
        for (octets, text) in table {
            assert_eq!(base32(octets.as_bytes()), text);
        }
    }

    /// What is compared of a token is its digest, which nobody can bring near to another octet by octet; what the core compares,
    /// the secrets of sessions, takes the same time wherever they differ (V37).
    #[test]
    fn how_long_a_comparison_of_secrets_takes_tells_nothing() {
        use core::{hint::black_box, time::Duration};
        use std::time::Instant;

        let octets = vec![7; 4 << 20];
        let (mut first, mut last) = (octets.clone(), octets.clone());
        (first[0], last[octets.len() - 1]) = (8, 8);
        let [secret, first, last] = [octets, first, last].map(Secret::new);
        let time = |other: &Secret| {
            let began = Instant::now();
            assert_ne!(black_box(&secret), black_box(other));
            began.elapsed()
        };
        let (mut at_first, mut at_last) = (Duration::MAX, Duration::MAX);
        for _ in 0..20 {
            (at_first, at_last) = (at_first.min(time(&first)), at_last.min(time(&last)));
        }
        assert!(at_last < at_first * 3 && at_first < at_last * 3, "V37: {at_first:?} and {at_last:?}");

        let (new, hash) = NewToken::generate().unwrap();
        let shown = Shown::new(&new.token);
        let mut near = hash.0;
        near[31] ^= 1;
        assert!(shown.fits(Some(&hash.0)));
        for wrong in [Some(&near[..]), Some(&hash.0[..31]), Some(&[]), None] {
            assert!(!shown.fits(wrong), "{wrong:?}");
        }
    }
}
