//! Answers of our own, in the form that the caller accepts.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::Fault;

/// A refusal: a fault, and what a rule says of its answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) fault: Fault,
    /// In place of the fault's own.
    pub(super) status: Option<StatusCode>,
    /// More headers.
    pub(super) headers: HeaderMap,
    /// Whether rules cost more than they may.
    pub(super) over_budget: bool,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault, status: None, headers: HeaderMap::new(), over_budget: false }
    }
}

impl Refused {
    /// Returns the answer.
    pub(super) fn answer(self, request: &HeaderMap) -> Response<Bytes> {
        let mut response = answer(self.fault, request);
        if let Some(status) = self.status {
            *response.status_mut() = status;
        }
        response.headers_mut().extend(self.headers);
        response
    }
}

/// The forms an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Html,
    Json,
}

/// Returns the answer for a fault. It says what happened, who must act and what to do, and nothing of anybody's affairs.
pub(super) fn answer(fault: Fault, request: &HeaderMap) -> Response<Bytes> {
    let entry = fault.entry();
    let (body, kind) = match negotiate(request) {
        Form::Text => (text(fault), "text/plain; charset=utf-8"),
        Form::Html => (html(fault), "text/html; charset=utf-8"),
        Form::Json => (json(fault), "application/json"),
    };
    let mut response = Response::new(Bytes::from(body));
    let status = entry.status.and_then(|status| StatusCode::from_u16(status).ok());
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::VARY, HeaderValue::from_static("accept"));
    fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    fields.insert("adit-error", HeaderValue::from_static(fault.code()));
    if let Some(seconds) = fault.retry_after() {
        fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if fault == Fault::MethodRefused {
        fields.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    }
    response
}

/// Chooses the form with the highest weight; text where nothing is said, or everything is equal.
fn negotiate(request: &HeaderMap) -> Form {
    let mut best = (0, Form::Text);
    for value in request.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',').take(MAX_RANGES) {
            let mut parts = range.split(';').map(str::trim);
            let form = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "text/html" | "application/xhtml+xml" => Form::Html,
                "application/json" | "application/problem+json" => Form::Json,
                "text/plain" | "text/*" | "*/*" => Form::Text,
                _ => continue,
            };
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            if weight > best.0 {
                best = (weight, form);
            }
        }
    }
    best.1
}

/// Reads a weight of RFC 9110 §12.4.2; what is none counts as nothing.
fn thousandths(text: &str) -> u32 {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = rest.bytes().all(|octet| octet.is_ascii_digit()) && rest.len() <= 3;
    let rest = format!("{rest:0<3}").parse().unwrap_or(0);
    match whole {
        "1" if digits => 1000,
        "0" if digits => rest,
        _ => 0,
    }
}

fn text(fault: Fault) -> String {
    let entry = fault.entry();
    format!(
        "{}: {}\n\n{}\nTo act: {}. {}\n",
        fault.code(),
        entry.title,
        entry.explanation,
        entry.actor.word(),
        entry.remedy
    )
}

fn json(fault: Fault) -> String {
    let entry = fault.entry();
    let error = json!({
        "code": fault.code(),
        "title": entry.title,
        "explanation": entry.explanation,
        "actor": entry.actor.word(),
        "remedy": entry.remedy,
    });
    format!("{}\n", json!({ "error": error }))
}

fn html(fault: Fault) -> String {
    let entry = fault.entry();
    let text = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em}}\
         small{{color:#767676}}</style></head>\n\
         <body><h1>{title}</h1><p>{explanation}</p><p><strong>To act: {actor}.</strong> {remedy}</p>\
         <p><small>{code}</small></p></body></html>\n",
        title = text(entry.title),
        explanation = text(entry.explanation),
        actor = entry.actor.word(),
        remedy = text(entry.remedy),
        code = fault.code(),
    )
}

const MAX_RANGES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_gets_the_form_it_prefers() {
        for (accept, kind) in [
            (None, "text/plain; charset=utf-8"),
            (Some("*/*"), "text/plain; charset=utf-8"),
            (Some("image/png"), "text/plain; charset=utf-8"),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), "text/html; charset=utf-8"),
            (Some("Application/JSON"), "application/json"),
            (Some("text/html;q=0.5, application/json;q=0.51"), "application/json"),
            (Some("text/html;q=0, text/plain;q=0.001"), "text/plain; charset=utf-8"),
            (Some("text/html;q=2, application/json;q=0.1"), "application/json"),
        ] {
            let mut request = HeaderMap::new();
            request.extend(accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))));

            let response = answer(Fault::NoAgent, &request);

            assert_eq!(response.headers()[header::CONTENT_TYPE], kind, "{accept:?}");
        }
    }

    #[test]
    fn every_form_names_the_code_who_must_act_and_what_to_do() {
        for fault in Fault::ALL.iter().filter(|fault| fault.entry().status.is_some()) {
            for form in [text(*fault), json(*fault), html(*fault)] {
                let entry = fault.entry();
                assert!(form.contains(fault.code()) && form.contains(entry.actor.word()), "{form}");
                assert!(form.contains(entry.title) && form.contains(entry.remedy), "{form}");
            }
            let response = answer(*fault, &HeaderMap::new());
            assert_eq!(Some(response.status().as_u16()), fault.entry().status);
            assert_eq!(response.headers()["adit-error"], fault.code());
        }
    }

    #[test]
    fn waiting_is_proposed_where_it_helps() {
        let after = |fault| answer(fault, &HeaderMap::new()).headers().get(header::RETRY_AFTER).cloned();

        assert_eq!(after(Fault::NoAgent), Some(HeaderValue::from_static("5")));
        assert_eq!(after(Fault::EndpointUnknown), None);
    }
}
