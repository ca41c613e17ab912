//! Flow text: what ovs-ofctl 3.1 was seen to print for what it was given, its messages, and properties.

use flowtable::field::FIELDS;
use flowtable::flow_mod::FlowModCommand;
use flowtable::rule::{Cookie, RuleFlags};
use flowtable::text::{
    Dialect, FlowLine, FlowLineForm, FlowUsage, NoPortNames, ParsedFlow, TextFault, TextStyle,
    display_actions, display_key, display_match, parse_actions, parse_flow, parse_flow_line, parse_key,
    parse_match,
};
use flowtable::{FlowKey, Match, OfPort, TableId, Words};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

const ADD: FlowUsage = FlowUsage::Mod(FlowModCommand::Add);

fn names() -> BTreeMap<OfPort, String> {
    [(1, "p1"), (2, "p2"), (3, "eth-3.x"), (5, "1x"), (6, "true"), (8, "in_port"), (11, "_x")]
        .map(|(n, name)| (OfPort(n), name.to_owned()))
        .into()
}

fn print(flow: &ParsedFlow, style: TextStyle<'_>) -> String {
    let matching = display_match(&flow.matching, flow.priority, style).to_string();
    let space = if matching.is_empty() { "" } else { " " };
    format!("{matching}{space}actions={}", display_actions(&flow.actions, style))
}

fn reprint(text: &str) -> String {
    match parse_flow(text, ADD, &names()) {
        Ok(flow) => print(&flow, TextStyle::default()),
        Err(e) => panic!("{text}: {e}"),
    }
}

