//! `terminate-tls`: how TLS of the caller ends at the network. The handshake follows when the phase is over, with what the last of these actions
//! says; an `https` endpoint without one ends TLS with the defaults.
//!
//! Certificates and keys are in the document: they are read when it is, so an expression in them is refused.

use std::sync::Arc;

use super::{Action, CONNECT, Config, Type};
use crate::{
    document::{Node, Value},
    engine::{Effect, Failure, Turn},
};

/// How TLS ends here.
#[derive(Debug)]
pub struct TerminateTls {
    /// The oldest version that is spoken.
    pub min_version: Version,
    /// The newest version that is spoken.
    pub max_version: Version,
    /// The certificate with its chain, and its key, in PEM; else that of the endpoint.
    pub identity: Option<Identity>,
    /// Who may vouch for callers, in PEM; callers need no certificate when there is none.
    pub authorities: Vec<String>,
    /// What is asked of callers, when there are authorities.
    pub verification: Verification,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// A certificate with its chain, and its key, in PEM. The key is shown nowhere.
#[derive(PartialEq, Eq)]
pub struct Identity {
    /// The certificate with its chain.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// What is asked of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// A certificate that an authority vouches for.
    RequireAndVerify,
    /// Any certificate.
    RequireAny,
    /// A certificate, if the caller has one.
    Request,
}

pub(super) const TYPE: Type = Type { name: "terminate-tls", phases: &[CONNECT], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [min, max, key, certificate, authorities, strategy] = config.map([
        "min_version",
        "max_version",
        "server_private_key",
        "server_certificate",
        "mutual_tls_certificate_authorities",
        "mutual_tls_verification_strategy",
    ])?;
    let min_version = version(config, "min_version", min, Version::Tls12);
    let max_version = version(config, "max_version", max, Version::Tls13);
    let identity = match (key, certificate) {
        (Some(key), Some(certificate)) => {
            let key = pem(config, "server_private_key", key, "PRIVATE KEY-----");
            let certificate = pem(config, "server_certificate", certificate, "CERTIFICATE-----");
            Some(Identity { certificate: certificate?, key: key? })
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            config.whole("a certificate and its key belong together", "Add the other one");
            return None;
        }
    };
    let mut trusted = Vec::new();
    if let Some(node) = authorities {
        for (at, node) in config.list("mutual_tls_certificate_authorities", node, 64)? {
            trusted.push(pem(config, &at, node, "CERTIFICATE-----")?);
        }
        if trusted.is_empty() {
            let remedy = "Add the certificate of one, or remove the key";
            config.problem("mutual_tls_certificate_authorities", node, "no authority", remedy);
            return None;
        }
    }
    let verification = match strategy {
        None => Some(Verification::RequireAndVerify),
        Some(node) => {
            let choices = ["require-and-verify", "require-any", "request"];
            config.choice("mutual_tls_verification_strategy", node, &choices).map(|choice| match choice {
                0 => Verification::RequireAndVerify,
                1 => Verification::RequireAny,
                _ => Verification::Request,
            })
        }
    };
    let (min_version, max_version) = (min_version?, max_version?);
    if min_version > max_version {
        config.whole("`min_version` is newer than `max_version`", "Exchange them");
        return None;
    }
    let verification = verification?;
    let terminate = TerminateTls { min_version, max_version, identity, authorities: trusted, verification };
    Some(Action::TerminateTls(Arc::new(terminate)))
}

/// Reads a version, which YAML takes for a number when it is not quoted.
fn version<'n>(
    config: &mut Config<'_, '_, 'n>,
    key: &str,
    node: Option<&'n Node>,
    default: Version,
) -> Option<Version> {
    let Some(node) = node else { return Some(default) };
    let text = match &node.value {
        Value::Number(number) => number.get().to_string(),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => {
            config.text(key, node)?.to_owned()
        }
    };
    match &*text {
        "1.2" => Some(Version::Tls12),
        "1.3" => Some(Version::Tls13),
        "1" | "1.0" | "1.1" => {
            let what = "TLS 1.0 and 1.1 are not spoken (RFC 8996)";
            config.problem(key, node, what, "Write `\"1.2\"` or `\"1.3\"`");
            None
        }
        _ => {
            config.problem(key, node, "no version of TLS", "Write `\"1.2\"` or `\"1.3\"`");
            None
        }
    }
}

fn pem<'n>(config: &mut Config<'_, '_, 'n>, key: &str, node: &'n Node, holds: &str) -> Option<String> {
    let text = config.text(key, node)?;
    if text.contains("-----BEGIN ") && text.contains(holds) {
        return Some(text.to_owned());
    }
    config.problem(key, node, "not PEM", "Write it here from `-----BEGIN` to its end, below `|-`");
    None
}

impl TerminateTls {
    pub(super) fn act(self: &Arc<Self>, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        turn.terminate(self);
        Ok(Effect::Next)
    }
}
