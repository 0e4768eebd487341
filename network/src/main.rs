//! The program `adit-network`.

use std::process::ExitCode;

fn main() -> ExitCode {
    adit_network::cli::main()
}
