#![cfg_attr(fuzzing, no_main)]
#![allow(missing_docs, reason = "a program, described in the manifest")]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| secret_resolver_spiffe::fuzzing::claims(data));

#[cfg(not(fuzzing))]
fn main() {}
