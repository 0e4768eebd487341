//! Compares what expressions are here with what the `cel` crate, an independent implementation of the language, says they are.
//!
//! `adit-policy-oracle [CASES] [SEED]`: makes expressions of the part that both have, evaluates each in both, and ends with 1 when two
//! outcomes differ that are not in `DIVERGENCES`.

use adit_policy::cel as ours;

/// Where the oracle differs from the language definition, and what shows it: a text, and what the oracle says of it.
type Divergence = (&'static str, fn(&str, &str) -> bool);

const DIVERGENCES: &[Divergence] = &[
    // Only doubles make one; here every order with one is false, as Google's implementations have it.
    ("what is not a number has no order there, and to ask for it is an error", |text, there| {
        there == "error" && ["0.0", "1e300", "double("].iter().any(|double| text.contains(double))
    }),
];

const CASES: u64 = 10_000;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let (cases, seed) = (arguments.next().unwrap_or(CASES), arguments.next().unwrap_or(1));
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let environment = ours::Environment::standard();
    let (mut compared, mut refused, mut known, mut wrong) = (0, 0, 0, 0);
    for _ in 0..cases {
        let text = dice.boolean(4);
        let Ok(program) = environment.compile(&text) else {
            refused += 1;
            continue;
        };
        let mine = match program.evaluate(&Nothing, &mut ours::Budget::new(1_000_000, 1 << 24)) {
            Ok(value) => shown(&value),
            Err(_) => "error".into(),
        };
        let other = theirs(&text);
        compared += 1;
        if mine == other {
            continue;
        }
        if DIVERGENCES.iter().any(|(_, shows)| shows(&text, &other)) {
            known += 1;
        } else {
            wrong += 1;
            println!("{text}\n  here {mine}, there {other}");
        }
    }
    for (what, _) in DIVERGENCES {
        println!("known: {what}");
    }
    println!("{compared} compared, {known} differ as is known, {wrong} otherwise; {refused} refused by their types");
    std::process::exit(i32::from(wrong > 0));
}

/// Expressions have no facts.
struct Nothing;

impl ours::Facts for Nothing {
    fn attribute(&self, _: ours::Attribute) -> Option<ours::Value<'_>> {
        None
    }
}

fn theirs(text: &str) -> String {
    let outcome = std::panic::catch_unwind(|| {
        let program = cel::Program::compile(text).ok()?;
        program.execute(&cel::Context::default()).ok()
    });
    match outcome {
        Ok(Some(cel::Value::Bool(truth))) => truth.to_string(),
        Ok(Some(other)) => format!("{other:?}"),
        Ok(None) => "error".into(),
        Err(_) => "a panic".into(),
    }
}

fn shown(value: &ours::Value<'_>) -> String {
    value.as_bool().map_or_else(|| format!("{value:?}"), |truth| truth.to_string())
}

/// Makes expressions by a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % end
    }

    fn one_of(&mut self, all: &[&str]) -> String {
        all[self.below(all.len())].into()
    }

    /// Every value ends in a comparison, so that outcomes are bools or errors.
    fn boolean(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.one_of(&["true", "false"]);
        }
        let d = depth - 1;
        match self.below(14) {
            0 => format!("({} && {})", self.boolean(d), self.boolean(d)),
            1 => format!("({} || {})", self.boolean(d), self.boolean(d)),
            2 => format!("!({})", self.boolean(d)),
            3 => format!("({} ? {} : {})", self.boolean(d), self.boolean(d), self.boolean(d)),
            4 => self.compared(d, Self::int),
            5 => self.compared(d, Self::uint),
            6 => self.compared(d, Self::double),
            7 => self.compared(d, Self::string),
            8 => {
                let name = self.one_of(&["contains", "startsWith", "endsWith"]);
                format!("({}).{name}({})", self.string(d), self.string(d))
            }
            9 => format!("{} in {}", self.int(d), self.list(d)),
            10 => {
                let name = self.one_of(&["all", "exists", "exists_one"]);
                let operator = self.one_of(&["==", "<", ">="]);
                format!("{}.{name}(x, x {operator} {})", self.list(d), self.int(d))
            }
            11 => format!("{} == {}", self.list(d), self.list(d)),
            12 => format!("{} == {}", self.map(d), self.map(d)),
            _ => format!("'{}' in {}", self.one_of(&["a", "b"]), self.map(d)),
        }
    }

    fn compared(&mut self, depth: usize, operand: fn(&mut Self, usize) -> String) -> String {
        let operator = self.one_of(&["==", "!=", "<", "<=", ">", ">="]);
        format!("({} {operator} {})", operand(self, depth), operand(self, depth))
    }

    fn int(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.one_of(&["0", "1", "-1", "2", "7", "9223372036854775807", "-9223372036854775808"]);
        }
        let d = depth - 1;
        match self.below(9) {
            0 => self.int(0),
            1 => {
                let operator = self.one_of(&["+", "-", "*", "/", "%"]);
                format!("({} {operator} {})", self.int(d), self.int(d))
            }
            2 => format!("-({})", self.int(d)),
            3 => format!("size({})", self.string(d)),
            4 => format!("size({})", self.list(d)),
            5 => format!("{}[{}]", self.list(d), self.int(0)),
            6 => format!("{}.{}", self.map(d), self.one_of(&["a", "b"])),
            7 => format!("int({})", self.uint(d)),
            _ => format!("({} ? {} : {})", self.boolean(d), self.int(d), self.int(d)),
        }
    }

    fn uint(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.one_of(&["0u", "1u", "3u", "18446744073709551615u"]);
        }
        let d = depth - 1;
        match self.below(4) {
            0 => self.uint(0),
            1 => format!("uint({})", self.int(d)),
            _ => {
                let operator = self.one_of(&["+", "-", "*", "/", "%"]);
                format!("({} {operator} {})", self.uint(d), self.uint(d))
            }
        }
    }

    fn double(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.one_of(&["0.0", "1.5", "-2.25", "1e300"]);
        }
        let d = depth - 1;
        match self.below(4) {
            0 => self.double(0),
            1 => format!("double({})", self.int(d)),
            _ => {
                let operator = self.one_of(&["+", "-", "*", "/"]);
                format!("({} {operator} {})", self.double(d), self.double(d))
            }
        }
    }

    fn string(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.one_of(&["''", "'a'", "\"b\"", "'ab'", r"'\x41\n'", "r'\\n'", "'''c'd'''"]);
        }
        let d = depth - 1;
        match self.below(4) {
            0 => self.string(0),
            1 => format!("string({})", self.int(d)),
            2 => format!("({} ? {} : {})", self.boolean(d), self.string(d), self.string(d)),
            _ => format!("({} + {})", self.string(d), self.string(d)),
        }
    }

    fn list(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.one_of(&["[]", "[1]", "[1, 2, 3]", "[7, -1]"]);
        }
        let d = depth - 1;
        match self.below(5) {
            0 => self.list(0),
            1 => format!("({} + {})", self.list(d), self.list(d)),
            2 => format!("{}.map(x, x + {})", self.list(d), self.int(d)),
            3 => format!("{}.filter(x, x > {})", self.list(d), self.int(d)),
            _ => format!("[{}, {}]", self.int(d), self.int(d)),
        }
    }

    fn map(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.one_of(&["{'a': 1}", "{'b': 2, 'a': 1}", "{'c': 3}"]);
        }
        format!("{{'a': {}, 'b': {}}}", self.int(depth - 1), self.int(depth - 1))
    }
}
