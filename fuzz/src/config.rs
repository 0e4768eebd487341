//! The limits that an application may choose.

use adit_core::{
    Config, Duration, Heartbeat,
    testing::{Options, Pair},
};

use crate::{Choices, model::pattern};

/// Limits of any values are refused by name, or two sides that have them do their work within their bound of memory.
pub fn config(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let (agent, network) = (changed(Config::agent(), &mut choices), changed(Config::network(), &mut choices));
    for config in [&agent, &network] {
        if let Err(error) = config.check() {
            assert!(!error.field.is_empty() && error.to_string().starts_with(error.field));
            return;
        }
        let (bound, windows) =
            (config.worst_case_memory(), u64::from(config.streams).saturating_mul(config.window.into()));
        assert!(bound >= config.pool && bound >= config.retain_octets && bound >= windows, "{bound}");
    }
    let length = choices.size(3_000);
    let mut pair = Pair::established(Options { agent, network, ..Options::default() });
    let id = pair.open();
    let octets = pattern(id.number(), adit_core::Role::Network, 0, length);
    let mut written = 0;
    let mut read = Vec::new();
    for _ in 0..1_000 {
        written += pair.network.write(id, &octets[written..]).unwrap_or_default();
        pair.run_for(Duration::from_millis(50));
        read.extend(pair.agent.read(id).map(|(octets, _)| octets).unwrap_or_default());
        if read.len() == length {
            break;
        }
    }
    assert_eq!((pair.agent.cause(), pair.network.cause()), (None, None));
    assert!(*read == octets, "L4");
}

/// Returns the configuration with some values that may be out of their range, most of them near its ends.
fn changed(mut config: Config, choices: &mut Choices<'_>) -> Config {
    for _ in 0..choices.between(0, 5) {
        let (value, wide) = (a_number(choices), choices.number::<u64>() >> choices.below(64));
        let time = Duration::from_millis(wide);
        match choices.number::<u8>() % 20 {
            0 => config.heartbeat = Heartbeat { interval: time, tolerance: a_time(choices) },
            1 => config.frame = value,
            2 => config.window = value,
            3 => config.window_eager = value,
            4 => config.window_max = value,
            5 => config.pool = wide,
            6 => config.streams = value,
            7 => config.open_streams = value,
            8 => config.send_stream = value,
            9 => config.send_total = wide,
            10 => config.retain_octets = wide,
            11 => config.retain_frames = value,
            12 => config.ack_octets = value,
            13 => config.ack_delay = a_time(choices),
            14 => config.resume_window = a_time(choices),
            15 => config.binds = value,
            16 => config.unanswered = value,
            17 => config.drain_timeout = a_time(choices),
            18 => config.close_timeout = a_time(choices),
            _ => config.oddities = value,
        }
    }
    config
}

fn a_number(choices: &mut Choices<'_>) -> u32 {
    choices.one_of(&[0, 1, 9, 10, 63, 64, 1_023, 1_024, 8_191, 8_192, 16_376, 65_536, 65_537, 1 << 20, u32::MAX])
}

fn a_time(choices: &mut Choices<'_>) -> Duration {
    let ends = [0, 1, 499, 500, 1_000, 1_001, 10_000, 3_600_000, 3_600_001, u64::MAX];
    Duration::from_millis(choices.one_of(&ends))
}
