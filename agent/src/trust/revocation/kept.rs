//! The last good lists on disk, each in a file that is named after the key that signed it.

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use adit_tls::{KeyPrint, RevocationList};

use super::MAX_LIST;
use crate::private;

/// Where lists are kept; nowhere without a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    folder: Option<PathBuf>,
    desk: Arc<Desk>,
}

/// A file, and what is in it.
pub(super) type Found = (PathBuf, Result<Vec<u8>, String>);

/// What waits to be written, by a thread of its own that is there while something does: a disk that hangs holds nobody else.
#[derive(Debug, Default)]
struct Desk {
    due: Mutex<Due>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    /// The newest of each scope, which has a file.
    lists: BTreeMap<PathBuf, Vec<u8>>,
    is_writing: bool,
}

impl Kept {
    /// Keeps them below the folder of what must last.
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder.join("crl")), desk: Arc::default() }
    }

    /// Returns what is kept of an authority; what cannot be read is told as such, and is one that exists.
    pub(super) fn copies(&self, key: KeyPrint) -> Vec<Found> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let begins = hex(&key.0);
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let own = paths.filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&begins) && name.ends_with(".crl")
        });
        own.take(MAX_COPIES).map(|path| (path.clone(), read(&path).map_err(|error| error.to_string()))).collect()
    }

    /// Keeps a list, some time. One that cannot be kept is good for as long as the agent runs.
    pub(super) fn keep(&self, list: &RevocationList) {
        let (Some(folder), Some(path)) = (&self.folder, self.path(list)) else { return };
        let mut due = self.desk.lock();
        due.lists.insert(path.clone(), list.der.to_vec());
        if due.is_writing {
            return;
        }
        let (folder, desk) = (folder.clone(), Arc::clone(&self.desk));
        match thread::Builder::new().name("adit-crl".into()).spawn(move || desk.write(&folder)) {
            Ok(_) => due.is_writing = true,
            Err(error) => {
                due.lists.clear();
                cannot(&path, &error);
            }
        }
    }

    /// Returns where a list is kept.
    pub(super) fn path(&self, list: &RevocationList) -> Option<PathBuf> {
        let scope = hex(list.scope.get(..8).unwrap_or_default());
        Some(self.folder.as_ref()?.join(format!("{}-{scope}.crl", hex(&list.key.0))))
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.desk.lock().lists.len()
    }

    /// Waits until nothing is left to write, for so long at most; returns whether that is so. Blocks.
    pub(super) fn settle(&self, most: Duration) -> bool {
        let is_busy = |due: &mut Due| due.is_writing;
        let waited = self.desk.done.wait_timeout_while(self.desk.lock(), most, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_writing
    }
}

impl Desk {
    /// Writes what there is, and what comes meanwhile.
    fn write(&self, folder: &Path) {
        loop {
            let mut due = self.lock();
            let Some((path, octets)) = due.lists.pop_first() else {
                due.is_writing = false;
                self.done.notify_all();
                return;
            };
            drop(due);
            if let Err(error) = write(folder, &path, &octets) {
                cannot(&path, &error);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cannot(path: &Path, error: &io::Error) {
    tracing::warn!(file = %path.display(), %error, "a revocation list cannot be kept: a restart would forget it");
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(MAX_LIST as u64 + 1).read_to_end(&mut octets)?;
    if octets.len() > MAX_LIST {
        return Err(io::Error::other(format!("longer than {MAX_LIST} octets")));
    }
    Ok(octets)
}

/// Replaces a file as a whole: after a crash there is the old one or the new one.
fn write(folder: &Path, path: &Path, octets: &[u8]) -> io::Result<()> {
    private::make_folder(folder)?;
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Copies of one authority that are looked at.
const MAX_COPIES: usize = 4;
