//! Putting one program in the place of another, so that there is one at every moment, and back again.

use core::time::Duration;
use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use super::Version;
use crate::errors::{Error, Fault, clip};

/// Returns who looks after the file, if it is somebody else: it would put its own version back, or miss a change.
pub(crate) fn keeper(executable: &Path) -> Option<String> {
    let shown = executable.to_string_lossy();
    for (part, who) in FOLDERS {
        if shown.contains(part) {
            return Some((*who).to_owned());
        }
    }
    if in_image(executable) {
        return Some("the image of this container".to_owned());
    }
    let asked = OWNERS.iter().find(|(program, arguments)| owns(program, arguments, executable));
    asked.map(|(program, _)| format!("a package, says {program}"))
}

/// Returns whether this is a container made to run this program.
fn in_image(executable: &Path) -> bool {
    let is_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|file| Path::new(file).exists());
    // Where systemd is the first process every service is its child: that is a machine, however it is made.
    let is_machine = Path::new("/run/systemd/system").is_dir();
    let is_first = fs::read_link("/proc/1/exe").is_ok_and(|first| first == executable);
    let runs_this = is_first || !is_machine && is_child_of_first();
    env::var_os("KUBERNETES_SERVICE_HOST").is_some() || is_container && runs_this
}

#[cfg(unix)]
fn is_child_of_first() -> bool {
    rustix::process::getppid().is_none_or(|parent| parent.is_init())
}

#[cfg(not(unix))]
const fn is_child_of_first() -> bool {
    false
}

/// Asks a package manager, where there is one, whether it owns the file.
fn owns(program: &str, arguments: &[&str], executable: &Path) -> bool {
    if !Path::new(program).exists() {
        return false;
    }
    let mut command = Command::new(program);
    command.args(arguments).arg(executable).env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // One that does not answer may own it.
    within(command, Duration::from_secs(20)).is_none_or(|done| done)
}

/// Runs a command to its end; `None` when it takes too long or cannot be run.
fn within(mut command: Command, most: Duration) -> Option<bool> {
    let mut child = command.spawn().ok()?;
    let end = Instant::now() + most;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

/// A program that lies beside the one that it is to replace; removed when it is not used.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
    kept: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path); // what matters is told elsewhere
        }
    }
}

/// Writes a program beside `executable`, to the disk itself.
///
/// # Errors
/// [`Fault::FileUnwritable`].
pub(crate) fn stage(executable: &Path, program: &[u8]) -> Result<Staged, Error> {
    let path = beside(executable, &format!("new-{}", std::process::id()));
    let staged = Staged { path, kept: false };
    let _ = fs::remove_file(&staged.path); // one of a process that had our number
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o755);
        let mut file = options.open(&staged.path)?;
        file.write_all(program)?;
        file.sync_all()
    };
    write().map_err(|error| unwritable(&staged.path, &error))?;
    Ok(staged)
}

/// Runs the staged program for its version, and holds it against the one that was promised.
///
/// # Errors
/// [`Fault::UpdateFailed`].
pub(crate) fn answers(staged: &Staged, promised: &Version) -> Result<(), Error> {
    let failed = |problem: String| Error::new(Fault::UpdateFailed, clip(&problem));
    let mut command = Command::new(&staged.path);
    command.args(["version", "--output", "json"]).stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
    let end = Instant::now() + ANSWER;
    let mut child = loop {
        match command.spawn() {
            Ok(child) => break child,
            // A process that another thread is starting has it open for writing, for a moment.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(failed(format!("it does not run: {error}"))),
        }
    };
    // What it prints fits into the pipe, or it is not the program that was promised.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("it does not say its version".to_owned()));
            }
        }
    };
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        use io::Read as _;
        output.take(4_096).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    }
    let said = serde_json::from_str::<serde_json::Value>(&text).ok();
    let said = said.as_ref().and_then(|said| Version::parse(said["version"].as_str()?));
    match said {
        Some(said) if status.success() && said == *promised => Ok(()),
        Some(said) => Err(failed(format!("it says that it is version {said}, and {promised} was promised"))),
        None => Err(failed(format!("it does not say its version: {status}"))),
    }
}

/// Returns where the program is kept that `executable` has taken the place of.
pub(crate) fn previous(executable: &Path) -> PathBuf {
    beside(executable, "previous")
}

