//! A Unix socket that nobody else can speak to, or put another in the place of.

use core::{fmt, time::Duration};
use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{net::UnixListener, sync::watch};

use super::{
    Sources,
    place::Spoken,
    serve::{self, Gate},
};
use crate::config::SocketMode;

/// Whose folder a socket is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// The agent's, and nobody else's.
    Ours,
    /// One that the configuration names.
    Theirs,
}

/// A socket that is bound. Dropped, its file is gone.
#[derive(Debug)]
pub(super) struct Bound {
    listener: std::os::unix::net::UnixListener,
    file: Bit,
}

/// The file of a socket, which goes with it.
#[derive(Debug)]
struct Bit(Node);

/// A file of a name, as long as it is this one.
#[derive(Clone, Debug)]
pub(super) struct Node {
    path: PathBuf,
    node: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug)]
pub(super) enum Problem {
    /// Somebody answers there.
    Taken,
    Folder(String),
    Io(io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("another program answers there"),
            Self::Folder(text) => f.write_str(text),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Bound {
    pub(super) fn path(&self) -> &Path {
        &self.file.0.path
    }

    /// Returns its file.
    pub(super) fn node(&self) -> Node {
        self.file.0.clone()
    }
}

impl Node {
    fn is_there(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|found| (found.dev(), found.ino()) == self.node)
    }
}

impl Drop for Bit {
    fn drop(&mut self) {
        if self.0.is_there() {
            let _ = fs::remove_file(&self.0.path); // a folder that is gone needs none
        }
    }
}

/// Binds a socket. One that is there already is removed only when it is ours and nobody answers.
///
/// # Errors
/// [`Problem`].
pub(super) fn bind(path: &Path, mode: SocketMode, whose: Folder) -> Result<Bound, Problem> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    check(folder, whose)?;
    let too_long = "the path is too long for a socket: set agent.local.socket";
    let spoken = Spoken::of(path)?;
    let address = SockAddr::unix(spoken.path()).map_err(|error| {
        let is_long = error.kind() == io::ErrorKind::InvalidInput;
        if is_long { Problem::Folder(too_long.to_owned()) } else { Problem::Io(error) }
    })?;
    // Of two that start at once one looks, removes and binds before the other does.
    let lock = File::open(folder)?;
    lock.lock()?;
    clear(path, &address)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let file = File::from(OwnedFd::from(socket));
    // On Linux the file has this mode from its first moment; elsewhere the folder keeps others out until it has.
    let _ = file.set_permissions(Permissions::from_mode(mode.bits()));
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&address)?;
    fs::set_permissions(path, Permissions::from_mode(mode.bits()))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let found = path.symlink_metadata()?;
    let file = Bit(Node { path: path.to_owned(), node: (found.dev(), found.ino()) });
    Ok(Bound { listener: socket.into(), file })
}

/// Refuses a folder in which others could put something in the place of the socket.
fn check(folder: &Path, whose: Folder) -> Result<(), Problem> {
    let found = folder.metadata()?;
    let (mode, owner, us) = (found.mode() & 0o7777, found.uid(), rustix::process::geteuid().as_raw());
    let others = match whose {
        Folder::Ours => 0o077,
        Folder::Theirs => 0o022,
    };
    if owner != us && (owner != 0 || whose == Folder::Ours) {
        return Err(Problem::Folder(format!("{} belongs to user {owner}, not to the agent's {us}", folder.display())));
    }
    if mode & others != 0 {
        let shown = folder.display();
        return Err(Problem::Folder(format!("the mode {mode:04o} of {shown} lets others in: chmod 700 {shown}")));
    }
    Ok(())
}

/// Makes sure that nothing is at the path.
fn clear(path: &Path, address: &SockAddr) -> Result<(), Problem> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !found.file_type().is_socket() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(Problem::Folder("something else is there: remove it, or name another path".into()));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?; // one whose queue is full is there, and does not hold up who asks
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(()) | Err(_) => Err(Problem::Taken),
    }
}

