//! Two HAProxy joined by TLS 1.3: the simplest encrypted relay.

use core::{fmt::Write as _, net::SocketAddr, time::Duration};
use std::{
    fs, io,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{Daemon, output, wait_for},
    services::Services,
};

/// The entrance beside the callers and the exit beside the services.
#[derive(Debug)]
pub(crate) struct Haproxy {
    entrances: Services,
    entrance: Daemon,
    exit: Daemon,
}

impl Haproxy {
    /// Makes a certificate and starts both with one pair of ports a service.
    pub(crate) fn start(services: Services) -> io::Result<Self> {
        let folder = folder("bench-haproxy")?;
        make_certificate(&folder)?;
        let middle = free_services()?;
        let entrances = free_services()?;
        let pairs = |from: Services, to: Services| {
            [("bulk", from.bulk, to.bulk), ("http", from.http, to.http), ("echo", from.echo, to.echo)]
        };
        let entrance = start(
            &folder,
            "entrance",
            &pairs(entrances, middle),
            "",
            &format!(" ssl verify required ca-file {0}/ca.pem sni str(localhost)", folder.display()),
        )?;
        let exit = start(
            &folder,
            "exit",
            &pairs(middle, services),
            &format!(" ssl crt {0}/both.pem ssl-min-ver TLSv1.3", folder.display()),
            "",
        )?;
        for address in [entrances.bulk, entrances.http, entrances.echo, middle.bulk, middle.http, middle.echo] {
            wait_for("haproxy listens", Duration::from_secs(5), || Ok(TcpStream::connect(address).ok()))?;
        }
        Ok(Self { entrances, entrance, exit })
    }

    /// Returns where the services are reached.
    pub(crate) const fn entrances(&self) -> Services {
        self.entrances
    }

    /// Returns both processes.
    pub(crate) fn daemons(&self) -> Vec<&Daemon> {
        vec![&self.entrance, &self.exit]
    }
}

fn start(
    folder: &Path,
    name: &str,
    pairs: &[(&str, SocketAddr, SocketAddr)],
    bind: &str,
    server: &str,
) -> io::Result<Daemon> {
    let mut text = String::from(
        "global\n  maxconn 9500\n  ssl-default-server-options ssl-min-ver TLSv1.3\n\
         defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n  maxconn 9500\n  backlog 4096\n",
    );
    for (service, from, to) in pairs {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "frontend {service}\n  bind {from}{bind}\n  default_backend {service}\nbackend {service}\n  server one {to}{server}"
        );
    }
    let file = folder.join(format!("{name}.cfg"));
    fs::write(&file, text)?;
    Daemon::start(Command::new("haproxy").arg("-db").arg("-f").arg(&file), &folder.join(format!("{name}.log")))
}

fn make_certificate(folder: &Path) -> io::Result<()> {
    let (key, certificate) = (folder.join("key.pem"), folder.join("ca.pem"));
    output(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    )?;
    let both = fs::read_to_string(&certificate)? + &fs::read_to_string(&key)?;
    fs::write(folder.join("both.pem"), both)
}

/// Makes an empty folder under `target/`.
pub(crate) fn folder(name: &str) -> io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).unwrap_or_else(|| Path::new("."));
    let folder = target.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Finds an address on loopback that was free a moment ago.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Finds an address for each service.
pub(crate) fn free_services() -> io::Result<Services> {
    Ok(Services { bulk: free_address()?, http: free_address()?, echo: free_address()? })
}
