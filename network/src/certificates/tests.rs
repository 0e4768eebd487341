use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

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
    assert_eq!(crm.cert, file.cert);
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
