//! A TCP transfer for the demonstration: `transfer serve ADDRESS` receives one connection and checks what it got,
//! `transfer send ADDRESS MIB` sends that much. Prints what arrived, and how fast.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

const CHUNK: usize = 1 << 18;

/// The byte that belongs at an offset of the stream.
fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn serve(address: &str) -> std::io::Result<bool> {
    let (mut peer, _) = TcpListener::bind(address)?.accept()?;
    let mut buffer = vec![0; CHUNK];
    let (mut total, mut good) = (0u64, true);
    let start = sys::clock::monotonic();
    loop {
        let n = peer.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        // The head of each piece tells a lost, repeated or reordered byte; checking all would measure the check.
        good &= buffer[..n].iter().take(64).zip(total..).all(|(b, at)| *b == pattern(at));
        total += n as u64;
    }
    let seconds = sys::clock::monotonic().saturating_since(start).as_secs_f64();
    let verdict = if good { "intact" } else { "CORRUPTED" };
    println!("received {} MiB, {verdict}, {:.1} Gbit/s", total >> 20, total as f64 * 8e-9 / seconds);
    Ok(good)
}

fn send(address: &str, mib: u64) -> std::io::Result<bool> {
    let mut peer = TcpStream::connect(address)?;
    // The pattern repeats in the chunk only if 2^56 bytes were sent, so a chunk is filled anew each time it is needed.
    let mut chunk = vec![0; CHUNK];
    let mut offset = 0;
    while offset < mib << 20 {
        chunk.iter_mut().zip(offset..).for_each(|(b, at)| *b = pattern(at));
        peer.write_all(&chunk)?;
        offset += CHUNK as u64;
    }
    Ok(true)
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["serve", address] => serve(address),
        ["send", address, mib] => match mib.parse() {
            Ok(mib) => send(address, mib),
            Err(e) => Err(std::io::Error::other(format!("{mib}: {e}"))),
        },
        _ => Err(std::io::Error::other("usage: transfer serve ADDRESS | transfer send ADDRESS MIB")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("transfer: {e}");
            ExitCode::FAILURE
        }
    }
}
