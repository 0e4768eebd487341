//! TLS-ALPN-01 (RFC 8737): a CA shakes hands to see a certificate, and that is all that it gets.

use std::{io, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

/// Shows the certificate and ends the connection: nothing is read, nothing else is served.
pub(super) async fn answer<IO>(io: IO, certified: Arc<CertifiedKey>) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let provider = CryptoProvider::get_default().ok_or_else(|| io::Error::other("no provider of cryptography"))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?;
    let resolver = Arc::new(SingleCertAndKey::from(certified));
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![PROTOCOL.into()];
    TlsAcceptor::from(Arc::new(config)).accept(io).await?.shutdown().await
}

/// What the CA offers, and nothing beside it.
pub(super) const PROTOCOL: &str = "acme-tls/1";
