//! `jwt-validation`: serves who brings tokens that one of the configured issuers has signed.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use super::{Action, Config, REQUEST, Type};
use crate::{
    auth::{
        form, json,
        jwt::{Algorithm, Kind, Refused, Rules, Token, Unverified},
    },
    cel::Value,
    document::{Node, Template},
    engine::{Answer, Ask, Effect, Failure, Outcome, Refusal, Turn, Why},
};

/// Serves who brings tokens that one of the configured issuers has signed.
#[derive(Debug)]
pub struct JwtValidation {
    rules: Rules,
    /// Issuers with expressions in them.
    issuers: Vec<Template>,
    tokens: Vec<Place>,
    urls: Vec<Template>,
}

/// Where a token is, and of which kind it must be.
#[derive(Debug)]
struct Place {
    kind: Kind,
    method: Method,
    name: Template,
    prefix: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Header,
    Body,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
        }
    }
}

pub(super) const TYPE: Type = Type { name: "jwt-validation", phases: &[REQUEST], read };

/// The most tokens, issuers, audiences and sets of keys of one action.
const MOST: usize = 16;

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [issuer, audience, http, jws] = config.map(["issuer", "audience", "http", "jws"])?;
    let issuer = config.required("issuer", issuer);
    let http = config.required("http", http);
    let jws = config.required("jws", jws);
    let issuers = issuer.and_then(|node| allow_list(&mut config.within("issuer", node)));
    let audiences = audience.map_or(Some(Vec::new()), |node| allow_list(&mut config.within("audience", node)));
    let tokens = http.and_then(|node| tokens(&mut config.within("http", node)));
    let signed = jws.and_then(|node| self::jws(&mut config.within("jws", node)));
    let (algorithms, urls) = signed?;
    let (constant, rendered): (Vec<_>, Vec<_>) = issuers?.into_iter().partition(|it| it.constant().is_some());
    let texts = |list: Vec<Template>| list.iter().filter_map(|it| it.constant().map(String::from)).collect();
    let audiences = audiences?;
    if let (Some(node), true) = (audience, audiences.iter().any(|it| it.constant().is_none())) {
        config.problem("audience", node, "an audience with an expression in it", "Write it as it is in the token");
        return None;
    }
    let rules = Rules { issuers: texts(constant), audiences: texts(audiences), algorithms };
    Some(Action::JwtValidation(JwtValidation { rules, issuers: rendered, tokens: tokens?, urls }))
}

/// Reads `allow_list`, whose elements have a `value`. An empty list would be one that was forgotten.
fn allow_list(config: &mut Config<'_, '_, '_>) -> Option<Vec<Template>> {
    let [list] = config.map(["allow_list"])?;
    let list = config.required("allow_list", list)?;
    let mut values = Vec::new();
    for (key, node) in some(config, "allow_list", list)? {
        let mut element = config.within(&key, node);
        let [value] = element.map(["value"])?;
        let value = element.required("value", value)?;
        values.push(element.template("value", value)?);
    }
    Some(values)
}

fn tokens(config: &mut Config<'_, '_, '_>) -> Option<Vec<Place>> {
    let [list] = config.map(["tokens"])?;
    let list = config.required("tokens", list)?;
    let mut places = Vec::new();
    for (key, node) in some(config, "tokens", list)? {
        let mut element = config.within(&key, node);
        let [kind, method, name, prefix] = element.map(["type", "method", "name", "prefix"])?;
        let kind = element.required("type", kind)?;
        let kind = choice(&mut element, "type", kind, KINDS)?;
        let method = element.required("method", method)?;
        let method = choice(&mut element, "method", method, METHODS)?;
        let node = element.required("name", name)?;
        let name = element.template("name", node)?;
        if let (Method::Header, Some(text)) = (method, name.constant())
            && HeaderName::try_from(text).is_err()
        {
            element.problem("name", node, "no name of a header", "Write it as in `Authorization`");
            return None;
        }
        let prefix = prefix.map_or_else(|| Some(Template::default()), |node| element.template("prefix", node))?;
        places.push(Place { kind, method, name, prefix });
    }
    Some(places)
}

const KINDS: &[(&str, Kind)] = &[
    ("jwt", Kind::Any),
    ("plain", Kind::Any),
    ("access_token", Kind::Any),
    ("id_token", Kind::Any),
    ("at+jwt", Kind::Access),
    ("it+jwt", Kind::Identity),
];

