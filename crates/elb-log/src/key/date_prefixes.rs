//! Selects objects by time, and the directories that may hold them.

use jiff::Timestamp;
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::KeyFacts;
use super::layout::{Account, Layout, Service};

/// A time range of log objects, compared with the end time in their keys; `--since` and `--until`. The default range holds every
/// object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// The start of the range, inclusive.
    pub since: Option<Timestamp>,
    /// The end of the range, exclusive.
    pub until: Option<Timestamp>,
}

/// How a directory relates to a time range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryMatch {
    /// The directory holds only objects outside the range, or logs of other services.
    Outside,
    /// Any object below the directory may be inside the range.
    Inside,
    /// Some sub-directories may be outside the range.
    Partial,
}

impl TimeRange {
    /// Returns whether the range includes an object, by the end time in its key. An object without an end time is included.
    pub fn includes(&self, key: &str) -> bool {
        let Some(end) = KeyFacts::from_key(key).end_time.and_then(|end| end.parse::<Timestamp>().ok()) else { return true };
        self.since.is_none_or(|since| since <= end) && self.until.is_none_or(|until| end < until)
    }

    /// Compares a directory, which must be empty or end in `/`, with the range.
    ///
    /// AWS writes the logs of a day to a directory of this day, in one of several layouts, with or without the names of Hive's
    /// partitions (`year=2026/month=03/day=02/`). The interval of an
    /// object may end at midnight or later, so the range is extended by one day on both sides. A directory that does not have this
    /// form is [`DirectoryMatch::Inside`], so that no object is missed.
    pub fn match_directory(&self, directory: &str) -> DirectoryMatch {
        if *self == TimeRange::default() {
            return DirectoryMatch::Inside;
        }
        match Layout::of(directory) {
            Layout::AboveAccount => DirectoryMatch::Partial,
            Layout::Unknown => DirectoryMatch::Inside,
            Layout::Account(found) => self.match_account(&found),
        }
    }

    /// Compares the directories below the account.
    fn match_account(&self, found: &Account<'_>) -> DirectoryMatch {
        match (found.service, found.region) {
            (None, _) => DirectoryMatch::Partial,
            (Some(Service::Other(_)), _) => DirectoryMatch::Outside,
            (Some(Service::Unknown), _) => DirectoryMatch::Inside,
            (Some(Service::LoadBalancing), Some(_)) => self.match_dates(found.dates.iter().copied()),
            (Some(Service::LoadBalancing), None) if found.has_region_level => DirectoryMatch::Inside,
            (Some(Service::LoadBalancing), None) => DirectoryMatch::Partial,
        }
    }

    /// Compares the directories below the region.
    fn match_dates<'a>(&self, mut parts: impl Iterator<Item = &'a str>) -> DirectoryMatch {
        let (year, month, day) = (parts.next(), parts.next(), parts.next());
        let Some(year) = year else { return DirectoryMatch::Partial };
        let Some((first, last)) = days(year, month, day) else { return DirectoryMatch::Inside };
        let (earliest, latest) = (self.earliest(), self.latest());
        if earliest.is_some_and(|earliest| last < earliest) || latest.is_some_and(|latest| latest < first) {
            return DirectoryMatch::Outside;
        }
        let is_inside = earliest.is_none_or(|earliest| earliest <= first) && latest.is_none_or(|latest| last <= latest);
        if is_inside || day.is_some() { DirectoryMatch::Inside } else { DirectoryMatch::Partial }
    }

    /// Returns the first day of the extended range; none if the range has no start.
    fn earliest(&self) -> Option<Date> {
        date(self.since?).checked_sub(1.day()).ok()
    }

    /// Returns the last day of the extended range; none if the range has no end.
    fn latest(&self) -> Option<Date> {
        let last = self.until?.checked_sub(1.nanosecond()).ok()?;
        date(last).checked_add(1.day()).ok()
    }
}

fn date(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date()
}

/// Returns the first and the last day of a year, a month or a day.
fn days(year: &str, month: Option<&str>, day: Option<&str>) -> Option<(Date, Date)> {
    let year = number(year, 4)?;
    let month = month.map_or(Some(None), |text| i8::try_from(number(text, 2)?).ok().map(Some))?;
    let day = day.map_or(Some(None), |text| i8::try_from(number(text, 2)?).ok().map(Some))?;
    let first = Date::new(year, month.unwrap_or(1), day.unwrap_or(1)).ok()?;
    let last = match (month, day) {
        (None, _) => first.last_of_year(),
        (Some(_), None) => first.last_of_month(),
        (Some(_), Some(_)) => first,
    };
    Some((first, last))
}

