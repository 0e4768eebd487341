//! How long it takes to find an endpoint by its name, exact and below a wildcard, and to choose who serves it, by the number of
//! endpoints there are. Names are asked for in an order that no cache foresees.

use core::hint::black_box;
use std::{collections::HashMap, time::Instant};

use adit_core::{AgentId, BindId, SessionId, UpstreamProtocol};
use adit_network::{
    EndpointName,
    router::{BindWish, Found, Key, Origin, Router, Rules, Scheme},
};

const SIZES: [usize; 4] = [10, 1_000, 10_000, 100_000];
const LOOKUPS: usize = 1_000_000;

fn main() {
    println!(
        "| endpoints | exact, ns | below a wildcard, ns | found and chosen, ns | beside {} endpoints | a HashMap of as many names, ns | beside it |\n\
         |---|---|---|---|---|---|---|",
        SIZES[0]
    );
    let mut first = None;
    for size in SIZES {
        let router = router(size);
        let exact: Vec<_> = shuffled(size).map(|at| name(&format!("e{at}.example.com"))).collect();
        let below: Vec<_> = shuffled(size).map(|at| name(&format!("x.w{at}.example.com"))).collect();
        let find = |name: &EndpointName| match router.find_name(Scheme::Https, name) {
            Found::Live(key) => key,
            Found::Idle(_) | Found::Unknown => panic!("{name:?} is bound"),
        };
        let by_exact = time(&exact, |name| drop(black_box(find(name))));
        let by_wildcard = time(&below, |name| drop(black_box(find(name))));
        let (rules, now) = (Rules::default(), Instant::now());
        let chosen = time(&exact, |name| drop(black_box(router.choose(&find(name), &[], 1_000, &rules, now))));
        // What grows with it as well is the cost of memory that no cache holds.
        let plain: HashMap<String, usize> = exact.iter().enumerate().map(|(at, name)| (name.to_string(), at)).collect();
        let by_map = time(&exact, |name| {
            black_box(plain.get(name.as_str()));
        });
        let base = *first.get_or_insert(by_exact);
        println!(
            "| {size} | {by_exact:.0} | {by_wildcard:.0} | {chosen:.0} | {:.2} | {by_map:.0} | {:.2} |",
            by_exact / base,
            by_exact / by_map
        );
    }
}

/// Half of the endpoints are names, half wildcards.
fn router(size: usize) -> Router<()> {
    let mut router = Router::default();
    for at in 0..size {
        let number = u64::try_from(at).unwrap_or_default();
        let session = SessionId(u128::from(number).to_be_bytes());
        let agent = AgentId(u128::from(number).to_be_bytes());
        router.session_began(session, Origin { account: 1, agent, incarnation: 1, lane: 0 });
        for (bind, url) in
            [format!("https://e{at}.example.com"), format!("https://*.w{at}.example.com")].iter().enumerate()
        {
            let wish = BindWish {
                session,
                bind: BindId(u32::try_from(bind).unwrap_or_default()),
                pooling: false,
                upstream: UpstreamProtocol::Http1,
                tls_end: Default::default(),
                handle: (),
            };
            router.bind(Key::parse(url).expect("a URL"), wish).expect("free");
        }
    }
    router
}

fn name(text: &str) -> EndpointName {
    EndpointName::parse(text).expect("a name")
}

/// Every number below `size` once, in an order like that of chance; as many as there are lookups at most.
fn shuffled(size: usize) -> impl Iterator<Item = usize> {
    let step = (size / 2 + 1..).find(|step| gcd(*step, size) == 1).unwrap_or(1);
    (0..size).map(move |at| at * step % size)
}

fn gcd(one: usize, other: usize) -> usize {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// Returns the nanoseconds of one lookup: the least of five rounds.
fn time(names: &[EndpointName], mut look: impl FnMut(&EndpointName)) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        let begin = Instant::now();
        for name in names.iter().cycle().take(LOOKUPS) {
            look(black_box(name));
        }
        least = least.min(begin.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64);
    }
    least
}
