//! What is done to bodies, over any cutting of what goes in.

use std::io::{Read as _, Write as _};

use adit_policy::body::{
    Algorithm, Broken, Compression, Compressor, Events, Field, Inflater, MAX_EVENT, MAX_INFLATED, Pattern, Pipeline,
    Refused, Replacement, Replacer, Stage, WINDOW, Wish, answer_to_compress, answer_to_replace, ask_for_whole,
    for_answer, for_request, is_event_stream, negotiate, request_to_replace,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

type Made = Result<Vec<u8>, Broken>;

/// Runs a pipeline over pieces.
fn run<'a>(stages: Vec<Stage>, pieces: impl IntoIterator<Item = &'a [u8]>) -> Made {
    let mut pipeline = Pipeline::new(stages, false);
    let mut out = Vec::new();
    for piece in pieces {
        pipeline.push(piece, &mut out)?;
    }
    pipeline.finish(&mut out)?;
    Ok(out)
}

/// Cuts octets at places that are given in thousandths of the whole.
fn cut<'a>(octets: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place * octets.len() / 1_000).collect();
    places.extend([0, octets.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &octets[pair[0]..pair[1]]).collect()
}

fn replacement(from: &str, to: &str) -> Replacement {
    Replacement::new(Pattern::compile(from).expect(from), to)
}

fn replace(rules: &[(&str, &str)]) -> Vec<Stage> {
    rules.iter().map(|(from, to)| Stage::Replace(Box::new(Replacer::new(replacement(from, to))))).collect()
}

fn events(rules: &[(Field, &str, &str)]) -> Vec<Stage> {
    vec![Stage::Events(Events::new(rules.iter().map(|(field, from, to)| (*field, replacement(from, to))).collect()))]
}

/// Another implementation, over the whole.
fn whole(rules: &[(&str, &str)], text: &[u8]) -> Vec<u8> {
    rules.iter().fold(text.to_vec(), |text, (from, to)| {
        let regex = regex::bytes::RegexBuilder::new(from).unicode(false).build().expect(from);
        regex.replace_all(&text, to.as_bytes()).into_owned()
    })
}

