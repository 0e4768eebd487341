//! Simulated worlds: whatever goes wrong, every law holds. `make simulate` runs many more of them.
#![cfg(feature = "testing")]

use adit_core::testing::sim::{self, Report, Storm};

/// AUTH-008, BIND-003, BIND-012
#[test]
fn no_law_is_broken_in_the_first_worlds() {
    let mut total = Report::default();
    for seed in 0..200 {
        total
            .add(&sim::run(seed, None).unwrap_or_else(|failure| panic!("{failure}; again: make simulate SEED={seed}")));
    }

    // Worlds in which nothing happens prove nothing.
    assert!(total.resumed > 50 && total.repeated > 100 && total.expired > 10 && total.whole > 300, "{total}");
    assert!(total.thefts > 50, "{total}");
    assert!(total.shared > 5 && total.spared > 5, "{total}");
}

/// L11
#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 200..230 {
        assert_eq!(sim::run(seed, None), sim::run(seed, None), "seed {seed}");
    }
}

#[test]
fn many_agents_come_back_to_a_restarted_node_in_time_and_not_all_at_once() {
    for (rate, backlog) in [(None, 4_096), (Some(1_000), 820), (Some(200), 164)] {
        let mut storm = Storm::new(4_000);
        (storm.rate, storm.backlog) = (rate, backlog);

        let (aftermath, (peak, time)) = (storm.run(), storm.bounds());

        assert!(aftermath.peak <= peak && aftermath.all <= time, "{rate:?}: {aftermath}");
        assert!(aftermath.dials >= 8_000, "{aftermath}");
    }
}
