//! The agent's lasting name: a restarted agent takes over from its own ghost at once.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use adit_core::AgentId;
use rustls::crypto::CryptoProvider;

use crate::{private, trust::sha256};

/// Returns the name that the agent with these files and these endpoints has had before, or a new one.
///
/// Two agents on one machine differ in files or endpoints. Where it cannot be kept in `folder` it is new each time.
pub(crate) fn lasting(key: &str, folder: &Path, provider: &CryptoProvider) -> AgentId {
    let fresh = random(provider);
    let Some(print) = sha256(key.as_bytes(), provider) else { return fresh };
    let short: String = print.chars().filter(char::is_ascii_hexdigit).take(32).collect();
    keep(&folder.join(format!("agent-{}", short.to_lowercase())), fresh).unwrap_or_else(|error| {
        tracing::debug!(folder = %folder.display(), %error, "the agent's name is not kept");
        fresh
    })
}

/// Returns a name that nobody has.
pub(crate) fn random(provider: &CryptoProvider) -> AgentId {
    let mut octets = [0; 16];
    if provider.secure_random.fill(&mut octets).is_err() {
        octets = std::process::id().to_be_bytes().repeat(4).try_into().unwrap_or(octets);
    }
    AgentId(octets)
}

fn keep(path: &Path, fresh: AgentId) -> io::Result<AgentId> {
    if let Some(known) = read(path)? {
        return Ok(known);
    }
    if let Some(folder) = path.parent() {
        private::make_folder(folder)?;
    }
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(fresh.to_string().as_bytes())?;
    file.sync_all()?;
    // Of two that start at once the first wins, and both have its name.
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => Ok(fresh),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| io::Error::other("the file holds no name"))
        }
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<Option<AgentId>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(64).read_to_string(&mut text)?;
    parse(text.trim()).map(Some).ok_or_else(|| io::Error::other("the file holds no name"))
}

fn parse(text: &str) -> Option<AgentId> {
    let octets: Option<Vec<u8>> = (text.len() == 32 && text.is_ascii())
        .then(|| (0..16).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect())?;
    octets?.try_into().ok().map(AgentId)
}

/// Returns where this user's programs keep what must last.
pub(crate) fn state_folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd's StateDirectory= is for this service alone.
    set("STATE_DIRECTORY")
        .or_else(|| set("XDG_STATE_HOME").map(|base| base.join("adit")))
        .or_else(|| set("HOME").map(|home| home.join(".local").join("state").join("adit")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_and_found_again() {
        let path = crate::testing::folder("identity").join("state").join("agent-1");

        let first = keep(&path, AgentId([7; 16])).unwrap();
        let second = keep(&path, AgentId([8; 16])).unwrap();

        assert_eq!((first, second), (AgentId([7; 16]), AgentId([7; 16])));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_holds_something_else_is_left_alone() {
        let path = crate::testing::folder("identity-odd").join("agent-1");
        fs::write(&path, "not a name").unwrap();

        assert!(keep(&path, AgentId([7; 16])).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a name");
    }
}
