use core::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::cel::base64;

/// Of `correct horse`, as cheap as there is.
const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuu";

fn hashed(user: &str, password: &str) -> String {
    let salt = [0x71, 0xd7, 0x9f, 0x82, 0x18, 0xa3, 0x92, 0x59, 0xa7, 0xa2, 0x9a, 0xab, 0xb2, 0xdb, 0xaf, 0xc3];
    let mut key = password.as_bytes().to_vec();
    key.push(0);
    let [made @ .., _] = bcrypt::bcrypt(4, salt, &key);
    format!("{user}:{BCRYPT}{}", &bcrypt_digits(&made))
}

fn bcrypt_digits(octets: &[u8]) -> String {
    let from = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let to = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let digit = |digit: u8| char::from(to[from.iter().position(|other| *other == digit).unwrap()]);
    base64(octets).trim_end_matches('=').bytes().map(digit).collect()
}

fn auth(credentials: &[&str]) -> BasicAuth {
    let credentials = credentials.iter().map(|text| Credential::parse(text).unwrap()).collect();
    BasicAuth::new(credentials, &[7; 32]).unwrap()
}

fn headers(values: &[&str]) -> HeaderMap {
    values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap())).collect()
}

fn basic(pair: &str) -> HeaderMap {
    headers(&[&format!("Basic {}", base64(pair.as_bytes()))])
}

const CALLER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 7));

/// Decides, with the checks that are asked for, and tells how many there were.
fn decide(auth: &BasicAuth, headers: &HeaderMap, now: Instant) -> (Verdict, usize) {
    match auth.begin(headers, &[], CALLER, now) {
        Step::Done(verdict) => (verdict, 0),
        Step::Check(check) => {
            let right = check.run();
            (auth.finish(check, right, CALLER, now), 1)
        }
    }
}

fn access(auth: &BasicAuth, headers: &HeaderMap) -> Access {
    decide(auth, headers, Instant::now()).0.access
}

#[test]
fn who_knows_user_and_password_passes_and_nobody_else() {
    let auth = auth(&["ann:password10", "bob:pass:word2", &hashed("eve", "correct horse")]);

    for pair in ["ann:password10", "bob:pass:word2", "eve:correct horse"] {
        assert_eq!(access(&auth, &basic(pair)), Access::Granted, "{pair}");
    }
    for pair in [
        "ann:pass:word2",
        "bob:password1",
        "ann:password",
        "ann:password12",
        "Ann:password1",
        "ann:",
        ":password1",
        "eve:correct hors",
    ] {
        assert_eq!(access(&auth, &basic(pair)), Access::Wrong, "{pair}");
    }
}

#[test]
fn the_scheme_is_read_whatever_its_case() {
    let auth = auth(&["ann:password10"]);
    let credentials = base64(b"ann:password10");

    for value in [format!("Basic {credentials}"), format!("bAsIc {credentials}"), format!("basic   {credentials}")] {
        assert_eq!(access(&auth, &headers(&[&value])), Access::Granted, "{value}");
    }
}

#[test]
fn what_cannot_be_read_in_one_way_is_refused() {
    let auth = auth(&["ann:password10"]);
    let good = format!("Basic {}", base64(b"ann:password10"));
    let of = |octets: &[u8]| headers(&[&format!("Basic {}", base64(octets))]);
    let bare = good.trim_end_matches('=');
    assert_ne!(bare, good);

    for headers in [
        headers(&[&good, &good]),
        headers(&[&good, "Bearer x"]),
        headers(&["Basic"]),
        headers(&["Basic "]),
        headers(&["Basic ann:password10"]),
        headers(&["Basic YW5u"]), // no colon
        headers(&[bare]),
        headers(&[&format!("{good} ")]),
        headers(&[&format!("{good},{good}")]),
        of(b"ann:password10\xff"),
        of(b"ann:password10\0"),
        of(b"ann:password10\n"),
        of(format!("ann:{}", "x".repeat(MOST_OCTETS)).as_bytes()),
    ] {
        assert_eq!(access(&auth, &headers), Access::Malformed, "{headers:?}");
    }
    for headers in [headers(&[]), headers(&["Bearer YW5uOnBhc3N3b3JkMQ=="]), headers(&["Basic:YW5u"]), headers(&[""])] {
        assert_eq!(access(&auth, &headers), Access::Absent, "{headers:?}");
    }
}

