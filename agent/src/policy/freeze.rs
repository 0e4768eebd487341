//! Frozen: while a file is there, everything is closed, over restarts too.

use core::time::Duration;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
};

use adit_core::escape;

use super::{Guard, file::is_there};
use crate::{audit::Record, regular::open_regular};

/// The files that freeze an agent: one beside its configuration, one where it keeps what must last.
///
/// What it finds holds for its guards at once. Nothing that only remembers waits for a disk.
#[derive(Clone, Debug)]
pub struct Freezer {
    files: Vec<PathBuf>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    written: Condvar,
}

/// All that closes.
#[derive(Debug, Default)]
struct Known {
    /// Asked for in this process, until a file says so.
    held: Option<String>,
    /// Whether what is held is about to be written.
    is_pending: bool,
    /// The file that was there when they were looked at last, and what it says.
    seen: Option<(PathBuf, String)>,
    /// What should look and never will again.
    blind: Option<String>,
    /// The files have not answered for too long.
    is_silent: bool,
    /// How often the clock has turned since the files answered.
    turns: u32,
    /// Counts the files that were written: what was seen before is older.
    writes: u64,
    guards: Vec<Weak<Guard>>,
}

/// A guard that was closed or opened.
type Changed = (Arc<Guard>, usize);

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
        Self { files, shared: Arc::default() }
    }

    /// Closes a guard from now on whenever something freezes.
    pub(super) fn serve(&self, guard: &Arc<Guard>) {
        self.change(|known| known.guards.push(Arc::downgrade(guard)));
    }

    /// Looks at the files. One that is there closes everything whatever it is, and so does one that cannot be looked at.
    pub fn look(&self) {
        let before = self.known().writes;
        let found = self.files.iter().find(|file| is_there(file));
        let mut is_new = false;
        let changed = self.apply(|known| {
            (known.turns, known.is_silent) = (0, false);
            let is_known = found.is_some() && known.seen.as_ref().map(|(file, _)| file) == found;
            if known.writes == before && !is_known {
                is_new = true;
                known.seen = found.map(|file| (file.clone(), String::new()));
            }
        });
        // What it says may be long in coming: everything is closed by then.
        if let Some(file) = found.filter(|_| is_new) {
            let said = read(file);
            self.apply(|known| match &mut known.seen {
                Some((seen, text)) if seen == file => *text = said,
                Some(_) | None => {}
            });
        }
        self.tell(&changed);
    }

    /// Freezes at once, in memory; [`Self::write_held`] makes it last.
    pub fn hold(&self, text: &str) {
        self.change(|known| (known.held, known.is_pending) = (Some(text.to_owned()), true));
    }

    /// Writes the file for what is held. Where none can be written, it is held for as long as this process lives.
    ///
    /// # Errors
    /// As [`Self::freeze`].
    pub fn write_held(&self) -> io::Result<Option<&Path>> {
        let Some(text) = self.known().held.clone() else { return Ok(None) };
        let written = self.freeze(&text);
        self.change(|known| {
            if let Ok(file) = &written {
                known.writes += 1;
                known.seen = Some((file.to_path_buf(), escape(&text).to_string()));
                if known.held.as_ref() == Some(&text) {
                    known.held = None;
                }
            }
            known.is_pending = known.held.as_ref().is_some_and(|held| *held != text);
        });
        self.shared.written.notify_all();
        written.map(Some)
    }

    /// Waits until what is held is written, or cannot be; returns whether nothing is left to be written.
    pub fn wait_written(&self, most: Duration) -> bool {
        let waited = self.shared.written.wait_timeout_while(self.known(), most, |known| known.is_pending);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_pending
    }

    /// Closes everything for as long as this process lives: what would see that it must has ended.
    pub(super) fn give_up(&self, why: &str) {
        self.change(|known| known.blind = Some(why.to_owned()));
    }

    /// Lets a moment pass. Many of them without a look close everything until the next look: the file may be there.
    pub(super) fn turn(&self) {
        self.change(|known| {
            known.turns = known.turns.saturating_add(1);
            known.is_silent = known.turns > MAX_TURNS;
        });
    }

    /// Looks, and returns why everything is closed.
    pub fn frozen(&self) -> Option<String> {
        self.look();
        self.known().why()
    }

    /// Returns the files, the first that is written first.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
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

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let changed = self.apply(change);
        self.tell(&changed);
    }

    /// Changes what is known, and closes or opens the guards accordingly; returns those.
    fn apply(&self, change: impl FnOnce(&mut Known)) -> Vec<Changed> {
        let mut known = self.known();
        change(&mut known);
        let why = known.why();
        known.guards.retain(|guard| guard.strong_count() > 0);
        let mut changed = Vec::new();
        for guard in known.guards.iter().filter_map(Weak::upgrade) {
            let before = guard.frozen();
            if before != why {
                let ended = guard.freeze(why.clone());
                changed.extend((before.is_some() != why.is_some()).then_some((guard, ended)));
            }
        }
        changed
    }

    /// Writes it down, where a disk may be slow.
    fn tell(&self, changed: &[Changed]) {
        let why = if changed.is_empty() { None } else { self.known().why() };
        for (guard, ended) in changed {
            match &why {
                Some(why) => {
                    guard.note(|| Record::new("freeze").text("why", why).number("connections_ended", *ended as u64));
                    tracing::warn!(why, connections = ended, "frozen: everything is closed");
                }
                None => {
                    guard.note(|| Record::new("thaw"));
                    tracing::warn!("thawed");
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn why(&self) -> Option<String> {
        if let Some(text) = self.held.as_ref().or(self.blind.as_ref()) {
            return Some(text.clone());
        }
        match &self.seen {
            Some((file, said)) if said.is_empty() => Some(format!("{} is there", file.display())),
            Some((file, said)) => Some(format!("{} is there: {said}", file.display())),
            None => self.is_silent.then(|| "the folders of the file that freezes do not answer".to_owned()),
        }
    }
}

/// Returns the first line of a file, made harmless; nothing where there is none.
fn read(file: &Path) -> String {
    let mut text = String::new();
    let read = open_regular(file).and_then(|file| file.take(MAX_TEXT).read_to_string(&mut text));
    let said = if read.is_ok() { text.lines().next().unwrap_or_default() } else { "" };
    escape(said).to_string()
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let draft = file.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&draft); // left behind by another with this number
    let written = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
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
/// So many turns of the clock may pass without a look at the files.
const MAX_TURNS: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn served(freezer: &Freezer) -> Arc<Guard> {
        let guard = Guard::new();
        freezer.serve(&guard);
        guard
    }

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
            assert_eq!(freezer.frozen(), None);
            crate::testing::pipe(&folder.join("frozen"));
            assert!(freezer.frozen().is_some(), "a pipe, which nobody writes to");
            fs::remove_file(folder.join("frozen")).unwrap();
        }
        assert_eq!(freezer.frozen(), None);
    }

    #[test]
    fn it_is_put_where_it_can_be_and_thawed_everywhere() {
        let folder = crate::testing::folder("freeze");
        fs::write(folder.join("file"), "").unwrap();
        let freezer = Freezer::new([folder.join("file"), folder.join("state")]);
        let guard = served(&freezer);

        let file = freezer.freeze("by somebody\u{1b}").unwrap().to_owned();

        assert_eq!(file, folder.join("state").join("frozen"));
        let told = freezer.frozen().unwrap();
        let later = Freezer::new([folder.join("state")]);
        assert_eq!(later.frozen().as_ref(), Some(&told), "without anybody to close");
        assert_eq!(served(&later).frozen().as_ref(), Some(&told));
        assert!(told.ends_with("is there: by somebody\\u{1b}"), "{told}");
        assert_eq!(guard.frozen(), Some(told));
        assert_eq!(fs::read_dir(folder.join("state")).unwrap().count(), 1);
        assert_eq!(freezer.thaw().unwrap(), [file.as_path()]);
        assert_eq!((freezer.frozen(), freezer.thaw().unwrap().len()), (None, 0));
        assert_eq!(guard.frozen(), None);
    }

    #[test]
    fn what_is_held_closes_before_anything_is_written_and_lasts_once_it_is() {
        let folder = crate::testing::folder("freeze-held");
        let freezer = Freezer::new([folder.clone()]);
        let guard = served(&freezer);

        freezer.hold("by a signal");

        assert_eq!((guard.frozen().as_deref(), fs::read_dir(&folder).unwrap().count()), (Some("by a signal"), 0));
        assert_eq!(served(&freezer).frozen(), guard.frozen(), "one that comes later");
        assert!(!freezer.wait_written(Duration::ZERO));
        assert_eq!(freezer.write_held().unwrap(), Some(folder.join("frozen").as_path()));
        assert!(freezer.wait_written(Duration::ZERO));
        assert!(guard.frozen().unwrap().ends_with("frozen is there: by a signal"));
        freezer.thaw().unwrap();
        freezer.look();
        assert_eq!(guard.frozen(), None);
    }

    #[test]
    fn what_cannot_be_written_is_held_for_as_long_as_the_process_lives() {
        let folder = crate::testing::folder("freeze-nowhere");
        fs::write(folder.join("file"), "").unwrap();
        let freezer = Freezer::new([folder.join("file")]);
        freezer.hold("by a signal");

        assert!(freezer.write_held().is_err() && freezer.wait_written(Duration::ZERO));

        assert_eq!(freezer.frozen().as_deref(), Some("by a signal"));
    }

    #[test]
    fn files_that_do_not_answer_close_everything_until_they_do() {
        let freezer = Freezer::new([crate::testing::folder("freeze-silent")]);
        let guard = served(&freezer);

        (0..MAX_TURNS).for_each(|_| freezer.turn());
        assert_eq!(guard.frozen(), None);
        freezer.turn();

        assert!(guard.frozen().unwrap().contains("do not answer"));
        freezer.look();
        assert_eq!(guard.frozen(), None);
        freezer.give_up("nobody looks");
        freezer.look();
        assert_eq!(guard.frozen().as_deref(), Some("nobody looks"));
    }
}
