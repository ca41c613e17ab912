//! TFTP: a request to the server's well-known port is answered from a port of the server's choice (RFC 1350 section 4).

/// Whether a UDP payload asks to read or to write a file: an opcode, and a name and a mode that each end in a zero byte.
pub(super) fn is_request(payload: &[u8]) -> bool {
    let Some((&[0, 1 | 2], rest)) = payload.split_first_chunk() else { return false };
    let mut texts = rest.split(|b| *b == 0);
    let name = texts.next().is_some_and(|name| !name.is_empty());
    let mode = texts.next().is_some_and(|mode| !mode.is_empty());
    // Both ended: something, if only nothing, follows the second zero.
    name && mode && texts.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert!(is_request(b"\0\x01file\0octet\0"));
        assert!(is_request(b"\0\x02file\0netascii\0blksize\x001428\0"));
        for bad in [
            &b""[..],
            b"\0",
            b"\0\x01",
            b"\0\x01file",
            b"\0\x01file\0",
            b"\0\x01file\0octet",
            b"\0\x03file\0octet\0",
            b"\0\x01\0octet\0",
        ] {
            assert!(!is_request(bad), "{bad:?}");
        }
    }
}
