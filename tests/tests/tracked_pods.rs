//! Groups, meters and tracked connections between pods with real devices: what is chosen follows the links, what is metered
//! is seen by the receiver, and what is agreed on in a control connection passes through a translation.
//!
//! Datagrams of a port stay in order, so "nothing came" is always told by something sent later that did.

use base::Instant;
use etherparse::{IpEcn, IpHeaders, IpNumber, Ipv4Header, Ipv4HeaderSlice, PacketBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use tests::frames::mac;
use tests::traffic;
use tests::wire::Wire;
use tests::{DAEMON_WAIT_MAX, Namespace, Switch, Tools, wait_for};

/// The MAC address that pods have for what is not on their network.
const GATEWAY: &str = "02:00:00:00:00:fe";
const PORT: u16 = 7_000;

/// A switch with pods pod1 (10.1.0.1), pod2, … on br0. All but the first have 10.96.0.1 as well, which the first reaches by
/// way of [`GATEWAY`].
struct Lab {
    switch: Switch,
    pods: Vec<Namespace>,
}

impl Lab {
    fn start(pods: u8) -> Lab {
        let switch = Switch::start(&[]);
        switch.run("ovs-vsctl add-br br0");
        let pods: Vec<Namespace> =
            (1..=pods).map(|n| switch.pod("br0", &format!("pod{n}"), &format!("10.1.0.{n}/24"))).collect();
        pods[0].run_ok("ip route add 10.96.0.0/16 dev pod1");
        pods[0].run_ok(&format!("ip neigh add 10.96.0.1 lladdr {GATEWAY} dev pod1"));
        for (pod, n) in pods.iter().zip(1..).skip(1) {
            pod.run_ok(&format!("ip addr add 10.96.0.1/32 dev pod{n}"));
        }
        Lab { switch, pods }
    }

    /// The port's number in the bridge.
    fn number(&self, n: usize) -> String {
        self.switch.run(&format!("ovs-vsctl get Interface pod{n} ofport")).trim().to_owned()
    }

    /// A bucket, watching the port or not, that delivers to a pod.
    fn bucket(&self, n: usize, is_watching: bool) -> String {
        let number = self.number(n);
        let address = self.pods[n - 1].run_ok(&format!("cat /sys/class/net/pod{n}/address"));
        let watch = if is_watching { format!("watch_port:{number},") } else { String::new() };
        format!("bucket={watch}actions=set_field:{}->eth_dst,output:{number}", address.trim())
    }

    /// Sets group 1 to these pods, and sends to it what pod1 sends to 10.96.0.1.
    fn group(&self, command: &str, kind: &str, pods: &[usize]) {
        let buckets: Vec<String> = pods.iter().map(|n| self.bucket(*n, kind == "ff")).collect();
        let buckets = buckets.join(",");
        self.switch.run(&format!("ovs-ofctl -O OpenFlow15 {command} br0 group_id=1,type={kind},{buckets}"));
        self.switch.run("ovs-ofctl -O OpenFlow15 add-flow br0 ip,nw_dst=10.96.0.1,actions=group:1");
    }

    /// A socket of a pod that never blocks.
    fn socket(&self, n: usize, at: (&str, u16)) -> UdpSocket {
        let socket = traffic::bound(&self.pods[n - 1], UdpSocket::bind, at);
        socket.set_nonblocking(true).expect("a socket");
        socket
    }

    /// The servers of all pods but the first.
    fn servers(&self) -> Vec<UdpSocket> {
        (2..=self.pods.len()).map(|n| self.socket(n, ("0.0.0.0", PORT))).collect()
    }
}

const SERVICE: (&str, u16) = ("10.96.0.1", PORT);

/// What waits in a socket, as numbers.
fn numbers(socket: &UdpSocket) -> Vec<u32> {
    std::iter::from_fn(|| received(socket))
        .map(|(bytes, _)| u32::from_be_bytes(bytes.try_into().expect("a number")))
        .collect()
}

fn received(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2_000];
    let (len, from) = socket.recv_from(&mut buffer).ok()?;
    Some((buffer[..len].to_vec(), from))
}

