//! Captures of real traffic through capture ports: what comes out, and what was counted, against an expectation computed
//! by etherparse and arithmetic, which share no code with the switch.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::path::PathBuf;
use tests::{Switch, Tools, frames, root, wait_for};

/// A frame's headers as etherparse sees them.
struct Seen<'a> {
    packet: Option<SlicedPacket<'a>>,
}

impl<'a> Seen<'a> {
    fn of(frame: &'a [u8]) -> Seen<'a> {
        Seen { packet: SlicedPacket::from_ethernet(frame).ok() }
    }

    fn net(&self) -> Option<&NetSlice<'a>> {
        self.packet.as_ref()?.net.as_ref()
    }

    fn is_arp(&self) -> bool {
        matches!(self.net(), Some(NetSlice::Arp(_)))
    }

    fn is_v4(&self) -> bool {
        matches!(self.net(), Some(NetSlice::Ipv4(_)))
    }

    fn is_v6(&self) -> bool {
        matches!(self.net(), Some(NetSlice::Ipv6(_)))
    }

    fn ttl(&self) -> Option<u8> {
        match self.net()? {
            NetSlice::Ipv4(ip) => Some(ip.header().ttl()),
            NetSlice::Ipv6(ip) => Some(ip.header().hop_limit()),
            NetSlice::Arp(_) => None,
        }
    }

    fn is_fragment(&self) -> bool {
        match self.net() {
            Some(NetSlice::Ipv4(ip)) => ip.header().is_fragmenting_payload(),
            Some(NetSlice::Ipv6(ip)) => ip.is_payload_fragmented(),
            _ => false,
        }
    }

    /// Ports of TCP (`Some(true)`) or UDP, if this is not a fragment.
    fn ports(&self) -> Option<(bool, u16, u16)> {
        match self.packet.as_ref()?.transport.as_ref()? {
            _ if self.is_fragment() => None,
            TransportSlice::Tcp(t) => Some((true, t.source_port(), t.destination_port())),
            TransportSlice::Udp(u) => Some((false, u.source_port(), u.destination_port())),
            _ => None,
        }
    }

    fn is_syn(&self) -> bool {
        match self.packet.as_ref().and_then(|p| p.transport.as_ref()) {
            Some(TransportSlice::Tcp(t)) => t.syn() && !t.ack() && !self.is_fragment(),
            _ => false,
        }
    }
}

fn captures() -> Vec<(String, Vec<Vec<u8>>)> {
    let dir = root().join("tests/captures");
    let mut all: Vec<_> = std::fs::read_dir(&dir)
        .expect("captures")
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "pcap"))
        .map(|p| (p.file_stem().expect("a name").to_string_lossy().into_owned(), frames::read_pcap(&p)))
        .collect();
    all.sort();
    assert!(all.len() >= 5, "{} captures", all.len());
    all
}

/// Frames that a wire could have carried: checksums done, segments cut.
fn complete() -> Vec<(String, Vec<Vec<u8>>)> {
    captures().into_iter().filter(|(name, _)| !name.ends_with("-super")).collect()
}

/// A switch with capture port `in`, which replays these frames when it is added, and ports `out1` to `out3`, which record.
struct Replay {
    switch: Switch,
    sent: usize,
}

impl Replay {
    fn new(flows: &[&str]) -> Replay {
        let switch = Switch::start(&["--disable-system", "--enable-dummy"]);
        let mut line = "ovs-vsctl add-br br0 -- set bridge br0 datapath_type=dummy".to_owned();
        for n in 1..=3 {
            let file = switch.dir().join(format!("out{n}.pcap"));
            let pcap = format!("type=pcap options:tx_pcap={} ofport_request={n}", file.display());
            line.push_str(&format!(" -- add-port br0 out{n} -- set Interface out{n} {pcap}"));
        }
        switch.run(&line);
        switch.flows("br0", flows);
        Replay { switch, sent: 0 }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.switch.dir().join(name)
    }

