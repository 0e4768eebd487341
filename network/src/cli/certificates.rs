//! `adit-network certificates`: certificates of the operator's own, in the database.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigFile, Failure, List, Output, block_on, load, note, print, secrets::vault, tokens::open};
use crate::{
    Fault, NamePattern,
    certificates::{CertificateError, Kept, KeptError, Nearness, Source, read_pair, unix_now},
    store::Kind,
};

#[derive(Debug, Subcommand)]
pub(super) enum CertificatesCommand {
    /// Put a certificate and its key into the database, encrypted, in place of one of the same id; a network that runs takes
    /// it within seconds.
    Add(Add),
    /// List the certificates of the database, put in and ordered; keys are not shown.
    List(List),
    /// Remove a certificate.
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    file: ConfigFile,
    /// The certificate and its chain, PEM.
    #[arg(long)]
    certificate: PathBuf,
    /// Its key, PEM; nobody else may read the file.
    #[arg(long)]
    key: PathBuf,
    /// The names to show it for; default: those that stand in it.
    #[arg(long = "name", value_parser = name)]
    names: Vec<NamePattern>,
    /// What it is called in the database; default: its first name.
    #[arg(long)]
    id: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    file: ConfigFile,
    /// One that was ordered: from the next start on it is gone, and ordered again if somebody holds its name.
    #[arg(long)]
    acme: bool,
    /// What it is called, as the list shows it.
    id: String,
}

/// Runs one of them.
pub(super) fn run(command: &CertificatesCommand) -> Result<(), Failure> {
    // Keys are checked against their certificates with the provider that this program uses.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    block_on(async {
        match command {
            CertificatesCommand::Add(arguments) => add(arguments).await,
            CertificatesCommand::List(arguments) => list(arguments).await,
            CertificatesCommand::Remove(arguments) => remove(arguments).await,
        }
    })
}

async fn add(arguments: &Add) -> Result<(), Failure> {
    let vault = vault(&load(&arguments.file.config)?)?;
    let (chain, key) = read_pair(&arguments.certificate, &arguments.key)?;
    let kept = Kept::new(arguments.id.as_deref(), &arguments.names, &chain, &key)?;
    if kept.pair.validity.nearness(unix_now()) == Nearness::Over {
        let (path, problem) = (arguments.certificate.clone(), "it has expired".to_owned());
        return Err(CertificateError::Invalid { path, problem }.into());
    }
    let replaced = kept.keep(&open(&arguments.file.config).await?, &vault, Kind::Own).await?;
    note(if replaced { "it takes the place of one of that id" } else { "it is new" });
    print(&format!("{}\n", kept.id))
}

async fn list(arguments: &List) -> Result<(), Failure> {
    let vault = vault(&load(&arguments.file.config)?)?;
    let store = open(&arguments.file.config).await?;
    let (mut text, mut shown, now) = (String::new(), Vec::new(), unix_now());
    for (kind, source) in [(Kind::Own, Source::Own), (Kind::Issued, Source::Ordered)] {
        for kept in Kept::all(&store, &vault, kind).await? {
            let (validity, source) = (kept.pair.validity, source.word());
            let names: Vec<_> = kept.names.iter().map(ToString::to_string).collect();
            let (days, id) = (validity.until.saturating_sub(now) / 86_400, adit_core::escape(&kept.id));
            let state = validity.nearness(now).word();
            text.push_str(&format!("{source:4}  {days:4} days  {state:7}  {id}  {}\n", names.join(" ")));
            shown.push(serde_json::json!({
                "id": kept.id, "source": source, "names": names, "not_before": validity.from, "not_after": validity.until,
            }));
        }
    }
    if arguments.output == Output::Json {
        return print(&format!("{}\n", serde_json::Value::from(shown)));
    }
    print(&text)
}

async fn remove(arguments: &Remove) -> Result<(), Failure> {
    let kind = if arguments.acme { Kind::Issued } else { Kind::Own };
    if open(&arguments.file.config).await?.remove_secret(kind, &arguments.id).await? {
        note("removed");
        return Ok(());
    }
    let detail = format!("there is no certificate {}", adit_core::escape(&arguments.id));
    Err(Failure::known(1, Fault::NotFound, &detail))
}

fn name(text: &str) -> Result<NamePattern, String> {
    NamePattern::parse(text).map_err(|error| error.to_string())
}

impl From<KeptError> for Failure {
    fn from(error: KeptError) -> Self {
        match error {
            KeptError::Store(error) => error.into(),
            KeptError::Certificate(error) => error.into(),
        }
    }
}