/// The next datagram that comes.
fn awaited(what: &str, socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut came = None;
    wait_for(what, || {
        came = received(socket);
        came.is_some()
    });
    came.expect("waited for")
}

/// Sends `count` numbers and waits until the servers have as many as they are to have; what each got.
fn spread(client: &UdpSocket, count: u32, copies: usize, servers: &[UdpSocket]) -> Vec<Vec<u32>> {
    for n in 0..count {
        client.send_to(&n.to_be_bytes(), SERVICE).expect("sent");
    }
    let mut got = vec![vec![]; servers.len()];
    wait_for("all numbers arrive", || {
        got.iter_mut().zip(servers).for_each(|(got, server)| got.extend(numbers(server)));
        got.iter().map(Vec::len).sum::<usize>() >= count as usize * copies
    });
    got
}

#[test]
fn fast_failover_follows_the_link_there_and_back() {
    let lab = Lab::start(3);
    lab.group("add-group", "ff", &[2, 3]);
    let (client, servers) = (lab.socket(1, ("10.1.0.1", 0)), lab.servers());
    let all: Vec<u32> = (0..20).collect();
    let expect = |which: usize, since: Instant| {
        wait_for("the other bucket is chosen", || {
            client.send_to(&[0; 4], SERVICE).expect("sent");
            !numbers(&servers[which]).is_empty()
        });
        let took = sys::clock::monotonic().saturating_since(since);
        // The last of what was sent while waiting, then what is looked at.
        client.send_to(&u32::MAX.to_be_bytes(), SERVICE).expect("sent");
        wait_for("the mark", || numbers(&servers[which]).contains(&u32::MAX));
        let _ = servers.iter().map(numbers).count();
        let mut wanted = vec![vec![]; 2];
        wanted[which].clone_from(&all);
        assert_eq!(spread(&client, 20, 1, &servers), wanted);
        took
    };
    let now = sys::clock::monotonic;
    expect(0, now());
    lab.pods[1].run_ok("ip link set pod2 down");
    expect(1, now());
    let mut took = Vec::new();
    let began = now();
    lab.pods[1].run_ok("ip link set pod2 up");
    took.push(expect(0, began));
    // With no live bucket nothing passes, and it passes again once one is back.
    let began = now();
    lab.pods[1].run_ok("ip link set pod2 down");
    lab.pods[2].run_ok("ip link set pod3 down");
    wait_for("both links are down", || {
        let shown =
            lab.switch.run("ovs-vsctl get Interface pod2 link_state -- get Interface pod3 link_state");
        shown.lines().all(|l| l == "down")
    });
    took.push(now().saturating_since(began));
    let began = now();
    lab.pods[2].run_ok("ip link set pod3 up");
    took.push(expect(1, began));
    // Devices of which no news comes are asked every five seconds. What changes when that has just been done would take nearly
    // as long each time.
    assert!(
        took.iter().any(|took| took.as_secs() < 4),
        "links in the pods were followed only after {took:?}"
    );
}

#[test]
fn a_group_of_type_all_gives_each_bucket_one_copy() {
    let lab = Lab::start(4);
    lab.group("add-group", "all", &[2, 3, 4]);
    let (client, servers) = (lab.socket(1, ("10.1.0.1", 0)), lab.servers());
    let all: Vec<u32> = (0..50).collect();
    assert_eq!(spread(&client, 50, 3, &servers), [all.clone(), all.clone(), all]);
}

/// Which server each client port is led to.
fn led(lab: &Lab, servers: &[UdpSocket]) -> BTreeMap<u16, usize> {
    let ports = 20_000..20_100u16;
    for port in ports.clone() {
        let client = lab.socket(1, ("10.1.0.1", port));
        client.send_to(&u32::from(port).to_be_bytes(), SERVICE).expect("sent");
    }
    let mut map = BTreeMap::new();
    wait_for("every client is served", || {
        for (n, server) in servers.iter().enumerate() {
            for port in numbers(server) {
                assert_eq!(map.insert(port as u16, n), None, "port {port} twice");
            }
        }
        map.len() == ports.len()
    });
    map
}

