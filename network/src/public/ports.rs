//! TCP ports: each listens while somebody serves it.

use core::net::{IpAddr, SocketAddr};
use std::{collections::HashMap, io, sync::Arc};

use parking_lot::Mutex;
use tokio::task::AbortHandle;

use super::{
    Public, Visitor,
    carry::{Entered, carry},
    line::Line,
    next,
};
use crate::{
    Caller,
    admission::Full,
    metrics::Entrance,
    router::{Key, Scheme},
};

/// The ports that are open.
pub struct Ports {
    address: IpAddr,
    public: Public,
    open: Mutex<HashMap<u16, AbortHandle>>,
}

impl Ports {
    /// Returns no open ports of an address.
    pub fn new(address: IpAddr, public: Public) -> Self {
        Self { address, public, open: Mutex::default() }
    }

    /// Opens a port unless it is open; 0 is one that the system chooses. Returns the port.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub fn open(&self, port: u16) -> io::Result<u16> {
        let mut open = self.open.lock();
        if open.contains_key(&port) {
            return Ok(port);
        }
        let (mut intake, address) = self.public.intake(SocketAddr::new(self.address, port), Entrance::Tcp)?;
        let port = address.port();
        let (public, key) = (self.public.clone(), Arc::new(Key::Port(port)));
        let task = tokio::spawn(async move {
            let mut phase = public.edge.phase();
            while let Some(arrival) = next(&mut intake, &mut phase).await {
                match public.admit(arrival, Entrance::Tcp) {
                    Ok(visitor) => {
                        let Visitor { socket, address, local, room } = visitor;
                        let caller = Caller::plain(address, local, Scheme::Http);
                        let entered = Entered { line: Line::plain(socket), caller, room, first: Vec::new() };
                        drop(tokio::spawn(carry(Arc::clone(&public.edge), entered, Arc::clone(&key))));
                    }
                    Err(Full(limit)) => public.edge.metrics.limit(limit),
                }
            }
        });
        open.insert(port, task.abort_handle());
        Ok(port)
    }

    /// Closes a port that nobody serves; connections that are open go on.
    ///
    /// Looks and closes in one step: whoever binds the port opens it afterwards, and finds it either open or gone.
    pub fn close_unserved(&self, port: u16) {
        let mut open = self.open.lock();
        let served = self.public.edge.serves_port(port);
        if !served && let Some(task) = open.remove(&port) {
            task.abort();
        }
    }
}
