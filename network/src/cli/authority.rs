//! `adit-network ca`: the private CA.

use core::time::Duration;
use std::path::{Path, PathBuf};

use adit_tls::KeyPrint;
use clap::{Args, Subcommand};
use x509_parser::pem::parse_x509_pem;

use super::{ConfigFile, Failure, Output, load, note, print};
use crate::{
    Fault, bounded,
    certificates::{
        CertificateError, Entry, PrivateCa, Reason, Register, Usage, certificate_path, read_request, serial, unix_now,
        write_answer, write_issued,
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Make the private CA that the configuration names; print the path of its certificate.
    Init(Init),
    /// Issue a certificate for names and addresses; print the paths of certificate and key. With --csr the key is its holder's.
    Issue(Issue),
    /// Revoke a certificate that was issued by command, and sign a new revocation list; print the path of the list.
    Revoke(Revoke),
    /// Sign a new revocation list; print its path.
    Crl(Crl),
    /// List what was issued by command, and for the ingress.
    List(Listed),
    /// Show the CA's own certificate, and what agents are bound to it by (`agent.network_key`).
    Show(Listed),
}

#[derive(Debug, Args)]
pub(super) struct Init {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder, if the configuration is not to be read.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The name that stands in its certificate.
    #[arg(long, default_value = "Adit private CA")]
    name: String,
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder of the CA, if the configuration is not to be read.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where to write: PREFIX.pem, and PREFIX.key without --csr.
    #[arg(long, value_name = "PREFIX")]
    out: PathBuf,
    /// A request for a certificate (PKCS #10, PEM), as `adit certificate request` prints it.
    #[arg(long, value_name = "FILE", conflicts_with = "client")]
    csr: Option<PathBuf>,
    /// For a caller who is asked for a certificate: the first name is its common name. Default: for a server.
    #[arg(long)]
    client: bool,
    /// Where the revocation list is, as the certificate says; default: crl.url of the configuration.
    #[arg(long, value_name = "URL")]
    crl_url: Option<String>,
    /// For how many days it is valid.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    days: u16,
    /// The names and addresses; with --csr those of the request if none is given.
    #[arg(required_unless_present = "csr")]
    names: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder of the CA, if the configuration is not to be read.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Why; it stands in the list.
    #[arg(long, value_enum, default_value_t)]
    reason: Reason,
    /// For how many days the list is valid.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=365))]
    days: u16,
    /// The certificate's serial number in hexadecimal, as the list shows it, or its file.
    certificate: String,
}

#[derive(Debug, Args)]
pub(super) struct Crl {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder of the CA, if the configuration is not to be read.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// For how many days it is valid; a network that runs signs it anew after half of them.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=365))]
    days: u16,
}

#[derive(Debug, Args)]
pub(super) struct Listed {
    #[command(flatten)]
    file: ConfigFile,
    /// The folder of the CA, if the configuration is not to be read.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs one of them.
pub(super) fn run(command: &CaCommand) -> Result<(), Failure> {
    // Keys are checked against their certificates with the provider that this program uses.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match command {
        CaCommand::Init(arguments) => {
            let folder = folder(arguments.dir.as_ref(), &arguments.file)?;
            PrivateCa::init(&folder, &arguments.name)?;
            print(&format!("{}\n", certificate_path(&folder).display()))
        }
        CaCommand::Issue(arguments) => {
            let folder = folder(arguments.dir.as_ref(), &arguments.file)?;
            let ca = PrivateCa::load(&folder)?.naming(list_url(arguments)?);
            // What is handed out can be revoked: it is in the register first.
            let note_down = |usage, names: &[String], serial: &str, not_after| {
                note(&format!("serial number {serial}"));
                let (serial, names) = (serial.to_owned(), names.to_vec());
                Register::add(&folder, Entry { serial, names, usage, not_after, revoked: None })
            };
            let term = days(arguments.days);
            if let Some(csr) = &arguments.csr {
                let (signed, names) = ca.answer(&read_request(csr)?, &arguments.names, term)?;
                note_down(Usage::Server, &names, &signed.serial, signed.not_after)?;
                let certificate = write_answer(&signed.chain, &arguments.out)?;
                return print(&format!("{}\nfor {}\n", certificate.display(), names.join(", ")));
            }
            let usage = if arguments.client { Usage::Client } else { Usage::Server };
            let issued = ca.issue_for(usage, &arguments.names, term)?;
            note_down(usage, &arguments.names, &issued.serial, issued.not_after)?;
            let (certificate, key) = write_issued(&issued, &arguments.out)?;
            print(&format!("{}\n{}\n", certificate.display(), key.display()))
        }
        CaCommand::Revoke(arguments) => {
            let folder = folder(arguments.dir.as_ref(), &arguments.file)?;
            let serial = serial_of(&arguments.certificate)?;
            let (entry, list) = Register::revoke(&folder, &serial, arguments.reason, days(arguments.days))?;
            note(&format!("revoked: {serial}, of {}", adit_core::escape(&entry.names.join(" "))));
            print(&format!("{}\n", list.display()))
        }
        CaCommand::Crl(arguments) => {
            let folder = folder(arguments.dir.as_ref(), &arguments.file)?;
            print(&format!("{}\n", Register::list(&folder, days(arguments.days))?.display()))
        }
        CaCommand::List(arguments) => {
            let folder = folder(arguments.dir.as_ref(), &arguments.file)?;
            list(&Register::read(&folder)?, arguments.output)
        }
        CaCommand::Show(arguments) => show(&folder(arguments.dir.as_ref(), &arguments.file)?, arguments.output),
    }
}

/// Returns where the revocation list is, as certificates say.
fn list_url(arguments: &Issue) -> Result<Option<String>, Failure> {
    if arguments.crl_url.is_some() || arguments.dir.is_some() {
        return Ok(arguments.crl_url.clone());
    }
    Ok(load(&arguments.file.config)?.crl.and_then(|crl| crl.url))
}

/// Shows the CA's own certificate by what people and agents know it by. Its key is not read.
fn show(folder: &Path, output: Output) -> Result<(), Failure> {
    let path = certificate_path(folder);
    let invalid = |problem: &str| CertificateError::Invalid { path: path.clone(), problem: problem.to_owned() };
    let octets = bounded::read(&path, MAX_CERTIFICATE);
    let octets = octets.map_err(|error| CertificateError::File { path: path.clone(), error })?.octets;
    let (_, pem) = parse_x509_pem(&octets).map_err(|_| invalid("it is not PEM"))?;
    let certificate = pem.parse_x509().map_err(|_| invalid("it holds no certificate"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let digest = adit_tls::sha256(&pem.contents, &provider).unwrap_or_default();
    let fingerprint: Vec<_> = digest.iter().map(|octet| format!("{octet:02X}")).collect();
    let key = KeyPrint::of(&pem.contents, &provider).ok_or_else(|| invalid("it holds no key"))?;
    let subject = certificate.subject().to_string();
    let (from, until) = (certificate.validity().not_before.to_string(), certificate.validity().not_after.to_string());
    if output == Output::Json {
        let shown = serde_json::json!({
            "certificate": path, "subject": subject, "not_before": from, "not_after": until,
            "fingerprint": fingerprint.join(":"), "network_key": key.to_string(),
        });
        return print(&format!("{shown}\n"));
    }
    let subject = adit_core::escape(&subject);
    print(&format!(
        "certificate  {}\nsubject      {subject}\nvalid        {from} to {until}\nfingerprint  {}\nnetwork_key  {key}\n",
        path.display(),
        fingerprint.join(":"),
    ))
}

fn list(register: &Register, output: Output) -> Result<(), Failure> {
    if output == Output::Json {
        let shown = serde_json::to_value(register.entries()).map_err(std::io::Error::other)?;
        return print(&format!("{shown}\n"));
    }
    let (mut text, now) = (String::new(), unix_now());
    for Entry { serial, names, usage, not_after, revoked } in register.entries() {
        let state = match revoked {
            Some(_) => "revoked",
            None if *not_after <= now => "expired",
            None => "valid",
        };
        let (days, names) = (not_after.saturating_sub(now) / 86_400, names.join(" "));
        let usage = if *usage == Usage::Client { "client" } else { "server" };
        text.push_str(&format!("{serial}  {state:7}  {usage}  {days:4} days  {}\n", adit_core::escape(&names)));
    }
    print(&text)
}

/// Returns a serial number that is given as such, or by the file of its certificate.
fn serial_of(text: &str) -> Result<String, Failure> {
    if let Some(serial) = serial(text) {
        return Ok(serial);
    }
    let path = PathBuf::from(text);
    let invalid = |problem: &str| CertificateError::Invalid { path: path.clone(), problem: problem.to_owned() };
    let octets = bounded::read(&path, MAX_CERTIFICATE);
    let octets = octets.map_err(|error| CertificateError::File { path: path.clone(), error })?.octets;
    let (_, pem) = parse_x509_pem(&octets).map_err(|_| invalid("it is neither a serial number nor a file in PEM"))?;
    let certificate = pem.parse_x509().map_err(|_| invalid("it holds no certificate"))?;
    Ok(serial(&certificate.raw_serial_as_string()).ok_or_else(|| invalid("it has no serial number"))?)
}

fn days(days: u16) -> Duration {
    Duration::from_secs(u64::from(days) * 86_400)
}

fn folder(named: Option<&PathBuf>, file: &ConfigFile) -> Result<PathBuf, Failure> {
    if let Some(folder) = named {
        return Ok(folder.clone());
    }
    load(&file.config)?.private_ca.ok_or_else(|| {
        let detail = format!("{} names no private_ca: set it, or give --dir", file.config.display());
        Failure::known(3, Fault::ConfigInvalid, &detail)
    })
}

impl From<CertificateError> for Failure {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Exists(_) => Self { exit: 1, text: error.to_string() },
            CertificateError::Unknown(_) => Self::known(1, Fault::NotFound, &error),
            CertificateError::File { .. }
            | CertificateError::KeyMode(_)
            | CertificateError::Invalid { .. }
            | CertificateError::Issue(_)
            | CertificateError::Request(_)
            | CertificateError::RequestNames
            | CertificateError::NoProvider => Self::known(1, Fault::CertificateInvalid, &error),
        }
    }
}

/// A file of a certificate, in octets.
const MAX_CERTIFICATE: usize = 256 << 10;
