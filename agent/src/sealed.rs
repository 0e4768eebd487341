//! Small files that the agent writes for itself: a line of JSON and its hash, believed whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::audit::{Hasher, check_owner};

/// Writes what is kept and its hash: two lines.
pub(crate) fn seal(kept: &impl Serialize, hasher: Hasher) -> String {
    let line = serde_json::to_string(kept).unwrap_or_default(); // of text and numbers
    format!("{line}\n{}\n", hasher.hash(line.as_bytes()))
}

/// Reads that; nothing where it is not as it was written.
pub(crate) fn unseal<T: DeserializeOwned>(text: &str, hasher: Hasher) -> Option<T> {
    let (line, print) = text.split_once('\n')?;
    let print = print.strip_suffix('\n')?;
    (print.parse() == Ok(hasher.hash(line.as_bytes()))).then(|| serde_json::from_str(line).ok()).flatten()
}

/// Reads at most `most` octets of a file that nobody else could have written.
///
/// # Errors
/// What the system says, who could have written it, or that it is no file.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<String> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    check_owner(path, &metadata)?;
    let mut text = String::new();
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}
