//! Inflates bodies within limits.

use std::io::{self, Write};

use brotli::DecompressorWriter;
use flate2::write::{MultiGzDecoder, ZlibDecoder};

use super::{Algorithm, Broken};

/// The largest content, in octets.
pub const MAX_INFLATED: usize = 10 << 20;
/// How many times larger the content may be than what came; content of up to 64 KiB may be more.
pub const MAX_RATIO: usize = 100;
/// What any content may be.
const FREE: usize = 64 << 10;
/// What is inflated at once.
const SLICE: usize = 1_024;

/// Inflates a body.
pub struct Inflater {
    coding: Coding,
    taken: usize,
    given: usize,
}

enum Coding {
    Gzip(Box<MultiGzDecoder<Bounded>>),
    Deflate(Box<ZlibDecoder<Bounded>>),
    Brotli(Box<DecompressorWriter<Bounded>>),
}

impl core::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inflater").field("taken", &self.taken).field("given", &self.given).finish_non_exhaustive()
    }
}

impl Inflater {
    /// Returns one for a body of this coding.
    pub fn new(coding: Algorithm) -> Self {
        let inner = Bounded::default();
        let coding = match coding {
            Algorithm::Gzip => Coding::Gzip(Box::new(MultiGzDecoder::new(inner))),
            Algorithm::Deflate => Coding::Deflate(Box::new(ZlibDecoder::new(inner))),
            Algorithm::Brotli => Coding::Brotli(Box::new(DecompressorWriter::new(inner, 4_096))),
        };
        Self { coding, taken: 0, given: 0 }
    }

    /// Takes octets, and appends what they inflate to.
    ///
    /// # Errors
    /// [`Broken::Inflated`], [`Broken::Ratio`] or [`Broken::Coding`].
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        for slice in octets.chunks(SLICE) {
            self.taken = self.taken.saturating_add(slice.len());
            let of_ratio = self.taken.saturating_mul(MAX_RATIO).max(FREE);
            let most = of_ratio.min(MAX_INFLATED);
            let left = most.saturating_sub(self.given);
            self.bounded().left = left;
            let written = match &mut self.coding {
                Coding::Gzip(coding) => coding.write_all(slice).and_then(|()| coding.flush()),
                Coding::Deflate(coding) => coding.write_all(slice).and_then(|()| coding.flush()),
                Coding::Brotli(coding) => coding.write_all(slice).and_then(|()| coding.flush()),
            };
            self.give(out);
            self.check(written)?;
        }
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// [`Broken::Coding`] when its end is missing, and as [`Self::push`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.taken == 0 {
            return Ok(()); // no body at all
        }
        let written = match &mut self.coding {
            Coding::Gzip(coding) => coding.try_finish(),
            Coding::Deflate(coding) => coding.try_finish(),
            Coding::Brotli(coding) => coding.close(),
        };
        self.give(out);
        self.check(written)
    }

    fn check(&mut self, written: io::Result<()>) -> Result<(), Broken> {
        let of_ratio = self.taken.saturating_mul(MAX_RATIO).max(FREE);
        if self.bounded().full {
            return Err(if of_ratio < MAX_INFLATED { Broken::Ratio } else { Broken::Inflated });
        }
        written.map_err(|_| Broken::Coding)
    }

    fn give(&mut self, out: &mut Vec<u8>) {
        let made = core::mem::take(&mut self.bounded().octets);
        self.given = self.given.saturating_add(made.len());
        out.extend_from_slice(&made);
    }

    fn bounded(&mut self) -> &mut Bounded {
        match &mut self.coding {
            Coding::Gzip(coding) => coding.get_mut(),
            Coding::Deflate(coding) => coding.get_mut(),
            Coding::Brotli(coding) => coding.get_mut(),
        }
    }
}

/// Takes so many octets and no more: one octet of a bomb can be a million.
#[derive(Debug, Default)]
struct Bounded {
    octets: Vec<u8>,
    left: usize,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(octets.len()) else {
            self.full = true;
            return Err(io::ErrorKind::StorageFull.into());
        };
        self.left = left;
        self.octets.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
