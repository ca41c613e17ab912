//! Ports that controllers take up and down, who hears of it, and a bridge whose identity changes.

use super::*;

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
