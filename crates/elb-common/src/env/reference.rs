//! Variables as a table of the documentation.

use super::Variable;

/// Returns a Markdown table with one row for each variable.
pub fn markdown_table(variables: &[Variable]) -> String {
    let mut table = "| variable | default | allowed values | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for Variable { name, default, allowed, meaning, .. } in variables {
        let default = if default.is_empty() { "—".to_owned() } else { format!("`{default}`") };
        table += &format!("| `{name}` | {default} | {} | {meaning} |\n", with_code(allowed));
    }
    table
}

/// Puts URLs, pairs, paths, and names with underscores in backticks.
fn with_code(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let content = word.trim_end_matches([',', ';', ':']);
        let is_code = content == "-" || content.contains([':', '/', '=', '{', '_']);
        if is_code { format!("`{content}`{}", &word[content.len()..]) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::Shown;
    use super::*;

    #[test]
    fn every_variable_has_a_row() {
        let variables = [
            Variable { name: "LEVEL", default: "info", shown: Shown::Value, allowed: "info or debug", meaning: "Level." },
            Variable {
                name: "URL",
                default: "",
                shown: Shown::Value,
                allowed: "a URL: one such as http://h/, or -",
                meaning: "Where `events` go.",
            },
            Variable {
                name: "PASSWORD",
                default: "",
                shown: Shown::Value,
                allowed: "the password of A_USER",
                meaning: "Secret.",
            },
        ];
        let rows = [
            "| `LEVEL` | `info` | info or debug | Level. |",
            "| `URL` | — | a URL: one such as `http://h/`, or `-` | Where `events` go. |",
            "| `PASSWORD` | — | the password of `A_USER` | Secret. |",
        ];
        assert_eq!(markdown_table(&variables).lines().skip(2).collect::<Vec<_>>(), rows);
    }
}
