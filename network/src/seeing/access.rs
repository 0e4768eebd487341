//! The access log: one line for each request and each connection, written by a thread of its own. What waits for it is bounded; a disk
//! that is slow loses lines, which are counted, and never holds a request.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::SystemTime,
};

use adit_core::AgentId;
use http::{HeaderValue, Method, Uri, Version};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use tracing::{Level, error};

use super::Trace;
use crate::{
    Caller, Fault,
    config::{AccessTo, AddressForm, LogFormat, Logged},
    log::{Fields, Lines},
};

/// Everything that is noted about a request or a connection. What is not known is not written.
#[derive(Debug)]
pub struct Entry {
    /// When it ended.
    pub ended: SystemTime,
    /// From its first octet to its last.
    pub total: Duration,
    /// Who called.
    pub caller: Arc<Caller>,
    /// The account whose endpoint it is.
    pub account: Option<Arc<str>>,
    /// The endpoint.
    pub endpoint: Option<String>,
    /// Who served it.
    pub agent: Option<AgentId>,
    /// The stable code, of a refusal.
    pub fault: Option<Fault>,
    /// Payload from the caller.
    pub received: u64,
    /// Payload to the caller.
    pub sent: u64,
    /// How often it was tried again.
    pub retries: u32,
    /// What came of each rule that had a part in it.
    pub verdicts: Vec<String>,
    /// Whether everything went to its end.
    pub whole: bool,
    /// What a request has besides.
    pub request: Option<Request>,
}

/// What only requests have.
#[derive(Debug)]
pub struct Request {
    /// `ADIT-Request-Id`.
    pub id: String,
    /// The host that it is for.
    pub host: Option<String>,
    /// GET, POST, …
    pub method: Method,
    /// The target; path and query are written as the operator allows.
    pub uri: Uri,
    /// The version of HTTP that the caller speaks.
    pub version: Version,
    /// The program that the caller says it is.
    pub user_agent: Option<HeaderValue>,
    /// The status of the answer.
    pub status: u16,
    /// Until the head of the answer was there.
    pub first: Option<Duration>,
    /// Until the upstream's answer began, from when it was asked.
    pub upstream: Option<Duration>,
    /// Its place in a trace.
    pub trace: Option<Trace>,
}

/// Where entries go.
#[derive(Debug)]
pub struct AccessLog {
    sender: Option<SyncSender<Message>>,
    reopen: Arc<AtomicBool>,
    dropped: Counter,
    /// Among the lines of the log the level of the log holds.
    among: bool,
}

enum Message {
    Entry(Box<Entry>),
    /// Only to be looked at: there is a file to be opened again.
    Reopen,
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// Returns one that keeps nothing.
    pub fn none() -> Self {
        Self { sender: None, reopen: Arc::default(), dropped: Counter::default(), among: false }
    }

    /// Opens what `logged` says and starts the thread that writes; `format` is that of standard error. Lines that are lost are
    /// counted by `dropped`.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread.
    pub fn start(logged: &Logged, format: LogFormat, dropped: Counter) -> io::Result<Self> {
        let Some(to) = Target::open(&logged.to)? else { return Ok(Self::none()) };
        let format = if logged.to == AccessTo::Stderr { format } else { LogFormat::Json };
        let (sender, receiver) = sync_channel(WAITING);
        let reopen = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            to,
            lines: Lines::plain(format),
            logged: logged.clone(),
            reopen: Arc::clone(&reopen),
            dropped: dropped.clone(),
            torn: false,
        };
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { sender: Some(sender), reopen, dropped, among: logged.to == AccessTo::Stderr })
    }

    /// Takes an entry, or counts it as lost when too many wait.
    pub fn write(&self, entry: Entry) {
        if self.among && !tracing::enabled!(target: "adit_network::access", Level::INFO) {
            return;
        }
        if let Some(sender) = &self.sender
            && sender.try_send(Message::Entry(Box::new(entry))).is_err()
        {
            self.dropped.inc();
        }
    }

    /// Has the file opened again, after somebody has moved it away.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(Message::Reopen); // with entries waiting it is seen anyway
        }
    }

    /// Waits until what was taken so far is written, but not for long.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.sender.as_ref().is_some_and(|sender| sender.try_send(Message::Flush(done)).is_ok()) {
            let _ = wait.recv_timeout(FAREWELL);
        }
    }
}

/// An open file or stream.
#[derive(Debug)]
enum Target {
    Stderr,
    Stdout,
    File(PathBuf, File),
}

