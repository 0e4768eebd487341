//! The numbers of each endpoint and each account. As many as the operator allows have labels of their own, first come, first served; the
//! others are counted together. No caller makes a label: only endpoints that somebody has bound or set have any.

use core::{
    fmt,
    hash::Hash,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};
use tokio::time::Instant;

use crate::{Fault, router::Key};

/// All of them.
#[derive(Debug)]
pub struct Traffic {
    endpoints: Table<Key, Owner>,
    accounts: Table<i64, ()>,
    names: RwLock<HashMap<i64, Arc<str>>>,
}

/// The numbers of one endpoint.
#[derive(Clone, Debug)]
pub struct Numbers {
    /// Its own, or those of all that have none of their own.
    endpoint: Arc<Count>,
    account: Arc<Count>,
}

/// What is there once for each label.
#[derive(Debug)]
struct Table<K, O> {
    most: AtomicUsize,
    labelled: RwLock<HashMap<K, Labelled<O>>>,
    others: Arc<Count>,
}

#[derive(Debug)]
struct Labelled<O> {
    count: Arc<Count>,
    owner: O,
    /// When it was last there.
    seen: Instant,
}

/// Whose an endpoint is.
#[derive(Debug)]
struct Owner {
    account: i64,
    count: Arc<Count>,
}

/// What is counted under one label.
#[derive(Debug)]
struct Count {
    account: Arc<str>,
    endpoint: Arc<str>,
    requests: [AtomicU64; 5],
    /// One for each of [`BUCKETS`], and one for what takes longer.
    durations: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    open: AtomicU64,
    connections: AtomicU64,
    retries: AtomicU64,
    refused: Box<[AtomicU64]>,
    verdicts: RwLock<Vec<(&'static str, AtomicU64)>>,
}

/// Something open at an endpoint, until dropped.
#[derive(Debug)]
pub struct Open(Numbers);

impl Traffic {
    /// Returns numbers for `most` endpoints, and as many accounts.
    pub fn new(most: usize) -> Self {
        Self { endpoints: Table::new(most), accounts: Table::new(most), names: RwLock::default() }
    }

    /// Changes how many have labels of their own; those that have them keep them.
    pub fn set_most(&self, most: usize) {
        self.endpoints.most.store(most, Relaxed);
        self.accounts.most.store(most, Relaxed);
    }

    /// Notes what an account is called.
    pub fn name(&self, account: i64, name: &str) {
        let known = self.names.read().get(&account).is_some_and(|known| **known == *name);
        if !known {
            self.names.write().insert(account, name.into());
        }
    }

    /// Returns what an account is called.
    pub fn name_of(&self, account: i64) -> Arc<str> {
        self.names.read().get(&account).cloned().unwrap_or_else(|| format!("#{account}").into())
    }

    /// Returns the numbers of an endpoint. `account` tells whose it is, if anybody knows; it is asked when the endpoint is new here.
    pub fn of(&self, key: &Key, account: impl FnOnce() -> Option<i64>) -> Numbers {
        if let Some(labelled) = self.endpoints.labelled.read().get(key) {
            return Numbers { endpoint: Arc::clone(&labelled.count), account: Arc::clone(&labelled.owner.count) };
        }
        let Some(account) = account() else {
            return Numbers {
                endpoint: Arc::clone(&self.endpoints.others),
                account: Arc::clone(&self.accounts.others),
            };
        };
        let name = self.name_of(account);
        let own = self.accounts.of(&account, || (Count::new(Arc::clone(&name), "".into()), ()));
        let owner = Owner { account, count: Arc::clone(&own) };
        let endpoint = self.endpoints.of(key, || (Count::new(name, key.to_string().into()), owner));
        Numbers { endpoint, account: own }
    }

    /// Takes away the labels of what has been gone for an hour; `lives` tells what is there.
    pub fn sweep(&self, lives: impl Fn(&Key) -> bool, now: Instant) {
        self.endpoints.sweep(lives, now);
        let owners: HashSet<i64> =
            self.endpoints.labelled.read().values().map(|labelled| labelled.owner.account).collect();
        self.accounts.sweep(|account| owners.contains(account), now);
    }
}

impl<K: Clone + Eq + Hash, O> Table<K, O> {
    fn new(most: usize) -> Self {
        let others = Arc::new(Count::new("other".into(), "other".into()));
        Self { most: AtomicUsize::new(most), labelled: RwLock::default(), others }
    }

