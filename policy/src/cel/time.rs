//! Timestamps and durations (language definition, "Timestamps" and "Durations"), without a clock.

use core::fmt;

use super::fault::Fault;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;
/// The first second of the year 1 and the last of the year 9999.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

/// A moment between the years 1 and 9999, to the nanosecond; the beginning of 1970 where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Since 1970, of UTC.
    seconds: i64,
    nanos: u32,
}

/// A span of time of either sign, to the nanosecond, of at most 292 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    nanos: i64,
}

impl Timestamp {
    /// Returns a moment, unless it is out of range.
    ///
    /// `seconds` count from 1970, UTC; `nanos` go on from there.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        ((FIRST..=LAST).contains(&seconds) && i64::from(nanos) < NANOS).then_some(Self { seconds, nanos })
    }

    /// Returns the whole seconds since 1970, UTC.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    pub(crate) fn plus(self, duration: Duration) -> Result<Self, Fault> {
        let nanos = i128::from(self.seconds) * i128::from(NANOS) + i128::from(self.nanos) + i128::from(duration.nanos);
        let seconds = i64::try_from(nanos.div_euclid(i128::from(NANOS))).map_err(|_| Fault::Overflow)?;
        let nanos = u32::try_from(nanos.rem_euclid(i128::from(NANOS))).map_err(|_| Fault::Overflow)?;
        Self::new(seconds, nanos).ok_or(Fault::Overflow)
    }

    pub(crate) fn minus(self, other: Self) -> Result<Duration, Fault> {
        let seconds = i128::from(self.seconds) - i128::from(other.seconds);
        let nanos = seconds * i128::from(NANOS) + i128::from(self.nanos) - i128::from(other.nanos);
        i64::try_from(nanos).map(|nanos| Duration { nanos }).map_err(|_| Fault::Overflow)
    }

    /// Reads the form of RFC 3339.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let bad = Fault::Invalid("not a timestamp of RFC 3339");
        let number = |from: usize, to: usize| -> Result<i64, Fault> {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|octet| octet.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(bad)
        };
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if !marks.iter().all(|(at, mark)| text.as_bytes().get(*at) == Some(mark)) {
            // A year of five digits moves all marks.
            let far =
                text.split('-').next().is_some_and(|year| year.len() > 4 && year.bytes().all(|it| it.is_ascii_digit()));
            return Err(if far { Fault::Overflow } else { bad });
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let rest = text.get(19..).ok_or(bad)?;
        let (nanos, zone) = match rest.strip_prefix('.') {
            Some(rest) => fraction(rest).ok_or(bad)?,
            None => (0, rest),
        };
        let offset = if zone == "Z" { 0 } else { offset(zone).filter(|_| zone.len() == 6).ok_or(bad)? };
        let valid = (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
        if !valid || hour > 23 || minute > 59 || second > 59 {
            return Err(bad);
        }
        let seconds = days_before(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
        Self::new(seconds, nanos).ok_or(Fault::Overflow)
    }

    /// Returns the calendar at an offset from UTC in seconds.
    pub(crate) fn civil(self, offset: i64) -> Civil {
        let local = self.seconds + offset;
        let (days, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        Civil {
            year,
            month,
            day,
            weekday: (days + 4).rem_euclid(7), // 1970 began on a Thursday
            day_of_year: days - days_before(year, 1, 1),
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
            millisecond: i64::from(self.nanos / 1_000_000),
        }
    }
}

/// A date and time of day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// From one.
    pub(crate) month: i64,
    /// From one.
    pub(crate) day: i64,
    /// Sunday is zero.
    pub(crate) weekday: i64,
    /// From zero.
    pub(crate) day_of_year: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) millisecond: i64,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Civil { year, month, day, hour, minute, second, .. } = self.civil(0);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        decimals(f, self.nanos)?;
        f.write_str("Z")
    }
}

impl Duration {
    /// Returns a span of that many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// Returns its nanoseconds.
    pub const fn nanos(self) -> i64 {
        self.nanos
    }

    pub(crate) fn plus(self, other: Self) -> Result<Self, Fault> {
        self.nanos.checked_add(other.nanos).map(Self::from_nanos).ok_or(Fault::Overflow)
    }

    pub(crate) fn minus(self, other: Self) -> Result<Self, Fault> {
        self.nanos.checked_sub(other.nanos).map(Self::from_nanos).ok_or(Fault::Overflow)
    }

    pub(crate) fn negated(self) -> Result<Self, Fault> {
        self.nanos.checked_neg().map(Self::from_nanos).ok_or(Fault::Overflow)
    }

    /// Reads numbers with units, such as `1h45m`, `-1.5s`, `300ms`.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let bad = Fault::Invalid("not a duration, such as 1h45m or 1.5s");
        let negative = text.starts_with('-');
        let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        if rest == "0" {
            return Ok(Self { nanos: 0 });
        }
        if rest.is_empty() {
            return Err(bad);
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (whole, after) = split_digits(rest);
            let (part, unit_on) = after.strip_prefix('.').map_or(("", after), split_digits);
            if (whole.is_empty() && part.is_empty()) || whole.len() > 20 || part.len() > 20 {
                return Err(if whole.len() > 20 { Fault::Overflow } else { bad });
            }
            let (unit, after) =
                UNITS.iter().find_map(|(name, unit)| Some((*unit, unit_on.strip_prefix(name)?))).ok_or(bad)?;
            let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad)? };
            let mut scale = unit;
            let mut below: i128 = 0;
            for digit in part.bytes() {
                scale /= 10;
                below += i128::from(digit - b'0') * scale;
            }
            total += whole * unit + below;
            rest = after;
        }
        i64::try_from(if negative { -total } else { total }).map(Self::from_nanos).map_err(|_| Fault::Overflow)
    }
}

