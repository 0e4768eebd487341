//! `adit explain`.

use std::{fs::File, io::Read as _, path::Path, sync::Arc, time::SystemTime};

use rustls::crypto::CryptoProvider;

use super::{
    Failure,
    arguments::{Explain, Global},
    configuration::{files, load, overrides},
    policy, print, remote,
};
use crate::{
    errors::{Error, Exit, Fault},
    explain::{
        Explanation, Situation, Statement, differences, differences_json, differences_text, explain as tell, statements,
    },
    identity::state_folder,
};

/// Says what the agent would do, or what of it has changed.
pub(super) fn explain(global: &Global, asked: &Explain, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let config = load(&files(global), &overrides(global))?;
    let watch = policy::open(global, provider)?;
    let (guard, state) = (watch.guard(), state_folder());
    let file = watch.file();
    let remote = remote::sent(global, provider);
    let nothing = matches!(&remote, Ok(None)) && config.agent.remote_management.configuration;
    let elsewhere = remote::file(global, provider)
        .filter(|_| nothing)
        .map(|file| remote::nothing(&file, remote::elsewhere(global, None, provider).as_deref()));
    let (held, version, frozen) = (guard.policy(), guard.version(), guard.frozen());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let situation = Situation {
        policy: held.as_deref().zip(file.as_deref()).map(|(policy, file)| (policy, file, version.as_str())),
        frozen: frozen.as_deref(),
        state: state.as_deref(),
        remote: &remote,
        elsewhere: elsewhere.as_deref(),
        now: i64::try_from(now).unwrap_or(i64::MAX),
    };
    let explanation = tell(&config, &situation);
    match &asked.diff {
        None if asked.json => print(&format!("{}\n", explanation.json()))?,
        None => print(&explanation.text())?,
        Some(old) => compare(&before(old, &situation, global)?, &explanation, asked.json)?,
    }
    Ok(Exit::Fine)
}

fn compare(old: &[Statement], new: &Explanation, as_json: bool) -> Result<(), Failure> {
    let found = differences(old, &new.statements);
    print(&if as_json { format!("{}\n", differences_json(&found)) } else { differences_text(&found) })
}

/// Returns what was so before: as it was written down then, or as an earlier configuration says under today's policy.
fn before(old: &Path, situation: &Situation<'_>, global: &Global) -> Result<Vec<Statement>, Failure> {
    let unreadable = |error| Error::new(Fault::ConfigInvalid, format!("{}: {error}", old.display()));
    let mut text = String::new();
    let read = File::open(old).map_err(unreadable)?.take(MAX_OLD).read_to_string(&mut text);
    if read.is_err() {
        text.clear(); // not text: what reads configurations says so
    }
    if let Some(statements) = statements(&text) {
        return Ok(statements);
    }
    let config = load(&[old.to_owned()], &overrides(global))?;
    Ok(tell(&config, situation).statements)
}

/// What was written down is not longer, in octets.
const MAX_OLD: u64 = 16 << 20;