#[test]
fn maglev_leads_every_node_alike_and_moves_little() {
    // ovs-ofctl lets `hash` alone have fields; without any it is the 5-tuple.
    let kind = "select,selection_method=maglev";
    let nodes = [Lab::start(5), Lab::start(5)];
    let [first, second] = nodes.each_ref().map(|lab| {
        lab.group("add-group", kind, &[2, 3, 4]);
        let servers = lab.servers();
        let before = led(lab, &servers);
        assert_eq!(led(lab, &servers), before, "a client stays where it is");
        lab.group("mod-group", kind, &[2, 3, 4, 5]);
        (before, led(lab, &servers))
    });
    assert_eq!(first, second, "two nodes with the same group choose the same");
    let (before, after) = first;
    assert_eq!(before.values().collect::<BTreeSet<_>>().len(), 3, "{before:?}");
    let moved = before.iter().filter(|(port, n)| after[port] != **n && after[port] != 3).count();
    let new = after.values().filter(|n| **n == 3).count();
    // A quarter is to go to the new one; of the rest hardly any goes elsewhere.
    assert!((8..=45).contains(&new) && moved <= 8, "{new} to the new bucket, {moved} elsewhere");
}

/// A datagram from pod1 to pod2 with a DSCP.
fn marked(dscp: u8, n: u8) -> Vec<u8> {
    let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, [10, 1, 0, 1], [10, 1, 0, 200]).expect("a header");
    header.dscp = dscp.try_into().expect("a DSCP");
    header.ecn = IpEcn::ONE;
    let mut out = Vec::new();
    let builder = PacketBuilder::ethernet2(mac(1), mac(2));
    let builder = builder.ip(IpHeaders::Ipv4(header, Default::default())).udp(9, PORT);
    builder.write(&mut out, &[n; 30]).expect("a frame");
    out
}

/// The meter lets one frame through as it is, then one a second; of the rest the precedence to be dropped rises by one:
/// AF11 to AF12 (RFC 2597 section 6: 10 and 12). What has no such precedence stays as it is.
#[test]
fn receivers_see_the_dscp_that_a_meter_wrote() {
    let lab = Lab::start(2);
    let of = "ovs-ofctl -O OpenFlow13";
    lab.switch.run(&format!(
        "{of} add-meter br0 meter=1,pktps,burst,stats,band=type=dscp_remark,rate=1,burst_size=1,prec_level=1"
    ));
    lab.switch.run(&format!(
        "{of} add-flow br0 in_port={},udp,actions=meter:1,output:{}",
        lab.number(1),
        lab.number(2)
    ));
    let (sender, mut receiver) = (Wire::open(&lab.pods[0], "pod1"), Wire::open(&lab.pods[1], "pod2"));
    let mut next = || loop {
        let frame = receiver.receive(DAEMON_WAIT_MAX).expect("a frame");
        if frame[12..14] == [8, 0] && frame[23] == 17 {
            return frame;
        }
    };
    let seen: Vec<u8> = (0..40)
        .map(|n| {
            sender.send(&marked(10, n));
            let frame = next();
            let header = Ipv4HeaderSlice::from_slice(&frame[14..]).expect("IPv4").to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "frame {n}");
            assert_eq!((header.ecn, frame[42]), (IpEcn::ONE, n), "frame {n}");
            header.dscp.value()
        })
        .collect();
    assert_eq!(seen[0], 10, "{seen:?}");
    let remarked = seen.iter().filter(|d| **d == 12).count();
    assert!(remarked >= 20 && seen.iter().all(|d| matches!(d, 10 | 12)), "{seen:?}");
    // Expedited forwarding (RFC 3246) has no drop precedence.
    for n in 0..5 {
        sender.send(&marked(46, n));
        assert_eq!(next()[15] >> 2, 46);
    }
    let stats = lab.switch.run(&format!("{of} meter-stats br0 meter=1"));
    assert!(stats.contains("packet_in_count:45"), "{stats}");
}

