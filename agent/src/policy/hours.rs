//! When a rule holds: windows of the week with an offset from UTC, and moments.

use core::fmt;

/// A window of the week: `mon-fri 08:00-18:00 +01:00`. Without an offset its times are UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// From Monday on.
    days: [bool; 7],
    /// Minutes of the day; where `to` is not later, the window ends on the day after.
    from: i64,
    to: i64,
    /// Seconds that its clock is ahead of UTC.
    offset: i64,
    text: String,
}

impl Window {
    /// Reads a window; nothing when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut window = Self { days: [false; 7], from: 0, to: 0, offset: 0, text: text.to_owned() };
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let at = words.iter().position(|word| word.contains(':'))?;
        let (days, times) = words.split_at(at);
        for word in days {
            let (first, last) = match *word {
                "daily" => (0, 6),
                word => {
                    let (first, last) = word.split_once('-').unwrap_or((word, word));
                    (day(first)?, day(last)?)
                }
            };
            let mut at = first;
            window.days[at] = true;
            while at != last {
                at = (at + 1) % 7;
                window.days[at] = true;
            }
        }
        let (span, rest) = times.split_first()?;
        let (from, to) = span.split_once('-')?;
        (window.from, window.to) = (minutes(from)?, minutes(to)?);
        window.offset = match rest {
            [] => 0,
            [offset] => self::offset(offset)?,
            _ => return None,
        };
        (!days.is_empty() && window.from != window.to && window.from < DAY / 60).then_some(window)
    }

    /// Returns whether a time, in seconds since 1970, is within.
    pub(super) fn holds(&self, now: i64) -> bool {
        let local = now.saturating_add(self.offset);
        let (day, minute) = (local.div_euclid(DAY), local.rem_euclid(DAY) / 60);
        let on = |day: i64| {
            // The first day of 1970 was a Thursday.
            let weekday = usize::try_from((day + 3).rem_euclid(7)).unwrap_or_default();
            self.days[weekday]
        };
        if self.from < self.to {
            return on(day) && (self.from..self.to).contains(&minute);
        }
        on(day) && minute >= self.from || on(day - 1) && minute < self.to
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        let zoned = self.text.rsplit(' ').next().is_some_and(|word| offset(word).is_some());
        if zoned { Ok(()) } else { f.write_str(" UTC") }
    }
}

fn day(word: &str) -> Option<usize> {
    ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].iter().position(|day| day.eq_ignore_ascii_case(word))
}

/// Reads `08:30` and `24:00` as minutes of the day.
fn minutes(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (two(hour)?, two(minute)?);
    (minute < 60 && (hour < 24 || hour == 24 && minute == 0)).then_some(hour * 60 + minute)
}

/// Reads `Z`, `UTC`, `+01:00` as seconds.
fn offset(text: &str) -> Option<i64> {
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

fn two(text: &str) -> Option<i64> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
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
const DAY: i64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(crate::clock::utc(seconds).starts_with(&text[..2]));
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

    #[test]
    fn a_window_holds_from_its_first_second_to_before_its_last() {
        let at = |text: &str| moment(text).unwrap();
        let holds = |window: &str, time: &str| Window::parse(window).unwrap().holds(at(time));
        // 2026-11-23 is a Monday.
        for (window, time, expected) in [
            ("mon-fri 08:00-18:00", "2026-11-23T07:59:59Z", false),
            ("mon-fri 08:00-18:00", "2026-11-23T08:00:00Z", true),
            ("mon-fri 08:00-18:00", "2026-11-23T17:59:59Z", true),
            ("mon-fri 08:00-18:00", "2026-11-23T18:00:00Z", false),
            ("mon-fri 08:00-18:00", "2026-11-22T12:00:00Z", false),
            ("mon-fri 08:00-18:00 +01:00", "2026-11-23T07:00:00Z", true),
            ("mon-fri 08:00-18:00 +01:00", "2026-11-23T17:00:00Z", false),
            ("mon 00:00-01:00 -02:00", "2026-11-23T02:30:00Z", true),
            ("mon 22:00-06:00", "2026-11-23T23:00:00Z", true),
            ("mon 22:00-06:00", "2026-11-24T05:59:59Z", true),
            ("mon 22:00-06:00", "2026-11-24T06:00:00Z", false),
            ("mon 22:00-06:00", "2026-11-23T05:00:00Z", false),
            ("sat-mon 00:00-24:00", "2026-11-22T23:59:59Z", true),
            ("sat-mon 00:00-24:00", "2026-11-24T00:00:00Z", false),
            ("tue sun 12:00-13:00", "2026-11-22T12:00:00Z", true),
            ("daily 12:00-13:00 UTC", "2026-11-26T12:30:00Z", true),
        ] {
            assert_eq!(holds(window, time), expected, "{window} {time}");
        }
        for window in ["daily 00:00-01:00 +14:00", "daily 00:00-01:00 -14:00"].map(|text| Window::parse(text).unwrap())
        {
            window.holds(i64::MAX); // no time is too far away to be asked about
            window.holds(i64::MIN);
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "",
            "mon",
            "08:00-18:00",
            "mon 08:00",
            "mon 8:00-18:00",
            "mon 08:00-08:00",
            "mon 24:00-08:00",
            "mon 08:00-25:00",
            "mon 08:00-18:00 CET",
            "mon 08:00-18:00 +15:00",
            "mon 08:00-18:00 +01:00 x",
            "mo 08:00-18:00",
            "mon-fr 08:00-18:00",
        ] {
            assert!(Window::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_window_is_shown_with_its_zone() {
        assert_eq!(Window::parse("mon 08:00-18:00").unwrap().to_string(), "mon 08:00-18:00 UTC");
        assert_eq!(Window::parse("mon 08:00-18:00 +01:00").unwrap().to_string(), "mon 08:00-18:00 +01:00");
    }
}
