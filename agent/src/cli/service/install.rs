//! `adit service install` and `uninstall`: everything is checked before anything is written.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_core::Secret;
use rustls::crypto::CryptoProvider;

use super::{
    Failure, act,
    arguments::{Install, Uninstall},
    manager, print, unfit, unmanaged,
};
use crate::{
    cli::{
        arguments::Global,
        configuration::{governed, load, refusal, unusable},
        policy,
    },
    config::{Config, Overrides, Token, token},
    errors::{Error, Exit, Fault},
    regular::open_regular,
    service::{
        Definition, MARK, Manager,
        fitness::{self, Needed, Reader},
        launchd, plan, systemd, windows,
    },
};

pub(super) fn install(global: &Global, wanted: &Install, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let manager = wanted.doing.system.map_or_else(manager, Ok)?;
    let (service, secret) = define(global, wanted, manager, provider)?;
    let root = wanted.doing.root.as_deref();
    let is_real = !wanted.doing.dry_run && root.is_none();
    if !wanted.replace && !wanted.doing.dry_run {
        unclaimed(&service.name, manager, root)?;
    }
    if is_real && manager == Manager::Systemd {
        running()?;
    }
    let plan = match manager {
        Manager::Systemd => systemd::install(&service, secret.as_ref(), root, wanted.now),
        Manager::Launchd => launchd::install(&service, secret.as_ref(), wanted.now),
        Manager::Windows => windows::install(&service, secret.as_ref(), wanted.now),
    };
    let done = act(&plan, &wanted.doing)?;
    if is_real && !wanted.now {
        print(&format!("installed; `adit service start{}` starts it\n", flag(&service.name)))?;
    }
    Ok(done)
}

pub(super) fn uninstall(global: &Global, wanted: &Uninstall) -> Result<Exit, Failure> {
    let manager = wanted.doing.system.map_or_else(manager, Ok)?;
    let (name, root) = (&wanted.named.name, wanted.doing.root.as_deref());
    let definition = match manager {
        Manager::Systemd => systemd::path(name),
        Manager::Launchd => launchd::path(name),
        Manager::Windows => PathBuf::new(),
    };
    let text = fs::read_to_string(below(root, &definition)).unwrap_or_default();
    if manager != Manager::Windows && !text.contains(MARK) && !wanted.doing.dry_run {
        let problem =
            format!("{} is not there, or not from `adit service install`", below(root, &definition).display());
        return Err(unfit(&[format!("{problem}. Remove a service by what has made it: a package by its manager")]));
    }
    let mut files = match manager {
        Manager::Systemd => systemd::noted(&text),
        Manager::Launchd => launchd::noted(&text),
        Manager::Windows => global.config.iter().chain(&global.policy).cloned().collect(),
    };
    for shared in shared(&files, &below(root, &definition), manager) {
        files.retain(|file| *file != shared);
        print(&format!("kept, another service reads it: {}\n", shared.display()))?;
    }
    files.push(manager.token(name));
    let purge = wanted.purge.then_some(files.as_slice());
    let plan = match manager {
        Manager::Systemd => systemd::uninstall(name, root, purge),
        Manager::Launchd => launchd::uninstall(name, purge),
        Manager::Windows => windows::uninstall(name, purge.unwrap_or_default()),
    };
    act(&plan, &wanted.doing)
}

/// Returns those of `files` that definitions beside this one name as well.
fn shared(files: &[PathBuf], definition: &Path, manager: Manager) -> Vec<PathBuf> {
    let noted = match manager {
        Manager::Systemd => systemd::noted,
        Manager::Launchd => launchd::noted,
        Manager::Windows => return Vec::new(), // what is purged there is what the flags name
    };
    let folder = definition.parent().and_then(|folder| fs::read_dir(folder).ok());
    let others =
        folder.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path != definition);
    let texts = others.filter_map(|path| definition_of(&path)).filter(|text| text.contains(MARK));
    let named: Vec<_> = texts.flat_map(|text| noted(&text)).collect();
    files.iter().filter(|file| named.contains(file)).cloned().collect()
}