/// What goes in and what ovs-ofctl prints (`-F nxm parse-flow`), both without `actions=drop`.
const MATCHES: &[(&str, &str)] = &[
    ("", ""),
    ("in_port=1 , tcp\tnw_src=1.2.3.4,, ", "tcp,in_port=1,nw_src=1.2.3.4"),
    ("in_port(1)tcp", "tcp,in_port=1"),
    ("in_port:1", "in_port=1"),
    ("in_port=65534", "in_port=LOCAL"),
    ("in_port=4294967294", "in_port=LOCAL"),
    ("in_port=local", "in_port=LOCAL"),
    ("in_port_oxm=5", "in_port=5"),
    ("priority=0x10", "priority=16"),
    ("priority=5 priority=6", "priority=6"),
    ("dl_src=00:01:02:03:04:05/ff:ff:ff:00:00:00", "dl_src=00:01:02:00:00:00/ff:ff:ff:00:00:00"),
    ("eth_dst=1:0:0:0:0:0/01:00:00:00:00:00", "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"),
    ("dl_dst=*", ""),
    ("dl_type=0x88cc", "dl_type=0x88cc"),
    ("dl_type=0x800,nw_proto=6", "tcp"),
    ("dl_type=0x8848,mpls_label=99", "mplsm,mpls_label=99"),
    ("eth", ""),
    ("packet_type=(0,0)", ""),
    ("tcp,udp", "udp"),
    ("tcp,dl_type=0x86dd", "tcp6"),
    ("ip4", "ip"),
    ("ip6", "ipv6"),
    ("dl_vlan=10", "dl_vlan=10"),
    ("dl_vlan=0xffff", "vlan_tci=0x0000"),
    ("dl_vlan=5,dl_vlan_pcp=3", "dl_vlan=5,dl_vlan_pcp=3"),
    ("vlan_pcp=3", "dl_vlan_pcp=3"),
    ("dl_vlan=0xffff,vlan_pcp=3", "dl_vlan=0,dl_vlan_pcp=3"),
    ("vlan_pcp=3,dl_vlan=0xffff", "vlan_tci=0x0000"),
    ("vlan_vid=0x1005", "dl_vlan=5"),
    ("vlan_vid=5", "vlan_tci=0x0005/0x1fff"),
    ("vlan_vid=0", "vlan_tci=0x0000/0x1fff"),
    ("vlan_vid=0x1000/0x1000", "vlan_tci=0x1000/0x1000"),
    ("vlan_vid=0x1005/0x100f", "vlan_tci=0x1005/0x100f"),
    ("vlan_vid=0x1000/0x1000,dl_vlan_pcp=3", "dl_vlan_pcp=3"),
    ("vlan_tci=0x7005", "dl_vlan=5,dl_vlan_pcp=3"),
    ("vlan_tci=0x0005", "vlan_tci=0x0005"),
    ("vlan_tci=0x7005/0xf000", "dl_vlan_pcp=3"),
    ("vlan_tci=0x7000/0xe000", "vlan_tci=0x6000/0xe000"),
    ("vlan_tci=0x1005/0x5fff", "vlan_tci=0x1005/0x5fff"),
    ("vlan_tci=0xe005/0xefff", "vlan_tci=0xe005/0xefff"),
    ("vlan_tci=0x0/0x1000", "vlan_tci=0x0000/0x1000"),
    ("ip,nw_src=10.0.0.0/24", "ip,nw_src=10.0.0.0/24"),
    ("ip,nw_src=10.0.0.1/255.255.0.0", "ip,nw_src=10.0.0.0/16"),
    ("ip,nw_src=10.1.1.1/255.0.255.0", "ip,nw_src=10.0.1.0/255.0.255.0"),
    ("ip,nw_src=10.1.1.1/0", "ip"),
    ("ip_dst=1.2.3.4,ip", "ip,nw_dst=1.2.3.4"),
    ("ipv6,ipv6_src=2001:db8::1/64", "ipv6,ipv6_src=2001:db8::/64"),
    ("ipv6,ipv6_src=::1.2.3.4,ipv6_dst=::ffff:1.2.3.4", "ipv6,ipv6_src=::1.2.3.4,ipv6_dst=::ffff:1.2.3.4"),
    ("ipv6,ipv6_src=::1/::ffff", "ipv6,ipv6_src=::1/::ffff"),
    ("ipv6,ipv6_src=::1/ffff::", "ipv6,ipv6_src=::/16"),
    ("ipv6_label=5,ipv6", "ipv6,ipv6_label=0x00005"),
    ("ipv6,ipv6_label=5/0xff", "ipv6,ipv6_label=0x00005/0x000ff"),
    ("ip,nw_tos=33", "ip,nw_tos=32"),
    ("ip,ip_dscp=8,ip_ecn=2", "ip,nw_tos=32,nw_ecn=2"),
    ("ip,nw_ttl=4", "ip,nw_ttl=4"),
    ("ip,nw_proto=7", "ip,nw_proto=7"),
    ("ip,nw_proto=58", "ip,nw_proto=58"),
    ("ip,ip_frag=no", "ip,nw_frag=no"),
    ("ip,ip_frag=yes", "ip,nw_frag=yes"),
    ("ip,nw_frag=first", "ip,nw_frag=first"),
    ("ip,ip_frag=later", "ip,nw_frag=later"),
    ("ip,ip_frag=not_later", "ip,nw_frag=not_later"),
    ("tcp,tp_dst=80/0xff00", "tcp,tp_dst=0x0/0xff00"),
    ("tcp,tp_src=010", "tcp,tp_src=8"),
    ("udp,tp_src=5,udp_dst=6", "udp,tp_src=5,tp_dst=6"),
    ("sctp6,tp_src=5/0xf", "sctp6,tp_src=0x5/0xf"),
    ("tcp,tp_dst=5/0", "tcp"),
    ("tcp,tcp_flags=+syn-ack", "tcp,tcp_flags=+syn-ack"),
    ("tcp,tcp_flags=0x12/0x12", "tcp,tcp_flags=+syn+ack"),
    ("tcp,tcp_flags=syn|ack", "tcp,tcp_flags=syn|ack"),
    ("tcp,tcp_flags=0", "tcp,tcp_flags=0"),
    ("tcp,tcp_flags=0/0x600", "tcp,tcp_flags=-[200]-[400]"),
    ("tcp,tcp_flags=0x800/0x800", "tcp,tcp_flags=+[800]"),
    ("tcp,tcp_flags=0xfff", "tcp,tcp_flags=fin|syn|rst|psh|ack|urg|ece|cwr|ns|[200]|[400]|[800]"),
    ("icmp,tp_src=5,icmp_code=6", "icmp,icmp_type=5,icmp_code=6"),
    (
        "icmp6,icmpv6_type=136,icmpv6_code=0,nd_target=fe80::/64,nd_tll=00:00:00:00:00:01,nd_reserved=5,nd_options_type=2",
        "icmp6,icmp_type=136,icmp_code=0,nd_target=fe80::/64,nd_tll=00:00:00:00:00:01,nd_reserved=5,nd_options_type=2",
    ),
    ("icmp6,icmp_type=135,nd_target=::1", "icmp6,icmp_type=135,nd_target=::1"),
    (
        "arp,arp_op=1,arp_tpa=2.2.2.0/24,arp_spa=1.1.1.1,arp_sha=00:00:00:00:00:01,arp_tha=00:00:00:00:00:02",
        "arp,arp_spa=1.1.1.1,arp_tpa=2.2.2.0/24,arp_op=1,arp_sha=00:00:00:00:00:01,arp_tha=00:00:00:00:00:02",
    ),
    ("arp,nw_proto=1,nw_src=1.1.1.1", "arp,arp_spa=1.1.1.1,arp_op=1"),
    (
        "mpls,mpls_label=5,mpls_tc=3,mpls_bos=1,mpls_ttl=4",
        "mpls,mpls_label=5,mpls_tc=3,mpls_ttl=4,mpls_bos=1",
    ),
    ("ct_state=+trk+est-new", "ct_state=-new+est+trk"),
    ("ct_state=trk|new", "ct_state=new|trk"),
    ("ct_state=0x21/0x3f", "ct_state=+new-est-rel-rpl-inv+trk"),
    ("ct_state=0x21/0xff", "ct_state=new|trk"),
    ("ct_state=0", "ct_state=0"),
    (
        "ct_zone=0x10,ct_mark=5/0xf,ct_label=0x12345678901234567890",
        "ct_zone=16,ct_mark=0x5/0xf,ct_label=0x12345678901234567890",
    ),
    ("tun_flags=oam", "tun_flags=+oam"),
    ("tun_flags=0", "tun_flags=-oam"),
    (
        "tunnel_id=5/0xff,tun_src=1.2.3.4,tun_dst=1.2.3.0/24",
        "tun_id=0x5/0xff,tun_src=1.2.3.4,tun_dst=1.2.3.0/24",
    ),
    ("tun_id=0", "tun_id=0"),
    ("tun_gbp_id=5/7,tun_gbp_flags=3", "tun_gbp_id=0x5/0x7,tun_gbp_flags=0x3"),
    ("tun_ipv6_src=::1:0", "tun_ipv6_src=::0.1.0.0"),
    ("metadata=-1", "metadata=0xffffffffffffffff"),
    ("metadata=5/7,reg0=0/3", "reg0=0/0x3,metadata=0x5/0x7"),
    ("xreg0=5", "reg0=0,reg1=0x5"),
    ("xreg1=0x500000000/0xff00000000", "reg2=0x5/0xff"),
    ("xxreg0=5,reg3=6", "reg0=0,reg1=0,reg2=0,reg3=0x6"),
    ("pkt_mark=5/7,dp_hash=5/7", "pkt_mark=0x5/0x7,dp_hash=0x5/0x7"),
    ("recirc_id=0", "recirc_id=0"),
    ("recirc_id=4,ip", "recirc_id=0x4,eth,ip"),
    ("recirc_id=4,in_port=1", "recirc_id=0x4,in_port=1"),
    ("actset_output=LOCAL", "actset_output=LOCAL"),
    // Fields that frames of the match do not have.
    ("tp_dst=80", ""),
    ("nw_proto=6", ""),
    ("ip,tp_dst=1", "ip"),
    ("ip,tcp_flags=2", "ip"),
    ("ipv6,nd_target=::1", "ipv6"),
    ("icmp6,icmp_type=135,icmp_code=1,nd_target=::1", "icmp6,icmp_type=135,icmp_code=1"),
    ("icmp6,icmp_type=135,nd_tll=00:00:00:00:00:01", "icmp6,icmp_type=135"),
    ("mpls_tc=3", ""),
    ("arp,nw_tos=4", "arp"),
    ("ipv6,nw_proto=1,tp_src=3", "ipv6,nw_proto=1"),
    (
        "dl_src=00:01:02:03:04:05,dl_dst=ff:ff:ff:ff:ff:ff,in_port=1,dl_vlan=3,reg0=1,metadata=3,ct_state=trk,ct_zone=3,\
         ct_mark=3,ct_label=3,ipv6,ipv6_src=::1,ipv6_dst=::2,ipv6_label=3,nw_tos=4,nw_ecn=1,nw_ttl=4,nw_frag=no,tun_id=3,\
         tun_src=1.1.1.1,tun_dst=2.2.2.2,tun_flags=oam,tun_gbp_id=3,tun_gbp_flags=1,pkt_mark=3,recirc_id=4,dp_hash=5,\
         actset_output=3",
        "pkt_mark=0x3,recirc_id=0x4,dp_hash=0x5,actset_output=3,ct_state=trk,ct_zone=3,ct_mark=0x3,ct_label=0x3,eth,ipv6,\
         reg0=0x1,tun_id=0x3,tun_src=1.1.1.1,tun_dst=2.2.2.2,tun_gbp_id=3,tun_gbp_flags=0x1,tun_flags=+oam,metadata=0x3,\
         in_port=1,dl_vlan=3,dl_src=00:01:02:03:04:05,dl_dst=ff:ff:ff:ff:ff:ff,ipv6_src=::1,ipv6_dst=::2,\
         ipv6_label=0x00003,nw_tos=4,nw_ecn=1,nw_ttl=4,nw_frag=no",
    ),
];

