use tokio::net::TcpStream;

use super::*;
use crate::{
    capture::Store,
    config::CaptureConfig,
    policy::{Found, Guard, Policy},
    status::Status,
};

fn sources(guard: Arc<Guard>, requests: usize) -> Arc<Sources> {
    let config = CaptureConfig { requests, ..CaptureConfig::default() };
    Arc::new(Sources {
        status: Arc::<Status>::default(),
        store: Store::new(&config, Arc::clone(&guard)),
        guard,
        doors: Arc::default(),
        recent: Arc::default(),
        files: vec!["a.yml".into()],
        begun: (std::time::SystemTime::now(), std::time::Instant::now()),
    })
}

/// Serves over TCP with the token `SECRET`, for as long as what is returned lives.
async fn start(sources: Arc<Sources>) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, Arc::new(Gate::token(Secret::new(SECRET), address)), sources, stopped));
    (address, stop)
}

async fn ask(address: SocketAddr, head: &str) -> String {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(Duration::from_secs(20), asking).await.unwrap()
}

fn question(path: &str, address: SocketAddr) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {SECRET}\r\n\r\n")
}

fn asked(fields: &str) -> Asked {
    Asked::read(format!("GET /v1/status HTTP/1.1\r\n{fields}\r\n").as_bytes()).unwrap()
}

#[test]
fn over_tcp_only_who_has_the_token_and_calls_the_address_by_its_name_may_ask() {
    let gate = Gate::token(Secret::new(SECRET), "127.0.0.1:4040".parse().unwrap());
    let token = format!("authorization: Bearer {SECRET}\r\n");
    let check = |fields: &str| gate.check(&asked(fields)).map_err(|answer| answer.status);

    for host in ["127.0.0.1:4040", "localhost:4040", "LOCALHOST:4040", "[::1]:4040"] {
        assert_eq!(check(&format!("host: {host}\r\n{token}")), Ok(()), "{host}");
    }
    for (fields, status) in [
        (format!("host: evil.example:4040\r\n{token}"), 421),
        (format!("host: 127.0.0.1\r\n{token}"), 421),
        (format!("host: 127.0.0.1:4041\r\n{token}"), 421),
        (format!("host: localhost:4040\r\nhost: localhost:4040\r\n{token}"), 421),
        (token.clone(), 421),
        ("host: localhost:4040\r\n".to_owned(), 401),
        ("host: localhost:4040\r\nauthorization: Bearer x\r\n".to_owned(), 401),
        (format!("host: localhost:4040\r\nauthorization: Basic {SECRET}\r\n"), 401),
        (format!("host: localhost:4040\r\norigin: http://localhost:4040\r\n{token}"), 403),
    ] {
        assert_eq!(check(&fields), Err(status), "{fields}");
    }
    #[cfg(unix)]
    assert!(Gate::files(crate::config::SocketMode::Owner).check(&asked("origin: null\r\n")).is_err());
}

