//! How TLS of callers ends at the network: in which versions, with which certificates of callers, and what is known of them.
//!
//! An endpoint without settings of its own shares the defaults. One with settings has terms of its own: its own TLS
//! configuration, keys of tickets and authorities, so that nothing that a caller got from one endpoint counts at another
//! (V28, V29). Where certificates of callers are asked for there is no resumption at all: each handshake judges anew.

mod identity;
mod revocation;
mod ways;

use std::{path::Path, sync::Arc};

use adit_policy::actions::{TerminateTls, Verification, Version};
use adit_tls::{Judge, Revocations as _};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs::Ticketer},
    pki_types::{CertificateDer, UnixTime},
    server::{ResolvesServerCert, ServerConnection, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};

use crate::{
    EndpointName, NameMap, NamePattern,
    certificates::{CertificateError, certified_key},
    router::{Key, Scheme},
};

pub use adit_tls::{Authorities, ClientCertificates, ClientMode, TlsVersion, TrustError};
pub use identity::Identity;
use revocation::Revocations;
pub use revocation::{Depth, Ledger, Revocation, fetch as fetch_revocations, watch as watch_revocations};
pub use ways::{Choice, Place, PolicyCertificate, Ways};

/// How TLS ends for one endpoint: its keys `tls` and `client_certificates`, or the action `terminate-tls` of its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointTls {
    /// `tls.min_version`, 1.2.
    pub min: TlsVersion,
    /// `tls.max_version`, 1.3.
    pub max: TlsVersion,
    /// `client_certificates`: without it none is asked for.
    pub clients: Option<ClientCertificates>,
    /// `client_certificates.crl…`: without it nobody asks whether certificates are revoked.
    pub revocation: Option<Revocation>,
    /// `server_certificate` of a policy: without it callers are shown a certificate of the network.
    pub certificate: Option<PolicyCertificate>,
    /// What is inside; HTTP.
    pub inside: Inside,
}

/// What the network does with what TLS that ends here says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inside {
    /// It serves HTTP.
    #[default]
    Http,
    /// It carries octets, whatever they are: no application protocol is agreed on.
    Octets,
}

impl Default for EndpointTls {
    fn default() -> Self {
        Self {
            min: TlsVersion::V12,
            max: TlsVersion::V13,
            clients: None,
            revocation: None,
            certificate: None,
            inside: Inside::Http,
        }
    }
}

impl From<&Arc<TerminateTls>> for EndpointTls {
    fn from(action: &Arc<TerminateTls>) -> Self {
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
        let certificate = action.identity.as_ref().map(|_| PolicyCertificate(Arc::clone(action)));
        let (min, max) = (version(action.min_version), version(action.max_version));
        Self { min, max, clients, revocation: None, certificate, inside: Inside::Http }
    }
}

/// The settings of one endpoint, made into what handshakes go by.
#[derive(Debug)]
pub struct Terms {
    settings: EndpointTls,
    trusted: Vec<CertificateDer<'static>>,
    server: Arc<ServerConfig>,
    judge: Option<Arc<Judge>>,
    revocations: Option<Arc<Revocations>>,
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

    /// Returns whether callers are shown a certificate of the policy, which no CA has to issue first.
    pub fn has_certificate(&self) -> bool {
        self.settings.certificate.is_some()
    }

    /// Returns who the caller is, if it has shown a certificate.
    pub fn identity(&self, connection: &ServerConnection) -> Option<Identity> {
        let [certificate, intermediates @ ..] = connection.peer_certificates()? else { return None };
        let verified = self.judge.as_ref().is_some_and(|judge| judge.vouches(certificate, intermediates));
        let identity = Identity::read(certificate, verified)?;
        let is_judged_again = verified && self.revocations.is_some();
        Some(if is_judged_again { identity.with_chain(intermediates) } else { identity })
    }

    /// Returns whether a certificate that was good is so by the revocation lists in force.
    pub fn stands(&self, identity: Option<&Identity>) -> bool {
        match (&self.revocations, identity.and_then(Identity::chain)) {
            (Some(revocations), Some(chain)) => chain.stands(revocations.generation(), |certificate, intermediates| {
                revocations.check(certificate, intermediates, UnixTime::now()).is_ok()
            }),
            (_, _) => true,
        }
    }
}

/// Makes terms.
#[derive(Debug)]
pub struct Maker {
    provider: Arc<CryptoProvider>,
    resolver: Arc<dyn ResolvesServerCert>,
    ledger: Arc<Ledger>,
}

impl Maker {
    /// Returns a maker of terms under which the network shows the certificates of `resolver`.
    pub fn new(provider: Arc<CryptoProvider>, resolver: Arc<dyn ResolvesServerCert>, ledger: Arc<Ledger>) -> Self {
        Self { provider, resolver, ledger }
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
        let revocations = match &settings.revocation {
            Some(it) => Some(Arc::new(Revocations::new(it.clone(), &trusted, &self.provider, &self.ledger)?)),
            None => None,
        };
        let verifier = judge.clone().map(|judge| {
            let revocations = revocations.clone().map(|it| it as Arc<dyn adit_tls::Revocations>);
            adit_tls::verifier(judge, revocations)
        });
        let server = Arc::new(self.server(&settings, verifier)?);
        Ok(Arc::new(Terms { settings, trusted, server, judge, revocations }))
    }

