//! The numbers that the network shows: Prometheus names begin with `adit_`, no label is unbounded.

use core::fmt;
use std::sync::Arc;

use adit_core::{Code, TlsEnd};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{Fault, config::Limits, router::Change, seeing::Traffic};

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Agent sessions that live.
    pub sessions: Gauge,
    /// Agent sessions that began.
    pub sessions_began: Counter,
    /// Agent sessions that wait for their agents.
    pub sessions_parked: Gauge,
    /// Times that a session went on over another connection.
    pub sessions_resumed: Counter,
    /// Agent sessions that waited in vain.
    pub sessions_expired: Counter,
    /// Endpoints that are bound.
    pub binds: Gauge,
    /// Endpoints that agents gave up, by the code on the wire.
    pub unbinds: Family<WireLabel, Counter>,
    /// What agents were asked to do, by what came of it.
    pub commands: Family<CommandLabel, Counter>,
    /// Endpoints that agents withhold, by the code on the wire.
    pub withheld: Family<WireLabel, Gauge>,
    /// Connections of callers that are open, by listener.
    pub connections: Family<ListenerLabel, Gauge>,
    /// Connections of callers that were accepted, by listener.
    pub accepted: Family<ListenerLabel, Counter>,
    /// Streams that were opened to agents.
    pub streams: Counter,
    /// Connections that were tried on another agent.
    pub retries: Counter,
    /// Payload from callers to upstreams on TCP and TLS endpoints.
    pub bytes_in: Counter,
    /// Payload from upstreams to callers on TCP and TLS endpoints.
    pub bytes_out: Counter,
    /// Refusals, by stable code.
    pub refused: Family<CodeLabel, Counter>,
    /// Streams that failed, by the code on the wire.
    pub stream_failures: Family<WireLabel, Counter>,
    /// Limits that were reached, by name.
    pub limits: Family<LimitLabel, Counter>,
    /// Accepts that failed, by reason.
    pub accept_errors: Family<ReasonLabel, Counter>,
    /// Handshakes of agents that came to nothing, by reason.
    pub ingress_errors: Family<ReasonLabel, Counter>,
    /// Times that an agent was to be told of revocation lists in its session, by what came of it: `sent`, `too_long`.
    pub revocations_told: Family<ReasonLabel, Counter>,
    /// Requests of policies to other servers, by result.
    pub fetches: Family<ReasonLabel, Counter>,
    /// Bodies that policies broke off, by reason.
    pub bodies_broken: Family<ReasonLabel, Counter>,
    /// Numbers about TLS of callers.
    pub tls: TlsMetrics,
    /// Reloads, by result.
    pub reloads: Family<ReasonLabel, Counter>,
    /// Numbers about the members of endpoints.
    pub pools: PoolMetrics,
    /// Tasks that panicked.
    pub panics: Counter,
    /// 1 while the database answers.
    pub store_up: Gauge,
    /// Certificates.
    pub certificates: CertificateMetrics,
    /// Lines of the access log that were lost.
    pub access_dropped: Counter,
    /// Spans, by what came of them.
    pub spans: Family<ReasonLabel, Counter>,
    /// The numbers of each endpoint and account.
    pub traffic: Arc<Traffic>,
}

/// What is known of certificates.
#[derive(Clone, Debug, Default)]
pub struct CertificateMetrics {
    /// When each ends: seconds since 1970.
    pub end: Family<CertificateLabel, Gauge>,
    /// Those near their end that were not replaced.
    pub ending: Family<ReasonLabel, Gauge>,
    /// Orders, by what came of them.
    pub orders: Family<ReasonLabel, Counter>,
    /// Names whose last order failed.
    pub failing: Gauge,
}

/// A certificate. As many as endpoints have names; beyond 20,000 they are not shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabel {
    /// For which name.
    pub name: String,
    /// Where it is from.
    pub source: &'static str,
}

