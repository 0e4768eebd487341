//! The registry beside `adit-core`: one cannot change without the other.

use std::collections::BTreeSet;

use adit_conformance::{Registry, Schema, clauses};
use adit_core::{
    Code, CodeClass, Config, MAX_OFFSET, VERSION, Violation,
    frame::{HEADER, Kind, RawKind},
};

#[test]
fn the_frame_types_are_those_of_the_core() {
    let registry = Registry::load();
    let described: Vec<_> =
        registry.frames.iter().map(|frame| (frame.name.as_str(), frame.number, frame.counted, frame.length)).collect();
    let known: Vec<_> =
        Kind::ALL.iter().map(|kind| (kind.name(), kind.number(), kind.is_counted(), kind.fixed_length())).collect();
    assert_eq!(described, known);

    for frame in &registry.frames {
        let kind = Kind::from_number(frame.number).expect("just compared");
        let of = if kind.is_link() {
            "link"
        } else if kind.of_stream() {
            "stream"
        } else {
            "session"
        };
        assert_eq!(frame.of, of, "{}", frame.name);
    }
}

#[test]
fn the_extension_ranges_are_those_of_the_core() {
    for range in Registry::load().extensions {
        for number in range.from..=range.to {
            assert_eq!(Kind::from_number(number), None);
            assert_eq!(RawKind::Extension(number).is_counted(), range.counted, "{number:#04x}");
        }
    }
}

#[test]
fn the_codes_are_those_of_the_core() {
    let registry = Registry::load();
    let described: Vec<_> = registry.codes.iter().map(|code| (Code(code.number), code.name.as_str())).collect();
    assert_eq!(described, Code::ALL);

    for code in &registry.codes {
        let class = match Code(code.number).class() {
            CodeClass::Protocol => "protocol",
            CodeClass::Session => "session",
            CodeClass::Stream => "stream",
            CodeClass::Application => "application",
        };
        assert_eq!(code.class, class, "{}", code.name);
    }
}

#[test]
fn the_violations_are_those_of_the_core() {
    let registry = Registry::load();
    let described: Vec<_> = registry
        .violations
        .iter()
        .map(|entry| (entry.name.clone(), entry.clause.clone(), entry.code.clone()))
        .collect();
    let known: Vec<_> = Violation::ALL
        .iter()
        .map(|violation| (format!("{violation:?}"), violation.clause().to_owned(), violation.code().to_string()))
        .collect();
    assert_eq!(described, known);
}

#[test]
fn the_clause_of_a_violation_names_its_code() {
    let clauses = clauses();
    for violation in Violation::ALL {
        let clause = clauses.get(violation.clause()).unwrap_or_else(|| panic!("{violation:?} has no clause"));
        let code = violation.code().to_string();
        assert!(clause.codes().contains(&code.as_str()), "{} does not name {code}", violation.clause());
    }
}

#[test]
fn every_code_that_a_clause_names_exists() {
    let registry = Registry::load();
    for (id, clause) in clauses() {
        for code in clause.codes() {
            assert!(registry.code(code).is_some(), "{id} names {code}");
        }
    }
}

#[test]
fn the_limits_and_timers_are_the_defaults_of_the_core() {
    let registry = Registry::load();
    let (agent, network) = (Config::agent(), Config::network());
    for limit in &registry.limits {
        let defaults = (value(&agent, &limit.name), value(&network, &limit.name));
        assert_eq!(defaults, (Some(limit.agent), Some(limit.network)), "{}", limit.name);
        let in_range = |value: u64| value >= limit.least && limit.most.is_none_or(|most| value <= most);
        assert!(in_range(limit.agent) && in_range(limit.network), "{}", limit.name);
    }
    for timer in &registry.timers {
        assert_eq!(value(&agent, &timer.name), Some(timer.ms), "{}", timer.name);
        assert!((timer.least_ms..=timer.most_ms).contains(&timer.ms), "{}", timer.name);
    }
}

