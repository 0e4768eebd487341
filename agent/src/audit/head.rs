//! How far a chain goes at least: a file beside its files, by which an end that was cut off is missed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Head, Link, Misfit,
    folder::{named, same},
    reader::Broken,
};

/// What is written after each wait for the disk: it may name a record before the last, and never one that a loss of power takes back.
#[derive(Debug)]
pub(super) struct HeadFile {
    path: PathBuf,
    file: File,
}

impl HeadFile {
    /// Opens it; makes it where there is none.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(NAME);
        let file = open(&path)?;
        Ok(Self { path, file })
    }

    /// Writes the last record that the disk has. In place and always of one length: after a crash it is the one before or this.
    pub(super) fn write(&mut self, last: Link) -> io::Result<()> {
        if !same(&self.file, &self.path).unwrap_or(false) {
            self.file = open(&self.path)?; // somebody has removed it
        }
        let line = format!("{:020}:{}\n", last.seq, last.print);
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(line.as_bytes()));
        written.map_err(|error| named(&self.path, &error))
    }
}

/// Reads which record must be there; nothing where none was written, or by an agent that kept no such file.
///
/// # Errors
/// [`Broken`] when it cannot be read, or is not as it was written.
pub(crate) fn head(folder: &Path) -> Result<Option<Head>, Broken> {
    let path = folder.join(NAME);
    let mut text = Vec::new();
    match File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Broken::Io(path, error)),
    }
    // A loss of power at the first moment leaves nothing, or zeros.
    if text.iter().all(|octet| *octet == 0) {
        return Ok(None);
    }
    let line = core::str::from_utf8(&text).ok().and_then(|text| text.strip_suffix('\n'));
    match line.and_then(|line| line.parse().ok()) {
        Some(head) => Ok(Some(head)),
        None => Err(Broken::Misfit { path, line: 1, after: None, misfit: Misfit::Form }),
    }
}

/// Tells that a chain does not go as far as it did.
pub(super) fn missing(folder: &Path, head: Head, after: Option<u64>) -> Broken {
    Broken::Misfit { path: folder.join(NAME), line: 0, after, misfit: Misfit::Head { seq: head.0.seq } }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other(format!("{} is no file", path.display())));
    }
    options.open(path).map_err(|error| named(path, &error))
}

const NAME: &str = "head";
/// More is no head, in octets.
const MAX_FILE: u64 = 256;
