use core::time::Duration;
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls::CertificateError;

use super::*;
use crate::testing::folder;

type Issuer = CertifiedIssuer<'static, KeyPair>;

const UNKNOWN: rustls::Error = rustls::Error::InvalidCertificate(CertificateError::UnknownRevocationStatus);
const REVOKED: rustls::Error = rustls::Error::InvalidCertificate(CertificateError::Revoked);
const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_certificate_is_good_only_while_a_list_says_so_for_the_whole_chain() {
    let folder = folder("revocation-chain");
    let root = authority("Root");
    let below = CertifiedIssuer::signed_by(authority_params("Below", 9), KeyPair::generate().unwrap(), &root).unwrap();
    fs::write(folder.join("below.pem"), below.pem()).unwrap();
    let (good, revoked, chained) = (issue(&root, 1), issue(&root, 2), issue(&below, 3));
    let read = |lists: &[Vec<u8>], issuers: &[&str]| {
        let config = RevocationConfig {
            lists: lists
                .iter()
                .enumerate()
                .map(|(at, list)| write(&folder, &format!("{at}.crl"), list).into())
                .collect(),
            issuers: issuers.iter().map(|name| folder.join(name).into()).collect(),
        };
        Lists::read(&config, &[root.der().clone()], &Marks::default(), &provider()).map_err(|error| error.to_string())
    };

    let lists = read(&[list(&root, 1, &[2], DAY)], &[]).unwrap();
    assert_eq!((check(&lists, &good, &[]), check(&lists, &revoked, &[])), (Ok(()), Err(REVOKED)));
    assert_eq!(check(&lists, &chained, &[&below]), Err(UNKNOWN), "V31: nobody says that what is below is good");
    let both = |of_root: &[u64], of_below: &[u64]| {
        let lists = [list(&root, 1, of_root, DAY), list(&below, 1, of_below, DAY)];
        check(&read(&lists, &["below.pem"]).unwrap(), &chained, &[&below])
    };
    assert_eq!(both(&[], &[]), Ok(()));
    assert_eq!(both(&[9], &[]), Err(REVOKED), "V31: the authority below is revoked");
    assert_eq!(both(&[], &[3]), Err(REVOKED));
    let stranger = [list(&root, 1, &[], DAY), list(&below, 1, &[], DAY)];
    assert!(read(&stranger, &[]).unwrap_err().contains("none of the authorities"), "its issuer is not named");
}

#[test]
fn a_list_that_cannot_be_used_or_is_over_lets_nobody_in() {
    let folder = folder("revocation-over");
    let (ours, other) = (authority("Acme CA"), authority("Other CA"));
    let good = issue(&ours, 1);
    let path = folder.join("a.crl");
    let config = RevocationConfig { lists: vec![path.clone().into()], issuers: Vec::new() };
    let read = || Lists::read(&config, &[ours.der().clone()], &Marks::default(), &provider());
    let problem = || read().unwrap_err().to_string();

    assert!(problem().contains("a.crl"), "V31: missing: {}", problem());
    let whole = list(&ours, 1, &[], DAY);
    for bad in [b"".to_vec(), b"nothing".to_vec(), whole[..whole.len() - 1].to_vec(), list(&other, 1, &[], DAY)] {
        fs::write(&path, bad).unwrap();
        assert!(read().is_err(), "V31: {}", problem());
    }
    fs::File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert!(problem().contains("larger than the 4194304 octets"), "{}", problem());
    fs::write(&path, list(&ours, 1, &[], Duration::ZERO)).unwrap();
    let lists = read().unwrap();
    assert!(check(&lists, &good, &[]).is_err(), "V31: it is over, without a grace");
    let now = UnixTime::now().as_secs();
    let states: Vec<_> = lists.states(now).map(|(_, _, state)| state).collect();
    assert_eq!(states, [State::Over]);
    fs::write(&path, list(&ours, 2, &[], DAY)).unwrap();
    let lists = read().unwrap();
    assert_eq!(check(&lists, &good, &[]), Ok(()));
    let at = |later: u64| lists.states(now + later).next().unwrap().2;
    assert_eq!((at(0), at(82_000), at(90_000)), (State::Good, State::Near, State::Over));
}

#[test]
fn no_list_goes_back_behind_one_that_was_in_force() {
    let folder = folder("revocation-back");
    let ours = authority("Acme CA");
    let path = folder.join("a.crl");
    let config = RevocationConfig { lists: vec![path.clone().into()], issuers: Vec::new() };
    let marks = Marks::default();
    let read = |number| {
        fs::write(&path, list(&ours, number, &[], DAY)).unwrap();
        Lists::read(&config, &[ours.der().clone()], &marks, &provider()).map(drop).map_err(|error| error.to_string())
    };

    assert_eq!(read(255), Ok(()));
    assert!(read(254).unwrap_err().contains("older than one that was in force"), "V31");
    assert_eq!((read(255), read(256)), (Ok(()), Ok(())));
}

fn check(lists: &Lists, shown: &Certificate, above: &[&Issuer]) -> Result<(), rustls::Error> {
    let above: Vec<_> = above.iter().map(|issuer| issuer.der().clone()).collect();
    let stands = lists.let_stand(&Chain::new(shown.der(), &above));
    let found = lists.check(shown.der(), &above, UnixTime::now());
    if stands == found.is_ok() { found } else { Err(rustls::Error::General("judged anew it is otherwise".into())) }
}

pub(crate) fn authority(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(authority_params(name, 1), KeyPair::generate().unwrap()).unwrap()
}

fn authority_params(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial.into());
    params
}

fn issue(issuer: &Issuer, serial: u64) -> Certificate {
    let mut params = CertificateParams::new([]).unwrap();
    params.serial_number = Some(serial.into());
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap()
}

/// A list of the last two days, in DER, whose successor is due after some time.
pub(crate) fn list(issuer: &Issuer, number: u64, serials: &[u64], left: Duration) -> Vec<u8> {
    let now = SystemTime::now();
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: (now - DAY).into(),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: (now - 2 * DAY).into(),
        next_update: (now + left).into(),
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
}

fn write(folder: &Path, name: &str, octets: &[u8]) -> PathBuf {
    fs::write(folder.join(name), octets).unwrap();
    folder.join(name)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
