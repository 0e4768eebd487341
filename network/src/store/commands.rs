//! What agents are asked to do: one process asks, the node that holds the agent's session hands it over, and notes the answer.
//!
//! Who hands a command over is decided by one conditional update, so that it happens once, however many nodes look. A node that
//! dies after it leaves a command whose outcome nobody knows; it is told so and never sent again. What the rows hold may have been
//! written by anybody: it is checked before it is used.

use core::time::Duration;

use adit_core::{AgentId, Code, Command, DOCUMENT, SessionId};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, agents, unix_millis};

/// What an agent can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Verb {
    /// End the program.
    Stop,
    /// Start the program anew.
    Restart,
    /// Replace the program by a newer version.
    Update,
    /// Put the endpoints of a document in force.
    Configuration,
}

impl Verb {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Stop, Self::Restart, Self::Update, Self::Configuration];

    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Update => "update",
            Self::Configuration => "configuration",
        }
    }

    /// Returns it as it goes over the wire.
    pub const fn command(self) -> Command {
        match self {
            Self::Stop => Command::Stop,
            Self::Restart => Command::Restart,
            Self::Update => Command::Update,
            Self::Configuration => Command::Configuration,
        }
    }

    /// Returns whether it needs a document; the others have none.
    pub const fn needs_document(self) -> bool {
        match self {
            Self::Stop | Self::Restart | Self::Update => false,
            Self::Configuration => true,
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.word() == word)
    }
}

/// What is asked of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Whose agent it is.
    pub account: i64,
    /// Which.
    pub agent: AgentId,
    /// What it shall do.
    pub verb: Verb,
    /// For the agent's log, at most [`TEXT`] octets.
    pub text: String,
    /// Who asks.
    pub author: String,
}

/// Whether a wish was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It waits for a node, under this id.
    Waits(String),
    /// As many wait for the agent, or in all, as may: the name of the limit.
    Full(&'static str),
}

/// A command that waits for a node. Its document is read by the node that takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub id: String,
    /// What is asked, if the row holds something that can be asked.
    pub wish: Option<Wish>,
}

/// A command that a node took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// There is none.
    None,
    /// It is this.
    Some(String),
    /// It is larger than [`DOCUMENT`], or no text.
    Unfit,
}

/// How a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It waits for a node that holds the agent's session.
    Waiting,
    /// A node took it and hands it over, or has done so.
    Sent,
    /// The agent answered.
    Answered(Code),
    /// It was handed over, or about to be, and nobody knows what the agent made of it.
    Lost,
    /// Its time passed before anybody took it. It never reaches the agent.
    Expired,
    /// It could not be handed over, and never will be.
    Failed,
}

