use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, SupportedProtocolVersion,
    pki_types::{PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::danger::ClientCertVerifier as _,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::*;

#[test]
fn authorities_are_loaded_whole_or_not_at_all() {
    let (one, two) = (Authority::new("One"), Authority::new("Two"));
    let both = format!("{}{}", one.pem, two.pem);
    let leaf = CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&KeyPair::generate().unwrap());
    let read = |text: &str| adit_tls::read(&[Authorities::Pem(text.to_owned())]);

    assert_eq!(read(&both).unwrap().len(), 2);
    let end = both.trim_end().len();
    for cut in [0, 1, 10, one.pem.len() - 30, one.pem.len() + 5, one.pem.len() + 100, end - 30, end - 1] {
        assert!(read(&both[..cut]).is_err(), "V30: cut at {cut}");
    }
    for broken in [
        "not a certificate".to_owned(),
        both.replacen("MII", "NII", 1),
        leaf.unwrap().pem(),
        one.pem.repeat(101),
        format!("-----BEGIN CERTIFICATE-----\n{}", one.pem),
    ] {
        assert!(matches!(read(&broken), Err(TrustError::Invalid { .. })), "V30: {broken}");
    }
    let missing = Authorities::File("/nonexistent/authorities.pem".into());
    assert!(matches!(adit_tls::read(&[missing]), Err(TrustError::File { .. })), "V30");
}

