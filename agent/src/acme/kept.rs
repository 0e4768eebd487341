//! What is kept from one run to the next, for this user alone: the account, the certificate with its key, and what failed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use adit_core::Secret;
use rustls::crypto::CryptoProvider;
use serde::{Deserialize, Serialize};

use crate::{
    config::{AcmeConfig, NamedFile, read_private, replace},
    errors::{Error, Fault},
    private,
    termination::{Facts, Nearness, Pair},
    trust::sha256,
};

/// The folder of accounts and certificates.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    name: String,
    /// What tells one account from another: the directory, and the account that it is bound to.
    account: String,
}

/// What is remembered of a name's orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// Where it was ordered.
    pub(super) directory: String,
    /// How often in a row that came to nothing.
    pub(super) failures: u32,
    /// When it may be tried again, in seconds since 1970.
    pub(super) next: u64,
    /// Whether the authority has said so.
    pub(super) limited: bool,
    /// Why it came to nothing.
    pub(super) error: String,
}

impl Folder {
    /// Returns where everything of a name is kept; nothing is made yet.
    pub(super) fn new(config: &AcmeConfig, provider: &CryptoProvider) -> Self {
        let key_id = config.external.as_ref().map_or("", |external| external.key_id.as_str());
        let print = sha256(format!("{}\n{key_id}", config.directory).as_bytes(), provider).unwrap_or_default();
        let short: String = print.chars().filter(char::is_ascii_hexdigit).take(32).collect();
        let account = format!("account-{}.json", short.to_lowercase());
        Self { path: config.folder.clone(), name: config.name.clone(), account }
    }

