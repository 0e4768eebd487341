//! W3C trace context (<https://www.w3.org/TR/trace-context/>): who traced a request before it came here, and what the upstream
//! is told. Pure: the numbers at random are arguments.

use core::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::random;

/// A request's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub trace: TraceId,
    /// What we call our part of it.
    pub span: SpanId,
    /// Whose part ours belongs to.
    pub parent: Option<SpanId>,
    /// Whether our part is exported.
    pub recorded: bool,
}

/// The number of a trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The number of one part of a trace; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

/// What `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

/// How many of all requests are exported; whoever calls has no say in it, so that callers cannot flood the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(u64);

/// What chance gives to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance {
    /// For the number of a trace.
    pub trace: [u8; 16],
    /// For the number of our part.
    pub span: [u8; 8],
    /// For [`Sample`].
    pub draw: [u8; 8],
}

/// One of a hundred.
impl Default for Sample {
    fn default() -> Self {
        Self(WHOLE / 100)
    }
}

impl Sample {
    /// Returns a share between 0 and 1; nothing when it is none.
    pub fn new(share: f64) -> Option<Self> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and WHOLE")]
        (0.0..=1.0).contains(&share).then_some(Self((share * WHOLE as f64) as u64))
    }

    const fn takes(self, draw: [u8; 8]) -> bool {
        u64::from_be_bytes(draw) % WHOLE < self.0
    }
}

impl Chance {
    /// Draws anew.
    pub fn draw() -> Self {
        let mut octets = [0; 32];
        // Without randomness traces run together; requests go on.
        random::fill(&mut octets);
        let mut chance = Self { trace: [0; 16], span: [0; 8], draw: [0; 8] };
        chance.trace.copy_from_slice(&octets[..16]);
        chance.span.copy_from_slice(&octets[16..24]);
        chance.draw.copy_from_slice(&octets[24..]);
        chance
    }
}

impl Trace {
    /// Takes part in the trace of a request, or begins one, and writes into `fields` what the upstream is told.
    ///
    /// What is not as the specification has it is taken out and a new trace begins, without the `tracestate` that came along.
    /// A request that is not recorded keeps its caller's span as the parent, so that the trace has no gap.
    pub fn join(fields: &mut HeaderMap, sample: Sample, chance: Chance) -> Self {
        let recorded = sample.takes(chance.draw);
        let came = only(fields, &TRACEPARENT).and_then(|value| Parent::parse(value.as_bytes()));
        let state = if came.is_some() { state(fields) } else { None };
        fields.remove(TRACEPARENT);
        fields.remove(TRACESTATE);
        let span = SpanId(or_one(chance.span));
        let trace = match came {
            Some(Parent { trace, span: parent, .. }) => Self { trace, span, parent: Some(parent), recorded },
            None => Self { trace: TraceId(or_one(chance.trace)), span, parent: None, recorded },
        };
        let told = Parent {
            trace: trace.trace,
            span: if recorded { span } else { trace.parent.unwrap_or(span) },
            sampled: recorded || came.is_some_and(|parent| parent.sampled),
        };
        if let Ok(value) = HeaderValue::from_str(&told.to_string()) {
            fields.insert(TRACEPARENT, value);
        }
        if let Some(state) = state {
            fields.insert(TRACESTATE, state);
        }
        trace
    }
}

