//! Rows to configuration, column by column.

use super::*;
use crate::database::testing::Rows;
use serde_json::json;
use switch::afxdp::AfXdpMode;

fn on() -> Allowed {
    Allowed { dummies: Dummies::On, disable_system: false }
}

/// `br0` with these columns of its row, and one more port whose Port and Interface rows have these.
fn one(bridge: serde_json::Value, port: serde_json::Value, interface: serde_json::Value) -> Rows {
    let mut rows = Rows::new();
    rows.bridge("br0", bridge, &[("p1", port, interface)]);
    rows
}

fn read(rows: &Rows, allowed: Allowed) -> Wanted {
    wanted(&rows.replica, allowed)
}

fn bridge_of(columns: serde_json::Value) -> (BridgeConfig, Vec<String>) {
    let rows = one(columns, json!({}), json!({}));
    let mut read = read(&rows, on());
    (read.config.bridges.remove("br0").expect("br0"), read.warnings)
}

fn interface_of(columns: serde_json::Value, allowed: Allowed) -> Result<InterfaceConfig, String> {
    let rows = one(json!({}), json!({}), columns);
    let read = read(&rows, allowed);
    let found = read.config.bridges["br0"].ports["p1"].interfaces.get("p1").cloned();
    match (found, read.interface_errors.values().next()) {
        (Some(found), None) => Ok(found),
        (None, Some(error)) => Err(error.clone()),
        other => panic!("{other:?}"),
    }
}

fn vlan_of(columns: serde_json::Value) -> VlanConfig {
    let rows = one(json!({}), columns, json!({}));
    read(&rows, on()).config.bridges["br0"].ports["p1"].vlan.clone()
}

#[test]
fn a_plain_bridge_has_every_default() {
    let (bridge, warnings) = bridge_of(json!({}));
    let plain = BridgeConfig { ports: bridge.ports.clone(), ..BridgeConfig::new("br0") };
    assert_eq!(bridge, plain);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(bridge.ports.keys().collect::<Vec<_>>(), ["br0", "p1"]);
    assert_eq!(bridge.ports["br0"].interfaces["br0"].kind, InterfaceKind::Tap);
    assert_eq!(bridge.ports["p1"].interfaces["p1"].kind, InterfaceKind::System);
}

#[test]
fn bridge_columns() {
    let (bridge, warnings) = bridge_of(json!({
        "datapath_type": "netdev",
        "fail_mode": "secure",
        "protocols": ["set", ["OpenFlow10", "OpenFlow13", "OpenFlow15"]],
        "flood_vlans": ["set", [7, 9]],
        "other_config": ["map", [
            ["datapath-id", "00000000deadbeef"], ["dp-desc", "rack 7"], ["hwaddr", "02:00:00:00:00:01"], ["dp-sn", "4711"],
            ["mac-aging-time", "60"], ["mac-table-size", "100"], ["forward-bpdu", "true"]]],
    }));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(bridge.datapath_type, "netdev");
    assert_eq!(bridge.fail_mode, FailMode::Secure);
    assert_eq!(bridge.protocols, [1, 4, 6]);
    assert_eq!(bridge.flood_vlans, [7u16, 9].into_iter().collect());
    assert_eq!((bridge.datapath_id, bridge.dp_desc.as_deref()), (Some(0xdead_beef), Some("rack 7")));
    assert_eq!(bridge.dp_sn.as_deref(), Some("4711"));
    assert_eq!(bridge.hwaddr, Some(MacAddr(0x0200_0000_0001)));
    assert_eq!((bridge.mac_aging, bridge.mac_table_size), (Duration::from_secs(60), 100));
    assert!(bridge.forward_bpdu);
    // A bridge's own port has the bridge's address.
    assert_eq!(bridge.ports["br0"].interfaces["br0"].mac, bridge.hwaddr);
}

