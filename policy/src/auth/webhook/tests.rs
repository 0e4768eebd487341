use http::{HeaderName, HeaderValue, header};
use proptest::prelude::*;

use super::*;

/// A call with its signature, made elsewhere.
#[derive(Clone, Debug, serde::Deserialize)]
struct Vector {
    provider: String,
    secret: String,
    method: String,
    url: String,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
    time: i64,
    by: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../../tests/vectors/webhooks.json")).unwrap()
}

impl Vector {
    fn headers(&self) -> HeaderMap {
        let pair = |(name, value): (&String, &String)| {
            (HeaderName::try_from(name.as_str()).unwrap(), HeaderValue::try_from(value.as_str()).unwrap())
        };
        self.headers.iter().map(pair).collect()
    }

    fn scheme(&self) -> &'static Scheme {
        Scheme::named(&self.provider).unwrap_or_else(|| panic!("{}", self.provider))
    }

    fn check_at(&self, headers: &HeaderMap, body: &str, seconds: i64) -> Result<(), Refused> {
        let call = Call { method: &self.method, url: &self.url, headers, body: body.as_bytes() };
        let now = Timestamp::new(seconds, 0).unwrap();
        self.scheme().verify(&Secret::new(self.secret.as_bytes()), &call, now)
    }

    fn check(&self) -> Result<(), Refused> {
        self.check_at(&self.headers(), &self.body, self.time)
    }
}

fn of(provider: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.provider == provider).unwrap()
}

#[test]
fn each_service_has_a_call_that_passes() {
    let vectors = vectors();

    for vector in &vectors {
        assert_eq!(vector.check(), Ok(()), "{} by {}", vector.provider, vector.by);
    }
    for scheme in SCHEMES {
        assert!(vectors.iter().any(|vector| vector.provider == scheme.name), "{}", scheme.name);
        assert!(!OTHERS.contains(&scheme.name));
    }
    assert!(SCHEMES.is_sorted_by_key(|scheme| scheme.name));
}

#[test]
fn a_changed_body_url_secret_or_signature_is_refused() {
    for vector in vectors() {
        let changed = |change: fn(&mut Vector)| {
            let mut vector = vector.clone();
            change(&mut vector);
            vector.check()
        };
        let signs = |part: fn(&Part) -> bool| vector.scheme().signed.iter().any(part);
        let name = &vector.provider;
        let body = changed(|it| {
            it.body = if it.body.is_empty() { "x".into() } else { it.body.replacen(['e', 'E', 'T'], "x", 1) }
        });
        assert_eq!(body.is_err(), !vector.scheme().signed.is_empty(), "{name}: {body:?}");
        let url = changed(|it| it.url = it.url.replacen("https", "http", 1));
        assert_eq!(url.is_err(), signs(|it| matches!(it, Part::Url | Part::ReadUrl | Part::Sorted)), "{name}");
        assert!(changed(|it| it.secret = format!("x{}", it.secret)).is_err(), "{name}");
        for header in vector.headers.keys() {
            let others = ["content-type", "x-pusher-key", "x-gcs-keyid"];
            if others.contains(&&*header.to_ascii_lowercase()) {
                continue;
            }
            let without = vector.headers().into_iter().filter_map(|(name, value)| Some((name?, value)));
            let without = without.filter(|(name, _)| !name.as_str().eq_ignore_ascii_case(header)).collect();
            assert_eq!(vector.check_at(&without, &vector.body, vector.time), Err(Refused::Missing), "{name}: {header}");
            let mut twice = vector.headers();
            let value = twice[header.as_str()].clone();
            twice.append(HeaderName::try_from(header.as_str()).unwrap(), value);
            assert_eq!(vector.check_at(&twice, &vector.body, vector.time), Err(Refused::Form), "{name}: {header}");
        }
    }
}

#[test]
fn what_mailgun_signs_is_its_time_and_token() {
    let vector = of("mailgun");
    for (from, to, why) in [
        ("0123abcd", "0123abce", Refused::Signature),
        ("\"token\"", "\"taken\"", Refused::Missing),
        ("\"signature\": {", "\"signed\": {", Refused::Missing),
        ("\"1700000000\"", "\"1700000301\"", Refused::Time),
        ("{\"event\"", "{\"event\":1,\"event\"", Refused::Form),
    ] {
        assert_eq!(
            vector.check_at(&vector.headers(), &vector.body.replacen(from, to, 1), vector.time),
            Err(why),
            "{from}"
        );
    }
}

