//! What a network does with peers that speak TLS and not Adit.

use core::time::Duration;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use adit_core::{Cause, Config, frame::Encoded, frame::Kind};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, Stream, crypto::aws_lc_rs, pki_types::PrivateKeyDer,
};

use crate::rt::{
    adit::{ListenOptions, SetupError, accept, client_config, listen, server_config},
    run, unblock,
};

/// TLS-002: what comes right behind the handshake is not read either.
#[test]
fn a_peer_without_the_application_protocol_is_closed_before_its_data_is_read() {
    run(async {
        let (client, server) = configs();
        let mut without = ClientConfig::clone(&client);
        without.alpn_protocols.clear();

        let (result, answer) = talk(without, server, hello()).await;

        assert!(matches!(result, Err(SetupError::NotAdit)), "{result:?}");
        assert_eq!(answer, [], "no octet of ours");
    });
}

/// TLS-002, the other way round: the same client with the protocol is heard.
#[test]
fn a_peer_with_the_application_protocol_is_heard() {
    run(async {
        let (client, server) = configs();

        let (result, _) = talk(ClientConfig::clone(&client), server, b"no frame of ours".to_vec()).await;

        assert!(matches!(result, Err(SetupError::Closed(Cause::Violation(_)))), "{result:?}");
    });
}

/// Completes a handshake and sends `data` in the same write as the client's last flight.
async fn talk(client: ClientConfig, server: Arc<ServerConfig>, data: Vec<u8>) -> (Result<(), SetupError>, Vec<u8>) {
    let listener = listen("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
    let address = listener.local_addr().unwrap();
    let client = unblock(move || {
        let mut connection = ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        connection.write_tls(&mut socket).unwrap();
        while connection.is_handshaking() {
            connection.read_tls(&mut socket).unwrap();
            connection.process_new_packets().unwrap();
        }
        connection.writer().write_all(&data).unwrap();
        let mut last = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut last).unwrap();
        }
        socket.write_all(&last).unwrap();
        let mut answer = Vec::new();
        let _ = Stream::new(&mut connection, &mut socket).read_to_end(&mut answer);
        answer
    });
    let (stream, _) = listener.accept().await.unwrap();
    let result = accept(stream, server, Config::network(), 1).await.map(drop);
    (result, client.await)
}

fn hello() -> Vec<u8> {
    let hello = adit_core::Hello {
        versions: vec![adit_core::VERSION],
        agent: adit_core::AgentId([1; 16]),
        incarnation: 1,
        token: adit_core::Secret::new(*b"token"),
        software: "test".into(),
        metadata: String::new(),
        heartbeat: Config::agent().heartbeat,
        limits: Config::agent().limits(),
        resume: None,
        resume_window: Duration::ZERO,
        lane: 0,
    };
    let mut octets = Vec::new();
    Encoded::message(Kind::Hello, &hello).write(&mut octets);
    octets
}

pub(super) fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let client = client_config(roots, Arc::clone(&provider)).unwrap();
    let server = server_config(vec![issued.cert.der().clone()], key, provider).unwrap();
    (Arc::new(client), Arc::new(server))
}
