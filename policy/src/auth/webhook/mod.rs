//! Calls that a service has signed: webhooks.
//!
//! Services sign in many ways that differ little: which octets, with which hash, written how and where. A [`Scheme`] says so for one service,
//! and one function checks them all. Where a service signs the time, a call that is older or newer than the tolerance is refused; where it
//! does not, a call that was overheard can be sent again, and nobody here can tell.

mod message;
mod schemes;

use core::fmt;
use std::borrow::Cow;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    hmac,
    signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey},
};
use http::HeaderMap;

pub use self::schemes::{OTHERS, SCHEMES};
use super::{
    Secret,
    encoding::{Base64, hex, unhex},
    form,
    json::{get, object},
};
use crate::cel::{Timestamp, Value, base64};

/// By how much the time that a service signs and ours may differ, in seconds.
pub const TOLERANCE: u32 = 300;
/// The most signatures of one call: a service that changes its secret signs with both.
const MOST_SIGNATURES: usize = 8;

/// How one service signs its calls.
#[derive(Clone, Copy, Debug)]
pub struct Scheme {
    /// Its name in a document.
    pub name: &'static str,
    /// What a call that is not signed so is answered with.
    pub status: u16,
    signed: &'static [Part],
    method: Method,
    place: Place,
    time: Time,
}

/// What is signed is these, one after another.
#[derive(Clone, Copy, Debug)]
enum Part {
    Body,
    /// The time as it is written.
    Time,
    Text(&'static str),
    Header(&'static str),
    /// The URL that was called.
    Url,
    /// The URL with some escapes read, as HubSpot does.
    ReadUrl,
    /// The URL with its query sorted and the fields of a form, as Plivo does.
    Sorted,
    Verb,
    /// The fields of a form, sorted by name: each name and its value.
    Fields,
    /// The request with the headers that it names, as Contentful does.
    Canonical,
    /// JSON that has the body as a string, as Hygraph does.
    Envelope,
    /// The values of these names of the object `signature` of a JSON body.
    Inner(&'static [&'static str]),
}

#[derive(Clone, Copy, Debug)]
enum Method {
    /// HMAC, with the secret as it is written or read by a form, and how the result is written.
    Hmac(Hash, Key, Written),
    /// ECDSA on P-256 with a public key in base64.
    Ecdsa,
    /// Ed25519 with a public key in hexadecimal digits.
    Ed25519,
    /// The secret itself.
    Token,
    /// The user and the password of the secret, which has two colons between, as basic authentication writes them.
    Login,
}

#[derive(Clone, Copy, Debug)]
enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    Plain,
    Base64,
    /// Base64 after `whsec_`, which may be left out.
    Whsec,
}

#[derive(Clone, Copy, Debug)]
enum Written {
    Hex,
    Base64,
}