/// Zone 1 for datagrams to port 7001, zone 2 for those to 7002, between pod1, who begins, and pod2.
fn zones(lab: &Lab) {
    let mut flows = vec!["table=0,priority=9,arp,actions=NORMAL".to_owned()];
    for zone in [1, 2] {
        let port = PORT + zone;
        flows.push(format!("table=0,udp,in_port=pod1,tp_dst={port},actions=ct(zone={zone},table={zone})"));
        flows.push(format!("table=0,udp,in_port=pod2,tp_src={port},actions=ct(zone={zone},table=9)"));
        flows.push(format!("table={zone},udp,ct_state=+trk+new,actions=ct(commit,zone={zone}),output:pod2"));
        flows.push(format!("table={zone},udp,ct_state=+trk+est,actions=output:pod2"));
    }
    flows.push("table=9,udp,ct_state=+trk+est+rpl,actions=output:pod1".to_owned());
    lab.switch.flows("br0", &flows.iter().map(String::as_str).collect::<Vec<_>>());
}

/// A datagram there and back; nothing else may arrive at the server before it.
fn echo(client: &UdpSocket, server: &UdpSocket, port: u16) {
    let asker = client.local_addr().expect("an address");
    let text = asker.to_string().into_bytes();
    client.send_to(&text, ("10.1.0.2", port)).expect("sent");
    assert_eq!(awaited("the question", server), (text.clone(), asker));
    server.send_to(&text, asker).expect("sent");
    assert_eq!(awaited("the answer", client).0, text);
}

#[test]
fn a_full_zone_refuses_new_connections_and_nothing_else() {
    let lab = Lab::start(2);
    zones(&lab);
    lab.switch.run("ovs-appctl dpctl/ct-set-limits zone=1,limit=5");
    let [one, two] = [1, 2].map(|zone| lab.socket(2, ("10.1.0.2", PORT + zone)));
    let clients: Vec<UdpSocket> = (0..9).map(|_| lab.socket(1, ("10.1.0.1", 0))).collect();
    for client in &clients[..5] {
        echo(client, &one, PORT + 1);
    }
    let limits = || lab.switch.run("ovs-appctl dpctl/ct-get-limits zone=1");
    assert!(limits().contains("zone=1,limit=5,count=5"), "{}", limits());
    // As in OVS a packet whose connection cannot be made goes on without one, so that no answer to it passes.
    for late in &clients[5..] {
        late.send_to(b"late", ("10.1.0.2", PORT + 1)).expect("sent");
        let (text, asker) = awaited("a late question", &one);
        assert_eq!(text, b"late");
        one.send_to(b"no answer", asker).expect("sent");
        for client in &clients[..5] {
            echo(client, &one, PORT + 1);
        }
        assert_eq!(received(late), None);
    }
    for client in &clients {
        echo(client, &two, PORT + 2);
    }
    let shown = lab.switch.run("ovs-appctl dpctl/dump-conntrack");
    let count = |zone: &str| shown.lines().filter(|l| l.ends_with(zone)).count();
    assert_eq!((count("zone=1"), count("zone=2")), (5, 9), "{shown}");
    lab.switch.run("ovs-appctl dpctl/ct-set-limits zone=1,limit=6");
    echo(&clients[5], &one, PORT + 1);
}

