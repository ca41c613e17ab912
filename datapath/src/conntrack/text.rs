//! Connections as `ovs-appctl dpctl/dump-conntrack` prints them.

use super::dump::ConnectionRecord;
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

/// How much of a connection a line tells.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LineForm {
    /// `-m`: both ends' TCP states, and what only Linux's tracker has, as zeros.
    pub more: bool,
    /// `-s`: the time left.
    pub statistics: bool,
}

/// A connection with how it is to be printed.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLine<'a> {
    record: &'a ConnectionRecord,
    form: LineForm,
}

impl ConnectionRecord {
    /// Its line without the end of the line.
    pub fn line(&self, form: LineForm) -> ConnectionLine<'_> {
        ConnectionLine { record: self, form }
    }
}

/// The alternate form (`{:#}`) is that of `dump-conntrack -s`.
impl fmt::Display for ConnectionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = LineForm { more: false, statistics: f.alternate() };
        self.line(form).fmt(f)
    }
}

impl fmt::Display for ConnectionLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConnectionLine { record, form } = self;
        protocol(f, record.original.protocol())?;
        f.write_str(",orig=")?;
        tuple(f, &record.original)?;
        f.write_str(",reply=")?;
        tuple(f, &record.reply)?;
        if form.more {
            f.write_str(",id=0")?;
        }
        let zone = record.original.zone().0;
        if zone != 0 {
            write!(f, ",zone={zone}")?;
        }
        if form.more {
            f.write_str(",status=0")?;
        }
        if form.statistics {
            write!(f, ",timeout={}", record.timeout_secs)?;
        }
        if record.mark != 0 {
            write!(f, ",mark={}", record.mark)?;
        }
        if record.label != 0 {
            write!(f, ",labels={:#x}", record.label)?;
        }
        match record.tcp {
            None => {}
            Some((original, reply)) if form.more => write!(
                f,
                ",protoinfo=(state_orig={original},state_reply={reply},flags_orig=0,flags_reply=0)"
            )?,
            Some((original, reply)) => {
                write!(f, ",protoinfo=(state={})", TcpState::merged(original, reply))?;
            }
        }
        if let Some(alg) = record.alg {
            write!(f, ",helper={}", alg.name())?;
        }
        if let Some(parent) = record.parent.as_ref().filter(|_| form.more) {
            f.write_str(",parent=")?;
            tuple(f, parent)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tuple::{TupleFields, Zone};
    use super::*;
    use crate::conntrack::Alg;

    fn tcp() -> ConnectionRecord {
        let (src, dst) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let fields = TupleFields { zone: Zone(5), protocol: 6, src, dst, src_port: 7, dst_port: 8 };
        let original = Tuple::new(fields);
        ConnectionRecord {
            original,
            reply: original.reversed(),
            mark: 42,
            label: 0x1234,
            timeout_secs: 29,
            tcp: Some((TcpState::SynSent, TcpState::Closed)),
            alg: Some(Alg::Ftp),
            parent: None,
            replied: false,
        }
    }

    /// As ovs-vswitchd 3.1 printed them.
    #[test]
    fn lines() {
        let ends = "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=7,dport=8),reply=(src=10.0.0.2,dst=10.0.0.1,sport=8,dport=7)";
        let line = |more, statistics| tcp().line(LineForm { more, statistics }).to_string();
        let rest = "mark=42,labels=0x1234,protoinfo=(state=SYN_SENT),helper=ftp";
        assert_eq!(line(false, false), format!("{ends},zone=5,{rest}"));
        assert_eq!(line(false, true), format!("{ends},zone=5,timeout=29,{rest}"));
        let rest = "mark=42,labels=0x1234,protoinfo=(state_orig=SYN_SENT,state_reply=CLOSED,flags_orig=0,flags_reply=0),helper=ftp";
        assert_eq!(line(true, true), format!("{ends},id=0,zone=5,status=0,timeout=29,{rest}"));
        // The connection that it is related to is told with -m only.
        let related = |more| {
            let record = ConnectionRecord { parent: Some(tcp().original), ..tcp() };
            record.line(LineForm { more, statistics: false }).to_string()
        };
        let parent = ",parent=(src=10.0.0.1,dst=10.0.0.2,sport=7,dport=8)";
        assert_eq!(related(true), line(true, false) + parent);
        assert_eq!(related(false), line(false, false));
    }
}
