//! The certificate of a caller, as expressions see it.

use crate::cel::{Budget, List, ListSource, Timestamp, Value};

/// A certificate that a caller has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whether one of the endpoint's authorities vouches for what it says. Whoever shows one has its key all the same.
    pub verified: bool,
    /// Its SHA-256, in hexadecimal digits.
    pub fingerprint: String,
    /// It, in PEM.
    pub pem: String,
    /// Its number, in hexadecimal digits.
    pub serial_number: String,
    /// How it is signed.
    pub signature_algorithm: String,
    /// Whom it names.
    pub subject: Name,
    /// Who has issued it.
    pub issuer: Name,
    /// DNS names of the alternative names of the subject.
    pub dns_names: Texts,
    /// Its addresses of email.
    pub email_addresses: Texts,
    /// Its IP addresses.
    pub ip_addresses: Texts,
    /// Its URIs.
    pub uris: Texts,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Its extensions.
    pub extensions: Extensions,
}

/// A distinguished name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// The whole, as RFC 2253 writes it.
    pub text: String,
    /// Its common name; empty when it has none.
    pub common_name: String,
    /// Its countries.
    pub country: Texts,
    /// Its localities.
    pub locality: Texts,
    /// Its organizations.
    pub organization: Texts,
    /// Their units.
    pub organizational_unit: Texts,
    /// Its postal codes.
    pub postal_code: Texts,
    /// Its provinces or states.
    pub province: Texts,
    /// Its streets.
    pub street_address: Texts,
}

/// Texts, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl Texts {
    pub(super) fn value(&self) -> Value<'_> {
        Value::List(List::Source(self))
    }
}

impl ListSource for Texts {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<Value<'_>> {
        self.0.get(index).map(|text| text.as_str().into())
    }
}

/// Extensions of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions(pub Vec<Extension>);

/// An extension of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its identifier, as `2.5.29.15`.
    pub id: String,
    /// Whether who does not know it refuses the certificate.
    pub critical: bool,
    /// Its octets.
    pub value: Vec<u8>,
}

impl Extensions {
    pub(super) fn value(&self) -> Value<'_> {
        Value::List(List::Source(self))
    }
}

impl ListSource for Extensions {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<Value<'_>> {
        let extension = self.0.get(index)?;
        let entries = vec![
            ("id".into(), extension.id.as_str().into()),
            ("critical".into(), Value::Bool(extension.critical)),
            ("value".into(), extension.value.as_slice().into()),
        ];
        // Three entries, whatever the caller has sent.
        Value::map(entries, &mut Budget::new(u64::MAX, u64::MAX)).ok()
    }
}

impl Certificate {
    /// Returns all alternative names, as `DNS:a.example, IP Address:192.0.2.1`.
    pub(super) fn san(&self) -> String {
        let kinds = [
            ("DNS", &self.dns_names),
            ("email", &self.email_addresses),
            ("IP Address", &self.ip_addresses),
            ("URI", &self.uris),
        ];
        let names = kinds.iter().flat_map(|(kind, texts)| texts.0.iter().map(move |text| format!("{kind}:{text}")));
        names.collect::<Vec<_>>().join(", ")
    }
}
