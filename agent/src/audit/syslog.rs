//! Records in the form of RFC 5424, for collectors of syslog.

use serde_json::Value;

use super::Scanned;
use crate::clock;

/// Writes a record as a line: facility 13, log audit; warning for what was refused or went wrong, notice for all else. The message is
/// the record as it is, so that the chain can be verified from it.
pub(crate) fn syslog(record: &Scanned<'_>, host: &str) -> String {
    let value: Value = serde_json::from_str(record.text).unwrap_or_default();
    let refused = value.get("decision").and_then(Value::as_str) == Some("refused");
    let severity = match record.kind {
        "clock" | "lost" | "repaired" | "resumed" | "freeze" => WARNING,
        _ if refused => WARNING,
        _ => NOTICE,
    };
    let (time, kind, text) = (clock::precise(record.wall), record.kind, record.text);
    format!("<{}>1 {time} {host} adit - {kind} - {text}", AUDIT * 8 + severity)
}

/// Returns the name of this host as syslog writes it: `-` where it is not known.
pub(crate) fn hostname() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let name = std::env::var("HOSTNAME").ok().or_else(|| read("/proc/sys/kernel/hostname"));
    let name = name.or_else(|| read("/etc/hostname")).unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

const AUDIT: u8 = 13;
const WARNING: u8 = 4;
const NOTICE: u8 = 5;
