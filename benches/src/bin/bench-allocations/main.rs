//! `bench-allocations`: what the core holds at rest and allocates at work, counted by the allocator. The same at every run.

mod count;

use std::process::ExitCode;

use adit_benches::report::{Figure, Report};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::new(arguments.iter().any(|argument| argument == "--quiet"));
    for (name, value, goal, unit) in count::all() {
        report.add(Figure::alone(&name, vec![value], unit, goal));
    }
    report.finish(arguments.into_iter())
}
