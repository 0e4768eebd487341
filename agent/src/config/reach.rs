//! What callers reach an endpoint by: of two that overlap one takes callers of the other's, whatever their schemes.

/// What an endpoint's URL stands for, in the one form that the network tells endpoints apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// A name that the network makes up, another each time.
    Any,
    Name(String),
    /// Every name below this one.
    Below(String),
    /// Of the network, whatever the host beside it.
    Port(String),
    /// What the account's own policies find: a host below `internal`, and a port.
    Inside(String, String),
}

impl Reach {
    /// Takes a URL as the configuration has it once it is read.
    pub(crate) fn of(url: &str) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let rest = rest.to_ascii_lowercase();
        if scheme == "tcp" {
            let (host, port) = rest.rsplit_once(':').unwrap_or_default();
            let (host, port) = (undotted(host), port.to_owned());
            let is_inside = host.rsplit('.').next() == Some("internal");
            return if is_inside { Self::Inside(host.to_owned(), port) } else { Self::Port(port) };
        }
        let name = undotted(&rest);
        match name.strip_prefix("*.") {
            Some(above) => Self::Below(above.to_owned()),
            None if name.is_empty() => Self::Any,
            None => Self::Name(name.to_owned()),
        }
    }

    /// Returns whether the network takes two URLs for one.
    pub(crate) fn is_one(one: &str, another: &str) -> bool {
        let scheme = |url: &str| url.split(':').next().map(str::to_owned);
        let (reach, other) = (Self::of(one), Self::of(another));
        scheme(one) == scheme(another) && reach == other && reach != Self::Any
    }

    /// Returns whether there is a caller whom both stand for.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) => false,
            (Self::Name(name), Self::Below(above)) | (Self::Below(above), Self::Name(name)) => is_below(name, above),
            (Self::Below(one), Self::Below(another)) => {
                one == another || is_below(one, another) || is_below(another, one)
            }
            (one, another) => one == another,
        }
    }
}

fn is_below(name: &str, above: &str) -> bool {
    name.strip_suffix(above).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn undotted(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_overlap_where_a_caller_could_mean_both() {
        let overlap = |one: &str, another: &str| {
            let (one, another) = (Reach::of(one), Reach::of(another));
            assert_eq!(one.overlaps(&another), another.overlaps(&one));
            one.overlaps(&another)
        };
        for (one, another) in [
            ("https://own.test", "https://own.test"),
            ("https://own.test", "http://own.test"),
            ("https://own.test", "tls://own.test"),
            ("https://own.test", "https://OWN.test."),
            ("https://*.w.test", "https://pay.w.test"),
            ("https://*.w.test", "tls://a.b.W.test."),
            ("https://*.w.test", "http://*.w.test"),
            ("https://*.w.test", "https://*.a.w.test"),
            ("tcp://:15432", "tcp://foo:15432"),
            ("tcp://db.internal:1", "tcp://DB.internal.:1"),
        ] {
            assert!(overlap(one, another), "{one} {another}");
        }
        for (one, another) in [
            ("https://", "https://"),
            ("https://", "https://own.test"),
            ("https://own.test", "https://sent.test"),
            ("https://*.w.test", "https://w.test"),
            ("https://*.w.test", "https://paw.test"),
            ("https://*.w.test", "https://*.v.test"),
            ("tcp://:1", "tcp://:2"),
            ("tcp://db.internal:1", "tcp://crm.internal:1"),
            ("tcp://db.internal:1", "tcp://:1"),
            ("https://db.internal", "tcp://db.internal:1"),
        ] {
            assert!(!overlap(one, another), "{one} {another}");
        }
    }
}
