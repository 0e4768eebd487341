//! `basic-auth`, `jwt-validation` and `verify-webhook` as rules run them: who passes, who is refused and how, and what is told and asked.

mod support;

use std::sync::{Arc, LazyLock};

use adit_policy::{
    auth::jwt::KeySet,
    document::Document,
    engine::{Answer, Ask, Keys, Outcome, Policy, Refusal, Step, Unavailable, Why},
    environment::Phase,
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use support::{Caller, policy};

const REQUEST: Phase = Phase::HttpRequest;

/// Of `correct horse`, made by libxcrypt.
const BCRYPT: &str = "$2b$04$7QhFpAkXkUO2OPd94dHm1OOLXl1fYVbrmXUS3SZF0fKhKqOZ9yZgm";

/// Returns how a request is refused, if it is.
fn refusal(policy: &Arc<Policy>, caller: &mut Caller) -> Option<Refusal> {
    match caller.run(policy, REQUEST).0 {
        Outcome::Continue => None,
        Outcome::Refuse(refusal) => Some(refusal),
        other @ (Outcome::Respond(_) | Outcome::Close | Outcome::Forward { .. }) => panic!("{other:?}"),
    }
}

/// What comes of a request, with the checks of passwords that are asked for.
fn checked(policy: &Arc<Policy>, caller: &mut Caller) -> Outcome {
    let mut run = policy.begin(REQUEST, adit_policy::engine::Carried::default());
    let mut step = caller.step(&mut run);
    loop {
        step = match step {
            Step::Done(outcome) => return outcome,
            Step::Ask(Ask::Password { check }) => caller.answer(&mut run, Some(Answer::Password(Ok(check.run())))),
            Step::Ask(other) => panic!("{other:?}"),
        };
    }
}

fn caller(authorization: &str) -> Caller {
    Caller::new("GET", "https://a.example/").header("authorization", authorization)
}

#[test]
fn basic_auth_lets_users_pass_and_asks_others_who_they_are() {
    let policy = policy(
        "on_http_request: [{actions: [{type: basic-auth, config: {realm: 'a \"b\" \\c', credentials: ['user:password1', 'admin:password2']}}]}]",
    );

    assert_eq!(refusal(&policy, &mut caller("Basic dXNlcjpwYXNzd29yZDE=")), None);
    for mut caller in [
        caller("Basic dXNlcjpwYXNzd29yZDI="),
        caller("Bearer x"),
        caller("Basic x"),
        Caller::new("GET", "https://a.example/"),
    ] {
        let refusal = refusal(&policy, &mut caller).unwrap();
        assert_eq!((refusal.status, refusal.why), (401, Why::Unknown));
        assert_eq!(refusal.headers["www-authenticate"], r#"Basic realm="a \"b\" \\c", charset="UTF-8""#);
    }
}

#[test]
fn basic_auth_leaves_the_header_for_the_upstream() {
    let policy =
        policy("on_http_request: [{actions: [{type: basic-auth, config: {credentials: ['user:password1']}}]}]");
    let mut caller = caller("Basic dXNlcjpwYXNzd29yZDE=");

    assert_eq!(refusal(&policy, &mut caller), None);

    assert_eq!(caller.request.headers["authorization"], "Basic dXNlcjpwYXNzd29yZDE=");
}

#[test]
fn basic_auth_that_is_not_enforced_tells_what_it_found() {
    let policy = policy(
        "
on_http_request:
  - actions: [{type: basic-auth, config: {enforce: false, credentials: ['user:password1']}}]
  - actions:
      - type: add-headers
        config:
          headers:
            x-told: \"${actions.ngrok.basic_auth.credentials.presented} ${actions.ngrok.basic_auth.credentials.username} ${actions.ngrok.basic_auth.credentials.authorized}\"
",
    );
    for (mut caller, told) in [
        (caller("Basic dXNlcjpwYXNzd29yZDE="), "true user true"),
        (caller("Basic dXNlcjpwYXNzd29yZDI="), "true user false"),
        (caller("Basic x"), "true  false"),
        (Caller::new("GET", "https://a.example/"), "false  false"),
    ] {
        assert_eq!(refusal(&policy, &mut caller), None);
        assert_eq!(caller.request.headers["x-told"], told);
    }
}

#[test]
fn basic_auth_asks_for_costly_checks_and_refuses_when_there_is_no_answer() {
    let policy = policy(&format!(
        "on_http_request: [{{actions: [{{type: basic-auth, config: {{credentials: ['user:{BCRYPT}']}}}}]}}]"
    ));
    let basic = |password: &str| caller(&format!("Basic {}", base64(&format!("user:{password}"))));

    assert!(matches!(checked(&policy, &mut basic("correct horse")), Outcome::Continue));
    assert_eq!(refusal(&policy, &mut basic("correct horse")), None); // it is known by then
    let Outcome::Refuse(refusal) = checked(&policy, &mut basic("correct hors")) else { panic!() };
    assert_eq!(refusal.status, 401);

    let mut run = policy.begin(REQUEST, adit_policy::engine::Carried::default());
    let mut busy = basic("battery staple");
    assert!(matches!(busy.step(&mut run), Step::Ask(Ask::Password { .. })));
    let Step::Done(Outcome::Refuse(refusal)) = busy.answer(&mut run, Some(Answer::Password(Err(Unavailable)))) else {
        panic!()
    };
    assert_eq!(
        (refusal.status, refusal.why, &refusal.headers["retry-after"]),
        (503, Why::Unavailable, &"1".parse().unwrap())
    );
}

#[test]
fn basic_auth_that_was_wrong_too_often_has_to_wait() {
    let policy =
        policy("on_http_request: [{actions: [{type: basic-auth, config: {credentials: ['user:password1']}}]}]");
    for _ in 0..10 {
        assert_eq!(refusal(&policy, &mut caller("Basic dXNlcjpwYXNzd29yZDI=")).unwrap().status, 401);
    }

    let mut right = caller("Basic dXNlcjpwYXNzd29yZDE=");
    let throttled = refusal(&policy, &mut right).unwrap();
    assert_eq!((throttled.status, throttled.why), (429, Why::Throttled));
    assert_eq!(throttled.headers["retry-after"], "6");
    assert_eq!(refusal(&policy, &mut caller("Basic dXNlcjpwYXNzd29yZDE=").from("198.51.100.1")), None);
}

#[test]
fn credentials_may_have_expressions() {
    let policy = policy(
        "
on_http_request:
  - actions: [{type: set-vars, config: {vars: [{secret: 'password9'}, {pair: 'bob:password8'}]}}]
  - actions: [{type: basic-auth, config: {credentials: ['ann:${vars.secret}', '${vars.pair}', '${req.method}']}}]
",
    );
    for (pair, passes) in [("ann:password9", true), ("bob:password8", true), ("ann:password8", false), ("GET:", false)]
    {
        let mut caller = caller(&format!("Basic {}", base64(pair)));
        assert_eq!(refusal(&policy, &mut caller).is_none(), passes, "{pair}");
    }
}

#[test]
fn a_bad_configuration_of_basic_auth_is_told_without_its_secrets() {
    for (config, told) in [
        ("{}", "no `credentials`. Add it"),
        ("{credentials: []}", "no credentials, so that nobody may call. Write `user:password`"),
        ("{credentials: }", "nothing where a list is asked for. Begin each element with a dash"),
        ("{credentials: [sesame]}", "no colon between user and password. Write `user:password` or `user:hash`"),
        (
            "{credentials: ['ann:sesame']}",
            "a password that has not from 8 to 128 octets. Write `user:password` or `user:hash`",
        ),
        (
            "{credentials: ['ann:$2b$31$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i']}",
            "a hash that costs more than is allowed: Argon2 up to m=131072, m times t 524288 and p=16, bcrypt up to 13. Write `user:password` or `user:hash`",
        ),
        ("{credentials: ['ann:password1'], realm: \"a\\nb\"}", "no realm. Write up to 128 characters of ASCII"),
        ("{credentials: ['ann:password1'], relm: a}", "unknown key. Did you mean `realm`?"),
    ] {
        let problems =
            Document::parse(&format!("on_http_request: [{{actions: [{{type: basic-auth, config: {config}}}]}}]"))
                .unwrap_err();
        let shown = problems[0].to_string();
        assert!(shown.ends_with(told), "{config}: {shown}");
        assert!(!shown.contains("sesame"), "{shown}");
    }
    let policy = policy(&format!(
        "on_http_request: [{{actions: [{{type: basic-auth, config: {{credentials: ['ann:sesame open', 'bob:{BCRYPT}', 'eve:sesame ${{req.method}}']}}}}]}}]"
    ));
    let shown = format!("{policy:?}");
    assert!(!shown.contains("sesame") && !shown.contains("$2b"), "{shown}");
}

fn base64(text: &str) -> String {
    let value =
        adit_policy::cel::Environment::standard().compile(&format!("base64.encode(b'{text}')")).expect("an expression");
    let value = value.evaluate(&Nothing, &mut adit_policy::cel::Budget::default()).expect("a value");
    value.as_str().expect("a text").into()
}

struct Nothing;

impl adit_policy::cel::Facts for Nothing {
    fn attribute(&self, _: adit_policy::cel::Attribute) -> Option<adit_policy::cel::Value<'_>> {
        None
    }
}

// jwt-validation

static SIGNER: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().expect("a key"));