/// Where signatures are.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The whole of a header, after a prefix.
    Header(&'static str, &'static str),
    /// The elements of a header, separated by commas.
    Several(&'static str),
    /// A header each, of this name and a number from one on.
    Numbered(&'static str),
    /// The values of a key in a header of `key=value`, separated by a comma or the like.
    Listed { header: &'static str, key: &'static str, between: char, equals: char },
    /// The value `signature` of the object `signature` of a JSON body.
    Inner,
}

/// Where the time is that is signed.
#[derive(Clone, Copy, Debug)]
enum Time {
    None,
    /// In a header, in a form, and for how many seconds it is right.
    Header(&'static str, Clock, u32),
    /// In the header of the signatures, under a key, in a form.
    Listed(&'static str, Clock),
    /// The value `timestamp` of the object `signature` of a JSON body.
    Inner,
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    Seconds,
    Milliseconds,
    Rfc3339,
    /// As before, in UTC where no zone is told.
    Utc,
}

/// A call as it came.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// The method.
    pub method: &'c str,
    /// The whole URL.
    pub url: &'c str,
    /// The headers.
    pub headers: &'c HeaderMap,
    /// The body.
    pub body: &'c [u8],
}

impl Scheme {
    /// Returns the scheme of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SCHEMES.iter().find(|scheme| scheme.name == name)
    }

    /// Returns whether a secret is of the form that the service gives out.
    pub fn takes(&self, secret: &Secret) -> bool {
        match self.method {
            Method::Hmac(_, key, _) => key.read(secret).is_some_and(|key| !key.is_empty()),
            Method::Ecdsa => ecdsa_key(secret).is_some(),
            Method::Ed25519 => ed25519_key(secret).is_some(),
            Method::Token => !secret.octets().is_empty(),
            Method::Login => login(secret).is_some(),
        }
    }

    /// Finds out whether the service has signed a call.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, secret: &Secret, call: &Call<'_>, now: Timestamp) -> Result<(), Refused> {
        if !self.takes(secret) {
            return Err(Refused::Secret);
        }
        let signatures = self.signatures(call)?;
        let time = self.time(call, now)?;
        let message = self.message(call, time.as_deref())?;
        let right = match self.method {
            Method::Token => signatures.iter().any(|it| secret.is(it.as_bytes())),
            Method::Login => {
                let login = login(secret).ok_or(Refused::Secret)?;
                signatures.iter().any(|it| login.is(it.as_bytes()))
            }
            Method::Hmac(hash, key, written) => {
                let made = hash.sign(&key.read(secret).ok_or(Refused::Secret)?, &message);
                // Every signature is looked at, whichever fits.
                let same =
                    |it: &Cow<'_, str>| written.read(it).is_some_and(|it| verify_slices_are_equal(&it, &made).is_ok());
                signatures.iter().fold(false, |right, it| right | same(it))
            }
            Method::Ecdsa => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, ecdsa_key(secret).ok_or(Refused::Secret)?);
                let read = |it: &Cow<'_, str>| Base64::Standard.decode(it.as_bytes());
                signatures.iter().filter_map(read).any(|it| key.verify(&message, &it).is_ok())
            }
            Method::Ed25519 => {
                let key = UnparsedPublicKey::new(&ED25519, ed25519_key(secret).ok_or(Refused::Secret)?);
                let read = |it: &Cow<'_, str>| unhex(it.as_bytes());
                signatures.iter().filter_map(read).any(|it| key.verify(&message, &it).is_ok())
            }
        };
        if right { Ok(()) } else { Err(Refused::Signature) }
    }

    fn signatures<'c>(&self, call: &Call<'c>) -> Result<Vec<Cow<'c, str>>, Refused> {
        let found: Vec<Cow<'c, str>> = match self.place {
            Place::Header(name, prefix) => {
                let value = one(call.headers, name)?;
                vec![value.strip_prefix(prefix).ok_or(Refused::Form)?.into()]
            }
            Place::Several(name) => one(call.headers, name)?.split(',').map(|it| it.trim().into()).collect(),
            Place::Numbered(name) => {
                let at = |number: usize| format!("{name}{number}");
                let there = (1..=MOST_SIGNATURES).map(at).take_while(|name| call.headers.contains_key(name));
                let found =
                    there.map(|name| one(call.headers, &name).map(Cow::Borrowed)).collect::<Result<Vec<_>, _>>()?;
                if found.is_empty() {
                    return Err(Refused::Missing);
                }
                found
            }
            Place::Listed { header, key, .. } => {
                listed(one(call.headers, header)?, self.place, key).map(Cow::Borrowed).collect()
            }
            Place::Inner => vec![inner(call.body, "signature")?.into()],
        };
        if found.is_empty() || found.len() > MOST_SIGNATURES { Err(Refused::Form) } else { Ok(found) }
    }

    /// Returns the time as it is written, if one is signed, and if it is near ours.
    fn time(&self, call: &Call<'_>, now: Timestamp) -> Result<Option<String>, Refused> {
        let (text, clock, tolerance) = match self.time {
            Time::None => return Ok(None),
            Time::Header(name, clock, tolerance) => (one(call.headers, name)?.to_owned(), clock, tolerance),
            Time::Listed(key, clock) => {
                let Place::Listed { header, .. } = self.place else { return Err(Refused::Form) };
                let mut found = listed(one(call.headers, header)?, self.place, key);
                match (found.next(), found.next()) {
                    (Some(text), None) => (text.to_owned(), clock, TOLERANCE),
                    (None, _) | (_, Some(_)) => return Err(Refused::Form),
                }
            }
            Time::Inner => (inner(call.body, "timestamp")?, Clock::Seconds, TOLERANCE),
        };
        let seconds = clock.read(&text).ok_or(Refused::Form)?;
        if seconds.abs_diff(now.seconds()) > u64::from(tolerance) {
            return Err(Refused::Time);
        }
        Ok(Some(text))
    }

    /// Returns what a service is answered that asks whether somebody is here who knows the secret: the type of a body, and the body.
    /// What the secret signs is told only to who has signed its question: `verified`.
    pub fn challenge(&self, secret: &Secret, call: &Call<'_>, verified: bool) -> Option<(&'static str, String)> {
        match self.name {
            "zoom" if verified => {
                let body = object(call.body)?;
                let event = get(&body, "event")?;
                let Some(Value::Map(payload)) = get(&body, "payload") else { return None };
                let token = get(&payload, "plainToken")?;
                let token = (event.as_str()? == "endpoint.url_validation").then(|| token.as_str())??;
                let made = hex(&Hash::Sha256.sign(secret.octets(), token.as_bytes()));
                let token = serde_json::to_string(token).ok()?;
                Some(("application/json", format!(r#"{{"plainToken":{token},"encryptedToken":"{made}"}}"#)))
            }
            "worldline" if call.method == "GET" => {
                let asked = one(call.headers, "x-gcs-webhooks-endpoint-verification").ok()?;
                Some(("text/plain; charset=utf-8", asked.into()))
            }
            _ => None,
        }
    }
}

impl Hash {
    fn sign(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().into()
    }
}

impl Key {
    fn read(self, secret: &Secret) -> Option<Cow<'_, [u8]>> {
        let octets = secret.octets();
        match self {
            Self::Plain => Some(octets.into()),
            Self::Base64 => Base64::Standard.decode(octets).map(Cow::Owned),
            Self::Whsec => {
                let digits = octets.strip_prefix(b"whsec_").unwrap_or(octets);
                Base64::Standard.decode(digits).map(Cow::Owned)
            }
        }
    }
}

impl Written {
    fn read(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => unhex(text.as_bytes()),
            Self::Base64 => Base64::Standard.decode(text.as_bytes()),
        }
    }
}

