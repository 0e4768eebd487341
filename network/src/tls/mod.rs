//! How TLS of callers ends at the network: in which versions, with which certificates of callers, and what is known of them.
//!
//! An endpoint without settings of its own shares the defaults. One with settings has terms of its own: its own TLS
//! configuration, keys of tickets and authorities, so that nothing that a caller got from one endpoint counts at another
//! (V28, V29). Where certificates of callers are asked for there is no resumption at all: each handshake judges anew.

mod identity;
mod trust;

use std::{path::PathBuf, sync::Arc};

use adit_policy::{
    actions::{TerminateTls, Verification, Version},
    engine::Policy,
};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, ResolvesServerCert, ServerConnection},
    version::{TLS12, TLS13},
};

use crate::{EndpointName, NameMap, NamePattern};

pub use identity::Identity;
use trust::Judge;
pub use trust::TrustError;

/// How TLS ends for one endpoint: its keys `tls` and `client_certificates`, or the action `terminate-tls` of its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTls {
    /// `tls.min_version`, 1.2.
    pub min: TlsVersion,
    /// `tls.max_version`, 1.3.
    pub max: TlsVersion,
    /// `client_certificates`: without it none is asked for.
    pub clients: Option<ClientCertificates>,
}

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
    /// `mode`.
    pub mode: ClientMode,
    /// `ca`: whom certificates must come from; `verify` needs it.
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

impl Default for EndpointTls {
    fn default() -> Self {
        Self { min: TlsVersion::V12, max: TlsVersion::V13, clients: None }
    }
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

impl From<&TerminateTls> for EndpointTls {
    fn from(action: &TerminateTls) -> Self {
        let version = |version| match version {
            Version::Tls12 => TlsVersion::V12,
            Version::Tls13 => TlsVersion::V13,
        };
        let mode = match action.verification {
            Verification::RequireAndVerify => ClientMode::Verify,
            Verification::RequireAny => ClientMode::Require,
            Verification::Request => ClientMode::Request,
        };
        let authorities: Vec<_> = action.authorities.iter().cloned().map(Authorities::Pem).collect();
        let clients = (!authorities.is_empty()).then_some(ClientCertificates { mode, authorities });
        Self { min: version(action.min_version), max: version(action.max_version), clients }
    }
}

impl EndpointTls {
    /// Returns how TLS ends by the settings of an endpoint and its policy.
    ///
    /// # Errors
    /// What is wrong and what to do, when the policy says something that would not be done: what it asks of callers is never left out.
    pub fn with_policy(&self, policy: Option<&Policy>, ends_here: bool) -> Result<Self, (&'static str, &'static str)> {
        let Some(policy) = policy else { return Ok(self.clone()) };
        let mut ways = policy.tls();
        match (ways.next(), ways.next()) {
            (None, _) => Ok(self.clone()),
            (Some(_), Some(_)) => Err(("more than one terminate-tls", "Keep one")),
            (Some(_), None) if !ends_here => Err((
                "terminate-tls, and TLS of such an endpoint does not end here",
                "Remove it, or make it https://NAME",
            )),
            (Some(_), None) if policy.tls_depends() => Err((
                "terminate-tls in a rule with expressions: the handshake is over before they are asked",
                "Move it to a rule without",
            )),
            (Some(way), None) if way.identity.is_some() => {
                Err(("terminate-tls with a certificate of its own", "List that under certificates"))
            }
            (Some(_), None) if *self != Self::default() => {
                Err(("terminate-tls, and tls or client_certificates in the configuration", "Keep one of them"))
            }
            (Some(way), None) => Ok(Self::from(&**way)),
        }
    }
}

/// The settings of one endpoint, made into what handshakes go by.
#[derive(Debug)]
pub struct Terms {
    settings: EndpointTls,
    trusted: Vec<CertificateDer<'static>>,
    server: Arc<ServerConfig>,
    judge: Option<Arc<Judge>>,
}

/// Terms are themselves and no others, however alike.
impl PartialEq for Terms {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl Eq for Terms {}

impl Terms {
    /// Returns what handshakes go by.
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// Returns who the caller is, if it has shown a certificate.
    pub fn identity(&self, connection: &ServerConnection) -> Option<Identity> {
        let [certificate, intermediates @ ..] = connection.peer_certificates()? else { return None };
        let verified = self.judge.as_ref().is_some_and(|judge| judge.vouches(certificate, intermediates));
        Identity::read(certificate, verified)
    }
}

/// Makes terms.
#[derive(Debug)]
pub struct Maker {
    provider: Arc<CryptoProvider>,
    resolver: Arc<dyn ResolvesServerCert>,
}

impl Maker {
    /// Returns a maker of terms under which the network shows the certificates of `resolver`.
    pub fn new(provider: Arc<CryptoProvider>, resolver: Arc<dyn ResolvesServerCert>) -> Self {
        Self { provider, resolver }
    }

