//! What the private CA has issued by command, what of it is revoked, and its revocation list: files beside its key, each replaced
//! as a whole, so that whoever is interrupted leaves the one before.

use core::time::Duration;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
};

use rcgen::RevocationReason;
use serde::{Deserialize, Serialize};
use x509_parser::{prelude::FromDer as _, revocation_list::CertificateRevocationList};

use super::{CertificateError, PrivateCa, Usage, key_path, unix_now};
use crate::bounded;

/// The certificates of a private CA.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Register {
    /// The number of the newest revocation list.
    list: u64,
    issued: Vec<Entry>,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its serial number in hexadecimal.
    pub serial: String,
    /// For whom it is.
    pub names: Vec<String>,
    /// What for.
    pub usage: Usage,
    /// When it ends: seconds since 1970.
    pub not_after: u64,
    /// Whether it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// When and why a certificate was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Seconds since 1970.
    pub at: u64,
    /// Why.
    pub reason: Reason,
}

/// Why a certificate is revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is not said.
    #[default]
    Unspecified,
    /// Somebody else may have the key.
    KeyCompromise,
    /// Who has it is not the same any more.
    AffiliationChanged,
    /// Another one has taken its place.
    Superseded,
    /// It is of no use any more.
    CessationOfOperation,
    /// Its rights were taken away.
    PrivilegeWithdrawn,
}

impl Reason {
    /// Returns what stands in the list; a reason that is not said is left out, as it should be.
    pub(super) const fn code(self) -> Option<RevocationReason> {
        match self {
            Self::Unspecified => None,
            Self::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Self::AffiliationChanged => Some(RevocationReason::AffiliationChanged),
            Self::Superseded => Some(RevocationReason::Superseded),
            Self::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            Self::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        }
    }
}

impl Register {
    /// Reads what the CA of a folder has issued.
    ///
    /// # Errors
    /// When it cannot be read: it is never taken for empty.
    pub fn read(folder: &Path) -> Result<Self, CertificateError> {
        let path = folder.join(REGISTER);
        let contents = match bounded::read(&path, MAX_REGISTER) {
            Ok(contents) => contents,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(CertificateError::File { path, error }),
        };
        let invalid = |error: serde_json::Error| CertificateError::Invalid { path, problem: error.to_string() };
        serde_json::from_slice(&contents.octets).map_err(invalid)
    }

