use std::fs;

use adit_tls::{Authorities, Revocations as _};
use rcgen::{
    CertificateRevocationListParams, CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, KeyIdMethod,
    KeyUsagePurpose, RevokedCertParams,
};
use rustls::{CertificateError, Error, pki_types::CertificateRevocationListDer};

use super::*;
use crate::{
    NamePattern,
    metrics::Metrics,
    store::Store,
    tls::{
        ClientMode, EndpointTls, Offer, Terms, TermsTable, Ways,
        tests::{Authority, Shown, asking, authority_params, leaf_params, maker, provider, shake},
    },
};

const REVOKED: Error = Error::InvalidCertificate(CertificateError::Revoked);
const UNKNOWN: Error = Error::InvalidCertificate(CertificateError::UnknownRevocationStatus);
const DAY: u64 = 86_400;

#[test]
fn a_revoked_certificate_is_refused_in_every_mode_and_what_no_authority_issued_is_as_it_was() {
    let (folder, ours) = (Folder::new("modes"), Authority::new("Acme CA"));
    let (good, revoked, foreign) = (serial(&ours, 1), serial(&ours, 2), Authority::new("Other CA").issue("x"));
    folder.write("list.pem", ours.list(1, &[2]).pem().unwrap());
    for mode in [ClientMode::Request, ClientMode::Require, ClientMode::Verify] {
        let terms = terms(&folder.settings(&ours, mode));
        let verified = |shown| shake(&terms, shown).map(|it| terms.identity(&it).map(|it| it.certificate.verified));

        assert_eq!(verified(Some(&good)), Ok(Some(true)), "{mode:?}");
        assert_eq!(verified(Some(&revoked)), Err(REVOKED), "V31 {mode:?}");
        match mode {
            ClientMode::Verify => assert!(verified(Some(&foreign)).is_err()),
            ClientMode::Request | ClientMode::Require => assert_eq!(verified(Some(&foreign)), Ok(Some(false))),
        }
        if mode == ClientMode::Request {
            assert_eq!(verified(None), Ok(None));
        }
    }
}

#[test]
fn a_list_that_cannot_be_believed_is_never_taken_for_an_empty_one() {
    let (folder, ours) = (Folder::new("believed"), Authority::new("Acme CA"));
    let (namesake, other) = (Authority::new("Acme CA"), Authority::new("Other CA"));
    let mut params = authority_params("No lists");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let no_lists = Authority::new("Root").below(params);
    let list = ours.list(1, &[2]);
    let (der, pem) = (list.der().to_vec(), list.pem().unwrap());
    let with = |change: fn(&mut CertificateRevocationListParams)| {
        let mut params = params_of(1, &[2]);
        change(&mut params);
        params.signed_by(&ours.issuer).unwrap().der().to_vec()
    };
    let read = |octets: &[u8], authority: &Authority| {
        folder.write("list.pem", octets);
        let settings = folder.settings(authority, ClientMode::Verify);
        let loaded = maker().terms(settings, None);
        loaded.map(drop).map_err(|error| error.to_string())
    };

    assert_eq!(read(&der, &ours), Ok(()));
    assert_eq!(read(pem.as_bytes(), &ours), Ok(()));
    assert!(read(format!("{pem}{}", other.list(1, &[]).pem().unwrap()).as_bytes(), &ours).is_err(), "all or nothing");
    for (octets, authority, problem) in [
        (namesake.list(1, &[2]).der().to_vec(), &ours, "its signature is not that of CN=Acme CA"),
        (other.list(1, &[2]).der().to_vec(), &ours, "its issuer CN=Other CA is none of the authorities"),
        (no_lists_list(&no_lists), &no_lists, "may not sign revocation lists"),
        (with(|it| it.this_update += Duration::from_secs(1_000)), &ours, "still to come"),
        (ours.pem.clone().into_bytes(), &ours, "does not hold revocation lists alone"),
        (format!("{pem}{}", ours.pem).into_bytes(), &ours, "does not hold revocation lists alone"),
        (Vec::new(), &ours, "neither DER nor PEM"),
        ([&der[..], &[0]].concat(), &ours, "not one whole revocation list"),
    ] {
        let error = read(&octets, authority).unwrap_err();
        assert!(error.contains(problem), "V31: {error}");
    }
    for cut in 0..der.len() {
        assert!(read(&der[..cut], &ours).is_err(), "V31: {cut}");
    }
    for cut in 0..pem.trim_end().len() {
        assert!(read(&pem.as_bytes()[..cut], &ours).is_err(), "V31: {cut}");
    }
    for at in 0..der.len() {
        let mut changed = der.clone();
        changed[at] ^= 0x41;
        assert!(read(&changed, &ours).is_err(), "V31: whatever is changed is not what was signed: {at}");
    }
    fs::File::create(folder.path("list.pem")).unwrap().set_len(100 << 20).unwrap();
    let settings = folder.settings(&ours, ClientMode::Verify);
    let error = maker().terms(settings.clone(), None).unwrap_err().to_string();
    assert!(error.contains("larger than the 4194304 octets"), "V31: {error}");
    fs::remove_file(folder.path("list.pem")).unwrap();
    assert!(matches!(maker().terms(settings, None), Err(TrustError::File { .. })), "V31: missing");
}

