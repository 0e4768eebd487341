//! The rules of the language, one after the other, and what is refused before anything is evaluated.

mod common;

use adit_policy::cel::{Budget, Call, Environment, Fault, Function, Program, Refusal, Type, Value};
use common::{Request, environment, failure, is_true, outcome};

#[test]
fn attributes_are_found_by_their_longest_name() {
    for text in [
        "conn.client_ip == '1.2.3.4'",
        "req.url.path == '/a/b'",
        "req.headers.host == 'a.example'",
        "req.headers['host'] == 'a.example'",
        "req . url . path . size() == 4",
        "time.now.getFullYear() == 2009",
        "req.accepts[1] == '*/*' && 'text/html' in req.accepts",
        "req.accepts.exists(it, it.endsWith('html')) && req.accepts == ['text/html', '*/*']",
        "'x' in req.headers && !('y' in req.headers)",
        "has(req.headers.x) && !has(req.headers.y)",
        "has(conn.client_ip) && !has(res.status_code)",
        "req.headers.all(name, req.headers[name].size() > 0) && size(req.headers) == 3",
        "req.headers == {'accept': 'text/html', 'host': 'a.example', 'x': 'abc'}",
    ] {
        assert!(is_true(text), "{text}");
    }
}

#[test]
fn what_the_facts_do_not_have_is_an_error_that_the_other_side_may_absorb() {
    assert_eq!(failure("res.status_code == 200"), "1:5: no such attribute");
    assert_eq!(failure("req.headers.nope == ''"), "1:13: no such key");
    assert_eq!(failure("req.headers['nope'] == ''"), "1:12: no such key");
    assert!(is_true("res.status_code == 200 || true"));
    assert!(is_true("true || res.status_code == 200"));
    assert!(is_true("!(res.status_code == 200 && false)"));
    assert_eq!(failure("res.status_code == 200 || false"), "1:5: no such attribute");
    assert_eq!(failure("1 / 0 == 1 || res.status_code == 1"), "1:3: division by zero");
}

#[test]
fn the_variable_of_a_macro_hides_what_has_its_name() {
    for text in [
        "[1, 2].all(conn, conn > 0)",
        "[{'client_ip': 1}].all(conn, conn.client_ip == 1)",
        "[[1, 2], [3]].map(x, x.map(y, y * 2)) == [[2, 4], [6]]",
        "[1, 2].map(x, [10, 20].map(y, x + y)) == [[11, 21], [12, 22]]",
        "[1].map(x, [2].map(x, x)) == [[2]]",
        "[1, 2, 3].map(x, x > 1, x * x) == [4, 9]",
        "{'a': 1, 'b': 2}.map(key, key) == ['a', 'b']",
        "[1, 2, 3, 4].filter(x, x % 2 == 0) == [2, 4]",
        "[1, 2].exists_one(x, x == 1)",
    ] {
        assert!(is_true(text), "{text}");
    }
    assert_eq!(failure("[1].all(x, true) && x == 1"), "1:21: unknown attribute `x`");
}

#[test]
fn nothing_wraps() {
    for text in [
        "9223372036854775807 + 1",
        "-9223372036854775808 - 1",
        "9223372036854775807 * 2",
        "-9223372036854775808 / -1",
        "-9223372036854775808 % -1",
        "-(-9223372036854775808)",
        "0u - 1u",
        "18446744073709551615u + 1u",
        "int(18446744073709551615u)",
        "uint(-1)",
        "int(1e30)",
        "int(double('NaN'))",
        "timestamp(253402300800)",
        "time.now + duration('2562047h') * 1",
    ] {
        let error = failure(text);
        assert!(error.contains("out of range") || error.contains("there is no"), "{text}: {error}");
    }
    assert_eq!(outcome("1.0 / 0.0").as_deref(), Ok("Double(inf)"));
    assert_eq!(failure("1 / 0"), "1:3: division by zero");
    assert_eq!(failure("1u % 0u"), "1:4: division by zero");
}

#[test]
fn values_of_different_types_are_different_and_numbers_are_compared_by_size() {
    for text in [
        "dyn(1) == 1u && 1.0 == dyn(1) && 2u > 1 && 1 < 1.5",
        "dyn('1') != 1 && null != dyn(1) && dyn(null) == null",
        "[1, 2u, 3.0] == [1.0, 2, 3u] && {1: 2} == {1u: 2.0}",
        "double('NaN') != double('NaN')",
        "!(double('NaN') < 1.0) && !(double('NaN') >= 1.0)",
        "'a' < 'b' && b'a' < b'b' && false < true && 'ÿ' < '\u{1F431}'",
        "type(1) == int && type('') != int && type(int) == type",
        "{true: 1}[true] == 1 && {1: 'a'}[1u] == 'a' && {1u: 'a'}[1.0] == 'a'",
    ] {
        assert!(is_true(text), "{text}");
    }
}

