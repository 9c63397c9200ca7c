//! Fuzzes the first stage: the bytes of an object become lines. An input is an object as stored, gzip or plain text.

#![no_main]

libfuzzer_sys::fuzz_target!(|object: &[u8]| elb_log_shipper_fuzz::lines(object));
