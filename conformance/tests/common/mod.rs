//! Scenarios, and what a subject has to be configured with for them.

use std::{fs, path::Path};

use adit_conformance::{Scenario, Side};
use adit_core::Config;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios"));
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let json = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    json.flat_map(|file| {
        let content = fs::read_to_string(file).expect("readable");
        Scenario::read(&content).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    })
    .filter(|scenario| scenario.tls.is_none()) // a link alone has no TLS
    .collect()
}

pub(crate) fn configured(scenario: &Scenario) -> Config {
    let mut config = if scenario.side == Side::Agent { Config::agent() } else { Config::network() };
    for (name, value) in &scenario.limits {
        let value = u32::try_from(*value).expect("a small number");
        match name.as_str() {
            "frame" => config.frame = value,
            "streams" => config.streams = value,
            "window" => (config.window, config.window_eager) = (value, value),
            "oddities" => config.oddities = value,
            "unanswered" => config.unanswered = value,
            "binds" => config.binds = value,
            "retain_frames" => config.retain_frames = value,
            _ => panic!("{name} cannot be configured"),
        }
    }
    config.check().expect("in range");
    config
}
