//! What is compared: three ways from a caller to the same services.

use core::net::SocketAddr;
use std::io;

use crate::{adit::Adit, haproxy::Haproxy, process::Daemon, services::Services};

/// One way to the services.
#[derive(Debug)]
pub(crate) struct Stand {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Where each service is reached.
    pub(crate) services: Services,
    /// Where HTTP is reached as HTTP, not as TCP, and the name to ask for.
    pub(crate) http_endpoint: Option<SocketAddr>,
    tunnel: Tunnel,
}

#[derive(Debug)]
enum Tunnel {
    None,
    Haproxy(Haproxy),
    Adit(Box<Adit>),
}

impl Stand {
    /// The services themselves.
    pub(crate) fn direct(services: Services) -> Self {
        Self { name: DIRECT, services, http_endpoint: None, tunnel: Tunnel::None }
    }

    /// Two HAProxy joined by TLS 1.3.
    pub(crate) fn haproxy(services: Services) -> io::Result<Self> {
        let relay = Haproxy::start(services)?;
        Ok(Self { name: HAPROXY, services: relay.entrances(), http_endpoint: None, tunnel: Tunnel::Haproxy(relay) })
    }

    /// Network and agent.
    pub(crate) fn adit(services: Services) -> io::Result<Self> {
        let adit = Adit::start(services)?;
        Ok(Self {
            name: ADIT,
            services: adit.entrances(),
            http_endpoint: Some(adit.http()),
            tunnel: Tunnel::Adit(Box::new(adit)),
        })
    }

    /// Returns network and agent, where this is Adit.
    pub(crate) fn as_adit(&mut self) -> Option<&mut Adit> {
        match &mut self.tunnel {
            Tunnel::Adit(adit) => Some(adit),
            Tunnel::None | Tunnel::Haproxy(_) => None,
        }
    }

    /// Returns the processor time of the tunnel so far, in seconds.
    pub(crate) fn cpu(&self) -> io::Result<f64> {
        self.daemons().into_iter().map(Daemon::cpu).sum()
    }

    /// Returns the memory of the tunnel, in octets.
    pub(crate) fn memory(&self) -> io::Result<f64> {
        self.daemons().into_iter().map(Daemon::memory).sum()
    }

    /// Tells whether there is a tunnel at all.
    pub(crate) const fn is_tunnel(&self) -> bool {
        !matches!(self.tunnel, Tunnel::None)
    }

    fn daemons(&self) -> Vec<&Daemon> {
        match &self.tunnel {
            Tunnel::None => Vec::new(),
            Tunnel::Haproxy(relay) => relay.daemons(),
            Tunnel::Adit(adit) => adit.daemons(),
        }
    }
}

/// The names of the columns.
pub(crate) const DIRECT: &str = "direct";
pub(crate) const HAPROXY: &str = "haproxy";
pub(crate) const ADIT: &str = "adit";
