//! Asks a running agent.

use core::{fmt, net::SocketAddr, time::Duration};
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_core::{Secret, escape};
use rustls::crypto::CryptoProvider;
use serde_json::Value;

use super::{
    Failure,
    arguments::{Global, Running},
    configuration::{files, missed, overrides, refusal},
    policy,
};
use crate::{
    config::{Config, LocalConfig},
    errors::{Error, Exit, Fault},
    local::{Place, name_of, read_token, socket_file, token_file},
    policy::Watch,
};

/// A running agent that can be asked.
#[derive(Debug)]
pub(super) enum Client {
    Socket(PathBuf),
    Address(SocketAddr, Secret),
}

/// A connection to it.
trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

impl Client {
    /// Finds the agent that is meant: the one whose socket is named, that of this configuration, or the only one that runs.
    pub(super) fn find(global: &Global, running: &Running, provider: &CryptoProvider) -> Result<Self, Failure> {
        let files = files(global);
        // A configuration that this user cannot read may still be that of an agent that it may ask.
        let config = Config::load(&files, &overrides(global)).or_else(|_| Config::load(&[], &overrides(global)));
        let policy = in_force(global, &files, provider);
        if let (Ok(config), Ok(watch)) = (&config, &policy) {
            config.under(&watch.guard()); // it may name the file of a token
        }
        let config = config.map_or_else(|_| LocalConfig::default(), |config| config.agent.local);
        let place = Place { config, name: name_of(&files, provider) };
        // Who names a configuration means that agent and no other.
        let any = global.config.is_empty() && std::env::var_os("ADIT_CONFIG").is_none();
        if let Some(found) = find_socket(running.socket.as_deref(), &place, any)? {
            return Ok(found);
        }
        let address = place.config.address.filter(|_| running.socket.is_none());
        let (Some(address), Some(file)) = (address, token_file(&place)) else {
            return Err(nobody(running.socket.as_deref(), &place).into());
        };
        // What it is allowed to name is not known then; what is read is sent.
        if let Some(failure) = policy.err().filter(|_| file.is_of_configuration()) {
            return Err(failure);
        }
        match read_token(&file) {
            Ok(token) => Ok(Self::Address(address, token)),
            // An agent that answers there has made it.
            Err(_) if is_missing(&file) => Err(nobody_at(address, &file).into()),
            Err(problem) => Err(Error::new(Fault::LocalForbidden, problem).into()),
        }
    }

    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path)
    }

    pub(super) fn post(&self, path: &str) -> Result<Value, Failure> {
        self.ask("POST", path)
    }

    fn ask(&self, method: &str, path: &str) -> Result<Value, Failure> {
        let lost = |error: io::Error| self.lost(&error);
        let mut line = self.connect().map_err(lost)?;
        let (host, token) = match self {
            Self::Socket(_) => ("localhost".to_owned(), Vec::new()),
            Self::Address(address, token) => {
                (address.to_string(), [b"authorization: Bearer ", token.expose(), b"\r\n"].concat())
            }
        };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        let asked = [head.as_bytes(), &token, b"\r\n"].concat();
        line.write_all(&asked).map_err(lost)?;
        let mut answer = Vec::new();
        line.take(MAX_ANSWER).read_to_end(&mut answer).map_err(lost)?;
        let why = if answer.is_empty() { "it ended before it answered" } else { "what answers is no agent" };
        read(&answer).ok_or_else(|| Error::new(Fault::NoAgent, format!("{self}: {why}")))?
    }

    fn connect(&self) -> io::Result<Box<dyn Line>> {
        match self {
            Self::Socket(path) => open(path),
            Self::Address(address, _) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }

    fn lost(&self, error: &io::Error) -> Failure {
        let fault =
            if error.kind() == io::ErrorKind::PermissionDenied { Fault::LocalForbidden } else { Fault::NoAgent };
        Error::new(fault, format!("{self}: {error}")).into()
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Address(address, _) => address.fmt(f),
        }
    }
}

/// Returns the policy that holds for the agent that is meant, if there is one.
fn in_force(global: &Global, files: &[PathBuf], provider: &CryptoProvider) -> Result<Watch, Failure> {
    let watch = policy::open(global, &Arc::new(provider.clone()))?;
    match missed(&watch, files).0 {
        Some((fault, _)) => Err(refusal(&[fault], Fault::PolicyGone)),
        None => Ok(watch),
    }
}

