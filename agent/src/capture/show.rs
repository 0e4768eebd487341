//! Requests that are kept, as JSON.

use serde_json::{Value, json};

use super::{Answer, Body, Exchange, Field, REDACTED, Record, Request};
use crate::clock;

impl Record {
    /// Returns what stands in a list.
    pub(crate) fn summary(&self) -> Value {
        let Exchange { request, answer, begun, ended, .. } = &self.exchange;
        json!({
            "id": self.id,
            "time": clock::rfc3339(self.at),
            "endpoint": self.endpoint,
            "caller": self.caller.map(|caller| caller.to_string()),
            "method": request.method,
            "target": request.target,
            "status": answer.as_ref().map(|answer| answer.status),
            "duration_ms": milliseconds(ended.saturating_duration_since(*begun)),
            "request_octets": request.body.octets,
            "answer_octets": answer.as_ref().map(|answer| answer.body.octets),
            "complete": self.exchange.is_whole(),
            "replay_of": self.replay_of,
        })
    }

    /// Returns everything.
    pub(crate) fn whole(&self) -> Value {
        let exchange = &self.exchange;
        let mut value = self.summary();
        let first = exchange.answered.map(|answered| milliseconds(answered.saturating_duration_since(exchange.begun)));
        value["first_octet_ms"] = json!(first);
        value["request"] = exchange.request.json();
        value["answer"] = exchange.answer.as_ref().map_or(Value::Null, Answer::json);
        let again = exchange.request.again(self.id);
        value["replay"] = match &again {
            Ok((_, omitted)) => json!({ "possible": true, "without": omitted }),
            Err(why) => json!({ "possible": false, "why": why.text() }),
        };
        value
    }
}

impl Request {
    fn json(&self) -> Value {
        json!({
            "method": self.method, "target": self.target, "version": format!("HTTP/1.{}", self.version),
            "fields": fields(&self.fields), "body": self.body.json(),
        })
    }
}

impl Answer {
    fn json(&self) -> Value {
        json!({
            "status": self.status, "reason": self.reason, "version": format!("HTTP/1.{}", self.version),
            "fields": fields(&self.fields), "body": self.body.json(),
        })
    }
}

impl Body {
    /// What is text stands as text, what is not as base64.
    fn json(&self) -> Value {
        let mut value = json!({ "octets": self.octets, "kept": self.kept.len(), "cut": self.is_cut() });
        match core::str::from_utf8(&self.kept) {
            Ok(text) => value["text"] = text.into(),
            Err(_) => value["base64"] = base64(&self.kept).into(),
        }
        value
    }
}

fn fields(fields: &[Field]) -> Vec<Value> {
    let field = |field: &Field| match &field.value {
        Some(value) => json!({ "name": field.name, "value": String::from_utf8_lossy(value) }),
        None => json!({ "name": field.name, "value": REDACTED, "redacted": true }),
    };
    fields.iter().map(field).collect()
}

fn milliseconds(time: core::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Writes octets as base64 (RFC 4648, section 4).
pub(crate) fn base64(octets: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for three in octets.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or_default()));
        for at in 0..4 {
            let letter = LETTERS.get((bits >> (18 - 6 * at) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if at <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_written_as_base64() {
        for (octets, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(octets.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }
}
