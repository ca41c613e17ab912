//! The main thread: one loop over sockets, workers' events, devices and timers around the brain.
//!
//! A turn of the loop is: take in what came, let the brain follow, publish the snapshot, then and only then let replies
//! out. So whoever has read a reply can rely on the next frame's being handled by the new configuration.

mod balance;
mod shown;
mod tunnels;

use crate::appctl::{self, FragmentSettings};
use crate::args::{Args, Places};
use crate::clock::Clock;
use crate::connections::Connections;
use crate::coverage::Coverage;
use crate::database::link::{Link, LinkError};
use crate::database::read::{Allowed, Wanted, wanted};
use crate::database::write::{Counters, Identity, InterfaceStatus, Status, report};
use crate::devices::{Devices, News};
use crate::host_statistics::HostStatistics;
use crate::looks::Looks;
use crate::routes::Routes;
use crate::sockets::{Sockets, Sources, WAKER};
use crate::vlog::Vlog;
use crate::workers::{Ingredients, Workers};
pub use balance::Balancer;
pub use shown::FlowCounts;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use base::{HashSeed, Instant};
use crossbeam_channel::{Receiver, Sender, bounded};
use datapath::conntrack::{ConnTracker, CtConfig};
use datapath::{Command as WorkerCommand, Drop, Event, PortError, SlowPath};
use flowtable::OfPort;
use openflow::message::Message;
use packet::{DpPort, Frame, PacketKey};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use switch::brain::{Brain, BridgeState, Command};
use switch::bridge::Device;
use switch::config::{Config, InterfaceKind};
use switch::forwarding::{Forwarding, PuntSink, Punted, Solicitation};
use switch::ofproto::PacketOutRequest;
use switch::plan::{Step, plan};
use sys::netlink::{LinkEvent, LinkWatch};
use sys::process::PidFile;
use sys::signal::{DaemonSignal, Signals};

/// Frames for controllers that may wait for the main thread.
const PUNTS_MAX: usize = 4_096;
/// Neighbours of tunnels that may wait to be asked for.
const SOLICITATIONS_MAX: usize = 256;
/// How often statistics go to the database unless `stats-update-interval` says otherwise.
const STATS_INTERVAL: Duration = Duration::from_secs(5);

/// How often it is looked whether a worker answers that did not in time.
const LATE_GLANCE: Duration = Duration::from_millis(20);

/// News of links taken in one turn.
const LINK_EVENTS_MAX: usize = 4_096;

/// Whether a message may change what frames meet, or tells that what was before it is done.
fn changes_something(message: &Message) -> bool {
    !matches!(message, Message::PacketOut(_) | Message::MultipartRequest(_))
}

/// The bounded queue of frames from workers to the main thread.
struct PuntQueue {
    sender: Sender<Punted>,
    solicitations: Sender<Solicitation>,
    notify: Arc<dyn Fn() + Send + Sync>,
}

impl PuntSink for PuntQueue {
    fn punt(&self, punted: Punted) -> Result<(), Drop> {
        self.sender.try_send(punted).map_err(|_| Drop::UpcallFull)?;
        (self.notify)();
        Ok(())
    }

    fn solicit(&self, solicitation: Solicitation) {
        // Traffic that still has no neighbour asks again.
        if self.solicitations.try_send(solicitation).is_ok() {
            (self.notify)();
        }
    }
}

/// How the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Devices stay for the next start.
    KeepDevices,
    /// Devices that the switch made are to go.
    Cleanup,
}

/// Time that is being warped, for whom.
struct Warp {
    left: Duration,
    step: Duration,
    reply_to: crate::sockets::AppctlReply,
}

