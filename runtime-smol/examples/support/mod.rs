//! The network's half of the examples, as small as it can be; a real one is `adit-network`.

use core::{error::Error, net::SocketAddr};
use std::sync::Arc;

use adit_smol::{
    Event, Incoming, Intake, ListenOptions, Stream, accept, client_config, listen,
    proto::{Config, Open, SessionId},
    server_config,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use smol::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

/// Listens for agents and for callers, and lends every caller a stream to the one endpoint that is bound.
pub(crate) async fn network(tls: Arc<ServerConfig>) -> Result<(SocketAddr, SocketAddr), Box<dyn Error>> {
    let options = ListenOptions::default();
    let listener = listen("127.0.0.1:0".parse()?, &options)?;
    let agents = listener.local_addr()?;
    let callers = TcpListener::bind("127.0.0.1:0").await?;
    let address = callers.local_addr()?;
    let mut intake: Intake<Incoming> = Intake::new(listener, options, move |tcp, _| {
        let tls = Arc::clone(&tls);
        async move { accept(tcp, tls, Config::network(), 1).await.ok() }
    });
    smol::spawn(async move {
        let incoming = intake.next().await?;
        let welcome = incoming.welcome(SessionId([1; 16]), "here", "node");
        let (session, mut events) = incoming.accept(welcome);
        let Some(Event::Bind(request)) = events.next().await else { return None };
        let open = Open { bind: Some(request.bind().id), ..Open::default() };
        let url = request.bind().url.clone();
        session.bound(request, &url);
        while let Ok((caller, from)) = callers.accept().await {
            let stream = session.open(Open { caller: Some(from), ..open.clone() }).ok()?;
            smol::spawn(join(stream, caller)).detach();
        }
        Some(())
    })
    .detach();
    Ok((agents, address))
}

/// Carries octets between a stream and a socket until both directions have ended.
pub(crate) async fn join(stream: Stream, tcp: TcpStream) {
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

/// Sends octets to an address and returns all that comes back.
pub(crate) async fn call(address: SocketAddr, octets: &[u8]) -> Result<String, Box<dyn Error>> {
    let mut tcp = TcpStream::connect(address).await?;
    tcp.write_all(octets).await?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await?;
    Ok(answer)
}

pub(crate) fn tls() -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), Box<dyn Error>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone())?;
    let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let server = server_config(vec![issued.cert.der().clone()], key, Arc::clone(&provider))?;
    Ok((Arc::new(client_config(roots, provider)?), Arc::new(server)))
}