/// LIM-001: a limit that the configuration has and the registry has not is one that no peer can notice.
#[test]
fn the_limits_and_timers_are_complete() {
    let registry = Registry::load();
    let listed: BTreeSet<&str> = registry
        .limits
        .iter()
        .map(|limit| limit.name.as_str())
        .chain(registry.timers.iter().map(|timer| timer.name.as_str()))
        .map(|name| name.split('.').next().unwrap_or_default())
        .chain(["window_eager", "window_max", "pool", "open_streams", "send_stream", "send_total"])
        .collect();

    let shown = format!("{:#?}", Config::agent());
    let fields = shown.lines().filter_map(|line| line.strip_prefix("    ").filter(|line| !line.starts_with(' ')));
    let fields: BTreeSet<&str> = fields.filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();

    assert_eq!(fields, listed);
}

/// LIM-001
#[test]
fn a_limit_or_time_outside_of_its_range_is_refused() {
    let registry = Registry::load();
    let limits = registry.limits.iter().map(|limit| (&limit.name, limit.least, limit.most));
    let timers = registry.timers.iter().map(|timer| (&timer.name, timer.least_ms, Some(timer.most_ms)));
    for (name, least, most) in limits.chain(timers) {
        let check = |number: u64| {
            let mut config = Config::agent();
            // What other fields must not be below.
            (config.window_eager, config.window_max, config.send_stream) = (1 << 20, 8 << 20, 1 << 20);
            config.heartbeat.interval = config.heartbeat.interval.min(adit_core::Duration::from_secs(1));
            set(&mut config, name, number);
            config.check().is_ok()
        };
        assert!(check(least), "{name}: {least}");
        assert!(least == 0 || !check(least - 1), "{name}: {}", least - 1);
        if let Some(most) = most {
            assert!(check(most), "{name}: {most}");
            assert!(!check(most + 1), "{name}: {}", most + 1);
        }
    }
}

#[test]
fn the_tables_of_the_text_are_those_of_the_registry() {
    let registry = Registry::load();
    let frames = rows(include_str!("../spec/frames.md"), "type");
    let described: Vec<Vec<String>> = registry
        .frames
        .iter()
        .map(|frame| {
            vec![format!("{:#04x}", frame.number), capitals(&frame.name), frame.of.clone(), frame.from.clone()]
        })
        .collect();
    assert_eq!(frames.iter().map(|row| row[..4].to_vec()).collect::<Vec<_>>(), described);
    for (row, frame) in frames.iter().zip(&registry.frames) {
        let payload = row[4].as_str();
        let length =
            if payload == "empty" { Some(0) } else { payload.split([' ', ':']).next().and_then(|n| n.parse().ok()) };
        assert_eq!(length.filter(|_| !payload.starts_with("message")), frame.length, "{}: {payload}", frame.name);
        let named = payload.split('`').nth(1).unwrap_or(&frame.name);
        let carries = payload.starts_with("message").then_some(named);
        assert_eq!(carries, frame.message.as_deref(), "{}: {payload}", frame.name);
    }

    let limits = include_str!("../spec/limits.md");
    let codes: Vec<Vec<String>> = registry
        .codes
        .iter()
        .map(|code| vec![format!("{:#05x}", code.number), code.name.clone(), code.class.clone()])
        .collect();
    assert_eq!(rows(limits, "code").iter().map(|row| row[..3].to_vec()).collect::<Vec<_>>(), codes);
    let described: Vec<Vec<String>> = registry
        .limits
        .iter()
        .map(|limit| {
            let numbers = [Some(limit.agent), Some(limit.network), Some(limit.least), limit.most];
            let numbers = numbers.map(|number| number.map(grouped).unwrap_or_default());
            [&[limit.name.clone(), limit.unit.clone()][..], &numbers, core::slice::from_ref(&limit.clause)].concat()
        })
        .collect();
    assert_eq!(rows(limits, "limit"), described);
    let described: Vec<Vec<String>> = registry
        .timers
        .iter()
        .map(|timer| {
            let numbers = [timer.ms, timer.least_ms, timer.most_ms].map(grouped);
            [core::slice::from_ref(&timer.name), &numbers, core::slice::from_ref(&timer.clause)].concat()
        })
        .collect();
    assert_eq!(rows(limits, "time"), described);
}

