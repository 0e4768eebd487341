//! What was found, for a person and as JSON, without secrets.

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use adit_core::{Secret, escape};
use serde_json::{Value, json};

use crate::{
    clock::utc,
    config::Config,
    errors::{Error, Exit},
};

/// All that was looked at.
#[derive(Debug)]
pub(crate) struct Report {
    made: i64,
    files: Vec<String>,
    network: Vec<String>,
    proxy: Option<(String, &'static str)>,
    resolvers: Vec<String>,
    checks: Vec<Check>,
    /// What must not stand in it, wherever it may have come from.
    pub(super) secrets: Vec<Secret>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) subject: String,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    pub(crate) found: String,
    pub(crate) error: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    Warning,
    Failed,
    Skipped,
}

impl Verdict {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

impl Check {
    pub(super) fn new(name: &'static str, subject: &str) -> Self {
        let subject = escape(subject).to_string();
        Self { name, subject, verdict: Verdict::Skipped, took: Duration::ZERO, found: String::new(), error: None }
    }

    pub(super) fn done(self, found: String, took: Duration) -> Self {
        Self { verdict: Verdict::Ok, took, found, ..self }
    }

    pub(super) fn failed(self, error: Error, took: Duration) -> Self {
        Self { verdict: Verdict::Failed, took, error: Some(error), ..self }
    }

    pub(super) fn warned(self, error: Error, took: Duration) -> Self {
        Self { verdict: Verdict::Warning, took, error: Some(error), ..self }
    }

    pub(super) fn skipped(self, why: &str) -> Self {
        Self { verdict: Verdict::Skipped, found: why.to_owned(), ..self }
    }

    fn text(&self) -> String {
        let Self { name, subject, verdict, took, found, error } = self;
        let took = if *took == Duration::ZERO { String::new() } else { format!("{:.1} ms", took.as_secs_f64() * 1e3) };
        let mut text = format!("{:8} {name:10} {subject}  {took}", verdict.word()).trim_end().to_owned();
        text.push('\n');
        if !found.is_empty() {
            text.push_str(&format!("         {found}\n"));
        }
        if let Some(error) = error {
            text.push_str(&format!("         {error}\n         {}\n", error.fault.entry().remedy));
        }
        text
    }

    fn json(&self) -> Value {
        let entry = self.error.as_ref().map(|error| error.fault.entry());
        json!({
            "check": self.name,
            "subject": self.subject,
            "result": self.verdict.word(),
            "took_ms": self.took.as_secs_f64() * 1e3,
            "found": self.found,
            "code": self.error.as_ref().map(|error| error.fault.code()),
            "error": self.error.as_ref().map(ToString::to_string),
            "remedy": entry.map(|entry| entry.remedy),
            "actor": entry.map(|entry| entry.actor.word()),
        })
    }
}

impl Report {
    pub(super) fn new(config: &Config) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let agent = &config.agent;
        Self {
            made: i64::try_from(now).unwrap_or(i64::MAX),
            files: config.files.iter().map(|file| file.display().to_string()).collect(),
            network: agent.targets.iter().map(|target| format!("{}:{}", target.host, target.port)).collect(),
            proxy: agent.proxy.as_ref().map(|found| (found.proxy.to_string(), found.source)),
            resolvers: agent.resolvers.iter().map(ToString::to_string).collect(),
            checks: Vec::new(),
            secrets: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, check: Check) {
        self.checks.push(check);
    }

    pub(super) fn extend(&mut self, checks: Vec<Check>) {
        self.checks.extend(checks);
    }

    /// Returns what a command ends with: that of the first that failed.
    pub(crate) fn exit(&self) -> Exit {
        let failed = self.checks.iter().find(|check| check.verdict == Verdict::Failed);
        failed.map_or(Exit::Fine, |check| check.error.as_ref().map_or(Exit::Failed, |error| error.fault.entry().exit))
    }

