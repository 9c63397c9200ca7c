//! Shows texts that may be mistyped URLs without their secrets. `fuzz/fuzz_targets/redaction.rs` compiles this file, too.

/// Stands for a text that is not shown.
pub const HIDDEN: &str = "…";

/// Schemes that [`redact_value`] shows. Any other text before `://` may be a part of a password.
const KNOWN_SCHEMES: [&str; 4] = ["https://", "http://", "s3://", "ftp://"];

/// Returns the value of a variable or a flag that should be a URL, or several separated by commas, without its secrets.
///
/// A value of plain URLs is returned as it is: scheme, host, port and path. Of any other value at most the scheme is shown, because
/// a mistyped URL does not tell where its password begins and ends: the password may contain commas, slashes and everything else.
pub fn redact_value(text: &str) -> String {
    if text.split(',').all(|url| is_plain_url(url.trim())) {
        return text.to_owned();
    }
    let scheme = KNOWN_SCHEMES.into_iter().find(|scheme| text.starts_with(scheme)).unwrap_or_default();
    format!("{scheme}{HIDDEN}")
}

/// Returns whether a text has the form `scheme://host:port/path`, without user information, query and fragment. Host and port may
/// be placeholders such as `{ip}`.
fn is_plain_url(text: &str) -> bool {
    let Some(rest) = KNOWN_SCHEMES.into_iter().find_map(|scheme| text.strip_prefix(scheme)) else { return false };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let is_made_of =
        |text: &str, marks: &str| text.chars().all(|letter| letter.is_ascii_alphanumeric() || marks.contains(letter));
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => is_made_of(address, ":."),
        None => !host.is_empty() && is_made_of(host, "-._{}"),
    };
    // A longer number may be a password.
    let is_port = port == "{port}" || port.is_empty() || port.parse::<u16>().is_ok();
    is_host && is_port && is_made_of(path, "-._~/{}%+=")
}

/// Returns a value that should be neither a URL nor a key, such as a path. It is redacted by [`redact_value`] if it looks like one.
pub fn redact_other_value(text: &str) -> String {
    let may_have_credentials =
        text.contains("://") || text.contains("-----BEGIN") || (text.contains('@') && text.contains([':', '/', '\\']));
    if may_have_credentials { redact_value(text) } else { text.to_owned() }
}

/// Returns the message of an invalid command line. It repeats arguments, which are redacted like [`redact_other_value`].
pub fn redact_arguments(message: &str, arguments: impl IntoIterator<Item = String>) -> String {
    let mut redacted = message.to_owned();
    for argument in arguments {
        let value = argument.strip_prefix("--").and_then(|flag| flag.split_once('=')).map_or(&*argument, |(_, value)| value);
        if !value.is_empty() {
            redacted = redacted.replace(value, &redact_other_value(value));
        }
    }
    redacted
}

/// Returns a text of any form without the user information, query and fragment of every URL in it.
///
/// The text may be a mistyped URL, so a doubtful part is hidden: everything from `?` or `#` up to the next URL, and everything
/// before the last `@`, because a password that is not percent-encoded may hold any character.
pub fn redact_text(text: &str) -> String {
    let starts = text.match_indices("://").map(|(at, _)| scheme_start(text, at));
    let bounds: Vec<usize> = std::iter::once(0).chain(starts).chain(std::iter::once(text.len())).collect();
    bounds.windows(2).map(|bound| redact_piece(&text[bound[0]..bound[1]])).collect()
}

/// Returns where the URL begins whose scheme ends at `end`.
fn scheme_start(text: &str, end: usize) -> usize {
    let is_scheme = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.');
    text[..end].trim_end_matches(is_scheme).len()
}

