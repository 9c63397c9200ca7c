//! The first stage: an object's bytes to lines. An input is an object as the store gives it, gzip or not.

#![no_main]

libfuzzer_sys::fuzz_target!(|object: &[u8]| elb_log_shipper_fuzz::lines(object));