#[test]
fn bad_settings_of_a_bridge_take_their_defaults() {
    let (bridge, warnings) = bridge_of(json!({"other_config": ["map", [
        ["datapath-id", "beef"], ["hwaddr", "01:00:00:00:00:01"],
        ["mac-aging-time", "soon"], ["mac-table-size", "1"]]]}));
    assert_eq!((bridge.datapath_id, bridge.hwaddr), (None, None));
    assert_eq!((bridge.mac_aging, bridge.mac_table_size), (mac::AGING_DEFAULT, 10));
    assert!(warnings.iter().all(|w| w.contains("br0")), "{warnings:?}");
    assert!(
        matches!(&warnings[..], [id, aging] if id.contains("'beef'") && aging.contains("'soon'")),
        "{warnings:?}"
    );
}

#[test]
fn limits_of_the_cache() {
    let root = |settings: serde_json::Value| {
        let mut rows = Rows::new();
        rows.root(json!({"other_config": ["map", settings], "next_cfg": 7}));
        read(&rows, on())
    };
    let good = root(json!([["flow-limit", "1234"], ["max-idle", "500"]]));
    assert_eq!(good.config.cache, CacheConfig { flow_limit: 1_234, max_idle: Duration::from_millis(500) });
    assert_eq!(good.next_cfg, 7);
    for (text, ms, warnings) in [("2147483648", 1 << 31, 0), ("2147483649", 1 << 31, 1)] {
        let long = root(json!([["max-idle", text]]));
        assert_eq!(long.config.cache.max_idle, Duration::from_millis(ms));
        assert_eq!(long.warnings.len(), warnings, "{:?}", long.warnings);
    }
    let bad = root(json!([["flow-limit", "many"], ["max-idle", "499"]]));
    assert_eq!(bad.config.cache, CacheConfig::default());
    assert!(bad.warnings.len() == 2 && bad.warnings[0].contains("many") && bad.warnings[1].contains("499"));
}

#[test]
fn workers_and_when_they_are_evened_out() {
    let root = |settings: serde_json::Value| {
        let mut rows = Rows::new();
        rows.root(json!({"other_config": ["map", settings]}));
        let read = read(&rows, on());
        (read.config.workers, read.warnings)
    };
    assert_eq!(root(json!([])), (WorkersConfig::default(), vec![]));
    let (config, warnings) = root(json!([["pmd-cpu-mask", "0x5"], ["pmd-auto-lb", "true"]]));
    assert_eq!(config.cpus, WorkerCpus::Bound(vec![0, 2]));
    // ovs-vswitchd.conf.db(5): a minute, 95 %, 25 %.
    let default =
        AutoBalance { interval: Duration::from_secs(60), load_threshold: 95, improvement_threshold: 25 };
    assert_eq!((config.auto_balance, warnings), (Some(default), vec![]));
    let (config, warnings) = root(json!([
        ["pmd-auto-lb", "true"],
        ["pmd-auto-lb-rebal-interval", "10"],
        ["pmd-auto-lb-load-threshold", "0"],
        ["pmd-auto-lb-improvement-threshold", "100"]
    ]));
    let given =
        AutoBalance { interval: Duration::from_secs(600), load_threshold: 0, improvement_threshold: 100 };
    assert_eq!((config.auto_balance, warnings), (Some(given), vec![]));
    let (config, warnings) = root(json!([
        ["pmd-auto-lb", "true"],
        ["pmd-auto-lb-rebal-interval", "20001"],
        ["pmd-auto-lb-load-threshold", "101"],
        ["pmd-auto-lb-improvement-threshold", "-1"],
        ["pmd-cpu-mask", "0xg"]
    ]));
    assert_eq!(config, WorkersConfig { cpus: WorkerCpus::Invalid, auto_balance: Some(default) });
    for (key, value) in [
        ("pmd-cpu-mask", "0xg"),
        ("pmd-auto-lb-rebal-interval", "20001"),
        ("pmd-auto-lb-load-threshold", "101"),
        ("pmd-auto-lb-improvement-threshold", "-1"),
    ] {
        assert!(warnings.iter().any(|w| w.contains(&format!("{key} '{value}'"))), "{key}: {warnings:?}");
    }
    let (config, _) = root(json!([["pmd-auto-lb", "true"], ["pmd-auto-lb-rebal-interval", "0"]]));
    assert_eq!(config.auto_balance, Some(default));
}

