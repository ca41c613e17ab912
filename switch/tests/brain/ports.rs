//! Ports that controllers take up and down, who hears of it, and a bridge whose identity changes.

use super::*;

fn set_down(lab: &mut Lab, conn: ConnId, name: &str, down: bool) -> Vec<(ConnId, Outgoing)> {
    let bridge = lab.brain.bridge("br0").unwrap();
    let port = bridge.ports.values().find(|p| p.name == name).unwrap();
    let config = PortConfig(if down { PortConfig::PORT_DOWN } else { 0 });
    let mask = PortConfig(PortConfig::PORT_DOWN);
    let (port, hw_addr) = (port.of_port, port.mac.0);
    lab.say(conn, Message::PortMod(PortMod { port, hw_addr, config, mask, advertise: LinkModes::default() }))
}

/// What OpenFlow and the snapshot say of a port: whether it is down.
fn is_down(lab: &mut Lab, conn: ConnId, name: &str) -> (bool, bool) {
    let request = Message::MultipartRequest(MultipartRequest::PortDesc(OfPort::ANY));
    let Message::MultipartReply { reply: MultipartReply::PortDesc(ports), .. } =
        only(lab.say(conn, request), conn)
    else {
        panic!("no descriptions")
    };
    let port = ports.iter().find(|p| p.name == name).unwrap();
    let staged = lab.brain.publish();
    let staged = staged.bridge_by_name("br0").unwrap().port(port.port).unwrap();
    (port.config.has(PortConfig::PORT_DOWN), !staged.is_up())
}

#[test]
fn a_patch_or_tunnel_that_was_set_down_stays_down_whatever_else_changes() {
    let options = [("remote_ip".to_owned(), "10.0.0.2".to_owned())].into();
    let parsed = TunnelConfig::parse("tun0", TunnelKind::Vxlan, &options).unwrap();
    let kind = InterfaceKind::Tunnel(Arc::new(parsed.config));
    let tunnel = InterfaceConfig { kind, ..interface("tun0", None) };
    let mut lab = Lab::new();
    let mut ports = vec![patch("a", "b"), tunnel, interface("p1", None)];
    lab.configure(&[bridge("br0", &ports), bridge("br1", &[patch("b", "a")])]);
    lab.open("vxlan_sys_4789", 77);
    let conn = lab.connect(1, ConnKind::Service, OfVersion::V13);
    for name in ["a", "tun0"] {
        assert_eq!(is_down(&mut lab, conn, name), (false, false), "{name}");
        assert_eq!(set_down(&mut lab, conn, name, true), vec![]);
    }
    ports.push(interface("p2", None));
    lab.configure(&[bridge("br0", &ports), bridge("br1", &[patch("b", "a")])]);
    lab.open("p1", 11);
    for name in ["a", "tun0"] {
        assert_eq!(is_down(&mut lab, conn, name), (true, true), "{name}");
        set_down(&mut lab, conn, name, false);
        assert_eq!(is_down(&mut lab, conn, name), (false, false), "{name}");
    }
}

#[test]
fn a_device_that_takes_the_place_of_a_patch_has_its_own_state_and_the_other_way_round() {
    let mut lab = Lab::new();
    let mut down = device(11);
    down.state.admin_up = false;
    lab.configure(&[bridge("br0", &[interface("p1", None)])]);
    lab.brain.device_open("p1", down, lab.now);
    let conn = lab.connect(1, ConnKind::Service, OfVersion::V13);
    assert!(is_down(&mut lab, conn, "p1").0);
    lab.configure(&[bridge("br0", &[patch("p1", "b")])]);
    lab.brain.device_closed("p1", lab.now);
    assert_eq!(is_down(&mut lab, conn, "p1"), (false, false));
    set_down(&mut lab, conn, "p1", true);
    lab.brain.device_open("p1", device(11), lab.now);
    lab.configure(&[bridge("br0", &[interface("p1", None)])]);
    assert_eq!(is_down(&mut lab, conn, "p1"), (false, false));
}

/// Before OpenFlow 1.5 whoever changed a port is not told what it did; others are.
#[test]
fn who_changes_a_port_hears_of_it_from_openflow_1_5_on() {
    for (version, hears) in [(OfVersion::V10, false), (OfVersion::V13, false), (OfVersion::V15, true)] {
        let mut lab = Lab::small();
        let asking = lab.connect(1, ConnKind::Primary, version);
        let other = lab.connect(2, ConnKind::Primary, version);
        for down in [true, false] {
            let heard: Vec<ConnId> = set_down(&mut lab, asking, "p1", down)
                .into_iter()
                .map(|(conn, said)| {
                    assert!(matches!(said, Outgoing::Unasked(Message::PortStatus(_))), "{said:?}");
                    conn
                })
                .collect();
            let expected = if hears { vec![asking, other] } else { vec![other] };
            assert_eq!(heard, expected, "{version:?}");
        }
        // What nobody asked for is told to all.
        let mut down = device(11);
        down.state.link_up = false;
        lab.brain.device_open("p1", down, lab.now);
        assert_eq!(lab.brain.drain_outbox().len(), 2, "{version:?}");
    }
}

#[test]
fn controllers_of_a_bridge_with_another_datapath_id_are_to_connect_anew() {
    let mut lab = Lab::small();
    lab.brain.drain_commands();
    let wanted = |id| {
        let mut wanted = bridge("br0", &[interface("p1", None), interface("p2", None)]);
        wanted.datapath_id = id;
        wanted
    };
    lab.configure(&[wanted(Some(1))]);
    assert_eq!(lab.brain.drain_commands(), vec![], "there is none that knew the old one");
    lab.brain.connect(ConnId(1), "br0", ConnKind::Primary, OfVersion::V13);
    let reconnect = || vec![Command::Reconnect { bridge: "br0".to_owned() }];
    lab.configure(&[wanted(Some(2))]);
    assert_eq!(lab.brain.drain_commands(), reconnect());
    lab.configure(&[wanted(Some(2)), bridge("br1", &[])]);
    assert_eq!(lab.brain.drain_commands(), vec![]);
    // The address of the local port is the id again, and when that changes the id does.
    lab.configure(&[wanted(None)]);
    assert_eq!(lab.brain.drain_commands(), reconnect());
    assert_eq!(lab.brain.bridge("br0").unwrap().datapath_id, device(10).mac.0);
    lab.open("br0", 13);
    assert_eq!(lab.brain.drain_commands(), reconnect());
    lab.open("br0", 13);
    assert_eq!(lab.brain.drain_commands(), vec![]);
}