impl Target {
    fn open(to: &AccessTo) -> io::Result<Option<Self>> {
        Ok(Some(match to {
            AccessTo::None => return Ok(None),
            AccessTo::Stderr => Self::Stderr,
            AccessTo::Stdout => Self::Stdout,
            AccessTo::File(path) => Self::File(path.clone(), file(path)?),
        }))
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(octets),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(octets)?;
                out.flush()
            }
            Self::File(_, file) => file.write_all(octets),
        }
    }
}

/// Others may not read who called.
fn file(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// The thread.
struct Writer {
    to: Target,
    lines: Lines,
    logged: Logged,
    reopen: Arc<AtomicBool>,
    dropped: Counter,
    /// The last write failed and may have left half a line.
    torn: bool,
}

impl Writer {
    /// Writes until nobody is left to send; what waits is written in one go.
    fn run(&mut self, receiver: &Receiver<Message>) {
        let mut octets = Vec::new();
        while let Ok(first) = receiver.recv() {
            let (mut next, mut count, mut flushed) = (Some(first), 0, None);
            while let Some(message) = next.take() {
                match message {
                    Message::Entry(entry) => {
                        octets.extend_from_slice(line(&entry, &self.logged, self.lines).as_bytes());
                        octets.push(b'\n');
                        count += 1;
                    }
                    Message::Reopen => {}
                    Message::Flush(done) => flushed = Some(done),
                }
                if octets.len() < BATCH && flushed.is_none() {
                    next = receiver.try_recv().ok();
                }
            }
            self.write(&octets, count);
            octets.clear();
            octets.shrink_to(BATCH * 2);
            drop(flushed); // who waits for it hears that it is gone
        }
    }

    fn write(&mut self, octets: &[u8], count: u64) {
        if self.reopen.swap(false, Relaxed)
            && let Target::File(path, open) = &mut self.to
        {
            match file(path) {
                Ok(fresh) => *open = fresh,
                Err(error) => error!(path = %path.display(), %error, "the access log cannot be opened again"),
            }
        }
        if count == 0 {
            return;
        }
        let mended = if self.torn { self.to.write(b"\n") } else { Ok(()) };
        match mended.and_then(|()| self.to.write(octets)) {
            Ok(()) => self.torn = false,
            Err(error) => {
                if !self.torn {
                    error!(%error, "the access log cannot be written: lines are lost");
                }
                self.torn = true;
                self.dropped.inc_by(count);
            }
        }
    }
}

/// Returns the line of an entry, without the end of the line.
fn line(entry: &Entry, logged: &Logged, lines: Lines) -> String {
    let mut fields = Fields::new(if entry.request.is_some() { "request" } else { "connection" });
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let request = entry.request.as_ref();
    if let Some(request) = request {
        fields.text("request_id", &request.id);
    }
    fields.text_if("account", entry.account.as_deref());
    fields.text_if("endpoint", entry.endpoint.as_deref());
    fields.text_if("agent", entry.agent.map(|agent| agent.to_string()).as_deref());
    match request {
        Some(request) => request.fields(&mut fields, logged),
        None => fields.text("protocol", if entry.caller.tls.is_some() { "tls" } else { "tcp" }),
    }
    fields.text_if("code", entry.fault.map(Fault::code));
    fields.value("whole", entry.whole.into());
    fields.value("received", entry.received.into());
    fields.value("sent", entry.sent.into());
    fields.value("total_micros", micros(entry.total).into());
    if let Some(request) = request {
        for (name, time) in [("first_micros", request.first), ("upstream_micros", request.upstream)] {
            fields.value_if(name, time.map(|time| micros(time).into()));
        }
    }
    fields.text_if("address", address(entry.caller.address.ip(), logged.address).as_deref());
    if let Some(tls) = &entry.caller.tls {
        for (name, text) in [("tls_name", &tls.sni), ("tls_version", &tls.version), ("tls_cipher", &tls.cipher)] {
            fields.text_if(name, (!text.is_empty()).then_some(text));
        }
    }
    if let Some(trace) = request.and_then(|request| request.trace) {
        fields.text("trace_id", &trace.trace.to_string());
        fields.text("span_id", &trace.span.to_string());
        fields.value("traced", trace.recorded.into());
    }
    fields.value_if("retries", (entry.retries > 0).then(|| entry.retries.into()));
    if !entry.verdicts.is_empty() {
        fields.value("verdicts", verdicts(&entry.verdicts));
    }
    lines.line(&Time(entry.ended).to_string(), Level::INFO, &fields)
}

impl Request {
    fn fields(&self, fields: &mut Fields, logged: &Logged) {
        fields.text_if("host", self.host.as_deref());
        fields.text("method", self.method.as_str());
        if logged.path {
            fields.text("path", self.uri.path());
        }
        if logged.query {
            fields.text_if("query", self.uri.query());
        }
        fields.text("protocol", &format!("{:?}", self.version));
        if logged.user_agent {
            fields.text_if(
                "user_agent",
                self.user_agent.as_ref().map(|agent| String::from_utf8_lossy(agent.as_bytes())).as_deref(),
            );
        }
        fields.value("status", self.status.into());
    }
}

/// Returns the address as the operator allows: whole, its network (IPv4: /24, IPv6: /48), or not at all.
pub(super) fn address(address: IpAddr, form: AddressForm) -> Option<String> {
    match (form, address) {
        (AddressForm::None, _) => None,
        (AddressForm::Full, address) => Some(address.to_string()),
        (AddressForm::Truncated, IpAddr::V4(address)) => {
            Some(Ipv4Addr::from_bits(address.to_bits() & !0xff).to_string())
        }
        (AddressForm::Truncated, IpAddr::V6(address)) => {
            Some(Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> 48)).to_string())
        }
    }
}

