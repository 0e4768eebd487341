//! Where a body of HTTP/1 ends.

use super::Lost;

/// What of a body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// So many octets.
    Length(u64),
    /// Chunks, up to the empty one and what trails it.
    Chunks(Chunk),
    /// Whatever comes until the direction ends.
    End,
}

/// Where in a body of chunks the next octet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the line that tells the size.
    Size { size: u64, digits: u8, length: u16, part: Part },
    /// In its content, of which so much is to come.
    Data(u64),
    /// In the end of line after the content.
    After { is_returned: bool },
    /// Behind the last: in a line so long, of fields so long in all.
    Trailer { line: u16, total: u16 },
}

/// Where in the line of a size the next octet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Digits,
    Extension,
    Returned,
}

impl Rest {
    pub(super) const CHUNKS: Self = Self::Chunks(Chunk::FIRST);

    /// Returns whether nothing is to come.
    pub(super) const fn is_over(self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// Takes octets and hands the content in them to `content`. Returns how many it took, and whether the body is over: what
    /// it did not take is the next message's.
    ///
    /// # Errors
    /// [`Lost::Chunks`].
    pub(super) fn take(&mut self, octets: &[u8], mut content: impl FnMut(&[u8])) -> Result<(usize, bool), Lost> {
        let mut rest = octets;
        loop {
            match self {
                Self::Length(left) => {
                    let (part, more) = rest.split_at(fits(*left, rest));
                    content(part);
                    *left = left.saturating_sub(part.len() as u64);
                    return Ok((octets.len() - more.len(), *left == 0));
                }
                Self::End => {
                    content(rest);
                    return Ok((octets.len(), false));
                }
                Self::Chunks(Chunk::Data(left)) => {
                    let (part, more) = rest.split_at(fits(*left, rest));
                    content(part);
                    *left = left.saturating_sub(part.len() as u64);
                    if *left > 0 {
                        return Ok((octets.len(), false));
                    }
                    *self = Self::Chunks(Chunk::After { is_returned: false });
                    rest = more;
                }
                Self::Chunks(chunk) => {
                    let Some((octet, more)) = rest.split_first() else { return Ok((octets.len(), false)) };
                    rest = more;
                    match chunk.step(*octet)? {
                        Some(next) => *self = Self::Chunks(next),
                        None => {
                            *self = Self::Length(0);
                            return Ok((octets.len() - rest.len(), true));
                        }
                    }
                }
            }
        }
    }
}

/// Returns how much of what is left is there.
fn fits(left: u64, octets: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(octets.len())
}

impl Chunk {
    const FIRST: Self = Self::Size { size: 0, digits: 0, length: 0, part: Part::Digits };

    /// Takes an octet that is not content; nothing when it was the last of the body.
    fn step(self, octet: u8) -> Result<Option<Self>, Lost> {
        Ok(Some(match self {
            Self::Size { size, digits, length, part } => {
                return size_line(size, digits, length, (part, octet)).map(Some);
            }
            Self::Data(left) => Self::Data(left), // content is not for here
            Self::After { is_returned: false } if octet == b'\r' => Self::After { is_returned: true },
            Self::After { is_returned: true } if octet == b'\n' => Self::FIRST,
            Self::After { .. } => return Err(Lost::Chunks),
            Self::Trailer { total, .. } if total >= MAX_TRAILER => return Err(Lost::Chunks),
            Self::Trailer { line: 0, .. } if octet == b'\n' => return Ok(None),
            Self::Trailer { total, .. } if octet == b'\n' => Self::Trailer { line: 0, total: total + 1 },
            Self::Trailer { line, total } if octet == b'\r' => Self::Trailer { line, total: total + 1 },
            Self::Trailer { line, total } => Self::Trailer { line: line.saturating_add(1), total: total + 1 },
        }))
    }
}

fn size_line(size: u64, digits: u8, length: u16, (part, octet): (Part, u8)) -> Result<Chunk, Lost> {
    if length >= MAX_LINE {
        return Err(Lost::Chunks);
    }
    let line = |size, digits, part| Chunk::Size { size, digits, length: length + 1, part };
    match (part, octet) {
        (Part::Digits, octet) if octet.is_ascii_hexdigit() && digits < MAX_DIGITS => {
            let digit = char::from(octet).to_digit(16).map_or(0, u64::from);
            Ok(line(size * 16 + digit, digits + 1, Part::Digits))
        }
        (Part::Digits | Part::Extension, b'\r') if digits > 0 => Ok(line(size, digits, Part::Returned)),
        (Part::Digits, b';' | b' ' | b'\t') if digits > 0 => Ok(line(size, digits, Part::Extension)),
        (Part::Extension, octet) if octet != b'\n' => Ok(line(size, digits, Part::Extension)),
        (Part::Returned, b'\n') if size == 0 => Ok(Chunk::Trailer { line: 0, total: 0 }),
        (Part::Returned, b'\n') => Ok(Chunk::Data(size)),
        (Part::Digits | Part::Extension | Part::Returned, _) => Err(Lost::Chunks),
    }
}

/// A size has no more digits: it fits 64 bits.
const MAX_DIGITS: u8 = 15;
/// A line that tells a size is not longer, in octets.
const MAX_LINE: u16 = 1_024;
/// What trails a body is not longer, in octets.
const MAX_TRAILER: u16 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mut rest: Rest, octets: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), Lost> {
        let (mut content, mut all) = (Vec::new(), 0);
        for part in octets.chunks(piece) {
            let (count, over) = rest.take(part, |octets| content.extend_from_slice(octets))?;
            all += count;
            if over {
                return Ok((content, all, true));
            }
        }
        Ok((content, all, false))
    }

    #[test]
    fn a_body_of_chunks_ends_behind_its_trailer_in_whatever_pieces_it_comes() {
        let octets = b"3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\nGET /";
        for piece in 1..octets.len() {
            assert_eq!(taken(Rest::CHUNKS, octets, piece), Ok((b"abc0123456789".to_vec(), octets.len() - 5, true)));
        }
    }

    #[test]
    fn a_length_is_a_length() {
        assert_eq!(taken(Rest::Length(3), b"abcGET", 2), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(taken(Rest::Length(9), b"abc", 2), Ok((b"abc".to_vec(), 3, false)));
        assert_eq!(taken(Rest::End, b"abc", 2), Ok((b"abc".to_vec(), 3, false)));
    }

    #[test]
    fn what_is_no_chunk_is_lost() {
        let long = [&b"1"[..], &[b' '; 2_000]].concat();
        let trailer = [&b"0\r\n"[..], &[b'x'; 20_000]].concat();
        for octets in [
            &b"\r\n"[..],
            b"x\r\n",
            b"1\nab",
            b"1\r\nab",
            b"1\r\na\n",
            b"1;\n",
            b"ffffffffffffffff\r\n",
            &long,
            &trailer,
        ] {
            assert_eq!(taken(Rest::CHUNKS, octets, 7), Err(Lost::Chunks), "{:?}", String::from_utf8_lossy(octets));
        }
    }
}
