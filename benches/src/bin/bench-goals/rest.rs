//! Agents that rest: nothing but heartbeats, in time that is a number.

use adit_benches::{
    clock,
    pair::{Options, Pair},
    report::{Figure, Goal, Report},
};
use adit_core::Duration;

use crate::turns;

pub(crate) fn measure(report: &mut Report, rounds: usize) {
    let [mut plain, mut secured] = [Options::default(), Options::secured()]
        .map(|options| -> Vec<Pair> { (0..PAIRS).map(|_| Pair::new(options.clone())).collect() });
    let [plain, secured] = turns(rounds, [&mut || agents(&mut plain), &mut || agents(&mut secured)]);
    report.add(Figure::alone("rest: agents for each core, heartbeats only", plain, "1,000", Goal::None));
    report.add(Figure::alone("rest: the same with TLS", secured, "1,000", Goal::None));
}

/// Returns for how many agents one core could do the network's part: half of what both sides take.
fn agents(pairs: &mut [Pair]) -> f64 {
    let spent = clock::of_thread(|| {
        for _ in 0..BEATS {
            for pair in &mut *pairs {
                pair.pass(INTERVAL);
            }
        }
    });
    let each = spent.as_secs_f64() / 2.0 / (PAIRS * BEATS) as f64;
    INTERVAL.as_secs_f64() / each / 1e3
}

const PAIRS: usize = 1_000;
const BEATS: usize = 10;
const INTERVAL: Duration = Duration::from_secs(10);
