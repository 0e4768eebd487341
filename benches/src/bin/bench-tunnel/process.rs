//! Child processes, and what `/proc` says of them.

use core::time::Duration;
use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

/// A child that is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts a program; its standard error goes to `log`, its standard output is kept.
    pub(crate) fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        Ok(Self { child })
    }

    /// Waits for the first line of standard output.
    pub(crate) fn first_line(&mut self) -> io::Result<String> {
        let pipe = self.child.stdout.take().ok_or_else(|| io::Error::other("the line was read before"))?;
        let mut line = String::new();
        BufReader::new(pipe).read_line(&mut line)?;
        if line.is_empty() { Err(io::Error::other("the program ended without being ready")) } else { Ok(line) }
    }

    /// Returns the processor time used so far, in seconds.
    pub(crate) fn cpu(&self) -> io::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS_PER_SECOND)
    }

    /// Returns the memory that would come back if the process ended (proportional set size), in octets.
    pub(crate) fn memory(&self) -> io::Result<f64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap_or_default();
        let kib: f64 = line.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or_default();
        Ok(kib * 1024.0)
    }

    /// Ends the process with SIGKILL and waits for it.
    pub(crate) fn kill(&mut self) {
        // A child that has ended already is as good as killed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end and returns its standard output.
pub(crate) fn output(command: &mut Command) -> io::Result<String> {
    let done = command.stdin(Stdio::null()).output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(io::Error::other(format!(
            "{} ended with {}: {said}",
            command.get_program().display(),
            done.status
        )));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Tries until `attempt` gives something, for at most `limit`.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        if end <= Instant::now() {
            return Err(io::Error::other(format!("{what}: not within {limit:?}")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// USER_HZ, which is 100 on every Linux that is met.
const TICKS_PER_SECOND: f64 = 100.0;
