//! YAML as this agent reads it.

use core::fmt::Write as _;

/// A value to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// As it stands: a number, `true`, `false`, `null`.
    Plain(String),
    /// Text, quoted where it could be taken for something else.
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Out {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::List(texts.into_iter().map(Self::Text).collect())
    }

    pub(super) fn map<const N: usize>(entries: [(&str, Self); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Writes a map as a document, or below something that is indented by `indent`.
    pub(super) fn write(&self, indent: usize, text: &mut String) {
        let pad = " ".repeat(indent);
        match self {
            Self::Plain(_) | Self::Text(_) => {
                let _ = writeln!(text, "{pad}{}", self.scalar()); // a String takes all
            }
            Self::Map(entries) => {
                for (key, value) in entries {
                    let _ = write!(text, "{pad}{}:", quoted(key));
                    value.after(indent + 2, text);
                }
            }
            Self::List(items) => {
                for item in items {
                    item.write_item(indent, text);
                }
            }
        }
    }

    /// Writes the value after its key.
    fn after(&self, indent: usize, text: &mut String) {
        if self.is_block() {
            text.push('\n');
            self.write(indent, text);
        } else {
            let _ = writeln!(text, " {}", self.scalar());
        }
    }

    fn write_item(&self, indent: usize, text: &mut String) {
        let mut below = String::new();
        if self.is_block() {
            self.write(indent + 2, &mut below)
        } else {
            below = format!("{}{}\n", " ".repeat(indent + 2), self.scalar())
        }
        let _ = write!(text, "{}- {}", " ".repeat(indent), below.get(indent + 2..).unwrap_or_default());
    }

    fn is_block(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Text(_) => false,
            Self::List(items) => !items.is_empty(),
            Self::Map(entries) => !entries.is_empty(),
        }
    }

    fn scalar(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::Text(text) => quoted(text),
            Self::List(_) => "[]".to_owned(),
            Self::Map(_) => "{}".to_owned(),
        }
    }
}

/// Writes a text so that it is read back as that text.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':');
    let begins_well = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "inf", "nan"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word));
    if begins_well && !is_word && text.chars().all(plain) && !text.ends_with(':') {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // What YAML does not print, and what it could take for the end of a line.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::yaml::{self, Node, Value};

    fn outs() -> impl Strategy<Value = Out> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Out::Text),
            prop_oneof![Just("1"), Just("true"), Just("1.5")].prop_map(|text| Out::Plain(text.to_owned())),
            prop_oneof![
                Just("true"),
                Just("007"),
                Just("a: b"),
                Just("~"),
                Just("- x"),
                Just("#"),
                Just("0x1f"),
                Just("a:")
            ]
            .prop_map(Out::text),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Out::List),
                prop::collection::btree_map("[a-z]{1,6}|true|[0-9]{1,3}|a b", inner, 0..4)
                    .prop_map(|map| Out::Map(map.into_iter().collect())),
            ]
        })
    }

    /// Holds what was read against what was written.
    fn same(out: &Out, node: &Node) -> bool {
        match (out, &node.value) {
            (Out::Plain(text) | Out::Text(text), Value::Text(read)) => text == read,
            (Out::List(items), Value::List(nodes)) => {
                items.len() == nodes.len() && items.iter().zip(nodes).all(|(item, node)| same(item, node))
            }
            (Out::Map(entries), Value::Map(nodes)) => {
                entries.len() == nodes.len()
                    && entries.iter().zip(nodes).all(|((key, out), (name, _, node))| key == name && same(out, node))
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in outs()) {
            let document = Out::map([("root", value)]);
            let mut text = String::new();
            document.write(0, &mut text);

            let (node, typed) = yaml::parse_with_types(0, &text).map_err(|error| TestCaseError::fail(format!("{error:?}\n{text}")))?;

            prop_assert!(same(&document, &node), "{text}\n{node:?}");
            let mut plain = 0;
            count(&document, &mut plain);
            prop_assert_eq!(typed.len(), plain, "{}", text);
        }
    }

    fn count(out: &Out, plain: &mut usize) {
        match out {
            Out::Plain(_) => *plain += 1,
            Out::Text(_) => {}
            Out::List(items) => items.iter().for_each(|item| count(item, plain)),
            Out::Map(entries) => entries.iter().for_each(|(_, item)| count(item, plain)),
        }
    }
}
