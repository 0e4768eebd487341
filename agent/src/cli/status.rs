//! `adit status` and `adit logs`.

use core::time::Duration;
use std::{
    io::{self, IsTerminal as _},
    thread,
};

use adit_core::escape;
use rustls::crypto::CryptoProvider;
use serde_json::Value;

use super::{
    Failure,
    arguments::{Global, Logs, Output, Status},
    client::Client,
    print, say,
};
use crate::errors::Exit;

/// Shows how the running agent is.
pub(super) fn status(global: &Global, asked: &Status, provider: &CryptoProvider) -> Result<Exit, Failure> {
    loop {
        let client = Client::find(global, &asked.running, provider)?;
        let status = client.get("/v1/status")?;
        let again = if asked.watch && io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        let is_heard = match asked.running.output {
            Output::Json => say(&format!("{status}\n"))?,
            Output::Text => say(&format!("{again}{}", text(&status)))?,
        };
        if !asked.watch || !is_heard {
            return Ok(Exit::Fine);
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Shows the last lines of the running agent's log.
pub(super) fn logs(global: &Global, asked: &Logs, provider: &CryptoProvider) -> Result<Exit, Failure> {
    let client = Client::find(global, &asked.running, provider)?;
    let mut answer = client.get(&format!("/v1/logs?limit={}", asked.lines))?;
    loop {
        if let Some(lost) = answer["lost"].as_u64().filter(|lost| *lost > 0) {
            print(&line_of(&serde_json::json!({ "message": "lines are lost", "count": lost }), asked.running.output))?;
        }
        for line in answer["lines"].as_array().into_iter().flatten() {
            if !say(&line_of(line, asked.running.output))? {
                return Ok(Exit::Fine);
            }
        }
        if !asked.follow {
            return Ok(Exit::Fine);
        }
        let next = answer["next"].as_u64().unwrap_or_default();
        let waited = std::time::Instant::now();
        answer = client.get(&format!("/v1/logs?from={next}&limit=1000&wait=20"))?;
        if answer["lines"].as_array().is_none_or(Vec::is_empty) && waited.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_secs(1)); // too many wait there
        }
    }
}

fn line_of(line: &Value, output: Output) -> String {
    if output == Output::Json {
        return format!("{line}\n");
    }
    let word = |key: &str| escape(line[key].as_str().unwrap_or_default()).to_string();
    let mut text = format!("{} {:5} {}", word("time"), word("level").to_uppercase(), word("message"));
    for (key, value) in line.as_object().into_iter().flatten() {
        if !matches!(key.as_str(), "time" | "level" | "message") {
            let value = value.as_str().map_or_else(|| value.to_string(), |value| format!("\"{}\"", escape(value)));
            text.push_str(&format!(" {key}={value}"));
        }
    }
    text.trim_start().to_owned() + "\n"
}

/// Writes a status for people.
fn text(status: &Value) -> String {
    let mut page = Page(String::new());
    page.agent(status);
    page.session(status);
    for endpoint in status["endpoints"].as_array().into_iter().flatten() {
        page.endpoint(endpoint);
    }
    page.attempt(&status["attempt"]);
    page.disconnects(&status["disconnects"]);
    page.0
}

struct Page(String);

impl Page {
    fn line(&mut self, key: &str, text: &str) {
        self.0.push_str(&format!("{key:14}{}\n", escape(text)));
    }

    fn below(&mut self, text: &str) {
        self.0.push_str(&format!("  {}\n", escape(text)));
    }

    fn agent(&mut self, status: &Value) {
        let up = duration(status["uptime_seconds"].as_f64().unwrap_or_default());
        let version = word(&status["version"]);
        self.line("Agent", &format!("adit {version}, process {}, for {up}", status["process"]));
        let files: Vec<_> = status["configuration"].as_array().into_iter().flatten().map(word).collect();
        self.line("Configuration", &if files.is_empty() { "none".to_owned() } else { files.join(", ") });
        let policy = status["policy"].as_str().map(|version| format!("version {version}"));
        self.line("Policy", &policy.unwrap_or_else(|| "none".to_owned()));
    }

    fn session(&mut self, status: &Value) {
        let session = &status["session"];
        let (state, node, region) = (word(&session["state"]), word(&session["node"]), word(&session["region"]));
        let at = if state == "online" { format!(" at {node} ({region})") } else { String::new() };
        let count = format!("{} of {} sessions", session["online"], session["wanted"]);
        self.line("Session", &format!("{state}{at}, {count}"));
        if let Some(why) = status["frozen"].as_str() {
            self.line("Frozen", why);
        }
        let audit = &status["audit"];
        if let Some(problem) = audit["problem"].as_str() {
            let comes =
                if audit["refuses"] == true { "new connections are refused" } else { "connections have no record" };
            self.line("Audit log", &format!("{problem}: {comes}"));
        } else if let Some(folder) = audit["folder"].as_str() {
            self.line("Audit log", folder);
        }
        self.remote(&status["remote"]);
        if let Some(trouble) = status["trouble"].as_str() {
            self.line("Trouble", trouble);
        }
        if let Some(revocation) = status["revocation"].as_str().filter(|text| !text.is_empty()) {
            self.line("Revocation", revocation);
        }
        let round_trip =
            status["round_trip_ms"].as_f64().map_or_else(|| "not known".to_owned(), |ms| format!("{ms} ms"));
        self.line("Round trip", &round_trip);
        let heartbeat = &status["heartbeat"];
        if let Some(interval) = heartbeat["interval_seconds"].as_f64() {
            let seconds = |key: &str| duration(heartbeat[key].as_f64().unwrap_or_default());
            let (tolerance, dead) = (seconds("tolerance_seconds"), seconds("dead_after_seconds"));
            let every = duration(interval);
            self.line("Heartbeat", &format!("every {every}, tolerance {tolerance}: dead after {dead} of silence"));
        }
        let connections = &status["connections"];
        self.line("Connections", &format!("{} open, {} in all", connections["open"], connections["total"]));
        let capture = &status["capture"];
        let text = match capture["why_not"].as_str() {
            Some(why) => format!("off: {why}"),
            None => format!("on: {} of at most {} requests in memory", capture["kept"], capture["most"]),
        };
        self.line("Capture", &text);
    }

    fn remote(&mut self, remote: &Value) {
        if let Some(problem) = remote["problem"].as_str() {
            self.line("Remote", &format!("{problem}: none of it is in force"));
        } else if remote.is_object() {
            let (taken, print, said) = (word(&remote["taken"]), word(&remote["sha256"]), word(&remote["said"]));
            let short = print.get(..12).unwrap_or_default();
            let count = &remote["endpoints"];
            self.line(
                "Remote",
                &format!("{count} endpoints of the vendor, taken at {taken}, SHA-256 {short}…, `{said}`"),
            );
            let left_out: Vec<String> = remote["left_out"].as_array().into_iter().flatten().map(word).collect();
            if let (Some(why), true) = (remote["callers_refused"].as_str(), remote["not_in_force"].is_null()) {
                self.line("", &format!("kept; callers are refused: {why}"));
            }
            match remote["not_in_force"].as_str() {
                Some(why) => self.line("", &format!("not in force: {why}")),
                None if left_out.is_empty() => {}
                None => self.line("", &format!("without {}, which the configuration has itself", left_out.join(", "))),
            }
        }
    }

    fn endpoint(&mut self, endpoint: &Value) {
        let state = if endpoint["bound"] == true { "bound" } else { "not bound" };
        let (name, url, upstream) = (word(&endpoint["name"]), word(&endpoint["url"]), word(&endpoint["upstream"]));
        self.line(
            "Endpoint",
            &format!("{name}: {url} to {upstream}, {state}, {} connections", endpoint["connections"]),
        );
        if endpoint["remote"] == true {
            self.line("", "sent by the vendor");
        }
        let reader = match endpoint["tls_end"].as_str().unwrap_or_default() {
            "network" => "TLS of callers ends at the network, which can read what they send",
            "agent" => "TLS of callers ends at this agent",
            "upstream" => "TLS of callers ends at the upstream: nobody before it can read what they send",
            _ => "no TLS of callers is known of",
        };
        self.line("", reader);
        let certificate = &endpoint["certificate"];
        if certificate.is_object() {
            let (from, until) = (word(&certificate["directory"]), certificate["valid_until"].as_str());
            let until = until.map_or_else(|| "none yet".to_owned(), |until| format!("good until {until}"));
            let next = word(&certificate["next_order"]);
            self.line("", &format!("certificate from {from}: {until}, the next is ordered {next}"));
            if let Some(problem) = certificate["problem"].as_str() {
                self.line("", &format!("{problem} ({} times in a row)", certificate["failures"]));
            }
        }
        for key in ["problem", "refusal"] {
            if let Some(text) = endpoint[key].as_str() {
                self.line("", text);
            }
        }
        if let Some(told) = endpoint["told"].as_str() {
            self.line("", &format!("the network is told {told}"));
        }
    }

    fn attempt(&mut self, attempt: &Value) {
        if attempt.is_null() {
            return;
        }
        let (network, ended) = (word(&attempt["network"]), word(&attempt["ended"]));
        self.0.push_str(&format!("\nLast attempt to connect, {}, {}\n", escape(&network), escape(&ended)));
        for step in attempt["steps"].as_array().into_iter().flatten() {
            let (name, outcome, detail) = (word(&step["step"]), word(&step["outcome"]), word(&step["detail"]));
            self.below(format!("{name:8} {outcome:10} {:>10} ms  {detail}", step["took_ms"].to_string()).trim_end());
        }
        if let Some(error) = attempt["error"].as_str() {
            self.below(error);
        }
    }

    fn disconnects(&mut self, disconnects: &Value) {
        let Some(disconnects) = disconnects.as_array() else { return };
        self.0.push_str("\nLast disconnects, the latest first\n");
        if disconnects.is_empty() {
            self.below("none");
        }
        for one in disconnects.iter().rev() {
            let kept = if one["kept"] == true { "; open connections waited for the next" } else { "" };
            self.below(&format!("{}  session {}  {}{kept}", word(&one["at"]), one["lane"], word(&one["reason"])));
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Writes seconds for people.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds} s"),
        seconds if seconds < 7_200.0 => format!("{:.0} min", seconds / 60.0),
        seconds if seconds < 172_800.0 => format!("{:.1} h", seconds / 3_600.0),
        seconds => format!("{:.1} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_told_line_by_line_and_moves_no_cursor() {
        let status = json!({
            "version": "0.1.0", "process": 7, "uptime_seconds": 7_200, "configuration": ["a.yml"], "policy": "0123abcd",
            "session": { "state": "online", "online": 1, "wanted": 1, "region": "eu", "node": "n1\u{1b}[2J" },
            "round_trip_ms": 1.5, "connections": { "open": 2, "total": 9 },
            "heartbeat": { "interval_seconds": 10.0, "tolerance_seconds": 15.0, "dead_after_seconds": 25.0 },
            "capture": { "on": false, "why_not": "no" },
            "audit": { "folder": "/a", "problem": "ADIT-1404: full", "refuses": true },
            "remote": { "endpoints": 1, "sha256": "0123456789abcdef", "said": "by ops", "taken": "2027", "not_in_force": null,
                        "callers_refused": "frozen: by hand",
                        "left_out": ["x"], "problem": null },
            "endpoints": [{ "name": "web", "url": "https://a.example", "upstream": "localhost:1", "bound": true, "remote": true,
                            "tls_end": "network", "connections": 2, "problem": null, "refusal": "ADIT-1402: no" }],
            "attempt": { "network": "n:1", "ended": "2026", "error": null,
                         "steps": [{ "step": "dns", "outcome": "ok", "took_ms": 1.25, "detail": "127.0.0.1" }] },
            "disconnects": [{ "at": "2025", "lane": 0, "reason": "ADIT-1113: silent", "kept": true },
                            { "at": "2026", "lane": 0, "reason": "ADIT-1112: lost", "kept": false }],
        });

        let text = text(&status);

        for line in [
            "Agent         adit 0.1.0, process 7, for 2.0 h",
            "Policy        version 0123abcd",
            "Session       online at n1\\u{1b}[2J (eu), 1 of 1 sessions",
            "Round trip    1.5 ms",
            "Heartbeat     every 10 s, tolerance 15 s: dead after 25 s of silence",
            "Connections   2 open, 9 in all",
            "Capture       off: no",
            "Audit log     ADIT-1404: full: new connections are refused",
            "Remote        1 endpoints of the vendor, taken at 2027, SHA-256 0123456789ab…, `by ops`",
            "              kept; callers are refused: frozen: by hand",
            "              without x, which the configuration has itself",
            "              sent by the vendor",
            "Endpoint      web: https://a.example to localhost:1, bound, 2 connections",
            "              TLS of callers ends at the network, which can read what they send",
            "              ADIT-1402: no",
            "Last attempt to connect, n:1, 2026",
            "  dns      ok               1.25 ms  127.0.0.1",
            "  2026  session 0  ADIT-1112: lost",
            "  2025  session 0  ADIT-1113: silent; open connections waited for the next",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
        assert!(!text.contains('\u{1b}') && text.find("2026  session") < text.find("2025  session"));
    }

    #[test]
    fn a_line_of_the_log_stays_in_its_line() {
        let line = json!({ "time": "t", "level": "warn", "message": "a\nb", "count": 3, "text": "x\u{1b}" });

        assert_eq!(line_of(&line, Output::Text), "t WARN  a\\u{a}b count=3 text=\"x\\u{1b}\"\n");
        assert_eq!(line_of(&line, Output::Json).lines().count(), 1);
    }
}
