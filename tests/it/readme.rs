//! The README and the pages in `docs/` agree with the code: examples are run, and tables and commands are compared.

use std::path::PathBuf;
use std::process::Stdio;

use elb_log_shipper::config::{VARIABLES, reference_markdown};
use elb_log_shipper::emf::METRICS;
use tokio::process::Command;

const README: &str = include_str!("../../README.md");
const REPLAY: &str = include_str!("../../docs/replay.md");
const BACKFILL: &str = include_str!("../../docs/backfill.md");
const DELIVERY: &str = include_str!("../../docs/delivery.md");

/// Longest README that a stranger still reads, in lines.
const LONGEST_README: usize = 200;

#[test]
fn the_readme_is_short() {
    let lines = README.lines().count();
    assert!(lines <= LONGEST_README, "README.md has {lines} lines, more than {LONGEST_README}; move details to docs/");
}

/// A command of a `console` block and the output below it.
struct Example {
    command: String,
    output: String,
}

fn examples(page: &str) -> Vec<Example> {
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands = blocks.flat_map(|block| block.split("$ ").skip(1));
    commands
        .map(|example| {
            let (command, output) = example.split_once('\n').unwrap_or((example, ""));
            Example { command: command.to_owned(), output: output.to_owned() }
        })
        .collect()
}

/// Returns whether `found` is `shown`, where `…` stands for any part of a line, and a line with only `…` for any lines.
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
async fn console_examples_run_as_shown() {
    let examples = [README, REPLAY].map(examples);
    assert!(examples.iter().all(|examples| !examples.is_empty()), "a page has lost its examples");
    for Example { command, output } in examples.into_iter().flatten() {
        let program = command.replace("cargo run -- ", concat!(env!("CARGO_BIN_EXE_elbship"), " "));
        assert_ne!(program, command, "{command:?} is not a command of elbship; use a block of another language");
        let run = Command::new("sh")
            .args(["-c", &program])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .await
            .expect("running a shell");
        let found = String::from_utf8(run.stdout).expect("UTF-8");
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(matches(&output, &found), "{command}\nprints\n{found}\ninstead of\n{output}\nstandard error:\n{errors}");
    }
}

/// `UPDATE_GOLDEN=1 cargo test --test it configuration_page` writes the page anew.
#[test]
fn the_configuration_page_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let expected = reference_markdown();
    for variable in VARIABLES {
        let rows = expected.lines().filter(|line| line.starts_with(&format!("| `{}` |", variable.name))).count();
        assert_eq!(rows, 1, "rows of {}", variable.name);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &expected).expect("writing the page");
    }
    let page = std::fs::read_to_string(&path).expect("the page");
    assert_eq!(page, expected, "docs/configuration.md is stale; run this test with UPDATE_GOLDEN=1 and read the difference");
}

#[test]
fn the_delivery_page_names_every_metric() {
    for (name, _) in METRICS {
        assert!(DELIVERY.contains(&format!("`{name}`")), "docs/delivery.md does not describe the metric {name}");
    }
}

#[tokio::test]
async fn the_pages_name_every_flag() {
    let pages = [
        ("docs/replay.md", REPLAY, &["replay", "invoke", "receive", "explain", "check"][..]),
        ("docs/backfill.md", BACKFILL, &["backfill"]),
    ];
    for (file, page, names) in pages {
        for name in names {
            let (_, words) = help(&[name]).await;
            let flags = words.iter().filter(|word| word.starts_with("--") && !["--help", "--version"].contains(&word.as_str()));
            assert!(flags.clone().count() > 0, "the help of {name} has no flags where this test looks: {words:?}");
            for flag in flags {
                assert!(page.contains(flag), "{file} does not describe {flag} of {name}");
            }
        }
    }
}

/// Returns the code in a page: blocks that are not JSON, and text between backticks. Continued lines are joined.
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

/// Returns the elbship commands in a page, each with its flags.
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

/// Returns whether a help page exists, and its words.
async fn help(of: &[&str]) -> (bool, Vec<String>) {
    let run = Command::new(env!("CARGO_BIN_EXE_elbship")).arg("help").args(of).output().await.expect("running elbship");
    let text = String::from_utf8(run.stdout).expect("UTF-8");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').map(str::to_owned);
    (run.status.success(), words.collect())
}

/// Returns every page that may show commands, with its path.
fn pages() -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_dir(root.join("docs")).expect("the pages").map(|entry| entry.expect("a page").path());
    let mut paths: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    paths.extend(["README.md", "samples/README.md", "registry/README.md"].map(|path| root.join(path)));
    let page = |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).expect("a page"));
    paths.into_iter().map(page).collect()
}

#[tokio::test]
async fn commands_in_the_pages_exist_and_are_complete() {
    let mut shown: Vec<String> = Vec::new();
    for (path, page) in pages() {
        for (name, flags) in commands(&page) {
            let (exists, words) = help(&[&name]).await;
            if name != "help" {
                assert!(exists, "{path} shows `elbship {name}`, which does not exist");
                for flag in flags {
                    assert!(words.contains(&flag), "{path} shows {flag} of `elbship {name}`, which does not exist");
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
        assert!(name == "help" || shown.iter().any(|shown| shown == name), "no page shows `elbship {name}`");
    }
}

#[test]
fn the_toolchain_is_the_minimum_rust_version() {
    let manifest = include_str!("../../Cargo.toml");
    let toolchain = include_str!("../../rust-toolchain.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).expect("a rust-version");
    assert!(toolchain.contains(&format!("channel = \"{version}.")), "rust-toolchain.toml does not have Rust {version}");
}

#[test]
fn finds_commands_and_their_flags() {
    let document = "Use `elbship check --to X` or elbship nothing.\n```sh\nx | elbship replay a \\\n  --since=1 | jq --no\n```\n";
    let found = commands(document);
    assert_eq!(found[0], ("check".to_owned(), vec!["--to".to_owned()]));
    assert_eq!(found[1], ("replay".to_owned(), vec!["--since".to_owned()]));
    assert_eq!(found.len(), 2);
}

#[test]
fn ellipses_match_any_text() {
    assert!(matches("a…c\n", "abc\n"));
    assert!(matches("…\nz\n", "a\nb\nz\n"));
    assert!(matches("a\n…\n", "a\nb\n"));
    assert!(!matches("a\n", "a\nb\n"));
    assert!(!matches("a…d\n", "abc\n"));
    assert!(!matches("ab\n", "abc\n"));
}