/// Returns the verdicts that a line has: of more than fit, the last decide.
fn verdicts(all: &[String]) -> Value {
    let left_out = all.len().saturating_sub(VERDICTS);
    let cut = (left_out > 0).then(|| Value::from("…"));
    let last = all.iter().skip(left_out).map(|verdict| Value::from(clip(verdict)));
    cut.into_iter().chain(last).collect()
}

fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(VERDICT)).unwrap_or(text)
}

/// A time as RFC 3339 has it, in UTC, with microseconds.
pub(crate) struct Time(pub(crate) SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, micros) = (since.as_secs(), since.subsec_micros());
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        // Years that begin in March, eras of 400 of them (Hinnant, "chrono-compatible low-level date algorithms").
        let shifted = days + 719_468;
        let (era, day) = (shifted / 146_097, shifted % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let date = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }
}

/// Entries that may wait: some 8 MiB at most.
const WAITING: usize = 8_192;
/// What is written at once, in octets.
const BATCH: usize = 64 << 10;
/// How long the end of the process waits for the last lines.
const FAREWELL: Duration = Duration::from_secs(1);
/// Verdicts that a line has.
const VERDICTS: usize = 64;
/// Octets of one.
const VERDICT: usize = 256;

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::router::Scheme;

    #[test]
    fn a_line_has_what_is_known_and_nothing_that_nobody_asked_for() {
        let entry = entry("/a%20b?token=secret");

        let quiet: Value =
            serde_json::from_str(&line(&entry, &Logged::default(), Lines::plain(LogFormat::Json))).unwrap();

        let expected = json!({
            "time": "2026-11-28T21:15:00.000007Z", "level": "info", "message": "request",
            "request_id": "7b", "account": "acme", "endpoint": "https://*.example.com", "host": "crm.example.com",
            "agent": "00000000000000000000000000000000", "method": "POST", "protocol": "HTTP/2.0", "status": 403,
            "code": "ADIT-3002", "whole": true, "received": 3, "sent": 5, "total_micros": 1500, "first_micros": 900,
            "address": "192.0.2.0", "retries": 1, "verdicts": ["on_http_request[0]: deny: refused with 403"],
        });
        assert_eq!(quiet, expected);
        let told =
            Logged { address: AddressForm::Full, path: true, query: true, user_agent: true, ..Logged::default() };
        let told: Value = serde_json::from_str(&line(&entry, &told, Lines::plain(LogFormat::Json))).unwrap();
        for (name, value) in
            [("address", "192.0.2.77"), ("path", "/a%20b"), ("query", "token=secret"), ("user_agent", "curl/8\u{fffd}")]
        {
            assert_eq!(told[name], value, "{name}");
        }
    }

    #[test]
    fn what_callers_say_stays_in_its_line_in_every_format() {
        let mut hostile = entry("/");
        hostile.request.as_mut().unwrap().user_agent =
            Some(HeaderValue::from_bytes("a\u{9b}2J\u{202e}\tb".as_bytes()).unwrap());
        hostile.verdicts = vec!["a\nb".to_owned(); 100];
        let logged = Logged { user_agent: true, ..Logged::default() };
        for format in [LogFormat::Json, LogFormat::Logfmt, LogFormat::Text] {
            let line = line(&hostile, &logged, Lines::plain(format));
            assert!(line.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{line:?}");
        }
    }

    #[test]
    fn of_many_verdicts_the_last_are_told() {
        let all: Vec<_> = (0..=VERDICTS).map(|at| format!("on_http_request[{at}]: matched")).collect();

        let told = verdicts(&all);

        assert_eq!((told[0].as_str(), told[1].as_str()), (Some("…"), Some("on_http_request[1]: matched")));
        assert_eq!(told.as_array().unwrap().len(), VERDICTS + 1);
        assert_eq!(verdicts(&all[..2])[0], "on_http_request[0]: matched");
    }

    #[test]
    fn an_address_is_written_as_far_as_it_is_allowed() {
        let table = [
            ("192.0.2.77", AddressForm::Full, Some("192.0.2.77")),
            ("192.0.2.77", AddressForm::Truncated, Some("192.0.2.0")),
            ("2001:db8:1:2:3:4:5:6", AddressForm::Truncated, Some("2001:db8:1::")),
            ("2001:db8::1", AddressForm::None, None),
        ];
        for (text, form, expected) in table {
            assert_eq!(address(text.parse().unwrap(), form).as_deref(), expected, "{text} {form:?}");
        }
    }

    #[test]
    fn times_are_as_the_calendar_has_them() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            let time = Time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!(time.to_string(), expected);
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_again() {
        let folder = std::env::temp_dir().join(format!("adit-access-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, moved) = (folder.join("access.log"), folder.join("access.log.1"));
        let logged = Logged { to: AccessTo::File(path.clone()), ..Logged::default() };
        let log = AccessLog::start(&logged, LogFormat::Text, Counter::default()).unwrap();

        log.write(entry("/"));
        log.flush();
        fs::rename(&path, &moved).unwrap();
        log.reopen();
        log.write(entry("/"));
        log.write(entry("/"));
        log.flush();

        let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
        assert_eq!((lines(&moved), lines(&path)), (1, 2));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_disk_that_takes_nothing_holds_nobody_and_what_is_lost_is_counted() {
        // A pipe that nobody reads takes 64 KiB, and then nothing.
        let path = std::env::temp_dir().join(format!("adit-access-{}.pipe", std::process::id()));
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let _reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let logged = Logged { to: AccessTo::File(path.clone()), ..Logged::default() };
        let dropped = Counter::default();
        let log = AccessLog::start(&logged, LogFormat::Json, dropped.clone()).unwrap();

        let most = 3 * WAITING as u64;
        for _ in 0..most {
            log.write(entry("/"));
        }

        fs::remove_file(&path).unwrap();
        assert!((1..most).contains(&dropped.get()), "{}", dropped.get());
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted() {
        let logged = Logged { to: AccessTo::File("/dev/full".into()), ..Logged::default() };
        let dropped = Counter::default();
        let log = AccessLog::start(&logged, LogFormat::Json, dropped.clone()).unwrap();

        log.write(entry("/"));
        log.write(entry("/"));
        log.flush();

        assert_eq!(dropped.get(), 2);
    }

    fn entry(target: &'static str) -> Entry {
        let caller = Caller {
            address: "192.0.2.77:5000".parse().unwrap(),
            local: "203.0.113.1:443".parse().unwrap(),
            scheme: Scheme::Https,
            tls: None,
            name: None,
            terms: None,
            identity: None,
        };
        Entry {
            ended: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_900_500_000_007),
            total: Duration::from_micros(1_500),
            caller: Arc::new(caller),
            account: Some("acme".into()),
            endpoint: Some("https://*.example.com".into()),
            agent: Some(AgentId::default()),
            fault: Some(Fault::NoAgent),
            received: 3,
            sent: 5,
            retries: 1,
            verdicts: vec!["on_http_request[0]: deny: refused with 403".to_owned()],
            whole: true,
            request: Some(Request {
                id: "7b".to_owned(),
                host: Some("crm.example.com".to_owned()),
                method: Method::POST,
                uri: Uri::from_static(target),
                version: Version::HTTP_2,
                user_agent: Some(HeaderValue::from_bytes(b"curl/8\xff").unwrap()),
                status: 403,
                first: Some(Duration::from_micros(900)),
                upstream: None,
                trace: None,
            }),
        }
    }
}