/// Numbers about the members of endpoints.
#[derive(Debug, Default)]
pub struct PoolMetrics {
    /// Changes of who gets requests, by what happened.
    pub member_changes: Family<ChangeLabel, Counter>,
    /// Upstreams that were asked whether they are well, by what was found.
    pub probes: Family<ResultLabel, Counter>,
    /// Endpoints that are served or configured, by whether callers find somebody who is well.
    pub endpoints: Family<ReadyLabel, Gauge>,
    /// Whether callers find somebody who is well, of endpoints that the configuration names.
    pub endpoint_ready: Family<EndpointLabel, Gauge>,
}

impl PoolMetrics {
    fn register(registry: &mut Registry) -> Self {
        let pools = Self::default();
        let help = "Members of endpoints that were turned away or came back";
        registry.register("member_changes", help, pools.member_changes.clone());
        registry.register("probes", "Upstreams that were asked whether they are well", pools.probes.clone());
        let help = "Endpoints, by whether callers find somebody who is well";
        registry.register("endpoints", help, pools.endpoints.clone());
        let help = "1 while callers of an endpoint find somebody who is well";
        registry.register("endpoint_ready", help, pools.endpoint_ready.clone());
        pools
    }
}

/// How callers came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Entrance {
    Http,
    Https,
    Tls,
    Tcp,
}

/// The listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabel {
    /// Which.
    pub listener: Entrance,
}

/// A stable code, as `ADIT-3001`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabel {
    /// Which.
    pub code: &'static str,
}

/// A code on the wire; those that are not known are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WireLabel {
    /// Which.
    pub code: &'static str,
}

impl WireLabel {
    /// Returns the label of a code.
    pub fn of(code: Code) -> Self {
        Self { code: code.name().unwrap_or("OTHER") }
    }
}

/// A command, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CommandLabel {
    /// Which.
    pub command: &'static str,
    /// `obeyed`, the code of the answer, or why there was none.
    pub result: &'static str,
}

/// The name of a limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabel {
    /// Which.
    pub limit: &'static str,
}

/// Where TLS ends: `network`, `agent`, `upstream`, `none`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndLabel {
    /// Which.
    pub end: &'static str,
}

/// Numbers about TLS of callers.
#[derive(Debug)]
pub struct TlsMetrics {
    /// Binds, by where TLS ends.
    pub binds: Family<EndLabel, Counter>,
    /// Handshakes that began anew.
    pub full: Counter,
    /// Handshakes that went on with an earlier one.
    pub resumed: Counter,
    /// Handshakes that came to nothing, by reason.
    pub failures: Family<ReasonLabel, Counter>,
    /// Revocation lists of endpoints, by how they stand.
    pub revocation_lists: Family<StateLabel, Gauge>,
    /// Revocation lists that were read or fetched, by what came of it.
    pub revocation_reads: Family<ReasonLabel, Counter>,
}

impl TlsMetrics {
    fn register(registry: &mut Registry) -> Self {
        let (binds, failures) = (Family::default(), Family::default());
        let (full, resumed) = (Counter::default(), Counter::default());
        registry.register("binds_by_tls", "Binds by where TLS of callers ends", Family::clone(&binds));
        registry.register("tls_handshakes_full", "TLS handshakes of callers that began anew", full.clone());
        let about = "TLS handshakes of callers that went on with an earlier one";
        registry.register("tls_handshakes_resumed", about, resumed.clone());
        registry.register("tls_failures", "TLS handshakes of callers that came to nothing", Family::clone(&failures));
        let (revocation_lists, revocation_reads) = (Family::default(), Family::default());
        let about = "Revocation lists of endpoints by how they stand";
        registry.register("revocation_lists", about, Family::clone(&revocation_lists));
        let about = "Revocation lists that were read or fetched";
        registry.register("revocation_reads", about, Family::clone(&revocation_reads));
        Self { binds, full, resumed, failures, revocation_lists, revocation_reads }
    }
}

/// How something stands, out of a few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    /// Which.
    pub state: &'static str,
}

/// A reason out of a few.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// Which.
    pub reason: &'static str,
}

/// What happened to a member of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ChangeLabel {
    /// Which.
    pub change: &'static str,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    /// Which.
    pub result: &'static str,
}

