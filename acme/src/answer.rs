//! What of an authority's answer is believed, before anything else reads it.

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, Uri, header::RETRY_AFTER};
use serde::Deserialize;

/// Returns for how long the authority wants to be left alone, if it says so in an answer.
pub fn asked<B>(answer: &Response<B>, now: SystemTime) -> Option<Duration> {
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value, now));
    match answer.status() {
        StatusCode::TOO_MANY_REQUESTS => Some(asked.unwrap_or_default()), // a limit, whatever stands in the body
        StatusCode::SERVICE_UNAVAILABLE => asked,
        _ => None,
    }
}

/// Takes out of an answer what `instant-acme` would panic over: a wait that no clock can be set to, and an address of nonces that is none.
///
/// # Errors
/// What is wrong with it: the answer is of no use.
pub fn tame(mut answer: Response<Bytes>, now: SystemTime) -> Result<Response<Bytes>, String> {
    let wait = answer.headers_mut().remove(RETRY_AFTER).and_then(|value| retry_after(&value, now));
    if let Some(wait) = wait {
        let seconds = HeaderValue::from(wait.as_secs().min(LONGEST_WAIT));
        answer.headers_mut().insert(RETRY_AFTER, seconds);
    }
    // No object of RFC 8555 is an array, and one would be read as the fields in their order, past what is looked at here.
    if answer.body().trim_ascii_start().starts_with(b"[") {
        return Err("an array, where an authority answers with objects".to_owned());
    }
    let nonces = serde_json::from_slice(answer.body()).ok().and_then(|Nonces { at }| at);
    match nonces.map(Uri::try_from) {
        Some(Err(error)) => Err(format!("the directory's address of nonces: {error}")),
        Some(Ok(_)) | None => Ok(answer),
    }
}

/// The part of a directory that says where nonces are.
#[derive(Deserialize)]
struct Nonces {
    #[serde(rename = "newNonce")]
    at: Option<String>,
}

/// Reads seconds or a date (RFC 9110 §10.2.3).
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(at.saturating_sub(now.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// A year, in seconds: no order waits for that long.
const LONGEST_WAIT: u64 = 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_796_083_200;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_until_a_date() {
        let read = |text: &'static str| retry_after(&HeaderValue::from_static(text), now());

        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Thu, 01 Jan 1970 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(
            read(&httpdate::fmt_http_date(now() + Duration::from_secs(90)).leak()[..]),
            Some(Duration::from_secs(90))
        );
        assert!(read("Fri, 31 Dec 9999 23:59:59 GMT").is_some_and(|wait| wait > Duration::from_secs(1 << 30)));
        assert_eq!(read("soon"), None);
    }

    #[test]
    fn to_be_left_alone_is_asked_for_by_two_kinds_of_answers() {
        let read = |status: u16, wait: &str| {
            let answer = Response::builder().status(status).header(RETRY_AFTER, wait).body(()).unwrap();
            asked(&answer, now()).map(|asked| asked.as_secs())
        };

        assert_eq!((read(429, "120"), read(429, "soon"), read(503, "30")), (Some(120), Some(0), Some(30)));
        assert_eq!((read(503, "soon"), read(500, "30"), read(200, "30")), (None, None, None));
        assert_eq!(read(429, "18446744073709551615"), Some(u64::MAX));
    }

    #[test]
    fn what_would_be_the_end_of_an_order_is_taken_out_of_an_answer() {
        let with = |wait: &str, body: &'static str| {
            let answer =
                Response::builder().header(RETRY_AFTER, wait).header("A", "b").body(Bytes::from(body)).unwrap();
            let answer = tame(answer, now())?;
            assert_eq!((answer.headers()["a"].as_bytes(), answer.body().as_ref()), (&b"b"[..], body.as_bytes()));
            let wait = answer.headers().get(RETRY_AFTER);
            Ok::<_, String>(wait.map(|wait| wait.to_str().unwrap().to_owned()))
        };

        assert_eq!(with("120", "{}"), Ok(Some("120".to_owned())));
        for far in ["18446744073709551615", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(with(far, ""), Ok(Some(LONGEST_WAIT.to_string())), "{far}");
        }
        assert_eq!(with("soon", "not JSON"), Ok(None));
        assert_eq!(with("0", r#"{"newNonce": "https://ca.example/nonce"}"#), Ok(Some("0".to_owned())));
        for wrong in
            [r#"{"newNonce": "not a URL"}"#, r#"{"a": [{}], "new\u004eonce": "https://[/"}"#, r#"{"newNonce": ""}"#]
        {
            assert!(with("0", wrong).unwrap_err().contains("address of nonces"), "{wrong}");
        }
        let in_order = "\n [\"not a URL\", \"https://ca/a\", \"https://ca/o\", null, null, null, null, {}]";
        assert!(with("0", in_order).unwrap_err().contains("an array"));
    }
}
