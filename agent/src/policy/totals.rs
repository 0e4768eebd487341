//! What was carried, over restarts: a file that counts on, and that is believed whole or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    audit::{Claim, Hasher, folders},
    config::replace,
    sealed::{read, seal, unseal},
};

/// Octets that were carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    /// Under all rules.
    pub(super) whole: u64,
    /// Under each rule, by its name.
    pub(super) rules: BTreeMap<String, u64>,
}

/// The file.
#[derive(Debug)]
pub(super) struct TotalsFile {
    claim: Claim,
    hasher: Hasher,
    written: Totals,
}

impl TotalsFile {
    /// Reads what an agent of this name has counted before; zero where there is no file. No other agent counts in it.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn open(state: &Path, name: &str, hasher: Hasher) -> Result<(Self, Totals), String> {
        let claim = Claim::take(&state.join(FOLDER).join(name)).map_err(|error| error.to_string())?;
        let found = load(&claim.folder.join(FILE), hasher)?;
        let written = found.clone().unwrap_or_default();
        let mut file = Self { claim, hasher, written };
        let Some(totals) = found else {
            let totals = file.adopt(state)?;
            return Ok((file, totals));
        };
        Ok((file, totals))
    }

    /// Takes over what was counted in a file that has not the name of its agent: the first that no other agent has.
    fn adopt(&mut self, state: &Path) -> Result<Totals, String> {
        for folder in folders(&state.join(FOLDER)) {
            let lock = File::open(folder.join("lock"));
            if lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock))) {
                continue;
            }
            let path = folder.join(FILE);
            let Some(totals) = load(&path, self.hasher)? else { continue };
            self.write(&totals).map_err(|error| error.to_string())?;
            fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            return Ok(totals);
        }
        Ok(Totals::default())
    }

    /// Writes what was counted, in one step, and waits for the disk; nothing where it is as it was.
    ///
    /// # Errors
    /// What the system says; the file is as it was.
    pub(super) fn write(&mut self, totals: &Totals) -> io::Result<()> {
        if *totals == self.written {
            return Ok(());
        }
        let path = self.path();
        replace(&path, seal(totals, self.hasher).as_bytes())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        self.written = totals.clone();
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.claim.folder.join(FILE)
    }
}

/// Reads totals; nothing where there is no file.
fn load(path: &Path, hasher: Hasher) -> Result<Option<Totals>, String> {
    let named = |problem: &str| format!("{}: {problem}", path.display());
    match read(path, MAX_FILE) {
        Ok(text) => unseal(&text, hasher).map(Some).ok_or_else(|| named("it is not as it was written")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(&error.to_string())),
    }
}

/// Below the state folder.
const FOLDER: &str = "totals";
const FILE: &str = "totals.json";
/// Of 256 rules with names of 64 octets, escaped; in octets.
const MAX_FILE: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher() -> Hasher {
        Hasher::of(&rustls::crypto::aws_lc_rs::default_provider()).unwrap()
    }

    fn totals() -> Totals {
        Totals { whole: 12, rules: [("crm".to_owned(), 5), ("a\"b".to_owned(), 7)].into() }
    }

    #[test]
    fn what_was_counted_is_found_again_and_one_agent_counts_in_one_file() {
        let state = crate::testing::folder("totals");
        let (mut file, found) = TotalsFile::open(&state, "crm", hasher()).unwrap();
        assert_eq!(found, Totals::default());
        file.write(&totals()).unwrap();

        let (_, other) = TotalsFile::open(&state, "crm", hasher()).unwrap();
        assert_eq!(other, Totals::default(), "another agent's is another");
        drop(file);
        assert_eq!(TotalsFile::open(&state, "crm", hasher()).unwrap().1, totals());
    }

    #[test]
    fn each_agent_finds_its_own_whoever_starts_first() {
        let state = crate::testing::folder("totals-two");
        let open = |name: &str| TotalsFile::open(&state, name, hasher()).unwrap();
        let other = Totals { whole: 99, ..Totals::default() };
        open("crm").0.write(&totals()).unwrap();
        open("erp").0.write(&other).unwrap();

        let erp = open("erp");
        let crm = open("crm");
        assert_eq!((erp.1, crm.1), (other, totals()));
    }

    #[test]
    fn what_was_counted_in_files_without_a_name_is_counted_on_once() {
        let state = crate::testing::folder("totals-old");
        let old = |folder: &str, totals: &Totals| {
            fs::create_dir_all(state.join(folder)).unwrap();
            fs::write(state.join(folder).join("lock"), "").unwrap();
            fs::write(state.join(folder).join(FILE), seal(totals, hasher())).unwrap();
        };
        let other = Totals { whole: 99, ..Totals::default() };
        old("totals", &totals());
        old("totals-2", &other);
        let open = |name: &str| TotalsFile::open(&state, name, hasher()).unwrap().1;

        assert_eq!((open("crm"), open("erp"), open("hr")), (totals(), other, Totals::default()));
        assert_eq!(open("crm"), totals(), "it has a name");
        fs::write(state.join("totals-2").join(FILE), "12").unwrap();
        assert!(TotalsFile::open(&state, "new", hasher()).unwrap_err().contains("totals-2/totals.json"));
    }

    #[test]
    fn a_file_that_was_changed_is_not_believed_and_a_file_that_is_gone_begins_anew() {
        let state = crate::testing::folder("totals-changed");
        let path = state.join(FOLDER).join("crm").join(FILE);
        TotalsFile::open(&state, "crm", hasher()).unwrap().0.write(&totals()).unwrap();
        let written = fs::read_to_string(&path).unwrap();

        for spoiled in [written.replacen(":12", ":11", 1), String::new(), "{}\n".to_owned(), written[..20].to_owned()] {
            fs::write(&path, &spoiled).unwrap();
            let told = TotalsFile::open(&state, "crm", hasher()).unwrap_err();
            assert!(told.contains("totals.json: it is not as it was written"), "{told}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::write(&path, &written).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
            assert!(TotalsFile::open(&state, "crm", hasher()).unwrap_err().contains("chmod go-w"));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(TotalsFile::open(&state, "crm", hasher()).unwrap().1, Totals::default());
    }
}
