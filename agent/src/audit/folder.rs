//! The folder of a log: who may write it, who writes it, which files it has.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::private;

/// A folder that this process alone writes to.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) folder: PathBuf,
    /// Locked for as long as the process lives, however it ends.
    _lock: File,
}

impl Claim {
    /// Takes the folder, or where another agent has it, the first free one of `folder-2`, `folder-3` and so on.
    ///
    /// # Errors
    /// What is wrong with the folder, or that others have them all.
    pub(crate) fn take(folder: &Path) -> io::Result<Self> {
        for folder in (1..=MOST).map(|number| numbered(folder, number)) {
            private::make_folder(&folder).map_err(|error| named(&folder, &error))?;
            check(&folder, &fs::metadata(&folder)?)?;
            let file = folder.join("lock");
            let lock = private().create(true).truncate(false).open(&file).map_err(|error| named(&file, &error))?;
            match lock.try_lock() {
                Ok(()) => return Ok(Self { folder, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(named(&file, &error)),
            }
        }
        Err(io::Error::other(format!("{}: other agents write to it and its {MOST} neighbours", folder.display())))
    }
}

/// Returns the folders that agents have written to: the one that is named, and its neighbours that are there.
pub(crate) fn folders(folder: &Path) -> Vec<PathBuf> {
    let neighbours = (2..=MOST).map(|number| numbered(folder, number)).filter(|folder| folder.is_dir());
    core::iter::once(folder.to_owned()).chain(neighbours).collect()
}

fn numbered(folder: &Path, number: usize) -> PathBuf {
    if number == 1 {
        return folder.to_owned();
    }
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    folder.with_file_name(name)
}

/// Returns how a file is opened that nobody else may read: to write at its end, and to read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Windows shortens no file that can only be appended to: there whoever writes goes to the end first.
    options.read(true).append(cfg!(unix)).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Refuses what others could have changed.
///
/// # Errors
/// Who could, and what to do.
#[cfg(unix)]
pub(crate) fn check(path: &Path, metadata: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;

    let (mode, owner, us) = (metadata.mode() & 0o7777, metadata.uid(), rustix::process::geteuid().as_raw());
    let shown = path.display();
    if owner != 0 && owner != us {
        return Err(io::Error::other(format!("{shown} belongs to user {owner}, neither root nor the agent's {us}")));
    }
    if mode & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "the mode {mode:04o} of {shown} lets others change it; chmod go-w {shown}"
        )));
    }
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn check(_: &Path, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Returns the files of a log and the number of the first record of each, in order.
pub(super) fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let first = path.file_name().and_then(|name| name.to_str()).and_then(number);
        files.extend(first.map(|first| (first, path)));
    }
    files.sort();
    Ok(files)
}

/// Returns the name of the file whose first record has this number: names are in the order of numbers.
pub(super) fn name(first: u64) -> String {
    format!("{PREFIX}{first:020}{SUFFIX}")
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let is_fine = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_fine)
}

/// Makes sure that the names in a folder survive a loss of power.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Returns whether an open file is still the one of that name.
///
/// # Errors
/// What the system says; that nothing is there too.
pub(super) fn same(file: &File, path: &Path) -> io::Result<bool> {
    let (there, ours) = (fs::symlink_metadata(path)?, file.metadata()?);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino()) && ours.nlink() > 0)
    }
    #[cfg(not(unix))]
    Ok(there.is_file() && there.len() == ours.len())
}

pub(super) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// So many agents may share a place.
const MOST: usize = 16;
const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn of_two_agents_each_has_a_folder_of_its_own_and_a_third_takes_what_is_free() {
        let folder = crate::testing::folder("audit-claim").join("audit");

        let first = Claim::take(&folder).unwrap();
        let second = Claim::take(&folder).unwrap();
        assert_eq!((&first.folder, second.folder.file_name().unwrap()), (&folder, "audit-2".as_ref()));
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        drop(first);
        assert_eq!(Claim::take(&folder).unwrap().folder, folder);
        assert_eq!(folders(&folder), [folder.clone(), second.folder]);
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused_with_the_remedy() {
        let folder = crate::testing::folder("audit-mode");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();

        let told = Claim::take(&folder).unwrap_err().to_string();

        assert!(told.contains("0770") && told.contains("chmod go-w"), "{told}");
    }

    #[test]
    fn files_are_in_the_order_of_their_records_and_others_are_none() {
        let folder = crate::testing::folder("audit-files");
        for file in [&name(10), &name(9), "lock", "audit-1.jsonl", "audit-0000000000000000000x.jsonl"] {
            fs::write(folder.join(file), "").unwrap();
        }

        let found: Vec<_> = files(&folder).unwrap().into_iter().map(|(first, _)| first).collect();
        assert_eq!(found, [9, 10]);
    }
}
