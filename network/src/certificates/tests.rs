use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use super::*;

#[test]
fn a_new_ca_keeps_its_key_to_itself_and_is_never_replaced() {
    let dir = Dir::new("init");

    PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();

    assert_eq!(fs::metadata(dir.0.join("ca/ca.key")).unwrap().mode() & 0o777, 0o600);
    assert!(matches!(PrivateCa::init(&dir.0.join("ca"), "Test CA"), Err(CertificateError::Exists(_))));
}

#[test]
fn half_a_pair_and_a_foreign_pair_are_refused() {
    let dir = Dir::new("pair");
    let (one, two) = (dir.0.join("one"), dir.0.join("two"));
    PrivateCa::init(&one, "One").unwrap();
    PrivateCa::init(&two, "Two").unwrap();

    fs::copy(two.join("ca.pem"), one.join("ca.pem")).unwrap();
    assert!(matches!(PrivateCa::load(&one), Err(CertificateError::Invalid { .. })), "V36");
    fs::remove_file(two.join("ca.key")).unwrap();
    assert!(matches!(PrivateCa::load(&two), Err(CertificateError::File { .. })), "V36");
}

#[test]
fn a_ca_that_cannot_be_loaded_is_an_error_and_never_widens_anything() {
    let dir = Dir::new("broken");
    let folder = dir.0.join("ca");
    PrivateCa::init(&folder, "Test CA").unwrap();
    let pem = fs::read_to_string(folder.join("ca.pem")).unwrap();

    for broken in ["", "not a certificate", &pem[..pem.len() / 2]] {
        fs::write(folder.join("ca.pem"), broken).unwrap();
        assert!(Loaded::read(&dir.config()).is_err(), "V30: {broken:?}");
    }
    fs::remove_file(folder.join("ca.pem")).unwrap();
    assert!(Loaded::read(&dir.config()).is_err(), "V30: missing");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = Dir::new("mode");
    let folder = dir.0.join("ca");
    PrivateCa::init(&folder, "Test CA").unwrap();

    fs::set_permissions(folder.join("ca.key"), fs::Permissions::from_mode(0o644)).unwrap();

    assert!(matches!(PrivateCa::load(&folder), Err(CertificateError::KeyMode(_))), "V46");
}

#[test]
fn a_request_gets_names_and_nothing_else_that_it_asks_for() {
    let dir = Dir::new("request");
    let ca = PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let asked = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        params.serialize_request(&key).unwrap().pem().unwrap()
    };
    let facts = |chain: &str| {
        let der: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&der[0]).unwrap();
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(!leaf.is_ca() && usage.server_auth && !usage.client_auth);
        assert_eq!(&*leaf.public_key().subject_public_key.data, rcgen::PublicKeyData::der_bytes(&key));
        (der.len(), leaf.subject().to_string())
    };

    let (Signed { chain, .. }, names) = ca.answer(&asked(&["crm.example", "192.0.2.1"]), &[], DAY).unwrap();
    assert_eq!(
        (facts(&chain), &names[..]),
        ((2, "CN=crm.example".to_owned()), &["crm.example".to_owned(), "192.0.2.1".to_owned()][..])
    );
    let given = ["a.example".to_owned()];
    let (Signed { chain, .. }, names) = ca.answer(&asked(&["crm.example"]), &given, DAY).unwrap();
    assert_eq!((facts(&chain), &names[..]), ((2, "CN=a.example".to_owned()), &given[..]), "the vendor's word counts");
    assert!(matches!(ca.answer(&asked(&[]), &[], DAY), Err(CertificateError::RequestNames)));
    // Whoever does not have the key gets no certificate for it.
    let other = asked(&["other.example"]);
    let mut der = rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(other.as_bytes()).unwrap().to_vec();
    let at = der.windows(5).position(|octets| octets == b"other").unwrap();
    der[at] = b'x';
    let forged = rcgen::CertificateSigningRequestParams::from_der(&der.into()).map(drop);
    assert!(forged.is_err());
    for text in ["", "not a request", &chain] {
        assert!(matches!(ca.answer(text, &[], DAY), Err(CertificateError::Request(_))), "{text}");
    }
}

