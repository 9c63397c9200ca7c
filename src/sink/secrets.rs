//! Removes the shipper's own secrets from the text of a response. Some servers repeat the request in their error page, and the
//! text goes into errors, reports and dead letters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
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

/// The secrets of a request, in each form in which a server may repeat them.
pub(super) struct Secrets {
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
        Secrets { forms }
    }

    /// Returns the text without the secrets.
    pub(super) fn remove(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, form| if text.contains(form) { text.replace(form, HIDDEN) } else { text })
    }
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
