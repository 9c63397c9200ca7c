//! The example programs run on the project's samples.

use std::io::{BufReader, Read as _};
use std::path::Path;

use flate2::read::GzDecoder;

#[path = "../../examples/count_statuses.rs"]
#[expect(dead_code, reason = "the test calls the function below main")]
mod count;

#[path = "../../examples/print_field.rs"]
#[expect(dead_code, reason = "the test calls the function below main")]
mod print;

fn sample() -> BufReader<std::io::Cursor<Vec<u8>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples/buckets/example-elb-logs/team a+b/AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/123456789012_elasticloadbalancing_eu-west-1_app.reports.9a1be7704c2d63f8_20260302T1020Z_198.51.100.30_6h0tnw2c.log.gz");
    let object = std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let mut text = Vec::new();
    GzDecoder::new(&object[..]).read_to_end(&mut text).expect("a gzip object");
    BufReader::new(std::io::Cursor::new(text))
}

#[test]
fn counts_statuses() {
    let mut output = Vec::new();
    count::count_statuses(sample(), &mut output).expect("writing to memory");
    let total: u64 = String::from_utf8(output)
        .expect("UTF-8")
        .lines()
        .map(|line| line.split_whitespace().next().map_or(0, |count| count.parse().unwrap_or(0)))
        .sum();
    assert_eq!(total, 2, "the sample has two lines");
}

#[test]
fn prints_one_field() {
    let mut output = Vec::new();
    print::print_field("elb_status_code", sample(), &mut output).expect("writing to memory");
    let output = String::from_utf8(output).expect("UTF-8");
    assert_eq!(output.lines().count(), 2, "{output}");
    assert!(output.lines().all(|status| status.parse::<u16>().is_ok()), "{output}");
}