/// Everything the main thread owns.
pub struct Daemon {
    /// The log.
    pub log: Vlog,
    /// The clock.
    pub clock: Clock,
    /// What the command line allows.
    pub allowed: Allowed,
    /// The brain.
    pub brain: Brain,
    /// What workers work from.
    pub snapshot: Arc<ArcSwap<Forwarding>>,
    /// The workers.
    pub workers: Workers,
    /// What is known of their loads.
    pub balancer: Balancer,
    /// Connection tracking.
    pub connections: Connections,
    /// What commands set of reassembly.
    pub fragments: FragmentSettings,
    /// The devices.
    pub devices: Devices,
    /// The database.
    pub link: Link,
    sockets: Sockets,
    places: Places,
    config: Config,
    read: Wanted,
    configured_once: bool,
    punts: Receiver<Punted>,
    solicitations: Receiver<Solicitation>,
    watch: Option<LinkWatch>,
    /// Whether the brain knows the host's routes.
    pub(crate) routes: Routes,
    signals: Signals,
    identity: Identity,
    stats_next: Instant,
    looks: Looks,
    statistics: BTreeMap<String, Counters>,
    /// How often things happen.
    rates: Coverage,
    /// How many cached flows there were of late.
    pub flow_counts: FlowCounts,
    /// What `upcall/set-flow-limit` has set.
    flow_limit_set: Option<usize>,
    host_statistics: HostStatistics,
    /// What the brain is not told yet, as TAPs of an earlier run are still awaited.
    withheld: Vec<News>,
    /// Whether something may have changed that the database is to tell.
    report_due: bool,
    /// Why the last report could not be written.
    report_failed: Option<String>,
    warp: Option<Warp>,
    end: Option<End>,
    /// Whether the next turn is the last.
    is_last_turn: bool,
    /// Who has asked for the end, to be told when it has come.
    end_replies: Vec<crate::sockets::AppctlReply>,
}

impl Daemon {
    /// Makes everything but serves nothing yet. Signals must have been blocked before any thread was started.
    ///
    /// # Errors
    /// What could not be had, with its name.
    pub fn new(args: &Args, places: Places, log: Vlog, signals: Signals) -> Result<Daemon> {
        let clock = Clock::default();
        let now = clock.now();
        let sockets = Sockets::new(&places, args).context("event loop")?;
        let notify = sockets.notifier();
        let (sender, punts) = bounded(PUNTS_MAX);
        let seed = HashSeed::new(sys::random::seed()?, sys::random::seed()?);
        let (solicitor, solicitations) = bounded(SOLICITATIONS_MAX);
        let sink = PuntQueue { sender, solicitations: solicitor, notify: Arc::clone(&notify) };
        let mut brain = Brain::new(seed, Box::new(sink));
        let snapshot = Arc::new(ArcSwap::new(brain.publish()));
        let balancer = Balancer::new(args.workers, now);
        let tracker = Arc::new(ConnTracker::new(seed, CtConfig::default()));
        let workers = Workers::start(
            balancer.count_default(),
            Ingredients {
                snapshot: Arc::clone(&snapshot),
                seed,
                tracker: Arc::clone(&tracker),
                clock: clock.clone(),
                notify,
            },
        )?;
        let link = match &args.database {
            Some(_) => Link::outside(),
            None => open_database(&places, now)?,
        };
        let allowed = Allowed { dummies: args.dummies, disable_system: args.disable_system };
        let watch = if args.disable_system { None } else { watch_links() };
        Ok(Daemon {
            log,
            clock,
            allowed,
            brain,
            snapshot,
            workers,
            balancer,
            connections: Connections::new(tracker),
            fragments: FragmentSettings::default(),
            devices: if args.disable_system {
                Devices::default()
            } else {
                Devices::after_restart(args.no_io_uring)
            },
            link,
            sockets,
            places,
            config: Config::default(),
            read: Wanted::default(),
            configured_once: false,
            punts,
            solicitations,
            watch,
            routes: if args.disable_system_route { Routes::none() } else { Routes::watch() },
            signals,
            identity: identity(),
            stats_next: now,
            looks: if args.disable_system { Looks::none() } else { Looks::watch() },
            statistics: BTreeMap::new(),
            rates: Coverage::default(),
            flow_counts: FlowCounts::default(),
            flow_limit_set: None,
            host_statistics: HostStatistics::default(),
            withheld: Vec::new(),
            report_due: true,
            report_failed: None,
            warp: None,
            end: None,
            is_last_turn: false,
            end_replies: Vec::new(),
        })
    }

