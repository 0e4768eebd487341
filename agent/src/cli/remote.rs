//! `adit config remote`: what the vendor has sent by a command.

use std::sync::Arc;

use adit_core::escape;
use rustls::crypto::CryptoProvider;
use serde_json::json;

use super::{
    Failure,
    arguments::{Global, Output, RemoteCommand},
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

pub(super) fn run(global: &Global, command: &RemoteCommand, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let file = file(global, provider)
        .ok_or_else(|| Error::new(Fault::FileUnwritable, "no folder is known: set STATE_DIRECTORY".to_owned()))?;
    match command {
        RemoteCommand::Show(printed) => show(&file, printed.output),
        RemoteCommand::Remove => remove(&file),
    }
}

fn show(file: &RemoteFile, output: Output) -> Result<Exit, Failure> {
    let found = file.load().map_err(|problem| Error::new(Fault::ConfigInvalid, problem))?;
    let kept = found.map(|document| document.kept);
    if output == Output::Json {
        let shown = kept.map(|kept| {
            json!({ "taken": clock::utc(kept.taken), "sha256": kept.print, "said": kept.said, "document": kept.document })
        });
        print(&format!("{}\n", json!({ "file": file.path(), "remote": shown })))?;
        return Ok(Exit::Fine);
    }
    let Some(kept) = kept else {
        print("the vendor has sent nothing\n")?;
        return Ok(Exit::Fine);
    };
    let (taken, said) = (clock::utc(kept.taken), escape(&kept.said));
    print(&format!(
        "# {}\n# taken at {taken}, SHA-256 {}\n# the vendor said: {said}\n",
        file.path().display(),
        kept.print
    ))?;
    kept.document.lines().try_for_each(|line| print(&format!("{}\n", escape(line))))?;
    Ok(Exit::Fine)
}

fn remove(file: &RemoteFile) -> Result<Exit, Failure> {
    let is_there = std::fs::symlink_metadata(file.path()).is_ok();
    file.remove().map_err(|error| Error::new(Fault::FileUnwritable, format!("{}: {error}", file.path().display())))?;
    print(if is_there {
        "removed: an agent that runs gives these endpoints up within a second, with what is open\n"
    } else {
        "the vendor has sent nothing\n"
    })?;
    Ok(Exit::Fine)
}