#[test]
fn a_list_that_is_over_refuses_the_certificates_of_its_issuer_and_a_grace_is_what_the_operator_sets() {
    let (folder, ours, other) = (Folder::new("over"), Authority::new("Acme CA"), Authority::new("Other CA"));
    let good = ours.issue("client");
    let mut params = params_of(1, &[]);
    let now = unix_now();
    (params.this_update, params.next_update) = (time(now - 3 * DAY).into(), time(now - DAY).into());
    let lists = [params.signed_by(&ours.issuer).unwrap().pem().unwrap(), other.list(1, &[]).pem().unwrap()];
    folder.write("list.pem", lists.concat());
    let of = |grace: u64| {
        let grace = Duration::from_secs(grace);
        let settings = Revocation { grace, ..folder.revocation() };
        let trusted = [ours.der(), other.der()];
        Revocations::new(settings, &trusted, &provider(), &Arc::default()).unwrap()
    };
    let check = |it: &Revocations, shown: &Shown| it.check(&shown.0, &[], UnixTime::now());

    let error = check(&of(0), &good).unwrap_err();
    assert!(
        matches!(error, Error::InvalidCertificate(CertificateError::ExpiredRevocationListContext { .. })),
        "V31: {error}"
    );
    assert_eq!(check(&of(0), &other.issue("client")), Ok(()), "another authority is not harmed");
    assert_eq!(check(&of(2 * DAY), &good), Ok(()));
    assert!(check(&of(DAY - 60), &good).is_err(), "the grace is over too");
    assert_eq!(of(0).states(now).0.iter().max(), Some(&State::Over));
    assert_eq!(of(2 * DAY).states(now).0.iter().max(), Some(&State::Grace));
}

#[test]
fn a_certificate_for_which_no_list_speaks_is_refused() {
    let (folder, ours, other) = (Folder::new("unknown"), Authority::new("Acme CA"), Authority::new("Other CA"));
    folder.write("list.pem", other.list(1, &[]).pem().unwrap());
    let trusted = [ours.der(), other.der()];
    let of = |settings| Revocations::new(settings, &trusted, &provider(), &Arc::default()).unwrap();
    let check = |it: &Revocations| it.check(&ours.issue("client").0, &[], UnixTime::now());

    assert_eq!(check(&of(folder.revocation())), Err(UNKNOWN));
    let urls = vec!["http://crl.example/list".to_owned()];
    let not_fetched = of(Revocation { files: Vec::new(), urls, ..folder.revocation() });
    assert_eq!(check(&not_fetched), Err(UNKNOWN), "before it is fetched");
    assert_eq!(not_fetched.states(unix_now()).0, [State::Missing]);
    assert!(not_fetched.offer("http://crl.example/list", other.list(1, &[]).der()[..20].to_vec(), unix_now()).is_err());
    not_fetched.offer("http://crl.example/list", ours.list(1, &[]).der().to_vec(), unix_now()).unwrap();
    assert!(not_fetched.refresh(unix_now()).unwrap().is_ok());
    assert_eq!(check(&not_fetched), Ok(()));
}

#[test]
fn a_list_of_a_part_speaks_for_that_part_only() {
    let (folder, ours) = (Folder::new("part"), Authority::new("Acme CA"));
    let mut params = params_of(1, &[]);
    let uris = vec!["http://crl.example/servers".to_owned()];
    let distribution_point = CrlDistributionPoint { uris };
    params.issuing_distribution_point =
        Some(CrlIssuingDistributionPoint { distribution_point, scope: Some(CrlScope::CaCertsOnly) });
    folder.write("list.pem", params.signed_by(&ours.issuer).unwrap().pem().unwrap());
    let it = Revocations::new(folder.revocation(), &[ours.der()], &provider(), &Arc::default()).unwrap();

    assert_eq!(it.check(&ours.issue("client").0, &[], UnixTime::now()), Err(UNKNOWN));
}

