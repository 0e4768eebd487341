//! What a certificate says, in words for the one who has to compare it.

use core::net::{Ipv4Addr, Ipv6Addr};

use rustls::crypto::CryptoProvider;
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer as _, X509Certificate},
};

use crate::errors::clip;
use adit_core::escape;

/// What an error tells of a certificate. Text in it is the other end's, made harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) names: Vec<String>,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
}

/// Reads a certificate; `None` when it is not one. The first few of its names are told.
pub(crate) fn describe(der: &[u8]) -> Option<Description> {
    describe_names(der, MAX_NAMES)
}

/// Like [`describe`], with at most `most` names.
pub(crate) fn describe_names(der: &[u8], most: usize) -> Option<Description> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.map(|names| names.value.general_names.iter().filter_map(name).take(most).collect());
    Some(Description {
        subject: harmless(&certificate.subject().to_string()),
        issuer: harmless(&certificate.issuer().to_string()),
        names: names.unwrap_or_default(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// Returns the SHA-256 of `data` as `AB:CD:…`; `None` when the provider has no such hash.
pub(crate) fn sha256(data: &[u8], provider: &CryptoProvider) -> Option<String> {
    let octets: Vec<_> = adit_tls::sha256(data, provider)?.iter().map(|octet| format!("{octet:02X}")).collect();
    Some(octets.join(":"))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds of names are not those of servers")]
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(harmless(name)),
        GeneralName::IPAddress(octets) => match octets.len() {
            4 => <[u8; 4]>::try_from(*octets).ok().map(|octets| Ipv4Addr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(*octets).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn harmless(text: &str) -> String {
    clip(&escape(text).to_string())
}

/// More names than these are not told.
const MAX_NAMES: usize = 8;
