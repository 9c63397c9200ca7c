//! Reads environment variables as typed values, and collects every error in them.
//!
//! A program describes its variables in a table of [`Variable`]s. Errors, documentation and tests take their texts from it.

mod reference;
pub mod values;

use std::fmt;

use crate::redact::{HIDDEN, redact_other_value, redact_value};

pub use self::reference::markdown_table;

/// An environment variable, as errors and the documentation describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name in the environment.
    pub name: &'static str,
    /// Value that is used if the variable is not set; empty if there is none.
    pub default: &'static str,
    /// What an error shows of the value.
    pub shown: Shown,
    /// Allowed values, as the end of an error message.
    pub allowed: &'static str,
    /// Purpose, in one or two sentences of Markdown.
    pub meaning: &'static str,
}

/// What an error shows of a variable's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The value, unless it looks like a URL or a key that is in the wrong variable; see [`redact_other_value`].
    Value,
    /// The value if it consists of plain URLs, else at most the scheme; see [`redact_value`].
    Url,
    /// Nothing, because the value is a secret.
    Nothing,
}

/// Reads the variables of a program and collects the errors.
pub struct EnvReader<'l> {
    table: &'static [Variable],
    lookup: &'l dyn Fn(&str) -> Option<String>,
    flag_of: &'l dyn Fn(&str) -> Option<&'static str>,
    errors: Vec<ConfigError>,
}

/// All errors of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ConfigError {
    #[error("{setting}{value:?} {problem}; allowed: {allowed}")]
    Value { setting: Setting, value: String, problem: String, allowed: &'static str },
    #[error("{name} is empty; unset it, or set it to {allowed}")]
    Empty { name: &'static str, allowed: &'static str },
    #[error("{flag} is empty; leave it out, or set it to {allowed}")]
    EmptyFlag { flag: &'static str, allowed: &'static str },
    #[error("{name} is missing; set it to {allowed}")]
    Missing { name: &'static str, allowed: &'static str },
    #[error("{name} and {other} are both set; unset one of them")]
    Conflict { name: &'static str, other: &'static str },
}

/// Where a value comes from. It is shown in front of the value.
#[derive(Debug, PartialEq, Eq)]
enum Setting {
    Variable(&'static str),
    Flag(&'static str),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Variable(name) => write!(f, "{name}="),
            Setting::Flag(flag) => write!(f, "{flag} "),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [only] => write!(f, "invalid configuration: {only}"),
            all => {
                write!(f, "invalid configuration, {} errors:", all.len())?;
                all.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}

impl std::error::Error for ConfigErrors {}

impl<'l> EnvReader<'l> {
    /// Creates a reader of the variables in `table`. `lookup` returns the value of a variable that is set.
    pub fn new(table: &'static [Variable], lookup: &'l dyn Fn(&str) -> Option<String>) -> Self {
        EnvReader { table, lookup, flag_of: &|_| None, errors: Vec::new() }
    }

    /// Makes errors name the flag that a value comes from. `flag_of` returns the flag that was used instead of a variable.
    #[must_use]
    pub fn with_flags(self, flag_of: &'l dyn Fn(&str) -> Option<&'static str>) -> Self {
        EnvReader { flag_of, ..self }
    }

    /// Returns `value` if there was no error in any variable.
    ///
    /// # Errors
    /// All collected errors.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.errors)),
        }
    }

    /// Returns whether a variable is set to an empty value.
    pub fn is_empty(&self, name: &str) -> bool {
        (self.lookup)(name).is_some_and(|value| value.is_empty())
    }

    /// Adds the error that a required variable is not set.
    pub fn report_missing(&mut self, name: &str) {
        let Variable { name, allowed, .. } = self.variable(name);
        self.errors.push(ConfigError::Missing { name, allowed });
    }

    /// Adds the error that two variables exclude each other.
    pub fn report_conflict(&mut self, name: &'static str, other: &'static str) {
        self.errors.push(ConfigError::Conflict { name, other });
    }

    /// Reads a variable that has a default. Returns `None` after an error, which is collected. The error of `parse` must not contain
    /// any part of the value.
    pub fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = (self.lookup)(name).unwrap_or_else(|| self.variable(name).default.to_owned());
        self.parse(name, &text, parse)
    }

    /// Reads a variable that may be missing. Returns `None` after an error, which is collected. The error of `parse` must not contain
    /// any part of the value.
    pub fn optional<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Option<T>> {
        match (self.lookup)(name) {
            None => Some(None),
            Some(text) => self.parse(name, &text, parse).map(Some),
        }
    }

    fn parse<T>(&mut self, name: &str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let Variable { name, allowed, shown, .. } = self.variable(name);
        let flag = (self.flag_of)(name);
        if text.is_empty() {
            self.errors.push(match flag {
                Some(flag) => ConfigError::EmptyFlag { flag, allowed },
                None => ConfigError::Empty { name, allowed },
            });
            return None;
        }
        match parse(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                let setting = flag.map_or(Setting::Variable(name), Setting::Flag);
                self.errors.push(ConfigError::Value { setting, value: shown.of(text), problem, allowed });
                None
            }
        }
    }

    fn variable(&self, name: &str) -> Variable {
        let known = self.table.iter().find(|variable| variable.name == name);
        known.copied().unwrap_or(Variable { name: "", default: "", shown: Shown::Nothing, allowed: "", meaning: "" })
    }
}

/// The value of a variable as a program uses it: the value that is set, or the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveValue {
    /// Name of the variable.
    pub name: &'static str,
    /// The value as errors show it, so that secrets are hidden.
    pub shown: String,
    /// Whether the value is the default.
    pub is_default: bool,
}

/// Returns the values that a program uses, in the order of its table. Variables without a value are left out. `lookup` returns the
/// value of a variable that is set.
pub fn effective_values(table: &'static [Variable], lookup: impl Fn(&str) -> Option<String>) -> Vec<EffectiveValue> {
    let value = |variable: &Variable| {
        let set = lookup(variable.name);
        let is_default = set.is_none();
        let shown = set.map_or_else(|| variable.default.to_owned(), |value| variable.shown.of(&value));
        (!shown.is_empty()).then_some(EffectiveValue { name: variable.name, shown, is_default })
    };
    table.iter().filter_map(value).collect()
}

impl Shown {
    fn of(self, value: &str) -> String {
        match self {
            Shown::Value => redact_other_value(value),
            Shown::Url => redact_value(value),
            Shown::Nothing => HIDDEN.to_owned(),
        }
    }
}
