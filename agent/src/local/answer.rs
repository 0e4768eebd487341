//! What is answered to each question.

use core::{sync::atomic::Ordering, time::Duration};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{
    Sources,
    http::{Answer, Asked, Method},
    serve::Patience,
};
use crate::{
    agent::ReplayError,
    capture::Sight,
    clock::rfc3339,
    errors::{Error, Fault},
    status::{
        Attempt, Board, Carried, CertificateState, Disconnect, EndpointState, RemoteState, SessionState, StepState,
    },
};

/// Answers a question of somebody who may ask.
pub(super) async fn answer(asked: &Asked, sources: &Sources, patience: &Patience<'_>) -> Answer {
    let parts: Vec<&str> = asked.path.trim_start_matches('/').split('/').collect();
    let done = match (asked.method, parts.as_slice()) {
        (Method::Get, ["v1", "status"]) => Ok(Answer::fine(status(sources))),
        (Method::Get, ["v1", "endpoints"]) => Ok(Answer::fine(json!({ "endpoints": endpoints(sources) }))),
        (Method::Get, ["v1", "connections"]) => connections(asked, sources),
        (Method::Get, ["v1", "logs"]) => logs(asked, sources, patience).await,
        (Method::Get, ["v1", "requests"]) => requests(asked, sources),
        (Method::Get, ["v1", "requests", id]) => request(id, sources),
        (Method::Post, ["v1", "requests", id, "replay"]) => Box::pin(replay(id, sources, patience)).await,
        (_, ["v1", "status" | "endpoints" | "connections" | "logs" | "requests", ..]) => {
            Err(Answer::refusal(405, Fault::LocalRequest, "it is asked for in another way: see docs/local.md"))
        }
        _ => Err(Answer::refusal(
            404,
            Fault::LocalUnknown,
            "there is /v1/status, endpoints, connections, logs, requests",
        )),
    };
    done.unwrap_or_else(|refusal| refusal)
}

fn status(sources: &Sources) -> Value {
    let board = sources.status.board();
    let (begun, since) = sources.begun;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": adit_core::VERSION,
        "process": std::process::id(),
        "started": rfc3339(begun),
        "uptime_seconds": since.elapsed().as_secs(),
        "configuration": sources.files,
        "policy": sources.guard.policy().map(|_| sources.guard.version()),
        "session": session(&board),
        "round_trip_ms": board.round_trip.map(milliseconds),
        "heartbeat": heartbeat(&board),
        "attempt": board.attempt.as_ref().map(attempt),
        "disconnects": board.disconnects.iter().map(disconnect).collect::<Vec<Value>>(),
        "connections": { "open": board.live, "total": board.total },
        "endpoints": endpoints(sources),
        "audit": audit(sources),
        "remote": board.remote.as_ref().map(|state| remote(state, sources)),
        "capture": capture(sources),
        "revocation": board.revocation,
        "trouble": board.trouble,
        "frozen": board.frozen,
    })
}

/// Returns how the audit log is; nothing where there is none.
fn audit(sources: &Sources) -> Option<Value> {
    let guard = &sources.guard;
    guard.is_audited().then(|| {
        let trouble = guard.audit_trouble();
        json!({
            "folder": guard.audit_folder(),
            "problem": trouble.as_ref().map(|(why, _)| why),
            "refuses": trouble.is_some_and(|(_, refuses)| refuses),
        })
    })
}

fn session(board: &Board) -> Value {
    let state = match board.session {
        SessionState::Connecting => "connecting",
        SessionState::Online => "online",
        SessionState::Reconnecting => "reconnecting",
        SessionState::Draining => "draining",
        SessionState::Frozen => "frozen",
    };
    let (online, wanted) = board.sessions;
    json!({ "state": state, "online": online, "wanted": wanted, "region": board.region, "node": board.node })
}

fn heartbeat(board: &Board) -> Option<Value> {
    let heartbeat = board.heartbeat?;
    Some(json!({
        "interval_seconds": heartbeat.interval.as_secs_f64(),
        "tolerance_seconds": heartbeat.tolerance.as_secs_f64(),
        "dead_after_seconds": board.dead_after()?.as_secs_f64(),
    }))
}