#[test]
fn port_columns() {
    let trunk = vlan_of(json!({"trunks": ["set", [10, 20]]}));
    assert_eq!(trunk, VlanConfig::from_columns(None, None, [10, 20]));
    let access = vlan_of(json!({"tag": 30}));
    assert_eq!(access, VlanConfig::from_columns(None, Some(30), []));
    for (name, mode) in [
        ("access", VlanMode::Access),
        ("trunk", VlanMode::Trunk),
        ("native-tagged", VlanMode::NativeTagged),
        ("native-untagged", VlanMode::NativeUntagged),
        ("dot1q-tunnel", VlanMode::Dot1qTunnel),
    ] {
        let vlan = vlan_of(json!({"tag": 5, "vlan_mode": name}));
        assert_eq!(vlan, VlanConfig::from_columns(Some(mode), Some(5), []), "{name}");
    }
    for (text, tags) in [
        ("true", PriorityTags::IfNonzero),
        ("if-nonzero", PriorityTags::IfNonzero),
        ("always", PriorityTags::Always),
        ("never", PriorityTags::Never),
    ] {
        let vlan = vlan_of(json!({"other_config": ["map", [["priority-tags", text]]]}));
        assert_eq!(vlan.priority_tags, tags, "{text}");
    }
    let tunnel = vlan_of(json!({
        "vlan_mode": "dot1q-tunnel", "tag": 5, "cvlans": ["set", [1, 2]],
        "other_config": ["map", [["qinq-ethtype", "802.1q"]]],
    }));
    assert_eq!(tunnel.service_tpid, 0x8100);
    assert_eq!(tunnel.cvlans.as_deref(), Some(&[1u16, 2].into_iter().collect()));
    let rows = one(json!({}), json!({"protected": true}), json!({}));
    assert!(read(&rows, on()).config.bridges["br0"].ports["p1"].protected);
}

#[test]
fn mtu_that_cannot_be_is_told() {
    for (wanted, is_told) in [(67, true), (68, false), (65_535, false), (65_536, true)] {
        let read = read(&one(json!({}), json!({}), json!({"mtu_request": wanted})), on());
        let told = read.warnings.iter().filter(|w| w.contains("mtu_request") && w.contains("p1")).count();
        assert_eq!(told == 1, is_told, "{wanted}: {:?}", read.warnings);
    }
}

#[test]
fn interface_columns() {
    let got = interface_of(
        json!({
            "type": "internal", "ofport_request": 9, "mtu_request": 1400, "mac": "02:00:00:00:00:09",
            "options": ["map", [["netns", "pod"]]],
        }),
        on(),
    )
    .expect("an interface");
    assert_eq!((got.kind, got.type_name.as_str()), (InterfaceKind::Tap, "internal"));
    assert_eq!((got.ofport_request, got.mtu_request), (Some(9), Some(1_400)));
    assert_eq!((got.mac, got.netns.as_deref()), (Some(MacAddr(0x0200_0000_0009)), Some("pod")));
    // What cannot be is as if it were not there.
    let got = interface_of(json!({"mac": "01:00:00:00:00:09"}), on()).expect("one");
    assert_eq!((got.ofport_request, got.mac, got.type_name.as_str()), (None, None, "system"));
}

