//! Bodies that a policy changes: any patterns, any octets, in any pieces.

use adit_policy::body::{
    Algorithm, Broken, Compressor, Events, Field, Inflater, Pattern, Pipeline, Replacement, Replacer, Stage,
};

use crate::Choices;

/// What comes out, and whether it breaks, does not depend on the pieces; what is compressed is inflated to the same.
pub fn body(octets: &[u8]) {
    let mut choices = Choices::new(octets);
    let made: Vec<Part> = (0..choices.between(1, 4)).filter_map(|_| Part::chosen(&mut choices)).collect();
    let cuts: Vec<usize> = (0..choices.below(8)).map(|_| choices.size(64)).collect();
    let pauses = choices.coin();
    let rest = choices.rest();

    let whole = run(&made, &[rest], false);
    let octets: Vec<_> = rest.chunks(1).collect();
    for other in [run(&made, &pieces(rest, &cuts), pauses), run(&made, &octets, false)] {
        // How much a few octets may become is counted for what came at once.
        if ![&whole, &other].into_iter().any(|it| matches!(it, Err(Broken::Ratio | Broken::Growth))) {
            assert_eq!(other, whole, "{made:?}");
        }
    }

    for algorithm in Algorithm::ALL {
        let there = run(&[Part::Compress(algorithm)], &pieces(rest, &cuts), pauses).expect("it never breaks");
        assert_eq!(run(&[Part::Inflate(algorithm)], &pieces(&there, &cuts), false).as_deref(), Ok(rest));
    }
}

#[derive(Clone, Debug)]
enum Part {
    Replace(Replacement),
    Events(Field, Replacement),
    Inflate(Algorithm),
    Compress(Algorithm),
}

impl Part {
    fn chosen(choices: &mut Choices<'_>) -> Option<Self> {
        let kind = choices.below(8);
        if kind == 7 {
            return Some(Self::Inflate(choices.one_of(&Algorithm::ALL)));
        }
        let known = choices.one_of(PATTERNS);
        let pattern =
            if choices.coin() { String::from_utf8_lossy(choices.octets(8)).into_owned() } else { known.to_owned() };
        let to = choices.one_of(&["", "x", "<$0>", "$1$1", "\ndata: y\r"]);
        let replacement = Replacement::new(Pattern::compile(&pattern).ok()?, to);
        Some(match kind {
            0 => Self::Events(Field::Data, replacement),
            1 => Self::Events(Field::Retry, replacement),
            _ => Self::Replace(replacement),
        })
    }

    fn stage(&self) -> Stage {
        match self {
            Self::Replace(replacement) => Stage::Replace(Box::new(Replacer::new(replacement.clone()))),
            Self::Events(field, replacement) => Stage::Events(Events::new(vec![(*field, replacement.clone())])),
            Self::Inflate(algorithm) => Stage::Inflate(Inflater::new(*algorithm)),
            Self::Compress(algorithm) => Stage::Compress(Compressor::new(*algorithm)),
        }
    }
}

fn run(parts: &[Part], pieces: &[&[u8]], pauses: bool) -> Result<Vec<u8>, Broken> {
    let mut pipeline = Pipeline::new(parts.iter().map(Part::stage).collect(), false);
    let mut out = Vec::new();
    for piece in pieces {
        pipeline.push(piece, &mut out)?;
        if pauses {
            pipeline.pause(&mut out)?;
        }
    }
    pipeline.finish(&mut out)?;
    Ok(out)
}

fn pieces<'o>(octets: &'o [u8], cuts: &[usize]) -> Vec<&'o [u8]> {
    let (mut rest, mut pieces) = (octets, Vec::new());
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

const PATTERNS: &[&str] = &[
    "a",
    "a+",
    "(a)(b)?",
    "a.*b|a",
    "(?s)<.*?>",
    r"\bdata\b",
    "(?m)^a",
    "(?m)b$",
    r"a\z",
    r"\Aa",
    "(?i)DATA",
    r"[^\n]{2,4}",
    r"(?mR)^\w+$",
    r"\d+",
];
