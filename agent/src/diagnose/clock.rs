//! Whether this machine's clock is right, as far as what is at hand tells: nobody is asked for the time.

use core::cmp::Ordering;

use super::report::Check;
use crate::{
    clock::utc,
    errors::{Error, Fault},
    trust::{Dated, Times},
};

/// What comes of comparing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It is right, as far as can be seen.
    Fine(String),
    /// It is wrong, or whoever said so is.
    Wrong(String),
    /// Either it is wrong, or the vendor has not renewed something in time.
    Doubtful(String),
    /// Nobody said anything.
    Unknown(String),
}

/// Compares the time `now`, in seconds since 1970, with what others said.
///
/// A certificate and a list are signed, and were made before they were shown: this clock cannot rightly say an earlier time. A server's Date
/// tells the difference itself, but is signed by nobody: one that cannot be, by what is signed, is not believed.
pub(super) fn judge(now: i64, times: &Times) -> Finding {
    let made = times.certificate.map(|(from, _)| (from, "the network's certificate was made".to_owned()));
    let listed = times.listed.as_ref().map(|list| (list.made, format!("{} was made", list.told)));
    let floor = made.into_iter().chain(listed).max();
    let earliest = floor.as_ref().map_or(i64::MIN, |(at, _)| *at).saturating_sub(TOLERANCE);

    if let Some(dated) = times.dated.as_ref().filter(|dated| now.saturating_sub(dated.ahead_ms / 1_000) >= earliest) {
        return measured(now, dated);
    }
    if let Some((at, what)) = floor.as_ref().filter(|_| now < earliest) {
        let by = span(at.saturating_sub(now));
        return Finding::Wrong(format!(
            "it says {}, and {what} at {}: it is behind by {by} at least",
            utc(now),
            utc(*at)
        ));
    }
    let ends = [
        times.listed.as_ref().map(|list| (list.next, format!("the successor of {} was due", list.told))),
        times.certificate.map(|(_, until)| (until, "the network's certificate was to be replaced".to_owned())),
    ];
    // What ended before something else was made is over by any clock.
    let open = |at: i64| floor.as_ref().is_none_or(|(made, _)| *made <= at);
    let over: Vec<_> =
        ends.iter().flatten().filter(|(at, _)| open(*at) && at.saturating_add(TOLERANCE) < now).collect();
    if let Some((at, what)) = over.iter().max() {
        let by = span(now.saturating_sub(*at));
        // Two things that the network shows at this moment and that are both over speak rather against this clock.
        let who = if over.len() > 1 { "most likely it is ahead" } else { "it is ahead, or the vendor is late," };
        return Finding::Doubtful(format!("it says {}, and {what} by {}: {who} by {by} at least", utc(now), utc(*at)));
    }
    let Some((from, what)) = floor else { return Finding::Unknown(format!("it says {}", utc(now))) };
    let until = ends.iter().flatten().map(|(at, _)| *at).filter(|at| *at >= now).min();
    let until = until.map(|at| format!(", and what the network shows is good until {}", utc(at))).unwrap_or_default();
    Finding::Fine(format!("it says {}: {what} at {}{until}", utc(now), utc(from)))
}

fn measured(now: i64, dated: &Dated) -> Finding {
    let Dated { ahead_ms, within_ms, source } = dated;
    let way = match ahead_ms.cmp(&0) {
        Ordering::Less => "behind",
        Ordering::Equal | Ordering::Greater => "ahead of",
    };
    let (off, within) = (ahead_ms.saturating_abs(), *within_ms);
    let by = span_of_millis(off);
    let text = format!(
        "it says {}, and is {way} what {source} says (unsigned) by {by}, give or take {}",
        utc(now),
        span_of_millis(within)
    );
    let certain = off.saturating_sub(within);
    if certain > TOLERANCE.saturating_mul(1_000) { Finding::Wrong(text) } else { Finding::Fine(text) }
}

