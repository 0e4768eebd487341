//! `adit-network command`: asks an agent for something that its owner may refuse.

use core::{fmt, time::Duration};
use std::{path::PathBuf, time::Instant};

use adit_core::{Code, DOCUMENT, escape};
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, Failure, Output, agents::line, block_on, note, print, tokens::open};
use crate::{
    Fault, bounded,
    config::duration,
    store::{AgentRow, Report, Search, Standing, Store, TEXT, Taken, Verb, Wish, parse_id},
};

#[derive(Debug, Args)]
pub(super) struct Ask {
    #[command(flatten)]
    file: ConfigFile,
    /// Whom: its id, the first digits of it (at least four), or an endpoint that it serves.
    #[arg(value_parser = called)]
    agent: String,
    /// What it shall do.
    #[arg(value_enum)]
    command: Verb,
    /// The document of `configuration`: the endpoints that the agent shall have.
    #[arg(value_name = "FILE", required_if_eq("command", "configuration"))]
    document: Option<PathBuf>,
    /// What its owner reads beside it.
    #[arg(long, default_value = "", value_parser = words)]
    text: String,
    /// For so long a network may hand it over, and an answer is waited for: 1s to 1h.
    #[arg(long, default_value = "30s", value_parser = wait)]
    wait: Duration,
    /// An agent of this account.
    #[arg(long)]
    account: Option<String>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Asks, and waits for the answer.
pub(super) fn run(ask: &Ask) -> Result<(), Failure> {
    let document = document(ask)?;
    block_on(async {
        let store = open(&ask.file.config).await?;
        let agent = find(&store, ask).await?;
        let wish = Wish {
            account: agent.account,
            agent: agent.agent,
            verb: ask.command,
            text: ask.text.clone(),
            author: author(),
        };
        let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let id = match store.ask(&wish, document.as_deref(), ask.wait).await? {
            Taken::Waits(id) => id,
            Taken::Full(limit) => {
                let detail =
                    format!("as many commands {limit} as may wait for their agents and answers; nothing was asked");
                return Err(Ending::Busy.failure(&detail));
            }
        };
        let report = tokio::select! {
            biased;
            report = wait_for(&store, &id, ask.wait) => report?,
            _ = interrupted.recv() => withdraw(&store, &id).await?,
            _ = terminated.recv() => withdraw(&store, &id).await?,
        };
        tell(ask, &agent, &id, &report)
    })
}

/// Reads the document, if the command needs one.
fn document(ask: &Ask) -> Result<Option<String>, Failure> {
    let Some(path) = &ask.document else { return Ok(None) };
    if !ask.command.needs_document() {
        return Err(Failure { exit: 2, text: format!("{} takes no FILE", ask.command.word()) });
    }
    let read = bounded::read(path, DOCUMENT).and_then(bounded::Contents::text);
    read.map(Some).map_err(|error| Failure { exit: 1, text: format!("cannot read {}: {error}", path.display()) })
}

/// Returns the one agent that is meant. One that is away is meant by its whole id only.
async fn find(store: &Store, ask: &Ask) -> Result<AgentRow, Failure> {
    let search = Search {
        account: ask.account.as_deref(),
        called: Some(&ask.agent),
        away: false,
        after: None,
        most: CANDIDATES,
    };
    // Agents choose their ids: that another account has one of the same, too, must be seen while the one that is meant is away.
    let away = parse_id(&ask.agent).is_some();
    let mut found = store.agents(Search { away, ..search }).await?;
    match (found.len(), found.pop()) {
        (1, Some(agent)) => Ok(agent),
        (_, None) => {
            let of = ask.account.as_ref().map(|account| format!(" of {}", escape(account))).unwrap_or_default();
            Err(Ending::NoAgent.failure(&format!("no agent{of} is called {}", escape(&ask.agent))))
        }
        (_, Some(last)) => {
            found.push(last);
            let lines: String = found.iter().map(line).collect();
            Err(Ending::Ambiguous.failure(&format!(
                "{} may be any of these:\n{}",
                escape(&ask.agent),
                lines.trim_end()
            )))
        }
    }
}

/// Takes back what nobody shall wait for any more, as far as that is possible.
async fn withdraw(store: &Store, id: &str) -> Result<Report, Failure> {
    let (standing, answer) = if store.withdraw_command(id).await? {
        (Standing::Expired, "interrupted: it was withdrawn, and nobody hands it over")
    } else {
        (Standing::Lost, "interrupted: it had been handed over, or was about to be")
    };
    Ok(Report { standing, answer: answer.to_owned() })
}

/// Waits until it is known what came of a command. A network ends it when its time is over; where none runs, that is done here.
async fn wait_for(store: &Store, id: &str, wait: Duration) -> Result<Report, Failure> {
    let end = Instant::now() + wait;
    loop {
        let gone = || Report { standing: Standing::Failed, answer: "its row in the database is gone".to_owned() };
        let report = store.command(id).await?.unwrap_or_else(gone);
        if report.standing.is_over() {
            return Ok(report);
        }
        if end + PATIENCE <= Instant::now() {
            store.end_commands().await?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn tell(ask: &Ask, agent: &AgentRow, id: &str, report: &Report) -> Result<(), Failure> {
    let code = match report.standing {
        Standing::Answered(code) => Some(code),
        Standing::Waiting | Standing::Sent | Standing::Lost | Standing::Expired | Standing::Failed => None,
    };
    if ask.output == Output::Json {
        let shown = json!({
            "id": id, "account": agent.account_name, "agent": agent.agent.to_string(), "command": ask.command.word(),
            "state": report.standing.word(), "code": code.map(|code| code.to_string()), "answer": report.answer,
        });
        print(&format!("{shown}\n"))?;
    }
    let Some(ending) = Ending::of(report.standing) else {
        if ask.output == Output::Text {
            let answer = if report.answer.is_empty() { String::new() } else { format!(": {}", escape(&report.answer)) };
            note(&format!("agent {} of {} obeys{answer}", agent.agent, escape(&agent.account_name)));
        }
        return Ok(());
    };
    let answer = escape(&report.answer);
    Err(ending.failure(&match code {
        Some(code) => format!("agent {} answers {code}: {answer}", agent.agent),
        None => format!("agent {}: {answer}", agent.agent),
    }))
}

/// How it ends when the agent does not obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Refused,
    Unknown,
    Unsupported,
    Busy,
    NoAgent,
    Ambiguous,
    Expired,
    Lost,
    Failed,
    Document,
}

impl Ending {
    const fn of(standing: Standing) -> Option<Self> {
        Some(match standing {
            Standing::Answered(Code::NO_ERROR) => return None,
            Standing::Answered(Code::FORBIDDEN | Code::DISALLOWED | Code::CONFIGURATION) => Self::Refused,
            Standing::Answered(Code::UNKNOWN) => Self::Unknown,
            Standing::Answered(Code::UNSUPPORTED) => Self::Unsupported,
            Standing::Answered(Code::BUSY) => Self::Busy,
            Standing::Answered(Code::DOCUMENT) => Self::Document,
            Standing::Expired => Self::Expired,
            Standing::Lost => Self::Lost,
            Standing::Answered(_) | Standing::Failed | Standing::Waiting | Standing::Sent => Self::Failed,
        })
    }

    const fn exit(self) -> u8 {
        match self {
            Self::Refused => 4,
            Self::Unknown => 5,
            Self::Unsupported => 6,
            Self::Busy => 7,
            Self::NoAgent => 8,
            Self::Ambiguous => 9,
            Self::Expired => 10,
            Self::Lost => 11,
            Self::Failed => 12,
            Self::Document => 13,
        }
    }

    const fn fault(self) -> Fault {
        match self {
            Self::Refused => Fault::CommandRefused,
            Self::Unknown => Fault::CommandUnknown,
            Self::Unsupported => Fault::CommandUnsupported,
            Self::Busy => Fault::CommandBusy,
            Self::NoAgent => Fault::AgentUnknown,
            Self::Ambiguous => Fault::AgentAmbiguous,
            Self::Expired => Fault::CommandExpired,
            Self::Lost => Fault::CommandLost,
            Self::Failed => Fault::CommandFailed,
            Self::Document => Fault::DocumentRefused,
        }
    }

    fn failure(self, detail: &dyn fmt::Display) -> Failure {
        Failure::known(self.exit(), self.fault(), detail)
    }
}

/// Says who asks, for the log of the network and whoever reads the database: a name that the environment gives, and a number that
/// the system does.
fn author() -> String {
    let name = ["SUDO_USER", "USER"].iter().find_map(|variable| std::env::var(variable).ok());
    let name: String = name.unwrap_or_default().chars().take(64).collect();
    format!("{name} (uid {})", rustix::process::getuid().as_raw())
}

fn called(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("an agent has a name") } else { Ok(text.to_owned()) }
}

fn words(text: &str) -> Result<String, String> {
    if text.len() <= TEXT { Ok(text.to_owned()) } else { Err(format!("more than {TEXT} octets")) }
}

fn wait(text: &str) -> Result<Duration, &'static str> {
    let range = Duration::from_secs(1)..=Duration::from_secs(3_600);
    duration(text).filter(|wait| range.contains(wait)).ok_or("a time from 1s to 1h, as 30s or 5m")
}

/// Agents that are named when more than one is meant.
const CANDIDATES: usize = 20;
/// How often it is looked what came of it.
const LOOK: Duration = Duration::from_millis(100);
/// What a network gets to end a command whose time is over.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_fail_has_an_exit_code_of_its_own_and_obeying_has_none() {
        let codes = [Code::FORBIDDEN, Code::UNKNOWN, Code::UNSUPPORTED, Code::BUSY, Code::DOCUMENT, Code::INTERNAL];
        let standings = codes.map(Standing::Answered).into_iter().chain([Standing::Expired, Standing::Lost]);
        let exits: Vec<_> = standings.map(|standing| Ending::of(standing).unwrap().exit()).collect();

