//! Connections as `ovs-appctl dpctl/dump-conntrack` prints them.

use super::dump::ConnectionInfo;
use super::tcp::TcpState;
use super::tuple::Tuple;
use packet::wire::*;
use std::fmt;

/// Writes the name of an IP protocol, or its number.
fn protocol(f: &mut fmt::Formatter<'_>, protocol: u8) -> fmt::Result {
    match protocol {
        PROTO_ICMP => f.write_str("icmp"),
        PROTO_IGMP => f.write_str("igmp"),
        PROTO_TCP => f.write_str("tcp"),
        PROTO_UDP => f.write_str("udp"),
        33 => f.write_str("dccp"),
        PROTO_ICMPV6 => f.write_str("icmpv6"),
        PROTO_SCTP => f.write_str("sctp"),
        136 => f.write_str("udplite"),
        number => write!(f, "{number}"),
    }
}

fn tuple(f: &mut fmt::Formatter<'_>, tuple: &Tuple) -> fmt::Result {
    let t = tuple.fields();
    write!(f, "(src={},dst={}", t.src, t.dst)?;
    if tuple.is_icmp() {
        let [kind, code] = t.dst_port.to_be_bytes();
        write!(f, ",id={},type={kind},code={code})", t.src_port)
    } else {
        write!(f, ",sport={},dport={})", t.src_port, t.dst_port)
    }
}

/// One line without its end. The alternate form (`{:#}`) is that of `dump-conntrack -s`, with the time left.
impl fmt::Display for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        protocol(f, self.original.protocol())?;
        f.write_str(",orig=")?;
        tuple(f, &self.original)?;
        f.write_str(",reply=")?;
        tuple(f, &self.reply)?;
        let zone = self.original.zone().0;
        if zone != 0 {
            write!(f, ",zone={zone}")?;
        }
        if f.alternate() {
            write!(f, ",timeout={}", self.timeout_secs)?;
        }
        if self.mark != 0 {
            write!(f, ",mark={}", self.mark)?;
        }
        if self.label != 0 {
            write!(f, ",labels={:#x}", self.label)?;
        }
        if let Some((original, reply)) = self.tcp {
            write!(f, ",protoinfo=(state={})", TcpState::merged(original, reply))?;
        }
        if let Some(alg) = self.alg {
            write!(f, ",helper={}", alg.name())?;
        }
        if let Some(parent) = &self.parent {
            f.write_str(",parent=")?;
            tuple(f, parent)?;
        }
        Ok(())
    }
}