/// Puts what was found into a check; `error` is why the network is of no use, if it is not.
pub(super) fn told(check: Check, finding: Finding, error: Option<&Error>, kept: &str) -> Check {
    let by_time = error
        .is_some_and(|error| matches!(error.fault, Fault::Expired | Fault::NotYetValid | Fault::RevocationUnknown));
    let wrong = |text: String| Error::new(Fault::ClockWrong, format!("{text}{kept}"));
    let expired = error.is_some_and(|error| error.fault == Fault::Expired);
    let none = core::time::Duration::ZERO;
    match finding {
        Finding::Fine(text) if expired => {
            check.done(format!("{text}; the certificate has expired, and the clock is not to blame{kept}"), none)
        }
        Finding::Fine(text) => check.done(format!("{text}{kept}"), none),
        Finding::Wrong(text) if by_time => check.failed(wrong(text), none),
        Finding::Wrong(text) | Finding::Doubtful(text) => check.warned(wrong(text), none),
        Finding::Unknown(text) if by_time => {
            check.skipped(&format!("{text}; the certificate is not good by it, and nothing at hand says which of the two is wrong: compare it with another clock{kept}"))
        }
        Finding::Unknown(text) => check.skipped(&format!("{text}; nothing was seen to compare it with{kept}")),
    }
}

fn span_of_millis(millis: i64) -> String {
    if millis < 120_000 {
        return format!("{}.{} s", millis / 1_000, millis % 1_000 / 100);
    }
    span(millis / 1_000)
}

/// Writes seconds in the two largest units.
fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, seconds / 3_600) {
        (1.., _) => format!("{days} days {hours} h"),
        (_, 1..) => format!("{hours} h {minutes} min"),
        _ if seconds >= 120 => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{seconds} s"),
    }
}