/// Whether an endpoint is ready.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReadyLabel {
    /// `true` or `false`.
    pub ready: &'static str,
}

/// An endpoint that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndpointLabel {
    /// Its URL.
    pub endpoint: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes and registers them.
    #[expect(clippy::too_many_lines, reason = "a line or two a metric")]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("adit");
        macro_rules! register {
            ($($name:literal, $help:literal;)+) => {
                ($({
                    let metric = Default::default();
                    registry.register($name, $help, Clone::clone(&metric));
                    metric
                },)+)
            };
        }
        let (bytes_in, bytes_out): (Counter, Counter) = Default::default();
        registry.register_with_unit("received", "Payload from callers, TCP and TLS", Unit::Bytes, bytes_in.clone());
        registry.register_with_unit("sent", "Payload to callers, TCP and TLS", Unit::Bytes, bytes_out.clone());
        let (sessions_parked, sessions_resumed, sessions_expired) = register! {
            "sessions_parked", "Agent sessions that wait for their agents";
            "sessions_resumed", "Times that a session went on over another connection";
            "sessions_expired", "Agent sessions that waited in vain";
        };
        let (sessions, sessions_began, binds, connections, accepted, streams, retries) = register! {
            "sessions", "Agent sessions that live";
            "sessions_began", "Agent sessions that began";
            "binds", "Endpoints that are bound";
            "connections", "Connections of callers that are open";
            "connections_accepted", "Connections of callers that were accepted";
            "streams", "Streams that were opened to agents";
            "retries", "Connections that were tried on another agent";
        };
        let (refused, stream_failures, limits, accept_errors, ingress_errors, reloads, panics, store_up) = register! {
            "refused", "Refusals by stable code";
            "stream_failures", "Streams that failed, by the code on the wire";
            "limits_reached", "Limits that were reached";
            "accept_errors", "Accepts that failed";
            "ingress_errors", "Handshakes of agents that came to nothing";
            "reloads", "Reloads of the configuration";
            "panics", "Tasks that panicked";
            "store_up", "1 while the database answers";
        };
        let (revocations_told, fetches, bodies_broken) = register! {
            "revocations_told", "Revocation lists for agents in their sessions: sent, too long";
            "policy_fetches", "Requests of policies to other servers";
            "policy_bodies_broken", "Bodies that policies broke off";
        };
        let (access_dropped, spans, unbinds, commands, withheld) = register! {
            "access_log_dropped", "Lines of the access log that were lost";
            "spans", "Spans by what came of them: exported, refused, failed, dropped";
            "unbinds", "Endpoints that agents gave up, by the reason that they said";
            "commands", "What agents were asked to do, by what came of it";
            "endpoints_withheld", "Endpoints that agents do not ask for although their configurations name them, by the reason that they say";
        };
        let traffic = Arc::new(Traffic::new(Limits::default().labelled_endpoints));
        registry.register_collector(Box::new(Arc::clone(&traffic)));
        Self {
            certificates: CertificateMetrics::register(&mut registry),
            pools: PoolMetrics::register(&mut registry),
            tls: TlsMetrics::register(&mut registry),
            access_dropped,
            spans,
            traffic,
            sessions,
            sessions_began,
            sessions_parked,
            sessions_resumed,
            sessions_expired,
            binds,
            unbinds,
            commands,
            withheld,
            connections,
            accepted,
            streams,
            retries,
            bytes_in,
            bytes_out,
            refused,
            stream_failures,
            limits,
            accept_errors,
            ingress_errors,
            revocations_told,
            fetches,
            bodies_broken,
            reloads,
            panics,
            store_up,
            registry,
        }
    }

    /// Counts a refusal.
    pub fn refuse(&self, fault: Fault) {
        self.refused.get_or_create(&CodeLabel { code: fault.code() }).inc();
    }

    /// Counts a limit that was reached.
    pub fn limit(&self, limit: &'static str) {
        self.limits.get_or_create(&LimitLabel { limit }).inc();
    }

    /// Counts what a probe found.
    pub fn probed(&self, well: bool) {
        let result = if well { "well" } else { "unwell" };
        self.pools.probes.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts what changed about a member.
    pub fn member_change(&self, change: Change) {
        let change = match change {
            Change::Away(_) => "away",
            Change::Back => "back",
            Change::Well => "well",
            Change::Unwell => "unwell",
        };
        self.pools.member_changes.get_or_create(&ChangeLabel { change }).inc();
    }

    /// Counts a bind by where TLS of callers ends.
    pub fn tls_end(&self, end: TlsEnd) {
        let end = if end == TlsEnd::Unsaid { "none" } else { end.word() };
        self.tls.binds.get_or_create(&EndLabel { end }).inc();
    }

    /// Counts a handshake of a caller.
    pub fn handshake(&self, resumed: bool) {
        if resumed { &self.tls.resumed } else { &self.tls.full }.inc();
    }

    /// Counts an endpoint that an agent gave up. Codes that are not known are one: an agent cannot make labels.
    pub fn unbind(&self, code: Code) {
        self.unbinds.get_or_create(&WireLabel::of(code)).inc();
    }

    /// Counts a stream that failed.
    pub fn stream_failure(&self, code: Code) {
        self.stream_failures.get_or_create(&WireLabel::of(code)).inc();
    }

    /// Counts a connection that is open until the result is dropped.
    pub fn connection(&self, listener: Entrance) -> Counted {
        let label = ListenerLabel { listener };
        self.accepted.get_or_create(&label).inc();
        let gauge = self.connections.get_or_create(&label).clone();
        gauge.inc();
        Counted(gauge)
    }

    /// Returns all of them as OpenMetrics text.
    ///
    /// # Errors
    /// Never: a `String` takes every text.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl CertificateMetrics {
    fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        let help = "When a certificate ends, since 1970";
        registry.register_with_unit("certificate_not_after", help, Unit::Seconds, all.end.clone());
        registry.register(
            "certificates_ending",
            "Certificates near their end that were not replaced",
            all.ending.clone(),
        );
        registry.register("certificate_orders", "Orders of certificates by what came of them", all.orders.clone());
        let help = "Names whose last order of a certificate failed";
        registry.register("certificate_orders_failing", help, all.failing.clone());
        all
    }
}

