//! `bench-policy`: what a policy costs a request, and how long an address is looked for in a long list.
//!
//! Times are processor time of one thread. A request is as a browser sends it; a rule asks for one or two things of it and does not match, but for
//! the last one, which adds a header. Rounds take turns.

use core::{hint::black_box, net::IpAddr};
use std::{process::ExitCode, sync::Arc, time::Instant};

use adit_benches::{
    clock,
    report::{Figure, Goal, Report},
};
use adit_policy::{
    addresses::Addresses,
    cel::Timestamp,
    document::Document,
    engine::{Carried, Now, Outcome, Policy, Step, Subject},
    environment::{Connection, Endpoint, Phase},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::new(false);
    let policies = [1, 10, 100].map(|count| (count, policy(&rules(count))));
    let restrict = policy(&restriction());
    let addresses = Addresses::parse(&networks()).expect("networks");
    let callers = callers();

    let mut times = [(); 3].map(|()| Vec::new());
    let (mut lookups, mut restricted) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for ((_, policy), times) in policies.iter().zip(&mut times) {
            times.push(requests(policy));
        }
        lookups.push(each(callers.len(), || {
            for caller in &callers {
                black_box(addresses.contains(*black_box(caller)));
            }
        }));
        restricted.push(requests(&restrict));
    }
    for ((count, _), times) in policies.iter().zip(times) {
        let goal = if *count == 100 { Goal::AtMost(20_000.0) } else { Goal::None };
        report.add(Figure::alone(&format!("policy: a request, rules: {count}"), times, "ns", goal));
    }
    report.add(Figure::alone("policy: an address in 100,000 networks", lookups, "ns", Goal::AtMost(200.0)));
    report.add(Figure::alone("policy: a request, restrict-ips of 100,000", restricted, "ns", Goal::None));
    report.finish(arguments.into_iter())
}

/// Returns the nanoseconds that each of `count` things takes.
fn each(count: usize, work: impl FnOnce()) -> f64 {
    clock::of_thread(work).as_secs_f64() * 1e9 / count as f64
}

/// Returns the nanoseconds that a request takes, with the making of its facts and all.
fn requests(policy: &Arc<Policy>) -> f64 {
    let now = Now { time: Timestamp::new(1_700_000_000, 0).expect("in range"), instant: Instant::now() };
    let [client, server] = ["198.51.100.7:40000", "192.0.2.1:443"].map(|text| text.parse().expect("an address"));
    let connection = Connection::new(client, server, now.time, None);
    let endpoint = Endpoint { id: "ep_1", protocol: "https", host: "crm.example.com", port: 443 };
    let heads: Vec<_> = (0..REQUESTS).map(|_| head()).collect();
    each(REQUESTS, || {
        for mut head in heads {
            let mut subject = Subject::new(&connection, endpoint).with_request(&mut head, now.time);
            let mut run = policy.begin(Phase::HttpRequest, Carried::default());
            let step = run.step(&mut subject, now, None);
            assert!(matches!(step, Step::Done(Outcome::Continue)), "{step:?}");
            black_box((run, head));
        }
    })
}

fn head() -> http::request::Parts {
    let request = http::Request::get("https://crm.example.com/api/v2/customers/4711/orders?page=2&sort=date")
        .header("host", "crm.example.com")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0")
        .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
        .header("accept-language", "de,en-US;q=0.7,en;q=0.3")
        .header("accept-encoding", "gzip, deflate, br, zstd")
        .header("cookie", "session=0123456789abcdef0123456789abcdef; theme=dark")
        .header("x-team", "sales")
        .header("sec-fetch-dest", "document")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-site", "same-origin")
        .header("referer", "https://crm.example.com/customers");
    request.body(()).expect("a request").into_parts().0
}

fn policy(text: &str) -> Arc<Policy> {
    let document = Document::parse(text).unwrap_or_else(|problems| panic!("{}", problems[0]));
    Arc::new(Policy::new(document))
}

/// Writes that many rules: the last one adds a header, those before it are of five kinds.
fn rules(count: usize) -> String {
    let rule = |at: usize| match at % 5 {
        0 => format!("req.url.path.startsWith('/admin/{at}')"),
        1 => format!("getReqHeader('X-Team').exists(team, team == 'team-{at}')"),
        2 => format!("inCidrRange(conn.client_ip, '10.{at}.0.0/16')"),
        3 => format!("req.method == 'GET' && req.url.path.matches('^/api/v{at}/[a-z]+$')"),
        _ => format!("hasQueryParam('debug-{at}') || req.headers['user-agent'][0].contains('curl/{at}')"),
    };
    let rules: String =
        (1..count).map(|at| format!("  - {{expressions: [\"{}\"], actions: [{{type: deny}}]}}\n", rule(at))).collect();
    format!(
        "on_http_request:\n{rules}  - actions: [{{type: add-headers, config: {{headers: {{x-from: \"${{conn.client_ip}}\"}}}}}}]\n"
    )
}

fn restriction() -> String {
    let networks: String = networks().iter().map(|network| format!("            - {network}\n")).collect();
    format!(
        "on_http_request:\n  - actions:\n      - type: restrict-ips\n        config:\n          allow: [0.0.0.0/0]\n          deny:\n{networks}"
    )
}

/// Returns networks of many sizes, in no order.
fn networks() -> Vec<String> {
    let network = |at: u32| {
        let mixed = at.wrapping_mul(2_654_435_761);
        let [a, b, c, d] = mixed.to_be_bytes();
        format!("{}.{b}.{c}.{d}/{}", 1 + a % 190, 20 + mixed % 13)
    };
    (0..NETWORKS).map(network).collect()
}

fn callers() -> Vec<IpAddr> {
    (0..NETWORKS).map(|at| IpAddr::from(at.wrapping_mul(2_246_822_519).to_be_bytes())).collect()
}

const ROUNDS: usize = 9;
const REQUESTS: usize = 5_000;
const NETWORKS: u32 = 100_000;
