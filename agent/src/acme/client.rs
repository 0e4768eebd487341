//! HTTP to an authority's directory: one request a connection, TLS always, by the agent's own way out, everything bounded.

use core::{future::Future, net::IpAddr, pin::Pin, time::Duration};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use adit_acme::{asked, tame};
use adit_tokio::{connect, resolve};
use bytes::Bytes;
use http::{Method, Request, Response, header, request::Parts};
use http_body_util::{BodyExt as _, Collected};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{ClientConfig, crypto::CryptoProvider, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    Desk,
    http::{MAX_ANSWER, answer},
};
use crate::{
    config::{AcmeConfig, UpstreamTrust, is_forbidden, place},
    errors::{Error, Fault, clip},
    trust::upstream_tls,
};
use adit_core::escape;

/// Speaks to one directory, for one order.
#[derive(Clone)]
pub(super) struct Client {
    desk: Arc<Desk>,
    tls: Arc<ClientConfig>,
    told: Arc<Mutex<Told>>,
}

/// What was told beside the answers.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// For how long the authority wants to be left alone.
    pub(super) asked: Option<Duration>,
    /// Why it was not asked, or did not answer.
    pub(super) failed: Option<Error>,
}

impl Client {
    /// Returns a client that trusts the authorities of a file, else those of this machine.
    ///
    /// # Errors
    /// [`Fault::RootsUnusable`]: nothing else is trusted in their place (V30).
    pub(super) fn new(config: &AcmeConfig, desk: &Arc<Desk>) -> Result<Self, Error> {
        Ok(Self { desk: Arc::clone(desk), tls: trusted(config, &desk.provider)?, told: Arc::default() })
    }

    /// Takes what was told.
    pub(super) fn told(&self) -> Told {
        core::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for what is at a URL.
    ///
    /// # Errors
    /// [`Fault::PolicyRefused`], [`Fault::DirectoryUnreachable`].
    pub(super) async fn get(&self, url: &str) -> Result<Response<Bytes>, Error> {
        let request = Request::builder().uri(url).body(()).map_err(|error| unreachable(url, &error.to_string()))?;
        let (parts, ()) = request.into_parts();
        self.ask(&parts, &Bytes::new()).await
    }

    async fn ask(&self, parts: &Parts, body: &Bytes) -> Result<Response<Bytes>, Error> {
        let url = parts.uri.to_string();
        let (host, port) = place(&url).ok_or_else(|| unreachable(&url, "it is not a URL over https"))?;
        let refused = |refusal: crate::policy::Refusal| Error::new(Fault::PolicyRefused, refusal.to_string());
        self.desk.guard.orders(&host, port).map_err(refused)?;
        let exchanged = timeout(PATIENCE, self.exchange(parts, body, (&host, port))).await;
        let answer = exchanged.unwrap_or_else(|_| Err("there is no answer in time".to_owned()));
        answer.map_err(|problem| unreachable(&self.desk.route.shown(&url, &host, port), &problem))
    }

    async fn exchange(&self, parts: &Parts, body: &Bytes, at: (&str, u16)) -> Result<Response<Bytes>, String> {
        let name = ServerName::try_from(at.0.to_owned()).map_err(|error| error.to_string())?;
        let socket = self.reach(at).await?;
        let secured = TlsConnector::from(Arc::clone(&self.tls)).connect(name, socket).await;
        let mut stream = secured.map_err(|error| error.to_string())?;
        let request = head(parts, at, body.len());
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        stream.write_all(body).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
        let (mut octets, mut piece) = (Vec::new(), vec![0; 16 << 10]);
        loop {
            let count = stream.read(&mut piece).await.map_err(|error| error.to_string())?;
            octets.extend_from_slice(piece.get(..count).unwrap_or_default());
            if let Some(answer) = answer(&octets, parts.method == Method::HEAD, count == 0)? {
                return Ok(answer);
            }
            if octets.len() > MAX_ANSWER {
                return Err("the answer is too long".to_owned());
            }
        }
    }

    /// Connects: through the proxy where there is one for it, else to an address that may be dialed.
    async fn reach(&self, (host, port): (&str, u16)) -> Result<Box<dyn Io>, String> {
        let route = &self.desk.route;
        if route.proxy(host, port).is_some() {
            return Ok(Box::new(route.reach(host, port).await?));
        }
        let found = resolve(host, &route.connect).await.map_err(|error| error.to_string())?;
        let mut last = format!("{host} has no address that is ever dialed");
        for address in found.iter().filter(|address| !is_forbidden(**address)).take(MAX_ADDRESSES) {
            match connect(&IpAddr::to_string(address), port, &route.connect).await {
                Ok(socket) => return Ok(Box::new(socket)),
                Err(error) => last = route.told(&error),
            }
        }
        Err(last)
    }

    /// Takes what is told beside an answer, and gives the answer for what it is.
    fn heard(&self, answer: Response<Bytes>, to: &Parts) -> Result<Response<Bytes>, Error> {
        let now = SystemTime::now();
        if let Some(asked) = asked(&answer, now) {
            self.told.lock().unwrap_or_else(PoisonError::into_inner).asked = Some(asked);
        }
        tame(answer, now).map_err(|problem| unreachable(&to.uri.to_string(), &problem))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default(); // it is in memory
            let answer = this.ask(&parts, &body).await.and_then(|answer| this.heard(answer, &parts));
            match answer {
                Ok(answer) => {
                    let (parts, body) = answer.into_parts();
                    Ok(BytesResponse { parts, body: Box::new(body) })
                }
                Err(error) => {
                    this.told.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(error.clone());
                    Err(instant_acme::Error::Other(Box::new(error)))
                }
            }
        })
    }
}