impl Standing {
    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Answered(_) => "answered",
            Self::Lost => "lost",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// Returns whether nothing more is to come within its time.
    pub const fn is_over(self) -> bool {
        match self {
            Self::Waiting | Self::Sent => false,
            Self::Answered(_) | Self::Lost | Self::Expired | Self::Failed => true,
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it stands.
    pub standing: Standing,
    /// What the agent said, or the node.
    pub answer: String,
}

/// What a node tells of a command that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent answered.
    Answered(Code, String),
    /// The session ended before the agent answered.
    Lost,
    /// It was not handed over.
    Failed(String),
}

impl Store {
    /// Asks an agent for something, with a document of at most [`DOCUMENT`] octets: whichever node holds its session hands it
    /// over `within` that time, or nobody ever does.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ask(&self, wish: &Wish, document: Option<&str>, within: Duration) -> Result<Taken, StoreError> {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| StoreError::Entropy)?;
        let (id, now) = (AgentId(id).to_string(), unix_millis());
        let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for (prune, number) in [
            ("DELETE FROM commands WHERE created < ? AND state NOT IN ('waiting', 'sent')", now - KEPT),
            (
                "DELETE FROM commands WHERE state NOT IN ('waiting', 'sent')
                 AND id IN (SELECT id FROM commands ORDER BY created DESC LIMIT -1 OFFSET ?)",
                MOST_KEPT,
            ),
        ] {
            sqlx::query(prune).bind(number).execute(&mut *transaction).await?;
        }
        let open = "SELECT count(*), coalesce(sum(account = ? AND agent = ?), 0) FROM commands WHERE state IN ('waiting', 'sent') AND expires > ?";
        let count = sqlx::query(open).bind(wish.account).bind(wish.agent.to_string()).bind(now);
        let count = count.fetch_one(&mut *transaction).await?;
        let (all, of_agent): (i64, i64) = (count.try_get(0)?, count.try_get(1)?);
        if of_agent >= OPEN_PER_AGENT {
            return Ok(Taken::Full("of this agent"));
        }
        if all >= OPEN {
            return Ok(Taken::Full("in all"));
        }
        let insert = "INSERT INTO commands (id, account, agent, command, text, document, author, created, expires, state, changed)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?)";
        sqlx::query(insert)
            .bind(&id)
            .bind(wish.account)
            .bind(wish.agent.to_string())
            .bind(wish.verb.word())
            .bind(&wish.text)
            .bind(document.map(str::as_bytes))
            .bind(&wish.author)
            .bind(now)
            .bind(now.saturating_add(within))
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Taken::Waits(id))
    }

    /// Returns whether any command waits for a node or an answer, and whether the time of one of them is over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_commands(&self) -> Result<(bool, bool), StoreError> {
        let query = "SELECT min(expires) FROM commands WHERE state IN ('waiting', 'sent')";
        let first: Option<i64> = sqlx::query(query).fetch_one(&self.readers).await?.try_get(0)?;
        Ok((first.is_some(), first.is_some_and(|first| first <= unix_millis())))
    }

    /// Returns the commands that wait for a node, the oldest first, [`OPEN`] at the most.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting_commands(&self) -> Result<Vec<Waiting>, StoreError> {
        // No more of a text is read than would be too much: the row may have been written by anybody.
        let query = "SELECT id, account, substr(agent, 1, 33), substr(command, 1, 33), substr(text, 1, ?1 + 1), substr(author, 1, 256)
             FROM commands WHERE state = 'waiting' AND expires > ?2 AND length(id) <= 64 ORDER BY created, id LIMIT ?3";
        let rows = sqlx::query(query).bind(limit(TEXT)).bind(unix_millis()).bind(OPEN);
        let rows = rows.fetch_all(&self.readers).await?;
        // A row that is no text is no reason to hand no other over.
        let waiting = |row| Some(Waiting { id: row_id(row)?, wish: wish(row).unwrap_or_default() });
        Ok(rows.iter().filter_map(waiting).collect())
    }

    /// Takes a command, so that nobody else hands it over, and returns its document. Nothing when somebody has, or its time is over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_command(&self, id: &str, node: &str, session: SessionId) -> Result<Option<Document>, StoreError> {
        let now = unix_millis();
        let update = "UPDATE commands SET state = 'sent', node = ?, session = ?, changed = ?
             WHERE id = ? AND state = 'waiting' AND expires > ? RETURNING document IS NULL, substr(document, 1, ? + 1)";
        // The row is ours when it is written down, not when the statement gives it: a disk that is full says so at the end only.
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let update = sqlx::query(update).bind(node).bind(session.to_string()).bind(now).bind(id).bind(now);
        let row = update.bind(limit(DOCUMENT)).fetch_optional(&mut *transaction).await?;
        transaction.commit().await?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get(0)? {
            return Ok(Some(Document::None));
        }
        // A part of an empty one is nothing to SQLite.
        let document: Option<Vec<u8>> = row.try_get(1)?;
        Ok(Some(match document.unwrap_or_default() {
            document if document.len() > DOCUMENT => Document::Unfit, // spec: CMD-006
            document => String::from_utf8(document).map_or(Document::Unfit, Document::Some),
        }))
    }

    /// Gives a command back that this node took and has certainly not handed over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_command_back(&self, id: &str, node: &str) -> Result<(), StoreError> {
        let update = "UPDATE commands SET state = 'waiting', node = NULL, session = NULL, changed = ?
             WHERE id = ? AND node = ? AND state = 'sent'";
        sqlx::query(update).bind(unix_millis()).bind(id).bind(node).execute(&self.writer).await?;
        Ok(())
    }

    /// Takes back what was asked, unless a node has taken it. Returns whether nobody will hand it over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn withdraw_command(&self, id: &str) -> Result<bool, StoreError> {
        let update = "UPDATE commands SET state = 'expired', answer = 'withdrawn', document = NULL, changed = ?
             WHERE id = ? AND state = 'waiting'";
        let done = sqlx::query(update).bind(unix_millis()).bind(id).execute(&self.writer).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes that a command can never be handed over: it is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn refuse_command(&self, id: &str, why: &str) -> Result<bool, StoreError> {
        let update = "UPDATE commands SET state = 'failed', answer = ?, document = NULL, changed = ?
             WHERE id = ? AND state = 'waiting'";
        let done = sqlx::query(update).bind(why).bind(unix_millis()).bind(id).execute(&self.writer).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Notes what came of a command that this node took; an answer when it comes late, too. Returns whether that is new.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_outcome(&self, id: &str, node: &str, outcome: &Outcome) -> Result<bool, StoreError> {
        let (state, code, answer) = match outcome {
            Outcome::Answered(code, text) => ("answered", Some(i64::from(code.0)), text.as_str()),
            Outcome::Lost => ("lost", None, "the session ended before the agent answered"),
            Outcome::Failed(why) => ("failed", None, why.as_str()),
        };
        let update = "UPDATE commands SET state = ?1, code = ?2, answer = ?3, document = NULL, changed = ?4
             WHERE id = ?5 AND node = ?6 AND (state = 'sent' OR state = 'lost' AND ?1 = 'answered')";
        let update = sqlx::query(update).bind(state).bind(code).bind(answer).bind(unix_millis()).bind(id).bind(node);
        Ok(update.execute(&self.writer).await?.rows_affected() > 0)
    }

    /// Ends commands whose time is over: what nobody took expires, what was taken and not answered is lost. Returns what was
    /// asked and what became of it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_commands(&self) -> Result<Vec<(String, Option<Verb>, Standing)>, StoreError> {
        let mut ended = Vec::new();
        for (from, to, standing, why) in [
            ("waiting", "expired", Standing::Expired, ""),
            ("sent", "lost", Standing::Lost, "the agent did not answer in time"),
        ] {
            let update = "UPDATE commands SET state = ?1, answer = ?2, document = NULL, changed = ?3
                 WHERE state = ?4 AND state IN ('waiting', 'sent') AND expires <= ?3 RETURNING substr(id, 1, 64), substr(command, 1, 33)";
            let update = sqlx::query(update).bind(to).bind(why).bind(unix_millis()).bind(from);
            for row in update.fetch_all(&self.writer).await? {
                let verb = row.try_get(1).ok().and_then(Verb::parse);
                ended.push((row_id(&row).unwrap_or_default(), verb, standing));
            }
        }
        Ok(ended)
    }

    /// Returns what came of a command; nothing when there is none of that id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn command(&self, id: &str) -> Result<Option<Report>, StoreError> {
        let query = "SELECT state, code, substr(coalesce(answer, ''), 1, ?) FROM commands WHERE id = ?";
        let Some(row) = sqlx::query(query).bind(limit(TEXT)).bind(id).fetch_optional(&self.readers).await? else {
            return Ok(None);
        };
        let (state, code): (String, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let standing = match (state.as_str(), code.and_then(|code| u32::try_from(code).ok())) {
            ("waiting", _) => Standing::Waiting,
            ("sent", _) => Standing::Sent,
            ("answered", Some(code)) => Standing::Answered(Code(code)),
            ("lost", _) => Standing::Lost,
            ("expired", _) => Standing::Expired,
            (..) => Standing::Failed,
        };
        Ok(Some(Report { standing, answer: row.try_get(2)? }))
    }
}

