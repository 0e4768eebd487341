//! What was carried, over restarts: a file that counts on, and that is believed whole or not at all.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    audit::{Claim, Hasher, check_owner},
    config::replace,
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
    /// Reads what was counted before; zero where there is no file. No other agent counts in it.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn open(state: &Path, hasher: Hasher) -> Result<(Self, Totals), String> {
        let claim = Claim::take(&state.join(FOLDER)).map_err(|error| error.to_string())?;
        let path = claim.folder.join(FILE);
        let named = |problem: String| format!("{}: {problem}", path.display());
        let totals = match read(&path) {
            Ok(text) => parse(&text, hasher).ok_or_else(|| named("it is not as it was written".to_owned()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Totals::default(),
            Err(error) => return Err(named(error.to_string())),
        };
        Ok((Self { claim, hasher, written: totals.clone() }, totals))
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
        replace(&path, text(totals, self.hasher).as_bytes())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        self.written = totals.clone();
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.claim.folder.join(FILE)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    check_owner(path, &metadata)?;
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes totals and their hash: two lines.
fn text(totals: &Totals, hasher: Hasher) -> String {
    let line = serde_json::to_string(totals).unwrap_or_default(); // of text and numbers
    format!("{line}\n{}\n", hasher.hash(line.as_bytes()))
}

fn parse(text: &str, hasher: Hasher) -> Option<Totals> {
    let (line, print) = text.split_once('\n')?;
    let print = print.strip_suffix('\n')?;
    (print.parse() == Ok(hasher.hash(line.as_bytes()))).then(|| serde_json::from_str(line).ok()).flatten()
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
        let (mut file, found) = TotalsFile::open(&state, hasher()).unwrap();
        assert_eq!(found, Totals::default());
        file.write(&totals()).unwrap();

        let (_, other) = TotalsFile::open(&state, hasher()).unwrap();
        assert_eq!(other, Totals::default(), "another agent's is another");
        drop(file);
        assert_eq!(TotalsFile::open(&state, hasher()).unwrap().1, totals());
    }

    #[test]
    fn a_file_that_was_changed_is_not_believed_and_a_file_that_is_gone_begins_anew() {
        let state = crate::testing::folder("totals-changed");
        let path = state.join(FOLDER).join(FILE);
        TotalsFile::open(&state, hasher()).unwrap().0.write(&totals()).unwrap();
        let written = fs::read_to_string(&path).unwrap();

        for spoiled in [written.replacen(":12", ":11", 1), String::new(), "{}\n".to_owned(), written[..20].to_owned()] {
            fs::write(&path, &spoiled).unwrap();
            let told = TotalsFile::open(&state, hasher()).unwrap_err();
            assert!(told.contains("totals.json: it is not as it was written"), "{told}");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::write(&path, &written).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
            assert!(TotalsFile::open(&state, hasher()).unwrap_err().contains("chmod go-w"));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(TotalsFile::open(&state, hasher()).unwrap().1, Totals::default());
    }
}
