//! `adit config`, and what every command reads first.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_core::Secret;
use rustls::crypto::CryptoProvider;

use super::{
    Failure,
    arguments::{Global, Output},
    policy, print, remote,
};
use crate::{
    acme,
    audit::Draft,
    clock,
    config::{
        Config, ConfigFault, EditError, LogOutput, Named, Overrides, Roots, Token, UpstreamTrust, default_path, locate,
        set_authtoken, token,
    },
    errors::{Error, Exit, Fault},
    identity::state_folder,
    policy::{Guard, Watch},
    remote::withheld,
    route::Route,
    termination::Termination,
    trust::NetworkTls,
    upstream::Upstream,
};

/// Returns the files to read: those that were named, else the user's own.
pub(super) fn files(global: &Global) -> Vec<PathBuf> {
    if global.config.is_empty() { default_path().into_iter().collect() } else { global.config.clone() }
}

/// Returns what outranks the files.
pub(super) fn overrides(global: &Global) -> Overrides {
    let mut overrides = Overrides::from_environment();
    if let Some(folder) = state_folder() {
        overrides = overrides.with_state(folder);
    }
    overrides.flag("connect_url", "--connect-url", global.connect_url.clone());
    overrides.flag("connect_cas", "--connect-cas", global.connect_cas.clone());
    overrides.flag("authtoken_file", "--authtoken-file", global.authtoken_file.clone());
    overrides.flag("log", "--log", global.log.clone());
    overrides.flag("log_level", "--log-level", global.log_level.clone());
    overrides.flag("log_format", "--log-format", global.log_format.clone());
    overrides
}

/// Reads the configuration.
pub(super) fn load(files: &[PathBuf], overrides: &Overrides) -> Result<Config, Failure> {
    Config::load(files, overrides).map_err(|faults| refusal(&faults, Fault::ConfigInvalid))
}

/// Lets a configuration name the files that the policy lets it name, and no others.
///
/// # Errors
/// Those that the section `agent` names all the same: without them there is no agent. Endpoints are refused one by one.
pub(super) fn governed(config: Config, watch: &Watch) -> Result<Config, Failure> {
    let guard = watch.guard();
    config.under(&guard);
    let faults = refused(&config.named, &guard);
    if faults.is_empty() {
        return Ok(config);
    }
    let why = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    guard.note(|| Draft::configuration("not taken").text("why", &why));
    Err(refusal(&faults, Fault::FileRefused))
}

/// Returns those files that the policy does not let the configuration name.
fn refused<'n>(named: impl IntoIterator<Item = &'n Named>, guard: &Guard) -> Vec<ConfigFault> {
    let policy = guard.policy();
    let policy = policy.as_deref();
    named.into_iter().filter_map(|named| named.fault(policy?)).collect()
}

/// Returns all that is wrong with a file, and what that means.
pub(super) fn refusal(faults: &[ConfigFault], fault: Fault) -> Failure {
    let lines: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    Failure { exit: fault.entry().exit, text: format!("{lines}{fault}") }
}

pub(super) fn check(global: &Global, output: Output, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let files = files(global);
    let checked = Config::load(&files, &overrides(global));
    let policy = policy::read(global, provider);
    let (mut lacking, mut remote, mut unseen) = (Vec::new(), None, Vec::new());
    let mut faults: Vec<(ConfigFault, Option<Fault>)> = match checked {
        Ok(config) => {
            let guard = policy.as_ref().map_or_else(|_| Guard::new(), Watch::guard);
            config.under(&guard);
            let refused = refused(config.named(), &guard);
            if refused.is_empty() {
                lacking = lacks(&config);
                remote = of_remote(global, &config, &guard, provider);
                unusable(&config, provider)
            } else {
                refused.into_iter().map(|fault| (fault, Some(Fault::FileRefused))).collect()
            }
        }
        Err(faults) => faults.into_iter().map(|fault| (fault, None)).collect(),
    };
    if let Ok(watch) = &policy {
        let (fault, hidden) = missed(watch, &files);
        faults.extend(fault);
        unseen = hidden;
    }
    faults.extend(policy.err().unwrap_or_default().into_iter().map(|fault| (fault, None)));
    if output == Output::Json {
        let shown: Vec<_> = faults.iter().map(json).collect();
        let line = serde_json::json!({
            "valid": shown.is_empty(), "files": files, "faults": shown, "lacking": lacking, "remote": remote, "unseen": unseen,
        });
        print(&format!("{line}\n"))?;
        return Ok(if shown.is_empty() { Exit::Fine } else { Exit::Config });
    }
    if faults.is_empty() {
        let named: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        print(&format!("{}: valid\n", if named.is_empty() { "no file".to_owned() } else { named.join(", ") }))?;
        lacking.iter().try_for_each(|what| print(&format!("`adit start` needs more: {what}\n")))?;
        remote.iter().try_for_each(|line| print(&format!("{line}\n")))?;
        if let Some(folder) = unseen.first() {
            let (folder, others) = (folder.display(), unseen.len() - 1);
            print(&format!(
                "whether a service had a policy that is gone is not known: {folder} and {others} more may not be looked into; run this as root\n"
            ))?;
        }
        return Ok(Exit::Fine);
    }
    let lines: Vec<_> = faults.iter().map(|(fault, _)| fault.to_string()).collect();
    Err(Failure { exit: Exit::Config, text: format!("{}\n{}", lines.join("\n"), Fault::ConfigInvalid) })
}

