//! Replays calls of the boundary on this machine and tells how long they took: the native side of
//! `bench/node-compile`, which makes the same calls of the WASM module.
//!
//! In, on standard input: for each call `NAME LENGTH`, a line break, and so many bytes. `drain` asks for transactions until
//! there is no more; `mark` ends a stretch. Out: a line for each stretch, its microseconds of processor time (which the
//! kernel counts in ticks) and of the clock.

use std::io::{Read, Write};
use std::time::Instant;
use wasm_nat::abi::Boundary;

fn main() {
    let mut script = Vec::new();
    std::io::stdin().read_to_end(&mut script).expect("standard input can be read");
    let mut boundary = Boundary::default();
    let mut out = std::io::stdout().lock();
    let mut rest = &script[..];
    let (mut processor, mut clock) = (processor_microseconds(), Instant::now());
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let head = std::str::from_utf8(&rest[..end]).expect("a call is UTF-8");
        let (name, length) = head.split_once(' ').expect("NAME LENGTH");
        let length: usize = length.parse().expect("LENGTH is a number");
        let (input, next) = rest[end + 1..].split_at(length);
        rest = next;
        match name {
            "mark" => {
                let elapsed = clock.elapsed().as_nanos() as f64 / 1e3;
                let worked = processor_microseconds() - processor;
                writeln!(out, "{worked} {elapsed}").expect("standard output can be written");
                (processor, clock) = (processor_microseconds(), Instant::now());
            }
            "drain" => loop {
                call(&mut boundary, "next_transaction", b"");
                if boundary.output().is_empty() {
                    break;
                }
            },
            _ => call(&mut boundary, name, input),
        }
    }
}

/// Processor time of this thread so far: what else the machine does is not counted.
fn processor_microseconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")
        .expect("a Linux with statistics of its scheduler");
    let nanoseconds: u64 =
        text.split(' ').next().and_then(|first| first.parse().ok()).expect("a number comes first");
    nanoseconds as f64 / 1e3
}

fn call(boundary: &mut Boundary, name: &str, input: &[u8]) {
    boundary.input(input.len()).copy_from_slice(input);
    let fits = match name {
        "configure" => boundary.call(Boundary::configure),
        "apply" => boundary.call(Boundary::apply),
        "plan" => boundary.call(Boundary::plan),
        "next_transaction" => boundary.call(Boundary::next_transaction),
        "commit" => boundary.call(Boundary::commit),
        _ => panic!("no call {name}"),
    };
    assert!(fits, "{name}: {}", String::from_utf8_lossy(boundary.output()));
}
