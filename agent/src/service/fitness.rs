//! Whether what a service is to run, read and write will be there for it: said before anything is installed.

use std::path::{Path, PathBuf};

use super::Manager;
use crate::config::{Address, Config, ExternalKey, LogOutput, NamedFile, Roots, UpstreamTrust};

/// Whom the files have to be readable for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Somebody who owns nothing and is in no group: a user that exists only while the service runs.
    Anybody,
    /// A user with groups, by number.
    User { id: u32, groups: Vec<u32> },
    /// Whoever it is: not to be told from here.
    Unknown,
}

/// A file that the service reads while it runs, and whether it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    pub(crate) path: PathBuf,
    pub(crate) is_secret: bool,
}

/// Returns the files that a configuration names, and its own.
pub(crate) fn files(config: &Config) -> Vec<Needed> {
    let open = |file: &NamedFile| Needed { path: file.to_path_buf(), is_secret: false };
    let own = config.files.iter().map(|path| Needed { path: path.clone(), is_secret: false });
    let mut files: Vec<_> = own.collect();
    if let Roots::File(file) = &config.agent.roots {
        files.push(open(file));
    }
    for endpoint in &config.endpoints {
        if let Some(UpstreamTrust::File(file)) = &endpoint.upstream.tls {
            files.push(open(file));
        }
        if let Some(termination) = &endpoint.termination {
            match &termination.acme {
                // What is ordered is the service's own, made where it keeps its state.
                Some(acme) => {
                    files.extend(acme.ca.as_ref().map(open));
                    if let Some(ExternalKey::File(file)) = acme.external.as_ref().map(|external| &external.key) {
                        files.push(Needed { path: file.to_path_buf(), is_secret: true });
                    }
                }
                None => {
                    files.push(open(&termination.certificate));
                    files.push(Needed { path: termination.key.to_path_buf(), is_secret: true });
                }
            }
            files.extend(termination.caller_files().map(open));
        }
    }
    files
}

/// Returns what of a configuration cannot work in a service of this name, each with what to do.
pub(crate) fn of_configuration(config: &Config, manager: Manager, name: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if manager != Manager::Systemd {
        return faults;
    }
    let state = super::systemd::state(name);
    if let LogOutput::File(path) = &config.agent.log
        && !state.iter().any(|folder| path.starts_with(folder))
    {
        let ([folder, _], shown) = (&state, path.display());
        let how = format!("Take it out, and the log goes to the journal; or name a file in {}", folder.display());
        faults.push(format!("agent.log: {shown} cannot be written by the service. {how}"));
    }
    for endpoint in &config.endpoints {
        if let Address::Unix(path) = &endpoint.upstream.address
            && let Some(folder) = hidden(path)
        {
            let (name, shown) = (&endpoint.name, path.display());
            let problem = format!("the service does not see {folder}, and so not the socket {shown}");
            faults.push(format!("endpoint {name}: {problem}. Let the upstream make it in /run"));
        }
    }
    faults
}

/// Returns what of a path does not fit into the definition of a service.
pub(crate) fn of_path(path: &Path, manager: Manager) -> Result<String, String> {
    let shown = path.display();
    let Some(text) = path.to_str().filter(|text| !text.chars().any(char::is_control)) else {
        return Err(format!(
            "{shown:?} cannot be written into the definition of a service. Rename it: UTF-8 without control characters"
        ));
    };
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let hidden = hidden(path).or_else(|| hidden(&real)).filter(|_| manager == Manager::Systemd);
    match hidden {
        Some(folder) => Err(format!(
            "{shown}: the service does not see {folder}. Move it, for example to /etc/adit or /usr/local/bin"
        )),
        None => Ok(text.to_owned()),
    }
}

/// Returns the folder that a hardened service does not see, or has one of its own of, if `path` lies in one.
fn hidden(path: &Path) -> Option<&'static str> {
    ["/home", "/root", "/run/user", "/tmp", "/var/tmp"].into_iter().find(|folder| path.starts_with(folder))
}

/// Returns why `reader` could not read a file, with what to do.
#[cfg(unix)]
pub(crate) fn readable(file: &Needed, reader: &Reader) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;

    if *reader == Reader::Unknown {
        return Ok(());
    }
    let cannot = |path: &Path, error| format!("{}: {error}. Check the path", path.display());
    let real = file.path.canonicalize().map_err(|error| cannot(&file.path, error))?;
    for part in real.ancestors() {
        let metadata = part.metadata().map_err(|error| cannot(part, error))?;
        let (bit, verb, letter) = if part == real { (4, "read", 'r') } else { (1, "enter", 'x') };
        let class = match reader {
            Reader::User { id, .. } if *id == metadata.uid() => 6,
            Reader::User { groups, .. } if groups.contains(&metadata.gid()) => 3,
            Reader::User { .. } | Reader::Anybody | Reader::Unknown => 0,
        };
        if (metadata.mode() >> class) & bit != 0 {
            continue;
        }
        let remedy = match reader {
            Reader::User { .. } => format!("Give it to a group of that user: chgrp GROUP, chmod g+{letter}"),
            _ if file.is_secret => "Install with --user NAME, and give the file to that user or its group".to_owned(),
            Reader::Anybody | Reader::Unknown => format!("chmod o+{letter} it, or install with --user NAME"),
        };
        let (shown, mode) = (part.display(), metadata.mode() & 0o7777);
        return Err(format!("{shown}: mode {mode:04o} does not let the service {verb} it. {remedy}"));
    }
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn readable(file: &Needed, _: &Reader) -> Result<(), String> {
    file.path.metadata().map(drop).map_err(|error| format!("{}: {error}. Check the path", file.path.display()))
}

/// Returns why nobody should let the system run the program at `path`, with what to do: who can change it decides what runs.
#[cfg(unix)]
pub(crate) fn trusted_program(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;

    let remedy = "Put it where root alone writes: install -o root -m 755 adit /usr/local/bin/adit";
    let cannot = |path: &Path, error| format!("{}: {error}. {remedy}", path.display());
    let real = path.canonicalize().map_err(|error| cannot(path, error))?;
    for part in real.ancestors() {
        let metadata = part.metadata().map_err(|error| cannot(part, error))?;
        let shown = part.display();
        if metadata.uid() != 0 {
            return Err(format!(
                "{shown} belongs to user {}, who could change what the system runs. {remedy}",
                metadata.uid()
            ));
        }
        if metadata.mode() & 0o022 != 0 && metadata.mode() & 0o1000 == 0 {
            let mode = metadata.mode() & 0o7777;
            return Err(format!("{shown}: mode {mode:04o} lets others change what the system runs. {remedy}"));
        }
        if part == real && (!metadata.is_file() || metadata.mode() & 0o111 == 0) {
            return Err(format!("{shown} is no program. {remedy}"));
        }
    }
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn trusted_program(path: &Path) -> Result<(), String> {
    path.metadata().map(drop).map_err(|error| format!("{}: {error}", path.display()))
}
