//! From YAML to a policy.

use core::time::Duration;
use std::path::{Path, PathBuf};

use super::{
    AuthorityPattern, Bounds, Commands, EndpointPattern, Files, HostPattern, Limits, Policy, Ports, Protocol, Range,
    Rule, Updates, Window,
};
use crate::{
    audit::{OnFailure, Settings, SyncWhen},
    clock::moment,
    config::{
        ConfigFault, Overrides, fault,
        section::{Context, Section},
        values::{duration, flag},
        yaml,
    },
};

/// Reads everything.
///
/// # Errors
/// Every fault.
pub(super) fn policy(file: &Path, text: &str) -> Result<Policy, Vec<ConfigFault>> {
    let (files, overrides) = ([PathBuf::from(file)], Overrides::default());
    let context = Context::new(&files, &overrides);
    let tree = match yaml::parse(0, text) {
        Ok(tree) => tree,
        Err((place, problem)) => return Err(vec![fault(file, Some(place), &problem, "Correct the YAML there")]),
    };
    let mut root = Section::new(&context, String::new(), Some(tree));
    match root.scalar("version") {
        Some(version) if version.text != "1" => {
            let problem = format!("version `{}` is not known", version.text.escape_debug());
            root.reject("version", &version, &problem, "Write `version: 1`, or update the agent");
        }
        Some(_) => {}
        None => root.missing("version", "a policy needs its version", "Write `version: 1`"),
    }
    let mut policy = Policy {
        bounds: bounds(&mut root),
        capture: root.value("capture", false, "true or false", flag),
        ..Policy::default()
    };
    policy.commands = commands(root.section("commands"));
    policy.audit = audit(root.section("audit"));
    policy.updates = updates(root.section("updates"));
    policy.authorities = authorities(root.section("acme"));
    policy.files = named(&mut root);
    for (number, section) in root.sections("allow").into_iter().enumerate() {
        if number == MAX_RULES {
            section.missing("", "there are too many rules", &format!("Join some: at most {MAX_RULES} are read"));
            break;
        }
        let rule = rule(section, &policy.rules);
        policy.rules.push(rule);
    }
    root.finish();
    let faults = context.finish();
    if faults.is_empty() { Ok(policy) } else { Err(faults) }
}

fn commands(mut section: Section<'_, '_>) -> Commands {
    let mut command = |key| section.value(key, false, "true or false", flag);
    let commands = Commands {
        stop: command("stop"),
        restart: command("restart"),
        update: command("update"),
        configuration: command("configuration"),
    };
    section.finish();
    commands
}

fn audit(mut section: Section<'_, '_>) -> Settings {
    let default = Settings::default();
    let path = section.path("path");
    if let Some((path, scalar)) = path.as_ref().filter(|(path, _)| path.file_name().is_none()) {
        let problem = format!("`{}` names no folder", path.display());
        section.reject("path", scalar, &problem, "Write a path such as /var/lib/adit/audit");
    }
    let on_failure = section.value("on_failure", default.on_failure, "refuse or continue", |text| match text {
        "refuse" => Some(OnFailure::Refuse),
        "continue" => Some(OnFailure::Continue),
        _ => None,
    });
    let sync = section.value("sync", default.sync, "second or each", |text| match text {
        "second" => Some(SyncWhen::Second),
        "each" => Some(SyncWhen::Each),
        _ => None,
    });
    let within = |low, high| move |number: &u64| (low..=high).contains(number);
    let settings = Settings {
        enabled: section.value("enabled", default.enabled, "true or false", flag),
        path: path.map(|(path, _)| path),
        on_failure,
        sync,
        max_size: section.value("max_size", default.max_size, "a size of 64KiB to 1GiB", |text| {
            number(text).filter(within(64 << 10, 1 << 30))
        }),
        max_age: section.value("max_age", default.max_age, "a time of 1m to 3650d", |text| {
            age(text).filter(|age| (60..=3_650 * 86_400).contains(&age.as_secs()))
        }),
        keep: section.value("keep", default.keep, "a number of files, 2 to 10000", |text| {
            number(text).filter(within(2, 10_000))
        }),
    };
    section.finish();
    settings
}

/// Reads a time that may be in days.
fn age(text: &str) -> Option<Duration> {
    match text.strip_suffix('d') {
        Some(days) => Some(Duration::from_secs(days.parse::<u32>().ok().map(u64::from)? * 86_400)),
        None => duration(text),
    }
}

fn updates(mut section: Section<'_, '_>) -> Updates {
    let mut wanted = |key| section.value(key, false, "true or false", flag);
    let updates = Updates { check: wanted("check"), install: wanted("install") };
    section.finish();
    updates
}

fn authorities(mut section: Section<'_, '_>) -> Vec<AuthorityPattern> {
    let expected = "a host such as acme-v02.api.letsencrypt.org, ca.corp:14000 or *.corp";
    let authorities = each(&mut section, "hosts", expected, AuthorityPattern::parse);
    section.finish();
    authorities
}

fn named(section: &mut Section<'_, '_>) -> Files {
    section.fill(&["files"]);
    if !section.has("files") {
        section.scalars("files"); // known all the same
        return Files::Usual;
    }
    Files::Listed(each(section, "files", "the whole path of a file or a folder, such as /etc/adit", Files::parse))
}

