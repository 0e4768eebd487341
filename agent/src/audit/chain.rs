//! Whether records fit one another; pure.

use core::{fmt, str::FromStr};

use super::{Hasher, Header, Link, Print};

/// Holds records against one another, in their order.
#[derive(Debug)]
pub struct Checker {
    hasher: Hasher,
    first: Option<(u64, Print)>,
    last: Option<Link>,
    wanted: Vec<Wanted>,
    /// The place before the first record, if a record says that what was before it has been removed.
    removed: bool,
}

/// A record that must be there.
#[derive(Debug)]
struct Wanted {
    head: Head,
    is_there: bool,
}

/// A record by number and hash, written `SEQ:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head(pub Link);

/// Why a record does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The line is longer than any record.
    Long,
    /// The line is no record.
    Form,
    /// What it says is not what its hash was made of.
    Hash,
    /// It names another record as the one before it.
    Previous,
    /// It has not the number that comes next.
    Number {
        /// The number that comes next.
        expected: u64,
        /// Its number.
        found: u64,
    },
    /// Records are gone from the beginning, and none says that they were removed.
    Beginning {
        /// The first that is there.
        first: u64,
    },
    /// A record that was known is not there.
    Head {
        /// Its number.
        seq: u64,
    },
    /// There is no record at all.
    Empty,
}

impl Checker {
    /// Begins with any record.
    pub const fn new(hasher: Hasher) -> Self {
        Self { hasher, first: None, last: None, wanted: Vec::new(), removed: false }
    }

    /// Demands that records are among them that were known from elsewhere.
    #[must_use]
    pub fn with_heads(mut self, heads: &[Head]) -> Self {
        self.wanted.extend(heads.iter().map(|head| Wanted { head: *head, is_there: false }));
        self
    }

    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// Why it does not fit; it is not taken.
    pub fn line<'a>(&mut self, line: &'a [u8]) -> Result<Header<'a>, Misfit> {
        let header = Header::read(line, self.hasher)?;
        let (seq, first) = (header.link.seq, (header.link.seq, header.previous));
        match self.last {
            Some(last) if Some(seq) != last.seq.checked_add(1) => {
                return Err(Misfit::Number { expected: last.seq.saturating_add(1), found: seq });
            }
            Some(last) if header.previous != last.print => return Err(Misfit::Previous),
            Some(_) => {}
            None if seq == 0 => return Err(Misfit::Number { expected: 1, found: 0 }),
            None if seq == 1 && header.previous != Print::NONE => return Err(Misfit::Previous),
            None => {}
        }
        let (begin, previous) = *self.first.get_or_insert(first);
        if header.kind == REMOVED {
            self.removed |= removed(line) == Some((begin - 1, previous));
        }
        for wanted in &mut self.wanted {
            wanted.is_there |= wanted.head.0 == header.link;
        }
        self.last = Some(header.link);
        Ok(header)
    }

    /// Returns the last record, once there are no more; nothing when there was none.
    ///
    /// # Errors
    /// [`Misfit::Beginning`], [`Misfit::Head`].
    pub fn finish(&self) -> Result<Option<Link>, Misfit> {
        if let Some((first, _)) = self.first
            && first > 1
            && !self.removed
        {
            return Err(Misfit::Beginning { first });
        }
        match self.wanted.iter().find(|wanted| !wanted.is_there) {
            Some(wanted) => Err(Misfit::Head { seq: wanted.head.0.seq }),
            None => Ok(self.last),
        }
    }

    /// Returns the last record that fits.
    pub const fn last(&self) -> Option<Link> {
        self.last
    }

    /// Returns the number of the first record.
    pub fn first(&self) -> Option<u64> {
        self.first.map(|(seq, _)| seq)
    }
}

/// Reads what a record of removed records says: the last of them.
fn removed(line: &[u8]) -> Option<(u64, Print)> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let print = value.get("through_hash")?.as_str()?.parse().ok()?;
    Some((value.get("through")?.as_u64()?, print))
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.seq, self.0.print)
    }
}

impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (seq, print) = text.split_once(':')?;
            Some(Self(Link { seq: seq.parse().ok()?, print: print.parse().ok()? }))
        };
        read().ok_or_else(|| "write SEQ:HASH, as `adit audit verify` prints it".to_owned())
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long => f.write_str("the line is longer than any record"),
            Self::Form => f.write_str("the line is no record"),
            Self::Hash => f.write_str("what it says is not what its hash was made of: it was changed"),
            Self::Previous => {
                f.write_str("it names another record as the one before it: what comes before it was changed")
            }
            Self::Number { expected, found } => {
                write!(f, "it has the number {found}, and {expected} comes next: records are missing or moved")
            }
            Self::Beginning { first } => {
                write!(f, "the records before {first} are gone, and no record says that they were removed")
            }
            Self::Empty => f.write_str("there is no record: the log was never begun, or removed"),
            Self::Head { seq } => {
                write!(f, "record {seq}, as it was known, is not there: its end was cut off, or it is another chain")
            }
        }
    }
}

/// The kind of the record that says which were removed.
pub(super) const REMOVED: &str = "removed";
