//! Files that a configuration names: read only as far as the customer's policy lets it name them.

use core::{fmt, ops::Deref};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, OnceLock},
};

use adit_core::Secret;

use super::{
    ConfigFault,
    load::{Text, private, public, text_of},
};
use crate::{
    errors::Fault,
    policy::{Files, Guard, Policy, Reading, Refusal, is_settled},
    regular::{open_real, open_regular},
};

/// A file that the agent is told to read: by its command line or environment, or by its configuration, which may be the vendor's.
#[derive(Clone)]
pub struct NamedFile {
    path: PathBuf,
    /// Where the configuration names it.
    by: Option<By>,
}

/// A configuration that names a file.
#[derive(Clone)]
struct By {
    /// The folder that it is in itself.
    folder: PathBuf,
    leave: Arc<Leave>,
}

/// Who is asked before a file of one configuration is read; nobody before there is somebody.
#[derive(Debug, Default)]
pub(crate) struct Leave(OnceLock<Arc<Guard>>);

/// A key of the configuration, and the file that it names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// As `agent.authtoken_file`.
    pub(crate) key: String,
    pub(crate) file: NamedFile,
    /// Where the key stands, if it does.
    pub(crate) at: Option<(PathBuf, u64, u64)>,
}

impl Leave {
    /// Says who is asked from now on; the first one stays.
    pub(super) fn under(&self, guard: &Arc<Guard>) {
        if guard.policy().is_some() {
            LazyLock::force(&KNOWN);
        }
        let _ = self.0.set(Arc::clone(guard));
    }
}

impl NamedFile {
    /// Returns a file that a configuration in `folder` names.
    pub(super) const fn of_configuration(path: PathBuf, folder: PathBuf, leave: Arc<Leave>) -> Self {
        Self { path, by: Some(By { folder, leave }) }
    }

    /// Returns whether it is the configuration that names it, and not who has started the program.
    pub(crate) const fn is_of_configuration(&self) -> bool {
        self.by.is_some()
    }

    /// Returns why the configuration may not name it, by a policy.
    pub(crate) fn refusal(&self, policy: &Policy) -> Option<Refusal> {
        let by = self.by.as_ref()?;
        by.judge(policy, &self.path, &resolved(&self.path)).err()
    }

    /// Opens it to be read, if it is a regular file.
    ///
    /// # Errors
    /// What the system says, or that the configuration may not name it.
    pub(crate) fn open(&self) -> io::Result<File> {
        self.judged().unwrap_or_else(|| open_regular(&self.path))
    }

    /// Opens it to be read; where no policy says what may be read it may be a pipe as well.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn open_any(&self) -> io::Result<File> {
        self.judged().unwrap_or_else(|| File::open(&self.path))
    }

    /// Reads a file that nobody else may read or write (V46), of at most `most` octets.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read_private(&self, most: u64) -> Result<Secret, String> {
        private(&self.path, self.read(most)?)
    }

    /// Reads a file that not everybody may write, of at most `most` octets.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read_public(&self, most: u64) -> Result<String, String> {
        public(&self.path, self.read(most)?)
    }

    /// Reads it as a whole or not at all.
    ///
    /// # Errors
    /// What the system says, or that it is larger than `most`.
    pub(crate) fn octets(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        self.open_any()?.take(most + 1).read_to_end(&mut octets)?;
        if octets.len() as u64 > most {
            let problem = format!("it is larger than the {most} octets that are read");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        Ok(octets)
    }

    fn read(&self, most: u64) -> Result<Text, String> {
        text_of(self.open().map_err(|error| error.to_string())?, most)
    }

    /// Opens it as the policy in force lets it be opened; nothing where there is none to be asked.
    ///
    /// Links are followed first, and then none: who puts one in the way between the judgement and the opening has it refused.
    fn judged(&self) -> Option<io::Result<File>> {
        let by = self.by.as_ref()?;
        let policy = by.leave.0.get()?.policy()?;
        let attempt = || {
            let real = plain(self.path.canonicalize()?);
            by.judge(&policy, &self.path, &real).map_err(|refusal| {
                io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {refusal}", Fault::FileRefused))
            })?;
            open_real(&real)
        };
        let mut opened = attempt();
        for _ in 1..ATTEMPTS {
            match &opened {
                Err(error) if is_swapped(error) => opened = attempt(),
                Ok(_) | Err(_) => break,
            }
        }
        Some(opened)
    }
}

