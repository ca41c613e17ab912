//! A checked reader and a writer for big-endian bytes. Nothing else in the crate takes bytes from outside apart.

use crate::error::OfError;

/// Reads from a slice; reading beyond its end is the error that the reader was made with.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    short: OfError,
}

impl<'a> Reader<'a> {
    /// A reader that answers `short` where bytes are missing.
    pub(crate) fn new(bytes: &'a [u8], short: OfError) -> Self {
        Reader { bytes, short }
    }

    /// The same bytes with another error.
    pub(crate) fn or(self, short: OfError) -> Self {
        Reader { short, ..self }
    }

    /// The error for lengths that are no multiple of 8: the message's length is then wrong somewhere, says OVS; for one
    /// that is too large, the reader's own.
    pub(crate) fn or_bad_len(&self) -> OfError {
        let len = self.bytes.get(2..4).map(|b| b.iter().fold(0, |v, x| v << 8 | *x as usize));
        match len {
            Some(n) if n >= 8 && n % 8 == 0 => self.short,
            _ => OfError::BadRequestBadLen,
        }
    }

    /// Bytes left.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes `n` bytes.
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], OfError> {
        let (head, tail) = self.bytes.split_at_checked(n).ok_or(self.short)?;
        self.bytes = tail;
        Ok(head)
    }

    /// Takes `n` bytes as a reader of their own.
    pub(crate) fn sub(&mut self, n: usize) -> Result<Reader<'a>, OfError> {
        Ok(Reader { bytes: self.take(n)?, short: self.short })
    }

    /// Takes everything.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Looks at everything without taking it.
    pub(crate) fn peek(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn skip(&mut self, n: usize) -> Result<(), OfError> {
        self.take(n).map(|_| ())
    }

    /// Skips up to `n` bytes: padding that may be missing at the end.
    pub(crate) fn skip_padding(&mut self, n: usize) {
        let n = n.min(self.bytes.len());
        self.bytes = self.bytes.get(n..).unwrap_or_default();
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], OfError> {
        let (head, tail) = self.bytes.split_first_chunk::<N>().ok_or(self.short)?;
        self.bytes = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, OfError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, OfError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, OfError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, OfError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A number of `n` bytes, at most 16.
    pub(crate) fn number(&mut self, n: usize) -> Result<u128, OfError> {
        Ok(self.take(n)?.iter().fold(0, |value, byte| value << 8 | *byte as u128))
    }

    /// A 48-bit address.
    pub(crate) fn mac(&mut self) -> Result<u64, OfError> {
        Ok(self.number(6)? as u64)
    }

    /// A text in a field of `n` bytes, ended by a NUL or the field's end; what is not UTF-8 is replaced.
    pub(crate) fn text(&mut self, n: usize) -> Result<String, OfError> {
        let field = self.take(n)?;
        let text = field.split(|b| *b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The short-read error if anything is left.
    pub(crate) fn end(&self) -> Result<(), OfError> {
        if self.is_empty() { Ok(()) } else { Err(self.short) }
    }
}

/// Appends to a vector.
pub(crate) trait Put {
    fn put_u8(&mut self, v: u8);
    fn put(&mut self, bytes: &[u8]);
    fn zeros(&mut self, n: usize);
    fn bytes_len(&self) -> usize;

    fn put_u16(&mut self, v: u16) {
        self.put(&v.to_be_bytes());
    }
    fn put_u32(&mut self, v: u32) {
        self.put(&v.to_be_bytes());
    }
    fn put_u64(&mut self, v: u64) {
        self.put(&v.to_be_bytes());
    }

    /// The low `n` bytes of a number, at most 16.
    fn put_number(&mut self, v: u128, n: usize) {
        let bytes = v.to_be_bytes();
        self.put(bytes.get(16 - n.min(16)..).unwrap_or_default());
    }

    fn put_mac(&mut self, v: u64) {
        self.put_number(v as u128, 6);
    }

    /// A text in a field of `n` bytes that always ends with a NUL, cut at a character boundary.
    fn put_text(&mut self, text: &str, n: usize) {
        let mut end = text.len().min(n.saturating_sub(1));
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let bytes = text.as_bytes().get(..end).unwrap_or_default();
        self.put(bytes);
        self.zeros(n - bytes.len());
    }

    /// Zeros until the length since `start` is a multiple of 8.
    fn pad8(&mut self, start: usize) {
        let n = self.bytes_len() - start;
        self.zeros(n.next_multiple_of(8) - n);
    }
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, v: u8) {
        self.push(v);
    }
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    fn zeros(&mut self, n: usize) {
        self.resize(self.len() + n, 0);
    }
    fn bytes_len(&self) -> usize {
        self.len()
    }
}

/// Writes a 16-bit number over the bytes at `at`, which exist.
pub(crate) fn patch_u16(out: &mut [u8], at: usize, v: u16) {
    if let Some(field) = out.get_mut(at..at + 2) {
        field.copy_from_slice(&v.to_be_bytes());
    }
}

/// Writes at `at` the length of everything since `start`, if it fits.
pub(crate) fn patch_len(out: &mut [u8], start: usize, at: usize) -> Result<(), TooLong> {
    let len = u16::try_from(out.len() - start).map_err(|_| TooLong)?;
    patch_u16(out, at, len);
    Ok(())
}

/// A length does not fit its 16 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooLong;
