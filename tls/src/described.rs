//! What a certificate says of who has it, and how upstreams are told: the same at the network and at the agent.

use core::{fmt::Write as _, net::IpAddr};

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::FromDer as _,
    x509::{AttributeTypeAndValue, X509Name},
};

/// Who a certificate is for, as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Described {
    /// Its subject.
    pub subject: Name,
    /// Who issued it.
    pub issuer: Name,
    /// Its serial number, in hexadecimal.
    pub serial_number: String,
    /// Alternative names of hosts.
    pub dns_names: Vec<String>,
    /// Alternative names of mailboxes.
    pub email_addresses: Vec<String>,
    /// Alternative names that are addresses.
    pub ip_addresses: Vec<String>,
    /// Alternative names that are URIs.
    pub uris: Vec<String>,
}

/// A distinguished name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Name {
    /// As RFC 2253 writes it, the most specific part first; control characters as `\XX`.
    pub text: String,
    /// Its attributes that are text, in the order of the certificate: the object identifier, and the text as it is.
    pub attributes: Vec<(String, String)>,
}

impl Described {
    /// Reads a certificate; nothing when it is not well formed, or larger than what is told about: 8 KiB, names of 1 KiB, 64
    /// alternative names of together 4 KiB.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        if der.len() > MAX_CERTIFICATE {
            return None;
        }
        let ([], parsed) = X509Certificate::from_der(der).ok()? else { return None };
        let names = match parsed.subject_alternative_name().ok()? {
            Some(extension) => alternative_names(&extension.value.general_names)?,
            None => Names::default(),
        };
        let serial = parsed.raw_serial();
        Some(Self {
            subject: name(parsed.subject())?,
            issuer: name(parsed.issuer())?,
            serial_number: hex(serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial)),
            dns_names: names.dns,
            email_addresses: names.email,
            ip_addresses: names.ip,
            uris: names.uri,
        })
    }

    /// Returns the header fields by which upstreams are told, names in lower case and values in printable ASCII. `fingerprint`
    /// is the SHA-256 of `der`, the certificate itself.
    ///
    /// Of a certificate for which nobody vouches they hear its fingerprint only: what it says of itself anybody can write.
    pub fn fields(&self, der: &[u8], fingerprint: &str, is_verified: bool) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("x-client-cert-verified", if is_verified { "true" } else { "false" }.to_owned()),
            ("x-client-cert-sha256", fingerprint.to_owned()),
        ];
        if is_verified {
            fields.push(("client-cert", format!(":{}:", base64(der)))); // RFC 9440 §2.2
            fields.push(("x-client-cert-subject", ascii(&self.subject.text)));
            fields.push(("x-client-cert-issuer", ascii(&self.issuer.text)));
            fields.push(("x-client-cert-serial", self.serial_number.clone()));
            let listed = self.listed();
            if !listed.is_empty() {
                fields.push(("x-client-cert-san", ascii(&listed)));
            }
        }
        fields
    }

    /// Writes the alternative names in one line: `DNS:a.example, URI:spiffe://a/b`.
    fn listed(&self) -> String {
        let Self { dns_names, email_addresses, ip_addresses, uris, .. } = self;
        let kinds = [("DNS", dns_names), ("EMAIL", email_addresses), ("IP", ip_addresses), ("URI", uris)];
        let entries = kinds.into_iter().flat_map(|(kind, list)| list.iter().map(move |name| (kind, name)));
        entries.map(|(kind, name)| format!("{kind}:{}", escaped(name))).collect::<Vec<_>>().join(", ")
    }
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

/// Reads a distinguished name.
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

/// Writes one attribute and notes it.
fn written(attribute: &AttributeTypeAndValue<'_>, name: &mut Name) -> String {
    let kind = attribute.attr_type().to_id_string();
    let Ok(text) = attribute.as_str() else {
        return format!("{kind}=#{}", hex(attribute.as_slice())); // text of before UTF-8
    };
    let short = match kind.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "SERIALNUMBER",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.17" => "POSTALCODE",
        other => other,
    };
    let written = format!("{short}={}", escaped(text));
    name.attributes.push((kind, text.to_owned()));
    written
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

/// Writes octets in hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len() * 2);
    for octet in octets {
        let _ = write!(out, "{octet:02x}"); // a `String` takes every text
    }
    out
}

/// Writes octets in base64, padded.
pub fn base64(octets: &[u8]) -> String {
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

/// The largest certificate of a caller, in octets: its text goes into a header of each request.
const MAX_CERTIFICATE: usize = 8 << 10;
/// The longest subject or issuer, written out.
const MAX_NAME: usize = 1 << 10;
const MAX_NAMES: usize = 64;
const MAX_NAMES_SIZE: usize = 4 << 10;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
