//! What one idle agent session costs the network: sessions without endpoints, opened by this process.

use core::time::Duration;
use std::{io, path::Path, sync::Arc};

use adit_tokio::{
    AgentSession, ConnectOptions, Events, client_config, connect, connect_over,
    proto::{AgentId, Config, Heartbeat, Hello, Limits, Secret, side::Agent},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{adit::Adit, idle};

/// Returns the memory of the network for each of `count` idle sessions, in octets.
pub(crate) fn per_session(adit: &Adit, count: usize) -> io::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tls = trust(&adit.ca())?;
    let before = idle::settled(|| adit.network().memory())?;
    let held = runtime.block_on(async {
        let mut held = Vec::with_capacity(count);
        for number in 0..count {
            held.push(open(adit, &tls, number as u64).await?);
        }
        // The handshakes are over; what is left to do for each session is done once both sides have been silent for a moment.
        tokio::time::sleep(Duration::from_secs(1)).await;
        io::Result::Ok(held)
    })?;
    let after = idle::settled(|| adit.network().memory())?;
    drop(held);
    #[expect(clippy::cast_precision_loss, reason = "a count of sessions")]
    Ok((after - before) / count as f64)
}

async fn open(adit: &Adit, tls: &Arc<ClientConfig>, number: u64) -> io::Result<(AgentSession, Events<Agent>)> {
    let address = adit.ingress();
    let (host, options) = (address.ip().to_string(), ConnectOptions::default());
    let stream = connect(&host, address.port(), &options).await.map_err(io::Error::other)?;
    let mut agent = [0; 16];
    agent[..8].copy_from_slice(&number.to_be_bytes());
    let hour = Duration::from_secs(3_600);
    let hello = Hello {
        versions: Vec::new(),
        agent: AgentId(agent),
        incarnation: 1,
        token: Secret::new(adit.token()),
        software: "bench-tunnel".into(),
        metadata: String::new(),
        heartbeat: Heartbeat { interval: hour, tolerance: hour },
        limits: Limits { frame: 0, window: 0, streams: 0 },
        resume: None,
        resume_window: Duration::ZERO,
        lane: 0,
    };
    let name = ServerName::from(address.ip());
    let (session, events, _) = connect_over(stream, (Arc::clone(tls), name), Config::agent(), hello, number)
        .await
        .map_err(io::Error::other)?;
    Ok((session, events))
}

fn trust(ca: &Path) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).map_err(io::Error::other)?).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    client_config(roots, provider).map(Arc::new).map_err(io::Error::other)
}
