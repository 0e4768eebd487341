//! Remembers that a policy was in force, so that one that is gone is missed at the next start.

use std::{
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use rustls::crypto::CryptoProvider;

use super::file::is_there;
use crate::{
    errors::{Error, Fault},
    local::name_of,
    private,
    regular::open_regular,
};

/// The file that says so of one configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark(PathBuf);

impl Mark {
    /// Returns the mark of a configuration, below the folder of what must last.
    pub(super) fn of(configuration: Option<&Path>, state: &Path, provider: &CryptoProvider) -> Self {
        let files: Vec<PathBuf> = configuration.into_iter().map(Path::to_owned).collect();
        Self(state.join(FOLDER).join(name_of(&files, provider)))
    }

    /// Returns what an agent without a policy fails with, where there was one.
    ///
    /// # Errors
    /// [`Fault::PolicyGone`], when the mark is there, whatever it says.
    pub(super) fn missed(&self) -> Result<(), Error> {
        if !is_there(&self.0) {
            return Ok(());
        }
        let mut text = String::new();
        let read = open_regular(&self.0).and_then(|file| file.take(MAX_TEXT).read_to_string(&mut text));
        let named = text.lines().next().filter(|line| read.is_ok() && !line.is_empty()).unwrap_or("a policy");
        let (named, mark) = (adit_core::escape(named), self.0.display());
        Err(Error::new(Fault::PolicyGone, format!("{named} was in force here; to do without one, remove {mark}")))
    }

    /// Remembers a policy.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write(&self, policy: &Path) -> io::Result<()> {
        if is_there(&self.0) {
            return Ok(());
        }
        private::make_folder(self.0.parent().unwrap_or_else(|| Path::new("")))?;
        // That it is there is what counts: half of it says as much as all.
        let mut file = match private::create(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            opened => opened?,
        };
        let shown = std::path::absolute(policy).unwrap_or_else(|_| policy.to_owned());
        writeln!(file, "{}", shown.display())?;
        file.sync_all()
    }
}

/// The folder of the marks.
const FOLDER: &str = "policies";
/// More of a mark is not read, in octets.
const MAX_TEXT: u64 = 4_096;

#[cfg(test)]
mod tests {
    use std::fs;

    use rustls::crypto::aws_lc_rs;

    use super::*;

    #[test]
    fn a_policy_that_was_in_force_is_missed_by_its_configuration_alone() {
        let (state, provider) = (crate::testing::folder("mark"), aws_lc_rs::default_provider());
        let [mine, other] = ["a.yml", "b.yml"].map(|name| Mark::of(Some(Path::new(name)), &state, &provider));
        assert_eq!(mine.missed(), Ok(()));

        mine.write(Path::new("/etc/adit/policy.yml")).unwrap();
        mine.write(Path::new("/etc/adit/policy.yml")).unwrap();

        let error = mine.missed().unwrap_err();
        assert_eq!((error.fault, error.fault.entry().exit), (Fault::PolicyGone, crate::errors::Exit::Config));
        assert!(error.detail.contains("/etc/adit/policy.yml was in force here; to do without one, remove "), "{error}");
        assert_eq!(other.missed(), Ok(()));
        fs::write(&mine.0, b"\xff").unwrap();
        assert!(mine.missed().is_err(), "whatever it says");
        fs::remove_file(&mine.0).unwrap();
        assert_eq!(mine.missed(), Ok(()));
    }
}
