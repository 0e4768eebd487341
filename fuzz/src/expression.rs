//! Expressions of a policy: any text, and texts that are nearly right.

use std::sync::OnceLock;

use adit_policy::cel::{
    Attribute, Budget, Environment, Facts, List, ListSource, Map, MapSource, Timestamp, Type, Value, parse,
};

use crate::Choices;

/// Any text is read or refused; what is printed is read as the same tree; what is compiled has one outcome, which a smaller budget
/// changes to nothing but its own end.
pub fn expression(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let (steps, room) = (choices.size(2_000) as u64, choices.size(20_000) as u64);
    let text =
        if choices.coin() { String::from_utf8_lossy(choices.rest()).into_owned() } else { made(&mut choices, 6) };

    if let Ok(tree) = parse(&text) {
        let printed = tree.to_string();
        assert_eq!(parse(&printed).as_ref(), Ok(&tree), "{text} is printed as {printed}");
    }
    let Ok(program) = environment().compile(&text) else { return };
    let facts = Caller(Pairs);
    let mut budget = Budget::new(20_000, 1 << 17);
    let whole = program.evaluate(&facts, &mut budget);
    assert_eq!(program.evaluate(&facts, &mut Budget::new(20_000, 1 << 17)), whole, "{text}");

    let part = program.evaluate(&facts, &mut Budget::new(steps, room));
    if !part.as_ref().is_err_and(|error| error.fault.is_limit()) {
        assert_eq!(part, whole, "{text} with {steps} steps and {room} octets");
    }
    if let (Ok(value), Some(kind)) = (&whole, program.ty().kind()) {
        // A list or map of facts has what was declared, and so has what is made of it.
        assert!(value.kind() == kind || value == &Value::Null, "{text} is {value:?} and was to be {kind:?}");
    }
}

fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut environment = Environment::standard();
        environment.attribute("conn.client_ip", Type::STRING);
        environment.attribute("req.headers", Type::map(Type::STRING, Type::STRING));
        environment.attribute("req.accepts", Type::list(Type::STRING));
        environment.attribute("time.now", Type::TIMESTAMP);
        environment.attribute("any", Type::Dyn);
        environment.attribute("absent", Type::INT);
        environment
    })
}

struct Caller(Pairs);

impl Facts for Caller {
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>> {
        Some(match attribute.0 {
            0 => "1.2.3.4".into(),
            1 => Value::Map(Map::Source(&self.0)),
            2 => Value::List(List::Source(&self.0)),
            3 => Value::Timestamp(Timestamp::new(1_234_567_890, 5)?),
            4 => Value::Uint(3),
            _ => return None,
        })
    }
}

const PAIRS: &[(&str, &str)] = &[("host", "a.example"), ("x", "äbc")];

struct Pairs;

impl MapSource for Pairs {
    fn len(&self) -> usize {
        PAIRS.len()
    }

    fn get(&self, key: &Value<'_>) -> Option<Value<'_>> {
        let name = key.as_str()?;
        PAIRS.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).into())
    }

    fn key(&self, index: usize) -> Option<Value<'_>> {
        PAIRS.get(index).map(|(name, _)| (*name).into())
    }
}

impl ListSource for Pairs {
    fn len(&self) -> usize {
        PAIRS.len()
    }

    fn get(&self, index: usize) -> Option<Value<'_>> {
        PAIRS.get(index).map(|(_, value)| (*value).into())
    }
}

const LEAVES: &[&str] = &[
    "conn.client_ip",
    "req.headers",
    "req.accepts",
    "time.now",
    "any",
    "absent",
    "x",
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "2u",
    "1.5",
    "'a'",
    "'äb'",
    "''",
    "b'a\\xff'",
    "true",
    "false",
    "null",
    "[]",
    "{}",
    "[1, 2u, 3.0]",
    "{'a': 1}",
    "duration('1h')",
    "int",
    "'%s %d'",
    "r'a+|\\w'",
];
const OPERATORS: &[&str] = &["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"];
const MACROS: &[&str] = &["all", "exists", "exists_one", "map", "filter"];
const MEMBERS: &[&str] = &[
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "lowerAscii",
    "upperAscii",
    "replace",
    "split",
    "substring",
    "trim",
    "reverse",
    "join",
    "format",
    "getHours",
    "getDate",
    "getDayOfYear",
    "getMilliseconds",
    "getSeconds",
];
const GLOBALS: &[&str] = &[
    "dyn",
    "type",
    "size",
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "timestamp",
    "duration",
    "matches",
    "strings.quote",
    "base64.encode",
    "base64.decode",
];

/// Makes an expression of at most some depth; types are often hidden, so that it compiles.
fn made(choices: &mut Choices<'_>, depth: usize) -> String {
    if depth == 0 || choices.is_over() {
        return choices.one_of(LEAVES).into();
    }
    let inner = |choices: &mut Choices<'_>| {
        let inner = made(choices, depth - 1);
        if choices.coin() { format!("dyn({inner})") } else { format!("({inner})") }
    };
    match choices.below(12) {
        0 => choices.one_of(LEAVES).into(),
        1 => format!("!{}", inner(choices)),
        2 => format!("-{}", inner(choices)),
        3 => format!("{} ? {} : {}", inner(choices), inner(choices), inner(choices)),
        4 => format!("{}[{}]", inner(choices), inner(choices)),
        5 => format!("has({}.a) || {}.`a-b` == 1", inner(choices), inner(choices)),
        6 => format!("{}.{}(x, {})", inner(choices), choices.one_of(MACROS), inner(choices)),
        7 => format!("[{}, {}]", inner(choices), inner(choices)),
        8 => format!("{{{}: {}}}", inner(choices), inner(choices)),
        9 => {
            let arguments: Vec<_> = (0..choices.below(4)).map(|_| inner(choices)).collect();
            format!("{}.{}({})", inner(choices), choices.one_of(MEMBERS), arguments.join(", "))
        }
        10 => format!("{}({})", choices.one_of(GLOBALS), inner(choices)),
        _ => format!("{} {} {}", inner(choices), choices.one_of(OPERATORS), inner(choices)),
    }
}
