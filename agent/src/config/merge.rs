//! Several files as one tree: what a later file says wins; endpoints are replaced by name.

use super::yaml::{Node, Value};

/// Lays `over` upon `base`.
pub(crate) fn merge(base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (base_value, Value::Null) => Node { place: base.place, value: base_value },
        (Value::Map(mut entries), Value::Map(more)) => {
            for (key, place, node) in more {
                let Some(at) = entries.iter().position(|(name, ..)| *name == key) else {
                    entries.push((key, place, node));
                    continue;
                };
                let (name, _, below) = entries.remove(at);
                let merged = if name == "endpoints" { endpoints(below, node) } else { merge(below, node) };
                entries.insert(at, (name, place, merged));
            }
            Node { place: base.place, value: Value::Map(entries) }
        }
        (_, value) => Node { place: over.place, value },
    }
}

fn endpoints(base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (Value::List(mut items), Value::List(more)) => {
            items.retain(|item| name(item).is_none_or(|known| !more.iter().any(|item| name(item) == Some(known))));
            items.extend(more);
            Node { place: base.place, value: Value::List(items) }
        }
        (value, Value::Null) => Node { place: base.place, value },
        (_, value) => Node { place: over.place, value },
    }
}

fn name(item: &Node) -> Option<&str> {
    let Value::Map(entries) = &item.value else { return None };
    let (.., node) = entries.iter().find(|(key, ..)| key == "name")?;
    match &node.value {
        Value::Text(name) => Some(name),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}
