//! Fuzzes the third stage: one line becomes one event. An input is a line without its line feed.

#![no_main]

libfuzzer_sys::fuzz_target!(|line: &[u8]| elb_log_shipper_fuzz::event(line));
