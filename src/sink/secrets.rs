//! Removes the shipper's own secrets from the text of a response. Some servers repeat the request in their error page, and the
//! text goes into errors, reports and dead letters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::HeaderValue;

/// Stands for a secret that is not shown.
const HIDDEN: &str = "…";

/// Minimum length of a value in the URL's query that counts as a secret alone. Shorter ones are words such as `1` or `true`.
const SECRET_VALUE_CHARS: usize = 6;

/// The characters that encoders escape. They differ in what they leave as it is.
const ESCAPED: [AsciiSet; 3] =
    [URL, URL.remove(b'*').add(b'~'), URL.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')')];

/// The characters that RFC 3986 escapes.
const URL: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Minimum length of the start of a secret that is removed from the end of a text. Shorter ones are the end of a word.
const SECRET_START_BYTES: usize = 4;

/// The secrets of a request, in each form in which a server may repeat them.
pub(super) struct Secrets {
    secrets: Vec<String>,
    /// The longest first, so that a part of a secret never remains.
    forms: Vec<String>,
}

impl Secrets {
    /// Collects the secrets of a request: its credentials, and the query of its URL.
    pub(super) fn of(authorization: Option<&HeaderValue>, url: &Url) -> Self {
        let mut secrets = authorization.map(of_authorization).unwrap_or_default();
        secrets.extend(url.query().map(str::to_owned));
        let values = url.query_pairs().map(|(_, value)| value.into_owned());
        secrets.extend(values.filter(|value| value.chars().count() >= SECRET_VALUE_CHARS));
        let mut forms: Vec<String> = secrets.iter().flat_map(|secret| forms_of(secret)).filter(|form| !form.is_empty()).collect();
        forms.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        secrets.retain(|secret| !secret.is_empty());
        Secrets { secrets, forms }
    }

    /// Returns the text without the secrets. Of a text that contains one in an unusual encoding, nothing is shown.
    pub(super) fn remove(&self, text: &str) -> String {
        let remove = |text: String, form: &String| if text.contains(form) { text.replace(form, HIDDEN) } else { text };
        let shown = self.forms.iter().fold(text.to_owned(), remove);
        if self.is_encoded_in(&shown) { HIDDEN.to_owned() } else { shown }
    }

    /// Returns the start of a text without the secrets. The text may have been cut inside of a secret.
    pub(super) fn remove_from_cut(&self, text: &str) -> String {
        let shown = self.remove(text);
        let cut = self.forms.iter().filter_map(|form| start_at_end(form, &shown)).max();
        cut.map_or_else(|| shown.clone(), |length| shown[..shown.len() - length].to_owned() + HIDDEN)
    }

    /// Returns whether a text contains a secret that is encoded in another way than in [`forms_of`].
    fn is_encoded_in(&self, text: &str) -> bool {
        let decoded = decode(text);
        decoded != text && self.secrets.iter().any(|secret| decoded.contains(secret))
    }
}

/// Returns how many bytes at the end of a text are the start of a secret.
fn start_at_end(secret: &str, text: &str) -> Option<usize> {
    let is_start = |&length: &usize| secret.get(..length).is_some_and(|start| text.ends_with(start));
    (SECRET_START_BYTES..secret.len()).rev().find(is_start)
}

/// Decodes what HTML, JSON and URLs escape, whatever a text is.
fn decode(text: &str) -> String {
    let text = html_escape::decode_html_entities(text);
    let text = percent_decode_str(&text).decode_utf8_lossy();
    decode_json_escapes(&text)
}

/// Decodes `\uXXXX`, and a backslash before any other character.
fn decode_json_escapes(text: &str) -> String {
    let mut pieces = text.split('\\');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        let code = piece.strip_prefix('u').and_then(|rest| rest.split_at_checked(4));
        let letter = code.and_then(|(digits, _)| char::from_u32(u32::from_str_radix(digits, 16).ok()?));
        match (letter, code) {
            (Some(letter), Some((_, rest))) => text + letter.encode_utf8(&mut [0; 4]) + rest,
            _ => text + piece,
        }
    })
}

/// Returns the parts of a header `Authorization` that nobody may see.
fn of_authorization(header: &HeaderValue) -> Vec<String> {
    let Ok(value) = header.to_str() else { return Vec::new() };
    let token = value.split_once(' ').map_or(value, |(_, token)| token);
    let mut secrets = vec![value.to_owned(), token.to_owned(), token.trim_end_matches('=').to_owned()];
    if let Some(pair) = STANDARD.decode(token).ok().and_then(|pair| String::from_utf8(pair).ok()) {
        secrets.extend(pair.split_once(':').map(|(_, password)| password.to_owned()));
        secrets.push(pair);
    }
    secrets
}

