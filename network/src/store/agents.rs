//! Which agents are there: their sessions on every node that serves from this database, and the last one of those that are away.

use std::collections::BTreeMap;

use adit_core::{AgentId, SessionId};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Store, StoreError, unix_millis};

/// A session, as its node notes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Whose agent it is.
    pub account: i64,
    /// The agent's lasting name.
    pub agent: AgentId,
    /// The token's public id.
    pub token: String,
    /// Where the agent connects from.
    pub address: String,
    /// Name and version of its program, in its own words.
    pub software: String,
    /// Text of the agent's owner.
    pub metadata: String,
    /// The first [`ENDPOINTS`] endpoints that it serves.
    pub endpoints: Vec<String>,
    /// How many it serves.
    pub bound: usize,
    /// Whether the session waits for its agent.
    pub parked: bool,
    /// When it began: milliseconds since 1970.
    pub began: i64,
}

/// An agent, with what its newest session says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    /// The account.
    pub account: i64,
    /// The account's name.
    pub account_name: String,
    /// The agent's lasting name.
    pub agent: AgentId,
    /// Whether it is there.
    pub presence: Presence,
    /// Since when: milliseconds since 1970.
    pub since: i64,
    /// The names of the nodes that hold its sessions.
    pub nodes: Vec<String>,
    /// How many sessions it has.
    pub sessions: usize,
    /// The token's public id.
    pub token: String,
    /// Where it connects from.
    pub address: String,
    /// Name and version of its program, in its own words.
    pub software: String,
    /// Text of its owner.
    pub metadata: String,
    /// The endpoints that it serves or, away, served last; not all if `bound` is more.
    pub endpoints: Vec<String>,
    /// How many they are.
    pub bound: usize,
}

/// Whether an agent is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It has no session.
    Away,
    /// Its sessions have no connection, and wait for it.
    Waiting,
    /// It is connected.
    Connected,
}

impl Presence {
    /// Returns the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Waiting => "waiting",
            Self::Connected => "connected",
        }
    }
}

/// Which agents are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search<'a> {
    /// Those of this account.
    pub account: Option<&'a str>,
    /// The one with this id or, if it is no whole one, those whose id begins so or who serve this URL.
    pub called: Option<&'a str>,
    /// Those that are away, too.
    pub away: bool,
    /// Those after this one, in the order of accounts and ids.
    pub after: Option<(&'a str, AgentId)>,
    /// So many at the most.
    pub most: usize,
}