    /// Returns every certificate, the oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.issued
    }

    /// Notes a certificate before it is handed out.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(folder: &Path, entry: Entry) -> Result<(), CertificateError> {
        Self::change(folder, |register| {
            register.issued.push(entry);
            Ok(())
        })
    }

    /// Revokes a certificate, and writes a list with it that is valid for `term`. What is revoked already stays as it is.
    ///
    /// # Errors
    /// [`CertificateError::Unknown`] when the CA has not issued it; or a file cannot be written.
    pub fn revoke(
        folder: &Path,
        serial: &str,
        reason: Reason,
        term: Duration,
    ) -> Result<(Entry, PathBuf), CertificateError> {
        let ca = PrivateCa::load(folder)?;
        Self::change(folder, |register| {
            let found = register.issued.iter_mut().find(|entry| entry.serial == serial);
            let entry = found.ok_or_else(|| CertificateError::Unknown(serial.to_owned()))?;
            let now = unix_now();
            entry.revoked.get_or_insert(Revoked { at: now, reason });
            let entry = entry.clone();
            Ok((entry, register.publish(folder, &ca, term, now)?))
        })
    }

    /// Writes a new list that is valid for `term`.
    ///
    /// # Errors
    /// When it cannot be signed or written.
    pub fn list(folder: &Path, term: Duration) -> Result<PathBuf, CertificateError> {
        let ca = PrivateCa::load(folder)?;
        Self::change(folder, |register| register.publish(folder, &ca, term, unix_now()))
    }

    /// Writes a first list that is valid for `term` when there is none. Returns whether it did.
    ///
    /// # Errors
    /// When it cannot be signed or written.
    pub fn begin(folder: &Path, term: Duration) -> Result<bool, CertificateError> {
        if list_path(folder).exists() {
            return Ok(false);
        }
        Self::list(folder, term).map(|_| true)
    }

    /// Writes a new list when there is one whose time is half over, or has not begun because the clock was ahead when it was signed; valid for as
    /// long as that one was. Returns whether it did.
    ///
    /// # Errors
    /// When it cannot be read, signed or written.
    pub fn renew(folder: &Path, now: u64) -> Result<bool, CertificateError> {
        let path = list_path(folder);
        let pem = match bounded::read(&path, MAX_REGISTER).and_then(bounded::Contents::text) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(CertificateError::File { path, error }),
        };
        let times = || {
            let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
            let (_, list) = CertificateRevocationList::from_der(&pem.contents).ok()?;
            let (made, next) = (list.last_update().timestamp(), list.next_update()?.timestamp());
            Some((u64::try_from(made).ok()?, u64::try_from(next).ok()?))
        };
        let problem = || "it is not a revocation list".to_owned();
        let (made, next) =
            times().ok_or_else(|| CertificateError::Invalid { path: path.clone(), problem: problem() })?;
        let term = next.saturating_sub(made);
        let has_begun = made <= now.saturating_add(CLOCK);
        if has_begun && now < made.saturating_add(term / 2) {
            return Ok(false);
        }
        Self::list(folder, Duration::from_secs(term)).map(|_| true)
    }

    /// Signs and writes a list. Its number is in the register before anybody can have the list.
    fn publish(
        &mut self,
        folder: &Path,
        ca: &PrivateCa,
        term: Duration,
        now: u64,
    ) -> Result<PathBuf, CertificateError> {
        self.list += 1;
        self.write(folder)?;
        // A certificate that is over needs no entry; a day later no clock takes it for good.
        let revoked: Vec<_> = self.issued.iter().filter(|it| it.not_after.saturating_add(DAY) > now).collect();
        let pem = ca.sign_list(self.list, &revoked, now, term)?;
        let path = list_path(folder);
        replace(&path, pem.as_bytes(), 0o644)?;
        Ok(path)
    }

    /// Changes the register; whoever else wants to waits.
    fn change<T>(
        folder: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, CertificateError>,
    ) -> Result<T, CertificateError> {
        let path = folder.join(LOCK);
        let failed = |error| CertificateError::File { path: path.clone(), error };
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        give(&lock, folder);
        lock.lock().map_err(failed)?; // until the file is closed
        let mut register = Self::read(folder)?;
        let done = change(&mut register)?;
        register.write(folder)?;
        Ok(done)
    }

    fn write(&mut self, folder: &Path) -> Result<(), CertificateError> {
        let now = unix_now();
        self.issued.retain(|entry| entry.not_after.saturating_add(KEPT) > now);
        let path = folder.join(REGISTER);
        let invalid = |problem: String| CertificateError::Invalid { path: path.clone(), problem };
        let octets = serde_json::to_vec_pretty(self).map_err(|error| invalid(error.to_string()))?;
        if octets.len() > MAX_REGISTER {
            return Err(invalid(format!("it would be larger than {MAX_REGISTER} octets")));
        }
        replace(&path, &octets, 0o600)
    }
}

/// Returns where the CA of a folder has its revocation list.
pub fn list_path(folder: &Path) -> PathBuf {
    folder.join("ca.crl")
}

/// Reads a serial number as people write it: hexadecimal, with colons or without, in either case.
pub fn serial(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches("0x").replace(':', "").to_ascii_lowercase();
    let digits = text.trim_start_matches('0');
    let fits = (1..=40).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    fits.then(|| digits.to_owned())
}

/// Replaces a file as a whole: after a crash there is the old one or the new one.
fn replace(path: &Path, octets: &[u8], mode: u32) -> Result<(), CertificateError> {
    let new = path.with_added_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        give(&file, folder);
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| CertificateError::File { path: path.to_owned(), error })
}