#[test]
fn the_text_says_what_every_field_of_the_schema_means() {
    let told: Vec<(String, String)> = rows(include_str!("../spec/messages.md"), "message")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let schema = Schema::load();
    let mut fields: Vec<(String, String)> = Vec::new();
    for message in schema.messages() {
        fields.extend(schema.fields(message).map(|(field, _)| (message.to_owned(), field.to_owned())));
    }
    let sorted = |mut list: Vec<(String, String)>| {
        list.sort();
        list
    };
    assert_eq!(sorted(told), sorted(fields));
}

#[test]
fn the_constants_are_those_of_the_core() {
    let registry = Registry::load();

    assert_eq!(registry.version, VERSION);
    assert_eq!(registry.alpn, "adit/1");
    assert_eq!(registry.header_octets, HEADER);
    assert_eq!(registry.max_offset, MAX_OFFSET);
    assert_eq!(registry.max_stream, u32::MAX >> 1);
}

#[test]
fn every_reference_of_the_registry_exists() {
    let (registry, clauses) = (Registry::load(), clauses());
    let messages: BTreeSet<_> = Schema::load().messages().map(str::to_owned).collect();
    for frame in &registry.frames {
        assert!(frame.message.as_ref().is_none_or(|message| messages.contains(message)), "{}", frame.name);
    }
    let cited = registry.limits.iter().map(|limit| &limit.clause);
    for clause in cited.chain(registry.timers.iter().map(|timer| &timer.clause)) {
        assert!(clauses.contains_key(clause), "{clause}");
    }
}

fn set(config: &mut Config, name: &str, number: u64) {
    let (small, time) = (u32::try_from(number).expect("small"), adit_core::Duration::from_millis(number));
    match name {
        "frame" => config.frame = small,
        "window" => config.window = small,
        "streams" => config.streams = small,
        "binds" => config.binds = small,
        "unanswered" => config.unanswered = small,
        "oddities" => config.oddities = small,
        "ack_octets" => config.ack_octets = small,
        "retain_octets" => config.retain_octets = number,
        "retain_frames" => config.retain_frames = small,
        "heartbeat.interval" => {
            config.heartbeat.interval = time;
            config.heartbeat.tolerance = config.heartbeat.tolerance.max(time / 2);
        }
        "heartbeat.tolerance" => config.heartbeat.tolerance = time,
        "ack_delay" => config.ack_delay = time,
        "resume_window" => config.resume_window = time,
        "handshake_timeout" => config.handshake_timeout = time,
        "drain_timeout" => config.drain_timeout = time,
        "close_timeout" => config.close_timeout = time,
        _ => panic!("{name} is not known here"),
    }
}

fn value(config: &Config, name: &str) -> Option<u64> {
    let millis = |time: adit_core::Duration| u64::try_from(time.as_millis()).ok();
    match name {
        "frame" => Some(config.frame.into()),
        "window" => Some(config.window.into()),
        "streams" => Some(config.streams.into()),
        "binds" => Some(config.binds.into()),
        "unanswered" => Some(config.unanswered.into()),
        "oddities" => Some(config.oddities.into()),
        "ack_octets" => Some(config.ack_octets.into()),
        "retain_octets" => Some(config.retain_octets),
        "retain_frames" => Some(config.retain_frames.into()),
        "heartbeat.interval" => millis(config.heartbeat.interval),
        "heartbeat.tolerance" => millis(config.heartbeat.tolerance),
        "ack_delay" => millis(config.ack_delay),
        "resume_window" => millis(config.resume_window),
        "handshake_timeout" => millis(config.handshake_timeout),
        "drain_timeout" => millis(config.drain_timeout),
        "close_timeout" => millis(config.close_timeout),
        _ => None,
    }
}

/// The rows of the table whose first column is called `first`.
fn rows(text: &str, first: &str) -> Vec<Vec<String>> {
    let head = format!("| {first} |");
    let lines = text.lines().skip_while(|line| !line.starts_with(&head)).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// `CommandResult` as the text writes it: `COMMAND_RESULT`.
fn capitals(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() && name != "GoAway" {
            text.push('_');
        }
        text.extend(c.to_uppercase());
    }
    text
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
