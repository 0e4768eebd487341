//! Signed tokens (RFC 7515, RFC 7519), checked by rules that the token has no say in (RFC 8725).
//!
//! The configuration says which algorithms, whose keys, which issuers and audiences. The token only says which of the keys; where it
//! brings a key or says where one is (`jwk`, `jku`, `x5u`, `x5c`), nobody looks. A claim that is there and is not of its type refuses the token,
//! and so does one that has no end.
//!
//! [`KeyCache`] says when an issuer's keys are fetched.

mod cache;
mod keys;

use core::fmt;
use std::sync::Arc;

pub use self::{
    cache::{FRESH, KeyCache, Look, MOST_SETS, PAUSE, STALE, Terms},
    keys::{Algorithm, BadKeys, KeySet, MOST_KEYS, MOST_OCTETS, MOST_TRIED},
};
use super::{encoding::Base64, json::object};
use crate::cel::{Map, Timestamp, Value};

/// The longest token, in octets.
pub const MOST_TOKEN: usize = 16 << 10;
/// By how much the issuer's clock and ours may differ, in seconds.
pub const LEEWAY: u32 = 30;

/// What a token must be.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The issuers, one of which it must have.
    pub issuers: Vec<String>,
    /// The audiences, one of which it must have; any or none when there is none here.
    pub audiences: Vec<String>,
    /// The algorithms, one of which it must be signed by.
    pub algorithms: Vec<Algorithm>,
}

/// Which kind of token is expected: one made for something else is refused, though its issuer has signed it (RFC 8725, section 3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its `typ` is `JWT`, `at+jwt` or `it+jwt`, or there is none.
    Any,
    /// Its `typ` is `at+jwt` (RFC 9068).
    Access,
    /// Its `typ` is `it+jwt`.
    Identity,
}

impl Kind {
    fn takes(self, typ: Option<&str>) -> bool {
        let Some(typ) = typ else { return self == Self::Any };
        let short = typ.get(..12).filter(|it| it.eq_ignore_ascii_case("application/")).map_or(typ, |_| &typ[12..]);
        let is = |name: &str| short.eq_ignore_ascii_case(name);
        match self {
            Self::Any => is("jwt") || is("at+jwt") || is("it+jwt"),
            Self::Access => is("at+jwt"),
            Self::Identity => is("it+jwt"),
        }
    }
}

/// A token that was found right.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its header.
    pub header: Value<'static>,
    /// Its claims.
    pub payload: Value<'static>,
    /// Its signature, as it is written.
    pub signature: String,
}

/// A token that has the form of one; nothing of it is to be believed yet.
#[derive(Debug)]
pub struct Unverified<'t> {
    signed: &'t str,
    header: Map<'static>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    written: &'t str,
    algorithm: Algorithm,
    id: Option<String>,
}

impl<'t> Unverified<'t> {
    /// Reads the form and the header of a token.
    ///
    /// # Errors
    /// Why it is refused, whoever has signed it.
    pub fn read(token: &'t str, kind: Kind, rules: &Rules) -> Result<Self, Refused> {
        if token.len() > MOST_TOKEN {
            return Err(Refused::Form);
        }
        let mut parts = token.split('.');
        let (Some(head), Some(body), Some(written), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refused::Form);
        };
        let decode = |part: &str| Base64::Url.decode(part.as_bytes()).ok_or(Refused::Form);
        let header = object(&decode(head)?).ok_or(Refused::Form)?;
        let Some(name) = text(&header, "alg").map_err(|()| Refused::Form)? else { return Err(Refused::Algorithm) };
        let algorithm = Algorithm::named(&name).filter(|it| rules.algorithms.contains(it)).ok_or(Refused::Algorithm)?;
        // Whatever it names is something that must be understood, and nothing is (RFC 7515, section 4.1.11).
        if header.get(&"crit".into()).is_some() {
            return Err(Refused::Critical);
        }
        let typ = text(&header, "typ").map_err(|()| Refused::Form)?;
        if !kind.takes(typ.as_deref()) {
            return Err(Refused::Kind);
        }
        let id = text(&header, "kid").map_err(|()| Refused::Form)?;
        let signed = token.get(..head.len() + 1 + body.len()).ok_or(Refused::Form)?;
        Ok(Self { signed, header, payload: decode(body)?, signature: decode(written)?, written, algorithm, id })
    }

    /// Finds out whether one of these keys has signed it, and whether its claims hold.
    ///
    /// # Errors
    /// Why it is refused. With [`Refused::Key`], another set of keys may do.
    pub fn verify(self, rules: &Rules, keys: &[Arc<KeySet>], now: Timestamp) -> Result<Token, Refused> {
        let message = self.signed.as_bytes();
        let mut candidates = keys.iter().flat_map(|set| set.candidates(self.id.as_deref(), self.algorithm)).peekable();
        if candidates.peek().is_none() {
            return Err(Refused::Key);
        }
        if !candidates.take(MOST_TRIED).any(|key| key.signed(self.algorithm, message, &self.signature)) {
            // Without an identity, the key that it was signed by may be one that is not known yet.
            return Err(if self.id.is_some() { Refused::Signature } else { Refused::Key });
        }
        let payload = object(&self.payload).ok_or(Refused::Form)?;
        rules.hold(&payload, now)?;
        let signature = self.written.into();
        Ok(Token { header: Value::Map(self.header), payload: Value::Map(payload), signature })
    }
}

