//! Counts the status codes in log lines: `zcat *.log.gz | cargo run -p elb-log --example count_statuses`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use elb_log::format::{TokenBuffer, parse};

fn main() -> io::Result<()> {
    count_statuses(io::stdin().lock(), &mut io::stdout().lock())
}

pub(crate) fn count_statuses(input: impl BufRead, output: &mut impl Write) -> io::Result<()> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for line in input.split(b'\n') {
        let (line, mut tokens) = (line?, TokenBuffer::default());
        let status = parse(&line, &mut tokens).ok().and_then(|record| {
            let (_, status) = record.fields().find(|(field, _)| matches!(field.aws, "elb_status_code" | "status_code"))?;
            Some(String::from_utf8_lossy(status.raw).into_owned())
        });
        *counts.entry(status.unwrap_or_else(|| "none".to_owned())).or_default() += 1;
    }
    counts.iter().try_for_each(|(status, count)| writeln!(output, "{count:8} {status}"))
}
