//! How TLS of callers ends at the network: in which versions, with which certificates of callers, and what is known of them.
//!
//! An endpoint without settings of its own shares the defaults. One with settings has terms of its own: its own TLS
//! configuration, keys of tickets and authorities, so that nothing that a caller got from one endpoint counts at another
//! (V28, V29). Where certificates of callers are asked for there is no resumption at all: each handshake judges anew.

mod identity;

use std::sync::Arc;

use adit_policy::{
    actions::{TerminateTls, Verification, Version},
    engine::Policy,
};
use adit_tls::Judge;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    pki_types::CertificateDer,
    server::{ResolvesServerCert, ServerConnection},
};

use crate::{EndpointName, NameMap, NamePattern};

pub use adit_tls::{Authorities, ClientCertificates, ClientMode, TlsVersion, TrustError};
pub use identity::Identity;

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

impl Default for EndpointTls {
    fn default() -> Self {
        Self { min: TlsVersion::V12, max: TlsVersion::V13, clients: None }
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
            Some(clients) => adit_tls::read(&clients.authorities)?,
            None => Vec::new(),
        };
        if let Some(old) = old.filter(|old| old.settings == settings && old.trusted == trusted) {
            return Ok(Arc::clone(old));
        }
        let judge = match &settings.clients {
            Some(clients) => Some(Arc::new(Judge::new(clients.mode, &trusted, Identity::is_readable, &self.provider)?)),
            None => None,
        };
        let server = Arc::new(self.server(&settings, judge.clone())?);
        Ok(Arc::new(Terms { settings, trusted, server, judge }))
    }

    fn server(&self, settings: &EndpointTls, judge: Option<Arc<Judge>>) -> Result<ServerConfig, rustls::Error> {
        let (versions, asks) = ((settings.min, settings.max), judge.is_some());
        let mut config = adit_tls::server_config(versions, judge, Arc::clone(&self.resolver), &self.provider)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if !asks {
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
