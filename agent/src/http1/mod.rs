//! Messages of HTTP/1 as octets: where they begin and where they end. What can be understood in two ways is not understood.

mod frame;
mod lines;

pub(crate) use frame::{BadChunk, Reached, Rest};
pub(crate) use lines::{Lines, LinesError};

/// Where a message ends can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// What follows the head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follows {
    /// Another answer to the same request.
    Another,
    Body(Rest),
    /// Something that is not HTTP.
    Other,
}

impl Follows {
    /// Returns what follows the head of an answer to a request with `method`.
    ///
    /// # Errors
    /// [`Ambiguous`].
    pub(crate) fn of(status: u16, method: &str, headers: &[httparse::Header<'_>]) -> Result<Self, Ambiguous> {
        Ok(match status {
            101 => Self::Other,
            100..=199 => Self::Another,
            200..=299 if method == "CONNECT" => Self::Other,
            204 | 304 => Self::Body(Rest::Length(0)),
            _ if method == "HEAD" => Self::Body(Rest::Length(0)),
            _ => Self::Body(framing(headers)?.unwrap_or(Rest::End)),
        })
    }
}

/// Returns what the fields say of the end of the body, if anything.
///
/// # Errors
/// [`Ambiguous`].
pub(crate) fn framing(headers: &[httparse::Header<'_>]) -> Result<Option<Rest>, Ambiguous> {
    let of = |name: &'static str| headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    let lengths: Vec<&str> = of("content-length").flat_map(|header| tokens(header.value)).collect();
    let codings: Vec<&str> = of("transfer-encoding").flat_map(|header| tokens(header.value)).collect();
    match (lengths.first(), codings.last()) {
        (Some(_), Some(_)) => Err(Ambiguous),
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Rest::CHUNKS)),
        (None, Some(_)) => Ok(Some(Rest::End)),
        (Some(first), None) => {
            let length = length(first.as_bytes()).filter(|_| lengths.iter().all(|length| length == first));
            length.map(|length| Some(Rest::Length(length))).ok_or(Ambiguous)
        }
        (None, None) => Ok(None),
    }
}

/// Reads a length: digits alone.
pub(crate) fn length(text: &[u8]) -> Option<u64> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    core::str::from_utf8(text).ok()?.parse().ok().filter(|_| plain)
}

/// Returns the parts of a list; of one that is not text a part that nothing is called.
pub(crate) fn tokens(value: &[u8]) -> impl Iterator<Item = &str> {
    core::str::from_utf8(value).unwrap_or("?").split(',').map(str::trim)
}