    /// Whether the configuration of the database has been carried out once and every socket answers.
    pub fn is_ready(&self) -> bool {
        self.configured_once && !self.devices.is_any_held()
    }

    /// One turn of the loop, including the wait for something to do. `Some` when the daemon is to end.
    ///
    /// # Errors
    /// The loop itself cannot go on.
    pub fn turn(&mut self) -> Result<Option<End>> {
        let now = self.clock.now();
        // Until the addresses of local ports are known, datapath ids are made up.
        self.sockets.hold_controllers(self.devices.is_any_held() || !self.withheld.is_empty());
        let timeout = self.timeout(now);
        let sources = Sources {
            signals: &self.signals,
            links: self.watch.as_ref(),
            elsewhere: self.looks.source(),
            routes: self.routes.source(),
        };
        self.sockets.wait(Some(timeout), &sources)?;
        let now = self.clock.now();
        self.take_signals()?;
        self.take_worker_events(now);
        self.take_punts();
        self.take_solicitations();
        self.take_link_events(now);
        self.report_due |= self.host_statistics.collect();
        self.follow_routes(false, now);
        self.serve(now);
        self.follow_database(now);
        self.do_what_is_due(now);
        self.brain.run(now, || self.workers.fold());
        self.publish(now);
        self.report(now);
        self.advance_warp();
        self.let_out(now);
        // Once more, for what came before the signal and was not seen yet.
        let is_last = std::mem::replace(&mut self.is_last_turn, self.end.is_some());
        Ok(self.end.filter(|_| is_last))
    }

    /// How long the loop may sleep if nothing comes.
    fn timeout(&self, now: Instant) -> Duration {
        let unread = self.link.has_news() && (self.link.is_ours() || self.configured_once);
        if self.connections.is_due(&self.sockets) {
            return Duration::ZERO;
        }
        if unread
            || self.sockets.has_unfinished()
            || self.warp.is_some()
            || !self.punts.is_empty()
            || self.brain.has_outgoing()
            || !self.solicitations.is_empty()
            || self.is_last_turn
        {
            return Duration::ZERO;
        }
        let looks = self.devices.open().next().is_some().then(|| self.looks.next());
        let others = [
            looks,
            self.brain.next_deadline(),
            self.devices.next_deadline(),
            self.link.next_deadline(),
            self.routes.next_deadline(),
            self.brain.routes().next_expiry(),
            self.sockets.next_deadline(),
            Some(self.balancer.next_deadline()),
        ];
        let soonest = others.into_iter().flatten().fold(self.stats_next, Instant::min).saturating_since(now);
        let awaits_workers =
            self.devices.awaits_workers() || self.workers.is_any_ending() || self.workers.is_any_owed();
        let soonest = match awaits_workers {
            true => soonest.min(LATE_GLANCE),
            false => soonest,
        };
        // Under a stopped clock deadlines do not come nearer: look again soon, as somebody may start it.
        if self.clock.is_stopped() { soonest.min(STATS_INTERVAL) } else { soonest }
    }

    // --- what came in ---

    fn take_signals(&mut self) -> Result<()> {
        while let Some(signal) = self.signals.read()? {
            match signal {
                DaemonSignal::Terminate | DaemonSignal::Interrupt => {
                    tracing::info!(target: "vswitchd", "terminated by a signal");
                    self.end.get_or_insert(End::KeepDevices);
                }
                DaemonSignal::HangUp => {
                    if let Err(error) = self.log.reopen() {
                        tracing::info!(target: "vlog", "{error}");
                    }
                }
            }
        }
        Ok(())
    }

