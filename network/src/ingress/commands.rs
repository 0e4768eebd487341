//! What the operator asks of agents: taken from the database, handed over once, and the answer noted there.
//!
//! The database is asked in one task, not where agents are heard: what came of commands waits for it when it does not answer.

use std::collections::{BTreeMap, HashMap, HashSet};

use adit_core::{AnswerError, Code, CommandResult, SessionId, escape};
use adit_tokio::NetworkSession;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::Ingress;
use crate::{
    metrics::{CommandLabel, Metrics},
    store::{Document, Outcome, Standing, StoreError, Topic, Verb, Waiting, Watch, Wish},
};

/// Commands that agents of this node have, and what came of them.
#[derive(Debug, Default)]
pub struct Commands {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Those without an answer, by session and number: the protocol bounds them.
    sent: HashMap<SessionId, BTreeMap<u32, Sent>>,
    /// What the database does not know yet: no more than was sent.
    over: Vec<(Sent, Outcome)>,
}

/// A command that an agent has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    id: String,
    verb: Verb,
}

impl Commands {
    /// Hands a command over to an agent. Under one lock: the answer may come before the number is known here.
    fn send(
        &self,
        (id, session): (SessionId, &NetworkSession),
        sent: Sent,
        document: Option<&str>,
        text: &str,
    ) -> Result<(), AnswerError> {
        let mut table = self.table.lock();
        let number = match document {
            None => session.command(sent.verb.command(), text)?, // spec: CMD-003, CMD-005
            Some(document) => session.configure(document, text)?, // spec: CMD-006
        };
        table.sent.entry(id).or_default().insert(number, sent);
        Ok(())
    }

    /// Takes what an agent answers.
    pub(super) fn answered(&self, id: SessionId, result: CommandResult) {
        let mut table = self.table.lock();
        let sent = table.sent.get_mut(&id).and_then(|sent| sent.remove(&result.id));
        let (command, code) = (sent.as_ref().map(|sent| sent.verb.word()), result.code);
        info!(session = %id, command, %code, text = %escape(&result.text), "a command was answered");
        if let Some(sent) = sent {
            table.over.push((sent, Outcome::Answered(result.code, result.text)));
        }
    }

    /// Notes that a session is over: what it did not answer is lost.
    pub(super) fn gone(&self, id: SessionId) {
        let mut table = self.table.lock();
        for sent in table.sent.remove(&id).into_iter().flat_map(BTreeMap::into_values) {
            warn!(session = %id, command = sent.verb.word(), "a session ended without the answer to a command");
            table.over.push((sent, Outcome::Lost));
        }
    }

    fn take_over(&self) -> Vec<(Sent, Outcome)> {
        core::mem::take(&mut self.table.lock().over)
    }

    fn put_back(&self, over: impl IntoIterator<Item = (Sent, Outcome)>) {
        self.table.lock().over.extend(over);
    }
}

/// What is known of the database between two looks.
#[derive(Debug, Default)]
pub(super) struct Look {
    watch: Option<Watch>,
    open: bool,
}

impl Ingress {
    /// Notes what came of commands, ends those whose time is over, and hands over what waits for agents of this node.
    pub(super) async fn look_for_commands(&self, look: &mut Look) -> Result<(), StoreError> {
        self.note_outcomes().await?;
        let watch = match &mut look.watch {
            Some(watch) => watch,
            empty => empty.insert(self.store.watch(Topic::All).await?),
        };
        match watch.changed().await {
            Ok(false) if !look.open => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                look.watch = None;
                return Err(error);
            }
        }
        let (open, overdue) = self.store.open_commands().await?;
        look.open = open;
        if overdue {
            for (id, verb, standing) in self.store.end_commands().await? {
                let (command, standing) = (verb.map(Verb::word), standing.word());
                warn!(id = %escape(&id), command, standing, "the time of a command is over");
                self.edge.metrics.command(verb, standing);
            }
        }
        if open && !self.edge.is_draining() {
            self.hand_over().await?;
        }
        Ok(())
    }

    /// Notes in the database what came of commands.
    pub(super) async fn note_outcomes(&self) -> Result<(), StoreError> {
        let mut over = self.commands.take_over().into_iter();
        while let Some((sent, outcome)) = over.next() {
            match self.store.note_outcome(&sent.id, &self.run, &outcome).await {
                Ok(true) => self.edge.metrics.command(Some(sent.verb), result(&outcome)),
                Ok(false) => {}
                Err(error) => {
                    self.commands.put_back([(sent, outcome)].into_iter().chain(over));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn hand_over(&self) -> Result<(), StoreError> {
        let waiting = self.store.waiting_commands().await?;
        let wanted: HashSet<_> =
            waiting.iter().filter_map(|waiting| waiting.wish.as_ref()).map(|wish| (wish.account, wish.agent)).collect();
        let sessions = self.sessions.of_agents(&wanted);
        for Waiting { id, wish } in waiting {
            let Some(wish) = wish else {
                if self.store.refuse_command(&id, NONE).await? {
                    warn!(id = %escape(&id), "the database holds a command that is none");
                    self.edge.metrics.command(None, Standing::Failed.word());
                }
                continue;
            };
            if let Some((session, handle)) = sessions.get(&(wish.account, wish.agent))
                && !handle.is_parked()
                && let Some(document) = self.store.take_command(&id, &self.run, *session).await?
            {
                let sent = Sent { id, verb: wish.verb };
                let needs = sent.verb.needs_document();
                match document {
                    Document::None if !needs => self.hand((*session, handle), sent, None, wish).await?,
                    Document::Some(document) if needs => {
                        self.hand((*session, handle), sent, Some(&document), wish).await?;
                    }
                    Document::None | Document::Some(_) | Document::Unfit => {
                        self.commands.put_back([(sent, Outcome::Failed(DOCUMENT.to_owned()))]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands one over that this node, and no other, has taken.
    async fn hand(
        &self,
        session: (SessionId, &NetworkSession),
        sent: Sent,
        document: Option<&str>,
        wish: Wish,
    ) -> Result<(), StoreError> {
        let Wish { agent, verb, text, author, .. } = wish;
        let id = session.0;
        match self.commands.send(session, sent.clone(), document, &text) {
            Ok(()) => {
                let (command, text, author) = (verb.word(), escape(&text), escape(&author));
                info!(session = %id, %agent, command, id = sent.id, %text, %author, "a command was handed over");
            }
            // The session has just ended: the agent may come back in time, here or elsewhere.
            Err(AnswerError::Closed) => self.store.give_command_back(&sent.id, &self.run).await?,
            Err(error) => {
                warn!(session = %id, %agent, command = verb.word(), %error, "a command was not handed over");
                self.commands.put_back([(sent, Outcome::Failed(error.to_string()))]);
            }
        }
        Ok(())
    }
}

/// Returns the word for an outcome among the numbers.
fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered(Code::NO_ERROR, _) => "obeyed",
        Outcome::Answered(code, _) => code.name().unwrap_or("OTHER"),
        Outcome::Lost => Standing::Lost.word(),
        Outcome::Failed(_) => Standing::Failed.word(),
    }
}

impl Metrics {
    /// Counts what came of a command.
    fn command(&self, verb: Option<Verb>, result: &'static str) {
        let command = verb.map_or("unknown", Verb::word);
        self.commands.get_or_create(&CommandLabel { command, result }).inc();
    }
}

const NONE: &str = "the row of the database holds no command";
const DOCUMENT: &str = "the document is missing, too large, no text, or of a command that has none";