const METHODS: &[(&str, Method)] = &[("header", Method::Header), ("body", Method::Body)];

fn jws(config: &mut Config<'_, '_, '_>) -> Option<(Vec<Algorithm>, Vec<Template>)> {
    let [algorithms, keys] = config.map(["allowed_algorithms", "keys"])?;
    let algorithms = config.required("allowed_algorithms", algorithms);
    let keys = config.required("keys", keys);
    let mut allowed = Vec::new();
    for (key, node) in some(config, "allowed_algorithms", algorithms?)? {
        let text = config.text(&key, node)?;
        if text.starts_with("HS") {
            let what = format!("`{text}` is checked by the secret that signs, which no set of public keys may have");
            config.problem(&key, node, what, "Let the issuer sign by `RS256`, `ES256` or `EdDSA`");
            return None;
        }
        allowed.push(choice(config, &key, node, &Algorithm::NAMES)?);
    }
    let mut keys = config.within("keys", keys?);
    let [identification, sources] = keys.map(["identification", "sources"])?;
    if let Some(node) = identification {
        let mut identification = keys.within("identification", node);
        let [claims] = identification.map(["token_claims"])?;
        for (key, node) in claims.map_or(Some(Vec::new()), |node| identification.list("token_claims", node, MOST))? {
            choice(&mut identification, &key, node, &[("kid", ())])?;
        }
    }
    let sources = keys.required("sources", sources)?;
    let mut sources = keys.within("sources", sources);
    let [urls] = sources.map(["additional_jkus"])?;
    let urls = sources.required("additional_jkus", urls)?;
    let mut addresses = Vec::new();
    for (key, node) in some(&mut sources, "additional_jkus", urls)? {
        let template = sources.template(&key, node)?;
        if template.constant().is_some_and(|text| !is_https(text)) {
            let remedy = "Write `https://issuer.example/jwks.json`: who could change the keys on their way could sign";
            sources.problem(&key, node, "no address of https", remedy);
            return None;
        }
        addresses.push(template);
    }
    Some((allowed, addresses))
}

/// Reads a list that has an element.
fn some<'n>(config: &mut Config<'_, '_, 'n>, key: &str, node: &'n Node) -> Option<Vec<(String, &'n Node)>> {
    let elements = config.list(key, node, MOST)?;
    if elements.is_empty() {
        config.problem(key, node, "an empty list", "Write one element at the least");
        return None;
    }
    Some(elements)
}

fn choice<'n, T: Copy>(config: &mut Config<'_, '_, 'n>, key: &str, node: &'n Node, known: &[(&str, T)]) -> Option<T> {
    let text = config.text(key, node)?;
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    if found.is_none() {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        config.problem(
            key,
            node,
            format!("`{text}` is none of those that there are"),
            format!("There is `{}`", names.join("`, `")),
        );
    }
    found
}

fn is_https(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    uri.scheme_str() == Some("https") && uri.authority().is_some_and(|it| !it.as_str().contains('@'))
}