    fn take_worker_events(&mut self, now: Instant) {
        let events: Vec<Event> = self.workers.events().collect();
        for event in events {
            let (port, error) = match event {
                Event::RxFailed { port, error } | Event::TxFailed { port, error } => (port, error),
            };
            match error {
                PortError::Gone => {
                    let news = self.devices.gone(port, now);
                    self.tell(news, now);
                }
                PortError::Down => {}
                PortError::Io(error) => {
                    tracing::warn!(target: "netdev", "port {}: {error}", self.port_label(port, true))
                }
            }
        }
    }

    fn take_punts(&mut self) {
        // Bounded, so that a flood of frames for controllers leaves time for everything else.
        for _ in 0..PUNTS_MAX / 4 {
            let Ok(punted) = self.punts.try_recv() else { return };
            self.brain.packet_in(punted);
            // Into the sessions at once, which drop it where nobody reads.
            self.deliver();
        }
    }

    fn take_link_events(&mut self, now: Instant) {
        let Some(watch) = &mut self.watch else { return };
        let mut events: Vec<LinkEvent> = Vec::new();
        loop {
            // One call reads only so much, and the loop is not told again of what it leaves.
            let before = events.len();
            if let Err(error) = watch.read(&mut events) {
                tracing::warn!(target: "netlink", "no more news of links: {error}");
                self.watch = None;
                break;
            }
            if events.len() == before || events.len() > LINK_EVENTS_MAX {
                break;
            }
        }
        if !events.is_empty() {
            let mut news = self.devices.retry(true, &mut self.workers, now);
            news.extend(self.devices.look_at_all(now));
            self.tell(news, now);
        }
    }

    fn do_what_is_due(&mut self, now: Instant) {
        self.balance_if_due(now);
        if self.looks.is_due(now) {
            let news = self.devices.look_at_all(now);
            self.looks.looked(now, self.clock.now());
            self.tell(news, now);
        }
        if self.devices.next_deadline().is_some_and(|due| due <= now) {
            let news = self.devices.retry(false, &mut self.workers, now);
            self.tell(news, now);
        }
        if now >= self.stats_next {
            let interval = self.link.replica().and_then(|r| r.singleton("Open_vSwitch"));
            let interval =
                interval.and_then(|r| r.map_get("other_config", "stats-update-interval")?.parse().ok());
            self.stats_next =
                now + interval.map_or(STATS_INTERVAL, |ms: u64| Duration::from_millis(ms.max(5_000)));
            self.refresh_statistics();
        }
    }

    fn tell(&mut self, news: impl IntoIterator<Item = News>, now: Instant) {
        // Even if there is no news for the brain: an error may have come or gone.
        self.report_due = true;
        self.withheld.extend(news);
        // Ports are numbered in the order of their names, not in that in which a process that is ending lets go of them.
        if self.devices.is_any_held() {
            return;
        }
        let news = std::mem::take(&mut self.withheld).into_iter().map(|news| match news {
            News::Open(name, device) => (name, Some(device)),
            News::Closed(name) => (name, None),
        });
        self.brain.devices_changed(news, now);
    }

