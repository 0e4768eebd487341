//! `adit config remote`: what the vendor has sent by a command.

use std::sync::Arc;

use adit_core::escape;
use rustls::crypto::CryptoProvider;
use serde_json::json;

use super::{
    Failure,
    arguments::{Global, Output, RemoteCommand, Running},
    client::Client,
    configuration::files,
    print,
};
use crate::{
    clock,
    errors::{Error, Exit, Fault},
    identity::state_folder,
    remote::{Document, RemoteFile},
};

/// Returns where the agent with this configuration keeps what the vendor has sent; nothing where no folder is known.
pub(super) fn file(global: &Global, provider: &CryptoProvider) -> Option<RemoteFile> {
    RemoteFile::of(&files(global), &state_folder()?, provider)
}

/// Returns what the vendor has sent to the agent with this configuration.
pub(super) fn sent(global: &Global, provider: &CryptoProvider) -> Result<Option<Document>, String> {
    file(global, provider).map_or(Ok(None), |file| file.load())
}

/// Returns what the agent with this configuration says of another document than the one that is kept in this user's folder; nothing where
/// none answers, or both are one.
pub(super) fn elsewhere(global: &Global, found: Option<&Document>, provider: &CryptoProvider) -> Option<String> {
    let running = Running { socket: None, output: Output::Json };
    let status = Client::find(global, &running, provider).ok()?.get("/v1/status").ok()?;
    let remote = Some(&status["remote"]).filter(|remote| remote.is_object())?;
    let print = remote["sha256"].as_str().unwrap_or_default();
    if found.is_some_and(|found| found.kept.print == print) {
        return None;
    }
    let what = match remote["problem"].as_str() {
        Some(problem) => format!("one that it does not believe ({})", escape(problem)),
        None => format!("{} endpoints, SHA-256 {}", remote["endpoints"], escape(print)),
    };
    Some(format!("the agent that runs keeps a document in another state folder: {what}"))
}

pub(super) fn run(global: &Global, command: &RemoteCommand, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let file = file(global, provider)
        .ok_or_else(|| Error::new(Fault::FileUnwritable, "no folder is known: set STATE_DIRECTORY".to_owned()))?;
    match command {
        RemoteCommand::Show(printed) => show(global, &file, printed.output, provider),
        RemoteCommand::Remove => remove(global, &file, provider),
    }
}

fn show(global: &Global, file: &RemoteFile, output: Output, provider: &CryptoProvider) -> Result<Exit, Failure> {
    let found = file.load().map_err(|problem| Error::new(Fault::ConfigInvalid, problem))?;
    let elsewhere = elsewhere(global, found.as_ref(), provider);
    let kept = found.map(|document| document.kept);
    if output == Output::Json {
        let shown = kept.map(|kept| {
            json!({ "taken": clock::utc(kept.taken), "sha256": kept.print, "said": kept.said, "document": kept.document })
        });
        print(&format!("{}\n", json!({ "file": file.path(), "remote": shown, "elsewhere": elsewhere })))?;
        return Ok(Exit::Fine);
    }
    let Some(kept) = kept else {
        print(&format!("{}\n", nothing(file, elsewhere.as_deref())))?;
        return Ok(Exit::Fine);
    };
    elsewhere.iter().try_for_each(|other| print(&format!("# {other}\n")))?;
    let (taken, said) = (clock::utc(kept.taken), escape(&kept.said));
    print(&format!(
        "# {}\n# taken at {taken}, SHA-256 {}\n# the vendor said: {said}\n",
        file.path().display(),
        kept.print
    ))?;
    kept.document.lines().try_for_each(|line| print(&format!("{}\n", escape(line))))?;
    Ok(Exit::Fine)
}

fn remove(global: &Global, file: &RemoteFile, provider: &CryptoProvider) -> Result<Exit, Failure> {
    let is_there = std::fs::symlink_metadata(file.path()).is_ok();
    let found = file.load();
    // One that is not believed here the agent does not believe either, and nobody knows its hash.
    let elsewhere = match &found {
        Ok(found) => elsewhere(global, found.as_ref(), provider),
        Err(_) => None,
    };
    file.remove().map_err(|error| Error::new(Fault::FileUnwritable, format!("{}: {error}", file.path().display())))?;
    if !is_there {
        return Err(Failure { exit: Exit::Failed, text: nothing(file, elsewhere.as_deref()) });
    }
    print(&format!("{}: removed\n", file.path().display()))?;
    match elsewhere {
        Some(other) => Err(Failure { exit: Exit::Failed, text: format!("{other}. {REMEDY}") }),
        None => {
            print("an agent with this state folder gives these endpoints up within a second, with what is open\n")?;
            Ok(Exit::Fine)
        }
    }
}

/// Says that nothing is kept where that was looked for, and who may have something all the same.
pub(super) fn nothing(file: &RemoteFile, elsewhere: Option<&str>) -> String {
    let there = file.path().display();
    match elsewhere {
        Some(other) => format!("{there}: nothing is kept there, but {other}. {REMEDY}"),
        None => {
            format!("{there}: nothing is kept there; an agent with another state folder may have something. {REMEDY}")
        }
    }
}

const REMEDY: &str = "Ask as the user and with the STATE_DIRECTORY, XDG_STATE_HOME or HOME of the agent that is meant";
