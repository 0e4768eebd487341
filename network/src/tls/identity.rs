//! Who a caller is by its certificate: for policies, and for upstreams in headers that only we write.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use adit_policy::{
    cel::Timestamp,
    environment::{Certificate, Extension, Extensions, Name, Texts},
};
use adit_tls::{Described, base64, hex};
use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// A certificate that a caller has shown and whose key it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What it says, and whether one of the endpoint's authorities vouches for that.
    pub certificate: Arc<Certificate>,
    described: Arc<Described>,
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
        let described = Described::read(der)?;
        let ([], parsed) = X509Certificate::from_der(der).ok()? else { return None };
        let extensions = parsed.extensions().iter().map(|extension| Extension {
            id: extension.oid.to_id_string(),
            critical: extension.critical,
            value: extension.value.to_vec(),
        });
        let Described { dns_names, email_addresses, ip_addresses, uris, .. } = described.clone();
        let certificate = Certificate {
            verified,
            fingerprint: hex(digest(&SHA256, der).as_ref()),
            pem: pem(der),
            serial_number: described.serial_number.clone(),
            signature_algorithm: signature(&parsed.signature_algorithm.algorithm.to_id_string()),
            subject: name(&described.subject),
            issuer: name(&described.issuer),
            dns_names: Texts(dns_names),
            email_addresses: Texts(email_addresses),
            ip_addresses: Texts(ip_addresses),
            uris: Texts(uris),
            extensions: Extensions(extensions.collect()),
            not_before: Timestamp::new(parsed.validity().not_before.timestamp(), 0)?,
            not_after: Timestamp::new(parsed.validity().not_after.timestamp(), 0)?,
        };
        let der = der.clone().into_owned();
        Some(Self { certificate: Arc::new(certificate), described: Arc::new(described), der, chain: None })
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

    /// Returns what upstreams are told.
    pub fn fields(&self) -> Vec<(HeaderName, HeaderValue)> {
        let Certificate { verified, fingerprint, .. } = &*self.certificate;
        let fields = self.described.fields(&self.der, fingerprint, *verified).into_iter();
        fields.map(|(name, value)| (HeaderName::from_static(name), printable(&value))).collect()
    }
}

/// Sorts the attributes of a name to where policies ask for them.
fn name(described: &adit_tls::Name) -> Name {
    let mut name = Name { text: described.text.clone(), ..Name::default() };
    for (kind, text) in &described.attributes {
        let list = match kind.as_str() {
            "2.5.4.3" => {
                text.clone_into(&mut name.common_name);
                continue;
            }
            "2.5.4.6" => &mut name.country,
            "2.5.4.7" => &mut name.locality,
            "2.5.4.8" => &mut name.province,
            "2.5.4.9" => &mut name.street_address,
            "2.5.4.10" => &mut name.organization,
            "2.5.4.11" => &mut name.organizational_unit,
            "2.5.4.17" => &mut name.postal_code,
            _ => continue,
        };
        list.0.push(text.clone());
    }
    name
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

fn printable(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