impl Store {
    /// Notes how sessions are that `node` holds; `None` is one that is over. An agent that is back is not away any more.
    ///
    /// # Errors
    /// When the database fails: then nothing is noted.
    pub async fn note_sessions(
        &self,
        node: &str,
        sessions: &[(SessionId, Option<Sighting>)],
    ) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for (id, sighting) in sessions {
            let id = id.to_string();
            let Some(sighting) = sighting else {
                sqlx::query("UPDATE sessions SET gone = ? WHERE id = ? AND gone IS NULL")
                    .bind(unix_millis())
                    .bind(&id)
                    .execute(&mut *transaction)
                    .await?;
                let others = "DELETE FROM sessions WHERE id = ? AND EXISTS (SELECT 1 FROM sessions other
                     WHERE other.account = sessions.account AND other.agent = sessions.agent AND other.id <> sessions.id)";
                sqlx::query(others).bind(&id).execute(&mut *transaction).await?;
                continue;
            };
            sqlx::query("DELETE FROM sessions WHERE account = ? AND agent = ? AND gone IS NOT NULL")
                .bind(sighting.account)
                .bind(sighting.agent.to_string())
                .execute(&mut *transaction)
                .await?;
            let upsert = "INSERT INTO sessions
                 (id, node, account, agent, token, address, software, metadata, endpoints, bound, parked, began)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                 ON CONFLICT (id) DO UPDATE SET address = ?6, endpoints = ?9, bound = ?10, parked = ?11";
            sqlx::query(upsert)
                .bind(&id)
                .bind(node)
                .bind(sighting.account)
                .bind(sighting.agent.to_string())
                .bind(&sighting.token)
                .bind(&sighting.address)
                .bind(&sighting.software)
                .bind(&sighting.metadata)
                .bind(serde_json::Value::from(sighting.endpoints.clone()).to_string())
                .bind(i64::try_from(sighting.bound).unwrap_or(i64::MAX))
                .bind(i64::from(sighting.parked))
                .bind(sighting.began)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Notes that a node lives, and takes the agents of those that do not for away. What is away for long is forgotten. Returns
    /// whether the node was not known: then others may have taken its agents for away, and it has to note them again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_node(&self, id: &str, name: &str) -> Result<bool, StoreError> {
        let now = unix_millis();
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let seen = sqlx::query("UPDATE nodes SET seen = ? WHERE id = ?").bind(now).bind(id);
        let is_new = seen.execute(&mut *transaction).await?.rows_affected() == 0;
        if is_new {
            let insert = sqlx::query("INSERT INTO nodes (id, name, seen) VALUES (?, ?, ?)").bind(id).bind(name);
            insert.bind(now).execute(&mut *transaction).await?;
        }
        sqlx::query("DELETE FROM nodes WHERE seen < ?").bind(now - DEAD).execute(&mut *transaction).await?;
        sqlx::query("UPDATE sessions SET gone = ? WHERE gone IS NULL AND node NOT IN (SELECT id FROM nodes)")
            .bind(now)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM sessions WHERE gone < ?").bind(now - AWAY).execute(&mut *transaction).await?;
        // Whose account has the most of them loses the oldest first: agents choose their names, and may choose many.
        let beyond = "DELETE FROM sessions WHERE id IN (SELECT id FROM (
                 SELECT id, row_number() OVER (PARTITION BY account ORDER BY gone DESC) AS place FROM sessions WHERE gone IS NOT NULL
             ) ORDER BY place LIMIT -1 OFFSET ?)";
        sqlx::query(beyond).bind(MOST_AWAY).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(is_new)
    }

    /// Notes that a node ends, and with it its sessions.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_node_gone(&self, id: &str) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("DELETE FROM nodes WHERE id = ?").bind(id).execute(&mut *transaction).await?;
        sqlx::query("UPDATE sessions SET gone = ? WHERE node = ? AND gone IS NULL")
            .bind(unix_millis())
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Returns agents in the order of accounts and ids.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn agents(&self, search: Search<'_>) -> Result<Vec<AgentRow>, StoreError> {
        let whole = search.called.and_then(parse_id).map(|id| id.to_string());
        let quoted = search.called.map(|called| serde_json::Value::from(called).to_string());
        let rows = sqlx::query(PAGE)
            .bind(unix_millis() - DEAD)
            .bind(search.account)
            .bind(search.called)
            .bind(quoted)
            .bind(search.away)
            .bind(search.after.map(|(account, _)| account))
            .bind(search.after.map(|(_, agent)| agent.to_string()))
            .bind(i64::try_from(search.most).unwrap_or(i64::MAX))
            .bind(whole)
            .fetch_all(&self.readers)
            .await?;
        let mut agents: BTreeMap<_, Vec<AgentRow>> = BTreeMap::new();
        for row in &rows {
            // A row that is no text hides no other.
            if let Ok(Some(seen)) = session(row) {
                agents.entry((seen.account_name.clone(), seen.agent.0)).or_default().push(seen);
            }
        }
        Ok(agents.into_values().filter_map(summary).collect())
    }
}