#[test]
fn the_user_is_that_of_authorization_whatever_other_headers_name() {
    let auth = auth(&["ann:password10", "bob:password2"]);
    let mut both = basic("ann:password10");
    let bob = basic("bob:password2");
    both.insert(http::header::PROXY_AUTHORIZATION, bob[AUTHORIZATION].clone());
    let mut other = HeaderMap::new();
    other.insert(http::header::PROXY_AUTHORIZATION, bob[AUTHORIZATION].clone());

    let now = Instant::now();
    assert_eq!(decide(&auth, &both, now).0, Verdict { user: Some("ann".into()), access: Access::Granted });
    assert_eq!(decide(&auth, &other, now).0, Verdict { user: None, access: Access::Absent });
}

#[test]
fn an_unknown_user_costs_as_many_checks_as_a_known_one() {
    let auth = auth(&["ann:password10", &hashed("eve", "correct horse")]);
    let now = Instant::now();

    for pair in ["eve:wrong password", "nobody:wrong password", "ann:wrong password"] {
        assert_eq!(decide(&auth, &basic(pair), now).1, 1, "{pair}");
    }
}

#[test]
fn the_password_that_was_right_is_not_checked_again_and_others_are() {
    let auth = auth(&[&hashed("eve", "correct horse")]);
    let now = Instant::now();

    let checks: Vec<_> = ["eve:correct horse", "eve:correct horse", "eve:correct hors", "eve:correct horse"]
        .map(|pair| decide(&auth, &basic(pair), now))
        .map(|(verdict, checks)| (verdict.access, checks))
        .into();

    assert_eq!(checks, [(Access::Granted, 1), (Access::Granted, 0), (Access::Wrong, 1), (Access::Granted, 0)]);
}

#[test]
fn a_right_answer_to_the_check_of_nobody_counts_for_nothing() {
    let auth = auth(&[&hashed("eve", "correct horse")]);
    let Step::Check(check) = auth.begin(&basic("nobody:correct horse"), &[], CALLER, Instant::now()) else { panic!() };

    assert!(check.run());
    assert_eq!(auth.finish(check, true, CALLER, Instant::now()).access, Access::Wrong);
}

#[test]
fn a_thousand_wrong_passwords_are_throttled_and_so_is_the_right_one_after_them() {
    for credentials in [vec!["ann:password10".into()], vec![hashed("ann", "password10")]] {
        let auth = auth(&credentials.iter().map(|it: &String| &**it).collect::<Vec<_>>());
        let start = Instant::now();
        let (mut wrong, mut throttled) = (0, 0);
        for at in 0..1_000 {
            match decide(&auth, &basic(&format!("ann:guess number {at}")), start + Duration::from_millis(at)) {
                (Verdict { access: Access::Wrong, .. }, _) => wrong += 1,
                (Verdict { access: Access::Throttled(_), .. }, 0) => throttled += 1,
                other => panic!("{other:?}"),
            }
        }

        assert_eq!((wrong, throttled), (10, 990));
        let right = basic("ann:password10");
        let soon = decide(&auth, &right, start + Duration::from_secs(1)).0.access;
        assert!(matches!(soon, Access::Throttled(wait) if wait <= Duration::from_secs(6)), "{soon:?}");
        assert_eq!(decide(&auth, &right, start + Duration::from_secs(61)).0.access, Access::Granted);
    }
}

#[test]
fn guesses_that_are_under_way_together_are_throttled_when_they_come_back() {
    let auth = auth(&[&hashed("ann", "password10")]);
    let now = Instant::now();
    let guesses = (0..50).map(|at| format!("ann:guess number {at}")).chain(["ann:password10".into()]);
    let checks: Vec<_> = guesses.map(|pair| auth.begin(&basic(&pair), &[], CALLER, now)).collect();

    let accesses: Vec<_> = checks
        .into_iter()
        .map(|step| match step {
            Step::Check(check) => {
                let right = check.run();
                auth.finish(check, right, CALLER, now).access
            }
            Step::Done(verdict) => panic!("{verdict:?}"),
        })
        .collect();

    assert_eq!(accesses.iter().filter(|access| **access == Access::Wrong).count(), 10);
    assert!(matches!(accesses.last(), Some(Access::Throttled(_))));
}