        assert_eq!(exits, [4, 5, 6, 7, 13, 12, 10, 11]);
        for code in [Code::DISALLOWED, Code::CONFIGURATION] {
            assert_eq!(
                Ending::of(Standing::Answered(code)),
                Some(Ending::Refused),
                "the customer says no to a document"
            );
        }
        assert_eq!(Ending::of(Standing::Answered(Code::NO_ERROR)), None);
        let page = include_str!("../../../docs/operations.md");
        for ending in [
            Ending::Refused,
            Ending::Unknown,
            Ending::Unsupported,
            Ending::Busy,
            Ending::NoAgent,
            Ending::Ambiguous,
            Ending::Expired,
            Ending::Lost,
            Ending::Failed,
            Ending::Document,
        ] {
            let row = format!("| {} | {} |", ending.exit(), ending.fault().code());
            assert!(page.contains(&row), "docs/operations.md has no {row}");
        }
    }

    #[test]
    fn an_answer_is_waited_for_within_bounds() {
        assert_eq!(wait("90s"), Ok(Duration::from_secs(90)));
        for text in ["0", "999ms", "2h", "soon"] {
            assert!(wait(text).is_err(), "{text}");
        }
        assert!(words(&"x".repeat(TEXT)).is_ok() && words(&"x".repeat(TEXT + 1)).is_err());
    }
}
