//! From text to tree, by precedence climbing (language definition, "Syntax" and "Macros").

use super::{
    ast::{ALL, ANY, Expr, Fold, Kind, LITERAL_WORDS, Operator},
    error::{CompileError, Position, Refusal},
    lex::{Lexeme, Lexer, Token},
};

/// The most octets of an expression. A page of rules is far shorter; the cap bounds what a text may cost to look at.
pub const MAX_LENGTH: usize = 16_384;
/// The most levels of a tree, of parentheses, and of a value. `&&` and `||` of many operands are one level.
///
/// Whatever walks a tree does so by recursion, so that this bounds the stack: 64 levels take less than 256 KiB of it, and fit the
/// 2 MiB that a thread has even where nothing is optimised.
pub const MAX_DEPTH: usize = 64;
/// The most nodes of a tree.
pub const MAX_NODES: usize = 4_096;

/// Words that the language keeps for itself; after a dot they are names.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Parses a text.
///
/// # Errors
/// [`CompileError`] when it is longer than [`MAX_LENGTH`], deeper than [`MAX_DEPTH`], has more than [`MAX_NODES`] nodes, or is
/// not of the language.
pub fn parse(text: &str) -> Result<Expr, CompileError> {
    if text.len() > MAX_LENGTH {
        let what = format!("the expression has {} octets, and {MAX_LENGTH} are allowed", text.len());
        return Err(CompileError::new(Position { line: 1, column: 1 }, Refusal::Limit, what)
            .remedy("split it into several expressions"));
    }
    let mut lexer = Lexer::new(text);
    let next = lexer.token()?;
    let mut parser = Parser { text, lexer, next, depth: 0, nodes: 0 };
    let expr = parser.expression()?;
    match parser.next.token {
        Token::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

#[derive(Debug)]
struct Parser<'t> {
    text: &'t str,
    lexer: Lexer<'t>,
    next: Lexeme<'t>,
    /// How many expressions are being parsed within each other.
    depth: usize,
    nodes: usize,
}

impl<'t> Parser<'t> {
    fn expression(&mut self) -> Result<Expr, CompileError> {
        if self.depth == MAX_DEPTH {
            return Err(self.too_deep(self.next.start));
        }
        self.depth += 1;
        let condition = self.operation(ANY)?;
        let expr = if self.is_symbol("?") {
            let at = self.advance()?.start;
            let yes = self.operation(ANY)?;
            self.expect(":", "to go on with what holds otherwise")?;
            let no = self.expression()?;
            self.node(at, Kind::Conditional(Box::new([condition, yes, no])))?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(expr)
    }

    /// Parses operators that bind at least as tightly as `least`, and their operands.
    fn operation(&mut self, least: u8) -> Result<Expr, CompileError> {
        let mut left = self.unary()?;
        loop {
            if let Some(operator) = self.operator() {
                let strength = operator.strength();
                if strength < least {
                    return Ok(left);
                }
                let at = self.advance()?.start;
                let right = self.operation(strength + 1)?;
                left = self.node(at, Kind::Binary(operator, Box::new([left, right])))?;
            } else if least <= ALL && self.is_symbol("&&") {
                left = self.chain(left, "&&", ALL, Kind::All)?;
            } else if least <= ANY && self.is_symbol("||") {
                left = self.chain(left, "||", ANY, Kind::Any)?;
            } else {
                return Ok(left);
            }
        }
    }

    /// Parses the rest of `left && …` or `left || …` into one node: a long chain is not a deep tree.
    fn chain(
        &mut self,
        left: Expr,
        symbol: &str,
        strength: u8,
        kind: fn(Vec<Expr>) -> Kind,
    ) -> Result<Expr, CompileError> {
        let at = self.next.start;
        let mut operands = vec![left];
        while self.is_symbol(symbol) {
            self.advance()?;
            operands.push(self.operation(strength + 1)?);
        }
        self.node(at, kind(operands))
    }

    fn operator(&self) -> Option<Operator> {
        let text = match self.next.token {
            Token::Symbol(symbol) => symbol,
            Token::Ident("in") => "in",
            _ => return None,
        };
        Operator::ALL.iter().copied().find(|operator| operator.text() == text)
    }

    fn unary(&mut self) -> Result<Expr, CompileError> {
        let at = self.next.start;
        let mut signs = Vec::new();
        let symbol = if self.is_symbol("!") { "!" } else { "-" };
        while self.is_symbol(symbol) {
            signs.push(self.advance()?.start);
            if signs.len() > MAX_DEPTH {
                return Err(self.too_deep(at));
            }
        }
        // A minus before a number is part of it: the least int has no positive twin.
        let negative =
            symbol == "-" && !signs.is_empty() && matches!(self.next.token, Token::Int(_) | Token::Double(_));
        if negative {
            signs.pop();
        }
        let mut expr = self.member(negative)?;
        for sign in signs.into_iter().rev() {
            let operand = Box::new(expr);
            expr = self.node(sign, if symbol == "!" { Kind::Not(operand) } else { Kind::Negate(operand) })?;
        }
        Ok(expr)
    }

    /// Parses a primary and what is selected, indexed and called on it.
    fn member(&mut self, negative: bool) -> Result<Expr, CompileError> {
        let mut expr = self.primary(negative)?;
        loop {
            let at = self.next.start;
            if self.is_symbol(".") {
                self.advance()?;
                if self.is_symbol("?") {
                    return Err(self.unsupported(at, "optional values"));
                }
                expr = self.select(expr)?;
            } else if self.is_symbol("[") {
                self.advance()?;
                if self.is_symbol("?") {
                    return Err(self.unsupported(at, "optional values"));
                }
                let index = self.expression()?;
                self.expect("]", "to end the index")?;
                expr = self.node(at, Kind::Index(Box::new([expr, index])))?;
            } else if self.is_symbol("{") && matches!(expr.kind, Kind::Ident(_) | Kind::Select(..)) {
                return Err(self
                    .unsupported(at, "messages of Protocol Buffers")
                    .remedy("write a map: {'name': value}"));
            } else {
                return Ok(expr);
            }
        }
    }

    fn select(&mut self, operand: Expr) -> Result<Expr, CompileError> {
        let Lexeme { start: at, token } = self.next.clone();
        let name = match token {
            Token::Ident(name) if !LITERAL_WORDS.contains(&name) => name,
            Token::Quoted(name) => {
                self.advance()?;
                return self.node(at, Kind::Select(Box::new(operand), name.into()));
            }
            _ => return Err(self.unexpected("the name of a field or function")),
        };
        self.advance()?;
        if !self.is_symbol("(") {
            return self.node(at, Kind::Select(Box::new(operand), name.into()));
        }
        let mut arguments = self.arguments()?;
        if let Some(fold) = Fold::named(name, arguments.len().saturating_sub(1)) {
            let bodies = arguments.split_off(1);
            let Some(Expr { kind: Kind::Ident(variable), .. }) = arguments.pop() else {
                let what = format!("the first argument of `{name}` is not the name of a variable");
                return Err(self.error(at, what).remedy(format!("write `list.{name}(x, … x …)`")));
            };
            return self.node(at, Kind::Fold(fold, Box::new(operand), variable, bodies));
        }
        self.node(at, Kind::Call(Some(Box::new(operand)), name.into(), arguments))
    }

    fn primary(&mut self, negative: bool) -> Result<Expr, CompileError> {
        let Lexeme { start: at, token } = self.next.clone();
        let kind = match token {
            Token::Int(size) => Kind::Int(self.int(at, size, negative)?),
            Token::Uint(number) => Kind::Uint(number),
            Token::Double(size) => Kind::Double(if negative { -size } else { size }),
            Token::String(text) => Kind::String(text),
            Token::Bytes(octets) => Kind::Bytes(octets),
            Token::Symbol("(") => {
                self.advance()?;
                let expr = self.expression()?;
                self.expect(")", "to end the parenthesis")?;
                return Ok(expr);
            }
            Token::Symbol("[") => {
                self.advance()?;
                let elements = self.list("]", Self::expression)?;
                return self.node(at, Kind::List(elements));
            }
            Token::Symbol("{") => {
                self.advance()?;
                let entries = self.list("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect(":", "between a key and its value")?;
                    Ok([key, parser.expression()?])
                })?;
                return self.node(at, Kind::Map(entries));
            }
            Token::Symbol(".") => {
                self.advance()?;
                return self.name();
            }
            Token::Ident(_) => return self.name(),
            Token::Quoted(_) | Token::Symbol(_) | Token::End => return Err(self.unexpected("a value")),
        };
        self.advance()?;
        self.node(at, kind)
    }

    fn int(&self, at: usize, size: u64, negative: bool) -> Result<i64, CompileError> {
        let number = if negative { 0_i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() };
        number.ok_or_else(|| {
            self.error(at, format!("the number {size} does not fit an int")).remedy("write a u behind it for a uint")
        })
    }

    /// Parses a word: a literal, a variable, a call.
    fn name(&mut self) -> Result<Expr, CompileError> {
        let Lexeme { start: at, token: Token::Ident(name) } = self.next.clone() else {
            return Err(self.unexpected("a name"));
        };
        let literal = match name {
            "true" => Some(Kind::Bool(true)),
            "false" => Some(Kind::Bool(false)),
            "null" => Some(Kind::Null),
            "in" => return Err(self.unexpected("a value")),
            _ if RESERVED.contains(&name) => {
                return Err(self.error(at, format!("`{name}` is a reserved word")).remedy("choose another name"));
            }
            _ => None,
        };
        self.advance()?;
        if let Some(literal) = literal {
            return self.node(at, literal);
        }
        if !self.is_symbol("(") {
            return self.node(at, Kind::Ident(name.into()));
        }
        let mut arguments = self.arguments()?;
        if name == "has" {
            return match arguments.pop() {
                Some(Expr { kind: Kind::Select(operand, field), .. }) if arguments.is_empty() => {
                    self.node(at, Kind::Has(operand, field))
                }
                Some(Expr { kind: Kind::Index(both), .. }) if arguments.is_empty() => match *both {
                    // As gateways write it of headers: `has(req.headers['x-team'])`.
                    [operand, Expr { kind: Kind::String(field), .. }] if is_field(&field) => {
                        self.node(at, Kind::Has(Box::new(operand), field))
                    }
                    _ => Err(self.error(at, NO_FIELD).remedy("write `has(map.field)`, or `'key' in map`")),
                },
                _ => Err(self.error(at, NO_FIELD).remedy("write `has(map.field)`, or `'key' in map`")),
            };
        }
        self.node(at, Kind::Call(None, name.into(), arguments))
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, CompileError> {
        self.expect("(", "before the arguments")?;
        let mut arguments = Vec::new();
        if !self.is_symbol(")") {
            arguments.push(self.expression()?);
            while self.is_symbol(",") {
                self.advance()?;
                arguments.push(self.expression()?);
            }
        }
        self.expect(")", "to end the arguments")?;
        Ok(arguments)
    }

    /// Parses what is between brackets; a comma may stand behind the last.
    fn list<T>(
        &mut self,
        end: &'static str,
        element: impl Fn(&mut Self) -> Result<T, CompileError>,
    ) -> Result<Vec<T>, CompileError> {
        let mut elements = Vec::new();
        while !self.is_symbol(end) {
            if self.is_symbol("?") {
                return Err(self.unsupported(self.next.start, "optional values"));
            }
            elements.push(element(self)?);
            if !self.is_symbol(",") {
                break;
            }
            self.advance()?;
        }
        self.expect(end, "or a comma and another element")?;
        Ok(elements)
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.next.token, Token::Symbol(next) if next == symbol)
    }

    fn advance(&mut self) -> Result<Lexeme<'t>, CompileError> {
        let next = self.lexer.token()?;
        Ok(core::mem::replace(&mut self.next, next))
    }

    fn expect(&mut self, symbol: &str, why: &str) -> Result<(), CompileError> {
        if !self.is_symbol(symbol) {
            return Err(self.unexpected(&format!("`{symbol}` {why}")));
        }
        self.advance().map(drop)
    }

    fn node(&mut self, at: usize, kind: Kind) -> Result<Expr, CompileError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let what = format!("the expression has more than {MAX_NODES} parts");
            return Err(CompileError::new(Position::of(self.text, at), Refusal::Limit, what)
                .remedy("split it into several expressions"));
        }
        let height = height(&kind);
        if usize::from(height) > MAX_DEPTH {
            return Err(self.too_deep(at));
        }
        Ok(Expr { at: u32::try_from(at).unwrap_or(u32::MAX), height, kind })
    }

    fn error(&self, at: usize, what: impl Into<String>) -> CompileError {
        CompileError::new(Position::of(self.text, at), Refusal::Syntax, what)
    }

    fn unsupported(&self, at: usize, what: &str) -> CompileError {
        CompileError::new(
            Position::of(self.text, at),
            Refusal::Unsupported,
            format!("{what} are not part of this language"),
        )
    }

    fn too_deep(&self, at: usize) -> CompileError {
        let what = format!("the expression is nested deeper than {MAX_DEPTH} levels");
        CompileError::new(Position::of(self.text, at), Refusal::Limit, what).remedy("split it into several expressions")
    }

    fn unexpected(&self, wanted: &str) -> CompileError {
        let found = match &self.next.token {
            Token::End => "the end of the expression".to_owned(),
            Token::Ident(name) | Token::Quoted(name) => format!("`{name}`"),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::Int(_) | Token::Uint(_) | Token::Double(_) => "a number".to_owned(),
            Token::String(_) | Token::Bytes(_) => "a string".to_owned(),
        };
        let error = self.error(self.next.start, format!("expected {wanted}, found {found}"));
        match self.next.token {
            Token::Ident("and") => error.remedy("write `&&`"),
            Token::Ident("or") => error.remedy("write `||`"),
            Token::Ident("not") => error.remedy("write `!`"),
            _ => error,
        }
    }
}

