//! `compress-response`: compresses the answer, if its caller accepts that and it is worth it.
//!
//! What is never compressed: answers to HEAD, 204, 205, 304, parts (206), what has a coding already or `cache-control: no-transform`, less
//! than 256 octets, and types of content that are not named.

use std::sync::Arc;

use http::header;

use super::{Action, Config, RESPONSE, Type};
use crate::{
    body::{Algorithm, Compression, Wish, negotiate},
    cel::Value,
    document::MAX_ENTRIES,
    engine::{Effect, Failure, Turn},
};

/// Compresses the answer.
#[derive(Debug)]
pub struct CompressResponse {
    /// How.
    pub compression: Arc<Compression>,
}

pub(super) const TYPE: Type = Type { name: "compress-response", phases: &[RESPONSE], read };

fn read(config: &mut Config<'_, '_, '_>) -> Option<Action> {
    let [algorithms, types] = config.map(["algorithms", "content_types"])?;
    let mut compression = Compression::default();
    if let Some(node) = algorithms {
        compression.algorithms.clear();
        let mut names = Vec::new();
        for (key, node) in config.list("algorithms", node, MAX_ENTRIES)? {
            let name = config.text(&key, node)?;
            if names.contains(&name) {
                config.problem(&key, node, "the algorithm is there already", "Remove it");
            }
            names.push(name);
            match Algorithm::named(name) {
                Some(algorithm) => compression.algorithms.push(algorithm),
                // Part of that form, and no caller of today asks for it.
                None if name == "compress" => {}
                None => config.problem(&key, node, "unknown algorithm", "There is `gzip`, `deflate`, `br`, `compress`"),
            }
        }
    }
    if let Some(node) = types {
        compression.content_types.clear();
        for (key, node) in config.list("content_types", node, MAX_ENTRIES)? {
            compression.content_types.push(config.text(&key, node)?.to_owned());
        }
    }
    Some(Action::CompressResponse(CompressResponse { compression: compression.into() }))
}

impl CompressResponse {
    pub(super) fn act(&self, turn: &mut Turn<'_, '_>) -> Result<Effect, Failure> {
        turn.transform(Wish::Compress(Arc::clone(&self.compression)))?;
        if turn.tells() {
            let already = turn.has_header(&header::CONTENT_ENCODING);
            let accepted = turn.facts.request().map(|request| request.head().headers.get_all(header::ACCEPT_ENCODING));
            let accepted = accepted.into_iter().flatten().filter_map(|value| value.to_str().ok());
            let chosen = negotiate(accepted, &self.compression.algorithms).filter(|_| !already);
            let chosen = chosen.map_or("", Algorithm::name);
            turn.tell(
                "compress",
                [("already_compressed", Value::Bool(already)), ("negotiated_algorithm", Value::from(chosen))],
            )?;
        }
        Ok(Effect::Next)
    }
}
