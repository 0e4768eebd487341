//! A shim for `adit-conformance` around `adit-tokio` or, with `--smol`, `adit-smol`: either side, with the application of the scenarios.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, Write},
    process,
    sync::Arc,
    thread,
};

use adit_core::{Config, tls::ALPN};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

mod over_smol;
mod over_tokio;

type Outcome<T> = Result<T, Box<dyn core::error::Error + Send + Sync>>;
/// What the application is asked to do.
type Acts = UnboundedReceiver<Value>;
/// Takes what the shim says.
type Say = Arc<dyn Fn(Value) + Send + Sync>;

fn main() -> Outcome<()> {
    let say: Say = Arc::new(|word| {
        let _ = writeln!(io::stdout(), "{word}"); // nobody listens any more
    });
    let is_agent = env::var("ADIT_ROLE")? == "agent";
    let base = if is_agent { Config::agent() } else { Config::network() };
    let config = match configured(base, &env::var("ADIT_LIMITS")?) {
        Ok(config) => config,
        Err(limit) => {
            say(json!({ "not_implemented": format!("the limit {limit}") }));
            return Ok(());
        }
    };
    let (ask, acts) = unbounded_channel();
    thread::spawn(move || listen(&ask));
    if env::args().any(|argument| argument == "--smol") {
        over_smol::run(over_smol::side::serve(is_agent, config, acts, say))
    } else {
        over_tokio::run(over_tokio::side::serve(is_agent, config, acts, say))
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
            "frame" => config.frame = value,
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
    let mut config = adit_core::tls::client_config(roots, Arc::new(aws_lc_rs::default_provider()))?;
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
