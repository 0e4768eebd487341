//! Either side: sockets, links, and the application on them.

use core::time::Duration;
use std::{env, sync::Arc};

use adit_core::{Config, Hello};
use rustls::{ClientConfig, pki_types::ServerName};
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use super::{
    TcpListener, TcpStream,
    app::{self, Desk},
    rt::{AgentSession, Io, accept, connect_over},
    sleep, spawn,
};
use crate::{Acts, Outcome, Say, client_tls, server_tls};

/// Runs an agent or a network.
pub(crate) async fn serve(is_agent: bool, config: Config, acts: Acts, say: Say) -> Outcome<()> {
    let desk = Desk::new(acts, Arc::clone(&say));
    if is_agent { run_agent(config, desk).await } else { run_network(config, desk, &say).await }
}

async fn run_network(config: Config, desk: Desk, say: &Say) -> Outcome<()> {
    let listener = TcpListener::bind(env::var("ADIT_ADDRESS")?).await?;
    let tls = server_tls()?;
    say(json!({ "ready": { "address": listener.local_addr()?.to_string() } }));
    let (tell, mut agents) = unbounded_channel();
    spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, config, tell) = (Arc::clone(&tls), config.clone(), tell.clone());
            spawn(async move {
                if let Ok(incoming) = accept(socket, tls, config, 1).await {
                    let _ = tell.send(incoming); // the application ends last
                }
            });
        }
    });
    if let Some(first) = agents.recv().await {
        app::network(first, agents, desk).await;
    }
    Ok(())
}

async fn run_agent(config: Config, mut desk: Desk) -> Outcome<()> {
    let tls = client_tls()?;
    let name = ServerName::try_from(env::var("ADIT_SERVER_NAME")?)?;
    let address = env::var("ADIT_ADDRESS")?;
    let hello = app::hello(&env::var("ADIT_TOKEN")?, &config);
    loop {
        let socket = TcpStream::connect(&address).await?;
        let tls = (Arc::clone(&tls), name.clone());
        if let Ok((session, mut events, _)) = connect_over(socket, tls.clone(), config.clone(), hello.clone(), 1).await
        {
            spawn(resume(session.clone(), address.clone(), tls, config.clone(), hello.clone()));
            app::agent(&session, &mut events, &mut desk).await;
        }
        sleep(Duration::from_millis(100)).await; // as a patient agent would
    }
}

/// Dials again whenever the session waits for a link.
async fn resume(
    session: AgentSession,
    address: String,
    tls: (Arc<ClientConfig>, ServerName<'static>),
    config: Config,
    hello: Hello,
) {
    while session.cause().is_none() {
        sleep(Duration::from_millis(20)).await;
        if session.is_parked()
            && let Ok(socket) = TcpStream::connect(&address).await
        {
            // Without success the session still waits, and is tried again.
            let _ = session.resume_over(Io(socket), tls.clone(), config.clone(), hello.clone(), 2).await;
        }
    }
}
