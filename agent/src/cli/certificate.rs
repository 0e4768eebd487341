//! `adit certificate`: the key of an endpoint is made here and never leaves, its certificate comes from an authority.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::crypto::CryptoProvider;

use super::{
    Failure,
    arguments::{CertificateCommand, Global, Install, Output, Renew, Request, Show},
    configuration::{files, load, overrides},
    policy, print,
};
use crate::{
    acme,
    clock::utc,
    config::{EndpointConfig, NamedFile, TerminationConfig, nearest, read_private, read_public, replace},
    errors::{Error, Exit, Fault},
    private,
    termination::{Facts, Nearness, Pair},
};

pub(super) fn run(
    global: &Global,
    command: &CertificateCommand,
    provider: &Arc<CryptoProvider>,
) -> Result<Exit, Failure> {
    match command {
        CertificateCommand::Request(request) => self::request(global, request, provider),
        CertificateCommand::Install(install) => self::install(global, install, provider),
        CertificateCommand::Show(show) => self::show(global, show, provider),
        CertificateCommand::Renew(renew) => self::renew(global, renew, provider),
    }
}

/// Asks the agent that runs for a new certificate.
fn renew(global: &Global, renew: &Renew, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let (endpoint, termination) = endpoint(global, &renew.endpoint, provider)?;
    let Some(acme) = &termination.acme else {
        return Err(unusable(&termination.certificate, "the agent does not order it: the endpoint has no acme"));
    };
    acme::wish(acme, provider)?;
    print(&format!("{}: ordered within a second by the agent that runs, or when it starts\n", endpoint.name))?;
    Ok(Exit::Fine)
}

/// Refuses where the agent orders by itself.
fn must_be_by_hand(termination: &TerminationConfig) -> Result<(), Failure> {
    match &termination.acme {
        None => Ok(()),
        Some(_) => Err(unusable(&termination.certificate, "the agent orders it itself: `adit certificate renew`")),
    }
}

/// Returns an endpoint of the configuration, and how its TLS ends here.
///
/// # Errors
/// Also where the policy does not let it name its files: what it names is written here, and not only read.
fn endpoint(
    global: &Global,
    name: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<(EndpointConfig, TerminationConfig), Failure> {
    let watch = policy::open(global, provider)?;
    let config = load(&files(global), &overrides(global))?;
    config.under(&watch.guard());
    let known: Vec<_> = config.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    let Some(endpoint) = config.endpoints.into_iter().find(|endpoint| endpoint.name == name) else {
        let hint = nearest(name, known.iter().map(String::as_str), "");
        let detail = format!("`{}`. {hint}", name.escape_debug());
        return Err(Error::new(Fault::EndpointUnknown, detail.trim_end().to_owned()).into());
    };
    if let Some(policy) = watch.guard().policy() {
        policy.names(&endpoint).map_err(|refusal| Error::new(refusal.fault(), refusal.to_string()))?;
    }
    let Some(termination) = endpoint.termination.clone() else {
        let detail = format!("TLS of `{name}` does not end here: the endpoint has no agent_tls_termination");
        return Err(Error::new(Fault::CertificateUnusable, detail).into());
    };
    Ok((endpoint, termination))
}

fn request(global: &Global, request: &Request, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let (endpoint, termination) = endpoint(global, &request.endpoint, provider)?;
    must_be_by_hand(&termination)?;
    let names =
        if request.names.is_empty() { host(&endpoint.url).into_iter().collect() } else { request.names.clone() };
    if names.is_empty() {
        return Err(Failure::usage("the endpoint's url names no host: give the names of the certificate with --name"));
    }
    let place = if request.new_key { pending(&termination.key) } else { termination.key.to_path_buf() };
    let key = key(&place)?;
    let asked = asked(&names, &key).map_err(|error| unusable(&place, &error.to_string()))?;
    match &request.out {
        None => print(&asked)?,
        Some(out) => {
            fs::write(out, asked).map_err(|error| unwritable(out, &error))?;
            print(&format!("{}\n", out.display()))?;
        }
    }
    Ok(Exit::Fine)
}

/// Returns the request for a certificate, PEM.
fn asked(names: &[String], key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(short) = names.iter().find(|name| name.len() <= MAX_COMMON_NAME) {
        params.distinguished_name.push(DnType::CommonName, short);
    }
    params.serialize_request(key)?.pem()
}

/// Returns the key at `path`, which is made if there is none, for this user alone.
fn key(path: &Path) -> Result<KeyPair, Failure> {
    let known = || -> Result<KeyPair, Failure> {
        let text = read_private(path, MAX_FILE).map_err(|problem| unusable(path, &problem))?;
        let text = core::str::from_utf8(text.expose()).unwrap_or_default();
        KeyPair::from_pem(text).map_err(|error| unusable(path, &format!("not a key that can ask: {error}")))
    };
    if path.exists() {
        return known();
    }
    let key = KeyPair::generate().map_err(|error| unusable(path, &error.to_string()))?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    }
    match write_new(path, key.serialize_pem().as_bytes()) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => known(), // two of us at once
        Err(error) => Err(unwritable(path, &error)),
    }
}