#[tokio::test]
async fn an_older_list_is_refused_while_the_network_runs_and_after_a_restart() {
    let (folder, ours) = (Folder::new("older"), Authority::new("Acme CA"));
    let store = Store::open(&folder.path("adit.db")).await.unwrap();
    let (ledger, named) = (Arc::new(Ledger::default()), ["http://crl.example/list".to_owned()].into());
    let (good, revoked) = (serial(&ours, 1), serial(&ours, 0x7f02));
    let new = |ledger| Revocations::new(folder.revocation(), &[ours.der()], &provider(), ledger);
    let check = |it: &Revocations, shown: &Shown| it.check(&shown.0, &[], UnixTime::now());
    let list = |number, serials: &[u64]| folder.write("list.pem", ours.list(number, serials).pem().unwrap());

    list(255, &[0x7f02]);
    let it = new(&ledger).unwrap();
    assert_eq!((check(&it, &good), check(&it, &revoked)), (Ok(()), Err(REVOKED)));
    list(254, &[]);
    let error = it.refresh(unix_now()).unwrap().unwrap_err().to_string();
    assert!(error.contains("older than one that was in force"), "V31: {error}");
    assert_eq!(check(&it, &revoked), Err(REVOKED), "V31: the one in force stays");
    assert!(it.refresh(unix_now()).is_none(), "not at once again");
    assert!(it.refresh(unix_now() + RETRY).unwrap().is_err(), "but after a while");
    ledger.keep("http://crl.example/list", vec![1]);
    ledger.keep("http://crl.example/nobody", vec![2]);
    ledger.flush(&store, &named).await.unwrap();

    let after = Arc::new(Ledger::default());
    after.load(&store).await.unwrap();
    assert!(new(&after).is_err(), "V31: a restart forgets nothing");
    assert_eq!(after.copy("http://crl.example/list").as_deref(), Some(&[1][..]));
    assert_eq!(after.copy("http://crl.example/nobody"), None);
    list(256, &[]);
    let it = new(&after).unwrap();
    assert_eq!(check(&it, &revoked), Ok(()), "a newer one, whose number is longer, may take it back");
    folder.write("list.pem", "cut off");
    assert!(it.refresh(unix_now()).unwrap().is_err());
    assert_eq!(check(&it, &good), Ok(()), "what cannot be used changes nothing");
}

#[test]
fn a_list_speaks_for_an_authority_below_only_if_it_is_named_and_issued_by_ours() {
    let (folder, root) = (Folder::new("below"), Authority::new("Root"));
    let mut params = authority_params("Below");
    params.serial_number = Some(9_u64.into());
    let below = root.below(params);
    let good = below.issue("client");
    let chain = [below.der()];
    let lists = |of_root: &[u64], of_below: &[u64]| {
        let lists = [root.list(1, of_root), below.list(1, of_below)].map(|list| list.pem().unwrap());
        folder.write("list.pem", lists.concat());
    };
    let new = |issuers: &[&str], depth| {
        let issuers = issuers.iter().map(|name| folder.path(name)).collect();
        let settings = Revocation { issuers, depth, ..folder.revocation() };
        Revocations::new(settings, &[root.der()], &provider(), &Arc::default())
    };
    let check = |it: &Revocations| it.check(&good.0, &chain, UnixTime::now());
    folder.write("below.pem", &below.pem);
    folder.write("foreign.pem", &Authority::new("Other").below(authority_params("Below")).pem);

    lists(&[], &[]);
    assert!(new(&[], Depth::Chain).unwrap_err().to_string().contains("CN=Below is none of the authorities"));
    let error = new(&["foreign.pem"], Depth::Chain).unwrap_err().to_string();
    assert!(error.contains("were not issued by an authority in `ca`"), "{error}");
    assert_eq!(check(&new(&["below.pem"], Depth::Chain).unwrap()), Ok(()));
    lists(&[9], &[]);
    assert_eq!(check(&new(&["below.pem"], Depth::Chain).unwrap()), Err(REVOKED), "the authority below is revoked");
    assert_eq!(check(&new(&["below.pem"], Depth::EndEntity).unwrap()), Ok(()), "and nobody asks");
    folder.write("list.pem", below.list(1, &[]).pem().unwrap());
    assert_eq!(check(&new(&["below.pem"], Depth::Chain).unwrap()), Err(UNKNOWN), "no list speaks for it");
    assert_eq!(check(&new(&["below.pem"], Depth::EndEntity).unwrap()), Ok(()));
}