/// Returns a secret as it is, and as JSON, HTML and URLs contain it.
fn forms_of(secret: &str) -> Vec<String> {
    let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let apostrophes = ["'", "&#39;", "&#x27;", "&apos;"].map(|apostrophe| html.replace('\'', apostrophe));
    let json = serde_json::to_string(secret).unwrap_or_default();
    let mut forms = vec![secret.to_owned(), json.trim_matches('"').to_owned(), json.trim_matches('"').replace('/', "\\/")];
    forms.extend(apostrophes);
    for escaped in &ESCAPED {
        let encoded = utf8_percent_encode(secret, escaped).to_string();
        let with_plus = encoded.replace("%20", "+");
        forms.extend([lower_escapes(&with_plus), with_plus, lower_escapes(&encoded), encoded]);
    }
    forms
}

/// Writes the hexadecimal digits of percent-encoded bytes in lower case.
fn lower_escapes(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        let (digits, rest) = piece.split_at(piece.len().min(2));
        text + "%" + &digits.to_ascii_lowercase() + rest
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets(user: &str, password: &str) -> (String, Secrets) {
        let token = STANDARD.encode(format!("{user}:{password}"));
        let header = HeaderValue::try_from(format!("Basic {token}")).unwrap();
        (token, Secrets::of(Some(&header), &Url::parse("http://h/in?token=of-the-url&v=1").unwrap()))
    }

    #[test]
    fn removes_credentials_that_a_server_repeats() {
        let (token, secrets) = secrets("shipper", "a \"b\"&'c/é");
        for echo in [
            format!("authorization: Basic {token}"),
            format!("your token {} is wrong", token.trim_end_matches('=')),
            "shipper:a \"b\"&'c/é".to_owned(),
            r#"{"password":"a \"b\"&'c/é"}"#.to_owned(),
            r#"{"password":"a \"b\"&'c\/é"}"#.to_owned(),
            "<p>a &quot;b&quot;&amp;&#39;c/é</p>".to_owned(),
            "password=a%20%22b%22%26%27c%2F%C3%A9".to_owned(),
            "password=a+%22b%22%26%27c%2f%c3%a9".to_owned(),
        ] {
            let shown = secrets.remove(&echo);
            assert!(shown.contains(HIDDEN) && !shown.contains("é") && !shown.contains("%22b"), "{echo}: {shown}");
        }
        assert_eq!(secrets.remove("Cannot POST /in?token=of-the-url&v=1"), "Cannot POST /in?…");
        assert_eq!(secrets.remove("of-the-url; v=1"), "…; v=1");
    }

    #[test]
    fn shows_nothing_of_a_text_with_credentials_in_another_encoding() {
        let (token, secrets) = secrets("shipper", "a+\"b<\u{e9}=/");
        for echo in [
            "a&#43;&#34;b&lt;&eacute;=/",
            "a&#x2B;&#x22;b&#x3c;&#233;&#x3D;&#x2F;",
            r#"a+\"b\u003c\u00e9=/"#,
            r"a\u002B\u0022b\u003C\u00E9\u003d\u002f",
        ] {
            assert_eq!(secrets.remove(&format!("wrong: {echo}")), HIDDEN, "{echo}");
        }
        let token = token.replace('=', "&#x3D;").replace('+', "&#43;").replace('/', "&#x2F;");
        assert!(!secrets.remove(&token).contains(&token[..8]), "{token} is shown");
        assert_eq!(
            secrets.remove("caf&eacute; \\u00e9 %20 \\"),
            "caf&eacute; \\u00e9 %20 \\",
            "a text without a secret is shown"
        );
    }

    #[test]
    fn shows_no_start_of_a_secret_at_the_end_of_a_text_that_was_cut() {
        let (token, secrets) = secrets("shipper", "correct-horse");
        assert_eq!(secrets.remove_from_cut(&format!("Authorization: {}", &token[..9])), "Authorization: …");
        assert_eq!(secrets.remove_from_cut("the password correct-ho"), "the password …");
        assert_eq!(secrets.remove_from_cut("the password cor"), "the password cor");
    }

    #[test]
    fn keeps_other_text() {
        let (_, secrets) = secrets("shipper", "hunter2");
        assert_eq!(secrets.remove("user shipper may not write"), "user shipper may not write");
    }

    proptest! {
        #[test]
        fn a_password_never_remains(before in ".{0,20}", password in "[ -~]{4,20}", after in ".{0,20}") {
            let (token, secrets) = secrets("shipper", &password);
            let shown = secrets.remove(&format!("{before}{password}{after} Basic {token}"));
            prop_assert!(!shown.contains(&password) && !shown.contains(&token), "{}", shown);
        }
    }
}
