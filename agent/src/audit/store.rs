//! The files of a log: opened and repaired, written at the end, begun anew, removed.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Hasher, Header, Link, Record, Settings, Stamp,
    chain::REMOVED,
    folder::{Claim, check, files, name, named, private, same, sync},
    head::HeadFile,
    reader::{Broken, Tail, tail},
};
use crate::clock;

/// What holds the end of a chain. Time is an argument.
#[derive(Debug)]
pub(super) struct Store {
    claim: Claim,
    hasher: Hasher,
    settings: Settings,
    /// The files, by the number of their first record; the last is written to.
    files: Vec<(u64, PathBuf)>,
    file: File,
    head: HeadFile,
    /// Octets of whole records in it.
    length: u64,
    /// When its first record was written, in microseconds since 1970.
    began: Option<u64>,
    last: Link,
    /// When the last record was written.
    stamp: Option<Stamp>,
    /// Whether there may be octets behind `length`.
    is_torn: bool,
}

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// How the last run ended: in order, or not; nothing if there was none.
    pub(super) in_order: Option<bool>,
    /// What has to be written about it.
    pub(super) repaired: Option<(u64, String)>,
}

/// Why a log cannot be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The system says so.
    Io(io::Error),
    /// What is there is no chain that could be gone on with.
    Broken(Broken),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Store {
    /// Opens the log, repairs its end, and finds out where it goes on.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed.
    pub(super) fn open(folder: &Path, settings: Settings, hasher: Hasher) -> Result<(Self, Found), OpenError> {
        let claim = Claim::take(folder)?;
        let mut known = files(&claim.folder)?;
        for (_, path) in &known {
            let metadata = fs::symlink_metadata(path)?;
            if !metadata.is_file() {
                return Err(io::Error::other(format!("{} is no file", path.display())).into());
            }
            check(path, &metadata)?;
        }
        let Tail { last, began, kind, whole, torn } = tail(&claim.folder, hasher).map_err(|error| match error {
            Broken::Io(path, error) => OpenError::Io(named(&path, &error)),
            broken @ Broken::Misfit { .. } => OpenError::Broken(broken),
        })?;
        if known.is_empty() {
            known.push((1, claim.folder.join(name(1))));
        }
        let (_, path) = known.last().ok_or_else(|| io::Error::other("no file"))?;
        let mut file = private().create(true).open(path).map_err(|error| named(path, &error))?;
        let mut found = Found { in_order: kind.map(|kind| kind == "stop"), repaired: None };
        if torn > 0 {
            let mut octets = Vec::new();
            file.seek(SeekFrom::Start(whole))?;
            (&mut file).take(MAX_HASHED).read_to_end(&mut octets)?;
            file.set_len(whole).map_err(|error| named(path, &error))?;
            found.repaired = Some((torn, hasher.hash(&octets).to_string()));
        }
        file.seek(SeekFrom::End(0))?;
        let head = HeadFile::open(&claim.folder)?;
        sync(&claim.folder)?;
        let stamp = last.map(|(_, wall)| Stamp { wall, passed: 0 });
        let last = last.map_or(Link::START, |(link, _)| link);
        let (files, length, is_torn) = (known, whole, false);
        let store = Self { claim, hasher, settings, files, file, head, length, began, last, stamp, is_torn };
        Ok((store, found))
    }

    /// Writes records, all or none; returns the number of the first.
    ///
    /// # Errors
    /// What the system says; what was written in part is taken back before anything else is.
    pub(super) fn append(&mut self, records: &[Record], now: Stamp) -> io::Result<u64> {
        self.mend()?;
        self.check()?;
        let removals = if self.is_over(now) { self.rotate()? } else { Vec::new() };
        let mut before: Vec<Record> = self.jump(now).into_iter().collect();
        before.extend(removals.iter().map(|(record, _)| record.clone()));
        let (mut octets, mut link) = (Vec::new(), self.last);
        let first = link.seq + 1 + before.len() as u64;
        for record in before.iter().chain(records) {
            link = record.encode(&mut octets, link, now, self.hasher);
        }
        self.is_torn = true;
        self.file.write_all(&octets)?;
        self.is_torn = false;
        self.length += octets.len() as u64;
        (self.last, self.stamp) = (link, Some(now));
        self.began.get_or_insert(now.wall);
        for (_, path) in &removals {
            if fs::remove_file(path).is_ok() {
                self.files.retain(|(_, known)| known != path);
            }
        }
        Ok(first)
    }

    /// Asks the disk to keep what was written, and writes down how far that is; what is kept under no name is not.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.check()?;
        if self.last == Link::START { Ok(()) } else { self.head.write(self.last) }
    }

    /// Makes sure that what is written to is the file of that name still, as it was left: else nobody would ever read it.
    ///
    /// # Errors
    /// What has become of it.
    pub(super) fn check(&self) -> io::Result<()> {
        let (_, path) = self.files.last().ok_or(io::ErrorKind::NotFound)?;
        let told = |what: &str| Err(io::Error::other(format!("{}: {what}", path.display())));
        match same(&self.file, path) {
            Ok(true) => {}
            Ok(false) => return told("another file was put in its place while it was written to"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return told("it was removed or moved away while it was written to");
            }
            Err(error) => return Err(named(path, &error)),
        }
        let length = self.file.metadata()?.len();
        if length != self.length && !self.is_torn {
            return told(&format!("it has {length} octets, and {} were written: it was changed", self.length));
        }
        Ok(())
    }

    pub(super) fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn folder(&self) -> &Path {
        &self.claim.folder
    }

    /// Has every write fail, or no longer.
    #[cfg(test)]
    pub(super) fn set_broken(&mut self, is_broken: bool) -> io::Result<()> {
        let (_, path) = self.files.last().ok_or(io::ErrorKind::NotFound)?;
        self.file = if is_broken { File::open(path)? } else { private().open(path)? };
        self.file.seek(SeekFrom::End(0))?;
        Ok(())
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::End(0))?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn is_over(&self, now: Stamp) -> bool {
        let most = u64::try_from(self.settings.max_age.as_micros()).unwrap_or(u64::MAX);
        let is_old = self.began.is_some_and(|began| most <= now.wall.saturating_sub(began));
        self.length > 0 && (self.settings.max_size <= self.length || is_old)
    }

    /// Begins another file; returns which are too many, and what is to be written before they are removed.
    fn rotate(&mut self) -> io::Result<Vec<(Record, PathBuf)>> {
        self.sync()?;
        let first = self.last.seq + 1;
        let path = self.claim.folder.join(name(first));
        let file = private().create(true).open(&path).map_err(|error| named(&path, &error))?;
        if file.metadata()?.len() > 0 {
            file.set_len(0)?; // of an attempt that failed: what has no number yet was never told to anybody
        }
        sync(&self.claim.folder)?;
        self.files.push((first, path));
        (self.file, self.length, self.began) = (file, 0, None);
        let keep = usize::try_from(self.settings.keep).unwrap_or(usize::MAX).max(2);
        let over = self.files.len().saturating_sub(keep);
        let mut removals = Vec::new();
        for pair in self.files.windows(2).take(over) {
            let [(_, path), (next, after)] = pair else { continue };
            let mut record = Record::new(REMOVED).number("through", next - 1);
            record = record.text("through_hash", &previous(after, self.hasher)?);
            removals.push((record.text("file", &path.display().to_string()), path.clone()));
        }
        Ok(removals)
    }

    /// Returns what has to be said of the clock: that it went back, or far ahead of the time that has passed.
    fn jump(&self, now: Stamp) -> Option<Record> {
        let before = self.stamp?;
        let passed = if before.passed == 0 { 0 } else { now.passed.saturating_sub(before.passed) };
        let back = before.wall.saturating_sub(now.wall);
        let ahead = now.wall.saturating_sub(before.wall).saturating_sub(passed);
        let is_ahead = before.passed > 0 && AHEAD <= ahead;
        if back < BACK && !is_ahead {
            return None;
        }
        let record = Record::new("clock").text("before", &clock::precise(before.wall));
        Some(record.number("back", back).number("ahead", if is_ahead { ahead } else { 0 }))
    }
}

/// Returns the hash that the first record of a file names.
fn previous(path: &Path, hasher: Hasher) -> io::Result<String> {
    let mut line = Vec::new();
    let file = File::open(path).map_err(|error| named(path, &error))?;
    BufReader::new(file).take(super::MAX_LINE as u64).read_until(b'\n', &mut line)?;
    let header = Header::read(line.strip_suffix(b"\n").unwrap_or(&line), hasher);
    // What is not to be read breaks the chain, which is told when it is looked at.
    Ok(header.map(|header| header.previous.to_string()).unwrap_or_default())
}

/// Of what was torn, no more is hashed, in octets.
const MAX_HASHED: u64 = 16 << 20;
/// A clock that goes back by less is one that is set right bit by bit, in microseconds.
const BACK: u64 = 1_000_000;
/// The same ahead: more than a machine that was asleep or busy for a moment.
const AHEAD: u64 = 60_000_000;

#[cfg(test)]
#[cfg(unix)]
#[path = "store_tests.rs"]
mod tests;