#[test]
fn who_is_revoked_or_whose_list_is_over_loses_its_standing_connection() {
    let (folder, ours) = (Folder::new("standing"), Authority::new("Acme CA"));
    let (good, other) = (serial(&ours, 1), serial(&ours, 2));
    let now = unix_now();
    folder.write("list.pem", ours.list(1, &[]).pem().unwrap());
    let name = NamePattern::parse("a.example").unwrap();
    let wanted = [(name, Ways::one(folder.settings(&ours, ClientMode::Verify)))];
    let (table, faults) = TermsTable::read(&maker(), wanted, &TermsTable::default());
    assert!(faults.is_empty(), "{faults:?}");
    let Offer::Own(terms) = table.find(&crate::EndpointName::parse("a.example").unwrap()) else { panic!() };
    let identity = |shown| terms.identity(&shake(&terms, Some(shown)).unwrap()).unwrap();
    let [good, other] = [identity(&good), identity(&other)];
    let (metrics, stands) = (Metrics::new(), |identity| terms.stands(Some(identity)));

    watch::look(&table, &metrics, now);
    assert!(stands(&good) && stands(&other) && terms.stands(None));
    folder.write("list.pem", ours.list(2, &[2]).pem().unwrap());
    watch::look(&table, &metrics, now);
    assert!(stands(&good) && !stands(&other), "V31");
    let text = metrics.text().unwrap();
    for line in ["adit_revocation_lists{state=\"good\"} 1", "adit_revocation_reads_total{reason=\"taken\"} 1"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    folder.write("list.pem", "nothing of use");
    watch::look(&table, &metrics, now + 2 * DAY);
    let text = metrics.text().unwrap();
    for line in ["adit_revocation_lists{state=\"over\"} 1", "adit_revocation_reads_total{reason=\"refused\"} 1"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(terms.revocations.as_ref().unwrap().generation() >= 2, "all are judged anew when a list is over");
}

#[test]
fn octets_that_are_no_list_are_no_panic() {
    let ours = Authority::new("Acme CA");
    let der = ours.list(1, &[2, 3]).der().to_vec();
    let issuers = [ours.der()];
    for at in 0..der.len() {
        for value in [0, 0x7f, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[at] = value;
            let _ = List::read(CertificateRevocationListDer::from(changed), &issuers, &provider(), unix_now());
        }
    }
}

fn terms(settings: &EndpointTls) -> Arc<Terms> {
    maker().terms(settings.clone(), None).unwrap()
}

fn serial(authority: &Authority, serial: u64) -> Shown {
    let mut params = leaf_params("client");
    params.serial_number = Some(serial.into());
    authority.issue_as(params)
}

/// A list of an authority that may not sign any, which only we can make.
fn no_lists_list(authority: &Authority) -> Vec<u8> {
    let mut params = authority_params("No lists");
    params.key_usages = Vec::new();
    let key = rcgen::KeyPair::from_pem(&authority.issuer.key().serialize_pem()).unwrap();
    params_of(1, &[]).signed_by(&rcgen::Issuer::new(params, key)).unwrap().der().to_vec()
}

fn time(seconds: u64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A list of now, for a day.
fn params_of(number: u64, serials: &[u64]) -> CertificateRevocationListParams {
    let now = unix_now();
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: (*serial).into(),
        revocation_time: time(now).into(),
        reason_code: None,
        invalidity_date: None,
    };
    CertificateRevocationListParams {
        this_update: time(now).into(),
        next_update: time(now + DAY).into(),
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

impl Authority {
    fn list(&self, number: u64, serials: &[u64]) -> rcgen::CertificateRevocationList {
        params_of(number, serials).signed_by(&self.issuer).unwrap()
    }
}

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("adit-revocation-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces a file, which gets another inode: what changes twice within a tick of the clock has changed.
    fn write(&self, name: &str, octets: impl AsRef<[u8]>) {
        fs::write(self.path("new"), octets).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn revocation(&self) -> Revocation {
        let files = vec![self.path("list.pem")];
        Revocation { files, urls: Vec::new(), issuers: Vec::new(), depth: Depth::Chain, grace: Duration::ZERO }
    }

    fn settings(&self, authority: &Authority, mode: ClientMode) -> EndpointTls {
        let asks = asking(mode, vec![Authorities::Pem(authority.pem.clone())]);
        EndpointTls { revocation: Some(self.revocation()), ..asks }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