const RULES: &[(&str, &str)] = &[
    ("foo", "bar"),
    ("a+", "<$0>"),
    ("a.*b|a", "X"),
    ("(?s)a.*?b", "[$0]"),
    (r"\b(ab|abc)\b", "**$1**"),
    ("(?m)^b", "^"),
    ("(?m)a$", "$$"),
    (r"(foo$)|(foo)", "${1}-${2}"),
    (r"\Aab", "start"),
    (r"ba\z", "end"),
    (r"(?mR)^[ab]+$", "line"),
    ("(?i)ABC?", "abc"),
    (r"[a-c]+@[a-c]+\.[a-c]{2,}", "[mail]"),
    (r"(?P<x>b)(?P<y>a*)", "$y$x"),
    (r"\w+\b", "w"),
    (r"\Ba|c\B", "_"),
    ("[^a]{2,5}?", "-"),
    ("b{2}", ""),
    (r"(?-u:[\x80-\xff]+)", "?"),
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop::sample::select(b"aaabbbcfoofoo@.\n\r \xc3\xff".to_vec());
    prop::collection::vec(octet, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_replaced_does_not_depend_on_cuts_and_is_what_another_implementation_replaces(
        text in text(),
        places in prop::collection::vec(0..1_000_usize, 0..8),
        rules in prop::collection::vec(prop::sample::select(RULES), 1..4),
    ) {
        let expected = Ok(whole(&rules, &text));

        prop_assert_eq!(&run(replace(&rules), [&*text]), &expected, "{:?}", rules);
        prop_assert_eq!(&run(replace(&rules), cut(&text, &places)), &expected, "{:?}", rules);
        prop_assert_eq!(&run(replace(&rules), text.chunks(1)), &expected, "{:?}", rules);
    }

    #[test]
    fn events_do_not_depend_on_cuts(
        lines in prop::collection::vec(
            (prop::sample::select(vec![
                "data: foo", "data:foo bar", "data", "data:", ": foo", "event: foo", "id: foo", "retry: 10", "foo", "",
                "", "\u{feff}data: foo", "dat", "retry",
            ]), prop::sample::select(vec!["\n", "\r", "\r\n"])),
            0..20,
        ),
        places in prop::collection::vec(0..1_000_usize, 0..8),
    ) {
        let text: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
        let rules = || events(&[(Field::Data, "o+", "0\n0"), (Field::Retry, "1", "2")]);
        let expected = run(rules(), [text.as_bytes()]);

        prop_assert!(expected.is_ok());
        prop_assert_eq!(&run(rules(), cut(text.as_bytes(), &places)), &expected);
        prop_assert_eq!(&run(rules(), text.as_bytes().chunks(1)), &expected);
    }

    #[test]
    fn what_is_compressed_inflates_to_the_same_over_any_cuts(
        text in prop::collection::vec(prop::sample::select(b"abcd".to_vec()), 0..3_000),
        places in prop::collection::vec(0..1_000_usize, 0..6),
        algorithm in prop::sample::select(Algorithm::ALL.to_vec()),
        pause in any::<bool>(),
    ) {
        let mut compressor = Compressor::new(algorithm);
        let mut coded = Vec::new();
        for piece in cut(&text, &places) {
            compressor.push(piece, &mut coded);
            if pause {
                compressor.pause(&mut coded);
            }
        }
        compressor.finish(&mut coded);

        let inflate = || vec![Stage::Inflate(Inflater::new(algorithm))];
        let expected = Ok(text);
        prop_assert_eq!(&run(inflate(), cut(&coded, &places)), &expected);
        prop_assert_eq!(&run(inflate(), coded.chunks(1)), &expected);
        if coded.len() > 1 {
            let broken = run(inflate(), [&coded[..coded.len() - 1]]);
            prop_assert_eq!(broken, Err(Broken::Coding), "an end is missing");
        }
    }
}

#[test]
fn only_what_may_be_a_match_is_kept() {
    for (from, piece, given) in [
        ("foo", "abc fo", "abc "),
        ("foo", "abc foo", "abc X"),
        ("foo", "abc fox", "abc fox"),
        ("fo+", "abc fooo", "abc "),
        (r"\bfoo\b", "abc foo", "abc "),
        (r"\bfoo\b", "foo bar", "X bar"),
        ("a[^b]*b|cd", "xx a cd", "xx "),
    ] {
        let mut replacer = Replacer::new(replacement(from, "X"));
        let mut out = Vec::new();

        replacer.push(piece.as_bytes(), &mut out).expect("a short text");

        assert_eq!(String::from_utf8_lossy(&out), given, "{from} in {piece}");
    }
}

#[test]
fn a_match_under_way_is_kept_for_so_long_and_no_longer() {
    let stages = || replace(&[("<[^>]*>", "")]);
    let text = |len: usize| [b"a<".to_vec(), vec![b'x'; len], b">b".to_vec()].concat();

    for pieces in [1, 7, 4_096, usize::MAX] {
        let fits = text(WINDOW - 2);
        assert_eq!(run(stages(), fits.chunks(pieces)), Ok(b"ab".to_vec()));
        let over = text(WINDOW - 1);
        assert_eq!(run(stages(), over.chunks(pieces)), Err(Broken::Window));
    }
}

#[test]
fn a_search_takes_so_many_steps_for_each_octet() {
    // Each `a` may begin a match that only the end of the text refuses: as many times as there are of them.
    let bomb = vec![b'a'; 20_000];
    assert_eq!(run(replace(&[("a[^b]*b|a", "x")]), [&*bomb]), Err(Broken::Steps));
    assert_eq!(run(replace(&[("a[^b]*b|a", "x")]), bomb.chunks(10)), Err(Broken::Steps));
    // Nearly all of its states live at each octet.
    assert_eq!(run(replace(&[("[ab]*a[ab]{400}c", "x")]), [&*bomb]), Err(Broken::Steps));
    // What costs exponential time elsewhere is linear.
    assert_eq!(run(replace(&[("(a+)+$", "x")]), [&*bomb]), Ok(b"x".to_vec()));
}

#[test]
fn an_octet_does_not_become_very_many() {
    let text = [b'a'; 1_000];
    assert_eq!(run(replace(&[("a", &"b".repeat(8_000))]), [&text[..]]), Err(Broken::Growth));
    assert_eq!(run(replace(&[("a+", &"$0".repeat(4_000))]), [&text[..]]), Err(Broken::Growth));
    let eight = ("a", "aaaaaaaa");
    assert_eq!(run(replace(&[eight; 8]), [&text[..]]), Err(Broken::Growth));
    assert_eq!(run(replace(&[eight; 2]), [&text[..]]), Ok(vec![b'a'; 64_000]));
}

#[test]
fn a_broken_body_stays_broken() {
    let mut pipeline = Pipeline::new(replace(&[("<[^>]*>", "")]), false);
    let mut out = Vec::new();
    assert_eq!(pipeline.push(&[b'<'; WINDOW + 1], &mut out), Err(Broken::Window));
    assert_eq!(pipeline.push(b">", &mut out), Err(Broken::Window));
    assert_eq!(pipeline.pause(&mut out), Err(Broken::Window));
    assert_eq!(pipeline.finish(&mut out), Err(Broken::Window));
    assert_eq!(out, b"");
}

#[test]
fn what_cannot_be_replaced_is_refused() {
    for (pattern, part) in [
        ("a*", "where there is nothing"),
        ("^", "where there is nothing"),
        ("(", "unclosed group"),
        ("(?=a)", "look-around"),
        (r"(?u:\b)a", "word boundary of Unicode"),
        ("((a{99}){99}){9}", "too large"),
        (&"a".repeat(1_025), "1025 octets"),
    ] {
        let error = Pattern::compile(pattern).expect_err(pattern);
        assert!(error.to_string().contains(part), "{pattern}: {error}");
    }
}

#[test]
fn each_event_goes_out_when_it_is_complete() {
    let mut pipeline = Pipeline::new(events(&[(Field::Data, "secret", "***")]), true);
    let mut given = |piece: &str| {
        let mut out = Vec::new();
        pipeline.push(piece.as_bytes(), &mut out).expect("an event");
        String::from_utf8(out).expect("text")
    };

    assert_eq!(given("data: a sec"), "");
    assert_eq!(given("ret\n"), "");
    assert_eq!(given("\nda"), "data: a ***\n\n");
    assert_eq!(given("ta: b\r\n\r"), "data: b\r\n\r");
    assert_eq!(given("\n: comment\n\n"), "\n: comment\n\n");
    assert_eq!(given("\n"), "\n");
}

#[test]
fn only_the_named_field_of_an_event_changes() {
    for (from, to, event, made) in [
        ("x", "y", "event: x\nid: x\n: x\ndatax: x\ndata: x\n\n", "event: x\nid: x\n: x\ndatax: x\ndata: y\n\n"),
        ("a\nb", "c", "data: a\nid: 1\ndata: b\n\n", "data: c\nid: 1\n\n"),
        ("x", "1\r\n2\n", "data:x\r\n\r\n", "data: 1\r\ndata: 2\r\ndata: \r\n\r\n"),
        ("x", "", "data: x\n\n", "data: \n\n"),
        ("x", "y", "data:  z\n\n", "data:  z\n\n"),
        ("x", "y", "data: x", "data: y\n"),
        ("(.)x", "$1$$", "data: ax\n\n", "data: a$\n\n"),
    ] {
        let made = Ok(made.as_bytes().to_vec());
        assert_eq!(run(events(&[(Field::Data, from, to)]), [event.as_bytes()]), made, "{event}");
    }
    let retry = events(&[(Field::Retry, r"\d+", "5000\ndata: forged")]);
    let event = b"retry: 1\ndata: 1\n\n";
    assert_eq!(run(retry, [&event[..]]), Ok(b"retry: 5000\ndata: 1\n\n".to_vec()));
}

#[test]
fn an_event_is_so_long_and_no_longer() {
    let text = |len: usize| [b"data:".to_vec(), vec![b'x'; len - 7], b"\n\n".to_vec()].concat();
    let stages = || events(&[(Field::Data, "y", "z")]);

    assert_eq!(run(stages(), [&*text(MAX_EVENT)]), Ok(text(MAX_EVENT)));
    assert_eq!(run(stages(), text(MAX_EVENT + 1).chunks(100)), Err(Broken::Event));
}

#[test]
fn a_bomb_is_broken_off_where_it_grows() {
    let zeros = vec![0_u8; 16 << 20];
    for algorithm in Algorithm::ALL {
        let mut bomb = Vec::new();
        let mut compressor = Compressor::new(algorithm);
        compressor.push(&zeros, &mut bomb);
        compressor.finish(&mut bomb);

        let mut inflater = Inflater::new(algorithm);
        let mut out = Vec::new();
        assert_eq!(inflater.push(&bomb, &mut out), Err(Broken::Ratio), "{}", algorithm.name());
        assert!(out.len() <= 200 << 10, "{} octets of {}", out.len(), algorithm.name());
    }
}

#[test]
fn content_is_so_large_and_no_larger() {
    // Text that shrinks to a fifth or so: its ratio is none of a bomb.
    let text = |len: usize| {
        let mut seed = 1_u32;
        let mut octet = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if seed >> 28 == 0 { seed.to_be_bytes()[1] } else { b'a' }
        };
        (0..len).map(|_| octet()).collect::<Vec<u8>>()
    };
    for (len, expected) in [(MAX_INFLATED, Ok(MAX_INFLATED)), (MAX_INFLATED + 1, Err(Broken::Inflated))] {
        let mut coded = Vec::new();
        let mut compressor = Compressor::new(Algorithm::Gzip);
        compressor.push(&text(len), &mut coded);
        compressor.finish(&mut coded);

        let made = run(vec![Stage::Inflate(Inflater::new(Algorithm::Gzip))], [&*coded]);

        assert_eq!(made.map(|made| made.len()), expected);
    }
}

