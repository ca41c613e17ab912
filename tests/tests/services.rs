//! Stateful rules and Services on real devices: pods with their kernels' stacks, rules by ovs-ofctl, connections by
//! ovs-appctl.

use std::net::SocketAddr;
use tests::traffic::{self, Reach, TRANSFER};
use tests::{Namespace, Switch, Tools, run};

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The MAC address of a pod's port.
fn mac(pod: &Namespace, port: &str) -> String {
    pod.run_ok(&format!("cat /sys/class/net/{port}/address")).trim().to_owned()
}

fn pods(switch: &Switch, n: u8) -> Vec<Namespace> {
    switch.run("ovs-vsctl add-br br0");
    let pod = |n: u8| {
        let port = format!("pod{n}");
        let pod = switch.pod("br0", &port, &format!("10.1.0.{n}/24"));
        pod.run_ok(&format!("ip addr add fd01::{n}/64 dev {port} nodad"));
        pod
    };
    (1..=n).map(pod).collect()
}

#[test]
fn answers_pass_and_new_connections_do_not() {
    let switch = Switch::start(&[]);
    let pods = pods(&switch, 2);
    switch.flows(
        "br0",
        &[
            "table=0,priority=100,arp,actions=NORMAL",
            "table=0,priority=100,icmp6,icmp_type=135,actions=NORMAL",
            "table=0,priority=100,icmp6,icmp_type=136,actions=NORMAL",
            "table=0,priority=10,ip,actions=ct(table=1)",
            "table=0,priority=10,ipv6,actions=ct(table=1)",
            "table=1,priority=10,ct_state=+trk+new,in_port=pod1,ip,actions=ct(commit),NORMAL",
            "table=1,priority=10,ct_state=+trk+new,in_port=pod1,ipv6,actions=ct(commit),NORMAL",
            "table=1,priority=10,ct_state=+trk+est,actions=NORMAL",
            "table=1,priority=10,ct_state=+trk+rel,actions=NORMAL",
            "table=1,priority=0,actions=drop",
        ],
    );
    let (a, b) = (&pods[0], &pods[1]);
    traffic::transfer(a, b, Reach::direct("10.1.0.2"));
    traffic::transfer(a, b, Reach::direct("fd01::2"));
    traffic::ask(a, b, Reach::direct("10.1.0.2"), &[7; 100]);
    assert!(a.pings("10.1.0.2") && a.pings("fd01::2"));
    assert!(!b.pings("10.1.0.1") && !b.pings("fd01::1"), "pod 2 may not begin");
    // A port that nobody listens on: the error is related to the connection, and passes back.
    let refused = a.enter(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect("10.1.0.2:9").expect("connected");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("a limit");
        socket.send(b"?").expect("sent");
        socket.recv(&mut [0; 10]).expect_err("nobody answers")
    });
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
    // Fragments are tracked as the packet that they are of.
    let big = run(a.command("ping").args(["-c1", "-W2", "-n", "-s", "4000", "10.1.0.2"]));
    assert_eq!(big.code, 0, "{}", big.stdout);
    let big = run(b.command("ping").args(["-c1", "-W1", "-n", "-s", "4000", "10.1.0.1"]));
    assert_ne!(big.code, 0, "pod 2 may not begin with fragments either");
    traffic::ask(a, b, Reach::direct("10.1.0.2"), &[9; 9_000]);
    // Established traffic needs one look-up a frame, and far fewer translations than there were frames.
    let counts = switch.run("ovs-appctl dpctl/show");
    let number = |name: &str| {
        let after = counts.split(&format!("{name}:")).nth(1).unwrap_or_default();
        after.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().expect(name)
    };
    assert!(number("hit") > 4 * number("missed"), "{counts}");
}

