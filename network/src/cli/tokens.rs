//! `adit-network token`: what lets agents in.

use std::path::Path;

use clap::{Args, Subcommand};

use super::{ConfigFile, Failure, List, Output, block_on, load, note, print};
use crate::{
    Fault,
    store::{Acl, Rule, Store, StoreError},
};

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token and print it: it is shown this once.
    Create(Create),
    /// List the tokens; their secrets are not known.
    List(List),
    /// Revoke a token: its sessions end within a second.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    file: ConfigFile,
    /// The account that it belongs to; made if it is new.
    #[arg(long, value_parser = account)]
    account: String,
    /// What it may bind: bind:crm.example.com, bind:*.example.com, bind:tcp:5432. Without a rule it may bind nothing.
    #[arg(long = "allow", value_parser = rule)]
    allow: Vec<Rule>,
    /// For those who read the list.
    #[arg(long, default_value = "")]
    description: String,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    file: ConfigFile,
    /// The token's public id, as the list shows it.
    id: String,
}

/// Runs one of them.
pub(super) fn run(command: &TokenCommand) -> Result<(), Failure> {
    block_on(async {
        match command {
            TokenCommand::Create(arguments) => create(arguments).await,
            TokenCommand::List(arguments) => list(arguments).await,
            TokenCommand::Revoke(arguments) => revoke(arguments).await,
        }
    })
}

async fn create(arguments: &Create) -> Result<(), Failure> {
    let store = open(&arguments.file.config).await?;
    let acl = Acl::new(arguments.allow.clone());
    if acl.rules().is_empty() {
        note("note: without --allow the token may bind nothing");
    }
    let new = store.create_token(&arguments.account, &acl, &arguments.description).await?;
    let token = String::from_utf8_lossy(new.token.expose()).into_owned();
    let allow: Vec<_> = acl.rules().iter().map(ToString::to_string).collect();
    match arguments.output {
        Output::Text => {
            note(&format!("token {} of {}: keep it now, it is not shown again", new.id, arguments.account));
            print(&format!("{token}\n"))
        }
        Output::Json => {
            let shown = serde_json::json!({
                "id": new.id, "token": token, "account": arguments.account, "allow": allow,
            });
            print(&format!("{shown}\n"))
        }
    }
}

async fn list(arguments: &List) -> Result<(), Failure> {
    let rows = open(&arguments.file.config).await?.list_tokens().await?;
    let rules = |acl: &Acl| acl.rules().iter().map(ToString::to_string).collect::<Vec<_>>();
    if arguments.output == Output::Json {
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                serde_json::json!({
                    "id": row.id, "account": row.account, "description": row.description,
                    "allow": rules(&row.acl), "created": row.created, "revoked": row.revoked,
                })
            })
            .collect();
        return print(&format!("{}\n", serde_json::Value::from(shown)));
    }
    let mut text = String::new();
    for row in rows {
        let state = if row.revoked.is_some() { "revoked" } else { "valid" };
        let (account, description) = (adit_core::escape(&row.account), adit_core::escape(&row.description));
        text.push_str(&format!("{}  {state:7}  {account}  {}  {description}\n", row.id, rules(&row.acl).join(" ")));
    }
    print(&text)
}

async fn revoke(arguments: &Revoke) -> Result<(), Failure> {
    if open(&arguments.file.config).await?.revoke_token(&arguments.id).await? {
        note("revoked: its sessions end within a second");
        return Ok(());
    }
    let detail = format!("there is no token {}", adit_core::escape(&arguments.id));
    Err(Failure::known(1, Fault::NotFound, &detail))
}

pub(super) async fn open(config: &Path) -> Result<Store, Failure> {
    Ok(Store::open(&load(config)?.database).await?)
}

fn account(text: &str) -> Result<String, &'static str> {
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("an account is 1 to 64 visible ASCII characters") }
}

fn rule(text: &str) -> Result<Rule, String> {
    Rule::parse(text).ok_or_else(|| format!("{}. {}", Fault::RuleInvalid, Fault::RuleInvalid.entry().remedy))
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let vault = matches!(error, StoreError::Vault(_));
        Self::known(1, if vault { Fault::SecretsLocked } else { Fault::DatabaseUnavailable }, &error)
    }
}
