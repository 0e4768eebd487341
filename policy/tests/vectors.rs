//! The public conformance vectors of the language. Where they are from: `vectors/README.md`.

use std::{collections::BTreeMap, fs, path::Path};

use adit_policy::cel::{Attribute, Budget, Duration, Environment, Facts, Kind, Timestamp, Type, Value};
use serde_json::Value as Json;

#[test]
fn every_vector_passes_or_is_listed_with_a_reason() {
    let listed = listed();
    let standard = Environment::standard();
    let mut met = BTreeMap::new();
    let mut wrong = Vec::new();
    for vector in vectors() {
        let name = vector["name"].as_str().expect("a name").to_owned();
        let outcome = run(&vector, &standard);
        match (&outcome, listed.get(&name)) {
            (Err(told), None) => wrong.push(format!("{name}: {} : {told}", vector["expr"])),
            (Ok(()), Some(reason)) => wrong.push(format!("{name} passes, and is listed: {reason}")),
            (Ok(()), None) | (Err(_), Some(_)) => {}
        }
        met.insert(name, outcome.is_ok());
    }
    wrong.extend(listed.keys().filter(|name| !met.contains_key(*name)).map(|name| format!("{name} is no vector")));
    let passed = met.values().filter(|passed| **passed).count();
    println!("{passed} of {} vectors pass, {} are listed", met.len(), listed.len());

    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), met.len(), wrong.join("\n"));
    assert_eq!(passed + listed.len(), 1_392);
}

/// Returns whether a vector has the value, or some error, that it should have.
fn run(vector: &Json, standard: &Environment) -> Result<(), String> {
    let bindings: Vec<(String, Value<'static>)> = match vector.get("bindings").and_then(Json::as_object) {
        Some(bindings) => {
            bindings.iter().map(|(name, value)| Ok((name.clone(), value_of(value)?))).collect::<Result<_, String>>()?
        }
        None => Vec::new(),
    };
    let mut environment = standard.clone();
    for (name, value) in &bindings {
        environment.attribute(name, type_of(value));
    }
    let facts = Bound(bindings);
    let wanted = vector.get("value");
    let program = match (environment.compile(vector["expr"].as_str().expect("an expression")), wanted) {
        (Ok(program), _) => program,
        (Err(error), Some(_)) => return Err(error.to_string()),
        (Err(_), None) => return Ok(()),
    };
    let mut budget = Budget::default();
    match (program.evaluate(&facts, &mut budget), wanted) {
        (Ok(value), Some(wanted)) if value == value_of(wanted)? => Ok(()),
        (Ok(value), Some(wanted)) => Err(format!("is {value:?} and not {wanted}")),
        (Err(error), Some(_)) => Err(error.to_string()),
        (Err(error), None) if error.fault.is_limit() => Err(error.to_string()),
        (Err(_), None) => Ok(()),
        (Ok(value), None) => Err(format!("is {value:?} and not an error")),
    }
}

struct Bound(Vec<(String, Value<'static>)>);

impl Facts for Bound {
    fn attribute(&self, attribute: Attribute) -> Option<Value<'_>> {
        self.0.get(attribute.0).map(|(_, value)| value.clone())
    }
}

fn type_of(value: &Value<'_>) -> Type {
    Type::Of(value.kind())
}

/// Reads the JSON of `cel.expr.Value`.
fn value_of(json: &Json) -> Result<Value<'static>, String> {
    let (kind, held) = json.as_object().and_then(|object| object.iter().next()).ok_or("no value")?;
    let text = || held.as_str().map(str::to_owned).ok_or_else(|| format!("no text: {held}"));
    let number = |text: String| text.parse::<i128>().map_err(|error| error.to_string());
    let mut budget = Budget::default();
    Ok(match kind.as_str() {
        "nullValue" => Value::Null,
        "boolValue" => Value::Bool(held.as_bool().ok_or("no bool")?),
        "int64Value" => Value::Int(number(text()?)?.try_into().map_err(|_| "no int")?),
        "uint64Value" => Value::Uint(number(text()?)?.try_into().map_err(|_| "no uint")?),
        "doubleValue" => Value::Double(text()?.parse().map_err(|_| "no double")?),
        "stringValue" => text()?.into(),
        "bytesValue" => base64(&text()?).into(),
        "typeValue" => Value::Type(kind_of(&text()?)?),
        "listValue" => {
            let elements = held["values"].as_array().into_iter().flatten().map(value_of).collect::<Result<_, _>>()?;
            Value::list(elements, &mut budget).map_err(|fault| fault.to_string())?
        }
        "mapValue" => {
            let entries = held["entries"].as_array().into_iter().flatten();
            let entries = entries.map(|entry| Ok((value_of(&entry["key"])?, value_of(&entry["value"])?)));
            Value::map(entries.collect::<Result<_, String>>()?, &mut budget).map_err(|fault| fault.to_string())?
        }
        "objectValue" => match (held["@type"].as_str(), held["value"].as_str()) {
            (Some("type.googleapis.com/google.protobuf.Duration"), Some(text)) => duration(text)?,
            (Some("type.googleapis.com/google.protobuf.Timestamp"), Some(_)) => {
                Value::Timestamp(Timestamp::new(0, 0).expect("1970"))
            }
            _ => return Err(format!("there are no messages: {held}")),
        },
        _ => return Err(format!("there is no {kind}")),
    })
}

fn kind_of(name: &str) -> Result<Kind, String> {
    let kinds = [Kind::Null, Kind::Bool, Kind::Int, Kind::Uint, Kind::Double, Kind::String, Kind::Bytes];
    let more = [Kind::List, Kind::Map, Kind::Timestamp, Kind::Duration, Kind::Type];
    kinds.into_iter().chain(more).find(|kind| kind.name() == name).ok_or_else(|| format!("there is no type {name}"))
}

/// Reads seconds with nine decimals or fewer.
fn duration(text: &str) -> Result<Value<'static>, String> {
    let text = text.trim_end_matches('s');
    let (seconds, decimals) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{seconds}{decimals:0<9}").parse().map_err(|_| format!("no duration: {text}"))?;
    Ok(Value::Duration(Duration::from_nanos(nanos)))
}

/// Reads base64 without the code under test.
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut octets, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.chars().filter(|c| *c != '=') {
        bits = bits << 6 | u32::try_from(DIGITS.find(digit).expect("a digit")).expect("small");
        count += 6;
        if count >= 8 {
            count -= 8;
            octets.push(u8::try_from(bits >> count & 0xff).expect("an octet"));
        }
    }
    octets
}

fn vectors() -> Vec<Json> {
    let mut files: Vec<_> =
        fs::read_dir(root()).expect("readable").map(|entry| entry.expect("readable").path()).collect();
    let others = ["unsupported.json", "webhooks.json"];
    files.retain(|path| path.extension().is_some_and(|it| it == "json") && !others.iter().any(|it| path.ends_with(it)));
    files.sort();
    assert_eq!(files.len(), 16, "{files:?}");
    files
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).expect("readable");
            serde_json::from_str::<Vec<Json>>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

/// Returns the vectors that are outside of this language, and why.
fn listed() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("unsupported.json")).expect("readable");
    let by_reason: BTreeMap<String, Vec<String>> = serde_json::from_str(&text).expect("JSON");
    by_reason
        .into_iter()
        .flat_map(|(reason, names)| names.into_iter().map(move |name| (name, reason.clone())))
        .collect()
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}
