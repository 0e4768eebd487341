//! Texts that are no expressions, and what a human is told.

use adit_policy::cel::{MAX_DEPTH, MAX_LENGTH, MAX_NODES, Refusal, parse};

#[test]
fn an_error_says_where_what_and_how() {
    for (text, told) in [
        ("", "1:1: expected a value, found the end of the expression"),
        ("1 +", "1:4: expected a value, found the end of the expression"),
        ("a = 1", "1:3: unexpected character '='; to compare, write `==`"),
        ("a & b", "1:3: unexpected character '&'; for a logical and, write `&&`"),
        ("a | b", "1:3: unexpected character '|'; for a logical or, write `||`"),
        ("a and b", "1:3: expected an operator or the end, found `and`; write `&&`"),
        ("a or b", "1:3: expected an operator or the end, found `or`; write `||`"),
        ("“a”", "1:1: unexpected character '“'; write straight quotes"),
        ("(1", "1:3: expected `)` to end the parenthesis, found the end of the expression"),
        ("[1, 2", "1:6: expected `]` or a comma and another element, found the end of the expression"),
        ("{1 2}", "1:4: expected `:` between a key and its value, found a number"),
        ("a ? 1", "1:6: expected `:` to go on with what holds otherwise, found the end of the expression"),
        ("a.\n  1", "2:3: expected the name of a field or function, found a number"),
        ("'a", "1:1: a string is not ended; end it with '"),
        ("'a\n'", "1:1: a string is not ended on its line; write \\n, or quote it with three quotes"),
        (r"'\q'", r"1:2: unknown escape in a string; write \\ for a backslash, or r'...' for text without escapes"),
        (r"'\x1'", "1:2: an escape needs 2 digits of base 16"),
        (r"'\ud800'", "1:2: the escape is no character of Unicode"),
        (r"'\400'", r"1:2: unknown escape in a string; write \\ for a backslash, or r'...' for text without escapes"),
        (r"b'\u0041'", "1:3: bytes have no escapes of characters; write the octets as \\xHH, or the character itself"),
        (
            "9223372036854775808",
            "1:1: the number 9223372036854775808 does not fit an int; write a u behind it for a uint",
        ),
        ("18446744073709551616u", "1:1: the number is too large, or has no digits"),
        ("0x", "1:1: the number is too large, or has no digits"),
        ("1e999", "1:1: the number 1e999 is too large"),
        ("package", "1:1: `package` is a reserved word; choose another name"),
        ("in", "1:1: expected a value, found `in`"),
        ("a.in", "1:3: expected the name of a field or function, found `in`"),
        ("has(a)", "1:1: `has` asks for one field; write `has(map.field)`, or `'key' in map`"),
        ("a.all(1, b)", "1:3: the first argument of `all` is not the name of a variable; write `list.all(x, … x …)`"),
        (
            "Message{a: 1}",
            "1:8: messages of Protocol Buffers are not part of this language; write a map: {'name': value}",
        ),
        ("a.?b", "1:2: optional values are not part of this language"),
        ("a[?b]", "1:2: optional values are not part of this language"),
        ("1 2", "1:3: expected an operator or the end, found a number"),
        (
            "a.`b",
            "1:3: a name between backticks is not ended; it may have letters, digits, `_`, `.`, `-`, `/` and spaces; else write `map['name']`",
        ),
        ("\0", "1:1: unexpected character '\\0'"),
    ] {
        assert_eq!(parse(text).expect_err(text).to_string(), told, "{text}");
    }
}

#[test]
fn a_text_of_the_longest_length_is_read_and_one_octet_more_is_not() {
    let text = |len: usize| format!("'{}'", "a".repeat(len - 2));

    assert!(parse(&text(MAX_LENGTH)).is_ok());
    assert_eq!(parse(&text(MAX_LENGTH + 1)).map_err(|error| error.refusal), Err(Refusal::Limit));
}

