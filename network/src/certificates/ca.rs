//! The private CA: for the quickstart, and for networks whose callers trust a root of the vendor's own.

use core::{net::IpAddr, time::Duration};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};

use super::{CertificateError, Validity, pem};

/// A CA whose key is in a folder of ours.
#[derive(Debug)]
pub struct PrivateCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    validity: Validity,
}

/// A certificate with its chain, and its key, as PEM.
pub struct Issued {
    /// The certificate, then the CA's.
    pub chain: String,
    /// The key.
    pub key: String,
}

impl core::fmt::Debug for Issued {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive() // the key never reaches a log
    }
}

impl PrivateCa {
    /// Makes a CA in `folder`: `ca.pem` and `ca.key`, the key with mode 600.
    ///
    /// # Errors
    /// When one of the files is there already: a CA is never replaced in passing.
    pub fn init(folder: &Path, name: &str) -> Result<Self, CertificateError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| read_error(folder, e))?;
        for path in [certificate_path(folder), key_path(folder)] {
            if path.exists() {
                return Err(CertificateError::Exists(path));
            }
        }
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        validity(&mut params, CA_TERM);
        let key = KeyPair::generate().map_err(CertificateError::Issue)?;
        let certificate = params.self_signed(&key).map_err(CertificateError::Issue)?.pem();
        write_new(&key_path(folder), key.serialize_pem().as_bytes(), 0o600)?;
        write_new(&certificate_path(folder), certificate.as_bytes(), 0o644)?;
        Self::load(folder)
    }

    /// Reads the CA in `folder`. Half a pair, or a certificate and a key that do not belong together, are refused (V36).
    ///
    /// # Errors
    /// [`CertificateError`]; nothing falls back to anything (V30).
    pub fn load(folder: &Path) -> Result<Self, CertificateError> {
        let (certificate_path, key_path) = (certificate_path(folder), key_path(folder));
        let certificate = fs::read_to_string(&certificate_path).map_err(|e| read_error(&certificate_path, e))?;
        let key = pem::read_key_text(&key_path)?;
        let validity = pem::certified_key(&certificate, &key, &certificate_path)?.validity;
        let key = KeyPair::from_pem(&key).map_err(CertificateError::Issue)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(CertificateError::Issue)?;
        Ok(Self { issuer, certificate, validity })
    }

    /// Returns from when to when the CA's own certificate is valid.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Issues a certificate for names and addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(&self, names: &[String]) -> Result<Issued, CertificateError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = alternatives(names)?;
        let key = KeyPair::generate().map_err(CertificateError::Issue)?;
        Ok(Issued { chain: self.sign(params, &key)?, key: key.serialize_pem() })
    }

    /// Issues a certificate for the key in a request (PKCS #10, PEM), for `names`, or for those that are asked for where that is
    /// empty; returns the chain and the names. Nothing else of what is asked for is granted.
    ///
    /// # Errors
    /// When it is no request, was not signed by the key in it, or names nobody.
    pub fn answer(&self, request: &str, names: &[String]) -> Result<(String, Vec<String>), CertificateError> {
        let asked = CertificateSigningRequestParams::from_pem(request).map_err(CertificateError::Request)?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = if names.is_empty() { asked.params.subject_alt_names } else { alternatives(names)? };
        let granted = params.subject_alt_names.iter().map(shown).collect::<Option<Vec<_>>>();
        match granted {
            Some(granted) if !granted.is_empty() => Ok((self.sign(params, &asked.public_key)?, granted)),
            Some(_) | None => Err(CertificateError::RequestNames),
        }
    }

    /// Returns a certificate of a server with what `params` say of names, and the CA's own.
    fn sign(&self, mut params: CertificateParams, key: &impl PublicKeyData) -> Result<String, CertificateError> {
        params.distinguished_name = DistinguishedName::new();
        let mut names = params.subject_alt_names.iter().filter_map(shown);
        if let Some(name) = names.find(|name| name.len() <= MAX_COMMON_NAME) {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, LEAF_TERM);
        let leaf = params.signed_by(key, &self.issuer).map_err(CertificateError::Issue)?;
        Ok(format!("{}{}", leaf.pem(), self.certificate))
    }
}

fn alternatives(names: &[String]) -> Result<Vec<SanType>, CertificateError> {
    let each = |name: &String| {
        Ok(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(CertificateError::Issue)?),
        })
    };
    names.iter().map(each).collect()
}

/// Returns a name as people write it; nothing for one that no server has.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds of names are not those of servers")]
fn shown(name: &SanType) -> Option<String> {
    match name {
        SanType::DnsName(name) => Some(name.as_str().to_owned()),
        SanType::IpAddress(address) => Some(address.to_string()),
        _ => None,
    }
}

/// Writes an issued certificate to `PREFIX.pem` and `PREFIX.key`.
///
/// # Errors
/// When a file is there already or cannot be written.
pub fn write_issued(issued: &Issued, prefix: &Path) -> Result<(PathBuf, PathBuf), CertificateError> {
    let with = |extension: &str| PathBuf::from(format!("{}.{extension}", prefix.display()));
    let (certificate, key) = (with("pem"), with("key"));
    write_new(&key, issued.key.as_bytes(), 0o600)?;
    write_new(&certificate, issued.chain.as_bytes(), 0o644)?;
    Ok((certificate, key))
}

/// Writes the answer to a request to `PREFIX.pem`.
///
/// # Errors
/// When the file is there already or cannot be written.
pub fn write_answer(chain: &str, prefix: &Path) -> Result<PathBuf, CertificateError> {
    let path = PathBuf::from(format!("{}.pem", prefix.display()));
    write_new(&path, chain.as_bytes(), 0o644)?;
    Ok(path)
}

/// Returns where the CA of a folder has its certificate, which is what callers and agents are told to trust.
pub fn certificate_path(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

/// Returns where it has its key.
pub fn key_path(folder: &Path) -> PathBuf {
    folder.join("ca.key")
}

fn validity(params: &mut CertificateParams, term: Duration) {
    let now = SystemTime::now();
    // Clocks of peers may be a little behind.
    params.not_before = now.checked_sub(Duration::from_secs(300)).unwrap_or(now).into();
    params.not_after = now.checked_add(term).unwrap_or(now).into();
}

fn write_new(path: &Path, octets: &[u8], mode: u32) -> Result<(), CertificateError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(octets).and_then(|()| file.sync_all()));
    written.map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return CertificateError::Exists(path.to_owned());
        }
        read_error(path, error)
    })
}

fn read_error(path: &Path, error: io::Error) -> CertificateError {
    CertificateError::File { path: path.to_owned(), error }
}

const CA_TERM: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// A certificate of the private CA is valid for so long: 90 days.
pub(super) const LEAF_TERM: Duration = Duration::from_secs(90 * 24 * 3_600);
/// The longest common name of a certificate (RFC 5280, ub-common-name).
const MAX_COMMON_NAME: usize = 64;
