//! The operator's program that puts records into the DNS and takes them out.

use core::time::Duration;
use std::{io, path::Path, process::Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

/// What the program is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Present,
    Cleanup,
}

/// Runs `PROGRAM ARGUMENTS… present|cleanup NAME VALUE` to its end.
///
/// It gets nothing of our environment and no input; what it writes is read to its end, and the first of it is shown when it
/// fails. When its time is over it is killed with everything that it started.
///
/// # Errors
/// What went wrong, in words.
pub(super) async fn run(command: &[String], deed: Deed, record: (&str, &str), most: Duration) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Err("no dns_hook is configured".to_owned()) };
    let (name, value) = record;
    let mut child = Command::new(program)
        .args(arguments)
        .args([deed.word(), name, value])
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir(Path::new("/"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("dns_hook cannot be started: {error}"))?;
    let group = Group(child.id());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = timeout(most, async {
        let (_, said, status) = tokio::join!(first_of(out), first_of(err), child.wait());
        (said, status)
    });
    let ended = ended.await;
    drop(group); // what it left running goes with it
    match ended {
        Ok((_, Ok(status))) if status.success() => Ok(()),
        Ok((said, Ok(status))) => Err(format!("dns_hook {}: {status}: {said}", deed.word())),
        Ok((_, Err(error))) => Err(format!("dns_hook {}: {error}", deed.word())),
        Err(_) => Err(format!("dns_hook {} took longer than {} s", deed.word(), most.as_secs())),
    }
}

/// Reads to the end, and returns the first of it, fit to be shown.
async fn first_of(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let (mut first, mut room) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = pipe.read(&mut room).await {
        let left = MAX_SAID - first.len();
        first.extend_from_slice(&room[..count.min(left)]);
    }
    adit_core::escape(String::from_utf8_lossy(&first).trim()).to_string()
}

/// The processes that the program has become.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            let _: Result<(), io::Error> = kill_process_group(group, Signal::KILL).map_err(Into::into); // perhaps it is gone
        }
    }
}

impl Deed {
    const fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Cleanup => "cleanup",
        }
    }
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// So much of what it writes is kept, in octets.
const MAX_SAID: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    #[tokio::test]
    async fn the_program_gets_its_arguments_the_record_and_nothing_of_ours() {
        let path = std::env::temp_dir().join(format!("adit-hook-{}", std::process::id()));
        let script = format!("printf '%s\\n' \"$@\" > {0}; env | sort >> {0}; pwd >> {0}", path.display());

        let done = shell(&script, &["--zone", "example.com"], Duration::from_secs(20)).await;

        let said = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(done, Ok(()));
        assert!(said.starts_with("--zone\nexample.com\npresent\n_acme-challenge.example.com\nva lue\n"), "{said}");
        let ours = said.lines().skip(5).filter(|line| {
            !["PATH=", "LC_ALL=", "PWD=", "_=", "SHLVL=", "OLDPWD="].iter().any(|known| line.starts_with(known))
        });
        assert_eq!(ours.collect::<Vec<_>>(), ["/"], "{said}");
    }

    #[tokio::test]
    async fn a_program_that_fails_is_told_with_its_first_words_however_much_it_writes() {
        let done =
            shell("echo no such zone >&2; head -c 10000000 /dev/zero >&2; exit 3", &[], Duration::from_secs(20)).await;

        let error = done.unwrap_err();
        assert!(error.contains("no such zone") && error.contains("exit status: 3"), "{}", &error[..100]);
        assert!(error.len() < 10 * MAX_SAID, "{}", error.len());
        let missing = run(&["/nonexistent".to_owned()], Deed::Cleanup, ("", ""), Duration::from_secs(1)).await;
        assert!(missing.unwrap_err().contains("cannot be started"));
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_with_what_it_started() {
        let path = std::env::temp_dir().join(format!("adit-hook-children-{}", std::process::id()));
        let began = Instant::now();

        let done =
            shell(&format!("sleep 300 & echo $! > {}; sleep 300", path.display()), &[], Duration::from_secs(1)).await;

        assert!(done.unwrap_err().contains("longer than 1 s"));
        assert!(began.elapsed() < Duration::from_secs(60));
        let child = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let gone =
            || fs::read_to_string(format!("/proc/{}/stat", child.trim())).map_or(true, |stat| stat.contains(") Z"));
        while !gone() {
            assert!(began.elapsed() < Duration::from_secs(60), "it lives on");
            tokio::task::yield_now().await;
        }
    }

    async fn shell(script: &str, arguments: &[&str], most: Duration) -> Result<(), String> {
        let shell = ["/bin/sh", "-c", script, "hook"];
        let command: Vec<_> = shell.iter().chain(arguments).map(ToString::to_string).collect();
        run(&command, Deed::Present, ("_acme-challenge.example.com", "va lue"), most).await
    }
}