impl Parent {
    /// Reads a value of any version: what later ones append is not for us.
    fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let version = hex::<1>(known.get(..2)?)?;
        let fits = match version {
            [0] => rest.is_empty(),
            [0xff] => false,
            [_] => rest.first().is_none_or(|octet| *octet == b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
        let trace = hex(known.get(3..35)?).filter(|trace| *trace != [0; 16])?;
        let span = hex(known.get(36..52)?).filter(|span| *span != [0; 8])?;
        let [flags] = hex::<1>(known.get(53..55)?)?;
        (fits && dashes).then_some(Self { trace: TraceId(trace), span: SpanId(span), sampled: flags & SAMPLED != 0 })
    }
}

/// As version 00 has it; of the flags only the one that it defines.
impl fmt::Display for Parent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// Returns the `tracestate` to pass on: one field, at most [`MAX_STATE`] octets. One that cannot be read is none.
fn state(fields: &HeaderMap) -> Option<HeaderValue> {
    let mut members: Vec<&[u8]> = Vec::new();
    let values = fields.get_all(TRACESTATE).iter();
    for member in values.flat_map(|value| value.as_bytes().split(|octet| *octet == b',')) {
        let member = member.trim_ascii();
        if member.is_empty() {
            continue;
        }
        let key = key_of(member)?;
        if members.len() == MAX_MEMBERS || members.iter().any(|other| key_of(other) == Some(key)) {
            return None;
        }
        members.push(member);
    }
    // What is long goes first, then what is oldest, which stands last.
    let size = |members: &[&[u8]]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    while size(&members) > MAX_STATE + 1 {
        let long = members.iter().rposition(|member| member.len() > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    if members.is_empty() { None } else { HeaderValue::from_bytes(&members.join(&b',')).ok() }
}

/// Returns the key of a member, if the member is one.
fn key_of(member: &[u8]) -> Option<&[u8]> {
    let at = member.iter().position(|octet| *octet == b'=')?;
    let (key, value) = (member.get(..at)?, member.get(at + 1..)?);
    let word = |octet: &u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"_-*/".contains(octet);
    let name = |name: &[u8], most, digit: bool| {
        let first = name.first().is_some_and(|octet| octet.is_ascii_lowercase() || (digit && octet.is_ascii_digit()));
        first && name.len() <= most && name.iter().all(word)
    };
    let fits = match key.iter().position(|octet| *octet == b'@') {
        None => name(key, 256, false),
        Some(at) => name(key.get(..at)?, 241, true) && name(key.get(at + 1..)?, 14, false),
    };
    let printable = |octet: &u8| matches!(octet, b' '..=b'~') && !matches!(octet, b',' | b'=');
    (fits && (1..=256).contains(&value.len()) && value.iter().all(printable)).then_some(key)
}

/// Returns the value of a field that is there once.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = fields.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Reads digits, lower case alone.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |octet: u8| match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    };
    let mut octets = [0; N];
    for (octet, pair) in octets.iter_mut().zip(text.chunks_exact(2)) {
        *octet = digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?;
    }
    Some(octets)
}

/// Returns `octets`, or one: zero is no number.
fn or_one<const N: usize>(mut octets: [u8; N]) -> [u8; N] {
    if octets == [0; N]
        && let Some(last) = octets.last_mut()
    {
        *last = 1;
    }
    octets
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;
const MAX_MEMBERS: usize = 32;
/// The octets of `tracestate` that everybody passes on.
const MAX_STATE: usize = 512;
/// Longer members are the first that are left out.
const LONG_MEMBER: usize = 128;
/// What a share is of: as fine as a fraction is.
const WHOLE: u64 = 1 << 53;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn what_no_specification_allows_is_no_parent() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        let table = [
            (good.clone(), Some(true)),
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-fe"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-ff"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01.what"), None),
            (format!("00-{TRACE}-{SPAN}-01-"), None),
            (format!("00-{TRACE}-{SPAN}-01 "), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("0-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("0X-{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}-0A"), None),
            (format!("00_{TRACE}-{SPAN}-01"), None),
            (format!("00-{TRACE}_{SPAN}-01"), None),
            (format!("00-{TRACE}-{SPAN}_01"), None),
            (good.get(..54).unwrap().to_owned(), None),
            (String::new(), None),
        ];
        for (text, expected) in table {
            assert_eq!(Parent::parse(text.as_bytes()).map(|parent| parent.sampled), expected, "{text}");
        }
    }

    #[test]
    fn one_that_is_recorded_becomes_the_parent() {
        let mut fields = map(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00")), ("tracestate", "a=1")]);

        let trace = Trace::join(&mut fields, Sample::new(1.0).unwrap(), chance(7));

        assert_eq!(
            (trace.trace.to_string().as_str(), trace.parent),
            (TRACE, Some(SpanId(hex(SPAN.as_bytes()).unwrap())))
        );
        assert!(trace.recorded);
        let told = format!("00-{TRACE}-0707070707070707-01");
        assert_eq!(fields, map(&[("traceparent", &told), ("tracestate", "a=1")]));
    }

    #[test]
    fn one_that_is_not_recorded_leaves_no_gap() {
        let came = [("traceparent", &*format!("00-{TRACE}-{SPAN}-01")), ("tracestate", "a=1")];
        let mut fields = map(&came);

        let trace = Trace::join(&mut fields, Sample::new(0.0).unwrap(), chance(7));

        assert!(!trace.recorded);
        assert_eq!(fields, map(&came));
    }

    #[test]
    fn a_trace_begins_where_none_came_in_and_takes_no_state_along() {
        let bad = ["00-what-ever-01", ""];
        for came in bad {
            let mut fields = map(&[("traceparent", came), ("tracestate", "a=1")]);
            let trace = Trace::join(&mut fields, Sample::new(0.0).unwrap(), chance(7));
            assert_eq!(trace.parent, None);
            let told = format!("00-{}-{}-00", "07".repeat(16), "07".repeat(8));
            assert_eq!(fields, map(&[("traceparent", &told)]), "{came}");
        }
        let one = format!("00-{TRACE}-{SPAN}-01");
        let mut twice = map(&[("traceparent", &one), ("traceparent", &one)]);
        assert_eq!(Trace::join(&mut twice, Sample::new(0.0).unwrap(), chance(7)).parent, None);
    }

    #[test]
    fn zero_is_no_number_whatever_chance_says() {
        let trace = Trace::join(&mut HeaderMap::new(), Sample::new(1.0).unwrap(), chance(0));

        assert_ne!((trace.trace, trace.span), (TraceId([0; 16]), SpanId([0; 8])));
    }

    #[test]
    fn state_that_cannot_be_read_is_none() {
        let many = |count: usize| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let long = |key: usize, value: usize| format!("{}={}", "k".repeat(key), "v".repeat(value));
        let thirty_two = many(32);
        let table: &[(&[&str], Option<&str>)] = &[
            (&["a=1"], Some("a=1")),
            (&["a=1", "b=2"], Some("a=1,b=2")),
            (&[" a=1 ,\t,b=2,,"], Some("a=1,b=2")),
            (&["t0/9*_-@sys=x y"], Some("t0/9*_-@sys=x y")),
            (&["9t@sys=1"], Some("9t@sys=1")),
            (&[&thirty_two], Some(&thirty_two)),
            (&[&many(33)], None),
            (&["a=1,a=2"], None),
            (&["a=1,B=2"], None),
            (&["9=1"], None),
            (&["a@9=1"], None),
            (&["a@=1"], None),
            (&["@a=1"], None),
            (&["a@b@c=1"], None),
            (&["a="], None),
            (&["a"], None),
            (&["a=b=c"], None),
            (&["a=\u{e9}"], None),
            (&[&long(257, 1)], None),
            (&[&long(1, 257)], None),
            (&[""], None),
        ];
        for (values, expected) in table {
            let mut fields = HeaderMap::new();
            for value in *values {
                fields.append(TRACESTATE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let kept = state(&fields);
            assert_eq!(kept.as_ref().map(|value| value.to_str().unwrap()), *expected, "{values:?}");
        }
    }

    #[test]
    fn state_that_is_too_long_loses_what_is_long_and_then_what_is_old() {
        let long = format!("long={}", "x".repeat(200));
        let other = |n: usize| format!("k{n}={}", "y".repeat(97));
        let text = [other(0), long, other(1), other(2), other(3), other(4), other(5)].join(",");

        let kept = state(&map(&[("tracestate", &text)])).unwrap();

        let expected = [other(0), other(1), other(2), other(3), other(4)].join(",");
        assert_eq!(kept.to_str().unwrap(), expected);
        assert!(kept.len() <= MAX_STATE);
    }

    #[test]
    fn a_share_is_what_is_taken() {
        let taken = |share, draw: u64| Sample::new(share).unwrap().takes(draw.to_be_bytes());
        assert!(!taken(0.0, 0) && taken(1.0, WHOLE - 1) && taken(1.0, u64::MAX));
        assert!(taken(0.5, WHOLE / 2 - 1) && !taken(0.5, WHOLE / 2));
        assert!([-0.1, 1.1, f64::NAN].iter().all(|share| Sample::new(*share).is_none()));
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_goes_out_can_be_read(
            // From few letters, so that much of it is nearly right.
            parents in proptest::collection::vec(text(b"0123456789af-", 50..60), 0..3),
            good in proptest::bool::ANY,
            states in proptest::collection::vec(text(b"ab@=,= ,x1Z", 0..700), 0..3),
            octet: u8,
            share in 0.0..=1.0_f64,
        ) {
            let mut fields = HeaderMap::new();
            if good {
                fields.append(TRACEPARENT, HeaderValue::from_str(&format!("00-{TRACE}-{SPAN}-01")).unwrap());
            }
            for parent in parents.iter().skip(usize::from(good)) {
                fields.append(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
            }
            for state in &states {
                fields.append(TRACESTATE, HeaderValue::from_str(state).unwrap());
            }

            let trace = Trace::join(&mut fields, Sample::new(share).unwrap(), chance(octet));

            let told = Parent::parse(only(&fields, &TRACEPARENT).unwrap().as_bytes()).unwrap();
            prop_assert_eq!(told.trace, trace.trace);
            prop_assert!(!trace.recorded || (told.sampled && told.span == trace.span));
            if let Some(kept) = fields.get(TRACESTATE).cloned() {
                prop_assert!(kept.len() <= MAX_STATE && trace.parent.is_some());
                prop_assert_eq!(state(&fields), Some(kept), "it is read as it was written");
            }
        }
    }

    fn text(letters: &'static [u8], length: core::ops::Range<usize>) -> impl Strategy<Value = String> {
        let letter = (0..letters.len()).prop_map(|at| char::from(letters[at]));
        proptest::collection::vec(letter, length).prop_map(|letters| letters.into_iter().collect())
    }

    fn chance(octet: u8) -> Chance {
        Chance { trace: [octet; 16], span: [octet; 8], draw: [octet; 8] }
    }

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        map
    }
}