/// Writes a file that nobody else may read and that is not there yet.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = private::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn install(global: &Global, install: &Install, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let (endpoint, termination) = endpoint(global, &install.endpoint, provider)?;
    must_be_by_hand(&termination)?;
    let text = given(&install.certificate)?;
    // Checked as it will be read: with its key, from files.
    let draft = beside(&termination.certificate, "new");
    replace(&draft, text.as_bytes()).map_err(|error| unwritable(&draft, &error))?;
    let installed = check(&endpoint, &termination, install, &draft, provider).and_then(|(facts, key)| {
        if key != *termination.key {
            fs::rename(&key, &termination.key).map_err(|error| unwritable(&termination.key, &error))?;
        }
        fs::rename(&draft, &termination.certificate).map_err(|error| unwritable(&termination.certificate, &error))?;
        Ok(facts)
    });
    let facts = installed.inspect_err(|_| {
        let _ = fs::remove_file(&draft); // what matters is told by the error
    })?;
    print(&format!("{}\n{}", termination.certificate.display(), text_of(&facts)))?;
    Ok(Exit::Fine)
}

/// Returns what the certificate says, and the key that it belongs to: the one in use, or the one that was made to take its place.
fn check(
    endpoint: &EndpointConfig,
    termination: &TerminationConfig,
    install: &Install,
    draft: &Path,
    provider: &CryptoProvider,
) -> Result<(Facts, PathBuf), Failure> {
    let next = pending(&termination.key);
    let draft = NamedFile::from(draft.to_owned());
    let load = |key: &NamedFile| Pair::load(&draft, key, provider);
    let (pair, key) = match load(&termination.key) {
        Ok(pair) => (pair, termination.key.to_path_buf()),
        Err(error) => match load(&next.clone().into()) {
            Ok(pair) => (pair, next),
            Err(_) => {
                let detail =
                    error.detail.replace(&draft.display().to_string(), &install.certificate.display().to_string());
                return Err(Error::new(error.fault, detail).into());
            }
        },
    };
    let facts = pair.facts;
    let shown = |problem: String| unusable(&install.certificate, &problem);
    if facts.nearness() == Nearness::Over {
        return Err(shown(format!("it was valid until {}", utc(facts.until))));
    }
    match host(&endpoint.url) {
        Some(host) if !install.any_name && !facts.is_for(&host) => {
            let names = facts.names.join(", ");
            Err(shown(format!("it is for {names}, and callers ask for {host}; --any-name takes it all the same")))
        }
        Some(_) | None => Ok((facts, key)),
    }
}

fn given(path: &Path) -> Result<String, Failure> {
    if path != Path::new("-") {
        return read_public(path, MAX_FILE).map_err(|problem| unusable(path, &problem));
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(MAX_FILE + 1).read_to_string(&mut text);
    let length = read.map_err(|error| unusable(path, &format!("standard input: {error}")))?;
    if length as u64 > MAX_FILE {
        return Err(unusable(path, &format!("standard input: longer than {MAX_FILE} octets")));
    }
    Ok(text)
}

fn show(global: &Global, show: &Show, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let (endpoint, termination) = endpoint(global, &show.endpoint, provider)?;
    let Pair { facts, .. } = Pair::load(&termination.certificate, &termination.key, provider)?;
    let (certificate, key) = (termination.certificate, termination.key);
    match show.printed.output {
        Output::Text => print(&format!("{}\n{}", certificate.display(), text_of(&facts)))?,
        Output::Json => {
            let line = serde_json::json!({
                "endpoint": endpoint.name, "certificate": &*certificate, "key": &*key, "sha256": facts.sha256,
                "subject": facts.subject, "issuer": facts.issuer, "names": facts.names,
                "not_before": facts.from, "not_after": facts.until,
            });
            print(&format!("{line}\n"))?;
        }
    }
    Ok(Exit::Fine)
}

fn text_of(facts: &Facts) -> String {
    let Facts { subject, issuer, names, sha256, from, until } = facts;
    let (names, from, until) = (names.join(", "), utc(*from), utc(*until));
    format!(
        "  SHA-256  {sha256}\n  subject  {subject}\n  issuer   {issuer}\n  names    {names}\n  valid    {from} to {until}\n"
    )
}

/// Returns the name that callers of an endpoint ask for, if its URL has one.
fn host(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split(['/', ':']).next()?;
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// Returns where a key waits for its certificate.
fn pending(key: &Path) -> PathBuf {
    beside(key, "next")
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{extension}"));
    path.with_file_name(name)
}

fn unusable(path: &Path, problem: &str) -> Failure {
    Error::new(Fault::CertificateUnusable, format!("{}: {problem}", path.display())).into()
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Error::new(Fault::FileUnwritable, format!("{}: {error}", path.display())).into()
}

/// A certificate or a key is not longer, in octets.
const MAX_FILE: u64 = 256 << 10;
/// The longest common name of a certificate (RFC 5280, ub-common-name).
const MAX_COMMON_NAME: usize = 64;
