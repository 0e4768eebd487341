//! Endpoints that the vendor sends by a command: the program under a policy, and a network that opens streams.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use adit_core::{Code, Command as Asked};
use adit_tokio::Stream;
use serde_json::Value;
use support::{Network, PATIENCE, Rules, Seen, endpoint, folder, write_config, write_private};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// The customer's own endpoint, and one that the vendor sends.
const OWN: &str = "tcp://:1001";
const SENT: &str = "tcp://:2001";
const TOO_SOON: &str = "one document a second is looked at";
const BOTH: (&str, &str) = ("configuration: true", "configuration: true");

/// CMD-001
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_unless_configuration_and_policy_say_so_and_never_without_a_policy() {
    for (configured, allowed, words, log) in [
        ("", "", "the agent's configuration does not allow it", "ADIT-1301"),
        ("", "configuration: true", "the agent's configuration does not allow it", "ADIT-1301"),
        ("configuration: true", "", "the customer's policy does not allow it", "commands.configuration of the policy"),
        (
            "configuration: true",
            "none",
            "the customer has no policy, and without one no endpoints are taken",
            "there is no policy",
        ),
    ] {
        let mut site = Site::start((configured, allowed)).await;

        assert_eq!(site.send(&site.document("crm", SENT)).await, (Code::FORBIDDEN, words.to_owned()));

        assert!(site.status()["remote"].is_null());
        if allowed != "none" {
            assert!(site.audit("command").iter().all(|record| record["sha256"].is_string()));
        }
        assert!(site.said().contains(log), "{log}");
        assert!(!site.state().join("remote").exists());
    }
}

