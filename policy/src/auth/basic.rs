//! Users and passwords, as a caller sends them with each request (RFC 7617).
//!
//! The password is compared in constant time, and an unknown user costs as much as a known one. A hash is costly to check: the check is
//! handed out ([`Step::Check`]), its answer comes back, and the password that was right is recognised by a keyed hash from then on.

use core::{error::Error, fmt, net::IpAddr, time::Duration};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use http::{HeaderMap, header::AUTHORIZATION};

use super::{
    Secret,
    encoding::Base64,
    password::{BadHash, PasswordHash},
    throttle::Throttle,
};

/// The shortest and the longest password of a configuration, in octets.
pub const PASSWORD: core::ops::RangeInclusive<usize> = 8..=128;
/// The longest credentials that a caller may send, in octets of the header.
pub const MOST_OCTETS: usize = 1_024;

/// One user and its password, or the hash of it.
#[derive(Clone)]
pub struct Credential {
    user: String,
    /// The digest by which users are compared: what is compared has one length.
    user_digest: digest::Digest,
    proof: Proof,
}

#[derive(Clone)]
enum Proof {
    Password(digest::Digest),
    Hash(Arc<PasswordHash>),
}

impl Credential {
    /// Reads `user:password` or `user:hash`; the first colon ends the user.
    ///
    /// # Errors
    /// [`BadCredential`]; it tells nothing of the text.
    pub fn parse(text: &str) -> Result<Self, BadCredential> {
        let (user, password) = text.split_once(':').ok_or(BadCredential::Colon)?;
        if user.is_empty() {
            return Err(BadCredential::User);
        }
        if text.chars().any(char::is_control) {
            return Err(BadCredential::Control);
        }
        let proof = match PasswordHash::parse(password).map_err(BadCredential::Hash)? {
            Some(hash) => Proof::Hash(Arc::new(hash)),
            None if PASSWORD.contains(&password.len()) => Proof::Password(sha256(password)),
            None => return Err(BadCredential::Length),
        };
        Ok(Self { user: user.into(), user_digest: sha256(user), proof })
    }

    /// Returns the hash, if it has one.
    fn hash(&self) -> Option<&Arc<PasswordHash>> {
        match &self.proof {
            Proof::Hash(hash) => Some(hash),
            Proof::Password(_) => None,
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Who may call, and what is remembered of who tried.
#[derive(Debug)]
pub struct BasicAuth {
    credentials: Vec<Credential>,
    /// What a password is checked against that belongs to no user with a hash: the costliest hash there is, whose answer does not count.
    decoy: Option<Arc<PasswordHash>>,
    key: hmac::Key,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    throttle: Throttle,
    /// For each credential with a hash, the keyed hash of the password that was right the last time.
    proved: Vec<Option<[u8; 32]>>,
}

/// What comes of a request.
#[derive(Debug)]
pub enum Step {
    /// It is decided.
    Done(Verdict),
    /// A hash is to be checked first, with [`Check::run`], and the answer to be given to [`BasicAuth::finish`].
    Check(Check),
}

/// What is decided of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The user that was named, if credentials could be read.
    pub user: Option<String>,
    /// Whether it may pass, and why not.
    pub access: Access,
}

/// Whether a caller may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    Granted,
    /// It sent no credentials of this scheme.
    Absent,
    /// It sent something that cannot be read as credentials in one way.
    Malformed,
    /// User or password are wrong.
    Wrong,
    /// It was wrong too often, and nothing is looked at before this time is over.
    Throttled(Duration),
}

/// A password that is to be checked against a hash.
#[derive(Clone, Debug)]
pub struct Check {
    hash: Arc<PasswordHash>,
    password: Secret,
    user: String,
    /// Whose hash it is; nobody's when the answer does not count.
    credential: Option<usize>,
    mac: [u8; 32],
    /// What is decided if the hash is nobody's.
    otherwise: Access,
}

impl Check {
    /// Returns whether the password has the hash, after up to half a second of work: not for a thread that serves others.
    pub fn run(&self) -> bool {
        self.hash.verify(self.password.octets())
    }
}

impl BasicAuth {
    /// Returns who lets these in. `key` is random: what is remembered of a right password says nothing without it.
    ///
    /// # Errors
    /// [`TwoHashes`] when a user has two credentials and one of them is a hash: an attempt would cost two checks.
    pub fn new(credentials: Vec<Credential>, key: &[u8; 32]) -> Result<Self, TwoHashes> {
        for (at, credential) in credentials.iter().enumerate() {
            let same = |other: &&Credential| other.user == credential.user;
            if credential.hash().is_some() && credentials.iter().filter(same).count() > 1 {
                return Err(TwoHashes(at));
            }
        }
        let decoy = credentials.iter().filter_map(Credential::hash).max_by_key(|hash| hash.cost()).cloned();
        let state = State { throttle: Throttle::new(), proved: vec![None; credentials.len()] };
        Ok(Self { credentials, decoy, key: hmac::Key::new(hmac::HMAC_SHA256, key), state: Mutex::new(state) })
    }

