//! Which coding a caller would like.

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `gzip`.
    Gzip,
    /// `deflate`, which is the format of zlib.
    Deflate,
    /// `br`.
    Brotli,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Deflate, Self::Brotli];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
        }
    }

    /// Returns the coding of this name.
    pub fn named(name: &str) -> Option<Self> {
        let gzip = name.eq_ignore_ascii_case("x-gzip").then_some(Self::Gzip);
        gzip.or_else(|| Self::ALL.into_iter().find(|it| it.name().eq_ignore_ascii_case(name)))
    }
}

/// Codings looked at in what a caller accepts.
const MAX_ACCEPTED: usize = 32;

/// Chooses the coding that a caller prefers of those that are `offered`, in that order where it prefers none; nothing when it would
/// rather have none (RFC 9110, section 12.5.3).
pub fn negotiate<'a>(accepted: impl IntoIterator<Item = &'a str>, offered: &[Algorithm]) -> Option<Algorithm> {
    let mut weights = [None; 3];
    let (mut any, mut identity) = (None, None);
    for entry in accepted.into_iter().flat_map(|value| value.split(',')).take(MAX_ACCEPTED) {
        let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
        let Some(weight) = weight(parameters) else { continue };
        match name.trim() {
            "*" => any = Some(weight),
            name if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
            name => {
                if let Some(algorithm) = Algorithm::named(name) {
                    weights[place(algorithm)] = Some(weight);
                }
            }
        }
    }
    let mut best = None;
    let mut most = identity.unwrap_or(0);
    for algorithm in offered {
        let weight = weights[place(*algorithm)].or(any).unwrap_or(0);
        if weight > most || (weight == most && weight > 0 && best.is_none()) {
            (best, most) = (Some(*algorithm), weight);
        }
    }
    best
}

fn place(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Gzip => 0,
        Algorithm::Deflate => 1,
        Algorithm::Brotli => 2,
    }
}

/// Reads `q=0.5`, in thousandths; nothing when it is none.
fn weight(parameters: &str) -> Option<u16> {
    let text = parameters.trim();
    if text.is_empty() {
        return Some(1_000);
    }
    let text = text.strip_prefix(['q', 'Q'])?.trim_start().strip_prefix('=')?.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let one = match whole {
        "0" => 0,
        "1" => 1_000,
        _ => return None,
    };
    if part.len() > 3 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{part:0<3}").parse::<u16>().ok()?;
    Some(one + thousandths).filter(|weight| *weight <= 1_000)
}
