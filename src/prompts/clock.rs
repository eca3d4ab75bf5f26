//! The date that some templates print, as Python's `strftime` writes it.
//!
//! Results must be reproducible, so the clock is read once for a template, and `SOURCE_DATE_EPOCH`
//! (reproducible-builds.org) takes precedence over it. Dates are in UTC.

use std::ffi::OsString;
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::{Error, Result};

const SECONDS_PER_DAY: u64 = 86_400;
/// 9999-12-31T23:59:59Z, the last date that Python knows.
const LAST_SECOND: u64 = 253_402_300_799;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From the day of 1970-01-01 on.
const WEEKDAYS: [&str; 7] =
    ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// A second, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    year: u64,
    /// Months since January: 0 to 11.
    month: usize,
    /// Day of the month, from 1.
    day: u64,
    /// Day of the year, from 1.
    day_of_year: u64,
    weekday: &'static str,
    unix_seconds: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Moment {
    /// The moment of `SOURCE_DATE_EPOCH`, else the current one.
    ///
    /// # Errors
    /// Only [`Error::BadEpoch`].
    pub(super) fn now() -> Result<Moment> {
        match std::env::var_os("SOURCE_DATE_EPOCH") {
            Some(epoch) => Moment::from_epoch(epoch),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Ok(Moment::from_unix(since.as_secs().min(LAST_SECOND)))
            }
        }
    }

    fn from_epoch(text: OsString) -> Result<Moment> {
        let seconds = text.to_str().and_then(|text| text.trim().parse().ok());
        let seconds = seconds.filter(|&seconds: &u64| seconds <= LAST_SECOND);
        let bad = || Error::BadEpoch { found: text.to_string_lossy().into_owned() };
        Ok(Moment::from_unix(seconds.ok_or_else(bad)?))
    }

    /// The moment `seconds` after 1970 began.
    pub(super) fn from_unix(seconds: u64) -> Moment {
        let (days, of_day) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
        let (mut year, mut day) = (1970, days);
        while day >= days_in_year(year) {
            day -= days_in_year(year);
            year += 1;
        }
        let day_of_year = day + 1;
        let mut month = 0;
        while day >= days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        Moment {
            year,
            month,
            day: day + 1,
            day_of_year,
            weekday: WEEKDAYS[(days % 7) as usize],
            unix_seconds: seconds,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }

    /// The moment in `format`, as glibc writes it in the C locale. Python's `datetime.now()` has no
    /// time zone: `%Z` and `%z` are empty. Text that is not a code stays as it is.
    pub(super) fn strftime(&self, format: &str) -> String {
        let mut out = String::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out += &rest[..at];
            rest = &rest[at..];
            let flags = rest[1..].find(|c| !"-_0^#".contains(c)).unwrap_or(rest.len() - 1);
            let code = rest[1 + flags..].chars().next();
            let len = 1 + flags + code.map_or(0, char::len_utf8);
            match code.and_then(|code| self.field(code)) {
                Some(field) => out += &field.text(&rest[1..1 + flags]),
                None => out += &rest[..len],
            }
            rest = &rest[len..];
        }
        out + rest
    }

    fn field(&self, code: char) -> Option<DateField> {
        let text = |text: &str| DateField::Text(text.into());
        let inner = |format: &str| DateField::Text(self.strftime(format));
        let number = |value: u64, width: usize| DateField::Number { value, width, pad: '0' };
        let spaced = |value: u64| DateField::Number { value, width: 2, pad: ' ' };
        let hour12 = (self.hour + 11) % 12 + 1;
        let weekday = self.weekday();
        let (iso_year, iso_week) = self.iso_week();
        Some(match code {
            'd' => number(self.day, 2),
            'e' => spaced(self.day),
            'm' => number(self.month as u64 + 1, 2),
            'C' => number(self.year / 100, 2),
            'y' => number(self.year % 100, 2),
            'Y' => number(self.year, 1),
            'G' => number(iso_year, 1),
            'g' => number(iso_year % 100, 2),
            'V' => number(iso_week, 2),
            'U' => number((self.day_of_year + 6 - weekday) / 7, 2),
            'W' => number((self.day_of_year + 6 - (weekday + 6) % 7) / 7, 2),
            'u' => number((weekday + 6) % 7 + 1, 1),
            'w' => number(weekday, 1),
            'H' => number(self.hour, 2),
            'k' => spaced(self.hour),
            'I' => number(hour12, 2),
            'l' => spaced(hour12),
            'M' => number(self.minute, 2),
            'S' => number(self.second, 2),
            'f' => text("000000"),
            's' => number(self.unix_seconds, 1),
            'j' => number(self.day_of_year, 3),
            'B' => text(MONTHS[self.month]),
            'b' | 'h' => text(&MONTHS[self.month][..3]),
            'A' => text(self.weekday),
            'a' => text(&self.weekday[..3]),
            'p' => text(if self.hour < 12 { "AM" } else { "PM" }),
            'P' => text(if self.hour < 12 { "am" } else { "pm" }),
            'Z' | 'z' => text(""),
            'n' => text("\n"),
            't' => text("\t"),
            '%' => text("%"),
            'c' => inner("%a %b %e %H:%M:%S %Y"),
            'D' | 'x' => inner("%m/%d/%y"),
            'F' => inner("%Y-%m-%d"),
            'R' => inner("%H:%M"),
            'r' => inner("%I:%M:%S %p"),
            'T' | 'X' => inner("%H:%M:%S"),
            _ => return None,
        })
    }

    /// Days since Sunday.
    fn weekday(&self) -> u64 {
        (self.unix_seconds / SECONDS_PER_DAY + 4) % 7
    }

    /// The year and week of ISO 8601: weeks begin on Monday, the first holds January 4th.
    fn iso_week(&self) -> (u64, u64) {
        let from_monday = (self.weekday() + 6) % 7;
        let week = (self.day_of_year + 9 - from_monday) / 7;
        // A week belongs to the year that its Thursday is in.
        let thursday = (self.day_of_year + 3).saturating_sub(from_monday);
        if week == 0 {
            let last = days_in_year(self.year - 1) + self.day_of_year;
            return (self.year - 1, (last + 9 - from_monday) / 7);
        }
        if thursday > days_in_year(self.year) {
            return (self.year + 1, 1);
        }
        (self.year, week)
    }
}

