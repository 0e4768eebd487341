//! Sessions and their streams, with real TLS.

use std::sync::Arc;

use adit_core::{AgentId, Code, Config, Heartbeat, Hello, Limits, Open, Secret, SessionId, side, tls::ALPN};
use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};

use crate::rt::{
    AsyncReadExt, AsyncWriteExt,
    adit::{AgentSession, CHUNK, Event, Events, NetworkSession, SetupError, Stream, accept, code_of, connect_over},
    join as both, pair, run, shutdown, start,
};

struct Joined {
    agent: AgentSession,
    agent_events: Events<side::Agent>,
    network: NetworkSession,
    _network_events: Events<side::Network>,
}

fn tls(alpn: &[u8]) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let issued = rcgen::generate_simple_self_signed(["network.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).expect("a root");
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![ALPN.to_vec()];
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a key that fits");
    server.alpn_protocols = if alpn.is_empty() { vec![] } else { vec![alpn.to_vec()] };
    (Arc::new(client), Arc::new(server))
}

fn hello() -> Hello {
    Hello {
        versions: vec![],
        agent: AgentId([1; 16]),
        incarnation: 1,
        token: Secret::new(*b"token"),
        software: "test".into(),
        metadata: String::new(),
        heartbeat: Heartbeat { interval: Default::default(), tolerance: Default::default() },
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: adit_core::Duration::ZERO,
        lane: 0,
    }
}

async fn join() -> Joined {
    let (client, server) = tls(ALPN);
    let (one, other) = pair().await;
    let name = "network.test".try_into().expect("a name");
    let network = async {
        let incoming = accept(other, server, Config::network(), 1).await.expect("HELLO");
        let welcome = incoming.welcome(SessionId([3; 16]), "local", "node");
        incoming.accept(welcome)
    };
    let agent = connect_over(one, (client, name), Config::agent(), hello(), 2);
    let ((network, network_events), agent) = both(network, agent).await;
    let (agent, agent_events, welcome) = agent.expect("WELCOME");
    assert_eq!(welcome.session, SessionId([3; 16]));
    Joined { agent, agent_events, network, _network_events: network_events }
}

async fn opened(joined: &mut Joined) -> (Stream, Stream) {
    let open = Open { endpoint: "https://a.test".into(), ..Open::default() };
    let near = joined.network.open(open).expect("a stream");
    match joined.agent_events.next().await {
        Some(Event::Opened(far)) => (near, far),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_carries_octets_both_ways_and_ends_each_by_itself() {
    run(async {
        let mut joined = join().await;
        let (mut near, mut far) = opened(&mut joined).await;
        assert_eq!(far.open().map(|open| open.endpoint.as_str()), Some("https://a.test"));
        far.accept();
        near.accepted().await.expect("accepted");

        near.write_all(b"question").await.expect("written");
        shutdown(&mut near).await.expect("finished");
        let mut question = String::new();
        far.read_to_string(&mut question).await.expect("read to the end");
        far.write_all(b"answer").await.expect("written");
        shutdown(&mut far).await.expect("finished");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("read to the end");

        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
    });
}

#[test]
fn a_bulk_transfer_arrives_whole_and_unaltered() {
    run(async {
        let mut joined = join().await;
        let (mut near, mut far) = opened(&mut joined).await;
        let total: usize = 32 << 20;
        let pattern: Bytes = (0..251_u8).cycle().take(CHUNK).collect();
        let block = pattern.clone();
        let writer = start(async move {
            let mut left = total;
            while left > 0 {
                let mut data = block.slice(..block.len().min(left));
                left -= data.len();
                near.write_bytes(&mut data).await.expect("written");
            }
            near.finish().expect("finished");
            near
        });

        let mut received = 0;
        while let Some(chunk) = far.read_bytes(usize::MAX).await.expect("read") {
            let mut rest = chunk.as_ref();
            while !rest.is_empty() {
                let expected = pattern.slice(received % CHUNK..);
                let count = rest.len().min(expected.len());
                assert!(rest[..count] == expected[..count], "altered near {received}");
                received += count;
                rest = &rest[count..];
            }
        }

        assert_eq!(received, total);
        drop(writer.await);
    });
}

#[test]
fn dropping_a_stream_resets_it_at_the_other_end() {
    run(async {
        let mut joined = join().await;
        let (near, mut far) = opened(&mut joined).await;

        drop(near);

        let error = far.read(&mut [0; 8]).await.expect_err("reset");
        assert_eq!(code_of(&error), Some(Code::CANCELLED));
    });
}

#[test]
fn a_session_that_nobody_holds_closes() {
    run(async {
        let joined = join().await;
        let network = joined.network.clone();

        drop((joined.agent, joined.agent_events));

        assert!(matches!(network.closed().await, adit_core::Cause::Remote(_)));
    });
}

#[test]
fn a_server_that_does_not_speak_adit_is_told_apart() {
    run(async {
        let (client, server) = tls(b"");
        let (one, other) = pair().await;
        let name = "network.test".try_into().expect("a name");

        let network = accept(other, server, Config::network(), 1);
        let agent = connect_over(one, (client, name), Config::agent(), hello(), 2);
        let (network, agent) = both(network, agent).await;

        assert!(matches!(agent.map(drop), Err(SetupError::NotAdit)));
        assert!(matches!(network.map(drop), Err(SetupError::NotAdit)));
    });
}