fn row_id(row: &SqliteRow) -> Option<String> {
    row.try_get(0).ok()
}

/// Reads what is asked, if it is something that can be asked.
fn wish(row: &SqliteRow) -> Result<Option<Wish>, StoreError> {
    let (agent, verb): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    let (account, text, author): (i64, String, String) = (row.try_get(1)?, row.try_get(4)?, row.try_get(5)?);
    let (agent, verb) = (agents::parse_id(&agent), Verb::parse(&verb));
    let (Some(agent), Some(verb), true) = (agent, verb, text.len() <= TEXT) else { return Ok(None) };
    Ok(Some(Wish { account, agent, verb, text, author }))
}

fn limit(octets: usize) -> i64 {
    i64::try_from(octets).unwrap_or(i64::MAX)
}

/// The octets of a command's text, as the protocol has it.
pub const TEXT: usize = 1_024;
/// Commands of one agent that may wait for it or its answers.
pub const OPEN_PER_AGENT: i64 = 8;
/// Commands of all agents that may wait so.
pub const OPEN: i64 = 1_000;
/// For so many milliseconds it can be looked up what was asked of agents: 30 days.
const KEPT: i64 = 30 * 24 * 3_600 * 1_000;
/// And so many at the most.
const MOST_KEPT: i64 = 10_000;
