//! The agent as a service of the system: what is written and run for it, as plain data, and the carrying out.
//!
//! What to do is made by pure functions, one file a system, so that it can be shown before it is done.

pub(crate) mod fitness;
pub(crate) mod launchd;
pub(crate) mod plan;
pub(crate) mod systemd;
#[cfg(test)]
mod tests;
pub(crate) mod windows;

use core::time::Duration;
use std::path::{Path, PathBuf};

use crate::config::Config;

/// What a service of the system is to run, and as whom. Every text is without control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    /// The name of the service.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: String,
    /// The files of the configuration, the later over the earlier.
    pub(crate) configurations: Vec<String>,
    /// The customer's own policy, where one was named.
    pub(crate) policy: Option<String>,
    /// The file that holds the authtoken.
    pub(crate) token: String,
    /// The user that the service is; without, one that exists only while it runs, where the system has such.
    pub(crate) user: Option<String>,
    /// How long open connections may take at the end.
    pub(crate) drain: Duration,
    /// What it may hold at most, in MiB.
    pub(crate) memory: u64,
}

/// What looks after services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Manager {
    /// Linux.
    Systemd,
    /// macOS.
    Launchd,
    /// Windows.
    Windows,
}

impl Manager {
    /// Returns that of this system.
    pub(crate) const fn here() -> Option<Self> {
        if cfg!(target_os = "linux") {
            Some(Self::Systemd)
        } else if cfg!(target_os = "macos") {
            Some(Self::Launchd)
        } else if cfg!(windows) {
            Some(Self::Windows)
        } else {
            None
        }
    }

    /// Returns where the configuration of a service is, unless another file is named.
    pub(crate) fn configuration(self) -> PathBuf {
        self.folder().join("adit.yml")
    }

    /// Returns where a token is kept that was not in a file.
    pub(crate) fn token(self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.token"))
    }

    fn folder(self) -> &'static Path {
        Path::new(match self {
            Self::Systemd | Self::Launchd => "/etc/adit",
            Self::Windows => r"C:\ProgramData\adit",
        })
    }
}

impl Definition {
    /// Returns what a service with this configuration may hold, in MiB: what its sessions may receive ahead of the upstreams and
    /// keep for a resume, and room for the connections themselves.
    pub(crate) fn memory_for(config: &Config) -> u64 {
        BASE_MIB + u64::from(config.agent.sessions) * SESSION_MIB
    }
}

/// Returns whether a name can be that of a service: `adit`, or one that begins with `adit-`, so that its folders are nobody else's.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let own = name.strip_prefix("adit-").is_some_and(|rest| !rest.is_empty() && rest.chars().all(fits));
    name.len() <= 32 && (name == "adit" || own)
}

/// Stands in what was written by this program, and in nothing else.
pub(crate) const MARK: &str = "Written by `adit service install`";
/// The program, its threads and 10,000 connections at rest.
const BASE_MIB: u64 = 512;
/// The pool of a session's windows is 128 MiB, and as much may wait for a resume.
const SESSION_MIB: u64 = 256;
