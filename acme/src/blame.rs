//! Why an order came to nothing, and for how long it is left alone.

use core::time::Duration;

use instant_acme::Error;

use crate::times::{LONGEST, back_off};

/// Why an order came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The name, or the account: it does not lead here, or the authority does not issue for it.
    Name,
    /// The authority cannot be reached or used, or this machine cannot keep what it gives.
    Way,
    /// The authority limits how often: so many seconds, if it says so.
    Limit(Option<u64>),
}

impl Blame {
    /// Returns what an error blames; `asked` is for how long the authority wants to be left alone.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the errors of a crate that may get more")]
    pub fn of(error: &Error, asked: Option<Duration>) -> Self {
        let asked = asked.map(|asked| asked.as_secs());
        match error {
            Error::Api(problem) if problem.status == Some(429) => Self::Limit(asked),
            _ if asked.is_some() || is_problem(error, "rateLimited") => Self::Limit(asked),
            Error::Api(problem) if problem.status.is_some_and(|status| status >= 500) => Self::Way,
            Error::Api(_) | Error::Timeout(_) | Error::Str(_) | Error::Unsupported(_) => Self::Name,
            _ => Self::Way,
        }
    }

    /// Returns for how many seconds what has failed so often in a row waits.
    pub fn wait(self, failures: u32, jitter: f64) -> u64 {
        match self {
            Self::Name => back_off(failures, LONGEST, jitter),
            Self::Way => back_off(failures, LONGEST_WAY, jitter),
            Self::Limit(asked) => back_off(failures, LONGEST, jitter).max(asked.unwrap_or(0)).min(LONGEST_ASKED),
        }
    }
}

/// Returns whether the authority has named this problem (RFC 8555 §6.7).
pub fn is_problem(error: &Error, kind: &str) -> bool {
    let Error::Api(problem) = error else { return false };
    problem.r#type.as_deref().and_then(|text| text.strip_prefix("urn:ietf:params:acme:error:")) == Some(kind)
}

/// An hour: how long an authority that cannot be reached is left alone.
const LONGEST_WAY: u64 = 3_600;
/// A week: an authority that says more than that is asked again.
const LONGEST_ASKED: u64 = 7 * 86_400;

#[cfg(test)]
mod tests {
    use instant_acme::Problem;

    use super::*;

    #[test]
    fn who_is_to_blame_follows_from_what_the_authority_says() {
        let problem = |kind: &str, status: u16| {
            let text = format!("{{\"type\": \"urn:ietf:params:acme:error:{kind}\", \"status\": {status}}}");
            Blame::of(&Error::Api(serde_json::from_str::<Problem>(&text).unwrap()), None)
        };

        for (kind, status) in [("rateLimited", 429), ("rateLimited", 403), ("other", 429)] {
            assert_eq!(problem(kind, status), Blame::Limit(None));
        }
        assert_eq!(problem("serverInternal", 500), Blame::Way);
        for kind in ["rejectedIdentifier", "unauthorized", "dns", "caa", "malformed", "orderNotReady"] {
            assert_eq!(problem(kind, 403), Blame::Name, "{kind}");
        }
        assert_eq!(Blame::of(&Error::Other("connection refused".into()), None), Blame::Way);
        let asked = Some(Duration::from_secs(90));
        assert_eq!(Blame::of(&Error::Other("503".into()), asked), Blame::Limit(Some(90)));
    }

    #[test]
    fn who_is_away_may_be_back_soon_and_a_limit_is_kept_for_a_week_at_most() {
        for failures in [1, 2, 10, u32::MAX] {
            assert!(Blame::Name.wait(failures, 0.0) <= LONGEST);
            assert!(Blame::Way.wait(failures, 0.0) <= LONGEST_WAY);
            assert_eq!(Blame::Limit(None).wait(failures, 0.5), Blame::Name.wait(failures, 0.5));
            assert_eq!(Blame::Limit(Some(90_000)).wait(failures, 0.5), 90_000);
            assert_eq!(Blame::Limit(Some(u64::MAX)).wait(failures, 0.5), LONGEST_ASKED);
        }
        assert_eq!(Blame::Way.wait(10, 0.0), LONGEST_WAY);
        assert_eq!(Blame::Name.wait(20, 0.0), LONGEST);
    }
}