/// CMD-004, CMD-007
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_is_in_force_when_it_is_answered_survives_a_new_start_and_is_taken_back_by_an_empty_one() {
    let mut site = Site::start(BOTH).await;
    let document = site.document("crm", SENT);

    assert_eq!(site.send(&document).await, (Code::NO_ERROR, String::new()));

    site.carries(SENT).await;
    let shown = site.status();
    assert_eq!((&shown["remote"]["endpoints"], &shown["remote"]["said"]), (&1.into(), &"by ops".into()));
    assert_eq!((&shown["endpoints"][0]["remote"], &shown["endpoints"][1]["remote"]), (&false.into(), &true.into()));
    let kept: Vec<_> = fs::read_dir(site.state().join("remote")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::metadata(&kept[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(site.send(&document).await, (Code::NO_ERROR, "it was taken before".to_owned()));
    let explained = site.run(&["explain"]);
    assert!(explained.contains("Sent by the vendor") && explained.contains("come in at tcp://:2001"), "{explained}");
    assert!(explained.contains("configuration accepted: it has the endpoints that the vendor sends"), "{explained}");
    assert!(site.run(&["config", "check"]).contains("sent by the vendor: 1 endpoints"));
    assert!(site.run(&["config", "remote", "show"]).contains("the vendor said: by ops"));

    site.restart(OWN).await;
    site.network.wait_for(&Seen::Bound(SENT.into())).await;
    site.carries(SENT).await;

    let (mut stream, mut socket) = site.connect(SENT).await;
    let (mut own, _own_socket) = site.connect(OWN).await;
    assert_eq!(site.send("version: 1\nendpoints: []\n").await, (Code::NO_ERROR, String::new()));
    assert!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap().is_err(), "it ends with its endpoint");
    assert!(!matches!(timeout(PATIENCE, socket.read(&mut [0; 1])).await.unwrap(), Ok(1..)));
    own.write_all(b"x").await.unwrap();
    assert!(!kept[0].exists() && site.status()["remote"].is_null());
    assert!(site.audit("command").iter().any(|record| record["decision"] == "obeyed" && record["sha256"].is_string()));
    let told = site.audit("configuration");
    let one = told.iter().find(|record| record["endpoint"] == "crm").unwrap();
    let upstream = format!("localhost:{}", site.port());
    assert_eq!((&one["url"], &one["upstream"]), (&SENT.into(), &upstream.into()));
    assert!(one["sha256"].is_string());
}

/// CMD-007
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_that_is_refused_says_where_and_changes_nothing() {
    let mut site = Site::start(BOTH).await;
    assert_eq!(site.send(&site.document("crm", SENT)).await.0, Code::NO_ERROR);
    let named = |name: &str, url: &str, keys: &str| {
        format!("version: 1\nendpoints:\n  - name: {name}\n    url: {url}\n    upstream: {{ {keys} }}\n")
    };
    let one = |keys: &str| named("x", "tcp://:3001", keys);
    let here = format!("url: {}", site.port());
    let of_policy = "line 3, column 5: endpoints[0]: the customer's policy does not allow it";

    for (document, code, words) in [
        (format!("agent: {{ authtoken: x }}\n{}", one(&here)), Code::DOCUMENT, "line 1, column 1: agent: "),
        (one("url: 'tls://localhost:1', ca: /etc/shadow"), Code::DOCUMENT, "endpoints[0].upstream.ca: "),
        (
            one(&here) + "    agent_tls_termination: {}\n",
            Code::DOCUMENT,
            "line 6, column 5: endpoints[0].agent_tls_termination",
        ),
        ("version: [\n".to_owned(), Code::DOCUMENT, "line "),
        (one("url: 'unix:/run/docker.sock'"), Code::DISALLOWED, of_policy),
        (one("url: 22"), Code::DISALLOWED, of_policy),
        (named("x", "tcp://:9999", &here), Code::DISALLOWED, of_policy),
        (named("own", "tcp://:3001", &here), Code::CONFIGURATION, "an endpoint of that name"),
        (named("x", OWN, &here), Code::CONFIGURATION, "an endpoint with that URL"),
        (named("OWN", "tcp://:3001", &here), Code::CONFIGURATION, "an endpoint of that name"),
        (named("x", "tcp://foo:1001", &here), Code::CONFIGURATION, "an endpoint with that URL"),
        ("x: &x [a]\ny: [*x, *x]\n".to_owned(), Code::DOCUMENT, "Correct the YAML there"),
    ] {
        let (told, text) = site.send(&document).await;
        assert!(told == code && text.contains(words), "{words}: {told} {text}");
        assert!(!text.contains("mine") && !text.contains(site.home.to_str().unwrap()), "{text}");
    }
    let refused = site.audit("command").into_iter().filter(|record| record["decision"] == "refused");
    let prints: BTreeSet<String> = refused.map(|record| record["sha256"].as_str().unwrap().to_owned()).collect();
    assert!(prints.len() >= 12, "each document has its own: {prints:?}");
    site.carries(SENT).await;
    site.carries(OWN).await;
    assert_eq!(site.status()["endpoints"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_customer_takes_back_is_gone_at_once_with_what_is_open() {
    for how in ["policy", "configuration", "remove"] {
        let mut site = Site::start(BOTH).await;
        assert_eq!(site.send(&site.document("crm", SENT)).await.0, Code::NO_ERROR);
        let open = site.flood(SENT).await;
        let (mut own, mut own_socket) = site.connect(OWN).await;

        site.take_back(how);

        site.network.wait_for(&Seen::Unbound(SENT.into(), Code::DISALLOWED)).await;
        is_cut(open).await;
        own_socket.write_all(b"goes on").await.unwrap();
        own.read_exact(&mut [0; 7]).await.unwrap();
        if how == "policy" {
            assert_eq!(site.status()["remote"]["not_in_force"], "commands.configuration of the policy is not true");
            site.write_policy("configuration: true"); // what was taken counts again
            site.network.wait_for(&Seen::Bound(SENT.into())).await;
        }
    }
}

/// What ends by the network's own wish carries on for a while, and the vendor may wish so: that keeps nothing open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_customer_takes_back_is_cut_in_a_session_that_the_network_lets_drain() {
    for how in ["policy", "configuration", "remove"] {
        let mut site = Site::start(BOTH).await;
        assert_eq!(site.send(&site.document("crm", SENT)).await.0, Code::NO_ERROR);
        let open = site.flood(SENT).await;
        let (mut own, mut own_socket) = site.connect(OWN).await;
        site.network.session().drain(Code::SHUTDOWN, None, "");
        site.network.wait_for(&Seen::Bound(SENT.into())).await;

        site.take_back(how);

        is_cut(open).await;
        own_socket.write_all(b"goes on").await.unwrap();
        own.read_exact(&mut [0; 7]).await.unwrap();
    }
}

/// An agent that was asked to end lets open connections finish, and still does what the customer says of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_customer_takes_back_is_cut_while_the_agent_ends() {
    for how in ["policy", "configuration", "remove"] {
        let mut site = Site::start(BOTH).await;
        assert_eq!(site.send(&site.document("crm", SENT)).await.0, Code::NO_ERROR);
        let open = site.flood(SENT).await;
        let (mut own, mut own_socket) = site.connect(OWN).await;
        site.signal("-TERM");
        site.wait(|status| status["session"]["state"] == "draining").await;

        site.take_back(how);

        is_cut(open).await;
        own_socket.write_all(b"goes on").await.unwrap();
        own.read_exact(&mut [0; 7]).await.unwrap();
    }
}

/// A file whose endpoints are of no use takes nothing else along with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_is_taken_back_whatever_else_the_file_says() {
    for endpoints in ["  []\n".to_owned(), endpoint("other", "tcp://:9999", "url: 1")] {
        let mut site = Site::start(BOTH).await;
        let document = site.document("crm", SENT);
        assert_eq!(site.send(&document).await.0, Code::NO_ERROR);
        let open = site.flood(SENT).await;

        site.write("", &endpoints);
        site.signal("-HUP");

        site.network.wait_for(&Seen::Unbound(SENT.into(), Code::DISALLOWED)).await;
        is_cut(open).await;
        assert_eq!(site.send(&document).await.0, Code::FORBIDDEN);
        if endpoints != "  []\n" {
            site.carries(OWN).await; // nothing else was taken
        }
    }
}

/// The vendor can ask for a new start at any moment: it brings back nothing that was taken back before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_start_with_a_file_that_cannot_be_read_gives_no_word_back() {
    let both = "configuration: true, restart: true";
    let mut site = Site::start((both, both)).await;
    let document = site.document("crm", SENT);
    assert_eq!(site.send(&document).await.0, Code::NO_ERROR);
    site.write_configuration("restart: true");
    site.network.wait_for(&Seen::Unbound(SENT.into(), Code::DISALLOWED)).await;
    write_private(&site.home.join("adit.yml"), "version: [");

    site.network.command(Asked::Restart);

    while !matches!(site.network.next().await, Seen::Session(_)) {}
    site.network.wait_for(&Seen::Bound(OWN.into())).await;
    assert_eq!(site.send(&document).await.0, Code::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_and_damaged_is_left_aside_loudly_and_the_next_takes_its_place() {
    let mut site = Site::start(BOTH).await;
    let document = site.document("crm", SENT);
    assert_eq!(site.send(&document).await.0, Code::NO_ERROR);
    let kept = fs::read_dir(site.state().join("remote")).unwrap().next().unwrap().unwrap().path();
    site.stop();
    let text = fs::read_to_string(&kept).unwrap();
    fs::write(&kept, text.replace("2001", "2002")).unwrap();

    site.restart(OWN).await;

    let problem = site.status()["remote"]["problem"].to_string();
    assert!(problem.contains("it is not as it was written"), "{problem}");
    assert_eq!(site.status()["endpoints"].as_array().unwrap().len(), 1);
    assert_eq!(site.send(&document).await.0, Code::NO_ERROR);
    site.carries(SENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_not_looked_at_one_after_the_other_without_end() {
    let mut site = Site::start(BOTH).await;
    let mut answers = Vec::new();

    for _ in 0..6 {
        site.network.session().configure("version: [\n", "by ops").unwrap();
    }
    for _ in 0..6 {
        answers.push(site.answer().await);
    }

    assert_eq!(answers[0].0, Code::DOCUMENT, "{answers:?}");
    assert!(answers.contains(&(Code::BUSY, TOO_SOON.to_owned())), "{answers:?}");
    assert_eq!(site.send(&site.document("crm", SENT)).await.0, Code::NO_ERROR);
}

/// Another user's state folder, or none of a service's, says nothing about what its agent has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_into_another_state_folder_is_told_so_and_removes_nothing() {
    let mut site = Site::start(BOTH).await;
    assert_eq!(site.send(&site.document("crm", SENT)).await.0, Code::NO_ERROR);
    let other = site.home.join("other");
    let ask = |arguments: &[&str]| {
        let output = site.command(arguments).env("XDG_STATE_HOME", &other).output().unwrap();
        let told = [output.stdout, output.stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
        (output.status.success(), told)
    };

    for (arguments, is_fine) in [
        (&["config", "remote", "remove"][..], false),
        (&["config", "remote", "show"], true),
        (&["config", "check"], true),
        (&["explain"], true),
    ] {
        let (success, told) = ask(arguments);
        assert_eq!(success, is_fine, "{arguments:?} {told}");
        for words in [other.to_str().unwrap(), "nothing is kept there", "another state folder"] {
            assert!(told.contains(words), "{arguments:?} {words}: {told}");
        }
    }
    site.carries(SENT).await;
    assert!(site.run(&["config", "remote", "remove"]).contains("removed"));
    site.network.wait_for(&Seen::Unbound(SENT.into(), Code::DISALLOWED)).await;
}

/// An agent that begins with nothing but the vendor's word, and what a later file of the customer's says of the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_may_begin_without_endpoints_and_its_own_file_wins_whenever_it_says_something() {
    let mut site = Site::start(BOTH).await;
    assert_eq!(site.send(&site.document("crm", SENT)).await.0, Code::NO_ERROR);

    site.write_endpoints(&endpoint("crm", OWN, &format!("url: {}", site.port())));
    site.network.wait_for(&Seen::Unbound(SENT.into(), Code::CONFIGURATION)).await;

    site.wait(|status| status["remote"]["left_out"] == serde_json::json!(["crm"])).await;
    assert_eq!(site.status()["endpoints"].as_array().unwrap().len(), 1);
    site.write_endpoints("  []\n");
    site.network.wait_for(&Seen::Bound(SENT.into())).await;
    site.restart(SENT).await;
}

async fn is_cut(flood: JoinHandle<()>) {
    timeout(PATIENCE, flood).await.unwrap().unwrap();
}

/// The program, its policy, and a network.
struct Site {
    home: PathBuf,
    network: Network,
    upstream: TcpListener,
    child: Option<Child>,
}

impl Site {
    /// Starts the program with these keys of `remote_management` and of `commands`; `none` is no policy.
    async fn start((configured, allowed): (&str, &str)) -> Self {
        let (home, network) = (folder(), Network::start(Rules::default()).await);
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut site = Self { home, network, upstream, child: None };
        site.write(configured, &endpoint("own", OWN, &format!("url: {}", site.port())));
        if allowed != "none" {
            site.write_policy(allowed);
        }
        site.restart(OWN).await;
        site
    }

    fn write(&self, configured: &str, endpoints: &str) {
        let management = format!("  remote_management: {{ {configured} }}\n");
        write_config(&self.home, &self.network, &management, endpoints);
    }

    fn write_configuration(&self, configured: &str) {
        self.write(configured, &endpoint("own", OWN, &format!("url: {}", self.port())));
        self.signal("-HUP");
    }

    fn write_endpoints(&self, endpoints: &str) {
        self.write("configuration: true", endpoints);
        self.signal("-HUP");
    }

    fn take_back(&self, how: &str) {
        match how {
            "policy" => self.write_policy(""),
            "configuration" => self.write_configuration(""),
            _ => drop(self.run(&["config", "remote", "remove"])),
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn write_policy(&self, allowed: &str) {
        let rule = format!(
            "version: 1\ncommands: {{ {allowed} }}\nallow:\n  - name: mine\n    endpoints: ['tcp://:1000-3999']\n    hosts: [localhost]\n    \
             ports: [{}]\n    protocols: [tcp]\n",
            self.port()
        );
        write_private(&self.home.join("policy.yml"), &rule);
    }

    /// Starts the program, anew if it runs, and waits for its first endpoint.
    async fn restart(&mut self, first: &str) {
        self.stop();
        let log = fs::File::options().create(true).append(true).open(self.home.join("log")).unwrap();
        let child = self.command(&["start", "--all"]).stderr(log).spawn().unwrap();
        self.child = Some(child);
        while !matches!(self.network.next().await, Seen::Session(_)) {}
        self.network.wait_for(&Seen::Bound(first.into())).await;
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command.env_clear().env("HOME", &self.home).args(arguments).arg("--config").arg(self.home.join("adit.yml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "--output", "json"])).unwrap()
    }

    async fn wait(&self, is: impl Fn(&Value) -> bool) {
        let look = async {
            while !is(&self.status()) {
                tokio::time::sleep(core::time::Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, look).await.unwrap();
    }

    fn audit(&self, kind: &str) -> Vec<Value> {
        let shown = self.run(&["audit", "show", "--kind", kind, "--output", "json"]);
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn said(&mut self) -> String {
        self.stop();
        fs::read_to_string(self.home.join("log")).unwrap()
    }

    fn state(&self) -> PathBuf {
        self.home.join(".local/state/adit")
    }

    fn port(&self) -> u16 {
        self.upstream.local_addr().unwrap().port()
    }

    fn document(&self, name: &str, url: &str) -> String {
        format!("version: 1\nendpoints:\n{}", endpoint(name, url, &format!("url: {}", self.port())))
    }

    /// Sends a document, again while it comes too soon, and returns what the agent answers.
    async fn send(&mut self, document: &str) -> (Code, String) {
        loop {
            self.network.session().configure(document, "by ops").unwrap();
            let answer = self.answer().await;
            if answer != (Code::BUSY, TOO_SOON.to_owned()) {
                return answer;
            }
            tokio::time::sleep(core::time::Duration::from_millis(100)).await;
        }
    }

    async fn answer(&mut self) -> (Code, String) {
        loop {
            if let Seen::Answer(code) = self.network.next().await {
                return (code, self.network.told());
            }
        }
    }

    async fn connect(&self, url: &str) -> (Stream, TcpStream) {
        self.network.has_bound(url).await; // the answer to a document says that it is asked for
        let stream = self.network.open(url);
        let (socket, _) = timeout(PATIENCE, self.upstream.accept()).await.unwrap().unwrap();
        stream.accepted().await.unwrap();
        (stream, socket)
    }

    /// Has much under way in a connection, until it ends at both ends.
    async fn flood(&self, url: &str) -> JoinHandle<()> {
        let (mut stream, mut socket) = self.connect(url).await;
        tokio::spawn(async move {
            let written = tokio::spawn(async move { while socket.write_all(&[7; 4_096]).await.is_ok() {} });
            let mut buffer = [0; 4_096];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            written.await.unwrap();
        })
    }

    async fn carries(&self, url: &str) {
        let (mut stream, mut socket) = self.connect(url).await;
        stream.write_all(b"ping").await.unwrap();
        let mut heard = [0; 4];
        timeout(PATIENCE, socket.read_exact(&mut heard)).await.unwrap().unwrap();
        assert_eq!(&heard, b"ping");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(Path::new(&self.home));
    }
}
