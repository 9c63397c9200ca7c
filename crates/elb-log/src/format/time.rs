//! The one form of time in every ELB log: `YYYY-MM-DDTHH:MM:SS[.digits][Z]`, always UTC.

use super::digits::are_digits;

/// Returns whether `text` has this form, with every part in range. A second of 60 is out of range, because AWS smears leap seconds,
/// and so is the year 0, which many date libraries reject.
pub fn is_time(text: &[u8]) -> bool {
    let Some((head, tail)) = text.split_first_chunk::<19>() else { return false };
    let tail = tail.strip_suffix(b"Z").unwrap_or(tail);
    has_form(head) && is_in_range(head) && is_fraction(tail)
}

/// Maximum length of a time in events, without its zone: nine digits of the fraction. Elasticsearch rejects more digits.
const LONGEST: usize = "YYYY-MM-DDTHH:MM:SS.nnnnnnnnn".len();

/// Returns a time without its zone, which AWS leaves out in NLB logs, and cut to nanoseconds.
///
/// ```
/// use elb_log::format::without_zone;
///
/// assert_eq!(without_zone(b"2026-03-02T10:15:04.5Z"), b"2026-03-02T10:15:04.5");
/// assert_eq!(without_zone(b"2026-03-02T10:15:04.1234567891"), b"2026-03-02T10:15:04.123456789");
/// ```
#[inline(always)]
pub fn without_zone(time: &[u8]) -> &[u8] {
    let time = time.strip_suffix(b"Z").unwrap_or(time);
    &time[..time.len().min(LONGEST)]
}

/// Returns the nanoseconds from 1970 to a time, as far as its digits go; none for a text that is not a time.
pub fn nanoseconds(time: &[u8]) -> Option<i128> {
    let head = time.first_chunk().filter(|_| is_time(time))?;
    let days = days_since_1970(two(head, 0) * 100 + two(head, 2), two(head, 5), two(head, 8));
    let seconds = days * 86_400 + i64::from(two(head, 11) * 3_600 + two(head, 14) * 60 + two(head, 17));
    let fraction = time.get(20..).unwrap_or_default().iter().take_while(|digit| digit.is_ascii_digit());
    let (nanoseconds, _) =
        fraction.fold((0_u32, 100_000_000), |(sum, unit), digit| (sum + u32::from(digit - b'0') * unit, unit / 10));
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
}

/// Counts the days in years that begin in March, so that a leap day is the last day of its year.
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    let (year, month) =
        if month > 2 { (i64::from(year), i64::from(month) - 3) } else { (i64::from(year) - 1, i64::from(month) + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + i64::from(day) - 1 - 719_468
}

fn is_fraction(tail: &[u8]) -> bool {
    match tail {
        [] => true,
        [b'.', digits @ ..] => are_digits(digits),
        _ => false,
    }
}

/// Returns whether there are signs where signs belong and digits everywhere else.
fn has_form(head: &[u8; 19]) -> bool {
    // Checks eight bytes in one step: a digit without its high half is at most 9. The positions of signs are masked out.
    let digits = |at: usize, signs: u64| {
        let bytes = head[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let values = (bytes ^ 0x3030_3030_3030_3030) & !signs;
        (values | values.wrapping_add(0x0606_0606_0606_0606)) & 0xF0F0_F0F0_F0F0_F0F0 == 0
    };
    matches!((head[4], head[7], head[10], head[13], head[16]), (b'-', b'-', b'T', b':', b':'))
        && digits(0, 0x0000_0000_FF00_00FF)
        && digits(8, 0x0000_FF00_00FF_0000)
        && digits(11, 0x0000_FF00_00FF_0000)
}

fn is_in_range(head: &[u8; 19]) -> bool {
    let (month, day) = (two(head, 5), two(head, 8));
    !head.starts_with(b"0000")
        && (1..=12).contains(&month)
        && day > 0
        && (day <= 28 || day <= days_in(two(head, 0) * 100 + two(head, 2), month))
        && two(head, 11) < 24
        && two(head, 14) < 60
        && two(head, 17) < 60
}

/// Returns the number that the two digits at `at` make.
fn two(head: &[u8; 19], at: usize) -> u32 {
    10 * u32::from(head[at] & 15) + u32::from(head[at + 1] & 15)
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::{is_time, nanoseconds};

    #[test]
    fn nanoseconds_agree_with_a_calendar_library() {
        for year in [1970, 1999, 2000, 2024, 2026, 2100] {
            for (month, day) in [(1, 1), (2, 28), (3, 1), (12, 31)] {
                let text = format!("{year}-{month:02}-{day:02}T23:59:58.123456789Z");
                let expected = text.parse::<jiff::Timestamp>().expect("a time").as_nanosecond();
                assert_eq!(nanoseconds(text.as_bytes()), Some(expected), "{text}");
            }
        }
        assert_eq!(nanoseconds(b"1970-01-01T00:00:01"), Some(1_000_000_000));
        assert_eq!(nanoseconds(b"1970-01-01T00:00:00.0000000019Z"), Some(1));
        assert_eq!(nanoseconds(b"x"), None);
    }

    #[test]
    fn judges_every_byte_in_every_position_like_a_simple_check() {
        let good = *b"2026-03-02T10:15:04.1Z";
        for at in 0..19 {
            for byte in 0..=255 {
                let mut text = good;
                text[at] = byte;
                let well_formed = if good[at].is_ascii_digit() { byte.is_ascii_digit() } else { byte == good[at] };
                // The library reads a second of 60, and years that have a sign.
                let in_range = str::from_utf8(&text).is_ok_and(|text| text.parse::<jiff::Timestamp>().is_ok());
                assert_eq!(is_time(&text), well_formed && in_range, "{}", text.escape_ascii());
            }
        }
    }

    macro_rules! times {
        ($($name:ident: $text:literal => $expected:literal,)*) => {
            $(#[test] fn $name() { assert_eq!(is_time($text.as_bytes()), $expected, "is_time({:?})", $text); })*
        };
    }

    times! {
        microseconds_and_zone: "2026-03-02T10:15:04.123456Z" => true,
        no_zone: "2026-03-02T10:15:04.123456" => true,
        no_fraction: "2026-03-02T10:15:04Z" => true,
        neither: "2026-03-02T10:15:04" => true,
        leap_day: "2024-02-29T00:00:00Z" => true,
        no_leap_day_in_a_century: "2100-02-29T00:00:00Z" => false,
        thirty_first_of_april: "2026-04-31T00:00:00Z" => false,
        month_thirteen: "2026-13-02T10:15:04Z" => false,
        hour_twenty_four: "2026-03-02T24:00:00Z" => false,
        first_year: "0001-01-01T00:00:00Z" => true,
        year_zero: "0000-03-02T10:15:04Z" => false,
        more_digits_than_nanoseconds: "2026-03-02T10:15:04.1234567891Z" => true,
        second_sixty: "2026-12-31T23:59:60Z" => false,
        empty_fraction: "2026-03-02T10:15:04.Z" => false,
        letters_for_digits: "2026-03-0aT10:15:04Z" => false,
        space_for_t: "2026-03-02 10:15:04Z" => false,
        date_only: "2026-03-02" => false,
        offset: "2026-03-02T10:15:04+01:00" => false,
        nothing: "" => false,
    }
}