/// Seconds left of the one connection in a zone; none if there is none.
fn seconds_left(lab: &Lab, zone: u16) -> Option<u64> {
    let shown = lab.switch.run(&format!("ovs-appctl dpctl/dump-conntrack -s zone={zone}"));
    let text = shown.lines().next()?.split("timeout=").nth(1)?;
    text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[test]
fn connections_live_as_long_as_the_policy_of_their_zone_says() {
    let lab = Lab::start(2);
    zones(&lab);
    lab.switch.run(
        "ovs-vsctl -- --id=@d create Datapath datapath_version=0 -- set Open_vSwitch . datapaths:system=@d",
    );
    lab.switch.run("ovs-vsctl add-zone-tp system zone=1 udp_first=40 udp_single=41 udp_multiple=3");
    let [one, two] = [1, 2].map(|zone| lab.socket(2, ("10.1.0.2", PORT + zone)));
    let client = lab.socket(1, ("10.1.0.1", 0));
    client.send_to(b"once", ("10.1.0.2", PORT + 1)).expect("sent");
    awaited("the first datagram", &one);
    let left = seconds_left(&lab, 1).expect("a connection");
    assert!((20..=40).contains(&left), "udp_first: {left} s");
    echo(&client, &two, PORT + 2);
    echo(&client, &one, PORT + 1);
    echo(&client, &one, PORT + 1);
    let left = seconds_left(&lab, 1).unwrap_or_default();
    assert!(left <= 3, "udp_multiple: {left} s");
    wait_for("the connection of zone 1 ends", || seconds_left(&lab, 1).is_none());
    assert!(seconds_left(&lab, 2).is_some(), "zone 2 keeps OVS's timeouts");
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 != 0 { 0x82f6_3b78 } else { 0 })
    })
}

/// An SCTP packet in its frame.
fn sctp(macs: [u8; 2], ends: ([u8; 4], [u8; 4]), ports: (u16, u16), tag: u32, chunk: &[u8]) -> Vec<u8> {
    let head = [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &tag.to_be_bytes()].concat();
    let crc = crc32c(&[&head[..], &[0; 4], chunk].concat());
    let packet = [&head[..], &crc.to_le_bytes(), chunk].concat();
    let mut ip = Ipv4Header::new(packet.len() as u16, 64, IpNumber::SCTP, ends.0, ends.1).expect("a header");
    ip.header_checksum = ip.calc_header_checksum();
    [&mac(macs[1])[..], &mac(macs[0]), &[8, 0], &ip.to_bytes(), &packet].concat()
}

/// An association's first packets (RFC 9260 section 3.3), hidden behind an address and a port: the CRC is right at the other
/// end, the answer comes back, and nobody else may begin. The pods' kernels do not own these addresses and stay silent.
#[test]
fn sctp_is_tracked_and_translated() {
    let lab = Lab::start(2);
    lab.switch.flows(
        "br0",
        &[
            "table=0,sctp,actions=ct(nat,table=1)",
            "table=1,sctp,in_port=pod1,ct_state=+trk+new,actions=ct(commit,nat(src=10.1.0.99:9000),table=2)",
            "table=1,sctp,ct_state=+trk+est,actions=resubmit(,2)",
            "table=2,in_port=pod1,actions=output:pod2",
            "table=2,in_port=pod2,actions=output:pod1",
            "table=0,priority=9,dl_type=0x88b5,actions=resubmit(,2)",
        ],
    );
    let (client, server, public) = ([10, 1, 0, 11], [10, 1, 0, 12], [10, 1, 0, 99]);
    let (mut near, mut far) = (Wire::open(&lab.pods[0], "pod1"), Wire::open(&lab.pods[1], "pod2"));
    let last = |n: u8| tests::frames::experimental(mac(n), mac(3 - n), b"last");
    // What arrives of SCTP at `to` after `frames` were sent.
    let mut play = |is_near: bool, frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
        let (from, to, n) = if is_near { (&near, &mut far, 1) } else { (&far, &mut near, 2) };
        frames.iter().chain([&last(n)]).for_each(|f| from.send(f));
        let mut came = to.until(&last(n));
        came.retain(|f| f[12..14] == [8, 0] && f[23] == 132);
        came
    };
    let chunk = |kind: u8, tag: u32| {
        [&[kind, 0, 0, 20][..], &tag.to_be_bytes(), &[0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]].concat()
    };
    let (init, init_ack) = (chunk(1, 77), chunk(2, 88));
    let cookie = [10, 0, 0, 8, 1, 2, 3, 4];
    // Nobody has begun yet.
    assert!(play(false, &[sctp([2, 1], (server, public), (5_000, 9_000), 77, &init_ack)]).is_empty());
    let came = play(true, &[sctp([1, 2], (client, server), (4_000, 5_000), 0, &init)]);
    assert_eq!(came, [sctp([1, 2], (public, server), (9_000, 5_000), 0, &init)]);
    let came = play(false, &[sctp([2, 1], (server, public), (5_000, 9_000), 77, &init_ack)]);
    assert_eq!(came, [sctp([2, 1], (server, client), (5_000, 4_000), 77, &init_ack)]);
    let came = play(true, &[sctp([1, 2], (client, server), (4_000, 5_000), 88, &cookie)]);
    assert_eq!(came, [sctp([1, 2], (public, server), (9_000, 5_000), 88, &cookie)]);
    // Another port, and a packet that was damaged on its way.
    let mut damaged = sctp([2, 1], (server, public), (5_000, 9_000), 77, &cookie);
    damaged[50] ^= 1;
    let stray = sctp([2, 1], (server, public), (5_000, 9_001), 77, &cookie);
    assert!(play(false, &[stray, damaged]).is_empty());
    let shown = lab.switch.run("ovs-appctl dpctl/dump-conntrack");
    assert_eq!(
        shown.trim(),
        "sctp,orig=(src=10.1.0.11,dst=10.1.0.12,sport=4000,dport=5000),reply=(src=10.1.0.12,dst=10.1.0.99,sport=5000,dport=9000)"
    );
}

