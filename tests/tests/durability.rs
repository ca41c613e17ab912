//! What is acknowledged is kept: across `kill -9`, a full disk, and the death of an outside database.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use tests::reference::Ovsdb;
use tests::{Namespace, Ran, Switch, Tools, binary, run, run_ok, wait_for};

/// Kills of the daemon while ovs-vsctl works.
const KILLS: u32 = 12;

/// A daemon killed at any moment has lost nothing that ovs-vsctl reported as done, and keeps nothing half done.
#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let mut switch = Switch::start(&["--enable-dummy=override", "--disable-system"]);
    switch.run("ovs-vsctl add-br br0");
    let dir = switch.dir().to_owned();
    let (acknowledged, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let done = Mutex::new(Vec::new());
    let mut killed = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each transaction adds a port and counts in two places at once. `--no-wait`: acknowledged means on disk, and the
            // database outlives the moment between the two halves of a configuration.
            for n in 1.. {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let line = format!(
                    "ovs-vsctl --timeout=2 --no-wait add-port br0 d{n} -- set Bridge br0 external_ids:n={n} \
                     -- set Open_vSwitch . external_ids:n={n}"
                );
                let (program, rest) = line.split_once(' ').expect("words");
                // A refusal or a lost connection acknowledges nothing; the transaction may have happened all the same.
                let ran = run(&mut Files(dir.clone()).tool(program, rest));
                if ran.code == 0 {
                    done.lock().expect("no panic").push(n);
                    acknowledged.store(n, Ordering::Release);
                }
            }
        });
        let _stop = StopOnDrop(&stop);
        let mut last = 0;
        while killed < KILLS {
            wait_for("some transactions", || acknowledged.load(Ordering::Acquire) >= last + 3);
            switch.kill();
            let promised = acknowledged.load(Ordering::Acquire);
            switch.restart();
            killed += 1;
            // All of it in one look, as transactions go on.
            let look = "ovs-vsctl get Bridge br0 external_ids:n -- get Open_vSwitch . external_ids:n -- list-ports br0";
            let text = switch.run(look);
            let mut lines = text.lines();
            let mut number =
                || lines.next().and_then(|l| l.trim_matches('"').parse().ok()).expect("a number");
            let values: [u32; 2] = [number(), number()];
            let ports: Vec<&str> = lines.collect();
            assert!(values[0] >= promised, "kill {killed}: {values:?}, {promised} were acknowledged");
            assert_eq!(values[0], values[1], "half a transaction was kept");
            assert!(
                ports.contains(&format!("d{}", values[0]).as_str()),
                "half a transaction was kept: {text}"
            );
            let acknowledged = done.lock().expect("no panic");
            for n in acknowledged.iter().filter(|n| **n <= promised) {
                assert!(
                    ports.contains(&format!("d{n}").as_str()),
                    "kill {killed}: acknowledged port d{n} is lost"
                );
            }
            drop(acknowledged);
            last = promised;
        }
    });
    // Every port that was acknowledged one after the other is there, and the daemon has caught up.
    switch.run("ovs-vsctl --timeout=10 set Open_vSwitch . external_ids:done=yes");
    let text = std::fs::read(switch.dir().join("conf.db")).expect("a database");
    assert!(!text.is_empty());
    assert!(
        run(Command::new("ovsdb-tool").arg("show-log").arg(switch.dir().join("conf.db"))).code == 0,
        "not a database"
    );
}

/// Ends a thread also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A directory with sockets, for threads that share nothing else with the switch.
struct Files(PathBuf);

impl Tools for Files {
    fn dir(&self) -> &Path {
        &self.0
    }
}

