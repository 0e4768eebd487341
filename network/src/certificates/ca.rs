//! The private CA: for the quickstart, and for networks whose callers trust a root of the vendor's own.

use core::{net::IpAddr, time::Duration};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    CrlDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType,
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use x509_parser::{extensions::ParsedExtension, pem::parse_x509_pem};

use super::{CertificateError, Entry, Revoked, Validity, pem};

/// A CA whose key is in a folder of ours.
#[derive(Debug)]
pub struct PrivateCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    validity: Validity,
    /// Where its revocation list is; stands in what it issues.
    list_url: Option<String>,
}

/// A certificate with its chain, and its key, as PEM.
pub struct Issued {
    /// The certificate, then the CA's.
    pub chain: String,
    /// The key.
    pub key: String,
    /// The serial number of the certificate, in hexadecimal.
    pub serial: String,
    /// When it ends: seconds since 1970.
    pub not_after: u64,
}

/// A certificate with its chain, as PEM.
#[derive(Debug)]
pub struct Signed {
    /// The certificate, then the CA's.
    pub chain: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// When it ends: seconds since 1970.
    pub not_after: u64,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// Servers, by their names and addresses.
    Server,
    /// Callers: the first name is the common name of the subject.
    Client,
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
        let certificate = pem::read(&certificate_path)?;
        let key = pem::read_key_text(&key_path)?;
        let validity = pem::certified_key(&certificate, &key, &certificate_path)?.validity;
        let key = KeyPair::from_pem(&key).map_err(CertificateError::Issue)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(CertificateError::Issue)?;
        Ok(Self { issuer, certificate, validity, list_url: None })
    }

    /// Lets what it issues say where its revocation list is (RFC 5280 §4.2.1.13).
    #[must_use]
    pub fn naming(mut self, list_url: Option<String>) -> Self {
        self.list_url = list_url;
        self
    }

    /// Returns its own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Returns whether the last certificate of a chain is its own.
    pub(super) fn is_issuer_of(&self, chain: &[CertificateDer<'_>]) -> bool {
        let own = parse_x509_pem(self.certificate.as_bytes());
        own.is_ok_and(|(_, own)| chain.last().is_some_and(|last| **last == *own.contents))
    }

    /// Returns from when to when the CA's own certificate is valid.
    pub const fn validity(&self) -> Validity {
        self.validity
    }

    /// Issues a certificate of a server, for names and addresses, valid for 90 days.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(&self, names: &[String]) -> Result<Issued, CertificateError> {
        self.issue_for(Usage::Server, names, LEAF_TERM)
    }

    /// Issues a certificate that is valid for `term`.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue_for(&self, usage: Usage, names: &[String], term: Duration) -> Result<Issued, CertificateError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = alternatives(usage, names)?;
        let key = KeyPair::generate().map_err(CertificateError::Issue)?;
        let Signed { chain, serial, not_after } = self.sign(params, (usage, names), &key, term)?;
        Ok(Issued { chain, key: key.serialize_pem(), serial, not_after })
    }

    /// Issues a certificate for the key in a request (PKCS #10, PEM), for `names`, or for those that are asked for where that is
    /// empty; returns it and the names. Nothing else of what is asked for is granted.
    ///
    /// # Errors
    /// When it is no request, was not signed by the key in it, or names nobody.
    pub fn answer(
        &self,
        request: &str,
        names: &[String],
        term: Duration,
    ) -> Result<(Signed, Vec<String>), CertificateError> {
        let asked = CertificateSigningRequestParams::from_pem(request).map_err(CertificateError::Request)?;
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            if names.is_empty() { asked.params.subject_alt_names } else { alternatives(Usage::Server, names)? };
        let granted = params.subject_alt_names.iter().map(shown).collect::<Option<Vec<_>>>();
        match granted {
            Some(granted) if !granted.is_empty() => {
                Ok((self.sign(params, (Usage::Server, &granted), &asked.public_key, term)?, granted))
            }
            Some(_) | None => Err(CertificateError::RequestNames),
        }
    }

    /// Signs a certificate with what `params` say of names; the first that fits is the common name.
    fn sign(
        &self,
        mut params: CertificateParams,
        (usage, names): (Usage, &[String]),
        key: &impl PublicKeyData,
        term: Duration,
    ) -> Result<Signed, CertificateError> {
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = names.iter().find(|name| name.len() <= MAX_COMMON_NAME) {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.extended_key_usages = match usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points =
            self.list_url.iter().map(|url| CrlDistributionPoint { uris: vec![url.clone()] }).collect();
        validity(&mut params, term);
        let serial = serial_number()?;
        params.serial_number = Some(serial.to_vec().into());
        let not_after = u64::try_from(params.not_after.unix_timestamp()).unwrap_or(0);
        let leaf = params.signed_by(key, &self.issuer).map_err(CertificateError::Issue)?;
        let chain = format!("{}{}", leaf.pem(), self.certificate);
        let serial = serial.iter().map(|octet| format!("{octet:02x}")).collect();
        Ok(Signed { chain, serial, not_after })
    }

    /// Signs a revocation list, in PEM, with what of these certificates is revoked.
    pub(super) fn sign_list(
        &self,
        number: u64,
        entries: &[&Entry],
        now: u64,
        term: Duration,
    ) -> Result<String, CertificateError> {
        let time = |seconds: u64| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH);
        let revoked = entries.iter().filter_map(|entry| {
            let Revoked { at, reason } = entry.revoked.as_ref()?;
            Some(RevokedCertParams {
                serial_number: octets(&entry.serial)?.into(),
                revocation_time: time(*at).into(),
                reason_code: reason.code(),
                invalidity_date: None,
            })
        });
        let params = CertificateRevocationListParams {
            this_update: time(now).into(),
            next_update: time(now.saturating_add(term.as_secs())).into(),
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: self.key_identifier(),
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).map_err(CertificateError::Issue)
    }

    /// Returns how the CA's own certificate calls its key.
    fn key_identifier(&self) -> KeyIdMethod {
        let own = || {
            let (_, pem) = parse_x509_pem(self.certificate.as_bytes()).ok()?;
            let certificate = pem.parse_x509().ok()?;
            certificate.iter_extensions().find_map(|extension| {
                let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() else { return None };
                Some(KeyIdMethod::PreSpecified(id.0.to_vec()))
            })
        };
        own().unwrap_or(KeyIdMethod::Sha256)
    }
}

