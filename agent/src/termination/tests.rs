use std::{fs, path::PathBuf};

use adit_tls::{ClientMode, TlsVersion};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;
use crate::{config::ClientCertificates, testing::folder};

struct Files {
    folder: PathBuf,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Acme CA");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { folder: folder(name), ca }
    }

    fn pair(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["crm.example".to_owned(), "*.a.example".to_owned()]).unwrap();
        (params.signed_by(&key, &self.ca).unwrap().pem(), key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        // A file of its own takes the place of the old one: two writes within one tick of the clock are told apart.
        let (path, draft) = (self.folder.join(name), self.folder.join("draft"));
        fs::write(&draft, text).unwrap();
        mode(&draft, 0o600);
        fs::rename(draft, &path).unwrap();
        path
    }

    fn config(&self) -> TerminationConfig {
        TerminationConfig {
            certificate: self.folder.join("crm.pem").into(),
            key: self.folder.join("crm.key").into(),
            min_version: TlsVersion::V12,
            max_version: TlsVersion::V13,
            clients: None,
            revocation: None,
            identity_headers: false,
            http: Some(UpstreamProtocol::Http1),
            acme: None,
        }
    }
}

#[cfg(unix)]
fn mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;

    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn mode(_: &std::path::Path, _: u32) {}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn termination(config: TerminationConfig) -> Arc<Termination> {
    let marks = Marks::default();
    let terms = Mutex::new(Terms::read(&config, &marks, &provider()).unwrap().map(Arc::new));
    Arc::new(Termination {
        name: "crm".into(),
        config,
        provider: provider(),
        terms,
        proof: None,
        marks,
        trust: watch::Sender::default(),
    })
}

fn shown(termination: &Termination) -> String {
    termination.facts().unwrap().sha256
}

#[test]
fn a_pair_is_used_only_when_both_halves_belong_together_and_nobody_else_reads_the_key() {
    let files = Files::new("termination-pair");
    let ((certificate, key), (_, foreign)) = (files.pair(), files.pair());
    let load = || Pair::load(&files.config().certificate, &files.config().key, &provider());
    let problem = || load().unwrap_err().detail;

    assert!(problem().contains("crm.pem: No such file"), "V30: {}", problem());
    files.write("crm.pem", &certificate);
    let path = files.write("crm.key", &foreign);
    assert!(problem().contains("does not belong to the key"), "V36: {}", problem());
    files.write("crm.key", &key);
    let of_version_1 = certificate.replacen("AwIBAgI", "AwIBAAI", 1); // within it: the version as it is encoded
    assert_ne!(of_version_1, certificate);
    files.write("crm.pem", &of_version_1);
    assert!(problem().contains("version 3 of X.509") && !problem().contains("belong"), "{}", problem());
    files.write("crm.pem", &certificate);
    let facts = load().unwrap().facts;
    assert_eq!((facts.nearness(), &*facts.issuer), (Nearness::Far, "CN=Acme CA"));
    for (name, is_for) in [
        ("crm.example", true),
        ("CRM.example.", true),
        ("x.a.example", true),
        ("*.a.example", true),
        ("a.example", false),
        ("x.y.a.example", false),
    ] {
        assert_eq!(facts.is_for(name), is_for, "{name}");
    }
    for bad in ["", "not PEM", &certificate.replacen("MII", "NII", 1), &certificate[..certificate.len() / 2], &key] {
        files.write("crm.pem", bad);
        assert_eq!(load().unwrap_err().fault, Fault::CertificateUnusable, "V30: {bad}");
    }
    files.write("crm.pem", &certificate.repeat(9));
    assert!(problem().contains("holds 9 certificates"), "{}", problem());
    files.write("crm.pem", &certificate);
    #[cfg(unix)]
    for (bits, fine) in [(0o600, true), (0o640, true), (0o604, false), (0o620, false), (0o644, false)] {
        mode(&path, bits);
        assert_eq!(load().is_ok(), fine, "V46: {bits:o}");
    }
    let _ = path;
}

