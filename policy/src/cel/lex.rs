//! Tokens and literals (language definition, "Syntax").

use super::error::{CompileError, Position, Refusal};

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Lexeme<'t> {
    pub(super) start: usize,
    pub(super) token: Token<'t>,
}

/// What stands there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'t> {
    Ident(&'t str),
    /// A field name between backticks.
    Quoted(&'t str),
    /// A whole number without its sign.
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

/// Takes a text apart.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the next token, [`Token::End`] for ever after the last.
    pub(super) fn token(&mut self) -> Result<Lexeme<'t>, CompileError> {
        self.skip_space();
        let start = self.at;
        let token = self.read()?;
        Ok(Lexeme { start, token })
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at + ahead).copied().unwrap_or_default()
    }

    fn take(&mut self, len: usize) -> &'t str {
        let taken = self.rest().get(..len).unwrap_or_default();
        self.at += taken.len();
        taken
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        let len = self.rest().bytes().take_while(|octet| belongs(*octet)).count();
        self.take(len)
    }

    fn error(&self, offset: usize, what: impl Into<String>) -> CompileError {
        CompileError::new(Position::of(self.text, offset), Refusal::Syntax, what)
    }

    fn skip_space(&mut self) {
        loop {
            self.take_while(|octet| matches!(octet, b' ' | b'\t' | b'\n' | b'\r' | 0x0c));
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|octet| octet != b'\n');
        }
    }

    fn read(&mut self) -> Result<Token<'t>, CompileError> {
        let first = self.peek(0);
        match first {
            0 if self.rest().is_empty() => Ok(Token::End),
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_ascii_digit() => self.number(),
            b'"' | b'\'' => self.string(false).map(Token::String),
            b'r' | b'R' if is_quote(self.peek(1)) => {
                self.at += 1;
                self.string(true).map(Token::String)
            }
            b'b' | b'B' if is_quote(self.peek(1)) => {
                self.at += 1;
                self.bytes(false).map(Token::Bytes)
            }
            b'b' | b'B' if matches!(self.peek(1), b'r' | b'R') && is_quote(self.peek(2)) => {
                self.at += 2;
                self.bytes(true).map(Token::Bytes)
            }
            b'_' | b'a'..=b'z' | b'A'..=b'Z' => Ok(Token::Ident(self.take_while(is_word))),
            b'`' => self.quoted(),
            _ => self.symbol(),
        }
    }

    fn symbol(&mut self) -> Result<Token<'t>, CompileError> {
        let rest = self.rest();
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            self.at += symbol.len();
            return Ok(Token::Symbol(symbol));
        }
        let found = rest.chars().next().unwrap_or_default();
        let error = self.error(self.at, format!("unexpected character {found:?}"));
        Err(match found {
            '=' => error.remedy("to compare, write `==`"),
            '&' => error.remedy("for a logical and, write `&&`"),
            '|' => error.remedy("for a logical or, write `||`"),
            '“' | '”' | '‘' | '’' => error.remedy("write straight quotes"),
            _ => error,
        })
    }

    /// A field name that is no identifier: language definition, "Field selection", escaped identifiers.
    fn quoted(&mut self) -> Result<Token<'t>, CompileError> {
        let start = self.at;
        self.at += 1;
        let name = self.take_while(|octet| is_word(octet) || matches!(octet, b'.' | b'-' | b'/' | b' '));
        if self.peek(0) != b'`' || name.is_empty() {
            return Err(self
                .error(start, "a name between backticks is not ended")
                .remedy("it may have letters, digits, `_`, `.`, `-`, `/` and spaces; else write `map['name']`"));
        }
        self.at += 1;
        Ok(Token::Quoted(name))
    }

    fn number(&mut self) -> Result<Token<'t>, CompileError> {
        let start = self.at;
        if self.peek(0) == b'0' && matches!(self.peek(1), b'x' | b'X') {
            self.at += 2;
            let digits = self.take_while(|octet| octet.is_ascii_hexdigit());
            return self.whole(start, u64::from_str_radix(digits, 16).ok());
        }
        let digits = self.take_while(|octet| octet.is_ascii_digit());
        let mut whole = true;
        if self.peek(0) == b'.' && self.peek(1).is_ascii_digit() {
            whole = false;
            self.at += 1;
            self.take_while(|octet| octet.is_ascii_digit());
        }
        let sign = usize::from(matches!(self.peek(1), b'+' | b'-'));
        if matches!(self.peek(0), b'e' | b'E') && self.peek(1 + sign).is_ascii_digit() {
            whole = false;
            self.at += 1 + sign;
            self.take_while(|octet| octet.is_ascii_digit());
        }
        if whole {
            return self.whole(start, digits.parse().ok());
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Token::Double(number)),
            _ => Err(self.error(start, format!("the number {text} is too large"))),
        }
    }

    fn whole(&mut self, start: usize, number: Option<u64>) -> Result<Token<'t>, CompileError> {
        let number = number.ok_or_else(|| self.error(start, "the number is too large, or has no digits"))?;
        if matches!(self.peek(0), b'u' | b'U') {
            self.at += 1;
            return Ok(Token::Uint(number));
        }
        Ok(Token::Int(number))
    }

    fn string(&mut self, raw: bool) -> Result<String, CompileError> {
        let mut string = String::new();
        self.quotation(raw, |lexer, piece, start| {
            string.push(match piece {
                Piece::Char(c) => c,
                Piece::Octet(octet) => char::from(octet),
                Piece::Code(code) => {
                    char::from_u32(code).ok_or_else(|| lexer.error(start, "the escape is no character of Unicode"))?
                }
            });
            Ok(())
        })?;
        Ok(string)
    }

    fn bytes(&mut self, raw: bool) -> Result<Vec<u8>, CompileError> {
        let mut bytes = Vec::new();
        self.quotation(raw, |lexer, piece, start| {
            match piece {
                Piece::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Piece::Octet(octet) => bytes.push(octet),
                Piece::Code(_) => {
                    return Err(lexer
                        .error(start, "bytes have no escapes of characters")
                        .remedy("write the octets as \\xHH, or the character itself"));
                }
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Reads what stands between quotes, of whichever kind.
    fn quotation(
        &mut self,
        raw: bool,
        mut push: impl FnMut(&Self, Piece, usize) -> Result<(), CompileError>,
    ) -> Result<(), CompileError> {
        let start = self.at;
        let quote = self.rest().get(..1).unwrap_or_default();
        let end =
            if self.peek(1) == self.peek(0) && self.peek(2) == self.peek(0) { quote.repeat(3) } else { quote.into() };
        self.at += end.len();
        loop {
            let at = self.at;
            if self.rest().starts_with(&end) {
                self.at += end.len();
                return Ok(());
            }
            let Some(c) = self.rest().chars().next() else {
                return Err(self.error(start, "a string is not ended").remedy(format!("end it with {end}")));
            };
            self.at += c.len_utf8();
            let piece = match c {
                '\n' | '\r' if end.len() == 1 => {
                    return Err(self
                        .error(start, "a string is not ended on its line")
                        .remedy("write \\n, or quote it with three quotes"));
                }
                '\\' if !raw => self.escape(at)?,
                _ => Piece::Char(c),
            };
            push(self, piece, at)?;
        }
    }

    fn escape(&mut self, start: usize) -> Result<Piece, CompileError> {
        let kind = self.peek(0);
        let piece = match kind {
            b'a' => Piece::Octet(0x07),
            b'b' => Piece::Octet(0x08),
            b'f' => Piece::Octet(0x0c),
            b'n' => Piece::Octet(b'\n'),
            b'r' => Piece::Octet(b'\r'),
            b't' => Piece::Octet(b'\t'),
            b'v' => Piece::Octet(0x0b),
            b'"' | b'\'' | b'`' | b'?' | b'\\' => Piece::Octet(kind),
            b'x' | b'X' => return self.digits(start, 1, 2, 16).map(octet_or_code),
            b'u' => return self.digits(start, 1, 4, 16).map(Piece::Code),
            b'U' => return self.digits(start, 1, 8, 16).map(Piece::Code),
            b'0'..=b'3' => return self.digits(start, 0, 3, 8).map(octet_or_code),
            _ => {
                let error = self.error(start, "unknown escape in a string");
                return Err(error.remedy("write \\\\ for a backslash, or r'...' for text without escapes"));
            }
        };
        self.at += 1;
        Ok(piece)
    }

    fn digits(&mut self, start: usize, skip: usize, count: usize, radix: u32) -> Result<u32, CompileError> {
        self.at += skip;
        let digits =
            self.rest().get(..count).filter(|text| text.bytes().all(|octet| char::from(octet).is_digit(radix)));
        match digits.and_then(|digits| u32::from_str_radix(digits, radix).ok()) {
            Some(number) => {
                self.at += count;
                Ok(number)
            }
            None => Err(self.error(start, format!("an escape needs {count} digits of base {radix}"))),
        }
    }
}

/// One element of a quotation.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Char(char),
    /// An octet in bytes, the character of that number in a string.
    Octet(u8),
    Code(u32),
}

fn octet_or_code(number: u32) -> Piece {
    u8::try_from(number).map_or(Piece::Code(number), Piece::Octet)
}

fn is_quote(octet: u8) -> bool {
    matches!(octet, b'"' | b'\'')
}

fn is_word(octet: u8) -> bool {
    octet == b'_' || octet.is_ascii_alphanumeric()
}
