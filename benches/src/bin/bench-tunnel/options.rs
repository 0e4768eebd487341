//! The command line.

use std::path::PathBuf;

/// What to measure, and how long.
#[derive(Debug)]
pub(crate) struct Options {
    /// Rounds of each measurement that is repeated.
    pub(crate) rounds: usize,
    /// Octets of one bulk transfer.
    pub(crate) bulk: u64,
    /// Seconds of one round of requests.
    pub(crate) seconds: f64,
    /// Idle connections held at once.
    pub(crate) idle: usize,
    /// Idle agent sessions held at once.
    pub(crate) sessions: usize,
    /// Connections opened and closed.
    pub(crate) closed: usize,
    /// Parts of the names of measurements to run; empty for all.
    pub(crate) only: Vec<String>,
    /// The ways to measure; empty for all.
    pub(crate) ways: Vec<String>,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments.
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 5,
            bulk: 1 << 30,
            seconds: 2.0,
            idle: 2_000,
            sessions: 900,
            closed: 9_000,
            only: Vec::new(),
            ways: Vec::new(),
            json: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--quick" => {
                    options = Self {
                        rounds: 1,
                        bulk: 64 << 20,
                        seconds: 0.3,
                        idle: 200,
                        sessions: 50,
                        closed: 500,
                        ..options
                    };
                }
                "--rounds" => options.rounds = value()?.parse().map_err(|error| format!("--rounds: {error}"))?,
                "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
                "--ways" => options.ways.extend(value()?.split(',').map(str::to_owned)),
                "--json" => options.json = Some(PathBuf::from(value()?)),
                _ => return Err(format!("unknown argument {argument}\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// Tells whether a way is to be measured.
    pub(crate) fn has_way(&self, name: &str) -> bool {
        self.ways.is_empty() || self.ways.iter().any(|way| way == name)
    }

    /// Tells whether a measurement was asked for.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

const USAGE: &str = "usage: bench-tunnel [--quick] [--rounds N] [--only NAME,…] [--ways WAY,…] [--json FILE]
names: bulk, keep-alive, connections, segments, echo, idle, sessions, closed, recovery
ways: direct, haproxy, adit";