#[test]
fn a_name_gets_its_own_certificate_from_a_file_before_the_ca() {
    let dir = Dir::new("find");
    let ca = PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();
    write_issued(&ca.issue(&["crm.example.com".to_owned()]).unwrap(), &dir.0.join("crm")).unwrap();
    let config =
        dir.config_with("certificates:\n  - names: [crm.example.com]\n    certificate: crm.pem\n    key: crm.key\n");

    let certificates = Certificates::new(Loaded::read(&config).unwrap());

    let [crm, other, again] = ["crm.example.com", "other.example.com", "other.example.com"]
        .map(|name| certificates.find(&EndpointName::parse(name).unwrap()).unwrap());
    let file = pem::load(&dir.0.join("crm.pem"), &dir.0.join("crm.key")).unwrap();
    assert_eq!(crm.cert, file.certified.cert);
    assert!(Arc::ptr_eq(&other, &again));
    assert_ne!(other.cert[0], crm.cert[0]);
    assert_eq!(other.cert.len(), 2);
}

#[test]
fn without_a_ca_only_the_names_of_files_are_served() {
    let dir = Dir::new("files");
    let ca = PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();
    write_issued(&ca.issue(&["*.example.com".to_owned()]).unwrap(), &dir.0.join("wild")).unwrap();
    let text = "ingress:\n  listen: 127.0.0.1:1\n  certificate: wild.pem\n  key: wild.key\nhttps:\n  listen: 127.0.0.1:2\n\
                certificates:\n  - names: ['*.example.com']\n    certificate: wild.pem\n    key: wild.key\n";
    let config = Config::parse(text, &dir.0, BTreeMap::new()).unwrap();

    let certificates = Certificates::new(Loaded::read(&config).unwrap());

    let find = |name: &str| certificates.find(&EndpointName::parse(name).unwrap()).is_some();
    let covers = |name: &str| certificates.covers(&NamePattern::parse(name).unwrap());
    assert!(find("a.example.com") && covers("a.example.com") && covers("*.example.com"));
    assert!(!find("example.com") && !covers("example.com") && !covers("*.example.org"));
}

#[test]
fn a_reload_that_fails_leaves_the_old_pair() {
    let dir = Dir::new("reload");
    let ca = PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();
    let name = ["crm.example.com".to_owned()];
    write_issued(&ca.issue(&name).unwrap(), &dir.0.join("crm")).unwrap();
    write_issued(&ca.issue(&name).unwrap(), &dir.0.join("new")).unwrap();
    let config =
        dir.config_with("certificates:\n  - names: [crm.example.com]\n    certificate: crm.pem\n    key: crm.key\n");
    let certificates = Certificates::new(Loaded::read(&config).unwrap());
    let crm = EndpointName::parse("crm.example.com").unwrap();
    let before = certificates.find(&crm).unwrap();

    fs::copy(dir.0.join("new.pem"), dir.0.join("crm.pem")).unwrap();

    assert!(Loaded::read(&config).is_err(), "V36: a new certificate with the old key");
    assert!(Arc::ptr_eq(&before, &certificates.find(&crm).unwrap()));
    fs::copy(dir.0.join("new.key"), dir.0.join("crm.key")).unwrap();
    certificates.replace(Loaded::read(&config).unwrap());
    assert_ne!(before.cert[0], certificates.find(&crm).unwrap().cert[0]);
}

#[test]
fn files_that_change_are_taken_without_being_told_and_half_a_pair_leaves_the_old_one() {
    let dir = Dir::new("refresh");
    let ca = PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();
    let name = ["crm.example.com".to_owned()];
    write_issued(&ca.issue(&name).unwrap(), &dir.0.join("crm")).unwrap();
    write_issued(&ca.issue(&name).unwrap(), &dir.0.join("new")).unwrap();
    let certificates = Certificates::new(Loaded::read(&dir.config_with(CRM)).unwrap());
    let crm = EndpointName::parse("crm.example.com").unwrap();
    let before = certificates.find(&crm).unwrap();

    assert!(certificates.refresh().is_none());
    fs::rename(dir.0.join("new.pem"), dir.0.join("crm.pem")).unwrap();
    assert!(matches!(certificates.refresh(), Some(Err(CertificateError::Invalid { .. }))), "V36");
    assert!(certificates.refresh().is_none(), "told once");
    assert!(Arc::ptr_eq(&before, &certificates.find(&crm).unwrap()));
    fs::rename(dir.0.join("new.key"), dir.0.join("crm.key")).unwrap();
    assert!(matches!(certificates.refresh(), Some(Ok(()))));
    assert_ne!(before.cert[0], certificates.find(&crm).unwrap().cert[0]);
    assert!(certificates.refresh().is_none());
}

