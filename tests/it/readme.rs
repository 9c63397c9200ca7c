//! What the documents say is so: commands are run, and tables are compared with the code.

use std::process::Stdio;

use elb_log_shipper::config::VARIABLES;
use elb_log_shipper::emf::METRICS;
use tokio::process::Command;

const README: &str = include_str!("../../README.md");

/// A command of a `console` block and the output that stands below it.
struct Example {
    command: String,
    output: String,
}

fn examples() -> Vec<Example> {
    let blocks = README.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands = blocks.flat_map(|block| block.split("$ ").skip(1));
    commands
        .map(|example| {
            let (command, output) = example.split_once('\n').unwrap_or((example, ""));
            Example { command: command.to_owned(), output: output.to_owned() }
        })
        .collect()
}

/// Whether `found` is `shown`, in which `…` stands for anything within a line, and a line of it alone for any lines.
fn matches(shown: &str, found: &str) -> bool {
    let Some((line, rest)) = shown.split_once('\n') else { return shown.is_empty() && found.is_empty() };
    if line == "…" {
        let ends = std::iter::once(0).chain(found.match_indices('\n').map(|(at, _)| at + 1));
        return ends.into_iter().any(|end| matches(rest, &found[end..]));
    }
    match found.split_once('\n') {
        Some((found_line, found_rest)) => line_matches(line, found_line) && matches(rest, found_rest),
        None => false,
    }
}

fn line_matches(shown: &str, found: &str) -> bool {
    match shown.split_once('…') {
        None => shown == found,
        Some((start, rest)) => {
            let Some(found) = found.strip_prefix(start) else { return false };
            found.char_indices().map(|(at, _)| at).chain([found.len()]).any(|at| line_matches(rest, &found[at..]))
        }
    }
}

#[tokio::test]
async fn every_console_example_of_the_readme_runs_as_shown() {
    let examples = examples();
    assert!(examples.len() >= 3, "the README has lost its examples");
    for Example { command, output } in examples {
        let program = command.replace("cargo run -- ", concat!(env!("CARGO_BIN_EXE_elbship"), " "));
        assert_ne!(program, command, "{command:?} is no command of this program; write it in a block of another kind");
        let run = Command::new("sh")
            .args(["-c", &program])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .await
            .expect("running a shell");
        let found = String::from_utf8(run.stdout).expect("UTF-8");
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(matches(&output, &found), "{command}\nshows\n{found}\nnot\n{output}\nstandard error:\n{errors}");
    }
}

#[test]
fn the_readmes_table_has_every_variable_with_its_default() {
    for (name, default, _) in VARIABLES {
        let row = README.lines().find(|line| line.starts_with(&format!("| `{name}`")));
        let row = row.unwrap_or_else(|| panic!("the README's table has no row for {name}"));
        let cell = row.split('|').nth(2).unwrap_or_default().trim();
        let expected = if default.is_empty() { "—".to_owned() } else { format!("`{default}`") };
        assert_eq!(cell.replace(" MiB", "MiB"), expected, "the default of {name}");
    }
    // The registry's tests check its own chapter.
    let (before, chapter) = README.split_once("\n## The endpoint registry\n").expect("the registry's chapter");
    let after = chapter.split_once("\n## ").map_or("", |(_, after)| after);
    let table = before.lines().chain(after.lines()).filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    for name in table.filter(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')) {
        assert!(VARIABLES.iter().any(|(known, ..)| *known == name), "the README describes {name}, which is never read");
    }
}

#[test]
fn the_readme_names_every_metric() {
    for (name, _) in METRICS {
        assert!(README.contains(&format!("`{name}`")), "the README does not say what the metric {name} is");
    }
}

#[tokio::test]
async fn the_readme_names_every_flag() {
    for name in ["replay", "backfill", "invoke", "receive", "explain", "check"] {
        let help = Command::new(env!("CARGO_BIN_EXE_elbship")).args(["help", name]).output().await.expect("running elbship");
        let help = String::from_utf8(help.stdout).expect("UTF-8");
        let flags = help.lines().filter_map(|line| line.trim().strip_prefix("--")?.split([' ', '=']).next());
        let flags: Vec<&str> = flags.filter(|flag| !["help", "version"].contains(flag)).collect();
        assert!(!flags.is_empty(), "the flags are not where this test looks: {help}");
        for flag in flags {
            assert!(README.contains(&format!("--{flag}")), "the README does not name --{flag} of {name}");
        }
    }
}

