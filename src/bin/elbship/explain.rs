//! `elbship explain`: shows how lines are read.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use anstream::{AutoStream, ColorChoice};
use clap::CommandFactory as _;
use elb_common::terminal::{escape, escape_json};
use elb_common::text::{counted, plural, shell_word};
use elb_log::event::explain::{ExplainedField, Explanation, Members, explain};
use elb_log::lines::BYTE_ORDER_MARK;

use crate::cli::{Cli, ExplainArgs};
use crate::error::CommandError;

/// Width of the output, in columns of a terminal.
const COLUMNS: usize = 80;

/// Number of characters shown from the error on, if the line does not fit into the width.
const SHOWN_AFTER_ERROR: usize = 20;

/// Column of the fields' values.
const INDENT: usize = 32;

/// Column of the timestamp of a log export.
const TIMESTAMP_INDENT: usize = "behind the timestamp of a log export: ".len();

/// Runs the command.
///
/// # Errors
/// A line that cannot be parsed, after all lines are explained.
pub(crate) fn run(args: ExplainArgs) -> Result<(), CommandError> {
    check_argument(args.line.as_deref())?;
    let failed = |what: &str, error: io::Error| CommandError::Failed(format!("cannot {what}: {error}"));
    let text = read_lines(args.line).map_err(|error| failed("read the lines", error))?;
    // Some programs write a byte-order mark at the start of a text.
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
    if text.trim_ascii().is_empty() {
        return Err(CommandError::Failed("nothing to explain: there is no line".to_owned()));
    }
    let style = Style { colour: AutoStream::choice(&io::stdout()) != ColorChoice::Never };
    let mut out = io::stdout().lock();
    let mut unparsed = 0;
    let lines = text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    for (index, line) in lines.filter(|line| !line.iter().all(|&byte| byte == b' ')).enumerate() {
        let explanation = explain(line);
        unparsed += usize::from(explanation.error.is_some());
        let page = if args.json { to_json(&explanation) } else { style.page(&explanation, index > 0) };
        out.write_all(page.as_bytes()).map_err(|error| CommandError::of_stdout(&error))?;
    }
    match unparsed {
        0 => Ok(()),
        unparsed => Err(CommandError::Failed(format!("cannot parse {}", counted(unparsed as u64, "line")))),
    }
}

/// Rejects what is no line: nothing at all on a terminal, where the command would wait for input, and the name of a file.
fn check_argument(argument: Option<&str>) -> Result<(), CommandError> {
    match argument {
        None if io::stdin().is_terminal() => {
            let mut commands = Cli::command();
            // Adds the name of the program to the usage.
            commands.build();
            let usage = commands.find_subcommand_mut("explain").map(|explain| explain.render_help().to_string());
            Err(CommandError::Usage(format!(
                "cannot explain nothing: give a line, or lines on standard input\n\n{}",
                usage.unwrap_or_default()
            )))
        }
        Some(path) if path != "-" && Path::new(path).exists() => {
            let zipped = Path::new(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
            let file = shell_word(path);
            let command =
                if zipped { format!("gzip -dc {file} | elbship explain -") } else { format!("elbship explain - < {file}") };
            let what = if Path::new(path).is_dir() {
                "is a directory, not a line; give a line".to_owned()
            } else {
                format!("is a file, not a line; explain its lines with: {command}")
            };
            Err(CommandError::Usage(format!("cannot explain {path}: it {what}")))
        }
        _ => Ok(()),
    }
}

fn read_lines(argument: Option<String>) -> io::Result<Vec<u8>> {
    match argument {
        Some(line) if line != "-" => Ok(line.into_bytes()),
        _ => {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text)?;
            Ok(text)
        }
    }
}

fn to_json(explanation: &Explanation) -> String {
    // Cannot fail: all keys of an explanation are strings.
    escape_json(&serde_json::to_string(explanation).unwrap_or_default()).into_owned() + "\n"
}

struct Style {
    colour: bool,
}

