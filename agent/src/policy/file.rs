//! The file of a policy: where it is, and whether anybody else could have written it.

use std::{
    fs::Metadata,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::Policy;
use crate::{
    config::{ConfigFault, fault},
    regular::open_regular,
};

/// A policy as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it says.
    pub policy: Policy,
    /// Its octets, by which it is named.
    pub text: String,
}

/// Returns where the policy is looked for: where `named` says; without, in `/etc/adit/policy.yml`, and beside the configuration.
///
/// # Errors
/// When both of the latter exist: which of them holds is not for the agent to guess.
pub fn find(named: Option<&Path>, configuration: Option<&Path>) -> Result<PathBuf, Vec<ConfigFault>> {
    find_in(Path::new(SYSTEM), named, configuration)
}

fn find_in(system: &Path, named: Option<&Path>, configuration: Option<&Path>) -> Result<PathBuf, Vec<ConfigFault>> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let Some(beside) = configuration.map(|file| file.with_file_name(NAME)) else { return Ok(system.to_owned()) };
    let same = || matches!((system.canonicalize(), beside.canonicalize()), (Ok(one), Ok(other)) if one == other);
    // What cannot be looked at may be there.
    match (is_there(system), is_there(&beside)) {
        (true, true) if !same() => {
            let problem = format!("there is a policy in {} as well", system.display());
            Err(vec![fault(
                &beside,
                None,
                &problem,
                "Remove one of the two, or name the one that holds: --policy FILE",
            )])
        }
        (true, _) => Ok(system.to_owned()),
        (false, _) => Ok(beside),
    }
}

/// Reads a policy; nothing when there is no file. What is there and cannot be read is a fault: it might have refused.
///
/// # Errors
/// Every fault.
pub fn load(file: &Path) -> Result<Option<Found>, Vec<ConfigFault>> {
    let unreadable = |problem: String, remedy: &str| vec![fault(file, None, &problem, remedy)];
    let Some(text) = read(file).map_err(|(problem, remedy)| unreadable(problem, &remedy))? else { return Ok(None) };
    let policy = Policy::parse(file, &text)?;
    Ok(Some(Found { policy, text }))
}

/// Returns whether there is anything by that name, or cannot be told.
pub(super) fn is_there(file: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};

    !matches!(file.symlink_metadata(), Err(error) if matches!(error.kind(), NotFound | NotADirectory))
}

fn read(file: &Path) -> Result<Option<String>, (String, String)> {
    let cannot =
        |error: std::io::Error| (format!("cannot be read: {error}"), "Check the path and its rights".to_owned());
    if !is_there(file) {
        return Ok(None);
    }
    let opened = match open_regular(file) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            return Err(("is no file".to_owned(), "Name a file".to_owned()));
        }
        opened => opened.map_err(cannot)?,
    };
    let metadata = opened.metadata().map_err(cannot)?;
    owned(file, &metadata, 0)?;
    // Who may write one of the folders on the way can put another file in the place of this one.
    for crossed in way(file).map_err(cannot)? {
        owned(&crossed, &crossed.symlink_metadata().map_err(cannot)?, STICKY)?;
    }
    let mut octets = Vec::new();
    opened.take(MAX_FILE + 1).read_to_end(&mut octets).map_err(cannot)?;
    if octets.len() as u64 > MAX_FILE {
        return Err((format!("is longer than {MAX_FILE} octets"), "Shorten it".to_owned()));
    }
    let text = String::from_utf8(octets).map_err(|_| ("is not UTF-8".to_owned(), "Write it as UTF-8".to_owned()))?;
    Ok(Some(text))
}

/// Returns whether nobody but root and the agent's user decides what a path leads to.
pub(crate) fn is_settled(path: &Path) -> bool {
    let is_own =
        |crossed: &PathBuf| crossed.symlink_metadata().is_ok_and(|metadata| owned(crossed, &metadata, STICKY).is_ok());
    cfg!(unix) && way(path).is_ok_and(|crossed| crossed.iter().all(is_own))
}

/// Returns all folders and links by which a file is reached, from the root on.
fn way(file: &Path) -> std::io::Result<Vec<PathBuf>> {
    let whole = std::path::absolute(file)?;
    let parts = |path: &Path| path.components().map(|part| PathBuf::from(part.as_os_str())).rev().collect();
    let (mut at, mut crossed): (_, Vec<PathBuf>) = (PathBuf::new(), Vec::new());
    let mut left: Vec<PathBuf> = parts(&whole);
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part.as_os_str() == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let metadata = next.symlink_metadata()?;
        if metadata.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(std::io::Error::other("too many links lead to it"));
            }
            left.extend(parts(&next.read_link()?));
            crossed.push(next); // one that leads to the root takes the place of `at` when it is joined
        } else {
            if metadata.is_dir() {
                crossed.push(next.clone());
            }
            at = next;
        }
    }
    Ok(crossed)
}