    fn of(&self, key: &K, new: impl FnOnce() -> (Count, O)) -> Arc<Count> {
        let labelled = self.labelled.read();
        if let Some(labelled) = labelled.get(key) {
            return Arc::clone(&labelled.count);
        }
        if labelled.len() >= self.most.load(Relaxed) {
            return Arc::clone(&self.others); // without a turn at writing: there may be many of these
        }
        drop(labelled);
        let mut labelled = self.labelled.write();
        if labelled.len() >= self.most.load(Relaxed) && !labelled.contains_key(key) {
            return Arc::clone(&self.others);
        }
        let entry = labelled.entry(key.clone()).or_insert_with(|| {
            let (count, owner) = new();
            Labelled { count: Arc::new(count), owner, seen: Instant::now() }
        });
        Arc::clone(&entry.count)
    }

    fn sweep(&self, lives: impl Fn(&K) -> bool, now: Instant) {
        self.labelled.write().retain(|key, labelled| {
            if lives(key) || labelled.count.open.load(Relaxed) > 0 {
                labelled.seen = now;
            }
            now < labelled.seen + GONE
        });
    }

    /// Returns what there is to show.
    fn counts(&self) -> Vec<Arc<Count>> {
        let labelled = self.labelled.read();
        let mut counts: Vec<_> = labelled.values().map(|labelled| Arc::clone(&labelled.count)).collect();
        counts.push(Arc::clone(&self.others));
        counts
    }
}

impl Numbers {
    /// Counts something open until the result is dropped.
    pub fn open(&self) -> Open {
        self.each(|count| {
            count.open.fetch_add(1, Relaxed);
            count.connections.fetch_add(1, Relaxed);
        });
        Open(self.clone())
    }

    /// Counts a request that is over.
    pub fn request(&self, status: u16, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|most| micros <= most * 1_000).unwrap_or(BUCKETS.len());
        self.each(|count| {
            let class = usize::from((status / 100).clamp(1, 5)) - 1;
            count.requests.get(class).map(|class| class.fetch_add(1, Relaxed));
            count.durations.get(bucket).map(|bucket| bucket.fetch_add(1, Relaxed));
            count.micros.fetch_add(micros, Relaxed);
        });
    }

    /// Counts payload from callers, and to them.
    pub fn octets(&self, received: u64, sent: u64) {
        self.each(|count| {
            count.received.fetch_add(received, Relaxed);
            count.sent.fetch_add(sent, Relaxed);
        });
    }

    /// Counts a refusal.
    pub fn refuse(&self, fault: Fault) {
        self.each(|count| {
            count.refused.get(fault as usize).map(|refused| refused.fetch_add(1, Relaxed));
        });
    }

    /// Counts what was tried again.
    pub fn retry(&self, times: u64) {
        self.each(|count| {
            count.retries.fetch_add(times, Relaxed);
        });
    }

    /// Counts an action of a policy that had its say.
    pub fn verdict(&self, action: &'static str) {
        self.each(|count| count.verdict(action));
    }

    /// Returns the name of the account, nothing when the endpoint has no label of its own.
    pub fn account(&self) -> &Arc<str> {
        &self.account.account
    }

    fn each(&self, count: impl Fn(&Count)) {
        count(&self.endpoint);
        count(&self.account);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.each(|count| {
            count.open.fetch_sub(1, Relaxed);
        });
    }
}

impl Count {
    fn new(account: Arc<str>, endpoint: Arc<str>) -> Self {
        Self {
            account,
            endpoint,
            requests: Default::default(),
            durations: Default::default(),
            micros: AtomicU64::default(),
            received: AtomicU64::default(),
            sent: AtomicU64::default(),
            open: AtomicU64::default(),
            connections: AtomicU64::default(),
            retries: AtomicU64::default(),
            refused: Fault::ALL.iter().map(|_| AtomicU64::default()).collect(),
            verdicts: RwLock::default(),
        }
    }

    /// The actions are few and known when the program is built.
    fn verdict(&self, action: &'static str) {
        let add = |verdicts: &[(&'static str, AtomicU64)]| {
            let found = verdicts.iter().find(|(known, _)| *known == action);
            found.map(|(_, count)| count.fetch_add(1, Relaxed)).is_some()
        };
        if !add(&self.verdicts.read()) {
            let mut verdicts = self.verdicts.write();
            if !add(&verdicts) {
                verdicts.push((action, AtomicU64::new(1)));
            }
        }
    }
}

impl Collector for Traffic {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let endpoint =
            |count: &Count| vec![("account", Arc::clone(&count.account)), ("endpoint", Arc::clone(&count.endpoint))];
        let account = |count: &Count| vec![("account", Arc::clone(&count.account))];
        show(&mut encoder, "endpoint", &self.endpoints.counts(), endpoint)?;
        show(&mut encoder, "account", &self.accounts.counts(), account)
    }
}