#[test]
fn what_is_not_of_its_coding_is_broken_off() {
    for algorithm in Algorithm::ALL {
        let stages = || vec![Stage::Inflate(Inflater::new(algorithm))];
        assert_eq!(run(stages(), [&b"not of that coding at all, whatever it is"[..]]), Err(Broken::Coding));
        assert_eq!(run(stages(), []), Ok(Vec::new()), "no body at all");
    }
}

#[test]
fn nothing_may_follow_the_end_of_a_coding() {
    for algorithm in Algorithm::ALL {
        let mut coded = Vec::new();
        let mut compressor = Compressor::new(algorithm);
        compressor.push(b"text", &mut coded);
        compressor.finish(&mut coded);
        coded.extend_from_slice(b"garbage");
        for pieces in [1, 5, 1_000] {
            let made = run(vec![Stage::Inflate(Inflater::new(algorithm))], coded.chunks(pieces));
            assert_eq!(made, Err(Broken::Coding), "{} in pieces of {pieces}", algorithm.name());
        }
    }
}

#[test]
fn another_implementation_reads_what_is_compressed_and_is_read() {
    let text = "an answer, an answer, an answer".repeat(99).into_bytes();
    let mut coded = Vec::new();
    let mut compressor = Compressor::new(Algorithm::Gzip);
    compressor.push(&text, &mut coded);
    compressor.finish(&mut coded);
    let mut read = Vec::new();
    flate2::read::GzDecoder::new(&*coded).read_to_end(&mut read).expect("gzip");
    assert_eq!(read, text);

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&text).expect("a vector");
    let coded = encoder.finish().expect("a vector");
    let two = [&*coded, &*coded].concat();
    let stages = vec![Stage::Inflate(Inflater::new(Algorithm::Gzip))];
    assert_eq!(run(stages, two.chunks(3)), Ok([&*text, &*text].concat()), "members one after another");
}

