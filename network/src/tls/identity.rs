//! Who a caller is by its certificate: for policies, and for upstreams in headers that only we write.

use core::{
    fmt::Write as _,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};
use std::sync::Arc;

use adit_policy::{
    cel::Timestamp,
    environment::{Certificate, Extension, Extensions, Name, Texts},
};
use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::FromDer as _,
    x509::{AttributeTypeAndValue, X509Name},
};

/// A certificate that a caller has shown and whose key it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it says, and whether one of the endpoint's authorities vouches for that.
    pub certificate: Arc<Certificate>,
    der: CertificateDer<'static>,
    /// Where somebody vouches for it.
    chain: Option<Arc<Chain>>,
}

/// A chain that is judged by revocation lists, kept to be judged by later ones.
#[derive(Debug)]
pub(super) struct Chain {
    certificate: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    /// The generation of the lists by which it was found good.
    judged: AtomicU64,
}

impl PartialEq for Chain {
    fn eq(&self, other: &Self) -> bool {
        (&self.certificate, &self.intermediates) == (&other.certificate, &other.intermediates)
    }
}

impl Eq for Chain {}

impl Chain {
    /// Returns whether it is good by the lists of a generation; `judge` is asked once for each.
    pub(super) fn stands(
        &self,
        generation: u64,
        judge: impl FnOnce(&CertificateDer<'_>, &[CertificateDer<'_>]) -> bool,
    ) -> bool {
        if self.judged.load(Ordering::Acquire) == generation {
            return true;
        }
        let good = judge(&self.certificate, &self.intermediates);
        if good {
            self.judged.store(generation, Ordering::Release);
        }
        good
    }
}

impl Identity {
    /// Returns whether a certificate is one that [`Self::read`] reads.
    pub(super) fn is_readable(der: &CertificateDer<'_>) -> bool {
        Self::read(der, false).is_some()
    }

    /// Reads a certificate; nothing when it is not well formed, or larger than what we tell about.
    pub fn read(der: &CertificateDer<'_>, verified: bool) -> Option<Self> {
        if der.len() > MAX_CERTIFICATE {
            return None;
        }
        let ([], parsed) = X509Certificate::from_der(der).ok()? else { return None };
        let names = match parsed.subject_alternative_name().ok()? {
            Some(extension) => alternative_names(&extension.value.general_names)?,
            None => Names::default(),
        };
        let serial = parsed.raw_serial();
        let extensions = parsed.extensions().iter().map(|extension| Extension {
            id: extension.oid.to_id_string(),
            critical: extension.critical,
            value: extension.value.to_vec(),
        });
        let certificate = Certificate {
            verified,
            fingerprint: hex(digest(&SHA256, der).as_ref()),
            pem: pem(der),
            serial_number: hex(serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial)),
            signature_algorithm: signature(&parsed.signature_algorithm.algorithm.to_id_string()),
            subject: name(parsed.subject())?,
            issuer: name(parsed.issuer())?,
            dns_names: Texts(names.dns),
            email_addresses: Texts(names.email),
            ip_addresses: Texts(names.ip),
            uris: Texts(names.uri),
            extensions: Extensions(extensions.collect()),
            not_before: Timestamp::new(parsed.validity().not_before.timestamp(), 0)?,
            not_after: Timestamp::new(parsed.validity().not_after.timestamp(), 0)?,
        };
        Some(Self { certificate: Arc::new(certificate), der: der.clone().into_owned(), chain: None })
    }

    /// Keeps the chain by which somebody vouches for it, to be judged at the first request and when lists change.
    pub(super) fn with_chain(self, intermediates: &[CertificateDer<'_>]) -> Self {
        let chain = Chain {
            certificate: self.der.clone(),
            intermediates: intermediates.iter().map(|der| der.clone().into_owned()).collect(),
            judged: AtomicU64::new(u64::MAX),
        };
        Self { chain: Some(Arc::new(chain)), ..self }
    }

    pub(super) fn chain(&self) -> Option<&Chain> {
        self.chain.as_deref()
    }

    /// Returns what upstreams are told. Of a certificate for which nobody vouches they hear its fingerprint only: what it
    /// says of itself anybody can write.
    pub fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        let Certificate { verified, fingerprint, subject, issuer, serial_number, .. } = &*self.certificate;
        let mut fields = vec![
            (VERIFIED, HeaderValue::from_static(if *verified { "true" } else { "false" })),
            (SHA256_OF, printable(fingerprint)),
        ];
        if *verified {
            fields.push((CLIENT_CERT, printable(&format!(":{}:", base64(&self.der))))); // RFC 9440 §2.2
            fields.push((SUBJECT, printable(&ascii(&subject.text))));
            fields.push((ISSUER, printable(&ascii(&issuer.text))));
            fields.push((SERIAL, printable(serial_number)));
            let listed = listed(&self.certificate);
            if !listed.is_empty() {
                fields.push((SAN, printable(&ascii(&listed))));
            }
        }
        fields
    }
}

/// Writes the alternative names in one line: `DNS:a.example, URI:spiffe://a/b`.
fn listed(certificate: &Certificate) -> String {
    let Certificate { dns_names, email_addresses, ip_addresses, uris, .. } = certificate;
    let kinds = [("DNS", dns_names), ("EMAIL", email_addresses), ("IP", ip_addresses), ("URI", uris)];
    let entries = kinds.into_iter().flat_map(|(kind, list)| list.0.iter().map(move |name| (kind, name)));
    entries.map(|(kind, name)| format!("{kind}:{}", escaped(name))).collect::<Vec<_>>().join(", ")
}

