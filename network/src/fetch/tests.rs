//! With real servers on this host, which the rules allow where a test says so.

use core::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use super::{
    exchange::{MAX_FIELDS, MAX_HEADER},
    *,
};

const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(20), most: 1_000 };

fn rules(allow: &[&str]) -> FetchRules {
    let allow = allow.iter().map(|text| crate::config::network(text).unwrap()).collect();
    FetchRules { allow, ca: None }
}

fn fetcher(rules: &FetchRules) -> Fetcher {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Fetcher::new(rules, Limits::default(), Arc::new(Metrics::new())).unwrap()
}

fn to(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

/// Answers each connection with these octets, and tells the heads of requests.
async fn server(answer: impl Into<Vec<u8>>) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Arc<[u8]> = answer.into().into();
    let (heads, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&answer), heads.clone()));
        }
    });
    (address, told)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: Arc<[u8]>,
    heads: mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(octet) = stream.read_u8().await else { return };
        head.push(octet);
    }
    let _ = heads.send(String::from_utf8(head).unwrap());
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Resolves every name to these addresses with the port that is asked for; counts how often.
fn resolving(fetcher: Fetcher, addresses: &[&str]) -> (Fetcher, Arc<AtomicUsize>) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let resolve = move |_: String, port: u16| -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        count.fetch_add(1, Ordering::Relaxed);
        let addresses = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        Box::pin(async { Ok(addresses) })
    };
    (Fetcher { resolver: Resolver(Box::new(resolve)), ..fetcher }, asked)
}

#[tokio::test]
async fn an_answer_comes_from_the_address_that_was_judged() {
    let (address, mut heads) = server("HTTP/1.1 201 Created\r\nx: y\r\ncontent-length: 2\r\n\r\nok").await;
    let (fetcher, asked) = resolving(fetcher(&rules(&["127.0.0.1"])), &["127.0.0.2", "127.0.0.1", "127.0.0.3"]);
    let request = Request::post(format!("http://some.example:{}/a?b", address.port()))
        .header("x-a", "1")
        .header("connection", "x-a")
        .header("content-length", "99")
        .body("body".into())
        .unwrap();

    let fetched = fetcher.fetch(1, request, BOUNDS).await.unwrap();

    assert_eq!(fetched.address, address.ip(), "the others were not dialed: nobody allowed them");
    assert_eq!((fetched.response.status().as_u16(), &fetched.response.body()[..]), (201, &b"ok"[..]));
    assert_eq!(fetched.response.headers()["x"], "y");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let head = heads.recv().await.unwrap();
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    lines.sort_unstable();
    let host = format!("host: some.example:{}", address.port());
    let mut expected = vec![
        "POST /a?b HTTP/1.1",
        "accept-encoding: identity",
        "content-length: 4",
        &host,
        "user-agent: adit-network",
        "x-a: 1",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn what_is_not_public_is_not_dialed() {
    let (address, mut heads) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let port = address.port();
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost", "127.1", "2130706433", "0x7f.1"] {
        let fault = fetcher(&rules(&[])).fetch(1, to(&format!("http://{host}:{port}/")), BOUNDS).await.unwrap_err();
        assert!(matches!(fault, FetchFault::Forbidden | FetchFault::Unresolved), "{host}: {fault}");
    }
    let all = fetcher(&rules(&["0.0.0.0/0", "::/0"]));
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://user:password@127.0.0.1/",
        "http://crm.internal/",
        "http://CRM.Internal./",
        "ftp://127.0.0.1/",
        "/relative",
    ] {
        assert_eq!(all.fetch(1, to(url), BOUNDS).await.unwrap_err(), FetchFault::Forbidden, "{url}");
    }
    assert!(heads.try_recv().is_err(), "nobody came");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (address, mut heads) =
        server("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n").await;
    let fetched = fetcher(&rules(&["127.0.0.0/8"])).fetch(1, to(&format!("http://{address}/")), BOUNDS).await.unwrap();

    assert_eq!(fetched.response.status().as_u16(), 302);
    assert!(heads.recv().await.is_some() && heads.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_is_so_large_and_no_larger() {
    let fetcher = fetcher(&rules(&["127.0.0.1"]));
    let get = async |answer: Vec<u8>| {
        let (address, _heads) = server(answer).await;
        let fetched = fetcher.fetch(1, to(&format!("http://{address}/")), BOUNDS).await;
        fetched.map(|fetched| fetched.response.body().len())
    };
    let lengthy =
        |len: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{}", "x".repeat(len)).into_bytes();
    let closing = |len: usize| format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(len)).into_bytes();
    let coded = |len: usize| {
        let mut body = Vec::new();
        let mut compressor = adit_policy::body::Compressor::new(adit_policy::body::Algorithm::Gzip);
        compressor.push(&vec![b'x'; len], &mut body);
        compressor.finish(&mut body);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.into_bytes(), body].concat()
    };

    assert_eq!(get(lengthy(1_000)).await, Ok(1_000));
    assert_eq!(get(lengthy(1_001)).await, Err(FetchFault::TooLarge));
    assert_eq!(get(closing(1_000)).await, Ok(1_000));
    assert_eq!(get(closing(1_001)).await, Err(FetchFault::TooLarge));
    assert_eq!(get(coded(1_000)).await, Ok(1_000));
    assert_eq!(get(coded(1_001)).await, Err(FetchFault::TooLarge));
    assert_eq!(get(coded(500_000)).await, Err(FetchFault::Broken), "a bomb");
    let header = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(MAX_HEADER));
    assert_eq!(get(header.into_bytes()).await, Err(FetchFault::Broken));
    let fields = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MAX_FIELDS + 1));
    assert_eq!(get(fields.into_bytes()).await, Err(FetchFault::Broken));
    assert_eq!(get(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort".to_vec()).await, Err(FetchFault::Broken));
    assert_eq!(get(b"SSH-2.0-OpenSSH\r\n".to_vec()).await, Err(FetchFault::Broken));
}

#[tokio::test]
async fn a_server_that_gives_no_answer_takes_no_longer_than_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fetcher = fetcher(&rules(&["127.0.0.1"]));
    let bounds = Bounds { timeout: Duration::from_millis(50), ..BOUNDS };

    let fault = fetcher.fetch(1, to(&format!("http://{address}/")), bounds).await.unwrap_err();

    assert_eq!(fault, FetchFault::Timeout);
    assert!(fetcher.under_way.lock().is_empty());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).await.unwrap(); // the connection is closed
    assert!(octets.starts_with(b"GET / HTTP/1.1\r\n"));
    drop(listener);
    let fault = fetcher.fetch(1, to(&format!("http://{address}/")), BOUNDS).await.unwrap_err();
    assert_eq!(fault, FetchFault::Unreachable);
}