#[test]
fn the_most_specific_name_wins_and_then_the_operators_own() {
    let dir = Dir::new("specific");
    let ca = PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();
    write_issued(&ca.issue(&["*.example.com".to_owned()]).unwrap(), &dir.0.join("wild")).unwrap();
    let config =
        dir.config_with("certificates:\n  - names: ['*.example.com']\n    certificate: wild.pem\n    key: wild.key\n");
    let certificates = Certificates::new(Loaded::read(&config).unwrap());
    let kept = |name: &str| {
        let Issued { chain, key, .. } = ca.issue(&[name.to_owned()]).unwrap();
        Kept::new(None, &[], &chain, &adit_core::Secret::new(key)).unwrap()
    };
    let ordered = |names: &[&str]| {
        let mut map = NameMap::default();
        for name in names {
            map.insert(NamePattern::parse(name).unwrap(), kept(name).pair);
        }
        map
    };
    let found = |name: &str| certificates.find(&EndpointName::parse(name).unwrap()).unwrap().cert[0].clone();
    let shown = |name: &str, of: &NameMap<Pair>| {
        found(name) == of.get(&NamePattern::parse(name).unwrap()).unwrap().certified.cert[0]
    };
    let wild = found("a.example.com");

    let by_acme = ordered(&["a.example.com", "b.example.com", "*.example.org", "*.example.com"]);
    certificates.ordered.store(Arc::new(by_acme.clone()));
    assert!(shown("a.example.com", &by_acme) && shown("b.example.com", &by_acme), "exact before the own wildcard");
    assert_eq!(found("c.example.com"), wild, "the own wildcard before the ordered one");
    let org = by_acme.get(&NamePattern::parse("*.example.org").unwrap()).unwrap().certified.cert[0].clone();
    assert_eq!(found("a.example.org"), org);
    assert_ne!(found("a.b.example.org"), org, "an ordered wildcard stands for one label");

    let own = kept("a.example.com");
    let first = own.pair.certified.cert[0].clone();
    assert!(certificates.set_own(vec![own]));
    assert_eq!(found("a.example.com"), first, "own before ordered");
    assert!(shown("b.example.com", &by_acme));
}

#[test]
fn a_certificate_is_kept_only_for_names_that_stand_in_it() {
    let dir = Dir::new("kept");
    let ca = PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();
    let Issued { chain, key, .. } = ca.issue(&["*.example.com".to_owned(), "example.com".to_owned()]).unwrap();
    let other = adit_core::Secret::new(ca.issue(&["example.com".to_owned()]).unwrap().key);
    let key = adit_core::Secret::new(key);
    let new = |names: &[&str], key| {
        let names: Vec<_> = names.iter().map(|name| NamePattern::parse(name).unwrap()).collect();
        Kept::new(Some("id"), &names, &chain, key)
    };

    assert_eq!(new(&[], &key).unwrap().names.len(), 2);
    assert!(new(&["a.example.com", "example.com"], &key).is_ok());
    for wrong in ["a.b.example.com", "example.org", "*.a.example.com"] {
        assert!(matches!(new(&[wrong], &key), Err(CertificateError::Invalid { .. })), "{wrong}");
    }
    assert!(matches!(new(&[], &other), Err(CertificateError::Invalid { .. })), "V36: a foreign key");
    assert!(!format!("{:?}", new(&[], &key).unwrap()).contains("PRIVATE"));
}

#[test]
fn the_ingress_without_files_and_private_ca_shows_what_its_names_have() {
    let dir = Dir::new("ingress");
    let ca = PrivateCa::init(&dir.0.join("ca"), "Test CA").unwrap();
    let text = "secrets: {key_file: key}\ningress: {listen: '127.0.0.1:1', names: [connect.example.com]}\nhttp: {listen: '127.0.0.1:2'}\n";
    let config = Config::parse(text, &dir.0, BTreeMap::new()).unwrap();
    let certificates = Certificates::new(Loaded::read(&config).unwrap());
    let [connect, other] = ["connect.example.com", "crm.example.com"].map(|name| EndpointName::parse(name).unwrap());
    let all: Vec<_> = [&connect, &other]
        .map(|name| {
            let Issued { chain, key, .. } = ca.issue(&[name.to_string()]).unwrap();
            Kept::new(None, &[], &chain, &adit_core::Secret::new(key)).unwrap()
        })
        .into();

    assert!(certificates.of_ingress(Some(&connect)).is_none());
    certificates.set_own(all);

    assert!(certificates.of_ingress(Some(&connect)).is_some() && certificates.of_ingress(None).is_some());
    assert!(certificates.of_ingress(Some(&other)).is_none(), "an endpoint's certificate is not the ingress's");
}

