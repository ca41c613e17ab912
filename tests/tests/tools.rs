//! The real ovs-vsctl, ovs-ofctl and ovs-appctl against our daemon. Where the same can be asked of Debian's own
//! ovs-vswitchd, the two must answer alike.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::Command;
use tests::pair::{Compare, Pair};
use tests::watching::Watching;
use tests::{DAEMON_WAIT_MAX, Switch, Tools, binary, ip, run, wait_for, wait_for_some};

/// The versions of OpenFlow that ovs-ofctl is made to speak; the first is its default.
const VERSIONS: [&str; 5] = ["", "-O OpenFlow10", "-O OpenFlow13", "-O OpenFlow14", "-O OpenFlow15"];

/// Files that the lines below use, written to both run directories.
const FILES: &[(&str, &str)] = &[
    (
        "three",
        "table=0,priority=7,in_port=1,actions=output:2\ntcp,tp_dst=80 actions=drop\ntable=3,arp actions=NORMAL\n",
    ),
    ("replacement", "table=0,priority=7,in_port=1,actions=output:3\npriority=0 actions=NORMAL\n"),
    ("broken", "priority=1,actions=drop\npriority=2,in_port=1,actions=output:nowhere\n"),
    ("half_bad", "add priority=1,actions=drop\nadd priority=2,in_port=1,actions=note:00,goto_table:0\n"),
    ("bundle", "flow add priority=8,in_port=2,actions=1\nflow delete in_port=1\n"),
    (
        "mixed",
        "add priority=21,in_port=1,actions=2\nmodify priority=21,in_port=1,actions=3\ndelete_strict priority=7,in_port=1\n",
    ),
];

use Compare::{Items, Lines, Set, Success};

/// A SYN and an ARP request, for `TCP` and `ARP` below: what actions may do depends on the frame.
const FRAMES: [(&str, &str); 2] = [
    (
        "=TCP,",
        "=02000000000102000000000208004500002800000000400666c20a0000010a0000021f9000500000000000000000500200ff00000000,",
    ),
    ("=ARP,", "=ffffffffffff020000000001080600010800060400010200000000010a0000010000000000000a000002,"),
];

