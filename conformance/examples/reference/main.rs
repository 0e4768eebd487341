//! A shim for `adit-conformance` around `adit-tokio`: either side, with the application of the scenarios.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, Write},
    process,
    sync::Arc,
    thread,
};

use adit_core::{Config, tls::ALPN};
use adit_tokio::{AgentSession, Io, accept, connect_over};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedSender, unbounded_channel},
};

mod app;

use app::{Desk, Say};

type Outcome<T> = Result<T, Box<dyn core::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let say: Say = Arc::new(|word| {
        let _ = writeln!(io::stdout(), "{word}"); // nobody listens any more
    });
    let (ask, acts) = unbounded_channel();
    let agent = env::var("ADIT_ROLE")? == "agent";
    let base = if agent { Config::agent() } else { Config::network() };
    let config = match configured(base, &env::var("ADIT_LIMITS")?) {
        Ok(config) => config,
        Err(limit) => {
            say(json!({ "not_implemented": format!("the limit {limit}") }));
            return Ok(());
        }
    };
    thread::spawn(move || listen(&ask));
    let desk = Desk::new(acts, Arc::clone(&say));
    if agent { run_agent(config, desk).await } else { run_network(config, desk, &say).await }
}

async fn run_network(config: Config, desk: Desk, say: &Say) -> Outcome<()> {
    let listener = TcpListener::bind(env::var("ADIT_ADDRESS")?).await?;
    let tls = server_tls()?;
    say(json!({ "ready": { "address": listener.local_addr()?.to_string() } }));
    let (tell, mut agents) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, config, tell) = (Arc::clone(&tls), config.clone(), tell.clone());
            tokio::spawn(async move {
                if let Ok(incoming) = accept(socket, tls, config, 1).await {
                    let _ = tell.send(incoming); // the application ends last
                }
            });
        }
    });
    if let Some(first) = agents.recv().await {
        app::network(first, agents, desk).await;
    }
    Ok(())
}

async fn run_agent(config: Config, mut desk: Desk) -> Outcome<()> {
    let tls = client_tls()?;
    let name = ServerName::try_from(env::var("ADIT_SERVER_NAME")?)?;
    let address = env::var("ADIT_ADDRESS")?;
    let hello = app::hello(&env::var("ADIT_TOKEN")?, &config);
    loop {
        let socket = TcpStream::connect(&address).await?;
        let tls = (Arc::clone(&tls), name.clone());
        if let Ok((session, mut events, _)) = connect_over(socket, tls.clone(), config.clone(), hello.clone(), 1).await
        {
            tokio::spawn(resume(session.clone(), address.clone(), tls, config.clone(), hello.clone()));
            app::agent(&session, &mut events, &mut desk).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // as a patient agent would
    }
}

/// Dials again whenever the session waits for a link.
async fn resume(
    session: AgentSession,
    address: String,
    tls: (Arc<ClientConfig>, ServerName<'static>),
    config: Config,
    hello: adit_core::Hello,
) {
    while session.cause().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if session.is_parked()
            && let Ok(socket) = TcpStream::connect(&address).await
        {
            // Without success the session still waits, and is tried again.
            let _ = session.resume_over(Io(socket), tls.clone(), config.clone(), hello.clone(), 2).await;
        }
    }
}

/// Reads acts until there are no more; then the program ends.
fn listen(ask: &UnboundedSender<Value>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let word: Value = serde_json::from_str(&line).unwrap_or_default();
        if ask.send(word.get("act").cloned().unwrap_or_default()).is_err() {
            break;
        }
    }
    process::exit(0);
}

fn configured(mut config: Config, limits: &str) -> Result<Config, String> {
    let limits: BTreeMap<String, u32> = serde_json::from_str(limits).map_err(|error| error.to_string())?;
    for (name, value) in limits {
        match name.as_str() {
            "streams" => config.streams = value,
            "window" => (config.window, config.window_eager) = (value, value),
            "oddities" => config.oddities = value,
            "unanswered" => config.unanswered = value,
            "binds" => config.binds = value,
            "retain_frames" => config.retain_frames = value,
            _ => return Err(name),
        }
    }
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

fn client_tls() -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(env::var("ADIT_CA")?)?)?;
    let mut config = adit_tokio::client_config(roots, Arc::new(aws_lc_rs::default_provider()))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

fn server_tls() -> Outcome<Arc<ServerConfig>> {
    let certificate = fs::read(env::var("ADIT_CERTIFICATE")?)?;
    let key = PrivateKeyDer::from_pem_file(env::var("ADIT_KEY")?)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from_pem_slice(&certificate)?], key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}
