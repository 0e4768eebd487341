//! What is to be done, in order: shown as it is, or carried out.

use core::fmt;
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::Command,
};

use adit_core::Secret;

use crate::config::replace_as;

/// Steps, in order. Carried out again they change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    steps: Vec<Step>,
}

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A folder is there.
    Folder { path: PathBuf },
    /// A file has this content and mode.
    Write { path: PathBuf, mode: u32, content: String },
    /// A file holds a secret, and nobody but its owner reads it.
    Secret { path: PathBuf, secret: Secret, owner: Option<String> },
    /// A file or folder is gone, with all that is in it.
    Remove { path: PathBuf },
    /// A command has run; it must succeed where `must` says so.
    Run { argv: Vec<String>, must: bool },
}

impl Step {
    /// Returns a command that must succeed.
    pub(crate) fn run(argv: &[&str]) -> Self {
        Self::Run { argv: argv.iter().map(|&word| word.to_owned()).collect(), must: true }
    }
}

impl Plan {
    pub(crate) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Carries out every step, and returns a line for each that changed something.
    ///
    /// # Errors
    /// The first step that fails, and why: those before it stay done.
    pub(crate) fn carry_out(&self) -> Result<Vec<String>, String> {
        let mut done = Vec::new();
        for step in &self.steps {
            match step {
                Step::Folder { path } => fs::create_dir_all(path).map_err(|error| told(path, &error))?,
                Step::Write { path, mode, content } => {
                    let changed = put(path, content.as_bytes(), *mode).map_err(|error| told(path, &error))?;
                    done.extend(changed.then(|| format!("wrote {}", path.display())));
                }
                Step::Secret { path, secret, owner } => {
                    let changed = put(path, secret.expose(), 0o600).map_err(|error| told(path, &error))?;
                    done.extend(changed.then(|| format!("wrote the authtoken to {}", path.display())));
                    if let Some(owner) = owner {
                        run(&["chown".to_owned(), "--".to_owned(), owner.clone(), path.display().to_string()])?;
                    }
                }
                Step::Remove { path } => {
                    let removed = remove(path).map_err(|error| told(path, &error))?;
                    done.extend(removed.then(|| format!("removed {}", path.display())));
                }
                Step::Run { argv, must } => match run(argv) {
                    Ok(_) => done.push(format!("ran {}", line(argv))),
                    Err(problem) if *must => return Err(problem),
                    Err(_) => {}
                },
            }
        }
        Ok(done)
    }
}

/// Everything as it would be done; a secret is not shown.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Folder { path } => writeln!(f, "make the folder {}", path.display())?,
                Step::Write { path, mode, content } => {
                    writeln!(f, "write {}, mode {mode:04o}:", path.display())?;
                    for line in content.lines() {
                        writeln!(f, "    {line}")?;
                    }
                }
                Step::Secret { path, owner, .. } => {
                    writeln!(f, "write the authtoken to {}, mode 0600", path.display())?;
                    if let Some(owner) = owner {
                        writeln!(f, "run chown -- {owner} {}", path.display())?;
                    }
                }
                Step::Remove { path } => writeln!(f, "remove {}", path.display())?,
                Step::Run { argv, .. } => writeln!(f, "run {}", line(argv))?,
            }
        }
        Ok(())
    }
}

/// Runs a command to its end, and returns what it printed.
///
/// # Errors
/// Which command, and what it said.
pub(crate) fn run(argv: &[String]) -> Result<String, String> {
    let Some((program, arguments)) = argv.split_first() else { return Err("no command".to_owned()) };
    let shown = line(argv);
    let done = Command::new(program).args(arguments).output().map_err(|error| format!("{shown}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = [&done.stderr, &done.stdout].map(|text| String::from_utf8_lossy(text).trim().to_owned());
    let said = said.iter().find(|text| !text.is_empty()).map_or("it says nothing", String::as_str);
    Err(format!("{shown}: {}: {}", done.status, adit_core::escape(&crate::errors::clip(said))))
}

/// Writes a command so that a person can run it: words that are not plain stand in quotes.
fn line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/\\.:=_-+@~".contains(c);
    let is_windows = argv.first().is_some_and(|program| program.ends_with(".exe"));
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else if is_windows {
            quoted(word)
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Writes a word in quotes, as programs of Windows take a command line apart (CommandLineToArgvW): backslashes count double before a quote only.
pub(crate) fn quoted(word: &str) -> String {
    let mut out = String::from("\"");
    let mut backslashes = 0;
    for c in word.chars() {
        match c {
            '\\' => backslashes += 1,
            '"' => {
                out.push_str(&"\\".repeat(backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        out.push(c);
    }
    out.push_str(&"\\".repeat(backslashes));
    out.push('"');
    out
}

fn told(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// Makes a file what it should be, in one step; returns whether it was not.
fn put(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    if is_so(path, content, mode) {
        return Ok(false);
    }
    replace_as(path, content, mode).map(|()| true)
}

fn is_so(path: &Path, content: &[u8], mode: u32) -> bool {
    let Ok(metadata) = path.symlink_metadata() else { return false };
    #[cfg(unix)]
    let fits = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777 == mode;
    #[cfg(not(unix))]
    let fits = mode != 0;
    let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
    if !metadata.is_file() || !fits || metadata.len() != length {
        return false;
    }
    let mut before = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(length.saturating_add(1)).read_to_end(&mut before));
    read.is_ok() && before == content
}

/// Removes what is there; a link, and not what it leads to. Returns whether there was anything.
fn remove(path: &Path) -> io::Result<bool> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