/// Which agents, and up to 16 sessions of each, the oldest first. No more of a text is read than it should have: the row may have been
/// written by anybody.
const PAGE: &str = "
    WITH alive AS (SELECT id, name FROM nodes WHERE seen >= ?1),
    seen AS (
        SELECT s.account, s.agent, a.name, s.gone IS NULL AND s.node IN (SELECT id FROM alive) AS here,
            CASE WHEN ?9 IS NOT NULL THEN s.agent = ?9
                ELSE length(?3) >= 4 AND substr(s.agent, 1, length(?3)) = lower(?3) OR instr(s.endpoints, ?4) > 0 END AS called
        FROM sessions s JOIN accounts a ON a.id = s.account
    ),
    page AS (
        SELECT account, agent FROM seen
        WHERE (here OR ?5) AND (?2 IS NULL OR name = ?2) AND (?3 IS NULL OR called) AND (?6 IS NULL OR (name, agent) > (?6, ?7))
        GROUP BY account, agent, name ORDER BY name, agent LIMIT ?8
    )
    SELECT s.account, substr(a.name, 1, 64), substr(s.agent, 1, 33), s.began, s.gone IS NULL AND n.id IS NOT NULL, s.parked, s.bound,
        substr(coalesce(n.name, ''), 1, 253), substr(s.token, 1, 64), substr(s.address, 1, 64), substr(s.software, 1, 256),
        substr(s.metadata, 1, 4096), substr(s.endpoints, 1, 131072)
    FROM page p JOIN (
        SELECT *, row_number() OVER (PARTITION BY account, agent ORDER BY gone IS NOT NULL, began DESC) AS place FROM sessions
    ) s ON s.account = p.account AND s.agent = p.agent AND s.place <= 16
    JOIN accounts a ON a.id = s.account LEFT JOIN alive n ON n.id = s.node ORDER BY a.name, s.agent, s.began";

/// Reads what a session says of its agent; nothing when the row is none of ours.
fn session(row: &SqliteRow) -> Result<Option<AgentRow>, StoreError> {
    let Some(agent) = parse_id(row.try_get(2)?) else { return Ok(None) };
    let (here, parked, bound): (bool, i64, i64) = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
    let presence = match (here, parked) {
        (false, _) => Presence::Away,
        (true, 0) => Presence::Connected,
        (true, _) => Presence::Waiting,
    };
    let node: String = row.try_get(7)?;
    Ok(Some(AgentRow {
        account: row.try_get(0)?,
        account_name: row.try_get(1)?,
        agent,
        presence,
        since: row.try_get(3)?,
        nodes: if node.is_empty() { Vec::new() } else { vec![node] },
        sessions: usize::from(here),
        token: row.try_get(8)?,
        address: row.try_get(9)?,
        software: row.try_get(10)?,
        metadata: row.try_get(11)?,
        endpoints: serde_json::from_str(row.try_get(12)?).unwrap_or_default(),
        bound: usize::try_from(bound).unwrap_or_default(),
    }))
}

/// Makes one of the sessions of an agent: the newest that is nearest to being connected says who it is.
fn summary(mut sessions: Vec<AgentRow>) -> Option<AgentRow> {
    if sessions.iter().any(|session| session.presence != Presence::Away) {
        sessions.retain(|session| session.presence != Presence::Away);
    }
    sessions.sort_by_key(|session| (session.presence, session.since));
    let mut agent = sessions.pop()?;
    for session in &mut sessions {
        agent.since = agent.since.min(session.since);
        agent.sessions += session.sessions;
        agent.bound = agent.bound.max(session.bound);
        agent.nodes.append(&mut session.nodes);
        agent.endpoints.append(&mut session.endpoints);
    }
    for list in [&mut agent.nodes, &mut agent.endpoints] {
        list.sort_unstable();
        list.dedup();
    }
    agent.bound = agent.bound.max(agent.endpoints.len());
    Some(agent)
}

/// Reads the lasting name of an agent: 32 hexadecimal digits.
pub fn parse_id(text: &str) -> Option<AgentId> {
    if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut id = [0; 16];
    for (octet, at) in id.iter_mut().zip((0..32).step_by(2)) {
        *octet = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(AgentId(id))
}

/// The endpoints of a session that are noted.
pub const ENDPOINTS: usize = 100;
/// A node that was not seen for so many milliseconds has died: three times as long as it takes to be seen again.
const DEAD: i64 = 30_000;
/// For so many milliseconds an agent that is away is known: 30 days.
const AWAY: i64 = 30 * 24 * 3_600 * 1_000;
/// And so many of them at the most.
const MOST_AWAY: i64 = 10_000;