impl Clock {
    fn read(self, text: &str) -> Option<i64> {
        let whole = || text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse::<i64>().ok())?;
        match self {
            Self::Seconds => whole(),
            Self::Milliseconds => Some(whole()? / 1_000),
            Self::Rfc3339 => Timestamp::parse(text).ok().map(Timestamp::seconds),
            Self::Utc => {
                let read = Timestamp::parse(text).or_else(|_| Timestamp::parse(&format!("{text}Z")));
                read.ok().map(Timestamp::seconds)
            }
        }
    }
}

/// Returns the one value of a header.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, Refused> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Refused::Missing)?;
    if values.next().is_some() {
        return Err(Refused::Form); // which of the two would the upstream believe?
    }
    value.to_str().map_err(|_| Refused::Form)
}

/// Returns the values of a key of a header.
fn listed<'h>(value: &'h str, place: Place, key: &'static str) -> impl Iterator<Item = &'h str> {
    let (between, equals) = match place {
        Place::Listed { between, equals, .. } => (between, equals),
        Place::Header(..) | Place::Several(_) | Place::Numbered(_) | Place::Inner => (',', '='),
    };
    value.split(between).filter_map(move |pair| {
        let (name, value) = pair.trim().split_once(equals)?;
        (name == key).then_some(value)
    })
}

/// Returns a text of the object `signature` of a JSON body.
fn inner(body: &[u8], name: &str) -> Result<String, Refused> {
    let body = object(body).ok_or(Refused::Form)?;
    let Some(Value::Map(signature)) = get(&body, "signature") else { return Err(Refused::Missing) };
    match get(&signature, name) {
        Some(Value::String(text)) => Ok(String::from(&*text)),
        Some(Value::Int(number)) => Ok(number.to_string()),
        _ => Err(Refused::Missing),
    }
}

/// Returns what basic authentication makes of a user and a password.
fn login(secret: &Secret) -> Option<Secret> {
    let (user, password) = core::str::from_utf8(secret.octets()).ok()?.split_once("::")?;
    let whole = !user.is_empty() && !user.contains(':') && !password.is_empty();
    whole.then(|| Secret::new(base64(format!("{user}:{password}").as_bytes()).into_bytes()))
}

/// Reads a public key: base64 of the DER of its info.
fn ecdsa_key(secret: &Secret) -> Option<Vec<u8>> {
    let der = Base64::Standard.decode(secret.octets())?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &der).parse().ok()?;
    Some(der)
}

fn ed25519_key(secret: &Secret) -> Option<Vec<u8>> {
    unhex(secret.octets()).filter(|key| key.len() == 32)
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no signature, or no time.
    Missing,
    /// Signature, time or body cannot be read in one way.
    Form,
    /// The secret of the configuration is not one that the service gives out.
    Secret,
    /// The call is too old, or of the future.
    Time,
    /// The signature is wrong.
    Signature,
}

impl Refused {
    /// Returns a code for expressions.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "signature_missing",
            Self::Form => "signature_malformed",
            Self::Secret => "secret_malformed",
            Self::Time => "timestamp_refused",
            Self::Signature => "signature_refused",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "the call is not signed",
            Self::Form => "the signature, the time or the body cannot be read",
            Self::Secret => "the secret is not of the form that the service gives out",
            Self::Time => "the call is too old, or of the future",
            Self::Signature => "the signature is wrong",
        })
    }
}

impl core::error::Error for Refused {}

#[cfg(test)]
mod tests;
