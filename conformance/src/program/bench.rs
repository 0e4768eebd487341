//! What stays the same for all scenarios.

use core::net::SocketAddr;
use std::{
    env, fs, io,
    net::{TcpListener, TcpStream, ToSocketAddrs},
    path::PathBuf,
    process,
    sync::Arc,
};

use adit_conformance::{
    Fault, Registry, Scenario, Side, Step,
    identity::{Identity, client},
    socket::{Patience, Wire},
};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};

use crate::{Arguments, shim::Shim};

/// What stays the same for all scenarios.
pub(crate) struct Bench {
    pub(crate) side: Side,
    pub(crate) patience: Patience,
    pub(crate) token: Option<String>,
    pub(crate) own_application: bool,
    target: Option<SocketAddr>,
    shim: Option<String>,
    verbose: bool,
    longest: u64,
    name: ServerName<'static>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    other_server: Arc<ServerConfig>,
    registry: Registry,
    files: Files,
}

/// Where a shim finds the certificates; gone with the bench.
struct Files(PathBuf);

impl Bench {
    pub(crate) fn new(arguments: &Arguments) -> io::Result<Self> {
        let side = arguments.role.side();
        check(arguments, side)?;
        let host = arguments.target.as_deref().and_then(|target| target.rsplit_once(':')).map(|(host, _)| host);
        let text = arguments.server_name.as_deref().or(host).unwrap_or(NAME);
        let name = ServerName::try_from(text.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
        let identity = Identity::issue(text)?;
        let roots = match &arguments.ca {
            Some(file) => Some(fs::read_to_string(file)?),
            None => (!arguments.insecure).then(|| identity.authority.clone()),
        };
        let target = arguments.target.as_ref().map(|target| resolve(target)).transpose()?;
        Ok(Self {
            side,
            patience: arguments.patience(),
            token: arguments.token.clone(),
            own_application: arguments.own_application,
            target,
            shim: arguments.shim.clone(),
            verbose: arguments.verbose,
            longest: arguments.longest,
            name,
            client: client(roots.as_deref())?,
            server: identity.server()?,
            other_server: identity.other_server()?,
            registry: Registry::load(),
            files: Files::write(&identity)?,
        })
    }

    /// Says what is tested, for people.
    pub(crate) fn name(&self) -> String {
        match (&self.shim, self.target) {
            (Some(shim), _) => shim.clone(),
            (None, Some(target)) => target.to_string(),
            (None, None) => String::new(),
        }
    }

    /// Returns why a scenario is not played at all.
    pub(crate) fn skips(&self, scenario: &Scenario) -> Option<String> {
        let waits = scenario.steps.iter().map(|step| if let Step::Wait(millis) = step { *millis } else { 0 });
        let time: u64 = waits.sum();
        if time > self.longest {
            return Some(format!("{time} ms have to pass, more than --longest"));
        }
        if self.shim.is_some() {
            return None;
        }
        if self.token.is_some() && scenario.says_hello_in_octets() {
            return Some("its HELLO is given in octets, with a token of its own".to_owned());
        }
        scenario.limits.iter().find_map(|(name, value)| {
            let limit = self.registry.limits.iter().find(|limit| limit.name == *name)?;
            let told = ["frame", "streams"].contains(&name.as_str());
            let default = limit.network == *value && name != "window"; // one that is named must not grow
            (!told && !default).then(|| format!("the limit `{name}` has to be {value}: needs a shim"))
        })
    }

    /// Starts the side that is tested, where that is for us to do.
    pub(crate) fn start(&self, scenario: &Scenario, address: SocketAddr) -> io::Result<Option<Shim>> {
        let Some(command) = &self.shim else { return Ok(None) };
        let role = if self.side == Side::Agent { "agent" } else { "network" };
        let limits = serde_json::to_string(&scenario.limits).map_err(io::Error::other)?;
        let variables = [
            ("ADIT_ROLE", role.to_owned()),
            ("ADIT_ADDRESS", self.target.unwrap_or(address).to_string()),
            ("ADIT_SERVER_NAME", self.name.to_str().into_owned()),
            ("ADIT_CA", self.files.path("ca.pem")),
            ("ADIT_CERTIFICATE", self.files.path("certificate.pem")),
            ("ADIT_KEY", self.files.path("key.pem")),
            ("ADIT_TOKEN", self.token.clone().unwrap_or_else(|| TOKEN.to_owned())),
            ("ADIT_LIMITS", limits),
            ("ADIT_SCENARIO", format!("{}/{}", scenario.file, scenario.what)),
        ];
        Shim::start(command, &variables, self.verbose).map(Some)
    }

    /// Dials the network that is tested.
    pub(crate) fn dial(&self, address: SocketAddr, fault: Option<Fault>) -> io::Result<Wire> {
        let socket = TcpStream::connect_timeout(&address, self.patience.something)?;
        let mut client = ClientConfig::clone(&self.client);
        match fault {
            None => {}
            Some(Fault::NoAlpn) => client.alpn_protocols.clear(),
            Some(Fault::OtherAlpn) => client.alpn_protocols = vec![b"h2".to_vec()],
            Some(Fault::Version12) => return Wire::outdated(socket, self.patience),
            Some(Fault::Stranger | Fault::OtherName) => return Err(io::Error::other("an agent shows no certificate")),
        }
        let rest = socket.try_clone()?;
        let wire = Wire::client(socket, &Arc::new(client), self.name.clone(), self.patience);
        self.met(wire, rest, fault)
    }

    /// Takes the agent that is tested, when it has dialed.
    pub(crate) fn take(&self, listener: &TcpListener, fault: Option<Fault>) -> Option<io::Result<Wire>> {
        match listener.accept() {
            Ok((socket, _)) => Some(self.serve(socket, fault)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn serve(&self, socket: TcpStream, fault: Option<Fault>) -> io::Result<Wire> {
        let server = match fault {
            None => Arc::clone(&self.server),
            Some(Fault::NoAlpn) => {
                let mut server = ServerConfig::clone(&self.server);
                server.alpn_protocols.clear();
                Arc::new(server)
            }
            Some(Fault::Stranger) => Identity::issue(&self.name.to_str())?.server()?,
            Some(Fault::OtherName) => Arc::clone(&self.other_server),
            Some(Fault::OtherAlpn | Fault::Version12) => return Err(io::Error::other("a network offers nothing")),
        };
        let rest = socket.try_clone()?;
        self.met(Wire::server(socket, &server, self.patience), rest, fault)
    }

    /// What is wrong on purpose may be refused by TLS itself; all else has to be right.
    fn met(&self, wire: io::Result<Wire>, rest: TcpStream, fault: Option<Fault>) -> io::Result<Wire> {
        match (wire, fault) {
            (Err(_), Some(_)) => Ok(Wire::refused(rest, self.patience)),
            (Ok(wire), None) if !wire.is_agreed() => Err(io::Error::other("the application protocol is not adit/1")),
            (wire, _) => wire,
        }
    }

    pub(crate) const fn target(&self) -> Option<SocketAddr> {
        self.target
    }
}

impl Files {
    fn write(identity: &Identity) -> io::Result<Self> {
        let files = Self(env::temp_dir().join(format!("adit-conformance-{}", process::id())));
        fs::create_dir_all(&files.0)?;
        fs::write(files.path("ca.pem"), &identity.authority)?;
        fs::write(files.path("certificate.pem"), &identity.certificate)?;
        fs::write(files.path("key.pem"), &identity.key)?;
        Ok(files)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what stays there is worth nothing
    }
}

fn check(arguments: &Arguments, side: Side) -> io::Result<()> {
    let wrong = match (side, &arguments.target, &arguments.shim) {
        (Side::Agent, Some(_), _) => "an agent dials: it takes --shim, and no --target",
        (Side::Agent, None, None) => "an agent needs --shim",
        (Side::Network, None, None) => "a network needs --target, --shim or both",
        (Side::Network, Some(_), None) if arguments.ca.is_none() && !arguments.insecure => {
            "a target needs --ca or --insecure"
        }
        (Side::Agent, None, Some(_)) | (Side::Network, _, _) => return Ok(()),
    };
    Err(io::Error::other(wrong))
}

fn resolve(target: &str) -> io::Result<SocketAddr> {
    target.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("{target} has no address")))
}

const NAME: &str = "network.test";
const TOKEN: &str = "test";
