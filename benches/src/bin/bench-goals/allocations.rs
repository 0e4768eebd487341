//! What `bench-allocations` counts: a program of its own, because counting takes time.

use std::{io, process::Command};

use adit_benches::report::Report;

pub(crate) fn measure(report: &mut Report) -> io::Result<()> {
    let program = std::env::current_exe()?.with_file_name("bench-allocations");
    let output = Command::new(program).args(["--quiet", "--json", "/dev/stdout"]).output()?;
    report.add_json(&output.stdout)
}