/// Longest first where one begins another.
const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.nanos.unsigned_abs();
        write!(f, "{}{}", if self.nanos < 0 { "-" } else { "" }, size / 1_000_000_000)?;
        decimals(f, u32::try_from(size % 1_000_000_000).unwrap_or(0))?;
        f.write_str("s")
    }
}

/// Reads an offset from UTC: nothing, `UTC`, `Z`, `+hh:mm`, `-hh:mm` or `hh:mm`. Zones by name need a database that changes.
pub(crate) fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "UTC" | "Z") {
        return Some(0);
    }
    let negative = zone.starts_with('-');
    let (hours, minutes) = zone.strip_prefix(['-', '+']).unwrap_or(zone).split_once(':')?;
    let number = |digits: &str, end: i64| {
        let digits = (digits.len() == 2).then_some(digits)?.bytes().all(|it| it.is_ascii_digit()).then_some(digits)?;
        digits.parse::<i64>().ok().filter(|number| *number < end)
    };
    let seconds = number(hours, 24)? * 3600 + number(minutes, 60)? * 60;
    Some(if negative { -seconds } else { seconds })
}

fn split_digits(text: &str) -> (&str, &str) {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(len).unwrap_or(("", text))
}

/// Reads decimals of a second, of which those after the ninth are dropped.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = split_digits(text);
    let mut nanos = 0;
    for place in 0..9 {
        nanos = nanos * 10 + digits.as_bytes().get(place).map_or(0, |digit| u32::from(digit - b'0'));
    }
    (!digits.is_empty()).then_some((nanos, rest))
}

fn decimals(f: &mut fmt::Formatter<'_>, nanos: u32) -> fmt::Result {
    if nanos == 0 {
        return Ok(());
    }
    let digits = format!("{nanos:09}");
    write!(f, ".{}", digits.trim_end_matches('0'))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days from 1970 to a date, counted in eras of 400 years that begin in March.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * month_from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_month_of_the_calendar_begins_and_ends_where_it_does() {
        let mut days = days_before(1, 1, 1);
        assert_eq!(days, FIRST / DAY);
        for (year, month) in (1..=9999).flat_map(|year| (1..=12).map(move |month| (year, month))) {
            for day in [1, days_of(year, month)] {
                assert_eq!(days_before(year, month, day), days + day - 1);
                assert_eq!(date_of(days + day - 1), (year, month, day));
            }
            days += days_of(year, month);
        }
        assert_eq!(days - 1, LAST / DAY);
    }

    #[test]
    fn timestamps_are_read_as_rfc_3339_has_them() {
        for (text, shown) in [
            ("2009-02-13T23:31:30Z", "2009-02-13T23:31:30Z"),
            ("2009-02-13T23:31:30.5+01:00", "2009-02-13T22:31:30.5Z"),
            ("0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00.000000001Z"),
            ("2024-02-29T00:00:00-00:30", "2024-02-29T00:30:00Z"),
        ] {
            assert_eq!(Timestamp::parse(text).expect(text).to_string(), shown);
        }
        for text in [
            "",
            "2009-02-13",
            "2009-02-13T23:31:30",
            "2009-02-13t23:31:30z",
            "2023-02-29T00:00:00Z",
            "2009-13-01T00:00:00Z",
            "2009-01-01T24:00:00Z",
            "2009-01-01T00:00:60Z",
            "2009-01-01T00:00:00.Z",
            "2009-01-01T00:00:00+1:00",
            "+009-01-01T00:00:00Z",
            "20090101T000000Z",
        ] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
        assert_eq!(Timestamp::parse("0001-01-01T00:00:00+00:01"), Err(Fault::Overflow));
    }

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, shown) in [
            ("0", "0s"),
            ("1h45m47s", "6347s"),
            ("-1.5s", "-1.5s"),
            (".5ms", "0.0005s"),
            ("1.s", "1s"),
            ("+3us", "0.000003s"),
            ("9223372036s", "9223372036s"),
        ] {
            assert_eq!(Duration::parse(text).expect(text).to_string(), shown);
        }
        for text in ["", "-", "1", "s", ".s", "1x", "1s ", "1,5s", "--1s"] {
            assert!(matches!(Duration::parse(text), Err(Fault::Invalid(_))), "{text}");
        }
        for text in ["9223372037s", "99999999999999999999h", "999999999999999999999s"] {
            assert_eq!(Duration::parse(text), Err(Fault::Overflow), "{text}");
        }
    }

    #[test]
    fn zones_are_offsets() {
        assert_eq!(offset("UTC"), Some(0));
        assert_eq!(offset("+05:45"), Some(20_700));
        assert_eq!(offset("-02:30"), Some(-9_000));
        assert_eq!(offset("02:00"), Some(7_200));
        for zone in ["Europe/Berlin", "+5:45", "24:00", "+05:60", "++1:00", "0500"] {
            assert_eq!(offset(zone), None, "{zone}");
        }
    }
}