#[test]
fn matches_are_printed_as_ovs_ofctl_prints_them() {
    for (given, printed) in MATCHES {
        let space = if printed.is_empty() { "" } else { " " };
        assert_eq!(
            reprint(&format!("{given},actions=drop")),
            format!("{printed}{space}actions=drop"),
            "{given}"
        );
    }
}

/// Actions as given and as printed.
const ACTIONS: &[(&str, &str)] = &[
    ("", "drop"),
    ("drop,drop", "drop"),
    (",", "drop"),
    ("2", "output:2"),
    ("output=1", "output:1"),
    ("output(2)", "output:2"),
    ("output:1 output:2", "output:1,output:2"),
    (" output:1 ,, output:2 ", "output:1,output:2"),
    ("Flood,all,normal,in_port,local,TABLE", "FLOOD,ALL,NORMAL,IN_PORT,LOCAL,TABLE"),
    ("output:in_port,output:LOCAL", "IN_PORT,LOCAL"),
    ("normal:3,3:4", "NORMAL,output:3"),
    ("65279", "output:65279"),
    (
        "controller,controller:,controller(),controller:128",
        "CONTROLLER:65535,CONTROLLER:65535,CONTROLLER:65535,CONTROLLER:128",
    ),
    ("output:controller", "CONTROLLER:65535"),
    ("controller(max_len=0x10),controller(reason=action)", "CONTROLLER:16,CONTROLLER:65535"),
    ("controller(reason=no_match)", "controller(reason=no_match)"),
    (
        "controller(id=5,max_len=100,reason=invalid_ttl,userdata=0102.ff,pause)",
        "controller(reason=invalid_ttl,max_len=100,id=5,userdata=01.02.ff,pause)",
    ),
    ("controller(userdata=)", "CONTROLLER:65535"),
    (
        "output:reg0,output:reg0[0..15],output:NXM_NX_REG3[4]",
        "output:NXM_NX_REG0[],output:NXM_NX_REG0[0..15],output:NXM_NX_REG3[4]",
    ),
    ("output(port=in_port,max_len=100)", "output(port=IN_PORT,max_len=100)"),
    ("enqueue:1:2,enqueue(1,2),enqueue:LOCAL:3", "enqueue:1:2,enqueue:1:2,enqueue:LOCAL:3"),
    (
        "resubmit:3,resubmit(3),resubmit(3,),resubmit(,4),resubmit(3,4),resubmit(in_port,3)",
        "resubmit:3,resubmit:3,resubmit:3,resubmit(,4),resubmit(3,4),resubmit(,3)",
    ),
    ("resubmit:NONE", "resubmit:ANY"),
    ("strip_vlan,pop_vlan:3", "strip_vlan,strip_vlan"),
    ("mod_vlan_vid:3,set_vlan_pcp:2", "mod_vlan_vid:3,mod_vlan_pcp:2"),
    ("push_vlan:0x8100,push_vlan:0x88a8", "push_vlan:0x8100,push_vlan:0x88a8"),
    (
        "mod_dl_src:0:1:2:3:4:5,mod_nw_dst:4.3.2.1,mod_nw_tos:32",
        "mod_dl_src:00:01:02:03:04:05,mod_nw_dst:4.3.2.1,mod_nw_tos:32",
    ),
    ("mod_tp_src:5,mod_tp_dst:0x10", "mod_tp_src:5,mod_tp_dst:16"),
    ("push_mpls:0x8847,pop_mpls:0x800", "push_mpls:0x8847,pop_mpls:0x0800"),
    (
        "set_mpls_label:3,set_mpls_tc(3),set_mpls_ttl:4,dec_mpls_ttl",
        "set_mpls_label(3),set_mpls_tc(3),set_mpls_ttl(4),dec_mpls_ttl",
    ),
    ("dec_ttl,dec_ttl(),dec_ttl(1,2),dec_ttl:3", "dec_ttl,dec_ttl,dec_ttl(1,2),dec_ttl(3)"),
    ("set_tunnel:5,set_tunnel64:0x100000000", "set_tunnel:0x5,set_tunnel64:0x100000000"),
    ("set_tunnel:-1", "set_tunnel64:0xffffffffffffffff"),
    ("note:aabb.cc.dd.ee.ff,exit:3", "note:aa.bb.cc.dd.ee.ff,exit"),
    (
        "load:3->reg1,load:0->NXM_NX_REG1[3..6],load:1->tun_flags[]",
        "load:0x3->NXM_NX_REG1[],load:0->NXM_NX_REG1[3..6],load:0x1->NXM_NX_TUN_FLAGS[]",
    ),
    ("load:5->xxreg0[]", "load:0x5->NXM_NX_XXREG0[0..63],load:0->NXM_NX_XXREG0[64..127]"),
    ("load:5->xxreg0[3..70]", "load:0x5->NXM_NX_XXREG0[3..66],load:0->NXM_NX_XXREG0[67..70]"),
    ("load:5->OXM_OF_METADATA[],load:5->xreg0", "load:0x5->OXM_OF_METADATA[],load:0x5->OXM_OF_PKT_REG0[]"),
    (
        "move:reg0[0..15]->reg1[16..31],move:eth_src->eth_dst",
        "move:NXM_NX_REG0[0..15]->NXM_NX_REG1[16..31],move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
    ),
    (
        "move:actset_output[]->reg0[],move:in_port[]->reg0[0..15]",
        "move:ONFOXM_ET_ACTSET_OUTPUT[]->NXM_NX_REG0[],move:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]",
    ),
    // As OpenFlow 1.5 carries them.
    (
        "set_field:5->reg0,set_field:0x8/7->reg0,set_field:0->reg0",
        "set_field:0x5->reg0,set_field:0/0x7->reg0,set_field:0->reg0",
    ),
    ("set_field:1/0->reg0", "drop"),
    (
        "set_field:LOCAL->in_port,set_field:+oam->tun_flags,set_field:1->tun_gbp_id",
        "set_field:LOCAL->in_port,set_field:oam->tun_flags,set_field:1->tun_gbp_id",
    ),
    (
        "set_field:1.2.3.4->tun_dst,set_field:::1->tun_ipv6_dst",
        "set_field:1.2.3.4->tun_dst,set_field:::1->tun_ipv6_dst",
    ),
    (
        "set_field:00:00:00:00:00:05/00:00:00:00:00:ff->eth_src",
        "set_field:00:00:00:00:00:05/00:00:00:00:00:ff->eth_src",
    ),
    (
        "push_vlan:0x8100,set_field:4099->vlan_vid,set_field:3->vlan_pcp",
        "push_vlan:0x8100,set_field:4099->vlan_vid,set_field:3->vlan_pcp",
    ),
    ("push_mpls:0x8847,set_field:9->mpls_label", "push_mpls:0x8847,set_field:9->mpls_label"),
    ("write_metadata:5,goto_table:3", "write_metadata:0x5,goto_table:3"),
    ("write_metadata:5/7", "write_metadata:0x5/0x7"),
    (
        "output:1,clear_actions,write_actions(output:2,mod_vlan_vid:4),write_metadata:5/7,goto_table:3",
        "output:1,clear_actions,write_actions(output:2,mod_vlan_vid:4),write_metadata:0x5/0x7,goto_table:3",
    ),
];

