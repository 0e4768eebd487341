//! Laws that hold for any text.

mod common;

use adit_policy::cel::{Budget, Fault, MAX_DEPTH, parse};
use common::{Request, environment};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        check(&text);
    }

    #[test]
    fn any_tokens_are_read_or_refused(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..60)) {
        check(&tokens.join(" "));
        check(&tokens.concat());
    }
}

/// A text is printed as it is read, and evaluated within its budget to one outcome, or to less of it with less.
fn check(text: &str) {
    if let Ok(tree) = parse(text) {
        let printed = tree.to_string();
        assert_eq!(parse(&printed).as_ref(), Ok(&tree), "{text} is printed as {printed}");
    }
    let Ok(program) = environment().compile(text) else { return };
    let request = Request::default();
    let whole = program.evaluate(&request, &mut Budget::default());
    assert!(!whole.as_ref().is_err_and(|error| error.fault == Fault::TooDeep && text.len() < MAX_DEPTH));
    for steps in [0, 1, 3, 9, 27, 81] {
        let part = program.evaluate(&request, &mut Budget::new(steps, 8 * steps));
        if !part.as_ref().is_err_and(|error| error.fault.is_limit()) {
            assert_eq!(part, whole, "{text} with {steps} steps");
        }
    }
}

const TOKENS: &[&str] = &[
    "conn.client_ip",
    "req.headers",
    "any",
    "x",
    "y",
    "1",
    "-1",
    "2u",
    "1.5",
    "'a'",
    "b'a'",
    "r'\\'",
    "\"\"\"b\"\"\"",
    "true",
    "false",
    "null",
    "+",
    "-",
    "*",
    "/",
    "%",
    "!",
    "&&",
    "||",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    " in ",
    "?",
    ":",
    ".",
    ",",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "has(",
    ".all(x,",
    ".map(x,",
    ".exists(y,",
    ".filter(x,",
    ".size()",
    ".format([",
    "size(",
    "int(",
    "string(",
    "dyn(",
    "type(",
    "`a-b`",
    "// c\n",
    "0x1f",
    "9e9",
];
