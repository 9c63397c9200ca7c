//! Does one job and exits, so that its CPU time and memory can be measured from outside like those of any other program.
//!
//! `bench/compare` calls this program.

mod codecs;
mod generate;
mod http;
mod limits;
mod measure;
mod objects;
mod runtime_api;
mod sink;

use std::error::Error;
use std::{env, process};

/// The result of a job. Only `bench/compare` and its user see the error.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage:
  elbbench generate KIND LINES OBJECTS SEED DIR   write log objects of alb, nlb, classic, connection, health or vended lines
  elbbench text KIND LINES SEED FILE              write plain lines
  elbbench inflate FILE                           inflate a file
  elbbench reach FILE BODIES BYTES                inflate a file, and gzip BYTES of request bodies at level 1
  elbbench codec NAME LEVEL BODIES BYTES          compress and inflate request bodies, and print the CPU time of each
  elbbench sink [MILLISECONDS|never] [BODIES]     receive requests until standard input ends, and keep the first bodies in BODIES
  elbbench measure FILE COMMAND…                  run a command, and write its CPU time and memory to FILE
  elbbench cold-start COMMAND…                    measure the time from exec to the first request for an invocation
  elbbench invoke EVENT COMMAND…                  run a function for one event, and stop it after its response";

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Err(error) = run(&arguments) {
        eprintln!("elbbench {}: {error}", arguments.join(" "));
        process::exit(1);
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    match arguments {
        ["generate", kind, lines, objects, seed, directory] => {
            objects::write(kind, lines.parse()?, objects.parse()?, seed.parse()?, directory.as_ref())
        }
        ["text", kind, lines, seed, file] => objects::write_text(kind, lines.parse()?, seed.parse()?, file.as_ref()),
        ["inflate", file] => limits::inflate(file.as_ref()),
        ["reach", file, bodies, bytes] => limits::reach(file.as_ref(), bodies.as_ref(), bytes.parse()?),
        ["codec", name, level, bodies, bytes] => codecs::run(name, level.parse()?, bodies.as_ref(), bytes.parse()?),
        ["sink", rest @ ..] => sink::run(rest),
        ["measure", file, command @ ..] => measure::run(file.as_ref(), command),
        ["cold-start", command @ ..] => runtime_api::cold_start(command),
        ["invoke", event, command @ ..] => runtime_api::invoke(event.as_ref(), command),
        _ => Err(USAGE.into()),
    }
}
