//! What rules do. Each action has a module of its own: what it is configured with, and what it does.
//!
//! An action does no IO. It reads the facts of its [`Turn`], and gives an [`Effect`]: changes, a question to the world, or the end
//! of the phase. What cannot be decided is a [`Failure`], for which the engine refuses.

use std::sync::Arc;

mod add_headers;
mod basic_auth;
mod buckets;
mod circuit_breaker;
mod close_connection;
mod compress_response;
mod config;
mod custom_response;
mod deny;
mod find_replace;
mod forward_internal;
mod http_request;
mod jwt_validation;
mod location;
mod log;
mod rate_limit;
mod redirect;
mod remove_headers;
mod restrict_ips;
mod set_vars;
mod terminate_tls;
mod url_rewrite;
mod verify_webhook;

pub use self::{
    add_headers::AddHeaders,
    basic_auth::BasicAuth,
    circuit_breaker::CircuitBreaker,
    close_connection::CloseConnection,
    compress_response::CompressResponse,
    custom_response::CustomResponse,
    deny::Deny,
    find_replace::FindReplace,
    forward_internal::ForwardInternal,
    http_request::HttpRequest,
    jwt_validation::JwtValidation,
    log::Log,
    rate_limit::{MAX_KEYS, RateLimit},
    redirect::Redirect,
    remove_headers::RemoveHeaders,
    restrict_ips::RestrictIps,
    set_vars::SetVars,
    terminate_tls::{Identity, TerminateTls, Verification, Version},
    url_rewrite::UrlRewrite,
    verify_webhook::VerifyWebhook,
};
pub(crate) use self::{circuit_breaker::Pass, config::Config, http_request::Fetching};
use crate::{
    cel::nearest,
    document::{EVENTS, Node, Reader, Value, join},
    engine::{Effect, Failure, Turn},
    environment::Phase,
};

/// What a rule does when its expressions are true.
#[derive(Debug)]
pub enum Action {
    /// Adds headers.
    AddHeaders(AddHeaders),
    /// Serves who knows a user and its password.
    BasicAuth(Box<BasicAuth>),
    /// Refuses requests to an upstream that fails.
    CircuitBreaker(CircuitBreaker),
    /// Closes the connection without an answer.
    CloseConnection(CloseConnection),
    /// Compresses the answer.
    CompressResponse(CompressResponse),
    /// Answers in place of the upstream.
    CustomResponse(CustomResponse),
    /// Refuses.
    Deny(Deny),
    /// Serves by an internal endpoint.
    ForwardInternal(ForwardInternal),
    /// Asks another server.
    HttpRequest(Box<HttpRequest>),
    /// Serves who brings tokens of an issuer.
    JwtValidation(JwtValidation),
    /// Tells something with what is told of the request.
    Log(Log),
    /// Lets so many requests through.
    RateLimit(Box<RateLimit>),
    /// Sends the caller elsewhere.
    Redirect(Box<Redirect>),
    /// Removes headers.
    RemoveHeaders(RemoveHeaders),
    /// Replaces in the body of the request.
    RequestBodyFindReplace(FindReplace),
    /// Replaces in the body of the answer.
    ResponseBodyFindReplace(FindReplace),
    /// Serves only some callers.
    RestrictIps(RestrictIps),
    /// Sets variables.
    SetVars(SetVars),
    /// Replaces in the events of the answer.
    SseFindReplace(FindReplace),
    /// Ends TLS at the network.
    TerminateTls(Arc<TerminateTls>),
    /// Changes the URL.
    UrlRewrite(Box<UrlRewrite>),
    /// Serves the calls of one service, which are signed.
    VerifyWebhook(VerifyWebhook),
}

/// The types that are built.
const TYPES: &[&Type] = &[
    &add_headers::TYPE,
    &basic_auth::TYPE,
    &circuit_breaker::TYPE,
    &close_connection::TYPE,
    &compress_response::TYPE,
    &custom_response::TYPE,
    &deny::TYPE,
    &forward_internal::TYPE,
    &http_request::TYPE,
    &jwt_validation::TYPE,
    &log::TYPE,
    &rate_limit::TYPE,
    &redirect::TYPE,
    &remove_headers::TYPE,
    &find_replace::REQUEST_TYPE,
    &find_replace::RESPONSE_TYPE,
    &restrict_ips::TYPE,
    &set_vars::TYPE,
    &find_replace::EVENTS_TYPE,
    &terminate_tls::TYPE,
    &url_rewrite::TYPE,
    &verify_webhook::TYPE,
];

