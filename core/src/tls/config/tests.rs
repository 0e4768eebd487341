use alloc::string::String;

use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConnection, ServerConnection, crypto::aws_lc_rs};

use super::*;

/// TLS-003: without a ticket there is nothing to send early data with, and none is accepted.
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

/// TLS-002
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

/// TLS-001
#[test]
fn a_client_of_an_older_version_is_refused_by_an_alert() {
    let (_, server) = configs();
    let mut server = ServerConnection::new(server).unwrap();

    server.read_tls(&mut &*hello_of_tls_1_2()).unwrap();
    let error = server.process_new_packets().unwrap_err();

    assert!(matches!(error, rustls::Error::PeerIncompatible(_)), "{error:?}");
    let mut answer = Vec::new();
    server.write_tls(&mut answer).unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70], "fatal alert protocol_version");
}

/// A ClientHello as TLS 1.2 has it: no extension names a version.
fn hello_of_tls_1_2() -> Vec<u8> {
    let extensions: &[&[u8]] = &[
        &[0, 10, 0, 4, 0, 2, 0, 23],      // groups: secp256r1
        &[0, 11, 0, 2, 1, 0],             // point formats: uncompressed
        &[0, 13, 0, 6, 0, 4, 4, 3, 8, 4], // signatures: ecdsa with SHA-256, RSA-PSS with SHA-256
        &[0, 23, 0, 0],                   // extended master secret
        &[0xff, 1, 0, 1, 0],              // renegotiation info
    ];
    let extensions = extensions.concat();
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]); // no session; ECDHE-ECDSA with AES-128-GCM; no compression
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([String::from("network.example")]).unwrap().self_signed(&key).unwrap();
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
