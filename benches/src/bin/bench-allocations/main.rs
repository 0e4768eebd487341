//! `bench-allocations`: what the core holds at rest and allocates at work, counted by the allocator. The same at every run.

mod count;

use std::process::ExitCode;

use adit_benches::report::{Figure, Report};

fn main() -> ExitCode {
    let mut report = Report::default();
    for (name, value, most, unit) in count::all() {
        report.add(Figure::at_most(name, value, most, unit));
    }
    report.finish(std::env::args().skip(1))
}
