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

    /// Returns the names and types of a message's fields.
    pub fn fields(&self, message: &str) -> impl Iterator<Item = (&str, &str)> {
        self.0.get(message).into_iter().flatten().map(|field| (field.name.as_str(), field.kind.as_str()))
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

    /// Returns the octets of a message of this name with these fields.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn write(&self, message: &str, value: &Value) -> Result<Vec<u8>, String> {
        let fields = self.0.get(message).ok_or_else(|| format!("no message {message}"))?;
        let given = value.as_object().ok_or_else(|| format!("{message} is no object"))?;
        if let Some(unknown) = given.keys().find(|name| !fields.iter().any(|field| field.name == **name)) {
            return Err(format!("{message} has no field {unknown}"));
        }
        let mut out = Vec::new();
        for field in fields {
            let Some(value) = given.get(&field.name).filter(|value| !value.is_null()) else { continue };
            let number = value.as_u64().or_else(|| value.as_bool().map(u64::from));
            let content = match (number, value) {
                (Some(number), _) => {
                    put(&mut out, field.number << 3);
                    put(&mut out, number);
                    continue;
                }
                (None, Value::Array(list)) => {
                    let mut packed = Vec::new();
                    list.iter().filter_map(Value::as_u64).for_each(|number| put(&mut packed, number));
                    packed
                }
                (None, Value::String(text)) if field.kind == "bytes" => {
                    crate::octets(text).ok_or_else(|| format!("{} is not hexadecimal", field.name))?
                }
                (None, Value::String(text)) => text.clone().into_bytes(),
                (None, value) => self.write(&field.kind, value)?,
            };
            put(&mut out, field.number << 3 | 2);
            put(&mut out, content.len() as u64);
            out.extend(content);
        }
        Ok(out)
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

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        let [low, ..] = number.to_le_bytes();
        out.push(low | 0x80);
        number >>= 7;
    }
    let [low, ..] = number.to_le_bytes();
    out.push(low);
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
