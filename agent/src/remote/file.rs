//! The document that is kept, over restarts: a file that is believed whole or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls::crypto::CryptoProvider;
use serde::{Deserialize, Serialize};

use crate::{
    audit::{Hasher, check_owner},
    config::{Sent, document, replace_as, sync_folder, told},
    local::name_of,
    private::make_folder,
    sealed::{read, seal, unseal},
};

/// What is kept of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) document: String,
    /// The SHA-256 of the document, in hexadecimal digits.
    pub(crate) print: String,
    /// What the vendor said about it, and so by whom.
    pub(crate) said: String,
    /// When it was taken, in seconds since 1970.
    pub(crate) taken: i64,
}

/// A document, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) kept: Kept,
    pub(crate) sent: Vec<Sent>,
}

/// Where the document of one configuration is kept.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    path: PathBuf,
    hasher: Hasher,
}

/// What tells one state of the file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl RemoteFile {
    /// Returns the file of the agent with these files, below the folder of what must last; nothing where there is no SHA-256.
    pub(crate) fn of(files: &[PathBuf], state: &Path, provider: &CryptoProvider) -> Option<Self> {
        let path = state.join(FOLDER).join(format!("{}.json", name_of(files, provider)));
        Some(Self { path, hasher: Hasher::of(provider)? })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is to be kept of a document.
    pub(crate) fn kept(&self, document: String, said: String) -> Kept {
        let taken = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let print = self.hasher.hash(document.as_bytes()).to_string();
        Kept { document, print, said, taken: i64::try_from(taken).unwrap_or(i64::MAX) }
    }

    /// Reads the document that is kept; nothing where there is none.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(crate) fn load(&self) -> Result<Option<Document>, String> {
        let named = |problem: &str| format!("{}: {problem}", self.path.display());
        let text = match self.read() {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(named(&error.to_string())),
        };
        let kept: Kept = unseal(&text, self.hasher).ok_or_else(|| named("it is not as it was written"))?;
        if self.hasher.hash(kept.document.as_bytes()).to_string() != kept.print {
            return Err(named("the document is not the one that was taken"));
        }
        // What was taken by an earlier version may be what this one does not take.
        let sent = document(&kept.document).map_err(|faults| named(&faults.first().map(told).unwrap_or_default()))?;
        Ok(Some(Document { kept, sent }))
    }

    fn read(&self) -> io::Result<String> {
        let text = read(&self.path, MAX_FILE)?;
        if let Some(folder) = self.path.parent() {
            check_owner(folder, &fs::metadata(folder)?)?;
        }
        Ok(text)
    }

    /// Writes a document down, mode 0600, and waits for the disk: beside what is kept, which stays as it is.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn draft(&self, kept: &Kept) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            make_folder(folder)?;
        }
        replace_as(&self.pending(), seal(kept, self.hasher).as_bytes(), 0o600)
    }

    /// Makes what was written down last what is kept, in one step, and waits for the disk.
    ///
    /// # Errors
    /// What the system says; what was kept is as it was.
    pub(super) fn keep(&self) -> io::Result<()> {
        fs::rename(self.pending(), &self.path)?;
        sync_folder(&self.path);
        Ok(())
    }

    /// Removes what was written down and is not kept, if there is anything.
    pub(super) fn forget(&self) {
        let _ = fs::remove_file(self.pending()); // nobody reads it
    }

    /// Removes what is kept, and waits for the disk.
    ///
    /// # Errors
    /// What the system says; what was kept is as it was.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        sync_folder(&self.path);
        Ok(())
    }

    fn pending(&self) -> PathBuf {
        self.path.with_extension("json.pending")
    }

    /// Returns what tells whether somebody else has changed the file; nothing where there is none.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::symlink_metadata(&self.path).ok()?;
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode })
    }
}

/// Below the state folder.
const FOLDER: &str = "remote";
/// Of the longest document, every octet escaped, and the longest text; in octets.
const MAX_FILE: u64 = 64 << 10;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DOCUMENT: &str =
        "version: 1\nendpoints:\n  - { name: a, url: 'https://a.example.com', upstream: { url: 80 } }\n";

    fn write(file: &RemoteFile, kept: &Kept) {
        file.draft(kept).unwrap();
        file.keep().unwrap();
    }

    fn kept_in(name: &str) -> (PathBuf, RemoteFile) {
        let state = crate::testing::folder(name);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let file = RemoteFile::of(&["adit.yml".into()], &state, &provider).unwrap();
        let kept = file.kept(DOCUMENT.to_owned(), "by ops".to_owned());
        write(&file, &kept);
        (state, file)
    }

    #[test]
    fn a_document_is_found_again_by_its_agent_alone_and_nobody_else_may_read_it() {
        let (state, file) = kept_in("remote-kept");

        let found = file.load().unwrap().unwrap();

        assert_eq!((&*found.kept.document, &*found.kept.said, found.sent.len()), (DOCUMENT, "by ops", 1));
        assert_eq!(found.kept.print.len(), 64);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file.path()), mode(file.path().parent().unwrap())), (0o600, 0o700));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        assert_eq!(RemoteFile::of(&["b.yml".into()], &state, &provider).unwrap().load(), Ok(None));
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.load(), Ok(None));
    }

    #[test]
    fn a_file_that_was_changed_or_that_others_may_change_is_not_believed() {
        let (_, file) = kept_in("remote-changed");
        let written = fs::read_to_string(file.path()).unwrap();
        let told = || file.load().unwrap_err();

        for spoiled in [written.replace("a.example", "b.example"), String::new(), written[..40].to_owned()] {
            fs::write(file.path(), &spoiled).unwrap();
            assert!(told().ends_with("it is not as it was written"), "{}", told());
        }
        fs::write(file.path(), &written).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o620)).unwrap();
        assert!(told().contains("chmod go-w"), "{}", told());
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(file.path().parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(told().contains("chmod go-w"), "{}", told());
        fs::set_permissions(file.path().parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(file.load().is_ok());
        let moved = file.path().with_extension("moved");
        fs::rename(file.path(), &moved).unwrap();
        std::os::unix::fs::symlink(&moved, file.path()).unwrap();
        assert!(told().contains("it is no file"), "{}", told());
    }

    /// Who can write the file can make up its hashes: what it says is held against the rules all the same.
    #[test]
    fn a_document_that_this_version_does_not_take_is_not_believed_however_well_it_is_kept() {
        let (_, file) = kept_in("remote-rules");
        let kept = file.kept("version: 1\nagent: {}\nendpoints: []\n".to_owned(), String::new());
        write(&file, &kept);
        assert!(file.load().unwrap_err().contains("line 2, column 1: agent: "), "{:?}", file.load());

        write(&file, &Kept { print: "0".repeat(64), ..file.kept(DOCUMENT.to_owned(), String::new()) });
        assert!(file.load().unwrap_err().ends_with("the document is not the one that was taken"));
    }

    #[test]
    fn another_file_has_another_stamp() {
        let (_, file) = kept_in("remote-stamp");
        let first = file.stamp();
        assert!(first.is_some());

        write(&file, &file.kept("version: 1\nendpoints: []\n".to_owned(), String::new()));
        assert_ne!(file.stamp(), first);
        file.remove().unwrap();
        assert_eq!(file.stamp(), None);
    }
}
