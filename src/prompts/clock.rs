//! The date that some templates print, as Python's `strftime` writes it.
//!
//! Results must be reproducible, so the clock is read once for a template, and
//! `SOURCE_DATE_EPOCH` (reproducible-builds.org) goes before it. Dates are in UTC.

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
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    /// From 1.
    day_of_year: u64,
    weekday: &'static str,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Moment {
    /// What `SOURCE_DATE_EPOCH` says, else the present.
    ///
    /// # Errors
    /// [`Error::BadEpoch`] alone.
    pub fn now() -> Result<Moment> {
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
    pub fn from_unix(seconds: u64) -> Moment {
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
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }

    /// The moment in `format`; of the codes, those that templates use (and `%-d`, without
    /// padding, for each number). The error is the code that is unknown.
    pub fn strftime(&self, format: &str) -> std::result::Result<String, String> {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let mut code = chars.next();
            let bare = code == Some('-');
            if bare {
                code = chars.next();
            }
            let unknown = || {
                let letters = code.map(String::from).unwrap_or_default();
                format!("%{}{letters}", if bare { "-" } else { "" })
            };
            out += &code.and_then(|code| self.field(code, bare)).ok_or_else(unknown)?;
        }
        Ok(out)
    }

    fn field(&self, code: char, bare: bool) -> Option<String> {
        let number = |value: u64, width: usize| {
            if bare { value.to_string() } else { format!("{value:0width$}") }
        };
        let hour12 = (self.hour + 11) % 12 + 1;
        Some(match code {
            'd' => number(self.day, 2),
            'm' => number(self.month as u64 + 1, 2),
            'y' => number(self.year % 100, 2),
            'Y' => number(self.year, 4),
            'H' => number(self.hour, 2),
            'I' => number(hour12, 2),
            'M' => number(self.minute, 2),
            'S' => number(self.second, 2),
            'j' => number(self.day_of_year, 3),
            _ if bare => return None,
            'B' => MONTHS[self.month].into(),
            'b' => MONTHS[self.month][..3].into(),
            'A' => self.weekday.into(),
            'a' => self.weekday[..3].into(),
            'p' => if self.hour < 12 { "AM" } else { "PM" }.into(),
            '%' => "%".into(),
            _ => return None,
        })
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
        Moment::from_unix(seconds).strftime(format).unwrap()
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
    fn unknown_codes_are_named() {
        let code = |format| Moment::from_unix(0).strftime(format).unwrap_err();
        assert_eq!([code("%d %Q"), code("%-B"), code("%")], ["%Q", "%-B", "%"]);
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
