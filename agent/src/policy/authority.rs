//! Whom certificates may be ordered from.

use core::fmt;

use super::{Policy, Reason, Refusal, pattern::Names};
use crate::config::values::port;

/// Hosts of certificate authorities, at a port: `acme-v02.api.letsencrypt.org`, `ca.corp:14000`, `*.corp`, `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityPattern {
    names: Names,
    port: u16,
    text: String,
}

impl AuthorityPattern {
    /// Reads a pattern; port 443 unless it says otherwise. Nothing when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (names, port) = match text.rsplit_once(':') {
            Some((names, digits)) => (names, port(digits)?),
            None => (text, 443),
        };
        Some(Self { names: Names::parse(names)?, port, text: text.to_owned() })
    }

    fn has(&self, host: &str, port: u16) -> bool {
        self.port == port && self.names.have(host)
    }
}

impl fmt::Display for AuthorityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Decides whether an authority may be spoken to.
pub(super) fn judge(policy: &Policy, host: &str, port: u16, now: i64) -> Result<(), Refusal> {
    let refused = |reason, detail| Err(Refusal { reason, rule: None, detail });
    if !policy.authorities.iter().any(|pattern| pattern.has(host, port)) {
        return refused(Reason::Host, format!("acme.hosts does not have {host}:{port}"));
    }
    if !policy.bounds.is_valid(now) {
        return refused(Reason::Expired, "the policy has expired".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rest: &str) -> Policy {
        Policy::parse(std::path::Path::new("policy.yml"), &format!("version: 1\n{rest}")).unwrap()
    }

    #[test]
    fn nobody_may_be_asked_for_certificates_unless_the_policy_says_so() {
        let now = 1_795_435_200;
        let reason =
            |policy: &Policy, host: &str, port| policy.orders(host, port, now).map_err(|refusal| refusal.reason);
        let some = policy("acme: { hosts: [acme.example.com, 'ca.corp:14000', '*.below.corp'] }\n");

        assert_eq!(
            reason(&policy(""), "acme.example.com", 443),
            Err(Reason::Host),
            "nothing has a default that allows"
        );
        for (host, port, fine) in [
            ("acme.example.com", 443, true),
            ("ACME.example.com", 443, true),
            ("acme.example.com", 8443, false),
            ("ca.corp", 14_000, true),
            ("ca.corp", 443, false),
            ("a.below.corp", 443, true),
            ("below.corp", 443, false),
            ("169.254.169.254", 443, false),
        ] {
            assert_eq!(reason(&some, host, port).is_ok(), fine, "{host}:{port}");
        }
        let over = policy("expires: 2020-01-01T00:00:00Z\nacme: { hosts: '*' }\n");
        assert_eq!(reason(&over, "acme.example.com", 443), Err(Reason::Expired));
    }

    #[test]
    fn what_is_no_host_is_told() {
        for text in ["", ":443", "a:0", "a:b", "a/b", "https://a", "a..b", "*a"] {
            assert_eq!(AuthorityPattern::parse(text), None, "{text}");
        }
    }
}
