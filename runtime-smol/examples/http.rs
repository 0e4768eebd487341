//! A web application whose only way in is a tunnel: `cargo run -p adit-smol --example http`.
//!
//! The agent's half is what an application needs: an [`Uplink`], an endpoint, and hyper on each stream of it.

mod support;

use core::{convert::Infallible, error::Error, net::SocketAddr, time::Duration};
use std::sync::Arc;

use adit_smol::{
    ConnectOptions, Endpoint, Target, Uplink, UplinkEvent, UplinkOptions,
    proto::{AgentId, Bind, BindId, Config, ReconnectPolicy, Secret, UpstreamProtocol},
};
use hyper::{Response, server::conn::http1, service::service_fn};
use rustls::ClientConfig;
use smol_hyper::rt::FuturesIo;
use support::{call, network, tls};

fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(async {
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
        let serving = smol::spawn(serve(endpoint));

        let request = b"GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n";
        let response = call(callers, request).await?;
        let (_, body) = response.split_once("\r\n\r\n").ok_or("no response")?;
        println!("a caller on {callers} hears: {body}");

        uplink.shutdown(Duration::from_secs(5)).await;
        serving.await;
        Ok(())
    })
}

/// Serves every connection of the endpoint until the uplink is over.
async fn serve(mut endpoint: Endpoint) {
    while let Some(stream) = endpoint.accept().await {
        stream.accept();
        let caller = stream.open().and_then(|open| open.caller);
        let hello = service_fn(move |_| async move {
            let body = match caller {
                Some(address) => format!("hello, {}, through the tunnel", address.ip()),
                None => "hello, whoever you are".into(),
            };
            Ok::<_, Infallible>(Response::new(body))
        });
        let connection = http1::Builder::new().serve_connection(FuturesIo::new(stream), hello);
        smol::spawn(async move { drop(connection.await) }).detach(); // a caller that errs is its own affair
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_runs() {
        super::main().expect("every part of it is in this process");
    }
}
