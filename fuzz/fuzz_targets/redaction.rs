//! Fuzzes what errors show of a mistyped URL. An input is a password, after a byte that chooses the mistake.

#![no_main]

#[path = "../redaction.rs"]
mod checks;
#[path = "../../crates/elb-common/src/redact/text.rs"]
#[allow(dead_code, reason = "only what the checks need is called")]
mod text;

use text::{HIDDEN, redact_arguments, redact_other_value, redact_value};

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::redaction(input));
