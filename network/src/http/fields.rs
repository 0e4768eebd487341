//! Header fields: what is taken out because it belongs to one hop or pretends to be ours, and what we say about the caller.

use core::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};

use crate::{Caller, EndpointName, Fault, router::Scheme};

/// What is said of every request of one caller's connection.
#[derive(Debug)]
pub(super) struct Spoken {
    address: HeaderValue,
    proto: HeaderValue,
    port: HeaderValue,
    /// `for=…` of RFC 7239.
    element: String,
    /// Who the caller is by its certificate.
    identity: Vec<(HeaderName, HeaderValue)>,
}

/// What is said of every request with one Host.
#[derive(Debug)]
pub(super) struct Named {
    /// As the caller wrote it, port and all.
    pub(super) authority: HeaderValue,
    pub(super) name: EndpointName,
    forwarded: HeaderValue,
}

impl Spoken {
    pub(super) fn new(caller: &Caller) -> Self {
        let address = caller.address.ip().to_canonical();
        let element = match address {
            IpAddr::V4(address) => format!("for={address}"),
            IpAddr::V6(address) => format!("for=\"[{address}]\""),
        };
        Self {
            address: printable(&address.to_string()),
            proto: HeaderValue::from_static(proto(caller)),
            port: HeaderValue::from(caller.local.port()),
            element,
            identity: caller.identity.as_ref().map(|identity| identity.fields()).unwrap_or_default(),
        }
    }

    /// Reads the name that a request is for.
    ///
    /// # Errors
    /// [`Fault::RequestMalformed`].
    pub(super) fn named(&self, caller: &Caller, authority: HeaderValue) -> Result<Named, Fault> {
        let text = authority.to_str().map_err(|_| Fault::RequestMalformed)?;
        let name = EndpointName::from_authority(text).map_err(|_| Fault::RequestMalformed)?;
        let (element, proto) = (&self.element, proto(caller));
        let quote = if text.contains(':') { "\"" } else { "" };
        let forwarded = printable(&format!("{element};host={quote}{text}{quote};proto={proto}"));
        Ok(Named { authority, name, forwarded })
    }

    /// Says who the caller is. What it said itself has been taken out before.
    pub(super) fn say(&self, named: &Named, fields: &mut HeaderMap) {
        fields.insert(FORWARDED_FOR, self.address.clone());
        fields.insert(FORWARDED_PROTO, self.proto.clone());
        fields.insert(FORWARDED_PORT, self.port.clone());
        fields.insert(FORWARDED_HOST, named.authority.clone());
        fields.insert(header::FORWARDED, named.forwarded.clone());
        fields.append(header::VIA, VIA);
        for (name, value) in &self.identity {
            fields.insert(name.clone(), value.clone());
        }
    }
}

/// Takes out of a request what is for one hop only, and every spelling of what only we say (V56, V57).
///
/// Returns whether the caller takes trailers.
pub(crate) fn clean_request(fields: &mut HeaderMap) -> bool {
    take_hop(fields);
    let trailers = fields.get_all(header::TE).iter().any(|value| has_token(value, "trailers"));
    fields.remove(header::TE);
    fields.remove(header::PROXY_AUTHORIZATION);
    fields.remove(header::EXPECT);
    fields.remove(HTTP2_SETTINGS);
    while let Some(name) = fields.keys().find(|name| pretends(name.as_str())).cloned() {
        fields.remove(name);
    }
    trailers
}

/// Takes out of an answer what is for one hop only.
///
/// # Errors
/// [`Fault::UpstreamProtocol`] when the answer has two lengths (V60).
pub(super) fn clean_answer(fields: &mut HeaderMap) -> Result<(), Fault> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let (length, more) = (lengths.next(), lengths.next());
    if more.is_some() || (length.is_some() && fields.contains_key(header::TRANSFER_ENCODING)) {
        return Err(Fault::UpstreamProtocol);
    }
    take_hop(fields);
    fields.remove(header::TE);
    Ok(())
}