/// Puts the staged program in the place of `executable`, which is kept as [`previous`]; with `keeps` the one that is kept already stays,
/// because this one has never connected.
///
/// # Errors
/// [`Fault::FileUnwritable`]; there is a program in its place at every moment.
pub(crate) fn replace(executable: &Path, mut staged: Staged, keeps: bool) -> Result<(), Error> {
    let previous = previous(executable);
    let draft = beside(executable, &format!("old-{}", std::process::id()));
    let exchange = || {
        let _ = fs::remove_file(&draft);
        if cfg!(windows) {
            // A running program can be renamed there, and not replaced.
            let away = if keeps { beside(executable, "failed") } else { previous.clone() };
            let _ = fs::remove_file(&away);
            fs::rename(executable, &away)?;
        } else if !keeps {
            fs::hard_link(executable, &draft).or_else(|_| fs::copy(executable, &draft).map(drop))?;
            fs::rename(&draft, &previous)?;
        }
        fs::rename(&staged.path, executable)?;
        sync_folder(executable)
    };
    let done = exchange();
    staged.kept = done.is_ok();
    done.map_err(|error| unwritable(executable, &error))
}

/// Puts what was kept back into its place.
///
/// # Errors
/// [`Fault::FileUnwritable`].
pub(crate) fn put_back(executable: &Path, previous: &Path) -> Result<(), Error> {
    let exchange = || {
        if cfg!(windows) {
            let failed = beside(executable, "failed");
            let _ = fs::remove_file(&failed);
            fs::rename(executable, &failed)?;
        }
        fs::rename(previous, executable)?;
        sync_folder(executable)
    };
    exchange().map_err(|error| unwritable(executable, &error))
}

fn sync_folder(file: &Path) -> io::Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn beside(executable: &Path, what: &str) -> PathBuf {
    let mut name = executable.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    executable.with_file_name(name)
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::new(Fault::FileUnwritable, format!("{}: {error}", path.display()))
}

/// How long a new program may take to say its version.
const ANSWER: Duration = Duration::from_secs(30);

/// Whose folders these are.
const FOLDERS: &[(&str, &str)] = &[
    ("/nix/store/", "Nix"),
    ("/gnu/store/", "Guix"),
    ("/snap/", "Snap"),
    ("/flatpak/", "Flatpak"),
    ("/Cellar/", "Homebrew"),
    ("/.cargo/bin/", "cargo install"),
    ("\\scoop\\", "Scoop"),
    ("\\chocolatey\\", "Chocolatey"),
    ("\\WinGet\\", "WinGet"),
];

/// What to ask whether a package owns a file.
const OWNERS: &[(&str, &[&str])] = &[
    ("/usr/bin/dpkg-query", &["-S"]),
    ("/usr/bin/rpm", &["-qf"]),
    ("/usr/bin/pacman", &["-Qo"]),
    ("/sbin/apk", &["info", "--who-owns"]),
];

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn program(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("adit");
        drop(stage(&path, text.as_bytes()).unwrap());
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_program_is_replaced_in_one_step_the_old_one_is_kept_and_comes_back() {
        let folder = crate::testing::folder("update-replace");
        let executable = program(&folder, "old");

        let staged = stage(&executable, b"new").unwrap();
        replace(&executable, staged, false).unwrap();
        let previous = previous(&executable);

        let names = || {
            let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(fs::read(&executable).unwrap(), b"new");
        assert_eq!(fs::read(&previous).unwrap(), b"old");
        assert_eq!(names(), ["adit", "adit.previous"]);
        replace(&executable, stage(&executable, b"newest").unwrap(), true).unwrap();
        assert_eq!(fs::read(&executable).unwrap(), b"newest");
        assert_eq!(fs::read(&previous).unwrap(), b"old", "what never connected is not worth keeping");
        put_back(&executable, &previous).unwrap();
        assert_eq!(fs::read(&executable).unwrap(), b"old");
        assert_eq!(names(), ["adit"]);
    }

    #[test]
    fn a_program_that_is_not_the_one_that_was_promised_is_not_taken() {
        let folder = crate::testing::folder("update-answers");
        let says = |text: &str| {
            let staged = stage(&folder.join("adit"), format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
            answers(&staged, &Version::parse("1.2.3").unwrap()).map_err(|error| error.to_string())
        };
        assert_eq!(says("echo '{\"version\": \"1.2.3\"}'"), Ok(()));
        assert!(says("echo '{\"version\": \"1.2.2\"}'").unwrap_err().contains("says that it is version 1.2.2"));
        assert!(says("echo nonsense").unwrap_err().contains("does not say its version"));
        assert!(says("exit 1").unwrap_err().contains("does not say its version"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn who_looks_after_a_file_is_told() {
        assert_eq!(keeper(Path::new("/nix/store/x-adit/bin/adit")).as_deref(), Some("Nix"));
        if Path::new("/usr/bin/dpkg-query").exists() {
            let owned = keeper(Path::new("/usr/bin/dpkg-query")).unwrap_or_default();
            assert!(owned.contains("a package"), "{owned}");
        }
        let folder = crate::testing::folder("update-keeper");
        assert!(!owns("/nowhere", &[], &folder.join("adit")));
    }
}