#[test]
fn actions_are_printed_as_ovs_ofctl_prints_them() {
    for (given, printed) in ACTIONS {
        assert_eq!(reprint(&format!("actions={given}")), format!("actions={printed}"), "{given}");
    }
    let later = TextStyle::default().dialect(Dialect::OpenFlow11);
    let actions = parse_actions("strip_vlan", &NoPortNames).unwrap();
    assert_eq!(display_actions(&actions, later).to_string(), "pop_vlan");
}

#[test]
fn port_names() {
    let names = names();
    let style = TextStyle::with_names(&names);
    for (given, numbers, named) in [
        ("in_port=p1,actions=p2", "in_port=1 actions=output:2", "in_port=p1 actions=output:p2"),
        (
            "in_port=\"eth-3.x\",actions=resubmit(\"eth-3.x\",3),enqueue(p1,3),output(port=\"eth-3.x\",max_len=100)",
            "in_port=3 actions=resubmit(3,3),enqueue:1:3,output(port=3,max_len=100)",
            "in_port=\"eth-3.x\" actions=resubmit(\"eth-3.x\",3),enqueue:p1:3,output(port=\"eth-3.x\",max_len=100)",
        ),
        (
            "in_port=5,actions=6,8,11",
            "in_port=5 actions=output:6,output:8,output:11",
            "in_port=\"1x\" actions=output:true,output:\"in_port\",output:\"_x\"",
        ),
        (
            "actions=eth-3.x,\"in_port\",in_port",
            "actions=output:3,output:8,IN_PORT",
            "actions=output:\"eth-3.x\",output:\"in_port\",IN_PORT",
        ),
    ] {
        let flow = parse_flow(given, ADD, &names).unwrap_or_else(|e| panic!("{given}: {e}"));
        assert_eq!(print(&flow, TextStyle::default()), numbers);
        assert_eq!(print(&flow, style), named);
        assert_eq!(parse_flow(named, ADD, &names).map(|f| f.matching), Ok(flow.matching));
    }
}