#[test]
fn a_service_is_reached_by_its_address_and_the_client_is_hidden() {
    let switch = Switch::start(&[]);
    let pods = pods(&switch, 3);
    let macs: Vec<String> = pods.iter().zip(1..).map(|(p, n)| mac(p, &format!("pod{n}"))).collect();
    // The Service is 10.96.0.1:80 and fd96::1:80, its pod 10.1.0.2:8080; clients are seen as 10.1.0.50.
    let gateway = "02:00:00:00:00:fe";
    for (pod, port) in pods.iter().zip(["pod1", "pod2", "pod3"]) {
        pod.run_ok(&format!("ip route add 10.96.0.0/16 dev {port}"));
        pod.run_ok(&format!("ip neigh add 10.96.0.1 lladdr {gateway} dev {port}"));
        pod.run_ok(&format!("ip neigh add 10.1.0.50 lladdr {gateway} dev {port}"));
        pod.run_ok(&format!("ip -6 route add fd96::/64 dev {port}"));
        pod.run_ok(&format!("ip -6 neigh add fd96::1 lladdr {gateway} dev {port}"));
    }
    let mut flows = vec![
        "table=0,priority=100,arp,actions=NORMAL".to_owned(),
        "table=0,priority=100,icmp6,icmp_type=135,actions=NORMAL".to_owned(),
        "table=0,priority=100,icmp6,icmp_type=136,actions=NORMAL".to_owned(),
        "table=0,priority=30,ip,nw_dst=10.1.0.50,actions=ct(zone=2,nat,table=5)".to_owned(),
        "table=5,ct_state=+trk+est,ip,actions=ct(zone=1,nat,table=9)".to_owned(),
        "table=5,ct_state=+trk+rel,ip,actions=ct(zone=1,nat,table=9)".to_owned(),
        "table=0,priority=20,ip,nw_dst=10.96.0.1,actions=ct(zone=1,nat,table=1)".to_owned(),
        "table=1,priority=20,ct_state=+trk+new,tcp,tp_dst=80,actions=ct(commit,zone=1,nat(dst=10.1.0.2:8080),table=3)".to_owned(),
        "table=1,priority=20,ct_state=+trk+new,udp,actions=ct(commit,zone=1,nat(dst=10.1.0.2:8080),table=3)".to_owned(),
        "table=1,priority=20,ct_state=+trk+est,actions=resubmit(,3)".to_owned(),
        "table=3,ip,actions=ct(zone=2,nat,table=4)".to_owned(),
        "table=4,priority=20,ct_state=+trk+new,ip,actions=ct(commit,zone=2,nat(src=10.1.0.50)),resubmit(,9)".to_owned(),
        "table=4,priority=10,ct_state=+trk+est,actions=resubmit(,9)".to_owned(),
        "table=0,priority=20,ipv6,ipv6_dst=fd96::1,actions=ct(zone=1,nat,table=6)".to_owned(),
        "table=0,priority=10,ipv6,actions=ct(zone=1,nat,table=9)".to_owned(),
        "table=6,priority=20,ct_state=+trk+new,tcp6,actions=ct(commit,zone=1,nat(dst=[fd01::2]:8080),table=9)".to_owned(),
        "table=6,priority=10,ct_state=+trk+est,actions=resubmit(,9)".to_owned(),
    ];
    for (n, mac) in (1..).zip(&macs) {
        let deliver = format!("actions=set_field:{mac}->eth_dst,set_field:{gateway}->eth_src");
        flows.push(format!("table=9,priority=10,ip,nw_dst=10.1.0.{n},{deliver},output:pod{n}"));
        flows.push(format!("table=9,priority=10,ipv6,ipv6_dst=fd01::{n},{deliver},output:pod{n}"));
        // A pod that reaches itself.
        flows.push(format!("table=9,priority=20,in_port=pod{n},ip,nw_dst=10.1.0.{n},{deliver},in_port"));
    }
    let flows: Vec<&str> = flows.iter().map(String::as_str).collect();
    switch.flows("br0", &flows);
    let service = Reach { at: "10.1.0.2", via: Some(address("10.96.0.1:80")), port: 8_080 };
    for client in &pods {
        let seen = traffic::transfer(client, &pods[1], service);
        assert_eq!(seen.ip().to_string(), "10.1.0.50", "the client is hidden");
        let seen = traffic::ask(client, &pods[1], service, &[5; 3_000]);
        assert_eq!(seen.ip().to_string(), "10.1.0.50", "the client is hidden");
    }
    let six = Reach { at: "fd01::2", via: Some(address("[fd96::1]:80")), port: 8_080 };
    assert_eq!(traffic::transfer(&pods[2], &pods[1], six).ip().to_string(), "fd01::3");
    let shown = switch.run("ovs-appctl dpctl/dump-conntrack");
    assert!(shown.contains("dst=10.96.0.1") && shown.contains("dst=10.1.0.50"), "{shown}");
    // Nothing was cut on the way: super-frames went through two translations whole.
    let counters = switch.port_counters("br0", "pod2");
    assert!(counters["tx bytes"] as usize > 3 * TRANSFER);
    assert!(counters["tx bytes"] / counters["tx pkts"] > 4_000, "segments were cut: {counters:?}");
}
