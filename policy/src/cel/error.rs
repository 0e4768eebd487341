//! Why a text is no expression.

use core::fmt;

/// A place in the text of an expression. Both numbers count from one, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl Position {
    /// Returns the place of an octet of `text`.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { line: u32::try_from(line).unwrap_or(u32::MAX), column: u32::try_from(column).unwrap_or(u32::MAX) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What kind of rule a refused text breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is larger than a limit of [`parse`](super::parse).
    Limit,
    /// It is not of the language.
    Syntax,
    /// It is of the language, and of a part of it that is not offered.
    Unsupported,
    /// It names an attribute or a function that was not declared.
    Name,
    /// It can only ever be an error, because of its types.
    Type,
    /// It calls a function with a constant that the function can never take.
    Argument,
    /// It has a pattern that is no regular expression, or too large a one.
    Pattern,
}

/// Why a text is refused: where, what was wrong, and what may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// Where in the text.
    pub at: Position,
    /// The kind of rule that is broken.
    pub refusal: Refusal,
    /// What was wrong, for a human.
    pub what: String,
    /// What to do about it, for a human.
    pub remedy: Option<String>,
}

impl CompileError {
    pub(crate) fn new(at: Position, refusal: Refusal, what: impl Into<String>) -> Self {
        Self { at, refusal, what: what.into(), remedy: None }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds the name that was perhaps meant.
    pub(crate) fn did_you_mean<'n>(mut self, name: &str, known: impl Iterator<Item = &'n str>) -> Self {
        if let Some(near) = nearest(name, known) {
            self.remedy = Some(format!("did you mean `{near}`?"));
        }
        self
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for CompileError {}

/// Returns the known name that is least far from `name`, unless all are too far.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let most = (name.len() / 3).clamp(1, 3);
    let near = |other: &&'n str| other.len().abs_diff(name.len()) <= most;
    known
        .filter(near)
        .map(|other| (distance(name, other), other))
        .filter(|(far, _)| *far <= most)
        .min()
        .map(|(_, it)| it)
}

/// Returns how many octets are inserted, deleted or changed between two names.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(other.bytes()) {
            let change = diagonal + usize::from(!a.eq_ignore_ascii_case(&b));
            diagonal = *cell;
            *cell = change.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_another_is_told() {
        let known = ["conn.client_ip", "conn.client_port", "req.url"];

        assert_eq!(nearest("conn.client_ib", known.into_iter()), Some("conn.client_ip"));
        assert_eq!(nearest("req.urI", known.into_iter()), Some("req.url"));
        assert_eq!(nearest("time.now", known.into_iter()), None);
    }

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let text = "'é' ||\n  x";

        assert_eq!(Position::of(text, 0), Position { line: 1, column: 1 });
        assert_eq!(Position::of(text, 5), Position { line: 1, column: 5 });
        assert_eq!(Position::of(text, 10), Position { line: 2, column: 3 });
    }
}