fn attempt(attempt: &Attempt) -> Value {
    let step = |step: &StepState| json!({ "step": step.step, "outcome": step.outcome.word(), "took_ms": milliseconds(step.took), "detail": step.detail });
    json!({
        "ended": rfc3339(attempt.ended),
        "lane": attempt.lane,
        "network": attempt.network,
        "steps": attempt.steps.iter().map(step).collect::<Vec<Value>>(),
        "error": (!attempt.error.is_empty()).then_some(&attempt.error),
    })
}

fn disconnect(disconnect: &Disconnect) -> Value {
    json!({
        "at": rfc3339(disconnect.at), "lane": disconnect.lane, "reason": disconnect.reason, "kept": disconnect.kept,
    })
}

fn endpoints(sources: &Sources) -> Vec<Value> {
    let board = sources.status.board();
    let open = sources.status.open_by_endpoint();
    let count = |name: &str| open.get(name).copied().unwrap_or_default();
    board.endpoints.iter().map(|endpoint| self::endpoint(endpoint, count(&endpoint.name), sources)).collect()
}

fn endpoint(state: &EndpointState, open: usize, sources: &Sources) -> Value {
    let unseen = sources.doors.sight(&state.name).and_then(Sight::blind);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "name": state.name,
        "url": state.url,
        "upstream": state.upstream,
        "tls_end": state.tls.word(),
        "bound": state.bound,
        "problem": some(&state.problem),
        "told": some(&state.told),
        "refusal": some(&state.refusal),
        "certificate": state.certificate.as_ref().map(certificate),
        "remote": state.remote,
        "connections": open,
        "captured": sources.store.is_on() && unseen.is_none(),
        "unseen": unseen,
    })
}

fn remote(state: &RemoteState, sources: &Sources) -> Value {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "endpoints": state.endpoints,
        "sha256": some(&state.print),
        "said": state.said,
        "taken": some(&state.print).map(|_| time(state.taken)),
        "not_in_force": some(&state.withheld),
        "callers_refused": sources.guard.rests(),
        "left_out": state.left_out,
        "problem": some(&state.problem),
    })
}