    /// Looks at the headers of a request. `more` are credentials that are made for this request; of them only passwords count.
    pub fn begin(&self, headers: &HeaderMap, more: &[Credential], address: IpAddr, now: Instant) -> Step {
        let (user, password) = match presented(headers) {
            Ok(presented) => presented,
            Err(access) => return Step::Done(Verdict { user: None, access }),
        };
        let decide = |access| Step::Done(Verdict { user: Some(user.clone()), access });
        if let Some(wait) = self.state().throttle.wait(address, &user, now) {
            return decide(Access::Throttled(wait));
        }
        let (user_digest, password_digest) = (sha256(&user), sha256(&password));
        let mac = self.mac(&user, &password);
        let (mut granted, mut hashed) = (false, None);
        for (at, credential) in self.credentials.iter().chain(more).enumerate() {
            // Every credential is looked at, whichever fits.
            let same_user = equal(&credential.user_digest, &user_digest);
            match &credential.proof {
                Proof::Password(expected) => granted |= equal(expected, &password_digest) & same_user,
                Proof::Hash(hash) if same_user && at < self.credentials.len() => hashed = Some((at, hash)),
                Proof::Hash(_) => {}
            }
        }
        let access = if granted { Access::Granted } else { Access::Wrong };
        let check = |hash: &Arc<PasswordHash>, credential| {
            let (hash, password) = (Arc::clone(hash), Secret::new(password.as_bytes()));
            Step::Check(Check { hash, password, user: user.clone(), credential, mac, otherwise: access })
        };
        match (hashed, &self.decoy) {
            (Some((at, _)), _) if self.has_proved(at, &mac) => decide(Access::Granted),
            (Some((at, hash)), _) => check(hash, Some(at)),
            (None, Some(decoy)) if !granted => check(decoy, None),
            (None, _) => {
                if !granted {
                    self.state().throttle.on_wrong(address, &user, now);
                }
                decide(access)
            }
        }
    }

    /// Decides, with the answer to a check.
    pub fn finish(&self, check: Check, right: bool, address: IpAddr, now: Instant) -> Verdict {
        let mut state = self.state();
        // Attempts that were under way together are no way around the throttle: what comes back after its bound counts for nothing.
        let access = match (state.throttle.wait(address, &check.user, now), check.credential) {
            (Some(wait), _) => Access::Throttled(wait),
            (None, Some(at)) if right => {
                if let Some(proved) = state.proved.get_mut(at) {
                    *proved = Some(check.mac);
                }
                Access::Granted
            }
            (None, Some(_)) => Access::Wrong,
            (None, None) => check.otherwise,
        };
        if access == Access::Wrong {
            state.throttle.on_wrong(address, &check.user, now);
        }
        Verdict { user: Some(check.user), access }
    }

    fn has_proved(&self, at: usize, mac: &[u8; 32]) -> bool {
        let proved = self.state().proved.get(at).copied().flatten();
        proved.is_some_and(|proved| verify_slices_are_equal(&proved, mac).is_ok())
    }

    fn mac(&self, user: &str, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&user.len().to_be_bytes()); // else "ab" and "c" would be "a" and "bc"
        context.update(user.as_bytes());
        context.update(password.as_bytes());
        let mut mac = [0; 32];
        mac.copy_from_slice(context.sign().as_ref());
        mac
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // What a panic left behind is counts and keyed hashes that are each whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the credentials of a request: one header, one spelling, no control character (RFC 7617, section 2).
fn presented(headers: &HeaderMap) -> Result<(String, String), Access> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Access::Absent)?;
    if values.next().is_some() {
        return Err(Access::Malformed); // which of the two would the upstream believe?
    }
    let value = value.as_bytes();
    let end = value.iter().position(|octet| *octet == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(Access::Absent);
    }
    let read = || {
        let octets = Base64::Standard.decode(rest.trim_ascii_start())?;
        let text = String::from_utf8(octets).ok()?;
        let (user, password) = text.split_once(':')?;
        (!text.chars().any(char::is_control)).then(|| (user.into(), password.into()))
    };
    if value.len() > MOST_OCTETS { None } else { read() }.ok_or(Access::Malformed)
}

fn sha256(text: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, text.as_bytes())
}

fn equal(one: &digest::Digest, other: &digest::Digest) -> bool {
    verify_slices_are_equal(one.as_ref(), other.as_ref()).is_ok()
}

/// Why a text is no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCredential {
    /// There is no colon.
    Colon,
    /// There is no user before the colon.
    User,
    /// The password is too short or too long.
    Length,
    /// There is a control character, which no caller could send.
    Control,
    /// The hash of the password is none.
    Hash(BadHash),
}

impl fmt::Display for BadCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Colon => f.write_str("no colon between user and password"),
            Self::User => f.write_str("no user before the colon"),
            Self::Length => {
                write!(f, "a password that has not from {} to {} octets", PASSWORD.start(), PASSWORD.end())
            }
            Self::Control => f.write_str("a control character in user or password"),
            Self::Hash(bad) => bad.fmt(f),
        }
    }
}

impl Error for BadCredential {}

/// A user has a hash and another credential: the place of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwoHashes(pub usize);

#[cfg(test)]
#[path = "basic_tests.rs"]
mod tests;
