//! Revocation lists: octets of anybody, and lists that were signed and changed; what is stapled, and told in a session; answers of a server of lists.

use std::sync::OnceLock;

use adit_tls::{MAX_STAPLE, MAX_STAPLED, RevocationList, apart, split_lists, staple, stapled};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, date_time_ymd,
};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, CertificateRevocationListDer},
};

use crate::Choices;

/// Nothing is believed that was not signed as it is; what is stapled comes out as it went in; nothing panics.
pub fn crl(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    match choices.number::<u8>() % 4 {
        0 => anything(choices.rest()),
        1 => changed(&mut choices),
        2 => together(&mut choices),
        _ => answer(choices.rest()),
    }
}

/// Octets of anybody.
fn anything(octets: &[u8]) {
    if let Ok(lists) = split_lists(octets.to_vec()) {
        assert!(lists.iter().all(|list| read(list.to_vec()).is_err()), "nobody can sign for the authority");
    }
    if let Ok(lists) = stapled(octets) {
        assert!(lists.len() <= MAX_STAPLED && lists.concat().len() <= MAX_STAPLE);
    }
    if let Ok(lists) = apart(octets) {
        assert!(lists.len() <= MAX_STAPLED && lists.concat() == octets, "none of what a session tells is lost");
    }
}

/// A list that was signed, with octets that are others: it says the same, or is not believed.
fn changed(choices: &mut Choices<'_>) {
    let (_, list) = authority();
    let mut octets = list.clone();
    for _ in 0..choices.between(0, 4) {
        let at = choices.between(0, octets.len() - 1);
        match choices.number::<u8>() % 3 {
            0 => octets[at] = choices.number(),
            1 => octets.truncate(at.max(1)),
            _ => octets.insert(at, choices.number()),
        }
    }
    let is_same = octets == *list;
    match read(octets) {
        Ok(read) => {
            // What is outside of the signature may be another.
            assert_eq!((read.entries, read.mark.number.as_slice()), (2, &[1, 0][..]));
            assert!(read.revoked(&[2]).is_some() && read.revoked(&[4]).is_none());
        }
        Err(error) => assert!(!is_same, "{error}"),
    }
}

/// Lists of any lengths, stapled.
fn together(choices: &mut Choices<'_>) {
    let mut lists = Vec::new();
    while !choices.is_over() && lists.len() <= MAX_STAPLED {
        let length = choices.size(20_000);
        let mut list = vec![0x30, 0x82, 0, 0];
        list[2..].copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
        list.resize(length + 4, choices.number());
        lists.push(list);
    }
    let parts: Vec<&[u8]> = lists.iter().map(Vec::as_slice).collect();
    match staple(&parts) {
        Some(response) if parts.len() <= MAX_STAPLED => assert_eq!(stapled(&response).as_deref(), Ok(&parts[..])),
        Some(response) => assert!(stapled(&response).is_err()),
        None => assert!(parts.is_empty() || parts.concat().len() > MAX_STAPLE),
    }
}

/// What a server of lists answers: a body is the end of the answer.
fn answer(octets: &[u8]) {
    if let Ok(body) = adit::list_of_answer(octets) {
        assert!(octets.starts_with(b"HTTP/1.") && octets.ends_with(body));
    }
}

fn read(octets: Vec<u8>) -> Result<RevocationList, String> {
    let (issuer, _) = authority();
    RevocationList::read(CertificateRevocationListDer::from(octets), core::slice::from_ref(issuer), provider(), NOW)
}

/// An authority, and a list of two certificates that it has signed.
fn authority() -> &'static (CertificateDer<'static>, Vec<u8>) {
    static AUTHORITY: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let revoked = |serial: u64| RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2020, 1, 8),
            crl_number: 256_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked(2), revoked(3)],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&Issuer::new(params, key)).expect("a list").der().to_vec();
        (certificate, list)
    })
}

fn provider() -> &'static CryptoProvider {
    static PROVIDER: OnceLock<CryptoProvider> = OnceLock::new();
    PROVIDER.get_or_init(aws_lc_rs::default_provider)
}

/// 2020-01-02, in seconds since 1970.
const NOW: u64 = 1_577_923_200;