#[test]
fn a_pause_gives_out_all_that_was_taken() {
    for algorithm in Algorithm::ALL {
        let mut pipeline = Pipeline::new(vec![Stage::Compress(Compressor::new(algorithm))], false);
        let mut inflater = Inflater::new(algorithm);
        for word in ["one", "two", "three"] {
            let (mut coded, mut read) = (Vec::new(), Vec::new());
            pipeline.push(word.as_bytes(), &mut coded).expect("no limit");
            pipeline.pause(&mut coded).expect("no limit");
            inflater.push(&coded, &mut read).expect("its coding");
            assert_eq!(String::from_utf8_lossy(&read), word, "{}", algorithm.name());

            coded.clear();
            pipeline.pause(&mut coded).expect("no limit");
            assert_eq!(coded, b"", "nothing came in between");
        }
    }
}

#[test]
fn the_coding_with_the_highest_weight_is_chosen() {
    use Algorithm::{Brotli, Deflate, Gzip};
    let offered = [Gzip, Deflate, Brotli];
    for (accepted, expected) in [
        ("", None),
        ("gzip", Some(Gzip)),
        ("GZIP", Some(Gzip)),
        ("x-gzip", Some(Gzip)),
        ("br, gzip", Some(Gzip)),
        ("br;q=1.0, gzip;q=0.5", Some(Brotli)),
        ("gzip;q=1.0, br; q=0.5, *;q=0", Some(Gzip)),
        ("gzip;q=0, *", Some(Deflate)),
        ("*", Some(Gzip)),
        ("*;q=0", None),
        ("identity", None),
        ("identity;q=0.5, gzip;q=0.4", None),
        ("identity;q=0.5, gzip;q=0.5", Some(Gzip)),
        ("identity;q=0, gzip;q=0.001", Some(Gzip)),
        ("zstd, compress", None),
        ("gzip;q=2, br;q=0.1", Some(Brotli)),
        ("gzip;q=0.1234", None),
        ("gzip;level=9", None),
        (" br ; q = 1 ", Some(Brotli)),
    ] {
        assert_eq!(negotiate([accepted], &offered), expected, "{accepted}");
    }
    assert_eq!(negotiate(["gzip, br"], &[Brotli, Gzip]), Some(Brotli), "the order of who offers decides");
    assert_eq!(negotiate(["br"], &[Gzip]), None);
    assert_eq!(negotiate(["gzip;q=0.1", "br"], &offered), Some(Brotli), "two headers are one list");
}

