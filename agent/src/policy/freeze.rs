//! Frozen: while a file is there, everything is closed, over restarts too.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use adit_core::escape;

use super::file::is_there;

/// The files that freeze an agent: one beside its configuration, one where it keeps what must last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freezer {
    files: Vec<PathBuf>,
    /// Set when no file could be written.
    held: Arc<OnceLock<String>>,
}

impl Freezer {
    /// Looks for the file in folders; the first in which it can be written has it.
    #[must_use]
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut files: Vec<PathBuf> = Vec::new();
        for file in folders.into_iter().map(|folder| folder.join(NAME)) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Self { files, held: Arc::default() }
    }

    /// Freezes for as long as this process lives: there is no file that could be written.
    pub fn hold(&self, text: &str) {
        let _ = self.held.set(text.to_owned()); // the first is as good as another
    }

    /// Returns why everything is closed. A file that is there closes it whatever it says, and so does one that cannot be looked at.
    pub fn frozen(&self) -> Option<String> {
        if let Some(text) = self.held.get() {
            return Some(text.clone());
        }
        let file = self.files.iter().find(|file| is_there(file))?;
        let mut text = String::new();
        let read = File::open(file).and_then(|file| file.take(MAX_TEXT).read_to_string(&mut text));
        let said = text.lines().next().unwrap_or_default();
        let said = if read.is_ok() && !said.is_empty() { format!(": {}", escape(said)) } else { String::new() };
        Some(format!("{} is there{said}", file.display()))
    }

    /// Puts the file where it can be: whole and on the disk, or not at all.
    ///
    /// # Errors
    /// What the system says of the last folder; nothing is frozen.
    pub fn freeze(&self, text: &str) -> io::Result<&Path> {
        let mut problem = io::Error::other("there is no folder for it: name one by --config or STATE_DIRECTORY");
        for file in &self.files {
            match put(file, text) {
                Ok(()) => return Ok(file),
                Err(error) => problem = io::Error::new(error.kind(), format!("{}: {error}", file.display())),
            }
        }
        Err(problem)
    }

    /// Removes the files; returns those that were there.
    ///
    /// # Errors
    /// What the system says of the first that cannot be removed: all stays frozen.
    pub fn thaw(&self) -> io::Result<Vec<&Path>> {
        let mut removed = Vec::new();
        for file in self.files.iter().filter(|file| is_there(file)) {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
            fs::remove_file(file).and_then(|()| sync_folder(file)).map_err(named)?;
            removed.push(file.as_path());
        }
        Ok(removed)
    }
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = file.with_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
        let mut draft_file = options.open(&draft)?;
        writeln!(draft_file, "{text}")?;
        draft_file.sync_all()?;
        fs::rename(&draft, file)?;
        sync_folder(file)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft); // what matters is told by `written`
    }
    written
}

/// Makes sure that a name survives a loss of power.
fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) if cfg!(unix) && !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

/// The name of the file.
const NAME: &str = "frozen";
/// More of a file is not shown, in octets.
const MAX_TEXT: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_freezes_whatever_it_is() {
        let folder = crate::testing::folder("frozen");
        let freezer = Freezer::new([folder.clone(), folder.join("state"), folder.clone()]);
        assert_eq!(freezer.files.len(), 2);
        assert_eq!(freezer.frozen(), None);

        fs::write(folder.join("frozen"), b"\xff\n").unwrap();
        assert!(freezer.frozen().is_some(), "no text");
        fs::remove_file(folder.join("frozen")).unwrap();
        fs::create_dir(folder.join("frozen")).unwrap();
        assert!(freezer.frozen().is_some(), "a folder");
        fs::remove_dir(folder.join("frozen")).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.join("nowhere"), folder.join("frozen")).unwrap();
            assert!(freezer.frozen().is_some(), "a link to nowhere");
            fs::remove_file(folder.join("frozen")).unwrap();
        }
        assert_eq!(freezer.frozen(), None);
    }

    #[test]
    fn it_is_put_where_it_can_be_and_thawed_everywhere() {
        let folder = crate::testing::folder("freeze");
        fs::write(folder.join("file"), "").unwrap();
        let freezer = Freezer::new([folder.join("file"), folder.join("state")]);

        let file = freezer.freeze("by somebody\u{1b}").unwrap().to_owned();

        assert_eq!(file, folder.join("state").join("frozen"));
        let told = freezer.frozen().unwrap();
        assert!(told.ends_with("is there: by somebody\\u{1b}"), "{told}");
        assert_eq!(fs::read_dir(folder.join("state")).unwrap().count(), 1);
        assert_eq!(freezer.thaw().unwrap(), [file.as_path()]);
        assert_eq!((freezer.frozen(), freezer.thaw().unwrap().len()), (None, 0));
    }
}
