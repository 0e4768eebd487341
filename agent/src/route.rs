//! The way to the network: DNS, proxy, sockets, and TLS with the proxy.

use std::sync::Arc;

use adit_tokio::{ConnectError, ConnectOptions, DialError, ProxyError, Resolver};
use rustls::crypto::CryptoProvider;

use crate::{
    config::AgentConfig,
    errors::{Error, Fault, clip},
    trust::{NetworkTls, ProxyWitness, explain_dial, explain_tls, proxy_tls},
};
use adit_core::escape;

/// How the network is reached, as configured.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) connect: ConnectOptions,
    /// Who remembers the certificate of a proxy that was refused.
    proxy: Option<Arc<ProxyWitness>>,
}

impl Route {
    /// Prepares the way; reads the roots that the certificate of an `https` proxy must be from.
    ///
    /// # Errors
    /// [`Fault::RootsUnusable`].
    pub(crate) fn new(config: &AgentConfig, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut connect = ConnectOptions::default();
        if !config.resolvers.is_empty() {
            connect.resolver = Some(Resolver::new(config.resolvers.clone()));
        }
        let mut witness = None;
        if let Some(found) = &config.proxy {
            let mut proxy = found.proxy.clone();
            if proxy.protocol == adit_tokio::ProxyProtocol::Https {
                let (tls, seen) = proxy_tls(&found.roots, provider)?;
                (proxy.tls, witness) = (Some(tls), Some(seen));
            }
            connect.proxy = Some(proxy);
        }
        Ok(Self { connect, proxy: witness })
    }

    /// Says why a dial came to nothing.
    pub(crate) fn explain(&self, error: &DialError, network: &NetworkTls, provider: &CryptoProvider) -> Error {
        let DialError::Connect(ConnectError::Proxy { proxy, error }) = error else {
            return explain_dial(error, network.witness.take().as_ref(), provider);
        };
        self.explain_proxy(proxy, error, provider)
    }

    /// Says why a proxy did not open the way: each refusal by its own error, and what it said made harmless.
    #[expect(clippy::wildcard_enum_match_arm, reason = "kinds that are added later are told in their own words")]
    fn explain_proxy(&self, proxy: &str, error: &ProxyError, provider: &CryptoProvider) -> Error {
        let fault = match error {
            ProxyError::Tls(error) => {
                let seen = self.proxy.as_ref().and_then(|witness| witness.take());
                let told = explain_tls(error, seen.as_ref(), provider);
                let title = told.fault.entry().title.replace("network", "proxy");
                let detail = if told.detail.is_empty() { title } else { format!("{title}: {}", told.detail) };
                return Error::new(Fault::ProxyTls, format!("{proxy}: {detail}"));
            }
            ProxyError::Unreachable(_) => Fault::ProxyUnreachable,
            ProxyError::CredentialsWanted { .. } => Fault::ProxyCredentialsWanted,
            ProxyError::CredentialsRefused { .. } => Fault::ProxyCredentialsRefused,
            ProxyError::Forbidden { .. } => Fault::ProxyForbidden,
            ProxyError::Destination { .. } => Fault::ProxyDestination,
            ProxyError::NotAProxy { .. } | ProxyError::Early => Fault::NotAProxy,
            ProxyError::Closed | ProxyError::Silent | ProxyError::Io(_) => Fault::ProxySilent,
            _ => Fault::ProxyRefused,
        };
        Error::new(fault, clip(&escape(&format!("{proxy}: {error}")).to_string()))
    }
}
