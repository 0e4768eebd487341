//! `adit audit`.

use core::time::Duration;
use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rustls::crypto::CryptoProvider;
use serde_json::{Map, Value};

use super::{
    Failure,
    arguments::{AuditCommand, AuditExport, AuditPlace, AuditShow, AuditVerify, Global, Output},
    policy, print,
};
use crate::{
    audit::{Broken, Hasher, Head, Misfit, Reader, Scanned, Settings, Summary, folders, head, hostname, syslog},
    clock::{self, moment},
    config::values::duration,
    errors::{Error, Exit, Fault},
    identity::state_folder,
    log,
    policy::audit_folder,
};

pub(super) fn run(global: &Global, command: &AuditCommand, provider: &CryptoProvider) -> Result<Exit, Failure> {
    let Some(hasher) = Hasher::of(provider) else { return Err(Error::from(Fault::Internal).into()) };
    match command {
        AuditCommand::Show(show) => self::show(&folder(global, &show.place, provider)?, show, hasher),
        AuditCommand::Verify(verify) => self::verify(&folder(global, &verify.place, provider)?, verify, hasher),
        AuditCommand::Export(export) => self::export(&folder(global, &export.place, provider)?, export, hasher),
    }
}

/// Returns the folder of the log, which has to be there.
fn folder(global: &Global, place: &AuditPlace, provider: &CryptoProvider) -> Result<PathBuf, Failure> {
    let named = match &place.path {
        Some(path) => Some(path.clone()),
        None => {
            let watch = policy::open(global, &Arc::new(provider.clone()))?;
            let settings = watch.guard().policy().map_or_else(Settings::default, |policy| policy.audit.clone());
            audit_folder(&settings, state_folder().as_deref())
        }
    };
    let folder = named.ok_or_else(|| Failure::usage("no folder is known: name it with --path"))?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let detail = format!("there is no log in {}; a service has its own: name it with --path", folder.display());
    Err(Error::new(Fault::AuditMissing, detail).into())
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Error::new(fault(&broken), broken.to_string()).into()
    }
}

/// What cannot be read is not what was changed.
const fn fault(broken: &Broken) -> Fault {
    match broken {
        Broken::Io(..) => Fault::AuditMissing,
        Broken::Misfit { .. } => Fault::AuditBroken,
    }
}

fn verify(folder: &Path, asked: &AuditVerify, hasher: Hasher) -> Result<Exit, Failure> {
    let head: Option<Head> = match &asked.head {
        Some(text) => Some(text.parse().map_err(|problem: String| Failure::usage(&format!("--head: {problem}")))?),
        None => None,
    };
    let all = if asked.place.path.is_some() { vec![folder.to_owned()] } else { folders(folder) };
    let mut exit = Exit::Fine;
    for (at, folder) in all.iter().enumerate() {
        let verified = verify_one(folder, head.filter(|_| at == 0), hasher);
        if verified.is_err() {
            exit = Exit::Failed;
        }
        match (asked.printed.output, verified) {
            (Output::Text, Ok((records, summary))) => print(&text_of(folder, records, &summary))?,
            (Output::Text, Err(broken)) => print(&format!("{broken}\n{}\n", fault(&broken)))?,
            (Output::Json, verified) => print(&format!("{}\n", json_of(folder, &verified)))?,
        }
    }
    Ok(exit)
}

fn verify_one(folder: &Path, wanted: Option<Head>, hasher: Hasher) -> Result<(u64, Summary), Broken> {
    // Read first: what is written meanwhile goes beyond it.
    let heads: Vec<Head> = head(folder)?.into_iter().chain(wanted).collect();
    let mut reader = Reader::open(folder, hasher, 0, &heads)?;
    let mut records = 0;
    while reader.next()?.is_some() {
        records += 1;
    }
    let summary = reader.finish()?;
    if records == 0 {
        return Err(Broken::Misfit { path: folder.to_owned(), line: 0, after: None, misfit: Misfit::Empty });
    }
    Ok((records, summary))
}

