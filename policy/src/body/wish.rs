//! What a policy wants done to a body, and what comes of it for one message.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    Compressor, Events, Field, Inflater, Pipeline, Replacement, Replacer, Stage,
    heads::{Compression, Refused, answer_to_compress, answer_to_replace, is_event_stream, request_to_replace},
};

/// What an action wants done to the body of its message.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Replace in all of it.
    Replace(Vec<Replacement>),
    /// Replace in its events, if it is a stream of events.
    Events(Vec<(Field, Replacement)>),
    /// Compress it, if that is allowed and worth it.
    Compress(Arc<Compression>),
}

/// The most replacements in one body.
pub const MAX_REPLACEMENTS: usize = 32;

impl Wish {
    pub(crate) fn replacements(&self) -> usize {
        match self {
            Self::Replace(replacements) => replacements.len(),
            Self::Events(replacements) => replacements.len(),
            Self::Compress(_) => 0,
        }
    }
}

/// Does to the body of a request what is wished, and adapts its head.
///
/// # Errors
/// [`Refused`]; the head stays as it is.
pub fn for_request(wishes: Vec<Wish>, headers: &mut HeaderMap) -> Result<Pipeline, Refused> {
    let mut stages = replacers(&wishes);
    if !stages.is_empty()
        && let Some(coding) = request_to_replace(headers)?
    {
        stages.insert(0, Stage::Inflate(Inflater::new(coding)));
    }
    Ok(Pipeline::new(stages, false))
}

/// Does to the body of an answer what is wished, in this order: replace, replace in events, compress; and adapts its head. `accepted` are
/// the headers of the request, as the caller sent them.
///
/// # Errors
/// [`Refused`]; the head stays as it is.
pub fn for_answer(
    wishes: Vec<Wish>,
    method: &Method,
    status: StatusCode,
    accepted: &HeaderMap,
    headers: &mut HeaderMap,
) -> Result<Pipeline, Refused> {
    let mut stages = replacers(&wishes);
    let stream = is_event_stream(headers);
    let mut compressions = Vec::new();
    for wish in wishes {
        match wish {
            Wish::Events(replacements) if stream => stages.push(Stage::Events(Events::new(replacements))),
            Wish::Compress(compression) => compressions.push(compression),
            Wish::Events(_) | Wish::Replace(_) => {}
        }
    }
    if !stages.is_empty()
        && let Some(coding) = answer_to_replace(method, status, headers)?
    {
        stages.insert(0, Stage::Inflate(Inflater::new(coding)));
    }
    let compress = |it: Arc<Compression>| answer_to_compress(&it, method, status, accepted, headers);
    if let Some(algorithm) = compressions.into_iter().find_map(compress) {
        stages.push(Stage::Compress(Compressor::new(algorithm)));
    }
    Ok(Pipeline::new(stages, stream))
}

/// Asks an upstream for an answer in which can be replaced: whole, and of no coding.
pub fn ask_for_whole(headers: &mut HeaderMap) {
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

fn replacers(wishes: &[Wish]) -> Vec<Stage> {
    let replacements = wishes.iter().flat_map(|wish| match wish {
        Wish::Replace(replacements) => &**replacements,
        Wish::Events(_) | Wish::Compress(_) => &[],
    });
    replacements.map(|it| Stage::Replace(Box::new(Replacer::new(it.clone())))).collect()
}
