//! What the documents say is so: commands are run, and tables are compared with the code.

use std::process::Stdio;

use elb_log_shipper::config::VARIABLES;
use elb_log_shipper::metrics::METRICS;
use tokio::process::Command;

const README: &str = include_str!("../README.md");

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
    let table = README.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
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
async fn the_readme_names_every_flag_of_replay_and_backfill() {
    for name in ["replay", "backfill"] {
        let help = Command::new(env!("CARGO_BIN_EXE_elbship")).args(["help", name]).output().await.expect("running elbship");
        let help = String::from_utf8(help.stdout).expect("UTF-8");
        let flags = help.lines().filter_map(|line| line.trim().strip_prefix("--")?.split([' ', '=']).next());
        let flags: Vec<&str> = flags.filter(|flag| !["help", "version"].contains(flag)).collect();
        assert!(flags.contains(&"since"), "the flags are not where this test looks: {help}");
        for flag in flags {
            assert!(README.contains(&format!("--{flag}")), "the README does not name --{flag} of {name}");
        }
    }
}

#[test]
fn the_template_sets_only_variables_that_are_read() {
    let template = include_str!("../template.yaml");
    let variables =
        template.split("Variables:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("the function's variables");
    let names: Vec<&str> = variables.lines().filter_map(|line| line.trim().split_once(": ")).map(|(name, _)| name).collect();
    assert!(names.contains(&"LOGSTASH_URL"), "the template's variables are not where this test looks: {names:?}");
    for name in names {
        assert!(VARIABLES.iter().any(|(known, ..)| *known == name), "the template sets {name}, which is never read");
    }
}

#[test]
fn the_tool_versions_of_the_project_agree() {
    let manifest = include_str!("../Cargo.toml");
    let toolchain = include_str!("../rust-toolchain.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).expect("a rust-version");
    assert!(toolchain.contains(&format!("channel = \"{version}.")), "rust-toolchain.toml is not of Rust {version}");
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