/// Whoever may open the file and is not the agent's user or root, as the kernel says: on a system that ignores the file's mode.
#[cfg(unix)]
#[tokio::test]
async fn at_a_socket_the_kernel_says_who_asks_and_others_hear_nothing() {
    use tokio::net::{UnixListener, UnixStream};

    let folder = crate::testing::folder("serve-users");
    let us = rustix::process::geteuid().as_raw();
    let ask = async |name: &str, gate: Gate| {
        let path = folder.join(name);
        let listener = UnixListener::bind(&path).unwrap();
        let (_stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, Arc::new(gate), sources(Guard::new(), 0), stopped));
        let asking = async {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let _ = stream.write_all(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").await; // it may have been shown out
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await; // reset is as good as closed
            String::from_utf8(answer).unwrap()
        };
        let answer = timeout(Duration::from_secs(60), asking).await.unwrap();
        serving.abort();
        answer
    };

    assert_eq!(Gate::files(crate::config::SocketMode::Owner).users(), Some([0, us]));
    assert_eq!(Gate::files(crate::config::SocketMode::Group).users(), None, "the file's mode says who");
    let answer = ask("ours", Gate::files(crate::config::SocketMode::Owner)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = ask("group", Gate::files(crate::config::SocketMode::Group)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(ask("theirs", Gate::Files(Some([us.wrapping_add(1), us.wrapping_add(2)]))).await, "");
}

#[tokio::test]
async fn who_may_ask_is_told_how_the_agent_is() {
    let (address, _stop) = start(sources(Guard::new(), 0)).await;

    let answer = ask(address, &question("/v1/status", address)).await;

    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!((&body["session"]["state"], &body["capture"]["on"]), (&"connecting".into(), &false.into()));
    assert_eq!(body["configuration"][0], "a.yml");
    for (path, status) in [("/v1/nothing", 404), ("/v1/requests", 403), ("/v1/logs?from=x", 400), ("/v1/status/x", 405)]
    {
        let answer = ask(address, &question(path, address)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn who_says_nothing_holds_up_nobody() {
    let (address, _stop) = start(sources(Guard::new(), 0)).await;
    let mut silent = Vec::new();
    for _ in 0..3 * MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(b"GET /v1/sta").await; // it may have been shown out already
        silent.push(stream);
    }

    let answer = ask(address, &question("/v1/status", address)).await;

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut octet = [0];
    let first = timeout(Duration::from_secs(20), silent[0].read(&mut octet)).await.unwrap();
    assert!(matches!(first, Ok(0) | Err(_)), "the oldest made room: {first:?}");
}

#[tokio::test]
async fn a_question_that_is_too_long_or_has_more_behind_it_is_refused() {
    let (address, _stop) = start(sources(Guard::new(), 0)).await;
    for (text, status) in [
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(9_000)), 431),
        (format!("{0}{0}", question("/v1/status", address)), 413),
        (question("/v1/status", address).replace("GET", "DELETE"), 405),
    ] {
        let answer = ask(address, &text).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn requests_are_shown_while_the_policy_allows_it_and_not_a_moment_longer() {
    let guard = Guard::new();
    let set = |text: &str| {
        let policy = Policy::parse(std::path::Path::new("policy.yml"), text).unwrap();
        guard.set(Found { policy, text: text.to_owned() }, "one".into());
    };
    set("version: 1\ncapture: true\n");
    let sources = sources(Arc::clone(&guard), 5);
    let tee = sources.store.tee(("web", "localhost:1"), None, None).unwrap();
    tee.up(b"GET /a HTTP/1.1\r\ncookie: s3cret\r\n\r\n");
    tee.down(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xfe");
    let (address, _stop) = start(sources).await;

    let listed = ask(address, &question("/v1/requests", address)).await;
    assert!(listed.contains("\"target\":\"/a\"") && listed.contains("\"kept\":1"), "{listed}");
    let whole = ask(address, &question("/v1/requests/0", address)).await;
    assert!(
        whole.contains("[redacted]") && whole.contains("\"base64\":\"//4=\"") && !whole.contains("s3cret"),
        "{whole}"
    );
    assert!(ask(address, &question("/v1/requests/1", address)).await.starts_with("HTTP/1.1 404 "));
    let post = question("/v1/requests/0/replay", address).replace("GET", "POST");
    assert!(ask(address, &post).await.starts_with("HTTP/1.1 409 "), "the endpoint is not served");
    set("version: 1\n");
    for path in ["/v1/requests", "/v1/requests/0"] {
        let answer = ask(address, &question(path, address)).await;
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("ADIT-1476"), "{answer}");
    }
}

#[cfg(unix)]
impl Gate {
    fn users(&self) -> Option<[u32; 2]> {
        match self {
            Self::Files(users) => *users,
            Self::Token { .. } => None,
        }
    }
}

const SECRET: &str = "0123456789abcdef0123456789abcdef";
