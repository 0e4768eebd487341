//! Runs rules for connections, and what is the same for connections and requests.

use core::time::Duration;
use std::sync::Arc;

use adit_core::TlsInfo;
use adit_policy::{
    cel::{Timestamp, Value},
    engine::{Answer, Ask, Carried, Now, Outcome, Policy, Refusal, Run, Step, Subject, Why},
    environment::{Connection, Phase, Tls},
};

use tokio::time::timeout;

use crate::{Caller, Edge, Fault, endpoints::Settings, http::Exchange, random, router::Key, seeing::Visit};

/// Returns the time of a step.
fn now() -> Now {
    Now { time: wall(), instant: tokio::time::Instant::now().into_std() }
}

/// Returns the time of the day.
pub(crate) fn wall() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Timestamp::new(seconds, since.subsec_nanos()).unwrap_or_default()
}

/// Returns what rules know of a caller's connection.
pub(crate) fn connection(caller: &Caller) -> Connection {
    let connection = Connection::new(caller.address, caller.local, wall(), caller.tls.as_ref().map(tls));
    match &caller.identity {
        Some(identity) => connection.with_client_certificate(identity.certificate.as_ref().clone()),
        None => connection,
    }
}

fn tls(tls: &TlsInfo) -> Tls {
    let TlsInfo { sni, alpn, version, cipher } = tls.clone();
    // `1.3`, as the form of a policy has it.
    let version = version.strip_prefix("TLSv").map(String::from).unwrap_or(version);
    Tls { version, cipher_suite: cipher, sni, alpn }
}

/// Runs a phase to its end.
pub(crate) async fn run(
    policy: &Arc<Policy>,
    settings: &Settings,
    (phase, carried): (Phase, Carried),
    subject: &mut Subject<'_>,
    body: Option<&Exchange>,
) -> (Outcome, Run) {
    let mut run = policy.begin(phase, carried);
    let outcome = go_on(&mut run, settings, subject, body, None).await;
    (outcome, run)
}

/// Goes on with a phase that waits for `answer`.
pub(crate) async fn go_on(
    run: &mut Run,
    settings: &Settings,
    subject: &mut Subject<'_>,
    body: Option<&Exchange>,
    mut answer: Option<Answer>,
) -> Outcome {
    let mut seed = [0; 8];
    random::fill(&mut seed);
    subject.reseed(u64::from_ne_bytes(seed));
    loop {
        answer = Some(match run.step(subject, now(), answer.take()) {
            Step::Done(outcome) => return outcome,
            Step::Ask(Ask::Body { most }) => Answer::Body(match body {
                Some(body) => timeout(BODY_TIME, body.read_ahead(most)).await.unwrap_or(None),
                None => Some(Vec::new()),
            }),
            Step::Ask(ask) => settings.world.answer(settings.account, ask).await,
        });
    }
}

/// Returns the verdicts of the rules that had a part in the decision.
pub(crate) fn verdicts(run: &Run, policy: &Policy) -> Vec<String> {
    run.trace().fired(policy).collect()
}

/// Returns the fault that tells a caller why a rule refused.
pub(crate) fn fault(refusal: &Refusal) -> Fault {
    match &refusal.why {
        Why::Failed(_) | Why::Unavailable => Fault::PolicyFailed,
        Why::Limited | Why::Throttled => Fault::PolicyLimited,
        Why::Tripped => Fault::PolicyTripped,
        Why::Denied | Why::Restricted | Why::Unknown => Fault::PolicyDenied,
    }
}

/// Lets a connection that is no HTTP pass to the endpoint that serves it: the one it asked for, or one that rules forward to.
///
/// # Errors
/// The fault for which it is closed.
pub(crate) async fn admit(
    edge: &Edge,
    mut key: Arc<Key>,
    connection: &Connection,
    visit: &mut Visit,
) -> Result<Arc<Key>, Fault> {
    for _ in 0..=MAX_FORWARDS {
        let Some(settings) = edge.settings(&key) else { return Ok(key) };
        let mut next = None;
        if let Some(policy) = settings.policy.as_ref().filter(|policy| policy.has(Phase::TcpConnect)) {
            let mut subject = Subject::new(connection, settings.facts());
            let begin = (Phase::TcpConnect, Carried::default());
            let (mut outcome, mut run) = run(policy, &settings, begin, &mut subject, None).await;
            let end = loop {
                match outcome {
                    Outcome::Continue => break Ok(None),
                    Outcome::Refuse(refusal) => break Err(fault(&refusal)),
                    Outcome::Close => break Err(Fault::PolicyDenied),
                    Outcome::Respond(_) => break Err(Fault::PolicyFailed), // no request, no answer
                    Outcome::Forward { url, fallback } => match edge.forward(settings.account, &url, false) {
                        Ok((found, live)) if live || !fallback => break Ok(Some(found)),
                        Err(fault) if !fallback => break Err(fault),
                        Ok(_) | Err(_) => {
                            let answer = Some(Answer::Unreachable);
                            outcome = go_on(&mut run, &settings, &mut subject, None, answer).await;
                        }
                    },
                }
            };
            visit.rules(&run, policy);
            next = end?;
        }
        match next {
            Some(next) => key = next,
            None if settings.is_cloud() => return Err(Fault::NoAnswer),
            None => return Ok(key),
        }
    }
    Err(Fault::ForwardLoop)
}

/// Returns whether rules cost more than they may.
pub(crate) fn is_over_budget(refusal: &Refusal) -> bool {
    if let Why::Failed(failure) = &refusal.why { failure.is_limit() } else { false }
}

/// Returns what a rule told, as a JSON object.
pub(crate) fn json(told: Vec<(String, Value<'static>)>) -> serde_json::Value {
    told.into_iter().map(|(name, value)| (name, written(&value))).collect::<serde_json::Map<_, _>>().into()
}

fn written(value: &Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(it) => (*it).into(),
        Value::Int(it) => (*it).into(),
        Value::Uint(it) => (*it).into(),
        Value::Double(it) => (*it).into(),
        Value::String(it) => (**it).into(),
        Value::List(it) => it.iter().map(|element| written(&element)).collect::<Vec<_>>().into(),
        Value::Map(it) => {
            let name = |key: Value<'_>| key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
            it.iter().map(|(key, value)| (name(key), written(&value))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Timestamp(it) => it.to_string().into(),
        Value::Bytes(_) | Value::Duration(_) | Value::Type(_) => format!("{value:?}").into(),
    }
}

/// How long a rule waits for the body of a request.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How often a request or connection is forwarded from one internal endpoint to another.
pub(crate) const MAX_FORWARDS: usize = 4;
