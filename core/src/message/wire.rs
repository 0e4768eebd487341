//! The encoding of protocol buffers, as far as control messages need it.
//!
//! Reading copies nothing but the texts it keeps, and those only after their length was checked. Writing cuts what is
//! longer than its limit, so that a value too long on this side is never a violation on the other.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use crate::{Duration, Secret, Violation};

/// A message that can be put on the wire.
pub trait Message: Sized {
    /// Appends the message to `out`. Texts and lists that are longer than their limit are cut, texts between characters.
    fn encode(&self, out: &mut Vec<u8>);

    /// Returns the message that `input` holds from its first to its last octet.
    ///
    /// Unknown fields are skipped, absent ones have their default, of one that comes again the last one counts.
    ///
    /// # Errors
    /// [`Violation::Message`] when it is not well formed; [`Violation::MessageTooLong`] or [`Violation::OpenTooLong`]
    /// when a text, a list or the whole is longer than its limit.
    fn decode(input: &[u8]) -> Result<Self, Violation>;
}

/// Appends fields to a message. Numbers that are zero and texts that are empty are left out.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn number(&mut self, field: u32, value: impl Into<u64>) {
        let value = value.into();
        if value != 0 {
            self.present(field, value);
        }
    }

    /// Appends a number whose presence means something, zero too.
    pub(super) fn present(&mut self, field: u32, value: impl Into<u64>) {
        self.tag(field, VARINT);
        self.varint(value.into());
    }

    pub(super) fn duration(&mut self, field: u32, value: Duration) {
        self.number(field, millis(value)); // spec: MSG-008
    }

    pub(super) fn maybe_duration(&mut self, field: u32, value: Option<Duration>) {
        if let Some(value) = value {
            self.present(field, millis(value));
        }
    }

    pub(super) fn text(&mut self, field: u32, text: &str, limit: usize) {
        let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.octets(field, text.as_bytes(), end);
    }

    pub(super) fn secret(&mut self, field: u32, secret: &Secret, limit: usize) {
        self.octets(field, secret.expose(), limit);
    }

    pub(super) fn octets(&mut self, field: u32, octets: &[u8], limit: usize) {
        let octets = octets.get(..limit).unwrap_or(octets);
        if !octets.is_empty() {
            self.tag(field, DELIMITED);
            self.varint(octets.len() as u64);
            self.0.extend_from_slice(octets);
        }
    }

    pub(super) fn address(&mut self, field: u32, address: Option<SocketAddr>) {
        let Some(address) = address else { return };
        self.nested(field, |writer| {
            match address.ip() {
                IpAddr::V4(ip) => writer.0.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => writer.0.extend_from_slice(&ip.octets()),
            }
            writer.0.extend_from_slice(&address.port().to_be_bytes());
        });
    }

    pub(super) fn numbers(&mut self, field: u32, values: &[u32], limit: usize) {
        let values = values.get(..limit).unwrap_or(values);
        if !values.is_empty() {
            self.nested(field, |writer| values.iter().for_each(|value| writer.varint(u64::from(*value))));
        }
    }

    pub(super) fn message(&mut self, field: u32, message: &impl Message) {
        self.nested(field, |writer| message.encode(writer.0));
    }

    /// Appends what `body` writes, with its length before it.
    fn nested(&mut self, field: u32, body: impl FnOnce(&mut Writer<'_>)) {
        self.tag(field, DELIMITED);
        let start = self.0.len();
        body(&mut Writer(self.0));
        let end = self.0.len();
        self.varint((end - start) as u64);
        let shift = self.0.len() - end;
        if let Some(tail) = self.0.get_mut(start..) {
            tail.rotate_right(shift);
        }
    }

    fn tag(&mut self, field: u32, kind: u8) {
        self.varint(u64::from(field) << 3 | u64::from(kind));
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.0.push(low & 0x7f);
            }
            self.0.push(low | 0x80);
        }
    }
}

