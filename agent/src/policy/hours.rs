//! When a rule holds: windows of the week with an offset from UTC, and moments.

use core::fmt;

use crate::clock::{DAY, minutes, offset};

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
            [offset] => crate::clock::offset(offset)?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::moment;

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
