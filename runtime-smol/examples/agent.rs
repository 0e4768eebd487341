//! An agent for one service: `cargo run -p adit-smol --example agent -- NETWORK:PORT CA.pem TOKEN URL UPSTREAM:PORT`.
//!
//! It dials the network, binds the URL and carries each connection to the upstream, over whatever reconnects it takes.

#[cfg(test)]
mod support;

use core::{error::Error, net::SocketAddr};
use std::{env, sync::Arc};

use adit_smol::{
    ConnectOptions, Stream, Target, Uplink, UplinkEvent, UplinkOptions, client_config,
    proto::{AgentId, Bind, BindId, Code, Config, ReconnectPolicy, Secret, UpstreamProtocol},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use smol::{
    io::{AsyncWriteExt, copy},
    net::TcpStream,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [network, authority, token, url, upstream] = arguments.as_slice() else {
        return Err("usage: agent NETWORK:PORT CA.pem TOKEN URL UPSTREAM:PORT".into());
    };
    let (host, port) = network.rsplit_once(':').ok_or("NETWORK:PORT has no port")?;
    let target = Target { host: host.to_owned(), port: port.parse()? };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority)? {
        roots.add(certificate?)?;
    }
    let tls = Arc::new(client_config(roots, Arc::new(aws_lc_rs::default_provider()))?);
    smol::block_on(run(target, tls, token, url, upstream.parse()?));
    Ok(())
}

/// Runs until the uplink gives up: credentials that are refused, or a version that is not spoken.
async fn run(target: Target, tls: Arc<ClientConfig>, token: &str, url: &str, upstream: SocketAddr) {
    let (uplink, mut events) = Uplink::start(UplinkOptions {
        targets: vec![target],
        tls,
        server_name: None,
        config: Config::agent(),
        token: Secret::new(token.as_bytes().to_vec()),
        agent: AgentId([7; 16]), // a real agent keeps a random one, so that it takes over from its own ghost
        software: "example-agent".into(),
        metadata: String::new(),
        connect: ConnectOptions::default(),
        reconnect: ReconnectPolicy::default(),
        sessions: 1,
    });
    let mut endpoint = uplink.bind(Bind {
        id: BindId(0),
        url: url.into(),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: "service".into(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    });
    smol::spawn(async move {
        while let Some(stream) = endpoint.accept().await {
            smol::spawn(carry(stream, upstream)).detach();
        }
    })
    .detach();
    while let Some(event) = events.next().await {
        match event {
            UplinkEvent::Connected { remote, .. } => println!("connected to {remote}"),
            UplinkEvent::Bound { url, .. } => println!("bound: {url}"),
            UplinkEvent::Suspended { cause, .. } => println!("connection lost, streams wait: {cause}"),
            UplinkEvent::Resumed { remote, .. } => println!("the session goes on over {remote}"),
            UplinkEvent::Disconnected { cause, .. } => println!("session lost: {cause}"),
            UplinkEvent::DialFailed { error, .. } => println!("no session: {error}"),
            UplinkEvent::Rejected { refusal, .. } | UplinkEvent::Unbound { refusal, .. } => {
                println!("not bound: {} {}", refusal.code, refusal.text);
            }
            UplinkEvent::GaveUp { reason } => println!("gave up: {reason:?}"),
            UplinkEvent::Command { .. } => {}     // dropped, the reply says no
            UplinkEvent::Revocations { .. } => {} // this program trusts whom it trusts
            UplinkEvent::Dialing { .. } | UplinkEvent::Draining { .. } => {}
        }
    }
}

/// Dials the upstream and carries octets until both directions have ended.
async fn carry(stream: Stream, upstream: SocketAddr) {
    let Ok(tcp) = TcpStream::connect(upstream).await else {
        return stream.abort(Code::UPSTREAM_REFUSED);
    };
    stream.accept();
    let (mut from_stream, mut to_stream) = stream.into_split();
    let (mut from_tcp, mut to_tcp) = (tcp.clone(), tcp);
    let up = async {
        copy(&mut from_tcp, &mut to_stream).await?;
        to_stream.close().await
    };
    let down = async {
        copy(&mut from_stream, &mut to_tcp).await?;
        to_tcp.close().await
    };
    // An error ends both: what is dropped is reset, and the other side learns of it.
    let _ = smol::future::try_zip(up, down).await;
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::{Target, run, support};

    #[test]
    fn a_caller_reaches_the_upstream() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let upstream = listener.local_addr().expect("bound");
        let served = thread::spawn(move || {
            let (mut tcp, _) = listener.accept().expect("a connection");
            let mut question = [0; 8];
            tcp.read_exact(&mut question).expect("a question");
            tcp.write_all(b"answer").expect("a caller");
            question
        });
        let answer = smol::block_on(async {
            let (client, server) = support::tls().expect("certificates");
            let (agents, callers) = support::network(server).await.expect("ports");
            let target = Target { host: "localhost".into(), port: agents.port() };
            let agent = run(target, client, "a token", "tcp://:7", upstream);
            let call = async { Some(support::call(callers, b"question").await.expect("an answer")) };
            smol::future::or(call, async {
                agent.await;
                None
            })
            .await
        });

        assert_eq!(answer.as_deref(), Some("answer"));
        assert_eq!(&served.join().expect("no panic"), b"question");
    }
}