/// A family's addresses of client, server and Service, and how rules, and FTP (RFC 959, RFC 2428), write them.
struct Family {
    ip: &'static str,
    tcp: &'static str,
    address: &'static str,
    client: &'static str,
    server: &'static str,
    service: &'static str,
    /// What the client sends to be told a port, and what the server's and the client's announcements begin with, as each of
    /// the two knows the address.
    ask: &'static str,
    reply: [&'static str; 2],
    active: &'static str,
    is_extended: bool,
}

const IPV4: Family = Family {
    ip: "ip",
    tcp: "tcp",
    address: "nw_dst",
    client: "10.1.0.1",
    server: "10.1.0.2",
    service: "10.96.0.1",
    ask: "PASV",
    reply: ["227 Entering Passive Mode (10,1,0,2,", "227 Entering Passive Mode (10,96,0,1,"],
    active: "PORT 10,1,0,1,",
    is_extended: false,
};

const IPV6: Family = Family {
    ip: "ipv6",
    tcp: "tcp6",
    address: "ipv6_dst",
    client: "fd01::1",
    server: "fd01::2",
    service: "fd96::1",
    ask: "EPSV",
    reply: ["229 Entering Extended Passive Mode (|||"; 2],
    active: "EPRT |2|fd01::1|",
    is_extended: true,
};

impl Family {
    /// The end of an announcement.
    fn port(&self, port: u16) -> String {
        if self.is_extended { format!("{port}|") } else { format!("{},{}", port >> 8, port & 0xff) }
    }

