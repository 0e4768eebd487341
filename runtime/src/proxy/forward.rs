//! A proxy that takes whole requests in plain HTTP for others (RFC 9112, section 3.2.2).

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};
use core::fmt;

use super::{Credentials, Proxy, http};
use crate::ConnectError;

/// What of a request and its answer concerns the proxy that passes it on. The request names the whole URL.
///
/// `Debug` and `Display` tell no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    proxy: String,
    credentials: Option<Credentials>,
}

impl Forward {
    pub(super) fn new(proxy: &Proxy) -> Self {
        Self { proxy: proxy.to_string(), credentials: proxy.credentials.clone() }
    }

    /// Appends the line of the request that says who asks, with its end, where the proxy is to know.
    pub fn authorize(&self, request: &mut Vec<u8>) {
        if let Some(credentials) = &self.credentials {
            http::authorize(credentials, request);
        }
    }

    /// Returns why the proxy does not pass the request on, from the head of an answer, where that is certainly its own word: that
    /// it wants to know who asks. Any other status may be the server's.
    pub fn refusal(&self, answer: &[u8]) -> Option<ConnectError> {
        let (status, _, fields) = http::head(answer).ok()?;
        let error = (status == 407).then(|| http::unknown(self.credentials.is_some(), fields))?;
        Some(ConnectError::Proxy { proxy: self.proxy.clone(), error })
    }
}

/// The proxy's URL, without credentials.
impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.proxy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProxyError;

    fn forward(url: &str) -> Forward {
        Forward::new(&Proxy::parse(url).unwrap())
    }

    #[test]
    fn a_request_says_who_asks_where_the_proxy_is_to_know() {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        forward("http://Aladdin:open%20sesame@p:1").authorize(&mut with);
        forward("http://p:1").authorize(&mut without);

        assert_eq!(with, b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n");
        assert_eq!(without, b"");
    }

    #[test]
    fn only_what_is_certainly_the_proxy_s_word_is_taken_for_it() {
        let head = b"HTTP/1.1 407 No\r\nproxy-authenticate: Basic realm=x\r\n\r\nbody";
        let offered = || "Basic".to_owned();
        let told = |url: &str, error| ConnectError::Proxy { proxy: url.to_owned(), error };

        let wanted = forward("http://p:1").refusal(head);
        assert_eq!(wanted, Some(told("http://p:1", ProxyError::CredentialsWanted { offered: offered() })));
        let refused = forward("https://u:s3cret@p:1").refusal(head).unwrap();
        assert_eq!(refused, told("https://p:1", ProxyError::CredentialsRefused { offered: offered() }));
        assert!(!format!("{refused} {:?}", forward("https://u:s3cret@p:1")).contains("s3cret"));
        for other in
            [&b"HTTP/1.1 401 No\r\n\r\n"[..], b"HTTP/1.0 403 x\n\n", b"HTTP/1.1 200 OK\r\n\r\n407", b"", b"SSH-2.0"]
        {
            assert_eq!(forward("http://p:1").refusal(other), None);
        }
    }
}