    /// Reads sockets and carries out what is asked.
    fn serve(&mut self, now: Instant) {
        self.sockets.accept(&mut self.link, now);
        self.sockets.read(&mut self.link, &mut self.brain, now);
        while let Some(request) = self.sockets.next_openflow(&mut self.brain, now) {
            if Brain::needs_counters(&request.message) {
                self.workers.fold();
                let counters = self.all_counters();
                self.brain.set_counters(counters);
            }
            // A frame goes by the rules as they were when it was sent, however many messages came in one piece.
            if self.brain.has_commands() && changes_something(&request.message) {
                self.publish(now);
            }
            self.brain.receive(request.conn, request.xid, request.message, &request.quote, now);
            // Rules that are gone go from the workers too before it is said how much they forwarded.
            if self.brain.has_removals() {
                self.publish(now);
            }
            // Into the sessions at once, so that they notice who does not read; out of the process after publishing.
            self.deliver();
        }
        for request in self.sockets.take_appctl() {
            let answer = appctl::run(self, &request.command, &request.args, now);
            match answer {
                appctl::Answer::Now(answer) => self.sockets.answer_appctl(&request.reply, &answer),
                appctl::Answer::Exit { cleanup } => {
                    // Whoever wants to clean up has it so, whatever else ends the daemon at the same time.
                    let end = if cleanup { End::Cleanup } else { End::KeepDevices };
                    self.end = self.end.max(Some(end));
                    self.end_replies.push(request.reply);
                }
                appctl::Answer::Walk(walk) => self.connections.begin(walk, request.reply),
                appctl::Answer::Warp { total, step } => {
                    self.warp = Some(Warp { left: total, step, reply_to: request.reply });
                }
            }
        }
        self.connections.go_on(&mut self.sockets, now);
        if let Some(server) = self.link.server_mut() {
            server.poll(now);
        }
    }

    /// `bridge/reconnect`: ends the connections to the controllers of one bridge or all, to be made again.
    ///
    /// # Errors
    /// There is no such bridge.
    pub fn reconnect(&mut self, bridge: Option<&String>) -> Result<String, String> {
        if bridge.is_some_and(|name| self.snapshot.load().bridge_by_name(name).is_none()) {
            return Err("Unknown bridge".to_owned());
        }
        self.sockets.reconnect(bridge.map(String::as_str));
        Ok(String::new())
    }

    // --- configuration ---

    fn follow_database(&mut self, now: Instant) {
        let changed = self.link.refresh();
        self.report_due |= changed;
        if !changed && self.configured_once || !self.link.is_ours() {
            return;
        }
        let Some(replica) = self.link.replica() else { return };
        let read = wanted(replica, self.allowed);
        if self.configured_once && read == self.read {
            return;
        }
        if read.config.cache != self.read.config.cache {
            self.flow_limit_set = None;
        }
        for warning in read.warnings.iter().filter(|w| !self.read.warnings.contains(w)) {
            tracing::warn!(target: "bridge", "{warning}");
        }
        for (row, error) in &read.interface_errors {
            if self.read.interface_errors.get(row) != Some(error) {
                tracing::warn!(target: "bridge", "{error}");
            }
        }
        self.read = read;
        self.carry_out(now);
        self.configured_once = true;
    }

    fn carry_out(&mut self, now: Instant) {
        let steps = plan(&self.config, &self.read.config);
        self.config = self.read.config.clone();
        self.follow_workers(now);
        // Devices that go leave the snapshot before they leave the workers, and have left both before another of the same
        // name can come. Steps are in that order.
        let (closes, rest): (Vec<Step>, Vec<Step>) =
            steps.into_iter().partition(|step| matches!(step, Step::Close { .. } | Step::CloseSocket(_)));
        let closed = closes.into_iter().filter_map(|step| match step {
            Step::Close { interface, .. } => self.devices.forget(&interface),
            Step::CloseSocket(socket) => self.devices.forget(&socket.name()),
            _ => None,
        });
        let mut news: Vec<News> = closed.collect();
        self.tell(std::mem::take(&mut news), now);
        if self.devices.has_retired() {
            self.publish(now);
        }
        for step in rest {
            match step {
                Step::Close { .. } | Step::CloseSocket(_) => {}
                Step::OpenSocket(socket, carrier) => {
                    let mut device = socket.interface(carrier);
                    if self.allowed.disable_system {
                        device.kind = InterfaceKind::Dummy;
                    }
                    news.extend(self.devices.want(&device, &mut self.workers, now));
                }
                Step::RemoveBridge(name) => self.sockets.remove_bridge(&name),
                Step::AddBridge(name) => {
                    if let Err(error) = self.sockets.add_bridge(&name, &self.places) {
                        tracing::error!(target: "bridge", "bridge {name}: {error}");
                    }
                }
                Step::Open { interface, .. } => {
                    news.extend(self.devices.want(&interface, &mut self.workers, now));
                }
                Step::Change { interface, .. } => {
                    news.extend(self.devices.change(&interface, &mut self.workers, now));
                }
            }
        }
        self.brain.configure(&self.config, now);
        self.tell(news, now);
        self.sockets.set_controllers(&self.config, &self.places, now);
        // New interfaces show their counters at once.
        self.stats_next = now;
        self.connections.set_zone_timeouts(&self.config.zone_timeouts);
        self.configure_workers();
    }

