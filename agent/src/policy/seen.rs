//! The latest time that was seen under a policy, over restarts: a file that is believed whole or not at all.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    audit::{Claim, Hasher},
    config::replace,
    sealed::{read, seal, unseal},
};

/// What was seen. Another policy begins anew: whoever may write it could have put off its end as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// What tells the policy from others.
    pub(super) policy: String,
    /// The latest time, in seconds since 1970.
    pub(super) latest: i64,
}

/// The file.
#[derive(Debug)]
pub(super) struct SeenFile {
    claim: Claim,
    hasher: Hasher,
    pub(super) written: Seen,
}

impl SeenFile {
    /// Reads what an agent of this name has seen before; nothing where there is no file.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn open(state: &Path, name: &str, hasher: Hasher) -> Result<Self, String> {
        let claim = Claim::take(&state.join(FOLDER).join(name)).map_err(|error| error.to_string())?;
        let path = claim.folder.join(FILE);
        let named = |problem: String| format!("{}: {problem}", path.display());
        let written = match read(&path, MAX_FILE) {
            Ok(text) => unseal(&text, hasher).ok_or_else(|| named("it is not as it was written".to_owned()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::default(),
            Err(error) => return Err(named(error.to_string())),
        };
        Ok(Self { claim, hasher, written })
    }

    /// Writes what was seen, in one step, and waits for the disk.
    ///
    /// # Errors
    /// What the system says; the file is as it was.
    pub(super) fn write(&mut self, seen: Seen) -> io::Result<()> {
        let path = self.claim.folder.join(FILE);
        replace(&path, seal(&seen, self.hasher).as_bytes())
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        self.written = seen;
        Ok(())
    }
}

/// Below the state folder.
const FOLDER: &str = "seen";
const FILE: &str = "seen.json";
/// It is not longer, in octets.
const MAX_FILE: u64 = 1 << 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_seen_is_found_again_by_the_agent_of_that_name_and_a_changed_file_is_not_believed() {
        let hasher = Hasher::of(&rustls::crypto::aws_lc_rs::default_provider()).unwrap();
        let state = crate::testing::folder("seen");
        let seen = Seen { policy: "0123abcd".into(), latest: 1_798_758_000 };
        let open = |name: &str| SeenFile::open(&state, name, hasher);
        assert_eq!(open("crm").unwrap().written, Seen::default());
        open("crm").unwrap().write(seen.clone()).unwrap();

        assert_eq!(open("crm").unwrap().written, seen);
        assert_eq!(open("erp").unwrap().written, Seen::default());
        let path = state.join(FOLDER).join("crm").join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("1798758000", "0")).unwrap();
        assert!(open("crm").unwrap_err().contains("seen.json: it is not as it was written"));
        fs::remove_file(&path).unwrap();
        assert_eq!(open("crm").unwrap().written, Seen::default());
    }
}
