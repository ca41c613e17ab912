//! Connections to controllers against listeners of the test's own, under a clock of the test's own.

use super::*;
use crate::args::Args;
use crate::database::link::Link;
use crate::streams::Listener;
use base::HashSeed;
use openflow::message::{Message, Xid};
use openflow::session::{Received, SessionConfig, SessionEvent, Side};
use openflow::{OfVersions, Session};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use switch::brain::Command;
use switch::config::BridgeConfig;
use switch::forwarding::NoPunt;

struct Lab {
    dir: std::path::PathBuf,
    places: Places,
    sockets: Sockets,
    link: Link,
    brain: Brain,
    config: Config,
    now: Instant,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Turns of the loop after which what is written on a local socket has been read.
const TURNS: usize = 8;

impl Lab {
    /// A bridge `br0` with a controller at `c` in the run directory.
    fn new(name: &str) -> Lab {
        let dir = std::env::temp_dir().join(format!("vswitchd-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        let args = Args { rundir: Some(dir.clone()), db: Some(dir.join("db")), ..Args::default() };
        let places = Places::new(&args, |_| None);
        let sockets = Sockets::new(&places, &args).expect("sockets");
        let brain = Brain::new(HashSeed::new(1, 2), Box::new(NoPunt));
        let mut config = Config::default();
        let mut bridge = BridgeConfig::new("br0");
        bridge.controllers.insert("unix:c".to_owned(), ControllerConfig::default());
        config.bridges.insert("br0".to_owned(), bridge);
        let now = Instant::ZERO + Duration::from_secs(1_000);
        let mut lab = Lab { dir, places, sockets, link: Link::outside(), brain, config, now };
        lab.configure(|_| {});
        lab
    }

    fn configure(&mut self, change: impl FnOnce(&mut BridgeConfig)) {
        change(self.config.bridges.get_mut("br0").expect("br0"));
        self.brain.configure(&self.config, self.now);
        self.sockets.set_controllers(&self.config, &self.places, self.now);
    }

    fn controller(&mut self, change: impl FnOnce(&mut ControllerConfig)) {
        self.configure(|b| change(b.controllers.get_mut("unix:c").expect("its controller")));
    }

    fn listen(&self) -> UnixListener {
        let listener = UnixListener::bind(self.dir.join("c")).expect("a listener");
        listener.set_nonblocking(true).expect("non-blocking");
        listener
    }

    /// Some turns of the loop at this time.
    fn turns_at(&mut self, seconds: u64) {
        self.now = Instant::ZERO + Duration::from_secs(1_000 + seconds);
        for _ in 0..TURNS {
            self.sockets.poll.poll(&mut self.sockets.events, Some(Duration::ZERO)).expect("polling");
            for event in &self.sockets.events {
                if let Some(peer) = self.sockets.peers.get_mut(&event.token()) {
                    peer.connection.readable |= event.is_readable() || event.is_read_closed();
                    peer.connection.writable |= event.is_writable();
                }
            }
            self.sockets.accept(&mut self.link, self.now);
            self.sockets.read(&mut self.link, &mut self.brain, self.now);
            while let Some(r) = self.sockets.next_openflow(&mut self.brain, self.now) {
                self.brain.receive(r.conn, r.xid, r.message, &r.quote, self.now);
            }
            for (conn, outgoing) in self.brain.drain_outbox() {
                self.sockets.send(conn, outgoing);
            }
            for command in self.brain.drain_commands() {
                if let Command::Reconnect { bridge } = command {
                    self.sockets.reconnect_at_once(&bridge);
                }
            }
            self.sockets.flush(&mut self.link, &mut self.brain, self.now);
        }
    }

    fn status(&self) -> ControllerStatus {
        let key = ("br0".to_owned(), "unix:c".to_owned());
        self.sockets.controller_status(&self.brain, self.now).remove(&key).expect("its status")
    }

    fn state(&self) -> String {
        self.status().status["state"].clone()
    }

    /// Seconds until the next attempt.
    fn pause(&self) -> u64 {
        let next = self.sockets.controllers.next_deadline().expect("an attempt to come");
        next.saturating_since(self.now).as_secs()
    }
}

/// The other end.
struct Controller<S = UnixStream> {
    stream: S,
    session: Session,
}

impl Controller {
    fn accept(listener: &UnixListener, versions: OfVersions, now: Instant) -> Controller {
        let (stream, _) = listener.accept().expect("the switch has connected");
        stream.set_nonblocking(true).expect("non-blocking");
        Controller::over(stream, versions, now)
    }
}

impl<S: Read + Write> Controller<S> {
    fn over(stream: S, versions: OfVersions, now: Instant) -> Controller<S> {
        let config = SessionConfig { side: Side::Controller, versions, probe_interval: None };
        Controller { stream, session: Session::new(config, now) }
    }

    /// Asks for the datapath id and gives what the switch says, after some turns of its loop.
    fn datapath_id(&mut self, lab: &mut Lab, second: u64) -> u64 {
        self.talk(lab.now);
        lab.turns_at(second);
        self.talk(lab.now);
        self.session.send(Xid(9), &Message::FeaturesRequest).expect("it can be said");
        self.talk(lab.now);
        lab.turns_at(second);
        match self.talk(lab.now).0.as_slice() {
            [Received { message: Message::FeaturesReply(features), .. }] => features.datapath_id,
            other => panic!("{other:?}"),
        }
    }

    /// Writes, then reads what is there; whether the connection is still open.
    fn talk(&mut self, now: Instant) -> (Vec<Received>, bool) {
        let _ = self.stream.write_all(self.session.output());
        self.session.written(usize::MAX);
        let mut buffer = vec![0; 65_536];
        let mut open = true;
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => open = false,
                Ok(n) => {
                    self.session.receive(&buffer[..n], now);
                    continue;
                }
                Err(_) => {}
            }
            break;
        }
        let mut got = Vec::new();
        while let Some(event) = self.session.poll(now) {
            if let SessionEvent::Message(message) = event {
                got.push(*message);
            }
        }
        (got, open)
    }
}

/// Somebody who connects to the switch and has yet to say HELLO.
fn knock<S: Read + Write>(lab: &mut Lab, connect: impl FnOnce() -> std::io::Result<S>) -> Controller<S> {
    let stream = connect().expect("a connection");
    lab.sockets.ready_doors.extend(lab.sockets.listeners.keys());
    Controller::over(stream, OfVersions::ALL, lab.now)
}

#[test]
fn pauses_grow_to_the_limit_and_start_anew_after_success() {
    let mut lab = Lab::new("pauses");
    lab.controller(|c| c.max_backoff = Duration::from_secs(5));
    let mut pauses = Vec::new();
    let mut second = 0;
    for _ in 0..5 {
        lab.turns_at(second);
        assert_eq!(lab.state(), "BACKOFF");
        pauses.push(lab.pause());
        second += lab.pause();
    }
    assert_eq!(pauses, [1, 2, 4, 5, 5]);
    let error = lab.status().status.remove("last_error").expect("an error");
    assert_eq!(error, "No such file or directory");
    let listener = lab.listen();
    lab.turns_at(second);
    assert_eq!((lab.state(), lab.status().is_connected), ("CONNECTING".to_owned(), false));
    let mut controller = Controller::accept(&listener, OfVersions::ALL, lab.now);
    controller.talk(lab.now);
    lab.turns_at(second);
    assert_eq!((lab.state(), lab.status().is_connected), ("ACTIVE".to_owned(), true));
    assert_eq!(lab.status().role, Some("other"));
    assert_eq!(lab.status().status.get("last_error"), None);
    drop(controller);
    lab.turns_at(second);
    assert_eq!((lab.state(), lab.pause()), ("BACKOFF".to_owned(), 1));
}

#[test]
fn a_silent_controller_is_probed_then_given_up() {
    let mut lab = Lab::new("silent");
    let listener = lab.listen();
    lab.controller(|c| c.inactivity_probe = Duration::from_secs(60));
    lab.turns_at(0);
    let mut controller = Controller::accept(&listener, OfVersions::ALL, lab.now);
    controller.talk(lab.now);
    lab.turns_at(0);
    // A shorter interval holds for the connection that is there.
    lab.controller(|c| c.inactivity_probe = Duration::from_secs(3));
    lab.turns_at(3);
    let mut bytes = vec![0; 4_096];
    let n = controller.stream.read(&mut bytes).expect("a probe");
    // OFPT_ECHO_REQUEST (OpenFlow 1.3.5 §A.5.2) of OpenFlow 1.5, the newest that both speak, last.
    assert_eq!(bytes[n - 8..n - 6], [6, 2]);
    assert_eq!(lab.state(), "ACTIVE");
    lab.turns_at(6);
    assert_eq!(lab.state(), "BACKOFF");
    assert!(!controller.talk(lab.now).1, "the connection is closed");
}

#[test]
fn a_version_that_is_no_longer_allowed_ends_the_connection() {
    let mut lab = Lab::new("versions");
    let listener = lab.listen();
    lab.turns_at(0);
    let mut controller = Controller::accept(&listener, OfVersions::of(&[OfVersion::V13]), lab.now);
    controller.talk(lab.now);
    lab.turns_at(0);
    assert_eq!(lab.state(), "ACTIVE");
    lab.configure(|b| b.protocols = vec![OfVersion::V10.wire(), OfVersion::V13.wire()]);
    lab.turns_at(1);
    assert!(controller.talk(lab.now).1, "it is still allowed");
    lab.configure(|b| b.protocols = vec![OfVersion::V10.wire()]);
    lab.turns_at(1);
    assert!(!controller.talk(lab.now).1);
    lab.configure(|b| b.controllers.clear());
    lab.turns_at(9);
    assert_eq!(lab.sockets.controllers.next_deadline(), None, "nobody is to be reached any more");
}

#[test]
fn connections_are_made_anew_when_that_is_asked_for() {
    let mut lab = Lab::new("anew");
    let listener = lab.listen();
    lab.turns_at(0);
    let mut controller = Controller::accept(&listener, OfVersions::ALL, lab.now);
    controller.talk(lab.now);
    lab.turns_at(0);
    lab.sockets.reconnect(Some("br1"));
    lab.turns_at(1);
    assert!(controller.talk(lab.now).1, "that was another bridge");
    for (bridge, second) in [(Some("br0"), 2), (None, 4)] {
        lab.sockets.reconnect(bridge);
        lab.turns_at(second);
        assert!(!controller.talk(lab.now).1);
        assert_eq!((lab.state(), lab.pause()), ("BACKOFF".to_owned(), 1));
        lab.turns_at(second + 1);
        controller = Controller::accept(&listener, OfVersions::ALL, lab.now);
        controller.talk(lab.now);
        lab.turns_at(second + 1);
        assert_eq!(lab.state(), "ACTIVE");
    }
}

#[test]
fn controllers_that_knew_another_datapath_id_are_connected_to_anew_at_once() {
    let mut lab = Lab::new("identity");
    let listener = lab.listen();
    lab.configure(|b| b.datapath_id = Some(1));
    lab.sockets.add_bridge("br0", &lab.places).expect("its sockets");
    let path = lab.dir.join("br0.mgmt");
    let mut manager = knock(&mut lab, || UnixStream::connect(path));
    manager.stream.set_nonblocking(true).expect("non-blocking");
    lab.turns_at(0);
    assert_eq!(manager.datapath_id(&mut lab, 0), 1);
    let mut controller = Controller::accept(&listener, OfVersions::ALL, lab.now);
    assert_eq!(controller.datapath_id(&mut lab, 0), 1);
    lab.configure(|b| b.datapath_id = Some(2));
    lab.turns_at(0);
    assert!(!controller.talk(lab.now).1, "the connection is closed");
    let mut controller = Controller::accept(&listener, OfVersions::ALL, lab.now);
    assert_eq!(controller.datapath_id(&mut lab, 0), 2);
    assert_eq!(lab.state(), "ACTIVE");
    assert_eq!(manager.datapath_id(&mut lab, 0), 2, "ovs-ofctl goes on");
}

#[test]
fn nobody_is_connected_to_while_bridges_are_not_what_they_will_be() {
    let mut lab = Lab::new("held");
    let listener = lab.listen();
    lab.sockets.hold_controllers(true);
    lab.turns_at(0);
    assert!(listener.accept().is_err(), "nobody has connected");
    assert_eq!(lab.sockets.controllers.next_deadline(), None, "the loop may sleep");
    lab.sockets.hold_controllers(false);
    assert_eq!(lab.pause(), 0);
    lab.turns_at(0);
    Controller::accept(&listener, OfVersions::ALL, lab.now);
}

#[test]
fn who_connects_over_tcp_is_probed_as_its_row_says() {
    let mut lab = Lab::new("passive");
    let target = "ptcp:0:127.0.0.1";
    lab.configure(|b| b.controllers = [(target.to_owned(), ControllerConfig::default())].into());
    let address = lab.sockets.listeners.values().find_map(|(_, l)| match l {
        Listener::Tcp(l) => l.local_addr().ok(),
        Listener::Unix(_) => None,
    });
    let address = address.expect("it listens");
    let over_tcp = || {
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let (mut silent, mut lively) = (knock(&mut lab, over_tcp), knock(&mut lab, over_tcp));
    let mut mute = knock(&mut lab, over_tcp);
    mute.session.written(usize::MAX);
    lab.turns_at(0);
    silent.talk(lab.now);
    lively.talk(lab.now);
    lab.turns_at(0);
    // A shorter interval holds for connections that are there.
    lab.configure(|b| {
        let row = b.controllers.get_mut(target).expect("its row");
        row.inactivity_probe = Duration::from_secs(1);
    });
    for second in 1..=4 {
        lab.turns_at(second);
        // What it hears first and what it answers then.
        lively.talk(lab.now);
        assert!(lively.talk(lab.now).1, "second {second}");
        lab.turns_at(second);
        let mut bytes = vec![0; 4_096];
        match second {
            // OFPT_ECHO_REQUEST, as above.
            1 => assert!(silent.stream.read(&mut bytes).is_ok_and(|n| n == 8 && bytes[1] == 2)),
            _ => assert!(matches!(silent.stream.read(&mut bytes), Ok(0)), "it is let go"),
        }
        assert!(!mute.talk(lab.now).1, "who does not say HELLO is not even asked");
    }
    // So it does for those that come later.
    let mut late = knock(&mut lab, over_tcp);
    lab.turns_at(4);
    late.talk(lab.now);
    lab.turns_at(4);
    lab.turns_at(5);
    lab.turns_at(6);
    assert!(!late.talk(lab.now).1);
}

#[test]
fn local_clients_are_not_probed_but_have_to_say_hello() {
    let mut lab = Lab::new("local");
    lab.configure(|b| b.controllers = [("punix:p".to_owned(), ControllerConfig::default())].into());
    lab.sockets.add_bridge("br0", &lab.places).expect("its sockets");
    let dir = lab.dir.clone();
    let connect = |name: &str| {
        let stream = UnixStream::connect(dir.join(name))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    };
    let mut clients = ["p", "br0.mgmt"].map(|name| knock(&mut lab, || connect(name)));
    let mut mute = ["p", "br0.mgmt"].map(|name| knock(&mut lab, || connect(name)));
    lab.turns_at(0);
    for client in &mut clients {
        client.talk(lab.now);
    }
    mute.iter_mut().for_each(|client| client.session.written(usize::MAX));
    lab.turns_at(0);
    lab.configure(|_| {});
    lab.turns_at(3_600);
    assert_eq!(clients.each_mut().map(|client| client.talk(lab.now).1), [true, true]);
    assert_eq!(mute.each_mut().map(|client| client.talk(lab.now).1), [false, false]);
    // A row that goes takes its connections along.
    lab.configure(|b| b.controllers.clear());
    lab.turns_at(3_601);
    assert_eq!(clients.each_mut().map(|client| client.talk(lab.now).1), [false, true]);
}

#[test]
fn one_that_sends_without_end_does_not_keep_another_waiting() {
    let mut lab = Lab::new("turns");
    let listener = lab.listen();
    lab.turns_at(0);
    lab.sockets.add_bridge("br0", &lab.places).expect("its sockets");
    let mut flood = Controller::accept(&listener, OfVersions::ALL, lab.now);
    let mut quiet = UnixStream::connect(lab.dir.join("br0.mgmt")).expect("a connection");
    quiet.set_nonblocking(true).expect("non-blocking");
    flood.talk(lab.now);
    lab.sockets.ready_doors.extend(lab.sockets.listeners.keys().copied().collect::<Vec<_>>());
    lab.turns_at(0);
    // OpenFlow 1.0: HELLO and a barrier.
    quiet.write_all(&[1, 0, 0, 8, 0, 0, 0, 1, 1, 18, 0, 8, 0, 0, 0, 2]).expect("written");
    flood.talk(lab.now);
    // More barriers than one turn takes, and no replies read.
    let barriers = [6, 20, 0, 8, 0, 0, 0, 3].repeat(8_000);
    let mut taken = 0;
    while let Ok(n @ 1..) = flood.stream.write(&barriers[taken % 8..]) {
        taken += n;
    }
    lab.turns_at(0);
    let mut bytes = vec![0; 4_096];
    let n = quiet.read(&mut bytes).expect("replies");
    // The barrier's reply (OpenFlow 1.0: type 19) is the last that it heard.
    assert_eq!(bytes[n - 8..n], [1, 19, 0, 8, 0, 0, 0, 2]);
}
