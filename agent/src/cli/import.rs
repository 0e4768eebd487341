//! `adit config import`: from the configuration of an ngrok agent.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Failure,
    arguments::{Global, Import, Output},
    configuration::refusal,
    print,
};
use crate::{
    config::{Config, Overrides, Text, fault, read_public, values, write_out},
    errors::{Error, Exit, Fault},
    import::{Imported, Level, Options, import},
    private,
};

pub(super) fn run(global: &Global, wanted: &Import) -> Result<Exit, Failure> {
    let options = options(global, wanted)?;
    let text = read_public(&wanted.file, MAX_FILE)
        .map_err(|problem| vec![fault(&wanted.file, None, &problem, "Check the path and its rights")]);
    let made = text.and_then(|text| import(&wanted.file, &text, &options));
    let made = made.map_err(|faults| refusal(&faults, Fault::ImportImpossible))?;
    let name = wanted.out.clone().unwrap_or_else(|| PathBuf::from("(the result)"));
    let text = Text { text: made.text.clone(), mode: None };
    Config::parse(&[name], &[text], &Overrides::default())
        .map_err(|faults| refusal(&faults, Fault::ImportImpossible))?;
    let written = match &wanted.out {
        Some(out) => write(out, &made, wanted.force)?,
        None => Vec::new(),
    };
    match wanted.output {
        Output::Json => print(&format!("{}\n", report(wanted, &made, &written)))?,
        Output::Text => {
            let told = told(&made, &written);
            if wanted.out.is_some() {
                print(&told)?;
            } else {
                io::stderr().write_all(told.as_bytes())?;
                print(&made.text)?;
            }
        }
    }
    Ok(Exit::Fine)
}

fn options(global: &Global, wanted: &Import) -> Result<Options, Failure> {
    if let Some(url) = &global.connect_url
        && values::target(url).is_none()
    {
        return Err(Failure::usage("--connect-url: not host:port"));
    }
    if let Some(domain) = &wanted.domain
        && (!matches!(values::host_port(domain), Some((_, None))) || domain.contains(':'))
    {
        return Err(Failure::usage("--domain: not a domain such as tunnels.example.com"));
    }
    Ok(Options {
        connect_url: global.connect_url.clone(),
        domain: wanted.domain.clone(),
        secrets: wanted.out.is_some(),
        keep_authtoken: wanted.keep_authtoken,
        expose: wanted.expose,
    })
}

/// Writes the configuration, and what belongs beside it; nothing when anything is in the way.
fn write(out: &Path, made: &Imported, force: bool) -> Result<Vec<PathBuf>, Failure> {
    let beside = made.extras.iter().map(|extra| (out.with_file_name(&extra.name), &extra.text));
    let files: Vec<_> = beside.chain([(out.to_owned(), &made.text)]).collect();
    let taken: Vec<_> = files.iter().filter(|(path, _)| path.symlink_metadata().is_ok()).collect();
    if let (Some((path, _)), false) = (taken.first(), force) {
        let detail = format!("{} is there already; --force overwrites it", path.display());
        return Err(Error::new(Fault::FileUnwritable, detail).into());
    }
    for (path, text) in &files {
        let done = if force { write_out(path, text.as_bytes()) } else { create(path, text.as_bytes()) };
        done.map_err(|error| Failure::from(Error::new(Fault::FileUnwritable, format!("{}: {error}", path.display()))))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// Makes a file that nobody else reads; fails when there is one.
fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private::create(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(path); // half of it would be in the way
    }
    written
}

fn told(made: &Imported, written: &[PathBuf]) -> String {
    let mut text = String::new();
    for level in Level::ALL {
        let notes: Vec<_> = made.notes.iter().filter(|note| note.level == level).collect();
        if notes.is_empty() {
            continue;
        }
        text.push_str(&format!("{}:\n", level.heading()));
        for note in notes {
            text.push_str(&format!("  {note}\n"));
        }
    }
    text.push_str(&format!("{} keys mean the same here\n", made.carried.len()));
    for path in written {
        text.push_str(&format!("written: {}\n", path.display()));
    }
    if written.is_empty() {
        for extra in &made.extras {
            text.push_str(&format!("not written without --out FILE: {}\n", extra.name));
        }
    }
    text
}

fn report(wanted: &Import, made: &Imported, written: &[PathBuf]) -> serde_json::Value {
    let notes = made.notes.iter().map(|note| {
        let place = |number: u64| (number > 0).then_some(number);
        serde_json::json!({
            "level": note.level.word(), "file": note.file, "line": place(note.line), "column": place(note.column),
            "key": note.key, "problem": note.problem, "remedy": note.remedy,
        })
    });
    let notes: Vec<_> = notes.collect();
    let extras: Vec<_> = made.extras.iter().map(|extra| extra.name.as_str()).collect();
    let text = wanted.out.is_none().then_some(made.text.as_str());
    serde_json::json!({
        "from": wanted.file, "written": written, "beside": extras, "carried": made.carried, "notes": notes,
        "configuration": text,
    })
}

/// A configuration of theirs is not larger, in octets.
const MAX_FILE: u64 = 1 << 20;