fn headers(text: &str) -> HeaderMap {
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").expect(line);
        (name.parse::<HeaderName>().expect(name), HeaderValue::from_str(value).expect(value))
    };
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(pair).collect()
}

#[test]
fn an_answer_is_compressed_where_that_is_allowed_and_worth_it() {
    let json = "content-type: application/json\n";
    for (method, status, accepted, head, compressed) in [
        ("GET", 200, "gzip", json, true),
        ("GET", 404, "gzip", json, true),
        ("POST", 200, "gzip", json, true),
        ("GET", 200, "gzip", "content-type: text/html; charset=utf-8", true),
        ("GET", 200, "gzip", "content-type: application/problem+json", true),
        ("GET", 200, "gzip", "content-type: text/event-stream", true),
        ("GET", 200, "gzip", &format!("{json}content-length: 256"), true),
        ("GET", 200, "gzip", &format!("{json}content-length: 255"), false),
        ("GET", 200, "gzip", "content-type: image/png", false),
        ("GET", 200, "gzip", "x: y", false),
        ("GET", 200, "br;q=0", json, false),
        ("HEAD", 200, "gzip", json, false),
        ("GET", 204, "gzip", json, false),
        ("GET", 304, "gzip", json, false),
        ("GET", 206, "gzip", json, false),
        ("GET", 200, "gzip", &format!("{json}content-range: bytes 0-9/10"), false),
        ("GET", 200, "gzip", &format!("{json}content-encoding: br"), false),
        ("GET", 200, "gzip", &format!("{json}content-encoding: identity"), true),
        ("GET", 200, "gzip", &format!("{json}cache-control: public, No-Transform"), false),
    ] {
        let mut head = headers(head);
        let before = head.clone();
        let accepted = headers(&format!("accept-encoding: {accepted}"));
        let status = StatusCode::from_u16(status).expect("a status");
        let method: Method = method.parse().expect("a method");

        let algorithm = answer_to_compress(&Compression::default(), &method, status, &accepted, &mut head);

        assert_eq!(algorithm.is_some(), compressed, "{method} {status} {accepted:?} {before:?}");
        assert_eq!(head.contains_key("content-length"), !compressed && before.contains_key("content-length"));
    }
}

