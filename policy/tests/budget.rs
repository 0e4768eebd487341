//! What an expression may cost: whatever it is, not more than its budget, and that is told apart from any other error.

mod common;

use core::cell::Cell;

use adit_policy::cel::{Attribute, Budget, Error, Facts, Fault, Resource, Value};
use common::{Request, environment};

#[test]
fn nested_macros_end_with_the_budget() {
    let mut text = "true".to_owned();
    for level in 0..8 {
        text = format!("[0,1,2,3,4,5,6,7,8,9].all(x{level}, {text})");
    }

    for text in [
        text.clone(),
        format!("{text} || true"),
        format!("!({text}) || true"),
        format!("[1].exists(y, {text} || true)"),
    ] {
        assert_eq!(
            spend(&text, Budget::new(100_000, 1 << 20)),
            (Fault::OverBudget(Resource::Steps), 100_000),
            "{text}"
        );
    }
}

#[test]
fn what_grows_ends_with_the_budget() {
    let mut doubled = "conn.client_ip".to_owned();
    for _ in 0..20 {
        doubled = format!("[{doubled}].map(x, x + x)[0]");
    }
    for text in [
        &*doubled,
        "req.url.path.replace('', 'aaaaaaaaaaaaaaaa').replace('', 'aaaaaaaaaaaaaaaa').replace('', 'aaaaaaaaaaaaaaaa').replace('', conn.client_ip + 'aaaaaaaaaaaaaaaaaaaaaaaaaa')",
        "[1,2,3,4,5,6,7,8,9,0].map(a, [1,2,3,4,5,6,7,8,9,0].map(b, [1,2,3,4,5,6,7,8,9,0].map(c, [a, b, c].map(d, [a, b, c, d]))))",
        "[1,2,3,4,5,6,7,8].map(a, [1,2,3,4,5,6,7,8].map(b, '%.100f %.100f %.100f'.format([1.0, 2, 3u]))).map(x, x.join().split(''))",
    ] {
        assert_eq!(spend(text, Budget::new(10_000_000, 100_000)).0, Fault::OverBudget(Resource::Octets), "{text}");
    }
}

#[test]
fn patterns_cost_what_they_are_and_what_they_are_matched_with() {
    // A pattern that is made anew for each of many elements.
    let text = "[1,2,3,4,5,6,7,8,9,0].all(a, [1,2,3,4,5,6,7,8,9,0].all(b, 'a'.matches(conn.client_ip) || true))";
    assert_eq!(spend(text, Budget::new(10_000_000, 1 << 20)).0, Fault::OverBudget(Resource::Octets));
    assert_eq!(spend(text, Budget::new(500_000, 1 << 30)).0, Fault::OverBudget(Resource::Steps));

    // A large one for one element.
    let text = "req.url.path.replace('', conn.client_ip).replace('', conn.client_ip).replace('', conn.client_ip).matches('([a-z]{0,99}[0-9]{0,99}){0,9}x$')";
    assert_eq!(spend(text, Budget::new(1_500, 1 << 20)).0, Fault::OverBudget(Resource::Steps));
}

#[test]
fn a_value_that_would_be_nested_too_deep_is_refused() {
    let wraps = |count: usize| {
        let inner = format!("{}x{}", "[".repeat(24), "]".repeat(24));
        (0..count).fold("[any]".to_owned(), |text, _| format!("{text}.map(x, {inner})"))
    };
    let program = environment().compile(&wraps(2)).expect("small");
    assert!(program.evaluate(&Request::default(), &mut Budget::default()).is_ok());

    assert_eq!(spend(&wraps(3), Budget::default()).0, Fault::TooDeep);
    assert_eq!(spend(&format!("{} == [] || true", wraps(3)), Budget::default()).0, Fault::TooDeep);
}

#[test]
fn the_last_step_is_enough_and_one_fewer_is_not() {
    for text in [
        "conn.client_ip == '1.2.3.4' && req.headers['x'].startsWith('a')",
        "req.accepts.map(x, x.size() > 2, x + '!').join(',')",
        "'%s'.format([req.headers])",
        "{'a': any}.a in [1, any]",
    ] {
        let program = environment().compile(text).expect(text);
        let mut budget = Budget::default();
        let request = Request::default();
        let value = program.evaluate(&request, &mut budget).expect(text);
        let (steps, octets) =
            (Budget::default().steps() - budget.steps(), Budget::default().octets() - budget.octets());

        assert_eq!(program.evaluate(&request, &mut Budget::new(steps, octets)), Ok(value), "{text}");
        for fewer in 0..steps {
            let outcome = program.evaluate(&request, &mut Budget::new(fewer, octets));
            let limit = |error: Error| error.fault == Fault::OverBudget(Resource::Steps);
            assert!(outcome.is_err_and(limit), "{text} with {fewer} steps");
        }
        for fewer in 0..octets {
            let outcome = program.evaluate(&request, &mut Budget::new(steps, fewer));
            let limit = |error: Error| error.fault == Fault::OverBudget(Resource::Octets);
            assert!(outcome.is_err_and(limit), "{text} with {fewer} octets");
        }
    }
}

#[test]
fn facts_are_asked_no_more_often_than_steps_were_taken() {
    struct Counting(Cell<u64>, Request);
    impl Facts for Counting {
        fn attribute(&self, attribute: Attribute) -> Option<Value<'_>> {
            self.0.set(self.0.get() + 1);
            self.1.attribute(attribute)
        }
    }
    let facts = Counting(Cell::new(0), Request::default());
    let text =
        "req.accepts.all(a, req.accepts.all(b, req.accepts.all(c, conn.client_ip != '' && has(conn.client_ip))))";
    let program = environment().compile(text).expect(text);

    for steps in 0..200 {
        facts.0.set(0);
        _ = program.evaluate(&facts, &mut Budget::new(steps, 1_000));
        assert!(facts.0.get() <= steps, "{} for {steps}", facts.0.get());
    }
}

/// Returns why an expression has no value within a budget, and how many steps that took.
fn spend(text: &str, mut budget: Budget) -> (Fault, u64) {
    let before = budget.steps();
    let program = environment().compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let request = Request::default();
    match program.evaluate(&request, &mut budget) {
        Ok(value) => panic!("{text} is {value:?}"),
        Err(Error { fault, .. }) => (fault, before - budget.steps()),
    }
}