/// The fields of a message, in the order in which they stand there.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// Returns the next field's number and value.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Violation> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = u32::try_from(self.varint()?).map_err(|_| Violation::Message)?;
        let field = tag >> 3;
        if field == 0 {
            return Err(Violation::Message); // spec: MSG-001
        }
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Octets(self.take(8)?, Fixed),
            2 => {
                let length = self.varint()?;
                Value::Octets(self.take(length)?, Delimited)
            }
            5 => Value::Octets(self.take(4)?, Fixed),
            _ => return Err(Violation::Message), // groups, and kinds that do not exist
        };
        Ok(Some((field, value)))
    }

    fn varint(&mut self) -> Result<u64, Violation> {
        let mut value = 0u64;
        for shift in (0..=63).step_by(7) {
            let (octet, rest) = self.0.split_first().ok_or(Violation::Message)?;
            self.0 = rest;
            let bits = u64::from(octet & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Violation::Message); // past 64 bits
            }
            value |= bits << shift;
            if octet & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Violation::Message)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Violation> {
        let split = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length));
        let (taken, rest) = split.ok_or(Violation::Message)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// The value of one field, not yet copied.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u64),
    Octets(&'a [u8], Length),
}

/// Whether octets stand there with their length, or have the length of their kind.
#[derive(Clone, Copy)]
pub(super) enum Length {
    Delimited,
    Fixed,
}

impl<'a> Value<'a> {
    pub(super) fn u64(self) -> Result<u64, Violation> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Octets(..) => Err(Violation::Message),
        }
    }

    pub(super) fn u32(self) -> Result<u32, Violation> {
        u32::try_from(self.u64()?).map_err(|_| Violation::Message) // spec: MSG-003
    }

    pub(super) fn below(self, limit: u8) -> Result<u8, Violation> {
        let number = self.u64()?;
        u8::try_from(number).ok().filter(|number| *number < limit).ok_or(Violation::Message)
    }

    pub(super) fn bool(self) -> Result<bool, Violation> {
        Ok(self.u64()? != 0) // spec: MSG-010
    }

    pub(super) fn duration(self) -> Result<Duration, Violation> {
        self.u64().map(Duration::from_millis)
    }

    /// Returns the octets, at most `limit` of them.
    pub(super) fn octets(self, limit: usize) -> Result<&'a [u8], Violation> {
        match self {
            Self::Octets(octets, Delimited) if octets.len() <= limit => Ok(octets),
            Self::Octets(_, Delimited) => Err(Violation::MessageTooLong), // spec: MSG-004
            Self::Octets(_, Fixed) | Self::Number(_) => Err(Violation::Message),
        }
    }

    pub(super) fn text(self, limit: usize) -> Result<String, Violation> {
        let text = core::str::from_utf8(self.octets(limit)?).map_err(|_| Violation::Message)?; // spec: MSG-001
        Ok(text.into())
    }

    pub(super) fn secret(self, limit: usize) -> Result<Secret, Violation> {
        self.octets(limit).map(Secret::new)
    }

    /// Returns octets that always have the same length.
    pub(super) fn array<const N: usize>(self) -> Result<[u8; N], Violation> {
        self.octets(usize::MAX)?.try_into().map_err(|_| Violation::Message) // spec: MSG-003
    }

    pub(super) fn address(self) -> Result<SocketAddr, Violation> {
        let octets = self.octets(usize::MAX)?;
        let (ip, port) = octets.split_last_chunk().ok_or(Violation::Message)?;
        let ip = if let Ok(v4) = <[u8; 4]>::try_from(ip) {
            IpAddr::from(v4)
        } else {
            IpAddr::from(<[u8; 16]>::try_from(ip).map_err(|_| Violation::Message)?)
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    }

    /// Adds the number, or the packed numbers, to `list`, which never gets longer than `limit`.
    pub(super) fn numbers(self, list: &mut Vec<u32>, limit: usize) -> Result<(), Violation> {
        let mut add = |number: u64| {
            if list.len() >= limit {
                return Err(Violation::MessageTooLong); // spec: MSG-004
            }
            list.push(u32::try_from(number).map_err(|_| Violation::Message)?);
            Ok(())
        };
        if let Self::Number(number) = self {
            return add(number);
        }
        let mut packed = Fields(self.octets(usize::MAX)?);
        while !packed.0.is_empty() {
            add(packed.varint()?)?;
        }
        Ok(())
    }

    pub(super) fn message<M: Message>(self) -> Result<M, Violation> {
        M::decode(self.octets(usize::MAX)?) // spec: MSG-011
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

use Length::{Delimited, Fixed};

const VARINT: u8 = 0;
const DELIMITED: u8 = 2;
