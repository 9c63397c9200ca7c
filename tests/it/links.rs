//! Links between the Markdown files of the project lead to a file and to a heading of it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every Markdown file of the project.
fn pages() -> Vec<PathBuf> {
    let is_source = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !(name.starts_with('.') || ["target", "node_modules"].contains(&name.as_ref()))
    };
    let files = WalkDir::new(root()).sort_by_file_name().into_iter().filter_entry(is_source);
    let paths = files.map(|entry| entry.expect("a readable directory").into_path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Returns the lines of a page outside code blocks.
fn prose(page: &str) -> Vec<&str> {
    let mut in_code = false;
    let outside = |line: &&str| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !(in_code || fence)
    };
    page.lines().filter(outside).collect()
}

/// Returns the targets of the links in a page.
fn links(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(page) {
        // Text between backticks is code.
        let text: String = line.split('`').step_by(2).collect();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        found.extend(targets.map(str::to_owned));
    }
    found
}

/// Returns the anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let mut count: HashMap<String, usize> = HashMap::new();
    let mut found = Vec::new();
    for title in
        prose(page).iter().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')))
    {
        let kept = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|&letter| letter.is_alphanumeric() || " -_".contains(letter))
            .collect::<String>();
        let anchor = kept.replace(' ', "-");
        let repeated = count.entry(anchor.clone()).or_default();
        found.push(if *repeated == 0 { anchor } else { format!("{anchor}-{repeated}") });
        *repeated += 1;
    }
    found
}

#[test]
fn links_resolve() {
    let pages = pages();
    assert!(pages.len() > 10, "the pages are not where this test looks: {pages:?}");
    let mut broken = Vec::new();
    for path in pages {
        let page = std::fs::read_to_string(&path).expect("a page");
        for link in links(&page).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().expect("a directory").join(file) };
            let has_anchor =
                || anchors(&std::fs::read_to_string(&target).unwrap_or_default()).iter().any(|found| found == anchor);
            if !target.exists() || !(anchor.is_empty() || has_anchor()) {
                broken.push(format!("{}: {link}", path.strip_prefix(root()).expect("below the root").display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn finds_links_and_anchors() {
    let page = "# A `b_c` (d)!\n\n```sh\n# no title\n[x](no-link)\n```\n## Two\n## Two\nSee [a](one.md#x), `[b](code)` and [`c`](../two.md).\n";
    assert_eq!(links(page), ["one.md#x", "../two.md"]);
    assert_eq!(anchors(page), ["a-b_c-d", "two", "two-1"]);
}
