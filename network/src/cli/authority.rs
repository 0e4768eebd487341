//! `adit-network ca`: the private CA.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{ConfigFile, Failure, load, print};
use crate::{
    Fault,
    certificates::{CertificateError, PrivateCa, certificate_path, read_request, write_answer, write_issued},
};

#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Make the private CA that the configuration names; print the path of its certificate.
    Init(Init),
    /// Issue a certificate for names and addresses; print the paths of certificate and key. With --csr the key is its holder's.
    Issue(Issue),
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
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// The names and addresses; with --csr those of the request if none is given.
    #[arg(required_unless_present = "csr")]
    names: Vec<String>,
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
            let ca = PrivateCa::load(&folder)?;
            if let Some(csr) = &arguments.csr {
                let (chain, names) = ca.answer(&read_request(csr)?, &arguments.names)?;
                let certificate = write_answer(&chain, &arguments.out)?;
                return print(&format!("{}\nfor {}\n", certificate.display(), names.join(", ")));
            }
            let issued = ca.issue(&arguments.names)?;
            let (certificate, key) = write_issued(&issued, &arguments.out)?;
            print(&format!("{}\n{}\n", certificate.display(), key.display()))
        }
    }
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
        if let CertificateError::Exists(_) = error {
            return Self { exit: 1, text: error.to_string() };
        }
        Self::known(1, Fault::CertificateInvalid, &error)
    }
}