impl Style {
    fn page(&self, explanation: &Explanation, follows_another: bool) -> String {
        let mut page = String::from(if follows_another { "\n" } else { "" });
        match (&explanation.error, explanation.kind) {
            (Some(error), _) => {
                page += &format!("{}: {}\n", self.red("not understood"), escape(&error.message));
                page += &self.marked(&explanation.line, error.at_character);
            }
            (None, kind) => {
                page += &format!("{}: {}\n", self.bold(kind.unwrap_or_default()), explanation.reason);
                if let Some(time) = &explanation.ingest_time {
                    page += &format!("behind the timestamp of a log export: {}\n", wrapped(time, TIMESTAMP_INDENT));
                }
                let (has, knows) = (explanation.fields.len(), explanation.known_fields);
                page += &format!(
                    "{has} of the {knows} fields of this log type{}\n",
                    if explanation.short { self.red(", fewer than it has ever had") } else { String::new() }
                );
                for field in &explanation.fields {
                    page += &self.field(field);
                }
                for (index, extra) in explanation.extra.iter().enumerate() {
                    page += &self.row(knows + index + 1, "unknown", extra, "elb.extra");
                }
                if let (more @ 1.., true) = (explanation.unknown_fields, explanation.extra.is_empty()) {
                    let fields = plural(more as u64, "field");
                    page += &format!("{more} more {fields} than known, all absent: AWS prepares new fields in this way\n");
                }
            }
        }
        page
    }

    fn field(&self, field: &ExplainedField) -> String {
        let mut text = self.row(field.number, field.aws, &field.raw, "");
        for (schema, members) in [("native", &field.native), ("ecs", &field.ecs)] {
            text += &self.members(schema, members);
        }
        text
    }

    /// Returns a field's number, name and text. A text that is too long continues in the next lines.
    fn row(&self, number: usize, name: &str, text: &str, note: &str) -> String {
        let lead = format!("{number:>3} {name:<width$}", width = INDENT - 5);
        let space = if lead.len() < INDENT { " ".to_owned() } else { format!("\n{:INDENT$}", "") };
        let mut row = format!("{}{space}{}", self.bold(&lead), wrapped(text, INDENT));
        if !note.is_empty() {
            row += &format!("\n{:INDENT$}{}", "", self.faint(note));
        }
        row + "\n"
    }

    fn members(&self, schema: &str, members: &Members) -> String {
        let mut text = String::new();
        for (name, value) in members {
            let invalid = name.contains(".invalid.");
            let line = format!("{name} = {value}");
            let line = wrapped(&line, 13);
            let line = if invalid { self.red(&line) } else { line };
            text += &format!("      {} {line}\n", self.faint(&format!("{schema:<6}")));
        }
        text
    }

    /// Returns the line, and below it a mark at the character where parsing stopped. Of a long line, the part around the mark is
    /// shown.
    fn marked(&self, line: &str, at: usize) -> String {
        let (before, after) = line.split_at(line.char_indices().nth(at).map_or(line.len(), |(index, _)| index));
        let at = escape(before).chars().count();
        let line: Vec<char> = escape(before).chars().chain(escape(after).chars()).collect();
        let shown = at.min(COLUMNS - 2 - SHOWN_AFTER_ERROR);
        let start: String = line[at - shown..at].iter().collect();
        let end: String = line[at..].iter().take(COLUMNS - 2 - shown).collect();
        format!("  {start}{end}\n  {:shown$}{}\n", "", self.red("^"))
    }

    fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    fn faint(&self, text: &str) -> String {
        self.styled("2", text)
    }