fn bounds(section: &mut Section<'_, '_>) -> Bounds {
    section.fill(&BOUNDS);
    let expected = "a time such as 2026-12-31T18:00:00Z or 2026-12-31T18:00:00+01:00";
    let expires = section.value("expires", None, expected, |text| moment(text).map(Some));
    let windows = each(section, "hours", "hours such as mon-fri 08:00-18:00 +01:00", Window::parse);
    let mut limit = |key, expected: &str| section.value(key, None, expected, |text| number(text).map(Some));
    let (count, size) = ("a number of at least 1", "a number of octets such as 500MB or 10GiB");
    let limits = Limits {
        connections: limit("max_connections", count),
        connections_per_second: limit("connections_per_second", count),
        bytes_per_second: limit("bytes_per_second", size),
        total_bytes: limit("total_bytes", size),
    };
    Bounds { expires, hours: windows, limits }
}

fn rule(mut section: Section<'_, '_>, before: &[Rule]) -> Rule {
    let name = section.scalar("name");
    match &name {
        None => section.missing("name", "a rule needs a name", "Give it one: the log tells by it what refused"),
        Some(scalar)
            if scalar.text.is_empty() || scalar.text.len() > MAX_NAME || scalar.text.chars().any(char::is_control) =>
        {
            section.reject("name", scalar, "not a name", &format!("Write 1 to {MAX_NAME} octets on one line"));
        }
        Some(scalar) if before.iter().any(|other| other.name == scalar.text) => {
            section.reject("name", scalar, &format!("there are two rules `{}`", scalar.text), "Give each its own name");
        }
        Some(_) => {}
    }
    let given = ["endpoints", "hosts", "protocols", "ports", "addresses"].map(|key| section.has(key));
    let expected = "an endpoint such as https://crm.example.com, https://*.example.com, tcp://:5000-5999 or *";
    let endpoints = each(&mut section, "endpoints", expected, EndpointPattern::parse);
    let expected = "a host such as crm.corp, *.corp, 10.0.0.0/8, unix:/run/app.sock or *";
    let hosts = each(&mut section, "hosts", expected, HostPattern::parse);
    let expected = "an address or a network such as 10.1.2.3 or 10.0.0.0/8";
    let addresses = each(&mut section, "addresses", expected, Range::parse);
    let ports = each(&mut section, "ports", "a port such as 443 or 8000-8099", Ports::parse);
    let protocols = each(&mut section, "protocols", "http, https, tcp or tls", Protocol::parse);
    complete(&section, given, &hosts);
    let bounds = bounds(&mut section);
    section.finish();
    let name = name.map(|scalar| scalar.text).unwrap_or_default();
    Rule { name, endpoints, hosts, addresses, ports, protocols, bounds }
}

/// Tells what a rule has to say and does not: nothing is allowed because it was left out.
fn complete(section: &Section<'_, '_>, given: [bool; 5], hosts: &[HostPattern]) {
    let by_port = hosts.iter().any(|host| !host.is_unix());
    let by_name = hosts.iter().any(HostPattern::needs_addresses);
    let needed = [
        (true, "endpoints", "a rule says for which endpoints it is", "Write `endpoints: [https://crm.example.com]`"),
        (true, "hosts", "a rule says which hosts may be reached", "Write `hosts: [localhost]`"),
        (true, "protocols", "a rule says what may be spoken", "Write some of `protocols: [http, https, tcp, tls]`"),
        (by_port, "ports", "a rule says which ports may be reached", "Write `ports: [443]`"),
        (
            by_name,
            "addresses",
            "a name needs the addresses that it may have: DNS can say others at any time",
            "Write `addresses: [10.0.0.0/8]`",
        ),
    ];
    for ((needed, key, problem, remedy), given) in needed.into_iter().zip(given) {
        if needed && !given {
            section.missing(key, problem, remedy);
        }
    }
}

/// Reads a list, item by item.
fn each<T>(
    section: &mut Section<'_, '_>,
    key: &'static str,
    expected: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Vec<T> {
    let mut items = Vec::new();
    for scalar in section.scalars(key) {
        let Some(item) = read(&scalar.text) else {
            let problem = format!("`{}` is not {expected}", scalar.text.escape_debug());
            section.reject(key, &scalar, &problem, "Correct it");
            continue;
        };
        if items.len() == MAX_ITEMS {
            section.reject(key, &scalar, "there are too many", &format!("Write at most {MAX_ITEMS}"));
            break;
        }
        items.push(item);
    }
    items
}

/// Reads a number, perhaps with a unit: `500`, `10_000`, `500MB`, `10GiB`.
fn number(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit: u64 = match unit.trim_start() {
        "" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|number| *number > 0)
}

/// What bounds a rule or the whole: none of them may be empty.
const BOUNDS: [&str; 6] =
    ["expires", "hours", "max_connections", "connections_per_second", "bytes_per_second", "total_bytes"];
/// More rules are not read.
const MAX_RULES: usize = 256;
/// A list of a rule is not longer.
const MAX_ITEMS: usize = 256;
/// A rule's name is not longer, in octets.
const MAX_NAME: usize = 64;