/// Code of a document: what stands in blocks other than JSON, and between backticks, with continued lines as one.
fn code(document: &str) -> Vec<String> {
    let document = document.replace("\\\n", " ");
    let mut found = Vec::new();
    let mut block: Option<&str> = None;
    for line in document.lines() {
        match (line.strip_prefix("```"), block) {
            (Some(language), None) => block = Some(if language == "json" { "json" } else { "code" }),
            (Some(_), Some(_)) => block = None,
            (None, Some("code")) => found.push(line.to_owned()),
            (None, Some(_)) => {}
            (None, None) => found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned)),
        }
    }
    found
}

/// The commands of this program in a document, each with its flags.
fn commands(document: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for code in code(document) {
        for start in ["elbship ", "cargo run -- "] {
            for (at, _) in code.match_indices(start) {
                let rest = code[at + start.len()..].split(['|', '>', ';']).next().unwrap_or_default();
                let Some(name) = rest.split_whitespace().next().filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase()))
                else {
                    continue;
                };
                let flags = rest.split_whitespace().filter(|word| word.starts_with("--"));
                let flags = flags.filter_map(|flag| flag.split('=').next()).map(str::to_owned);
                found.push((name.to_owned(), flags.collect()));
            }
        }
    }
    found
}

/// The words of a page of help.
async fn help(of: &[&str]) -> (bool, Vec<String>) {
    let run = Command::new(env!("CARGO_BIN_EXE_elbship")).arg("help").args(of).output().await.expect("running elbship");
    let text = String::from_utf8(run.stdout).expect("UTF-8");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').map(str::to_owned);
    (run.status.success(), words.collect())
}

#[tokio::test]
async fn every_command_of_the_documents_exists_and_the_other_way_round() {
    let mut shown: Vec<String> = Vec::new();
    for document in [README, include_str!("../../docs/operations.md"), include_str!("../../samples/README.md")] {
        for (name, flags) in commands(document) {
            let (exists, words) = help(&[&name]).await;
            if name != "help" {
                assert!(exists, "a document shows `elbship {name}`, which does not exist");
                for flag in flags {
                    assert!(words.contains(&flag), "a document shows {flag} of `elbship {name}`, which does not exist");
                }
            }
            shown.push(name);
        }
    }
    let run = Command::new(env!("CARGO_BIN_EXE_elbship")).arg("help").output().await.expect("running elbship");
    let page = String::from_utf8(run.stdout).expect("UTF-8");
    let list = page.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list of commands");
    for name in list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = name.split_whitespace().next().unwrap_or_default();
        assert!(name == "help" || shown.iter().any(|shown| shown == name), "no document shows `elbship {name}`");
    }
}

#[test]
fn the_tool_versions_of_the_project_agree() {
    let manifest = include_str!("../../Cargo.toml");
    let toolchain = include_str!("../../rust-toolchain.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).expect("a rust-version");
    assert!(toolchain.contains(&format!("channel = \"{version}.")), "rust-toolchain.toml is not of Rust {version}");
}

#[test]
fn commands_of_documents_are_found() {
    let document = "Use `elbship check --to X` or elbship nothing.\n```sh\nx | elbship replay a \\\n  --since=1 | jq --no\n```\n";
    let found = commands(document);
    assert_eq!(found[0], ("check".to_owned(), vec!["--to".to_owned()]));
    assert_eq!(found[1], ("replay".to_owned(), vec!["--since".to_owned()]));
    assert_eq!(found.len(), 2);
}

#[test]
fn examples_are_compared_as_meant() {
    assert!(matches("a…c\n", "abc\n"));
    assert!(matches("…\nz\n", "a\nb\nz\n"));
    assert!(matches("a\n…\n", "a\nb\n"));
    assert!(!matches("a\n", "a\nb\n"));
    assert!(!matches("a…d\n", "abc\n"));
    assert!(!matches("ab\n", "abc\n"));
}
