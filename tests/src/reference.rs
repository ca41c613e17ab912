//! Debian's own ovs-vswitchd and ovsdb-server in a directory and a network namespace of their own: the oracle of the
//! differential suites. Its datapath is the dummy one, so nothing of it touches the kernel's networking, unless it is started
//! in a namespace of the test's, where it is what a node would run.

use crate::{Namespace, Tools, run, run_ok, unique, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Debian's database schema of Open vSwitch.
pub const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// An ovsdb-server on its own.
#[derive(Debug)]
pub struct Ovsdb {
    dir: PathBuf,
    child: Option<Child>,
}

impl Ovsdb {
    /// Makes a database in `dir` and serves it on `dir/db.sock`.
    pub fn start(dir: &Path) -> Ovsdb {
        run_ok(Command::new("ovsdb-tool").arg("create").arg(dir.join("conf.db")).arg(SCHEMA));
        let mut server = Ovsdb { dir: dir.to_owned(), child: None };
        server.restart();
        server
    }

    /// Ends it, at once.
    pub fn kill(&mut self) {
        end(self.child.take());
        let _ = std::fs::remove_file(self.dir.join("db.sock"));
    }

    /// Starts it again.
    pub fn restart(&mut self) {
        let dir = self.dir.display();
        let mut command = Command::new("ovsdb-server");
        command.arg(self.dir.join("conf.db")).arg(format!("--remote=punix:{dir}/db.sock"));
        command.args([format!("--unixctl={dir}/db.ctl"), "-vconsole:off".into(), "-vsyslog:off".into()]);
        self.child = Some(spawn(&mut command));
        wait_for("ovsdb-server answers", || {
            let mut list = Command::new("ovsdb-client");
            run(list.args(["-t", "5", "list-dbs"]).arg(format!("unix:{dir}/db.sock"))).code == 0
        });
    }
}

impl Drop for Ovsdb {
    fn drop(&mut self) {
        end(self.child.take());
    }
}

/// The real switch.
#[derive(Debug)]
pub struct Reference {
    dir: PathBuf,
    _database: Ovsdb,
    daemon: Option<Child>,
}

impl Reference {
    /// Starts both daemons with `--enable-dummy=override` and waits until they answer.
    pub fn start() -> Reference {
        let mut command = Command::new("unshare");
        command.args(["-n", "ovs-vswitchd"]);
        Self::spawn(command, &["--enable-dummy=override", "--disable-system", "--disable-system-route"])
    }

    /// Starts both daemons as they are on a node, in this namespace, and waits until they answer.
    pub fn start_in(ns: &Namespace) -> Reference {
        Self::spawn(ns.command("ovs-vswitchd"), &[])
    }

    fn spawn(mut command: Command, options: &[&str]) -> Reference {
        let dir = std::env::temp_dir().join(unique("ref"));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let database = Ovsdb::start(&dir);
        let mut reference = Reference { dir, _database: database, daemon: None };
        reference.run("ovs-vsctl --no-wait init");
        let d = reference.dir.display();
        command.arg(format!("unix:{d}/db.sock")).args(options);
        command.args([format!("--pidfile={d}/ovs-vswitchd.pid"), format!("--log-file={d}/log")]);
        command.args(["-vconsole:off", "-vsyslog:off"]);
        command.env("OVS_RUNDIR", &reference.dir).env("OVS_DBDIR", &reference.dir);
        reference.daemon = Some(spawn(&mut command));
        wait_for("ovs-vswitchd answers", || reference.try_run("ovs-appctl version").code == 0);
        reference
    }
}

impl Tools for Reference {
    fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        end(self.daemon.take());
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn end(child: Option<Child>) {
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}