    /// Replays frames and waits until every one was received.
    fn play(&mut self, all: &[Vec<u8>]) {
        self.sent += 1;
        let file = self.file(&format!("in{}.pcap", self.sent));
        frames::write_pcap(&file, all);
        let pcap = format!("type=pcap options:rx_pcap={} ofport_request=9", file.display());
        self.switch
            .run(&format!("ovs-vsctl --if-exists del-port in -- add-port br0 in -- set Interface in {pcap}"));
        wait_for("all frames are received", || {
            self.switch.port_counters("br0", "in")["rx pkts"] == all.len() as u64
        });
        let bytes: usize = all.iter().map(Vec::len).sum();
        assert_eq!(self.switch.port_counters("br0", "in")["rx bytes"], bytes as u64);
    }

    /// What left on a port; its counters must say the same.
    fn left(&self, n: u16) -> Vec<Vec<u8>> {
        let counters = self.switch.port_counters("br0", &format!("out{n}"));
        let mut left = vec![];
        wait_for("the file is written", || {
            left = frames::read_pcap(&self.file(&format!("out{n}.pcap")));
            left.len() as u64 >= counters["tx pkts"]
        });
        assert_eq!(left.len() as u64, counters["tx pkts"]);
        assert_eq!(left.iter().map(Vec::len).sum::<usize>() as u64, counters["tx bytes"]);
        left
    }

