//! `bench-tunnel`: what a tunnel costs, beside no tunnel and beside two HAProxy joined by TLS, in one run.
//!
//! Everything stands on loopback. Rounds are short and interleaved, so that a slow moment of the machine meets all three alike; each
//! figure is the median of its rounds. The generator and the services behind the tunnels are this process, so that the processor time
//! of the tunnels is read from `/proc` without it.

mod adit;
mod bulk;
mod haproxy;
mod idle;
mod latency;
mod options;
mod process;
mod recovery;
mod report;
mod requests;
mod services;
mod sessions;
mod stand;
mod suite;

use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match options::Options::from_arguments(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            println!("{usage}");
            return ExitCode::from(2);
        }
    };
    match suite::run(&options) {
        Ok(report) => {
            if let Some(path) = &options.json
                && let Err(error) = std::fs::write(path, report.json())
            {
                println!("cannot write {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("bench-tunnel: {error}");
            ExitCode::FAILURE
        }
    }
}