fn text_of(folder: &Path, records: u64, summary: &Summary) -> String {
    let Summary { first, last, torn } = summary;
    let folder = folder.display();
    let (Some(first), Some(last)) = (first, last) else { return String::new() };
    let mut text = format!("{folder}: {records} records hold together, {first} to {}\n", last.0.seq);
    if *first > 1 {
        text.push_str("  those before were removed to keep within bounds, and a record says so\n");
    }
    if *torn > 0 {
        text.push_str(&format!(
            "  {torn} octets at the end are no record yet: it is being written, or a crash cut it short, and the next start removes it and says so\n"
        ));
    }
    text.push_str(&format!("  head {last}\n"));
    text
}

fn json_of(folder: &Path, verified: &Result<(u64, Summary), Broken>) -> Value {
    match verified {
        Ok((records, Summary { first, last, torn })) => serde_json::json!({
            "fits": true, "path": folder, "records": records, "first": first, "last": last.map(|last| last.0.seq),
            "head": last.map(|last| last.to_string()), "torn": torn,
        }),
        Err(Broken::Io(path, error)) => serde_json::json!({
            "fits": false, "path": folder, "file": path, "problem": error.to_string(), "code": Fault::AuditMissing.code(),
        }),
        Err(Broken::Misfit { path, line, after, misfit }) => serde_json::json!({
            "fits": false, "path": folder, "file": path, "line": line, "after": after, "problem": misfit.to_string(),
            "code": Fault::AuditBroken.code(),
        }),
    }
}

fn show(folder: &Path, asked: &AuditShow, hasher: Hasher) -> Result<Exit, Failure> {
    let since = asked.since.as_deref().map(|text| {
        since(text, now())
            .ok_or_else(|| Failure::usage("--since: write 2026-11-29T08:00:00Z, 2026-11-29, 30m, 12h or 7d"))
    });
    let since = since.transpose()?.unwrap_or(0);
    tell_of_others(folder, &asked.place)?;
    let mut reader = Reader::open(folder, hasher, 0, &[])?;
    follow(&mut reader, asked.follow, |record| {
        if record.wall < since || asked.kind.as_deref().is_some_and(|kind| kind != record.kind) {
            return Ok(());
        }
        let fields: Map<String, Value> = serde_json::from_str(record.text).unwrap_or_default();
        let has = |name: &str, wanted: &str| fields.get(name).and_then(Value::as_str) == Some(wanted);
        let of_endpoint = asked.endpoint.as_deref().is_none_or(|name| has("endpoint", name) || has("url", name));
        if !of_endpoint || !asked.decision.as_deref().is_none_or(|decision| has("decision", decision)) {
            return Ok(());
        }
        match asked.printed.output {
            Output::Json => writeln!(io::stdout(), "{}", record.text),
            Output::Text => writeln!(io::stdout(), "{}", line(record, &fields)),
        }
    })
}

/// Writes a record for people.
fn line(record: &Scanned<'_>, fields: &Map<String, Value>) -> String {
    let time = clock::precise(record.wall);
    let mut line = format!("{time} #{} {}", record.link.seq, record.kind);
    for (name, value) in fields {
        if !["prev", "seq", "time", "passed", "kind", "hash", "policy"].contains(&name.as_str()) {
            line.push_str(&format!(" {name}={}", log::plain(value)));
        }
    }
    line
}

