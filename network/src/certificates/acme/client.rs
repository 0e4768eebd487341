//! HTTP to the CA's directory: one request a connection, TLS always, everything bounded.

use core::{cell::Cell, future::Future, pin::Pin, time::Duration};
use std::{
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
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
                let certificates = CertificateDer::pem_file_iter(path).map_err(|error| invalid(error.to_string()))?;
                for certificate in certificates {
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
            if matches!(answer.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
                && let Some(asked) = answer.headers().get(header::RETRY_AFTER).and_then(retry_after)
            {
                let _ = ASKED.try_with(|cell| cell.set(Some(asked))); // outside of an order nobody asks
            }
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

/// Reads seconds or a date (RFC 9110 §10.2.3).
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// A request with its answer takes at most so long.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_until_a_date() {
        let read = |text: &'static str| retry_after(&HeaderValue::from_static(text));

        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert!(read("Fri, 31 Dec 9999 23:59:59 GMT").is_some_and(|wait| wait > Duration::from_secs(1 << 30)));
        assert_eq!(read("soon"), None);
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
