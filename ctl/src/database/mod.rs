//! Bridges, ports and columns: a client of the configuration database.
//!
//! What a command changes is computed by pure functions over a copy of the database (`edit`, `column`); this module
//! speaks to the server, and waits for the daemon to take the change up, as ovs-vsctl(8) does.

mod column;
mod edit;
mod show;
#[cfg(test)]
mod trial;

use anyhow::{Context, anyhow, bail};
use ovsdb::client::{Client, ClientEvent, ClientOptions, RowRef, Transaction, outcome};
use ovsdb::replica::Replica;
use serde_json::{Value, json};

use crate::args::{Command, Wait};
use crate::clock::Deadline;
use crate::console::{Answer, Paint};
use crate::link::{Link, timed_out};
use crate::rundir::RunDir;

/// The database of a switch.
const DATABASE: &str = "Open_vSwitch";
/// The table of its one root record, of the same name.
const ROOT: &str = "Open_vSwitch";

/// A change to be made.
#[derive(Debug)]
pub struct Edit {
    transaction: Transaction,
    root: RowRef,
    /// Interfaces whose set-up may fail because of the change.
    watched: Vec<String>,
}

impl Edit {
    /// Changes nothing yet but that a new database gets its root record.
    fn new(replica: &Replica, comment: &str) -> Edit {
        let mut transaction = Transaction::new();
        transaction.comment(comment);
        let root = match replica.singleton(ROOT) {
            Some(row) => RowRef::from(row.uuid()),
            None => transaction.insert(ROOT, []),
        };
        Edit { transaction, root, watched: Vec::new() }
    }

    /// Asks the daemon to say when it has taken the change up (ovs-vswitchd.conf.db(5), `next_cfg`).
    fn finish(mut self) -> (Transaction, Vec<String>) {
        self.transaction.mutate(ROOT, &self.root, "next_cfg", "+=", json!(1));
        let root = Value::from(&self.root);
        self.transaction.push(json!({
            "op": "select", "table": ROOT, "where": [["_uuid", "==", root]], "columns": ["next_cfg"],
        }));
        (self.transaction, self.watched)
    }
}

/// A connection to the database, with a copy of it.
struct Session {
    client: Client,
    link: Link,
}

impl Session {
    fn open(rundir: &RunDir, deadline: Deadline) -> anyhow::Result<Session> {
        let link = Link::open(&rundir.database()?, "the database", deadline)?;
        let client = Client::new(ClientOptions::whole(DATABASE), None, deadline.clock().now());
        let mut session = Session { client, link };
        while session.client.replica().is_none() {
            session.turn()?;
        }
        Ok(session)
    }

    /// Sends what is to be sent, and takes in what comes.
    fn turn(&mut self) -> anyhow::Result<()> {
        self.link.write(self.client.output())?;
        self.client.consume_output(self.client.output().len());
        let mut buffer = [0; 1 << 16];
        let count = self.link.read(&mut buffer)?;
        let now = self.link.deadline().clock().now();
        self.client
            .receive(buffer.get(..count).unwrap_or_default(), now)
            .with_context(|| self.link.describe())
    }

    fn replica(&self) -> anyhow::Result<&Replica> {
        self.client.replica().ok_or_else(|| anyhow!("{} sent no contents", self.link.describe()))
    }

    fn commit(&mut self, edit: Edit, wait: Wait) -> anyhow::Result<()> {
        let (transaction, watched) = edit.finish();
        let wanted = self.transact(&transaction)?;
        if wait.no_wait {
            return Ok(());
        }
        self.wait_for(wanted)?;
        complain_of_interfaces(self.replica()?, &watched)
    }