#[test]
fn an_endpoint_whose_authorities_are_lost_is_stopped_and_no_other() {
    let folder = std::env::temp_dir().join(format!("adit-terms-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (one, two) = (folder.join("one.pem"), folder.join("two.pem"));
    for path in [&one, &two] {
        fs::write(path, Authority::new("Acme").pem).unwrap();
    }
    let wanted = || {
        [("one.example", &one), ("*.two.example", &two)].map(|(name, path)| {
            let authorities = vec![Authorities::File(path.clone())];
            (NamePattern::parse(name).unwrap(), Ways::one(asking(ClientMode::Verify, authorities)))
        })
    };
    let maker = maker();
    let find = |table: &TermsTable, name: &str| table.find(&EndpointName::parse(name).unwrap());

    let (before, faults) = TermsTable::read(&maker, wanted(), &TermsTable::default());
    assert!(faults.is_empty(), "{faults:?}");
    fs::write(&one, "").unwrap();
    let (lost, faults) = TermsTable::read(&maker, wanted(), &before);
    fs::write(&two, Authority::new("Other").pem).unwrap();
    let (changed, _) = TermsTable::read(&maker, wanted(), &lost);
    fs::remove_dir_all(&folder).unwrap();

    assert_eq!(faults.len(), 1);
    assert_eq!(find(&lost, "one.example"), Offer::Stopped, "V30");
    assert!(matches!(find(&lost, "a.two.example"), Offer::Own(_)));
    assert_eq!(find(&lost, "a.two.example"), find(&before, "b.two.example"), "what has not changed is kept");
    assert_ne!(find(&changed, "a.two.example"), find(&lost, "a.two.example"), "new authorities are new terms");
    assert_eq!(find(&lost, "three.example"), Offer::Default);
}

#[test]
fn an_endpoint_without_settings_inside_a_wildcard_with_some_has_them_and_one_that_is_named_has_its_own() {
    let wild = asking(ClientMode::Request, Vec::new());
    let wanted = [("*.example", wild), ("open.example", EndpointTls::default())];
    let wanted = wanted.map(|(name, settings)| (NamePattern::parse(name).unwrap(), Ways::one(settings)));

    let (table, _) = TermsTable::read(&maker(), wanted, &TermsTable::default());

    assert!(matches!(table.find(&EndpointName::parse("a.example").unwrap()), Offer::Own(_)));
    assert_eq!(table.find(&EndpointName::parse("open.example").unwrap()), Offer::Default);
}

#[test]
fn each_mode_takes_whom_it_says() {
    let (ours, foreign) = (Authority::new("Acme CA"), Authority::new("Acme CA"));
    let (good, bad) = (ours.issue("client"), foreign.issue("client"));
    let trusted = || vec![Authorities::Pem(ours.pem.clone())];
    let table = [
        (ClientMode::Request, None, Ok(None)),
        (ClientMode::Request, Some(&good), Ok(Some(true))),
        (ClientMode::Request, Some(&bad), Ok(Some(false))),
        (ClientMode::Require, None, Err(Error::NoCertificatesPresented)),
        (ClientMode::Require, Some(&good), Ok(Some(true))),
        (ClientMode::Require, Some(&bad), Ok(Some(false))),
        (ClientMode::Verify, None, Err(Error::NoCertificatesPresented)),
        (ClientMode::Verify, Some(&good), Ok(Some(true))),
        (ClientMode::Verify, Some(&bad), Err(Error::InvalidCertificate(CertificateError::BadSignature))),
    ];
    for version in [TlsVersion::V12, TlsVersion::V13] {
        for (mode, shown, expected) in &table {
            let settings = EndpointTls { min: version, max: version, ..asking(*mode, trusted()) };
            let terms = maker().terms(settings, None).unwrap();

            let outcome = shake(&terms, *shown).map(|server| terms.identity(&server).map(|it| it.certificate.verified));

            assert_eq!(outcome, *expected, "{version:?} {mode:?}");
        }
    }
    let terms = maker().terms(asking(ClientMode::Require, Vec::new()), None).unwrap();
    let outcome = shake(&terms, Some(&good)).map(|server| terms.identity(&server).unwrap().certificate.verified);
    assert_eq!(outcome, Ok(false), "without authorities nobody vouches");
    assert!(matches!(maker().terms(asking(ClientMode::Verify, Vec::new()), None), Err(TrustError::Nobody)), "V30");
}

#[test]
fn only_the_versions_of_the_endpoint_are_spoken() {
    for (min, max, spoken) in [
        (TlsVersion::V12, TlsVersion::V13, "TLSv1_3"),
        (TlsVersion::V12, TlsVersion::V12, "TLSv1_2"),
        (TlsVersion::V13, TlsVersion::V13, "TLSv1_3"),
    ] {
        let terms = maker().terms(EndpointTls { min, max, ..EndpointTls::default() }, None).unwrap();
        let version = shake(&terms, None).unwrap().protocol_version().and_then(|version| version.as_str());
        assert_eq!(version, Some(spoken));
    }
    let terms = maker().terms(EndpointTls { min: TlsVersion::V13, ..EndpointTls::default() }, None).unwrap();
    let error = talk(&terms, client(None, &[&TLS12])).map(drop).unwrap_err();
    assert!(matches!(error, Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::ProtocolVersion)));
}

#[test]
fn a_chain_is_refused_by_its_length_before_anything_of_it_is_judged() {
    let ours = Authority::new("Acme CA");
    let (certificate, _) = ours.issue("client");
    let cross = |count: usize| vec![Authority::new("Cross").der(); count];
    let judge = |mode, trusted: &[CertificateDer<'static>]| {
        Judge::new(mode, trusted, Identity::is_readable, &provider()).unwrap()
    };

    for judge in [judge(ClientMode::Verify, &[ours.der()]), judge(ClientMode::Request, &[])] {
        assert!(judge.verify_client_cert(&certificate, &cross(7), UnixTime::now()).is_ok());
        for intermediates in [cross(8), cross(1_000), vec![CertificateDer::from(vec![0; 64 << 10])]] {
            let refused = Err(CertificateError::ApplicationVerificationFailure.into());
            assert_eq!(
                judge.verify_client_cert(&certificate, &intermediates, UnixTime::now()).map(drop),
                refused,
                "V32"
            );
        }
    }
}

#[test]
fn an_identity_says_what_the_certificate_says() {
    let ours = Authority::new("Acme CA");
    let mut params = leaf_params("Müller, \"Jörg\"\n+x");
    params.distinguished_name.push(DnType::OrganizationName, "Acme");
    params.distinguished_name.push(DnType::OrganizationalUnitName, "R&D");
    params.distinguished_name.push(DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap()));
    params.serial_number = Some(vec![0x00, 0xb5, 0x30].into());
    params.subject_alt_names = vec![
        SanType::DnsName("client.acme.example".try_into().unwrap()),
        SanType::URI("spiffe://acme.example/a,b".try_into().unwrap()),
        SanType::IpAddress("192.0.2.1".parse().unwrap()),
        SanType::Rfc822Name("a@acme.example".try_into().unwrap()),
    ];
    let (certificate, _) = ours.issue_as(params);

    let identity = Identity::read(&certificate, true).unwrap();

    let it = &*identity.certificate;
    assert_eq!(it.subject.text, "C=DE,OU=R&D,O=Acme,CN=Müller\\, \\\"Jörg\\\"\\0A\\+x");
    assert_eq!(it.subject.common_name, "Müller, \"Jörg\"\n+x");
    assert_eq!(
        (&it.subject.country.0[..], &it.subject.organization.0[..]),
        (&["DE".to_owned()][..], &["Acme".to_owned()][..])
    );
    assert_eq!((&*it.issuer.text, &*it.serial_number), ("CN=Acme CA", "b530"));
    assert_eq!(it.dns_names.0, ["client.acme.example"]);
    assert_eq!(CertificateDer::from_pem_slice(it.pem.as_bytes()).unwrap(), certificate);
    assert_eq!(
        (&*it.signature_algorithm, it.extensions.0.iter().any(|one| one.id == "2.5.29.17")),
        ("ECDSA-SHA256", true)
    );
    assert_eq!(it.ip_addresses.0, ["192.0.2.1"]);
    assert!(it.not_before < it.not_after && it.fingerprint.len() == 64);
    let fields = told(&identity);
    let value = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    assert_eq!(value("x-client-cert-verified"), Some("true"));
    let subject = "C=DE,OU=R&D,O=Acme,CN=M\\C3\\BCller\\, \\\"J\\C3\\B6rg\\\"\\0A\\+x";
    assert_eq!(value("x-client-cert-subject"), Some(subject), "nothing of it ends the field");
    assert_eq!(value("x-client-cert-serial"), Some("b530"));
    let san = "DNS:client.acme.example, EMAIL:a@acme.example, IP:192.0.2.1, URI:spiffe://acme.example/a\\,b";
    assert_eq!(value("x-client-cert-san"), Some(san));
    let whole = value("client-cert").unwrap();
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", whole.trim_matches(':'));
    assert_eq!(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap(), certificate, "RFC 9440");
}

