//! Replaces in the events of an event stream, each by itself and as soon as it is complete.

use super::{
    Broken,
    replace::{Replacement, Replacer},
};

/// The longest event, in octets.
pub const MAX_EVENT: usize = 256 << 10;

/// The field of an event in which is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field {
    /// `data`: its lines, with line feeds between them.
    #[default]
    Data,
    /// `retry`.
    Retry,
}

impl Field {
    /// Returns the field of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "data" => Some(Self::Data),
            "retry" => Some(Self::Retry),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Retry => "retry",
        }
    }
}

/// Replaces in the events of a `text/event-stream`.
///
/// An event in which nothing is found goes on octet for octet.
#[derive(Debug)]
pub struct Events {
    replacements: Vec<(Field, Replacement)>,
    /// The event that is not complete.
    event: Vec<u8>,
    /// Where its last line begins.
    line: usize,
    /// The octet before was a carriage return: a line feed belongs to it.
    returned: bool,
    begun: bool,
}

impl Events {
    /// Replaces in this order in each event.
    pub fn new(replacements: Vec<(Field, Replacement)>) -> Self {
        Self { replacements, event: Vec::new(), line: 0, returned: false, begun: false }
    }

    /// Takes octets, and appends all events that are complete.
    ///
    /// # Errors
    /// [`Broken`]: nothing more may be taken or given.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        for octet in octets {
            let feed = core::mem::take(&mut self.returned) && *octet == b'\n';
            if feed && self.event.is_empty() {
                out.push(*octet); // the end of what has gone
                continue;
            }
            self.event.push(*octet);
            if self.event.len() > MAX_EVENT {
                return Err(Broken::Event);
            }
            if feed {
                self.line = self.event.len();
                continue;
            }
            if *octet == b'\r' || *octet == b'\n' {
                self.returned = *octet == b'\r';
                let blank = self.line + 1 == self.event.len();
                self.line = self.event.len();
                if blank {
                    self.give(out)?;
                }
            }
        }
        Ok(())
    }

    /// Ends the stream. An event without its end is no event, but it goes on like one: some read it as that.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        self.give(out)
    }

    fn give(&mut self, out: &mut Vec<u8>) -> Result<(), Broken> {
        let mut event = core::mem::take(&mut self.event);
        self.line = 0;
        let first = !core::mem::replace(&mut self.begun, true);
        for (field, replacement) in &self.replacements {
            if let Some(changed) = replaced(&event, first, *field, replacement)? {
                event = changed;
            }
            if event.len() > MAX_EVENT {
                return Err(Broken::Growth);
            }
        }
        out.extend_from_slice(&event);
        Ok(())
    }
}

/// Returns the event after replacing in a field; nothing when nothing is found.
fn replaced(event: &[u8], first: bool, field: Field, replacement: &Replacement) -> Result<Option<Vec<u8>>, Broken> {
    let mut value: Option<Vec<u8>> = None;
    for (at, (line, _)) in lines(event).enumerate() {
        if let Some(text) = value_of(line, first && at == 0, field) {
            match (&mut value, field) {
                (Some(value), Field::Data) => {
                    value.push(b'\n');
                    value.extend_from_slice(text);
                }
                (value, Field::Data | Field::Retry) => *value = Some(text.into()),
            }
        }
    }
    let Some(value) = value else { return Ok(None) };
    let mut replacer = Replacer::new(replacement.clone());
    let mut changed = Vec::new();
    replacer.push(&value, &mut changed)?;
    replacer.finish(&mut changed)?;
    if !replacer.matched() {
        return Ok(None);
    }
    let mut made = Vec::with_capacity(event.len());
    let mut written = false;
    for (at, (line, end)) in lines(event).enumerate() {
        if value_of(line, first && at == 0, field).is_none() {
            made.extend_from_slice(line);
            made.extend_from_slice(end);
        } else if !core::mem::replace(&mut written, true) {
            // What was one field stays one: a line break begins another line of data, and ends any other value.
            let end = if end.is_empty() { b"\n" } else { end };
            let count = if field == Field::Data { usize::MAX } else { 1 };
            for (text, _) in lines_of_text(&changed).take(count) {
                made.extend_from_slice(field.name().as_bytes());
                made.extend_from_slice(b": ");
                made.extend_from_slice(text);
                made.extend_from_slice(end);
            }
        }
    }
    Ok(Some(made))
}

/// Returns the value of a line of this field.
fn value_of(line: &[u8], first: bool, field: Field) -> Option<&[u8]> {
    let line = if first { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) } else { line };
    let rest = line.strip_prefix(field.name().as_bytes())?;
    match rest.split_first() {
        None => Some(rest),
        Some((b':', value)) => Some(value.strip_prefix(b" ").unwrap_or(value)),
        Some(_) => None,
    }
}

/// Goes over lines with what ends them; what follows the last end is a line too, unless it is empty.
fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = text;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, end, after) = split(rest);
        rest = after;
        Some((line, end))
    })
}

/// The same of a value, of which what follows the last end is always a line.
fn lines_of_text(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let (line, end, after) = split(rest?);
        rest = (!end.is_empty()).then_some(after);
        Some((line, end))
    })
}

fn split(text: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let at = text.iter().position(|octet| matches!(octet, b'\r' | b'\n')).unwrap_or(text.len());
    let (line, rest) = text.split_at(at);
    let len = if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) };
    let (end, after) = rest.split_at(len);
    (line, end, after)
}