    /// Makes the folder, which nobody else may look into.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`].
    pub(super) fn make(&self) -> Result<(), Error> {
        let failed = |problem: String| Error::new(Fault::FileUnwritable, format!("{}: {problem}", self.path.display()));
        private::make_folder(&self.path).map_err(|error| failed(error.to_string()))?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;

            let facts = fs::metadata(&self.path).map_err(|error| failed(error.to_string()))?;
            let mode = facts.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(failed(format!("mode {mode:04o} lets others look into it; chmod 700")));
            }
        }
        Ok(())
    }

    /// Returns the account's name and key, if there is one.
    ///
    /// # Errors
    /// [`Fault::CertificateUnusable`]: it is there and cannot be used, and another is not made behind its owner's back.
    pub(super) fn account(&self) -> Result<Option<Secret>, Error> {
        let path = self.file(&self.account);
        if !path.exists() {
            return Ok(None);
        }
        let unusable = |problem| Error::new(Fault::CertificateUnusable, format!("{}: {problem}", path.display()));
        read_private(&path, MAX_FILE).map(Some).map_err(unusable)
    }

    /// Keeps the account.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`].
    pub(super) fn put_account(&self, account: &[u8]) -> Result<(), Error> {
        self.put(&self.file(&self.account), account)
    }

    /// Forgets the account.
    pub(super) fn drop_account(&self) {
        let path = self.file(&self.account);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an account that is good no more cannot be removed");
        }
    }

    /// Puts certificate and key in place in one step, checked as they will be read; returns what the certificate says.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`], [`Fault::OrderRefused`]: what was there stays.
    pub(super) fn put_pair(&self, chain: &str, key: &Secret, provider: &CryptoProvider) -> Result<Facts, Error> {
        let (path, draft) = (self.pair(), self.file(&format!("{}.new", self.name)));
        let mut text = key.expose().to_vec();
        text.extend_from_slice(chain.as_bytes());
        let text = Secret::new(text);
        self.put(&draft, text.expose())?;
        let written = NamedFile::from(draft.clone());
        let put = fit(Pair::load(&written, &written, provider), &self.name).and_then(|facts| {
            fs::rename(&draft, &path).map_err(|error| unwritable(&path, &error))?;
            Ok(facts)
        });
        if put.is_err() {
            let _ = fs::remove_file(&draft); // what matters is told by `put`
        }
        put
    }

    /// Returns the file of certificate and key.
    pub(super) fn pair(&self) -> PathBuf {
        self.file(&format!("{}.pem", self.name))
    }

    /// Returns what is remembered. What cannot be read is not.
    pub(super) fn record(&self) -> Record {
        let text = read_private(&self.file(&format!("{}.json", self.name)), MAX_FILE).ok();
        text.and_then(|text| serde_json::from_slice(text.expose()).ok()).unwrap_or_default()
    }

    /// Remembers.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`].
    pub(super) fn put_record(&self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_vec(record).unwrap_or_default();
        self.put(&self.file(&format!("{}.json", self.name)), &text)
    }

    /// Asks the agent that runs, or the next one, for a new certificate.
    ///
    /// # Errors
    /// [`Fault::FileUnwritable`].
    pub(super) fn put_wish(&self) -> Result<(), Error> {
        // One that somebody else made would be of no use to the agent.
        if !self.path.is_dir() {
            let problem =
                "no agent has kept anything there; where it runs as a service, set STATE_DIRECTORY=/var/lib/adit";
            return Err(Error::new(Fault::FileUnwritable, format!("{}: {problem}", self.path.display())));
        }
        self.put(&self.wish(), b"")
    }

    /// Returns whether somebody has asked for a new certificate, once.
    pub(super) fn take_wish(&self) -> bool {
        fs::remove_file(self.wish()).is_ok()
    }

    fn wish(&self) -> PathBuf {
        self.file(&format!("{}.renew", self.name))
    }

    fn put(&self, path: &Path, content: &[u8]) -> Result<(), Error> {
        replace(path, content).map_err(|error| unwritable(path, &error))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Returns what a certificate says that was issued for a name, if it is one that can be used.
fn fit(issued: Result<Pair, Error>, name: &str) -> Result<Facts, Error> {
    let unusable = |problem: &str| Error::new(Fault::OrderRefused, format!("what was issued: {problem}"));
    let facts = issued.map_err(|error| unusable(&error.detail))?.facts;
    match facts.nearness() {
        _ if !facts.is_for(name) => Err(unusable("it is for other names")),
        Nearness::Over => Err(unusable("it has expired already")),
        Nearness::Near | Nearness::Far => Ok(facts),
    }
}

/// Returns whether a chain can be used that an authority has issued for a name and a key, for who fuzzes it.
///
/// # Errors
/// What is wrong with it, for people.
pub fn issued_chain(chain: &str, key: &Secret, name: &str, provider: &CryptoProvider) -> Result<(), String> {
    let place = Path::new("issued");
    let text = Secret::new([key.expose(), chain.as_bytes()].concat());
    let whole = core::str::from_utf8(text.expose()).unwrap_or_default();
    fit(Pair::parse((place, whole), (place, &text), provider), name).map(drop).map_err(|error| error.to_string())
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    Error::new(Fault::FileUnwritable, format!("{}: {error}", path.display()))
}

/// A file is not longer, in octets.
const MAX_FILE: u64 = 256 << 10;

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;
    use crate::{acme::tests::config, testing::folder};

    fn provider() -> CryptoProvider {
        rustls::crypto::aws_lc_rs::default_provider()
    }

    fn kept(name: &str) -> Folder {
        let folder = Folder::new(&config(folder(name).join("acme"), ""), &provider());
        folder.make().unwrap();
        folder
    }

    fn pair(name: &str) -> (String, Secret) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), Secret::new(key.serialize_pem()))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn everything_is_for_this_user_alone() {
        let kept = kept("acme-modes");
        let (chain, key) = pair("crm.example.com");

        kept.put_account(b"{}").unwrap();
        kept.put_record(&Record { failures: 3, ..Record::default() }).unwrap();
        kept.put_pair(&chain, &key, &provider()).unwrap();

        assert_eq!(mode(&kept.path), 0o700);
        let files: Vec<_> = fs::read_dir(&kept.path).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 3, "{files:?}");
        assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
        assert_eq!(kept.record().failures, 3);
        fs::set_permissions(&kept.path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(kept.make().unwrap_err().detail.contains("chmod 700"));
    }

    #[test]
    fn what_does_not_fit_takes_no_place() {
        let kept = kept("acme-pair");
        let (chain, key) = pair("crm.example.com");
        let facts = kept.put_pair(&chain, &key, &provider()).unwrap();
        let before = fs::read(kept.pair()).unwrap();

        let (other, foreign) = pair("other.example.com");
        for (chain, key) in [(&other, &foreign), (&chain, &foreign), (&"".to_owned(), &key), (&"x".repeat(10), &key)] {
            assert_eq!(kept.put_pair(chain, key, &provider()).unwrap_err().fault, Fault::OrderRefused);
        }
        assert_eq!(fs::read(kept.pair()).unwrap(), before);
        assert!(facts.is_for("crm.example.com") && fs::read_dir(&kept.path).unwrap().count() == 1);
    }

    #[test]
    fn an_account_that_others_may_read_is_not_used_and_no_other_is_made() {
        let kept = kept("acme-account");
        assert!(kept.account().unwrap().is_none());
        kept.put_account(b"{}").unwrap();
        assert!(kept.account().unwrap().is_some());
        fs::set_permissions(kept.file(&kept.account), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(kept.account().unwrap_err().fault, Fault::CertificateUnusable);
    }

    #[test]
    fn each_authority_and_each_external_account_has_its_own_account() {
        let path = folder("acme-accounts");
        let of = |eab: &str| Folder::new(&config(path.clone(), eab), &provider()).account;
        let (plain, one, two) = (of(""), of("kid-1"), of("kid-2"));
        assert!(plain != one && one != two && of("kid-1") == one);
    }

    #[test]
    fn a_wish_is_taken_once_and_makes_no_folder_of_somebody_else() {
        let strange = Folder::new(&config(folder("acme-strange").join("acme"), ""), &provider());
        assert!(strange.put_wish().unwrap_err().detail.contains("STATE_DIRECTORY") && !strange.path.exists());
        let kept = kept("acme-wish");
        assert!(!kept.take_wish());
        kept.put_wish().unwrap();
        assert!(kept.take_wish() && !kept.take_wish());
    }
}
