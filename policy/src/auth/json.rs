//! JSON as values of expressions, read by the letter: an object that has one name twice would be read in two ways by two readers.

use core::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor},
};

use crate::cel::{Budget, Map, Value};

/// Reads a text that is one object. Whole numbers are int where they fit, else uint or double.
pub(crate) fn object(octets: &[u8]) -> Option<Map<'static>> {
    let mut json = serde_json::Deserializer::from_slice(octets);
    let value = Json.deserialize(&mut json).ok()?;
    json.end().ok()?;
    if let Value::Map(map) = value { Some(map) } else { None }
}

/// Returns the value of a name, if there is one and it is not null.
pub(crate) fn get(map: &Map<'static>, name: &str) -> Option<Value<'static>> {
    map.get(&Value::from(String::from(name))).filter(|value| *value != Value::Null)
}

/// Who reads a value of any type.
struct Json;

impl<'de> DeserializeSeed<'de> for Json {
    type Value = Value<'static>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Json {
    type Value = Value<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Value::Uint(number), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Double(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::from(String::from(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(Self)? {
            list.push(element);
        }
        Value::list(list, &mut endless()).map_err(A::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = Vec::new();
        while let Some(name) = entries.next_key_seed(Name)? {
            map.push((Value::from(name), entries.next_value_seed(Self)?));
        }
        Value::map(map, &mut endless()).map_err(A::Error::custom)
    }
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

/// What is read is bounded by its text, of which the reader has a limit.
fn endless() -> Budget {
    Budget::new(u64::MAX, u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_is_read_and_nothing_else() {
        let map = object(br#" {"a": [1, -1, 1.5, 18446744073709551615, true, null, "\u00e9"], "b": {}} "#).unwrap();
        let Some(Value::List(list)) = get(&map, "a") else { panic!() };

        assert_eq!(
            format!("{list:?}"),
            r#"[Int(1), Int(-1), Double(1.5), Uint(18446744073709551615), Bool(true), Null, String("é")]"#
        );
        for bad in [
            "",
            "[]",
            "1",
            "null",
            "{} {}",
            "{},",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":NaN}",
            "{\"a\":1e999}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":01}",
        ] {
            assert!(object(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_none());
    }

    #[test]
    fn a_name_that_is_there_twice_is_refused_at_any_depth() {
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"x":[{"a":1,"b":2,"a":3}]}"#] {
            assert!(object(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn nesting_has_a_limit_and_no_stack_overflows() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));

        assert!(object(nested(60).as_bytes()).is_some());
        for depth in [64, 127, 1_000, 100_000] {
            assert!(object(nested(depth).as_bytes()).is_none(), "{depth}");
        }
    }
}
