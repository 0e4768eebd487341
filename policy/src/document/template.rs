//! Text with expressions in it: `from ${conn.client_ip}`.

use crate::cel::{
    Budget, CompileError, Environment, Error, Facts, Fault, Kind, MAX_PATTERNS, Position, Program, Refusal, Value,
};

/// Text in which each `${…}` is replaced by what its expression is.
#[derive(Debug, Default)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Program(Program),
}

impl Template {
    /// Reads a text. An error comes with the octet at which its expression begins.
    pub(super) fn parse(environment: &Environment, text: &str) -> Result<Self, (usize, CompileError)> {
        let (mut pieces, mut patterns) = (Vec::new(), 0_usize);
        let mut at = 0;
        while let Some(found) = text.get(at..).and_then(|rest| rest.find("${")) {
            let begin = at + found + 2;
            let refuse = |what: &str, remedy: &str| {
                let at = Position { line: 1, column: 1 };
                let (what, remedy) = (what.into(), Some(remedy.into()));
                (begin, CompileError { at, refusal: Refusal::Syntax, what, remedy })
            };
            let inner = text.get(begin..).unwrap_or_default();
            let len = end(inner).ok_or_else(|| refuse("an expression without an end", "Close it with `}`"))?;
            let program = environment.compile(inner.get(..len).unwrap_or_default()).map_err(|error| (begin, error))?;
            if program.ty().kind().is_some_and(|kind| !writes(kind)) {
                let what = format!("a value of type {} cannot be written into a text", program.ty());
                return Err(refuse(&what, "Make it a string, as by `list.join(', ')` or `base64.encode(bytes)`"));
            }
            pieces.extend(text.get(at..begin - 2).filter(|it| !it.is_empty()).map(|it| Piece::Text(it.into())));
            patterns = program.patterns().saturating_add(patterns);
            if patterns > MAX_PATTERNS {
                let what = format!("the patterns of the text take more than {MAX_PATTERNS} octets");
                return Err(refuse(&what, "Make them fewer or simpler"));
            }
            pieces.push(Piece::Program(program));
            at = begin + len + 1;
        }
        pieces.extend(text.get(at..).filter(|it| !it.is_empty()).map(|it| Piece::Text(it.into())));
        Ok(Self { pieces })
    }

    /// Returns a text without expressions.
    pub(crate) fn of(text: String) -> Self {
        Self { pieces: if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] } }
    }

    /// Writes the text for these facts, for whose octets it asks the budget. What callers sent may be in it: who puts it into a header checks
    /// that it is one line.
    ///
    /// # Errors
    /// That of an expression, with its place in the expression.
    pub fn render(&self, facts: &dyn Facts, budget: &mut Budget) -> Result<String, Error> {
        let mut whole = String::new();
        for piece in &self.pieces {
            let start = |fault| Error { at: Position { line: 1, column: 1 }, fault };
            match piece {
                Piece::Text(text) => {
                    budget.make(text.len()).map_err(start)?;
                    whole.push_str(text);
                }
                Piece::Program(program) => {
                    let text =
                        written(&program.evaluate(facts, budget)?).ok_or_else(|| start(Fault::NoSuchOverload))?;
                    budget.make(text.len()).map_err(start)?;
                    whole.push_str(&text);
                }
            }
        }
        Ok(whole)
    }

    /// Returns the octets that its patterns take.
    pub(super) fn patterns(&self) -> usize {
        let of = |piece: &Piece| if let Piece::Program(program) = piece { program.patterns() } else { 0 };
        self.pieces.iter().map(of).sum()
    }

    /// Returns the text, if it is the same whatever the facts.
    pub fn constant(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            [Piece::Program(_)] | [_, _, ..] => None,
        }
    }

    /// Returns whether a constant part breaks a line or has another control character.
    pub(crate) fn has_control(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Piece::Text(text) => text.chars().any(|c| c.is_control() && c != '\t'),
            Piece::Program(_) => false,
        })
    }
}

/// Returns the expression of a text that is one `${…}` and nothing else.
pub(crate) fn alone(text: &str) -> Option<&str> {
    let inner = text.strip_prefix("${")?;
    let (inner, after) = inner.split_at_checked(end(inner)?)?;
    (after == "}").then_some(inner)
}

/// Returns where the brace is that closes an expression: one that is in no string and closes no other.
fn end(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn writes(kind: Kind) -> bool {
    match kind {
        Kind::Bool | Kind::Int | Kind::Uint | Kind::Double | Kind::String | Kind::Timestamp => true,
        Kind::Null | Kind::Bytes | Kind::List | Kind::Map | Kind::Duration | Kind::Type => false,
    }
}

fn written(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Bool(it) => Some(it.to_string()),
        Value::Int(it) => Some(it.to_string()),
        Value::Uint(it) => Some(it.to_string()),
        Value::Double(it) => Some(it.to_string()),
        Value::String(it) => Some(String::from(&**it)),
        Value::Timestamp(it) => Some(it.to_string()),
        Value::Null | Value::Bytes(_) | Value::List(_) | Value::Map(_) | Value::Duration(_) | Value::Type(_) => None,
    }
}