#[test]
fn a_call_whose_time_is_signed_is_right_for_the_tolerance_and_not_a_second_more() {
    for vector in vectors() {
        let at = |seconds| vector.check_at(&vector.headers(), &vector.body, seconds);
        match vector.scheme().time {
            Time::None => assert_eq!(at(0), Ok(()), "{}", vector.provider),
            Time::Header(_, _, 600) => {
                assert_eq!((at(vector.time), at(vector.time + 1)), (Ok(()), Err(Refused::Time)));
            }
            Time::Header(..) | Time::Listed(..) | Time::Inner => {
                for (seconds, outcome) in
                    [(300, Ok(())), (-300, Ok(())), (301, Err(Refused::Time)), (-301, Err(Refused::Time))]
                {
                    assert_eq!(at(vector.time + seconds), outcome, "{} {seconds}", vector.provider);
                }
            }
        }
    }
}

#[test]
fn times_and_signatures_are_read_by_the_letter() {
    let stripe = of("stripe");
    let with = |provider: &Vector, header: &'static str, value: &str| {
        let mut headers = provider.headers();
        headers.insert(header, HeaderValue::try_from(value).unwrap());
        provider.check_at(&headers, &provider.body, provider.time)
    };
    let good = &stripe.headers["Stripe-Signature"];
    for (value, why) in [
        (good.replace("t=1700000000", "t=+1700000000"), Refused::Form),
        (good.replace("t=1700000000", "t="), Refused::Form),
        (good.replace("t=1700000000,", ""), Refused::Form),
        (good.replace("t=1700000000", "t=1700000000,t=1700000000"), Refused::Form),
        (good.replace("t=1700000000", "t=99999999999999999999"), Refused::Form),
        (good.replace("t=1700000000", "t=1700000001"), Refused::Signature),
        (good.replace("v1=", "v0="), Refused::Form),
        (good.replace("v1=", "V1="), Refused::Form),
        (format!("{good}{}", ",v1=00".repeat(7)), Refused::Form),
        (String::new(), Refused::Form),
    ] {
        assert_eq!(with(&stripe, "stripe-signature", &value), Err(why), "{value}");
    }
    let github = of("github");
    let good = &github.headers["X-Hub-Signature-256"];
    assert_eq!(with(&github, "x-hub-signature-256", &good.to_uppercase().replace("SHA256", "sha256")), Ok(()));
    for (value, why) in [
        (good.replace("sha256=", ""), Refused::Form),
        (good.replace("sha256=", "sha1="), Refused::Form),
        (good[..good.len() - 2].to_owned(), Refused::Signature),
        (format!("{good}00"), Refused::Signature),
        ("sha256=".into(), Refused::Signature),
    ] {
        assert_eq!(with(&github, "x-hub-signature-256", &value), Err(why), "{value}");
    }
}

#[test]
fn a_secret_is_of_the_form_of_its_service() {
    let takes = |name: &str, secret: &str| Scheme::named(name).unwrap().takes(&Secret::new(secret.as_bytes()));
    for vector in vectors() {
        assert!(takes(&vector.provider, &vector.secret), "{}", vector.provider);
        assert!(!takes(&vector.provider, ""), "{}", vector.provider);
    }
    for (name, secret) in
        [("svix", "whsec_"), ("svix", "no base64!"), ("discord", "00"), ("sendgrid", "AAAA"), ("microsoft_teams", "x")]
    {
        assert!(!takes(name, secret), "{name}");
        let vector = Vector { secret: secret.into(), ..of(name) };
        assert_eq!(vector.check(), Err(Refused::Secret));
    }
}

#[test]
fn twilio_names_another_body_by_its_hash() {
    let vector = vectors().into_iter().filter(|vector| vector.provider == "twilio").nth(1).unwrap();

    assert_eq!(vector.check(), Ok(()));
    let mut form = vector.headers();
    form.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    for (headers, body) in [(vector.headers(), "{}"), (vector.headers(), ""), (form.clone(), ""), (form, "a=b")] {
        assert_eq!(vector.check_at(&headers, body, vector.time), Err(Refused::Signature), "{body}");
    }
    let without = Vector { url: vector.url.replace("bodySHA256", "other"), ..vector };
    assert_eq!(without.check(), Err(Refused::Form));
}

#[test]
fn docusign_signs_with_each_key_that_is_in_use() {
    let vector = of("docusign");
    let with = |signatures: &[(u8, &str)]| {
        let mut headers = HeaderMap::new();
        for (number, signature) in signatures {
            let name = HeaderName::try_from(format!("x-docusign-signature-{number}")).unwrap();
            headers.append(name, signature.parse().unwrap());
        }
        vector.check_at(&headers, &vector.body, vector.time)
    };
    let good = &*vector.headers["X-DocuSign-Signature-1"];

    assert_eq!(with(&[(1, "AAAA"), (2, good)]), Ok(()));
    assert_eq!(with(&[(2, good)]), Err(Refused::Missing));
    assert_eq!(with(&[(1, "AAAA"), (2, "AAAA"), (4, good)]), Err(Refused::Signature));
    assert_eq!(with(&[(1, "AAAA"), (2, good), (2, good)]), Err(Refused::Form));
}

