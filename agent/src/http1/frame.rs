//! Where a body of HTTP/1 ends.

/// What of a body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// So many octets.
    Length(u64),
    /// Chunks, up to the empty one and what trails it.
    Chunks(Chunk),
    /// Whatever comes until the direction ends.
    End,
}

/// Where in a body of chunks the next octet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// In the line that tells the size.
    Size { size: u64, digits: u8, length: u16, part: Part },
    /// In its content, of which so much is to come.
    Data(u64),
    /// In the end of line after the content.
    After { is_returned: bool },
    /// Behind the last: in a line so long, of fields so long in all.
    Trailer { line: u16, total: u16, is_returned: bool },
}

/// A body of chunks has something else in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadChunk;

/// Up to where octets of a body were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// All of them: more of the body is to come.
    More,
    /// The last chunk: what trails it is to come.
    Trailer,
    /// Its end.
    End,
}

/// Where in the line of a size the next octet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Digits,
    /// Blanks behind the size.
    Blank,
    Extension,
    Returned,
}

impl Rest {
    pub(crate) const CHUNKS: Self = Self::Chunks(Chunk::FIRST);

    /// Returns whether nothing is to come.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Length(0))
    }

    /// Takes octets and hands the content in them to `content`. Returns how many it took, and whether the body is over: what
    /// it did not take is the next message's.
    ///
    /// # Errors
    /// [`BadChunk`].
    pub(crate) fn take(&mut self, octets: &[u8], mut content: impl FnMut(&[u8])) -> Result<(usize, bool), BadChunk> {
        let (mut all, mut reached) = (0, Reached::Trailer);
        while reached == Reached::Trailer {
            let taken = self.advance(octets.get(all..).unwrap_or_default(), &mut content)?;
            (all, reached) = (all + taken.0, taken.1);
        }
        Ok((all, reached == Reached::End))
    }

    /// Takes octets up to the end of the body, or to what trails it, which is told once, when it begins. Returns how many it took.
    ///
    /// # Errors
    /// [`BadChunk`].
    pub(crate) fn advance(
        &mut self,
        octets: &[u8],
        mut content: impl FnMut(&[u8]),
    ) -> Result<(usize, Reached), BadChunk> {
        let mut rest = octets;
        loop {
            match self {
                Self::Length(left) => {
                    let (part, more) = rest.split_at(fits(*left, rest));
                    content(part);
                    *left = left.saturating_sub(part.len() as u64);
                    let reached = if *left == 0 { Reached::End } else { Reached::More };
                    return Ok((octets.len() - more.len(), reached));
                }
                Self::End => {
                    content(rest);
                    return Ok((octets.len(), Reached::More));
                }
                Self::Chunks(Chunk::Data(left)) => {
                    let (part, more) = rest.split_at(fits(*left, rest));
                    content(part);
                    *left = left.saturating_sub(part.len() as u64);
                    if *left > 0 {
                        return Ok((octets.len(), Reached::More));
                    }
                    *self = Self::Chunks(Chunk::After { is_returned: false });
                    rest = more;
                }
                Self::Chunks(chunk) => {
                    let Some((octet, more)) = rest.split_first() else { return Ok((octets.len(), Reached::More)) };
                    rest = more;
                    match chunk.step(*octet)? {
                        Some(next) => {
                            *self = Self::Chunks(next);
                            if next == Chunk::TRAILER {
                                return Ok((octets.len() - rest.len(), Reached::Trailer));
                            }
                        }
                        None => {
                            *self = Self::Length(0);
                            return Ok((octets.len() - rest.len(), Reached::End));
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
    const TRAILER: Self = Self::Trailer { line: 0, total: 0, is_returned: false };

    /// Takes an octet that is not content; nothing when it was the last of the body.
    fn step(self, octet: u8) -> Result<Option<Self>, BadChunk> {
        Ok(Some(match self {
            Self::Size { size, digits, length, part } => {
                return size_line(size, digits, length, (part, octet)).map(Some);
            }
            Self::Data(left) => Self::Data(left), // content is not for here
            Self::After { is_returned: false } if octet == b'\r' => Self::After { is_returned: true },
            Self::After { is_returned: true } if octet == b'\n' => Self::FIRST,
            Self::After { .. } => return Err(BadChunk),
            Self::Trailer { total, .. } if total >= MAX_TRAILER => return Err(BadChunk),
            Self::Trailer { line: 0, is_returned: true, .. } if octet == b'\n' => return Ok(None),
            Self::Trailer { total, is_returned: true, .. } if octet == b'\n' => {
                Self::Trailer { line: 0, total: total + 1, is_returned: false }
            }
            Self::Trailer { is_returned: true, .. } => return Err(BadChunk),
            Self::Trailer { .. } if octet == b'\n' => return Err(BadChunk),
            Self::Trailer { line, total, .. } if octet == b'\r' => {
                Self::Trailer { line, total: total + 1, is_returned: true }
            }
            Self::Trailer { line, total, .. } => {
                Self::Trailer { line: line.saturating_add(1), total: total + 1, is_returned: false }
            }
        }))
    }
}

fn size_line(size: u64, digits: u8, length: u16, (part, octet): (Part, u8)) -> Result<Chunk, BadChunk> {
    if length >= MAX_LINE {
        return Err(BadChunk);
    }
    let line = |size, digits, part| Chunk::Size { size, digits, length: length + 1, part };
    match (part, octet) {
        (Part::Digits, octet) if octet.is_ascii_hexdigit() && digits < MAX_DIGITS => {
            let digit = char::from(octet).to_digit(16).map_or(0, u64::from);
            Ok(line(size * 16 + digit, digits + 1, Part::Digits))
        }
        (Part::Digits | Part::Blank | Part::Extension, b'\r') if digits > 0 => Ok(line(size, digits, Part::Returned)),
        (Part::Digits | Part::Blank, b' ' | b'\t') if digits > 0 => Ok(line(size, digits, Part::Blank)),
        (Part::Digits | Part::Blank, b';') if digits > 0 => Ok(line(size, digits, Part::Extension)),
        // Nothing that somebody could take for the end of the line.
        (Part::Extension, b'\t' | b' '..=b'~' | 0x80..) => Ok(line(size, digits, Part::Extension)),
        (Part::Returned, b'\n') if size == 0 => Ok(Chunk::TRAILER),
        (Part::Returned, b'\n') => Ok(Chunk::Data(size)),
        (Part::Digits | Part::Blank | Part::Extension | Part::Returned, _) => Err(BadChunk),
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

    fn taken(mut rest: Rest, octets: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), BadChunk> {
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
        let octets = b"3 \r\nabc\r\nA ;x=\"y\"\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\nGET /";
        for piece in 1..octets.len() {
            assert_eq!(taken(Rest::CHUNKS, octets, piece), Ok((b"abc0123456789".to_vec(), octets.len() - 5, true)));
        }
    }

    #[test]
    fn what_trails_a_body_is_told_before_it_is_taken() {
        let octets = b"1\r\na\r\n0\r\nx: 1\r\n\r\nGET";
        let mut rest = Rest::CHUNKS;
        let mut advance = |octets| rest.advance(octets, |_| {});

        assert_eq!(advance(octets), Ok((9, Reached::Trailer)));
        assert_eq!(advance(&octets[9..11]), Ok((2, Reached::More)));
        assert_eq!(advance(&octets[11..]), Ok((6, Reached::End)));
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
            b"1;\0\r\n",
            b"1;\r\r\n",
            b"1 2\r\n",
            b"0\r\nx: 1\n\r\n",
            b"0\r\nx: 1\ry\r\n\r\n",
            b"0\r\n\n",
            b"ffffffffffffffff\r\n",
            &long,
            &trailer,
        ] {
            assert_eq!(taken(Rest::CHUNKS, octets, 7), Err(BadChunk), "{:?}", String::from_utf8_lossy(octets));
        }
    }
}