    /// Makes terms; what is in `old` already is kept, with its keys of tickets.
    ///
    /// # Errors
    /// An authority cannot be loaded: the endpoint must not be served (V30).
    pub fn terms(&self, settings: EndpointTls, old: Option<&Arc<Terms>>) -> Result<Arc<Terms>, TrustError> {
        let trusted = match &settings.clients {
            Some(clients) => trust::read(&clients.authorities)?,
            None => Vec::new(),
        };
        if let Some(old) = old.filter(|old| old.settings == settings && old.trusted == trusted) {
            return Ok(Arc::clone(old));
        }
        let judge = match &settings.clients {
            Some(clients) => Some(Arc::new(Judge::new(clients.mode, &trusted, &self.provider)?)),
            None => None,
        };
        let server = Arc::new(self.server(&settings, judge.clone())?);
        Ok(Arc::new(Terms { settings, trusted, server, judge }))
    }

    fn server(&self, settings: &EndpointTls, judge: Option<Arc<Judge>>) -> Result<ServerConfig, rustls::Error> {
        let versions: &[&SupportedProtocolVersion] = match (settings.min, settings.max) {
            (TlsVersion::V12, TlsVersion::V12) => &[&TLS12],
            (TlsVersion::V12, TlsVersion::V13) => &[&TLS13, &TLS12],
            (TlsVersion::V13, _) => &[&TLS13],
        };
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(versions)?;
        let asks = judge.is_some();
        let builder = match judge {
            Some(judge) => builder.with_client_cert_verifier(judge),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&self.resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_early_data_size = 0; // V33
        config.ignore_client_order = true; // which suite is used is not left to whoever offers the weakest first
        if asks {
            config.send_tls13_tickets = 0; // V29
            config.session_storage = Arc::new(NoServerSessionStorage {});
        } else {
            // Sealed with a key that changes every six hours; nothing is kept for callers that take tickets.
            config.ticketer = Ticketer::new()?;
        }
        Ok(config)
    }
}

/// The terms of the endpoints that have settings.
#[derive(Debug, Default)]
pub struct TermsTable {
    names: NameMap<Offer>,
    len: usize,
}

/// What a caller of one name is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// What everybody is offered.
    Default,
    /// Terms of the endpoint's own.
    Own(Arc<Terms>),
    /// Nothing: its authorities cannot be loaded.
    Stopped,
}

impl TermsTable {
    /// Makes the terms of these endpoints; what has not changed since `old` stays. An endpoint whose authorities cannot be
    /// loaded is in the table as stopped (V30), and named with the reason.
    pub fn read(
        maker: &Maker,
        wanted: impl IntoIterator<Item = (NamePattern, EndpointTls)>,
        old: &Self,
    ) -> (Self, Vec<(NamePattern, TrustError)>) {
        let (mut table, mut faults) = (Self::default(), Vec::new());
        for (name, settings) in wanted {
            let before = match old.names.get(&name) {
                Some(Offer::Own(terms)) => Some(terms),
                Some(Offer::Default | Offer::Stopped) | None => None,
            };
            let offer = match settings {
                settings if settings == EndpointTls::default() => Offer::Default,
                settings => match maker.terms(settings, before) {
                    Ok(terms) => Offer::Own(terms),
                    Err(fault) => {
                        faults.push((name.clone(), fault));
                        Offer::Stopped
                    }
                },
            };
            table.names.insert(name, offer);
            table.len += 1;
        }
        (table, faults)
    }

    /// Returns what a caller of this name is offered: by the settings of the exact name, else of the nearest wildcard.
    pub fn find(&self, name: &EndpointName) -> Offer {
        if self.len == 0 {
            return Offer::Default;
        }
        self.names.find(name).cloned().unwrap_or(Offer::Default)
    }
}

#[cfg(test)]
mod tests;
