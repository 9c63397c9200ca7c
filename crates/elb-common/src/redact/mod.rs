//! Shows URLs, values of variables and arguments without their secrets.

mod text;

#[cfg(test)]
#[path = "../../../../fuzz/redaction.rs"]
mod checks;

use url::Url;

pub use self::text::{HIDDEN, redact_arguments, redact_other_value, redact_text, redact_value};

/// Returns a URL without user information, query and fragment.
pub fn redact_url(url: &Url) -> String {
    let mut shown = url.clone();
    // Fails only for a URL without a host, which has no user information.
    let _ = shown.set_username("").and_then(|()| shown.set_password(None));
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_url_loses_user_query_and_fragment() {
        let shown = |text: &str| redact_url(&Url::parse(text).unwrap());
        assert_eq!(shown("https://user:secret@logs.example:8443/in?token=secret#secret"), "https://logs.example:8443/in");
        assert_eq!(shown("http://[fd00::5]:8080/"), "http://[fd00::5]:8080/");
        assert_eq!(shown("mailto:somebody"), "mailto:somebody");
    }

    /// Replays the inputs that are kept for the fuzz target.
    #[test]
    fn redaction_inputs_pass() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/regressions/redaction");
        let inputs = fs::read_dir(directory).expect("the inputs").map(|input| input.expect("an input").path());
        let inputs: Vec<_> = inputs.inspect(|input| checks::redaction(&fs::read(input).expect("an input"))).collect();
        assert!(!inputs.is_empty(), "{directory} has no inputs");
    }
}