#[test]
fn a_compressed_answer_says_so_and_nothing_that_was_true_of_the_other() {
    let mut head = headers(
        "content-type: text/html
        content-length: 1000
        etag: \"a\"
        accept-ranges: bytes
        vary: origin
        content-md5: x
        digest: x
        repr-digest: x
        content-digest: x",
    );
    let mut plain = head.clone();
    let chosen = answer_to_compress(
        &Compression::default(),
        &Method::GET,
        StatusCode::OK,
        &headers("accept-encoding: br"),
        &mut head,
    );

    assert_eq!(chosen, Some(Algorithm::Brotli));
    let expected =
        headers("content-type: text/html\netag: W/\"a\"\nvary: origin\nvary: accept-encoding\ncontent-encoding: br");
    assert_eq!(head, expected);

    // A cache must not give the compressed one to a caller that takes none, nor the other way round.
    let none = answer_to_compress(&Compression::default(), &Method::GET, StatusCode::OK, &HeaderMap::new(), &mut plain);
    assert_eq!(none, None);
    assert_eq!(plain.get_all("vary").iter().collect::<Vec<_>>(), ["origin", "accept-encoding"]);
    assert_eq!(plain["content-length"], "1000");
    assert_eq!(plain["etag"], "\"a\"");
}

#[test]
fn only_the_types_of_content_that_are_named_are_compressed() {
    let compression = Compression { content_types: vec!["*+json".into(), "text/csv".into()], ..Compression::default() };
    for (kind, compressed) in
        [("application/x+JSON", true), ("TEXT/csv; header=present", true), ("text/html", false), ("json", false)]
    {
        let mut head = headers(&format!("content-type: {kind}"));
        let accepted = headers("accept-encoding: gzip");
        let chosen = answer_to_compress(&compression, &Method::GET, StatusCode::OK, &accepted, &mut head);
        assert_eq!(chosen.is_some(), compressed, "{kind}");
    }
}

#[test]
fn a_head_is_adapted_to_a_body_that_is_replaced() {
    let mut head =
        headers("content-length: 5\netag: \"a\"\ncontent-encoding: gzip\naccept-ranges: bytes\ncontent-md5: x\nx: y");
    assert_eq!(answer_to_replace(&Method::GET, StatusCode::OK, &mut head), Ok(Some(Algorithm::Gzip)));
    assert_eq!(head, headers("etag: W/\"a\"\naccept-ranges: none\nx: y"));

    let mut head = headers("content-length: 5\ncontent-encoding: identity, br");
    assert_eq!(request_to_replace(&mut head), Ok(Some(Algorithm::Brotli)));
    assert_eq!(head, HeaderMap::new());

    let mut head = headers("etag: \"a\"\ncontent-length: 5");
    assert_eq!(answer_to_replace(&Method::GET, StatusCode::NOT_MODIFIED, &mut head), Ok(None));
    assert_eq!(head, headers("etag: W/\"a\"\ncontent-length: 5"));

    let mut head = headers("content-length: 5");
    assert_eq!(answer_to_replace(&Method::HEAD, StatusCode::OK, &mut head), Ok(None));
    assert_eq!(head, headers("accept-ranges: none"), "what the answer to GET would say");
}