/// Returns what an agent without the policy that was in force would fail with: this user's, or that of a service of any name, where it
/// can be looked at; and where it cannot.
pub(super) fn missed(watch: &Watch, files: &[PathBuf]) -> (Option<(ConfigFault, Option<Fault>)>, Vec<PathBuf>) {
    if watch.guard().policy().is_some() {
        return (None, Vec::new());
    }
    let (services, unseen) = if cfg!(unix) { states(Path::new(STATES)) } else { Default::default() };
    let own = state_folder().into_iter().filter(|state| state.read_dir().is_ok());
    let error = own.chain(services).find_map(|state| watch.missed(&state).err());
    let missed = error.map(|error| gone(&error, watch, files));
    (missed, unseen)
}

/// Returns the folders in which an agent has remembered policies, and those that may not be looked into.
fn states(below: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut states, mut unseen) = (Vec::new(), Vec::new());
    let mut look = |folder: &Path| -> Vec<PathBuf> {
        let entries = folder.read_dir();
        if entries.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            unseen.push(folder.to_owned());
        }
        entries.into_iter().flatten().take(MAX_STATES).filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let services = [look(below), look(&below.join("private"))].concat();
    for state in services {
        if !look(&state.join("policies")).is_empty() {
            states.push(state);
        }
    }
    (states, unseen)
}

fn gone(error: &Error, watch: &Watch, files: &[PathBuf]) -> (ConfigFault, Option<Fault>) {
    let fault = ConfigFault {
        file: watch.file().or_else(|| files.first().cloned()),
        line: None,
        column: None,
        source: None,
        key: String::new(),
        problem: error.to_string(),
        remedy: error.fault.entry().remedy.trim_end_matches('.').to_owned(),
    };
    (fault, Some(error.fault))
}

/// Returns what the vendor has sent by a command, and whether that is in force.
fn of_remote(global: &Global, config: &Config, guard: &Guard, provider: &Arc<CryptoProvider>) -> Option<String> {
    let document = match remote::sent(global, provider) {
        Ok(Some(document)) => document,
        Ok(None) if config.agent.remote_management.configuration => {
            let elsewhere = remote::elsewhere(global, None, provider);
            return remote::file(global, provider).map(|file| remote::nothing(&file, elsewhere.as_deref()));
        }
        Ok(None) => return None,
        Err(problem) => return Some(format!("sent by the vendor, and not believed: {problem}")),
    };
    let held = withheld(config.agent.remote_management.configuration, guard.policy().as_deref());
    let state = held.map_or_else(|| "in force".to_owned(), |why| format!("not in force: {why}"));
    let (count, taken) = (document.sent.len(), clock::utc(document.kept.taken));
    Some(format!("sent by the vendor: {count} endpoints, taken at {taken}; {state}"))
}

/// Returns what an agent that is started from this needs besides: flags, the environment or another file may say it then.
fn lacks(config: &Config) -> Vec<String> {
    let mut lacking = Vec::new();
    if config.agent.targets.is_empty() {
        lacking.push("agent.connect_url: nothing says where the network is".to_owned());
    }
    if config.endpoints.is_empty() && !config.agent.remote_management.configuration {
        lacking.push("endpoints: there are none".to_owned());
    }
    match &config.agent.token {
        Token::StandardInput | Token::Given(_) => {}
        Token::Missing | Token::File(_) => {
            lacking.extend(token(&config.agent.token).err().map(|error| error.to_string()))
        }
    }
    if let LogOutput::File(path) = &config.agent.log
        && let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
    {
        lacking.push(format!("agent.log: there is no folder {}", folder.display()));
    }
    let mut seen = BTreeMap::new();
    for endpoint in config.endpoints.iter().filter(|endpoint| !endpoint.pooling) {
        if let Some(other) = seen.insert(&endpoint.url, &endpoint.name).filter(|_| !endpoint.url.ends_with("://")) {
            lacking.push(format!("endpoints: `{other}` and `{}` ask for the same {}", endpoint.name, endpoint.url));
        }
    }
    lacking
}

