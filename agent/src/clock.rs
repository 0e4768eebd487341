//! Times of the wall clock, as people write and read them.

use std::time::SystemTime;

/// Writes seconds since 1970 as `2026-11-24 12:08:02 UTC`.
pub(crate) fn utc(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days.clamp(-1_000_000, 100_000_000));
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Writes a time as `2026-11-24T12:08:02.125Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let text = utc(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    format!("{}.{:03}Z", text.trim_end_matches(" UTC").replacen(' ', "T", 1), since.subsec_millis())
}

/// Writes microseconds since 1970 as `2026-11-24T12:08:02.000001Z`.
pub(crate) fn precise(micros: u64) -> String {
    let seconds = i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX).min(LAST);
    let text = utc(seconds);
    let (date, time) = (text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default());
    format!("{date}T{time}.{:06}Z", micros % 1_000_000)
}

/// Reads what [`precise`] writes.
pub(crate) fn parse_precise(text: &str) -> Option<u64> {
    let micros = text.get(19..)?.strip_prefix('.')?.strip_suffix('Z').filter(|digits| digits.len() == 6)?;
    let micros: u64 = micros.parse().ok().filter(|_| micros.bytes().all(|digit| digit.is_ascii_digit()))?;
    let seconds = moment(&format!("{}Z", text.get(..19).filter(|text| text.as_bytes().get(10) == Some(&b'T'))?))?;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(micros)
}

/// Reads `2026-12-31T18:00:00Z` or `2026-12-31T18:00:00+01:00` as seconds since 1970.
pub(crate) fn moment(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, two(parts.next()?)?, two(parts.next()?)?);
    let is_year = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit()) && parts.next().is_none();
    let year: i64 = year.parse().ok().filter(|_| is_year)?;
    if !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let zone = time.find(['Z', '+', '-'])?;
    let (time, zone) = time.split_at(zone);
    let (time, seconds) = match time.len() {
        5 => (time, 0),
        8 => (time.get(..5)?, two(time.get(5..)?.strip_prefix(':')?).filter(|seconds| *seconds < 60)?),
        _ => return None,
    };
    let minutes = minutes(time).filter(|minutes| *minutes < DAY / 60)?;
    Some(days(year, month, day) * DAY + minutes * 60 + seconds - offset(zone)?)
}

/// Reads `08:30` and `24:00` as minutes of the day.
pub(crate) fn minutes(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (two(hour)?, two(minute)?);
    (minute < 60 && (hour < 24 || hour == 24 && minute == 0)).then_some(hour * 60 + minute)
}

/// Reads `Z`, `UTC`, `+01:00` as seconds.
pub(crate) fn offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "UTC") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    minutes(rest).filter(|minutes| *minutes <= 14 * 60).map(|minutes| sign * minutes * 60)
}

/// Returns the date so many days after 1970-01-01, by counting 400-year eras that begin in March.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn two(text: &str) -> Option<i64> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn days_in(year: i64, month: i64) -> i64 {
    let next = if month == 12 { days(year + 1, 1, 1) } else { days(year, month + 1, 1) };
    next - days(year, month, 1)
}

/// Returns how many days after 1970-01-01 a date is, by counting 400-year eras that begin in March.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Seconds of a day.
pub(crate) const DAY: i64 = 86_400;

/// The end of the year 9999, in seconds since 1970.
const LAST: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_522_082, "2026-11-24 12:08:02 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), text);
        }
        let time = SystemTime::UNIX_EPOCH + core::time::Duration::from_millis(1_795_522_082_125);
        assert_eq!(rfc3339(time), "2026-11-24T12:08:02.125Z");
        utc(i64::MAX);
        utc(i64::MIN);
    }

    #[test]
    fn precise_times_are_written_and_read() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_795_522_082_000_001, "2026-11-24T12:08:02.000001Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!((precise(micros).as_str(), parse_precise(text)), (text, Some(micros)));
        }
        assert_eq!(precise(u64::MAX).len(), 27);
        for text in ["", "2026-11-24T12:08:02Z", "2026-11-24 12:08:02.000001Z", "2026-11-24T12:08:02.00000+Z"] {
            assert_eq!(parse_precise(text), None, "{text}");
        }
    }

    #[test]
    fn a_moment_is_read_with_its_offset() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400),
            ("2026-11-24T12:08:02Z", 1_795_522_082),
            ("2026-11-24T13:08:02+01:00", 1_795_522_082),
            ("2026-11-24 07:08-05:00", 1_795_522_080),
        ] {
            assert_eq!(moment(text), Some(seconds), "{text}");
            assert!(utc(seconds).starts_with(&text[..2]));
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T12:00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-00-01T00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T12:60:00Z",
            "2026-01-01T12:00:61Z",
            "26-01-01T12:00:00Z",
            "2026-01-01T12:00:00+1",
            "2026-01-01-01T12:00Z",
            "2026-01-01T12:00:00+15:00",
            "é026-01-01T12:00Z",
            "2026-01-01T12:é0Z",
            "T",
            "+026-01-01T12:00Z",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
