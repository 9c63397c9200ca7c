//! Parses the ALB lines of a plain text file with `parse_aws_alb_log`, and discards the results.
//!
//! Today's lines have more fields than the function knows. With `strict_mode: false` it drops them instead of rejecting the line.
//!
//! The program only parses: it does not inflate, write JSON, or compress. At the end it prints the number of read and rejected lines.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::{env, fs::File};

use vrl::compiler::{Context, Program, TargetValue, TimeZone, state::RuntimeState};
use vrl::value::{ObjectMap, Secrets, Value};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: peer-vrl LINES.txt")?;
    let compiled = vrl::compiler::compile("parse_aws_alb_log!(string!(.message), strict_mode: false)", &vrl::stdlib::all());
    let program = compiled.map_err(|errors| format!("cannot compile the VRL program: {errors:?}"))?.program;
    let (mut lines, mut rejected) = (0_u64, 0_u64);
    for line in BufReader::new(File::open(path)?).lines() {
        lines += 1;
        rejected += u64::from(!parses(&program, line?));
    }
    println!(r#"{{"lines":{lines},"rejected":{rejected}}}"#);
    Ok(())
}

fn parses(program: &Program, line: String) -> bool {
    let event = ObjectMap::from([("message".into(), line.into())]);
    let mut target =
        TargetValue { value: Value::Object(event), metadata: Value::Object(ObjectMap::new()), secrets: Secrets::default() };
    let (mut state, zone) = (RuntimeState::default(), TimeZone::default());
    let parsed = program.resolve(&mut Context::new(&mut target, &mut state, &zone));
    parsed.map(std::hint::black_box).is_ok()
}
