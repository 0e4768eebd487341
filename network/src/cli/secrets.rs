//! `adit-network secrets`: the key of what is encrypted in the database.

use std::io;

use clap::Subcommand;

use super::{ConfigFile, Failure, block_on, load, note, print};
use crate::{
    Fault,
    config::{Config, SecretKeys},
    store::{Store, StoreError, Vault, VaultError, write_key},
};

#[derive(Debug, Subcommand)]
pub(super) enum SecretsCommand {
    /// Make the key file that the configuration names; it is never replaced.
    Init(ConfigFile),
    /// Encrypt with the first key what is encrypted with another one of the list.
    Rekey(ConfigFile),
}

/// Runs one of them.
pub(super) fn run(command: &SecretsCommand) -> Result<(), Failure> {
    match command {
        SecretsCommand::Init(file) => init(&load(&file.config)?),
        SecretsCommand::Rekey(file) => rekey(&load(&file.config)?),
    }
}

fn init(config: &Config) -> Result<(), Failure> {
    let Some(SecretKeys::File(path)) = &config.secrets else {
        let detail = "the configuration names no secrets.key_file";
        return Err(Failure::known(3, Fault::ConfigInvalid, &detail));
    };
    let key = Vault::generate().map_err(StoreError::from)?;
    write_key(path, &key).map_err(|error| {
        let exists = error.kind() == io::ErrorKind::AlreadyExists;
        let text = if exists { "is there already and is not replaced".to_owned() } else { error.to_string() };
        Failure { exit: 1, text: format!("{}: {text}", path.display()) }
    })?;
    note("keep a copy of it apart from the database: without it, keys and accounts are lost");
    print(&format!("{}\n", path.display()))
}

fn rekey(config: &Config) -> Result<(), Failure> {
    let vault = vault(config)?;
    let done = block_on(async { Ok(Store::open(&config.database).await?.rekey(&vault).await?) })?;
    print(&format!("{done}\n"))
}

/// Returns the keys that the configuration names.
pub(super) fn vault(config: &Config) -> Result<Vault, Failure> {
    let keys = config.secrets.as_ref().ok_or(StoreError::Vault(VaultError::NoKey))?;
    Ok(Vault::load(keys).map_err(StoreError::from)?)
}