/// Why a request is refused before or after its tokens were looked at.
enum Fault {
    /// A token is not where it should be.
    Missing,
    /// A token is there and is refused.
    Refused(Refused),
    /// There are no keys to be had.
    Keys,
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl JwtValidation {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        let body = if self.tokens.iter().any(|place| place.method == Method::Body) {
            match turn.body() {
                Ok(body) => body,
                Err(ask) => return Ok(Effect::Ask(ask)),
            }
        } else {
            None
        };
        let mut rules = Cow::Borrowed(&self.rules);
        for template in &self.issuers {
            rules.to_mut().issuers.push(turn.render(template)?);
        }
        let mut found = Vec::with_capacity(self.tokens.len());
        for place in &self.tokens {
            let (name, prefix) = (turn.render(&place.name)?, turn.render(&place.prefix)?);
            let headers = turn.facts.request().map(|request| request.head().headers);
            let text = match (place.method, headers) {
                (_, None) => None,
                (Method::Header, Some(headers)) => in_header(headers, &name),
                (Method::Body, Some(headers)) => body.as_deref().and_then(|body| in_body(headers, &name, body)),
            };
            let Some(text) = text else { return self.refuse(turn, Fault::Missing) };
            match text.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(&prefix)) {
                Some(_) => found.push((place, name, text.get(prefix.len()..).unwrap_or_default().to_owned())),
                None => return self.refuse(turn, Fault::Missing),
            }
        }
        // What no key would make right is refused before keys are asked for.
        let read =
            |(place, _, text): &'_ (&Place, String, String)| Unverified::read(text, place.kind, &rules).map(drop);
        if let Some(refused) = found.iter().find_map(|token| read(token).err()) {
            return self.refuse(turn, refused.into());
        }
        let keys = match turn.answer.take() {
            Some(Answer::Keys(Ok(keys))) => keys,
            Some(Answer::Keys(Err(_))) => return self.refuse(turn, Fault::Keys),
            _ => return self.ask(turn, false),
        };
        let now = turn.now.time;
        let verify = |(place, _, text): &(&Place, String, String)| {
            Unverified::read(text, place.kind, &rules)?.verify(&rules, &keys.sets, now)
        };
        match found.iter().map(verify).collect::<Result<Vec<_>, _>>() {
            Ok(tokens) => {
                self.tell(turn, &found, tokens)?;
                Ok(Effect::Next)
            }
            Err(Refused::Key) if !keys.fresh => self.ask(turn, true),
            Err(refused) => self.refuse(turn, refused.into()),
        }
    }

    fn ask(&self, turn: &mut Turn<'_, '_>, fresh: bool) -> Result<Effect, Failure> {
        let mut urls = Vec::with_capacity(self.urls.len());
        for template in &self.urls {
            let url = turn.render(template)?;
            if !is_https(&url) {
                return self.refuse(turn, Fault::Keys);
            }
            urls.push(url);
        }
        Ok(Effect::Ask(Ask::Keys { urls, fresh }))
    }

    fn tell(
        &self,
        turn: &mut Turn<'_, '_>,
        found: &[(&Place, String, String)],
        tokens: Vec<Token>,
    ) -> Result<(), Failure> {
        if !turn.tells() {
            return Ok(());
        }
        let mut told = Vec::with_capacity(tokens.len());
        for ((place, name, _), token) in found.iter().zip(tokens) {
            told.push(turn.map(vec![
                ("header".into(), token.header),
                ("payload".into(), token.payload),
                ("signature".into(), token.signature.into()),
                ("location".into(), place.method.name().into()),
                ("location_property".into(), name.clone().into()),
                ("verified".into(), Value::Bool(true)),
            ])?);
        }
        let told = turn.list(told)?;
        turn.tell("jwt_validation", [("tokens", told)])
    }

    fn refuse(&self, turn: &mut Turn<'_, '_>, fault: Fault) -> Result<Effect, Failure> {
        let (code, message, challenge) = match fault {
            Fault::Missing => ("token_missing", "there is no token, or more than one".to_owned(), Some("Bearer")),
            Fault::Refused(refused) => ("token_refused", refused.to_string(), Some("Bearer error=\"invalid_token\"")),
            Fault::Keys => ("keys_unavailable", "the keys of the issuer cannot be fetched".into(), None),
        };
        if turn.tells() {
            let none = turn.list(Vec::new())?;
            turn.tell_error("jwt_validation", [("tokens", none)], (code, message.clone()))?;
        }
        let mut refusal = match challenge {
            Some(_) => Refusal::new(401, Why::Unknown),
            None => Refusal::new(503, Why::Unavailable),
        }
        .because(message);
        match challenge {
            Some(text) => refusal.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(text)),
            None => refusal.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60")),
        };
        Ok(Effect::End(Outcome::Refuse(refusal)))
    }
}

/// Returns the one value of a header.
fn in_header(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(HeaderName::try_from(name).ok()?).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.into())
}

/// Returns the one field of a name, in whatever case, of a body that is JSON or a form.
fn in_body(headers: &HeaderMap, name: &str, body: &[u8]) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next().unwrap_or_default().trim();
    let mut values = if kind.eq_ignore_ascii_case("application/json") {
        let object = json::object(body)?;
        let fields = object.iter().filter(|(key, _)| key.as_str().is_some_and(|key| key.eq_ignore_ascii_case(name)));
        fields.map(|(_, value)| value.as_str().map(String::from)).collect::<Option<Vec<_>>>()?
    } else if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let fields = form::pairs(body)?;
        fields.into_iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    } else {
        return None;
    };
    let value = values.pop()?;
    values.is_empty().then_some(value)
}