/// A small file system of its own, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, kib: u32) -> SmallDisk {
        std::fs::create_dir_all(at).expect("a directory");
        let options = format!("size={kib}k");
        run_ok(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at));
        SmallDisk(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_refuses_changes_and_forwards_on() {
    let disk_dir = std::env::temp_dir().join(format!("tapt-disk-{}", std::process::id()));
    let disk = SmallDisk::mount(&disk_dir, 512);
    let db = format!("--db={}", disk_dir.join("conf.db").display());
    let switch = Switch::start(&[&db]);
    switch.run("ovs-vsctl add-br br0");
    let a = switch.pod("br0", "pod1", "10.1.0.1/24");
    let b = switch.pod("br0", "pod2", "10.1.0.2/24");
    assert!(a.pings("10.1.0.2"));
    // Somebody else fills the disk.
    let filler = disk_dir.join("filler");
    let dd = run(Command::new("dd").args(["if=/dev/zero", "bs=1k"]).arg(format!("of={}", filler.display())));
    assert_ne!(dd.code, 0, "the disk is not full");
    let big = "x".repeat(8_000);
    let refused = refused_within(&switch, 5, &format!("ovs-vsctl set Bridge br0 external_ids:big={big}"));
    assert!(refused.stderr.contains("No space left"), "{}", refused.stderr);
    // The switch goes on, and says why nothing can be changed.
    assert!(a.pings("10.1.0.2"));
    assert!(b.pings("10.1.0.1"));
    switch.run("ovs-ofctl add-flow br0 priority=5,actions=drop");
    assert!(!a.pings("10.1.0.2"), "OpenFlow needs no disk");
    switch.run("ovs-ofctl del-flows br0 ");
    switch.run("ovs-ofctl add-flow br0 actions=NORMAL");
    assert_eq!(switch.run("ovs-vsctl get Bridge br0 external_ids").trim(), "{}", "a refused change is there");
    assert!(switch.log().contains("No space left"), "{}", switch.log());
    // With room again changes are accepted again, and survive.
    std::fs::remove_file(&filler).expect("removed");
    wait_for("changes are accepted again", || {
        switch.try_run("ovs-vsctl --timeout=5 set Bridge br0 external_ids:after=full").code == 0
    });
    let mut switch = switch;
    switch.kill();
    switch.restart();
    assert_eq!(switch.run("ovs-vsctl get Bridge br0 external_ids").trim(), "{after=full}");
    wait_for("pods talk after the restart", || a.pings("10.1.0.2"));
    drop(switch);
    drop(disk);
    let _ = std::fs::remove_dir(&disk_dir);
}

/// Runs a line until it is refused: what was in flight when the disk became full may still have fitted.
fn refused_within(switch: &Switch, tries: usize, line: &str) -> Ran {
    for _ in 0..tries {
        let ran = switch.try_run(line);
        if ran.code != 0 {
            return ran;
        }
    }
    panic!("{} accepted on a full disk", &line[..40]);
}

#[test]
fn a_damaged_database_is_refused_with_its_name() {
    let mut switch = Switch::start(&["--enable-dummy=override"]);
    switch.run("ovs-vsctl add-br br0");
    switch.run("ovs-vsctl set Bridge br0 external_ids:a=1");
    switch.kill();
    let file = switch.dir().join("conf.db");
    let whole = std::fs::read(&file).expect("a database");
    // A record that was being written when the power went: it was never acknowledged, the rest counts.
    std::fs::write(
        &file,
        [&whole[..], b"OVSDB JSON 999 0123456789abcdef0123456789abcdef01234567\n{\"Br"].concat(),
    )
    .expect("written");
    switch.restart();
    assert_eq!(switch.run("ovs-vsctl get Bridge br0 external_ids").trim(), "{a=\"1\"}");
    switch.run("ovs-vsctl set Bridge br0 external_ids:b=2");
    switch.kill();
    switch.restart();
    assert_eq!(switch.run("ovs-vsctl get Bridge br0 external_ids").trim(), "{a=\"1\", b=\"2\"}");
    switch.kill();
    // No database at all.
    std::fs::write(&file, b"once upon a time\n").expect("written");
    let ran = run(switch.ns().command(binary("vswitchd")).args([
        format!("--rundir={}", switch.dir().display()),
        format!("--db={}", file.display()),
        "--enable-dummy=override".to_owned(),
    ]));
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("conf.db"), "{}", ran.stderr);
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let switch = Switch::start(&["--enable-dummy=override"]);
    let dir = switch.dir().display();
    for extra in [&["--db=/nonexistent/other.db"][..], &[], &["--detach"]] {
        let mut command = switch.ns().command(binary("vswitchd"));
        command.arg(format!("--rundir={dir}")).arg(format!("--db={dir}/conf.db")).args(extra);
        let ran = run(&mut command);
        assert!(ran.code > 0, "a second daemon started: {extra:?}");
        assert!(
            ran.stderr.contains("running") && ran.stderr.contains(&dir.to_string()),
            "{extra:?}: {}",
            ran.stderr
        );
    }
    // Nor on the same database from another directory.
    let other = switch.dir().join("elsewhere");
    let mut command = switch.ns().command(binary("vswitchd"));
    command.arg(format!("--rundir={}", other.display())).arg(format!("--db={dir}/conf.db"));
    let ran = run(&mut command);
    assert!(ran.code > 0 && ran.stderr.contains("conf.db"), "{}", ran.stderr);
    // The first has not noticed.
    switch.run("ovs-vsctl add-br br0");
}

