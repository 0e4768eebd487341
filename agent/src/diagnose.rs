//! What stands between this agent and its work: each step to the network but the session, each upstream, the clock.

mod clock;
mod report;

use core::time::Duration;
use std::{
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use adit_core::{Cause, Secret};
use adit_tokio::{DialError, Probe, SetupError, Step, StepResult, StepTaken, Target};
use rustls::{crypto::CryptoProvider, pki_types::ServerName};
use tokio::sync::Semaphore;

use crate::{
    acme::{self, Desk},
    capture::base64,
    clock::utc,
    config::{AcmeConfig, AgentConfig, Config, EndpointConfig, TerminationConfig, Token, token},
    errors::{Error, Fault},
    policy::{self, Guard, Protocol},
    route::Route,
    termination::{Nearness, Pair},
    trust::{NetworkTls, describe},
    update::Updater,
    upstream::Upstream,
};

use report::Check;
pub(crate) use report::Report;

/// Looks at everything, one after the other; no token is shown and no session asked for.
///
/// # Errors
/// [`Fault::NetworkUnknown`], [`Fault::RootsUnusable`]: there is nothing to look at.
pub(crate) async fn diagnose(
    config: &Config,
    guard: &Arc<Guard>,
    provider: &Arc<CryptoProvider>,
) -> Result<Report, Error> {
    if config.agent.targets.is_empty() {
        return Err(Fault::NetworkUnknown.into());
    }
    let network = NetworkTls::new(&config.agent, provider)?;
    let route = Route::new(&config.agent, provider)?;
    let mut report = Report::new(config);
    if let Some(why) = guard.frozen() {
        let error = Error::new(Fault::Frozen, why);
        report.add(Check::new("policy", "this agent").warned(error, Duration::ZERO));
    }
    let token = credentials(&config.agent.token, &mut report.secrets);
    report.add(token);
    if let Some(credentials) = config.agent.proxy.as_ref().and_then(|found| found.proxy.credentials.as_ref()) {
        let pair = [credentials.user.as_bytes(), b":", credentials.password.expose()].concat();
        report.secrets.push(Secret::new(base64(&pair))); // as it is sent
        report.secrets.push(credentials.password.clone());
    }
    for target in &config.agent.targets {
        let name = config.agent.server_name.clone().and_then(|name| ServerName::try_from(name).ok());
        let tls = (Arc::clone(&network.config), name);
        let mut probe = adit_tokio::probe(target, &route.connect, tls.clone(), HANDSHAKE).await;
        if network.revocation.is_pending() {
            network.revocation.fetch_wanted(&route).await;
            probe = adit_tokio::probe(target, &route.connect, tls, HANDSHAKE).await;
        }
        let explain = |error| not_a_network(&probe).unwrap_or_else(|| route.explain(error, &network, provider));
        let error = probe.error.as_ref().map(explain);
        report.extend(steps(target, &probe, error.as_ref(), &route));
        report.add(revocation(target, &probe, error.as_ref(), &network));
        report.add(compare_clock(target, &probe, error.as_ref(), &network));
    }
    if config.agent.update.is_some() {
        report.add(releases(&config.agent, guard, provider).await);
    }
    let desk = Desk::new(route, Arc::clone(guard), Arc::clone(provider), Arc::default());
    for endpoint in &config.endpoints {
        report.add(upstream(endpoint, guard, provider).await);
        if let Some(termination) = &endpoint.termination
            && let Some(acme) = &termination.acme
        {
            report.add(authority(acme, &desk).await);
            report.add(certificate(endpoint, termination, provider));
        }
    }
    Ok(report)
}

/// Asks whether certificates could be ordered: what the configuration names, the policy, the way, the directory.
async fn authority(acme: &AcmeConfig, desk: &Arc<Desk>) -> Check {
    let check = Check::new("acme", &format!("{} ({})", acme.directory, acme.name));
    let start = Instant::now();
    let looked = match acme::check(acme, desk.provider()) {
        Ok(()) => acme::look(acme, desk).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok(found) => check.done(found, start.elapsed()),
        Err(error) => check.failed(error, start.elapsed()),
    }
}

/// Says how the certificate stands that was ordered.
fn certificate(endpoint: &EndpointConfig, termination: &TerminationConfig, provider: &CryptoProvider) -> Check {
    let check = Check::new("certificate", &format!("{} ({})", termination.certificate.display(), endpoint.name));
    if !termination.certificate.exists() {
        return check.skipped("none was ordered yet");
    }
    match Pair::load(&termination.certificate, &termination.key, provider) {
        Ok(pair) => {
            let until = utc(pair.facts.until);
            let ending = Error::new(Fault::CertificateUnusable, format!("valid until {until}, and not renewed"));
            match pair.facts.nearness() {
                Nearness::Far => check.done(format!("valid until {until}"), Duration::ZERO),
                Nearness::Near => check.warned(ending, Duration::ZERO),
                Nearness::Over => check.failed(ending, Duration::ZERO),
            }
        }
        Err(error) => check.failed(error, Duration::ZERO),
    }
}

/// Looks whether there is a token, and remembers it so that nothing tells it.
fn credentials(source: &Token, secrets: &mut Vec<Secret>) -> Check {
    let check = Check::new("authtoken", "this agent");
    if *source == Token::StandardInput {
        return check.skipped("it comes from standard input");
    }
    let start = Instant::now();
    match token(source) {
        Ok(token) => {
            secrets.push(token);
            check.done("there is one; it was not shown to anybody".to_owned(), start.elapsed())
        }
        Err(error) => check.failed(error, start.elapsed()),
    }
}

/// Tells the steps to a network, those that were not reached as well.
fn steps(target: &Target, probe: &Probe, error: Option<&Error>, route: &Route) -> Vec<Check> {
    let subject = format!("{}:{}", target.host, target.port);
    let through = route.connect.proxy.as_ref().is_some_and(|proxy| proxy.carries(&target.host, target.port));
    let mut checks = Vec::new();
    for name in ["dns", "tcp", "proxy", "tls", "protocol"] {
        let check = Check::new(name, &subject);
        let taken = probe.steps.iter().find(|taken| taken.step.word() == name);
        // What agrees on TLS and not on the protocol is a network of something else.
        let is_other = error.is_some_and(|error| error.fault == Fault::NotAdit);
        let tls = probe.steps.iter().find(|taken| taken.step.word() == "tls");
        checks.push(match (taken, error) {
            (Some(StepTaken { took, result: StepResult::Done(found), .. }), _) if name == "protocol" => {
                check.done(format!("{found}; nothing was said about who asks"), *took)
            }
            (Some(StepTaken { took, result: StepResult::Done(found), .. }), _) => check.done(found.clone(), *took),
            (Some(StepTaken { took, .. }), _) if name == "tls" && is_other => {
                check.done("something answered, see `protocol`".to_owned(), *took)
            }
            (Some(StepTaken { took, .. }), Some(error)) => check.failed(error.clone(), *took),
            (None, Some(error)) if name == "protocol" && is_other && tls.is_some() => {
                check.failed(error.clone(), tls.map_or(Duration::ZERO, |taken| taken.took))
            }
            (None, _) if name == "proxy" && !through => check.skipped("none is used for this network"),
            (None, _) if name == "dns" && probe.steps.iter().any(|taken| taken.step.word() == "tcp") => {
                check.skipped("an address stands there: no name is resolved here")
            }
            (..) => check.skipped("not reached"),
        });
    }
    // A dial that failed before its first step has nothing else that says so.
    if let (Some(error), true) = (error, probe.steps.is_empty()) {
        checks.insert(0, Check::new("network", &subject).failed(error.clone(), Duration::ZERO));
    }
    checks
}

/// Says so where TLS came to its end with somebody who then does not answer as a network does, whatever stands between.
#[expect(clippy::wildcard_enum_match_arm, reason = "a network that says no is one")]
fn not_a_network(probe: &Probe) -> Option<Error> {
    let asked = probe.steps.last().is_some_and(|taken| taken.step == Step::Ask);
    let Some(DialError::Setup(error)) = probe.error.as_ref().filter(|_| asked) else { return None };
    let answer = match error {
        SetupError::Closed(Cause::Violation(_)) => "what it answered is something else",
        SetupError::Closed(Cause::HandshakeTimeout) => "it answered nothing in 10 s",
        SetupError::Closed(Cause::Eof { .. }) | SetupError::Io(_) | SetupError::Tls(_) => "it left without an answer",
        _ => return None,
    };
    Some(Error::new(Fault::NotAdit, format!("it agreed on TLS and on adit/1, was asked in it, and {answer}")))
}

/// Says whether the network's certificate is revoked, as far as the configuration wants to know.
fn revocation(target: &Target, probe: &Probe, error: Option<&Error>, network: &NetworkTls) -> Check {
    let check = Check::new("crl", &format!("{}:{}", target.host, target.port));
    let secured = probe.steps.iter().any(|taken| taken.step == Step::Ask);
    match error {
        None => check.done(network.revocation.told(), Duration::ZERO),
        Some(_) if secured => check.done(network.revocation.told(), Duration::ZERO),
        Some(error) if matches!(error.fault, Fault::CertificateRevoked | Fault::RevocationUnknown) => {
            check.failed(error.clone(), Duration::ZERO)
        }
        Some(_) => check.skipped("no certificate was seen that it could be asked of"),
    }
}

/// Compares this machine's clock with what was said of the time on the way here. Whether the system keeps its clock in step is told where
/// it says so.
fn compare_clock(target: &Target, probe: &Probe, error: Option<&Error>, network: &NetworkTls) -> Check {
    let check = Check::new("clock", &format!("{}:{}", target.host, target.port));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let kept = if Path::new(SYNCHRONIZED).exists() { "; the system says that it keeps its clock in step" } else { "" };
    let mut times = network.revocation.times();
    let shown = probe.certificates.first().and_then(|certificate| describe(certificate));
    times.certificate = shown.map(|shown| (shown.not_before, shown.not_after)).or(times.certificate);
    clock::told(check, clock::judge(now, &times), error, kept)
}

/// Fetches what the vendor has signed as the newest version, where that may be looked for. Without it the agent does its work.
async fn releases(agent: &AgentConfig, guard: &Arc<Guard>, provider: &Arc<CryptoProvider>) -> Check {
    let start = Instant::now();
    let updater = match Updater::new(agent, None, None, provider) {
        Ok(updater) => updater,
        Err(error) => return Check::new("releases", "this agent").warned(error, Duration::ZERO),
    };
    let check = Check::new("releases", &updater.shown());
    if !guard.updates().check {
        return check.skipped("the policy does not let newer versions be looked for");
    }
    match updater.newest().await {
        Ok(release) => check.done(format!("version {} is signed as the newest", release.version), start.elapsed()),
        Err(error) => check.warned(error, start.elapsed()),
    }
}

/// Connects to an upstream as a caller's connection would, under the policy, and goes.
async fn upstream(endpoint: &EndpointConfig, guard: &Arc<Guard>, provider: &Arc<CryptoProvider>) -> Check {
    let subject = format!("{} ({})", endpoint.upstream.address, endpoint.name);
    let check = Check::new("upstream", &subject);
    let start = Instant::now();
    let target = policy::Target {
        endpoint: endpoint.url.clone(),
        upstream: endpoint.upstream.address.clone(),
        protocol: Protocol::of(endpoint),
    };
    let ticket = match guard.admit(Arc::new(target)) {
        Ok(ticket) => ticket,
        Err(refusal) => {
            let error = Error::new(Fault::PolicyRefused, refusal.to_string());
            return check.failed(error, start.elapsed());
        }
    };
    let connected = match Upstream::new(endpoint, provider) {
        Ok(upstream) => upstream.connect(&Semaphore::new(1), &ticket).await.map_err(|failure| failure.error),
        Err(error) => Err(error),
    };
    match connected {
        Ok(socket) => {
            socket.abort(); // nothing was said
            let tls = if endpoint.upstream.tls.is_some() { ", in TLS" } else { "" };
            check.done(format!("it takes connections{tls}"), start.elapsed())
        }
        Err(error) => check.failed(error, start.elapsed()),
    }
}

/// How long TLS with a network may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// There while the system's own service has the time from others.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::*;
    use crate::{errors::Exit, testing};

    /// A proxy that says this when it refuses.
    fn parrot(says: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                let _ = socket.read(&mut [0; 4_096]).unwrap(); // a request is one segment on loopback
                write!(socket, "HTTP/1.1 500 {says}\r\n\r\n").unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn neither_the_token_nor_the_proxy_s_password_stands_in_a_report_whoever_repeats_them() {
        let port = parrot("hunter2hunter2 tok3n-of-the-agent Basic Y3VzdG9tZXI6aHVudGVyMmh1bnRlcjI=");
        let folder = testing::folder("diagnose");
        std::fs::write(folder.join("ca.pem"), testing::root_pem()).unwrap();
        let config = testing::config(&format!(
            "version: 1\nagent:\n  connect_url: node.example.com\n  authtoken: tok3n-of-the-agent\n  connect_cas: {}\n  \
             proxy_url: 'http://customer:hunter2hunter2@127.0.0.1:{port}'\n",
            folder.join("ca.pem").display()
        ));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());

        let report = diagnose(&config, &Guard::new(), &provider).await.unwrap();

        for text in [report.text(), report.json()] {
            assert!(text.contains("500 (redacted) (redacted) Basic (redacted)"), "what it said is told: {text}");
            for secret in ["hunter2hunter2", "tok3n-of-the-agent", "Y3VzdG9tZXI6aHVudGVyMmh1bnRlcjI="] {
                assert!(!text.contains(secret), "{secret}: {text}");
            }
        }
        assert_eq!(report.exit(), Exit::Unreachable);
    }
}
