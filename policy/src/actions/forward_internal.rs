//! `forward-internal`: serves by an internal endpoint of the same account.

use http::Uri;

use super::{Action, CONNECT, Config, REQUEST, Type};
use crate::{
    document::Template,
    engine::{Answer, Effect, Failure, Outcome, Turn},
    environment::Phase,
};

/// Serves by an internal endpoint.
#[derive(Debug)]
pub struct ForwardInternal {
    /// Its URL.
    pub url: Template,
    /// Whether the rules go on when it cannot be reached.
    pub fallback: bool,
}

pub(super) const TYPE: Type = Type { name: "forward-internal", phases: &[CONNECT, REQUEST], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [url, on_error, binding] = config.map(["url", "on_error", "binding"])?;
    // What it once had to say, and what is meant where nothing is said.
    let binding = binding.map_or(Some(0), |node| config.choice("binding", node, &["internal"]));
    let node = config.required("url", url);
    let fallback = match on_error {
        Some(node) => config.choice("on_error", node, &["halt", "continue"]).map(|choice| choice == 1),
        None => Some(false),
    };
    let url = config.template("url", node?)?;
    binding?;
    if let (Some(text), Some(node)) = (url.constant(), node)
        && internal(text, config.phase()).is_none()
    {
        let example =
            if config.phase() == Phase::TcpConnect { "tcp://db.internal:5432" } else { "https://crm.internal" };
        config.problem("url", node, format!("`{text}` is no internal endpoint"), format!("Write it as `{example}`"));
        return None;
    }
    Some(Action::ForwardInternal(ForwardInternal { url, fallback: fallback? }))
}

impl ForwardInternal {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        if let Some(Answer::Unreachable) = turn.answer {
            return Ok(Effect::Next);
        }
        let url = internal(&turn.render(&self.url)?, turn.phase).ok_or(Failure::Url)?;
        Ok(Effect::End(Outcome::Forward { url, fallback: self.fallback }))
    }
}

/// Reads the URL of an internal endpoint: a scheme of the phase, a name below `.internal`, perhaps a port, and nothing else. A name that a
/// caller sent is in it perhaps; it can name nothing that is not internal.
fn internal(url: &str, phase: Phase) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let schemes: &[&str] = match phase {
        Phase::TcpConnect => &["tcp", "tls"],
        Phase::HttpRequest | Phase::HttpResponse => &["http", "https"],
    };
    let host = authority.host().to_ascii_lowercase();
    let label = |label: &str| {
        let inner = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        (1..64).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let named = host.len() < 254 && host.strip_suffix(".internal").is_some_and(|name| name.split('.').all(label));
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    let ported = authority.port().is_none_or(|port| port.as_u16() != 0);
    // Whatever else there is, a user or a colon without a number, is no part of such a URL.
    let whole = authority.as_str().len() == host.len() + authority.port().map_or(0, |port| port.as_str().len() + 1);
    if !(schemes.contains(&scheme) && named && bare && ported && whole) {
        return None;
    }
    Some(match authority.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}
