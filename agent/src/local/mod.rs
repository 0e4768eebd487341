//! What programs on this machine may ask the running agent: how it is, its connections, its log, the last requests.
//!
//! Whoever asks is taken for hostile: who may not is refused before anything is read of the agent, everything that may grow has
//! a bound, and nothing here holds up what is carried.

mod answer;
mod http;
#[cfg(windows)]
mod pipe;
mod place;
mod serve;
#[cfg(unix)]
mod socket;
mod token;

use core::{net::SocketAddr, time::Duration};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use rustls::crypto::CryptoProvider;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    agent::{Agent, Doors},
    capture::Store,
    config::{LocalConfig, NamedFile, SocketPlace},
    errors::{Error, Fault},
    log::Recent,
    policy::Guard,
    status::Status,
};

#[cfg(unix)]
pub(crate) use place::{connect, sockets};
pub(crate) use place::{folders, name_of};
pub(crate) use token::read as read_token;

use serve::{Gate, serve};

/// What is shown, and of what.
pub(crate) struct Sources {
    pub(crate) status: Arc<Status>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) store: Arc<Store>,
    pub(crate) recent: Arc<Recent>,
    /// The configuration's files.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) begun: (SystemTime, Instant),
}

/// The local interface of a running agent.
pub(crate) struct Local {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Where the agent may be asked.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) config: LocalConfig,
    /// What tells this agent from others on the machine.
    pub(crate) name: String,
}

impl Sources {
    /// Gathers what is shown of an agent.
    pub(crate) fn of(agent: &Agent, store: Arc<Store>, recent: Arc<Recent>) -> Self {
        let config = agent.config();
        Self {
            status: agent.status(),
            guard: agent.guard(),
            doors: agent.doors(),
            store,
            recent,
            files: config.files.clone(),
            begun: (SystemTime::now(), Instant::now()),
        }
    }
}

impl Local {
    /// Begins to answer where the configuration says. What is not possible is logged, and the agent does without it.
    pub(crate) fn start(place: Place, sources: Arc<Sources>, provider: Arc<CryptoProvider>) -> Self {
        let (stop, stopped) = watch::channel(false);
        Self { stop, task: tokio::spawn(run(place, sources, provider, stopped)) }
    }

    /// Ends it; when this returns, another agent may have the socket.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true); // nobody may be there to hear it
        let _ = timeout(STOPPING, self.task).await; // a folder on a disk that hangs holds up nothing
    }
}

/// Answers until `stopped`.
async fn run(place: Place, sources: Arc<Sources>, provider: Arc<CryptoProvider>, stopped: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let (store, mut over) = (Arc::clone(&sources.store), stopped.clone());
    tasks.spawn(async move {
        tokio::select! {
            () = store.watch() => {}
            _ = over.wait_for(|stopped| *stopped) => {}
        }
    });
    #[cfg(windows)]
    match pipe::open(&place) {
        Ok(Some(pipe)) => {
            tracing::info!(socket = pipe.name(), "the agent may be asked here");
            tasks.spawn(serve(pipe, Arc::new(Gate::Pipe), Arc::clone(&sources), stopped.clone()));
        }
        Ok(None) => {}
        Err(error) => refuse(&error),
    }
    #[cfg(unix)]
    tasks.spawn(keep_socket(place.clone(), Arc::clone(&sources), stopped.clone()));
    if let Some(address) = place.config.address {
        match open_address(address, &place, &provider).await {
            Ok((listener, gate)) => {
                tasks.spawn(serve(listener, Arc::new(gate), sources, stopped));
            }
            Err(error) => refuse(&error),
        }
    }
    while tasks.join_next().await.is_some() {}
}

fn refuse(error: &Error) {
    tracing::error!(%error, remedy = error.fault.entry().remedy, "not to be asked");
}

