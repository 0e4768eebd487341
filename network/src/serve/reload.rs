//! SIGHUP: everything that can change does, all or nothing; what cannot is said.

use core::net::SocketAddr;
use std::{path::Path, sync::Arc};

use rustls::crypto::CryptoProvider;
use tracing::{error, info, warn};

use super::endpoints;
use crate::{
    Edge, config::Config, endpoints::Draft, fetch::Fetcher, http::HttpEdge, ingress::Ingress, log::LogHandle,
    metrics::ReasonLabel, tls::TermsTable,
};

/// Reads the configuration again and returns what is in force from here on. No connection is dropped.
pub(super) async fn reload(
    provider: &Arc<CryptoProvider>,
    http: &HttpEdge<Edge>,
    ingress: &Ingress,
    path: &Path,
    current: Config,
    log: &LogHandle,
) -> Config {
    let edge = &ingress.edge;
    let result = |reason| edge.metrics.reloads.get_or_create(&ReasonLabel { reason }).inc();
    let new = match Config::load(path) {
        Ok(new) => new,
        Err(faults) => {
            for fault in &faults {
                error!(path = %path.display(), %fault, "the configuration is not valid: the old one stays in force");
            }
            result("refused");
            return current;
        }
    };
    let read = |loaded| Ok((loaded, Fetcher::prepare(&new.policy_fetch, new.limits)?));
    let (loaded, fetching) = match edge.certificates.read(&new).and_then(read) {
        Ok(read) => read,
        Err(fault) => {
            error!(%fault, "a certificate cannot be used: the old configuration stays in force");
            result("refused");
            return current;
        }
    };
    let draft = match Draft::read(&new, Some(&edge.endpoints.load())) {
        Ok(draft) => draft,
        Err(faults) => {
            for fault in &faults {
                error!(%fault, "a policy is not valid: the old configuration stays in force");
            }
            result("policy");
            return current;
        }
    };
    let Some(terms) = terms(&draft, edge, provider) else { return current };
    let endpoints = match endpoints::prepare(ingress, draft).await {
        Ok(endpoints) => endpoints,
        Err(fault) => {
            error!(%fault, "accounts cannot be looked up: the old configuration stays in force");
            result("refused");
            return current;
        }
    };
    if let Err(fault) = log.set_level(&new.log.level) {
        error!(%fault, "the log level cannot be set: the old configuration stays in force");
        result("refused");
        return current;
    }
    for key in needs_restart(&current, &new) {
        warn!(key, "changed, and needs a restart");
    }
    edge.certificates.replace(loaded);
    edge.certificates.retry();
    edge.terms.store(Arc::new(terms));
    edge.limits.store(Arc::new(new.limits));
    edge.proxies.store(Arc::new(new.proxies.clone()));
    http.set_limits((&new.limits).into());
    ingress.heartbeat.store(Arc::new(new.heartbeat));
    ingress.admit_to_names(&new.ingress.custom);
    if let Some(fetcher) = edge.world.fetcher() {
        fetcher.replace(fetching);
    }
    endpoints::apply(ingress, endpoints).await;
    info!("the configuration was reloaded");
    result("done");
    in_force(current, new)
}

/// Returns what is in force after a reload.
fn in_force(current: Config, new: Config) -> Config {
    // What needs a restart stays as it is, so that the next reload says so again.
    Config {
        limits: new.limits,
        policy_fetch: new.policy_fetch,
        proxies: new.proxies,
        heartbeat: new.heartbeat,
        certificates: new.certificates,
        ingress: crate::config::Ingress { listen: current.ingress.listen, ..new.ingress },
        endpoints: new.endpoints,
        drain_deadline: new.drain_deadline,
        log: crate::config::Log { level: new.log.level, ..current.log },
        ..current
    }
}

/// Makes the terms of TLS; nothing, and that is said and counted, when something of them cannot be done.
fn terms(draft: &Draft, edge: &Edge, provider: &Arc<CryptoProvider>) -> Option<TermsTable> {
    let (terms, faults) = super::terms(draft, edge, Arc::clone(provider));
    if faults.is_empty() {
        return Some(terms);
    }
    for (name, fault) in faults {
        error!(%name, %fault, "authorities cannot be used: the old configuration stays in force");
    }
    edge.metrics.reloads.get_or_create(&ReasonLabel { reason: "refused" }).inc();
    None
}

fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let keys = [
        ("node", old.node != new.node),
        ("region", old.region != new.region),
        ("domains", old.domains != new.domains),
        ("ingress.listen", old.ingress.listen != new.ingress.listen),
        ("crl.listen", listens(old) != listens(new)),
        ("http.listen", old.http != new.http),
        ("https.listen", old.https != new.https),
        ("tcp", old.tcp != new.tcp),
        ("admin.listen", old.admin != new.admin),
        ("database.path", old.database != new.database),
        ("private_ca", old.private_ca != new.private_ca),
        ("secrets", old.secrets != new.secrets),
        ("acme", old.acme != new.acme),
        ("log.format", old.log.format != new.log.format),
        ("log.access", old.log.access != new.log.access),
        ("opentelemetry", old.telemetry != new.telemetry),
        ("limits.handshake_timeout", old.limits.handshake_timeout != new.limits.handshake_timeout),
        ("limits.ingress_handshakes", old.limits.ingress_handshakes != new.limits.ingress_handshakes),
        ("limits.streams_from_agent", old.limits.streams_from_agent != new.limits.streams_from_agent),
        ("limits.upstream_connections", old.limits.upstream_connections != new.limits.upstream_connections),
        ("limits.upstream_idle_timeout", old.limits.upstream_idle_timeout != new.limits.upstream_idle_timeout),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

fn listens(config: &Config) -> &[SocketAddr] {
    config.crl.as_ref().map_or(&[], |crl| &crl.listen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_cannot_change_is_named() {
        let read = |text: &str| Config::parse(text, Path::new("/"), Default::default()).expect("valid");
        let base = "version: 1\nprivate_ca: /ca\ningress: {listen: '127.0.0.1:1'}\nhttp: {listen: '127.0.0.1:2'}\n";
        let old = read(base);
        let new = read(&base.replace("127.0.0.1:2", "127.0.0.1:3").replace("version: 1", "version: 1\nregion: eu"));

        assert_eq!(needs_restart(&old, &old), Vec::<&str>::new());
        assert_eq!(needs_restart(&old, &new), ["region", "http.listen"]);
    }
}
