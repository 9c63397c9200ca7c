//! Measures each stage separately, on generated lines in memory: `cargo bench`.
//!
//! Use it while changing one stage. The final measurement is `bench/compare`, which compares the release build with its lower
//! limits.

use std::cell::Cell;
use std::hint::black_box;
use std::io::Write as _;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use elb_log::batch::{Batch, BatchBuilder, BatchSettings, Compression, Framing};
use elb_log::buffer::Buffer;
use elb_log::event::{EventSettings, EventWriter, Schema, Scratch};
use elb_log::format::{TokenBuffer, parse};
use elb_log::inflate::{Inflate, InflateProgress};
use elb_log::lines::{Block, LineLimits, LineSplitter};
use elb_log::origin::{ObjectName, Origin};
use flate2::Compression as Level;
use flate2::write::GzEncoder;

#[path = "../../../bench/src/generate/mod.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the stages use only ALB lines, and the folder is also a module of the bench package"
)]
mod generate;

use generate::{Generator, Kind};

const LINES: usize = 20_000;
const SEED: u64 = 20_260_302;

/// Maximum size of an inflate step, as in the program.
const STEP_BYTES: usize = 64 * 1024;

/// The default limits of the program.
const LIMITS: LineLimits = LineLimits { line_bytes: 1 << 20, block_lines: 2_000, block_bytes: (4 << 20) / 3 };

const SCHEMAS: [Schema; 2] = [Schema::Native, Schema::Ecs];

static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut generator = Generator::new(Kind::Alb, SEED);
    let mut text = Vec::new();
    (0..LINES).for_each(|_| generator.append(&mut text));
    text
});

static OBJECT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut encoder = GzEncoder::new(Vec::new(), Level::default());
    encoder.write_all(&TEXT).expect("compressing into memory");
    encoder.finish().expect("compressing into memory")
});

static BLOCKS: LazyLock<Vec<Block>> = LazyLock::new(|| {
    let mut blocks = Vec::new();
    split(&TEXT, |block| blocks.push(block));
    blocks
});

static EVENTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let writer = writer(Schema::Native);
    let lines = BLOCKS.iter().flat_map(Block::lines);
    lines
        .map(|line| {
            let mut event = Buffer::default();
            writer.write(&mut event, &line, &mut Scratch::default());
            event.to_vec()
        })
        .collect()
});

fn main() {
    divan::main();
}

#[divan::bench]
fn inflate(bencher: Bencher<'_, '_>) {
    LazyLock::force(&OBJECT);
    per_line(bencher).bench(|| {
        inflate_object(|text| {
            black_box(text);
        })
    });
}

#[divan::bench]
fn lines(bencher: Bencher<'_, '_>) {
    LazyLock::force(&TEXT);
    let recycled = Cell::new(Block::default());
    per_line(bencher).bench_local(|| {
        let mut lines = LineSplitter::new(LIMITS);
        for chunk in TEXT.chunks(STEP_BYTES) {
            lines.reserve_block(|| Some(recycled.take()));
            lines.buffer().put(chunk);
            while let Some(block) = lines.next_block() {
                recycled.set(black_box(block));
            }
        }
        lines.finish().into_iter().for_each(|block| recycled.set(block));
    });
}

#[divan::bench]
fn parse_lines(bencher: Bencher<'_, '_>) {
    LazyLock::force(&BLOCKS);
    per_line(bencher).bench(|| {
        let mut tokens = TokenBuffer::default();
        for line in BLOCKS.iter().flat_map(Block::lines) {
            let _ = black_box(parse(line.text, &mut tokens));
        }
    });
}

/// Includes parsing, because a record borrows its line and is not kept.
#[divan::bench(args = SCHEMAS)]
fn event(bencher: Bencher<'_, '_>, schema: Schema) {
    LazyLock::force(&BLOCKS);
    let writer = writer(schema);
    let mut out = Buffer::default();
    per_line(bencher).bench_local(|| {
        let mut scratch = Scratch::default();
        for line in BLOCKS.iter().flat_map(Block::lines) {
            writer.write(&mut out, &line, &mut scratch);
            if out.len() > STEP_BYTES {
                black_box(&mut out).clear();
            }
        }
    });
}

#[divan::bench(args = [1, 2, 3, 6])]
fn gzip(bencher: Bencher<'_, '_>, level: u32) {
    LazyLock::force(&EVENTS);
    per_line(bencher).bench(|| {
        let mut builder = BatchBuilder::new(batches(Compression::Gzip(level)));
        for event in EVENTS.iter() {
            black_box(builder.add(|out| out.put(event)));
        }
        builder.finish()
    });
}

/// Measures all stages on one thread, without files and sockets.
#[divan::bench(args = SCHEMAS)]
fn whole(bencher: Bencher<'_, '_>, schema: Schema) {
    LazyLock::force(&OBJECT);
    let writer = writer(schema);
    per_line(bencher).bench(|| {
        let mut lines = LineSplitter::new(LIMITS);
        inflate_object(|text| {
            lines.buffer().put(text);
            while let Some(block) = lines.next_block() {
                make_batches(&block, &writer);
            }
        });
        lines.finish().iter().for_each(|block| make_batches(block, &writer));
    });
}

/// Shows results per line and per byte of log text.
fn per_line<'a, 'b>(bencher: Bencher<'a, 'b>) -> Bencher<'a, 'b> {
    bencher.counter(ItemsCount::new(LINES)).counter(BytesCount::new(TEXT.len()))
}

fn inflate_object(mut on_text: impl FnMut(&[u8])) {
    let mut inflate = Inflate::default();
    let mut text = Buffer::default();
    let mut input = OBJECT.as_slice();
    loop {
        let progress = inflate.step(&mut input, &mut text, STEP_BYTES).expect("a whole object");
        on_text(&text);
        text.clear();
        if progress == InflateProgress::NeedInput {
            return;
        }
    }
}

fn split(text: &[u8], mut on_block: impl FnMut(Block)) {
    let mut lines = LineSplitter::new(LIMITS);
    for chunk in text.chunks(STEP_BYTES) {
        lines.buffer().put(chunk);
        while let Some(block) = lines.next_block() {
            on_block(block);
        }
    }
    lines.finish().into_iter().for_each(on_block);
}

fn make_batches(block: &Block, writer: &EventWriter) {
    let mut builder = BatchBuilder::new(batches(Compression::Gzip(1)));
    let mut scratch = Scratch::default();
    for line in block.lines() {
        drop_batch(builder.add(|out| writer.write(out, &line, &mut scratch)).1);
    }
    drop_batch(builder.finish());
}

fn drop_batch(batch: Option<Batch>) {
    drop(black_box(batch));
}

fn batches(compression: Compression) -> BatchSettings {
    BatchSettings { max_events: 2_000, max_bytes: 4 << 20, framing: Framing::JsonArray, compression, bodies: true }
}

fn writer(schema: Schema) -> EventWriter {
    let key = "AWSLogs/123456789012/elasticloadbalancing/eu-west-1/2026/03/02/123456789012_elasticloadbalancing_eu-west-1_\
               app.web.50dc6c495c0c9188_20260302T1020Z_203.0.113.7_00000000.log.gz";
    let name = ObjectName { bucket: "example-elb-logs".to_owned(), key: key.to_owned() };
    EventWriter::new(&EventSettings { schema, ..EventSettings::default() }, &Origin::Bucket(name), jiff::Timestamp::UNIX_EPOCH)
}
