//! Values of any type, as a document writes them, with expressions in their texts.

use super::{
    read::{Reader, join},
    template::{Template, alone},
    yaml::{Node, Value as Written},
};
use crate::{
    cel::{Budget, Error, Facts, Fault, Position, Program, Value},
    environment::Phase,
};

/// A value of any type. A text that is one `${…}` is what its expression is, of whatever type; any other text is a text.
#[derive(Debug)]
pub enum Data {
    /// The same whatever the facts.
    Constant(Value<'static>),
    /// What an expression is.
    Program(Program),
    /// Text with expressions in it.
    Text(Template),
    /// A list.
    List(Vec<Self>),
    /// A map, each name once.
    Map(Vec<(String, Self)>),
}

impl Data {
    /// Reads a value.
    pub(crate) fn read(reader: &mut Reader<'_>, phase: Phase, path: &str, node: &Node) -> Option<Self> {
        Some(match &node.value {
            Written::Null => Self::Constant(Value::Null),
            Written::Bool(truth) => Self::Constant(Value::Bool(*truth)),
            Written::Int(number) => Self::Constant(Value::Int(*number)),
            Written::Number(number) => Self::Constant(Value::Double(number.get())),
            Written::Text(text) => match alone(text) {
                Some(inner) => Self::Program(reader.program(phase, path, node, text, inner)?),
                None => Self::Text(reader.template(phase, path, node, text)?),
            },
            Written::List(nodes) => {
                let read = |(at, node)| Self::read(reader, phase, &format!("{path}[{at}]"), node);
                Self::List(nodes.iter().enumerate().map(read).collect::<Option<_>>()?)
            }
            Written::Map(entries) => {
                let mut map = Vec::with_capacity(entries.len());
                for (name, _, node) in entries {
                    map.push((name.clone(), Self::read(reader, phase, &join(path, name), node)?));
                }
                Self::Map(map)
            }
        })
    }

    /// Returns what it is for these facts, for whose octets it asks the budget.
    ///
    /// # Errors
    /// That of an expression, with its place in the expression.
    pub fn evaluate(&self, facts: &dyn Facts, budget: &mut Budget) -> Result<Value<'static>, Error> {
        let start = |fault: Fault| Error { at: Position { line: 1, column: 1 }, fault };
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Program(program) => {
                let value = program.evaluate(facts, budget)?;
                value.detach(budget).map_err(start)
            }
            Self::Text(template) => template.render(facts, budget).map(Value::from),
            Self::List(list) => {
                let elements = list.iter().map(|data| data.evaluate(facts, budget)).collect::<Result<_, _>>()?;
                Value::list(elements, budget).map_err(start)
            }
            Self::Map(map) => {
                let entry =
                    |(name, data): &(String, Self)| Ok((Value::from(name.clone()), data.evaluate(facts, budget)?));
                let entries = map.iter().map(entry).collect::<Result<_, _>>()?;
                Value::map(entries, budget).map_err(start)
            }
        }
    }
}