    /// Shows the workers the configuration as it stands, then does what the brain wants done under it.
    fn publish(&mut self, now: Instant) {
        let newest = self.brain.publish();
        if !Arc::ptr_eq(&newest, &self.snapshot.load()) {
            self.snapshot.store(newest);
        }
        // Nothing sends to them any more.
        self.devices.bury(&mut self.workers);
        if self.withheld.is_empty() {
            self.devices.listen(&mut self.workers);
        }
        let mut sent = false;
        for command in self.brain.drain_commands() {
            match command {
                Command::PacketOut(request) => {
                    self.packet_out(&request, now);
                    sent = true;
                }
                Command::FlushConnections(flush) => {
                    self.connections.flush(&flush);
                }
                Command::SetAdmin { interface, up } => {
                    let news = self.devices.set_admin(&interface, up);
                    self.tell(news, now);
                }
                Command::Reconnect { bridge } => {
                    tracing::info!(target: "ofproto", "{bridge}: has another datapath ID, controllers connect anew");
                    self.sockets.reconnect_at_once(&bridge);
                }
                Command::FailOpen { bridge, open: true } => {
                    tracing::warn!(target: "fail_open", "{bridge}: no controller for too long, failing open");
                }
                Command::FailOpen { bridge, open: false } => {
                    tracing::info!(target: "fail_open", "{bridge}: no longer failing open");
                }
            }
        }
        if sent {
            // A barrier says that the frames before it are on their way.
            self.workers.settle();
        }
    }

    fn packet_out(&mut self, request: &PacketOutRequest, now: Instant) {
        let snapshot = self.snapshot.load_full();
        let mut frame = Frame::from_bytes(&request.data);
        let in_port = snapshot.dp_port_of(request.bridge, request.in_port).unwrap_or(DpPort::NONE);
        frame.in_port = in_port;
        let Ok(key) = PacketKey::extract(&mut frame) else { return };
        let translation =
            snapshot.translate_actions(request.bridge, request.in_port, &key, Arc::clone(&request.actions));
        snapshot.commit(&translation.effects, now);
        for credit in &translation.credits {
            credit.credit(1, frame.len() as u64, now, 0);
        }
        let program = Arc::new(translation.program);
        if let Err(error) = self.workers.send(0, WorkerCommand::Execute { in_port, frame, program }) {
            tracing::warn!(target: "ofproto", "a packet-out was dropped: {error}");
        }
    }

    // --- what goes out ---

    fn report(&mut self, now: Instant) {
        self.report_due |= self.sockets.take_changed();
        // While a TAP is not taken over yet, whoever waits for the configuration is to wait on.
        if !self.is_ready() || !self.link.is_ours() || !self.report_due {
            return;
        }
        self.report_due = false;
        let status = self.status();
        let Some(replica) = self.link.replica() else { return };
        let transaction = report(replica, &status);
        if transaction.is_empty() {
            return;
        }
        match self.link.transact(&transaction, now) {
            Ok(()) => self.report_failed = None,
            Err(error) => {
                // It is tried again with the next statistics; a full disk is told once, not with every attempt.
                if self.report_failed.as_ref() != Some(&error) {
                    tracing::warn!(target: "ovsdb", "status could not be written: {error}");
                }
                self.report_failed = Some(error);
            }
        }
    }

