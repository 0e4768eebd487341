//! `adit requests`.

use adit_core::escape;
use rustls::crypto::CryptoProvider;
use serde_json::Value;

use super::{
    Failure,
    arguments::{Global, OneRequest, Output, RequestsCommand},
    client::Client,
    print,
};
use crate::errors::Exit;

/// Lists requests, shows one, or has one sent again.
pub(super) fn run(global: &Global, command: &RequestsCommand, provider: &CryptoProvider) -> Result<Exit, Failure> {
    let (running, answer) = match command {
        RequestsCommand::List(running) => {
            let client = Client::find(global, running, provider)?;
            (running, client.get("/v1/requests?limit=1000")?)
        }
        RequestsCommand::Show(OneRequest { id, running }) => {
            let client = Client::find(global, running, provider)?;
            (running, client.get(&format!("/v1/requests/{id}"))?)
        }
        RequestsCommand::Replay(OneRequest { id, running }) => {
            let client = Client::find(global, running, provider)?;
            (running, client.post(&format!("/v1/requests/{id}/replay"))?)
        }
    };
    match (running.output, command) {
        (Output::Json, _) => print(&format!("{answer}\n"))?,
        (Output::Text, RequestsCommand::List(_)) => print(&list(&answer))?,
        (Output::Text, RequestsCommand::Show(_) | RequestsCommand::Replay(_)) => print(&whole(&answer))?,
    }
    Ok(Exit::Fine)
}

fn list(answer: &Value) -> String {
    let requests = answer["requests"].as_array();
    let lines = requests.into_iter().flatten().map(|request| format!("{}\n", summary(request)));
    let lines: String = lines.collect();
    if lines.is_empty() { "no request has been seen yet\n".to_owned() } else { lines }
}

fn summary(request: &Value) -> String {
    let word = |key: &str| escape(request[key].as_str().unwrap_or_default()).to_string();
    let status = request["status"].as_u64().map_or_else(|| "---".to_owned(), |status| status.to_string());
    let mut text = format!(
        "{:>6}  {}  {status}  {:>9} ms  {}  {} {}",
        request["id"].to_string(),
        word("time"),
        request["duration_ms"].to_string(),
        word("endpoint"),
        word("method"),
        word("target"),
    );
    if request["complete"] == false {
        text.push_str("  (broken off)");
    }
    if let Some(id) = request["replay_of"].as_u64() {
        text.push_str(&format!("  (again, of {id})"));
    }
    text
}

fn whole(answer: &Value) -> String {
    let mut text = format!("{}\n", summary(answer));
    if let Some(omitted) = answer["omitted"].as_array().filter(|omitted| !omitted.is_empty()) {
        let names: Vec<_> = omitted.iter().filter_map(Value::as_str).collect();
        text.push_str(&format!("sent without {}: their values are not kept\n", escape(&names.join(", "))));
    }
    let request = &answer["request"];
    let word = |value: &Value| escape(value.as_str().unwrap_or_default()).to_string();
    text.push_str(&format!(
        "\n{} {} {}\n",
        word(&request["method"]),
        word(&request["target"]),
        word(&request["version"])
    ));
    message(request, &mut text);
    let back = &answer["answer"];
    if back.is_null() {
        text.push_str("\nno answer came\n");
        return text;
    }
    text.push_str(&format!("\n{} {} {}\n", word(&back["version"]), back["status"], word(&back["reason"])));
    message(back, &mut text);
    text
}

/// Writes fields and body; whatever is in them moves no cursor.
fn message(message: &Value, text: &mut String) {
    for field in message["fields"].as_array().into_iter().flatten() {
        let part = |key: &str| escape(field[key].as_str().unwrap_or_default()).to_string();
        text.push_str(&format!("{}: {}\n", part("name"), part("value")));
    }
    let body = &message["body"];
    if body["octets"] == 0 {
        return;
    }
    match body["text"].as_str() {
        Some(body) => body.lines().for_each(|line| text.push_str(&format!("\n{}", escape(line)))),
        None => text.push_str("\n(not text: see --output json)"),
    }
    text.push('\n');
    if body["cut"] == true {
        text.push_str(&format!("({} of {} octets are kept)\n", body["kept"], body["octets"]));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        json!({
            "id": 7, "time": "t", "endpoint": "web", "method": "POST", "target": "/a", "status": 200, "duration_ms": 1.5,
            "complete": false, "replay_of": 3, "omitted": ["cookie"],
            "request": { "method": "POST", "target": "/a", "version": "HTTP/1.1",
                         "fields": [{ "name": "cookie", "value": "[redacted]", "redacted": true }],
                         "body": { "octets": 9, "kept": 4, "cut": true, "text": "a\u{1b}\nb" } },
            "answer": { "status": 200, "reason": "OK", "version": "HTTP/1.1", "fields": [],
                        "body": { "octets": 2, "kept": 2, "cut": false, "base64": "//4=" } },
        })
    }

    #[test]
    fn a_request_is_shown_with_its_answer_and_moves_no_cursor() {
        let text = whole(&answer());

        assert_eq!(
            text,
            "     7  t  200        1.5 ms  web  POST /a  (broken off)  (again, of 3)\n\
             sent without cookie: their values are not kept\n\n\
             POST /a HTTP/1.1\ncookie: [redacted]\n\na\\u{1b}\nb\n(4 of 9 octets are kept)\n\n\
             HTTP/1.1 200 OK\n\n(not text: see --output json)\n"
        );
        assert!(whole(&json!({ "answer": null })).ends_with("no answer came\n"));
    }

    #[test]
    fn a_list_has_a_line_each_and_says_when_there_is_none() {
        assert_eq!(list(&json!({ "requests": [answer(), answer()] })).lines().count(), 2);
        assert_eq!(list(&json!({ "requests": [] })), "no request has been seen yet\n");
    }
}