#[test]
fn a_wrong_type_is_refused_with_its_place() {
    for (text, told) in [
        ("conn.client_ip == 1", "1:16: there is no `string == int`; the two are never equal; convert one of them"),
        (
            "conn.client_ip + 1",
            "1:16: there is no `string + int`; convert one of them, as by `string(x)`, `int(x)` or `double(x)`",
        ),
        ("conn.client_ip && true", "1:6: `&&` asks for a bool, and this is of type string; write `x != ''`"),
        ("!1", "1:2: `!` asks for a bool, and this is of type int; write `x != 0`"),
        ("-conn.client_ip", "1:1: a value of type string cannot be negated"),
        ("req.headers.x.y", "1:15: a value of type string has no field `y`"),
        (
            "req.accepts.x",
            "1:13: a value of type list(string) has no field `x`; write `list[0]` for an element, or `list.exists(x, …)`",
        ),
        ("req.accepts['x']", "1:12: a value of type list(string) has no index of type string"),
        ("req.headers[1]", "1:12: a value of type map(string, string) has no index of type int"),
        (
            "1 in req.accepts",
            "1:3: there is no `int in list(string)`; what is right of `in` is a list of such elements, or a map of such keys",
        ),
        (
            "'a' in conn.client_ip",
            "1:5: there is no `string in string`; what is right of `in` is a list of such elements, or a map of such keys",
        ),
        ("true ? 1 : ''", "1:6: a condition chooses between int and string; give both one type, or write `dyn(x)`"),
        ("1 ? 1 : 1", "1:1: `?` asks for a bool, and this is of type int; write `x != 0`"),
        (
            "{1.0: 1}",
            "1:2: a value of type double cannot be the key of a map; a key is a bool, an int, a uint or a string",
        ),
        ("conn.client_ip.all(x, true)", "1:6: `all` goes over a list or the keys of a map, not a value of type string"),
        ("req.accepts.all(x, x)", "1:20: `all` asks for a bool, and this is of type string; write `x != ''`"),
        (
            "conn.client_ip.startsWith(1)",
            "1:16: there is no `string.startsWith(int)`; there is `string.startsWith(string)`",
        ),
        ("startsWith('a', 'b')", "1:1: there is no `startsWith(string, string)`; there is `string.startsWith(string)`"),
        (
            "null < null",
            "1:6: there is no `null_type < null_type`; convert one of them, as by `string(x)`, `int(x)` or `double(x)`",
        ),
        ("time.now.getHours('Mars')", "1:10: unknown time zone \"Mars\"; write UTC or an offset such as +05:30"),
    ] {
        let error = environment().compile(text).expect_err(text);
        assert_eq!((error.refusal, &*error.to_string()), (Refusal::Type, told), "{text}");
    }
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest() {
    for (text, told) in [
        ("conn.client_ib", "1:6: unknown attribute `conn.client_ib`; did you mean `conn.client_ip`?"),
        ("1 +\n conn.ip", "2:7: unknown attribute `conn.ip`"),
        ("req.header.x", "1:12: unknown attribute `req.header.x`; did you mean `req.headers`?"),
        ("'a'.startWith('b')", "1:5: unknown function `startWith`; did you mean `startsWith`?"),
        ("[1].exist(x, x)", "1:5: unknown function `exist`; did you mean `exists`?"),
        ("size", "1:1: unknown attribute `size`; `size` is a function: write `size(…)`"),
    ] {
        let error = environment().compile(text).expect_err(text);
        assert_eq!((error.refusal, &*error.to_string()), (Refusal::Name, told), "{text}");
    }
}

#[test]
fn a_pattern_is_compiled_with_the_expression() {
    assert!(is_true("'foobar'.matches('o+b')"));
    assert!(is_true("matches('foobar', '^f.*r$')"));
    assert!(is_true("'foobar'.matches(req.headers.x + '|oba')"));

    let refused = environment().compile("'a'.matches('(?=a)')").expect_err("a look-ahead");
    assert_eq!((refused.refusal, refused.at.column), (Refusal::Pattern, 5));
    assert_eq!(failure("'a'.matches('(' + req.headers.x)"), "1:5: the pattern is no regular expression, or too large");
}

#[test]
fn constants_are_computed_once() {
    let steps = |text: &str| {
        let mut budget = Budget::default();
        let before = budget.steps();
        let program = environment().compile(text).expect(text);
        assert!(program.evaluate(&Request::default(), &mut budget).is_ok(), "{text}");
        before - budget.steps()
    };

    for text in [
        "1 + 2 * 3",
        "timestamp('2009-02-13T23:31:30Z') + duration('1h')",
        "['a', 'b'].join('-')",
        "{'a': [1, 2]}.a[0]",
    ] {
        assert_eq!(steps(text), 1, "{text}");
    }
    assert!(steps("any + 1") > 1);
    // What is an error is one only when it is reached.
    assert!(is_true("true || 1 / 0 == 1"));
    // What grows large is not kept.
    assert!(
        steps(
            "'aaaaaaaaaaaaaaaa'.replace('', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').replace('', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa').size()"
        ) > 100
    );
}

#[test]
fn what_was_declared_wrongly_is_an_error_and_no_panic() {
    let mut environment = Environment::standard();
    environment.attribute("conn.client_ip", Type::INT); // the facts have a string
    for text in [
        "conn.client_ip + 1",
        "-conn.client_ip",
        "conn.client_ip > 1",
        "string(conn.client_ip + 1)",
        "[1][conn.client_ip]",
    ] {
        let program = environment.compile(text).expect(text);
        let request = Request::default();
        let outcome = program.evaluate(&request, &mut Budget::default());
        assert_eq!(outcome.map_err(|error| error.fault), Err(Fault::NoSuchOverload), "{text}");
    }
}

#[test]
fn a_policy_adds_functions_with_a_cost_and_the_facts() {
    fn greets<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
        match call.arguments {
            [Value::String(name)] => Value::string(format!("hello {}", &**name), call.budget),
            _ => Err(Fault::NoSuchOverload),
        }
    }
    fn header<'a>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
        let Some(Value::Map(headers)) = call.facts.attribute(adit_policy::cel::Attribute(1)) else {
            return Err(Fault::NoSuchAttribute);
        };
        call.arguments.first().and_then(|name| headers.get(name)).ok_or(Fault::NoSuchKey)
    }
    let mut environment = environment();
    environment.function(Function::global("net.greets", &[Type::STRING], Type::STRING, greets).cost(40));
    environment.function(Function::global("header", &[Type::STRING], Type::STRING, header));
    let evaluate = |text: &str, budget: &mut Budget| {
        let program = environment.compile(text).map_err(|error| error.to_string())?;
        let request = Request::default();
        let value = program.evaluate(&request, budget).map_err(|error| error.to_string())?;
        Ok::<_, String>(format!("{value:?}"))
    };

    let mut budget = Budget::new(1_000, 1_000);
    assert_eq!(evaluate("net.greets('a') == 'hello a' && header('x') == 'abc'", &mut budget), Ok("Bool(true)".into()));
    assert!((900..=960).contains(&budget.steps()), "{budget:?}");
    assert_eq!(evaluate("header('y')", &mut Budget::default()), Err("1:1: no such key".into()));
    assert_eq!(evaluate("net.greets('a')", &mut Budget::new(41, 9)), Err("1:5: over its budget of steps".into()));
    assert!(evaluate("net.greets(1)", &mut Budget::default()).is_err());
}