/// Redacts a text that holds one URL at most, at its start, and keeps what separates it from the next one.
fn redact_piece(piece: &str) -> String {
    let is_separator = |letter: char| letter == ',' || letter.is_whitespace();
    let (content, separator) = piece.split_at(piece.trim_end_matches(is_separator).len());
    let authority = content.find("://").map_or(0, |scheme| scheme + "://".len());
    let (scheme, rest) = content.split_at(authority);
    let (hidden, rest) = match rest.rfind('@') {
        // Without a scheme an `@` alone does not make the text a URL; a user and a password before it do.
        Some(at) if !scheme.is_empty() || rest[..at].contains(':') => (HIDDEN, &rest[at..]),
        _ => ("", rest),
    };
    let shown = rest.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}{hidden}{shown}{separator}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_plain_urls_is_shown() {
        for text in [
            "ftp://logstash.example",
            "http://a:1/, http://b:2/x",
            "http://[fd00::5]:8080/",
            "http://{ip}/",
            "https://logstash.internal:{port}/in",
            "s3://logs/dead/elb",
        ] {
            assert_eq!(redact_value(text), text);
        }
    }

    #[test]
    fn a_value_of_any_other_form_shows_at_most_the_scheme() {
        for (text, shown) in [
            ("", "…"),
            ("hunter2", "…"),
            ("admin:hunter2@host:8080", "…"),
            ("https:/admin:hunter2@h", "…"),
            ("https:admin:hunter2@h", "…"),
            (r"https:\\admin:hunter2@h", "…"),
            ("//admin:hunter2@h", "…"),
            ("hun://ter2@h", "…"),
            ("https://admin:hunter2", "https://…"),
            ("https://admin:1234:99", "https://…"),
            ("https://admin:1234567890/h", "https://…"),
            ("hunter2://h", "…"),
            ("https://admin:hunter2@h/", "https://…"),
            ("https://admin:1234,hunter2@h/", "https://…"),
            ("https://admin:1234/hunter2@h/", "https://…"),
            ("https://admin:1234?hunter2@h/", "https://…"),
            ("https://admin:1234#hunter2@h/", "https://…"),
            ("https://admin:hun@ter2@h/", "https://…"),
            ("http://h/,http://admin:hunter2@h/", "http://…"),
            ("http://h/?token=hunter2", "http://…"),
        ] {
            assert_eq!(redact_value(text), shown, "{text}");
        }
    }

    #[test]
    fn a_url_in_the_wrong_place_is_redacted() {
        for (text, shown) in [
            ("four", "four"),
            ("env=prod,team=web@example", "env=prod,team=web@example"),
            ("no/such/file.pem", "no/such/file.pem"),
            ("admin:hunter2@h", "…"),
            ("https://h/?token=hunter2", "https://…"),
            ("-----BEGIN PRIVATE KEY-----\nhunter2", "…"),
        ] {
            assert_eq!(redact_other_value(text), shown);
        }
    }

    #[test]
    fn a_message_loses_the_secrets_of_its_arguments() {
        let arguments = ["replay", "--frm=https://admin:hunter2@h", "admin:hunter2@h", "s3://logs"].map(str::to_owned);
        let message = "unexpected arguments '--frm=https://admin:hunter2@h', 'admin:hunter2@h', 's3://logs' of replay";
        let redacted = "unexpected arguments '--frm=https://…', '…', 's3://logs' of replay";
        assert_eq!(redact_arguments(message, arguments), redacted);
    }

    #[test]
    fn a_text_keeps_everything_but_secrets() {
        for (text, shown) in [
            ("", ""),
            ("no/such/file.pem", "no/such/file.pem"),
            ("owner=a@example.com", "owner=a@example.com"),
            ("10.0.0.0/8,ten", "10.0.0.0/8,ten"),
            ("http://a:1/, http://b:2/x", "http://a:1/, http://b:2/x"),
            ("https://h/in?token=secret#secret", "https://h/in"),
            ("/in?token=secret", "/in"),
            ("https://user:secret@h/,http://h/?token=secret", "https://…@h/,http://h/"),
            ("http://h/?token=secret,secret,https://i/#secret", "http://h/,https://i/"),
        ] {
            assert_eq!(redact_text(text), shown, "{text}");
        }
    }

    #[test]
    fn a_mistyped_url_hides_what_may_be_a_password() {
        for (text, shown) in [
            ("user:secret@h:8080", "…@h:8080"),
            ("//user:secret@h/", "…@h/"),
            ("http://user:secret,secret@h/,http://i/", "http://…@h/,http://i/"),
            ("http://user:secret?secret#secret/secret@h/", "http://…@h/"),
            ("redis+cluster://user:secret@h secret?", "redis+cluster://…@h secret"),
        ] {
            assert_eq!(redact_text(text), shown, "{text}");
        }
    }
}
