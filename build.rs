//! Makes the version that `elbship --version` shows: that of the package, and the commit.

mod commit {
    include!("build/commit.rs");
}

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/commit.rs");
    println!("cargo::rerun-if-env-changed=ELBSHIP_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let detail = match (env::var("ELBSHIP_COMMIT"), is_release()) {
        // For a package that is built from an archive of the source.
        (Ok(commit), _) => format!(" (commit {commit})"),
        (Err(_), true) => commit_of_source().map(|commit| format!(" (commit {commit})")).unwrap_or_default(),
        // With the commit, every commit would compile the whole program again.
        (Err(_), false) => " (debug build)".to_owned(),
    };
    println!("cargo::rustc-env=ELBSHIP_VERSION={version}{detail}");
}

fn is_release() -> bool {
    env::var("PROFILE").is_ok_and(|profile| profile == "release")
}

/// Returns the commit of a clone, or none for an archive of the source.
fn commit_of_source() -> Option<String> {
    let found = commit::find(Path::new(&env::var_os("CARGO_MANIFEST_DIR")?))?;
    for file in &found.files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    Some(found.short)
}