/// Gives a file to whose the CA's key is, so that a network that runs as that user can go on with what an administrator wrote.
fn give(file: &File, folder: &Path) {
    if let Ok(facts) = fs::metadata(key_path(folder)) {
        let _ = fchown(file, Some(facts.uid()), Some(facts.gid())); // only root may, and only for root it matters
    }
}

const REGISTER: &str = "ca.register.json";
const LOCK: &str = "ca.lock";
/// Room for some 200,000 certificates.
const MAX_REGISTER: usize = 64 << 20;
const DAY: u64 = 86_400;
/// By how much a clock may go back without harm, in seconds.
const CLOCK: u64 = 300;
/// A certificate is in the register for a year after its end.
const KEPT: u64 = 365 * DAY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_issued_and_revoked_lasts_and_no_list_has_the_number_of_another() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("adit-register-{}", std::process::id()));
        let ca = PrivateCa::init(&folder, "Test CA").unwrap();
        let week = Duration::from_secs(7 * DAY);
        let issue = |name: &str| {
            let names = vec![name.to_owned()];
            let issued = ca.issue_for(Usage::Client, &names, week).unwrap();
            let entry = Entry {
                serial: issued.serial,
                names,
                usage: Usage::Client,
                not_after: issued.not_after,
                revoked: None,
            };
            Register::add(&folder, entry.clone()).unwrap();
            entry.serial
        };

        // Many at once: nothing is lost.
        let issue = &issue;
        let serials: Vec<_> = std::thread::scope(|scope| {
            let issuing: Vec<_> = (0..8).map(|at| scope.spawn(move || issue(&format!("caller-{at}")))).collect();
            issuing.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let revoke = |serial: &str| Register::revoke(&folder, serial, Reason::Superseded, week).map(drop);
        let revoke = &revoke;
        let lists: Vec<_> = std::thread::scope(|scope| {
            let revoking: Vec<_> = serials[..4].iter().map(|serial| scope.spawn(move || revoke(serial))).collect();
            revoking.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(lists.iter().all(Result::is_ok), "{lists:?}");
        let register = Register::read(&folder).unwrap();
        assert_eq!((register.entries().len(), register.list), (8, 4));
        let (revoked, good): (Vec<_>, Vec<_>) = register.entries().iter().partition(|entry| entry.revoked.is_some());
        assert_eq!((revoked.len(), good.len()), (4, 4));
        assert!(matches!(Register::revoke(&folder, "abc", Reason::default(), week), Err(CertificateError::Unknown(_))));
        assert_eq!(numbers(&folder), (4, 4));

        // A list is signed anew when its time is half over, and not before.
        assert!(!Register::renew(&folder, unix_now() + 3 * DAY).unwrap());
        assert!(Register::renew(&folder, unix_now() + 4 * DAY).unwrap());
        assert!(Register::renew(&folder, unix_now() - DAY).unwrap(), "nobody believes a list from tomorrow");
        assert_eq!(numbers(&folder), (6, 4));

        // What was cut off is never taken for a CA that has issued nothing.
        let path = folder.join(REGISTER);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(Register::list(&folder, week).is_err());
        assert_eq!(numbers(&folder), (6, 4), "the list is as it was");
        fs::remove_dir_all(&folder).unwrap();
    }

    /// Returns the number of the list, and how many certificates are in it.
    fn numbers(folder: &Path) -> (u64, usize) {
        let pem = fs::read(list_path(folder)).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let (_, list) = CertificateRevocationList::from_der(&pem.contents).unwrap();
        let number = list.crl_number().unwrap().to_bytes_be();
        (
            number.iter().fold(0, |number, octet| number << 8 | u64::from(*octet)),
            list.iter_revoked_certificates().count(),
        )
    }

    #[test]
    fn a_serial_number_is_read_as_people_write_it() {
        for text in ["5f:0A:1b", "0x5F0a1B", "005f0a1b", " 5f0a1b\n"] {
            assert_eq!(serial(text).as_deref(), Some("5f0a1b"), "{text:?}");
        }
        for wrong in ["", "0", "xyz", "-1", &"1".repeat(41)] {
            assert_eq!(serial(wrong), None, "{wrong:?}");
        }
    }
}