    fn red(&self, text: &str) -> String {
        self.styled("31", text)
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Wraps a text that is indented to the width of the output.
fn wrapped(text: &str, indent: usize) -> String {
    let characters: Vec<char> = escape(text).chars().collect();
    let lines = characters.chunks(COLUMNS - indent).map(|line| line.iter().collect::<String>());
    lines.collect::<Vec<_>>().join(&format!("\n{:indent$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "tls 2.0 2026-03-02T10:16:30 net/edge/7d2f0c41aa93be05 3c9e51f08b27da64 2001:db8:9::4:61055 10.0.9.12:8443 30118 x \
        52210 1048811 - arn:aws:acm:eu-west-1:123456789012:certificate/6f1c0a52-8d3e-4b77-9e15-c2a40d91be36 - - tlsv12 - a.example - - - - new";

    #[test]
    fn wraps_at_eighty_columns() {
        let certificate = format!("2026-03-02T10:15:11Z 192.0.2.61 1 443 - - - - - {} Success", "5C".repeat(30));
        let page = [LINE, &certificate].map(|line| Style { colour: false }.page(&explain(line.as_bytes()), false)).concat();
        for line in page.lines() {
            assert!(line.chars().count() <= COLUMNS, "{} columns: {line}", line.chars().count());
        }
        for shown in [
            "nlb: a type, a version and a time come first",
            "elb.invalid.tls_handshake_time = \"x\"",
            "source.ip = \"2001:db8:9::4\"",
            "unknown",
        ] {
            assert!(page.contains(shown), "{shown:?} is missing in\n{page}");
        }
    }

    #[test]
    fn marks_the_character_after_unusual_characters() {
        for line in [
            &b"https 2026-03-02T10:15:04Z app/\xff\xfe\x1b/1 192.0.2.1:80 \"GET"[..],
            "https 2026-03-02T10:15:04Z äö/1 192.0.2.1:80 \"GET".as_bytes(),
        ] {
            let page = Style { colour: false }.page(&explain(line), false);
            let shown: Vec<&str> = page.lines().collect();
            let mark = shown[2].chars().position(|character| character == '^');
            assert_eq!(shown[1].chars().position(|character| character == '"'), mark, "{page}");
            assert!(!page.contains('\x1b'), "a control character reaches the terminal");
        }
    }

    #[test]
    fn shows_escapes_of_a_raw_line_as_text() {
        let hostile = "\u{1b}[2J\u{9b}31m\u{202e}\u{7f}";
        for line in [
            LINE.replace("a.example", hostile),
            LINE.replace("52210", hostile),
            format!("{LINE} {hostile} {hostile}"),
            format!("https {hostile} \"never closed"),
            format!("{{\"type\":\"h2\",\"elb\":\"{hostile}\",\"{hostile}\":1}}"),
            hostile.to_owned(),
        ] {
            let explanation = explain(line.as_bytes());
            let shown = Style { colour: false }.page(&explanation, false) + &to_json(&explanation);
            let unsafe_letter = shown.chars().find(|letter| *letter != '\n' && elb_common::terminal::is_unsafe(*letter));
            assert_eq!(unsafe_letter, None, "escape it in:\n{shown:?}");
            assert!(shown.contains("\\u{1b}") || shown.contains("\\u001b"), "the line is not shown:\n{shown}");
        }
    }

    #[test]
    fn says_how_many_fields_are_in_preparation() {
        let known = elb_log::format::Kind::AlbHealthCheck.format().fields.len();
        let line = format!("h2 2026-03-02T10:15:07Z 0.004 10.0.4.12:9000 api PASS 200 -{}", " -".repeat(known - 8));
        let page = |line: &str| Style { colour: false }.page(&explain(line.as_bytes()), false);
        assert!(!page(&line).contains("than known"), "{}", page(&line));
        for (more, shown) in [(" -", "1 more field than known, all absent"), (" - \"-\"", "2 more fields than known, all absent")]
        {
            let page = page(&format!("{line}{more}"));
            assert!(page.contains(&format!("{known} of the {known} fields")) && page.contains(shown), "{page}");
        }
    }

    #[test]
    fn shows_the_timestamp_of_a_log_export() {
        let page = Style { colour: false }.page(&explain(format!("2026-08-19T21:34:48.000Z {LINE}").as_bytes()), false);
        assert!(page.contains("behind the timestamp of a log export: 2026-08-19T21:34:48.000Z\n"), "{page}");
        assert!(page.contains("  1 type"), "the fields are counted from the line's own first field: {page}");
    }

    #[test]
    fn shows_every_position_of_an_alb_line() {
        let known = elb_log::format::Kind::Alb.format().fields.len();
        let line = format!("h2 2026-09-23T10:15:07Z app/web/1 192.0.2.1:80{} TargetResetConnection -", " -".repeat(known - 6));
        let page = Style { colour: false }.page(&explain(line.as_bytes()), false);
        for shown in [" 35 target_error_code", "elb.target_error_code = \"TargetResetConnection\"", " 36 elb_error_code"] {
            assert!(page.contains(shown), "{shown:?} is missing in\n{page}");
        }
    }

    #[test]
    fn counts_the_members_of_a_json_line() {
        let page = Style { colour: false }.page(&explain(br#"{"type":"h2","elb":"x"}"#), false);
        let known = elb_log::format::Kind::Alb.format().fields.len();
        assert!(page.contains(&format!("2 of the {known} fields")), "{page}");
    }

    #[test]
    fn uses_colour_only_on_a_terminal() {
        assert!(!Style { colour: false }.page(&explain(LINE.as_bytes()), false).contains('\x1b'));
        assert!(Style { colour: true }.page(&explain(LINE.as_bytes()), false).contains('\x1b'));
    }

    #[test]
    fn marks_the_error_in_a_long_line() {
        let line = format!("https 2026-03-02T10:16:30Z app/x/1 192.0.2.1:80 {} \"never closed", "- ".repeat(60).trim_end());
        let page = Style { colour: false }.page(&explain(line.as_bytes()), false);
        let shown: Vec<&str> = page.lines().collect();
        assert_eq!(shown[0], format!("not understood: alb: the quote at byte {} never closes", line.find('"').unwrap()));
        assert_eq!(shown[1].chars().nth(shown[2].find('^').unwrap()), Some('"'));
        assert!(shown.iter().all(|line| line.chars().count() <= COLUMNS));
    }
}