#[tokio::test]
async fn so_many_requests_are_under_way_and_no_more() {
    let limits = Limits { fetches: 2, fetches_per_account: 1, ..Limits::default() };
    let fetcher = fetcher(&rules(&["127.0.0.1"]));
    fetcher.replace(Fetcher::prepare(&rules(&["127.0.0.1"]), limits).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let get = |account: i64| fetcher.fetch(account, to(&url), BOUNDS);

    let (one, two, ()) = tokio::join!(get(1), get(2), async {
        let (mut one, _) = listener.accept().await.unwrap();
        let (mut two, _) = listener.accept().await.unwrap();
        assert_eq!(get(1).await.unwrap_err(), FetchFault::Busy, "of the account");
        assert_eq!(get(3).await.unwrap_err(), FetchFault::Busy, "in all");
        for stream in [&mut one, &mut two] {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        }
    });

    assert_eq!((one.unwrap().response.status().as_u16(), two.unwrap().response.status().as_u16()), (204, 204));
    let text = fetcher.metrics.text().unwrap();
    for line in [
        "adit_policy_fetches_total{reason=\"answered\"} 2",
        "adit_policy_fetches_total{reason=\"busy\"} 2",
        "adit_limits_reached_total{limit=\"fetches_per_account\"} 1",
        "adit_limits_reached_total{limit=\"fetches\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_server_is_verified() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["some.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder().with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (heads, _told) = mpsc::unbounded_channel();
        let answer: Arc<[u8]> = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..].into();
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream, Arc::clone(&answer), heads.clone()));
            }
        }
    });
    let ca = std::env::temp_dir().join(format!("adit-fetch-{}.pem", std::process::id()));
    std::fs::write(&ca, pem).unwrap();
    let trusting = FetchRules { ca: Some(ca.clone()), ..rules(&["127.0.0.1"]) };
    let (trusting, _) = resolving(fetcher(&trusting), &["127.0.0.1"]);
    let (strange, _) = resolving(fetcher(&rules(&["127.0.0.1"])), &["127.0.0.1"]);
    std::fs::remove_file(&ca).unwrap();
    let (right, wrong) = (format!("https://some.example:{port}/"), format!("https://other.example:{port}/"));

    assert_eq!(trusting.fetch(1, to(&right), BOUNDS).await.unwrap().response.status().as_u16(), 200);
    assert_eq!(trusting.fetch(1, to(&wrong), BOUNDS).await.unwrap_err(), FetchFault::Tls);
    assert_eq!(strange.fetch(1, to(&right), BOUNDS).await.unwrap_err(), FetchFault::Tls);
}

#[test]
fn a_file_without_an_authority_is_refused() {
    let missing = FetchRules { ca: Some("/nowhere.pem".into()), ..FetchRules::default() };
    let empty = FetchRules { ca: Some("/dev/null".into()), ..FetchRules::default() };
    for rules in [missing, empty] {
        let refused = Fetcher::new(&rules, Limits::default(), Arc::new(Metrics::new()));
        assert!(refused.is_err(), "{rules:?}");
    }
}

