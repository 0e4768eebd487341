//! What must last: accounts, tokens, and who owns which endpoint; SQLite in WAL mode.
//!
//! The data path never asks it. When it fails, live tunnels stay; new sessions and binds have to wait (V92).

mod acl;
mod agents;
mod commands;
mod revocation;
mod secrets;
mod token;
mod vault;

use core::time::Duration;
use std::{
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use adit_core::Secret;
use sqlx::{
    ConnectOptions as _, Row as _, SqlSafeStr as _, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};
use token::Shown;

use crate::{endpoints::Known, router::Key};

pub use acl::{Acl, Object, Rule};
pub use agents::{AgentRow, ENDPOINTS, Presence, Search, Sighting, parse_id};
pub use commands::{Document, OPEN, OPEN_PER_AGENT, Outcome, Report, Standing, TEXT, Taken, Verb, Waiting, Wish};
pub use secrets::{Issue, Opened};
pub use token::NewToken;
pub use vault::{Kind, Vault, VaultError, write_key};

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    readers: SqlitePool,
    writer: SqlitePool,
}

/// Who an agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token's public id.
    pub token: String,
    /// The account.
    pub account: i64,
    /// The account's name.
    pub name: String,
    /// What the token may bind.
    pub acl: Acl,
}

/// A token as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// The public id.
    pub id: String,
    /// The account's name.
    pub account: String,
    /// What was written about it.
    pub description: String,
    /// What it may bind.
    pub acl: Acl,
    /// Seconds since 1970.
    pub created: i64,
    /// Seconds since 1970.
    pub revoked: Option<i64>,
}

/// Whether a name may be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It belongs to the account.
    Owned,
    /// It belongs to another account, or did less than [`QUARANTINE`] ago.
    Taken,
    /// The account owns as many endpoints as it may.
    Limit,
}

/// Who wants to own what.
#[derive(Clone, Copy, Debug)]
pub struct Claimant<'a> {
    /// The endpoint, as `https://crm.example.com`.
    pub endpoint: &'a str,
    /// What belongs to an account: the name whatever the scheme, or `tcp:5432`.
    pub owned: &'a str,
    /// The wildcards that the name is inside of, the nearest first.
    pub above: &'a [String],
    /// The account.
    pub account: i64,
    /// How many endpoints one account may own.
    pub most: usize,
}

/// Returns since when an endpoint must have been bound to be somebody's.
fn oldest(now: i64) -> i64 {
    now - i64::try_from(QUARANTINE.as_secs()).unwrap_or(i64::MAX)
}

async fn is_foreign(
    connection: &mut SqliteConnection,
    Claimant { owned, above, account, .. }: Claimant<'_>,
    oldest: i64,
) -> Result<bool, sqlx::Error> {
    let foreign = sqlx::query("SELECT 1 FROM endpoints WHERE owned = ? AND account <> ? AND bound >= ? LIMIT 1")
        .bind(owned)
        .bind(account)
        .bind(oldest)
        .fetch_optional(&mut *connection)
        .await?;
    if foreign.is_some() {
        return Ok(true);
    }
    for wildcard in above {
        // The nearest wildcard decides, online or not: a name inside it is its account's to give (V77).
        let owner = sqlx::query("SELECT account FROM endpoints WHERE owned = ? AND bound >= ? LIMIT 1")
            .bind(wildcard)
            .bind(oldest)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(owner) = owner {
            return Ok(owner.try_get::<i64, _>(0)? != account);
        }
    }
    Ok(false)
}

/// What brings a schema up to date, in the order of `migrations/`. Each is applied once and never changed again.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "accounts and tokens", include_str!("../../migrations/0001_accounts_and_tokens.sql")),
    (2, "secrets", include_str!("../../migrations/0002_secrets.sql")),
    (3, "revocation", include_str!("../../migrations/0003_revocation.sql")),
    (4, "agents and commands", include_str!("../../migrations/0004_agents_and_commands.sql")),
];

