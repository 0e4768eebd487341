//! What is never kept: the values of fields and of parameters that let somebody in.

use std::collections::BTreeSet;

/// The names whose values are not kept, of fields and of parameters in a target's query alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redact(BTreeSet<String>);

impl Redact {
    /// Hides what always is, and what `more` names; `-` and `_` are the same, and so are capitals and small letters.
    pub fn new<'n>(more: impl IntoIterator<Item = &'n str>) -> Self {
        Self(ALWAYS.iter().copied().chain(more).map(normal).collect())
    }

    /// Returns whether the value of what is named so is not kept.
    pub fn hides(&self, name: &str) -> bool {
        self.0.contains(&normal(name))
    }

    /// Returns a target, or another text with a query, without the values that are not kept; and whether there were any.
    pub(super) fn query(&self, text: &str) -> (String, bool) {
        let Some((path, query)) = text.split_once('?') else { return (text.to_owned(), false) };
        let (query, fragment) = match query.split_once('#') {
            Some((query, fragment)) => (query, format!("#{fragment}")),
            None => (query, String::new()),
        };
        let mut hidden = false;
        let parts: Vec<String> = query
            .split_inclusive(['&', ';'])
            .map(|part| {
                let end = part.strip_suffix(['&', ';']).unwrap_or(part);
                match end.split_once('=') {
                    Some((name, value)) if !value.is_empty() && self.hides(&decoded(name)) => {
                        hidden = true;
                        let separator = part.get(end.len()..).unwrap_or_default();
                        format!("{name}={REDACTED}{separator}")
                    }
                    Some(_) | None => part.to_owned(),
                }
            })
            .collect();
        (format!("{path}?{}{fragment}", parts.concat()), hidden)
    }
}

/// What stands in the place of a value that is not kept.
pub const REDACTED: &str = "[redacted]";

fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// Returns the name of a parameter without its percent signs: `%74oken` is a token too.
fn decoded(name: &str) -> String {
    let mut octets = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((octet, more)) = rest.split_first() {
        rest = more;
        let escaped = more.get(..2).filter(|_| *octet == b'%').and_then(|digits| core::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                octets.push(decoded);
                rest = more.get(2..).unwrap_or_default();
            }
            None => octets.push(*octet),
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

const ALWAYS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "api-key",
    "apikey",
    "x-access-token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-auth",
    "x-auth-token",
    "x-csrf-token",
    "x-forwarded-access-token",
    "x-gitlab-token",
    "x-goog-api-key",
    "x-goog-credential",
    "x-goog-iap-jwt-assertion",
    "x-goog-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-session-id",
    "x-session-token",
    "x-vault-token",
    "x-xsrf-token",
    "authentication-info",
    "cf-access-jwt-assertion",
    "cf-access-token",
    "dpop",
    "private-token",
    "job-token",
    "sec-websocket-protocol",
    "access-token",
    "assertion",
    "auth",
    "client-assertion",
    "client-secret",
    "code",
    "code-verifier",
    "id-token",
    "jsessionid",
    "jwt",
    "key",
    "pass",
    "passwd",
    "password",
    "pwd",
    "refresh-token",
    "samlresponse",
    "secret",
    "session",
    "session-id",
    "sessionid",
    "sid",
    "sig",
    "signature",
    "ticket",
    "token",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_however_they_are_written() {
        let redact = Redact::new(["X-Session_Key"]);

        for name in ["Authorization", "COOKIE", "set-cookie", "Proxy-Authorization", "x-session-key", "X_SESSION_KEY"] {
            assert!(redact.hides(name), "{name}");
        }
        assert!(!redact.hides("content-type") && !Redact::new([]).hides("x-session-key"));
    }

    #[test]
    fn what_lets_somebody_in_is_hidden_by_whatever_usual_name() {
        let redact = Redact::new([]);
        for field in [
            "Private-Token",
            "X-Access-Token",
            "X-Goog-Api-Key",
            "X-Auth",
            "X-Auth-Token",
            "X-Session-Id",
            "Sec-WebSocket-Protocol",
            "DPoP",
            "Cf-Access-Jwt-Assertion",
            "X-Amzn-Oidc-Data",
            "X-Amz-Security-Token",
            "X-Hub-Signature",
            "X-Hub-Signature-256",
        ] {
            assert!(redact.hides(field), "{field}");
        }
        for name in [
            "code",
            "key",
            "jwt",
            "session",
            "auth",
            "pwd",
            "pass",
            "password",
            "signature",
            "sig",
            "X-Amz-Signature",
            "X-Amz-Credential",
            "token",
        ] {
            let hidden = redact.query(&format!("/a?page=2&{name}=abc"));
            assert_eq!(hidden, (format!("/a?page=2&{name}=[redacted]"), true));
        }
        for name in ["content-type", "x-request-id", "page", "keyword", "codec", "author", "sec-websocket-key"] {
            assert!(!redact.hides(name), "{name}");
        }
    }

    #[test]
    fn parameters_of_a_query_are_hidden_and_the_rest_of_the_target_is_not() {
        let redact = Redact::new(["pin"]);
        for (text, shown) in [
            ("/a?x=1&access_token=abc&y=2", "/a?x=1&access_token=[redacted]&y=2"),
            ("/a?%74oken=abc#b", "/a?%74oken=[redacted]#b"),
            ("/a?PIN=1", "/a?PIN=[redacted]"),
            ("/a?x=1;token=abc;y=2&sig=d", "/a?x=1;token=[redacted];y=2&sig=[redacted]"),
            ("/a?token=abc;", "/a?token=[redacted];"),
        ] {
            assert_eq!(redact.query(text), (shown.to_owned(), true));
        }
        for text in ["/token=abc", "/a?token", "/a?token=", "/a?x=token", "*", "/a?%zz=1&%=2"] {
            assert_eq!(redact.query(text), (text.to_owned(), false));
        }
    }
}
