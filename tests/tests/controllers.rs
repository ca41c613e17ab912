//! Controllers that a bridge connects to: they know it by its datapath id.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use sys::IfName;
use sys::tap::{TapOpen, TapQueue, TapQueues};
use tests::{Switch, Tools, idle_for, wait_for, wait_for_some};

/// Types of OpenFlow 1.3 messages.
const FEATURES_REQUEST: u8 = 5;
const FEATURES_REPLY: u8 = 6;

fn header(kind: u8) -> [u8; 8] {
    [4, kind, 0, 8, 0, 0, 0, 1]
}

/// The next connection of the switch, and the datapath id that it gives there.
fn next(listener: &UnixListener) -> (UnixStream, u64) {
    let (mut stream, _) = wait_for_some("the switch connects", || listener.accept().ok());
    stream.set_nonblocking(false).expect("blocking");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
    stream.write_all(&[header(0), header(FEATURES_REQUEST)].concat()).expect("written");
    loop {
        let mut start = [0; 8];
        stream.read_exact(&mut start).expect("a message");
        let mut rest = vec![0; usize::from(u16::from_be_bytes([start[2], start[3]])) - 8];
        stream.read_exact(&mut rest).expect("the rest of it");
        if start[1] == FEATURES_REPLY {
            return (stream, u64::from_be_bytes(rest[..8].try_into().expect("8 bytes")));
        }
    }
}

/// They are never left with an id that is not the bridge's: not when it changes, and not after a crash, while the TAP whose
/// address it is made of is still in other hands.
#[test]
fn controllers_know_the_datapath_id() {
    let mut switch = Switch::start(&[]);
    let listener = UnixListener::bind(switch.dir().join("c")).expect("a listener");
    listener.set_nonblocking(true).expect("non-blocking");
    switch.run("ovs-vsctl add-br br0 -- set-controller br0 unix:c");
    let shown = |switch: &Switch| {
        let text = switch.run("ovs-vsctl get Bridge br0 datapath_id");
        u64::from_str_radix(text.trim().trim_matches('"'), 16).expect("a datapath id")
    };
    let own = shown(&switch);
    let (mut stream, id) = next(&listener);
    assert_eq!(id, own);
    for (change, expected) in [
        ("set Bridge br0 other_config:datapath-id=00000000000000aa", 0xaa),
        ("remove Bridge br0 other_config datapath-id", own),
        // Without another the id is the address of the local port.
        (r#"set Interface br0 'mac="02:00:00:00:00:bb"'"#, 0x0200_0000_00bb),
    ] {
        switch.run(&format!("ovs-vsctl {change}"));
        let ended = stream.read_to_end(&mut Vec::new());
        assert!(ended.is_ok(), "{change}: the connection goes on: {ended:?}");
        (stream, _) = match next(&listener) {
            (stream, id) if id == expected => (stream, id),
            (_, id) => panic!("{change}: {id:#x} and not {expected:#x}"),
        };
        assert_eq!(shown(&switch), expected);
    }
    switch.kill();
    let name = IfName::new("br0").expect("a name");
    let mut held = None;
    switch.ns().enter(|| {
        wait_for("the kernel lets go of the TAP", || {
            held = TapQueue::open(&name, TapQueues::Single, TapOpen::Attach).ok();
            held.is_some()
        });
    });
    std::thread::scope(|scope| {
        // Half as long as the daemon waits for it.
        scope.spawn(move || {
            idle_for(Duration::from_millis(500));
            drop(held);
        });
        switch.restart();
    });
    let (_stream, id) = next(&listener);
    assert_eq!(id, 0x0200_0000_00bb, "made up");
    assert_eq!(shown(&switch), id);
}
