//! What a token may bind. No rule means nothing may be bound (V76).

use core::fmt;

use crate::{EndpointName, NamePattern, config::PortRange, router::Key};

/// The rules of one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    rules: Vec<Rule>,
}

/// One thing that may be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `bind:crm.example.com`, or `bind:*.example.com` for every name below and the wildcard itself.
    Name(NamePattern),
    /// `bind:tcp:5432` or `bind:tcp:5000-5099`; port 0 stands for one that the system chooses.
    Ports(PortRange),
}

/// What somebody wants to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// A name, whatever the scheme.
    Name(&'a NamePattern),
    /// A TCP port.
    Port(u16),
    /// A name below `.internal`, whatever the scheme and port.
    Internal(&'a EndpointName),
}

impl<'a> From<&'a Key> for Object<'a> {
    fn from(key: &'a Key) -> Self {
        match key {
            Key::Name(_, name) => Self::Name(name),
            Key::Port(port) => Self::Port(*port),
            Key::Internal(_, internal) => Self::Internal(internal.name()),
        }
    }
}

impl Acl {
    /// Returns an ACL of these rules.
    pub const fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// Returns true when a rule allows the object: the one place where that is decided.
    pub fn allows(&self, object: Object<'_>) -> bool {
        self.rules.iter().any(|rule| match (rule, object) {
            (Rule::Name(pattern), Object::Name(name)) => pattern.covers(name),
            (Rule::Ports(range), Object::Port(port)) => range.contains(port),
            (Rule::Name(pattern), Object::Internal(name)) => pattern.matches(name),
            (Rule::Name(_), Object::Port(_)) | (Rule::Ports(_), Object::Name(_) | Object::Internal(_)) => false,
        })
    }

    /// Returns the rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }
}

impl Rule {
    /// Reads a rule.
    pub fn parse(text: &str) -> Option<Self> {
        let object = text.strip_prefix("bind:")?;
        match object.strip_prefix("tcp:") {
            Some(ports) => PortRange::parse(ports).map(Self::Ports),
            None => NamePattern::parse(object).ok().map(Self::Name),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "bind:{name}"),
            Self::Ports(PortRange { first, last }) if first == last => write!(f, "bind:tcp:{first}"),
            Self::Ports(PortRange { first, last }) => write!(f, "bind:tcp:{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rule_allows_nothing() {
        let acl = Acl::default();

        assert!(!acl.allows(Object::Name(&name("crm.example.com"))));
        assert!(!acl.allows(Object::Port(5432)));
        assert!(!acl.allows(Object::Port(0)));
    }

    #[test]
    fn names_match_label_by_label() {
        // rule, wanted, allowed
        let table = [
            ("bind:crm.example.com", "crm.example.com", true),
            ("bind:crm.example.com", "CRM.Example.COM.", true),
            ("bind:crm.example.com", "xcrm.example.com", false),
            ("bind:crm.example.com", "crm.example.com.evil.test", false),
            ("bind:crm.example.com", "*.example.com", false),
            ("bind:*.example.com", "crm.example.com", true),
            ("bind:*.example.com", "*.example.com", true),
            ("bind:*.example.com", "example.com", false),
            ("bind:*.example.com", "a.b.example.com", true),
            ("bind:*.example.com", "crm.badexample.com", false),
            ("bind:*.example.com", "*.b.example.com", true),
            ("bind:*.b.example.com", "*.example.com", false),
        ];

        for (rule, wanted, allowed) in table {
            let acl = Acl::new(vec![Rule::parse(rule).unwrap()]);
            assert_eq!(acl.allows(Object::Name(&name(wanted))), allowed, "{rule} {wanted}");
        }
    }

    #[test]
    fn a_name_rule_allows_no_port_and_a_port_rule_no_name() {
        let ports = Acl::new(vec![Rule::parse("bind:tcp:5000-5099").unwrap()]);

        assert!(ports.allows(Object::Port(5000)) && ports.allows(Object::Port(5099)));
        assert!(!ports.allows(Object::Port(5100)) && !ports.allows(Object::Port(0)));
        assert!(!ports.allows(Object::Name(&name("tcp.example.com"))));
    }

    #[test]
    fn an_internal_endpoint_needs_a_rule_for_its_name() {
        let db = Key::parse("7/tcp://db.internal:5432").unwrap();

        for (rule, allowed) in [
            ("bind:db.internal", true),
            ("bind:*.internal", true),
            ("bind:*.db.internal", false),
            ("bind:tcp:5432", false),
        ] {
            assert_eq!(Acl::new(vec![Rule::parse(rule).unwrap()]).allows(Object::from(&db)), allowed, "{rule}");
        }
    }

    #[test]
    fn a_rule_that_is_not_understood_is_refused() {
        for wrong in ["", "bind", "bind:", "crm.example.com", "bind:app*", "bind:*", "bind:*.*.com", "bind:a.*.com"] {
            assert_eq!(Rule::parse(wrong), None, "{wrong}");
        }
        for wrong in ["bind:tcp:", "bind:tcp:*", "bind:tcp:2-1", "bind:tcp:65536", "BIND:a.com", " bind:a.com"] {
            assert_eq!(Rule::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_rule_prints_as_it_is_read() {
        for text in ["bind:crm.example.com", "bind:*.example.com", "bind:tcp:5432", "bind:tcp:5000-5099"] {
            assert_eq!(Rule::parse(text).map(|rule| rule.to_string()), Some(text.to_owned()));
        }
    }

    fn name(text: &str) -> NamePattern {
        NamePattern::parse(text).unwrap()
    }
}
