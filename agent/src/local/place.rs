//! Where the local socket is: for the agent that makes it, and for whoever looks for it.

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::{fd::AsRawFd as _, unix::net::SocketAddr};
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use rustls::crypto::CryptoProvider;

use crate::{identity::state_folder, trust::sha256};

/// Returns the folders of local sockets: the first is where an agent of this environment makes its own, the others are where one
/// may be that was started as a service.
pub(crate) fn folders() -> Vec<PathBuf> {
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").filter(|value| !value.is_empty()).map(PathBuf::from);
    let services = ["/run", "/var/lib"].into_iter().filter(|_| cfg!(unix)).flat_map(|base| services(Path::new(base)));
    let all = runtime.into_iter().chain(state_folder()).chain(services);
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in all.map(|folder| folder.join(FOLDER)) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Returns the folders of services below one that is root's: `adit`, and `adit-NAME` of services with other names.
fn services(base: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(base) else { return Vec::new() };
    let names = entries.take(MAX_ENTRIES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ours: Vec<String> = names.filter(|name| name == "adit" || name.starts_with("adit-")).collect();
    ours.sort();
    ours.into_iter().map(|name| base.join(name)).collect()
}

/// Returns what tells an agent from others: what it was configured by. Short, because the path of a socket has little room.
pub(crate) fn name_of(files: &[PathBuf], provider: &CryptoProvider) -> String {
    let files = files.iter().map(|file| std::fs::canonicalize(file).unwrap_or_else(|_| file.clone()));
    let key: Vec<String> = files.map(|file| file.display().to_string()).collect();
    let print = sha256(key.join("\n").as_bytes(), provider).unwrap_or_default();
    print.chars().filter(char::is_ascii_hexdigit).take(8).collect::<String>().to_lowercase()
}

/// Returns the sockets in a folder, in the order of their names; a few at most.
#[cfg(unix)]
pub(crate) fn sockets(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.take(MAX_ENTRIES).filter_map(|entry| Some(entry.ok()?.path()));
    let mut sockets: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "sock")).collect();
    sockets.sort();
    sockets
}

/// A path by which the system takes a socket. In an address there is room for a hundred octets or so: to one that is longer it is
/// spoken of by its folder, as this process has it open, where the system has such names.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Spoken {
    path: PathBuf,
    _folder: Option<OwnedFd>,
}

#[cfg(unix)]
impl Spoken {
    /// Finds such a path; it leads there for as long as this lives.
    ///
    /// # Errors
    /// What the system says of the folder.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let (Err(_), Some(folder), Some(name)) = (SocketAddr::from_pathname(path), path.parent(), path.file_name()) {
            use rustix::fs::{Mode, OFlags};

            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let folder = rustix::fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
            return Ok(Self { path, _folder: Some(folder) });
        }
        Ok(Self { path: path.to_owned(), _folder: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Connects to a socket, however long its path is.
///
/// # Errors
/// What the system says.
#[cfg(unix)]
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let spoken = Spoken::of(path)?;
    UnixStream::connect(spoken.path())
}

/// The folder of sockets below that of the agent's state; nobody else's.
const FOLDER: &str = "local";
/// More entries of a folder are not looked at.
const MAX_ENTRIES: usize = 1_000;
