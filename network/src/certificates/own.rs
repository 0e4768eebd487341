//! Certificates as they rest in the database: those that the operator put in, and those that ACME issued.

use std::path::PathBuf;

use adit_core::Secret;
use serde::{Deserialize, Serialize};

use super::{CertificateError, Pair, pem};
use crate::{
    NamePattern,
    store::{Kind, Opened, Store, StoreError, Vault},
};

/// A certificate of the database.
#[derive(Debug)]
pub struct Kept {
    /// What it is called there.
    pub id: String,
    /// The names that it is shown for.
    pub names: Vec<NamePattern>,
    /// The certificate with its key.
    pub pair: Pair,
    rest: Rest,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Rest {
    names: Vec<String>,
    chain: String,
    key: String,
}

impl core::fmt::Debug for Rest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rest").field("names", &self.names).finish_non_exhaustive() // the key never reaches a log
    }
}

impl Kept {
    /// Checks a chain and its key, for `names` or, when those are empty, for the names that stand in the certificate.
    ///
    /// # Errors
    /// They cannot be used, do not belong together, or do not stand for the names.
    pub fn new(id: Option<&str>, names: &[NamePattern], chain: &str, key: &Secret) -> Result<Self, CertificateError> {
        let place = |id: &str| PathBuf::from(if id.is_empty() { "the certificate" } else { id });
        let key = core::str::from_utf8(key.expose()).map_err(|_| CertificateError::Invalid {
            path: place(id.unwrap_or("")),
            problem: "its key is no PEM".into(),
        })?;
        let pair = pem::certified_key(chain, key, &place(id.unwrap_or("")))?;
        let names = if names.is_empty() { pair.names.clone() } else { names.to_vec() };
        let id = id.map(str::to_owned).or_else(|| names.first().map(ToString::to_string)).unwrap_or_default();
        let invalid = |problem: String| CertificateError::Invalid { path: place(&id), problem };
        if names.is_empty() {
            return Err(invalid("no name of an endpoint stands in it".to_owned()));
        }
        if let Some(other) = names.iter().find(|name| !stands_for(&pair.names, name)) {
            return Err(invalid(format!("it does not stand for {other}")));
        }
        let texts = names.iter().map(ToString::to_string).collect();
        let rest = Rest { names: texts, chain: chain.to_owned(), key: key.to_owned() };
        Ok(Self { id, names, pair, rest })
    }

    /// Reads a row of the database.
    ///
    /// # Errors
    /// It holds something else.
    pub fn read(row: &Opened) -> Result<Self, CertificateError> {
        let invalid = |problem: String| CertificateError::Invalid { path: PathBuf::from(&row.name), problem };
        let rest: Rest = serde_json::from_slice(row.plain.expose()).map_err(|error| invalid(error.to_string()))?;
        let names = rest.names.iter().map(|name| NamePattern::parse(name));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(|error| invalid(error.to_string()))?;
        Self::new(Some(&row.name), &names, &rest.chain, &Secret::new(rest.key))
    }

    /// Reads every certificate of a kind.
    ///
    /// # Errors
    /// The first that cannot be opened or used.
    pub async fn all(store: &Store, vault: &Vault, kind: Kind) -> Result<Vec<Self>, KeptError> {
        let rows = store.secrets(vault, kind).await?;
        Ok(rows.iter().map(Self::read).collect::<Result<_, _>>()?)
    }

    /// Writes it; tells whether one of that kind and id was there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep(&self, store: &Store, vault: &Vault, kind: Kind) -> Result<bool, StoreError> {
        let plain = Secret::new(serde_json::to_vec(&self.rest).unwrap_or_default());
        store.put_secret(vault, kind, &self.id, plain.expose()).await
    }
}

/// A certificate of the database cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeptError {
    /// The database fails, or does not open it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Tells whether a certificate with these names convinces who asks for `name`: a wildcard stands for one label (RFC 6125).
pub(super) fn stands_for(names: &[NamePattern], name: &NamePattern) -> bool {
    names.iter().any(|own| match (own, name) {
        (NamePattern::Below(parent), NamePattern::Exact(name)) => name.parents().next() == Some(parent.as_str()),
        (own, name) => own == name,
    })
}
