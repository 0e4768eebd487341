//! Gets a file over HTTPS, by the way that sessions take, whole and within a bound, or not at all.
//!
//! What comes is believed by its signature alone; TLS keeps others from seeing what is fetched and from offering old copies.

use core::time::Duration;
use std::sync::Arc;

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    config::ReleaseUrl,
    errors::{Error, Fault, clip},
    route::Route,
};

/// Gets `url` and at most `most` octets, over at most three redirections to other `https://` places.
///
/// # Errors
/// [`Fault::UpdateUnreachable`].
pub(super) async fn get(route: &Route, tls: &Arc<ClientConfig>, url: &str, most: u64) -> Result<Vec<u8>, Error> {
    // A redirection may lead to where another way leads.
    let unreachable = |url: &str, problem: &str| {
        let url = url.escape_debug().to_string();
        let shown =
            ReleaseUrl::parse(&url).map_or_else(|| url.clone(), |place| route.shown(&url, &place.host, place.port));
        Error::new(Fault::UpdateUnreachable, clip(&format!("{shown}: {problem}")))
    };
    let getting = async {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTIONS {
            match one(route, tls, &url, most).await.map_err(|problem| unreachable(&url, &problem))? {
                Answer::Body(body) => return Ok(body),
                Answer::Elsewhere(place) => url = place,
            }
        }
        Err(unreachable(&url, "it is somewhere else again and again"))
    };
    timeout(WHOLE, getting).await.unwrap_or_else(|_| Err(unreachable(url, "it takes too long")))
}

enum Answer {
    Body(Vec<u8>),
    Elsewhere(String),
}

async fn one(route: &Route, tls: &Arc<ClientConfig>, url: &str, most: u64) -> Result<Answer, String> {
    let ReleaseUrl { authority, host, port, path } =
        ReleaseUrl::parse(url).ok_or("not a place such as https://releases.example.com/adit")?;
    let connected = route.reach(&host, port).await?;
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let shaking = TlsConnector::from(Arc::clone(tls)).connect(name, connected);
    let mut stream =
        timeout(CONNECT, shaking).await.map_err(|_| "no TLS in time")?.map_err(|error| error.to_string())?;
    // Version 1.0, so that nothing is sent in pieces.
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {authority}\r\nUser-Agent: adit/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    timeout(CONNECT, stream.write_all(request.as_bytes()))
        .await
        .map_err(|_| "it takes nothing")?
        .map_err(|error| error.to_string())?;
    answer(&mut stream, most).await
}

/// Reads an answer to its end.
async fn answer(stream: &mut (impl AsyncRead + Unpin), most: u64) -> Result<Answer, String> {
    let mut octets = Vec::new();
    let head = loop {
        if let Some(at) = octets.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if octets.len() > MAX_HEAD {
            return Err("the head of the answer is too long".to_owned());
        }
        if !more(stream, &mut octets).await? {
            return Err("no answer in HTTP".to_owned());
        }
    };
    let mut body = octets.split_off(head + 4);
    let head = core::str::from_utf8(octets.get(..head).unwrap_or_default()).map_err(|_| "no answer in HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse::<u16>().ok());
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
    let header =
        |name: &str| headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    match status {
        Some(200) => {}
        Some(301 | 302 | 303 | 307 | 308) => {
            let place = header("location").filter(|place| place.starts_with("https://"));
            return Ok(Answer::Elsewhere(place.ok_or("it leads to a place that is not https://")?.to_owned()));
        }
        Some(status) => return Err(format!("status {status}")),
        None => return Err("no answer in HTTP".to_owned()),
    }
    if header("transfer-encoding").is_some() || header("content-encoding").is_some_and(|coding| coding != "identity") {
        return Err("it is sent in an encoding that was not asked for".to_owned());
    }
    let length: u64 =
        header("content-length").and_then(|length| length.parse().ok()).ok_or("its length is not told")?;
    if length > most {
        return Err(format!("{length} octets, which is more than {most}"));
    }
    while (body.len() as u64) < length {
        if !more(stream, &mut body).await? {
            return Err(format!("it ended after {} of {length} octets", body.len()));
        }
    }
    body.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(Answer::Body(body))
}

/// Reads what comes next; false at the end.
async fn more(stream: &mut (impl AsyncRead + Unpin), octets: &mut Vec<u8>) -> Result<bool, String> {
    let mut piece = vec![0; 16 << 10];
    let read = timeout(SILENCE, stream.read(&mut piece)).await.map_err(|_| "nothing came any more")?;
    let read = read.map_err(|error| error.to_string())?;
    octets.extend_from_slice(piece.get(..read).unwrap_or_default());
    Ok(read > 0)
}

const REDIRECTIONS: usize = 3;
const MAX_HEAD: usize = 16 << 10;
const CONNECT: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(30);
const WHOLE: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    fn told(answer: &[u8], most: u64) -> Result<Vec<u8>, String> {
        let mut octets = answer;
        match runtime().block_on(super::answer(&mut octets, most))? {
            Answer::Body(body) => Ok(body),
            Answer::Elsewhere(place) => Err(format!("elsewhere: {place}")),
        }
    }

    #[test]
    fn an_answer_is_taken_whole_or_not_at_all() {
        let fine = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(told(fine, 5), Ok(b"hello".to_vec()));
        assert_eq!(told(b"HTTP/1.0 200 OK\r\ncontent-length:5\r\n\r\nhello and more", 5), Ok(b"hello".to_vec()));
        for (answer, most, expected) in [
            (&fine[..], 4, "5 octets, which is more than 4"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", 9, "it ended after 5 of 6"),
            (b"HTTP/1.1 200 OK\r\n\r\nhello", 9, "length is not told"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", 9, "encoding"),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", 9, "status 404"),
            (b"HTTP/1.1 302 Found\r\nLocation: http://a/\r\n\r\n", 9, "not https://"),
            (b"HTTP/1.1 302 Found\r\nLocation: https://a/\r\n\r\n", 9, "elsewhere: https://a/"),
            (b"SSH-2.0-x\r\n\r\n", 9, "no answer in HTTP"),
            (b"HTTP/1.1 200", 9, "no answer in HTTP"),
            (b"", 9, "no answer in HTTP"),
        ] {
            let problem = told(answer, most).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        assert!(told(&[b'x'; 40_000], 9).unwrap_err().contains("too long"));
    }
}