/// Flows that are none and what ovs-ofctl says of them.
const ERRORS: &[(&str, &str)] = &[
    ("in_port=1", "must specify an action"),
    ("actions", "must specify an action"),
    ("foo=1,actions=", "unknown keyword foo"),
    ("bar,actions=drop", "field bar missing value"),
    ("=5,actions=", "unknown keyword "),
    ("TCP,actions=", "field TCP missing value"),
    ("IN_PORT=1,actions=", "unknown keyword IN_PORT"),
    ("reg16=1,actions=", "unknown keyword reg16"),
    ("NXM_NX_REG0=5,actions=", "unknown keyword NXM_NX_REG0"),
    ("priority,actions=", "field priority missing value"),
    ("cookie=,actions=", "field cookie missing value"),
    ("priority=foo,actions=", "invalid priority \"foo\""),
    ("priority=70000,actions=", "invalid priority \"70000\""),
    ("idle_timeout=-1,actions=", "invalid idle_timeout \"-1\""),
    ("importance=70000,actions=", "invalid importance \"70000\""),
    ("table=300,actions=", "unknown table \"300\""),
    ("table=0x3,actions=", "unknown table \"0x3\""),
    ("cookie=5x,actions=", "invalid numeric format 5x"),
    ("cookie=1/2,actions=drop", "flow additions cannot use a cookie mask"),
    ("out_port=3,actions=drop", "unknown keyword out_port"),
    ("in_port=foo,actions=", "foo: invalid or unknown port for in_port"),
    ("in_port=99999,actions=", "99999: invalid or unknown port for in_port"),
    ("in_port=5/3 actions=", "5/3: invalid or unknown port for in_port"),
    ("dl_type=0x800/1,actions=", "0x800/1: invalid mask for field eth_type"),
    ("dl_src=00:01:02:03:04,actions=", "00:01:02:03:04: invalid Ethernet address"),
    ("dl_src=00:01:02:03:04:05/x,actions=", "00:01:02:03:04:05/x: invalid Ethernet address"),
    ("tcp,nw_src=x,actions=drop", "x: invalid IP address"),
    (
        "ip,nw_src=10.1.1.1/33,actions=",
        "10.1.1.1/33: IPv4 network prefix bits not between 0 and 32, inclusive",
    ),
    ("ip,nw_src=10.1.1/24,actions=", "10.1.1/24: invalid IP address"),
    ("ip,nw_src=10.1.1.1/,actions=", "10.1.1.1/: invalid IP address"),
    ("ipv6,ipv6_src=zz,actions=", "zz: invalid IPv6 address"),
    (
        "ipv6,ipv6_src=2001:db8::1/129,actions=",
        "2001:db8::1/129: IPv6 network prefix bits not between 0 and 128, inclusive",
    ),
    ("ip,nw_ttl=256,actions=", "256: value too large for 1-byte field nw_ttl"),
    ("tcp,tp_src=65536,actions=", "65536: value too large for 2-byte field tcp_src"),
    ("tcp,tp_src=http,actions=", "http: bad syntax for tcp_src value"),
    ("tcp,tp_src=-1,actions=", "-1: value too large for 2-byte field tcp_src"),
    ("reg0=5/x,actions=", "5/x: bad syntax for reg0 mask"),
    ("reg0=5/,actions=", "5/: bad syntax for reg0 mask"),
    ("reg0=/5,actions=", "/5: bad syntax for reg0 value"),
    ("reg0=0x1ffffffff,actions=", "0x1ffffffff: value too large for 4-byte field reg0"),
    (
        "metadata=0xffffffffffffffffff,actions=",
        "0xffffffffffffffffff: value too large for 8-byte field metadata",
    ),
    ("ct_zone=0x5/0xf,actions=", "0x5/0xf: invalid mask for field ct_zone"),
    ("dl_vlan=5/3,actions=", "5/3: invalid mask for field dl_vlan"),
    ("tcp,tcp_flags=+foo,actions=", "foo: unknown TCP flag(s)"),
    ("tcp,tcp_flags=syn-ack,actions=", "syn-ack: unknown TCP flag(s)"),
    ("tcp,tcp_flags=syn|foo,actions=", "syn|foo: unknown TCP flag(s)"),
    ("tcp,tcp_flags=+syn+foo-bar,actions=", "foo-bar: unknown TCP flag(s)"),
    ("tcp,tcp_flags=+syn-syn,actions=", "syn: Each TCP flag can be specified only once"),
    ("tcp,tcp_flags=0x1000,actions=", "0x1000: unknown TCP flag(s)"),
    ("tcp,tcp_flags=2/x,actions=", "2/x: unknown TCP flag(s)"),
    ("ct_state=0x100/0x100,actions=", "0x100/0x100: unknown ct_state flag(s)"),
    ("actions=output", ": output to unknown port"),
    ("actions=output:foo", "foo: output to unknown port"),
    ("actions=output:99999", "99999: output to unknown port"),
    ("actions=output:1;output:2", "1;output:2: output to unknown port"),
    ("actions=output:reg0[0..32]", "reg0[0..32]: output to unknown port"),
    ("actions=output:65280", "actions are invalid with specified match (OFPBAC_BAD_OUT_PORT)"),
    ("actions=NONE", "actions are invalid with specified match (OFPBAC_BAD_OUT_PORT)"),
    ("actions=output(port=1)", "port=1: output to unknown port"),
    ("actions=output(port=1,max_len=13)", "max_len 13 is less than the minimum value 14"),
    ("actions=output(port=CONTROLLER,max_len=100)", "output to unsupported truncate port: CONTROLLER"),
    ("actions=foo:3", "unknown action foo"),
    ("actions=FOO(1,2)", "unknown action FOO"),
    ("actions=1,actions=2", "unknown action actions"),
    ("actions=enqueue:1", "\"enqueue\" syntax is \"enqueue:PORT:QUEUE\" or \"enqueue(PORT,QUEUE)\""),
    ("actions=enqueue:foo:3", "foo: enqueue to unknown port"),
    ("actions=enqueue(1,q2)", "invalid numeric format q2"),
    ("actions=controller:65536", "invalid max_len \"65536\""),
    ("actions=controller(reason=foo)", "unknown reason \"foo\""),
    ("actions=controller(foo=3)", "unknown key \"foo\" parsing controller action"),
    ("actions=controller(id=70000)", "invalid id \"70000\""),
    ("actions=controller(userdata=1.2)", "bad hex digit in `controller' action `userdata'"),
    ("actions=note:a.b", "bad hex digit in `note' argument"),
    ("actions=resubmit(,)", "at least one \"in_port\" or \"table\" must be specified on resubmit"),
    ("actions=resubmit:in_port", "at least one \"in_port\" or \"table\" must be specified on resubmit"),
    ("actions=resubmit(,256)", "256: resubmit to unknown table"),
    ("actions=resubmit(foo,1)", "foo: resubmit to unknown port"),
    ("actions=resubmit(1,2,foo)", "foo: unknown parameter"),
    ("actions=mod_vlan_vid:4096", "4096: not a valid VLAN VID"),
    ("actions=mod_vlan_pcp:8", "8: not a valid VLAN PCP"),
    ("actions=push_vlan:0x9100", "0x9100: not a valid VLAN ethertype"),
    ("actions=push_vlan", "invalid ethertype \"\""),
    ("actions=mod_dl_src:xx", "invalid mac address xx"),
    ("actions=mod_nw_src:xx", "xx: could not convert to IP address"),
    ("ip,actions=mod_nw_tos:33", "33: not a valid TOS"),
    ("ip,actions=mod_nw_tos:256", "invalid TOS \"256\""),
    ("ip,actions=mod_nw_ecn:4", "4: not a valid ECN"),
    ("tcp,actions=mod_tp_dst:x", "invalid destination port \"x\""),
    ("mpls,actions=set_mpls_label(1048576)", "1048576: not a valid MPLS label"),
    ("mpls,actions=set_mpls_label:x", "invalid numeric format x"),
    ("mpls,actions=set_mpls_ttl:256", "invalid MPLS TTL \"256\""),
    ("actions=push_mpls:foo", "invalid push_mpls \"foo\""),
    ("actions=set_tunnel:x", "invalid numeric format x"),
    ("actions=set_field:5", "5: missing `->'"),
    ("actions=set_field:5->", "5->: missing field name following `->'"),
    ("actions=set_field:5->foo", "foo is not a valid OXM field name"),
    ("actions=set_field:1->NXM_NX_REG0", "NXM_NX_REG0 is not a valid OXM field name"),
    ("actions=set_field:5->eth_type", "eth_type is read-only"),
    ("actions=set_field:x->reg0", "x: bad syntax for reg0 value"),
    ("actions=set_field:1->ct_mark", "cannot set CT fields outside of ct action"),
    ("ip,actions=set_field:64->ip_dscp", "64 is not a valid value for field ip_dscp"),
    ("ip,actions=set_field:33->nw_tos", "33 is not a valid value for field nw_tos"),
    ("actions=load:3", "3: missing `->'"),
    ("actions=load:x->reg1[]", "x->reg1[]: cannot parse integer value"),
    ("actions=load:0x10->NXM_NX_REG1[3..6]", "0x10->NXM_NX_REG1[3..6]: value 0x10 does not fit into 4 bits"),
    ("actions=load:3->foo[]", "foo[]: unknown field `foo'"),
    (
        "actions=load:3->reg1[31..32]",
        "reg1[31..32]: ending bit 32 is not valid because field is only 32 bits wide",
    ),
    ("actions=load:3->reg1[6..3]", "reg1[6..3]: starting bit 6 is after ending bit 3"),
    ("actions=load:1->reg0[3", "reg0[3: syntax error expecting [] or [<bit>] or [<start>..<end>]"),
    ("actions=load:1->reg0[3..4]x", "unexpected input following field syntax"),
    ("actions=move:eth_src[]", "eth_src[]: missing `->' following source"),
    ("actions=move:foo[]->eth_dst[]", "foo[]->eth_dst[]: unknown field `foo'"),
    (
        "actions=move:reg0[]->reg1[16..31]",
        "reg0[]->reg1[16..31]: source field is 32 bits wide but destination is 16 bits wide",
    ),
    (
        "ip,actions=move:nw_frag[]->reg0[0..7]",
        "nw_frag[]->reg0[0..7]: source field is 2 bits wide but destination is 8 bits wide",
    ),
    ("actions=write_metadata", "missing required numeric argument"),
    ("actions=write_metadata:5/x", "invalid numeric format x"),
    ("actions=goto_table:x", "unknown table \"x\""),
    ("actions=drop,output:1", "\"drop\" must not be accompanied by any other action or instruction"),
    ("actions=goto_table:3,drop", "\"drop\" must not be accompanied by any other action or instruction"),
    (
        "actions=goto_table:1,output:1",
        "invalid instruction ordering: apply_actions must appear before goto_table, for OpenFlow 1.1+ compatibility",
    ),
    (
        "actions=goto_table:4,write_metadata:3",
        "invalid instruction ordering: write_metadata must appear before goto_table, for OpenFlow 1.1+ compatibility",
    ),
    (
        "actions=write_actions(drop),output:1",
        "invalid instruction ordering: apply_actions must appear before write_actions, for OpenFlow 1.1+ compatibility",
    ),
    (
        "actions=write_actions(output:1),write_actions(output:2)",
        "duplicate write_actions instruction not allowed, for OpenFlow 1.1+ compatibility",
    ),
    ("actions=write_actions(goto_table:1)", "goto_table instruction not allowed here"),
    ("actions=write_actions(foo)", "unknown action foo"),
    ("table=3,actions=goto_table:3", "actions are invalid with specified match (OFPBIC_BAD_TABLE_ID)"),
    ("actions=set_field:5->tcp_src", "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)"),
    ("actions=load:5->tcp_src[]", "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)"),
    ("actions=set_field:3->vlan_vid", "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)"),
    (
        "actions=move:tcp_src[]->reg0[0..15]",
        "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)",
    ),
    (
        "actions=write_actions(set_field:1->tcp_src)",
        "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)",
    ),
    (
        "vlan_tci=0x1000/0x1000,actions=set_field:3->vlan_pcp,pop_vlan,set_field:3->vlan_pcp",
        "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)",
    ),
];

