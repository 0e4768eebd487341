//! In how many ways TLS ends for one endpoint: in one, or in that which rules of its policy choose before the handshake.

use std::sync::Arc;

use adit_policy::{
    actions::TerminateTls,
    engine::Policy,
    environment::{Connection, Endpoint},
};
use tracing::warn;

use super::{EndpointTls, Inside, Offer, Terms};
use crate::{
    config::{EndpointConfig, EndpointKind, EndpointUrl},
    policy::wall,
    router::{Key, Scheme},
};

/// How TLS ends for one endpoint.
#[derive(Clone, Debug)]
pub struct Ways {
    /// Where no rule says otherwise.
    pub(super) usual: EndpointTls,
    /// Rules that may say otherwise, with what each says.
    pub(super) rules: Option<(Arc<Policy>, Vec<EndpointTls>)>,
}

impl Ways {
    /// One way for all callers.
    pub fn one(settings: EndpointTls) -> Self {
        Self { usual: settings, rules: None }
    }

    /// Returns whether TLS ends here while octets are carried on.
    pub fn is_of_octets(&self) -> bool {
        self.usual.inside == Inside::Octets
    }

    /// Returns whether callers are shown a certificate of the policy, whatever its rules choose.
    pub fn has_certificate(&self) -> bool {
        self.rules.is_none() && self.usual.certificate.is_some() // of several rules none may choose
    }
}

/// Where TLS of an endpoint ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here, and HTTP is inside.
    Here,
    /// Here if its policy says so: a cloud endpoint, of whose callers no agent was promised anything.
    Carried,
    /// At the agent or the upstream, or there is none.
    Further,
}

impl Place {
    /// Returns where TLS of a configured endpoint ends.
    pub fn of(endpoint: &EndpointConfig) -> Self {
        match (&endpoint.url, endpoint.kind) {
            (EndpointUrl::Public(Key::Name(Scheme::Https, _)), _) => Self::Here,
            (EndpointUrl::Public(Key::Name(Scheme::Tls, _)), EndpointKind::Cloud) => Self::Carried,
            (EndpointUrl::Public(_) | EndpointUrl::Internal(_), _) => Self::Further,
        }
    }
}

impl EndpointTls {
    /// Returns how TLS ends by the settings of an endpoint and its policy.
    ///
    /// # Errors
    /// What is wrong and what to do, when the policy says something that would not be done: what it asks of callers is never left out.
    pub fn with_policy(
        &self,
        policy: Option<&Arc<Policy>>,
        place: Place,
    ) -> Result<Ways, (&'static str, &'static str)> {
        let Some((policy, last)) = policy.and_then(|policy| Some((policy, policy.tls().last()?))) else {
            return Ok(Ways::one(self.clone()));
        };
        if place == Place::Further {
            return Err((
                "terminate-tls, and TLS of such an endpoint does not end here",
                "Remove it, or make it https://NAME, or a cloud endpoint tls://NAME that forwards to tcp://NAME.internal:PORT",
            ));
        }
        if *self != Self::default() {
            return Err(("terminate-tls, and tls or client_certificates in the configuration", "Keep one of them"));
        }
        if policy.tls_needs().is_some() {
            return Err((
                "terminate-tls in a rule whose expressions read conn.tls, vars or actions: it is chosen before the handshake",
                "Ask for addresses, ports or times only, or move it to a rule without expressions",
            ));
        }
        if !policy.tls_depends() {
            let inside = if place == Place::Carried { Inside::Octets } else { Inside::Http };
            return Ok(Ways::one(Self { inside, ..Self::from(last) })); // of several the last one counts
        }
        if place == Place::Carried {
            return Err((
                "terminate-tls in a rule with expressions, and what is carried is TLS or not for all callers alike",
                "Remove the expressions",
            ));
        }
        let ways = policy.tls().map(Self::from).collect();
        Ok(Ways { usual: self.clone(), rules: Some((Arc::clone(policy), ways)) })
    }
}

/// A certificate of a policy, with its key.
#[derive(Clone, Debug)]
pub struct PolicyCertificate(pub(super) Arc<TerminateTls>);

impl PartialEq for PolicyCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity == other.0.identity
    }
}

impl Eq for PolicyCertificate {}

/// Terms among which rules choose for each caller.
#[derive(Debug)]
pub struct Choice {
    pub(super) policy: Arc<Policy>,
    pub(super) host: String,
    /// In the order of the policy.
    pub(super) terms: Vec<Arc<Terms>>,
}

/// A choice is itself and no other, however alike.
impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

impl Eq for Choice {}

impl Offer {
    /// Returns what a caller of this connection is offered. Where rules cannot say, that is nothing.
    pub fn settle(self, connection: impl FnOnce() -> Connection) -> Self {
        let choice = match self {
            Self::Choice(choice) => choice,
            settled @ (Self::Default | Self::Own(_) | Self::Stopped) => return settled,
        };
        let Choice { policy, host, terms } = &*choice;
        let id = format!("https://{host}");
        let endpoint = Endpoint { id: &id, protocol: "https", host, port: 443 };
        match policy.choose_tls(&connection(), endpoint, wall()) {
            Ok(None) => Self::Default,
            Ok(Some(at)) => terms.get(at).map_or(Self::Stopped, |terms| Self::Own(Arc::clone(terms))),
            Err(error) => {
                warn!(endpoint = id, %error, "rules cannot say how TLS ends: the handshake is refused");
                Self::Stopped
            }
        }
    }
}

#[cfg(test)]
mod tests;
