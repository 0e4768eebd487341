//! The schema of the control messages, and a reader of messages that knows nothing but the schema.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The messages of `adit.proto`.
#[derive(Clone, Debug)]
pub struct Schema(BTreeMap<String, Vec<Field>>);

#[derive(Clone, Debug)]
struct Field {
    name: String,
    number: u64,
    kind: String,
    repeated: bool,
}

impl Schema {
    /// Reads the schema of this version.
    ///
    /// # Panics
    /// When a line of `adit.proto` has a form that this crate does not use.
    pub fn load() -> Self {
        let (mut messages, mut current) = (BTreeMap::new(), None);
        for line in include_str!("../spec/adit.proto").lines() {
            let line = line.split("//").next().unwrap_or_default().trim();
            let words: Vec<&str> = line.trim_end_matches(';').split_whitespace().collect();
            match words.as_slice() {
                ["message", name, "{"] => current = Some(messages.entry((*name).to_owned()).or_insert_with(Vec::new)),
                ["enum", ..] | ["}"] => current = None,
                [before @ .., kind, name, "=", number] => {
                    if let Some(fields) = &mut current {
                        fields.push(Field {
                            name: (*name).to_owned(),
                            number: number.parse().expect("a field has a number"),
                            kind: (*kind).to_owned(),
                            repeated: before == ["repeated"],
                        });
                    }
                }
                _ => {}
            }
        }
        Self(messages)
    }

    /// Returns the names of all messages.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns what `octets` say as a message of this name: the fields that are there, octets in hexadecimal.
    ///
    /// A field that is not in the schema is an error, as is all that is not well formed.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn read(&self, message: &str, mut octets: &[u8]) -> Result<Value, String> {
        let fields = self.0.get(message).ok_or_else(|| format!("no message {message}"))?;
        let mut found = Map::new();
        while !octets.is_empty() {
            let tag = number(&mut octets)?;
            let field = fields.iter().find(|field| field.number == tag >> 3);
            let field = field.ok_or_else(|| format!("{message} has no field {}", tag >> 3))?;
            let value = self.value(field, tag & 7, &mut octets)?;
            found.insert(field.name.clone(), value);
        }
        Ok(Value::Object(found))
    }

    fn value(&self, field: &Field, wire: u64, octets: &mut &[u8]) -> Result<Value, String> {
        if wire == 0 {
            let number = number(octets)?;
            return Ok(if field.kind == "bool" { json!(number != 0) } else { json!(number) });
        }
        if wire != 2 {
            return Err(format!("{} has wire type {wire}", field.name));
        }
        let length = usize::try_from(number(octets)?).map_err(|error| error.to_string())?;
        let (mut content, rest) = octets.split_at_checked(length).ok_or("octets are missing")?;
        *octets = rest;
        match field.kind.as_str() {
            "string" => Ok(json!(str::from_utf8(content).map_err(|error| error.to_string())?)),
            "bytes" => Ok(json!(content.iter().map(|octet| format!("{octet:02x}")).collect::<String>())),
            "uint32" if field.repeated => {
                let mut list = Vec::new();
                while !content.is_empty() {
                    list.push(number(&mut content)?);
                }
                Ok(json!(list))
            }
            message => self.read(message, content),
        }
    }
}

fn number(octets: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for place in 0..10 {
        let (octet, rest) = octets.split_first().ok_or("a number has no end")?;
        *octets = rest;
        value |= u64::from(octet & 0x7f) << (7 * place);
        if *octet < 0x80 {
            return Ok(value);
        }
    }
    Err("a number is too long".to_owned())
}
