//! `docs/configuration.md`, made from the table of variables.

use elb_common::env::markdown_table;

use super::VARIABLES;

const INTRODUCTION: &str = "\
# Configuration

Environment variables configure the function and the command line.
This page is generated from the table in `src/config/variables.rs`. After a change there, run `UPDATE_GOLDEN=1 cargo test --test it configuration_page`.

* A flag of `elbship` takes precedence over its variable. [replay.md](replay.md) and [backfill.md](backfill.md) describe the flags.
* A duration is a number with a unit, such as `500ms`, `90s` or `5m`. The maximum is a day.
* A size is a number of bytes, or a number with a unit, such as `64KiB` or `4MiB`.
* Invalid values stop the start. The error contains all of them, each with the variable or the flag, its value, and the allowed values. The values of secrets are hidden, and URLs that may contain a password.
* An empty value is invalid, except for `LABELS`. To use the default, unset the variable.
* The AWS SDK reads the region, the credentials and proxies from its own variables, such as `AWS_REGION`. The shipper does not use a proxy (`HTTPS_PROXY`) for Logstash.

Set either `LOGSTASH_URL` or `REGISTRY_URL`. The function needs one of them; the command line writes to standard output if both are unset.
The endpoint registry has [its own variables](../registry/README.md#configuration).

## Variables

";

/// Returns the text of `docs/configuration.md`.
pub fn reference_markdown() -> String {
    format!("{INTRODUCTION}{}", markdown_table(VARIABLES))
}
