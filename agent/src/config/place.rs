//! Where a key stands that is well written and cannot be used.

use std::path::PathBuf;

use super::{
    load::read_text,
    yaml::{self, Node, Place, Value},
};

/// Returns the file and the place of a key, or of the nearest one above it: below `agent`, or below the endpoint with a name.
///
/// What a later file says holds, so it is looked at first.
pub(crate) fn locate(files: &[PathBuf], endpoint: Option<&str>, keys: &[&str]) -> Option<(PathBuf, Place)> {
    files.iter().enumerate().rev().find_map(|(index, file)| {
        let text = read_text(file, super::load::MAX_FILE).ok()?.text;
        let Node { value: Value::Map(root), .. } = yaml::parse(index, &text).ok()? else { return None };
        let place = match endpoint {
            None => deepest(&root, &[&["agent"][..], keys].concat()),
            Some(name) => {
                let (.., endpoints) = root.iter().find(|(key, ..)| key == "endpoints")?;
                let Value::List(items) = &endpoints.value else { return None };
                items.iter().find_map(|item| {
                    let Value::Map(entries) = &item.value else { return None };
                    let named = |(key, _, node): &(String, Place, Node)| {
                        key == "name" && matches!(&node.value, Value::Text(text) if text == name)
                    };
                    entries.iter().any(named).then(|| deepest(entries, keys).or(Some(item.place)))?
                })
            }
        };
        Some((file.clone(), place?))
    })
}

fn deepest(entries: &[(String, Place, Node)], keys: &[&str]) -> Option<Place> {
    let (first, rest) = keys.split_first()?;
    let (_, place, node) = entries.iter().find(|(key, ..)| key == first)?;
    match &node.value {
        Value::Map(below) if !rest.is_empty() => Some(deepest(below, rest).unwrap_or(*place)),
        Value::Text(_) => Some(node.place),
        Value::Map(_) | Value::Null | Value::List(_) => Some(*place),
    }
}