#[test]
fn a_tree_of_the_most_nodes_is_read_and_one_more_is_not() {
    let text = |nodes: usize| format!("[{}]", vec!["1"; nodes - 1].join(","));

    assert!(parse(&text(MAX_NODES)).is_ok());
    assert_eq!(parse(&text(MAX_NODES + 1)).map_err(|error| error.refusal), Err(Refusal::Limit));
}

#[test]
fn a_tree_of_the_greatest_depth_is_read_and_one_level_more_is_not() {
    type Shape = fn(usize) -> String;
    let shapes: [Shape; 9] = [
        |depth| format!("{}1", "-".repeat(depth)), // the last is part of the number
        |depth| format!("{}a", "!".repeat(depth - 1)),
        |depth| format!("{}1{}", "(".repeat(depth - 1), ")".repeat(depth - 1)),
        |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        |depth| format!("{}1{}", "f(".repeat(depth - 1), ")".repeat(depth - 1)),
        |depth| format!("a{}", ".b".repeat(depth - 1)),
        |depth| format!("1{}", "+1".repeat(depth - 1)),
        |depth| format!("{}1", "a?b:".repeat(depth - 1)),
        |depth| format!("{}{{}}{}", "{1:".repeat(depth - 1), "}".repeat(depth - 1)),
    ];
    for shape in shapes {
        assert!(parse(&shape(MAX_DEPTH)).is_ok(), "{}", shape(MAX_DEPTH));
        let deeper = parse(&shape(MAX_DEPTH + 1)).map_err(|error| error.refusal);
        assert_eq!(deeper, Err(Refusal::Limit), "{}", shape(MAX_DEPTH + 1));
        assert_eq!(parse(&shape(1_500)).map_err(|error| error.refusal), Err(Refusal::Limit));
    }
}

#[test]
fn a_long_chain_of_one_logical_operator_is_not_deep() {
    for operator in ["&&", "||"] {
        assert!(parse(&vec!["a"; 1_000].join(operator)).is_ok());
    }
}

#[test]
fn operators_bind_as_the_language_says() {
    for (text, meant) in [
        ("a || b && c == d + e * -f", "a || (b && (c == (d + (e * (-f)))))"),
        ("a - b - c", "(a - b) - c"),
        ("a / b * c % d", "((a / b) * c) % d"),
        ("a < b == c in d", "((a < b) == c) in d"),
        ("!a.b[c].d()", "!(((a.b)[c]).d())"),
        ("a ? b : c ? d : e", "a ? b : (c ? d : e)"),
        ("a || b ? c && d : e || f", "(a || b) ? (c && d) : (e || f)"),
        ("-1.f()", "(-1).f()"),
        ("- 1", "-1"),
        ("a -1", "a - 1"),
        (" a // comment\n + 1", "a+1"),
        ("[1, 2,]", "[1,2]"),
        ("{'a': 1,}", "{'a':1}"),
        (".a", "a"),
    ] {
        assert_eq!(parse(text), parse(meant), "{text}");
    }
    assert_ne!(parse("a && (b && c)"), parse("a && b && c"));
    assert_ne!(parse("(a + b) + c"), parse("a + (b + c)"));
}

#[test]
fn what_is_printed_is_read_as_the_same_tree() {
    for text in [
        "-(1)",
        "--1",
        "-(-1)",
        "-a",
        "- -a",
        "-(!a)",
        "!(-a)",
        "!(-1)",
        "!!a",
        "-(-1.5)",
        "-9223372036854775808",
        "1.5e300",
        "1e-7",
        "-0.0",
        "18446744073709551615u",
        r#"'a"b\'\\\n\x01é'"#,
        r"b'\000\xff'",
        "a.`b-c`.d",
        "has(a.b)",
        "(a ? b : c) ? (d ? e : f) : g",
        "(a || b) && !(c && d)",
        "[1].map(x, x > 0, x + 1).filter(y, y in {1: true})[0]",
        "(1).f(-2)",
        "(-a).b",
        "a.exists_one(x, x)",
        "a.all(x)",
    ] {
        let tree = parse(text).expect(text);
        assert_eq!(parse(&tree.to_string()), Ok(tree.clone()), "{text} is printed as {tree}");
    }
}