#[test]
fn kinds_of_interfaces() {
    let options = |pairs: serde_json::Value| json!({"type": "pcap", "options": ["map", pairs]});
    let kind = |columns, allowed| interface_of(columns, allowed).map(|i| i.kind);
    assert_eq!(kind(json!({"type": "tap"}), on()), Ok(InterfaceKind::Tap));
    assert_eq!(kind(json!({"type": "system"}), on()), Ok(InterfaceKind::System));
    assert_eq!(kind(json!({"type": "dummy"}), on()), Ok(InterfaceKind::Dummy));
    let files = InterfaceKind::Pcap { rx: Some("a".into()), tx: Some("b".into()) };
    assert_eq!(kind(options(json!([["rx_pcap", "a"], ["tx_pcap", "b"]])), on()), Ok(files));
    let patch = json!({"type": "patch", "options": ["map", [["peer", "x"]]]});
    assert_eq!(kind(patch, on()), Ok(InterfaceKind::Patch { peer: "x".into() }));
    let everything = Allowed { dummies: Dummies::Override, disable_system: false };
    for name in ["", "system", "internal", "tap"] {
        assert_eq!(kind(json!({"type": name}), everything), Ok(InterfaceKind::Dummy), "{name}");
    }
}

#[test]
fn tunnels() {
    let vxlan = |options: serde_json::Value| json!({"type": "vxlan", "options": ["map", options]});
    let got = interface_of(vxlan(json!([["remote_ip", "10.0.0.2"], ["key", "7"]])), on()).expect("a tunnel");
    let InterfaceKind::Tunnel(tunnel) = &got.kind else { panic!("{got:?}") };
    assert_eq!(
        (tunnel.describe().as_str(), got.type_name.as_str()),
        ("vxlan: key=7, remote_ip=10.0.0.2", "vxlan")
    );
    // Their names are longer than a device's may be, or those of what they share, which none may have.
    assert_eq!(
        interface_of(vxlan(json!([["key", "7"]])), on()).unwrap_err(),
        "p1: vxlan type requires valid 'remote_ip' argument"
    );
    let remote = || vxlan(json!([["remote_ip", "10.0.0.2"], ["colour", "red"]]));
    let mut rows = Rows::new();
    rows.bridge(
        "br0",
        json!({}),
        &[
            ("a-tunnel-with-a-long-name", json!({}), remote()),
            ("twin", json!({}), remote()),
            ("gre_sys", json!({}), json!({})),
        ],
    );
    let read = read(&rows, on());
    assert!(
        read.warnings.iter().any(|w| w == "twin: unknown vxlan argument 'colour'"),
        "{:?}",
        read.warnings
    );
    let mut errors: Vec<&String> = read.interface_errors.values().collect();
    errors.sort();
    assert!(
        matches!(&errors[..], [file_exists, reserved]
            if file_exists.ends_with("to ofproto (File exists)")
            && *reserved == "could not create interface gre_sys, name is reserved"),
        "{errors:?}"
    );
}

#[test]
fn what_cannot_be_says_so_by_name() {
    let off = Allowed::default();
    let no_system = Allowed { dummies: Dummies::Off, disable_system: true };
    let cases = [
        (json!({"type": "dummy"}), off, "p1"),
        (json!({"type": "vxlan"}), on(), "vxlan"),
        (json!({"type": "patch"}), on(), "'peer'"),
        (json!({"type": "patch", "options": ["map", [["peer", "p1"]]]}), on(), "self"),
        (json!({"type": "pcap"}), on(), "rx_pcap"),
        (json!({"options": ["map", [["rx_pcap", "f"]]]}), on(), "dummy"),
        (json!({"type": "internal"}), no_system, "disabled"),
        (json!({}), no_system, "disabled"),
    ];
    for (columns, allowed, word) in cases {
        let error = interface_of(columns.clone(), allowed).expect_err("refused");
        assert!(error.contains(word), "{columns}: {error}");
    }
    let mut rows = Rows::new();
    rows.bridge(
        "br0",
        json!({}),
        &[("a-name-of-16-byte", json!({}), json!({})), ("a/b", json!({}), json!({}))],
    );
    let errors: Vec<_> = read(&rows, on()).interface_errors.into_values().collect();
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().any(|e| e.contains("a-name-of-16-byte") && e.contains("too long")), "{errors:?}");
    assert!(errors.iter().any(|e| e.contains("'a/b'")), "{errors:?}");
}

#[test]
fn a_bridge_whose_name_cannot_name_files_is_left_out() {
    let mut rows = Rows::new();
    rows.bridge("../br", json!({}), &[]);
    let read = read(&rows, on());
    assert!(read.config.bridges.is_empty());
    assert!(read.warnings.iter().any(|w| w.contains("'../br'")), "{:?}", read.warnings);
}

