//! What must outlast the process: how new the newest list of each scope was, so that an older one is refused after a restart
//! too; and the last good copy of each list that is fetched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use adit_tls::{Mark, Scope};
use parking_lot::Mutex;

use crate::store::{Store, StoreError};

/// Marks and copies. What changes is written by [`Self::flush`].
#[derive(Debug, Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    marks: BTreeMap<Scope, Mark>,
    copies: BTreeMap<String, Arc<[u8]>>,
    unwritten_marks: BTreeSet<Scope>,
    unwritten_copies: BTreeSet<String>,
}

impl Ledger {
    /// Reads what is kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let (marks, copies) = (store.revocation_marks().await?, store.revocation_copies().await?);
        let mut inner = self.inner.lock();
        for (scope, number, issued) in marks {
            if let Ok(scope) = Scope::try_from(scope) {
                inner.marks.insert(scope, Mark { number, issued });
            }
        }
        inner.copies.extend(copies.into_iter().map(|(url, list)| (url, Arc::from(list))));
        Ok(())
    }

    /// Returns how new the newest list of a scope was.
    pub(super) fn newest(&self, scope: &Scope) -> Option<Mark> {
        self.inner.lock().marks.get(scope).cloned()
    }

    /// Notes a list that is in force.
    pub(super) fn note(&self, scope: Scope, mark: &Mark) {
        let mut inner = self.inner.lock();
        if inner.marks.get(&scope).is_none_or(|newest| newest.is_before(mark)) {
            inner.marks.insert(scope, mark.clone());
            inner.unwritten_marks.insert(scope);
        }
    }

    /// Returns the last good copy of what a URL led to.
    pub(super) fn copy(&self, url: &str) -> Option<Arc<[u8]>> {
        self.inner.lock().copies.get(url).cloned()
    }

    /// Keeps what a URL led to.
    pub(super) fn keep(&self, url: &str, list: Vec<u8>) {
        let mut inner = self.inner.lock();
        if inner.copies.get(url).is_none_or(|copy| **copy != *list) {
            inner.copies.insert(url.to_owned(), list.into());
            inner.unwritten_copies.insert(url.to_owned());
        }
    }

    /// Writes what has changed, and forgets copies of URLs that nobody names.
    ///
    /// # Errors
    /// When the database fails; the next flush writes it.
    pub async fn flush(&self, store: &Store, named: &BTreeSet<String>) -> Result<(), StoreError> {
        let (marks, copies, forgotten) = {
            let mut inner = self.inner.lock();
            let forgotten: Vec<_> = inner.copies.keys().filter(|url| !named.contains(*url)).cloned().collect();
            for url in &forgotten {
                inner.copies.remove(url);
                inner.unwritten_copies.remove(url);
            }
            (inner.unwritten_marks.clone(), inner.unwritten_copies.clone(), forgotten)
        };
        for url in forgotten {
            store.forget_revocation_copy(&url).await?;
        }
        for scope in marks {
            let Some(mark) = self.newest(&scope) else { continue };
            store.note_revocation_mark(&scope, &mark.number, mark.issued).await?;
            let mut inner = self.inner.lock();
            if inner.marks.get(&scope) == Some(&mark) {
                inner.unwritten_marks.remove(&scope);
            }
        }
        for url in copies {
            let Some(copy) = self.copy(&url) else { continue };
            store.keep_revocation_copy(&url, &copy).await?;
            let mut inner = self.inner.lock();
            if inner.copies.get(&url) == Some(&copy) {
                inner.unwritten_copies.remove(&url);
            }
        }
        Ok(())
    }
}
