//! No error text shows a password that is in the wrong place.

use elb_common::env::{Shown, Variable};
use proptest::prelude::*;

use super::{Config, Program, VARIABLES};

/// Returns every text about a configuration with one variable: the errors, or else how the configuration shows itself. A user name
/// and labels may be any text, and are not secret.
fn texts(variable: &Variable, value: &str) -> String {
    let read = |program| {
        let lookup = |name: &str| (name == variable.name).then(|| value.to_owned());
        match Config::from_vars(program, lookup) {
            Ok(_) if variable.shown == Shown::Value => String::new(),
            Ok(config) => format!("{config:?}"),
            Err(errors) => format!("{errors}\n{errors:?}"),
        }
    };
    [Program::Function, Program::CommandLine].map(read).join("\n")
}

#[track_caller]
fn assert_hidden(value: &str, secrets: &[&str]) {
    for variable in VARIABLES {
        let texts = texts(variable, value);
        let shown = secrets.iter().find(|secret| texts.contains(**secret));
        assert_eq!(shown, None, "{}={value} is shown:\n{texts}\nshow only its scheme", variable.name);
    }
}

#[test]
fn hides_a_password_without_a_scheme() {
    assert_hidden("admin:hunter2@host:8080", &["hunter2"]);
}

#[test]
fn hides_a_password_after_one_slash() {
    assert_hidden("https:/admin:hunter2@h", &["hunter2"]);
}

#[test]
fn hides_a_password_without_slashes() {
    assert_hidden("https:admin:hunter2@h", &["hunter2"]);
}

#[test]
fn hides_a_password_after_backslashes() {
    assert_hidden(r"https:\\admin:hunter2@h", &["hunter2"]);
}

#[test]
fn hides_a_password_after_an_empty_scheme() {
    assert_hidden("//admin:hunter2@h", &["hunter2"]);
}

#[test]
fn hides_both_halves_of_a_password_with_a_comma() {
    assert_hidden("https://admin:hun,ter2@h", &["hun,", "ter2"]);
    assert_hidden("https://admin:1234,hunter2:x@h", &["1234", "hunter2"]);
}

#[test]
fn hides_a_password_with_a_question_mark() {
    assert_hidden("https://admin:1234?hunter2@h", &["1234", "hunter2"]);
}

#[test]
fn hides_a_password_with_a_number_sign() {
    assert_hidden("https://admin:1234#hunter2@h", &["1234", "hunter2"]);
}

#[test]
fn hides_a_password_with_a_slash() {
    assert_hidden("https://admin:1234/hunter2@h", &["1234", "hunter2"]);
    assert_hidden("https://admin:/hunter2@h", &["hunter2"]);
}

#[test]
fn hides_a_password_with_an_at_sign() {
    assert_hidden("https://admin:hun@ter2@h", &["hun@", "ter2"]);
}

#[test]
fn hides_a_token_in_the_query_of_a_wrong_url() {
    assert_hidden("ftp://h/?token=hunter2", &["hunter2"]);
}

proptest! {
    /// Fixed texts contain no three of the letters q, x and z in a row, so three of them are a part of the password.
    #[test]
    fn no_text_shows_a_part_of_a_password(
        scheme in "(https?|HTTPS|ftp|redis|s3|)",
        separator in r"(://|:///|:/|:|:\\\\|//|/|)",
        user in "(admin|admin@h|)",
        password in r"[qxz]{3}([,?#/@:;&=% \\\t\[\]{}.*!$'|-]{1,2}[qxz]{3}){0,3}",
        tail in "(@h|@h:8080|@h:8080/in|@[::1]:8080/|@h/[?]token=x|@10.0.0.5:port|@h,http://i/)",
        before in "(http://i/,|)",
    ) {
        let value = format!("{before}{scheme}{separator}{user}:{password}{tail}");
        for variable in VARIABLES {
            let texts = texts(variable, &value);
            let part = texts.as_bytes().windows(3).find(|part| part.iter().all(|letter| b"qxz".contains(letter)));
            prop_assert_eq!(part.map(String::from_utf8_lossy), None, "{}={} is shown:\n{}", variable.name, value, texts);
        }
    }
}
