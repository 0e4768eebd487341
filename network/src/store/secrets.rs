//! Sealed rows: the database holds what the [`Vault`] made of keys, certificates and accounts.

use adit_core::Secret;
use sqlx::Row as _;

use super::{Kind, Store, StoreError, Vault, VaultError, unix_now};

/// A sealed row, opened.
#[derive(Debug)]
pub struct Opened {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub plain: Secret,
    /// When it was written: seconds since 1970.
    pub changed: i64,
}

/// When a certificate that could not be issued is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The name.
    pub name: String,
    /// How often it failed in a row.
    pub failures: u32,
    /// Seconds since 1970.
    pub next: u64,
    /// Whether the CA said so.
    pub limited: bool,
}

impl Store {
    /// Seals and writes a row, in place of one of that kind and name; tells whether there was one.
    ///
    /// # Errors
    /// When it cannot be sealed or written.
    pub async fn put_secret(&self, vault: &Vault, kind: Kind, name: &str, plain: &[u8]) -> Result<bool, StoreError> {
        let sealed = vault.seal(kind, name, plain)?;
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let old = sqlx::query("DELETE FROM secrets WHERE kind = ? AND name = ?")
            .bind(kind.word())
            .bind(name)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO secrets (kind, name, sealed, changed) VALUES (?, ?, ?, ?)")
            .bind(kind.word())
            .bind(name)
            .bind(sealed)
            .bind(unix_now())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(old.rows_affected() > 0)
    }

    /// Opens every row of a kind, by name.
    ///
    /// # Errors
    /// When the database fails or one cannot be opened: nobody goes on with a part of them.
    pub async fn secrets(&self, vault: &Vault, kind: Kind) -> Result<Vec<Opened>, StoreError> {
        let rows = sqlx::query("SELECT name, sealed, changed FROM secrets WHERE kind = ? ORDER BY name")
            .bind(kind.word())
            .fetch_all(&self.readers)
            .await?;
        let mut opened = Vec::with_capacity(rows.len());
        for row in rows {
            let (name, sealed): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
            let plain = vault.open(kind, &name, &sealed)?;
            opened.push(Opened { name, plain, changed: row.try_get(2)? });
        }
        Ok(opened)
    }

    /// Removes a row; false when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_secret(&self, kind: Kind, name: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM secrets WHERE kind = ? AND name = ?")
            .bind(kind.word())
            .bind(name)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Checks that every sealed row can be opened; without a vault, that there is none.
    ///
    /// # Errors
    /// The first that cannot: to go on would issue anew what is only locked away.
    pub async fn check_secrets(&self, vault: Option<&Vault>) -> Result<(), StoreError> {
        match vault {
            Some(vault) => {
                for kind in Kind::ALL {
                    self.secrets(vault, kind).await?;
                }
            }
            None => {
                let row = sqlx::query("SELECT count(*) FROM secrets").fetch_one(&self.readers).await?;
                if row.try_get::<i64, _>(0)? > 0 {
                    return Err(VaultError::NoKey.into());
                }
            }
        }
        Ok(())
    }

    /// Seals with the first key what was sealed with another; returns how many rows that were. All or nothing.
    ///
    /// # Errors
    /// When one cannot be opened or the database fails; nothing has changed then.
    pub async fn rekey(&self, vault: &Vault) -> Result<usize, StoreError> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut done = 0;
        for kind in Kind::ALL {
            let rows = sqlx::query("SELECT name, sealed FROM secrets WHERE kind = ?")
                .bind(kind.word())
                .fetch_all(&mut *transaction)
                .await?;
            for row in rows {
                let (name, sealed): (String, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
                let plain = vault.open(kind, &name, &sealed)?;
                if vault.is_current(&sealed) {
                    continue;
                }
                sqlx::query("UPDATE secrets SET sealed = ? WHERE kind = ? AND name = ?")
                    .bind(vault.seal(kind, &name, plain.expose())?)
                    .bind(kind.word())
                    .bind(&name)
                    .execute(&mut *transaction)
                    .await?;
                done += 1;
            }
        }
        transaction.commit().await?;
        Ok(done)
    }

    /// Notes when a name is tried again; without failures the note is taken away.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_issue(&self, issue: &Issue) -> Result<(), StoreError> {
        if issue.failures == 0 {
            sqlx::query("DELETE FROM issues WHERE name = ?").bind(&issue.name).execute(&self.writer).await?;
            return Ok(());
        }
        let statement = "INSERT INTO issues (name, failures, next, limited) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET failures = ?2, next = ?3, limited = ?4";
        sqlx::query(statement)
            .bind(&issue.name)
            .bind(i64::from(issue.failures))
            .bind(i64::try_from(issue.next).unwrap_or(i64::MAX))
            .bind(issue.limited)
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    /// Returns the notes of [`Self::note_issue`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issues(&self) -> Result<Vec<Issue>, StoreError> {
        let rows = sqlx::query("SELECT name, failures, next, limited FROM issues").fetch_all(&self.readers).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let (failures, next): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
            let failures = u32::try_from(failures).unwrap_or(u32::MAX);
            let next = u64::try_from(next).unwrap_or(0);
            Ok(Issue { name: row.try_get(0)?, failures, next, limited: row.try_get(3)? })
        };
        rows.iter().map(read).collect()
    }

    /// Returns the endpoints that are held by an account, with it: bound at this moment or within [`super::QUARANTINE`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn held(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let oldest = unix_now() - i64::try_from(super::QUARANTINE.as_secs()).unwrap_or(i64::MAX);
        let rows = sqlx::query("SELECT endpoint, account FROM endpoints WHERE bound >= ?")
            .bind(oldest)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}