/// Takes out of trailers what has no place there: framing, routing, and what only we say.
pub(super) fn clean_trailers(fields: &mut HeaderMap) {
    take_hop(fields);
    for name in [header::TE, header::HOST, header::CONTENT_LENGTH, header::TRAILER, header::EXPECT] {
        fields.remove(name);
    }
    while let Some(name) = fields.keys().find(|name| pretends(name.as_str())).cloned() {
        fields.remove(name);
    }
}

/// Joins the crumbs into which HTTP/2 cuts cookies; HTTP/1 has one field (RFC 9113 §8.2.3).
pub(super) fn join_cookies(fields: &mut HeaderMap) {
    let Entry::Occupied(mut entry) = fields.entry(header::COOKIE) else { return };
    if entry.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = entry.iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        entry.insert(joined);
    }
}

/// Tells whether a comma-separated value has a token, in any case.
pub(super) fn has_token(value: &HeaderValue, token: &str) -> bool {
    let mut tokens = value.as_bytes().split(|octet| *octet == b',');
    tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn take_hop(fields: &mut HeaderMap) {
    if let Entry::Occupied(connection) = fields.entry(header::CONNECTION) {
        let (_, values) = connection.remove_entry_mult();
        let values: Vec<_> = values.filter(|value| !is_plain(value)).collect();
        for token in values.iter().flat_map(|value| value.as_bytes().split(|octet| *octet == b',')) {
            // What frames or routes the message is not for the caller to take away.
            match HeaderName::from_bytes(token.trim_ascii()) {
                Ok(name) if name != header::HOST && name != header::CONTENT_LENGTH && name != header::TE => {
                    fields.remove(name);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    fields.remove(KEEP_ALIVE);
    fields.remove(PROXY_CONNECTION);
    fields.remove(header::UPGRADE);
    fields.remove(header::TRANSFER_ENCODING);
}

fn is_plain(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"keep-alive") || value.as_bytes().eq_ignore_ascii_case(b"close")
}

/// Tells whether a field says who the caller is, or frames the message, in a spelling that some upstream takes for it:
/// CGI and its heirs do not tell `_` from `-`.
fn pretends(name: &str) -> bool {
    let is = |known: &str| name.len() == known.len() && starts(name, known);
    match name.as_bytes().first() {
        Some(b'x') => {
            ["x-forwarded", "x-client-cert", "x-ssl-client"].iter().any(|known| starts(name, known))
                || X_NAMES.iter().any(|known| is(known))
        }
        Some(b's') => starts(name, "ssl-client"),
        Some(b'f') => starts(name, "forwarded"),
        Some(b'a') => starts(name, "adit-"),
        Some(b'c' | b't' | b'v' | b'h') if name.len() > 8 => {
            starts(name, "client-cert")
                || OTHER_NAMES.iter().any(|known| is(known))
                || (name.contains('_') && FRAMING.iter().any(|known| is(known)))
        }
        Some(_) | None => false,
    }
}

fn starts(name: &str, known: &str) -> bool {
    let alike = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    name.len() >= known.len() && name.bytes().zip(known.bytes()).all(alike)
}

const fn proto(caller: &Caller) -> &'static str {
    match caller.scheme {
        Scheme::Http => "http",
        Scheme::Https | Scheme::Tls => "https",
    }
}

fn printable(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

const X_NAMES: &[&str] = &[
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-client-dn",
    "x-client-verify",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-envoy-external-address",
];
const OTHER_NAMES: &[&str] = &["client-ip", "cf-connecting-ip", "true-client-ip"];
const FRAMING: &[&str] = &["content-length", "transfer-encoding"];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const VIA: HeaderValue = HeaderValue::from_static("1.1 adit");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_says_about_itself_is_taken_out_in_every_spelling() {
        for name in [
            "x-forwarded-for",
            "X-Forwarded-For",
            "x_forwarded_for",
            "X-Forwarded_For",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-port",
            "x-forwarded-prefix",
            "x-forwarded-uri",
            "x_forwarded-anything",
            "x-forwarded",
            "forwarded",
            "forwarded-for",
            "x-real-ip",
            "x_real_ip",
            "X_REAL-IP",
            "x-original-url",
            "x-rewrite-url",
            "true-client-ip",
            "cf_connecting_ip",
            "client-ip",
            "client-cert",
            "Client_Cert",
            "client-cert-chain",
            "X-Client-Cert-Verified",
            "x_client_cert_subject",
            "x-client-certificate",
            "x-ssl-client-s-dn",
            "X_SSL_Client_Verify",
            "ssl-client-verify",
            "content_length",
            "transfer_encoding",
            "ADIT-Request-Id",
            "adit_request_id",
            "adit-anything",
        ] {
            let mut fields = map(&[(name, "127.0.0.1"), ("x-kept", "yes")]);

            clean_request(&mut fields);

            assert_eq!(fields, map(&[("x-kept", "yes")]), "{name}");
        }
    }

    #[test]
    fn what_connection_names_goes_and_framing_stays() {
        let mut fields = map(&[
            ("connection", "close, x-hop ,X-Forwarded-For"),
            ("connection", "host, content-length"),
            ("x-hop", "1"),
            ("host", "a"),
            ("content-length", "5"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "x"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("te", "gzip, Trailers"),
            ("cookie", "kept"),
        ]);

        assert!(clean_request(&mut fields));

        assert_eq!(fields, map(&[("host", "a"), ("content-length", "5"), ("cookie", "kept")]));
    }

    #[test]
    fn we_say_who_the_caller_is_after_that() {
        let caller = caller("[::ffff:192.0.2.1]:5");
        let spoken = Spoken::new(&caller);
        let named = spoken.named(&caller, HeaderValue::from_static("Crm.example.com:8443")).unwrap();
        let mut fields = map(&[("connection", "x-forwarded-for, forwarded"), ("via", "1.0 before")]);

        clean_request(&mut fields);
        spoken.say(&named, &mut fields);

        assert_eq!(named.name.as_str(), "crm.example.com");
        assert_eq!(
            fields,
            map(&[
                ("via", "1.0 before"),
                ("via", "1.1 adit"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-port", "443"),
                ("x-forwarded-host", "Crm.example.com:8443"),
                ("forwarded", "for=192.0.2.1;host=\"Crm.example.com:8443\";proto=https"),
            ])
        );
    }

    #[test]
    fn an_ipv6_caller_is_quoted_in_forwarded() {
        let caller = caller("[2001:db8::1]:5");
        let spoken = Spoken::new(&caller);

        let named = spoken.named(&caller, HeaderValue::from_static("a.example")).unwrap();

        assert_eq!(named.forwarded, "for=\"[2001:db8::1]\";host=a.example;proto=https");
        assert_eq!(spoken.address, "2001:db8::1");
    }

    #[test]
    fn an_answer_with_two_lengths_is_refused() {
        let bad = [
            &[("content-length", "5"), ("content-length", "5")][..],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
        ];
        for fields in bad {
            assert_eq!(clean_answer(&mut map(fields)), Err(Fault::UpstreamProtocol));
        }
        let mut good = map(&[("connection", "x"), ("x", "1"), ("trailer", "y"), ("transfer-encoding", "chunked")]);
        assert_eq!(clean_answer(&mut good), Ok(()));
        assert_eq!(good, map(&[("trailer", "y")]));
    }

    #[test]
    fn crumbs_become_one_cookie() {
        let mut fields = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);

        join_cookies(&mut fields);

        assert_eq!(fields, map(&[("cookie", "a=1; b=2; c=3")]));
    }

    fn map(fields: &[(&str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &'static str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(value))
        };
        let mut map = HeaderMap::new();
        fields.iter().map(pair).for_each(|(name, value)| assert!(map.try_append(name, value).is_ok()));
        map
    }

    fn caller(address: &str) -> Caller {
        let local = "203.0.113.1:443".parse().unwrap();
        Caller {
            address: address.parse().unwrap(),
            local,
            scheme: Scheme::Https,
            tls: None,
            name: None,
            terms: None,
            identity: None,
        }
    }
}
