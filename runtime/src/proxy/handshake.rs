//! A proxy is asked for a way: octets in, octets out, no IO.

use alloc::vec::Vec;

use super::{Buffers, MAX_REPLY, Proxy, ProxyError, ProxyProtocol, http::Http, socks::Socks};

/// The talk with a proxy until the way is open.
///
/// Write what [`Self::poll_output`] gives, hand what arrives to [`Self::handle_input`], until [`Self::is_done`]. The proxy's part is
/// bounded: 16 KiB, and what it says beyond what it was asked for is an error, because the network speaks only after the agent did.
#[derive(Debug)]
pub struct Handshake {
    talk: Talk,
    buffers: Buffers,
    heard: usize,
    done: bool,
}

#[derive(Debug)]
enum Talk {
    Http(Http),
    Socks(Socks),
}

/// What follows from input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More input is needed.
    More,
    /// Something was understood, and the rest may be as well.
    Again,
    /// The way is open.
    Done,
}

impl Handshake {
    /// Begins to ask `proxy` for a way to `host` at `port`.
    ///
    /// # Errors
    /// [`ProxyError::Name`].
    pub fn new(proxy: &Proxy, host: &str, port: u16) -> Result<Self, ProxyError> {
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if host.is_empty() || host.len() > MAX_HOST || !host.bytes().all(fine) {
            return Err(ProxyError::Name); // nothing of it may end the request or begin another
        }
        let mut buffers = Buffers::default();
        let credentials = proxy.credentials.as_ref();
        let talk = match proxy.protocol {
            ProxyProtocol::Http | ProxyProtocol::Https => {
                Talk::Http(Http::new(host, port, credentials, &mut buffers.output))
            }
            ProxyProtocol::Socks5 => Talk::Socks(Socks::new(host, port, credentials, &mut buffers.output)?),
        };
        Ok(Self { talk, buffers, heard: 0, done: false })
    }

    /// Returns what is to be written, once.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        (!self.buffers.output.is_empty()).then(|| core::mem::take(&mut self.buffers.output))
    }

    /// Takes octets of the proxy; none is the end of the connection.
    ///
    /// # Errors
    /// [`ProxyError`]: the connection is of no use.
    pub fn handle_input(&mut self, octets: &[u8]) -> Result<(), ProxyError> {
        if self.done {
            return if octets.is_empty() { Ok(()) } else { Err(ProxyError::Early) };
        }
        if octets.is_empty() {
            return Err(ProxyError::Closed);
        }
        self.heard = self.heard.saturating_add(octets.len());
        self.buffers.input.extend_from_slice(octets.get(..MAX_REPLY).unwrap_or(octets));
        loop {
            let step = match &mut self.talk {
                Talk::Http(http) => http.step(&mut self.buffers)?,
                Talk::Socks(socks) => socks.step(&mut self.buffers)?,
            };
            match step {
                Step::Again => {}
                Step::More if self.heard > MAX_REPLY => {
                    return Err(ProxyError::NotAProxy { what: "its answer has no end" });
                }
                Step::More => return Ok(()),
                Step::Done => {
                    self.done = true;
                    return if self.buffers.input.is_empty() { Ok(()) } else { Err(ProxyError::Early) };
                }
            }
        }
    }

    /// Returns whether the way is open.
    pub const fn is_done(&self) -> bool {
        self.done
    }
}

/// A name is not longer, in octets.
const MAX_HOST: usize = 253;

#[cfg(test)]
mod tests;