/// Sockets are for root and its group alone.
#[test]
fn files_are_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let switch = Switch::start(&["--enable-dummy=override"]);
    switch.run("ovs-vsctl add-br br0");
    let sockets: Vec<String> = std::fs::read_dir(switch.dir())
        .expect("a directory")
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| ["sock", "mgmt", "snoop", "ctl", "db"].iter().any(|end| n.ends_with(end)))
        .collect();
    assert!(sockets.len() >= 5, "{sockets:?}");
    for name in sockets {
        let mode = std::fs::metadata(switch.dir().join(&name)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o007, 0, "{name} is open to everybody: {mode:o}");
    }
}

/// The daemon as a client of Debian's ovsdb-server, as `ovs-vswitchd` is started.
struct Outside {
    dir: PathBuf,
    ns: Namespace,
    database: Ovsdb,
    daemon: Option<Child>,
}

impl Tools for Outside {
    fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Outside {
    fn start(name: &str) -> Outside {
        let dir = std::env::temp_dir().join(format!("tapt-outside-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let database = Ovsdb::start(&dir);
        let mut outside = Outside { dir, ns: Namespace::new(name), database, daemon: None };
        outside.run("ovs-vsctl --no-wait init");
        outside.daemon = Some(outside.spawn(""));
        wait_for("the daemon answers", || outside.try_run("ovs-appctl version").code == 0);
        outside
    }

    fn spawn(&self, suffix: &str) -> Child {
        let d = self.dir.display();
        let log = std::fs::File::create(self.dir.join(format!("stderr{suffix}.log"))).expect("a log");
        let mut command = self.ns.command(binary("vswitchd"));
        command.arg(format!("unix:{d}/db.sock")).arg(format!("--rundir={d}{suffix}"));
        command.stdin(Stdio::null()).stderr(log).spawn().expect("a daemon")
    }

    fn pod(&self, port: &str, address: &str) -> Namespace {
        self.run(&format!(
            "ovs-vsctl --timeout=10 add-port br0 {port} -- set Interface {port} type=internal"
        ));
        let pod = Namespace::new(port);
        tests::ip(&format!("-n {} link set {port} netns {}", self.ns.name(), pod.name()));
        pod.run_ok(&format!("ip addr add {address} dev {port}"));
        pod.run_ok(&format!("ip link set {port} up"));
        pod
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.dir.join("stderr.log")).unwrap_or_default());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = std::fs::remove_dir_all(format!("{}2", self.dir.display()));
    }
}

#[test]
fn an_outside_database_configures_the_switch() {
    let mut outside = Outside::start("client");
    outside.run("ovs-vsctl --timeout=10 add-br br0");
    let a = outside.pod("pod1", "10.1.0.1/24");
    let b = outside.pod("pod2", "10.1.0.2/24");
    assert!(a.pings("10.1.0.2"));
    assert!(outside.run("ovs-ofctl dump-flows br0").contains("NORMAL"));
    assert_eq!(outside.run("ovs-vsctl get Interface pod1 ofport").trim(), "1");
    // The lock that keeps two switches from serving one database.
    let second = outside.spawn("2");
    let mut second = KillOnDrop(second);
    let log =
        |n: &str| std::fs::read_to_string(outside.dir.join(format!("stderr{n}.log"))).unwrap_or_default();
    wait_for("the second daemon waits for the lock", || {
        assert!(second.0.try_wait().expect("asked").is_none(), "it ended: {}", log("2"));
        log("2").contains("another ovs-vswitchd process is running")
    });
    assert!(a.pings("10.1.0.2"));
    drop(second);
    // The database dies: the switch forwards on, connects again, and follows what has changed since.
    outside.database.kill();
    assert!(a.pings("10.1.0.2"));
    assert!(outside.run("ovs-ofctl dump-flows br0").contains("NORMAL"));
    outside.database.restart();
    outside.run("ovs-vsctl --timeout=20 set Port pod2 tag=9");
    assert!(!a.pings("10.1.0.2"), "the change after the reconnection was not followed");
    outside.run("ovs-vsctl --timeout=20 clear Port pod2 tag");
    wait_for("the pods talk again", || a.pings("10.1.0.2"));
    drop(b);
    outside.run("ovs-appctl exit --cleanup");
    let mut daemon = outside.daemon.take().expect("a daemon");
    assert!(daemon.wait().expect("ended").success());
    let left = run_ok(outside.ns.command("ip").args(["-o", "link", "show"]));
    assert!(!left.contains("br0"), "{left}");
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// However the kernel lets go of the TAPs of a daemon that was killed, ports have the numbers that they had.
#[test]
fn ports_have_their_numbers_again_after_kill_9() {
    let mut switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0");
    let _pods: Vec<Namespace> =
        (1..=6).map(|n| switch.pod("br0", &format!("pod{n}"), &format!("10.0.0.{n}/24"))).collect();
    let numbers = |switch: &Switch| -> Vec<String> {
        (1..=6).map(|n| switch.run(&format!("ovs-vsctl get Interface pod{n} ofport error"))).collect()
    };
    let before = numbers(&switch);
    assert_eq!(before, (1..=6).map(|n| format!("{n}\n[]\n")).collect::<Vec<_>>());
    for kill in 0..3 {
        switch.kill();
        switch.restart();
        // Returns when the configuration is in force, and so when the TAPs are there.
        switch.run(&format!("ovs-vsctl set Bridge br0 external_ids:kill={kill}"));
        assert_eq!(numbers(&switch), before);
        let shown = switch.run("ovs-ofctl show br0");
        assert!((1..=6).all(|n| shown.contains(&format!(" {n}(pod{n}): "))), "{shown}");
        assert!(!switch.log().contains("not taken over"), "{}", switch.log());
    }
}

/// What has come when the daemon is told to end is carried out and answered, and of several ways to end the thorough one counts.
#[test]
fn a_signal_during_commands_loses_nothing() {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    let mut switch = Switch::start(&[]);
    switch.run("ovs-vsctl add-br br0 -- add-port br0 pod1 -- set Interface pod1 type=internal");
    let is_there = |switch: &Switch| {
        run(Command::new("ip").args(["-n", switch.ns().name(), "link", "show", "pod1"])).code == 0
    };
    assert!(is_there(&switch));
    let ctl = switch.dir().join(format!("ovs-vswitchd.{}.ctl", switch.pid()));
    let connect = |path: &Path, hello: &str| {
        let mut stream = UnixStream::connect(path).expect("a socket");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("set");
        // The daemon knows the connection when it has answered on it.
        stream.write_all(hello.as_bytes()).expect("written");
        let mut byte = [0];
        let mut depth = 0;
        while depth > 0 || byte[0] != b'}' {
            stream.read_exact(&mut byte).expect("an answer");
            depth += i32::from(byte[0] == b'{') - i32::from(byte[0] == b'}');
        }
        stream
    };
    let version = r#"{"id":0,"method":"version","params":[]}"#;
    let mut ends = [connect(&ctl, version), connect(&ctl, version)];
    let mut database = connect(&switch.dir().join("db.sock"), r#"{"id":0,"method":"echo","params":[{}]}"#);
    let signal = |name: &str| run_ok(Command::new("kill").args([name, &switch.pid().to_string()]));
    signal("-STOP");
    ends[0].write_all(br#"{"id":1,"method":"exit","params":[]}"#).expect("written");
    ends[1].write_all(br#"{"id":1,"method":"exit","params":["--cleanup"]}"#).expect("written");
    let change = r#"{"id":1,"method":"transact","params":["Open_vSwitch",{"op":"mutate","table":"Open_vSwitch","where":[],
        "mutations":[["external_ids","insert",["map",[["kept","yes"]]]]]}]}"#;
    database.write_all(change.as_bytes()).expect("written");
    signal("-TERM");
    signal("-CONT");
    for stream in ends.iter_mut().chain([&mut database]) {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer and the end");
        assert!(text.contains(r#""error":null"#) && text.contains(r#""id":1"#), "{text}");
    }
    wait_for("the daemon has ended and cleaned up", || !is_there(&switch));
    switch.kill();
    switch.restart();
    assert_eq!(switch.run("ovs-vsctl get Open_vSwitch . external_ids:kept").trim(), "yes");
}
