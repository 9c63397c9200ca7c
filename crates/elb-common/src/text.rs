//! Words for messages, and for commands in messages.

/// Returns a number with its noun: `1 object`, `2 objects`.
pub fn counted(number: u64, noun: &str) -> String {
    format!("{number} {}", plural(number, noun))
}

/// Returns the form of a regular noun that follows a number: `object` for 1, else `objects`.
pub fn plural(number: u64, noun: &str) -> String {
    // The nouns of messages that end in these letters: batch, box, pass.
    let ending = if noun.ends_with(['h', 'x', 's']) { "es" } else { "s" };
    if number == 1 { noun.to_owned() } else { format!("{noun}{ending}") }
}

/// Quotes a text, if necessary, so that a shell reads it as one word.
pub fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_one_word() {
        assert_eq!(shell_word("logs/a-b_c.log.gz"), "logs/a-b_c.log.gz");
        assert_eq!(shell_word("team a/it's.log"), r"'team a/it'\''s.log'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn one_object_is_singular() {
        assert_eq!(counted(1, "object"), "1 object");
        assert_eq!(counted(0, "object"), "0 objects");
        assert_eq!(counted(2, "batch"), "2 batches");
    }
}