/// What ovs-ofctl takes and this switch does not, with its own words.
const OWN_ERRORS: &[(&str, &str)] = &[
    ("dl_vlan=4096,actions=", "4096 is not a valid value for field dl_vlan"),
    ("arp,arp_op=256,actions=", "256 is not a valid value for field arp_op"),
    ("ipv6,ipv6_label=0x100000,actions=", "0x100000 is not a valid value for field ipv6_label"),
    ("icmp,tp_dst=300,actions=", "300 is not a valid value for field icmp_code"),
    ("conj_id=3,actions=", "field conj_id is not supported"),
    ("nsh_spi=3,actions=", "field nsh_spi is not supported"),
    ("ip,actions=ct(commit)", "action ct is not supported"),
    ("actions=group:3", "action group is not supported"),
    ("actions=learn(table=1),1", "action learn is not supported"),
    ("actions=Meter:1", "action meter is not supported"),
    ("actions=clone(output:1)", "action clone is not supported"),
    ("actions=resubmit(1,2,ct)", "action resubmit(...,ct) is not supported"),
    ("actions=load:3->eth_type[]", "eth_type is read-only"),
    ("actions=push_mpls:0x800", "0x800: not a valid MPLS ethertype"),
    ("actions=goto_table:255", "unknown table \"255\""),
];

#[test]
fn errors_are_worded_as_ovs_ofctls() {
    for (given, message) in ERRORS.iter().chain(OWN_ERRORS) {
        match parse_flow(given, ADD, &NoPortNames) {
            Ok(_) => panic!("{given} is taken"),
            Err(e) => assert_eq!(e.to_string(), *message, "{given}"),
        }
    }
}

#[test]
fn errors_tell_where() {
    for (given, word) in [
        ("tcp,foo=1,actions=drop", "foo"),
        ("tcp,nw_src=1.2.3,actions=drop", "1.2.3"),
        ("actions=output:1,write_actions(output:2,bad:3)", "bad"),
        ("actions=resubmit(p9,3)", "p9"),
    ] {
        let error = parse_flow(given, ADD, &NoPortNames).unwrap_err();
        assert!(given[error.at..].starts_with(word), "{given}: {} at {}", error, error.at);
    }
}

#[test]
fn usages_differ_in_what_they_take() {
    use FlowModCommand::*;
    let delete = FlowUsage::Mod(Delete);
    let strict = FlowUsage::Mod(DeleteStrict);
    let message = |text: &str, usage| match parse_flow(text, usage, &NoPortNames) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    for usage in [delete, FlowUsage::Dump] {
        assert_eq!(message("priority=4", usage), "unknown keyword priority");
    }
    for usage in [delete, strict, FlowUsage::Dump] {
        assert_eq!(message("cookie=1/-1,out_port=3,table=3,in_port=1", usage), "");
        assert_eq!(
            message("cookie=1", usage),
            "cannot set cookie (to match on a cookie, specify a mask, e.g. cookie=1/-1)"
        );
        assert_eq!(message("out_port=foo", usage), "foo is not a valid OpenFlow port");
        assert_eq!(message("in_port=1,actions=drop", usage), "unknown keyword actions");
        assert_eq!(message("idle_timeout=5", usage), "unknown keyword idle_timeout");
        assert_eq!(message("send_flow_rem", usage), "field send_flow_rem missing value");
        assert_eq!(message("importance=3", usage), "unknown keyword importance");
    }
    assert_eq!(message("priority=4", strict), "");
    for command in [Modify, ModifyStrict] {
        let usage = FlowUsage::Mod(command);
        assert_eq!(message("in_port=1", usage), "must specify an action");
        assert_eq!(message("importance=3,actions=1", usage), "unknown keyword importance");
        let flow = parse_flow("cookie=6/7,cookie=9,idle_timeout=3,priority=2,actions=1", usage, &NoPortNames)
            .unwrap();
        assert_eq!((flow.cookie, flow.cookie_mask, flow.new_cookie), (Cookie(6), 7, Some(Cookie(9))));
    }
}

#[test]
fn everything_but_the_match() {
    let text = "table=3,cookie=0x5,idle_timeout=3,hard_timeout=5,priority=7,importance=4,send_flow_rem,check_overlap,\
                reset_counts,no_packet_counts=1,no_byte_counts,duration=3s,n_packets=4,actions=1";
    let flow = parse_flow(text, ADD, &NoPortNames).unwrap();
    assert_eq!((flow.table, flow.priority, flow.new_cookie), (Some(TableId(3)), 7, Some(Cookie(5))));
    assert_eq!((flow.idle_timeout, flow.hard_timeout, flow.importance), (3, 5, 4));
    assert_eq!(flow.flags, RuleFlags(31));
    assert_eq!((flow.out_port, flow.cookie_mask), (OfPort::ANY, 0));
    assert_eq!(flow.notice(), None);
    let changed = parse_flow("tp_dst=80,in_port=1,actions=1", ADD, &NoPortNames).unwrap();
    let notice = "normalization changed ofp_match, details:\n pre: in_port=1,tp_dst=80\npost: in_port=1";
    assert_eq!(changed.notice().as_deref(), Some(notice));
}

#[test]
fn lines_of_files() {
    let line = |text: &str| {
        let parsed = parse_flow_line(text, FlowModCommand::Add, &NoPortNames).unwrap();
        parsed.map(|(command, flow)| (command, print(&flow, TextStyle::default())))
    };
    assert_eq!(line("  # nothing"), None);
    assert_eq!(line(""), None);
    assert_eq!(line("tcp actions=1 # why"), Some((FlowModCommand::Add, "tcp actions=output:1".to_owned())));
    assert_eq!(line("delete in_port=3"), Some((FlowModCommand::Delete, "in_port=3 actions=drop".to_owned())));
    assert_eq!(line("delete"), Some((FlowModCommand::Delete, "actions=drop".to_owned())));
    let strict = "modify_strict\tpriority=3,actions=2";
    assert_eq!(line(strict), Some((FlowModCommand::ModifyStrict, "priority=3 actions=output:2".to_owned())));
}