fn export(folder: &Path, asked: &AuditExport, hasher: Hasher) -> Result<Exit, Failure> {
    tell_of_others(folder, &asked.place)?;
    reaches(folder, asked.after, hasher)?;
    let mut reader = Reader::open(folder, hasher, asked.after, &[])?;
    let host = hostname();
    let mut sink: Box<dyn Write> = match &asked.to {
        None => Box::new(io::stdout()),
        Some(path) => {
            let mut options = OpenOptions::new();
            options.append(true).create(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(path);
            Box::new(file.map_err(|error| Error::new(Fault::FileUnwritable, format!("{}: {error}", path.display())))?)
        }
    };
    let (mut last, mut count) = (asked.after, 0_u64);
    let exit = follow(&mut reader, asked.follow, |record| {
        let seq = record.link.seq;
        if seq <= asked.after {
            return Ok(());
        }
        if count == 0 && seq > asked.after.saturating_add(1) {
            let text = format!("records {} to {} are not there any more", asked.after.saturating_add(1), seq - 1);
            writeln!(io::stderr(), "{text}")?;
        }
        (last, count) = (seq, count + 1);
        match asked.format.as_str() {
            "syslog" => writeln!(sink, "{}", syslog(record, &host)),
            _ => writeln!(sink, "{}", record.text),
        }
    })?;
    if let Some(path) = &asked.to {
        let text = format!("{}: {count} records; go on with --after {last}\n", path.display());
        print(&text)?;
    }
    Ok(exit)
}

/// Makes sure that a log goes as far as whoever exports it has it already.
fn reaches(folder: &Path, after: u64, hasher: Hasher) -> Result<(), Failure> {
    let mut reader = Reader::open(folder, hasher, after, &[])?;
    while after > reader.last().unwrap_or(0) {
        if reader.next()?.is_none() {
            let last = reader.last().map_or_else(|| "there is none".to_owned(), |last| format!("the last is {last}"));
            let detail = format!(
                "{}: record {after} is not there, {last}: its end was cut off, or it is another log",
                folder.display()
            );
            return Err(Error::new(Fault::AuditBroken, detail).into());
        }
    }
    Ok(())
}

/// Gives records one by one, to the end or for ever. A reader that is gone ends it.
fn follow(
    reader: &mut Reader,
    forever: bool,
    mut take: impl FnMut(&Scanned<'_>) -> io::Result<()>,
) -> Result<Exit, Failure> {
    loop {
        match reader.next()? {
            Some(record) => match take(&record) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Fine),
                Err(error) => return Err(error.into()),
            },
            None if forever => std::thread::sleep(PACE),
            None => return Ok(Exit::Fine),
        }
    }
}

/// Says so where other agents have written beside this log.
fn tell_of_others(folder: &Path, place: &AuditPlace) -> io::Result<()> {
    let others = if place.path.is_some() { Vec::new() } else { folders(folder).split_off(1) };
    for other in others {
        writeln!(io::stderr(), "another agent has written to {}: --path shows that", other.display())?;
    }
    Ok(())
}

/// Reads a time, or an age before `now`; in microseconds since 1970.
fn since(text: &str, now: u64) -> Option<u64> {
    let micros = |seconds: i64| u64::try_from(seconds).ok()?.checked_mul(1_000_000);
    if let Some(moment) = moment(text).or_else(|| moment(&format!("{text}T00:00:00Z"))) {
        return micros(moment);
    }
    let age = match text.strip_suffix('d') {
        Some(days) => Duration::from_secs(days.parse::<u32>().ok().map(u64::from)? * 86_400),
        None => duration(text)?,
    };
    Some(now.saturating_sub(u64::try_from(age.as_micros()).ok()?))
}

fn now() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
}

/// How often is looked for more.
const PACE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_apart_from_what_was_changed() {
        let denied = || Broken::Io("/a/audit-1.jsonl".into(), io::ErrorKind::PermissionDenied.into());
        let code = |broken| json_of(Path::new("/a"), &Err(broken))["code"].as_str().map(str::to_owned);
        let changed = Broken::Misfit { path: "/a".into(), line: 1, after: None, misfit: Misfit::Hash };

        assert!(Failure::from(denied()).text.starts_with("ADIT-1406"));
        assert_eq!(code(denied()).as_deref(), Some("ADIT-1406"));
        assert_eq!(code(changed).as_deref(), Some("ADIT-1405"));
    }

    #[test]
    fn a_time_is_a_moment_a_day_or_an_age() {
        let now = 1_795_522_082_000_000;
        for (text, time) in [
            ("2026-11-24T12:08:02Z", Some(now)),
            ("2026-11-24T13:08:02+01:00", Some(now)),
            ("2026-11-24", Some(1_795_478_400_000_000)),
            ("30m", Some(now - 1_800_000_000)),
            ("2d", Some(now - 172_800_000_000)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(since(text, now), time, "{text}");
        }
    }
}