#[test]
fn what_plivo_does_not_sign_is_refused() {
    let vector = vectors().into_iter().find(|vector| vector.provider == "plivo" && vector.url.contains('?')).unwrap();
    let mut headers = vector.headers();
    headers.insert("content-type", HeaderValue::from_static("application/json"));

    assert_eq!(vector.check_at(&headers, &vector.body, vector.time), Err(Refused::Form));
    // The order in which the query and the fields came does not matter, what is in them does.
    let other = Vector { url: "https://a.example/hooks?b=2&x=1".into(), ..vector.clone() };
    assert_eq!(other.check(), Ok(()));
    let other = Vector { url: "https://a.example/hooks?b=2&x=2".into(), ..vector };
    assert_eq!(other.check(), Err(Refused::Signature));
}

#[test]
fn contentful_signs_the_list_of_what_it_signs() {
    let vector = of("contentful");
    let list = &vector.headers["x-contentful-signed-headers"];
    for (list, why) in [
        (list.replace("content-type,", ""), Refused::Signature),
        (list.replace("x-contentful-timestamp,", ""), Refused::Form),
        (list.replace("x-contentful-signed-headers,", ""), Refused::Form),
        (list.replace("content-type", "x-none"), Refused::Missing),
        (format!("{list}{}", ",content-type".repeat(64)), Refused::Form),
    ] {
        let mut headers = vector.headers();
        headers.insert("x-contentful-signed-headers", list.parse().unwrap());
        assert_eq!(vector.check_at(&headers, &vector.body, vector.time), Err(why), "{list}");
    }
    for url in ["https://a.example/hooks?x=1&y=y", "https://a.example/hook?x=1&y=z", "https://a.example/hooks"] {
        assert_eq!(Vector { url: url.into(), ..vector.clone() }.check(), Err(Refused::Signature), "{url}");
    }
    assert_eq!(Vector { method: "PUT".into(), ..vector }.check(), Err(Refused::Signature));
}

#[test]
fn workspace_one_shows_its_user_and_password() {
    let vector = of("vmware");
    for secret in ["ann:the password", "::the password", "ann::", "a:nn::the password"] {
        assert_eq!(Vector { secret: secret.into(), ..vector.clone() }.check(), Err(Refused::Secret), "{secret}");
    }
    for secret in ["bob::the password", "ann::another", "ann::the password "] {
        assert_eq!(Vector { secret: secret.into(), ..vector.clone() }.check(), Err(Refused::Signature), "{secret}");
    }
}

#[test]
fn who_asks_whether_the_secret_is_known_is_answered() {
    let ask = |name: &str, method: &str, headers: &HeaderMap, body: &str, verified: bool| {
        let call = Call { method, url: "https://a.example/", headers, body: body.as_bytes() };
        Scheme::named(name).unwrap().challenge(&Secret::new(*b"secret"), &call, verified)
    };
    let answer = |name: &str, method: &str, headers: &HeaderMap, body: &str| ask(name, method, headers, body, true);
    let none = HeaderMap::new();
    let asked = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"q\"w"}}"#;
    let made = r#"{"plainToken":"q\"w","encryptedToken":"@"}"#;
    let mac = hex(&Hash::Sha256.sign(b"secret", b"q\"w"));

    assert_eq!(answer("zoom", "POST", &none, asked), Some(("application/json", made.replace('@', &mac))));
    assert_eq!(answer("zoom", "POST", &none, &asked.replace("endpoint.url", "meeting")), None);
    assert_eq!(answer("zoom", "POST", &none, "x"), None);
    for method in ["POST", "GET"] {
        assert_eq!(ask("zoom", method, &none, asked, false), None); // else anybody could have a text signed
    }
    let mut headers = HeaderMap::new();
    headers.insert("x-gcs-webhooks-endpoint-verification", HeaderValue::from_static("abc"));
    assert_eq!(answer("worldline", "GET", &headers, ""), Some(("text/plain; charset=utf-8", "abc".into())));
    assert_eq!(answer("worldline", "POST", &headers, ""), None);
    assert_eq!(answer("github", "GET", &headers, asked), None);
}

proptest! {
    /// No call passes but the one that was signed, and nothing panics.
    #[test]
    fn nothing_else_passes(at in 0..1_000_usize, body in ".{0,40}", value in "[ -~]{0,80}") {
        let vectors = vectors();
        let vector = &vectors[at % vectors.len()];
        let mut headers = vector.headers();
        for name in vector.headers.keys() {
            headers.insert(HeaderName::try_from(name.as_str()).unwrap(), HeaderValue::try_from(value.as_str()).unwrap());
        }
        if value != vector.secret {
            prop_assert!(vector.headers.is_empty() || vector.check_at(&headers, &vector.body, vector.time).is_err());
        }
        let unsigned = vector.scheme().signed.is_empty();
        let passes = vector.check_at(&vector.headers(), &body, vector.time).is_ok();
        prop_assert!(!passes || unsigned || body == vector.body);
    }
}
