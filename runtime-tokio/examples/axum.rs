//! A web application whose only way in is a tunnel: `cargo run -p adit-tokio --example axum --features axum`.
//!
//! The agent's half is what an application needs: an [`Uplink`], an endpoint, `axum::serve`. The network's half stands
//! below, as small as it can be; a real one is `adit-network`.

use core::{error::Error, net::SocketAddr, time::Duration};
use std::sync::Arc;

use adit_tokio::{
    Caller, ConnectOptions, Event, Incoming, Intake, ListenOptions, Serve, Target, Uplink, UplinkEvent, UplinkOptions,
    accept, client_config, listen,
    proto::{AgentId, Bind, BindId, Config, Open, ReconnectPolicy, Secret, SessionId, UpstreamProtocol},
    server_config,
};
use axum::{Router, extract::ConnectInfo, routing::get};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (client, server) = tls()?;
    let (agents, callers) = network(server).await?;

    let (uplink, mut events) = Uplink::start(options(agents, client));
    let endpoint = uplink.bind(wish("http://app.example"));
    while let Some(event) = events.next().await {
        if let UplinkEvent::Bound { url, .. } = event {
            println!("bound: {url}");
            break;
        }
    }
    let app = Router::new().route("/", get(hello)).into_make_service_with_connect_info::<Caller>();
    let serving = tokio::spawn(async move { axum::serve(Serve(endpoint), app).await });

    println!("a caller on {callers} hears: {}", call(callers).await?);

    uplink.shutdown(Duration::from_secs(5)).await;
    serving.abort();
    Ok(())
}

async fn hello(ConnectInfo(caller): ConnectInfo<Caller>) -> String {
    match caller.address {
        Some(address) => format!("hello, {}, through the tunnel", address.ip()),
        None => "hello, whoever you are".into(),
    }
}

fn options(agents: SocketAddr, tls: Arc<ClientConfig>) -> UplinkOptions {
    UplinkOptions {
        targets: vec![Target { host: "localhost".into(), port: agents.port() }],
        tls,
        server_name: None,
        config: Config::agent(),
        token: Secret::new(*b"a token"),
        agent: AgentId([7; 16]),
        software: "example".into(),
        metadata: String::new(),
        connect: ConnectOptions::default(),
        reconnect: ReconnectPolicy::default(),
        sessions: 1,
    }
}

fn wish(url: &str) -> Bind {
    Bind {
        id: BindId(0),
        url: url.into(),
        pooling: false,
        upstream_protocol: UpstreamProtocol::Http1,
        name: "app".into(),
        description: String::new(),
        metadata: String::new(),
        tls_end: Default::default(),
    }
}

/// Listens for agents and for callers, and lends every caller a stream to the one endpoint that is bound.
async fn network(tls: Arc<ServerConfig>) -> Result<(SocketAddr, SocketAddr), Box<dyn Error>> {
    let options = ListenOptions::default();
    let listener = listen("127.0.0.1:0".parse()?, &options)?;
    let agents = listener.local_addr()?;
    let callers = TcpListener::bind("127.0.0.1:0").await?;
    let address = callers.local_addr()?;
    let mut intake: Intake<Incoming> = Intake::new(listener, options, move |stream, _| {
        let tls = Arc::clone(&tls);
        async move { accept(stream, tls, Config::network(), 1).await.ok() }
    });
    tokio::spawn(async move {
        let incoming = intake.next().await?;
        let welcome = incoming.welcome(SessionId([1; 16]), "here", "node");
        let (session, mut events) = incoming.accept(welcome);
        let Some(Event::Bind(request)) = events.next().await else { return None };
        let open = Open { bind: Some(request.bind().id), ..Open::default() };
        let url = request.bind().url.clone();
        session.bound(request, &url);
        while let Ok((mut caller, from)) = callers.accept().await {
            let mut stream = session.open(Open { caller: Some(from), ..open.clone() }).ok()?;
            tokio::spawn(async move { copy_bidirectional(&mut caller, &mut stream).await });
        }
        Some(())
    });
    Ok((agents, address))
}

async fn call(callers: SocketAddr) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(callers).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n").await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (_, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
    Ok(body.to_owned())
}

fn tls() -> Result<(Arc<ClientConfig>, Arc<ServerConfig>), Box<dyn Error>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone())?;
    let key = PrivateKeyDer::Pkcs8(issued.signing_key.serialize_der().into());
    let server = server_config(vec![issued.cert.der().clone()], key, Arc::clone(&provider))?;
    Ok((Arc::new(client_config(roots, provider)?), Arc::new(server)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_runs() {
        super::main().expect("every part of it is in this process");
    }
}
