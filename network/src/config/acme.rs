//! Sections `secrets` and `acme`: what is encrypted at rest, and where certificates are ordered.

use core::time::Duration;
use std::path::{Path, PathBuf};

use adit_core::Secret;

use super::{
    section::{Scalar, Section},
    values,
};
use crate::{EndpointName, NamePattern};

/// Where the keys of secrets come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretKeys {
    /// `secrets.key_file`.
    File(PathBuf),
    /// `ADIT_NETWORK_SECRETS_KEY`.
    Environment(Secret),
}

/// Where certificates are ordered, for which names, and how the network shows that they are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acme {
    /// `directory`: the URL.
    pub directory: String,
    /// `contact`: `mailto:` URLs.
    pub contact: Vec<String>,
    /// `ca`: what the directory's own certificate is checked against; default: the host's roots.
    pub ca: Option<PathBuf>,
    /// `challenges`, in the order in which they are tried; empty: those that the listeners allow.
    pub challenges: Vec<Challenge>,
    /// `domains`: only names at or below these are ordered; empty: every name that an account holds.
    pub domains: Vec<EndpointName>,
    /// `names`: names of the network's own, ordered without an endpoint.
    pub names: Vec<NamePattern>,
    /// `eab`: the account at the CA that ours is bound to.
    pub eab: Option<Eab>,
    /// `dns_hook`: a program and its first arguments.
    pub dns_hook: Vec<String>,
    /// `dns_hook_timeout`, 2 min.
    pub dns_hook_timeout: Duration,
}

/// How the network shows that a name is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// An answer on port 80.
    Http,
    /// A certificate on port 443.
    Tls,
    /// A record in the DNS.
    Dns,
}

/// An external account (RFC 8555 §7.3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eab {
    /// `key_id`.
    pub key_id: String,
    /// `hmac_key_file`, or `ADIT_NETWORK_ACME_EAB_HMAC_KEY`: base64url, as CAs give it out.
    pub key: EabKey,
}

/// Where the key of an external account comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EabKey {
    /// A file.
    File(PathBuf),
    /// The environment.
    Environment(Secret),
}

/// Which listeners there are for challenges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listening {
    pub(super) http: bool,
    pub(super) https: bool,
}

pub(super) fn secrets(mut section: Section<'_>, folder: &Path) -> Option<SecretKeys> {
    let file = path(&mut section, "key_file", folder);
    let key = from_environment(&mut section, "key", "key_file");
    section.finish();
    match (key, file) {
        (Some(key), _) => Some(SecretKeys::Environment(key)), // the environment goes first
        (None, Some(file)) => Some(SecretKeys::File(file)),
        (None, None) => None,
    }
}

pub(super) fn acme(
    mut section: Section<'_>,
    present: bool,
    has_secrets: bool,
    listening: Listening,
    folder: &Path,
) -> Option<Acme> {
    let directory = section.value("directory", String::new(), "an https URL", url);
    let accepted = section.value("accept_terms", false, "true or false", values::flag);
    let ca = path(&mut section, "ca", folder);
    let challenges = section.values("challenges", "http-01, tls-alpn-01 or dns-01", Challenge::parse);
    let eab = eab(section.section("eab"), folder);
    let acme = Acme {
        contact: section.values("contact", "a mailto: URL", contact),
        ca,
        challenges,
        domains: section.values("domains", "a domain such as example.com", |text| EndpointName::parse(text).ok()),
        names: section
            .values("names", "a name such as crm.example.com or *.example.com", |text| NamePattern::parse(text).ok()),
        eab,
        dns_hook: section.scalars("dns_hook").into_iter().map(|scalar| scalar.text).collect(),
        dns_hook_timeout: section.value("dns_hook_timeout", HOOK_TIMEOUT, "a time from 1s to 30m", |text| {
            values::duration(text).filter(|time| (MIN_HOOK_TIMEOUT..=MAX_HOOK_TIMEOUT).contains(time))
        }),
        directory,
    };
    let present = present || !acme.directory.is_empty(); // the environment alone may say it
    if present {
        demand(&section, &acme, accepted, has_secrets, listening);
    }
    section.finish();
    present.then_some(acme)
}