    fn status(&self) -> Status {
        let mut status = Status {
            interface_errors: self.read.interface_errors.clone(),
            controllers: self.sockets.controller_status(&self.brain, self.clock.now()),
            identity: self.identity.clone(),
            cur_cfg: self.read.next_cfg,
            host_statistics: self.host_statistics.latest().clone(),
            ..Status::default()
        };
        for bridge in self.brain.bridges() {
            status.datapath_ids.insert(bridge.config.name.clone(), bridge.datapath_id);
            let numbers: BTreeMap<&str, OfPort> =
                bridge.ports.values().map(|p| (p.name.as_str(), p.of_port)).collect();
            for name in bridge.config.ports.values().flat_map(|p| p.interfaces.keys()) {
                status
                    .interfaces
                    .insert(name.clone(), self.interface_status(name, numbers.get(name.as_str()).copied()));
            }
        }
        status
    }

    fn interface_status(&self, name: &str, number: Option<OfPort>) -> InterfaceStatus {
        let error = self.devices.error(name).map(str::to_owned);
        let error = error.or_else(|| self.patch_error(name)).or_else(|| self.tunnel_error(name));
        let ofport = number.map(|p| if p == OfPort::LOCAL { 65_534 } else { i64::from(p.0) });
        let ofport = ofport.or(error.as_ref().map(|_| -1));
        let mut status = InterfaceStatus { ofport, error, ..InterfaceStatus::default() };
        let device = self.devices.get(name).map(|(_, d)| d);
        if let (Some(device), Some(report)) = (device, self.devices.report(name)) {
            status.mac_in_use = Some(device.mac);
            status.mtu = Some(device.state.mtu);
            status.admin_up = Some(device.state.admin_up);
            status.link_up = Some(device.state.link_up);
            status.link_speed = report.speed_mbps.map(|s| u64::from(s) * 1_000_000);
            status.ifindex = report.ifindex;
            status.link_resets = Some(report.carrier_changes);
            if !report.driver.is_empty() {
                status.status.insert("driver_name".to_owned(), report.driver.clone());
            }
            status.status.extend(report.xdp_mode.map(|mode| ("xdp-mode".to_owned(), mode.to_string())));
        } else if status.ofport.is_some_and(|p| p >= 0) {
            // A patch port is up as long as it is there.
            (status.admin_up, status.link_up) = (Some(true), Some(true));
            self.tunnel_status(name, &mut status);
        }
        status.statistics = self.statistics.get(name).cloned();
        status
    }

    /// What is wrong with a patch port, in OVS's words.
    fn patch_error(&self, name: &str) -> Option<String> {
        let bridge = self.brain.bridges().find(|b| b.ports.values().any(|p| p.name == name))?;
        let port = bridge.ports.values().find(|p| p.name == name)?;
        let interface = bridge.config.ports.values().find_map(|p| p.interfaces.get(name))?;
        let (Device::Patch(None), InterfaceKind::Patch { peer }) = (&port.device, &interface.kind) else {
            return None;
        };
        let datapath =
            Some(bridge.config.datapath_type.as_str()).filter(|t| !t.is_empty()).unwrap_or("system");
        Some(format!("No usable peer '{peer}' exists in '{datapath}' datapath."))
    }