/// Reads a number of exactly `length` digits.
fn number(text: &str, length: usize) -> Option<i16> {
    let is_number = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: &str = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/";

    fn range(since: &str, until: &str) -> TimeRange {
        let time = |text: &str| (text != "-").then(|| text.parse().unwrap());
        TimeRange { since: time(since), until: time(until) }
    }

    #[track_caller]
    fn check(range: TimeRange, directory: &str, expected: DirectoryMatch) {
        assert_eq!(range.match_directory(directory), expected, "{directory}");
    }

    /// One day, as `--since 2026-03-02 --until 2026-03-03`.
    fn day() -> TimeRange {
        range("2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z")
    }

    #[test]
    fn matches_every_directory_without_times() {
        for directory in ["", "AWSLogs/", REGION, &format!("{REGION}2026/")] {
            check(TimeRange::default(), directory, DirectoryMatch::Inside);
        }
    }

    #[test]
    fn matches_directories_above_the_dates_partially() {
        for directory in ["", "team/", "AWSLogs/", "AWSLogs/o-a1b2/", "AWSLogs/team/", "p/AWSLogs/123456789012/", REGION] {
            check(day(), directory, DirectoryMatch::Partial);
        }
        check(day(), "AWSLogs/123456789012/elasticloadbalancing/", DirectoryMatch::Partial);
        check(day(), "AWSLogs/o-a1b2/123456789012/elasticloadbalancing/eu-west-1/2026/", DirectoryMatch::Partial);
    }

    #[test]
    fn extends_the_range_by_one_day_on_each_side() {
        for (directory, expected) in [
            ("2025/", DirectoryMatch::Outside),
            ("2026/", DirectoryMatch::Partial),
            ("2027/", DirectoryMatch::Outside),
            ("2026/02/", DirectoryMatch::Outside),
            ("2026/03/", DirectoryMatch::Partial),
            ("2026/04/", DirectoryMatch::Outside),
            ("2026/02/28/", DirectoryMatch::Outside),
            ("2026/03/01/", DirectoryMatch::Inside),
            ("2026/03/02/", DirectoryMatch::Inside),
            ("2026/03/03/", DirectoryMatch::Inside),
            ("2026/03/04/", DirectoryMatch::Outside),
        ] {
            check(day(), &format!("{REGION}{directory}"), expected);
        }
    }

    #[test]
    fn matches_hive_style_dates() {
        let region = "AWSLogs/aws-account-id=123456789012/aws-service=elasticloadbalancing/aws-region=eu-west-1/";
        for (directory, expected) in [
            ("", DirectoryMatch::Partial),
            ("year=2025/", DirectoryMatch::Outside),
            ("year=2026/", DirectoryMatch::Partial),
            ("year=2026/month=02/", DirectoryMatch::Outside),
            ("year=2026/month=03/", DirectoryMatch::Partial),
            ("year=2026/month=03/day=02/", DirectoryMatch::Inside),
            ("year=2026/month=03/day=02/hour=10/", DirectoryMatch::Inside),
            ("year=2026/month=03/day=04/", DirectoryMatch::Outside),
            ("year=2026/month=03/day=04/hour=10/", DirectoryMatch::Outside),
            ("year=later/", DirectoryMatch::Inside),
        ] {
            check(day(), &format!("{region}{directory}"), expected);
        }
        check(day(), "AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/", DirectoryMatch::Outside);
        check(day(), "AWSLogs/aws-account-id=123456789012/", DirectoryMatch::Partial);
    }

    #[test]
    fn the_extra_day_may_be_in_another_month_or_year() {
        let new_year = range("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000001Z");
        for (directory, expected) in [
            ("2025/", DirectoryMatch::Partial),
            ("2025/12/31/", DirectoryMatch::Inside),
            ("2025/12/30/", DirectoryMatch::Outside),
            ("2026/01/02/", DirectoryMatch::Inside),
            ("2026/01/03/", DirectoryMatch::Outside),
        ] {
            check(new_year, &format!("{REGION}{directory}"), expected);
        }
    }

    #[test]
    fn matches_whole_months_and_years_inside_the_range() {
        let long = range("2024-06-15T12:00:00Z", "-");
        for (directory, expected) in [
            ("2023/", DirectoryMatch::Outside),
            ("2024/", DirectoryMatch::Partial),
            ("2024/06/", DirectoryMatch::Partial),
            ("2024/07/", DirectoryMatch::Inside),
            ("2025/", DirectoryMatch::Inside),
        ] {
            check(long, &format!("{REGION}{directory}"), expected);
        }
        check(range("-", "2024-06-15T12:00:00Z"), &format!("{REGION}2023/"), DirectoryMatch::Inside);
    }

    #[test]
    fn includes_directories_that_are_not_dates() {
        for directory in ["26/", "2026/13/", "2026/3/", "2026/02/30/", "by-hand/", "2020x/"] {
            check(day(), &format!("{REGION}{directory}"), DirectoryMatch::Inside);
        }
        check(day(), "AWSLogs/renamed/again/", DirectoryMatch::Inside);
        check(day(), "AWSLogs/123456789012/2026/", DirectoryMatch::Inside);
        check(day(), "AWSLogs/123456789012/elasticloadbalancing/2020/01/01/", DirectoryMatch::Inside);
        check(day(), &format!("{REGION}2026/03/02/deeper/"), DirectoryMatch::Inside);
        check(day(), &format!("{REGION}2026/03/05/deeper/"), DirectoryMatch::Outside);
    }

    #[test]
    fn excludes_logs_of_other_services() {
        check(day(), "AWSLogs/123456789012/CloudTrail/", DirectoryMatch::Outside);
        check(day(), "AWSLogs/123456789012/CloudTrail/eu-west-1/2026/03/02/", DirectoryMatch::Outside);
        check(day(), "AWSLogs/team/123456789012/CloudTrail/", DirectoryMatch::Outside);
    }

    #[test]
    fn accepts_the_minimum_timestamp() {
        let all = TimeRange { since: Some(Timestamp::MIN), until: Some(Timestamp::MIN) };
        assert_eq!(all.match_directory(&format!("{REGION}2026/")), DirectoryMatch::Inside);
    }

    #[test]
    fn includes_keys_by_their_end_time() {
        let key = |end: &str| {
            format!("{REGION}2026/03/02/123456789012_elasticloadbalancing_eu-west-1_app.web.1_{end}_203.0.113.7_x.log.gz")
        };
        assert!(day().includes(&key("20260302T0000Z")));
        assert!(day().includes(&key("20260302T2355Z")));
        assert!(!day().includes(&key("20260301T2355Z")));
        assert!(!day().includes(&key("20260303T0000Z")));
        assert!(day().includes("renamed.log"));
    }
}