/// Answers requests one after another on each connection, with how many connections there were; closes after as many as told.
async fn patient_server(answers: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            tokio::spawn(async move {
                for _ in 0..answers {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(octet) = stream.read_u8().await else { return };
                        head.push(octet);
                    }
                    let len = number.to_string().len();
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n{number}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (address, opened)
}

/// Which connection answers.
async fn number(fetcher: &Fetcher, account: i64, request: Request<Bytes>) -> String {
    let fetched = fetcher.fetch(account, request, BOUNDS).await.unwrap();
    String::from_utf8(fetched.response.body().to_vec()).unwrap()
}

#[tokio::test]
async fn a_connection_serves_the_next_request_of_its_account_under_its_rules() {
    let (address, opened) = patient_server(usize::MAX).await;
    let fetcher = fetcher(&rules(&["127.0.0.1"]));
    let get = || to(&format!("http://{address}/"));
    let post = || Request::post(format!("http://{address}/")).body(Bytes::new()).unwrap();

    assert_eq!(number(&fetcher, 1, get()).await, "1");
    assert_eq!(number(&fetcher, 1, get()).await, "1");
    assert_eq!(number(&fetcher, 2, get()).await, "2", "another account has its own");
    assert_eq!(number(&fetcher, 1, post()).await, "3", "what must not be sent twice has a new one");
    assert_eq!(number(&fetcher, 1, get()).await, "3", "the one that was used last");
    let named = to(&format!("http://localhost:{}/", address.port()));
    assert_eq!(number(&fetcher, 1, named).await, "4", "another name is another server");
    fetcher.replace(Fetcher::prepare(&rules(&["127.0.0.1"]), Limits::default()).unwrap());
    assert_eq!(number(&fetcher, 1, get()).await, "5", "what was judged by other rules is judged again");
    fetcher.replace(Fetcher::prepare(&rules(&[]), Limits::default()).unwrap());
    assert_eq!(fetcher.fetch(1, get(), BOUNDS).await.unwrap_err(), FetchFault::Forbidden);
    assert_eq!((opened.load(Ordering::Relaxed), fetcher.idle.len()), (5, 0));
}

#[tokio::test]
async fn a_server_that_closes_what_waits_is_asked_again() {
    let (address, opened) = patient_server(1).await;
    let fetcher = fetcher(&rules(&["127.0.0.1"]));

    for at in 1..=20 {
        assert_eq!(number(&fetcher, 1, to(&format!("http://{address}/"))).await, at.to_string());
    }

    assert_eq!(opened.load(Ordering::Relaxed), 20);
}

#[tokio::test]
async fn so_many_connections_wait_and_no_more() {
    let fetcher = fetcher(&rules(&["127.0.0.1"]));
    let mut addresses = Vec::new();
    for _ in 0..12 {
        addresses.push(patient_server(usize::MAX).await.0);
    }
    let get = |account: i64, at: usize| {
        let url = format!("http://{}/", addresses[at]);
        let fetcher = &fetcher;
        async move { number(fetcher, account, to(&url)).await }
    };

    futures_util::future::join_all((0..6).map(|_| get(1, 0))).await;
    assert_eq!(fetcher.idle.len(), 2, "of an account for a server");
    for at in 0..12 {
        get(1, at).await;
    }
    assert_eq!(fetcher.idle.len(), 8, "of an account");
    for account in 2..14 {
        for at in 0..8 {
            get(account, at).await;
        }
    }
    assert_eq!(fetcher.idle.len(), 64, "in all");
    assert_eq!(get(13, 7).await, "13", "those that waited longest are gone, and not the others");
}

#[tokio::test]
async fn a_connection_waits_for_so_long_and_is_closed_though_nobody_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fetcher = fetcher(&rules(&["127.0.0.1"]));
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1_024];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        stream.read(&mut head).await.unwrap()
    });
    fetcher.fetch(1, to(&format!("http://{address}/")), BOUNDS).await.unwrap();
    assert_eq!(fetcher.idle.len(), 1);

    tokio::time::pause();
    tokio::time::advance(idle::IDLE - Duration::from_millis(1)).await;
    assert_eq!(fetcher.idle.len(), 1);
    tokio::time::advance(Duration::from_millis(1)).await;
    tokio::time::resume();

    assert_eq!(serving.await.unwrap(), 0, "closed");
    assert_eq!(fetcher.idle.len(), 0);
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_no_answer_to_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let fetcher = fetcher(&rules(&["127.0.0.1"]));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1_024];
            let _ = stream.read(&mut head).await;
            let forged = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
            let _ =
                stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{forged}").as_bytes()).await;
            let _ = stream.read(&mut head).await;
        }
    });

    for _ in 0..5 {
        assert_eq!(number(&fetcher, 1, to(&format!("http://{address}/"))).await, "ok");
    }
}
