//! Times of the wall clock, for people.

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
    let seconds =
        crate::policy::moment(&format!("{}Z", text.get(..19).filter(|text| text.as_bytes().get(10) == Some(&b'T'))?))?;
    u64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(micros)
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
}