    fn refresh_statistics(&mut self) {
        let patches = |b: &BridgeState| b.ports.values().any(|p| matches!(p.device, Device::Patch(_)));
        if !self.snapshot.load().tunnels().is_empty() || self.brain.bridges().any(patches) {
            // They count as rules do.
            self.workers.fold();
        }
        let mut all = BTreeMap::new();
        for bridge in self.brain.bridges() {
            for port in bridge.ports.values() {
                let c = self.counters_of(port);
                let columns = [
                    ("collisions", 0),
                    ("rx_bytes", c.rx_bytes),
                    ("rx_crc_err", 0),
                    ("rx_dropped", c.rx_dropped),
                    ("rx_errors", c.rx_errors),
                    ("rx_frame_err", 0),
                    ("rx_over_err", 0),
                    ("rx_packets", c.rx_packets),
                    ("tx_bytes", c.tx_bytes),
                    ("tx_dropped", c.tx_dropped),
                    ("tx_errors", c.tx_errors),
                    ("tx_packets", c.tx_packets),
                ];
                let columns = columns.into_iter().map(|(name, count)| (Cow::Borrowed(name), count));
                let queues = self.devices.queue_counters(&port.name);
                all.insert(port.name.clone(), columns.chain(queues).collect());
            }
        }
        self.statistics = all;
        self.host_statistics.gather(self.read.host_statistics, &self.places, self.sockets.notifier());
        self.report_due = true;
    }

    /// Gives messages to their sessions. If rules were removed, that must have been published: then no frame is forwarded by them
    /// after workers have credited what they counted.
    fn deliver(&mut self) {
        if self.brain.has_removals() {
            self.workers.fold();
        }
        for (conn, outgoing) in self.brain.drain_outbox() {
            if self.sockets.send(conn, outgoing) {
                self.brain.monitors_hold(conn);
            }
        }
    }

    fn let_out(&mut self, now: Instant) {
        self.deliver();
        self.sockets.flush(&mut self.link, &mut self.brain, now);
    }

    fn advance_warp(&mut self) {
        let Some(mut warp) = self.warp.take() else { return };
        let step = warp.step.min(warp.left);
        self.clock.advance(step);
        // Workers that sleep do not see by themselves that it is later.
        self.workers.settle();
        warp.left -= step;
        if warp.left.is_zero() {
            self.sockets.answer_appctl(&warp.reply_to, &Ok("warped".to_owned()));
        } else {
            self.warp = Some(warp);
        }
    }

    /// Ends: workers stop, devices go or stay, sockets and pid file vanish, the database is let go; then whoever asked is
    /// answered and may start the next daemon at once.
    pub fn finish(mut self, end: End, pid_file: PidFile) {
        self.workers.stop();
        if end == End::Cleanup {
            self.devices.discard_all();
        }
        let Daemon { devices, link, mut sockets, end_replies, .. } = self;
        drop((devices, link));
        sockets.remove_all();
        drop(pid_file);
        for reply in end_replies {
            sockets.answer_and_end(&reply, &Ok(String::new()));
        }
    }
}

fn open_database(places: &Places, now: Instant) -> Result<Link, LinkError> {
    let (link, opened) = Link::embedded(&places.db, now)?;
    if let Some(truncated) = &opened.truncated {
        tracing::warn!(target: "ovsdb", "{}: cut off {} bytes at offset {}: {}", places.db.display(), truncated.bytes, truncated.offset, truncated.reason);
    }
    if let Some(version) = &opened.converted_from {
        tracing::info!(target: "ovsdb", "{}: converted from schema version {version}", places.db.display());
    }
    Ok(link)
}

fn watch_links() -> Option<LinkWatch> {
    match LinkWatch::open() {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(target: "netlink", "no news of links: {error}");
            None
        }
    }
}

fn identity() -> Identity {
    // /etc/os-release is a list of shell assignments (os-release(5)).
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map_or_else(|| "unknown".to_owned(), |v| v.trim_matches('"').to_owned())
    };
    Identity {
        version: crate::OVS_VERSION.to_owned(),
        system_type: value("ID"),
        system_version: value("VERSION_ID"),
        iface_types: vec![
            "afxdp", "dummy", "flannel", "geneve", "gre", "internal", "ip6gre", "patch", "pcap", "system",
            "tap", "vxlan",
        ],
        datapath_types: vec!["netdev", "system"],
    }
}

const _: () = assert!(WAKER.0 == 0);
