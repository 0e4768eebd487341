//! Endpoints that the vendor sends by a command, to be had beside those of the customer's own configuration.
//!
//! They are taken where the customer says so twice, in the configuration and in a policy; without a policy none is, for then a document
//! could name anything that this machine reaches. What they lead to is the policy's to say, as ever; an endpoint of the customer's own
//! stays whatever a document says; and a document that is kept is of no use once the customer takes either word back.

mod desk;
mod file;

use adit_core::Code;

use crate::{
    config::{EndpointConfig, Reach, Sent, document, told},
    policy::{Policy, Reason, Refusal},
};

pub(crate) use desk::{Desk, Keeping, News};
pub(crate) use file::{Document, Kept, RemoteFile};

/// Returns why no document is in force; nothing where one may be.
pub(crate) fn withheld(configured: bool, policy: Option<&Policy>) -> Option<&'static str> {
    match (configured, policy) {
        (false, _) => Some("remote_management.configuration of the configuration is not true"),
        (true, None) => Some(NO_POLICY),
        (true, Some(policy)) if !policy.commands.configuration => {
            Some("commands.configuration of the policy is not true")
        }
        (true, Some(_)) => None,
    }
}

/// Why an endpoint of a document is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Objection {
    /// The customer's own configuration has one of that name.
    Name,
    /// The customer's own configuration has one with that URL, or with one whose callers are the same in part.
    Url,
    /// The policy does not allow it.
    Policy(Refusal),
}

impl Objection {
    /// Finds out whether the customer's own configuration has an endpoint already.
    pub(crate) fn of_local(endpoint: &EndpointConfig, local: &[EndpointConfig]) -> Option<Self> {
        if local.iter().any(|own| own.name.eq_ignore_ascii_case(&endpoint.name)) {
            return Some(Self::Name);
        }
        let sent = Reach::of(&endpoint.url);
        local.iter().any(|own| Reach::of(&own.url).overlaps(&sent)).then_some(Self::Url)
    }

    /// Takes what the policy says for an objection, unless it says so at this hour alone.
    pub(crate) fn of_policy(refusal: Refusal) -> Option<Self> {
        match refusal.reason {
            Reason::Frozen
            | Reason::Endpoint
            | Reason::File
            | Reason::Host
            | Reason::Port
            | Reason::Protocol
            | Reason::Address
            | Reason::Expired => Some(Self::Policy(refusal)),
            Reason::Hours | Reason::Bytes | Reason::Connections | Reason::Rate | Reason::Audit => None,
        }
    }

    /// Returns what the vendor is told. spec: CMD-007
    pub(crate) const fn code(&self) -> Code {
        match self {
            Self::Name | Self::Url => Code::CONFIGURATION,
            Self::Policy(_) => Code::DISALLOWED,
        }
    }

    /// Returns the same in words, with nothing of what is inside.
    pub(crate) const fn told(&self) -> &'static str {
        match self {
            Self::Name => "the customer's own configuration has an endpoint of that name",
            Self::Url => "the customer's own configuration has an endpoint with that URL, or one that overlaps with it",
            Self::Policy(_) => "the customer's policy does not allow it",
        }
    }

    /// Returns it in words for the customer.
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Name | Self::Url => self.told().to_owned(),
            Self::Policy(refusal) => refusal.to_string(),
        }
    }
}

/// Returns the endpoints of a document that are to be had beside the customer's own, and those that are not.
pub(crate) fn beside<'a>(
    sent: &'a [Sent],
    local: &[EndpointConfig],
) -> (Vec<&'a EndpointConfig>, Vec<&'a EndpointConfig>) {
    sent.iter().map(|sent| &sent.endpoint).partition(|endpoint| Objection::of_local(endpoint, local).is_none())
}

/// Reads a document, for whoever tests what it may say.
///
/// # Errors
/// Every fault.
#[doc(hidden)]
pub fn sent_endpoints(text: &str) -> Result<Vec<EndpointConfig>, Vec<String>> {
    let sent = document(text).map_err(|faults| faults.iter().map(told).collect::<Vec<_>>())?;
    Ok(sent.into_iter().map(|sent| sent.endpoint).collect())
}

/// Why nothing is taken without a policy.
pub(crate) const NO_POLICY: &str =
    "there is no policy: without one a document could name anything that this machine reaches";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn endpoints(text: &str) -> Vec<EndpointConfig> {
        let text = format!("version: 1\nendpoints:\n{text}");
        document(&text).unwrap().into_iter().map(|sent| sent.endpoint).collect()
    }

    #[test]
    fn a_document_needs_the_word_of_the_configuration_and_of_a_policy() {
        let policy = |word: &str| Policy::parse(Path::new("p.yml"), &format!("version: 1\n{word}")).unwrap();
        let (says, silent) = (policy("commands: { configuration: true }\n"), policy(""));

        assert_eq!(withheld(true, Some(&says)), None);
        assert!(withheld(false, Some(&says)).unwrap().starts_with("remote_management.configuration"));
        assert!(withheld(true, Some(&silent)).unwrap().starts_with("commands.configuration"));
        assert_eq!(withheld(true, None), Some(NO_POLICY));
    }

    #[test]
    fn an_endpoint_of_the_customer_stays_what_it_is() {
        let own = endpoints(
            "  - { name: a, url: 'https://a.example.com', upstream: { url: 80 } }\n  - { name: b, url: 'https://', upstream: { url: 80 } }\n  \
             - { name: w, url: 'https://*.w.example.com', upstream: { url: 80 } }\n  - { name: db, url: 'tcp://:5432', upstream: { url: 80 } }\n",
        );
        let objection = |text: &str| Objection::of_local(&endpoints(text)[0], &own);

        assert_eq!(
            objection("  - { name: a, url: 'https://x.example.com', upstream: { url: 80 } }\n"),
            Some(Objection::Name)
        );
        assert_eq!(
            objection("  - { name: A, url: 'https://x.example.com', upstream: { url: 80 } }\n"),
            Some(Objection::Name)
        );
        for url in [
            "http://a.example.com",
            "https://a.example.com.",
            "https://*.example.com",
            "https://pay.w.example.com",
            "tcp://foo:5432",
        ] {
            let sent = format!("  - {{ name: x, url: '{url}', upstream: {{ url: 80 }} }}\n");
            assert_eq!(objection(&sent), Some(Objection::Url), "{url}");
        }
        assert_eq!(
            objection("  - { name: x, url: 'https://A.example.com/', upstream: { url: 80 } }\n"),
            Some(Objection::Url)
        );
        assert_eq!(objection("  - { name: x, url: 'https://', upstream: { url: 80 } }\n"), None, "another each time");
        assert_eq!(objection("  - { name: x, url: 'https://x.example.com', upstream: { url: 80 } }\n"), None);
    }

    #[test]
    fn what_the_policy_refuses_at_this_hour_alone_is_no_objection() {
        let refusal = |reason| Refusal { reason, rule: None, detail: "inside".to_owned() };
        let objects = Reason::ALL.into_iter().filter(|reason| Objection::of_policy(refusal(*reason)).is_some());

        assert!(objects.eq([
            Reason::Frozen,
            Reason::Endpoint,
            Reason::File,
            Reason::Host,
            Reason::Port,
            Reason::Protocol,
            Reason::Address,
            Reason::Expired
        ]));
        let objection = Objection::of_policy(refusal(Reason::Host)).unwrap();
        assert!(!objection.told().contains("inside") && objection.detail().contains("inside"));
    }
}
