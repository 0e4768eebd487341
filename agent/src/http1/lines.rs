//! Lines up to an empty one, each ended by CR LF and by nothing else.

/// Lines as far as they have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    octets: Vec<u8>,
    /// Where the line begins that is coming.
    line: usize,
}

/// Why there are no such lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinesError {
    /// A line ends with LF alone, or has a CR in it.
    LineEnd,
    /// They are longer than they may be.
    TooLong,
}

impl Lines {
    /// Takes octets up to the empty line, which is taken too. Returns how many it took, and whether the empty line has come.
    ///
    /// # Errors
    /// [`LinesError`]; `most` is how long they may be in octets, their ends included.
    pub(crate) fn take(&mut self, octets: &[u8], most: usize) -> Result<(usize, bool), LinesError> {
        let mut taken = 0;
        while let Some(rest) = octets.get(taken..).filter(|rest| !rest.is_empty()) {
            let room = most.saturating_sub(self.octets.len());
            let end = rest.iter().position(|octet| *octet == b'\n');
            let part = &rest[..end.map_or(rest.len(), |end| end + 1)];
            if part.len() > room {
                return Err(LinesError::TooLong);
            }
            self.octets.extend_from_slice(part);
            taken += part.len();
            if end.is_none() {
                break;
            }
            let [text @ .., b'\r', b'\n'] = self.octets.get(self.line..).unwrap_or_default() else {
                return Err(LinesError::LineEnd);
            };
            if text.contains(&b'\r') {
                return Err(LinesError::LineEnd);
            }
            if text.is_empty() {
                return Ok((taken, true));
            }
            self.line = self.octets.len();
        }
        Ok((taken, false))
    }

    /// Returns whether nothing has come.
    pub(crate) const fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Returns the lines without their ends and without the empty one.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.octets.split(|octet| *octet == b'\n');
        lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).take_while(|line| !line.is_empty())
    }

    /// Returns the octets as they came, the empty line included.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(octets: &[u8], piece: usize, most: usize) -> Result<(Vec<Vec<u8>>, usize, bool), LinesError> {
        let (mut lines, mut all) = (Lines::default(), 0);
        for part in octets.chunks(piece) {
            let (count, is_over) = lines.take(part, most)?;
            all += count;
            if is_over {
                return Ok((lines.iter().map(<[u8]>::to_vec).collect(), all, true));
            }
        }
        Ok((lines.iter().map(<[u8]>::to_vec).collect(), all, false))
    }

    #[test]
    fn lines_end_with_both_octets_in_whatever_pieces_they_come() {
        let octets = b"one\r\ntwo\r\n\r\nthree";
        for piece in 1..octets.len() {
            let lines = vec![b"one".to_vec(), b"two".to_vec()];
            assert_eq!(taken(octets, piece, 12), Ok((lines, 12, true)));
            assert_eq!(taken(octets, piece, 11), Err(LinesError::TooLong));
        }
        assert_eq!(taken(b"\r\n", 1, 9), Ok((Vec::new(), 2, true)));
        assert_eq!(taken(b"one", 1, 9), Ok((vec![b"one".to_vec()], 3, false)));
    }

    #[test]
    fn another_end_of_a_line_is_none() {
        for octets in [&b"\n"[..], b"a\n", b"a\r\r\n", b"a\rb\r\n", b"a\r\nb\n", b"a\r\n\n", b"\r\r\n"] {
            for piece in 1..=octets.len() {
                assert_eq!(taken(octets, piece, 99), Err(LinesError::LineEnd), "{octets:?}");
            }
        }
    }
}