/// Something that is counted while it is there.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// Counts one more of `gauge` until dropped.
    pub fn count(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_metric() {
        let page = include_str!("../../docs/operations.md");
        for line in Metrics::new().text().unwrap().lines().filter_map(|line| line.strip_prefix("# HELP ")) {
            let (name, about) = line.split_once(' ').unwrap();
            let named = |row: &str| row.starts_with(&format!("| `{name}")) && row.contains(about.trim_end_matches('.'));
            assert!(page.lines().any(named), "docs/operations.md has no row for {line}");
        }
    }

    #[test]
    fn the_text_has_names_units_and_codes() {
        let metrics = Metrics::new();
        metrics.refuse(Fault::EndpointUnknown);
        metrics.limit("connections_per_source");
        metrics.stream_failure(Code(0x2fe));
        (0x300..0x400).for_each(|number| metrics.unbind(Code(number)));
        metrics.unbind(Code::DISALLOWED);
        metrics.bytes_in.inc_by(7);
        let open = metrics.connection(Entrance::Tcp);

        let text = metrics.text().unwrap();
        for line in [
            "adit_refused_total{code=\"ADIT-3001\"} 1",
            "adit_limits_reached_total{limit=\"connections_per_source\"} 1",
            "adit_stream_failures_total{code=\"OTHER\"} 1",
            "adit_unbinds_total{code=\"OTHER\"} 256",
            "adit_unbinds_total{code=\"DISALLOWED\"} 1",
            "adit_received_bytes_total 7",
            "adit_connections{listener=\"Tcp\"} 1",
            "adit_sessions 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(open);
        assert!(metrics.text().unwrap().contains("adit_connections{listener=\"Tcp\"} 0"));
    }
}
