//! Checks that a password in a mistyped URL is never shown. An input is a password, after a byte that chooses the mistake.

use super::{HIDDEN, redact_arguments, redact_other_value, redact_value};

/// What a mistyped URL has before its password.
const BEFORE: [&str; 16] = [
    "admin:",
    "https:/admin:",
    "https:admin:",
    "https:\\\\admin:",
    "//admin:",
    "https://admin:",
    "http://admin:",
    "https://:",
    "HTTPS://admin:",
    "ftp://admin:",
    "s3://admin:",
    "https://admin@h:",
    "http://i/,https://admin:",
    "https://admin:1/",
    "https://admin:1?",
    "https://admin:1#",
];

/// What a mistyped URL has after its password.
const AFTER: [&str; 4] = ["@h", "@h:8080/in", "@h/?token=x", "@h,http://i/"];

/// Checks every way of showing a mistyped URL with the password in `input`.
pub(crate) fn redaction(input: &[u8]) {
    let Some((&choice, password)) = input.split_first() else { return };
    let password = String::from_utf8_lossy(password);
    let (before, after) = (BEFORE[usize::from(choice) % BEFORE.len()], AFTER[usize::from(choice) / BEFORE.len() % AFTER.len()]);
    let url = format!("{before}{password}{after}");
    for (shown, what) in [(redact_value(&url), "a value"), (redact_other_value(&url), "the value of another variable")] {
        let scheme = shown.strip_suffix(HIDDEN);
        let is_hidden = scheme.is_some_and(|scheme| ["", "https://", "http://", "s3://", "ftp://"].contains(&scheme));
        assert!(is_hidden, "{what}: {url:?} is shown as {shown:?}");
    }
    let arguments = [url.clone(), format!("--to={url}")];
    let message = format!("unexpected arguments '{}' and '{}'", arguments[0], arguments[1]);
    let shown = redact_arguments(&message, arguments);
    assert!(!shown.contains(&url), "an error of the command line: {url:?} is shown in {shown:?}");
}
