//! `adit-network agents`: which agents are there.

use core::{fmt::Write as _, time::Duration};
use std::time::UNIX_EPOCH;

use adit_core::{AgentId, escape};
use clap::Args;
use serde_json::{Value, json};

use super::{Failure, List, Output, block_on, note, print, tokens::open};
use crate::{
    seeing::Time,
    store::{AgentRow, Search, parse_id},
};

#[derive(Debug, Args)]
pub(super) struct Agents {
    #[command(flatten)]
    list: List,
    /// Those of this account only.
    #[arg(long)]
    account: Option<String>,
    /// Those that were there within 30 days and are away, too.
    #[arg(long)]
    all: bool,
    /// So many at the most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Those after this one, as the page before tells: ACCOUNT/ID.
    #[arg(long, value_parser = place)]
    after: Option<(String, AgentId)>,
}

/// Lists them.
pub(super) fn run(agents: &Agents) -> Result<(), Failure> {
    let most = usize::from(agents.limit);
    let search = Search {
        account: agents.account.as_deref(),
        called: None,
        away: agents.all,
        after: agents.after.as_ref().map(|(account, agent)| (account.as_str(), *agent)),
        most: most + 1, // whether there are more
    };
    let mut rows = block_on(async { Ok(open(&agents.list.file.config).await?.agents(search).await?) })?;
    let more = rows.len() > most;
    rows.truncate(most);
    let next = rows.last().filter(|_| more).map(|row| format!("{}/{}", row.account_name, row.agent));
    if agents.list.output == Output::Json {
        let list: Vec<_> = rows.iter().map(shown).collect();
        return print(&format!("{}\n", json!({ "agents": list, "next": next })));
    }
    print(&rows.iter().map(line).collect::<String>())?;
    if let Some(next) = next {
        note(&format!("there are more: --after {}", escape(&next)));
    }
    Ok(())
}

/// Returns an agent for programs to read.
fn shown(row: &AgentRow) -> Value {
    json!({
        "account": row.account_name, "agent": row.agent.to_string(), "state": row.presence.word(), "since": row.since / 1_000,
        "nodes": row.nodes, "sessions": row.sessions, "token": row.token, "address": row.address, "software": row.software,
        "metadata": row.metadata, "endpoints": row.endpoints, "endpoints_total": row.bound,
    })
}

/// Returns an agent as a line for a person.
pub(super) fn line(row: &AgentRow) -> String {
    let since = UNIX_EPOCH.checked_add(Duration::from_millis(u64::try_from(row.since).unwrap_or_default()));
    let since = Time(since.unwrap_or(UNIX_EPOCH));
    let (account, state, agent) = (escape(&row.account_name), row.presence.word(), row.agent);
    let mut line =
        format!("{agent}  {state:9}  {account}  {}  {}  since {since}", escape(&row.address), escape(&row.software));
    let mut endpoints: Vec<_> = row.endpoints.iter().take(SHOWN).map(|endpoint| escape(endpoint).to_string()).collect();
    if row.bound > endpoints.len() {
        endpoints.push(format!("and {} more", row.bound - endpoints.len()));
    }
    let written = write!(line, "  {}  {}", endpoints.join(" "), escape(&row.metadata));
    debug_assert!(written.is_ok(), "a String takes every text");
    format!("{}\n", line.trim_end())
}

fn place(text: &str) -> Result<(String, AgentId), &'static str> {
    let split = text.rsplit_once('/').and_then(|(account, agent)| Some((account.to_owned(), parse_id(agent)?)));
    split.ok_or("it is not of the form ACCOUNT/ID")
}

/// Endpoints in a line.
const SHOWN: usize = 3;