#[test]
fn what_cannot_be_searched_is_refused() {
    for (head, refused) in [
        ("content-encoding: zstd", Refused::Coding),
        ("content-encoding: gzip, br", Refused::Coding),
        ("content-encoding: gzip\ncontent-encoding: gzip", Refused::Coding),
        ("content-range: bytes 0-1/2", Refused::Partial),
    ] {
        let mut head = headers(head);
        let before = head.clone();
        assert_eq!(request_to_replace(&mut head), Err(refused));
        assert_eq!(answer_to_replace(&Method::GET, StatusCode::OK, &mut head), Err(refused));
        assert_eq!(head, before);
    }
    let partial = answer_to_replace(&Method::GET, StatusCode::PARTIAL_CONTENT, &mut HeaderMap::new());
    assert_eq!(partial, Err(Refused::Partial));
}

#[test]
fn a_stream_of_events_is_known_by_its_type() {
    assert!(is_event_stream(&headers("content-type: Text/Event-Stream; charset=utf-8")));
    assert!(!is_event_stream(&headers("content-type: text/html")));
    assert!(!is_event_stream(&HeaderMap::new()));
}

#[test]
fn what_is_wished_is_done_in_order() {
    let replace = || Wish::Replace(vec![replacement("a", "b"), replacement("b", "c")]);
    let in_events = || Wish::Events(vec![(Field::Data, replacement("c", "d"))]);
    let compress = || Wish::Compress(Compression::default().into());
    let accepted = headers("accept-encoding: gzip");
    let stages = |pipeline: &Pipeline| {
        let text = format!("{pipeline:?}");
        ["Inflate(", "Replace(", "Events(", "Compress("].map(|name| text.matches(name).count())
    };
    let prepare = |wishes, status, head: &str| {
        let mut head = headers(head);
        for_answer(wishes, &Method::GET, status, &accepted, &mut head).map(|pipeline| (stages(&pipeline), head))
    };
    let wishes = || vec![compress(), in_events(), replace()];

    let (made, head) = prepare(wishes(), StatusCode::OK, "content-type: text/event-stream").expect("whole");
    assert_eq!(made, [0, 2, 1, 1]);
    assert_eq!(head["content-encoding"], "gzip");
    let (made, _) = prepare(wishes(), StatusCode::OK, "content-type: text/html\ncontent-encoding: br").expect("whole");
    assert_eq!(made, [1, 2, 0, 1], "inflated, and compressed again");
    let (made, head) =
        prepare(vec![in_events()], StatusCode::OK, "content-type: a/b\ncontent-length: 1").expect("whole");
    assert_eq!((made, head), ([0; 4], headers("content-type: a/b\ncontent-length: 1")), "no stream of events");
    let partial = prepare(vec![replace()], StatusCode::PARTIAL_CONTENT, "");
    assert_eq!(partial, Err(Refused::Partial));
    let (made, _) =
        prepare(vec![compress()], StatusCode::PARTIAL_CONTENT, "content-type: text/html").expect("as it is");
    assert_eq!(made, [0; 4]);

    let mut head = headers("content-encoding: gzip\ncontent-length: 1");
    let mut pipeline = for_request(vec![replace()], &mut head).expect("a coding that is known");
    assert_eq!((stages(&pipeline), head), ([1, 2, 0, 0], HeaderMap::new()));
    assert_eq!(pipeline.push(b"not gzip, not at all", &mut Vec::new()), Err(Broken::Coding));
    assert!(for_request(Vec::new(), &mut headers("content-encoding: zstd")).expect("nothing to do").is_empty());
}

#[test]
fn an_upstream_is_asked_for_what_can_be_searched() {
    let mut head = headers("range: bytes=0-1\nif-range: \"a\"\naccept-encoding: zstd, br\naccept: */*");
    ask_for_whole(&mut head);
    assert_eq!(head, headers("accept-encoding: identity\naccept: */*"));
}