/// What is asked of a bridge with ports p1, p2 and p3, in every version. `V` is the `-O` option.
const OFCTL: &[(&str, Compare)] = &[
    ("ovs-ofctl V show br0", Items),
    ("ovs-ofctl V probe br0", Lines),
    ("ovs-ofctl V del-flows br0", Lines),
    ("ovs-ofctl V dump-flows br0", Set),
    ("ovs-ofctl V add-flow br0 table=0,priority=7,in_port=1,actions=output:2", Lines),
    ("ovs-ofctl V add-flow br0 in_port=p2,actions=p1,LOCAL", Lines),
    ("ovs-ofctl V add-flow br0 in_port=nowhere,actions=drop", Lines),
    (
        "ovs-ofctl V add-flow br0 table=1,cookie=0x77,reg0=5/0xf,actions=load:7->NXM_NX_REG1[],resubmit(,2)",
        Lines,
    ),
    (
        "ovs-ofctl V add-flow br0 idle_timeout=100,hard_timeout=200,tcp6,ipv6_dst=fd00::/64,actions=CONTROLLER:128",
        Lines,
    ),
    (
        "ovs-ofctl V add-flow br0 table=4,send_flow_rem,check_overlap,udp,tp_src=53,actions=mod_dl_src:02:00:00:00:00:01,NORMAL",
        Lines,
    ),
    ("ovs-ofctl V add-flow br0 table=4,dl_vlan=10,dl_vlan_pcp=3,actions=strip_vlan,ALL", Lines),
    (
        "ovs-ofctl V add-flow br0 table=4,ip,nw_tos=32,nw_ttl=3,nw_frag=later,actions=dec_ttl,FLOOD,IN_PORT",
        Lines,
    ),
    ("ovs-ofctl V add-flow br0 table=5,mpls,mpls_label=7,actions=pop_mpls:0x0800,resubmit(2,6)", Lines),
    (
        "ovs-ofctl V add-flow br0 table=5,icmp6,icmp_type=135,nd_target=fd00::1,actions=note:01.02.03.04,exit",
        Lines,
    ),
    (
        "ovs-ofctl V add-flow br0 table=6,arp,arp_op=1,arp_tpa=10.0.0.0/8,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],IN_PORT",
        Lines,
    ),
    ("ovs-ofctl V add-flow br0 table=7,metadata=0x5/0xff,actions=output:NXM_NX_REG0[0..15]", Lines),
    (
        "ovs-ofctl V add-flow br0 table=8,tcp,tcp_flags=+syn-ack,actions=set_field:10.0.0.9->ip_dst,LOCAL",
        Lines,
    ),
    (
        "ovs-ofctl V add-flow br0 table=9,tun_id=0x9,actions=push_vlan:0x8100,set_field:4099->vlan_vid,output:3",
        Lines,
    ),
    ("ovs-ofctl V add-flow br0 table=9,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=drop", Lines),
    ("ovs-ofctl V add-flow br0 table=253,priority=65535,actions=drop", Lines),
    ("ovs-ofctl V add-flow br0 table=255,actions=drop", Lines),
    ("ovs-ofctl V add-flow br0 ip,nw_dst=1.2.3.400,actions=drop", Lines),
    ("ovs-ofctl V add-flow br0 frobnicate=1,actions=drop", Lines),
    ("ovs-ofctl V add-flow br0 actions=frobnicate", Lines),
    ("ovs-ofctl V add-flows br0 PAIR/three", Lines),
    ("ovs-ofctl V add-flows br0 PAIR/broken", Lines),
    ("ovs-ofctl V add-flows br0 PAIR/nofile", Lines),
    ("ovs-ofctl V add-flows br0 PAIR/mixed", Lines),
    ("ovs-ofctl V --bundle add-flows br0 PAIR/three", Lines),
    ("ovs-ofctl V --bundle add-flow br0 priority=70,in_port=3,actions=1", Lines),
    ("ovs-ofctl V --bundle add-flows br0 PAIR/half_bad", Success),
    ("ovs-ofctl V dump-flows br0", Set),
    ("ovs-ofctl V dump-flows br0 table=4", Set),
    ("ovs-ofctl V dump-flows br0 tcp", Set),
    ("ovs-ofctl V dump-flows br0 in_port=p1", Set),
    ("ovs-ofctl V dump-flows br0 out_port=2", Set),
    ("ovs-ofctl V dump-flows br0 cookie=0x77/-1", Set),
    ("ovs-ofctl V --names dump-flows br0", Set),
    ("ovs-ofctl V --no-names dump-flows br0", Set),
    ("ovs-ofctl V --no-stats --sort dump-flows br0", Lines),
    ("ovs-ofctl V --no-stats --rsort=in_port dump-flows br0 table=0", Set),
    ("ovs-ofctl V dump-aggregate br0", Lines),
    ("ovs-ofctl V dump-aggregate br0 table=4", Lines),
    ("ovs-ofctl V dump-aggregate br0 ip", Lines),
    ("ovs-ofctl V mod-flows br0 in_port=1,actions=output:3", Lines),
    ("ovs-ofctl V --strict mod-flows br0 priority=7,in_port=1,actions=output:2", Lines),
    ("ovs-ofctl V mod-flows br0 cookie=0x77/-1,actions=drop", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V diff-flows br0 PAIR/three", Set),
    ("ovs-ofctl V diff-flows PAIR/replacement PAIR/three", Set),
    ("ovs-ofctl V del-flows br0 table=4,udp", Lines),
    ("ovs-ofctl V --strict del-flows br0 table=253,priority=1", Lines),
    ("ovs-ofctl V --strict del-flows br0 table=253,priority=65535", Lines),
    ("ovs-ofctl V del-flows br0 out_port=3", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V replace-flows br0 PAIR/replacement", Lines),
    ("ovs-ofctl V --bundle replace-flows br0 PAIR/replacement", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V bundle br0 PAIR/bundle", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0", Set),
    ("ovs-ofctl V dump-ports br0", Items),
    ("ovs-ofctl V dump-ports br0 p2", Items),
    ("ovs-ofctl V dump-ports br0 LOCAL", Items),
    ("ovs-ofctl V dump-ports br0 77", Lines),
    ("ovs-ofctl V dump-ports-desc br0", Items),
    ("ovs-ofctl V dump-ports-desc br0 p1", Items),
    ("ovs-ofctl V mod-port br0 p1 no-flood", Lines),
    ("ovs-ofctl V mod-port br0 2 no-forward", Lines),
    ("ovs-ofctl V mod-port br0 3 no-receive", Lines),
    ("ovs-ofctl V mod-port br0 nowhere up", Lines),
    ("ovs-ofctl V show br0", Items),
    ("ovs-ofctl V mod-port br0 p1 flood", Lines),
    ("ovs-ofctl V mod-port br0 p2 forward", Lines),
    ("ovs-ofctl V mod-port br0 p3 receive", Lines),
    ("ovs-ofctl V mod-port br0 p3 down", Lines),
    ("ovs-ofctl V show br0", Items),
    ("ovs-ofctl V mod-port br0 p3 up", Lines),
    ("ovs-ofctl V get-frags br0", Lines),
    ("ovs-ofctl V set-frags br0 nx-match", Lines),
    ("ovs-ofctl V get-frags br0", Lines),
    ("ovs-ofctl V set-frags br0 drop", Lines),
    ("ovs-ofctl V set-frags br0 reassemble", Success),
    ("ovs-ofctl V set-frags br0 normal", Lines),
    ("ovs-ofctl V get-frags br0", Lines),
    ("ovs-ofctl V dump-tables br0", Lines),
    ("ovs-ofctl V dump-table-desc br0", Lines),
    ("ovs-ofctl V queue-stats br0", Success),
    ("ovs-ofctl V queue-stats br0 p1", Success),
    ("ovs-ofctl V queue-get-config br0", Success),
    ("ovs-ofctl V queue-get-config br0 p1", Success),
    ("ovs-ofctl V dump-groups br0", Lines),
    ("ovs-ofctl V dump-group-stats br0", Lines),
    ("ovs-ofctl V del-groups br0", Lines),
    ("ovs-ofctl V dump-meters br0", Lines),
    ("ovs-ofctl V meter-stats br0", Lines),
    ("ovs-ofctl V del-meters br0", Lines),
    (
        "ovs-ofctl V packet-out br0 in_port=p1,packet=020000000001020000000002080045000014000000004001f9d60a0000010a000002,actions=p2",
        Lines,
    ),
    (
        "ovs-ofctl V packet-out br0 in_port=CONTROLLER,packet=0200000000010200000000020801,actions=p1,p3",
        Lines,
    ),
    ("ovs-ofctl V packet-out br0 p1 output:2 0200000000010200000000020801", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=02000000000102000000000208,actions=p2", Lines),
    (
        "ovs-ofctl V packet-out br0 in_port=p1,packet=0200000000010200000000020801,actions=resubmit(1,7),TABLE",
        Lines,
    ),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=set_field:10.0.0.9->ip_dst,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=ARP,actions=set_field:10.0.0.9->ip_dst,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=set_field:80->tcp_dst,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=set_field:80->udp_dst,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=mod_nw_dst:10.0.0.9,dec_ttl,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=ARP,actions=mod_nw_dst:10.0.0.9,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=ARP,actions=dec_ttl,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=strip_vlan,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=mod_vlan_vid:5,strip_vlan,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=pop_mpls:0x0800,2", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=ARP,actions=set_field:10.0.0.9->arp_spa,2", Lines),
    (
        "ovs-ofctl V packet-out br0 in_port=p1,packet=ARP,actions=move:NXM_OF_IP_SRC[]->NXM_OF_IP_DST[],2",
        Lines,
    ),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=ARP,actions=ct(commit)", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=ct(commit,nat(src=10.0.0.9))", Lines),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=TCP,actions=ct(commit,alg=tftp)", Lines),
    (
        "ovs-ofctl V add-flow br0 table=0,priority=90,no_packet_counts,no_byte_counts,dl_dst=02:00:00:00:00:77,actions=2",
        Lines,
    ),
    ("ovs-ofctl V packet-out br0 in_port=p1,packet=0200000000770200000000020801,actions=TABLE", Lines),
    ("ovs-ofctl V dump-flows br0 dl_dst=02:00:00:00:00:77", Set),
    ("ovs-ofctl V dump-aggregate br0 dl_dst=02:00:00:00:00:77", Lines),
    ("ovs-ofctl V dump-ports br0", Items),
    ("ovs-ofctl V dump-tlv-map br0", Success),
    ("ovs-ofctl V add-flow br0 table=10,tun_metadata0=0x1234,actions=drop", Lines),
    ("ovs-ofctl V add-tlv-map br0 {class=0x102,type=0x80,len=4}->tun_metadata0", Lines),
    (
        "ovs-ofctl V add-tlv-map br0 {class=0xffff,type=3,len=16}->tun_metadata5,{class=1,type=2,len=8}->tun_metadata1",
        Lines,
    ),
    ("ovs-ofctl V add-tlv-map br0 {class=0x102,type=0x80,len=4}->tun_metadata7", Lines),
    ("ovs-ofctl V add-tlv-map br0 {class=0x102,type=0x81,len=4}->tun_metadata0", Lines),
    ("ovs-ofctl V add-tlv-map br0 {class=0x102,type=0x81,len=5}->tun_metadata3", Lines),
    ("ovs-ofctl V add-tlv-map br0 {class=0x102,type=0x81,len=4}->tun_metadata64", Lines),
    (
        "ovs-ofctl V add-flow br0 table=10,tun_metadata0=0x1234,actions=set_field:0x99->tun_metadata5,output:1",
        Lines,
    ),
    ("ovs-ofctl V add-flow br0 table=10,tun_metadata5,actions=load:5->tun_metadata0[0..7],output:2", Lines),
    ("ovs-ofctl V add-flow br0 table=10,tun_metadata5=0,actions=move:tun_metadata0[0..31]->reg0[]", Lines),
    ("ovs-ofctl V add-flow br0 table=10,priority=5,tun_metadata0=0x1234/0xff0f,actions=output:3", Lines),
    ("ovs-ofctl V dump-flows br0 table=10", Set),
    ("ovs-ofctl V --no-stats dump-flows br0 tun_metadata5", Set),
    ("ovs-ofctl V --no-stats dump-flows br0 tun_metadata6", Lines),
    ("ovs-ofctl V del-tlv-map br0 {class=0xffff,type=3,len=16}->tun_metadata5", Lines),
    ("ovs-ofctl V del-tlv-map br0 {class=1,type=2,len=8}->tun_metadata1", Lines),
    ("ovs-ofctl V del-flows br0 table=10,tun_metadata0=0x1234", Lines),
    ("ovs-ofctl V --no-stats dump-flows br0 table=10", Set),
    ("ovs-ofctl V del-flows br0 table=10", Lines),
    ("ovs-ofctl V del-tlv-map br0", Lines),
    ("ovs-ofctl V dump-ipfix-bridge br0", Lines),
    ("ovs-ofctl V dump-ipfix-flow br0", Lines),
    ("ovs-ofctl V ping br0 100", Success),
    ("ovs-ofctl V benchmark br0 100 10", Success),
    ("ovs-ofctl V show nobridge", Lines),
];

fn ofctl_is_answered_alike(version: &str) {
    let mut pair = Pair::start();
    pair.bridge(3);
    for (name, text) in FILES {
        for dir in [pair.real.dir(), pair.ours.dir()] {
            std::fs::write(dir.join(name), text).expect("a file");
        }
    }
    for (line, compare) in OFCTL {
        let line = FRAMES.iter().fold(line.to_string(), |line, (name, frame)| line.replace(name, frame));
        pair.same(&line.replacen(" V ", &format!(" {version} "), 1), *compare);
    }
    pair.finish();
}

#[test]
fn ofctl_by_default_is_answered_as_by_ovs() {
    ofctl_is_answered_alike(VERSIONS[0]);
}

#[test]
fn ofctl_in_openflow10_is_answered_as_by_ovs() {
    ofctl_is_answered_alike(VERSIONS[1]);
}

#[test]
fn ofctl_in_openflow13_is_answered_as_by_ovs() {
    ofctl_is_answered_alike(VERSIONS[2]);
}

#[test]
fn ofctl_in_openflow14_is_answered_as_by_ovs() {
    ofctl_is_answered_alike(VERSIONS[3]);
}

#[test]
fn ofctl_in_openflow15_is_answered_as_by_ovs() {
    ofctl_is_answered_alike(VERSIONS[4]);
}

/// What is asked of the database and the control socket, in order.
const VSCTL: &[(&str, Compare)] = &[
    ("ovs-vsctl list-br", Lines),
    ("ovs-vsctl list-ports br0", Lines),
    ("ovs-vsctl list-ifaces br0", Lines),
    ("ovs-vsctl port-to-br p1", Lines),
    ("ovs-vsctl iface-to-br p2", Lines),
    ("ovs-vsctl br-exists br0", Lines),
    ("ovs-vsctl br-exists br9", Lines),
    ("ovs-vsctl add-br br0", Lines),
    ("ovs-vsctl --may-exist add-br br0", Lines),
    ("ovs-vsctl add-port br0 p1", Lines),
    ("ovs-vsctl --may-exist add-port br0 p1", Lines),
    ("ovs-vsctl add-port br9 p9", Lines),
    ("ovs-vsctl get Interface p1 ofport", Lines),
    ("ovs-vsctl get Interface p2 ofport_request type error", Lines),
    ("ovs-vsctl get Interface p1 admin_state link_state mtu", Lines),
    ("ovs-vsctl get Bridge br0 datapath_id fail_mode datapath_type", Lines),
    ("ovs-vsctl get Interface p1 nocolumn", Lines),
    ("ovs-vsctl get Interface p77 ofport", Lines),
    ("ovs-vsctl set Port p1 tag=10 -- set Port p2 trunks=10,20 vlan_mode=trunk", Lines),
    ("ovs-vsctl get Port p1 tag trunks vlan_mode", Lines),
    ("ovs-vsctl get Port p2 tag trunks vlan_mode", Lines),
    ("ovs-vsctl set Port p1 tag=5000", Lines),
    ("ovs-vsctl set Port p1 vlan_mode=sideways", Lines),
    ("ovs-vsctl remove Port p2 trunks 20", Lines),
    ("ovs-vsctl clear Port p1 tag", Lines),
    ("ovs-vsctl add Port p2 trunks 30 40", Lines),
    ("ovs-vsctl get Port p2 trunks", Lines),
    ("ovs-vsctl wait-until Interface p1 ofport=1", Lines),
    ("ovs-vsctl -f csv --columns=name,ofport,type find Interface type=dummy", Set),
    ("ovs-vsctl -f json --columns=name,tag list Port p1", Lines),
    ("ovs-vsctl set-fail-mode br0 secure", Lines),
    ("ovs-vsctl get-fail-mode br0", Lines),
    ("ovs-vsctl del-fail-mode br0", Lines),
    ("ovs-vsctl set-controller br0 punix:PAIR/controller", Lines),
    ("ovs-vsctl get-controller br0", Lines),
    ("ovs-vsctl del-controller br0", Lines),
    ("ovs-vsctl br-set-external-id br0 name value", Lines),
    ("ovs-vsctl br-get-external-id br0", Lines),
    ("ovs-vsctl set-manager ptcp:0:127.0.0.1", Success),
    ("ovs-vsctl del-manager", Lines),
    ("ovs-vsctl add-br fake0 br0 100", Lines),
    ("ovs-vsctl br-to-vlan fake0", Lines),
    ("ovs-vsctl br-to-parent fake0", Lines),
    ("ovs-vsctl list-br", Lines),
    ("ovs-vsctl del-br fake0", Lines),
    ("ovs-vsctl add-br br1 -- add-port br1 q1 -- set Interface q1 ofport_request=33", Lines),
    ("ovs-vsctl get Interface q1 ofport", Lines),
    ("ovs-ofctl --no-stats dump-flows br1", Set),
    (
        "ovs-vsctl add-port br1 patch1 -- set Interface patch1 type=patch options:peer=patch0 ofport_request=7 -- add-port br0 patch0 -- set Interface patch0 type=patch options:peer=patch1 ofport_request=8",
        Lines,
    ),
    ("ovs-vsctl get Interface patch1 ofport", Lines),
    ("ovs-appctl dpif/show", Set),
    ("ovs-ofctl dump-ports-desc br1", Items),
    ("ovs-vsctl del-port br1 patch1 -- del-port br0 patch0", Lines),
    ("ovs-vsctl set Interface q1 ofport_request=44", Lines),
    ("ovs-vsctl get Interface q1 ofport", Lines),
    ("ovs-vsctl add-port br1 q2 -- set Interface q2 ofport_request=44", Lines),
    // Ours names the type.
    ("ovs-vsctl add-port br1 q3 -- set Interface q3 type=nosuchtype", Success),
    ("ovs-vsctl get Interface q3 ofport", Lines),
    ("ovs-vsctl del-port q3", Lines),
    ("ovs-vsctl del-port br1 q1 -- del-port q2", Lines),
    ("ovs-vsctl del-port br1 q1", Lines),
    ("ovs-vsctl --if-exists del-port br1 q1", Lines),
    ("ovs-vsctl del-br br1", Lines),
    ("ovs-vsctl del-br br1", Lines),
    ("ovs-vsctl --if-exists del-br br1", Lines),
    ("ovs-vsctl emer-reset", Lines),
    ("ovs-vsctl frobnicate", Lines),
    ("ovs-vsctl list-br", Lines),
    ("ovsdb-client list-dbs", Lines),
    ("ovsdb-client list-tables", Set),
    ("ovsdb-client list-columns Open_vSwitch Interface", Set),
    ("ovsdb-client get-schema-version", Lines),
    (
        "ovsdb-client transact '[\"Open_vSwitch\",{\"op\":\"select\",\"table\":\"Bridge\",\"where\":[],\"columns\":[\"name\",\"datapath_type\"]}]'",
        Lines,
    ),
    ("ovsdb-client transact '[\"Open_vSwitch\",{\"op\":\"frobnicate\"}]'", Success),
    ("ovsdb-client transact '[\"NoSuchDatabase\"]'", Success),
    // A transaction that fails changes nothing, whichever of its parts it was.
    (
        "ovsdb-client transact '[\"Open_vSwitch\",{\"op\":\"update\",\"table\":\"Bridge\",\"where\":[],\"row\":{\"fail_mode\":\"secure\"}},{\"op\":\"abort\"}]'",
        Lines,
    ),
    (
        "ovsdb-client transact '[\"Open_vSwitch\",{\"op\":\"update\",\"table\":\"Bridge\",\"where\":[],\"row\":{\"fail_mode\":\"secure\"}},{\"op\":\"update\",\"table\":\"Port\",\"where\":[],\"row\":{\"tag\":5000}}]'",
        Success,
    ),
    (
        "ovsdb-client transact '[\"Open_vSwitch\",{\"op\":\"update\",\"table\":\"Bridge\",\"where\":[],\"row\":{\"fail_mode\":\"secure\"}},{\"op\":\"delete\",\"table\":\"NoTable\",\"where\":[]}]'",
        Success,
    ),
    (
        "ovsdb-client transact '[\"Open_vSwitch\",{\"op\":\"update\",\"table\":\"Bridge\",\"where\":[],\"row\":{\"name\":\"other\"}},{\"op\":\"update\",\"table\":\"Bridge\",\"where\":[],\"row\":{\"ports\":[\"set\",[[\"uuid\",\"00000000-0000-4000-8000-000000000000\"]]]}}]'",
        Success,
    ),
    ("ovs-vsctl get Bridge br0 fail_mode", Lines),
    ("ovs-vsctl list-ports br0", Lines),
    ("ovs-appctl fdb/show br0", Set),
    ("ovs-appctl fdb/show br9", Lines),
    ("ovs-appctl fdb/add br0 p2 0 02:00:00:00:00:70", Lines),
    ("ovs-appctl fdb/add br0 p2 0 02:00:00:00:00:70", Lines),
    ("ovs-appctl fdb/add br0 br0 7 02:00:00:00:00:71", Lines),
    ("ovs-appctl fdb/add br0 p1 0 02:00:00:00:00:70", Lines),
    ("ovs-appctl fdb/add br0 p2 0 02:00:00:00:00:70", Lines),
    ("ovs-appctl fdb/add br9 p2 0 02:00:00:00:00:72", Lines),
    ("ovs-appctl fdb/add br0 p2 0 rubbish", Lines),
    // Ours names the port.
    ("ovs-appctl fdb/add br0 nosuch 0 02:00:00:00:00:73", Success),
    ("ovs-appctl fdb/show br0", Set),
    ("ovs-appctl fdb/stats-show br0", Lines),
    ("ovs-appctl fdb/flush br0", Lines),
    ("ovs-appctl fdb/flush", Lines),
    ("ovs-appctl fdb/show br0", Set),
    ("ovs-appctl fdb/del br0 0 02:00:00:00:00:71", Lines),
    ("ovs-appctl fdb/del br0 7 02:00:00:00:00:71", Lines),
    ("ovs-appctl fdb/del br0 0 02:00:00:00:00:70", Lines),
    ("ovs-appctl fdb/del br0 0 02:00:00:00:00:70", Lines),
    ("ovs-appctl fdb/del br0 0 rubbish", Lines),
    ("ovs-appctl fdb/del br9 0 02:00:00:00:00:70", Lines),
    ("ovs-appctl fdb/show br0", Set),
    ("ovs-appctl fdb/stats-show br0", Lines),
    ("ovs-appctl fdb/stats-clear br0", Lines),
    ("ovs-appctl dpif/show", Set),
    ("ovs-appctl dpif/dump-flows br0", Set),
    ("ovs-appctl dpctl/dump-flows", Set),
    ("ovs-appctl dpctl/dump-flows filter=icmp type=ovs,tc", Set),
    ("ovs-appctl dpctl/dump-flows nosuch", Lines),
    ("ovs-appctl dpctl/dump-flows type=nosuch", Lines),
    ("ovs-appctl dpctl/dump-flows type=ovs type=tc", Lines),
    ("ovs-appctl dpctl/dump-flows -x", Lines),
    // Ours says in its own words why.
    ("ovs-appctl dpctl/dump-flows filter=nosuch", Success),
    ("ovs-appctl dpctl/dump-flows filter=nw_dst=10.8.0.1", Success),
    ("ovs-appctl dpctl/dump-flows pmd=x", Success),
    ("ovs-appctl dpif/dump-flows nosuch", Lines),
    ("ovs-appctl dpctl/show nosuch", Success),
    ("ovs-appctl dpctl/show -x", Lines),
    ("ovs-appctl coverage/read-counter nosuch", Lines),
    ("ovs-appctl dpif-netdev/pmd-stats-clear", Lines),
    ("ovs-appctl dpif-netdev/pmd-stats-show -pmd 900", Lines),
    ("ovs-appctl vlog/set dpif_netdev:console:dbg", Lines),
    ("ovs-appctl ofproto/list", Lines),
    ("ovs-appctl vlog/set bridge:console:dbg", Lines),
    ("ovs-appctl vlog/set nosuchmodule:dbg", Lines),
    ("ovs-appctl vlog/set ANY:ANY:nosuchlevel", Lines),
    ("ovs-appctl time/stop", Lines),
    ("ovs-appctl time/warp 1000", Lines),
    ("ovs-appctl time/warp 1000 100", Lines),
    ("ovs-appctl time/warp x", Success),
    ("ovs-appctl netdev-dummy/receive p1 0200000000010200000000020801", Lines),
    ("ovs-appctl netdev-dummy/receive nowhere 0200000000010200000000020801", Lines),
    (
        "ovs-appctl netdev-dummy/receive p1 'in_port(1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x88b5)'",
        Lines,
    ),
    ("ovs-appctl netdev-dummy/receive p1 'rubbish(1)'", Success),
    ("ovs-appctl fdb/show br0", Set),
    ("ovs-appctl ofproto/trace br0 in_port=1,dl_src=02:00:00:00:00:09,dl_dst=02:00:00:00:00:01", Lines),
    ("ovs-appctl ofproto/trace br0 in_port=p2,tcp,nw_src=1.2.3.4 -generate", Lines),
    ("ovs-appctl ofproto/trace br0 in_port=1 0200000000010200000000020801", Lines),
    ("ovs-appctl ofproto/trace nobridge in_port=1", Lines),
    ("ovs-appctl ofproto/trace br0 nofield=1", Lines),
    ("ovs-appctl bridge/reconnect", Lines),
    ("ovs-appctl bridge/reconnect br0", Lines),
    ("ovs-appctl bridge/reconnect br9", Lines),
    ("ovs-appctl dpctl/get-flow ufid:00000000-0000-0000-0000-000000000000", Lines),
    ("ovs-appctl dpctl/del-flow in_port(2),eth_type(0x88b5)", Lines),
    ("ovs-appctl dpif/show-dp-features br0", Success),
    ("ovs-appctl dpif/show-dp-features br9", Lines),
    ("ovs-appctl dpif-netdev/pmd-perf-show -pmd 900", Lines),
    ("ovs-appctl upcall/enable-megaflows", Lines),
    ("ovs-appctl upcall/enable-ufid", Lines),
    ("ovs-appctl upcall/set-flow-limit 5000", Lines),
    ("ovs-appctl vlog/set PATTERN", Lines),
    ("ovs-appctl vlog/set PATTERN:nosuch:%m", Lines),
    ("ovs-appctl vlog/set PATTERN:any:%05N|%c|%p|%m", Lines),
    ("ovs-appctl vlog/list-pattern", Lines),
    ("ovs-appctl vlog/set FACILITY:local0", Lines),
    ("ovs-appctl vlog/set FACILITY:nosuch", Lines),
    ("ovs-appctl vlog/disable-rate-limit", Lines),
    ("ovs-appctl vlog/enable-rate-limit bridge ofproto_dpif", Lines),
    ("ovs-appctl vlog/enable-rate-limit nosuch", Lines),
    ("ovs-appctl bfd/show", Lines),
    ("ovs-appctl bfd/show p1", Lines),
    ("ovs-appctl bond/list", Lines),
    ("ovs-appctl bond/show", Lines),
    ("ovs-appctl bond/show p1", Lines),
    ("ovs-appctl cfm/show", Lines),
    ("ovs-appctl cfm/show p1", Lines),
    ("ovs-appctl lacp/show", Lines),
    ("ovs-appctl lacp/show p1", Lines),
    ("ovs-appctl lacp/show-stats p1", Lines),
    ("ovs-appctl mdb/flush", Lines),
    ("ovs-appctl mdb/flush br0", Lines),
    ("ovs-appctl mdb/show br0", Lines),
    ("ovs-appctl mdb/show br9", Lines),
    ("ovs-appctl qos/show p1", Lines),
    ("ovs-appctl qos/show nosuch", Lines),
    ("ovs-appctl qos/show-types nosuch", Lines),
    ("ovs-appctl rstp/show", Lines),
    ("ovs-appctl rstp/show br0", Lines),
    ("ovs-appctl stp/show", Lines),
    ("ovs-appctl stp/show br0", Lines),
    ("ovs-appctl frobnicate", Lines),
    ("ovs-appctl fdb/show", Lines),
    ("ovs-appctl fdb/show br0 too many", Lines),
];

#[test]
fn database_and_control_socket_are_answered_as_by_ovs() {
    let mut pair = Pair::start();
    pair.bridge(3);
    for (line, compare) in VSCTL {
        let line = line.replacen("ovsdb-client list-dbs", "ovsdb-client list-dbs unix:PAIR/db.sock", 1);
        let mut line = line.replacen("ovsdb-client transact", "ovsdb-client transact unix:PAIR/db.sock", 1);
        for verb in ["list-tables", "list-columns", "get-schema-version"] {
            line = line.replacen(&format!("client {verb}"), &format!("client {verb} unix:PAIR/db.sock"), 1);
        }
        pair.same(&line, *compare);
    }
    pair.finish();
}

/// Cached flows by what frames could have them, by worker and by type; the numbers are those of the frames that were sent.
#[test]
fn cached_flows_and_ports_of_the_datapath_are_shown_as_asked() {
    let switch = Switch::start(&["--enable-dummy=override", "--disable-system", "--workers=2"]);
    switch.run("ovs-vsctl add-br br0 -- add-port br0 p1 -- add-port br0 p2");
    // Cached flows that nothing uses go after ten seconds.
    switch.run("ovs-appctl time/stop");
    // Not NORMAL: what is learned in between would have flows translated anew.
    switch.run("ovs-ofctl del-flows br0");
    for rule in ["priority=0,actions=p2", "dl_src=02:00:00:00:00:02,actions=p1"] {
        switch.run(&format!("ovs-ofctl add-flow br0 {rule}"));
    }
    let ipv4 =
        "eth_type(0x0800),ipv4(src=10.0.0.1,dst=10.0.0.2,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)";
    for (port, n, rest) in [("p1", 1, "eth_type(0x88b5)"), ("p2", 2, "eth_type(0x88b6)"), ("p1", 3, ipv4)] {
        let flow = format!("in_port({port}),eth(src=02:00:00:00:00:0{n},dst=02:00:00:00:00:99),{rest}");
        switch.run(&format!("ovs-appctl netdev-dummy/receive {port} {flow} --len 1000"));
    }
    let flows = |args: &str| {
        let text = switch.run(&format!("ovs-appctl dpctl/dump-flows {args}"));
        let sources = text.lines().filter_map(|l| l.split_once("eth(src=02:00:00:00:00:0")?.1.chars().next());
        let mut sources: Vec<char> = sources.collect();
        sources.sort_unstable();
        (sources.into_iter().collect::<String>(), text)
    };
    let (all, text) = flows("");
    assert_eq!(all, "123", "{text}");
    for core in ["0", "1"] {
        assert!(text.contains(&format!("flow-dump from pmd on cpu core: {core}\n")), "{text}");
    }
    for (args, found) in [
        ("filter=ip", "3"),
        // Ports are not looked at, so any could be meant.
        ("filter=udp,tp_dst=53", "3"),
        ("filter=dl_type=0x88b6", "2"),
        ("filter=in_port=p1", "13"),
        ("filter=in_port=p1,arp", ""),
        ("filter=dl_src=02:00:00:00:00:02", "2"),
        ("type=ovs", "123"),
        ("type=offloaded", ""),
        ("pmd=7", ""),
        ("-m netdev@ovs-netdev", "123"),
    ] {
        let (sources, text) = flows(args);
        assert_eq!(sources, found, "{args}: {text}");
    }
    // By name, and called by a number that is theirs at every worker.
    let named = flows("--names filter=dl_src=02:00:00:00:00:02").1;
    assert!(named.contains(",in_port(p2),") && named.trim_end().ends_with("actions:p1"), "{named}");
    let more = flows("-m --no-names filter=dl_src=02:00:00:00:00:02").1;
    let (ufid, rest) = more.lines().last().and_then(|l| l.split_once(", ")).expect("a flow");
    assert!(ufid.starts_with("ufid:") && rest.contains(", dp:ovs, actions:"), "{more}");
    assert!(!more.contains("(p2)"), "{more}");
    let steady = |line: &str| line.split(", used:").next().unwrap_or_default().to_owned();
    let plain = flows("filter=dl_src=02:00:00:00:00:02").1;
    let got = switch.run(&format!("ovs-appctl dpctl/get-flow {ufid}"));
    assert_eq!(steady(&got), steady(plain.lines().last().unwrap_or_default()));
    let got = switch.run(&format!("ovs-appctl dpctl/get-flow -m --no-names {ufid}"));
    assert_eq!(steady(&got), steady(more.lines().last().unwrap_or_default()));
    let of_bridge = switch.run("ovs-appctl dpif/dump-flows -m br0");
    assert!(
        of_bridge.lines().any(|line| line.starts_with(&format!("{ufid} recirc_id(0),in_port(p2),"))),
        "{of_bridge}"
    );
    let by_core = [flows("pmd=0"), flows("pmd=1")];
    assert_eq!(by_core.iter().map(|(sources, _)| sources.len()).sum::<usize>(), 3, "{by_core:?}");
    assert!(by_core.iter().all(|(sources, text)| !sources.is_empty() && !text.contains("flow-dump")));

    let upcalls = switch.run("ovs-appctl upcall/show");
    assert!(
        upcalls.contains("(current 3) (avg ") && upcalls.contains(" (max 3) (limit 200000 a worker)"),
        "{upcalls}"
    );
    switch.run("ovs-appctl upcall/set-flow-limit 1234");
    assert!(switch.run("ovs-appctl upcall/show").contains("(limit 1234 a worker)"));
    switch.run("ovs-vsctl set Open_vSwitch . other_config:flow-limit=4321");
    assert!(switch.run("ovs-appctl upcall/show").contains("(limit 4321 a worker)"));
    for bad in ["upcall/set-flow-limit many", "upcall/disable-megaflows", "upcall/disable-ufid"] {
        switch.fails(&format!("ovs-appctl {bad}"));
    }
    assert_eq!(switch.run("ovs-appctl dpif/dump-dps"), "netdev@br0\n");
    assert_eq!(switch.run("ovs-appctl coverage/read-counter cache_miss"), "3\n");
    let coverage = switch.run("ovs-appctl coverage/show");
    let misses = coverage.lines().find(|line| line.starts_with("cache_miss ")).expect("an event");
    assert!(misses.contains("/sec ") && misses.ends_with("   total: 3"), "{coverage}");
    assert!(coverage.trim_end().ends_with(" events never hit"), "{coverage}");
    let shown = switch.run("ovs-appctl dpctl/show -s netdev@ovs-netdev");
    let port = shown.split_once(": p1 (").expect("the port").1;
    let port = port.split("  port ").next().unwrap_or_default();
    for words in
        ["RX packets:2 errors:0 dropped:0 ", "TX packets:1 errors:0 dropped:0 ", "RX bytes:2000 (2.0 KiB)"]
    {
        assert!(port.contains(words), "{words}: {shown}");
    }

    let perf = switch.run("ovs-appctl dpif-netdev/pmd-perf-show -nh");
    let received =
        perf.lines().filter_map(|l| l.trim().strip_prefix("Rx packets:")?.split_whitespace().next());
    assert_eq!(received.filter_map(|n| n.parse::<u32>().ok()).sum::<u32>(), 3, "{perf}");
    assert_eq!(perf.matches("Measurement duration: ").count(), 2, "{perf}");

    // Received, found in no cache: two at one worker, one at the other. Then nothing, until there is more.
    let stats = |args: &str| {
        let text = switch.run(&format!("ovs-appctl dpif-netdev/pmd-stats-show {args}"));
        let sum = |what: &str| -> u64 {
            let values = text
                .lines()
                .filter_map(|l| l.trim().strip_prefix(what)?.strip_prefix(": ")?.parse::<u64>().ok());
            values.sum()
        };
        let [received, hits, missed] =
            ["packets received", "megaflow hits", "miss with success upcall"].map(sum);
        (received, hits, missed)
    };
    assert_eq!(stats(""), (3, 0, 3));
    let [first, second] = [stats("-pmd 0"), stats("-pmd 1")];
    assert!(first.0.min(second.0) == 1 && first.0 + second.0 == 3, "{first:?} {second:?}");
    switch.run("ovs-appctl dpif-netdev/pmd-stats-clear -pmd 0");
    assert_eq!((stats("-pmd 0"), stats("-pmd 1")), ((0, 0, 0), second));
    switch.run("ovs-appctl dpif-netdev/pmd-stats-clear");
    assert_eq!(stats(""), (0, 0, 0));
    let again = "in_port(p1),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:99),eth_type(0x88b5)";
    switch.run(&format!("ovs-appctl netdev-dummy/receive p1 {again}"));
    assert_eq!(stats(""), (1, 1, 0));
    // What ports count does not begin anew.
    assert_eq!(switch.port_counters("br0", "p1")["rx pkts"], 3);
    for bad in
        ["dpctl/del-flows nosuch", "dpctl/show nosuch", "dpctl/dump-flows nosuch", "dpif/dump-flows br0 br0"]
    {
        switch.fails(&format!("ovs-appctl {bad}"));
    }
    assert_eq!(flows("").0, "123", "nothing was deleted");
    // One, by its number; those that a file names, by number or key.
    switch.run(&format!("ovs-appctl dpctl/del-flow {ufid}"));
    assert_eq!(flows("").0, "13");
    assert!(switch.fails(&format!("ovs-appctl dpctl/del-flow {ufid}")).contains("No such file or directory"));
    let file = switch.dir().join("flows");
    std::fs::write(&file, flows("filter=ip").1).expect("written");
    switch.run(&format!("ovs-appctl dpctl/del-flows {}", file.display()));
    assert_eq!(flows("").0, "1");
    switch.run("ovs-appctl dpctl/del-flows netdev@ovs-netdev");
    assert_eq!(flows("").0, "");
}

/// The commands that Tapestry was first asked to answer, on real devices, as a user types them.
#[test]
fn the_first_commands_of_a_user_work() {
    let switch = Switch::start(&[]);
    let sw = switch.ns().name();
    ip(&format!("-n {sw} link add veth0 type veth peer name veth1"));
    switch.run("ovs-vsctl add-br br0");
    switch.run("ovs-vsctl add-port br0 pod1 -- set Interface pod1 type=internal");
    switch.run("ovs-vsctl add-port br0 pod2 tag=10 -- set Interface pod2 type=internal");
    switch.run("ovs-vsctl add-port br0 veth0");
    switch
        .run("ovs-ofctl add-flow br0 table=0,priority=100,tcp,nw_dst=10.0.0.2,tp_dst=80,actions=output:pod2");
    let flows = switch.run("ovs-ofctl dump-flows br0");
    assert!(flows.contains("priority=100,tcp,nw_dst=10.0.0.2,tp_dst=80 actions=output:2"), "{flows}");
    assert!(flows.contains("priority=0 actions=NORMAL"), "{flows}");
    let shown = switch.run("ovs-ofctl show br0");
    for port in ["1(pod1)", "2(pod2)", "3(veth0)", "LOCAL(br0)"] {
        assert!(shown.contains(port), "{port}: {shown}");
    }
    assert!(switch.run("ovs-ofctl dump-ports br0").contains("4 ports"));
    assert!(switch.run("ovs-appctl fdb/show br0").starts_with(" port  VLAN  MAC                Age"));
    let shown = switch.run("ovs-vsctl show");
    for words in [
        "Bridge br0",
        "Port pod2\n            tag: 10\n            Interface pod2\n                type: internal",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
    for device in ["br0", "pod1", "pod2"] {
        ip(&format!("-n {sw} link show {device}"));
    }
    // Everything that the control socket lists is answered, if only by a word about its arguments.
    let listed = switch.run("ovs-appctl list-commands");
    for name in [
        "version",
        "exit",
        "list-commands",
        "vlog/list",
        "vlog/set",
        "fdb/show",
        "fdb/flush",
        "dpif/show",
        "dpif/dump-flows",
        "dpctl/dump-flows",
        "coverage/show",
        "memory/show",
        "time/stop",
        "time/warp",
        "netdev-dummy/receive",
        "ofproto/trace",
    ] {
        assert!(
            listed.lines().any(|l| l.split_whitespace().next() == Some(name)),
            "{name} is not listed:\n{listed}"
        );
    }
    for command in ["version", "vlog/list", "coverage/show", "memory/show", "dpif/show", "dpctl/dump-flows"] {
        assert!(
            !switch.run(&format!("ovs-appctl {command}")).is_empty() || command == "dpctl/dump-flows",
            "{command}"
        );
    }
    // Without --enable-dummy nobody stops the clock of a real switch.
    switch.fails("ovs-appctl time/stop");
    // A bridge goes with its devices.
    switch.run("ovs-vsctl del-port br0 pod1");
    assert_ne!(run(Command::new("ip").args(["-n", sw, "link", "show", "pod1"])).code, 0, "pod1 is left");
    switch.run("ovs-vsctl del-br br0");
    for device in ["br0", "pod2"] {
        assert_ne!(
            run(Command::new("ip").args(["-n", sw, "link", "show", device])).code,
            0,
            "{device} is left"
        );
    }
    assert!(!switch.dir().join("br0.mgmt").exists());
    ip(&format!("-n {sw} link show veth0"));
    for line in switch.log().lines() {
        assert!(!line.contains("|WARN|") && !line.contains("|ERR|"), "normal, yet logged: {line}");
    }
}

/// What `ovs-ofctl monitor`, `snoop` and `monitor watch:` print, here and of Open vSwitch.
#[test]
fn monitors_and_snoopers_see_what_happens() {
    let mut pair = Pair::start();
    pair.bridge(2);
    for version in VERSIONS {
        pair.both("ovs-ofctl del-flows br0");
        pair.both("ovs-ofctl add-flow br0 in_port=1,actions=controller(max_len=20),2");
        let mut seen = vec![];
        for daemon in [&pair.real as &dyn Tools, &pair.ours] {
            let packets =
                Watching::start(daemon, "packets", &format!("ovs-ofctl {version} monitor br0 65534"));
            let changes =
                Watching::start(daemon, "changes", &format!("ovs-ofctl {version} monitor br0 watch:"));
            let snooped = Watching::start(daemon, "snooped", &format!("ovs-ofctl {version} snoop br0"));
            // The set of rules as it is comes first, which tells that the monitor is there; so does a packet for the other.
            changes.sees("actions=");
            let receive = "ovs-appctl netdev-dummy/receive p1 0200000000010200000000020800450000140000000040066bd00a0000010a000002";
            wait_for("a packet-in", || {
                daemon.run(receive);
                packets.text().split("PACKET_IN").count() > 2
            });
            daemon.run(&format!("ovs-ofctl {version} add-flow br0 cookie=0x5,in_port=2,actions=1"));
            changes.sees("ADDED");
            daemon.run(&format!("ovs-ofctl {version} mod-flows br0 in_port=2,actions=2,1"));
            changes.sees("MODIFIED");
            daemon.run(&format!("ovs-ofctl {version} del-flows br0 in_port=2"));
            changes.sees("DELETED");
            // So that the line before is whole.
            daemon.run(&format!("ovs-ofctl {version} add-flow br0 in_port=7,actions=drop"));
            changes.sees("in_port=7");
            daemon.run(&format!("ovs-ofctl {version} del-flows br0 in_port=7"));
            // One of each, without what depends on the moment.
            let first = |text: &str, word: &str, lines: usize| {
                let found: Vec<&str> = text.lines().skip_while(|l| !l.contains(word)).take(lines).collect();
                assert_eq!(found.len(), lines, "{text}");
                tests::text::steady(&found.join("\n"))
            };
            let (packets, changes) = (packets.text(), changes.text());
            let event = |word: &str| {
                let line = changes.lines().find(|l| l.contains(word)).unwrap_or_default().to_owned();
                tests::text::steady(&line)
            };
            let events = [event("ADDED"), event("MODIFIED"), event("DELETED")];
            seen.push([first(&packets, "PACKET_IN", 2), events.join("\n")].join("\n"));
            drop(snooped);
        }
        pair.note(&format!("monitor {version}"), &seen[0], &seen[1]);
    }
    pair.finish();
}

/// With a controller attached, a snooper sees both sides of its conversation.
#[test]
fn a_snooper_hears_the_controller() {
    let pair = Pair::start();
    pair.bridge(1);
    for daemon in [&pair.real as &dyn Tools, &pair.ours] {
        let path = daemon.dir().join("controller");
        let listener = UnixListener::bind(&path).expect("a listener");
        daemon.run(&format!("ovs-vsctl set-controller br0 unix:{}", path.display()));
        listener.set_nonblocking(true).expect("a listener");
        let (mut switch, _) = wait_for_some("the switch connects", || listener.accept().ok());
        switch.set_nonblocking(false).expect("a stream");
        switch.set_read_timeout(Some(DAEMON_WAIT_MAX)).expect("a limit");
        // HELLO of OpenFlow 1.0 (version 1, type 0).
        switch.write_all(&[1, 0, 0, 8, 0, 0, 0, 1]).expect("written");
        let snooped = Watching::start(daemon, "snooped", "ovs-ofctl snoop br0");
        wait_for("something to be heard", || {
            // FEATURES_REQUEST (type 5).
            switch.write_all(&[1, 5, 0, 8, 0, 0, 0, 9]).expect("written");
            snooped.text().contains("OFPT_FEATURES_REPLY")
        });
        snooped.sees("OFPT_FEATURES_REQUEST");
    }
    for daemon in [&pair.real as &dyn Tools, &pair.ours] {
        // Open vSwitch writes it with its statistics, every five seconds.
        wait_for("the end is noted", || daemon.run("ovs-vsctl get Controller . is_connected") == "false\n");
    }
    pair.finish();
}

/// What is not built answers with OpenFlow's own error, and is not silently taken.
#[test]
fn what_is_not_built_is_refused() {
    let switch = Switch::start(&["--enable-dummy=override"]);
    switch.run("ovs-vsctl add-br br0 -- add-port br0 p1");
    let before = switch.run("ovs-ofctl --no-stats dump-flows br0");
    for (line, error) in [
        ("ovs-ofctl add-flow br0 in_port=1,actions=ct(commit)", "OFPBAC_"),
        ("ovs-ofctl add-flow br0 in_port=1,actions=learn(table=1)", "OFPBAC_"),
        ("ovs-ofctl add-flow br0 in_port=1,actions=enqueue:1:7", "OFPBAC_"),
        ("ovs-ofctl add-flow br0 in_port=1,actions=conjunction(1,1/2)", "OFPBAC_"),
        (
            "ovs-ofctl -O OpenFlow13 add-flow br0 in_port=1,actions=check_pkt_larger(9)->NXM_NX_REG0[0]",
            "OFPBAC_",
        ),
    ] {
        let text = switch.fails(line);
        assert!(text.contains(error), "{line}: {text}");
    }
    assert_eq!(switch.run("ovs-ofctl --no-stats dump-flows br0"), before);
}

/// `tapctl` does what the ovs-* tools do.
#[test]
fn tapctl_is_another_way_to_the_same() {
    let switch = Switch::start(&["--enable-dummy=override"]);
    switch.tapctl("add-br br0");
    switch.tapctl("add-port br0 p1 --type dummy");
    switch.tapctl("add-flow br0 priority=7,in_port=p1,actions=drop");
    let flows = switch.run("ovs-ofctl --no-stats dump-flows br0");
    assert!(flows.contains("priority=7,in_port=1 actions=drop"), "{flows}");
    assert!(switch.tapctl("dump-flows br0").contains("priority=7"));
    let json: serde_json::Value = serde_json::from_str(&switch.tapctl("--json show")).expect("JSON");
    assert!(json.to_string().contains("\"p1\""), "{json}");
    // Every type of interface that the daemon has can be named, whether or not its options are there too.
    let types = switch.run("ovs-vsctl get Open_vSwitch . iface_types");
    let types: Vec<&str> = types.trim().trim_matches(['[', ']']).split(", ").collect();
    assert!(types.contains(&"vxlan"), "{types:?}");
    for (n, kind) in types.iter().enumerate() {
        switch.tapctl(&format!("add-port br0 any{n} --type {kind} --option peer=p1 --no-wait"));
        assert_eq!(switch.run(&format!("ovs-vsctl get Interface any{n} type")).trim(), *kind);
    }
    // A flow that cannot be is refused with the word at fault.
    let mut command = Command::new(binary("tapctl"));
    command.args(["add-flow", "br0", "priority=7,in_prt=1,actions=drop"]).env("OVS_RUNDIR", switch.dir());
    let ran = run(&mut command);
    assert!(ran.code != 0 && ran.stderr.contains("in_prt"), "{}", ran.stderr);
    // Nothing is coloured when nobody looks.
    assert!(!switch.tapctl("show").contains('\u{1b}'));
}