    /// Pods 1 and 2 with a Service for control connections: FTP at port 21 and TFTP at 69 of pod2. Whatever else begins must
    /// be related to one.
    fn lab(&self) -> Lab {
        let lab = Lab::start(2);
        let Family { ip, tcp, address, service, server, .. } = self;
        lab.pods[1].run_ok("ip addr del 10.96.0.1/32 dev pod2");
        lab.pods[0].run_ok("ip -6 route add fd96::/64 dev pod1");
        lab.pods[0].run_ok(&format!("ip -6 neigh add fd96::1 lladdr {GATEWAY} dev pod1"));
        for (pod, n) in lab.pods.iter().zip(1..) {
            pod.run_ok(&format!("ip addr add fd01::{n}/64 dev pod{n} nodad"));
        }
        let to = format!("{address}={service}");
        let translate = |alg: &str| format!("ct(commit,zone=1,alg={alg},nat(dst={server}),table=2)");
        let mut flows = vec![
            "table=0,priority=9,arp,actions=NORMAL".to_owned(),
            "table=0,priority=9,icmp6,icmp_type=135,actions=NORMAL".to_owned(),
            "table=0,priority=9,icmp6,icmp_type=136,actions=NORMAL".to_owned(),
            format!("table=0,priority=8,{ip},actions=ct(zone=1,nat,table=1)"),
            format!("table=1,{tcp},ct_state=+trk+new-rel,{to},tp_dst=21,actions={}", translate("ftp")),
            format!("table=1,{ip},ct_state=+trk+new+rel,actions=ct(commit,zone=1,nat,table=2)"),
            format!("table=1,{ip},ct_state=+trk+est,actions=resubmit(,2)"),
        ];
        if !self.is_extended {
            flows.push("table=1,priority=0,udp,actions=drop".to_owned());
            flows.push(format!(
                "table=1,udp,ct_state=+trk+new-rel,{to},tp_dst=69,actions={}",
                translate("tftp")
            ));
        }
        for (n, end) in [(1, self.client), (2, server)] {
            let mac = lab.pods[n - 1].run_ok(&format!("cat /sys/class/net/pod{n}/address"));
            flows.push(format!(
                "table=2,{ip},{address}={end},actions=set_field:{}->eth_dst,output:pod{n}",
                mac.trim()
            ));
        }
        lab.switch.flows("br0", &flows.iter().map(String::as_str).collect::<Vec<_>>());
        lab
    }
}

fn listen(lab: &Lab, n: usize, at: (&str, u16)) -> TcpListener {
    traffic::bound(&lab.pods[n - 1], TcpListener::bind, at)
}

/// A connection from a pod to a listener: the connecting and the accepting end, and whom the latter took the former for.
fn connect(
    lab: &Lab,
    n: usize,
    to: (&str, u16),
    listener: &TcpListener,
) -> (TcpStream, TcpStream, SocketAddr) {
    let to = SocketAddr::new(to.0.parse().expect("an address"), to.1);
    let near = lab.pods[n - 1].enter(|| TcpStream::connect_timeout(&to, DAEMON_WAIT_MAX));
    let near = near.unwrap_or_else(|e| panic!("to {to}: {e}"));
    let (far, seen) = listener.accept().expect("accepted");
    for end in [&near, &far] {
        end.set_read_timeout(Some(DAEMON_WAIT_MAX)).expect("a limit");
        end.set_nodelay(true).expect("an option");
    }
    (near, far, seen)
}

/// Sends a line and gives what comes of it at the other end.
fn say(from: &mut TcpStream, to: &mut TcpStream, line: &str) -> String {
    from.write_all(format!("{line}\r\n").as_bytes()).expect("sent");
    let mut text = vec![];
    while !text.ends_with(b"\r\n") {
        let mut byte = [0];
        to.read_exact(&mut byte).unwrap_or_else(|e| panic!("after {line}: {e}"));
        text.extend(byte);
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// Sends a file from one end to the other and closes.
fn send_file(mut from: TcpStream, mut to: TcpStream) {
    let file: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
    let mut came = vec![];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            from.write_all(&file).expect("sent");
            from.shutdown(Shutdown::Write).expect("closed");
        });
        to.read_to_end(&mut came).expect("received");
    });
    assert!(came == file, "{} of {} bytes, or wrong ones", came.len(), file.len());
}

