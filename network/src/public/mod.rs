//! The public side: callers come in by HTTP, by TLS, and by TCP ports that agents have bound.

mod carry;
mod challenge;
mod line;
mod ports;
mod proxied;
mod relay;
mod tls;

use core::net::SocketAddr;
use std::{io, sync::Arc};

use adit_tokio::{Intake, ListenOptions, SocketOptions, listen};
use tokio::{net::TcpStream, sync::watch};

use crate::{
    Caller, Edge, Phase,
    admission::{Admitted, Full},
    http::{self, HttpEdge},
    metrics::{Counted, Entrance},
    pressure::Step,
    router::Scheme,
};

use proxied::Arrival;

pub use ports::Ports;
pub use tls::Terminator;

/// What every listener of the public side works with.
#[derive(Clone)]
pub struct Public {
    /// Endpoints, limits and numbers.
    pub edge: Arc<Edge>,
    /// The proxy for HTTP.
    pub http: Arc<HttpEdge<Edge>>,
    /// TLS as callers meet it.
    pub tls: Arc<Terminator>,
}

/// A connection of a caller that was let in.
struct Visitor {
    socket: TcpStream,
    address: SocketAddr,
    local: SocketAddr,
    room: Room,
}

/// The place of a connection among those that are let in, and counted. Dropping it makes room.
struct Room {
    _admitted: Admitted,
    _counted: Counted,
}

impl Public {
    /// Serves HTTP without TLS until the network drains; returns the address.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn listen_http(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.listen(address, Entrance::Http, |public, visitor| async move {
            let Visitor { socket, address, local, room: _room } = visitor;
            let caller = Caller::plain(address, local, Scheme::Http);
            let phase = public.edge.phase();
            http::serve(socket, caller, public.http, phase).await;
        })
    }

    /// Serves TLS until the network drains: HTTPS where an `https://` endpoint has the name, passed through where a
    /// `tls://` endpoint has it. Returns the address.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn listen_tls(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        self.listen(address, Entrance::Https, tls::serve)
    }

    fn listen<F>(
        &self,
        address: SocketAddr,
        entrance: Entrance,
        serve: impl Fn(Self, Visitor) -> F + Send + Sync + 'static,
    ) -> io::Result<SocketAddr>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (mut intake, address) = self.intake(address, entrance)?;
        let (public, mut phase) = (self.clone(), self.edge.phase());
        tokio::spawn(async move {
            while let Some(arrival) = next(&mut intake, &mut phase).await {
                match public.admit(arrival, entrance) {
                    Ok(visitor) => drop(tokio::spawn(serve(public.clone(), visitor))),
                    Err(Full(limit)) => public.edge.metrics.limit(limit),
                }
            }
        });
        Ok(address)
    }

    /// Listens, and returns where. The handshake of a caller belongs to its own task: here only a trusted proxy is waited for.
    fn intake(&self, address: SocketAddr, entrance: Entrance) -> io::Result<(Intake<Arrival>, SocketAddr)> {
        let mut options = ListenOptions::default();
        options.handshake_timeout = self.edge.limits.load().handshake_timeout;
        let listener = listen(address, &options)?;
        let address = listener.local_addr()?;
        let edge = Arc::clone(&self.edge);
        let intake = Intake::new(listener, options, move |socket, peer| {
            let edge = Arc::clone(&edge);
            async move { proxied::arrive(&edge, entrance, socket, peer).await }
        });
        Ok((intake, address))
    }

    fn admit(&self, arrival: Arrival, entrance: Entrance) -> Result<Visitor, Full> {
        if self.edge.pressure.refuses(Step::Connections) {
            return Err(Full("memory"));
        }
        let Arrival { socket, address, local } = arrival;
        let admitted = self.edge.admission.admit(address.ip(), &self.edge.limits.load())?;
        // A connection that is gone already says so at its first read.
        let _ = SocketOptions::default().apply(&socket);
        let counted = self.edge.metrics.connection(entrance);
        Ok(Visitor { socket, address, local, room: Room { _admitted: admitted, _counted: counted } })
    }
}

/// Returns the next connection, none once the network drains.
async fn next<T: Send + 'static>(intake: &mut Intake<T>, phase: &mut watch::Receiver<Phase>) -> Option<T> {
    tokio::select! {
        biased;
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => None,
        next = intake.next() => next,
    }
}

/// Returns the address with an IPv4 address as one, however the socket saw it (V67).
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
