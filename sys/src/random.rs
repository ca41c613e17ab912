//! Random bytes from the kernel, for seeds and identifiers. Who needs many numbers seeds a generator of its own.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `buffer` with random bytes fit for cryptography.
///
/// # Errors
/// Only when the kernel has no `getrandom` (older than 3.17).
pub fn fill(buffer: &mut [u8]) -> std::io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match getrandom(rest, GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A random number, each of its bits a fair coin.
///
/// # Errors
/// As for [`fill`].
pub fn seed() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    fill(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_the_whole_buffer() {
        // More than the 256 bytes that one call is sure to give.
        let mut buffer = vec![0; 70_000];
        fill(&mut buffer).unwrap();
        for chunk in buffer.chunks(64) {
            assert!(chunk.iter().any(|&byte| byte != 0));
        }
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