/// Reads what may be the definition of a service; nothing where it is no file or cannot be one.
fn definition_of(path: &Path) -> Option<String> {
    let mut text = String::new();
    open_regular(path).ok()?.take(MAX_DEFINITION).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Returns what the service is to be, after everything about it was checked, and the token where it has to be written to a file.
fn define(
    global: &Global,
    wanted: &Install,
    manager: Manager,
    provider: &Arc<CryptoProvider>,
) -> Result<(Definition, Option<Secret>), Failure> {
    only_files(global)?;
    let mut global = global.clone();
    if global.config.is_empty() {
        global.config.push(manager.configuration());
    }
    global.config = global.config.iter().map(|file| absolute(file)).collect::<Result<_, _>>()?;
    let variable = || std::env::var_os("ADIT_POLICY").filter(|value| !value.is_empty()).map(PathBuf::from);
    global.policy = global.policy.or_else(variable).as_deref().map(absolute).transpose()?;
    let given = std::env::var("ADIT_AUTHTOKEN").ok().filter(|text| !text.is_empty() && global.authtoken_file.is_none());
    let (config, policy) = valid(&global, provider)?;
    let name = &wanted.named.name;
    let (token_file, secret) = kept_token(&config, given, manager, name)?;

    let program = match &wanted.program {
        Some(program) => absolute(program)?,
        None => std::env::current_exe().map_err(|error| unmanaged(format!("this program is not found: {error}")))?,
    };
    let mut problems: Vec<String> = fitness::trusted_program(&program).err().into_iter().collect();
    problems.extend(fitness::of_configuration(&config, manager, name));
    let reader = reader(wanted.user.as_deref(), manager).unwrap_or_else(|problem| {
        problems.push(problem);
        Reader::Unknown
    });
    let mut needed = fitness::files(&config);
    needed.extend(policy.map(|path| Needed { path, is_secret: false }));
    problems.extend(needed.iter().filter_map(|file| fitness::readable(file, &reader).err()));
    let mut text = |path: &Path| {
        fitness::of_path(path, manager).unwrap_or_else(|problem| {
            problems.push(problem);
            String::new()
        })
    };
    needed.iter().for_each(|file| drop(text(&file.path)));
    let service = Definition {
        name: name.clone(),
        program: text(&program),
        configurations: global.config.iter().map(|file| text(file)).collect(),
        policy: global.policy.as_deref().map(&mut text),
        token: text(&token_file),
        user: wanted.user.clone(),
        drain: config.agent.drain_timeout,
        memory: Definition::memory_for(&config),
    };
    problems.sort();
    problems.dedup();
    if problems.is_empty() { Ok((service, secret)) } else { Err(unfit(&problems)) }
}

/// Refuses flags that a service would not have.
fn only_files(global: &Global) -> Result<(), Failure> {
    let flags = [
        ("--connect-url", &global.connect_url),
        ("--connect-cas", &global.connect_cas),
        ("--log", &global.log),
        ("--log-level", &global.log_level),
        ("--log-format", &global.log_format),
    ];
    match flags.iter().find(|(_, value)| value.is_some()) {
        Some((flag, _)) => {
            Err(Failure::usage(&format!("{flag} is not kept for a service: write it into the configuration")))
        }
        None => Ok(()),
    }
}

/// Reads configuration and policy as the service will, without the environment of who installs it; and says which file has the policy.
fn valid(global: &Global, provider: &Arc<CryptoProvider>) -> Result<(Config, Option<PathBuf>), Failure> {
    let mut overrides = Overrides::default();
    overrides.flag("authtoken_file", "--authtoken-file", global.authtoken_file.clone());
    let config = load(&global.config, &overrides)?;
    if config.agent.targets.is_empty() {
        let detail =
            "a service does not have your environment: write agent.connect_url into its configuration".to_owned();
        return Err(Error::new(Fault::NetworkUnknown, detail).into());
    }
    if config.endpoints.is_empty() {
        return Err(Error::no_endpoints().into());
    }
    let watch = policy::read(global, provider).map_err(|faults| refusal(&faults, Fault::PolicyInvalid))?;
    let config = governed(config, &watch)?;
    if let Some(policy) = watch.guard().policy() {
        for endpoint in &config.endpoints {
            policy.names(endpoint).map_err(|refusal| Error::new(refusal.fault(), refusal.to_string()))?;
        }
    }
    let errors = unusable(&config, provider);
    if !errors.is_empty() {
        let lines: Vec<_> = errors.iter().map(|(fault, _)| fault.to_string()).collect();
        return Err(Failure { exit: Exit::Config, text: format!("{}\n{}", lines.join("\n"), Fault::ConfigInvalid) });
    }
    let file = watch.file().filter(|file| file.exists());
    Ok((config, file))
}

/// Returns the file that holds the token, and the token if it has to be written there first.
fn kept_token(
    config: &Config,
    given: Option<String>,
    manager: Manager,
    name: &str,
) -> Result<(PathBuf, Option<Secret>), Failure> {
    let kept = manager.token(name);
    if let Some(text) = given {
        let text = text.trim();
        if text.chars().any(char::is_control) {
            return Err(Error::new(Fault::TokenUnreadable, "ADIT_AUTHTOKEN: more than one line".to_owned()).into());
        }
        return Ok((kept, Some(Secret::new(text.as_bytes()))));
    }
    match &config.agent.token {
        Token::File(path) => {
            token(&config.agent.token)?; // it is one, and others cannot read it
            Ok((absolute(path)?, None))
        }
        Token::StandardInput => Ok((kept, Some(token(&config.agent.token)?))),
        Token::Given(_) => Err(unfit(&[format!(
            "the configuration holds the authtoken, and a service has to read the one without being able to read the other. \
             Take `authtoken` out of it, make the file readable (chmod 644), and give the token once: \
             `adit service install --authtoken-file -` reads it from standard input and keeps it in {}, mode 0600",
            kept.display()
        )])),
        Token::Missing if kept.is_file() => {
            token(&Token::File(kept.clone().into()))?;
            Ok((kept, None)) // from an earlier installation
        }
        Token::Missing => Err(Error::new(
            Fault::TokenMissing,
            format!(
                "give it once: `adit service install --authtoken-file -` keeps it in {}, mode 0600",
                kept.display()
            ),
        )
        .into()),
    }
}

/// Returns whom files have to be readable for.
fn reader(user: Option<&str>, manager: Manager) -> Result<Reader, String> {
    match (user, manager) {
        (None, Manager::Systemd) => Ok(Reader::Anybody),
        (None, Manager::Launchd) => Err("launchd has no users that exist only for a service. Make one, hidden and without a \
             shell (sysadminctl -addUser _adit -roleAccount -UID 350 -shell /usr/bin/false -home /var/empty), and install with --user _adit"
            .to_owned()),
        (None, Manager::Windows) => Ok(Reader::Unknown),
        (Some(_), manager) if Some(manager) != Manager::here() => Ok(Reader::Unknown),
        (Some("root"), Manager::Systemd | Manager::Launchd) => {
            Err("a service that is root could do what it has no need of. Name another user".to_owned())
        }
        (Some(_), Manager::Windows) => Ok(Reader::Unknown),
        (Some(user), Manager::Systemd | Manager::Launchd) => {
            let unknown = |error| format!("user {user}: {error}. Make it: useradd --system --shell /usr/sbin/nologin {user}");
            let id = plan::run(&["id", "-u", "--", user].map(str::to_owned)).map_err(unknown)?;
            let groups = plan::run(&["id", "-G", "--", user].map(str::to_owned)).map_err(unknown)?;
            let id = id.trim().parse().map_err(|_| unknown("no number".to_owned()))?;
            if id == 0 {
                return Err(format!("{user} is root by another name. Name another user"));
            }
            Ok(Reader::User { id, groups: groups.split_whitespace().filter_map(|id| id.parse().ok()).collect() })
        }
    }
}

/// Refuses to take the place of what something else has made.
fn unclaimed(name: &str, manager: Manager, root: Option<&Path>) -> Result<(), Failure> {
    let own = match manager {
        Manager::Systemd => below(root, &systemd::path(name)),
        Manager::Launchd => launchd::path(name),
        Manager::Windows => return Ok(()),
    };
    let how = "Choose another name by --name, or take its place by --replace";
    if own.symlink_metadata().is_ok() && !fs::read_to_string(&own).is_ok_and(|text| text.contains(MARK)) {
        return Err(unfit(&[format!("{} is there and not from `adit service install`. {how}", own.display())]));
    }
    let packaged = systemd::packaged(name).into_iter().map(|path| below(root, &path)).find(|path| path.exists());
    match packaged.filter(|_| manager == Manager::Systemd) {
        Some(path) => Err(unfit(&[format!(
            "{} is from a package, which has a service already: `systemctl enable --now {name}`. {how}",
            path.display()
        )])),
        None => Ok(()),
    }
}

/// Refuses when systemd is not what runs this system.
fn running() -> Result<(), Failure> {
    match plan::run(&["systemctl", "is-system-running"].map(str::to_owned)) {
        Err(said) if said.contains("offline") || said.contains("not been booted") || said.contains("No such file") => {
            let how = "Start `adit start --all` by what this system has; for an image of a system, give --root FOLDER";
            Err(unmanaged(format!("systemd does not run here. {how}")))
        }
        Ok(_) | Err(_) => Ok(()), // degraded, starting: it is there
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::usage(&format!("{}: {error}", path.display())))
}

fn below(root: Option<&Path>, path: &Path) -> PathBuf {
    root.map_or_else(|| path.to_owned(), |root| root.join(path.strip_prefix("/").unwrap_or(path)))
}

fn flag(name: &str) -> String {
    if name == "adit" { String::new() } else { format!(" --name {name}") }
}

/// A definition is not larger, in octets.
const MAX_DEFINITION: u64 = 1 << 20;