impl Action {
    /// Returns its type, as a document names it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AddHeaders(_) => add_headers::TYPE.name,
            Self::BasicAuth(_) => basic_auth::TYPE.name,
            Self::CircuitBreaker(_) => circuit_breaker::TYPE.name,
            Self::CloseConnection(_) => close_connection::TYPE.name,
            Self::CompressResponse(_) => compress_response::TYPE.name,
            Self::CustomResponse(_) => custom_response::TYPE.name,
            Self::Deny(_) => deny::TYPE.name,
            Self::ForwardInternal(_) => forward_internal::TYPE.name,
            Self::HttpRequest(_) => http_request::TYPE.name,
            Self::JwtValidation(_) => jwt_validation::TYPE.name,
            Self::Log(_) => log::TYPE.name,
            Self::RateLimit(_) => rate_limit::TYPE.name,
            Self::Redirect(_) => redirect::TYPE.name,
            Self::RemoveHeaders(_) => remove_headers::TYPE.name,
            Self::RequestBodyFindReplace(_) => find_replace::REQUEST_TYPE.name,
            Self::ResponseBodyFindReplace(_) => find_replace::RESPONSE_TYPE.name,
            Self::RestrictIps(_) => restrict_ips::TYPE.name,
            Self::SetVars(_) => set_vars::TYPE.name,
            Self::SseFindReplace(_) => find_replace::EVENTS_TYPE.name,
            Self::TerminateTls(_) => terminate_tls::TYPE.name,
            Self::UrlRewrite(_) => url_rewrite::TYPE.name,
            Self::VerifyWebhook(_) => verify_webhook::TYPE.name,
        }
    }

    /// Counts on where an action of an earlier document was, if it is configured alike.
    pub(crate) fn inherit(&mut self, old: &Self) -> bool {
        match (self, old) {
            (Self::CircuitBreaker(action), Self::CircuitBreaker(old)) => action.inherit(old),
            (Self::RateLimit(action), Self::RateLimit(old)) => action.inherit(old),
            _ => false,
        }
    }

    /// Does it, or a part of it until the answer to what it asks is there.
    pub(crate) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        match self {
            Self::AddHeaders(action) => action.act(turn),
            Self::BasicAuth(action) => action.act(turn),
            Self::CircuitBreaker(action) => action.act(turn),
            Self::CloseConnection(action) => action.act(),
            Self::CompressResponse(action) => action.act(turn),
            Self::CustomResponse(action) => action.act(turn),
            Self::Deny(action) => action.act(),
            Self::ForwardInternal(action) => action.act(turn),
            Self::HttpRequest(action) => action.act(turn),
            Self::JwtValidation(action) => action.act(turn),
            Self::Log(action) => action.act(turn),
            Self::RateLimit(action) => action.act(turn),
            Self::Redirect(action) => action.act(turn),
            Self::RemoveHeaders(action) => action.act(turn),
            Self::RequestBodyFindReplace(action)
            | Self::ResponseBodyFindReplace(action)
            | Self::SseFindReplace(action) => action.act(turn),
            Self::RestrictIps(action) => action.act(turn),
            Self::SetVars(action) => action.act(turn),
            Self::TerminateTls(action) => action.act(turn),
            Self::UrlRewrite(action) => action.act(turn),
            Self::VerifyWebhook(action) => action.act(turn),
        }
    }
}

/// A type of action: its name, the phases in which it may stand, and how its configuration is read.
pub(crate) struct Type {
    pub(crate) name: &'static str,
    pub(crate) phases: &'static [Phase],
    /// Gives nothing when there was a problem, of which it told.
    pub(crate) read: fn(&mut Config<'_, '_, '_>) -> Option<Action>,
}

const CONNECT: Phase = Phase::TcpConnect;
const REQUEST: Phase = Phase::HttpRequest;
const RESPONSE: Phase = Phase::HttpResponse;

/// Types of that form that are not built.
const OTHERS: &[&str] = &["oauth", "openid-connect", "owasp-crs-request", "owasp-crs-response", "saml"];

/// What may stand in a rule for the events of an answer.
const OF_EVENTS: &[&str] = &["log", "set-vars", "sse-find-replace"];

/// Reads an action of a rule, which may be one for events; nothing when there is a problem.
pub(crate) fn read(reader: &mut Reader<'_>, phase: Phase, of_events: bool, path: &str, node: &Node) -> Option<Action> {
    let [kind, config] = reader.map(path, node, ["type", "config"], &[])?;
    let Some(kind) = kind else {
        reader.problem(node.place, path, "an action without a type", "Add `type: deny`, or another");
        return None;
    };
    let key = join(path, "type");
    let name = reader.text(&key, kind)?;
    let Some(found) = TYPES.iter().find(|known| known.name == name) else {
        unknown(reader, kind, &key, name);
        return None;
    };
    let here = if of_events { OF_EVENTS.contains(&name) } else { found.phases.contains(&phase) };
    if !here {
        let mut names: Vec<_> = found.phases.iter().map(|phase| phase.name()).collect();
        names.extend(OF_EVENTS.contains(&name).then_some(EVENTS));
        let what = format!("`{name}` is not available in {}", if of_events { EVENTS } else { phase.name() });
        reader.problem(kind.place, &key, what, format!("Move it to {}", names.join(" or ")));
        return None;
    }
    let empty = Node { place: node.place, value: Value::Map(Vec::new()) };
    let node = config.filter(|node| node.value != Value::Null).unwrap_or(&empty);
    (found.read)(&mut Config::new(reader, phase, join(path, "config"), node))
}

fn unknown(reader: &mut Reader<'_>, kind: &Node, key: &str, name: &str) {
    let remedy = "docs/policy.md has the actions there are";
    if OTHERS.contains(&name) {
        reader.problem(kind.place, key, format!("`{name}` is not available yet"), remedy);
    } else {
        let names = TYPES.iter().map(|known| known.name);
        let near = nearest(name, names.chain(OTHERS.iter().copied()));
        let remedy = near.map_or_else(|| remedy.into(), |near| format!("Did you mean `{near}`?"));
        reader.problem(kind.place, key, "unknown type of action", remedy);
    }
}