#[test]
fn controllers_and_tables() {
    let mut rows = Rows::new();
    rows.bridge("br0", json!({}), &[]);
    rows.insert_into(
        ("Bridge", "br0", "controller"),
        "Controller",
        json!({"target": "tcp:127.0.0.1:6653", "max_backoff": 1000, "inactivity_probe": 0, "type": "service"}),
    );
    rows.insert_into(
        ("Bridge", "br0", "controller"),
        "Controller",
        json!({"target": "unix:c", "inactivity_probe": 300}),
    );
    let bridge = read(&rows, on()).config.bridges.remove("br0").expect("br0");
    let tcp = &bridge.controllers["tcp:127.0.0.1:6653"];
    assert_eq!(
        (tcp.max_backoff, tcp.inactivity_probe, tcp.primary),
        (Duration::from_secs(1), Duration::ZERO, false)
    );
    let unix = &bridge.controllers["unix:c"];
    assert_eq!((unix.inactivity_probe, unix.primary), (Duration::from_secs(1), true));

    rows.run(&[
        json!({"op": "insert", "table": "Flow_Table", "uuid-name": "t",
               "row": {"name": "acl", "flow_limit": 5, "overflow_policy": "evict"}}),
        json!({"op": "update", "table": "Bridge", "where": [["name", "==", "br0"]],
               "row": {"flow_tables": ["map", [[3, ["named-uuid", "t"]]]]}}),
    ]);
    let bridge = read(&rows, on()).config.bridges.remove("br0").expect("br0");
    let expected = FlowTableConfig { name: Some("acl".into()), flow_limit: Some(5), evict: true };
    assert_eq!(bridge.flow_tables, [(3, expected)].into());
}

#[test]
fn a_bridge_without_a_row_for_its_own_port_has_one_all_the_same() {
    let mut rows = Rows::new();
    rows.run(&[
        json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": "br0"}}),
        json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
               "mutations": [["bridges", "insert", ["set", [["named-uuid", "b"]]]]]}),
    ]);
    let bridge = read(&rows, on()).config.bridges.remove("br0").expect("br0");
    assert_eq!(bridge.ports["br0"].interfaces["br0"].kind, InterfaceKind::Tap);
}

/// A Datapath row under a key of the root row, with one zone and the columns of its policy.
fn datapath(rows: &mut Rows, key: &str, zone: u16, timeouts: serde_json::Value) {
    rows.run(&[
        json!({"op": "insert", "table": "CT_Timeout_Policy", "uuid-name": "p", "row": {"timeouts": timeouts}}),
        json!({"op": "insert", "table": "CT_Zone", "uuid-name": "z",
               "row": {"timeout_policy": ["named-uuid", "p"]}}),
        json!({"op": "insert", "table": "Datapath", "uuid-name": "d",
               "row": {"datapath_version": "0", "ct_zones": ["map", [[zone, ["named-uuid", "z"]]]]}}),
        json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
               "mutations": [["datapaths", "insert", ["map", [[key, ["named-uuid", "d"]]]]]]}),
    ]);
}

#[test]
fn timeouts_of_zones() {
    let mut rows = Rows::new();
    assert_eq!(read(&rows, on()).config.zone_timeouts, BTreeMap::new());
    datapath(&mut rows, "system", 5, json!(["map", [["udp_first", 100], ["tcp_unack", 4_294_967_295u32]]]));
    datapath(&mut rows, "elsewhere", 6, json!(["map", [["udp_first", 1]]]));
    let five: BTreeMap<String, u32> =
        [("udp_first".to_owned(), 100), ("tcp_unack".to_owned(), u32::MAX)].into();
    assert_eq!(read(&rows, on()).config.zone_timeouts, [(5, five.clone())].into());
    // Both are our datapath; its own name counts more.
    datapath(&mut rows, "netdev", 7, json!(["map", []]));
    assert_eq!(read(&rows, on()).config.zone_timeouts, [(5, five), (7, BTreeMap::new())].into());
    // A zone without a policy has the defaults.
    rows.run(&[
        json!({"op": "update", "table": "CT_Zone", "where": [], "row": {"timeout_policy": ["set", []]}}),
    ]);
    assert_eq!(read(&rows, on()).config.zone_timeouts, BTreeMap::new());
}

