//! The integration tests: the programs against real peers that behave and misbehave.

mod cargo_lambda;
mod checkpoints;
mod cli;
mod credentials;
mod dead_letters;
mod delivery;
mod diagnostics;
mod end_to_end;
mod failing_runs;
mod faults;
mod lambda;
mod links;
mod listing;
mod local_files;
mod memory;
mod readme;
mod reasons;
mod registry_list;
mod responses;
mod resume;
mod s3;
mod simulation;
mod support;
mod terminal;
mod tls;
mod ways_to_lose;
