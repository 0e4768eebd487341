//! Each action: what passes it, and what it refuses.

mod admission;
mod answers;
mod facts;
mod limits;
mod reading;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use adit_policy::{
    engine::{Outcome, Refusal},
    environment::Phase,
};
use http::HeaderValue;
use support::{Caller, policy};

const REQUEST: Phase = Phase::HttpRequest;

/// Returns the outcome of one action of a request, in short.
fn request(caller: &mut Caller, action: &str) -> String {
    outcome(caller, REQUEST, action)
}

fn outcome(caller: &mut Caller, phase: Phase, action: &str) -> String {
    let policy = policy(&format!("{}: [{{actions: [{{type: {action}}}]}}]", phase.name()));
    short(caller.run(&policy, phase).0)
}

fn short(outcome: Outcome) -> String {
    match outcome {
        Outcome::Continue => "continue".into(),
        Outcome::Close => "close".into(),
        Outcome::Forward { url, fallback } => format!("forward {url}{}", if fallback { " or go on" } else { "" }),
        Outcome::Refuse(Refusal { status, headers, why, reason: _ }) => {
            let after = headers.get("retry-after").map(|after| format!(" after {}", text(after)));
            format!("refuse {status} {why:?}{}", after.unwrap_or_default())
        }
        Outcome::Respond(response) => {
            let headers: Vec<_> =
                response.headers().iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
            format!("respond {} {headers:?} {}", response.status().as_u16(), String::from_utf8_lossy(response.body()))
        }
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
