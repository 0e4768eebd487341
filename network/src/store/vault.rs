//! What is encrypted at rest: AES-256-GCM under keys of the configuration, bound to the row that it stands in.

use core::fmt;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use adit_core::Secret;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest, rand,
};

use crate::{bounded, config::SecretKeys};

/// What a sealed row holds. One kind never passes for another: the word is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An account at an ACME directory; its name is the directory's URL.
    Account,
    /// A certificate that ACME issued; its name is what it was issued for.
    Issued,
    /// A certificate that the operator put in, under a name of the operator's.
    Own,
}

/// The keys: the first seals, all open.
pub struct Vault {
    keys: Vec<Key>,
}

struct Key {
    /// The first octets of a digest of the key, so that a key that is not there is told from octets that were changed.
    id: [u8; ID],
    key: RandomizedNonceKey,
}

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file with the keys cannot be read.
    #[error("cannot read the key of secrets in {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others may read or change the keys.
    #[error("{}: others may read or change the key of secrets; run chmod 600", .0.display())]
    Mode(PathBuf),
    /// What should be a key is none.
    #[error("key {0} of the secrets is not 64 hexadecimal digits")]
    NotAKey(usize),
    /// There is no key at all.
    #[error("no key of secrets is given")]
    NoKey,
    /// It was sealed with a key that is not among those given.
    #[error("{kind} `{name}` was encrypted with another key ({id}) than those given")]
    OtherKey {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
        /// The key's id.
        id: String,
    },
    /// It is not what was sealed: changed, cut, or moved here from another row.
    #[error("{kind} `{name}` was changed since it was encrypted, or moved here from another row")]
    Tampered {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// The system gives no entropy.
    #[error("the system gives no entropy")]
    Entropy,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Account, Self::Issued, Self::Own];

    /// Returns the word that the database has.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Account => "acme-account",
            Self::Issued => "acme-certificate",
            Self::Own => "certificate",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Vault {
    /// Reads the keys that the configuration names.
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::parse`].
    pub fn load(keys: &SecretKeys) -> Result<Self, VaultError> {
        match keys {
            SecretKeys::File(path) => Self::read(path),
            SecretKeys::Environment(text) => Self::parse(text),
        }
    }

    /// Reads keys: 64 hexadecimal digits each, separated by white space or commas. Lines that begin with `#` are comments.
    ///
    /// # Errors
    /// When there is none, or one is not a key.
    pub fn parse(text: &Secret) -> Result<Self, VaultError> {
        let text = core::str::from_utf8(text.expose()).map_err(|_| VaultError::NotAKey(1))?;
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let words = lines.flat_map(|line| line.split([' ', '\t', '\r', ',']).filter(|word| !word.is_empty()));
        let mut keys = Vec::new();
        for (at, word) in words.enumerate() {
            let octets = unhex(word).ok_or(VaultError::NotAKey(at + 1))?;
            keys.push(Key::new(&octets).ok_or(VaultError::NotAKey(at + 1))?);
        }
        if keys.is_empty() { Err(VaultError::NoKey) } else { Ok(Self { keys }) }
    }

    /// Reads keys from a file that nobody else may read or change.
    ///
    /// # Errors
    /// As [`Self::parse`], and when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, VaultError> {
        let failed = |error| VaultError::File { path: path.to_owned(), error };
        let contents = bounded::read(path, MAX_FILE).map_err(failed)?;
        if contents.mode & 0o037 != 0 {
            return Err(VaultError::Mode(path.to_owned())); // V46
        }
        Self::parse(&Secret::new(contents.octets))
    }

    /// Makes a key, as [`Self::parse`] reads it.
    ///
    /// # Errors
    /// When the system gives no entropy.
    pub fn generate() -> Result<Secret, VaultError> {
        let mut octets = [0; KEY];
        rand::fill(&mut octets).map_err(|_| VaultError::Entropy)?;
        Ok(Secret::new(hex(&octets)))
    }

    /// Seals octets with the first key, for the row of this kind and name.
    ///
    /// # Errors
    /// When the system gives no entropy.
    pub fn seal(&self, kind: Kind, name: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let key = self.keys.first().ok_or(VaultError::NoKey)?;
        let mut body = plain.to_vec();
        let nonce =
            key.key.seal_in_place_append_tag(Aad::from(row(kind, name)), &mut body).map_err(|_| VaultError::Entropy)?;
        let mut sealed = vec![VERSION];
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made for the same kind and name, with whichever key.
    ///
    /// # Errors
    /// [`VaultError::OtherKey`] or [`VaultError::Tampered`].
    pub fn open(&self, kind: Kind, name: &str, sealed: &[u8]) -> Result<Secret, VaultError> {
        let tampered = || VaultError::Tampered { kind, name: name.to_owned() };
        let (id, rest) = split(sealed).ok_or_else(tampered)?;
        let key = self.keys.iter().find(|key| key.id == *id).ok_or_else(|| VaultError::OtherKey {
            kind,
            name: name.to_owned(),
            id: hex(id),
        })?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(tampered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| tampered())?;
        let mut body = body.to_vec();
        let plain = key.key.open_in_place(nonce, Aad::from(row(kind, name)), &mut body).map_err(|_| tampered())?;
        let length = plain.len();
        body.truncate(length);
        Ok(Secret::new(body))
    }

    /// Tells whether it was sealed with the first key.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        let first = self.keys.first().map(|key| key.id);
        split(sealed).is_some_and(|(id, _)| Some(*id) == first)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Key {
    fn new(octets: &[u8; KEY]) -> Option<Self> {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"adit secrets key id\0");
        context.update(octets);
        let id = context.finish().as_ref().first_chunk().copied()?;
        Some(Self { id, key: RandomizedNonceKey::new(&AES_256_GCM, octets).ok()? })
    }
}

