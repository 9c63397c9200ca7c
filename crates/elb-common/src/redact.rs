//! Shows URLs without their secrets: user information, query and fragment.

use url::Url;

/// Stands for user information that is not shown.
const HIDDEN: &str = "…";

/// Returns a URL without user information, query and fragment.
pub fn redact_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Fails only for a URL without a host, which has no user information.
    let _ = shown.set_username("").and_then(|()| shown.set_password(None));
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
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
    fn a_url_loses_user_query_and_fragment() {
        let shown = |text: &str| redact_url(&Url::parse(text).unwrap());
        assert_eq!(shown("https://user:secret@logs.example:8443/in?token=secret#secret"), "https://logs.example:8443/in");
        assert_eq!(shown("http://[fd00::5]:8080/"), "http://[fd00::5]:8080/");
        assert_eq!(shown("mailto:somebody"), "mailto:somebody");
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
