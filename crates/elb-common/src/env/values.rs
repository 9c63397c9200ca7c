//! Parsers of single values. Each error is the end of a sentence that begins with the variable and its value.

use std::time::Duration;

use bytesize::ByteSize;
use tracing::level_filters::LevelFilter;

/// Longest duration that a variable can have: an invocation lasts at most 15 min, and no request takes a day.
const LONGEST_DURATION: Duration = Duration::from_hours(24);

/// Parses `true` or `false`.
///
/// # Errors
/// Any other text.
pub fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "is neither true nor false".to_owned())
}

/// Parses a whole number from `least` to `most`, both included.
///
/// # Errors
/// Any other text.
pub fn whole_number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "is not a whole number".to_owned())?;
    in_range(number, least, most)
}

/// Parses a size in bytes, such as `4MiB`, from `least` to `most`, both included.
///
/// # Errors
/// Any other text.
pub fn size(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let size: ByteSize = text.parse().map_err(|_| "is not a size".to_owned())?;
    in_range(usize::try_from(size.as_u64()).unwrap_or(usize::MAX), least, most)
}

/// Parses a duration of at most a day, such as `90s`.
///
/// # Errors
/// Any other text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("is not a duration ({error})"))?;
    if duration <= LONGEST_DURATION { Ok(duration) } else { Err("is longer than a day".to_owned()) }
}

/// Parses how long ago a time is, such as `7d` or `36h`.
///
/// # Errors
/// Any other text.
pub fn age(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("is not a duration ({error})"))
}

/// Parses a duration that is greater than zero and at most a day.
///
/// # Errors
/// Any other text.
pub fn timeout(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time.is_zero() { Err("must be greater than zero".to_owned()) } else { Ok(time) })
}

/// Parses the name of a log level.
///
/// # Errors
/// Any other text.
pub fn log_level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err("is not a log level".to_owned()),
    }
}

/// Parses a URL of any scheme, without credentials. An `@` is not accepted anywhere: in a mistyped URL, the credentials can be taken
/// for the host, the path or the fragment, which are shown and logged.
///
/// # Errors
/// Any other text. The error contains no part of it.
pub fn url(text: &str) -> Result<url::Url, UrlError> {
    let url = url::Url::parse(text).map_err(UrlError::NotAUrl)?;
    if text.contains('@') { Err(UrlError::Credentials) } else { Ok(url) }
}

/// Why a text is not a URL without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The text is not a URL.
    #[error("is not a URL ({0})")]
    NotAUrl(url::ParseError),
    /// The text contains an `@`.
    #[error("contains credentials; remove them, and write an @ in the path or query as %40")]
    Credentials,
}

/// Returns PEM text: `text` itself, or the content of the file that `text` names.
///
/// # Errors
/// A file that cannot be read.
pub fn pem(text: &str) -> Result<Vec<u8>, String> {
    if text.contains("-----BEGIN") {
        return Ok(text.as_bytes().to_vec());
    }
    std::fs::read(text).map_err(|error| format!("is neither PEM text nor a readable file ({error})"))
}

fn in_range(number: usize, least: usize, most: usize) -> Result<usize, String> {
    if (least..=most).contains(&number) { Ok(number) } else { Err("is out of range".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(duration("90").is_err() && duration("25h").is_err());
        assert_eq!(size("64KiB", 1, 1 << 20), Ok(64 << 10));
        assert_eq!(size("65536", 1, 1 << 20), Ok(64 << 10));
        assert!(size("4 parsecs", 1, 1 << 20).is_err());
    }

    #[test]
    fn limits_are_included() {
        assert_eq!(whole_number("1", 1, 2), Ok(1));
        assert_eq!(whole_number("2", 1, 2), Ok(2));
        assert_eq!(whole_number("3", 1, 2), Err("is out of range".to_owned()));
        assert_eq!(timeout("0s"), Err("must be greater than zero".to_owned()));
    }
}
