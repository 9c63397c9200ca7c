//! The times of `--since` and `--until`: an RFC 3339 time, a date, or an age.

use std::fmt;
use std::time::Duration;

use elb_common::env::values;
use elb_log::key::TimeRange;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::error::CommandError;

/// A time as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimeArg {
    /// A time.
    At(Timestamp),
    /// So long ago, and the text of it.
    Ago(Duration, String),
}

impl TimeArg {
    /// Parses the value of a flag.
    ///
    /// # Errors
    /// The text is neither a time nor an age.
    pub(crate) fn parse(text: &str) -> Result<TimeArg, String> {
        let date = |date: Date| date.to_zoned(TimeZone::UTC).map(|midnight| midnight.timestamp());
        let time = text.parse::<Timestamp>().or_else(|error| {
            // The date parser would also accept a time without a time zone.
            if text.len() == "2026-03-02".len() { text.parse::<Date>().and_then(date) } else { Err(error) }
        });
        let age = || values::age(text).map(|age| TimeArg::Ago(age, text.to_owned()));
        time.map(TimeArg::At).or_else(|_| age()).map_err(|_| {
            "neither a date such as 2026-03-02, a time such as 2026-03-02T10:15:00Z, nor an age such as 7d or 36h".to_owned()
        })
    }

    /// Returns the time. Ages count from `now`.
    fn time(&self, now: Timestamp) -> Timestamp {
        match self {
            TimeArg::At(time) => *time,
            // An age beyond the first timestamp selects everything.
            TimeArg::Ago(age, _) => now.checked_sub(*age).unwrap_or(Timestamp::MIN),
        }
    }

    /// Returns whether the time depends on the time of the run.
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self, TimeArg::Ago(..))
    }
}

/// A time, or the text of an age.
impl fmt::Display for TimeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimeArg::At(time) => time.fmt(f),
            TimeArg::Ago(_, text) => f.write_str(text),
        }
    }
}

/// Returns the selected range. Ages count from `now`.
///
/// # Errors
/// The range is empty.
pub(crate) fn time_range(since: Option<&TimeArg>, until: Option<&TimeArg>, now: Timestamp) -> Result<TimeRange, CommandError> {
    let range = TimeRange { since: since.map(|since| since.time(now)), until: until.map(|until| until.time(now)) };
    match (since, until) {
        (Some(since), Some(until)) if range.since >= range.until => Err(CommandError::Usage(format!(
            "cannot select from --since {since} to --until {until}: the range is empty, because --since is not before --until"
        ))),
        _ => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a time and returns it, with ages from noon of 10 March 2026.
    fn read(text: &str) -> Result<String, String> {
        let noon = "2026-03-10T12:00:00Z".parse().unwrap();
        TimeArg::parse(text).map(|time| time.time(noon).to_string())
    }

    #[test]
    fn parses_dates_and_rfc_3339_times() {
        assert_eq!(read("2026-03-02"), Ok("2026-03-02T00:00:00Z".to_owned()));
        assert_eq!(read("2026-03-02T10:15:00Z"), Ok("2026-03-02T10:15:00Z".to_owned()));
        assert_eq!(read("2026-03-02T10:15:00+02:00"), Ok("2026-03-02T08:15:00Z".to_owned()));
        for wrong in ["yesterday", "2026-03-02T10:25:00", "2026-03-02 23:00", "2026-03-02T23", "7", "d", "-7d", ""] {
            assert!(read(wrong).is_err(), "{wrong} is accepted");
        }
    }

    #[test]
    fn parses_ages() {
        assert_eq!(read("7d"), Ok("2026-03-03T12:00:00Z".to_owned()));
        assert_eq!(read("36h"), Ok("2026-03-09T00:00:00Z".to_owned()));
        assert_eq!(read("90m"), Ok("2026-03-10T10:30:00Z".to_owned()));
        assert!(read("99999y").is_ok_and(|time| time.starts_with("-00")), "{:?}", read("99999y"));
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_an_error() {
        let now = Timestamp::UNIX_EPOCH;
        let range =
            |since: &str, until: &str| time_range(TimeArg::parse(since).ok().as_ref(), TimeArg::parse(until).ok().as_ref(), now);
        for (since, until) in [("2026-03-02", "2026-03-01"), ("2026-03-02", "2026-03-02"), ("1d", "7d")] {
            let error = range(since, until).unwrap_err().to_string();
            assert!(error.contains("--since is not before --until"), "{error}");
        }
        assert!(range("7d", "1d").is_ok() && range("2026-03-01", "2026-03-02").is_ok());
        assert!(time_range(None, TimeArg::parse("1d").ok().as_ref(), now).is_ok());
    }
}
