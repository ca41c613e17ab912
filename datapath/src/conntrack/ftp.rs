//! FTP's control lines that agree on a data connection: `PORT` and `EPRT` of the client, the replies 227 and 229 of the
//! server (RFC 959 sections 4.1.2 and 4.2, RFC 2428).
//!
//! Pure text: an address and a port, and where in the payload they stand. A line is read only if it begins the segment and
//! ends in it, which is how clients and servers send them; anything else is no announcement. Every number has a limit
//! while it is read, so no length comes from the text.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

/// Longest line that is read, in bytes.
pub(super) const LINE_MAX: usize = 512;
/// Longest text of an address: an IPv6 address with an embedded IPv4 one.
const ADDRESS_TEXT_MAX: usize = 45;

/// How an address and a port are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// `h1,h2,h3,h4,p1,p2`.
    Commas,
    /// `dFdADpD`: family, address and port between delimiters.
    Extended(u8),
    /// A port only.
    Port,
}

/// An announced end of a data connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Announcement {
    /// The address; `None` where the form has none (229): it is that of the control connection.
    pub address: Option<IpAddr>,
    pub port: u16,
    /// Where the text that names both stands in the payload.
    pub place: Range<usize>,
    form: Form,
}

impl Announcement {
    /// What a client says: `PORT` or `EPRT`.
    pub fn of_client(payload: &[u8]) -> Option<Announcement> {
        let line = line_of(payload)?;
        let (verb, rest) = line.split_at_checked(5)?;
        let mut text = Text { bytes: rest, at: verb.len() };
        text.skip_spaces();
        if verb.eq_ignore_ascii_case(b"PORT ") {
            let start = text.at;
            let (address, port) = text.commas()?;
            text.end_of_line()?;
            return Some(Announcement {
                address: Some(address.into()),
                port,
                place: start..text.at,
                form: Form::Commas,
            });
        }
        if verb.eq_ignore_ascii_case(b"EPRT ") {
            return text.extended();
        }
        None
    }

    /// What a server says: a reply 227 or 229.
    pub fn of_server(payload: &[u8]) -> Option<Announcement> {
        let line = line_of(payload)?;
        let (code, rest) = line.split_at_checked(4)?;
        match code {
            b"227 " => {
                // The text before the numbers is free (RFC 1123 section 4.1.2.6).
                let skipped = rest.iter().position(u8::is_ascii_digit)?;
                let mut text = Text { bytes: rest.get(skipped..)?, at: code.len() + skipped };
                let start = text.at;
                let (address, port) = text.commas()?;
                Some(Announcement {
                    address: Some(address.into()),
                    port,
                    place: start..text.at,
                    form: Form::Commas,
                })
            }
            b"229 " => {
                let skipped = rest.iter().position(|b| *b == b'(')? + 1;
                let mut text = Text { bytes: rest.get(skipped..)?, at: code.len() + skipped };
                let delimiter = text.delimiter()?;
                text.expect(delimiter)?;
                text.expect(delimiter)?;
                let start = text.at;
                let port = text.number(5, u16::MAX.into())? as u16;
                let place = start..text.at;
                text.expect(delimiter)?;
                text.expect(b')')?;
                Some(Announcement { address: None, port, place, form: Form::Port })
            }
            _ => None,
        }
    }

    /// The text that names another end in the same form. `None` if the form cannot (IPv6 with commas).
    pub fn rewritten(&self, address: IpAddr, port: u16) -> Option<String> {
        let mut text = String::new();
        match (self.form, address) {
            (Form::Commas, IpAddr::V4(v4)) => {
                let [a, b, c, d] = v4.octets();
                let [high, low] = port.to_be_bytes();
                write!(text, "{a},{b},{c},{d},{high},{low}").ok()?;
            }
            (Form::Commas, IpAddr::V6(_)) => return None,
            (Form::Extended(delimiter), address) => {
                let d = char::from(delimiter);
                let family = if address.is_ipv6() { 2 } else { 1 };
                write!(text, "{d}{family}{d}{address}{d}{port}{d}").ok()?;
            }
            (Form::Port, _) => write!(text, "{port}").ok()?,
        }
        Some(text)
    }
}

