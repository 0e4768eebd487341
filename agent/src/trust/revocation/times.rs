//! What others say of the time while lists are looked at: nobody is asked for it.

use std::time::{SystemTime, UNIX_EPOCH};

use adit_tls::RevocationList;

/// What was heard of the time, for who compares a clock with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// From when until when the network's certificate is good, in seconds since 1970; only one that a believed authority issued.
    pub(crate) certificate: Option<(i64, i64)>,
    /// Of the newest list that came in a handshake or from a URL, in force or not.
    pub(crate) listed: Option<ListTimes>,
    /// What a server of lists said.
    pub(crate) dated: Option<Dated>,
}

/// The times of a list that a believed authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListTimes {
    /// When it was made, in seconds since 1970.
    pub(crate) made: i64,
    /// When its successor is due, in seconds since 1970.
    pub(crate) next: i64,
    /// Which list.
    pub(crate) told: String,
}

/// How this machine's clock compares with that of a server, which signs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dated {
    /// By how many milliseconds this clock is ahead; negative: behind.
    pub(crate) ahead_ms: i64,
    /// By how many milliseconds that may be wrong: half of the time that the answer took, and half of the second that is told.
    pub(crate) within_ms: i64,
    /// Who said so.
    pub(crate) source: String,
}

impl Times {
    /// Takes the times of a list, believed or not for other reasons.
    pub(super) fn hear(&mut self, list: &RevocationList) {
        let made = list.mark.issued;
        if self.listed.as_ref().is_none_or(|newest| newest.made <= made) {
            let next = i64::try_from(list.next).unwrap_or(i64::MAX);
            self.listed = Some(ListTimes { made, next, told: list.told() });
        }
    }
}

impl Dated {
    /// Compares the time that an answer names, in seconds since 1970, with this clock when it was `asked` for and when it was `heard`.
    /// `None` when this clock was set meanwhile.
    pub(super) fn new(named: i64, (asked, heard): (SystemTime, SystemTime), source: &str) -> Option<Self> {
        let (asked, heard) = (millis(asked), millis(heard));
        let took = heard.checked_sub(asked).filter(|took| *took >= 0)?;
        let named = named.saturating_mul(1_000).saturating_add(HALF_SECOND);
        let ahead_ms = asked.saturating_add(took / 2).saturating_sub(named);
        Some(Self { ahead_ms, within_ms: (took / 2).saturating_add(HALF_SECOND), source: source.to_owned() })
    }
}

/// Returns the time that the head of an answer of HTTP names, in seconds since 1970: its Date, and its Age where it comes out of a cache.
pub(super) fn date_of(answer: &[u8]) -> Option<i64> {
    let end = answer.windows(4).take(super::answer::MAX_HEAD).position(|window| window == b"\r\n\r\n")?;
    let head = core::str::from_utf8(answer.get(..end)?).ok()?;
    let field = |wanted: &str| {
        let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    };
    let age = match field("age") {
        Some(age) => age.parse::<u32>().ok()?, // from a cache, nobody knows how long ago
        None => 0,
    };
    imf(field("date")?)?.checked_add(age.into())
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`, which is what everybody sends (RFC 9110 §5.6.7).
fn imf(text: &str) -> Option<i64> {
    let mut parts = text.split(' ');
    let (_, day, month, year) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (time, zone) = (parts.next()?, parts.next()?);
    if zone != "GMT" || parts.next().is_some() || time.len() != 8 {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    crate::clock::moment(&format!("{year}-{month:02}-{day}T{time}Z"))
}

fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// In milliseconds.
const HALF_SECOND: i64 = 500;

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read_with_its_age_and_nonsense_is_not() {
        let date = |fields: &str| date_of(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nDate: x").as_bytes());
        let sunday = Some(784_111_777);
        assert_eq!(date("Date: Sun, 06 Nov 1994 08:49:37 GMT"), sunday);
        assert_eq!(date("Server: x\r\ndate:Sun, 06 Nov 1994 08:49:37 GMT"), sunday);
        assert_eq!(date("Date: Sun, 06 Nov 1994 08:49:07 GMT\r\nAge: 30"), sunday);
        for nonsense in [
            "",
            "Server: x",
            "Date:",
            "Date: 784111777",
            "Date: Sun, 06 Nov 1994 08:49:37 CET",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT x",
            "Date: Sun, 31 Feb 1994 08:49:37 GMT",
            "Date: Sun, 06 nov 1994 08:49:37 GMT",
            "Date: Sun, 06 Nov 1994 25:49:37 GMT",
            "Date: Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
            "Date: Sun, 06 Nov -999 08:49:37 GMT",
            "Date: Sun, é6 Nov 1994 08:49:37 GMT",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nAge: -1",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nAge: 99999999999",
        ] {
            assert_eq!(date(nonsense), None, "{nonsense}");
        }
        assert_eq!(date("Date: Fri, 31 Dec 9999 23:59:59 GMT\r\nAge: 4294967295"), Some(257_697_268_094));
        assert_eq!(date_of(b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT"), None, "cut off");
    }

    #[test]
    fn a_difference_comes_with_what_it_may_be_wrong_by_and_no_time_is_too_far_away() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let dated =
            |named, asked, heard| Dated::new(named, (asked, heard), "x").map(|dated| (dated.ahead_ms, dated.within_ms));

        assert_eq!(dated(1_000, at(1_000_500), at(1_000_500)), Some((0, 500)));
        assert_eq!(dated(1_000, at(1_000_300), at(1_000_700)), Some((0, 700)));
        assert_eq!(dated(1_000, at(4_600_300), at(4_602_300)), Some((3_600_800, 1_500)));
        assert_eq!(dated(4_600, at(1_000_000), at(1_000_000)), Some((-3_600_500, 500)));
        assert_eq!(dated(1_000, at(1_000_500), at(1_000_499)), None, "the clock was set meanwhile");
        for named in [i64::MIN, i64::MAX, -1] {
            assert!(dated(named, at(0), at(u64::MAX / 2)).is_some(), "{named}");
            assert!(dated(named, UNIX_EPOCH - Duration::from_secs(9), at(0)).is_some(), "{named}");
        }
    }
}