#[test]
fn afxdp_has_options_of_its_own() {
    let of = |pairs: serde_json::Value, allowed| {
        interface_of(json!({"type": "afxdp", "options": ["map", pairs]}), allowed).map(|i| i.kind)
    };
    assert_eq!(of(json!([]), on()), Ok(InterfaceKind::AfXdp(AfXdpOptions::default())));
    let wanted = AfXdpOptions { mode: AfXdpMode::Generic, queues: 2, use_need_wakeup: false };
    let pairs = json!([["xdp-mode", "generic"], ["n_rxq", "2"], ["use-need-wakeup", "false"]]);
    assert_eq!(of(pairs, on()), Ok(InterfaceKind::AfXdp(wanted)));
    let error = of(json!([["xdp-mode", "fast"]]), on()).unwrap_err();
    assert!(error.starts_with("p1: could not set configuration (Invalid argument)"), "{error}");
    let no_system = Allowed { disable_system: true, ..on() };
    let refused = read(&one(json!({}), json!({}), json!({"type": "afxdp"})), no_system).interface_errors;
    let error = "could not open network device p1 (system interfaces are disabled)";
    assert!(refused.values().any(|e| e == error), "{refused:?}");
    let columns = json!({"type": "afxdp", "options": ["map", [["n_rxq", "2"]]]});
    let read = read(&one(json!({}), json!({}), columns), on());
    assert_eq!(read.warnings, Vec::<String>::new());
}

#[test]
fn queues_are_those_of_taps() {
    let of = |kind: &str, n_rxq: &str| {
        let columns = json!({"type": kind, "options": ["map", [["n_rxq", n_rxq]]]});
        let rows = one(json!({}), json!({}), columns);
        let read = read(&rows, on());
        let interface = &read.config.bridges["br0"].ports["p1"].interfaces["p1"];
        (interface.rx_queues.clone(), read.warnings)
    };
    for (text, count) in [("1", 1), ("2", 2), ("64", 64)] {
        assert_eq!(of("internal", text), (RxQueues::Count(count), vec![]));
        assert_eq!(of("tap", text), (RxQueues::Count(count), vec![]));
    }
    assert_eq!(of("tap", "0"), (RxQueues::Default, vec![]));
    for text in ["65", "-1", "two", "", "1.5", "99999999999999999999"] {
        let (queues, warnings) = of("tap", text);
        let RxQueues::Invalid(error) = queues else { panic!("{text}: {queues:?}") };
        assert!(error.contains("p1") && error.contains(&format!("n_rxq '{text}'")), "{error}");
        assert_eq!(warnings, Vec::<String>::new());
    }
    let (queues, warnings) = of("system", "2");
    assert_eq!(queues, RxQueues::Default);
    assert!(matches!(&warnings[..], [w] if w.contains("p1") && w.contains("n_rxq")), "{warnings:?}");
}

#[test]
fn queues_are_pinned_to_processors() {
    let of = |text: &str| {
        let columns = json!({"type": "tap", "other_config": ["map", [["pmd-rxq-affinity", text]]]});
        let rows = one(json!({}), json!({}), columns);
        let read = read(&rows, on());
        (read.config.bridges["br0"].ports["p1"].interfaces["p1"].rx_affinity.clone(), read.warnings)
    };
    assert_eq!(of("0:1,3:0"), ([(0, 1), (3, 0)].into(), vec![]));
    let (pins, warnings) = of("0:1,x");
    assert!(pins.is_empty());
    assert!(matches!(&warnings[..], [w] if w.contains("p1") && w.contains("'x'")), "{warnings:?}");
}