#[test]
fn lines_of_dumps() {
    let text = "priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80,actions=output:2";
    let flow = parse_flow(text, ADD, &NoPortNames).unwrap();
    let line = FlowLine {
        cookie: Cookie(0x12),
        duration: Duration::from_millis(1234),
        table: TableId(1),
        packets: Some(0),
        bytes: Some(0),
        idle_timeout: 60,
        hard_timeout: 100,
        flags: RuleFlags::NONE,
        importance: 0,
        idle_age: Some(0),
        hard_age: Some(1),
        priority: 100,
        matching: &flow.matching,
        actions: &flow.actions,
    };
    let style = TextStyle::default();
    assert_eq!(
        line.display(FlowLineForm::Dump, style).to_string(),
        " cookie=0x12, duration=1.234s, table=1, n_packets=0, n_bytes=0, idle_timeout=60, hard_timeout=100, idle_age=0, \
         priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80 actions=output:2"
    );
    let later = FlowLine { flags: RuleFlags(31), importance: 5, idle_age: None, hard_age: None, ..line };
    assert_eq!(
        later.display(FlowLineForm::Dump, style).to_string(),
        " cookie=0x12, duration=1.234s, table=1, n_packets=0, n_bytes=0, idle_timeout=60, hard_timeout=100, \
         send_flow_rem check_overlap reset_counts no_packet_counts no_byte_counts importance=5, \
         priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80 actions=output:2"
    );
    assert_eq!(
        later.display(FlowLineForm::NoStats, style).to_string(),
        " cookie=0x12, table=1, idle_timeout=60, hard_timeout=100, send_flow_rem check_overlap reset_counts \
         no_packet_counts no_byte_counts importance=5, priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80 \
         actions=output:2"
    );
    assert_eq!(
        line.display(FlowLineForm::Bridge, style).to_string(),
        "table_id=1, duration=1s, n_packets=0, n_bytes=0, \
         priority=100,tcp,in_port=1,nw_dst=10.0.0.2,tp_dst=80,actions=output:2"
    );
    let any = Match::any();
    let plain =
        FlowLine { cookie: Cookie(0), table: TableId(0), priority: 0, matching: &any, actions: &[], ..line };
    let plain = FlowLine { idle_timeout: 0, hard_timeout: 0, ..plain };
    assert_eq!(plain.display(FlowLineForm::NoStats, style).to_string(), " priority=0 actions=drop");
    assert_eq!(
        plain.display(FlowLineForm::Bridge, style).to_string(),
        "duration=1s, n_packets=0, n_bytes=0, priority=0,actions=drop"
    );
}

/// What `ofproto/trace` was given and its `Flow:` line.
const KEYS: &[(&str, &str)] = &[
    (
        "in_port=1",
        "in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x0000",
    ),
    (
        "in_port=p1",
        "in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x0000",
    ),
    (
        "dl_type=0x88cc",
        "in_port=ANY,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x88cc",
    ),
    (
        "in_port=1,tcp,nw_src=1.2.3.4,nw_dst=4.3.2.1,tp_src=1,tp_dst=2,nw_ttl=64",
        "tcp,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=1.2.3.4,nw_dst=4.3.2.1,\
         nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,tp_src=1,tp_dst=2,tcp_flags=0",
    ),
    (
        "tcp,tcp_flags=syn|ack",
        "tcp,in_port=ANY,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=0.0.0.0,\
         nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,tp_src=0,tp_dst=0,tcp_flags=syn|ack",
    ),
    (
        "in_port=1,udp,nw_frag=later",
        "udp,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=0.0.0.0,\
         nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=later",
    ),
    (
        "in_port=1,icmp,icmp_type=8",
        "icmp,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=0.0.0.0,\
         nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,icmp_type=8,icmp_code=0",
    ),
    (
        "in_port=1,tcp6,ipv6_src=::1,tcp_flags=syn",
        "tcp6,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,ipv6_src=::1,ipv6_dst=::,\
         ipv6_label=0x00000,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,tp_src=0,tp_dst=0,tcp_flags=syn",
    ),
    (
        "in_port=1,arp,arp_op=1,arp_spa=1.2.3.4",
        "arp,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,arp_spa=1.2.3.4,arp_tpa=0.0.0.0,\
         arp_op=1,arp_sha=00:00:00:00:00:00,arp_tha=00:00:00:00:00:00",
    ),
    (
        "in_port=1,dl_vlan=5,dl_vlan_pcp=3,ip",
        "ip,in_port=1,dl_vlan=5,dl_vlan_pcp=3,vlan_tci1=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,\
         nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_proto=0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no",
    ),
    (
        "in_port=1,vlan_tci=0x0005",
        "in_port=1,vlan_tci=0x0005,vlan_tci1=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x0000",
    ),
    (
        "in_port=1,dl_vlan=0xffff",
        "in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x0000",
    ),
    (
        "in_port=1,mpls,mpls_label=5,mpls_bos=1",
        "mpls,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,mpls_label=5,mpls_tc=0,\
         mpls_ttl=0,mpls_bos=1",
    ),
    (
        "in_port=1,mpls",
        "mpls,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,mpls_label=0,mpls_tc=0,\
         mpls_ttl=0,mpls_bos=0,mpls_lse1=0,mpls_lse2=0",
    ),
    (
        "in_port=1,ip,nw_proto=2",
        "ip,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=0.0.0.0,\
         nw_proto=2,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no,tp_src=0,tp_dst=0",
    ),
    (
        "in_port=1,metadata=5,reg0=1,reg3=0x55,xreg2=7",
        "reg0=0x1,reg3=0x55,reg5=0x7,metadata=0x5,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,\
         dl_dst=00:00:00:00:00:00,dl_type=0x0000",
    ),
    (
        "in_port=1,ct_state=trk,ip,ct_zone=5,ct_mark=3,ct_label=7",
        "ct_state=trk,ct_zone=5,ct_mark=0x3,ct_label=0x7,ip,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,\
         dl_dst=00:00:00:00:00:00,nw_src=0.0.0.0,nw_dst=0.0.0.0,nw_proto=0,nw_tos=0,nw_ecn=0,nw_ttl=0,nw_frag=no",
    ),
    (
        "in_port=1,ipv6,ipv6_label=5,nw_ecn=3,nw_tos=32",
        "ipv6,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,ipv6_src=::,ipv6_dst=::,\
         ipv6_label=0x00005,nw_proto=0,nw_tos=32,nw_ecn=3,nw_ttl=0,nw_frag=no",
    ),
    (
        "in_port=1,recirc_id=3",
        "recirc_id=0x3,eth,in_port=1,vlan_tci=0x0000,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,dl_type=0x0000",
    ),
];