impl Rules {
    /// Checks the claims.
    fn hold(&self, claims: &Map<'static>, now: Timestamp) -> Result<(), Refused> {
        let claim = |name: &'static str| text(claims, name).map_err(|()| Refused::Claim(name));
        claim("sub")?;
        claim("jti")?;
        let issuer = claim("iss")?.ok_or(Refused::Issuer)?;
        if !self.issuers.contains(&issuer) {
            return Err(Refused::Issuer);
        }
        let audiences = audiences(claims).ok_or(Refused::Claim("aud"))?;
        if !self.audiences.is_empty() && !audiences.iter().any(|it| self.audiences.contains(it)) {
            return Err(Refused::Audience);
        }
        let date = |name: &'static str| date(claims, name).ok_or(Refused::Claim(name));
        #[expect(clippy::cast_precision_loss, reason = "exact for two hundred million years")]
        let (now, leeway) = (now.seconds() as f64, f64::from(LEEWAY));
        let end = date("exp")?.ok_or(Refused::Claim("exp"))?;
        if end + leeway <= now {
            return Err(Refused::Expired);
        }
        if date("nbf")?.is_some_and(|start| now + leeway < start) {
            return Err(Refused::Early);
        }
        date("iat")?;
        Ok(())
    }
}

/// Reads a text that may be left out; null is none, and no way to leave it out.
fn text(map: &Map<'static>, name: &str) -> Result<Option<String>, ()> {
    match map.get(&Value::from(String::from(name))) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(String::from(&*text))),
        Some(_) => Err(()),
    }
}

/// Reads the audiences: none, one, or a list.
fn audiences(claims: &Map<'static>) -> Option<Vec<String>> {
    match claims.get(&"aud".into()) {
        None => Some(Vec::new()),
        Some(Value::String(one)) => Some(vec![String::from(&*one)]),
        Some(Value::List(list)) => list.iter().map(|it| it.as_str().map(String::from)).collect(),
        Some(_) => None,
    }
}

/// Reads a date in seconds that may be left out.
#[expect(clippy::cast_precision_loss, reason = "beyond 53 bits, a second more or less is none")]
fn date(claims: &Map<'static>, name: &str) -> Option<Option<f64>> {
    match claims.get(&Value::from(String::from(name))) {
        None => Some(None),
        Some(Value::Int(seconds)) => Some(Some(seconds as f64)),
        Some(Value::Uint(seconds)) => Some(Some(seconds as f64)),
        Some(Value::Double(seconds)) => Some(Some(seconds)),
        Some(_) => None,
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is not of the form of a token.
    Form,
    /// Its algorithm is not one of the list.
    Algorithm,
    /// It has extensions that must be understood.
    Critical,
    /// It is of another kind, made for something else.
    Kind,
    /// There is no key that may have signed it.
    Key,
    /// The key that it names has not signed it.
    Signature,
    /// A claim is missing that must be there, or is not of its type.
    Claim(&'static str),
    /// Its issuer is not one of the list.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It is over.
    Expired,
    /// It has not begun.
    Early,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("the token has not the form of one"),
            Self::Algorithm => f.write_str("the algorithm of the token is not allowed"),
            Self::Critical => f.write_str("the token has extensions that are not understood"),
            Self::Kind => f.write_str("the token is of another kind"),
            Self::Key => f.write_str("no key of the issuer has signed the token"),
            Self::Signature => f.write_str("the signature of the token is wrong"),
            Self::Claim(name) => write!(f, "the claim `{name}` of the token is missing or malformed"),
            Self::Issuer => f.write_str("the issuer of the token is not allowed"),
            Self::Audience => f.write_str("the token is for another audience"),
            Self::Expired => f.write_str("the token has expired"),
            Self::Early => f.write_str("the token is not valid yet"),
        }
    }
}

impl core::error::Error for Refused {}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
