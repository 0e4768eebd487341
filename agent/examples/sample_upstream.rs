//! A service to put behind an agent: `sample_upstream [--listen] 127.0.0.1:3000`.
//!
//! Prints `READY http://ADDRESS` once it listens. `/` shows the request as it arrives, `/echo` sends the body back while it
//! comes, `/sse` an event every 100 ms, `/bytes?n=` so many octets, `/slow?ms=` answers late.

use core::{convert::Infallible, time::Duration};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use futures_util::stream;
use tokio::{net::TcpListener, time::sleep};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().skip(1).find(|argument| argument != "--listen");
    let listener = TcpListener::bind(address.as_deref().unwrap_or("127.0.0.1:3000")).await?;
    println!("READY http://{}", listener.local_addr()?);
    let app = Router::new()
        .route("/", get(greet))
        .route("/echo", any(echo))
        .route("/sse", get(events))
        .route("/bytes", get(octets))
        .route("/slow", get(slow));
    axum::serve(listener, app).await
}

async fn greet(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let mut text =
        format!("Hello from behind the tunnel.\n\nThis is the request as it arrived here:\n\n{method} {uri}\n");
    for (name, value) in &headers {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("(not text)").escape_default()));
    }
    text.into_response()
}

async fn echo(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body());
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

async fn events() -> Response {
    let events = stream::unfold(0_u64, async |number| {
        if number > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = format!("id: {number}\ndata: {:.3}\n\n", now.as_secs_f64());
        Some((Ok::<_, Infallible>(event), number + 1))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(events)).into_response()
}

async fn octets(uri: Uri) -> Response {
    let Some(count) = number(&uri, "n") else {
        return (StatusCode::BAD_REQUEST, "say how many: /bytes?n=1000\n").into_response();
    };
    let chunk = Bytes::from(vec![b'.'; 64 << 10]);
    let chunks = stream::unfold(count, move |left| {
        let length = left.min(chunk.len() as u64);
        let part = chunk.slice(..usize::try_from(length).unwrap_or_default());
        async move { (length > 0).then(|| (Ok::<_, Infallible>(part), left - length)) }
    });
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, count.to_string())];
    (headers, Body::from_stream(chunks)).into_response()
}

async fn slow(uri: Uri) -> String {
    let late = Duration::from_millis(number(&uri, "ms").unwrap_or(1_000).min(600_000));
    sleep(late).await;
    format!("after {late:?}\n")
}

fn number(uri: &Uri, name: &str) -> Option<u64> {
    let pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok())
}