/// What a code stands for.
enum DateField {
    Text(String),
    Number { value: u64, width: usize, pad: char },
}

impl DateField {
    /// As its flags want it: `-` does not pad, `_` pads with spaces, `0` with zeros, `^` is in
    /// capitals.
    fn text(&self, flags: &str) -> String {
        match self {
            DateField::Text(text) if flags.contains('^') => text.to_uppercase(),
            DateField::Text(text) => text.clone(),
            DateField::Number { value, width, pad } => {
                let pad = flags.chars().rfind(|c| "-_0".contains(*c)).unwrap_or(match pad {
                    ' ' => '_',
                    _ => '0',
                });
                match pad {
                    '-' => value.to_string(),
                    '_' => format!("{value:width$}"),
                    _ => format!("{value:0width$}"),
                }
            }
        }
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: usize) -> u64 {
    const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    DAYS[month] + u64::from(month == 1 && is_leap(year))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: u64, format: &str) -> String {
        Moment::from_unix(seconds).strftime(format)
    }

    #[test]
    fn dates_are_those_that_python_prints() {
        // datetime.fromtimestamp(seconds, timezone.utc).strftime(format)
        let long = "%A %a %d %-d %B %b %m %-m %Y %y %j %-j %H %I %-I %M %S %p %%";
        for (seconds, expected) in [
            (0, "Thursday Thu 01 1 January Jan 01 1 1970 70 001 1 00 12 12 00 00 AM %"),
            (951_782_400, "Tuesday Tue 29 29 February Feb 02 2 2000 00 060 60 00 12 12 00 00 AM %"),
            (
                1_735_689_599,
                "Tuesday Tue 31 31 December Dec 12 12 2024 24 366 366 23 11 11 59 59 PM %",
            ),
            (
                LAST_SECOND,
                "Friday Fri 31 31 December Dec 12 12 9999 99 365 365 23 11 11 59 59 PM %",
            ),
        ] {
            assert_eq!(text(seconds, long), expected);
        }
        assert_eq!(text(1_721_970_000, "%d %b %Y"), "26 Jul 2024");
        assert_eq!(text(1_721_970_000, "no code"), "no code");
    }

    #[test]
    fn every_code_of_glibc_is_known() {
        // datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None).strftime(format)
        let long = "%e %C %G %g %V %U %W %u %w %k %l %P %f %h %n%t[%Z%z] %c|%D|%x|%F|%R|%r|%T|%X";
        assert_eq!(
            text(1_721_970_000, long),
            "26 20 2024 24 30 29 30 5 5  5  5 am 000000 Jul \n\t[] Fri Jul 26 05:00:00 2024|\
             07/26/24|07/26/24|2024-07-26|05:00|05:00:00 AM|05:00:00|05:00:00"
        );
        assert_eq!(text(1_721_970_000, "%_m %-H %0e %^a %^B %s"), " 7 5 26 FRI JULY 1721970000");
        // Days whose week is of another year.
        let weeks = |seconds| text(seconds, "%Y-%m-%d %G-W%V-%u %U %W");
        for (seconds, expected) in [
            (1_609_459_200, "2021-01-01 2020-W53-5 00 00"),
            (1_735_516_800, "2024-12-30 2025-W01-1 52 53"),
            (1_230_508_800, "2008-12-29 2009-W01-1 52 52"),
            (1_072_915_200, "2004-01-01 2004-W01-4 00 00"),
            (1_104_537_600, "2005-01-01 2004-W53-6 00 00"),
            (1_230_336_000, "2008-12-27 2008-W52-6 51 51"),
        ] {
            assert_eq!(weeks(seconds), expected);
        }
    }

    #[test]
    fn what_is_no_code_stays() {
        assert_eq!(text(0, "100% %q %-Q \u{e9}%\u{e9} %"), "100% %q %-Q \u{e9}%\u{e9} %");
    }

    #[test]
    fn an_epoch_is_a_number_of_seconds() {
        let moment = |text: &str| Moment::from_epoch(text.into());
        assert_eq!(moment("1721970000").unwrap(), Moment::from_unix(1_721_970_000));
        for bad in ["", "now", "-1", "253402300800"] {
            assert!(matches!(moment(bad), Err(Error::BadEpoch { found }) if found == bad));
        }
    }
}
