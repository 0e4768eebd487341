//! A chunked body, octet by octet in its lines and by count in its data.

use memchr::memchr;

use super::{HeadLimits, head::field_line};
use crate::Fault;

#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    /// Octets of extensions in the whole body.
    extensions: usize,
}

#[derive(Debug)]
enum State {
    /// Within the digits of a size.
    Size {
        size: u64,
        digits: usize,
    },
    Extension {
        size: u64,
    },
    /// After the CR of a size line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// After the last chunk; `read` octets of whole lines were looked at, `searched` hold no end of a line.
    Trailers {
        read: usize,
        searched: usize,
        fields: usize,
    },
}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, extensions: 0 }
    }
}

impl Chunked {
    /// Reads on; returns how much may pass and whether the body is complete, or how much passed before a fault.
    pub(super) fn read(&mut self, input: &[u8], limits: &HeadLimits) -> Result<(usize, bool), (usize, Fault)> {
        let mut at = 0;
        while at < input.len() {
            if let State::Data { left } = &mut self.state {
                let taken = usize::try_from(*left).map_or(input.len() - at, |left| left.min(input.len() - at));
                *left -= taken as u64;
                at += taken;
                if *left == 0 {
                    self.state = State::DataCr;
                }
            } else if let State::Trailers { .. } = self.state {
                return match self.trailers(&input[at..], limits) {
                    Ok(Some(length)) => Ok((at + length, true)),
                    Ok(None) => Ok((at, false)),
                    Err(fault) => Err((at, fault)),
                };
            } else {
                self.octet(input[at]).map_err(|fault| (at, fault))?;
                at += 1;
            }
        }
        Ok((at, false))
    }

    fn octet(&mut self, octet: u8) -> Result<(), Fault> {
        let malformed = Fault::RequestMalformed;
        self.state = match (&self.state, octet) {
            (State::Size { size, digits }, digit) if digit.is_ascii_hexdigit() => {
                let value = char::from(digit).to_digit(16).ok_or(malformed)?;
                if *digits >= MAX_DIGITS {
                    return Err(malformed);
                }
                State::Size { size: *size << 4 | u64::from(value), digits: *digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(malformed),
            (State::Size { size, .. }, b';') => State::Extension { size: *size },
            (State::Size { size, .. } | State::Extension { size }, b'\r') => State::SizeEnd { size: *size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extensions += 1;
                if self.extensions > MAX_EXTENSIONS {
                    return Err(malformed);
                }
                State::Extension { size: *size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailers { read: 0, searched: 0, fields: 0 },
            (State::SizeEnd { size }, b'\n') => State::Data { left: *size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            _ => return Err(malformed),
        };
        Ok(())
    }

    /// The trailer section passes as a whole, so that nothing of a bad one does.
    fn trailers(&mut self, input: &[u8], limits: &HeadLimits) -> Result<Option<usize>, Fault> {
        let State::Trailers { read, searched, fields } = &mut self.state else { return Ok(None) };
        loop {
            let from = (*read).max(*searched);
            let Some(end) = memchr(b'\n', &input[from..]).map(|found| from + found) else {
                *searched = input.len();
                return if input.len() > limits.size { Err(Fault::HeaderTooLarge) } else { Ok(None) };
            };
            if end >= limits.size {
                return Err(Fault::HeaderTooLarge);
            }
            let line = input[*read..end].strip_suffix(b"\r").ok_or(Fault::RequestMalformed)?;
            *read = end + 1;
            if line.is_empty() {
                return Ok(Some(*read));
            }
            *fields += 1;
            if *fields > limits.fields {
                return Err(Fault::HeaderTooLarge);
            }
            field_line(line)?;
        }
    }
}

/// 15 hexadecimal digits stay below 2^60: no parser overflows.
const MAX_DIGITS: usize = 15;
/// Octets of chunk extensions in one body; nobody uses them but attackers.
const MAX_EXTENSIONS: usize = 4096;
