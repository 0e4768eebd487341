//! The last good lists on disk, each in a file that is named after the key that signed it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use adit_tls::{KeyPrint, RevocationList};

use super::MAX_LIST;
use crate::private;

/// Where lists are kept; nowhere without a folder.
#[derive(Debug, Default)]
pub(super) struct Kept {
    folder: Option<PathBuf>,
}

impl Kept {
    /// Keeps them below the folder of what must last.
    pub(super) fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder.join("crl")) }
    }

    /// Returns what is kept of an authority; what cannot be read is told as such, and is one that exists.
    pub(super) fn copies(&self, key: KeyPrint) -> Vec<(PathBuf, Result<Vec<u8>, String>)> {
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

    /// Keeps a list. One that cannot be kept is good for as long as the agent runs.
    pub(super) fn keep(&self, list: &RevocationList) {
        let Some(folder) = &self.folder else { return };
        let scope = hex(list.scope.get(..8).unwrap_or_default());
        let path = folder.join(format!("{}-{scope}.crl", hex(&list.key.0)));
        if let Err(error) = write(folder, &path, &list.der) {
            tracing::warn!(file = %path.display(), %error, "a revocation list cannot be kept: a restart would forget it");
        }
    }
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