/// Answers at the socket until `stopped`. Where its file is removed, or it could not be made, it is made again.
#[cfg(unix)]
async fn keep_socket(place: Place, sources: Arc<Sources>, mut stopped: watch::Receiver<bool>) {
    let mut told = None;
    loop {
        match open_socket(&place).await {
            Ok(Some(bound)) => {
                told = None;
                tracing::info!(socket = %bound.path().display(), "the agent may be asked here");
                let node = bound.node();
                tokio::select! {
                    () = socket::serve(bound, place.config.mode, Arc::clone(&sources), stopped.clone()) => return,
                    () = socket::gone(node, socket::LOOK) => tracing::warn!("the socket's file is gone: it is made again"),
                }
                continue;
            }
            Ok(None) => return,
            Err(error) if told.as_ref() == Some(&error) => {}
            Err(error) => {
                refuse(&error);
                told = Some(error);
            }
        }
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = tokio::time::sleep(socket::LOOK) => {}
        }
    }
}

#[cfg(unix)]
async fn open_socket(place: &Place) -> Result<Option<socket::Bound>, Error> {
    let place = place.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let mode = place.config.mode;
        let (path, folder) = match (&place.config.socket, socket_file(&place)) {
            (SocketPlace::Off, _) => return Ok(None),
            (SocketPlace::At(path), _) => (path.clone(), socket::Folder::Theirs),
            (SocketPlace::Default, Some(path)) => (path, socket::Folder::Ours),
            (SocketPlace::Default, None) => {
                let detail = "there is no folder for a socket: set agent.local.socket".to_owned();
                return Err(Error::new(Fault::LocalUnusable, detail));
            }
        };
        let bound = match socket::bind(&path, mode, folder) {
            // Another agent of the same configuration has the name.
            Err(socket::Problem::Taken) if folder == socket::Folder::Ours => {
                socket::bind(&path.with_file_name(format!("{}.sock", std::process::id())), mode, folder)
            }
            bound => bound,
        };
        let unusable =
            |problem: socket::Problem| Error::new(Fault::LocalUnusable, format!("{}: {problem}", path.display()));
        bound.map(Some).map_err(unusable)
    });
    opened.await.unwrap_or_else(|_| Err(Fault::Internal.into()))
}

async fn open_address(
    address: SocketAddr,
    place: &Place,
    provider: &Arc<CryptoProvider>,
) -> Result<(TcpListener, Gate), Error> {
    let unusable = |detail: String| Error::new(Fault::LocalUnusable, detail);
    let file = token_file(place)
        .ok_or_else(|| unusable("there is no folder for a token: set agent.local.token_file".into()))?;
    let listener = TcpListener::bind(address).await.map_err(|error| unusable(format!("{address}: {error}")))?;
    let address = listener.local_addr().map_err(|error| unusable(format!("{address}: {error}")))?;
    // Whoever has the address has the token: that of another agent stays as it is.
    let (from, provider, is_named) = (file.clone(), Arc::clone(provider), place.config.token_file.is_some());
    let make = if is_named { token::read_or_make } else { token::make_anew };
    let made = tokio::task::spawn_blocking(move || make(&from, &provider)).await;
    let token = made.unwrap_or_else(|_| Err(Fault::Internal.to_string())).map_err(unusable)?;
    tracing::info!(%address, token = %file.display(), "the agent may be asked here, with the token of that file");
    Ok((listener, Gate::token(token, address)))
}

/// Returns the file of the token for TCP.
pub(crate) fn token_file(place: &Place) -> Option<NamedFile> {
    let beside = || Some(folders().into_iter().next()?.join(format!("{}.token", place.name)).into());
    place.config.token_file.clone().or_else(beside)
}

/// Returns where an agent with this configuration puts its socket.
pub(crate) fn socket_file(place: &Place) -> Option<PathBuf> {
    match &place.config.socket {
        SocketPlace::Off => None,
        SocketPlace::At(path) => Some(path.clone()),
        SocketPlace::Default if cfg!(windows) => Some(PathBuf::from(format!(r"\\.\pipe\adit-{}", place.name))),
        SocketPlace::Default => folders().first().map(|folder: &PathBuf| folder.join(format!("{}.sock", place.name))),
    }
}

/// How long ending it may take.
const STOPPING: Duration = Duration::from_secs(2);