/// Returns how deep the tree of a node is.
fn height(kind: &Kind) -> u16 {
    let highest = |exprs: &[Expr]| exprs.iter().map(|expr| expr.height).max().unwrap_or(0);
    let below = match kind {
        Kind::Null
        | Kind::Bool(_)
        | Kind::Int(_)
        | Kind::Uint(_)
        | Kind::Double(_)
        | Kind::String(_)
        | Kind::Bytes(_)
        | Kind::Ident(_) => 0,
        Kind::Select(operand, _) | Kind::Has(operand, _) | Kind::Not(operand) | Kind::Negate(operand) => operand.height,
        Kind::Index(both) | Kind::Binary(_, both) => highest(&**both),
        Kind::Conditional(three) => highest(&**three),
        Kind::Call(receiver, _, arguments) => {
            highest(arguments).max(receiver.as_ref().map_or(0, |receiver| receiver.height))
        }
        Kind::All(operands) | Kind::Any(operands) | Kind::List(operands) => highest(operands),
        Kind::Map(entries) => entries.iter().map(|entry| highest(entry)).max().unwrap_or(0),
        Kind::Fold(_, range, _, bodies) => highest(bodies).max(range.height),
    };
    below + 1
}

const NO_FIELD: &str = "`has` asks for one field";

/// Returns whether a text can be written as a field between backticks.
fn is_field(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_-".contains(&octet))
}
