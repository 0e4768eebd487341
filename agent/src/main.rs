//! The program `adit`: the one place that chooses the cryptography.

use std::{process::ExitCode, sync::Arc};

fn main() -> ExitCode {
    adit::cli::main(&Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}
