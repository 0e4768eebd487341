use core::time::Duration;
use std::{sync::LazyLock, time::Instant};

use aws_lc_rs::hmac;
use proptest::prelude::*;

use super::{
    testing::{Signer, set, url},
    *,
};

const NOW: i64 = 1_800_000_000;
const CLAIMS: &str = r#"{"iss":"https://issuer.example","aud":"api","sub":"ann","exp":1800000300}"#;

/// Made once: an RSA key takes a while.
struct Issuer {
    rsa: Signer,
    p256: Signer,
    edwards: Signer,
    keys: Vec<Arc<KeySet>>,
}

static ISSUER: LazyLock<Issuer> = LazyLock::new(|| {
    let (rsa, p256, edwards) = (Signer::rsa(), Signer::curve("P-256"), Signer::edwards());
    let keys = [
        rsa.public(r#""kid":"r""#),
        p256.public(r#""kid":"e","alg":"ES256","use":"sig""#),
        edwards.public(r#""kid":"d""#),
    ];
    let keys = vec![Arc::new(KeySet::parse(set(&keys).as_bytes()).unwrap())];
    Issuer { rsa, p256, edwards, keys }
});

fn rules() -> Rules {
    use Algorithm::*;
    Rules {
        issuers: vec!["https://other.example".into(), "https://issuer.example".into()],
        audiences: vec!["web".into(), "api".into()],
        algorithms: vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512, Es256, EdDsa],
    }
}

fn check_with(rules: &Rules, keys: &[Arc<KeySet>], token: &str) -> Result<Token, Refused> {
    let now = Timestamp::new(NOW, 0).unwrap();
    Unverified::read(token, Kind::Any, rules)?.verify(rules, keys, now)
}

fn check(token: &str) -> Result<Token, Refused> {
    check_with(&rules(), &ISSUER.keys, token)
}

/// What comes of claims that are signed as they should be.
fn claims(claims: &str) -> Result<(), Refused> {
    check(&ISSUER.p256.token(r#"{"alg":"ES256","kid":"e"}"#, claims)).map(drop)
}

#[test]
fn a_token_of_each_algorithm_passes_and_is_told() {
    let issuer = &*ISSUER;
    for (signer, header) in [
        (&issuer.rsa, r#"{"alg":"RS256","kid":"r","typ":"JWT"}"#),
        (&issuer.rsa, r#"{"alg":"RS384","kid":"r","typ":"at+jwt"}"#),
        (&issuer.rsa, r#"{"alg":"RS512","kid":"r"}"#),
        (&issuer.rsa, r#"{"alg":"PS256","kid":"r","typ":"application/at+JWT"}"#),
        (&issuer.rsa, r#"{"alg":"PS384"}"#),
        (&issuer.rsa, r#"{"alg":"PS512","kid":"r"}"#),
        (&issuer.p256, r#"{"alg":"ES256","kid":"e"}"#),
        (&issuer.p256, r#"{"alg":"ES256"}"#),
        (&issuer.edwards, r#"{"alg":"EdDSA","kid":"d"}"#),
        (&issuer.edwards, r#"{"alg":"Ed25519","kid":"d"}"#),
    ] {
        let token = check(&signer.token(header, CLAIMS));
        assert!(token.is_ok(), "{header}: {token:?}");
        let Value::Map(payload) = token.unwrap().payload else { panic!() };
        assert_eq!(payload.get(&"sub".into()), Some(Value::from("ann")));
    }
    for (name, algorithm, header) in
        [("P-384", Algorithm::Es384, r#"{"alg":"ES384"}"#), ("P-521", Algorithm::Es512, r#"{"alg":"ES512"}"#)]
    {
        let signer = Signer::curve(name);
        let keys = [Arc::new(KeySet::parse(set(&[signer.public("")]).as_bytes()).unwrap())];
        let rules = Rules { algorithms: vec![algorithm], ..rules() };
        assert!(check_with(&rules, &keys, &signer.token(header, CLAIMS)).is_ok(), "{name}");
    }
}

#[test]
fn the_example_of_rfc_8037_is_signed_by_its_key() {
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let keys = KeySet::parse(set(&[key.into()]).as_bytes()).unwrap();
    let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let signature = Base64::Url.decode(signature.as_bytes()).unwrap();

    let key = keys.candidates(None, Algorithm::EdDsa).next().unwrap();
    assert!(key.signed(Algorithm::EdDsa, message, &signature));
    assert!(!key.signed(Algorithm::EdDsa, &message[1..], &signature));
}

/// The public key of the issuer as a secret, and other ways in which a token would choose how it is checked.
#[test]
fn sixteen_hostile_tokens_are_refused() {
    let issuer = &*ISSUER;
    let mallory = Signer::curve("P-256");
    let good = issuer.p256.token(r#"{"alg":"ES256","kid":"e"}"#, CLAIMS);
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = |header: &str| format!("{}.{}.", url(header.as_bytes()), url(CLAIMS.as_bytes()));
    let mac = |secret: &[u8]| {
        let signed = format!("{}.{}", url(br#"{"alg":"HS256","kid":"r"}"#), url(CLAIMS.as_bytes()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", url(tag.as_ref()))
    };
    let embedded = format!(r#"{{"alg":"ES256","jwk":{}}}"#, mallory.public(""));
    let signed_by_mallory = |header: &str| mallory.token(header, CLAIMS);
    let forged = |signature: &[u8]| format!("{}.{}.{}", parts[0], parts[1], url(signature));
    let other = url(CLAIMS.replace("ann", "eve").as_bytes());
    let hostile = [
        ("none", unsigned(r#"{"alg":"none"}"#), Refused::Algorithm),
        ("none in another spelling", unsigned(r#"{"alg":"nOnE","kid":"e"}"#), Refused::Algorithm),
        ("no algorithm", unsigned(r#"{"kid":"e"}"#), Refused::Algorithm),
        ("the public key as a secret", mac(issuer.rsa.public(r#""kid":"r""#).as_bytes()), Refused::Algorithm),
        ("a key that it brings", signed_by_mallory(&embedded), Refused::Key),
        (
            "an address of keys",
            signed_by_mallory(r#"{"alg":"ES256","kid":"m","jku":"https://evil.example/keys"}"#),
            Refused::Key,
        ),
        (
            "an address of a certificate",
            signed_by_mallory(r#"{"alg":"ES256","kid":"e","x5u":"https://evil.example/c"}"#),
            Refused::Signature,
        ),
        ("the identity of a file", signed_by_mallory(r#"{"alg":"ES256","kid":"../../../../dev/null"}"#), Refused::Key),
        ("the identity of a query", signed_by_mallory(r#"{"alg":"ES256","kid":"x' UNION SELECT 'key"}"#), Refused::Key),
        (
            "an extension",
            issuer.p256.token(r#"{"alg":"ES256","kid":"e","crit":["exp"],"exp":1}"#, CLAIMS),
            Refused::Critical,
        ),
        ("a signature of zeros", forged(&[0; 64]), Refused::Signature),
        ("no signature", forged(&[]), Refused::Signature),
        ("a signature for other claims", format!("{}.{other}.{}", parts[0], parts[2]), Refused::Signature),
        ("a key of another kind", issuer.p256.token(r#"{"alg":"RS256","kid":"e"}"#, CLAIMS), Refused::Key),
        (
            "an end that is a text",
            issuer.p256.token(r#"{"alg":"ES256","kid":"e"}"#, &CLAIMS.replace("1800000300", r#""never""#)),
            Refused::Claim("exp"),
        ),
        ("two algorithms", issuer.p256.token(r#"{"alg":"ES256","alg":"none","kid":"e"}"#, CLAIMS), Refused::Form),
    ];

    assert_eq!(check(&good).map(drop), Ok(()));
    assert_eq!(hostile.len(), 16);
    for (what, token, why) in hostile {
        assert_eq!(check(&token), Err(why), "{what}");
    }
}

#[test]
fn claims_are_read_by_their_types_and_compared_whole() {
    let with = |from: &str, to: &str| claims(&CLAIMS.replace(from, to));
    let without = |claim: &str| claims(&CLAIMS.replace(claim, "\"x\":0"));
    assert_eq!(claims(CLAIMS), Ok(()));

    assert_eq!(without(r#""iss":"https://issuer.example""#), Err(Refused::Issuer));
    for issuer in [
        "https://issuer.example/",
        "https://issuer.exampl",
        "HTTPS://issuer.example",
        "https://issuer.example\\u0000",
        "",
    ] {
        assert_eq!(with("https://issuer.example", issuer), Err(Refused::Issuer), "{issuer}");
    }
    assert_eq!(with(r#""https://issuer.example""#, r#"["https://issuer.example"]"#), Err(Refused::Claim("iss")));
    assert_eq!(with(r#""https://issuer.example""#, "null"), Err(Refused::Claim("iss")));

    assert_eq!(without(r#""aud":"api""#), Err(Refused::Audience));
    for audience in [r#"["x","api"]"#, r#"["web","api"]"#, r#""web""#] {
        assert_eq!(with(r#""api""#, audience), Ok(()), "{audience}");
    }
    for audience in [r#"[]"#, r#""apis""#, r#""ap""#, r#""API""#, r#"["x"]"#, r#""api web""#] {
        assert_eq!(with(r#""api""#, audience), Err(Refused::Audience), "{audience}");
    }
    for audience in ["1", "null", r#"["api",1]"#, r#"{"api":true}"#, r#"[["api"]]"#] {
        assert_eq!(with(r#""api""#, audience), Err(Refused::Claim("aud")), "{audience}");
    }

    assert_eq!(without(r#""exp":1800000300"#), Err(Refused::Claim("exp")));
    for end in [r#""1800000300""#, "null", "true", "[1800000300]", "{}"] {
        assert_eq!(with("1800000300", end), Err(Refused::Claim("exp")), "{end}");
    }
    for (end, outcome) in [
        ("1799999971", Ok(())), // within the leeway
        ("1799999970", Err(Refused::Expired)),
        ("1799999970.5", Ok(())),
        ("0", Err(Refused::Expired)),
        ("-1", Err(Refused::Expired)),
        ("9223372036854775807", Ok(())),
        ("18446744073709551615", Ok(())),
        ("1e300", Ok(())),
    ] {
        assert_eq!(with("1800000300", end), outcome, "{end}");
    }
    for (start, outcome) in [
        ("1800000030", Ok(())), // within the leeway
        ("1800000031", Err(Refused::Early)),
        (r#""0""#, Err(Refused::Claim("nbf"))),
        ("null", Err(Refused::Claim("nbf"))),
    ] {
        assert_eq!(with(r#""sub":"ann""#, &format!(r#""nbf":{start}"#)), outcome, "{start}");
    }
    for (claim, name) in [(r#""iat":"x""#, "iat"), (r#""sub":1"#, "sub"), (r#""jti":[]"#, "jti")] {
        assert_eq!(with(r#""sub":"ann""#, claim), Err(Refused::Claim(name)));
    }
    for bad in ["", "[]", "null", "{}{}", r#"{"iss":"https://issuer.example","iss":"x"}"#, &format!("{CLAIMS} x")] {
        assert_eq!(claims(bad), Err(Refused::Form), "{bad}");
    }
}

#[test]
fn without_audiences_in_the_rules_any_will_do_if_it_is_one() {
    let rules = Rules { audiences: Vec::new(), ..rules() };
    let outcome = |claims: &str| {
        let token = ISSUER.p256.token(r#"{"alg":"ES256","kid":"e"}"#, claims);
        check_with(&rules, &ISSUER.keys, &token).map(drop)
    };

    assert_eq!(outcome(&CLAIMS.replace(r#""aud":"api""#, r#""aud":["x"]"#)), Ok(()));
    assert_eq!(outcome(&CLAIMS.replace(r#""aud":"api","#, "")), Ok(()));
    assert_eq!(outcome(&CLAIMS.replace(r#""aud":"api""#, r#""aud":1"#)), Err(Refused::Claim("aud")));
}

#[test]
fn rules_that_name_nobody_let_nobody_in() {
    let token = ISSUER.p256.token(r#"{"alg":"ES256","kid":"e"}"#, CLAIMS);
    let all = rules();
    for (rules, why) in [
        (Rules::default(), Refused::Algorithm),
        (Rules { issuers: Vec::new(), ..all.clone() }, Refused::Issuer),
        (Rules { algorithms: vec![Algorithm::Rs256], ..all.clone() }, Refused::Algorithm),
    ] {
        assert_eq!(check_with(&rules, &ISSUER.keys, &token), Err(why));
    }
    assert_eq!(check_with(&all, &[], &token), Err(Refused::Key));
}

#[test]
fn a_token_has_three_parts_of_base64_and_a_header() {
    let good = ISSUER.p256.token(r#"{"alg":"ES256","kid":"e"}"#, CLAIMS);
    let parts: Vec<&str> = good.split('.').collect();
    let [header, body, signature] = *parts else { panic!() };
    for bad in [
        "".into(),
        ".".into(),
        "..".into(),
        format!("{header}.{body}"),
        format!("{good}."),
        format!("{good}.{body}.x"),
        format!(" {good}"),
        format!("{good}="),
        format!("{good}\n"),
        format!("{header}.{body}+.{signature}"),
        format!("{}.{body}.{signature}", url(b"[]")),
        format!("{}.{body}.{signature}", url(br#"{"alg":["ES256"]}"#)),
        format!("{}.{body}.{signature}", url(br#"{"alg":"ES256","kid":1}"#)),
        format!("{}.{body}.{signature}", url(br#"{"alg":"ES256","typ":1}"#)),
        format!("{}.{body}.{signature}", url(br#"{"alg":null}"#)),
        format!("{good}{}", "A".repeat(MOST_TOKEN)),
    ] {
        assert_eq!(check(&bad), Err(Refused::Form), "{bad}");
    }
    assert_eq!(check(&format!("{}.{body}.{signature}", url(br#"{"alg":"es256"}"#))), Err(Refused::Algorithm));
}

#[test]
fn a_token_for_something_else_is_refused_by_its_kind() {
    let read = |kind, typ: &str| {
        let token = ISSUER.p256.token(&format!(r#"{{"alg":"ES256"{typ}}}"#), CLAIMS);
        Unverified::read(&token, kind, &rules()).map(drop)
    };
    for typ in ["", r#","typ":"JWT""#, r#","typ":"at+jwt""#, r#","typ":"application/jwt""#] {
        assert_eq!(read(Kind::Any, typ), Ok(()), "{typ}");
    }
    for typ in [
        r#","typ":"logout+jwt""#,
        r#","typ":"dpop+jwt""#,
        r#","typ":"""#,
        r#","typ":"application/""#,
        r#","typ":"é+jwt""#,
    ] {
        assert_eq!(read(Kind::Any, typ), Err(Refused::Kind), "{typ}");
    }
    assert_eq!(read(Kind::Access, r#","typ":"at+jwt""#), Ok(()));
    assert_eq!(read(Kind::Identity, r#","typ":"it+jwt""#), Ok(()));
    for typ in ["", r#","typ":"JWT""#] {
        assert_eq!((read(Kind::Access, typ), read(Kind::Identity, typ)), (Err(Refused::Kind), Err(Refused::Kind)));
    }
}

#[test]
fn keys_for_something_else_sign_nothing() {
    let signer = Signer::curve("P-256");
    let token = signer.token(r#"{"alg":"ES256"}"#, CLAIMS);
    let outcome = |key: String| {
        let keys = [Arc::new(KeySet::parse(set(&[key]).as_bytes()).unwrap())];
        check_with(&rules(), &keys, &token).map(drop)
    };

    for more in ["", r#""use":"sig""#, r#""key_ops":["verify"]"#, r#""alg":"ES256""#, r#""x5c":["x"]"#] {
        assert_eq!(outcome(signer.public(more)), Ok(()), "{more}");
    }
    for more in [
        r#""use":"enc""#,
        r#""use":1"#,
        r#""key_ops":["sign"]"#,
        r#""key_ops":"verify""#,
        r#""alg":"ES384""#,
        r#""alg":"HS256""#,
        r#""alg":1"#,
        r#""kid":1"#,
    ] {
        assert_eq!(outcome(signer.public(more)), Err(Refused::Key), "{more}");
    }
    for key in [
        signer.public("").replace("P-256", "P-384"),
        signer.public("").replace("P-256", "secp256k1"),
        signer.public("").replace("EC", "RSA"),
        signer.public("").replace("EC", "oct"),
        signer.public("").replace("\"y\":\"", "\"y\":\"AA"),
        r#"{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#.into(),
        r#"{"kty":"oct","k":"AAAA"}"#.into(),
        "{}".into(),
        "1".into(),
    ] {
        assert_eq!(outcome(key.clone()), Err(Refused::Key), "{key}");
    }
}

#[test]
fn an_rsa_key_has_2048_bits_at_the_least() {
    let small = format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, url(&[0xff; 128]));
    let keys = [Arc::new(KeySet::parse(set(&[small]).as_bytes()).unwrap())];
    let signed = format!("{}.{}", url(br#"{"alg":"RS256"}"#), url(CLAIMS.as_bytes()));

    assert_eq!(check_with(&rules(), &keys, &format!("{signed}.{}", url(&[1; 128]))), Err(Refused::Key));
}

#[test]
fn a_set_of_keys_has_its_form_and_limits() {
    let key = ISSUER.p256.public("");
    let many = |count: usize| KeySet::parse(set(&vec![key.clone(); count]).as_bytes()).map(|set| set.len());
    assert_eq!((many(0), many(1), many(100), many(101)), (Ok(0), Ok(1), Ok(100), Err(BadKeys::TooLarge)));

    let long = |len: usize| {
        let short = set(core::slice::from_ref(&key));
        KeySet::parse(format!("{short}{}", " ".repeat(len - short.len())).as_bytes()).map(|set| set.len())
    };
    assert_eq!((long(MOST_OCTETS), long(MOST_OCTETS + 1)), (Ok(1), Err(BadKeys::TooLarge)));
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[],"keys":[]}"#, "<html>"] {
        assert_eq!(KeySet::parse(bad.as_bytes()).map(|set| set.len()), Err(BadKeys::Form), "{bad}");
    }
}

#[test]
fn a_token_without_an_identity_is_tried_with_few_keys() {
    let last = Signer::curve("P-256");
    let token = last.token(r#"{"alg":"ES256"}"#, CLAIMS);
    let after = |others: usize| {
        let mut keys = vec![ISSUER.p256.public(""); others];
        keys.push(last.public(""));
        let keys = [Arc::new(KeySet::parse(set(&keys).as_bytes()).unwrap())];
        check_with(&rules(), &keys, &token).map(drop)
    };

    assert_eq!((after(MOST_TRIED - 1), after(MOST_TRIED)), (Ok(()), Err(Refused::Key)));
}

#[test]
fn keys_are_fetched_once_when_nothing_is_known_and_used_while_fresh() {
    let (mut cache, start) = (KeyCache::default(), Instant::now());

    assert!(matches!(cache.look(&"a", false, start), Look::Fetch));
    assert!(matches!(cache.look(&"a", false, start), Look::Wait));
    cache.on_fetched(&"a", Some(some_keys()), start);
    assert!(matches!(cache.look(&"a", false, start + FRESH), Look::Use(_)));
    assert!(matches!(cache.look(&"a", false, start + FRESH + Duration::from_secs(1)), Look::Refresh(_)));
    assert!(matches!(cache.look(&"a", false, start + FRESH + Duration::from_secs(2)), Look::Use(_)));
}

#[test]
fn a_key_that_is_not_known_makes_one_fetch_a_minute() {
    let (mut cache, start) = (KeyCache::default(), Instant::now());
    cache.look(&"a", false, start);
    cache.on_fetched(&"a", Some(some_keys()), start);
    let mut fetches = 0;

    for second in 0..600 {
        let now = start + Duration::from_secs(second);
        for _ in 0..10 {
            match cache.look(&"a", true, now) {
                Look::Fetch => fetches += 1,
                Look::Use(_) => {}
                other @ (Look::Refresh(_) | Look::Wait | Look::Unavailable) => panic!("{other:?}"),
            }
            cache.on_fetched(&"a", Some(some_keys()), now);
        }
    }

    assert_eq!(fetches, 9);
}

#[test]
fn while_the_issuer_is_down_old_keys_are_used_up_to_a_bound_and_it_is_asked_once_a_minute() {
    let (mut cache, start) = (KeyCache::default(), Instant::now());
    cache.look(&"a", false, start);
    cache.on_fetched(&"a", Some(some_keys()), start);
    let mut asked = 0;

    for minute in 1..=360 {
        let now = start + Duration::from_secs(minute * 60);
        let look = cache.look(&"a", false, now);
        assert!(matches!(look, Look::Use(_) | Look::Refresh(_)), "{minute}: {look:?}");
        asked += usize::from(matches!(look, Look::Refresh(_)));
        cache.on_fetched(&"a", None, now);
    }
    let over = start + STALE + Duration::from_secs(1);

    assert_eq!(asked, 360 - 15);
    assert!(matches!(cache.look(&"a", false, over), Look::Unavailable));
    assert!(matches!(cache.look(&"a", false, over + PAUSE), Look::Fetch));
    assert!(matches!(cache.look(&"a", false, over + PAUSE), Look::Wait));
    cache.on_fetched(&"a", Some(some_keys()), over + PAUSE);
    assert!(matches!(cache.look(&"a", false, over + PAUSE), Look::Use(_)));
}

#[test]
fn an_issuer_that_never_answered_is_asked_once_a_minute() {
    let (mut cache, start) = (KeyCache::default(), Instant::now());
    cache.look(&"a", false, start);
    cache.on_fetched(&"a", None, start);

    assert!(matches!(cache.look(&"a", true, start + PAUSE - Duration::from_millis(1)), Look::Unavailable));
    assert!(matches!(cache.look(&"a", false, start + PAUSE), Look::Fetch));
}

#[test]
fn other_terms_hold_from_then_on() {
    let (mut cache, start) = (KeyCache::default(), Instant::now());
    let after = |seconds| start + Duration::from_secs(seconds);
    cache.look(&"a", false, start);
    cache.on_fetched(&"a", Some(some_keys()), start);
    assert!(matches!(cache.look(&"a", false, after(9)), Look::Use(_)));

    let [fresh, stale, pause] = [3, 20, 5].map(Duration::from_secs);
    cache.set_terms(Terms { fresh, stale, pause });

    assert!(matches!(cache.look(&"a", true, after(4)), Look::Use(_)));
    assert!(matches!(cache.look(&"a", false, after(9)), Look::Refresh(_)));
    cache.on_fetched(&"a", None, after(9));
    assert!(matches!(cache.look(&"a", true, after(13)), Look::Use(_)));
    assert!(matches!(cache.look(&"a", true, after(14)), Look::Fetch));
    cache.on_fetched(&"a", None, after(14));
    assert!(matches!(cache.look(&"a", false, after(19)), Look::Refresh(_)));
    cache.on_fetched(&"a", None, after(19));
    assert!(matches!(cache.look(&"a", false, after(20)), Look::Use(_)));
    assert!(matches!(cache.look(&"a", false, after(21)), Look::Unavailable));
}

#[test]
fn two_accounts_and_two_paths_share_no_keys() {
    let (mut cache, now) = (KeyCache::default(), Instant::now());
    let address = ("acme", "https://issuer.example/keys?tenant=1");
    cache.look(&address, false, now);
    cache.on_fetched(&address, Some(some_keys()), now);

    assert!(matches!(cache.look(&address, false, now), Look::Use(_)));
    for other in [("evil", "https://issuer.example/keys?tenant=1"), ("acme", "https://issuer.example/keys?tenant=2")] {
        assert!(matches!(cache.look(&other, false, now), Look::Fetch), "{other:?}");
    }
}

#[test]
fn the_number_of_sets_is_bounded_and_who_was_asked_first_goes() {
    let (mut cache, start) = (KeyCache::default(), Instant::now());
    for at in 0..=MOST_SETS {
        let now = start + Duration::from_millis(at as u64);
        cache.look(&at, false, now);
        cache.on_fetched(&at, Some(some_keys()), now);
    }

    assert_eq!(cache.len(), MOST_SETS);
    let now = start + Duration::from_secs(10);
    assert!(matches!(cache.look(&1, false, now), Look::Use(_)));
    assert!(matches!(cache.look(&0, false, now), Look::Fetch));
}

fn some_keys() -> KeySet {
    KeySet::parse(br#"{"keys":[]}"#).unwrap()
}

proptest! {
    /// Whatever is changed in a token, it is refused: one octet of it, or its length.
    #[test]
    fn a_token_that_was_changed_is_refused(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_.-]", cut in any::<bool>()) {
        let good = ISSUER.p256.token(r#"{"alg":"ES256","kid":"e"}"#, CLAIMS);
        let at = at.index(good.len());
        let bad = if cut { good[..at].into() } else { format!("{}{to}{}", &good[..at], &good[at + 1..]) };

        prop_assert_eq!(check(&bad).is_ok(), bad == good);
    }

    #[test]
    fn nothing_that_is_sent_as_a_token_or_served_as_keys_panics(text in ".{0,200}", octets: Vec<u8>) {
        prop_assert!(check(&text).is_err());
        let _ = KeySet::parse(&octets);
        let _ = claims(&text);
    }
}