const JWT: &str = "
on_http_request:
  - actions:
      - type: jwt-validation
        config:
          issuer: {allow_list: [{value: 'https://issuer.example'}]}
          audience: {allow_list: [{value: 'urn:api'}]}
          http: {tokens: [{type: access_token, method: header, name: Authorization, prefix: 'Bearer '}]}
          jws:
            allowed_algorithms: [RS256, EdDSA]
            keys: {sources: {additional_jkus: ['https://issuer.example/jku', 'https://${endpoint.host}/jku']}}
  - actions:
      - type: add-headers
        config: {headers: {x-user: '${actions.ngrok.jwt_validation.tokens[0].payload.sub}', x-place: '${actions.ngrok.jwt_validation.tokens[0].location_property}'}}
";

const CLAIMS: &str = r#"{"iss":"https://issuer.example","aud":"urn:api","sub":"ann","exp":1234567990}"#;

fn token(claims: &str) -> String {
    let url = |octets: &[u8]| {
        let escaped: String = octets.iter().map(|octet| format!("\\x{octet:02x}")).collect();
        base64(&escaped).trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    let signed = format!("{}.{}", url(br#"{"alg":"EdDSA","kid":"one"}"#), url(claims.as_bytes()));
    let signature = SIGNER.sign(signed.as_bytes());
    format!("{signed}.{}", url(signature.as_ref()))
}

fn keys(id: &str) -> Arc<KeySet> {
    let escaped: String = SIGNER.public_key().as_ref().iter().map(|octet| format!("\\x{octet:02x}")).collect();
    let x = base64(&escaped).trim_end_matches('=').replace('+', "-").replace('/', "_");
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}]}}"#);
    Arc::new(KeySet::parse(set.as_bytes()).expect("a set"))
}