#[test]
fn of_a_certificate_for_which_nobody_vouches_upstreams_hear_its_fingerprint_only() {
    let (certificate, _) = Authority::new("Acme CA").issue("admin");

    let names: Vec<_> = told(&Identity::read(&certificate, false).unwrap()).into_iter().map(|(name, _)| name).collect();

    assert_eq!(names, ["x-client-cert-verified", "x-client-cert-sha256"]);
}

#[test]
fn what_is_no_certificate_or_too_much_of_one_is_no_identity() {
    let ours = Authority::new("Acme CA");
    let (certificate, _) = ours.issue("client");
    let octets = certificate.to_vec();
    let read = |octets: Vec<u8>| Identity::read(&octets.into(), false);
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = leaf_params("client");
        change(&mut params);
        Identity::read(&ours.issue_as(params).0, false)
    };
    let names = |count: usize, label: usize| {
        let name = |at: usize| SanType::DnsName(format!("{at}{}.example", "a".repeat(label)).try_into().unwrap());
        (0..count).map(name).collect::<Vec<_>>()
    };

    for cut in 0..octets.len() {
        assert!(read(octets[..cut].to_vec()).is_none(), "{cut}");
    }
    assert!(read([&octets[..], &[0]].concat()).is_none());
    assert!(with(|params| params.distinguished_name.push(DnType::OrganizationName, "x".repeat(1 << 10))).is_none());
    let mut many = leaf_params("client");
    many.subject_alt_names = names(64, 10);
    assert!(Identity::read(&ours.issue_as(many.clone()).0, false).is_some());
    many.subject_alt_names = names(65, 1);
    assert!(Identity::read(&ours.issue_as(many.clone()).0, false).is_none());
    many.subject_alt_names = names(64, 60);
    assert!(Identity::read(&ours.issue_as(many).0, false).is_none());
    for at in 0..octets.len() {
        let mut changed = octets.clone();
        changed[at] ^= 0x41;
        drop(read(changed)); // whatever it is, it is no panic
    }
}

fn told(identity: &Identity) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    identity.fields().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

pub(super) fn asking(mode: ClientMode, authorities: Vec<Authorities>) -> EndpointTls {
    let clients = ClientCertificates { mode, authorities };
    EndpointTls { clients: Some(clients), ..EndpointTls::default() }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes terms of a server whose certificate no client of these tests looks at.
pub(super) fn maker() -> Maker {
    let (certificate, key) = Authority::new("Server CA").issue("a.example");
    let certified = CertifiedKey::from_der(vec![certificate], key, &provider()).unwrap();
    Maker::new(provider(), Arc::new(SingleCertAndKey::from(certified)), Arc::default())
}

pub(super) type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

fn client(shown: Option<&Shown>, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody::Anybody));
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate.clone()], key.clone_key()).unwrap(),
    })
}

/// Makes a handshake to its end on both sides and returns the server's.
pub(super) fn shake(terms: &Terms, shown: Option<&Shown>) -> Result<ServerConnection, Error> {
    talk(terms, client(shown, &[&TLS12, &TLS13]))
}

#[expect(clippy::unwrap_in_result, reason = "what fails here is not the handshake")]
fn talk(terms: &Terms, client: Arc<ClientConfig>) -> Result<ServerConnection, Error> {
    let mut client = ClientConnection::new(client, ServerName::try_from("a.example").unwrap()).unwrap();
    let mut server = ServerConnection::new(terms.server()).unwrap();
    while client.is_handshaking() || server.is_handshaking() || client.wants_write() || server.wants_write() {
        let mut octets = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut octets).unwrap();
        }
        let mut rest = &octets[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut octets = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut octets).unwrap();
        }
        let mut rest = &octets[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(server)
}

pub(super) struct Authority {
    pub(super) pem: String,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Makes one that this one has issued.
    pub(super) fn below(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()
    }

    pub(super) fn issue(&self, name: &str) -> Shown {
        self.issue_as(leaf_params(name))
    }

    pub(super) fn issue_as(&self, params: CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }
}

pub(super) fn authority_params(name: &str) -> CertificateParams {
    let mut params = leaf_params(name);
    params.extended_key_usages = Vec::new();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub(super) fn leaf_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

mod anybody {
    use rustls::{
        DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    /// Believes every server: these tests are about clients.
    #[derive(Debug)]
    pub(super) struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            super::provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
