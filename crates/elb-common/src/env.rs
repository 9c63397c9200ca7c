//! Variables to typed values: every mistake is noted, with the variable's name, its value and what is allowed.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use tracing::level_filters::LevelFilter;

use crate::redact::redact_text;

/// A variable's name, its default (empty for none) and what is allowed.
pub type Variable = (&'static str, &'static str, &'static str);

/// No invocation lasts longer than a quarter of an hour, and nobody waits a day for one request.
const LONGEST_DURATION: Duration = Duration::from_hours(24);

/// Reads the variables of a program, and collects the mistakes.
pub struct EnvReader<'l> {
    table: &'static [Variable],
    secrets: &'static [&'static str],
    lookup: &'l dyn Fn(&str) -> Option<String>,
    errors: Vec<ConfigError>,
}

/// All mistakes of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ConfigError {
    #[error("{name}={value:?} {problem}; allowed: {allowed}")]
    Value { name: &'static str, value: String, problem: String, allowed: &'static str },
    #[error("{name} is empty; unset it, or set it to {allowed}")]
    Empty { name: &'static str, allowed: &'static str },
    #[error("{name} is missing; set it to {allowed}")]
    Missing { name: &'static str, allowed: &'static str },
    #[error("{name} is set as well as {other}; unset one of the two")]
    Conflict { name: &'static str, other: &'static str },
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "wrong configuration: {only}"),
            all => {
                write!(f, "wrong configuration, {} mistakes:", all.len())?;
                all.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl<'l> EnvReader<'l> {
    /// Reads through `lookup`, which gives a variable's value if it is set. The values of `secrets` are never shown.
    pub fn new(table: &'static [Variable], secrets: &'static [&'static str], lookup: &'l dyn Fn(&str) -> Option<String>) -> Self {
        EnvReader { table, secrets, lookup, errors: Vec::new() }
    }

    /// Gives `value`, unless there was a mistake anywhere.
    ///
    /// # Errors
    /// All mistakes.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.errors)),
        }
    }

    /// Whether a variable has a value, be it an empty one.
    pub fn is_set(&self, name: &str) -> bool {
        (self.lookup)(name).is_some()
    }

    /// Whether a variable is set to nothing.
    pub fn is_blank(&self, name: &str) -> bool {
        (self.lookup)(name).is_some_and(|value| value.is_empty())
    }

    /// Notes that a variable has to be set.
    pub fn missing(&mut self, name: &str) {
        let (name, _, allowed) = self.variable(name);
        self.errors.push(ConfigError::Missing { name, allowed });
    }

    /// Notes that only one of two variables can be set.
    pub fn conflict(&mut self, name: &'static str, other: &'static str) {
        self.errors.push(ConfigError::Conflict { name, other });
    }

    /// A variable that has a default. None after a mistake, which is noted.
    pub fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = (self.lookup)(name).unwrap_or_else(|| self.variable(name).1.to_owned());
        self.parse(name, &text, parse)
    }

    /// A variable that may be missing. None after a mistake, which is noted.
    pub fn optional<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Option<T>> {
        match (self.lookup)(name) {
            None => Some(None),
            Some(text) => self.parse(name, &text, parse).map(Some),
        }
    }

    fn parse<T>(&mut self, name: &str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (name, _, allowed) = self.variable(name);
        if text.is_empty() {
            self.errors.push(ConfigError::Empty { name, allowed });
            return None;
        }
        match parse(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                let value = if self.secrets.contains(&name) { "…".to_owned() } else { redact_text(text) };
                self.errors.push(ConfigError::Value { name, value, problem, allowed });
                None
            }
        }
    }

    fn variable(&self, name: &str) -> Variable {
        *self.table.iter().find(|(known, _, _)| *known == name).unwrap_or(&("", "", ""))
    }
}

/// `true` or `false`.
///
/// # Errors
/// What is wrong, as the rest of a sentence; so have all readers of values.
pub fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "is neither true nor false".to_owned())
}

/// A whole number within limits, both included.
///
/// # Errors
/// Anything else.
pub fn whole_number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|_| "is no whole number".to_owned())?;
    in_range(number, least, most)
}

/// A size in bytes, such as `4MiB`, within limits, both included.
///
/// # Errors
/// Anything else.
pub fn size(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let size: ByteSize = text.parse().map_err(|_| "is no size".to_owned())?;
    in_range(usize::try_from(size.as_u64()).unwrap_or(usize::MAX), least, most)
}

/// A duration of at most a day, such as `90s`.
///
/// # Errors
/// Anything else.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("is no duration ({error})"))?;
    if duration <= LONGEST_DURATION { Ok(duration) } else { Err("is longer than a day".to_owned()) }
}

/// A duration above zero.
///
/// # Errors
/// Anything else.
pub fn timeout(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|time| if time.is_zero() { Err("is no time at all".to_owned()) } else { Ok(time) })
}

/// The name of a log level.
///
/// # Errors
/// Anything else.
pub fn log_level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err("is no level".to_owned()),
    }
}

/// A URL of any scheme.
///
/// # Errors
/// Anything else.
pub fn url(text: &str) -> Result<url::Url, String> {
    url::Url::parse(text).map_err(|error| format!("is no URL ({error})"))
}

/// PEM text, given itself or by the path of its file.
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
