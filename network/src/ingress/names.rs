//! Whose credentials are good at which name of the ingress.

use std::collections::{BTreeMap, BTreeSet};

use crate::{EndpointName, config::IngressName};

/// The accounts that are admitted at each name that names some.
#[derive(Debug, Default)]
pub struct Admitted(BTreeMap<EndpointName, BTreeSet<String>>);

impl Admitted {
    /// Takes what the configuration says.
    pub fn new(names: &[IngressName]) -> Self {
        let limited = names.iter().filter(|name| !name.accounts.is_empty());
        Self(limited.map(|it| (it.name.clone(), it.accounts.iter().cloned().collect())).collect())
    }

    /// Returns whether an account may come in at the name that its agent has asked for; at no name of its own, everybody may.
    pub fn admits(&self, name: Option<&str>, account: &str) -> bool {
        let asked = name.and_then(|name| EndpointName::parse(name).ok());
        asked.and_then(|name| self.0.get(&name)).is_none_or(|accounts| accounts.contains(account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_admits_its_accounts_and_every_other_name_everybody() {
        let name = |name: &str, accounts: &[&str]| IngressName {
            name: EndpointName::parse(name).unwrap(),
            files: None,
            accounts: accounts.iter().map(|account| (*account).to_owned()).collect(),
        };
        let admitted = Admitted::new(&[name("acme.example", &["acme", "acme-test"]), name("open.example", &[])]);

        for (asked, account, expected) in [
            (Some("acme.example"), "acme", true),
            (Some("acme.example"), "acme-test", true),
            (Some("ACME.example."), "globex", false),
            (Some("acme.example"), "", false),
            (Some("open.example"), "globex", true),
            (Some("connect.example"), "globex", true),
            (Some("not a name"), "globex", true),
            (None, "globex", true),
        ] {
            assert_eq!(admitted.admits(asked, account), expected, "{asked:?} {account}");
        }
    }
}