/// One of the counters that have no label of their own.
struct Total(fn(&Count) -> &AtomicU64);

type Labels = Vec<(&'static str, Arc<str>)>;

/// Writes every family for all of `counts`. What was never counted has no line, but for what is one line anyway.
fn show(
    encoder: &mut DescriptorEncoder<'_>,
    of: &str,
    counts: &[Arc<Count>],
    labels: impl Fn(&Count) -> Labels,
) -> Result<(), fmt::Error> {
    let name = |what: &str| format!("{of}_{what}");
    let (requests, durations, received, sent) =
        (name("requests"), name("request_duration"), name("received"), name("sent"));
    let (open, connections, retries, refused, verdicts) =
        (name("open"), name("connections"), name("retries"), name("refused"), name("policy_actions"));

    let mut family = encoder.encode_descriptor(&requests, "Requests by class of status", None, MetricType::Counter)?;
    for count in counts {
        for (class, value) in CLASSES.iter().zip(&count.requests) {
            counter(&mut family, labels(count), Some(("status", class)), value)?;
        }
    }
    let about = "From the first octet of a request to the last of its answer";
    let mut family = encoder.encode_descriptor(&durations, about, Some(&Unit::Seconds), MetricType::Histogram)?;
    for count in counts {
        histogram(&mut family, &labels(count), count)?;
    }
    let totals = [
        (&received, "Payload from callers", Some(&Unit::Bytes), Total(|count| &count.received)),
        (&sent, "Payload to callers", Some(&Unit::Bytes), Total(|count| &count.sent)),
        (&connections, "Connections, and requests of HTTP, that began", None, Total(|count| &count.connections)),
        (&retries, "What was tried again, on another connection or agent", None, Total(|count| &count.retries)),
    ];
    for (name, about, unit, Total(value)) in totals {
        let mut family = encoder.encode_descriptor(name, about, unit, MetricType::Counter)?;
        for count in counts {
            counter(&mut family, labels(count), None, value(count))?;
        }
    }
    let about = "Connections, and requests of HTTP, that are open";
    let mut family = encoder.encode_descriptor(&open, about, None, MetricType::Gauge)?;
    for count in counts {
        family.encode_family(&labels(count))?.encode_gauge(&count.open.load(Relaxed))?;
    }
    let mut family = encoder.encode_descriptor(&refused, "Refusals by stable code", None, MetricType::Counter)?;
    for count in counts {
        for (fault, value) in Fault::ALL.iter().zip(&count.refused) {
            counter(&mut family, labels(count), Some(("code", fault.code())), value)?;
        }
    }
    let about = "Actions of policies that had their say";
    let mut family = encoder.encode_descriptor(&verdicts, about, None, MetricType::Counter)?;
    for count in counts {
        for (action, value) in count.verdicts.read().iter() {
            counter(&mut family, labels(count), Some(("action", action)), value)?;
        }
    }
    Ok(())
}

fn counter(
    family: &mut MetricEncoder<'_>,
    mut labels: Labels,
    more: Option<(&'static str, &'static str)>,
    value: &AtomicU64,
) -> Result<(), fmt::Error> {
    let value = value.load(Relaxed);
    if value == 0 {
        return Ok(());
    }
    labels.extend(more.map(|(name, value)| (name, value.into())));
    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn histogram(family: &mut MetricEncoder<'_>, labels: &Labels, count: &Count) -> Result<(), fmt::Error> {
    let counts: Vec<u64> = count.durations.iter().map(|bucket| bucket.load(Relaxed)).collect();
    let all = counts.iter().sum();
    if all == 0 {
        return Ok(());
    }
    let edges = BUCKETS.iter().map(|millis| Duration::from_millis(*millis).as_secs_f64()).chain([f64::INFINITY]);
    let buckets: Vec<_> = edges.zip(counts).collect();
    let sum = Duration::from_micros(count.micros.load(Relaxed)).as_secs_f64();
    family.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, all, &buckets, None)
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// The upper edges of the buckets, in milliseconds: few, because each endpoint has them all.
const BUCKETS: [u64; 7] = [10, 50, 100, 500, 1_000, 5_000, 30_000];
/// A label stays for so long after what it names is gone.
const GONE: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    #[test]
    fn each_endpoint_and_account_has_its_numbers() {
        let traffic = Arc::new(Traffic::new(10));
        traffic.name(7, "a\"c\\me\n");
        let numbers = traffic.of(&key("crm"), || Some(7));
        let open = numbers.open();
        numbers.request(404, Duration::from_millis(60));
        numbers.request(200, Duration::from_millis(40));
        numbers.octets(3, 5);
        numbers.refuse(Fault::NoAgent);
        numbers.retry(2);
        numbers.verdict("deny");

        let shown = text(&traffic);

        let labels = "account=\"a\\\"c\\\\me\\n\",endpoint=\"https://crm.example.com\"";
        for line in [
            format!("adit_endpoint_requests_total{{{labels},status=\"4xx\"}} 1"),
            format!("adit_endpoint_request_duration_seconds_bucket{{le=\"0.05\",{labels}}} 1"),
            format!("adit_endpoint_request_duration_seconds_bucket{{le=\"+Inf\",{labels}}} 2"),
            format!("adit_endpoint_request_duration_seconds_sum{{{labels}}} 0.1"),
            format!("adit_endpoint_received_bytes_total{{{labels}}} 3"),
            format!("adit_endpoint_sent_bytes_total{{{labels}}} 5"),
            format!("adit_endpoint_open{{{labels}}} 1"),
            format!("adit_endpoint_connections_total{{{labels}}} 1"),
            format!("adit_endpoint_refused_total{{{labels},code=\"ADIT-3002\"}} 1"),
            format!("adit_endpoint_retries_total{{{labels}}} 2"),
            format!("adit_endpoint_policy_actions_total{{{labels},action=\"deny\"}} 1"),
            "adit_account_requests_total{account=\"a\\\"c\\\\me\\n\",status=\"2xx\"} 1".to_owned(),
        ] {
            assert!(shown.contains(&format!("{line}\n")), "{line} is not in\n{shown}");
        }
        drop(open);
        assert!(text(&traffic).contains(&format!("adit_endpoint_open{{{labels}}} 0\n")));
    }

    #[test]
    fn ten_thousand_endpoints_are_shown_in_eight_mebibytes() {
        let traffic = Arc::new(Traffic::new(1_000));
        for n in 0..10_000 {
            let numbers = traffic.of(&key(&format!("{}{n}", "x".repeat(58))), || Some(n));
            for status in [101, 200, 304, 404, 502] {
                numbers.request(status, Duration::from_secs(60));
            }
            numbers.octets(u64::MAX / 20_000, u64::MAX / 20_000);
            numbers.refuse(Fault::NoAgent);
            numbers.refuse(Fault::UpstreamClosed);
            numbers.verdict("deny");
            numbers.retry(1);
        }

        let shown = text(&traffic);

        assert!(shown.len() < 8 << 20, "{} octets", shown.len());
        let lines = shown.lines().filter(|line| line.starts_with("adit_endpoint_requests_total{")).count();
        assert_eq!(lines, 1_001 * 5);
        let others = "adit_endpoint_requests_total{account=\"other\",endpoint=\"other\",status=\"2xx\"} 9000";
        assert!(shown.contains(others));
    }

    #[tokio::test(start_paused = true)]
    async fn a_label_goes_an_hour_after_its_endpoint_and_makes_room() {
        let traffic = Arc::new(Traffic::new(1));
        let labelled = |name: &str| {
            let numbers = traffic.of(&key(name), || Some(1));
            *numbers.endpoint.endpoint == *format!("https://{name}.example.com")
        };
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        assert!(labelled("one") && !labelled("two"));

        traffic.sweep(|_| true, start + minute);
        traffic.sweep(|_| false, start + minute * 60);
        assert!(!labelled("two"), "59 minutes are no hour");
        let open = traffic.of(&key("one"), || None).open();
        traffic.sweep(|_| false, start + minute * 100);
        assert!(!labelled("two"), "something is open");
        drop(open);
        traffic.sweep(|_| false, start + minute * 160);

        assert!(labelled("two"));
    }

    #[test]
    fn an_endpoint_that_nobody_has_makes_no_label() {
        let traffic = Arc::new(Traffic::new(10));

        traffic.of(&key("made-up"), || None).request(404, Duration::ZERO);

        let shown = text(&traffic);
        assert!(!shown.contains("made-up") && shown.contains("endpoint=\"other\",status=\"4xx\"} 1"), "{shown}");
    }

    fn key(name: &str) -> Key {
        Key::parse(&format!("https://{name}.example.com")).unwrap()
    }

    fn text(traffic: &Arc<Traffic>) -> String {
        let mut registry = Registry::with_prefix("adit");
        registry.register_collector(Box::new(Arc::clone(traffic)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }
}