    fn server(
        &self,
        settings: &EndpointTls,
        verifier: Option<Arc<dyn ClientCertVerifier>>,
    ) -> Result<ServerConfig, TrustError> {
        let (versions, asks) = ((settings.min, settings.max), verifier.is_some());
        let mut config = adit_tls::server_config(versions, verifier, self.shown(settings)?, &self.provider)?;
        config.alpn_protocols = match settings.inside {
            Inside::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Inside::Octets => Vec::new(),
        };
        if !asks {
            // Sealed with a key that changes every six hours; nothing is kept for callers that take tickets.
            config.ticketer = Ticketer::new()?;
        }
        Ok(config)
    }

    /// Returns who chooses the certificate that callers are shown.
    fn shown(&self, settings: &EndpointTls) -> Result<Arc<dyn ResolvesServerCert>, TrustError> {
        let own = settings.certificate.as_ref().and_then(|own| own.0.identity.as_ref());
        let Some(adit_policy::actions::Identity { certificate, key }) = own else {
            return Ok(Arc::clone(&self.resolver));
        };
        let pair = certified_key(certificate, key, Path::new("server_certificate"));
        let invalid = |problem: CertificateError| TrustError::Invalid {
            source_name: "the policy".to_owned(),
            problem: problem.to_string(),
        };
        Ok(Arc::new(SingleCertAndKey::from(pair.map_err(invalid)?.certified)))
    }
}

/// The terms of the endpoints that have settings.
#[derive(Debug, Default)]
pub struct TermsTable {
    names: NameMap<Offer>,
    /// Of endpoints whose octets are carried on.
    carried: NameMap<Offer>,
    len: usize,
}

/// What a caller of one name is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// What everybody is offered.
    Default,
    /// Terms of the endpoint's own.
    Own(Arc<Terms>),
    /// What rules choose.
    Choice(Arc<Choice>),
    /// Nothing: its authorities cannot be loaded.
    Stopped,
}

impl Offer {
    fn make(maker: &Maker, name: &NamePattern, ways: Ways, old: Option<&Self>) -> Result<Self, TrustError> {
        let old = old.map_or(&[][..], Self::terms);
        let terms = |settings: EndpointTls| {
            let before = old.iter().find(|old| old.settings == settings);
            maker.terms(settings, before)
        };
        Ok(match ways.rules {
            Some((policy, ways)) => {
                let terms = ways.into_iter().map(terms).collect::<Result<_, _>>()?;
                Self::Choice(Arc::new(Choice { policy, host: name.to_string(), terms }))
            }
            None if ways.usual == EndpointTls::default() => Self::Default,
            None => Self::Own(terms(ways.usual)?),
        })
    }

    /// Returns all terms that may be offered.
    fn terms(&self) -> &[Arc<Terms>] {
        match self {
            Self::Own(terms) => core::slice::from_ref(terms),
            Self::Choice(choice) => &choice.terms,
            Self::Default | Self::Stopped => &[],
        }
    }
}

impl TermsTable {
    /// Makes the terms of these endpoints; what has not changed since `old` stays. An endpoint whose authorities cannot be
    /// loaded is in the table as stopped (V30), and named with the reason.
    pub fn read(
        maker: &Maker,
        wanted: impl IntoIterator<Item = (NamePattern, Ways)>,
        old: &Self,
    ) -> (Self, Vec<(NamePattern, TrustError)>) {
        let (mut table, mut faults) = (Self::default(), Vec::new());
        for (name, ways) in wanted {
            let (names, before) = match ways.usual.inside {
                Inside::Http => (&mut table.names, &old.names),
                Inside::Octets => (&mut table.carried, &old.carried),
            };
            let offer = Offer::make(maker, &name, ways, before.get(&name)).unwrap_or_else(|fault| {
                faults.push((name.clone(), fault));
                Offer::Stopped
            });
            names.insert(name, offer);
            table.len += 1;
        }
        (table, faults)
    }

    /// Returns whether callers of a name are shown a certificate of its policy: then none is ordered for it.
    pub(crate) fn has_certificate(&self, name: &NamePattern) -> bool {
        let brings_one = |offer: &Offer| matches!(offer, Offer::Own(terms) if terms.has_certificate());
        let found = [&self.names, &self.carried].map(|names| names.get(name).map(brings_one));
        found.contains(&Some(true)) && !found.contains(&Some(false))
    }

    /// Returns the revocation lists of each endpoint that has some.
    pub(crate) fn revocations(&self) -> impl Iterator<Item = (NamePattern, &Arc<Revocations>)> {
        let terms = self.names.iter().flat_map(|(name, offer)| offer.terms().iter().map(move |it| (name.clone(), it)));
        terms.filter_map(|(name, terms)| Some((name, terms.revocations.as_ref()?)))
    }

    /// Returns what callers of an endpoint are offered whose TLS ends here while its octets are carried on; nothing where TLS passes through.
    pub fn find_carried(&self, key: &Key) -> Option<Offer> {
        match key {
            Key::Name(Scheme::Tls, name) => self.carried.get(name).cloned(),
            Key::Name(Scheme::Http | Scheme::Https, _) | Key::Port(_) | Key::Internal(..) => None,
        }
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
