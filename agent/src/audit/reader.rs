//! Reads the files of a log in order.

use core::fmt;
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use super::{
    Checker, Hasher, Head, Link, Misfit, Scanned, Scanner,
    folder::files,
    head::{head, missing},
};

/// A log as it is read: records are held together on the way.
#[derive(Debug)]
pub(crate) struct Reader {
    folder: PathBuf,
    scanner: Scanner,
    open: Option<Open>,
    after: u64,
}

#[derive(Debug)]
struct Open {
    first: u64,
    path: PathBuf,
    reader: BufReader<File>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) first: Option<u64>,
    pub(crate) last: Option<Head>,
    /// Octets at the end that are no whole record.
    pub(crate) torn: u64,
}

/// Why reading ended.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The system says so.
    Io(PathBuf, io::Error),
    /// A record does not fit.
    Misfit {
        /// The file, or the folder where it is about the whole.
        path: PathBuf,
        /// From one; zero where it is about the whole.
        line: u64,
        /// The last record that fits.
        after: Option<u64>,
        misfit: Misfit,
    },
}

impl Reader {
    /// Begins with the first file, or, with `after`, with the one that has the record that follows it. Records that were known from
    /// elsewhere have to be there.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn open(folder: &Path, hasher: Hasher, after: u64, heads: &[Head]) -> Result<Self, Broken> {
        let scanner = Scanner::new(Checker::new(hasher).with_heads(heads));
        let mut reader = Self { folder: folder.to_owned(), scanner, open: None, after: 0 };
        let known = reader.files()?;
        reader.after =
            known.iter().rfind(|(first, _)| *first <= after.saturating_add(1)).map_or(0, |(first, _)| *first);
        Ok(reader)
    }

    /// Returns the next record; nothing at the end, for now: what is written later comes with a later call.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) fn next(&mut self) -> Result<Option<Scanned<'_>>, Broken> {
        while !self.has_line()? {
            if !self.turn()? {
                return Ok(None);
            }
        }
        self.take()
    }

    /// Takes what there is of the file up to the end of a line; returns whether there is one.
    fn has_line(&mut self) -> Result<bool, Broken> {
        let Some(Open { path, reader, .. }) = &mut self.open else { return Ok(false) };
        loop {
            let octets = reader.fill_buf().map_err(|error| Broken::Io(path.clone(), error))?;
            if octets.contains(&b'\n') {
                return Ok(true);
            }
            if octets.is_empty() {
                return Ok(false);
            }
            let (mut rest, count) = (octets, octets.len());
            // Without the end of a line none is held against anything.
            let _ = self.scanner.scan(&mut rest);
            reader.consume(count);
        }
    }

    fn take(&mut self) -> Result<Option<Scanned<'_>>, Broken> {
        let Some(Open { first, path, reader }) = &mut self.open else { return Ok(None) };
        let octets = reader.fill_buf().map_err(|error| Broken::Io(path.clone(), error))?;
        let end = octets.iter().position(|octet| *octet == b'\n').map_or(octets.len(), |end| end + 1);
        let mut line = octets.get(..end).unwrap_or_default();
        let after = self.scanner.checker().last().map(|link| link.seq);
        let number = self.scanner.lines() + 1;
        let broken = |misfit| Broken::Misfit { path: path.clone(), line: number, after, misfit };
        let scanned = self.scanner.scan(&mut line).map_err(broken)?;
        reader.consume(end);
        // A file in the place of another, with its name.
        match scanned {
            Some(scanned) if number == 1 && scanned.link.seq != *first => {
                Err(broken(Misfit::Number { expected: *first, found: scanned.link.seq }))
            }
            scanned => Ok(scanned),
        }
    }

    /// Goes on to the next file, if there is one and all of this one was read.
    fn turn(&mut self) -> Result<bool, Broken> {
        let at = self.open.as_ref().map(|open| open.first);
        let after = self.after;
        let is_next = |first: u64| at.map_or(after <= first, |at| at < first);
        for (first, path) in self.files()?.into_iter().filter(|(first, _)| is_next(*first)) {
            // It may have been written to since it was read last, before the next was begun.
            if self.has_line()? {
                return Ok(true);
            }
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // the oldest was removed just now
                Err(error) => return Err(Broken::Io(path, error)),
            };
            let after = self.scanner.checker().last().map(|link| link.seq);
            if let (Err(misfit), Some(open)) = (self.scanner.turn(), &self.open) {
                return Err(Broken::Misfit { path: open.path.clone(), line: self.scanner.lines(), after, misfit });
            }
            self.open = Some(Open { first, path, reader: BufReader::new(file) });
            return Ok(true);
        }
        Ok(false)
    }

    /// Returns the number of the last record that was read.
    pub(crate) fn last(&self) -> Option<u64> {
        self.scanner.checker().last().map(|link| link.seq)
    }

    /// Returns what was read.
    ///
    /// # Errors
    /// What of the whole does not fit.
    pub(crate) fn finish(&self) -> Result<Summary, Broken> {
        let checker = self.scanner.checker();
        match checker.finish() {
            Ok(last) => Ok(Summary { first: checker.first(), last: last.map(Head), torn: self.scanner.torn() }),
            Err(misfit) => {
                let after = checker.last().map(|link| link.seq);
                Err(Broken::Misfit { path: self.folder.clone(), line: 0, after, misfit })
            }
        }
    }

    fn files(&self) -> Result<Vec<(u64, PathBuf)>, Broken> {
        files(&self.folder).map_err(|error| Broken::Io(self.folder.clone(), error))
    }
}

/// The end of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// The last record, and when it was written.
    pub(super) last: Option<(Link, u64)>,
    /// Its kind.
    pub(super) kind: Option<String>,
    /// When the first record of the last file was written.
    pub(super) began: Option<u64>,
    /// Octets of whole records in the last file.
    pub(super) whole: u64,
    /// Octets behind them.
    pub(super) torn: u64,
}

/// Reads the end of a log: its last file, and the one before it, which has the last record where the last has none yet. It goes as far as
/// its head says.
pub(super) fn tail(folder: &Path, hasher: Hasher) -> Result<Tail, Broken> {
    let mut tail = Tail::default();
    let mut head = head(folder)?;
    let known = files(folder).map_err(|error| Broken::Io(folder.to_owned(), error))?;
    let Some((last, _)) = known.last() else {
        return head.map_or(Ok(tail), |head| Err(missing(folder, head, None)));
    };
    let before = known.iter().rev().nth(1).map_or(*last, |(first, _)| *first);
    let mut reader = Reader::open(folder, hasher, before.saturating_sub(1), &[])?;
    while let Some(Scanned { link, kind, wall, .. }) = reader.next()? {
        head = head.filter(|head| head.0 != link);
        tail.last = Some((link, wall));
        if tail.kind.as_deref() != Some(kind) {
            tail.kind = Some(kind.to_owned());
        }
        if *last <= link.seq {
            tail.began.get_or_insert(wall);
        }
    }
    if let Some(head) = head.filter(|head| before <= head.0.seq) {
        return Err(missing(folder, head, reader.last()));
    }
    let at_last = reader.open.as_ref().is_some_and(|open| open.first == *last);
    if at_last {
        (tail.whole, tail.torn) = (reader.scanner.whole(), reader.scanner.torn());
    }
    Ok(tail)
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Misfit { path, line, after, misfit } => {
                write!(f, "{}", path.display())?;
                if *line > 0 {
                    write!(f, ":{line}")?;
                }
                match after {
                    Some(after) => write!(f, ": after record {after}: {misfit}"),
                    None => write!(f, ": {misfit}"),
                }
            }
        }
    }
}
