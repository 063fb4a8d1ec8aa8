//! How long a fresh compile and one change take without WASM: `cargo run --release --example scale -- SERVICES ENDPOINTS`.

use std::time::Instant;
use wasm_nat::abi::Boundary;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>().expect("a number"));
    let (services, endpoints) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(10));
    let mut boundary = Boundary::default();
    let settings = r#"{"backend":"nftables","node":{"name":"a","addresses":{"IPv4":["192.168.0.2"],"IPv6":["fd00:1::2"]}},
        "localDetector":{"kind":"cidrs","cidrs":["10.0.0.0/8"]}}"#;
    call(&mut boundary, settings, Boundary::configure);
    let address = |first: u32, n: u32| std::net::Ipv4Addr::from((first << 24) + n);
    let service = |i: u32| format!(r#"{{"n":"default/svc{i}","c":["{}"],"p":[["http","TCP",80,0]]}}"#, address(172, i));
    let slice = |i: u32, shift: u32| {
        let endpoints: Vec<String> = (0..endpoints)
            .map(|k| format!(r#"{{"a":"{}","n":"a"}}"#, address(10, i * endpoints + k + shift)))
            .collect();
        format!(
            r#"{{"n":"default/svc{i}-x","s":"svc{i}","f":"IPv4","p":[["http","TCP",8080]],"e":[{}]}}"#,
            endpoints.join(",")
        )
    };
    let start = Instant::now();
    for first in (0..services).step_by(2000) {
        let all = first..services.min(first + 2000);
        let list: Vec<String> = all.clone().map(service).collect();
        call(&mut boundary, &format!(r#"{{"S":[{}]}}"#, list.join(",")), Boundary::apply);
        let list: Vec<String> = all.map(|i| slice(i, 0)).collect();
        call(&mut boundary, &format!(r#"{{"E":[{}]}}"#, list.join(",")), Boundary::apply);
    }
    println!("apply {:?}", start.elapsed());
    let start = Instant::now();
    call(&mut boundary, "", Boundary::reconcile);
    println!("reconcile {:?}", start.elapsed());
    let start = Instant::now();
    let mut bytes = 0;
    loop {
        call(&mut boundary, "", Boundary::next_transaction);
        if boundary.output().is_empty() {
            break;
        }
        bytes += boundary.output().len();
    }
    call(&mut boundary, "", Boundary::commit);
    println!("transactions {:?}, {bytes} bytes", start.elapsed());
    let start = Instant::now();
    for change in 1..=100 {
        call(&mut boundary, &format!(r#"{{"E":[{}]}}"#, slice(7, change)), Boundary::apply);
        call(&mut boundary, "", Boundary::plan);
        call(&mut boundary, "", Boundary::next_transaction);
        call(&mut boundary, "", Boundary::commit);
    }
    println!("one change {:?}", start.elapsed() / 100);
}

fn call(boundary: &mut Boundary, input: &str, call: fn(&mut Boundary) -> Result<Vec<u8>, String>) {
    boundary.input(input.len()).copy_from_slice(input.as_bytes());
    assert!(boundary.call(call), "{}", String::from_utf8_lossy(boundary.output()));
}
