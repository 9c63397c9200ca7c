//! The Logstash pipelines in `samples/`, compared as text: an option that is uncommented in one place must exist in the others.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

const NATIVE: &str = include_str!("../../samples/logstash/native.conf");
const ECS: &str = include_str!("../../samples/logstash/ecs.conf");
const EVENTS: &str = include_str!("../../docs/events.md");

/// The pipelines with their names.
const PIPELINES: [(&str, &str); 2] = [("native.conf", NATIVE), ("ecs.conf", ECS)];

/// Returns a section of a pipeline, such as `input`, with its braces.
fn section<'a>(pipeline: &'a str, name: &str) -> &'a str {
    let (_, rest) = pipeline.split_once(&format!("\n{name} {{\n")).unwrap_or_else(|| panic!("no section {name}"));
    rest.split_once("\n}\n").unwrap_or_else(|| panic!("the section {name} has no end")).0
}

/// Returns the lines of each `elasticsearch` block, without indentation. `comment` precedes the lines of a block that is commented
/// out.
fn outputs(pipeline: &str, comment: &str) -> Vec<Vec<String>> {
    let start = format!("{comment}elasticsearch {{");
    let mut blocks: Vec<Vec<String>> = Vec::new();
    let mut is_open = false;
    for line in section(pipeline, "output").lines().map(str::trim) {
        if line == start {
            blocks.push(Vec::new());
            is_open = true;
        } else if line == format!("{comment}}}") {
            is_open = false;
        } else if let Some(block) = blocks.last_mut().filter(|_| is_open) {
            block.push(line.strip_prefix(comment).unwrap_or(line).trim().to_owned());
        }
    }
    blocks
}

/// Returns the options of a block that are commented out, as `name => value`.
fn commented_options(block: &[String]) -> BTreeSet<String> {
    let comments = block.iter().filter_map(|line| line.strip_prefix("# "));
    comments.filter_map(option).collect()
}

/// Returns an option as `name => value`, or none if the line has no option.
fn option(line: &str) -> Option<String> {
    let (name, value) = line.split_once("=>")?;
    let is_name = name.trim().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_name.then(|| format!("{} => {}", name.trim(), value.trim()))
}

#[test]
fn every_commented_option_is_in_both_outputs() {
    let mut all = BTreeSet::new();
    for (name, pipeline) in PIPELINES {
        let outputs = outputs(pipeline, "");
        assert_eq!(outputs.len(), 2, "{name} has other outputs than for events and for strays; change this test");
        let options: Vec<_> = outputs.iter().map(|output| commented_options(output)).collect();
        assert!(!options[0].is_empty(), "{name} has no commented options where this test looks");
        assert_eq!(options[0], options[1], "{name}: copy the commented options of one output to the other");
        all.insert(options[0].clone());
    }
    assert_eq!(all.len(), 1, "copy the commented options of one pipeline to the other");
}

#[test]
fn the_data_stream_has_the_options_of_a_secured_cluster_too() {
    for (name, pipeline) in PIPELINES {
        let secured = commented_options(&outputs(pipeline, "")[0]);
        let streams = outputs(pipeline, "# ");
        assert_eq!(streams.len(), 1, "{name} has no data stream where this test looks");
        let options: BTreeSet<_> = streams[0].iter().filter_map(|line| option(line)).collect();
        assert!(options.is_superset(&secured), "{name}: the data stream lacks options of the first output: {options:?}");
    }
}

#[test]
fn every_output_names_elasticsearch_by_the_same_variable() {
    for (name, pipeline) in PIPELINES {
        for block in outputs(pipeline, "").into_iter().chain(outputs(pipeline, "# ")) {
            let hosts = block.iter().filter_map(|line| option(line)).find(|option| option.starts_with("hosts "));
            let expected = "hosts => [\"${ELASTICSEARCH_URL:http://127.0.0.1:9200}\"]";
            assert_eq!(hosts.as_deref(), Some(expected), "{name}: name the host by the variable in every output");
        }
    }
}

/// Returns the comment about a subject in the input, from its first words to the blank line after it.
fn input_comment(pipeline: &str, start: &str) -> String {
    let input = section(pipeline, "input").to_owned() + "\n\n";
    let (_, comment) = input.split_once(start).unwrap_or_else(|| panic!("no comment begins with {start:?}"));
    // The comment ends at a blank line, or at the end of the plugin.
    let (first, rest) = comment.split_once('\n').expect("a line below the first");
    let rest = rest.lines().map(str::trim).take_while(|line| line.starts_with('#'));
    std::iter::once(first).chain(rest).fold(String::new(), |comment, line| comment + line + "\n")
}

#[test]
fn both_pipelines_say_the_same_about_tls_and_credentials() {
    for start in ["    # TLS", "    # Basic authentication"] {
        let (native, ecs) = (input_comment(NATIVE, start), input_comment(ECS, start));
        assert!(native.contains("=> "), "the comment {start:?} has no options where this test looks");
        assert_eq!(native, ecs, "make the comment {start:?} equal in native.conf and ecs.conf");
    }
}

/// The json codec of Logstash 8.0 to 8.5 replaces `event.original` in ECS mode.
#[test]
fn the_raw_line_survives_the_json_codec_of_every_version() {
    for (name, pipeline) in PIPELINES {
        let options: BTreeSet<_> = section(pipeline, "input").lines().filter_map(|line| option(line.trim())).collect();
        for expected in ["codec => json { ecs_compatibility => \"disabled\" }", "additional_codecs => {}"] {
            assert!(options.contains(expected), "{name}: set {expected} in the http input");
        }
    }
}

#[test]
fn both_pipelines_show_geoip_and_useragent_and_advise_on_retention() {
    for (name, pipeline) in PIPELINES {
        for shown in ["#   geoip {", "#   useragent {", "# Retention: "] {
            assert!(pipeline.lines().any(|line| line.trim().starts_with(shown)), "{name} lacks {shown:?}");
        }
    }
}

/// Runs the `jq` programs that add the lifecycle policy to the templates, without `curl`.
#[tokio::test]
async fn the_lifecycle_policy_becomes_a_setting_of_the_template() {
    let commands: Vec<&str> = EVENTS.lines().filter(|line| line.starts_with("jq ")).collect();
    assert_eq!(commands.len(), 2, "docs/events.md has no jq command for each template");
    for command in commands {
        let (jq, _) = command.split_once(" | curl").expect("a pipe to curl");
        let run = Command::new("sh")
            .args(["-c", jq])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null())
            .output()
            .await
            .expect("running a shell");
        assert!(run.status.success(), "{jq} fails: {}", String::from_utf8_lossy(&run.stderr));
        let template: Value = serde_json::from_slice(&run.stdout).expect("JSON");
        assert_eq!(template["template"]["settings"]["index.lifecycle.name"], "elb", "{jq}");
        assert!(template["template"]["mappings"].is_object(), "{jq} loses the mappings");
    }
}
