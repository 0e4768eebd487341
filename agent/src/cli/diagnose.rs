//! `adit diagnose` and `adit firewall`.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::{
    Failure,
    arguments::{Diagnose, Firewall, Global},
    configuration::{files, governed, load, overrides},
    policy, print, run,
};
use crate::{
    config::write_out,
    diagnose::diagnose as look,
    errors::{Error, Exit, Fault},
    firewall::firewall as list,
};

/// Looks at each step to the network and at each upstream, and says what to do about what fails.
pub(super) fn diagnose(global: &Global, asked: &Diagnose, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let watch = policy::open(global, provider)?;
    let config = governed(load(&files(global), &overrides(global))?, &watch)?;
    let runtime = run::runtime()?;
    let report = runtime.block_on(look(&config, &watch.guard(), provider));
    runtime.shutdown_background(); // a resolver that hangs does not hold the program
    let report = report?;
    if let Some(file) = &asked.write {
        let text = format!("{}\n", report.json());
        let unwritable = |error| Error::new(Fault::FileUnwritable, format!("{}: {error}", file.display()));
        write_out(file, text.as_bytes()).map_err(unwritable)?;
        if file.as_os_str() == "-" {
            return Ok(report.exit());
        }
    }
    print(&if asked.json { format!("{}\n", report.json()) } else { report.text() })?;
    Ok(report.exit())
}

/// Lists what a firewall must let through, and what to block so that nothing goes.
pub(super) fn firewall(global: &Global, asked: &Firewall, provider: &Arc<CryptoProvider>) -> Result<Exit, Failure> {
    let config = governed(load(&files(global), &overrides(global))?, &policy::open(global, provider)?)?;
    let runtime = run::runtime()?;
    let rules = runtime.block_on(list(&config, provider));
    runtime.shutdown_background();
    let rules = rules?;
    print(&if asked.json { format!("{}\n", rules.json()) } else { rules.text() })?;
    Ok(Exit::Fine)
}
