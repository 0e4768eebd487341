//! What an ending says about trying again.

use crate::{Cause, Code, CodeClass, Duration, GoAway, Loss, Refusal};

/// When to try again. The error decides, not the one who sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not at all: the answer will not change.
    Never,
    /// At once; the second time in a row it counts as [`Retry::Backoff`], so that it cannot become a loop.
    Now,
    /// After a delay of the own policy, which grows slowly: the attempt has cost the other side nothing.
    Soon,
    /// After a delay of the own policy.
    Backoff,
    /// Not sooner than this; at most 300 s count.
    After(Duration),
}

impl Retry {
    /// Returns when to dial again after the network ended or refused a session with this code.
    ///
    /// A delay that the network names wins, but what was refused for credentials or rules is never asked again in a hurry.
    pub fn session(code: Code, retry_after: Option<Duration>) -> Self {
        let own = match code {
            // spec: TIME-005
            Code::VERSION => return Self::Never,
            Code::CREDENTIALS | Code::REVOKED => {
                return Self::After(retry_after.map_or(CREDENTIALS, |asked| asked.max(CREDENTIALS))); // spec: AUTH-002
            }
            // The agent that took over is told so as well; two that fight do it slowly.
            Code::REPLACED => Self::After(REPLACED),
            // spec: AUTH-002
            Code::FORBIDDEN => return Self::After(retry_after.map_or(FORBIDDEN, |asked| asked.max(CREDENTIALS))),
            Code::BAD_NAME => Self::After(FORBIDDEN),
            Code::SHUTDOWN | Code::RESUME_UNKNOWN | Code::RESUME_EXPIRED => Self::Now,
            Code(_) => match code.class() {
                CodeClass::Protocol | CodeClass::Session | CodeClass::Stream | CodeClass::Application => Self::Backoff,
            },
        };
        retry_after.map_or(own, Self::After)
    }

    /// Returns when to dial for the next session after the network announced the end of this one.
    ///
    /// A draining node is no failure: without a reason against it, the next session is made at once (GO-003).
    pub fn drain(notice: &GoAway) -> Self {
        match Self::session(notice.code, notice.retry_after) {
            Self::Soon | Self::Backoff => Self::Now,
            retry @ (Self::Never | Self::Now | Self::After(_)) => retry,
        }
    }

    /// Returns when to ask for a bind again after it was refused or taken back.
    pub fn bind(refusal: &Refusal) -> Self {
        let own = match refusal.code {
            // spec: TIME-006
            // Only a person can change these; asking more often helps nobody.
            Code::FORBIDDEN | Code::BAD_NAME | Code::UNSUPPORTED => Self::After(FORBIDDEN),
            Code(_) => match refusal.code.class() {
                CodeClass::Protocol | CodeClass::Session | CodeClass::Stream | CodeClass::Application => Self::Backoff,
            },
        };
        refusal.retry_after.map_or(own, Self::After)
    }
}

impl Cause {
    /// Returns when to dial again after a link or a handshake that ended so.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Remote(close) => Retry::session(close.code, None),
            Self::Refused(refusal) => Retry::session(refusal.code, refusal.retry_after),
            Self::Transport(loss) => loss.retry(),
            Self::Local(_)
            | Self::Violation(_)
            | Self::Dead { .. }
            | Self::Stalled { .. }
            | Self::HandshakeTimeout
            | Self::Unacknowledged
            | Self::ResumeExpired
            | Self::Eof { .. } => Retry::Backoff,
        }
    }
}

impl Loss {
    /// Returns when to dial again after a transport that failed so.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Reset | Self::TimedOut | Self::Tls | Self::Other => Retry::Backoff,
        }
    }
}

const CREDENTIALS: Duration = Duration::from_secs(30);
const REPLACED: Duration = Duration::from_secs(30);
const FORBIDDEN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;
    use crate::Close;

    /// TIME-005
    #[test]
    fn every_known_code_has_its_answer_and_an_unknown_one_backs_off() {
        for &(code, name) in Code::ALL {
            let expected = match name {
                "VERSION" => Retry::Never,
                "CREDENTIALS" | "REVOKED" | "REPLACED" => Retry::After(secs(30)),
                "FORBIDDEN" | "BAD_NAME" => Retry::After(secs(60)),
                "SHUTDOWN" | "RESUME_UNKNOWN" | "RESUME_EXPIRED" => Retry::Now,
                _ => Retry::Backoff,
            };
            assert_eq!(Retry::session(code, None), expected, "{name}");
        }
        for number in [0x0fe, 0x1fe, 0x2fe, 0x9999] {
            assert_eq!(Retry::session(Code(number), None), Retry::Backoff);
        }
    }

    /// AUTH-002, TIME-005
    #[test]
    fn the_delay_that_the_network_names_wins_except_over_a_never_and_over_what_is_forbidden() {
        for &(code, name) in Code::ALL {
            let expected = match name {
                "VERSION" => Retry::Never,
                "CREDENTIALS" | "REVOKED" | "FORBIDDEN" => Retry::After(secs(30)),
                _ => Retry::After(secs(7)),
            };
            assert_eq!(Retry::session(code, Some(secs(7))), expected, "{name}");
        }
        assert_eq!(Retry::session(Code::CREDENTIALS, Some(secs(120))), Retry::After(secs(120)));
    }

    #[test]
    fn a_drain_is_no_failure() {
        let drain = |code, retry_after| Retry::drain(&GoAway { last: 0, code, retry_after, text: String::new() });

        assert_eq!(drain(Code::NO_ERROR, None), Retry::Now);
        assert_eq!(drain(Code::SHUTDOWN, None), Retry::Now);
        assert_eq!(drain(Code(0x1fe), None), Retry::Now);
        assert_eq!(drain(Code::SHUTDOWN, Some(secs(3))), Retry::After(secs(3)));
        assert_eq!(drain(Code::REVOKED, None), Retry::After(secs(30)));
    }

    /// TIME-006
    #[test]
    fn a_refused_bind_waits_as_its_code_says() {
        let bind = |code, retry_after| Retry::bind(&Refusal { code, retry_after, text: String::new() });

        assert_eq!(bind(Code::IN_USE, None), Retry::Backoff);
        assert_eq!(bind(Code::LIMIT, None), Retry::Backoff);
        assert_eq!(bind(Code::FORBIDDEN, None), Retry::After(secs(60)));
        assert_eq!(bind(Code::BAD_NAME, None), Retry::After(secs(60)));
        assert_eq!(bind(Code::FORBIDDEN, Some(secs(5))), Retry::After(secs(5)));
    }

    #[test]
    fn the_cause_decides_when_to_dial_again() {
        let close = |code| Cause::Remote(Close { code, text: String::new() });
        let refused = |code, retry_after| Cause::Refused(Refusal { code, retry_after, text: String::new() });

        assert_eq!(close(Code::SHUTDOWN).retry(), Retry::Now);
        assert_eq!(close(Code::REPLACED).retry(), Retry::After(secs(30)));
        assert_eq!(refused(Code::VERSION, Some(secs(1))).retry(), Retry::Never);
        assert_eq!(refused(Code::CREDENTIALS, Some(secs(1))).retry(), Retry::After(secs(30)));
        assert_eq!(refused(Code::BUSY, Some(secs(1))).retry(), Retry::After(secs(1)));
        assert_eq!(Cause::Dead { silent_for: secs(25) }.retry(), Retry::Backoff);
        assert_eq!(Cause::Transport(Loss::Reset).retry(), Retry::Backoff);
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }
}
