//! Gives the revocation list of the private CA to whoever asks, in plain HTTP on an address of its own: it is signed, and public.

use core::{convert::Infallible, time::Duration};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::certificates::{Certificates, unix_now};

/// What a revocation list is (RFC 2585 §4.2).
pub const PKIX_CRL: &str = "application/pkix-crl";

/// Serves the list until it is dropped.
pub async fn serve(listener: TcpListener, certificates: Arc<Certificates>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let certificates = Arc::clone(&certificates);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.method(), request.uri().path(), &certificates);
                core::future::ready(Ok::<_, Infallible>(answer))
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(false).max_buf_size(HEAD);
            // A caller that goes away is nobody to tell.
            let _ = tokio::time::timeout(CONNECTION, builder.serve_connection(TokioIo::new(socket), service)).await;
            drop(place);
        });
    }
}

fn answer(method: &Method, path: &str, certificates: &Certificates) -> Response<Full<Bytes>> {
    let text = |status, text: &'static str| {
        let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *answer.status_mut() = status;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        answer
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    if path != certificates.list_path() {
        return text(StatusCode::NOT_FOUND, "there is one revocation list here, and this is not its path\n");
    }
    let Some((list, next)) = certificates.list() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the revocation list is not there\n");
    };
    let mut answer = Response::new(Full::new(list));
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(PKIX_CRL));
    // A cache on the way must not keep what was revoked from whoever asks.
    let age = (next.saturating_sub(unix_now()) / 2).min(MAX_AGE);
    if let Ok(value) = HeaderValue::from_str(&format!("public, max-age={age}")) {
        fields.insert(CACHE_CONTROL, value);
    }
    answer
}

/// Connections at a time.
const CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is over after so long, whatever it does.
const CONNECTION: Duration = Duration::from_secs(30);
const HEAD: usize = 8 << 10;
const PAUSE: Duration = Duration::from_millis(100);
/// Seconds for which a cache may keep the list.
const MAX_AGE: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        certificates::{Loaded, PrivateCa, Register},
        config::Config,
    };

    #[test]
    fn the_list_is_given_to_whoever_asks_for_it_and_nothing_else() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("adit-crl-endpoint-{}", std::process::id()));
        PrivateCa::init(&folder.join("ca"), "Test CA").unwrap();
        let text = "version: 1\nprivate_ca: ca\ningress: {listen: '127.0.0.1:1'}\nhttp: {listen: '127.0.0.1:2'}\n";
        let text = format!("{text}crl: {{listen: '127.0.0.1:3', url: 'http://crl.example/of/ca.crl'}}\n");
        let config = Config::parse(&text, &folder, Default::default()).unwrap();
        let certificates = Certificates::new(Loaded::read(&config).unwrap());
        let ask = |method: &Method, path: &str| {
            let answer = answer(method, path, &certificates);
            let kind = answer.headers().get(CONTENT_TYPE).unwrap().to_str().unwrap().to_owned();
            (answer.status().as_u16(), kind)
        };

        assert_eq!(ask(&Method::GET, "/of/ca.crl").0, 503, "there is none yet");
        Register::list(&folder.join("ca"), Duration::from_secs(3_600)).unwrap();
        assert!(certificates.refresh_lists().unwrap().is_ok());
        assert_eq!(ask(&Method::GET, "/of/ca.crl"), (200, PKIX_CRL.to_owned()));
        assert_eq!(ask(&Method::HEAD, "/of/ca.crl").0, 200);
        for path in ["/", "/ca.crl", "/of/ca.crl/", "/../ca.key"] {
            assert_eq!(ask(&Method::GET, path).0, 404, "{path}");
        }
        assert_eq!(ask(&Method::POST, "/of/ca.crl").0, 405);
        let name = |text: &str| crate::EndpointName::parse(text).unwrap();
        assert!(certificates.published(&name("crl.example"), "/of/ca.crl").is_some(), "at the public listener too");
        assert!(certificates.published(&name("crl.example"), "/").is_none());
        assert!(certificates.published(&name("other.example"), "/of/ca.crl").is_none());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
