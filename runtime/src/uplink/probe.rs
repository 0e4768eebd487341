//! A look at a network: every step to it but the session, and a question that says nothing about who asks.

use alloc::{borrow::ToOwned as _, boxed::Box, format, string::String, sync::Arc, vec::Vec};
use core::{future::poll_fn, net::SocketAddr, time::Duration};

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, ServerName},
};

use super::{DialError, Target};
use crate::{
    ConnectOptions, Runtime, SetupError, Step, StepResult, StepTaken, proxy::reach_told, steps::Steps, timer::within,
};
use adit_core::{
    Cause,
    driver::{Transport as _, ask, secure},
    tls::Tls,
};

/// What a look at a network found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Probe {
    /// The steps until there.
    pub steps: Vec<StepTaken>,
    /// The address that was dialed: of the network, or of the proxy before it.
    pub remote: Option<SocketAddr>,
    /// The certificates that the network showed, its own first; none when they were refused.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Why it is of no use, if it is not.
    pub error: Option<DialError>,
}

/// Connects to a network, agrees on TLS, asks which versions of the protocol it speaks, and goes: no token is shown and no session asked
/// for, and the network takes it for no failure of anybody (PRE-012).
///
/// Without a `name` the network's certificate must have that of the target. TLS may take `limit`, and the answer as long again.
pub async fn probe<R: Runtime>(
    target: &Target,
    connect: &ConnectOptions,
    tls: (Arc<ClientConfig>, Option<ServerName<'static>>),
    limit: Duration,
) -> Probe {
    run::<R>(target, connect, tls, (limit, true)).await
}

/// Connects to a network, agrees on TLS, and goes without a word: what is part of every handshake is all that it is for.
///
/// Without a `name` the network's certificate must have that of the target. TLS may take `limit`.
pub async fn greet<R: Runtime>(
    target: &Target,
    connect: &ConnectOptions,
    tls: (Arc<ClientConfig>, Option<ServerName<'static>>),
    limit: Duration,
) -> Probe {
    run::<R>(target, connect, tls, (limit, false)).await
}

async fn run<R: Runtime>(
    target: &Target,
    connect: &ConnectOptions,
    tls: (Arc<ClientConfig>, Option<ServerName<'static>>),
    limit: (Duration, bool),
) -> Probe {
    let steps = Steps::default();
    let mut probe = Probe { steps: Vec::new(), remote: None, certificates: Vec::new(), error: None };
    let looked = Box::pin(look::<R>(target, connect, tls, limit, (&steps, &mut probe))).await;
    probe.error = looked.err();
    probe.steps = steps.take(StepResult::Failed);
    probe
}

async fn look<R: Runtime>(
    target: &Target,
    connect: &ConnectOptions,
    (tls, name): (Arc<ClientConfig>, Option<ServerName<'static>>),
    (limit, asks): (Duration, bool),
    (steps, probe): (&Steps, &mut Probe),
) -> Result<(), DialError> {
    let name = name.map_or_else(|| target.server_name(), Ok)?;
    let (mut path, remote) =
        reach_told::<R>(&target.host, target.port, connect, steps).await.map_err(DialError::Connect)?;
    probe.remote = Some(remote);
    steps.begin(Step::Secure);
    let mut tls = Tls::client(tls, name).map_err(|error| DialError::Setup(SetupError::Tls(error)))?;
    let secured = within::<R, _>(limit, secure(&mut path, &mut tls)).await;
    let certificates = tls.connection().peer_certificates().unwrap_or_default();
    probe.certificates = certificates.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let late = || DialError::Setup(SetupError::Closed(Cause::HandshakeTimeout));
    secured.ok_or_else(late)?.map_err(|failure| DialError::Setup(failure.into()))?;
    steps.done("TLS 1.3, adit/1".into());
    if asks {
        steps.begin(Step::Ask);
        let asked = within::<R, _>(limit, ask(&mut path, &mut tls)).await;
        let inquiry = asked.ok_or_else(late)?.map_err(|failure| DialError::Setup(failure.into()))?;
        let answer = inquiry.answer().cloned().unwrap_or(Err(Cause::Eof { clean: false }));
        let versions = answer.map_err(|cause| DialError::Setup(SetupError::Closed(cause)))?;
        let versions: Vec<String> = versions.iter().map(|version| format!("{version}")).collect();
        steps.done(format!("it speaks version {}", versions.join(", ")));
    }
    let _ = within::<R, _>(CLOSING, poll_fn(|cx| path.poll_close(cx))).await; // it goes in any case
    Ok(())
}

impl Target {
    /// Returns the name that the certificate of whoever is there must have.
    pub(super) fn server_name(&self) -> Result<ServerName<'static>, DialError> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        ServerName::try_from(host.to_owned()).map_err(|_| DialError::Name { host: self.host.clone() })
    }
}

/// How long the end of a connection may take.
const CLOSING: Duration = Duration::from_secs(1);
