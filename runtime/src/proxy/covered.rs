//! TLS with a proxy: a transport within a transport. What it carries is in TLS with the network already.

use alloc::{sync::Arc, vec::Vec};
use core::{
    future::poll_fn,
    task::{Context, Poll, ready},
};
use std::io::{self, IoSlice, Read as _, Write};

use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use super::ProxyError;
use adit_core::driver::Transport;

/// A transport in TLS.
pub(crate) struct Covered<T> {
    io: T,
    tls: ClientConnection,
    /// Ciphertext that TLS has not taken.
    cipher: Vec<u8>,
    taken: usize,
    closed: bool,
}

impl<T> core::fmt::Debug for Covered<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Covered").finish_non_exhaustive()
    }
}

impl<T: Transport> Covered<T> {
    /// Agrees on TLS.
    ///
    /// # Errors
    /// [`ProxyError::Tls`], [`ProxyError::Closed`], [`ProxyError::Io`].
    pub(crate) async fn secure(
        io: T,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, ProxyError> {
        let tls = ClientConnection::new(config, name).map_err(ProxyError::Tls)?;
        let mut covered = Self { io, tls, cipher: Vec::new(), taken: 0, closed: false };
        poll_fn(|cx| covered.poll_handshake(cx)).await?;
        Ok(covered)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ProxyError>> {
        let failed = |error: &io::Error| ProxyError::Io(error.kind());
        loop {
            if let Err(error) = ready!(self.poll_flush(cx)) {
                return Poll::Ready(Err(failed(&error)));
            }
            if !self.tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            match self.decrypt() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    let _ = self.poll_flush(cx); // the alert, if it goes
                    return Poll::Ready(Err(ProxyError::Tls(error)));
                }
            }
            match ready!(self.poll_receive(cx)) {
                Ok(0) => return Poll::Ready(Err(ProxyError::Closed)),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(failed(&error))),
            }
        }
    }

    /// Writes the ciphertext that waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            let mut writer = Writer { io: &mut self.io, cx, blocked: false };
            match self.tls.write_tls(&mut writer) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(_) if writer.blocked => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Hands ciphertext to TLS, a part at a time: plaintext is taken out between. Returns whether there was any.
    fn decrypt(&mut self) -> Result<bool, rustls::Error> {
        let mut left = self.cipher.get(self.taken..).unwrap_or_default();
        if left.is_empty() {
            return Ok(false);
        }
        match self.tls.read_tls(&mut left) {
            Ok(count) if count > 0 => self.taken += count,
            Ok(_) | Err(_) => return Err(rustls::Error::General("no progress on input".into())),
        }
        self.tls.process_new_packets()?;
        Ok(true)
    }

    /// Waits for ciphertext; zero is the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.cipher.resize(SCRATCH, 0);
        let received = self.io.poll_read(cx, &mut self.cipher);
        let count = match &received {
            Poll::Ready(Ok(count)) => *count,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.cipher.truncate(count);
        self.taken = 0;
        if count == 0 {
            self.cipher = Vec::new(); // an idle connection keeps nothing
        }
        received
    }
}

impl<T: Transport> Transport for Covered<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            // What was taken and not written waits for nobody else to ask.
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            match self.tls.reader().read(buffer) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            if self.decrypt().map_err(invalid)? {
                continue;
            }
            // An end without close_notify as well: what is inside knows by itself whether it is whole.
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?; // one batch at most waits
        let count = self.tls.writer().write_vectored(buffers)?;
        match self.poll_flush(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !core::mem::replace(&mut self.closed, true) {
            self.tls.send_close_notify();
        }
        ready!(self.poll_flush(cx))?;
        self.io.poll_close(cx)
    }

    fn abort(&mut self) {
        self.io.abort();
    }
}

/// The transport, as TLS writes to it.
struct Writer<'a, 'c, T> {
    io: &'a mut T,
    cx: &'a mut Context<'c>,
    blocked: bool,
}

impl<T: Transport> Write for Writer<'_, '_, T> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(octets)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.io.poll_write(self.cx, buffers) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.blocked = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ciphertext that is read at once, in octets: a record.
const SCRATCH: usize = 16 << 10;