/// Returns what is authenticated beside the octets: where they stand.
fn row(kind: Kind, name: &str) -> Vec<u8> {
    format!("adit secret {VERSION}\0{}\0{name}", kind.word()).into_bytes()
}

fn split(sealed: &[u8]) -> Option<(&[u8; ID], &[u8])> {
    let (version, rest) = sealed.split_first()?;
    if *version != VERSION {
        return None;
    }
    rest.split_first_chunk()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; KEY]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * KEY || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut octets = [0; KEY];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
        *octet = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(octets)
}

/// Makes a new file for a key that only its owner may read.
///
/// # Errors
/// When it is there already, or cannot be written.
pub fn write_key(path: &Path, key: &Secret) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.expose())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

const VERSION: u8 = 1;
const ID: usize = 8;
const KEY: usize = 32;
const MAX_FILE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_any_key_of_the_list_and_the_first_seals() {
        let old = vault(&[1]);
        let sealed = old.seal(Kind::Own, "crm", b"secret").unwrap();

        let both = vault(&[2, 1]);
        assert_eq!(both.open(Kind::Own, "crm", &sealed).unwrap().expose(), b"secret");
        assert!(!both.is_current(&sealed) && old.is_current(&sealed));
        let again = both.seal(Kind::Own, "crm", b"secret").unwrap();
        assert!(both.is_current(&again));
        assert_eq!(vault(&[2]).open(Kind::Own, "crm", &again).unwrap().expose(), b"secret");
        assert!(!sealed.windows(6).any(|octets| octets == b"secret"));
        assert_ne!(both.seal(Kind::Own, "crm", b"secret").unwrap(), again, "each has a nonce of its own");
    }

    #[test]
    fn a_key_that_is_not_there_is_told_from_octets_that_were_changed() {
        let vault_1 = vault(&[1]);
        let sealed = vault_1.seal(Kind::Issued, "crm", b"secret").unwrap();

        assert!(matches!(vault(&[2]).open(Kind::Issued, "crm", &sealed), Err(VaultError::OtherKey { .. })));
        for at in 1 + ID..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let opened = vault_1.open(Kind::Issued, "crm", &changed);
            assert!(matches!(opened, Err(VaultError::Tampered { .. })), "octet {at}");
        }
        for length in 0..sealed.len() {
            assert!(vault_1.open(Kind::Issued, "crm", &sealed[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_row_that_was_moved_to_another_name_or_kind_is_not_opened() {
        let vault = vault(&[1]);
        let sealed = vault.seal(Kind::Issued, "evil.example", b"key").unwrap();

        for (kind, name) in
            [(Kind::Issued, "crm.example"), (Kind::Own, "evil.example"), (Kind::Account, "evil.example")]
        {
            assert!(matches!(vault.open(kind, name, &sealed), Err(VaultError::Tampered { .. })), "{kind} {name}");
        }
    }

    #[test]
    fn a_key_is_64_digits_and_nothing_else_is_taken_for_one() {
        let one = "0f".repeat(32);
        let parse = |text: &str| Vault::parse(&Secret::new(text)).map(|vault| vault.keys.len());

        assert_eq!(parse(&format!("# new first\n{one}\n\n{}\n", "AA".repeat(32))).unwrap(), 2);
        assert_eq!(parse(&format!("{one},{one}")).unwrap(), 2);
        assert!(matches!(parse("\n# none\n"), Err(VaultError::NoKey)));
        for wrong in ["0f".repeat(31), "0f".repeat(33), "0g".repeat(32), format!("{one} x"), "+f".repeat(32)] {
            assert!(matches!(parse(&wrong), Err(VaultError::NotAKey(_))), "{wrong}");
        }
        assert!(parse(core::str::from_utf8(Vault::generate().unwrap().expose()).unwrap()).is_ok());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let path = std::env::temp_dir().join(format!("adit-vault-{}", std::process::id()));
        write_key(&path, &Vault::generate().unwrap()).unwrap();

        assert!(Vault::read(&path).is_ok());
        assert!(write_key(&path, &Vault::generate().unwrap()).is_err(), "a key is never replaced in passing");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Vault::read(&path).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let open = Vault::read(&path);
        fs::remove_file(&path).unwrap();

        assert!(matches!(open, Err(VaultError::Mode(_))), "V46");
    }

    fn vault(keys: &[u8]) -> Vault {
        let text: Vec<_> = keys.iter().map(|key| hex(&[*key; KEY])).collect();
        Vault::parse(&Secret::new(text.join("\n"))).unwrap()
    }
}
