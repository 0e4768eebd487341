//! `basic-auth`: serves who knows a user and its password.

use core::{fmt, time::Duration};

use aws_lc_rs::rand;
use http::{HeaderValue, header};

use super::{Action, Config, REQUEST, Type, rate_limit::later};
use crate::{
    auth::basic::{Access, BasicAuth as Basic, Credential, Step, Verdict},
    cel::Value,
    document::{MAX_ENTRIES, Node, Template},
    engine::{Answer, Ask, Effect, Failure, Outcome, Refusal, Turn, Why},
};

/// Serves who knows a user and its password.
pub struct BasicAuth {
    /// What is written after `WWW-Authenticate`.
    challenge: HeaderValue,
    /// Whether others are refused; else it is only told.
    pub enforce: bool,
    auth: Basic,
    /// Credentials with expressions in them.
    rendered: Vec<Template>,
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("enforce", &self.enforce).field("auth", &self.auth).finish_non_exhaustive()
    }
}

pub(super) const TYPE: Type = Type { name: "basic-auth", phases: &[REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [credentials, realm, enforce] = config.map(["credentials", "realm", "enforce"])?;
    let enforce = config.enforce(enforce);
    let challenge = realm.map_or_else(|| challenge("adit"), |node| self::realm(config, node));
    let node = config.required("credentials", credentials)?;
    let elements = config.list("credentials", node, MAX_ENTRIES)?;
    if elements.is_empty() {
        config.problem("credentials", node, "no credentials, so that nobody may call", "Write `user:password`");
        return None;
    }
    let (mut constants, mut rendered, mut whole) = (Vec::new(), Vec::new(), true);
    let count = elements.len();
    for (key, node) in elements {
        match credential(config, &key, node) {
            Some(Written::Constant(credential)) => constants.push(credential),
            Some(Written::Rendered(template)) => rendered.push(template),
            None => whole = false,
        }
    }
    let mut key = [0; 32];
    if rand::fill(&mut key).is_err() {
        config.whole("there is no randomness to be had", "Look at the host");
        return None;
    }
    let Ok(auth) = Basic::new(constants, &key) else {
        let remedy = "Keep one hash, or passwords, for each user";
        config.problem(
            "credentials",
            node,
            format!("of {count} credentials, two are of a user that has a hash"),
            remedy,
        );
        return None;
    };
    whole.then_some(())?;
    Some(Action::BasicAuth(Box::new(BasicAuth { challenge: challenge?, enforce: enforce?, auth, rendered })))
}

enum Written {
    Constant(Credential),
    Rendered(Template),
}

/// Reads one credential. What is told of a bad one has nothing of it.
fn credential<'n>(config: &mut Config<'_, '_, 'n>, key: &str, node: &'n Node) -> Option<Written> {
    let template = config.template(key, node)?;
    let Some(text) = template.constant() else { return Some(Written::Rendered(template)) };
    Credential::parse(text)
        .map_err(|bad| config.problem(key, node, bad.to_string(), "Write `user:password` or `user:hash`"))
        .ok()
        .map(Written::Constant)
}

fn realm<'n>(config: &mut Config<'_, '_, 'n>, node: &'n Node) -> Option<HeaderValue> {
    let text = config.text("realm", node)?;
    if text.len() > 128 || text.chars().any(|c| c.is_control() || !c.is_ascii()) {
        config.problem("realm", node, "no realm", "Write up to 128 characters of ASCII");
        return None;
    }
    challenge(text)
}

fn challenge(realm: &str) -> Option<HeaderValue> {
    let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::try_from(format!("Basic realm=\"{quoted}\", charset=\"UTF-8\"")).ok()
}

impl BasicAuth {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let mut made = Vec::with_capacity(self.rendered.len());
        for template in &self.rendered {
            // What is rendered and is no credential is nobody's.
            made.extend(Credential::parse(&turn.render(template)?).ok());
        }
        let (address, now) = (turn.facts.connection.client(), turn.now.instant);
        let Some(request) = turn.facts.request() else { return Ok(self.refuse(Access::Absent)) };
        let verdict = match self.auth.begin(request.head().headers, &made, address, now) {
            Step::Done(verdict) => verdict,
            Step::Check(check) => match turn.answer.take() {
                Some(Answer::Password(Ok(right))) => self.auth.finish(check, right, address, now),
                Some(Answer::Password(Err(_))) => {
                    let refusal = later(503, Why::Unavailable, Duration::from_secs(1));
                    return Ok(Effect::End(Outcome::Refuse(
                        refusal.because("no password can be checked at the moment"),
                    )));
                }
                _ => return Ok(Effect::Ask(Ask::Password { check })),
            },
        };
        self.tell(turn, &verdict)?;
        let passes = verdict.access == Access::Granted || !self.enforce;
        Ok(if passes { Effect::Next } else { self.refuse(verdict.access) })
    }

    fn tell(&self, turn: &mut Turn<'_, '_>, verdict: &Verdict) -> Result<(), Failure> {
        if !turn.tells() {
            return Ok(());
        }
        let credentials = turn.map(vec![
            ("presented".into(), Value::Bool(verdict.access != Access::Absent)),
            ("username".into(), verdict.user.clone().unwrap_or_default().into()),
            ("authorized".into(), Value::Bool(verdict.access == Access::Granted)),
        ])?;
        turn.tell("basic_auth", [("credentials", credentials)])
    }

    /// Refuses who has not this access, and tells the log why.
    fn refuse(&self, access: Access) -> Effect {
        let reason = match access {
            Access::Granted | Access::Absent => "there are no credentials",
            Access::Malformed => "the credentials cannot be read",
            Access::Wrong => "the user or the password is wrong",
            Access::Throttled(wait) => {
                let refusal = later(429, Why::Throttled, wait).because("the credentials were wrong too often");
                return Effect::End(Outcome::Refuse(refusal));
            }
        };
        let mut refusal = Refusal::new(401, Why::Unknown).because(reason);
        refusal.headers.insert(header::WWW_AUTHENTICATE, self.challenge.clone());
        Effect::End(Outcome::Refuse(refusal))
    }
}