    /// Packets that the rule with this cookie has counted.
    fn counted(&self, cookie: u32) -> u64 {
        self.switch.run("ovs-appctl revalidator/wait");
        let text = self.switch.run(&format!("ovs-ofctl dump-flows br0 cookie={cookie:#x}/-1"));
        let number = text.split("n_packets=").nth(1).and_then(|t| t.split(',').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no rule {cookie:#x}: {text}"))
    }
}

#[track_caller]
fn assert_same(name: &str, left: &[Vec<u8>], expected: &[Vec<u8>]) {
    for (i, (a, b)) in left.iter().zip(expected).enumerate() {
        assert_eq!(frames::hex(a), frames::hex(b), "{name}: frame {i}");
    }
    assert_eq!(left.len(), expected.len(), "{name}");
}

#[test]
fn flooded_captures_arrive_whole_everywhere() {
    for (name, all) in complete() {
        let mut replay = Replay::new(&["actions=FLOOD"]);
        replay.play(&all);
        for n in 1..=3 {
            assert_same(&name, &replay.left(n), &all);
        }
    }
}

/// Learning: a frame to a station that has not been heard on this port floods, and nothing goes back where it came from.
#[test]
fn stations_of_one_port_do_not_hear_themselves() {
    for (name, all) in complete() {
        let mut replay = Replay::new(&["actions=NORMAL"]);
        replay.play(&all);
        let mut heard = std::collections::BTreeSet::new();
        let mut expected = vec![];
        for frame in &all {
            // All of them are behind one port, so a frame to somebody heard stays there; IEEE 802.1D reserves addresses.
            let (dst, src) = (frame[..6].to_vec(), frame[6..12].to_vec());
            if src[0] & 1 == 0 {
                heard.insert(src);
            }
            let reserved = dst[..5] == [0x01, 0x80, 0xc2, 0, 0] && dst[5] < 0x10;
            if (dst[0] & 1 == 1 || !heard.contains(&dst)) && !reserved {
                expected.push(frame.clone());
            }
        }
        for n in 1..=3 {
            assert_same(&name, &replay.left(n), &expected);
        }
    }
}

#[test]
fn rules_pick_the_frames_that_etherparse_would() {
    type Picks = fn(&Seen<'_>, &[u8]) -> bool;
    // A match in ovs-ofctl's words, and the same said of what etherparse reads.
    let cases: [(&str, Picks); 14] = [
        ("arp", |s, _| s.is_arp()),
        ("ip", |s, _| s.is_v4()),
        ("ipv6", |s, _| s.is_v6()),
        ("tcp", |s, f| s.is_v4() && f[23] == 6),
        ("udp6", |s, _| s.is_v6() && matches!(s.ports(), Some((false, ..)))),
        ("tcp,tp_src=5001", |s, _| s.is_v4() && matches!(s.ports(), Some((true, 5001, _)))),
        ("tcp,tp_dst=5001", |s, _| s.is_v4() && matches!(s.ports(), Some((true, _, 5001)))),
        ("udp,tp_src=0x8000/0x8000", |s, _| s.is_v4() && matches!(s.ports(), Some((false, 0x8000.., _)))),
        ("tcp,tcp_flags=+syn-ack", |s, _| s.is_v4() && s.is_syn()),
        ("tcp6,tcp_flags=+syn-ack", |s, _| s.is_v6() && s.is_syn()),
        ("ip,nw_frag=yes", |s, _| s.is_v4() && s.is_fragment()),
        ("ipv6,nw_frag=no", |s, _| s.is_v6() && !s.is_fragment()),
        ("ip,nw_ttl=64", |s, _| s.is_v4() && s.ttl() == Some(64)),
        ("dl_dst=01:00:00:00:00:00/01:00:00:00:00:00", |_, f| f[0] & 1 == 1),
    ];
    for (name, all) in complete() {
        for (rule, picks) in cases {
            let mut replay = Replay::new(&[
                &format!("cookie=0x7,priority=9,{rule},actions=output:1"),
                "cookie=0x8,priority=0,actions=output:2",
            ]);
            replay.play(&all);
            let (picked, rest): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|f| picks(&Seen::of(f), f));
            assert_same(&format!("{name}: {rule}"), &replay.left(1), &picked);
            assert_same(&format!("{name}: not {rule}"), &replay.left(2), &rest);
            assert_eq!(
                (replay.counted(7), replay.counted(8)),
                (picked.len() as u64, rest.len() as u64),
                "{name}: {rule}"
            );
            assert_eq!(replay.left(3).len(), 0);
        }
    }
}

#[test]
fn a_tag_is_pushed_and_taken_off() {
    for (name, all) in complete() {
        let mut replay =
            Replay::new(&["in_port=9,actions=output:1,mod_vlan_vid:10,output:2,strip_vlan,output:3"]);
        replay.play(&all);
        let tagged: Vec<_> = all.iter().map(|f| frames::tagged(f, 0x8100, 10)).collect();
        assert_same(&name, &replay.left(1), &all);
        assert_same(&name, &replay.left(2), &tagged);
        assert_same(&name, &replay.left(3), &all);
        // The tagged ones back through an access port of that VLAN.
        let mut replay = Replay::new(&["actions=NORMAL"]);
        replay.switch.run("ovs-vsctl set Port out1 tag=10 -- set Port out2 tag=11");
        let shout: Vec<_> = tagged.iter().map(|f| [&[0xff; 6], &f[6..]].concat()).collect();
        replay.play(&shout);
        let bare: Vec<_> = all.iter().map(|f| [&[0xff; 6], &f[6..]].concat()).collect();
        assert_same(&name, &replay.left(1), &bare);
        assert_same(&name, &replay.left(2), &[]);
        assert_same(&name, &replay.left(3), &shout);
    }
}

/// `dec_ttl` and new addresses: the header checksum is right, and so is the transport's; nothing else changes.
#[test]
fn rewritten_packets_have_right_checksums() {
    for (name, all) in complete() {
        let mut replay = Replay::new(&[
            "priority=9,ip,actions=dec_ttl,mod_nw_dst:192.0.2.77,output:1",
            "priority=9,ipv6,actions=dec_ttl,set_field:2001:db8::77->ipv6_dst,output:1",
            "priority=0,actions=output:2",
        ]);
        replay.play(&all);
        // Where the TTL runs out there is nobody to tell, so the packet ends.
        let rewritten: Vec<&Vec<u8>> =
            all.iter().filter(|f| Seen::of(f).ttl().is_some_and(|t| t > 1)).collect();
        let left = replay.left(1);
        assert_eq!(left.len(), rewritten.len(), "{name}");
        let mut verified = 0;
        for (new, old) in left.iter().zip(rewritten) {
            let (a, b) = (Seen::of(new), Seen::of(old));
            assert_eq!(a.ttl(), b.ttl().map(|t| t - 1), "{name}");
            assert_eq!(new.len(), old.len());
            match a.net() {
                Some(NetSlice::Ipv4(ip)) => {
                    let header = ip.header().to_header();
                    assert_eq!(header.destination, [192, 0, 2, 77]);
                    assert_eq!(header.header_checksum, header.calc_header_checksum(), "{name}");
                    verified +=
                        usize::from(transport_is_right(&a, |t| t.v4(header.source, header.destination)));
                }
                Some(NetSlice::Ipv6(ip)) => {
                    let header = ip.header().to_header();
                    assert_eq!(header.destination[..4], [0x20, 0x01, 0x0d, 0xb8]);
                    verified +=
                        usize::from(transport_is_right(&a, |t| t.v6(header.source, header.destination)));
                }
                _ => panic!("{name}: no longer IP: {}", frames::hex(new)),
            }
        }
        assert!(verified > 0, "{name}: no transport checksum was looked at");
    }
}

/// A transport header and what it covers, to be summed under one pair of addresses or another.
enum Transport<'a> {
    Tcp(etherparse::TcpHeader, &'a [u8]),
    Udp(etherparse::UdpHeader, &'a [u8]),
    Icmp6(etherparse::Icmpv6Header, &'a [u8]),
}

impl Transport<'_> {
    fn v4(&self, from: [u8; 4], to: [u8; 4]) -> Option<u16> {
        match self {
            Transport::Tcp(h, data) => h.calc_checksum_ipv4_raw(from, to, data).ok(),
            Transport::Udp(h, data) => h.calc_checksum_ipv4_raw(from, to, data).ok(),
            Transport::Icmp6(..) => None,
        }
    }

    fn v6(&self, from: [u8; 16], to: [u8; 16]) -> Option<u16> {
        match self {
            Transport::Tcp(h, data) => h.calc_checksum_ipv6_raw(from, to, data).ok(),
            Transport::Udp(h, data) => h.calc_checksum_ipv6_raw(from, to, data).ok(),
            Transport::Icmp6(h, data) => h.icmp_type.calc_checksum(from, to, data).ok(),
        }
    }

    fn checksum(&self) -> u16 {
        match self {
            Transport::Tcp(h, _) => h.checksum,
            Transport::Udp(h, _) => h.checksum,
            Transport::Icmp6(h, _) => h.checksum,
        }
    }
}

/// Compares a transport checksum with etherparse's; whether there was one.
fn transport_is_right(seen: &Seen<'_>, sum: impl Fn(&Transport<'_>) -> Option<u16>) -> bool {
    if seen.is_fragment() {
        return false;
    }
    let transport = match seen.packet.as_ref().and_then(|p| p.transport.as_ref()) {
        Some(TransportSlice::Tcp(t)) => Transport::Tcp(t.to_header(), t.payload()),
        Some(TransportSlice::Udp(u)) => Transport::Udp(u.to_header(), u.payload()),
        Some(TransportSlice::Icmpv6(i)) => Transport::Icmp6(i.header(), i.payload()),
        _ => return false,
    };
    match sum(&transport) {
        Some(right) => {
            assert_eq!(transport.checksum(), right);
            true
        }
        None => false,
    }
}

/// A file that is no capture is refused with its name, and the port has an error.
#[test]
fn a_file_that_is_no_capture_is_an_error() {
    let switch = Switch::start(&["--disable-system", "--enable-dummy"]);
    switch.run("ovs-vsctl add-br br0 -- set bridge br0 datapath_type=dummy");
    let file = switch.dir().join("text.pcap");
    std::fs::write(&file, "this is not a capture, but long enough for a header of one").expect("a file");
    for path in [file.display().to_string(), switch.dir().join("nofile.pcap").display().to_string()] {
        let add = format!("ovs-vsctl add-port br0 bad -- set Interface bad type=pcap options:rx_pcap={path}");
        let told = switch.try_run(&add).stderr;
        assert!(told.contains(&path), "{told}");
        let error = switch.run("ovs-vsctl get Interface bad error");
        assert!(error.contains(&path), "{error}");
        switch.run("ovs-vsctl del-port bad");
    }
    // One that ends in the middle of a frame gives the frames before.
    let good = frames::experimental(frames::mac(1), frames::mac(2), b"whole");
    let cut = switch.dir().join("cut.pcap");
    frames::write_pcap(&cut, &[good.clone(), good]);
    let bytes = std::fs::read(&cut).expect("a file");
    std::fs::write(&cut, &bytes[..bytes.len() - 7]).expect("a file");
    switch.run(&format!(
        "ovs-vsctl add-port br0 cut -- set Interface cut type=pcap options:rx_pcap={}",
        cut.display()
    ));
    wait_for("the first frame", || switch.port_counters("br0", "cut")["rx pkts"] == 1);
    switch.run("ovs-appctl version");
}
