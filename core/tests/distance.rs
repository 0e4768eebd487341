//! Throughput over distance, in virtual time: windows grow to what the path holds, and no further than is fair.
#![cfg(feature = "testing")]

use adit_core::{
    Config, Duration, ReadError, StreamId, WriteError,
    testing::{Options, Pair, Path},
};

/// Half a second there and back at 25 MB/s: as much is on its way as with 100 ms and a gigabit a second.
fn far() -> Pair {
    let path = Path { latency: Duration::from_millis(250), capacity: 16 << 20, rate: Some(RATE), ..Path::default() };
    Pair::established(Options { up: path.clone(), down: path, ..Options::default() })
}

const RATE: u64 = 25_000_000;

/// Keeps all streams full and read for `time`; returns how much was read of each.
fn pump(pair: &mut Pair, streams: &[StreamId], time: Duration) -> Vec<u64> {
    pump_by(Duration::from_millis(5), pair, streams, time)
}

fn pump_by(step: Duration, pair: &mut Pair, streams: &[StreamId], time: Duration) -> Vec<u64> {
    let data = vec![7; 256 << 10];
    let (until, mut read) = (pair.now() + time, vec![0; streams.len()]);
    while pair.now() < until {
        for (stream, read) in streams.iter().zip(&mut read) {
            while pair.network.write(*stream, &data).is_ok_and(|taken| taken > 0) {}
            match pair.agent.read(*stream) {
                Ok((octets, _)) => *read += octets.len() as u64,
                Err(ReadError::Blocked | ReadError::Closed) => {} // it has not come yet
                Err(error) => panic!("{error}"),
            }
        }
        pair.run_for(step);
    }
    read
}

/// What lies in queues beyond what the path holds delays all other streams.
#[test]
fn a_window_does_not_outgrow_a_short_path() {
    let micros = Duration::from_micros;
    let path = Path { latency: micros(100), capacity: 16 << 20, rate: Some(1_000_000_000), ..Path::default() };
    let mut pair = Pair::established(Options { up: path.clone(), down: path, ..Options::default() });
    pair.run_for(Duration::from_millis(1));
    let stream = pair.open();

    pump_by(micros(50), &mut pair, &[stream], Duration::from_millis(20));
    let read = pump_by(micros(50), &mut pair, &[stream], Duration::from_millis(20));

    assert!(read[0] >= 19_000_000, "{} octets of 20 million", read[0]);
    assert!(pair.agent.session().reserved() <= 1_000_000, "{} octets", pair.agent.session().reserved());
}

#[test]
fn one_stream_fills_a_long_path() {
    let mut pair = far();
    let stream = pair.open();
    pump(&mut pair, &[stream], Duration::from_secs(5));

    let read = pump(&mut pair, &[stream], Duration::from_secs(2));

    let share = read[0] * 100 / (2 * RATE);
    assert!(share >= 95, "{share} % of the path");
}

/// What comes behind a lost packet waits until that has been sent again, perhaps twice: the window has to last so long, or the
/// sender waits for credit after each loss, is measured as slow, and stays so.
#[test]
fn a_window_lasts_through_the_repair_of_losses() {
    let millis = Duration::from_millis;
    let path = Path { latency: millis(50), capacity: 16 << 20, rate: Some(RATE), ..Path::default() };
    let mut pair = Pair::established(Options { up: path.clone(), down: path, ..Options::default() });
    let stream = pair.open();
    let mut lossy = |rounds: u64| -> u64 {
        let round = |pair: &mut Pair| {
            pair.down.held = true;
            let held = pump(pair, &[stream], millis(150))[0];
            pair.down.held = false;
            held + pump(pair, &[stream], millis(150))[0]
        };
        (0..rounds).map(|_| round(&mut pair)).sum()
    };
    lossy(10);

    let read = lossy(10);

    let share = read * 100 / (3 * RATE);
    assert!(share >= 95, "{share} % of the path");
}

/// CREDIT-008
#[test]
fn streams_that_come_late_find_room_and_a_fair_share() {
    let config = Config::agent();
    let mut pair = far();
    let mut streams: Vec<StreamId> = (0..4).map(|_| pair.open()).collect();
    pump(&mut pair, &streams, Duration::from_secs(6));
    streams.extend((0..4).map(|_| pair.open()));
    pump(&mut pair, &streams, Duration::from_secs(6));

    let read = pump(&mut pair, &streams, Duration::from_secs(4));

    let (least, most) = (read.iter().min().copied().unwrap_or(0), read.iter().max().copied().unwrap_or(0));
    assert!(least * 3 >= most, "{read:?}");
    let share = read.iter().sum::<u64>() * 100 / (4 * RATE);
    assert!(share >= 95, "{share} % of the path");
    assert!(pair.agent.session().reserved() <= config.pool);
}

#[test]
fn a_reader_that_stops_holds_its_own_window_and_no_other() {
    let mut pair = far();
    let (slow, quick) = (pair.open(), pair.open());
    pump(&mut pair, &[slow, quick], Duration::from_secs(5));

    pump(&mut pair, &[quick], Duration::from_secs(3));
    let read = pump(&mut pair, &[quick], Duration::from_secs(2));

    while pair.network.write(slow, &[1; 1 << 20]).is_ok() {}
    assert_eq!(pair.network.write(slow, &[1]), Err(WriteError::Blocked));
    let share = read[0] * 100 / (2 * RATE);
    assert!(share >= 95, "{share} % of the path");
}
