//! `verify-webhook`: serves the calls of one service, which are signed.

use core::fmt;

use http::{HeaderValue, header};

use super::{Action, Config, REQUEST, Type};
use crate::{
    auth::{
        Secret,
        webhook::{Call, OTHERS, Refused, SCHEMES, Scheme},
    },
    cel::{Value, nearest},
    document::{Node, Template},
    engine::{Effect, Failure, Outcome, Refusal, Turn, Why},
};

/// Serves the calls of one service, which are signed.
pub struct VerifyWebhook {
    /// How the service signs.
    pub scheme: &'static Scheme,
    secret: Key,
    /// Whether other calls are refused; else it is only told.
    pub enforce: bool,
}

enum Key {
    Constant(Secret),
    Rendered(Template),
}

impl fmt::Debug for VerifyWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("VerifyWebhook");
        shown.field("scheme", &self.scheme.name).field("enforce", &self.enforce).finish_non_exhaustive()
    }
}

pub(super) const TYPE: Type = Type { name: "verify-webhook", phases: &[REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [provider, secret, enforce] = config.map(["provider", "secret", "enforce"])?;
    let enforce = config.enforce(enforce);
    let provider = config.required("provider", provider);
    let secret = config.required("secret", secret);
    let scheme = scheme(config, provider?)?;
    let node = secret?;
    let template = config.template("secret", node)?;
    let secret = match template.constant() {
        None => Key::Rendered(template),
        Some(text) => {
            let secret = Secret::new(text.as_bytes());
            if !scheme.takes(&secret) {
                let what = format!("no secret of the form that `{}` gives out", scheme.name);
                config.problem("secret", node, what, "Copy it from where the service shows it");
                return None;
            }
            Key::Constant(secret)
        }
    };
    Some(Action::VerifyWebhook(VerifyWebhook { scheme, secret, enforce: enforce? }))
}

fn scheme<'n>(config: &mut Config<'_, '_, 'n>, node: &'n Node) -> Option<&'static Scheme> {
    let name = config.text("provider", node)?;
    let found = Scheme::named(name);
    if found.is_none() {
        let remedy = "docs/policy.md has those that there are";
        let (what, remedy) = if OTHERS.contains(&name) {
            (format!("`{name}` is not available yet"), remedy.to_owned())
        } else {
            let near = nearest(name, SCHEMES.iter().map(|scheme| scheme.name));
            ("unknown service".into(), near.map_or_else(|| remedy.into(), |near| format!("Did you mean `{near}`?")))
        };
        config.problem("provider", node, what, remedy);
    }
    found
}

impl VerifyWebhook {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let body = match turn.body() {
            Ok(body) => body,
            Err(ask) => return Ok(Effect::Ask(ask)),
        };
        let rendered;
        let secret = match &self.secret {
            Key::Constant(secret) => secret,
            Key::Rendered(template) => {
                rendered = Secret::new(turn.render(template)?.into_bytes());
                &rendered
            }
        };
        let Some(body) = body else {
            // What is too long to be looked at is not known to be signed.
            return self.refuse(turn, 413, "body_too_large", "the body is larger than is looked at".into());
        };
        let Some(request) = turn.facts.request() else {
            return self.refuse(turn, self.scheme.status, Refused::Missing.code(), Refused::Missing.to_string());
        };
        let head = request.head();
        let call = Call { method: head.method, url: request.url(), headers: head.headers, body: &body };
        let verified = self.scheme.verify(secret, &call, turn.now.time);
        if let Some((kind, answer)) = self.scheme.challenge(secret, &call, verified.is_ok()) {
            let mut response = http::Response::new(answer.into_bytes());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            return Ok(Effect::End(Outcome::Respond(Box::new(response))));
        }
        match verified {
            Ok(()) => {
                if turn.tells() {
                    turn.tell("verify_webhook", [("verified", Value::Bool(true))])?;
                }
                Ok(Effect::Next)
            }
            Err(refused) => self.refuse(turn, self.scheme.status, refused.code(), refused.to_string()),
        }
    }

    fn refuse(
        &self,
        turn: &mut Turn<'_, '_>,
        status: u16,
        code: &'static str,
        message: String,
    ) -> Result<Effect, Failure> {
        if turn.tells() {
            turn.tell_error("verify_webhook", [("verified", Value::Bool(false))], (code, message.clone()))?;
        }
        if !self.enforce {
            return Ok(Effect::Next);
        }
        Ok(Effect::End(Outcome::Refuse(Refusal::new(status, Why::Unknown).because(message))))
    }
}
