//! Routes and neighbours for tunnels: our daemon and Open vSwitch on one host, told the same, must answer the same.

use tests::reference::Reference;
use tests::{Namespace, Switch, Tools, ip, run, wait_for};

/// Both daemons in one namespace.
struct Host {
    ours: Switch,
    theirs: Reference,
}

impl Host {
    fn new() -> Host {
        let ours = Switch::start(&[]);
        let theirs = Reference::start_in(ours.ns());
        let host = Host { ours, theirs };
        for line in [
            "link add left type veth peer name right",
            // Link-local routes by two devices are to one prefix, of which the two daemons prefer another.
            "link set left addrgenmode none",
            "link set right addrgenmode none",
            "addr add 192.168.7.1/24 dev left",
            "addr add 192.168.8.1/24 dev left",
            "addr add 2001:db8:7::1/64 dev left nodad",
            "link set left up",
            "link set right up",
        ] {
            host.ip(line);
        }
        host
    }

    fn ip(&self, line: &str) {
        self.ours.ns().run_ok(&format!("ip {line}"));
    }

    fn lines(daemon: &impl Tools) -> Vec<String> {
        let mut lines: Vec<String> =
            daemon.run("ovs-appctl ovs/route/show").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Both list the same routes, of equal priority in any order, when Open vSwitch has noticed. The kernel adds some only when it
    /// has noticed that a link is up, so ours may change too.
    fn agree(&self, what: &str) {
        let ours = Self::lines(&self.ours);
        wait_for(&format!("{what}: the lists agree, on these or later ones:\n{}\n", ours.join("\n")), || {
            Self::lines(&self.theirs) == Self::lines(&self.ours)
        });
    }

    /// A command that succeeds or fails on both with the same words.
    fn same(&self, line: &str) {
        let (ours, theirs) = (self.ours.try_run(line), self.theirs.try_run(line));
        // Behind the daemon's words ovs-appctl prints the path of its socket.
        let words = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert_eq!(
            (ours.code, ours.stdout, words(&ours.stderr)),
            (theirs.code, theirs.stdout, words(&theirs.stderr)),
            "{line}"
        );
    }
}

#[test]
fn routes_follow_the_kernel_as_they_do_in_ovs() {
    let host = Host::new();
    host.agree("addresses");
    for line in [
        "route add 10.9.0.0/16 via 192.168.7.254",
        "route add default via 192.168.7.253 metric 55",
        "route add 10.10.0.0/16 via 192.168.7.252 mtu 1234 src 192.168.7.1",
        "route add 10.11.0.0/16 via 192.168.8.9",
        "-6 route add 2001:db8:99::/48 via 2001:db8:7::fe",
        "-6 route add default via 2001:db8:7::fd",
        "route add 10.9.128.0/17 via 192.168.7.251",
        "route add 10.9.128.1/32 via 192.168.7.250",
        "addr add 172.16.5.1/30 dev right",
    ] {
        host.ip(line);
        host.agree(line);
    }
    for address in [
        "10.9.1.1",
        "10.9.128.1",
        "10.9.129.1",
        "10.10.1.1",
        "10.11.1.1",
        "192.168.7.1",
        "192.168.7.77",
        "192.168.7.255",
        "172.16.5.2",
        "8.8.8.8",
        "127.0.0.1",
        "::1",
        "2001:db8:7::77",
        "2001:db8:99::1",
        "2001:db8:1::1",
        "1.2.3.4 pkt_mark=5",
        "1.2.3.4 pkt_mark=x",
        "nowhere",
        "",
    ] {
        host.same(&format!("ovs-appctl ovs/route/lookup {address}"));
    }
    // Neither preferred sources nor next hops beyond the addresses of a device are among them: Open vSwitch 3.1 does not
    // look at the former and forgets routes by the latter.
    for line in [
        "route del 10.9.0.0/16",
        "route del 10.11.0.0/16",
        "addr del 192.168.8.1/24 dev left",
        "link set right down",
        "link set right up",
        "link del left",
    ] {
        host.ip(line);
        host.agree(line);
    }
}

#[test]
fn routes_of_users_are_those_of_ovs() {
    let host = Host::new();
    host.ip("route add 20.0.1.128/25 via 192.168.7.6");
    host.ip("route add 20.0.1.200/32 via 192.168.7.6");
    host.agree("the kernel's routes");
    for command in [
        "add 20.0.1.1/24 left 192.168.8.9",
        "add 20.0.2.0/24 left 192.168.7.9 pkt_mark=77",
        "add 20.0.0.0/24 left",
        "add 192.168.7.5 left",
        "add 192.168.7.0/25 left",
        "add 192.168.7.0/24 left 192.168.7.4",
        "add 192.168.7.0/255.255.255.0 left 192.168.7.3",
        "add 0.0.0.0/0 left 192.168.7.4",
        "add ::/0 left 2001:db8:7::3",
        "add 2001:db8:7::9 left pkt_mark=0x10",
        "add 20.0.9.0/24 none",
        "add 20.0.9.0/24 right",
        "add zz left",
        "add 20.0.9.0/24 left zz",
        "add 20.0.9.0/24 left 192.168.7.9 zz",
        "add 20.0.9.0/24 left pkt_mark=1 192.168.7.9",
        "add 20.0.9.0/24 left 2001:db8:7::9",
        "add 20.0.9.0/24",
        "add a b c d e",
        "del 20.0.1.128/25",
        "del 20.0.2.0/24",
        "del 20.0.2.0/24 pkt_mark=77",
        "del 192.168.7.9/25",
        "del zz",
        "del",
        "lookup 20.0.1.200",
        "lookup 20.0.1.129",
        "lookup 20.0.1.1",
        "lookup 192.168.7.5",
        "lookup 192.168.7.6",
        "lookup 2001:db8:7::9",
        "lookup 2001:db8:7::9 pkt_mark=16",
        "lookup 2001:db8:8::9",
    ] {
        host.same(&format!("ovs-appctl ovs/route/{command}"));
        host.agree(command);
    }
    // What users added stays when the kernel's routes change.
    host.ip("route del 20.0.1.200/32");
    host.agree("fewer of the kernel's");
}

#[test]
fn neighbours_are_set_listed_and_flushed_as_in_ovs() {
    let host = Host::new();
    for command in [
        "neigh/show",
        "neigh/set br0 1.2.3.4 aa:bb:cc:00:00:01",
        "arp/show",
        "neigh/set br0 1.2.3.4 aa:bb:cc:00:00:02",
        "neigh/show",
        "neigh/flush",
        "arp/set br0 2001:0db8:1111:2222:3333:4444:5555:6666 aa:bb:cc:00:00:03",
        "neigh/show",
        "neigh/set br0 zz aa:bb:cc:00:00:03",
        "neigh/set br0 1.2.3.4 zz",
        "neigh/set br0 1.2.3.4",
        "neigh/aging",
        "neigh/aging 60",
        "arp/aging",
        "neigh/aging 0",
        "neigh/aging 3601",
        "neigh/aging zz",
        "neigh/flush x",
        "arp/flush",
        "neigh/show",
    ] {
        host.same(&format!("ovs-appctl tnl/{command}"));
    }
}

/// A router on the way to the other end of a tunnel has a link that takes shorter packets than ours. What it says by ICMP
/// reaches the pod, for the packets that the pod sends.
#[test]
fn path_mtu_reaches_the_pod() {
    let switch = Switch::start(&[]);
    let (router, far) = (Namespace::new("router"), Namespace::new("far"));
    let link = |a: &Namespace, b: &Namespace, name: &str| {
        ip(&format!("-n {} link add {name} type veth peer name {name} netns {}", a.name(), b.name()));
    };
    let up = |ns: &Namespace, name: &str, address: &str, mtu: u32| {
        ns.run_ok(&format!("ip addr add {address} dev {name}"));
        ns.run_ok(&format!("ip link set {name} up mtu {mtu}"));
    };
    link(switch.ns(), &router, "near");
    link(&router, &far, "narrow");
    up(switch.ns(), "near", "192.168.1.1/24", 1_500);
    up(&router, "near", "192.168.1.254/24", 1_500);
    up(&router, "narrow", "192.168.2.254/24", 1_400);
    up(&far, "narrow", "192.168.2.2/24", 1_400);
    router.run_ok("sysctl -qw net.ipv4.ip_forward=1");
    switch.ns().run_ok("ip route add 192.168.2.0/24 via 192.168.1.254");
    far.run_ok("ip route add 192.168.1.0/24 via 192.168.2.254");
    far.run_ok("ip link add vx type vxlan id 7 remote 192.168.1.1 dstport 4789");
    up(&far, "vx", "10.7.0.2/24", 1_450);

    switch.run("ovs-vsctl add-br br0");
    let tunnel = "type=vxlan options:remote_ip=192.168.2.2 options:key=7";
    switch.run(&format!("ovs-vsctl add-port br0 vx0 -- set Interface vx0 {tunnel}"));
    let pod = switch.pod("br0", "pod1", "10.7.0.1/24");
    pod.run_ok("ip link set pod1 mtu 1450");
    assert!(pod.pings("10.7.0.2"));
    // 28 bytes of IP and ICMP headers, 50 of outer ones: 1478 bytes, which only the first link takes.
    let mut words = String::new();
    wait_for("the pod is told", || {
        words = run(pod.command("ping").args("-c2 -i0.2 -W1 -M do -s 1400 -n 10.7.0.2".split(' '))).stdout;
        words.contains("mtu = 1350")
    });
    // What it was told fits, and no more.
    pod.run_ok("ip route flush cache");
    assert_eq!(run(pod.command("ping").args("-c1 -W1 -M do -s 1322 -n 10.7.0.2".split(' '))).code, 0);
    assert_ne!(run(pod.command("ping").args("-c1 -W1 -M do -s 1323 -n 10.7.0.2".split(' '))).code, 0);
}