impl By {
    fn judge(&self, policy: &Policy, named: &Path, real: &Path) -> Result<(), Refusal> {
        let named = std::path::absolute(named).ok().filter(|whole| is_settled(whole));
        let beside = self.folder.canonicalize().map(plain).ok();
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
        let credentials = credentials.and_then(|folder| Path::new(&folder).canonicalize().map(plain).ok());
        policy.reads(&Reading {
            named: named.as_deref(),
            real,
            beside: beside.as_deref(),
            credentials: credentials.as_deref(),
            resolve: |path| path.to_str().and_then(|path| KNOWN.get(path).cloned()).unwrap_or_else(|| followed(path)),
        })
    }
}

impl Named {
    /// Returns what is wrong with it by a policy.
    pub(crate) fn fault(&self, policy: &Policy) -> Option<ConfigFault> {
        let refusal = self.file.refusal(policy)?;
        let (file, line, column) = match &self.at {
            Some((file, line, column)) => (Some(file.clone()), Some(*line), Some(*column)),
            None => (None, None, None),
        };
        Some(ConfigFault {
            file,
            line: line.filter(|line| *line > 0),
            column: column.filter(|column| *column > 0),
            source: None,
            key: self.key.clone(),
            problem: format!("{}: {refusal}", Fault::FileRefused),
            remedy: Fault::FileRefused.entry().remedy.trim_end_matches('.').to_owned(),
        })
    }
}

/// Where a key stands, and in which list, makes no other endpoint of it.
impl PartialEq for Named {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for Named {}

/// By whom it is named makes no other file of it.
impl PartialEq for NamedFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for NamedFile {}

impl Deref for NamedFile {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for NamedFile {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// A file that the program itself, or who has started it, names.
impl From<PathBuf> for NamedFile {
    fn from(path: PathBuf) -> Self {
        Self { path, by: None }
    }
}

impl From<&str> for NamedFile {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

impl fmt::Debug for NamedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

/// Returns what a path leads to, unless others decide about that.
fn followed(path: &Path) -> PathBuf {
    if is_settled(path) { resolved(path) } else { path.to_owned() }
}

/// Returns where a file really is; of one that is not there, where it would be.
fn resolved(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = whole.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    let Some((above, real)) = there else { return whole };
    let missing = whole.strip_prefix(above).unwrap_or_else(|_| Path::new(""));
    plain(if missing.as_os_str().is_empty() { real } else { real.join(missing) })
}

/// Takes off what Windows writes before a path that it has resolved: a policy is written without.
fn plain(real: PathBuf) -> PathBuf {
    let short = if cfg!(windows) { real.to_str().and_then(|text| text.strip_prefix(r"\\?\")) } else { None };
    match short {
        Some(short) if short.get(1..2) == Some(":") => PathBuf::from(short),
        Some(_) | None => real,
    }
}

/// Returns whether somebody may have put another file in the place of this one meanwhile, as orchestrators do that write anew.
fn is_swapped(error: &io::Error) -> bool {
    #[cfg(unix)]
    let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    #[cfg(not(unix))]
    let is_link = false;
    is_link || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What well-known folders lead to. They are looked at once: people's may be on a disk that does not answer later.
static KNOWN: LazyLock<BTreeMap<&str, PathBuf>> =
    LazyLock::new(|| Files::others().map(|folder| (folder, followed(Path::new(folder)))).collect());
/// How often a file is looked for that is put in its place meanwhile.
const ATTEMPTS: usize = 3;

#[cfg(test)]
#[cfg(unix)]
#[path = "file_tests.rs"]
mod tests;
