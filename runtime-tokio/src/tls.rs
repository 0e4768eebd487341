//! TLS as sessions use it: version 1.3 only, one application protocol, nothing early, nothing remembered.
//!
//! The cryptography is the caller's choice and is passed in; nothing is installed for the process.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::NoServerSessionStorage,
    version::TLS13,
};

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

const ALPN: &[u8] = b"adit/1";

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::{ClientConnection, ServerConnection, crypto::aws_lc_rs};

    use super::*;

    #[test]
    fn two_sides_agree_on_tls_1_3_and_the_protocol_and_remember_nothing() {
        let (client, server) = configs();
        let name = "network.example".try_into().unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(server).unwrap();

        shake(&mut client, &mut server);

        assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert_eq!(client.alpn_protocol(), Some(ALPN));
        assert_eq!(server.alpn_protocol(), Some(ALPN));
        assert_eq!(client.tls13_tickets_received(), 0);
        assert!(client.early_data().is_none());
    }

    #[test]
    fn a_side_that_speaks_something_else_is_refused() {
        let (client, server) = configs();
        let mut other = ClientConfig::clone(&client);
        other.alpn_protocols = vec![b"h2".to_vec()];
        let mut client = ClientConnection::new(Arc::new(other), "network.example".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(server).unwrap();

        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        server.read_tls(&mut &*hello).unwrap();

        assert_eq!(server.process_new_packets().unwrap_err(), rustls::Error::NoApplicationProtocol);
    }

    fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["network.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let client = client_config(roots, Arc::clone(&provider)).unwrap();
        let server = server_config(vec![certificate.der().clone()], key, provider).unwrap();
        (Arc::new(client), Arc::new(server))
    }

    fn shake(client: &mut ClientConnection, server: &mut ServerConnection) {
        while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &*wire).unwrap();
            server.process_new_packets().unwrap();
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &*wire).unwrap();
            client.process_new_packets().unwrap();
        }
    }
}