fn time(seconds: i64) -> String {
    rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn certificate(state: &CertificateState) -> Value {
    json!({
        "directory": state.directory,
        "valid_until": state.until.map(time),
        "next_order": time(state.next),
        "failures": state.failures,
        "problem": (!state.problem.is_empty()).then_some(&state.problem),
    })
}

fn capture(sources: &Sources) -> Value {
    let store = &sources.store;
    let (kept, given_up) = store.counts();
    let limits = store.limits();
    let allowed = sources.guard.captures();
    let why = match (store.most() > 0, allowed) {
        (true, true) => None,
        (false, _) => Some("agent.local.capture.requests of the configuration is 0"),
        (true, false) => Some("the customer's policy does not say `capture: true`"),
    };
    json!({
        "on": store.is_on(), "asked": store.most() > 0, "allowed": allowed, "why_not": why,
        "kept": kept, "most": store.most(), "head": limits.head, "body": limits.body, "connections_given_up": given_up,
    })
}

fn connections(asked: &Asked, sources: &Sources) -> Result<Answer, Answer> {
    let most = asked.number("limit", Some(100), MAX_LISTED)?.unwrap_or(MAX_LISTED);
    let open = sources.status.connections(usize::try_from(most).unwrap_or(usize::MAX));
    let total = sources.status.live();
    let listed: Vec<Value> = open.iter().map(|carried| connection(carried)).collect();
    Ok(Answer::fine(json!({ "open": total, "more": total.saturating_sub(listed.len()), "connections": listed })))
}

fn connection(carried: &Carried) -> Value {
    json!({
        "number": carried.number,
        "endpoint": carried.endpoint,
        "caller": carried.caller.map(|caller| caller.to_string()),
        "upstream": carried.upstream,
        "started": rfc3339(carried.begun),
        "seconds": carried.since.elapsed().as_secs(),
        "octets_up": carried.up.load(Ordering::Relaxed),
        "octets_down": carried.down.load(Ordering::Relaxed),
    })
}

async fn logs(asked: &Asked, sources: &Sources, patience: &Patience<'_>) -> Result<Answer, Answer> {
    let from = asked.number("from", None, u64::MAX)?;
    let most = asked.number("limit", Some(100), MAX_LISTED)?.unwrap_or(MAX_LISTED);
    let wait = asked.number("wait", Some(0), MAX_WAIT)?.unwrap_or(0);
    let held = if wait > 0 { patience.take() } else { None };
    if let (Some(from), Some(_)) = (from, &held) {
        sources.recent.wait(from, Duration::from_secs(wait)).await;
    }
    let excerpt = sources.recent.lines(from, usize::try_from(most).unwrap_or(usize::MAX));
    let lines: Vec<Value> = excerpt.lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let next = excerpt.first.saturating_add(u64::try_from(excerpt.lines.len()).unwrap_or(u64::MAX));
    Ok(Answer::fine(json!({ "from": excerpt.first, "next": next, "lost": excerpt.lost, "lines": lines })))
}

fn requests(asked: &Asked, sources: &Sources) -> Result<Answer, Answer> {
    must_capture(sources)?;
    let most = asked.number("limit", Some(100), MAX_LISTED)?.unwrap_or(MAX_LISTED);
    let list = sources.store.list();
    let some = list.iter().take(usize::try_from(most).unwrap_or(usize::MAX));
    let listed: Vec<Value> = some.map(|record| record.summary()).collect();
    Ok(Answer::fine(json!({ "kept": list.len(), "requests": listed, "capture": capture(sources) })))
}

fn request(id: &str, sources: &Sources) -> Result<Answer, Answer> {
    must_capture(sources)?;
    let record = sources.store.get(number(id)?).ok_or_else(unknown)?;
    Ok(Answer::fine(record.whole()))
}

async fn replay(id: &str, sources: &Sources, patience: &Patience<'_>) -> Result<Answer, Answer> {
    must_capture(sources)?;
    let id = number(id)?;
    let Some(_held) = patience.take() else { return Err(refused(&ReplayError::Busy)) };
    let done = sources.doors.replay(id, &sources.store).await;
    match &done {
        Ok((record, omitted)) => {
            tracing::info!(request = id, name = record.endpoint, "request sent again");
            let mut body = record.whole();
            body["omitted"] = json!(omitted);
            Ok(Answer::fine(body))
        }
        Err(error) => {
            let answer = refused(error);
            tracing::info!(request = id, error = answer.body["error"]["code"].as_str(), "request not sent again");
            Err(answer)
        }
    }
}

fn refused(error: &ReplayError) -> Answer {
    let refuse = |status, detail: &str| Answer::refusal(status, Fault::ReplayRefused, detail);
    match error {
        ReplayError::Unknown => unknown(),
        ReplayError::Off => Answer::refusal(403, Fault::CaptureOff, ""),
        ReplayError::Unrepeatable(why) => refuse(409, why.text()),
        ReplayError::EndpointGone => refuse(409, "its endpoint is not served at present, or leads elsewhere"),
        ReplayError::Busy => refuse(429, "too many are sent again at this moment"),
        ReplayError::Failed(error) if error.fault == Fault::PolicyRefused => Answer::error(403, error),
        ReplayError::Failed(error) => Answer::error(502, error),
        ReplayError::Unanswered => refuse(502, "the upstream did not answer"),
    }
}

fn must_capture(sources: &Sources) -> Result<(), Answer> {
    if sources.store.is_on() {
        return Ok(());
    }
    let why = capture(sources)["why_not"].as_str().unwrap_or_default().to_owned();
    Err(Answer::error(403, &Error::new(Fault::CaptureOff, why)))
}

fn number(text: &str) -> Result<u64, Answer> {
    text.parse().map_err(|_| unknown())
}

fn unknown() -> Answer {
    Answer::refusal(404, Fault::LocalUnknown, "no request has that number, or it is not kept any more")
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Items of a list at most.
const MAX_LISTED: u64 = 1_000;
/// How long a question may wait for a line of the log, in seconds.
const MAX_WAIT: u64 = 25;
