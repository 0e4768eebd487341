//! HTTP to the CA's directory: one request a connection, TLS always, everything bounded.

use core::{cell::Cell, future::Future, pin::Pin, time::Duration};
use std::{path::Path, sync::Arc, time::SystemTime};

use adit_acme::{asked, tame};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::super::CertificateError;
use crate::bounded;

tokio::task_local! {
    /// For how long the CA asked the order of this task to wait.
    pub(super) static ASKED: Cell<Option<Duration>>;
}

/// Speaks to a directory.
#[derive(Clone)]
pub(super) struct Client {
    tls: TlsConnector,
}

impl Client {
    /// Returns a client that trusts the CAs of a file, else those of the host.
    ///
    /// # Errors
    /// When there are none: nothing else is trusted in their place (V30).
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, CertificateError> {
        let place = ca.unwrap_or_else(|| Path::new("the host's roots"));
        let invalid = |problem: String| CertificateError::Invalid { path: place.to_owned(), problem };
        let mut roots = RootCertStore::empty();
        match ca {
            Some(path) => {
                let contents = bounded::read(path, MAX_ROOTS).map_err(|error| invalid(error.to_string()))?;
                for certificate in CertificateDer::pem_slice_iter(&contents.octets) {
                    let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                    roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(invalid("no CA is in it".to_owned()));
        }
        let provider = CryptoProvider::get_default().ok_or(CertificateError::NoProvider)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(error.to_string()))?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let tls = self.tls.clone();
        Box::pin(async move {
            let answer = match timeout(PATIENCE, send(tls, request)).await {
                Ok(answer) => answer.map_err(Error::Other)?,
                Err(_) => return Err(Error::Other("the CA does not answer".into())),
            };
            let now = SystemTime::now();
            if let Some(asked) = asked(&answer, now) {
                let _ = ASKED.try_with(|cell| cell.set(Some(asked))); // outside of an order nobody asks
            }
            let answer = tame(answer, now).map_err(|problem| Error::Other(problem.into()))?;
            Ok(BytesResponse::from(answer.map(Full::new)))
        })
    }
}

type Failure = Box<dyn core::error::Error + Send + Sync>;

async fn send(tls: TlsConnector, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Bytes>, Failure> {
    let (mut parts, body) = request.into_parts();
    if parts.uri.scheme_str() != Some("https") {
        return Err("the CA names a URL that is not https".into());
    }
    let authority = parts.uri.authority().ok_or("a URL without a host")?.clone();
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let socket = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(443))).await?;
    let stream = tls.connect(ServerName::try_from(host)?, socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    parts.headers.insert(header::HOST, HeaderValue::from_str(authority.as_str())?);
    parts.uri = parts.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    let answer = sender.send_request(Request::from_parts(parts, body)).await?;
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(parts, body))
}

/// A request with its answer takes at most so long.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1 << 20;
/// Octets of a file of CAs.
const MAX_ROOTS: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use adit_acme::Blame;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{super::order::Failure, *};

    /// A CA that answers every request alike.
    async fn ca(answer: String) -> (Client, String) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("adit-acme-mock-{}-{}", std::process::id(), answer.len()));
        let issued = crate::certificates::PrivateCa::init(&folder, "Mock CA").unwrap().issue(&["localhost".to_owned()]);
        let client = Client::new(Some(&folder.join("ca.pem"))).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let issued = issued.unwrap();
        let pair = crate::certificates::certified_key(&issued.chain, &issued.key, Path::new("mock")).unwrap();
        let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(pair.certified));
        let config = rustls::ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut tls = acceptor.accept(socket).await.unwrap();
                let mut request = [0; 4_096];
                let _ = tls.read(&mut request).await.unwrap();
                tls.write_all(answer.as_bytes()).await.unwrap();
                let _ = tls.shutdown().await; // who had enough is gone
            }
        });
        (client, format!("https://localhost:{port}/dir"))
    }

    /// Returns what the CA of `answer` asks for, and whom an order is told to blame.
    async fn asked(answer: &str) -> (Option<u64>, Blame) {
        let (client, directory) = ca(answer.replace('\n', "\r\n")).await;
        let order = async {
            let error = instant_acme::Account::builder_with_http(Box::new(client))
                .from_credentials(serde_json::from_value(credentials(&directory)).unwrap())
                .await
                .map(drop)
                .unwrap_err();
            let asked = ASKED.with(Cell::get).map(|asked| asked.as_secs());
            (asked, Failure::of(error).blame)
        };
        ASKED.scope(Cell::new(None), order).await
    }

    fn credentials(directory: &str) -> serde_json::Value {
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        let key = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, key);
        serde_json::json!({ "id": "https://localhost/acct/1", "key_pkcs8": key, "directory": directory })
    }

    #[tokio::test]
    async fn a_limit_of_the_ca_is_honoured_whatever_its_answer_looks_like() {
        let limited =
            "{\"type\": \"urn:ietf:params:acme:error:rateLimited\", \"detail\": \"too many\", \"status\": 429}";
        let body = |status: &str, fields: &str, body: &str| {
            format!("HTTP/1.1 {status}\nContent-Length: {}\n{fields}\n{body}", body.len())
        };
        let html = "<html>429 Too Many Requests</html>";
        let far = "Fri, 31 Dec 9999 23:59:59 GMT";
        for (answer, asks, blame) in [
            (body("429 Too Many Requests", "Retry-After: 120\n", limited), Some(120), Blame::Limit(Some(120))),
            (body("429 Too Many Requests", "Retry-After: 7200\n", html), Some(7_200), Blame::Limit(Some(7_200))),
            (body("503 Slow Down", "Retry-After: 30\n", ""), Some(30), Blame::Limit(Some(30))),
            (body("429 Too Many Requests", "Retry-After: soon\n", html), Some(0), Blame::Limit(Some(0))),
            (body("429 Too Many Requests", "", limited), Some(0), Blame::Limit(Some(0))),
            (body("500 Oops", "Retry-After: 30\n", html), None, Blame::Way),
            (
                body("429 Too Many Requests", "Retry-After: 18446744073709551615\n", html),
                Some(u64::MAX),
                Blame::Limit(Some(u64::MAX)),
            ),
            ("HTTP/1.1 429 Too".to_owned(), None, Blame::Way),
            (format!("HTTP/1.1 429 X\nRetry-After: 5\n\n{}", "x".repeat(MAX_BODY + 1)), None, Blame::Way),
        ] {
            assert_eq!(asked(&answer).await, (asks, blame), "{:.120}", answer);
        }
        let (asks, _) = asked(&body("429 X", &format!("Retry-After: {far}\n"), html)).await;
        assert!(asks.is_some_and(|seconds| seconds > 1 << 30), "a date; the plan keeps a week of it");
    }

    #[test]
    fn roots_that_cannot_be_read_never_become_those_of_the_host() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let path = std::env::temp_dir().join(format!("adit-acme-roots-{}", std::process::id()));

        assert!(Client::new(Some(&path)).is_err(), "V30: missing");
        for text in ["", "not a certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(Client::new(Some(&path)).is_err(), "V30: {text:?}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
