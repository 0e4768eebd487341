//! The section `acme` of `agent_tls_termination`: from whom the agent orders the certificate, and as whom.

use core::net::Ipv4Addr;
use std::path::PathBuf;

use adit_core::Secret;

use super::{
    NamedFile,
    section::Section,
    termination::Of,
    values::{flag, host_port},
};

/// The section `acme`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcmeConfig {
    /// The name that is ordered for: that of the endpoint's URL.
    pub name: String,
    /// `directory`: the authority's, over HTTPS; that of Let's Encrypt.
    pub directory: String,
    /// `contact`: `mailto:` URLs by which the authority may reach somebody.
    pub contact: Vec<String>,
    /// `eab`: an account that is known to the authority already, to which the agent's is bound.
    pub external: Option<ExternalAccount>,
    /// `ca`: a PEM file of whom the directory's own certificate must be from; without, whom this machine trusts.
    pub ca: Option<NamedFile>,
    /// Where account, certificates and keys are kept: below the agent's state folder.
    pub folder: PathBuf,
}

/// The section `eab`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExternalAccount {
    /// `key_id`: what the authority calls the account.
    pub key_id: String,
    /// `hmac_key_file`, or `ADIT_ACME_EAB_HMAC_KEY`: base64url.
    pub key: ExternalKey,
}

/// Where the key of an external account is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExternalKey {
    /// A file that nobody else may read.
    File(NamedFile),
    /// The environment.
    Given(Secret),
}

impl AcmeConfig {
    /// Returns the file of certificate and key: one, so that both are replaced in one step.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.pem", self.name))
    }

    /// Returns the host and the port of the directory.
    pub(crate) fn place(&self) -> (String, u16) {
        place(&self.directory).unwrap_or_default()
    }
}

/// Returns the host and the port of a URL over HTTPS; nothing when it is none, or has a user.
pub(crate) fn place(url: &str) -> Option<(String, u16)> {
    let rest = url.strip_prefix("https://")?;
    let (host, port) = host_port(rest.split(['/', '?']).next()?)?;
    Some((host, port.unwrap_or(443)))
}

/// Reads the section.
pub(super) fn read(mut section: Section<'_, '_>, of: &Of<'_>) -> Option<AcmeConfig> {
    let expected = "a URL such as https://acme-v02.api.letsencrypt.org/directory";
    let directory = section
        .value("directory", LETS_ENCRYPT.to_owned(), expected, |text| is_directory(text).then(|| text.to_owned()));
    let contact = contact(&mut section);
    let external = external(section.section("eab"));
    let ca = section.file("ca").map(|(path, _)| path);
    let accepted = section.value("accept_terms", false, "true or false", flag);
    let is_there = section.is_there();
    if is_there && !accepted {
        let remedy = "Read the terms of service that the directory names, then write accept_terms: true";
        section.missing("accept_terms", "the authority's terms are not accepted", remedy);
    }
    if is_there && of.pooling {
        let remedy = "Set pooling_enabled: false, or give all agents of the pool one certificate, by files";
        section.missing("", "of a pool any agent may be asked by the authority, not only the one that orders", remedy);
    }
    let name = of.url.map(provable).unwrap_or(Ok(String::new())).unwrap_or_else(|problem| {
        if is_there {
            let remedy =
                "Write a url such as https://crm.example.com, or get the certificate by `adit certificate request`";
            section.missing("", problem, remedy);
        }
        String::new()
    });
    let folder = section.state().map(|state| state.join("acme"));
    if is_there && folder.is_none() {
        let remedy = "Set STATE_DIRECTORY, XDG_STATE_HOME or HOME";
        section.missing("", "nothing says where certificates and keys are to be kept", remedy);
    }
    section.finish();
    is_there.then(|| AcmeConfig { name, directory, contact, external, ca, folder: folder.unwrap_or_default() })
}

fn contact(section: &mut Section<'_, '_>) -> Vec<String> {
    let mut all = Vec::new();
    for scalar in section.scalars("contact") {
        let address = scalar.text.strip_prefix("mailto:").unwrap_or(&scalar.text);
        let fine = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | ',' | ':' | '/');
        let is_address = address.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty());
        if is_address && address.len() <= MAX_TEXT && address.chars().all(fine) && all.len() < MAX_CONTACTS {
            all.push(format!("mailto:{address}"));
        } else {
            let problem =
                format!("`{}` is not an address to write to, or there are more than 4", scalar.text.escape_debug());
            section.reject("contact", &scalar, &problem, "Write `contact: ops@example.com`");
        }
    }
    all
}

fn external(mut section: Section<'_, '_>) -> Option<ExternalAccount> {
    let id = section.value("key_id", None, "an identifier of at most 256 octets", |text| {
        let fine = !text.is_empty() && text.len() <= MAX_TEXT && text.chars().all(|c| c.is_ascii_graphic());
        fine.then(|| Some(text.to_owned()))
    });
    let file = section.file("hmac_key_file");
    if let Some((_, scalar)) = file.as_ref().filter(|_| id.is_none()) {
        section.reject("hmac_key_file", scalar, "of an account that is not named", "Write key_id as well");
    }
    let given = section.variable(VARIABLE).map(|text| ExternalKey::Given(Secret::new(text.as_bytes())));
    let key = file.map(|(file, _)| ExternalKey::File(file)).or(given);
    if id.is_some() && key.is_none() {
        let remedy = format!("Name a file of mode 0600, or set {VARIABLE}");
        section.missing("hmac_key_file", "key_id and its key belong together", &remedy);
    }
    section.finish();
    Some(ExternalAccount { key_id: id?, key: key? })
}

