//! TLS as sessions use it: version 1.3 only, one application protocol, nothing early, nothing remembered.
//!
//! The cryptography is the caller's choice and is passed in; nothing is installed for the process.

use alloc::{sync::Arc, vec, vec::Vec};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::NoServerSessionStorage,
    version::TLS13,
};

use super::ALPN;

/// Returns the configuration of a dialing side that trusts `roots`.
///
/// # Errors
/// [`rustls::Error`] when the provider cannot do TLS 1.3.
pub fn client_config(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    Ok(finish_client(builder.with_root_certificates(roots).with_no_client_auth()))
}

/// Returns the configuration of a dialing side that trusts whom `verifier` trusts: dangerous if that is everybody.
///
/// # Errors
/// [`rustls::Error`] when the provider cannot do TLS 1.3.
pub fn danger_client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    Ok(finish_client(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// Returns the configuration of a listening side with one certificate chain, the end entity first.
///
/// # Errors
/// [`rustls::Error`] when the provider cannot do TLS 1.3, or key and certificate do not fit.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()]; // spec: TLS-002
    // A session lives for hours: a resumed handshake saves little, and a ticket is a key kept in memory.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0; // spec: TLS-003
    Ok(config)
}

fn finish_client(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()]; // spec: TLS-002
    // Each link verifies the certificate anew: one that was replaced or has expired is noticed.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false; // spec: TLS-003
    config
}

#[cfg(test)]
mod tests;
