//! The JSON Schemas of the configuration and of the policy, as `docs/schema` publishes them.
//!
//! They are for editors and for checks from outside. What is within their bounds may still be refused: `adit config check` alone
//! knows what fits together.

/// Returns the schema of the configuration, or that of the policy.
pub(crate) const fn text(policy: bool) -> &'static str {
    if policy { POLICY } else { AGENT }
}

const AGENT: &str = include_str!("agent.schema.json");
const POLICY: &str = include_str!("policy.schema.json");

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use serde_json::Value;

    use super::*;
    use crate::{
        config::{Config, Overrides, Text, section},
        policy::Policy,
    };

    /// Returns the paths of the keys that a schema has, lists as `endpoints[]`.
    fn keys(text: &str) -> BTreeSet<String> {
        let root: Value = serde_json::from_str(text).unwrap();
        let mut keys = BTreeSet::new();
        walk(&root, &root, "", &mut keys);
        keys
    }

    fn walk(root: &Value, schema: &Value, path: &str, keys: &mut BTreeSet<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            let at = root.pointer(name.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{name}"));
            walk(root, at, path, keys);
        }
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            assert!(
                below["description"].as_str().is_some_and(|text| text.ends_with('.')),
                "{path}.{key} has no description"
            );
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            walk(root, below, &path, keys);
            keys.insert(path);
        }
        assert_eq!(schema["properties"].is_object(), schema["additionalProperties"] == false, "{path}");
        if schema["items"].is_object() {
            walk(root, &schema["items"], &format!("{path}[]"), keys);
        }
    }

    /// Holds the keys that were asked for since [`section::asked`] was called last against a schema.
    #[track_caller]
    fn held(name: &str, text: &str) {
        let (asked, has) = (section::asked(), keys(text));
        let missing: Vec<_> = asked.difference(&has).collect();
        let unknown: Vec<_> = has.difference(&asked).collect();
        assert!(missing.is_empty(), "add them to agent/src/schema/{name} and docs/schema/{name}: {missing:?}");
        assert!(unknown.is_empty(), "nothing reads these of {name}: {unknown:?}");
    }

    #[test]
    fn the_configuration_s_schema_has_the_keys_that_are_read_and_no_others() {
        section::asked();
        let text = "endpoints:\n  - name: a\n    url: tls://a.example.com\n    upstream: {url: 1}\n    agent_tls_termination: {}\n";
        let text = Text { text: text.to_owned(), mode: None };

        Config::parse(&["adit.yml".into()], &[text], &Overrides::default()).unwrap();

        held("agent.schema.json", AGENT);
    }

    #[test]
    fn the_policy_s_schema_has_the_keys_that_are_read_and_no_others() {
        section::asked();
        let text = "version: 1\nallow:\n  - {name: a, endpoints: '*', hosts: localhost, ports: 1, protocols: tcp}\n";

        Policy::parse(Path::new("policy.yml"), text).unwrap();

        held("policy.schema.json", POLICY);
    }

    #[test]
    fn what_is_published_is_what_the_program_prints() {
        for (name, text) in [("agent.schema.json", AGENT), ("policy.schema.json", POLICY)] {
            let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(name);
            assert_eq!(
                std::fs::read_to_string(published).unwrap(),
                text,
                "copy agent/src/schema/{name} to docs/schema"
            );
        }
    }
}
