//! What is known of revocation lists: how new the newest of each scope was, and copies of those that are fetched.

use sqlx::Row as _;

use super::{Store, StoreError};

impl Store {
    /// Returns each scope with the number and time of its newest list.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revocation_marks(&self) -> Result<Vec<(Vec<u8>, Vec<u8>, i64)>, StoreError> {
        let rows = sqlx::query("SELECT scope, number, issued FROM revocation_marks").fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
    }

    /// Notes the newest list of a scope.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_revocation_mark(&self, scope: &[u8], number: &[u8], issued: i64) -> Result<(), StoreError> {
        let statement = "INSERT INTO revocation_marks (scope, number, issued) VALUES (?1, ?2, ?3)
             ON CONFLICT (scope) DO UPDATE SET number = ?2, issued = ?3";
        sqlx::query(statement).bind(scope).bind(number).bind(issued).execute(&self.writer).await?;
        Ok(())
    }

    /// Returns each URL with the last good copy of what it led to.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revocation_copies(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = sqlx::query("SELECT url, list FROM revocation_copies").fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Keeps a copy of what a URL led to.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_revocation_copy(&self, url: &str, list: &[u8]) -> Result<(), StoreError> {
        let statement = "INSERT INTO revocation_copies (url, list) VALUES (?1, ?2)
             ON CONFLICT (url) DO UPDATE SET list = ?2";
        sqlx::query(statement).bind(url).bind(list).execute(&self.writer).await?;
        Ok(())
    }

    /// Forgets the copy of a URL.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_revocation_copy(&self, url: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM revocation_copies WHERE url = ?").bind(url).execute(&self.writer).await?;
        Ok(())
    }
}
