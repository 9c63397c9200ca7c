//! Prints one field of every log line: `zcat *.log.gz | cargo run -p elb-log --example print_field user_agent`.
//!
//! The field's name is AWS's, as in docs/fields.md. Lines without the field are left out.

use std::env;
use std::io::{self, BufRead, Write};

use elb_log::format::{TokenBuffer, decode, parse};

fn main() -> io::Result<()> {
    let name = env::args().nth(1).unwrap_or_else(|| "request".to_owned());
    print_field(&name, io::stdin().lock(), &mut io::stdout().lock())
}

pub(crate) fn print_field(name: &str, input: impl BufRead, output: &mut impl Write) -> io::Result<()> {
    for line in input.split(b'\n') {
        let (line, mut tokens) = (line?, TokenBuffer::default());
        let Ok(record) = parse(&line, &mut tokens) else { continue };
        let found = record.fields().find(|(field, token)| field.aws == name && !token.is_absent());
        if let Some((_, token)) = found {
            writeln!(output, "{}", decode(token.raw))?;
        }
    }
    Ok(())
}