/// Returns what is well written and cannot be used, with the place of the key that says so.
pub(super) fn unusable(config: &Config, provider: &Arc<CryptoProvider>) -> Vec<(ConfigFault, Option<Fault>)> {
    let placed = |endpoint: Option<&str>, keys: &[&str], error: &Error| {
        let (file, place) = locate(&config.files, endpoint, keys).unzip();
        let above = endpoint.map_or_else(|| "agent".to_owned(), |name| format!("endpoints.{name}"));
        let fault = ConfigFault {
            file: file.or_else(|| config.files.last().cloned()),
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            source: None,
            key: format!("{above}.{}", keys.join(".")),
            problem: error.to_string(),
            remedy: error.fault.entry().remedy.trim_end_matches('.').to_owned(),
        };
        (fault, Some(error.fault))
    };
    let roots: &[&str] =
        if matches!(config.agent.roots, Roots::Bundled(_)) { &["connect_ca_pem"] } else { &["connect_cas"] };
    let network = NetworkTls::new(&config.agent, provider).err();
    let mut found: Vec<_> = network.iter().map(|error| placed(None, roots, error)).collect();
    let route = Route::new(&config.agent, provider).err();
    found.extend(route.map(|error| placed(None, &["proxy_cas"], &error)));
    for endpoint in &config.endpoints {
        let name = Some(endpoint.name.as_str());
        let trusted = matches!(endpoint.upstream.tls, Some(UpstreamTrust::File(_)));
        let key = if trusted { "ca" } else { "url" };
        found.extend(Upstream::new(endpoint, provider).err().map(|error| placed(name, &["upstream", key], &error)));
        let ending = Termination::new(endpoint, provider).err();
        found.extend(ending.map(|error| placed(name, &["agent_tls_termination"], &error)));
        if let Some(acme) = endpoint.termination.as_ref().and_then(|termination| termination.acme.as_ref()) {
            let ordering = acme::check(acme, provider).err();
            found.extend(ordering.map(|error| placed(name, &["agent_tls_termination", "acme"], &error)));
        }
    }
    found
}

fn json((fault, code): &(ConfigFault, Option<Fault>)) -> serde_json::Value {
    serde_json::json!({
        "file": fault.file, "line": fault.line, "column": fault.column, "source": fault.source, "key": fault.key,
        "problem": fault.problem, "remedy": fault.remedy, "code": code.map(Fault::code),
    })
}

pub(super) fn path(global: &Global, output: Output) -> Result<Exit, Failure> {
    let files = files(global);
    match output {
        Output::Text => files.iter().try_for_each(|file| print(&format!("{}\n", file.display())))?,
        Output::Json => print(&format!("{}\n", serde_json::json!({ "files": files })))?,
    }
    Ok(Exit::Fine)
}

/// Prints the names of the endpoints, for people and for the completion of shells.
pub(super) fn endpoints(global: &Global, output: Output) -> Result<Exit, Failure> {
    let config = load(&files(global), &overrides(global))?;
    let names: Vec<_> = config.endpoints.into_iter().map(|endpoint| endpoint.name).collect();
    match output {
        Output::Text => names.iter().try_for_each(|name| print(&format!("{name}\n")))?,
        Output::Json => print(&format!("{}\n", serde_json::json!({ "endpoints": names })))?,
    }
    Ok(Exit::Fine)
}

pub(super) fn add_authtoken(global: &Global) -> Result<Exit, Failure> {
    let files = files(global);
    let [file] = files.as_slice() else {
        return Err(Failure::usage("one file must be named: --config FILE"));
    };
    let token = read_token()?;
    set_authtoken(file, &token).map_err(|error| {
        let fault = match &error {
            EditError::Io { .. } => Fault::FileUnwritable,
            EditError::Shape { .. } => Fault::ConfigInvalid,
            EditError::Token => Fault::TokenUnreadable,
        };
        Failure::from(Error::new(fault, error.to_string()))
    })?;
    print(&format!("authtoken written to {}\n", file.display()))?;
    Ok(Exit::Fine)
}

fn read_token() -> Result<Secret, Failure> {
    let hidden = Hidden::start();
    if io::stdin().is_terminal() {
        write!(io::stderr(), "Authtoken: ")?;
    }
    let mut line = String::new();
    io::stdin().lock().take(1_024).read_line(&mut line)?;
    if hidden.is_some() {
        writeln!(io::stderr())?;
    }
    drop(hidden);
    Ok(Secret::new(line.trim().as_bytes()))
}

/// What is typed is not shown while this lives.
#[cfg(unix)]
struct Hidden(rustix::termios::Termios);

#[cfg(unix)]
impl Hidden {
    fn start() -> Option<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).ok()?;
        Some(Self(before))
    }
}

#[cfg(unix)]
impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, &self.0); // best effort
    }
}

#[cfg(not(unix))]
struct Hidden;

#[cfg(not(unix))]
impl Hidden {
    const fn start() -> Option<Self> {
        None
    }
}

/// Where services keep what must last.
const STATES: &str = "/var/lib";
/// More folders are not looked into.
const MAX_STATES: usize = 4_096;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_a_service_of_any_name_remembers_is_found() {
        let below = crate::testing::folder("states");
        for state in ["crm/policies/one", "private/erp/policies/two", "empty/policies", "other/marks"] {
            fs::create_dir_all(below.join(state)).unwrap();
        }
        fs::write(below.join("file"), "").unwrap();

        let (mut found, unseen) = states(&below);

        found.sort();
        assert_eq!((found, unseen), (vec![below.join("crm"), below.join("private/erp")], vec![]));
        assert_eq!(states(&below.join("none")), (vec![], vec![]));
    }
}
