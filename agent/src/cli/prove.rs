//! `adit prove`.

use core::time::Duration;
use std::sync::Arc;

use adit_core::{Open, TlsEnd};
use rustls::crypto::CryptoProvider;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, lookup_host},
    runtime::Builder,
    sync::Semaphore,
    time::timeout,
};

use super::{
    Failure,
    arguments::{Global, Output, Prove},
    configuration::{files, governed, load, overrides},
    policy, print,
};
use crate::{
    clock::utc,
    config::{EndpointConfig, values::host_port},
    errors::{Error, Exit, Fault},
    policy::{EndpointPattern, Guard, Protocol, Target},
    prove::{Key, Served, Unserved, served},
    route::Route,
    termination::Pair,
    upstream::{Socket, Upstream, header},
};

/// What was found out.
struct Finding {
    url: String,
    endpoint: EndpointConfig,
    address: String,
    served: Served,
    key: Key,
    /// Where the key that counts is, and what it is; nothing where none is held on this side.
    ours: Option<(String, Key)>,
}

/// Calls the endpoint, and says where TLS of callers ends.
pub(super) fn prove(global: &Global, asked: &Prove, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let watch = policy::open(global, provider)?;
    let config = governed(load(&files(global), &overrides(global))?, &watch)?;
    let (host, port) = callers(&asked.url)?;
    let endpoint = endpoint(&config.endpoints, asked, &host)?;
    let route = Route::new(&config.agent, provider)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let finding = runtime.block_on(find(asked, (&host, port), (endpoint, &route), &watch.guard(), provider))?;
    match asked.printed.output {
        Output::Text => print(&finding.text())?,
        Output::Json => print(&format!("{}\n", finding.json()))?,
    }
    if finding.is_proven() { Ok(Exit::Fine) } else { Ok(Fault::TlsNotOurs.entry().exit) }
}

/// Reads what callers call: a name, and a port.
fn callers(url: &str) -> Result<(String, u16), Failure> {
    let usage = |text: &str| Failure::usage(text);
    let (scheme, rest) = url.split_once("://").ok_or_else(|| usage("write a URL: https://NAME or tls://NAME"))?;
    if !["https", "tls"].contains(&scheme) {
        return Err(usage("TLS is only where a URL begins with https:// or tls://"));
    }
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = host_port(rest).ok_or_else(|| usage("the URL names no host"))?;
    Ok((host.to_ascii_lowercase(), port.unwrap_or(443)))
}

/// Returns the endpoint of the configuration that the URL is of: by its name, its own URL, or one that covers it.
fn endpoint(known: &[EndpointConfig], asked: &Prove, host: &str) -> Result<EndpointConfig, Failure> {
    let scheme = asked.url.split("://").next().unwrap_or_default();
    let url = format!("{scheme}://{host}");
    let covers =
        |endpoint: &&EndpointConfig| EndpointPattern::parse(&endpoint.url).is_some_and(|pattern| pattern.covers(&url));
    let found = match &asked.endpoint {
        Some(name) => known.iter().find(|endpoint| endpoint.name == *name),
        None => {
            known.iter().find(|endpoint| endpoint.url.eq_ignore_ascii_case(&url)).or_else(|| known.iter().find(covers))
        }
    };
    found.cloned().ok_or_else(|| {
        let detail = asked
            .endpoint
            .clone()
            .unwrap_or_else(|| format!("no endpoint of the configuration is {url}: --endpoint NAME"));
        Error::new(Fault::EndpointUnknown, detail).into()
    })
}

async fn find(
    asked: &Prove,
    (host, port): (&str, u16),
    (endpoint, route): (EndpointConfig, &Route),
    guard: &Arc<Guard>,
    provider: &Arc<CryptoProvider>,
) -> Result<Finding, Failure> {
    let ours = ours(&endpoint, host, guard, provider).await?;
    let (there, at) = match &asked.connect_to {
        Some(text) => match host_port(text) {
            Some((host, Some(port))) => (host, port),
            Some((_, None)) | None => return Err(Failure::usage("--connect-to: write HOST:PORT")),
        },
        None => (host.to_owned(), port),
    };
    let unserved = |unserved: Unserved| {
        let fault = match unserved {
            Unserved::NotTls(_) => Fault::EndpointNotTls,
            Unserved::Failed(_) => Fault::EndpointUnreachable,
        };
        Error::new(fault, format!("{there}:{at}: {}", unserved.into_text()))
    };
    let (address, served) = match route.proxy(&there, at) {
        Some(_) => {
            let io = route.call(&there, at).await?;
            let address = route.shown(&format!("{there}:{at}"), &there, at);
            (address, served(io, host, asked.callers_ca.as_deref(), provider).await)
        }
        None => {
            let io = dialed(&there, at).await?;
            let address = io.peer_addr().map(|address| address.to_string()).unwrap_or_default();
            (address, served(io, host, asked.callers_ca.as_deref(), provider).await)
        }
    };
    let served = served.map_err(unserved)?;
    let key = Key::of(&served.certificate, provider)
        .ok_or_else(|| unserved(Unserved::Failed("what it serves is no certificate".to_owned())))?;
    Ok(Finding { url: asked.url.clone(), endpoint, address, served, key, ours })
}