/// What comes of a request when the keys are those of `known`, and after that, fresh ones, those of `fresh`; and how often they were asked for.
fn validated(policy: &Arc<Policy>, caller: &mut Caller, known: Option<&str>, fresh: Option<&str>) -> (Outcome, usize) {
    let mut run = policy.begin(REQUEST, adit_policy::engine::Carried::default());
    let mut step = caller.step(&mut run);
    let mut asked = 0;
    loop {
        step = match step {
            Step::Done(outcome) => return (outcome, asked),
            Step::Ask(Ask::Keys { urls, fresh: again }) => {
                assert_eq!(urls, ["https://issuer.example/jku", "https://a.example/jku"]);
                assert_eq!(again, asked > 0);
                asked += 1;
                let id = if again { fresh } else { known };
                let keys = id.map(|id| Keys { sets: vec![keys(id)], fresh: again }).ok_or(Unavailable);
                caller.answer(&mut run, Some(Answer::Keys(keys)))
            }
            Step::Ask(Ask::Body { most }) => {
                assert_eq!(most, 1 << 20);
                let body = format!("a=b&_id_token={}", token(CLAIMS));
                caller.answer(&mut run, Some(Answer::Body(Some(body.into()))))
            }
            Step::Ask(other) => panic!("{other:?}"),
        };
    }
}

fn refused(outcome: Outcome) -> (u16, String) {
    let Outcome::Refuse(refusal) = outcome else { panic!("{outcome:?}") };
    let header = |name| refusal.headers.get(name).map(|value| value.to_str().expect("ASCII").to_owned());
    (refusal.status, header("www-authenticate").or_else(|| header("retry-after")).expect("one of them"))
}

#[test]
fn jwt_validation_lets_a_token_pass_and_tells_what_is_in_it() {
    let policy = policy(JWT);
    for prefix in ["Bearer ", "bearer "] {
        let mut caller = caller(&format!("{prefix}{}", token(CLAIMS)));

        let (outcome, asked) = validated(&policy, &mut caller, Some("one"), None);

        assert!(matches!(outcome, Outcome::Continue), "{outcome:?}");
        assert_eq!(asked, 1);
        assert_eq!(
            (&caller.request.headers["x-user"], &caller.request.headers["x-place"]),
            (&"ann".parse().unwrap(), &"Authorization".parse().unwrap())
        );
    }
}