fn alternatives(usage: Usage, names: &[String]) -> Result<Vec<SanType>, CertificateError> {
    let each = names.iter().map(|name| alternative_name(usage, name));
    Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
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

/// Returns how a name stands among the alternative ones; what is no address and no name of a host, only callers have.
fn alternative_name(usage: Usage, name: &str) -> Result<Option<SanType>, CertificateError> {
    let text = |name: &str| name.try_into().map_err(CertificateError::Issue);
    Ok(match (usage, name.parse::<IpAddr>()) {
        (_, Ok(address)) => Some(SanType::IpAddress(address)),
        (Usage::Server, Err(_)) => Some(SanType::DnsName(text(name)?)),
        (Usage::Client, Err(_)) if name.contains("://") => Some(SanType::URI(text(name)?)),
        (Usage::Client, Err(_)) if name.contains('@') => Some(SanType::Rfc822Name(text(name)?)),
        (Usage::Client, Err(_)) if name.contains('.') => Some(SanType::DnsName(text(name)?)),
        (Usage::Client, Err(_)) => None,
    })
}

/// Makes a serial number: 16 octets nobody can guess, without a sign.
fn serial_number() -> Result<[u8; 16], CertificateError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| CertificateError::NoProvider)?;
    serial[0] = serial[0] & 0x3f | 0x40;
    Ok(serial)
}

/// Reads hexadecimal, of any number of digits.
fn octets(hex: &str) -> Option<Vec<u8>> {
    let even = if hex.len().is_multiple_of(2) { hex.to_owned() } else { format!("0{hex}") };
    (0..even.len()).step_by(2).map(|at| u8::from_str_radix(even.get(at..at + 2)?, 16).ok()).collect()
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