#[test]
fn a_program_goes_to_any_thread() {
    fn shared<T: Send + Sync>() {}
    shared::<Program>();
    shared::<Environment>();
}

#[test]
fn the_deepest_expressions_fit_the_stack_of_a_thread() {
    let depth = adit_policy::cel::MAX_DEPTH;
    let texts = [
        format!("{}any{}", "dyn(".repeat(depth - 1), ")".repeat(depth - 1)),
        format!("{}any{}", "[".repeat(depth - 1), "]".repeat(depth - 1)),
        format!("{}any{}", "{'a': ".repeat(depth - 1), "}".repeat(depth - 1)),
        format!("{}any", "true ? 1 : dyn(false) ? 2 : ".repeat(depth / 2 - 2)),
        format!("{}any", "!".repeat(depth - 1)),
        format!("any{}", " + any".repeat(depth - 1)),
        (1..depth).fold("any".to_owned(), |text, _| format!("[1].map(x, {text})")),
        format!("{}any{}", "(".repeat(depth - 1), ")".repeat(depth - 1)),
    ];
    let thread = std::thread::Builder::new().stack_size(2 << 20); // what a thread has
    let run =
        move || texts.map(|text| (outcome(&text).is_err(), outcome(&format!("'%s'.format([any]) == {text}")).is_err()));

    // Some are refused for their types or for one level too many, and none ends the thread.
    assert_eq!(thread.spawn(run).expect("a thread").join().map(|outcomes| outcomes.len()).ok(), Some(8));
}