/// Returns what a directory is spoken to with.
///
/// # Errors
/// [`Fault::RootsUnusable`].
pub(super) fn trusted(config: &AcmeConfig, provider: &Arc<CryptoProvider>) -> Result<Arc<ClientConfig>, Error> {
    let trust = config.ca.clone().map_or(UpstreamTrust::Host, UpstreamTrust::File);
    upstream_tls(&trust, Some(b"http/1.1"), provider)
}

/// A connection.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Writes the head of a request.
fn head(parts: &Parts, (host, port): (&str, u16), length: usize) -> String {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let mut text = format!(
        "{} {path} HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: adit/{}\r\nAccept: */*\r\nConnection: close\r\n",
        parts.method,
        env!("CARGO_PKG_VERSION")
    );
    if let Some(kind) = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) {
        text.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    if parts.method == Method::POST {
        text.push_str(&format!("Content-Length: {length}\r\n"));
    }
    text.push_str("\r\n");
    text
}

fn unreachable(url: &str, problem: &str) -> Error {
    Error::new(Fault::DirectoryUnreachable, clip(&escape(&format!("{url}: {problem}")).to_string()))
}

/// A request with its answer takes at most so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many addresses of a name are tried.
const MAX_ADDRESSES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_host_and_says_how_long_it_is() {
        let request =
            |method: &str, url: &str| Request::builder().method(method).uri(url).body(()).unwrap().into_parts().0;

        let text = head(&request("POST", "https://ca.example:14000/order?x=1"), ("ca.example", 14_000), 7);
        assert!(text.starts_with("POST /order?x=1 HTTP/1.1\r\nHost: ca.example:14000\r\n"), "{text}");
        assert!(text.contains("\r\nConnection: close\r\n") && text.ends_with("Content-Length: 7\r\n\r\n"), "{text}");
        let text = head(&request("HEAD", "https://[::1]/"), ("::1", 443), 0);
        assert!(text.contains("Host: [::1]\r\n") && !text.contains("Content-Length"), "{text}");
    }
}