    /// Runs a transaction that ends with a look at `next_cfg`, which is returned.
    fn transact(&mut self, transaction: &Transaction) -> anyhow::Result<i64> {
        let call = self.client.transact(transaction.operations());
        loop {
            while let Some(event) = self.client.next_event() {
                let ClientEvent::Transacted { call: answered, results } = event else { continue };
                if answered != call {
                    continue;
                }
                let results =
                    outcome(&results).map_err(|error| anyhow!("the database refused the change: {error}"))?;
                let count =
                    results.last().and_then(|rows| rows.pointer("/rows/0/next_cfg")).and_then(Value::as_i64);
                return count
                    .ok_or_else(|| anyhow!("{}: strange answer to a transaction", self.link.describe()));
            }
            self.turn()?;
        }
    }

    fn wait_for(&mut self, wanted: i64) -> anyhow::Result<()> {
        let reached = |replica: &Replica| {
            replica
                .singleton(ROOT)
                .and_then(|root| root.integer("cur_cfg"))
                .is_some_and(|current| current >= wanted)
        };
        while !reached(self.replica()?) {
            if let Err(error) = self.turn() {
                if timed_out(&error) {
                    bail!(
                        "the change is in the database, but vswitchd did not take it up in time; is it running? \
                         (--no-wait does not wait, --timeout waits longer)"
                    );
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The errors that the daemon reports about interfaces.
fn complain_of_interfaces(replica: &Replica, watched: &[String]) -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    for name in watched {
        let Some(row) = replica.find("Interface", "name", name) else { continue };
        if let Some(error) = row.string("error") {
            complaints.push(format!("{name} is configured, but does not work: {error}"));
        } else if row.integer("ofport") == Some(-1) {
            complaints.push(format!("{name} is configured, but does not work; the daemon's log says why"));
        }
    }
    if complaints.is_empty() { Ok(()) } else { bail!("{}", complaints.join("; ")) }
}

/// Whether the command is about the configuration.
pub fn concerns(command: &Command) -> bool {
    matches!(
        command,
        Command::Show
            | Command::AddBr(_)
            | Command::DelBr(_)
            | Command::ListBr
            | Command::AddPort(_)
            | Command::DelPort(_)
            | Command::ListPorts(_)
            | Command::Set(_)
            | Command::Get(_)
    )
}

/// Runs a command about the configuration.
///
/// # Errors
/// Anything that kept it from being done, in words for the user.
pub fn run(command: &Command, rundir: &RunDir, deadline: Deadline, paint: Paint) -> anyhow::Result<Answer> {
    let mut session = Session::open(rundir, deadline)?;
    let replica = session.replica()?;
    let (edit, wait, answer) = match command {
        Command::Show => return Ok(show::show(replica, paint)),
        Command::ListBr => return Ok(show::list_bridges(replica)),
        Command::ListPorts(args) => return show::list_ports(replica, &args.bridge),
        Command::Get(args) => return column::get(replica, args),
        Command::AddBr(args) => {
            let existed = edit::bridge_exists(replica, &args.bridge);
            let answer = json!({ "bridge": args.bridge, "created": !existed });
            (edit::add_bridge(replica, args)?, args.wait, answer)
        }
        Command::DelBr(args) => {
            let existed = edit::bridge_exists(replica, &args.bridge);
            let answer = json!({ "bridge": args.bridge, "deleted": existed });
            (edit::delete_bridge(replica, args)?, args.wait, answer)
        }
        Command::AddPort(args) => {
            let existed = replica.find("Port", "name", &args.port).is_some();
            let answer = json!({ "bridge": args.bridge, "port": args.port, "created": !existed });
            (edit::add_port(replica, args)?, args.wait, answer)
        }
        Command::DelPort(args) => {
            let port = args.names.last().map_or("", String::as_str);
            let existed = replica.find("Port", "name", port).is_some();
            let answer = json!({ "port": port, "deleted": existed });
            (edit::delete_port(replica, args)?, args.wait, answer)
        }
        Command::Set(args) => {
            let edit = column::set(replica, args)?;
            (edit, args.wait, json!({ "table": args.table, "record": args.record, "set": args.settings }))
        }
        other => bail!("{other:?} is not about the configuration"),
    };
    session.commit(edit, wait)?;
    Ok(Answer::done(answer))
}