/// The one line that a payload is, without its end.
fn line_of(payload: &[u8]) -> Option<&[u8]> {
    let line = payload.get(..payload.len().min(LINE_MAX))?;
    let end = line.iter().position(|b| *b == b'\n')?;
    let line = line.get(..end)?;
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// Text that is read from its beginning.
struct Text<'a> {
    bytes: &'a [u8],
    /// Place of the first byte in the payload.
    at: usize,
}

impl Text<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        self.at += 1;
        Some(*first)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    fn skip_spaces(&mut self) {
        while self.bytes.first() == Some(&b' ') {
            self.next();
        }
    }

    fn end_of_line(&self) -> Option<()> {
        self.bytes.iter().all(|b| *b == b' ').then_some(())
    }

    /// A delimiter of RFC 2428: printable, and no digit, or the port could not be told from it.
    fn delimiter(&mut self) -> Option<u8> {
        self.next().filter(|d| (33..=126).contains(d) && !d.is_ascii_digit())
    }

    /// A decimal number of at most `digits` digits that is at most `max`.
    fn number(&mut self, digits: usize, max: u32) -> Option<u32> {
        let count = self.bytes.iter().take(digits + 1).take_while(|b| b.is_ascii_digit()).count();
        if count == 0 || count > digits {
            return None;
        }
        let mut value = 0;
        for _ in 0..count {
            value = value * 10 + u32::from(self.next()? - b'0');
        }
        (value <= max).then_some(value)
    }

    /// `h1,h2,h3,h4,p1,p2`.
    fn commas(&mut self) -> Option<(Ipv4Addr, u16)> {
        let mut numbers = [0u8; 6];
        for (index, number) in numbers.iter_mut().enumerate() {
            if index != 0 {
                self.expect(b',')?;
            }
            *number = self.number(3, 255)? as u8;
        }
        let [a, b, c, d, high, low] = numbers;
        Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
    }

    /// `dFdADpD`, to the end of the line.
    fn extended(&mut self) -> Option<Announcement> {
        let start = self.at;
        let delimiter = self.delimiter()?;
        let family = self.number(1, 2)?;
        self.expect(delimiter)?;
        let len = self.bytes.iter().take(ADDRESS_TEXT_MAX + 1).position(|b| *b == delimiter)?;
        let address: IpAddr = std::str::from_utf8(self.bytes.get(..len)?).ok()?.parse().ok()?;
        self.bytes = self.bytes.get(len..)?;
        self.at += len;
        self.expect(delimiter)?;
        let port = self.number(5, u16::MAX.into())? as u16;
        self.expect(delimiter)?;
        self.end_of_line()?;
        // RFC 2428 section 2: none that an address is written with, or it could not be replaced by another.
        let is_of_address = match address {
            IpAddr::V4(_) => delimiter == b'.',
            IpAddr::V6(_) => delimiter.is_ascii_hexdigit() || matches!(delimiter, b':' | b'.'),
        };
        if is_of_address || address.is_ipv6() != (family == 2) {
            return None;
        }
        let place = start..self.at;
        Some(Announcement { address: Some(address), port, place, form: Form::Extended(delimiter) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(line: &str) -> Option<(Option<String>, u16, String)> {
        said(line, Announcement::of_client(line.as_bytes())?)
    }

    fn server(line: &str) -> Option<(Option<String>, u16, String)> {
        said(line, Announcement::of_server(line.as_bytes())?)
    }

    fn said(line: &str, a: Announcement) -> Option<(Option<String>, u16, String)> {
        Some((a.address.map(|a| a.to_string()), a.port, line[a.place].to_owned()))
    }

    /// The examples of RFC 959 and RFC 2428, and what servers in use write.
    #[test]
    fn announcements() {
        let ip = |s: &str| Some(s.to_owned());
        let port = |s: &str| s.to_owned();
        assert_eq!(
            client("PORT 132,235,1,2,24,131\r\n"),
            Some((ip("132.235.1.2"), 6275, port("132,235,1,2,24,131")))
        );
        assert_eq!(client("port 1,2,3,4,0,21\n"), Some((ip("1.2.3.4"), 21, port("1,2,3,4,0,21"))));
        assert_eq!(
            client("EPRT |1|132.235.1.2|6275|\r\n"),
            Some((ip("132.235.1.2"), 6275, port("|1|132.235.1.2|6275|")))
        );
        assert_eq!(
            client("EPRT |2|1080::8:800:200C:417A|5282|\r\n"),
            Some((ip("1080::8:800:200c:417a"), 5282, port("|2|1080::8:800:200C:417A|5282|")))
        );
        assert_eq!(
            server("227 Entering Passive Mode (10,0,0,2,8,1).\r\n"),
            Some((ip("10.0.0.2"), 2049, port("10,0,0,2,8,1")))
        );
        assert_eq!(server("227 =10,0,0,2,8,1\r\n"), Some((ip("10.0.0.2"), 2049, port("10,0,0,2,8,1"))));
        assert_eq!(
            server("229 Entering Extended Passive Mode (|||6446|)\r\n"),
            Some((None, 6446, port("6446")))
        );
    }

    #[test]
    fn what_is_no_announcement() {
        for line in [
            "",
            "PORT",
            "PORT ",
            "PORT \r\n",
            "PORT 1,2,3,4,5\r\n",
            "PORT 1,2,3,4,5,256\r\n",
            "PORT 1,2,3,4,5,6",
            "PORT 1,2,3,4,5,6,7\r\n",
            "PORT 0001,2,3,4,5,6\r\n",
            "PORT 1,2,3,4,5,6 x\r\n",
            "XPORT 1,2,3,4,5,6\r\n",
            "EPRT |3|1.2.3.4|5|\r\n",
            "EPRT |2|1.2.3.4|5|\r\n",
            "EPRT |1|1.2.3.4|65536|\r\n",
            "EPRT |1|1.2.3.4|5\r\n",
            "EPRT |1||5|\r\n",
            "EPRT 111.2.3.4151\r\n",
            "EPRT a2a::1a5a\r\n",
            "EPRT .2.::1.5.\r\n",
            "EPRT |1|1.2.3.4|99999999999999999999|\r\n",
        ] {
            assert_eq!(client(line), None, "{line:?}");
        }
        // CVE-2026-34956: an address longer than a byte can count.
        assert_eq!(client(&format!("EPRT |2|{}|5|\r\n", "1".repeat(300))), None);
        assert_eq!(client(&format!("PORT {}1,2,3,4,5,6\r\n", " ".repeat(600))), None);
        for line in [
            "229 x (|||0x10|)\r\n",
            "229 (||6446|)\r\n",
            "229 |||6446|\r\n",
            "227 \r\n",
            "228 (1,2,3,4,5,6)\r\n",
        ] {
            assert_eq!(server(line), None, "{line:?}");
        }
    }

    #[test]
    fn rewriting_keeps_the_form() {
        let say = |line: &str, to: &str, port| {
            let a = Announcement::of_client(line.as_bytes()).or(Announcement::of_server(line.as_bytes()))?;
            a.rewritten(to.parse().unwrap(), port)
        };
        assert_eq!(
            say("PORT 1,2,3,4,5,6\r\n", "192.168.100.200", 65_535).as_deref(),
            Some("192,168,100,200,255,255")
        );
        assert_eq!(say("EPRT !1!1.2.3.4!5!\r\n", "10.0.0.1", 7).as_deref(), Some("!1!10.0.0.1!7!"));
        assert_eq!(say("EPRT |2|::1|5|\r\n", "2001:db8::2", 7).as_deref(), Some("|2|2001:db8::2|7|"));
        assert_eq!(say("229 (|||5|)\r\n", "10.0.0.1", 7).as_deref(), Some("7"));
        assert_eq!(say("PORT 1,2,3,4,5,6\r\n", "::1", 7), None);
    }
}
