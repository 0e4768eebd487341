//! Network and agent, as their users start them.

use core::{net::SocketAddr, time::Duration};
use std::{
    fs, io,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    haproxy::{folder, free_address, free_services},
    process::{Daemon, output, wait_for},
    services::Services,
};

/// A network, its agent, and the files of both.
#[derive(Debug)]
pub(crate) struct Adit {
    folder: PathBuf,
    entrances: Services,
    http: SocketAddr,
    ingress: SocketAddr,
    token: String,
    network: Daemon,
    agent: Daemon,
}

impl Adit {
    /// Makes a private CA, a database and a token, and starts both programs.
    pub(crate) fn start(services: Services) -> io::Result<Self> {
        let folder = folder("bench-adit")?;
        let (entrances, http, ingress) = (free_services()?, free_address()?, free_address()?);
        write_network_config(&folder, ingress, http)?;
        output(network_program().args(["ca", "init", "--config"]).arg(folder.join("network.yml")))?;
        let token = create_token(&folder, entrances)?;
        write_agent_config(&folder, ingress, &token, entrances, services)?;
        let network = start_network(&folder)?;
        let agent = Daemon::start(
            program("adit").args(["start", "--all", "--config"]).arg(folder.join("agent.yml")),
            &folder.join("agent.log"),
        )?;
        for address in [entrances.bulk, entrances.http, entrances.echo] {
            wait_for("the endpoints are bound", Duration::from_secs(20), || Ok(TcpStream::connect(address).ok()))?;
        }
        Ok(Self { folder, entrances, http, ingress, token, network, agent })
    }

    /// Returns where the services are reached as TCP.
    pub(crate) const fn entrances(&self) -> Services {
        self.entrances
    }

    /// Returns where HTTP endpoints are served.
    pub(crate) const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Returns both processes.
    pub(crate) fn daemons(&self) -> Vec<&Daemon> {
        vec![&self.network, &self.agent]
    }

    /// Returns the network alone.
    pub(crate) const fn network(&self) -> &Daemon {
        &self.network
    }

    /// Returns where agents connect.
    pub(crate) const fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    /// Returns the authtoken.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Returns the certificate of the private CA.
    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.join("pki/ca.pem")
    }

    /// Ends the network with SIGKILL.
    pub(crate) fn kill_network(&mut self) {
        self.network.kill();
    }

    /// Starts the network again; returns when it listens.
    pub(crate) fn restart_network(&mut self) -> io::Result<()> {
        self.network = start_network(&self.folder)?;
        Ok(())
    }
}

fn start_network(folder: &Path) -> io::Result<Daemon> {
    let mut network = Daemon::start(
        network_program().args(["serve", "--ready", "--config"]).arg(folder.join("network.yml")),
        &folder.join("network.log"),
    )?;
    network.first_line()?;
    Ok(network)
}

fn create_token(folder: &Path, entrances: Services) -> io::Result<String> {
    let mut command = network_program();
    command.args(["token", "create", "--account", "bench", "--output", "json", "--config"]);
    command.arg(folder.join("network.yml")).args(["--allow", "bind:web.bench.test"]);
    for address in [entrances.bulk, entrances.http, entrances.echo] {
        command.args(["--allow", &format!("bind:tcp:{}", address.port())]);
    }
    let created: serde_json::Value = serde_json::from_str(&output(&mut command)?)?;
    created["token"].as_str().map(str::to_owned).ok_or_else(|| io::Error::other("no token was created"))
}

fn write_network_config(folder: &Path, ingress: SocketAddr, http: SocketAddr) -> io::Result<()> {
    let at = folder.display();
    let text = format!(
        "version: 1\nprivate_ca: {at}/pki\ndatabase:\n  path: {at}/network.db\n\
         ingress:\n  listen: {ingress}\n  names: [localhost, 127.0.0.1]\nhttp:\n  listen: {http}\n\
         tcp:\n  address: 127.0.0.1\n  ports: [1024-65535]\nlog:\n  level: warn\n"
    );
    fs::write(folder.join("network.yml"), text)
}

fn write_agent_config(
    folder: &Path,
    ingress: SocketAddr,
    token: &str,
    entrances: Services,
    services: Services,
) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut text = format!(
        "version: 1\nagent:\n  connect_url: 127.0.0.1:{}\n  connect_cas: {}/pki/ca.pem\n  authtoken: {token}\n  log_level: warn\nendpoints:\n",
        ingress.port(),
        folder.display()
    );
    let entry = |name: &str, url: &str, upstream: &str| {
        format!("  - name: {name}\n    url: {url}\n    upstream:\n      url: {upstream}\n")
    };
    for (name, public, service) in [
        ("bulk", entrances.bulk, services.bulk),
        ("http", entrances.http, services.http),
        ("echo", entrances.echo, services.echo),
    ] {
        text += &entry(name, &format!("tcp://:{}", public.port()), &format!("tcp://{service}"));
    }
    text += &entry("web", "http://web.bench.test", &format!("http://{}", services.http));
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(folder.join("agent.yml"))?;
    io::Write::write_all(&mut file, text.as_bytes())
}

fn network_program() -> Command {
    program("adit-network")
}

/// Names a program that was built beside this one.
fn program(name: &str) -> Command {
    let here = std::env::current_exe().unwrap_or_default();
    Command::new(here.with_file_name(name))
}