#[test]
fn jwt_validation_asks_again_once_for_a_key_that_is_not_known() {
    let policy = policy(JWT);
    let with = || caller(&format!("Bearer {}", token(CLAIMS)));

    let (outcome, asked) = validated(&policy, &mut with(), Some("old"), Some("one"));
    assert!(matches!(outcome, Outcome::Continue));
    assert_eq!(asked, 2);
    let (outcome, asked) = validated(&policy, &mut with(), Some("old"), Some("older"));
    assert_eq!((refused(outcome), asked), ((401, r#"Bearer error="invalid_token""#.into()), 2));
}

#[test]
fn jwt_validation_refuses_without_keys_and_asks_for_none_when_none_would_help() {
    let policy = policy(JWT);
    let good = token(CLAIMS);
    let invalid = (401, r#"Bearer error="invalid_token""#.to_owned());
    let missing = (401, "Bearer".to_owned());

    let (outcome, asked) = validated(&policy, &mut caller(&format!("Bearer {good}")), None, None);
    assert_eq!((refused(outcome), asked), ((503, "60".into()), 1));
    for (mut caller, told) in [
        (Caller::new("GET", "https://a.example/"), missing.clone()),
        (caller("Bearer "), invalid.clone()),
        (caller(&good), missing.clone()),
        (caller(&format!("Basic {good}")), missing.clone()),
        (caller(&format!("Bearer {good}")).header("authorization", &format!("Bearer {good}")), missing),
        (caller("Bearer eyJhbGciOiJub25lIn0.e30."), invalid.clone()),
        (caller(&format!("Bearer  {good}")), invalid.clone()),
    ] {
        let (outcome, asked) = validated(&policy, &mut caller, Some("one"), None);
        assert_eq!((refused(outcome), asked), (told, 0));
    }
    for claims in [
        CLAIMS.replace("urn:api", "urn:apis"),
        CLAIMS.replace("1234567990", "1234567860"),
        CLAIMS.replace("1234567990", "\"x\""),
    ] {
        let (outcome, asked) =
            validated(&policy, &mut caller(&format!("Bearer {}", token(&claims))), Some("one"), None);
        assert_eq!((refused(outcome), asked), (invalid.clone(), 1), "{claims}");
    }
}

#[test]
fn every_token_that_is_named_must_be_there_and_right_also_one_in_the_body() {
    let both = JWT.replace("prefix: 'Bearer '}]", "prefix: 'Bearer '}, {type: jwt, method: body, name: _ID_token}]");
    let policy = policy(&both);
    let form = "application/x-www-form-urlencoded; charset=utf-8";

    let mut right = caller(&format!("Bearer {}", token(CLAIMS))).header("content-type", form);
    assert!(matches!(validated(&policy, &mut right, Some("one"), None), (Outcome::Continue, 1)));
    let mut only_body = Caller::new("POST", "https://a.example/").header("content-type", form);
    assert_eq!(refused(validated(&policy, &mut only_body, Some("one"), None).0).0, 401);
    let mut other_type = caller(&format!("Bearer {}", token(CLAIMS))).header("content-type", "text/plain");
    assert_eq!(refused(validated(&policy, &mut other_type, Some("one"), None).0).0, 401);
}

#[test]
fn a_field_of_the_body_is_found_in_whatever_case_and_there_is_one_alone() {
    let policy =
        policy(&JWT.replace("method: header, name: Authorization, prefix: 'Bearer '", "method: body, name: ID_token"));
    let token = token(CLAIMS);
    for (kind, body, passes) in [
        ("application/json", format!(r#"{{"id_TOKEN": "{token}"}}"#), true),
        ("application/json", format!(r#"{{"id_TOKEN": "{token}", "ID_token": "{token}"}}"#), false),
        ("application/json", r#"{"id_TOKEN": 7}"#.into(), false),
        ("application/x-www-form-urlencoded", format!("id_TOKEN={token}"), true),
        ("application/x-www-form-urlencoded", format!("id_TOKEN={token}&ID_token={token}"), false),
    ] {
        let mut caller = Caller::new("POST", "https://a.example/").header("content-type", kind);
        let mut run = policy.begin(REQUEST, adit_policy::engine::Carried::default());
        let mut step = caller.step(&mut run);
        let outcome = loop {
            let answer = match step {
                Step::Done(outcome) => break outcome,
                Step::Ask(Ask::Body { .. }) => Answer::Body(Some(body.clone().into())),
                Step::Ask(Ask::Keys { .. }) => Answer::Keys(Ok(Keys { sets: vec![keys("one")], fresh: false })),
                Step::Ask(other) => panic!("{other:?}"),
            };
            step = caller.answer(&mut run, Some(answer));
        };
        assert_eq!(matches!(outcome, Outcome::Continue), passes, "{kind} {body}");
    }
}

#[test]
fn keys_are_asked_for_over_https_alone() {
    for url in ["${endpoint.host}/jku", "https://x@${endpoint.host}/jku", "http://${endpoint.host}/jku"] {
        let policy = policy(&JWT.replace("https://${endpoint.host}/jku", url));
        let mut caller = caller(&format!("Bearer {}", token(CLAIMS)));
        let (outcome, asked) = validated(&policy, &mut caller, Some("one"), None);
        assert_eq!((refused(outcome), asked), ((503, "60".into()), 0), "{url}");
    }
}

#[test]
fn a_bad_configuration_of_jwt_validation_is_told() {
    for (from, to, told) in [
        (
            "[{value: 'https://issuer.example'}]",
            "[]",
            "issuer.allow_list: an empty list. Write one element at the least",
        ),
        (
            "{value: 'urn:api'}",
            "urn:api",
            "audience.allow_list[0]: a string where a map is asked for. Write `key: value` below it, indented",
        ),
        (
            "'urn:api'",
            "'${req.method}'",
            "audience: an audience with an expression in it. Write it as it is in the token",
        ),
        (
            "RS256",
            "HS256",
            "jws.allowed_algorithms[0]: `HS256` is checked by the secret that signs, which no set of public keys may have. Let the issuer sign by `RS256`, `ES256` or `EdDSA`",
        ),
        (
            "RS256",
            "none",
            "jws.allowed_algorithms[0]: `none` is none of those that there are. There is `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`, `Ed25519`",
        ),
        (
            "'https://issuer.example/jku'",
            "'http://issuer.example/jku'",
            "additional_jkus[0]: no address of https. Write `https://issuer.example/jwks.json`: who could change the keys on their way could sign",
        ),
        (
            "'https://issuer.example/jku'",
            "'https://user@issuer.example/jku'",
            "additional_jkus[0]: no address of https. Write `https://issuer.example/jwks.json`: who could change the keys on their way could sign",
        ),
        (
            "method: header",
            "method: query",
            "http.tokens[0].method: `query` is none of those that there are. There is `header`, `body`",
        ),
        (
            "name: Authorization",
            "name: 'a b'",
            "http.tokens[0].name: no name of a header. Write it as in `Authorization`",
        ),
        ("type: access_token, ", "", "http.tokens[0]: no `type`. Add it"),
        ("issuer: {", "isuer: {", "unknown key. Did you mean `issuer`?"),
    ] {
        let problems = Document::parse(&JWT.replacen(from, to, 1)).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().ends_with(told)), "{to}: {problems:?}");
    }
    let more = JWT.replace("{sources:", "{identification: {token_claims: [kid]}, sources:");
    assert!(Document::parse(&more).is_ok());
}

// verify-webhook

const WEBHOOK: &str = "
on_http_request:
  - actions:
      - type: verify-webhook
        config: {provider: github, secret: \"It's a Secret to Everybody\"}
  - actions: [{type: add-headers, config: {headers: {x-verified: '${string(actions.ngrok.verify_webhook.verified)} ${actions.ngrok.verify_webhook.error.code}'}}}]
";

const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn signed() -> Caller {
    Caller::new("POST", "https://a.example/").header("x-hub-signature-256", SIGNATURE)
}

/// What comes of a call with this body; nothing when it is too large.
fn called(policy: &Arc<Policy>, caller: &mut Caller, body: Option<&str>) -> Outcome {
    let mut run = policy.begin(REQUEST, adit_policy::engine::Carried::default());
    let mut step = caller.step(&mut run);
    let mut asked = 0;
    loop {
        step = match step {
            Step::Done(outcome) => return outcome,
            Step::Ask(Ask::Body { most: 0x10_0000 }) if asked == 0 => {
                asked += 1;
                caller.answer(&mut run, Some(Answer::Body(body.map(Into::into))))
            }
            Step::Ask(other) => panic!("{other:?}"),
        };
    }
}

#[test]
fn verify_webhook_lets_a_signed_call_pass_and_tells_it() {
    let mut caller = signed();

    assert!(matches!(called(&policy(WEBHOOK), &mut caller, Some("Hello, World!")), Outcome::Continue));
    assert_eq!(caller.request.headers["x-verified"], "true ");
}

#[test]
fn verify_webhook_refuses_what_is_not_signed_and_what_is_too_large() {
    let policy = policy(WEBHOOK);
    for (mut caller, body, status) in [
        (signed(), Some("Hello, World?"), 403),
        (signed(), Some(""), 403),
        (signed(), None, 413),
        (signed().header("x-hub-signature-256", SIGNATURE), Some("Hello, World!"), 403),
        (Caller::new("POST", "https://a.example/"), Some("Hello, World!"), 403),
        (Caller::new("GET", "https://a.example/"), Some(""), 403),
    ] {
        let Outcome::Refuse(refusal) = called(&policy, &mut caller, body) else { panic!("{body:?}") };
        assert_eq!((refusal.status, refusal.why), (status, Why::Unknown), "{body:?}");
    }
}

#[test]
fn verify_webhook_that_is_not_enforced_tells_what_it_found() {
    let policy = policy(&WEBHOOK.replace("{provider", "{enforce: false, provider"));
    for (body, told) in
        [(Some("Hello, World!"), "true "), (Some("x"), "false signature_refused"), (None, "false body_too_large")]
    {
        let mut caller = signed();
        assert!(matches!(called(&policy, &mut caller, body), Outcome::Continue));
        assert_eq!(caller.request.headers["x-verified"], told);
    }
}

#[test]
fn two_webhooks_may_be_tried_and_the_body_is_asked_for_once() {
    let policy = policy(&WEBHOOK.replace("      - type: verify", "      - {type: verify-webhook, config: {enforce: false, provider: slack, secret: another}}\n      - type: verify"));

    assert!(matches!(called(&policy, &mut signed(), Some("Hello, World!")), Outcome::Continue));
}

#[test]
fn a_secret_may_have_an_expression_and_is_checked_when_it_is_known() {
    let with = |provider: &str, secret: &str| {
        policy(&format!(
            "on_http_request: [{{actions: [{{type: set-vars, config: {{vars: [{{key: \"{secret}\"}}]}}}}, {{type: verify-webhook, config: {{provider: {provider}, secret: '${{vars.key}}'}}}}]}}]"
        ))
    };

    assert!(matches!(
        called(&with("github", "It's a Secret to Everybody"), &mut signed(), Some("Hello, World!")),
        Outcome::Continue
    ));
    for (provider, secret) in [("github", ""), ("github", "x"), ("svix", "no base64")] {
        assert!(
            matches!(called(&with(provider, secret), &mut signed(), Some("Hello, World!")), Outcome::Refuse(_)),
            "{secret}"
        );
    }
}

#[test]
fn a_bad_configuration_of_verify_webhook_is_told_without_its_secret() {
    for (config, told) in [
        ("{provider: github}", "no `secret`. Add it"),
        ("{secret: sesame}", "no `provider`. Add it"),
        ("{provider: gihub, secret: sesame}", "unknown service. Did you mean `github`?"),
        ("{provider: sns, secret: sesame}", "`sns` is not available yet. docs/policy.md has those that there are"),
        (
            "{provider: svix, secret: 'se same'}",
            "no secret of the form that `svix` gives out. Copy it from where the service shows it",
        ),
        (
            "{provider: github, secret: ''}",
            "no secret of the form that `github` gives out. Copy it from where the service shows it",
        ),
    ] {
        let problems =
            Document::parse(&format!("on_http_request: [{{actions: [{{type: verify-webhook, config: {config}}}]}}]"))
                .unwrap_err();
        let shown = problems[0].to_string();
        assert!(shown.ends_with(told), "{config}: {shown}");
        assert!(!shown.contains("same"), "{shown}");
    }
    let policy = policy(
        "on_http_request: [{actions: [{type: verify-webhook, config: {provider: github, secret: sesame}}, {type: verify-webhook, config: {provider: github, secret: 'sesame ${req.method}'}}]}]",
    );
    let shown = format!("{policy:?}");
    assert!(!shown.contains("sesame"), "{shown}");
}

#[test]
fn a_question_that_is_not_signed_is_not_answered() {
    let policy = policy(&WEBHOOK.replace("github", "zoom"));
    let asked = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"transfer everything"}}"#;
    let outcome = called(&policy, &mut Caller::new("POST", "https://a.example/"), Some(asked));
    assert!(matches!(outcome, Outcome::Refuse(_)), "{outcome:?}");
}