/// Answers at a socket until `stopped`.
pub(super) async fn serve(bound: Bound, mode: SocketMode, sources: Arc<Sources>, stopped: watch::Receiver<bool>) {
    let Bound { listener, file } = bound;
    match UnixListener::from_std(listener) {
        Ok(listener) => serve::serve(listener, Arc::new(Gate::files(mode)), sources, stopped).await,
        Err(error) => tracing::error!(%error, "not to be asked"),
    }
    drop(file); // another agent finds nothing that is no more
}

/// Waits until a socket's file is not there any more, or is another's.
pub(super) async fn gone(file: Node, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let look = file.clone();
        // A disk that hangs holds up nobody.
        let looked = tokio::task::spawn_blocking(move || look.is_there());
        if !looked.await.unwrap_or(true) {
            return;
        }
    }
}

/// How often is looked whether the file is there.
pub(super) const LOOK: Duration = Duration::from_secs(3);
/// Who waits in the kernel.
const BACKLOG: i32 = 64;

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o777
    }

    #[test]
    fn a_socket_is_its_owners_in_a_folder_of_its_owner_and_goes_with_the_agent() {
        let path = crate::testing::folder("socket").join("local").join("a.sock");

        let bound = bind(&path, SocketMode::Owner, Folder::Ours).unwrap();

        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(UnixStream::connect(&path).is_ok());
        assert!(matches!(bind(&path, SocketMode::Owner, Folder::Ours), Err(Problem::Taken)));
        drop(bound);
        assert!(path.symlink_metadata().is_err());
    }

    #[test]
    fn what_a_killed_agent_left_behind_is_removed_and_nothing_else() {
        let path = crate::testing::folder("socket-stale").join("a.sock");
        drop(UnixListener::bind(&path).unwrap());

        let bound = bind(&path, SocketMode::Group, Folder::Theirs).unwrap();

        assert_eq!(mode(&path), 0o660);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        drop(bound);
        assert!(matches!(bind(&path, SocketMode::Owner, Folder::Theirs), Err(Problem::Folder(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_file_that_is_removed_or_replaced_is_missed() {
        let path = crate::testing::folder("socket-gone").join("a.sock");
        let bound = bind(&path, SocketMode::Owner, Folder::Theirs).unwrap();

        let period = Duration::from_millis(5);
        let there = tokio::time::timeout(period * 10, gone(bound.node(), period)).await;
        assert!(there.is_err(), "it is there");
        fs::remove_file(&path).unwrap();
        gone(bound.node(), period).await;
        let again = bind(&path, SocketMode::Owner, Folder::Theirs).unwrap();
        gone(bound.node(), period).await;
        drop(bound);
        assert!(UnixStream::connect(&path).is_ok(), "what is another's is not removed");
        drop(again);
    }

    #[test]
    fn a_folder_that_others_may_enter_or_write_is_refused() {
        let folder = crate::testing::folder("socket-folder");
        for (mode, whose, is_fine) in [
            (0o755, Folder::Theirs, true),
            (0o755, Folder::Ours, false),
            (0o770, Folder::Theirs, false),
            (0o1777, Folder::Theirs, false),
        ] {
            fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
            let bound = bind(&folder.join("a.sock"), SocketMode::Owner, whose);
            assert_eq!(bound.is_ok(), is_fine, "{mode:o} {whose:?}");
        }
        let long = bind(&folder.join("x".repeat(120)), SocketMode::Owner, Folder::Theirs);
        assert!(matches!(long, Err(Problem::Folder(_))), "no name has so much room");
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_socket_in_a_deep_folder_is_there_and_found_by_its_own_path() {
        let folder = crate::testing::folder("socket-deep").join("x".repeat(100)).join("y".repeat(200));
        let path = folder.join("a.sock");

        let bound = bind(&path, SocketMode::Owner, Folder::Ours).unwrap();

        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert!(super::super::connect(&path).is_ok());
        assert!(matches!(bind(&path, SocketMode::Owner, Folder::Ours), Err(Problem::Taken)));
        drop(bound);
        assert!(path.symlink_metadata().is_err());
        drop(UnixListener::bind(Spoken::of(&path).unwrap().path()).unwrap());
        assert!(bind(&path, SocketMode::Owner, Folder::Ours).is_ok(), "what a killed agent left behind is removed");
    }
}