/// Connects as programs of this machine do: by its own resolver.
async fn dialed(host: &str, port: u16) -> Result<TcpStream, Error> {
    let place = format!("{host}:{port}");
    let unreachable = |detail: String| Error::new(Fault::EndpointUnreachable, format!("{place}: {detail}"));
    let late = |_| unreachable(format!("no connection within {PATIENCE:?}"));
    let unknown = |detail: String| Error::new(Fault::EndpointNameUnknown, format!("{host}: {detail}"));
    let found = timeout(PATIENCE, lookup_host((host, port))).await.map_err(late)?;
    let addresses: Vec<_> = found.map_err(|error| unknown(error.to_string()))?.collect();
    if addresses.is_empty() {
        return Err(unknown("it has no address".to_owned()));
    }
    let connected = timeout(PATIENCE, TcpStream::connect(addresses.as_slice())).await.map_err(late)?;
    connected.map_err(|error| unreachable(error.to_string()))
}

/// Returns the key that is held on this side: by the agent, or by the upstream, which is asked for it.
async fn ours(
    endpoint: &EndpointConfig,
    host: &str,
    guard: &Arc<Guard>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<(String, Key)>, Failure> {
    match (endpoint.tls_end(), &endpoint.termination) {
        (TlsEnd::Agent, Some(termination)) => {
            let pair = Pair::load(&termination.certificate, &termination.key, provider)?;
            let certificate = pair.certified.cert.first().map(|certificate| certificate.as_ref());
            let key = certificate.and_then(|certificate| Key::of(certificate, provider));
            Ok(key.map(|key| (termination.certificate.display().to_string(), key)))
        }
        (TlsEnd::Upstream, _) => {
            let upstream = Upstream::new(endpoint, provider)?;
            let target = Target {
                endpoint: endpoint.url.clone(),
                upstream: endpoint.upstream.address.clone(),
                protocol: Protocol::of(endpoint),
            };
            let ticket = guard.admit(Arc::new(target));
            let ticket = ticket.map_err(|refusal| Error::new(Fault::PolicyRefused, refusal.to_string()))?;
            let failed =
                |error: String| Error::new(Fault::UpstreamTls, format!("{}: {error}", endpoint.upstream.address));
            let mut socket = upstream.connect(&Semaphore::new(1), &ticket).await.map_err(|failure| failure.error)?;
            let first = endpoint.upstream.proxy_protocol.map(|version| header(version, &Open::default(), None));
            let served = match &mut socket {
                Socket::Tcp(io) => {
                    io.write_all(&first.unwrap_or_default()).await?;
                    served(io, host, None, provider).await
                }
                #[cfg(unix)]
                Socket::Unix(io) => {
                    io.write_all(&first.unwrap_or_default()).await?;
                    served(io, host, None, provider).await
                }
                Socket::Tls(_) => {
                    Err(Unserved::Failed("TLS in TLS: what the caller's ends in is not known".to_owned()))
                }
            };
            let key = Key::of(&served.map_err(|unserved| failed(unserved.into_text()))?.certificate, provider);
            Ok(key.map(|key| (format!("the upstream {}", endpoint.upstream.address), key)))
        }
        (TlsEnd::Agent | TlsEnd::Network | TlsEnd::Unsaid, _) => Ok(None),
    }
}

impl Finding {
    fn is_proven(&self) -> bool {
        self.ours.as_ref().is_some_and(|(_, key)| *key == self.key)
    }

    fn verdict(&self) -> String {
        match (&self.ours, self.endpoint.tls_end()) {
            (Some(_), TlsEnd::Agent) if self.is_proven() => "TLS of callers ends at this agent".to_owned(),
            (Some(_), _) if self.is_proven() => "TLS of callers ends at the upstream".to_owned(),
            (Some(_), _) => format!(
                "{}: another certificate is served, whose key is not held here. Whoever holds it reads what callers send",
                Fault::TlsNotOurs
            ),
            (None, _) => format!(
                "{}: by this agent's own configuration it ends at the network, and the vendor reads what callers send",
                Fault::TlsNotOurs
            ),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.url, self.verdict());
        text.push_str(&format!("  asked      {}\n", self.address));
        if let Some(told) = self.served.describe() {
            text.push_str(&format!(
                "  served     {}, issued by {}, until {}\n",
                told.subject,
                told.issuer,
                utc(told.not_after)
            ));
        }
        text.push_str(&format!("  its key    sha256 {}\n", self.key.0));
        if let Some((place, key)) = &self.ours {
            text.push_str(&format!("  key here   sha256 {} ({place})\n", key.0));
        }
        text.push_str(&match &self.served.distrust {
            None => "  callers    trust the certificate\n".to_owned(),
            Some(why) => {
                format!("  callers    with the roots that were looked at do not trust the certificate: {why}\n")
            }
        });
        for limit in LIMITS {
            text.push_str(&format!("  not shown  {limit}\n"));
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let told = self.served.describe();
        let told = told.as_ref();
        serde_json::json!({
            "url": self.url, "endpoint": self.endpoint.name, "tls_end": self.endpoint.tls_end().word(),
            "proven": self.is_proven(), "verdict": self.verdict(), "address": self.address,
            "served": {
                "key_sha256": self.key.0, "subject": told.map(|told| &told.subject), "issuer": told.map(|told| &told.issuer),
                "names": told.map(|told| &told.names), "not_after": told.map(|told| told.not_after),
            },
            "ours": self.ours.as_ref().map(|(place, key)| serde_json::json!({ "from": place, "key_sha256": key.0 })),
            "trusted": self.served.distrust.is_none(), "distrust": self.served.distrust, "limits": LIMITS,
        })
    }
}

/// What no probe shows.
const LIMITS: [&str; 2] = [
    "that nobody else holds the same key: a copy of it answers just so",
    "that other callers meet the same: who forwards this probe may end the TLS of others. Ask from other places and compare the key",
];
/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);
