//! The way to the network, and to whatever else the agent asks outside: DNS, proxy, sockets, and TLS with the proxy.

use std::sync::Arc;

use adit_tokio::{
    ConnectError, ConnectOptions, DialError, Forward, Proxy, ProxyError, Reached, Resolver, reach, reach_http,
};
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
    provider: Arc<CryptoProvider>,
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
        Ok(Self { connect, proxy: witness, provider: Arc::clone(provider) })
    }

    /// Connects to another server than the network, for TLS with it.
    ///
    /// # Errors
    /// What was in the way, for people: of a proxy by its code. [`Self::shown`] names the proxy.
    pub(crate) async fn reach(&self, host: &str, port: u16) -> Result<Reached, String> {
        reach(host, port, &self.connect).await.map_err(|error| self.told(&error))
    }

    /// Connects to where callers call, as one of them that sits behind the same proxy.
    ///
    /// # Errors
    /// [`Fault::EndpointNameUnknown`], [`Fault::EndpointUnreachable`], and what is told of proxies.
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else is in the way, there is no answer")]
    pub(crate) async fn call(&self, host: &str, port: u16) -> Result<Reached, Error> {
        reach(host, port, &self.connect).await.map_err(|error| match &error {
            ConnectError::Proxy { proxy, error } => {
                let (fault, detail) = self.explain_proxy(error, &self.provider);
                Error::new(fault, clip(&format!("{host}:{port} by {proxy}: {detail}")))
            }
            ConnectError::Resolve { .. } | ConnectError::NoAddress { .. } => {
                Error::new(Fault::EndpointNameUnknown, error.to_string())
            }
            _ => Error::new(Fault::EndpointUnreachable, format!("{host}:{port}: {error}")),
        })
    }

    /// Connects for one request in plain HTTP to another server than the network, or to the proxy that passes it on.
    ///
    /// # Errors
    /// As [`Self::reach`].
    pub(crate) async fn reach_http(&self, host: &str, port: u16) -> Result<(Reached, Option<Forward>), String> {
        reach_http(host, port, &self.connect).await.map_err(|error| self.told(&error))
    }

    /// Returns the proxy that the way to a server leads through.
    pub(crate) fn proxy(&self, host: &str, port: u16) -> Option<&Proxy> {
        self.connect.proxy.as_ref().filter(|proxy| proxy.carries(host, port))
    }

    /// Names a URL, and the proxy by which what is there is asked.
    pub(crate) fn shown(&self, url: &str, host: &str, port: u16) -> String {
        self.proxy(host, port).map_or_else(|| url.to_owned(), |proxy| format!("{url} through {proxy}"))
    }

    /// Says why another server than the network is not reached; of a proxy what it said, by its code.
    pub(crate) fn told(&self, error: &ConnectError) -> String {
        let ConnectError::Proxy { error, .. } = error else { return error.to_string() };
        let (fault, detail) = self.explain_proxy(error, &self.provider);
        Error::new(fault, detail).to_string()
    }

    /// Says why a dial came to nothing.
    pub(crate) fn explain(&self, error: &DialError, network: &NetworkTls, provider: &CryptoProvider) -> Error {
        let DialError::Connect(ConnectError::Proxy { proxy, error }) = error else {
            return explain_dial(error, network.witness.take().as_ref(), provider);
        };
        let (fault, detail) = self.explain_proxy(error, provider);
        Error::new(fault, clip(&format!("{proxy}: {detail}")))
    }

    /// Says why a proxy did not open the way: each refusal by its own error, and what it said made harmless.
    #[expect(clippy::wildcard_enum_match_arm, reason = "kinds that are added later are told in their own words")]
    fn explain_proxy(&self, error: &ProxyError, provider: &CryptoProvider) -> (Fault, String) {
        let fault = match error {
            ProxyError::Tls(error) => {
                let seen = self.proxy.as_ref().and_then(|witness| witness.take());
                let told = explain_tls(error, seen.as_ref(), provider);
                let title = told.fault.entry().title.replace("network", "proxy");
                let detail = if told.detail.is_empty() { title } else { format!("{title}: {}", told.detail) };
                return (Fault::ProxyTls, detail);
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
        (fault, clip(&escape(&error.to_string()).to_string()))
    }
}