/// Reads an answer; nothing where it is none.
fn read(octets: &[u8]) -> Option<Result<Value, Failure>> {
    let mut room = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut room);
    let Ok(httparse::Status::Complete(length)) = head.parse(octets) else { return None };
    let value: Value = serde_json::from_slice(octets.get(length..)?).ok()?;
    if head.code == Some(200) {
        return Some(Ok(value));
    }
    let text = |key: &str| Some(escape(value.get("error")?.get(key)?.as_str()?).to_string());
    let code = text("code")?;
    let fault = Fault::ALL.iter().find(|fault| fault.code() == code);
    let exit = fault.map_or(Exit::Failed, |fault| fault.entry().exit);
    let detail = text("detail").filter(|detail| !detail.is_empty()).map(|detail| format!(": {detail}"));
    let text = format!("{code}: {}{}\n{}", text("title")?, detail.unwrap_or_default(), text("remedy")?);
    Some(Err(Failure { exit, text }))
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<Box<dyn Line>> {
    let stream = crate::local::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Box::new(stream))
}

/// Opens a pipe. Whoever has made it does not become the user who asks.
#[cfg(windows)]
fn open(path: &Path) -> io::Result<Box<dyn Line>> {
    use std::os::windows::fs::OpenOptionsExt as _;

    const SECURITY_IDENTIFICATION: u32 = 1 << 16;
    const ERROR_PIPE_BUSY: i32 = 231;
    let mut tries = 100;
    loop {
        let opened =
            std::fs::OpenOptions::new().read(true).write(true).security_qos_flags(SECURITY_IDENTIFICATION).open(path);
        match opened {
            // Between one who asks and the next nobody waits there for a moment.
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) && tries > 0 => tries -= 1,
            opened => return Ok(Box::new(opened?)),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(windows)]
fn find_socket(named: Option<&Path>, place: &Place, _: bool) -> Result<Option<Client>, Failure> {
    if let Some(named) = named {
        return Ok(Some(Client::Socket(named.to_owned())));
    }
    Ok(socket_file(place).filter(|path| open(path).is_ok()).map(Client::Socket))
}

#[cfg(unix)]
fn find_socket(named: Option<&Path>, place: &Place, any: bool) -> Result<Option<Client>, Failure> {
    use crate::local::{connect, folders, sockets};

    if let Some(named) = named {
        return Ok(Some(Client::Socket(named.to_owned())));
    }
    let own = socket_file(place);
    let elsewhere = folders().into_iter().map(|folder| folder.join(format!("{}.sock", place.name)));
    let mut forbidden = None;
    let mut answers = |path: &Path| match connect(path) {
        Ok(_) => true,
        Err(error) => {
            if error.kind() == io::ErrorKind::PermissionDenied {
                forbidden.get_or_insert_with(|| path.to_owned());
            }
            false
        }
    };
    if let Some(found) = own.into_iter().chain(elsewhere).find(|path| answers(path)) {
        return Ok(Some(Client::Socket(found)));
    }
    let folders = if any { folders() } else { Vec::new() };
    let all: Vec<PathBuf> = folders.iter().flat_map(|folder| sockets(folder)).filter(|path| answers(path)).collect();
    match (all.as_slice(), forbidden) {
        ([one], _) => Ok(Some(Client::Socket(one.clone()))),
        ([], Some(path)) => {
            Err(Error::new(Fault::LocalForbidden, format!("{}: its permissions", path.display())).into())
        }
        ([], None) => Ok(None),
        (several, _) => {
            let listed: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            let detail = format!("several agents run, and none with this configuration: {}", listed.join(", "));
            Err(Error::new(Fault::NoAgent, detail).into())
        }
    }
}

fn nobody(named: Option<&Path>, place: &Place) -> Error {
    let looked = named.map(Path::to_owned).or_else(|| socket_file(place));
    let looked = looked.map(|path| format!("nobody at {}", path.display())).unwrap_or_default();
    Error::new(Fault::NoAgent, looked)
}

fn nobody_at(address: SocketAddr, file: &Path) -> Error {
    Error::new(Fault::NoAgent, format!("{address}: there is no token in {}", file.display()))
}

fn is_missing(file: &Path) -> bool {
    file.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// How long the agent may take for anything: as long as it sends a request again, and more.
const PATIENCE: Duration = Duration::from_secs(40);
/// An answer is not longer, in octets.
const MAX_ANSWER: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_its_code_and_its_exit() {
        let octets = b"HTTP/1.1 403 Forbidden\r\n\r\n{\"error\":{\"code\":\"ADIT-1476\",\"title\":\"a\\u001b\",\"detail\":\"b\",\"remedy\":\"c\"}}";

        let failure = read(octets).unwrap().unwrap_err();

        assert_eq!((failure.exit, failure.text.as_str()), (Exit::Policy, "ADIT-1476: a\\u{1b}: b\nc"));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for octets in [&b"SSH-2.0-x\r\n"[..], b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 No\r\n\r\n{}"] {
            assert!(read(octets).is_none());
        }
    }
}