/// The alternative names of a subject.
#[derive(Default)]
struct Names {
    dns: Vec<String>,
    email: Vec<String>,
    ip: Vec<String>,
    uri: Vec<String>,
}

fn alternative_names(all: &[GeneralName<'_>]) -> Option<Names> {
    let mut names = Names::default();
    let mut size = 0;
    if all.len() > MAX_NAMES {
        return None;
    }
    for one in all {
        let (list, text) = match one {
            GeneralName::DNSName(text) => (&mut names.dns, (*text).to_owned()),
            GeneralName::RFC822Name(text) => (&mut names.email, (*text).to_owned()),
            GeneralName::URI(text) => (&mut names.uri, (*text).to_owned()),
            GeneralName::IPAddress(octets) => (&mut names.ip, address(octets)?.to_string()),
            GeneralName::Invalid(..) => return None,
            // Nothing that anybody here asks for.
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_) => continue,
        };
        size += text.len();
        list.push(text);
    }
    (size <= MAX_NAMES_SIZE).then_some(names)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Reads a distinguished name and writes it as RFC 2253 does, the most specific part first.
fn name(parsed: &X509Name<'_>) -> Option<Name> {
    let mut name = Name::default();
    let mut parts = Vec::new();
    for part in parsed.iter_rdn() {
        let mut attributes = Vec::new();
        for attribute in part.iter() {
            attributes.push(written(attribute, &mut name));
        }
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    name.text = parts.join(",");
    (name.text.len() <= MAX_NAME).then_some(name)
}

/// Writes one attribute and notes it where it belongs.
fn written(attribute: &AttributeTypeAndValue<'_>, name: &mut Name) -> String {
    let kind = attribute.attr_type().to_id_string();
    let Ok(text) = attribute.as_str() else {
        return format!("{kind}=#{}", hex(attribute.as_slice())); // text of before UTF-8
    };
    let (short, list) = match kind.as_str() {
        "2.5.4.3" => {
            text.clone_into(&mut name.common_name);
            return format!("CN={}", escaped(text));
        }
        "2.5.4.5" => return format!("SERIALNUMBER={}", escaped(text)),
        "2.5.4.6" => ("C", &mut name.country),
        "2.5.4.7" => ("L", &mut name.locality),
        "2.5.4.8" => ("ST", &mut name.province),
        "2.5.4.9" => ("STREET", &mut name.street_address),
        "2.5.4.10" => ("O", &mut name.organization),
        "2.5.4.11" => ("OU", &mut name.organizational_unit),
        "2.5.4.17" => ("POSTALCODE", &mut name.postal_code),
        _ => return format!("{kind}={}", escaped(text)),
    };
    list.0.push(text.to_owned());
    format!("{short}={}", escaped(text))
}

/// Escapes what would end or hide a part of a name (RFC 2253 §2.4); what cannot be seen is written in hexadecimal.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, letter) in text.chars().enumerate() {
        match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => out.extend(['\\', letter]),
            '#' if at == 0 => out.push_str("\\#"),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            letter if letter.is_control() => {
                letter.encode_utf8(&mut [0; 4]).bytes().for_each(|octet| hide(octet, &mut out))
            }
            letter => out.push(letter),
        }
    }
    out
}

/// Writes text for a header: what is not printable ASCII in hexadecimal, octet by octet.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if matches!(octet, b' '..=b'~') { out.push(char::from(octet)) } else { hide(octet, &mut out) }
    }
    out
}

fn hide(octet: u8, out: &mut String) {
    let _ = write!(out, "\\{octet:02X}"); // a `String` takes every text
}

/// Returns the name of an algorithm of signatures, as that form has it; the number of one that has no name there.
fn signature(id: &str) -> String {
    match id {
        "1.2.840.113549.1.1.11" => "SHA256-RSA",
        "1.2.840.113549.1.1.12" => "SHA384-RSA",
        "1.2.840.113549.1.1.13" => "SHA512-RSA",
        "1.2.840.10045.4.3.2" => "ECDSA-SHA256",
        "1.2.840.10045.4.3.3" => "ECDSA-SHA384",
        "1.2.840.10045.4.3.4" => "ECDSA-SHA512",
        "1.3.101.112" => "Ed25519",
        other => other,
    }
    .to_owned()
}

fn pem(der: &[u8]) -> String {
    let text = base64(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|octet| char::from(*octet)));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

fn hex(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len() * 2);
    for octet in octets {
        let _ = write!(out, "{octet:02x}"); // a `String` takes every text
    }
    out
}

fn base64(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len().div_ceil(3) * 4);
    for three in octets.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(three.get(at).copied().unwrap_or(0)));
        let bits = a << 16 | b << 8 | c;
        for at in 0..4 {
            let letter = ALPHABET.get((bits >> (18 - 6 * at) & 0x3f) as usize).copied().unwrap_or(b'=');
            out.push(if at > three.len() { '=' } else { char::from(letter) });
        }
    }
    out
}

fn printable(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const VERIFIED: HeaderName = HeaderName::from_static("x-client-cert-verified");
const SHA256_OF: HeaderName = HeaderName::from_static("x-client-cert-sha256");
const SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
const ISSUER: HeaderName = HeaderName::from_static("x-client-cert-issuer");
const SERIAL: HeaderName = HeaderName::from_static("x-client-cert-serial");
const SAN: HeaderName = HeaderName::from_static("x-client-cert-san");

/// The largest certificate of a caller, in octets: its text goes into a header of each request.
const MAX_CERTIFICATE: usize = 8 << 10;
/// The longest subject or issuer, written out.
const MAX_NAME: usize = 1 << 10;
const MAX_NAMES: usize = 64;
const MAX_NAMES_SIZE: usize = 4 << 10;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