/// Says everything that is missing.
fn demand(section: &Section<'_>, acme: &Acme, accepted: bool, has_secrets: bool, listening: Listening) {
    if acme.directory.is_empty() {
        let remedy = "Set acme.directory, for example to https://acme-v02.api.letsencrypt.org/directory";
        section.missing("directory", "no CA is named", remedy);
    }
    if !accepted {
        let remedy = "Read the terms of service that the directory names, then set acme.accept_terms: true";
        section.missing("accept_terms", "the CA's terms are not accepted", remedy);
    }
    if !has_secrets {
        let remedy = "Set secrets.key_file and run `adit-network secrets init`, or set ADIT_NETWORK_SECRETS_KEY";
        section.missing("", "keys and accounts are kept encrypted, and there is no key for that", remedy);
    }
    for challenge in &acme.challenges {
        let (problem, remedy) = match challenge {
            Challenge::Http if !listening.http => ("http-01 needs a listener for HTTP", "Set http.listen"),
            Challenge::Tls if !listening.https => ("tls-alpn-01 needs a listener for HTTPS", "Set https.listen"),
            Challenge::Dns if acme.dns_hook.is_empty() => ("dns-01 needs a program", "Set acme.dns_hook"),
            Challenge::Http | Challenge::Tls | Challenge::Dns => continue,
        };
        section.missing("challenges", problem, remedy);
    }
    if acme.challenges.is_empty() && !listening.http && !listening.https && acme.dns_hook.is_empty() {
        section.missing("challenges", "no challenge can be answered", "Set http.listen, https.listen or acme.dns_hook");
    }
    if acme.dns_hook.is_empty() && acme.names.iter().any(|name| matches!(name, NamePattern::Below(_))) {
        section.missing("dns_hook", "a wildcard needs dns-01, which needs a program", "Set acme.dns_hook");
    }
    if acme.dns_hook.first().is_some_and(|program| !Path::new(program).is_absolute()) {
        section.missing("dns_hook", "the program is not an absolute path", "Write its whole path");
    }
}

fn eab(mut section: Section<'_>, folder: &Path) -> Option<Eab> {
    let id =
        section.value("key_id", None, "a key identifier", |text| (!text.is_empty()).then(|| Some(text.to_owned())));
    let file = path(&mut section, "hmac_key_file", folder);
    let variable = from_environment(&mut section, "hmac_key", "hmac_key_file");
    let key = variable.map(EabKey::Environment).or_else(|| file.map(EabKey::File));
    let eab = match (id, key) {
        (Some(key_id), Some(key)) => Some(Eab { key_id, key }),
        (None, None) => None,
        (Some(_), None) => {
            let remedy = "Set acme.eab.hmac_key_file, or ADIT_NETWORK_ACME_EAB_HMAC_KEY";
            section.missing("hmac_key_file", "key_id and its HMAC key belong together", remedy);
            None
        }
        (None, Some(_)) => {
            section.missing("key_id", "key_id and its HMAC key belong together", "Set acme.eab.key_id");
            None
        }
    };
    section.finish();
    eab
}

fn path(section: &mut Section<'_>, key: &'static str, folder: &Path) -> Option<PathBuf> {
    section.value(key, None, "a path", |text| (!text.is_empty()).then(|| Some(folder.join(text))))
}

/// Reads a secret that may stand in the environment only: the file is read by more people than a key should be.
fn from_environment(section: &mut Section<'_>, key: &'static str, file_key: &str) -> Option<Secret> {
    let scalar: Scalar = section.scalar(key)?;
    if !scalar.is_variable() {
        let remedy = format!("Write it to a file of its own and name that in {file_key}");
        section.reject(key, &scalar, "a secret does not belong into the configuration", &remedy);
        return None;
    }
    Some(Secret::new(scalar.text))
}

fn url(text: &str) -> Option<String> {
    let uri: http::Uri = text.parse().ok()?;
    (uri.scheme_str() == Some("https") && uri.host().is_some()).then(|| text.to_owned())
}

fn contact(text: &str) -> Option<String> {
    let address = text.strip_prefix("mailto:")?;
    let fits = address.contains('@') && address.bytes().all(|octet| octet.is_ascii_graphic() && octet != b',');
    fits.then(|| text.to_owned())
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "http-01" => Some(Self::Http),
            "tls-alpn-01" => Some(Self::Tls),
            "dns-01" => Some(Self::Dns),
            _ => None,
        }
    }

    /// Returns its name in the protocol.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::Tls => "tls-alpn-01",
            Self::Dns => "dns-01",
        }
    }
}

const HOOK_TIMEOUT: Duration = Duration::from_secs(120);
const MIN_HOOK_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_HOOK_TIMEOUT: Duration = Duration::from_secs(1_800);
