//! What is asked of the other end in TLS, the same at the network and at the agent: versions, certificates of callers, whose
//! certificates are believed, and which are revoked. Cryptography is the caller's choice: nothing is installed for the process.

mod crl;
mod described;
mod key;
mod standing;
mod staple;
mod trust;

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    server::{NoServerSessionStorage, ResolvesServerCert, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

pub use crl::{Mark, RevocationList, Scope, is_issued, split_lists};
pub use described::{Described, Name, base64, hex};
pub use key::{KeyPrint, sha256};
pub use standing::{Depth, Revocations, Standing, list_issuers, verifier};
pub use staple::{MAX_STAPLE, MAX_STAPLED, apart, joined, staple, stapled};
pub use trust::{Judge, TrustError, read, read_opened};

/// A version of TLS; older ones are not spoken at all (V33).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

/// What is asked of callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// How much.
    pub mode: ClientMode,
    /// Whom certificates must come from; [`ClientMode::Verify`] needs it.
    pub authorities: Vec<Authorities>,
}

/// How much is asked of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMode {
    /// `request`: a certificate is asked for and may be missing.
    Request,
    /// `require`, in policies `require-any`: there must be one, whoever issued it.
    Require,
    /// `verify`, in policies `require-and-verify`: there must be one of the endpoint's authorities.
    Verify,
}

/// Certificates of authorities, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// A file.
    File(PathBuf),
    /// The text itself, as a policy has it.
    Pem(String),
}

impl TlsVersion {
    /// Reads `1.2` or `1.3`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "1.2" => Some(Self::V12),
            "1.3" => Some(Self::V13),
            _ => None,
        }
    }
}

impl ClientMode {
    /// Reads our word or that of ngrok's `mutual_tls_verification_strategy`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "request" => Some(Self::Request),
            "require" | "require-any" => Some(Self::Require),
            "verify" | "require-and-verify" => Some(Self::Verify),
            _ => None,
        }
    }
}

/// Returns what handshakes go by that show a certificate of `resolver` and speak the versions from `min` to `max`.
///
/// With a verifier of callers there is no resumption at all: every handshake judges anew (V29). Without one it is that of rustls, which the
/// caller may replace.
///
/// # Errors
/// The provider does not know the versions.
pub fn server_config(
    (min, max): (TlsVersion, TlsVersion),
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    resolver: Arc<dyn ResolvesServerCert>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&SupportedProtocolVersion] = match (min, max) {
        (TlsVersion::V12, TlsVersion::V12) => &[&TLS12],
        (TlsVersion::V12, TlsVersion::V13) => &[&TLS13, &TLS12],
        (TlsVersion::V13, _) => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
    let asks = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.max_early_data_size = 0; // V33
    config.ignore_client_order = true; // which suite is used is not left to whoever offers the weakest first
    if asks {
        config.send_tls13_tickets = 0; // V29
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(config)
}