/// A clock that is wrong by more is told, in seconds.
const TOLERANCE: i64 = 60;

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::{diagnose::report::Verdict, trust::ListTimes};

    const NOW: i64 = 1_795_522_082;
    const DAY: i64 = 86_400;

    fn list(made: i64, next: i64) -> Times {
        let told = "the list of CN=Ours, number 0x07, with 1 entries".to_owned();
        Times { listed: Some(ListTimes { made, next, told }), ..certified(NOW - 30 * DAY, NOW + 30 * DAY) }
    }

    fn certified(from: i64, until: i64) -> Times {
        Times { certificate: Some((from, until)), ..Times::default() }
    }

    fn dated(ahead_ms: i64, within_ms: i64) -> Option<Dated> {
        Some(Dated { ahead_ms, within_ms, source: "http://crl.example/ca.crl".to_owned() })
    }

    #[test]
    fn a_clock_within_what_is_signed_is_fine_and_says_how_sure_that_is() {
        let fine = judge(NOW, &list(NOW - 3_600, NOW + DAY));

        let Finding::Fine(text) = fine else { panic!("{fine:?}") };
        for part in [
            "it says 2026-11-24 12:08:02 UTC",
            "number 0x07, with 1 entries was made at 2026-11-24 11:08:02",
            "good until 2026-11-25 12:08:02",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(matches!(judge(NOW, &certified(NOW - DAY, NOW + DAY)), Finding::Fine(_)));
        assert_eq!(judge(NOW, &Times::default()), Finding::Unknown("it says 2026-11-24 12:08:02 UTC".to_owned()));
    }

    #[test]
    fn what_is_signed_was_made_before_it_was_shown() {
        for (off, behind) in [(59, false), (60, false), (61, true)] {
            for times in [list(NOW + off, NOW + DAY), certified(NOW + off, NOW + DAY)] {
                assert_eq!(matches!(judge(NOW, &times), Finding::Wrong(_)), behind, "{off} {times:?}");
            }
        }
        let Finding::Wrong(text) = judge(NOW, &list(NOW + 3 * DAY + 7_200, NOW + 4 * DAY)) else { panic!() };
        assert!(text.ends_with("it is behind by 3 days 2 h at least"), "{text}");
        let Finding::Wrong(text) = judge(NOW, &certified(NOW + 5_400, NOW + DAY)) else { panic!() };
        assert!(text.ends_with("it is behind by 1 h 30 min at least"), "{text}");
    }

    #[test]
    fn what_is_over_is_the_clock_s_fault_or_the_vendor_s() {
        let over = |times: &Times| {
            let Finding::Doubtful(text) = judge(NOW, times) else { panic!("{times:?}") };
            text
        };
        assert!(matches!(judge(NOW, &list(NOW - DAY, NOW - 60)), Finding::Fine(_)));
        assert!(over(&list(NOW - DAY, NOW - 61)).contains("it is ahead, or the vendor is late, by 61 s at least"));
        assert!(over(&certified(NOW - DAY, NOW - 3_600)).contains("it is ahead, or the vendor is late, by 1 h 0 min"));
        let both = Times { certificate: Some((NOW - 90 * DAY, NOW - 2 * DAY)), ..list(NOW - 9 * DAY, NOW - 8 * DAY) };
        let text = over(&both);
        assert!(text.contains("most likely it is ahead by 2 days 0 h at least"), "{text}");
    }

    #[test]
    fn what_a_server_says_tells_the_difference_unless_it_cannot_be() {
        let with = |ahead, within| judge(NOW, &Times { dated: dated(ahead, within), ..list(NOW - 3_600, NOW + DAY) });
        let fine = |finding: &Finding| matches!(finding, Finding::Fine(_));

        let Finding::Fine(text) = with(1_234, 520) else { panic!() };
        assert!(
            text.contains("is ahead of what http://crl.example/ca.crl says (unsigned) by 1.2 s, give or take 0.5 s"),
            "{text}"
        );
        assert!(fine(&with(60_500, 500)) && fine(&with(-60_500, 500)) && fine(&with(0, 500)));
        for (ahead, text) in [(60_501, "is ahead of"), (-60_501, "is behind what")] {
            let Finding::Wrong(told) = with(ahead, 500) else { panic!("{ahead}") };
            assert!(told.contains(text), "{told}");
        }
        assert!(fine(&with(3_600_000, 3_540_000)), "not certain");
        let Finding::Wrong(text) = with(-7_200_000, 500) else { panic!() };
        assert!(text.contains("by 2 h 0 min, give or take 0.5 s"), "{text}");
        // By it the list was made two hours from then on: whoever says that lies or is wrong itself.
        let Finding::Fine(text) = with(3 * 3_600_000, 500) else { panic!() };
        assert!(!text.contains("crl.example"), "{text}");
        let hours = Times { dated: dated(-5 * 3_600_000, 500), ..list(NOW + 4 * 3_600, NOW + DAY) };
        assert!(
            matches!(judge(NOW, &hours), Finding::Wrong(text) if text.contains("by 5 h 0 min")),
            "it says by how much"
        );
    }

    #[test]
    fn a_wrong_clock_is_told_apart_from_a_certificate_that_has_expired() {
        let check = || Check::new("clock", "node.example.com:443");
        let error = |fault: Fault| Error::from(fault);
        let judged = |times: &Times, fault| told(check(), judge(NOW, times), Some(&error(fault)), "");

        let expired = Times { certificate: Some((NOW - 90 * DAY, NOW - 2 * DAY)), ..list(NOW - 3_600, NOW + DAY) };
        let older = Times { certificate: Some((NOW - 90 * DAY, NOW - 2 * DAY)), ..list(NOW - 3 * DAY, NOW + DAY) };
        // The list was made when the certificate was over; or a server tells the same time.
        for proof in [expired, Times { dated: dated(300, 500), ..older.clone() }] {
            let found = judged(&proof, Fault::Expired);
            assert_eq!(found.verdict, Verdict::Ok);
            assert!(found.found.ends_with("the certificate has expired, and the clock is not to blame"), "{found:?}");
        }
        let found = judged(&older, Fault::Expired);
        assert_eq!(
            (found.verdict, found.error.unwrap().fault),
            (Verdict::Warning, Fault::ClockWrong),
            "one of the two"
        );
        let behind = judged(&certified(NOW + DAY, NOW + 2 * DAY), Fault::NotYetValid);
        assert_eq!((behind.verdict, behind.error.unwrap().fault), (Verdict::Failed, Fault::ClockWrong));
        let unknown = judged(&Times::default(), Fault::Expired);
        assert_eq!(unknown.verdict, Verdict::Skipped);
        assert!(unknown.found.contains("compare it with another clock"));
        let fine = told(check(), judge(NOW, &certified(NOW - DAY, NOW + DAY)), None, "; kept");
        assert_eq!((fine.verdict, fine.took), (Verdict::Ok, Duration::ZERO));
        assert!(fine.found.ends_with("; kept"), "{fine:?}");
        let warned = told(check(), judge(NOW, &Times { dated: dated(90_000, 500), ..Times::default() }), None, "");
        assert_eq!(warned.verdict, Verdict::Warning, "whoever can work with it does");
    }

    #[test]
    fn no_time_that_anybody_names_is_too_much() {
        let far = [i64::MIN, -1, 0, NOW, i64::MAX];
        for now in far {
            for one in far {
                for other in far {
                    let times = Times { dated: dated(one, other), certificate: Some((one, other)), ..list(other, one) };
                    told(Check::new("clock", "x"), judge(now, &times), Some(&Fault::Expired.into()), "");
                    told(Check::new("clock", "x"), judge(now, &Times { dated: None, ..times }), None, "");
                }
            }
        }
    }
}