#[test]
fn files_that_changed_are_taken_when_they_stand_still_and_fit_and_else_the_last_stay() {
    let files = Files::new("termination-watch");
    let (first, second, third) = (files.pair(), files.pair(), files.pair());
    let put = |certificate: &str, key: &str| {
        files.write("crm.pem", certificate);
        files.write("crm.key", key);
    };
    put(&first.0, &first.1);
    let (it, mut watcher) = (termination(files.config()), Watcher::default());
    let before = shown(&it);
    watcher.look(&it);

    put(&second.0, &second.1);
    watcher.look(&it);
    assert_eq!(shown(&it), before, "it may be half written");
    watcher.look(&it);
    let after = shown(&it);
    assert_ne!(after, before);

    put(&third.0, &second.1);
    (0..3).for_each(|_| watcher.look(&it));
    assert_eq!(shown(&it), after, "V36: a pair that does not fit");
    fs::remove_file(files.folder.join("crm.pem")).unwrap();
    (0..3).for_each(|_| watcher.look(&it));
    assert_eq!(shown(&it), after, "V30: a file that is gone");
    put(&third.0, &third.1);
    (0..2).for_each(|_| watcher.look(&it));
    assert_ne!(shown(&it), after);
}

#[test]
fn authorities_that_cannot_be_loaded_stop_the_endpoint_and_later_leave_the_last_in_force() {
    let files = Files::new("termination-trust");
    let (certificate, key) = files.pair();
    files.write("crm.pem", &certificate);
    files.write("crm.key", &key);
    let authorities = vec![files.folder.join("clients.pem").into()];
    let clients = Some(ClientCertificates { mode: ClientMode::Verify, authorities });
    let config = || TerminationConfig { clients: clients.clone(), ..files.config() };
    let fault = || Terms::read(&config(), &Marks::default(), &provider()).map(drop).unwrap_err().fault;

    assert_eq!(fault(), Fault::CertificateUnusable, "V30: a file that is not there");
    for bad in ["", &certificate, &files.ca.pem()[..100]] {
        files.write("clients.pem", bad);
        assert_eq!(fault(), Fault::CertificateUnusable, "V30: {bad}");
    }
    files.write("clients.pem", &files.ca.pem());
    let (it, mut watcher) = (termination(config()), Watcher::default());
    let mut changed = it.vigil().unwrap().changes;
    watcher.look(&it);

    files.write("clients.pem", "");
    (0..3).for_each(|_| watcher.look(&it));
    assert!(!changed.has_changed().unwrap(), "V30: nobody is let in whom nobody vouches for");
    assert_eq!(it.terms().unwrap().trusted.len(), 1);
    files.write("clients.pem", &Files::new("termination-other").ca.pem());
    (0..2).for_each(|_| watcher.look(&it));
    assert!(changed.has_changed().unwrap(), "whoever is connected must show its certificate anew");
    changed.mark_unchanged();
    files.write("crm.pem", &format!("{certificate}{}", files.ca.pem()));
    (0..2).for_each(|_| watcher.look(&it));
    assert!(!changed.has_changed().unwrap(), "another certificate of ours changes nothing about callers");
}

#[test]
fn where_certificates_are_asked_for_nothing_is_resumed() {
    let files = Files::new("termination-tickets");
    let (certificate, key) = files.pair();
    files.write("crm.pem", &certificate);
    files.write("crm.key", &key);
    let asks = |mode| Some(ClientCertificates { mode, authorities: Vec::new() });

    let plain = Terms::read(&files.config(), &Marks::default(), &provider()).unwrap().unwrap().server;
    assert!(plain.send_tls13_tickets > 0 && plain.session_storage.can_cache());
    for mode in [ClientMode::Request, ClientMode::Require] {
        let config = TerminationConfig { clients: asks(mode), ..files.config() };
        let server = Terms::read(&config, &Marks::default(), &provider()).unwrap().unwrap().server;
        assert!(server.send_tls13_tickets == 0 && !server.session_storage.can_cache(), "V29");
    }
    let verify = TerminationConfig { clients: asks(ClientMode::Verify), ..files.config() };
    assert!(Terms::read(&verify, &Marks::default(), &provider()).is_err(), "V30: nobody to verify against");
}

#[test]
fn an_identity_has_one_name_that_can_be_written() {
    let files = Files::new("termination-identity");
    let read = |names: &[&str]| {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &files.ca).unwrap();
        Identity::read(certificate.der(), true, &provider()).map(|identity| identity.common_name)
    };

    assert_eq!(read(&["client"]).as_deref(), Some("client"));
    assert_eq!(read(&[]).as_deref(), Some(""));
    for bad in ["a\nb", "a\u{0}b", &"x".repeat(257)] {
        assert_eq!(read(&[bad]), None, "{bad:?}");
    }
    assert!(!Identity::is_readable(&CertificateDer::from(vec![0; 100])));
}