/// Returns the name of an endpoint's URL as an authority can be shown that it leads here.
///
/// # Errors
/// Why that cannot be.
fn provable(url: &str) -> Result<String, &'static str> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ':']).next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    let label = |label: &str| {
        let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(fine)
    };
    if host.starts_with("*.") {
        return Err("for a wildcard authorities want proof in the DNS, which the agent cannot give");
    }
    if !host.contains('.') || host.len() > MAX_NAME || !host.split('.').all(label) || host.parse::<Ipv4Addr>().is_ok() {
        return Err("the endpoint's url has no name that could be proven");
    }
    if host.ends_with(".internal") {
        return Err("no authority reaches a name below internal");
    }
    Ok(host)
}

fn is_directory(text: &str) -> bool {
    let fine = |c: char| c.is_ascii_graphic() && !matches!(c, '#' | '?' | '@');
    text.len() <= MAX_URL && text.chars().all(fine) && place(text).is_some()
}

/// Where certificates are ordered when nothing else is said.
pub(crate) const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The variable that holds the key of an external account.
pub(crate) const VARIABLE: &str = "ADIT_ACME_EAB_HMAC_KEY";
const MAX_URL: usize = 1_024;
/// The longest name, in octets; the files are named by it.
const MAX_NAME: usize = 240;
const MAX_TEXT: usize = 256;
const MAX_CONTACTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides, Text};

    fn parse(url: &str, keys: &str, overrides: &Overrides) -> Result<AcmeConfig, String> {
        let text = format!(
            "endpoints:\n  - name: crm\n    url: {url}\n    upstream: {{ url: '1' }}\n    agent_tls_termination:\n      {keys}\n"
        );
        let config = Config::parse(&["/etc/adit/adit.yml".into()], &[Text { text, mode: None }], overrides);
        let told = |faults: Vec<crate::config::ConfigFault>| {
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        Ok(config.map_err(told)?.endpoints.remove(0).termination.and_then(|it| it.acme).expect("acme"))
    }

    fn kept() -> Overrides {
        Overrides::default().with_state("/var/lib/adit".into())
    }

    #[test]
    fn a_certificate_is_ordered_for_the_name_of_the_endpoint_and_kept_in_the_state_folder() {
        let acme = parse("https://CRM.example.com", "acme: { accept_terms: true }", &kept()).unwrap();

        assert_eq!((acme.name.as_str(), acme.directory.as_str()), ("crm.example.com", LETS_ENCRYPT));
        assert_eq!((acme.file(), acme.place().1), ("/var/lib/adit/acme/crm.example.com.pem".into(), 443));
        assert!(acme.contact.is_empty() && acme.external.is_none() && acme.ca.is_none());
        let keys = "acme: { accept_terms: true, directory: 'https://ca.corp:14000/dir', ca: ca.pem, contact: [ops@example.com, 'mailto:b@example.com'], eab: { key_id: kid-1, hmac_key_file: eab.key } }";
        let acme = parse("tls://db.example.com", keys, &kept()).unwrap();
        assert_eq!(acme.place(), ("ca.corp".to_owned(), 14_000));
        assert_eq!(acme.contact, ["mailto:ops@example.com", "mailto:b@example.com"]);
        let key = ExternalKey::File("/etc/adit/eab.key".into());
        assert_eq!(acme.external, Some(ExternalAccount { key_id: "kid-1".to_owned(), key }));
        assert_eq!(acme.ca, Some("/etc/adit/ca.pem".into()));
    }

    #[test]
    fn what_could_not_be_ordered_is_told_before_anything_runs() {
        for (url, keys, expected) in [
            ("https://crm.example.com", "acme:", "the authority's terms are not accepted"),
            ("https://crm.example.com", "acme: { accept_terms: false }", "accept_terms: true"),
            ("https://", "acme: { accept_terms: true }", "no name that could be proven"),
            ("https://crm", "acme: { accept_terms: true }", "no name that could be proven"),
            ("https://192.0.2.1", "acme: { accept_terms: true }", "no name that could be proven"),
            ("https://a_b.example.com", "acme: { accept_terms: true }", "no name that could be proven"),
            ("'https://*.example.com'", "acme: { accept_terms: true }", "for a wildcard"),
            ("tls://crm.internal", "acme: { accept_terms: true }", "below internal"),
            (
                "https://crm.example.com",
                "acme: { accept_terms: true, directory: 'http://ca.corp/dir' }",
                "is not a URL such as",
            ),
            (
                "https://crm.example.com",
                "acme: { accept_terms: true, directory: 'https://u@ca.corp/dir' }",
                "is not a URL such as",
            ),
            ("https://crm.example.com", "acme: { accept_terms: true, contact: someone }", "not an address to write to"),
            ("https://crm.example.com", "acme: { accept_terms: true, eab: { key_id: kid } }", "belong together"),
            (
                "https://crm.example.com",
                "acme: { accept_terms: true, eab: { hmac_key_file: f } }",
                "an account that is not named",
            ),
            ("https://crm.example.com", "acme: { accept_terms: true, hook: x }", "unknown key"),
            (
                "https://crm.example.com",
                "{ acme: { accept_terms: true }, server_private_key: crm.key }",
                "kept by the agent",
            ),
            (
                "https://crm.example.com\n    pooling_enabled: true",
                "acme: { accept_terms: true }",
                "of a pool any agent",
            ),
        ] {
            let told = parse(url, keys, &kept()).unwrap_err();
            assert!(told.contains(expected), "{url} {keys}: {told}");
        }
        let told = parse("https://crm.example.com", "acme: { accept_terms: true }", &Overrides::default()).unwrap_err();
        assert!(told.contains("STATE_DIRECTORY"), "{told}");
    }
}
