//! A named pipe of Windows, by which programs of this machine ask the agent.

use std::{io, path::PathBuf};

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};

use super::{
    Place,
    serve::{Gate, Listener},
    socket_file,
};
use crate::{
    config::SocketPlace,
    errors::{Error, Fault},
};

/// A pipe that waits for who asks.
#[derive(Debug)]
pub(super) struct Pipe {
    name: String,
    waiting: NamedPipeServer,
}

/// Makes the pipe that the configuration names, or one that tells this agent from others.
///
/// # Errors
/// [`Fault::LocalUnusable`].
pub(super) fn open(place: &Place) -> Result<Option<Pipe>, Error> {
    let Some(path) = socket_file(place) else { return Ok(None) };
    let made = Pipe::new(&path);
    let made = match (&place.config.socket, made) {
        // Another agent of the same configuration has the name.
        (SocketPlace::Default, Err(_)) => Pipe::new(&PathBuf::from(format!(r"\\.\pipe\adit-{}", std::process::id()))),
        (SocketPlace::Default | SocketPlace::At(_) | SocketPlace::Off, made) => made,
    };
    made.map(Some).map_err(|error| Error::new(Fault::LocalUnusable, format!("{}: {error}", path.display())))
}

impl Pipe {
    /// Makes the first of its name: where somebody else has one, callers might be led there.
    fn new(path: &std::path::Path) -> io::Result<Self> {
        let name = path.display().to_string();
        let waiting = ServerOptions::new().first_pipe_instance(true).reject_remote_clients(true).create(&name)?;
        Ok(Self { name, waiting })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Listener for Pipe {
    type Stream = NamedPipeServer;

    async fn accept_one(&mut self, _: &Gate) -> io::Result<Option<NamedPipeServer>> {
        self.waiting.connect().await?;
        let next = ServerOptions::new().reject_remote_clients(true).create(&self.name)?;
        Ok(Some(core::mem::replace(&mut self.waiting, next)))
    }
}