/// Refuses what others could have changed; bits of `unless` make up for that.
#[cfg(unix)]
fn owned(path: &Path, metadata: &Metadata, unless: u32) -> Result<(), (String, String)> {
    use std::os::unix::fs::MetadataExt as _;

    let (shown, mode, owner) = (path.display(), metadata.mode() & 0o7777, metadata.uid());
    let us = rustix::process::geteuid().as_raw();
    if owner != 0 && owner != us {
        let remedy = format!("chown root {shown}, or run the agent as its owner");
        return Err((format!("{shown} belongs to user {owner}, neither root nor the agent's {us}"), remedy));
    }
    // A link has no mode: who may replace it is said by its folder.
    if !metadata.is_symlink() && mode & 0o022 != 0 && mode & unless == 0 {
        return Err((format!("the mode {mode:04o} of {shown} lets others change it"), format!("chmod go-w {shown}")));
    }
    Ok(())
}

#[cfg(not(unix))]
fn owned(_: &Path, _: &Metadata, _: u32) -> Result<(), (String, String)> {
    Ok(())
}

/// Where a policy of the whole machine is.
const SYSTEM: &str = "/etc/adit/policy.yml";
/// The name of a policy beside a configuration.
const NAME: &str = "policy.yml";
/// In a folder with this bit only the owner of a file replaces it.
const STICKY: u32 = 0o1000;
/// As many as Linux follows.
const MAX_LINKS: u32 = 40;
/// A policy is not larger, in octets.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn written(name: &str, text: &str, mode: u32) -> PathBuf {
        let file = crate::testing::folder(name).join("policy.yml");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    fn told(file: &Path) -> String {
        load(file).unwrap_err().iter().map(|fault| format!("{fault}\n")).collect()
    }

    #[test]
    fn a_policy_that_others_may_change_is_refused_with_the_remedy() {
        for mode in [0o620, 0o602, 0o666] {
            let told = told(&written("policy-mode", "version: 1\n", mode));
            assert!(told.contains(&format!("{mode:04o}")) && told.contains("chmod go-w"), "{told}");
        }
        for mode in [0o600, 0o644, 0o444] {
            assert!(load(&written("policy-mode", "version: 1\n", mode)).unwrap().is_some());
        }
    }

    #[test]
    fn a_policy_in_a_folder_that_others_may_write_is_refused_unless_only_owners_replace_files_there() {
        let file = written("policy-folder", "version: 1\n", 0o600);
        let folder = file.parent().unwrap();
        for (mode, is_fine) in [(0o777, false), (0o770, false), (0o1777, true), (0o755, true)] {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load(&file).is_ok(), is_fine, "{mode:o}");
        }
    }

    #[test]
    fn every_folder_on_the_way_counts_and_every_link() {
        let file = written("policy-way", "version: 1\n", 0o600);
        let root = file.parent().unwrap();
        let mode = |folder: &Path, mode| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        let (deep, middle) = (root.join("wide/deep"), root.join("middle"));
        for folder in [&deep, &middle] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::rename(&file, deep.join("real.yml")).unwrap();
        std::os::unix::fs::symlink("../wide/deep/real.yml", middle.join("link.yml")).unwrap();
        std::os::unix::fs::symlink(middle.join("link.yml"), &file).unwrap();

        assert!(load(&file).unwrap().is_some());
        for folder in [&root.join("wide"), &deep, &middle] {
            mode(folder, 0o777);
            let told = told(&file);
            assert!(told.contains(&format!("the mode 0777 of {}", folder.display())), "{told}");
            mode(folder, 0o755);
        }
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(&file, &file).unwrap();
        assert!(told(&file).contains("cannot be read"));
    }

    #[test]
    fn a_policy_that_is_no_file_is_refused_and_none_is_none() {
        let folder = crate::testing::folder("policy-none");

        assert_eq!(load(&folder.join("policy.yml")), Ok(None));
        fs::create_dir(folder.join("policy.yml")).unwrap();
        assert!(told(&folder.join("policy.yml")).contains("is no file"));
        assert!(told(&crate::testing::pipe(&folder.join("pipe.yml"))).contains("is no file"), "it does not wait");
        std::os::unix::fs::symlink(folder.join("nowhere"), folder.join("link.yml")).unwrap();
        assert!(told(&folder.join("link.yml")).contains("cannot be read"));
    }

    #[test]
    fn two_policies_are_one_too_many_unless_one_is_named() {
        let folder = crate::testing::folder("policy-two");
        let (system, configuration) = (folder.join("system.yml"), folder.join("adit.yml"));
        let find = |named| find_in(&system, named, Some(&configuration));

        assert_eq!(find(None), Ok(folder.join("policy.yml")));
        fs::write(&system, "").unwrap();
        assert_eq!(find(None), Ok(system.clone()));
        fs::write(folder.join("policy.yml"), "").unwrap();
        assert!(find(None).unwrap_err()[0].to_string().contains("--policy FILE"));
        assert_eq!(find(Some(Path::new("mine.yml"))), Ok("mine.yml".into()));
    }
}
