//! The section `agent_tls_termination`: keys as ngrok's agent and its action `terminate-tls` call them.

use adit_core::UpstreamProtocol;

use super::{
    ClientCertificates, ClientMode, RevocationConfig, TerminationConfig, TlsVersion, acme, section::Section,
    values::flag,
};

/// Of which endpoint the section is.
pub(super) struct Of<'a> {
    pub(super) name: &'a str,
    /// Nothing where it is not one.
    pub(super) url: Option<&'a str>,
    pub(super) pooling: bool,
}

/// Reads the section of an endpoint whose upstream speaks `http` or something else.
pub(super) fn read(mut section: Section<'_, '_>, of: &Of<'_>, http: Option<UpstreamProtocol>) -> TerminationConfig {
    let acme = acme::read(section.section("acme"), of);
    let name = of.name;
    let mut file = |key: &'static str, extension: &str| match section.file(key) {
        Some((file, scalar)) => {
            if scalar.text.contains("-----BEGIN") {
                let remedy = "Put it into a file, the key with mode 600, and name that";
                section.reject(key, &scalar, "the text itself, not the name of a file", remedy);
            }
            file
        }
        None => section.file_beside(key, &format!("{name}.{extension}")),
    };
    let (certificate, key) = match &acme {
        None => (file("server_certificate", "pem"), file("server_private_key", "key")),
        Some(acme) => (acme.file().into(), acme.file().into()),
    };
    if acme.is_some() {
        for key in ["server_certificate", "server_private_key"] {
            if let Some(scalar) = section.scalar(key) {
                section.reject(
                    key,
                    &scalar,
                    "certificate and key are ordered and kept by the agent",
                    "Remove it, or acme",
                );
            }
        }
    }
    let min_version = section.value("min_version", TlsVersion::V12, "1.2 or 1.3", TlsVersion::parse);
    let max_version = section.value("max_version", TlsVersion::V13, "1.2 or 1.3", TlsVersion::parse);
    if max_version < min_version {
        section.missing("max_version", "older than min_version", "Write 1.3, or remove one of the two");
    }
    let clients = clients(&mut section);
    let revocation = revocation(&mut section, clients.as_ref());
    section.fill(&[HEADERS]);
    let identity_headers = section.value(HEADERS, false, "true or false", flag);
    if identity_headers {
        tells(&section, clients.as_ref(), http);
    }
    section.finish();
    TerminationConfig { certificate, key, min_version, max_version, clients, revocation, identity_headers, http, acme }
}

fn clients(section: &mut Section<'_, '_>) -> Option<ClientCertificates> {
    section.fill(&[AUTHORITIES, STRATEGY]);
    let authorities = section.files(AUTHORITIES);
    let expected = "require-and-verify, require-any or request";
    let mode = section.value(STRATEGY, None, expected, |text| ClientMode::parse(text).map(Some));
    match (mode, authorities.is_empty()) {
        (None, true) => None,
        (Some(ClientMode::Verify), true) => {
            let remedy = "Name the file of the authorities that issue certificates of callers";
            section.missing(AUTHORITIES, "nobody is named whose certificates are believed", remedy);
            None
        }
        (mode, _) => Some(ClientCertificates { mode: mode.unwrap_or(ClientMode::Verify), authorities }),
    }
}

fn revocation(section: &mut Section<'_, '_>, clients: Option<&ClientCertificates>) -> Option<RevocationConfig> {
    section.fill(&[LISTS, ISSUERS]);
    let (lists, issuers) = (section.files(LISTS), section.files(ISSUERS));
    if lists.is_empty() {
        if !issuers.is_empty() {
            section.missing(ISSUERS, "no revocation list is named", "Name one in mutual_tls_crl, or remove this");
        }
        return None;
    }
    if lists.len() > MAX_LISTS {
        section.missing(
            LISTS,
            &format!("more than {MAX_LISTS} files of lists"),
            "Put several lists into one file, as PEM",
        );
    }
    if clients.is_none_or(|clients| clients.authorities.is_empty()) {
        let remedy = "Name the authorities in mutual_tls_certificate_authorities, or remove this";
        section.missing(LISTS, "nobody is named whose certificates could be revoked", remedy);
    }
    Some(RevocationConfig { lists, issuers })
}

/// Looks whether upstreams can be told who calls: what is said in a request needs HTTP/1.1 on both sides.
fn tells(section: &Section<'_, '_>, clients: Option<&ClientCertificates>, http: Option<UpstreamProtocol>) {
    if clients.is_none() {
        let remedy = "Name the authorities in mutual_tls_certificate_authorities, or remove this";
        section.missing(HEADERS, "callers are asked for no certificate", remedy);
    }
    match http {
        Some(UpstreamProtocol::Http1) => {}
        Some(UpstreamProtocol::Http2) => {
            let remedy = "Remove protocol: http2 of the upstream, or tell it by proxy_protocol: 2";
            section.missing(HEADERS, "the upstream speaks HTTP/2, in which requests are not looked at", remedy);
        }
        None => {
            let remedy = "Write http:// or https:// before the upstream's host, or tell it by proxy_protocol: 2";
            section.missing(HEADERS, "the upstream is not said to speak HTTP", remedy);
        }
    }
}

const AUTHORITIES: &str = "mutual_tls_certificate_authorities";
const STRATEGY: &str = "mutual_tls_verification_strategy";
const HEADERS: &str = "mutual_tls_identity_headers";
const LISTS: &str = "mutual_tls_crl";
const ISSUERS: &str = "mutual_tls_crl_issuers";
/// More files of revocation lists are not read.
const MAX_LISTS: usize = 16;