#[test]
fn credentials_made_for_the_request_count_if_they_are_passwords() {
    let auth = auth(&["ann:password10"]);
    let made =
        [Credential::parse("bob:password2").unwrap(), Credential::parse(&hashed("eve", "correct horse")).unwrap()];
    let access = |pair: &str| match auth.begin(&basic(pair), &made, CALLER, Instant::now()) {
        Step::Done(verdict) => verdict.access,
        Step::Check(_) => panic!("a hash that was made for a request is checked"),
    };

    assert_eq!(access("bob:password2"), Access::Granted);
    assert_eq!(access("ann:password10"), Access::Granted);
    assert_eq!(access("bob:password1"), Access::Wrong);
    assert_eq!(access("eve:correct horse"), Access::Wrong);
}

#[test]
fn credentials_of_a_configuration_are_read_by_the_letter() {
    let of = |text: &str| Credential::parse(text).map(|credential| credential.user);
    assert_eq!(of("ann:password10"), Ok("ann".into()));
    assert_eq!(of("ann::password"), Ok("ann".into()));
    assert_eq!(of("ann:$2bpassword"), Ok("ann".into()));
    assert_eq!(of(&format!("ann:{}", "x".repeat(128))), Ok("ann".into()));
    for (text, bad) in [
        ("ann", BadCredential::Colon),
        ("", BadCredential::Colon),
        (":password1", BadCredential::User),
        ("ann:passwor", BadCredential::Length),
        ("ann:", BadCredential::Length),
        ("ann:password\n", BadCredential::Control),
        ("ann:$2b$", BadCredential::Hash(BadHash::Form)),
        ("ann:$argon2i$v=19$", BadCredential::Hash(BadHash::Form)),
        ("ann:$2b$31$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i", BadCredential::Hash(BadHash::Costly)),
    ] {
        assert_eq!(of(text), Err(bad), "{text}");
    }
    assert_eq!(of(&format!("ann:{}", "x".repeat(129))), Err(BadCredential::Length));
}

#[test]
fn a_user_has_one_hash_or_several_passwords() {
    let of = |texts: &[&str]| {
        let credentials = texts.iter().map(|text| Credential::parse(text).unwrap()).collect();
        BasicAuth::new(credentials, &[0; 32]).map(|_| ())
    };
    let hash = hashed("ann", "correct horse");

    assert_eq!(of(&["ann:password10", "ann:password2"]), Ok(()));
    assert_eq!(of(&[&hash, "bob:password1"]), Ok(()));
    assert_eq!(of(&["ann:password10", &hash]), Err(TwoHashes(1)));
    assert_eq!(of(&[&hash, &hash]), Err(TwoHashes(0)));
}

#[test]
fn nothing_of_a_password_is_shown() {
    let auth = auth(&["ann:password10", &hashed("eve", "correct horse")]);
    let step = auth.begin(&basic("eve:correct horse"), &[], CALLER, Instant::now());
    let shown = format!("{auth:?} {step:?}");

    assert!(matches!(step, Step::Check(_)));
    for secret in ["password1", "correct", "$2b", "horse"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let digest = sha256("password1");
    let seen = format!("{:?}", digest.as_ref());
    assert!(!shown.contains(&seen[1..seen.len() - 1]));
}

proptest! {
    /// Whatever a header has, only the credentials pass.
    #[test]
    fn no_other_header_passes(octets in prop::collection::vec(any::<u8>(), 0..64), prefix in "(Basic |basic|)") {
        let auth = auth(&["ann:password10"]);
        let mut value = prefix.into_bytes();
        value.extend(octets);
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let passes = presented(&[(AUTHORIZATION, value.clone())].into_iter().collect())
                == Ok(("ann".into(), "password1".into()));
            let granted = access(&auth, &[(AUTHORIZATION, value)].into_iter().collect()) == Access::Granted;
            prop_assert_eq!(granted, passes);
        }
    }

    #[test]
    fn a_pair_passes_if_and_only_if_it_is_one_of_the_list(user in "[ab]{1,2}", password in "password[12]{0,2}") {
        let auth = auth(&["a:password1", "ab:password2", "b:password12"]);
        let known = ["a:password1", "ab:password2", "b:password12"].contains(&&*format!("{user}:{password}"));

        prop_assert_eq!(access(&auth, &basic(&format!("{user}:{password}"))) == Access::Granted, known);
    }
}