#[test]
fn what_the_private_ca_issues_for_the_ingress_is_issued_anew_in_time_and_when_it_is_revoked() {
    let dir = Dir::new("rotate");
    let folder = dir.0.join("ca");
    PrivateCa::init(&folder, "Test CA").unwrap();
    let text = "private_ca: ca\ncrl: {url: 'http://crl.example/ca.crl'}\nhttp: {listen: '127.0.0.1:2'}\n";
    let text = format!("{text}ingress: {{listen: '127.0.0.1:1', names: [localhost, {{name: acme.example}}]}}\n");
    let config = Config::parse(&text, &dir.0, BTreeMap::new()).unwrap();
    let certificates = Certificates::new(Loaded::read(&config).unwrap());
    let acme = EndpointName::parse("acme.example").unwrap();
    let shown = || [None, Some(&acme)].map(|name| certificates.of_ingress(name).unwrap());
    let leaves = || shown().map(|certified| certified.cert[0].clone());
    let day = |days: u64| unix_now() + days * 86_400;

    let first = leaves();
    assert_ne!(first[0], first[1], "each name has its own");
    let (_, parsed) = x509_parser::parse_x509_certificate(&first[1]).unwrap();
    assert!(
        parsed
            .extensions()
            .iter()
            .any(|it| format!("{:?}", it.parsed_extension()).contains("http://crl.example/ca.crl"))
    );
    assert_eq!(certificates.rotate(day(59)).unwrap(), None);
    assert_eq!(leaves(), first);
    certificates.replace(certificates.read(&config).unwrap());
    assert_eq!(leaves(), first, "a reload does not change what is good");
    assert_eq!(certificates.rotate(day(61)).unwrap(), Some(Rotated::Due));
    let second = leaves();
    assert!(second[0] != first[0] && second[1] != first[1]);
    let yesterday = unix_now() - 86_400;
    assert_eq!(certificates.rotate(yesterday).unwrap(), Some(Rotated::Due), "the clock was ahead: it is not valid yet");
    let second = leaves();

    // Without a list nothing is stapled; then the one of its issuer, and no other.
    assert!(shown().iter().all(|certified| certified.ocsp.is_none()));
    certificates.note_issued().unwrap();
    let entries = Register::read(&folder).unwrap().entries().to_vec();
    let serial = |name: &str| entries.iter().rfind(|entry| entry.names == [name]).unwrap().serial.clone();
    Register::revoke(&folder, &serial("acme.example"), Reason::KeyCompromise, 7 * DAY).unwrap();
    assert!(certificates.refresh_lists().unwrap().is_ok());
    assert!(certificates.refresh_lists().is_none(), "nothing new");
    let list = certificates.list().unwrap().0;
    for certified in shown() {
        assert_eq!(adit_tls::stapled(certified.ocsp.as_ref().unwrap()), Ok(vec![&*list]));
    }
    assert_eq!(certificates.rotate(day(0)).unwrap(), Some(Rotated::Revoked));
    let third = leaves();
    assert!(third[0] == second[0] && third[1] != second[1], "what is not revoked stays");
    assert_eq!(certificates.rotate(day(0)).unwrap(), None);
    certificates.note_issued().unwrap();
    let noted = Register::read(&folder).unwrap().entries().len();
    certificates.note_issued().unwrap();
    assert_eq!(Register::read(&folder).unwrap().entries().len(), noted, "each is noted once");

    // A list that is cut off leaves the one before.
    let whole = fs::read(list_path(&folder)).unwrap();
    fs::write(list_path(&folder), &whole[..whole.len() / 2]).unwrap();
    assert!(certificates.refresh_lists().unwrap().is_err());
    assert_eq!(certificates.list().unwrap().0, list);
}

const CRM: &str = "certificates:\n  - names: [crm.example.com]\n    certificate: crm.pem\n    key: crm.key\n";

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let path = std::env::temp_dir().join(format!("adit-certificates-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn config(&self) -> Config {
        self.config_with("")
    }

    fn config_with(&self, more: &str) -> Config {
        let text = format!("private_ca: ca\ningress:\n  listen: 127.0.0.1:1\nhttps:\n  listen: 127.0.0.1:2\n{more}");
        Config::parse(&text, &self.0, BTreeMap::new()).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const DAY: Duration = Duration::from_secs(86_400);
