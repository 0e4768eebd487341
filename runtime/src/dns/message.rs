//! A question to a DNS server and its answer (RFC 1035): names, A, AAAA and CNAME, and nothing else.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A question, and how its answer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// A number that nobody can guess.
    pub id: u16,
    /// A name as [`host_name`] gives it.
    pub name: String,
    /// What of it is asked for.
    pub kind: Kind,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of version 4.
    A,
    /// Addresses of version 6.
    Aaaa,
}

impl Kind {
    const fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Aaaa => 28,
        }
    }
}

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses of the name, or of what it stands for: at least one.
    Addresses(Vec<IpAddr>),
    /// The name stands for another one, about which nothing is said.
    Alias(String),
    /// The name has no such address.
    Nothing,
    /// There is no such name.
    NoName,
    /// The answer is longer than a datagram.
    Truncated,
    /// The server cannot or does not want to answer; its code.
    Failed(u8),
}

/// Why octets are not the answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// They answer something else, or nothing: wait for the next.
    Other,
    /// They are an answer that cannot be read.
    Malformed,
}

/// Returns the name as it is asked for: in small letters, without a dot at the end. `None` when it cannot be a host's.
pub fn host_name(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let fine = |label: &str| (1..=MAX_LABEL).contains(&label.len()) && label.bytes().all(is_plain);
    (host.len() <= MAX_NAME && host.split('.').all(fine)).then(|| host.to_ascii_lowercase())
}

/// Letters, digits, the hyphen, and the underscore that some names of hosts have.
const fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')
}

impl Question {
    /// Writes the question as a message: recursion is wished for.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + self.name.len() + 6);
        message.extend_from_slice(&self.id.to_be_bytes());
        message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in self.name.split('.') {
            message.push(u8::try_from(label.len()).unwrap_or_default()); // at most 63
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&self.kind.number().to_be_bytes());
        message.extend_from_slice(&INTERNET.to_be_bytes());
        message
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn answer(&self, message: &[u8]) -> Result<Answer, NoAnswer> {
        let mut reader = Reader { message, at: 0 };
        let (id, flags) = (reader.u16(), reader.u16());
        let (Some(id), Some(flags), Some(questions), Some(answers), Some(_)) =
            (id, flags, reader.u16(), reader.u16(), reader.take(4))
        else {
            return Err(NoAnswer::Other);
        };
        let is_response = flags & 0x8000 != 0 && flags & 0x7800 == 0;
        if id != self.id || !is_response || questions > 1 {
            return Err(NoAnswer::Other);
        }
        let code = u8::try_from(flags & 0xf).unwrap_or_default();
        if questions == 1 {
            let (name, kind, class) = (reader.name(), reader.u16(), reader.u16());
            let (Some(name), Some(kind), Some(class)) = (name, kind, class) else { return Err(NoAnswer::Malformed) };
            if name.as_ref() != Some(&self.name) || kind != self.kind.number() || class != INTERNET {
                return Err(NoAnswer::Other);
            }
        } else if code == 0 || code == NO_NAME {
            return Err(NoAnswer::Other); // who repeats no question may only say that he cannot answer it
        }
        match code {
            NO_NAME => return Ok(Answer::NoName),
            0 => {}
            code => return Ok(Answer::Failed(code)),
        }
        if flags & 0x0200 != 0 {
            return Ok(Answer::Truncated);
        }
        let records = Records::read(&mut reader, answers, self.kind).ok_or(NoAnswer::Malformed)?;
        Ok(records.follow(&self.name))
    }
}

/// What of an answer's records is of interest: who owns it, and what it is.
#[derive(Debug, Default)]
struct Records {
    aliases: Vec<(String, String)>,
    addresses: Vec<(String, IpAddr)>,
}

impl Records {
    fn read(reader: &mut Reader<'_>, count: u16, kind: Kind) -> Option<Self> {
        let mut records = Self::default();
        for _ in 0..count {
            let (owner, number, class) = (reader.name()?, reader.u16()?, reader.u16()?);
            reader.take(4)?; // how long it holds: nothing is kept
            let length = usize::from(reader.u16()?);
            let start = reader.at;
            let data = reader.take(length)?;
            let Some(owner) = owner.filter(|_| class == INTERNET) else { continue };
            if number == ALIAS && records.aliases.len() < MAX_ALIASES {
                let mut inner = Reader { message: reader.message, at: start };
                let target = inner.name()?;
                if inner.at != start + length {
                    return None;
                }
                records.aliases.extend(target.map(|target| (owner, target)));
            } else if number == kind.number() && records.addresses.len() < MAX_ADDRESSES {
                let address = match kind {
                    Kind::A => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?)),
                    Kind::Aaaa => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?)),
                };
                records.addresses.push((owner, address));
            }
        }
        Some(records)
    }

    /// Goes from alias to alias; the order of the records does not matter, and what nobody led to is of no interest.
    fn follow(self, asked: &str) -> Answer {
        let mut name = asked;
        for _ in 0..=MAX_ALIASES {
            let found: Vec<IpAddr> =
                self.addresses.iter().filter(|(owner, _)| owner == name).map(|(_, address)| *address).collect();
            if !found.is_empty() {
                return Answer::Addresses(found);
            }
            match self.aliases.iter().find(|(owner, _)| owner == name) {
                Some((_, target)) => name = target,
                None => break,
            }
        }
        if name == asked { Answer::Nothing } else { Answer::Alias(name.into()) }
    }
}

/// Reads a message from left to right.
#[derive(Clone, Copy, Debug)]
struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, count: usize) -> Option<&'m [u8]> {
        let end = self.at.checked_add(count)?;
        let octets = self.message.get(self.at..end)?;
        self.at = end;
        Some(octets)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// Reads a name; the inner `None` is one that no host has. Pointers lead only backwards, so that they end.
    fn name(&mut self) -> Option<Option<String>> {
        let (mut name, mut plain) = (String::new(), true);
        let (mut reader, mut lowest, mut length) = (*self, self.at, 0);
        let mut after = None;
        loop {
            match reader.u8()? {
                0 => break,
                count @ 1..=63 => {
                    let label = reader.take(usize::from(count))?;
                    length += label.len() + 1;
                    if length > MAX_NAME + 1 {
                        return None;
                    }
                    if !name.is_empty() {
                        name.push('.');
                    }
                    plain &= label.iter().all(|octet| is_plain(*octet));
                    name.extend(label.iter().map(|octet| char::from(octet.to_ascii_lowercase())));
                }
                high @ 0xc0..=0xff => {
                    let to = usize::from(high & 0x3f) << 8 | usize::from(reader.u8()?);
                    after.get_or_insert(reader.at);
                    if to >= lowest {
                        return None;
                    }
                    (reader.at, lowest) = (to, to);
                }
                64..=0xbf => return None,
            }
        }
        self.at = after.unwrap_or(reader.at);
        Some((plain && !name.is_empty()).then_some(name))
    }
}

const HEADER: usize = 12;
const INTERNET: u16 = 1;
const ALIAS: u16 = 5;
const NO_NAME: u8 = 3;
/// A label is not longer, in octets.
const MAX_LABEL: usize = 63;
/// A name is not longer, in octets with its dots.
const MAX_NAME: usize = 253;
/// Aliases that are followed in one answer.
const MAX_ALIASES: usize = 8;
/// Addresses that are taken from one answer.
const MAX_ADDRESSES: usize = 64;

#[cfg(test)]
mod tests;
