//! From octets, in any pieces, to records that fit; pure.

use super::{Checker, Header, Link, MAX_LINE, Misfit};
use crate::clock;

/// Takes octets of files, one file after the other, and gives the records that fit.
#[derive(Debug)]
pub struct Scanner {
    checker: Checker,
    /// What has come of a line that has not ended; no more of it than a record is long.
    line: Vec<u8>,
    shown: Vec<u8>,
    rest: u64,
    whole: u64,
    lines: u64,
}

/// A record that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned<'a> {
    /// Its place.
    pub link: Link,
    /// Its kind.
    pub kind: &'a str,
    /// When it was written, in microseconds since 1970.
    pub wall: u64,
    /// The line, without its end.
    pub text: &'a str,
}

impl Scanner {
    /// Begins; `checker` holds the records together.
    #[must_use]
    pub const fn new(checker: Checker) -> Self {
        Self { checker, line: Vec::new(), shown: Vec::new(), rest: 0, whole: 0, lines: 0 }
    }

    /// Takes from the front of `octets` up to the end of a record, and returns it; nothing when all are taken and none has ended.
    ///
    /// # Errors
    /// Why a line does not fit. There is no going on.
    pub fn scan(&mut self, octets: &mut &[u8]) -> Result<Option<Scanned<'_>>, Misfit> {
        let Some(end) = octets.iter().position(|octet| *octet == b'\n') else {
            self.keep(octets);
            *octets = &[];
            return Ok(None);
        };
        let (line, rest) = octets.split_at(end);
        self.keep(line);
        *octets = rest.get(1..).unwrap_or_default();
        self.lines += 1;
        if self.rest > self.line.len() as u64 {
            return Err(Misfit::Long);
        }
        self.whole += self.rest + 1;
        self.rest = 0;
        core::mem::swap(&mut self.line, &mut self.shown);
        self.line.clear();
        let Header { link, time, kind, .. } = self.checker.line(&self.shown)?;
        let text = core::str::from_utf8(&self.shown).map_err(|_| Misfit::Form)?;
        Ok(Some(Scanned { link, kind, wall: clock::parse_precise(time).unwrap_or_default(), text }))
    }

    /// Ends a file: another comes.
    ///
    /// # Errors
    /// When its last record was never finished: only the last file may end so.
    pub fn turn(&mut self) -> Result<(), Misfit> {
        if self.rest > 0 {
            self.lines += 1;
            return Err(Misfit::Form);
        }
        (self.whole, self.lines) = (0, 0);
        Ok(())
    }

    /// Returns what holds the records together.
    pub const fn checker(&self) -> &Checker {
        &self.checker
    }

    /// Returns how many octets at the end belong to a record that was never finished, or is being written: what a repair removes.
    pub const fn torn(&self) -> u64 {
        self.rest
    }

    /// Returns how many octets of the file are whole records: what a repair leaves.
    pub const fn whole(&self) -> u64 {
        self.whole
    }

    /// Returns how many lines of the file were taken.
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    fn keep(&mut self, octets: &[u8]) {
        self.rest = self.rest.saturating_add(octets.len() as u64);
        let room = MAX_LINE.saturating_sub(self.line.len()).min(octets.len());
        self.line.extend_from_slice(octets.get(..room).unwrap_or_default());
    }
}