/// A session of each kind, one after another over one control connection, whose lines grow and shrink on the way.
fn ftp(family: &Family) {
    let lab = family.lab();
    let control = listen(&lab, 2, (family.server, 21));
    let (mut client, mut server, seen) = connect(&lab, 1, (family.service, 21), &control);
    assert_eq!(seen.ip().to_string(), family.client);
    assert_eq!(say(&mut server, &mut client, "220 ready"), "220 ready");
    assert_eq!(say(&mut client, &mut server, "USER anonymous"), "USER anonymous");
    for round in 0..3 {
        // Passive: the client is told the Service's address, and no other port is open.
        let data = listen(&lab, 2, (family.server, 0));
        let port = data.local_addr().expect("an address").port();
        let closed = SocketAddr::new(family.service.parse().expect("an address"), port);
        assert!(!traffic::connects(&lab.pods[0], closed), "round {round}: nothing was announced yet");
        assert_eq!(say(&mut client, &mut server, family.ask), family.ask);
        let [told, heard] = family.reply.map(|text| format!("{text}{})", family.port(port)));
        assert_eq!(say(&mut server, &mut client, &told), heard, "round {round}");
        let (near, far, seen) = connect(&lab, 1, (family.service, port), &data);
        assert_eq!(seen.ip().to_string(), family.client);
        assert_eq!(say(&mut server, &mut client, "150 here it comes"), "150 here it comes");
        send_file(far, near);
        assert_eq!(say(&mut server, &mut client, "226 done"), "226 done");
        // Active: the client takes the server for the Service.
        let data = listen(&lab, 1, (family.client, 0));
        let port = data.local_addr().expect("an address").port();
        let line = format!("{}{}", family.active, family.port(port));
        assert_eq!(say(&mut client, &mut server, &line), line, "the client is not translated");
        assert_eq!(say(&mut server, &mut client, "200 well"), "200 well");
        let (near, far, seen) = connect(&lab, 2, (family.client, port), &data);
        assert_eq!(seen.ip().to_string(), family.service, "round {round}");
        send_file(near, far);
        assert_eq!(say(&mut server, &mut client, "226 done"), "226 done");
    }
    assert_eq!(say(&mut client, &mut server, "QUIT"), "QUIT");
    let shown = lab.switch.run("ovs-appctl dpctl/dump-conntrack");
    assert!(shown.lines().count() >= 7 && shown.contains("helper=ftp"), "{shown}");
}

#[test]
fn ftp_passes_both_ways_through_a_service() {
    ftp(&IPV4);
}

#[test]
fn ftp_over_ipv6_passes_both_ways_through_a_service() {
    ftp(&IPV6);
}

#[test]
fn tftp_passes_through_a_service() {
    let lab = IPV4.lab();
    let (client, server) = (lab.socket(1, ("10.1.0.1", 0)), lab.socket(2, ("10.1.0.2", 69)));
    let [chosen, stranger] = [0; 2].map(|port| lab.socket(2, ("10.1.0.2", port)));
    let asker = client.local_addr().expect("an address");
    // Not before it is asked for.
    stranger.send_to(b"\0\x03\0\x01forged", asker).expect("sent");
    wait_for("what nobody asked for is dropped", || {
        lab.switch
            .run("ovs-ofctl dump-flows br0 table=1,udp")
            .lines()
            .any(|l| l.contains("n_packets=1,") && l.ends_with("actions=drop"))
    });
    assert_eq!(received(&client), None);
    client.send_to(b"\0\x01boot.img\0octet\0", ("10.96.0.1", 69)).expect("sent");
    let (request, seen) = awaited("the request", &server);
    assert_eq!((&request[..], seen), (&b"\0\x01boot.img\0octet\0"[..], asker));
    for block in 1..=3u8 {
        chosen.send_to(&[&[0, 3, 0, block][..], &[block; 512]].concat(), asker).expect("sent");
        let (data, from) = awaited("a block", &client);
        let port = chosen.local_addr().expect("an address").port();
        assert_eq!((data[3], data.len(), from), (block, 516, SocketAddr::from(([10, 96, 0, 1], port))));
        client.send_to(&[0, 4, 0, block], from).expect("sent");
        assert_eq!(awaited("its acknowledgement", &chosen), (vec![0, 4, 0, block], asker));
        // An expectation is used once.
        stranger.send_to(b"\0\x03\0\x01forged", asker).expect("sent");
    }
}