#[test]
fn keys_are_read_and_printed_as_in_traces() {
    for (given, printed) in KEYS {
        let key = parse_key(given, &names()).unwrap_or_else(|e| panic!("{given}: {e}"));
        assert_eq!(display_key(&key, TextStyle::default()).to_string(), *printed, "{given}");
    }
    for (given, message) in [
        ("in_port=1,foo=4", "unknown field foo"),
        ("foo", "unknown field foo"),
        ("in_port=1,tp_src=5", "prerequisites not met for setting tp_src"),
        ("tcp_flags=5,tcp", "prerequisites not met for setting tcp_flags"),
        ("in_port=1,ip,nw_src=1.2.3.0/24", "bad value for nw_src (1.2.3.0/24: wildcards not allowed here)"),
        ("ip,nw_frag=yes", "bad value for nw_frag (yes: wildcards not allowed here)"),
        ("tcp,tcp_flags=+syn-ack", "bad value for tcp_flags (+syn-ack: wildcards not allowed here)"),
        ("tcp,tcp_flags=0xffff", "bad value for tcp_flags (0xffff: unknown TCP flag(s))"),
        ("ct_state=trk+est", "bad value for ct_state (trk+est: unknown ct_state flag(s))"),
    ] {
        assert_eq!(
            parse_key(given, &NoPortNames).map_err(|e| e.to_string()),
            Err(message.to_owned()),
            "{given}"
        );
    }
    // Beyond Open vSwitch's own reading: names that mean what the protocol says.
    let echo = parse_key("icmp6,icmp_type=135,nd_target=::1", &NoPortNames).unwrap();
    assert!(
        display_key(&echo, TextStyle::default())
            .to_string()
            .ends_with("icmp_type=135,icmp_code=0,nd_target=::1,nd_sll=00:00:00:00:00:00")
    );
    assert!(parse_key("udp,tp_src=67,tp_dst=68", &NoPortNames).is_ok());
}

#[test]
fn corpus_is_digested() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz-corpus/text");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        flowtable::text::fuzz::flow_text(&std::fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen > 0, "no corpus in {folder}");
}

/// A match with conditions on random fields, normalised.
fn any_match() -> impl Strategy<Value = Match> {
    let protocol = prop::sample::select(vec![
        (0x0800u128, Some(6u128)),
        (0x0800, Some(17)),
        (0x0800, Some(1)),
        (0x0800, None),
        (0x0806, None),
        (0x86dd, Some(58)),
        (0x86dd, Some(132)),
        (0x86dd, Some(6)),
        (0x8847, None),
        (0x88cc, None),
    ]);
    let condition = (0..FIELDS.len(), any::<u128>(), any::<u128>(), any::<bool>(), any::<bool>());
    (protocol, prop::collection::vec(condition, 0..12), any::<bool>()).prop_map(
        |((dl_type, proto), conditions, nd)| {
            let mut m = Match::any();
            for (i, value, mask, exact, prefix) in conditions {
                let row = &FIELDS[i];
                let ones = row.slot.ones();
                let prefixed = ones & !(ones >> (mask % row.slot.width as u128));
                let mask = match (exact || row.masking == flowtable::field::Masking::Exact, prefix) {
                    (true, _) => row.value_bits(),
                    (_, true) => prefixed,
                    _ => mask & ones,
                };
                let value = match row.format {
                    flowtable::field::Format::OfPort => value & 0xfeff,
                    flowtable::field::Format::CtState => value & 0xff,
                    _ => value,
                };
                let mask = if row.format == flowtable::field::Format::CtState {
                    // All flags are printed as none masked.
                    if mask & 0xff == 0xff { ones } else { mask & 0xff }
                } else {
                    mask
                };
                if row.format != flowtable::field::Format::Frag {
                    m.set(row.slot, value, mask);
                }
            }
            m.set_exact(packet::key::slot::DL_TYPE, dl_type);
            if let Some(proto) = proto {
                m.set_exact(packet::key::slot::NW_PROTO, proto);
            }
            if proto == Some(58) && nd {
                m.set(packet::key::slot::TP_SRC, 135, 0xff);
                m.set(packet::key::slot::TP_DST, 0, 0xff);
            }
            // Type and code are exact or nothing.
            if proto == Some(1) || proto == Some(58) {
                for s in [packet::key::slot::TP_SRC, packet::key::slot::TP_DST] {
                    let (value, bits) = m.get(s);
                    m.set(s, value, if bits == 0 { 0 } else { 0xff });
                }
            }
            // DSCP and ECN too; MPLS has no masks at all.
            for id in
                FIELDS.iter().filter(|f| f.masking == flowtable::field::Masking::Exact && f.name != "nw_tos")
            {
                let (value, bits) = m.get(id.slot);
                m.set(id.slot, value, if bits == 0 { 0 } else { id.slot.ones() });
            }
            flowtable::text::normalize(&m)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_matches_are_read_as_what_they_were(m in any_match(), priority in any::<u16>()) {
        let printed = display_match(&m, priority, TextStyle::default()).to_string();
        let flow = parse_flow(&format!("{printed} actions=drop"), ADD, &NoPortNames)
            .map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?;
        prop_assert_eq!(flow.priority, priority);
        for i in 0..FlowKey::LEN {
            prop_assert_eq!(flow.matching.key().word(i), m.key().word(i), "value of word {} of {}", i, &printed);
            prop_assert_eq!(flow.matching.mask().0.word(i), m.mask().0.word(i), "mask of word {} of {}", i, &printed);
        }
    }

    #[test]
    fn any_text_is_digested(text in "\\PC{0,60}") {
        flowtable::text::fuzz::flow_text(text.as_bytes());
    }

    #[test]
    fn flow_like_text_is_digested(words in prop::collection::vec(prop::sample::select(vec![
        "tcp", "ip", "ipv6", "in_port=", "1", "0x", "/", "24", "::", "nw_src=", "ipv6_src=", "actions=", "action=", "output:",
        "(", ")", ",", " ", "->", "reg0", "[", "]", "..", "set_field:", "load:", "move:", "resubmit", "vlan_tci=", "tcp_flags=",
        "+syn", "-", "|", "write_actions(", "controller(", "note:", "ff", ".", "\"", "\\", "priority=", "cookie=", "é", "dl_vlan=",
        "99999999999999999999999999999999999999999", "xxreg0", "enqueue:", "port=", "max_len=", "drop", "ct_state=", "nw_frag=",
    ]), 0..25)) {
        flowtable::text::fuzz::flow_text(words.concat().as_bytes());
    }

    #[test]
    fn damaged_flows_are_digested(i in 0..MATCHES.len(), j in 0..ACTIONS.len(), at in any::<prop::sample::Index>(), c in any::<char>()) {
        let mut text: Vec<char> = format!("{},actions={}", MATCHES[i].0, ACTIONS[j].0).chars().collect();
        let at = at.index(text.len());
        text[at] = c;
        flowtable::text::fuzz::flow_text(text.iter().collect::<String>().as_bytes());
    }
}

#[test]
fn a_long_list_is_refused() {
    let text = "output:1,".repeat(5000);
    let error = parse_actions(&text, &NoPortNames).unwrap_err();
    assert!(matches!(error.fault, TextFault::TooMany { .. }));
    assert!(parse_match("reg0=1,reg1=2", &NoPortNames).is_ok());
    let nested = "write_actions(".repeat(10_000);
    assert!(parse_actions(&nested, &NoPortNames).is_err());
}