/// Written by hand: the macro for it would build SQLite and half of the crate a second time, for the compiler.
fn migrator() -> Migrator {
    let migration = |&(version, description, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}

/// A released name stays with its account for so long: 30 days (V77).
pub const QUARANTINE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The database failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file cannot be made or opened.
    #[error("cannot open the database: {0}")]
    Open(#[from] std::io::Error),
    /// The schema cannot be brought up to date.
    #[error("cannot migrate the database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
    /// A rule in the database is not one: whose it is, is refused.
    #[error("the database holds a rule that is not one: {0:?}")]
    Rule(String),
    /// Something cannot be sealed or opened.
    #[error("{0}")]
    Vault(#[from] VaultError),
    /// The system gives no entropy.
    #[error("the system gives no entropy")]
    Entropy,
}

impl Store {
    /// Opens the database, makes it if there is none, and brings its schema up to date. A new file has mode 600.
    ///
    /// # Errors
    /// When that fails; nothing is then served.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let pool = |most| SqlitePoolOptions::new().max_connections(most).acquire_timeout(Duration::from_secs(5));
        let writer = pool(1).connect_with(options.clone()).await?;
        migrator().run(&writer).await?;
        let readers = pool(4).connect_with(options.read_only(true)).await?;
        Ok(Self { readers, writer })
    }

    /// Looks what a database has without changing anything; nothing when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn look(path: &Path) -> Result<Option<Known>, StoreError> {
        if !path.exists() {
            return Ok(None);
        }
        let options = SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging();
        let mut connection = options.connect().await?;
        let mut known = Known::default();
        for row in sqlx::query("SELECT name, id FROM accounts").fetch_all(&mut connection).await? {
            known.accounts.insert(row.try_get(0)?, row.try_get(1)?);
        }
        for row in sqlx::query("SELECT endpoint FROM endpoints").fetch_all(&mut connection).await? {
            known.endpoints.extend(Key::parse(row.try_get(0)?));
        }
        let rules = "SELECT t.account, r.rule FROM rules r JOIN tokens t ON t.id = r.token WHERE t.revoked IS NULL";
        for row in sqlx::query(rules).fetch_all(&mut connection).await? {
            let text: String = row.try_get(1)?;
            let rule = Rule::parse(&text).ok_or(StoreError::Rule(text))?;
            known.rules.entry(row.try_get(0)?).or_default().push(Acl::new(vec![rule]));
        }
        Ok(Some(known))
    }

    /// Makes a token for the account, which is made when there is none of that name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_token(&self, account: &str, acl: &Acl, description: &str) -> Result<NewToken, StoreError> {
        let (new, hash) = NewToken::generate().map_err(|_| StoreError::Entropy)?;
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("INSERT INTO accounts (name, created) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
            .bind(account)
            .bind(unix_now())
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "INSERT INTO tokens (id, account, hash, description, created)
             SELECT ?, id, ?, ?, ? FROM accounts WHERE name = ?",
        )
        .bind(&new.id)
        .bind(hash.0.as_slice())
        .bind(description)
        .bind(unix_now())
        .bind(account)
        .execute(&mut *transaction)
        .await?;
        for rule in acl.rules() {
            sqlx::query("INSERT OR IGNORE INTO rules (token, rule) VALUES (?, ?)")
                .bind(&new.id)
                .bind(rule.to_string())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(new)
    }

    /// Returns the number of an account, which is made when there is none of that name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn account(&self, name: &str) -> Result<i64, StoreError> {
        let find = || sqlx::query("SELECT id FROM accounts WHERE name = ?").bind(name);
        if let Some(row) = find().fetch_optional(&self.readers).await? {
            return Ok(row.try_get(0)?);
        }
        sqlx::query("INSERT INTO accounts (name, created) VALUES (?, ?) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(unix_now())
            .execute(&self.writer)
            .await?;
        Ok(find().fetch_one(&self.writer).await?.try_get(0)?)
    }

    /// Revokes a token; false when there is none of that id. Live sessions end within a second.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revoke_token(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("UPDATE tokens SET revoked = coalesce(revoked, ?) WHERE id = ?")
            .bind(unix_now())
            .bind(id)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Returns every token, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT t.id, a.name, t.description, t.created, t.revoked
             FROM tokens t JOIN accounts a ON a.id = t.account ORDER BY t.created, t.id",
        )
        .fetch_all(&self.readers)
        .await?;
        let mut tokens = Vec::with_capacity(rows.len());
        for row in rows {
            let id: String = row.try_get(0)?;
            let acl = self.acl(&id).await?;
            let (account, description) = (row.try_get(1)?, row.try_get(2)?);
            tokens.push(TokenRow { id, account, description, acl, created: row.try_get(3)?, revoked: row.try_get(4)? });
        }
        Ok(tokens)
    }

    /// Returns who shows this token, if it is valid. Malformed, unknown and revoked look alike and take the same steps.
    ///
    /// # Errors
    /// When the database fails: then nobody knows.
    pub async fn authenticate(&self, token: &Secret) -> Result<Option<Identity>, StoreError> {
        let shown = Shown::new(token);
        let row = sqlx::query(
            "SELECT t.hash, t.account, t.revoked, a.name FROM tokens t JOIN accounts a ON a.id = t.account WHERE t.id = ?",
        )
        .bind(&shown.id)
        .fetch_optional(self.asked())
        .await?;
        let acl = self.acl(&shown.id).await?;
        let stored: Option<Vec<u8>> = row.as_ref().map(|row| row.try_get(0)).transpose()?;
        let fits = shown.fits(stored.as_deref());
        let Some(row) = row else { return Ok(None) };
        let revoked: Option<i64> = row.try_get(2)?;
        let identity = Identity { token: shown.id, account: row.try_get(1)?, name: row.try_get(3)?, acl };
        Ok((fits & revoked.is_none()).then_some(identity))
    }

    /// Returns what a token may bind at this moment, if it is still valid.
    ///
    /// # Errors
    /// When the database fails: then nobody knows.
    pub async fn standing(&self, token: &str) -> Result<Option<Acl>, StoreError> {
        let valid = sqlx::query("SELECT 1 FROM tokens WHERE id = ? AND revoked IS NULL")
            .bind(token)
            .fetch_optional(&self.readers)
            .await?;
        match valid {
            Some(_) => Ok(Some(self.acl(token).await?)),
            None => Ok(None),
        }
    }

    /// Returns whether the endpoint is another account's, as [`Self::claim`] decides it. Claims nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_foreign(&self, claimant: Claimant<'_>) -> Result<bool, StoreError> {
        Ok(is_foreign(&mut *self.readers.acquire().await?, claimant, oldest(unix_now())).await?)
    }

    /// Notes that the account binds the endpoint, unless what it is called (`owned`) belongs to another account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim(&self, claimant: Claimant<'_>) -> Result<Claim, StoreError> {
        let Claimant { endpoint, owned, account, most, .. } = claimant;
        let now = unix_now();
        let oldest = oldest(now);
        // A claim an hour old is fresh enough: reconnecting fleets must not become a storm of writes.
        let fresh = sqlx::query("SELECT 1 FROM endpoints WHERE endpoint = ? AND account = ? AND bound > ? - 3600")
            .bind(endpoint)
            .bind(account)
            .bind(now)
            .fetch_optional(&self.readers)
            .await?;
        if fresh.is_some() {
            return Ok(Claim::Owned);
        }
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        if is_foreign(&mut transaction, claimant, oldest).await? {
            return Ok(Claim::Taken);
        }
        sqlx::query("DELETE FROM endpoints WHERE bound < ?").bind(oldest).execute(&mut *transaction).await?;
        let count: i64 = sqlx::query("SELECT count(*) FROM endpoints WHERE account = ? AND endpoint <> ?")
            .bind(account)
            .bind(endpoint)
            .fetch_one(&mut *transaction)
            .await?
            .try_get(0)?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= most {
            return Ok(Claim::Limit);
        }
        sqlx::query(
            "INSERT INTO endpoints (endpoint, owned, account, claimed, bound) VALUES (?1, ?2, ?3, ?4, ?4)
             ON CONFLICT (endpoint) DO UPDATE SET bound = ?4",
        )
        .bind(endpoint)
        .bind(owned)
        .bind(account)
        .bind(now)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Claim::Owned)
    }

    /// Notes that these endpoints are bound at this moment, so that long-lived binds do not lose their names.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn touch(&self, endpoints: &[String]) -> Result<(), StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for endpoint in endpoints {
            sqlx::query("UPDATE endpoints SET bound = ? WHERE endpoint = ?")
                .bind(unix_now())
                .bind(endpoint)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Returns every endpoint that was bound lately, so that its callers hear "no agent" rather than "unknown".
    ///
    /// # Errors
    /// When the database fails.
    pub async fn endpoints(&self) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT endpoint FROM endpoints").fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Returns something that tells when anybody changed what `topic` names.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub async fn watch(&self, topic: Topic) -> Result<Watch, StoreError> {
        let connection = self.readers.connect_options().connect().await?;
        Ok(Watch { connection, topic, version: None, revision: None })
    }

    /// Returns where a question goes.
    fn asked(&self) -> &SqlitePool {
        #[cfg(test)]
        token::work::QUESTIONS.set(token::work::QUESTIONS.get() + 1);
        &self.readers
    }

    async fn acl(&self, token: &str) -> Result<Acl, StoreError> {
        let rows = sqlx::query("SELECT rule FROM rules WHERE token = ? ORDER BY rule")
            .bind(token)
            .fetch_all(self.asked())
            .await?;
        let mut rules = Vec::with_capacity(rows.len());
        for row in rows {
            let text: String = row.try_get(0)?;
            rules.push(Rule::parse(&text).ok_or(StoreError::Rule(text))?);
        }
        Ok(Acl::new(rules))
    }
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Tokens and their rules.
    Access,
    /// Keys, certificates and accounts.
    Secrets,
    /// Everything.
    All,
}

/// Tells when another connection, of this process or another, has changed the database.
#[derive(Debug)]
pub struct Watch {
    connection: SqliteConnection,
    topic: Topic,
    version: Option<i64>,
    revision: Option<i64>,
}

impl Watch {
    /// Returns true when what is watched changed since the last call, and at the first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn changed(&mut self) -> Result<bool, StoreError> {
        let version = sqlx::query("PRAGMA data_version").fetch_one(&mut self.connection).await?.try_get(0)?;
        if self.version == Some(version) {
            return Ok(false);
        }
        let topic = match self.topic {
            Topic::All => {
                self.version = Some(version);
                return Ok(true);
            }
            Topic::Access => "access",
            Topic::Secrets => "secrets",
        };
        let revision = sqlx::query("SELECT number FROM revisions WHERE topic = ?").bind(topic);
        let revision = revision.fetch_optional(&mut self.connection).await?.map(|row| row.try_get(0)).transpose()?;
        self.version = Some(version);
        // Without a number nobody knows, and everything may have changed.
        Ok(revision.is_none() || core::mem::replace(&mut self.revision, revision) != revision)
    }
}

/// Returns the time: milliseconds since 1970.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