    /// Returns it for a person.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if let Some((url, source)) = &self.proxy {
            text.push_str(&format!("proxy {url}, from {source}\n"));
        }
        if !self.resolvers.is_empty() {
            text.push_str(&format!("names are resolved by {}\n", self.resolvers.join(", ")));
        }
        text.extend(self.checks.iter().map(Check::text));
        let count = |verdict| self.checks.iter().filter(|check| check.verdict == verdict).count();
        text.push_str(&format!("{} ok, {} failed\n", count(Verdict::Ok), count(Verdict::Failed)));
        self.redacted(text, str::to_owned)
    }

    /// Returns it as one JSON object.
    pub(crate) fn json(&self) -> String {
        let checks: Vec<_> = self.checks.iter().map(Check::json).collect();
        let report = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": adit_core::VERSION,
            "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            "made": utc(self.made),
            "config": self.files,
            "network": self.network,
            "proxy": self.proxy.as_ref().map(|(url, source)| json!({ "url": url, "from": source })),
            "dns_resolver_ips": self.resolvers,
            "result": if self.exit() == Exit::Fine { "ok" } else { "failed" },
            "checks": checks,
        });
        // As it stands between the quotes of a text.
        let inside = |secret: &str| Value::from(secret).to_string().trim_matches('"').to_owned();
        self.redacted(report.to_string(), inside)
    }

    /// Takes out what nobody is to read, as `written` in this kind of text. It should not be there: whoever sends a report on does not look for it.
    fn redacted(&self, text: String, written: impl Fn(&str) -> String) -> String {
        let secrets = self.secrets.iter().filter_map(|secret| core::str::from_utf8(secret.expose()).ok());
        let mut secrets: Vec<_> = secrets.filter(|secret| secret.len() >= MIN_SECRET).map(written).collect();
        secrets.sort_by_key(|secret| core::cmp::Reverse(secret.len())); // one may be a part of another
        secrets.iter().fold(text, |text, secret| text.replace(secret, "(redacted)"))
    }
}

/// What is shorter stands in any text by chance, in octets.
const MIN_SECRET: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Fault;

    fn report() -> Report {
        let config = crate::testing::config("version: 1\nagent:\n  connect_url: node.example.com\n");
        let mut report = Report::new(&config);
        report.add(Check::new("dns", "node.example.com:443").done("192.0.2.1".to_owned(), Duration::from_millis(12)));
        report.add(Check::new("proxy", "node.example.com:443").skipped("none is used"));
        report
    }

    #[test]
    fn what_failed_first_decides_how_a_command_ends() {
        let mut report = report();
        assert_eq!(report.exit(), Exit::Fine);
        report.add(Check::new("policy", "x").warned(Fault::Frozen.into(), Duration::ZERO));
        assert_eq!(report.exit(), Exit::Fine, "a warning is no failure");
        report.add(Check::new("tcp", "x").failed(Fault::ConnectTimeout.into(), Duration::from_secs(1)));
        report.add(Check::new("upstream", "x").failed(Fault::UpstreamRefused.into(), Duration::ZERO));
        assert_eq!(report.exit(), Exit::Unreachable);

        let text = report.text();
        assert!(text.contains("ok       dns        node.example.com:443  12.0 ms\n         192.0.2.1\n"), "{text}");
        assert!(text.contains("failed   tcp        x  1000.0 ms\n         ADIT-1103: "), "{text}");
        assert!(text.ends_with("1 ok, 2 failed\n"), "{text}");
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&json["result"], &json["checks"][3]["code"]), (&json!("failed"), &json!("ADIT-1103")));
        assert_eq!(json["checks"][0]["took_ms"], json!(12.0));
    }

    #[test]
    fn a_secret_is_taken_out_wherever_it_came_from() {
        let mut report = report();
        report.secrets.push(Secret::new(*b"s3cret-token"));
        report.add(Check::new("proxy", "x").done("it says s3cret-token".to_owned(), Duration::ZERO));

        for text in [report.text(), report.json()] {
            assert!(!text.contains("s3cret-token") && text.contains("(redacted)"), "{text}");
        }
    }

    #[test]
    fn a_secret_is_taken_out_whole_and_as_json_writes_it() {
        let mut report = report();
        report.secrets.extend(["s3cret", "long-s3cret-token", "pa\"ss\\wo\nrd", "short"].map(Secret::new));
        let said = "long-s3cret-token, s3cret, pa\"ss\\wo\nrd, short".to_owned();
        report.add(Check::new("proxy", "x").failed(Error::new(Fault::ProxyRefused, said), Duration::ZERO));

        for text in [report.text(), report.json()] {
            assert!(text.contains("(redacted), (redacted), (redacted), short"), "{text}");
        }
        assert!(serde_json::from_str::<Value>(&report.json()).is_ok());
    }
}
