//! Connections to controllers that the configuration names: made, kept, and made again with growing pauses.

use super::{Door, OpenFlowTalk, Sockets, Talk};
use crate::args::Places;
use crate::database::write::ControllerStatus;
use crate::streams::{Stream, Target, reason};
use base::Instant;
use openflow::message::Role;
use openflow::{OfVersion, OfVersions};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use switch::brain::Brain;
use switch::config::{Config, ControllerConfig, is_active};
use switch::ofproto::ConnKind;

/// Port of OpenFlow (OpenFlow 1.3.3 §6.3.3).
const OPENFLOW_PORT: u16 = 6653;
/// Pause after the first failure; doubled by each.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// A controller to connect to.
struct Active {
    address: Target,
    config: ControllerConfig,
    connected: bool,
    /// When the present state began.
    since: Option<Instant>,
    retry_at: Instant,
    backoff: Duration,
    /// Whether the connection, once it has ended, is made again without a pause.
    at_once: bool,
    last_error: Option<String>,
}

/// What is known of all controllers.
#[derive(Default)]
pub struct Controllers {
    active: BTreeMap<(String, String), Active>,
    /// Passive targets (`ptcp:`, `punix:`) that are open: bridge and target.
    passive: BTreeMap<(String, String), ControllerConfig>,
    /// Whether nobody is connected to for now.
    held: bool,
    versions: BTreeMap<String, OfVersions>,
    /// Targets that cannot be used: bridge and target; what is wrong has been logged.
    refused: BTreeSet<(String, String)>,
}

impl Controllers {
    pub(super) fn versions(&self, bridge: &str) -> Option<OfVersions> {
        self.versions.get(bridge).copied()
    }

    /// The inactivity probe of connections that belong to a row; `None` if there is no such row (any more).
    pub(super) fn probe(&self, bridge: &str, target: &str) -> Option<Option<Duration>> {
        let key = (bridge.to_owned(), target.to_owned());
        let config = self.active.get(&key).map(|a| &a.config).or_else(|| self.passive.get(&key))?;
        // A process on this host that dies closes its connection.
        let probed = !config.inactivity_probe.is_zero() && !target.starts_with("punix:");
        Some(probed.then_some(config.inactivity_probe))
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.held {
            return None;
        }
        self.active.values().filter(|a| !a.connected).map(|a| a.retry_at).min()
    }

    pub(super) fn forget_bridge(&mut self, bridge: &str) {
        self.active.retain(|(b, _), _| b != bridge);
        self.passive.retain(|(b, _), _| b != bridge);
        self.versions.remove(bridge);
    }

    /// A connection speaks OpenFlow: pauses start small again.
    pub(super) fn established(&mut self, bridge: &str, target: &str) {
        if let Some(a) = self.active.get_mut(&(bridge.to_owned(), target.to_owned())) {
            a.backoff = BACKOFF_FIRST;
            a.last_error = None;
        }
    }

    pub(super) fn lost(&mut self, bridge: &str, target: &str, error: Option<String>, now: Instant) {
        if let Some(a) = self.active.get_mut(&(bridge.to_owned(), target.to_owned())) {
            match &error {
                Some(error) => {
                    tracing::info!(target: "rconn", "{bridge}<->{target}: connection failed ({error})");
                }
                None => tracing::info!(target: "rconn", "{bridge}<->{target}: connection closed by peer"),
            }
            a.fail(error, now);
        }
    }
}

impl Active {
    fn kind(&self) -> ConnKind {
        if self.config.primary { ConnKind::Primary } else { ConnKind::Service }
    }

    fn fail(&mut self, error: Option<String>, now: Instant) {
        self.connected = false;
        self.since = Some(now);
        self.retry_at = now;
        if !std::mem::take(&mut self.at_once) {
            self.retry_at = now + self.backoff;
            self.backoff = (self.backoff * 2).min(self.config.max_backoff);
        }
        self.last_error = error.or(self.last_error.take());
    }
}

impl Sockets {
    /// Makes the controllers those of the configuration.
    pub fn set_controllers(&mut self, config: &Config, places: &Places, now: Instant) {
        let mut wanted = BTreeSet::new();
        for bridge in config.bridges.values() {
            let allowed: Vec<OfVersion> =
                bridge.protocols.iter().filter_map(|v| OfVersion::from_wire(*v)).collect();
            let versions =
                if bridge.protocols.is_empty() { OfVersions::ALL } else { OfVersions::of(&allowed) };
            self.controllers.versions.insert(bridge.name.clone(), versions);
            for (target, settings) in &bridge.controllers {
                let key = (bridge.name.clone(), target.clone());
                wanted.insert(key.clone());
                if !is_active(target) {
                    self.open_passive(key, settings, places);
                    continue;
                }
                match Target::active(target, &places.rundir, OPENFLOW_PORT) {
                    Ok(address) => {
                        let active = self.controllers.active.entry(key).or_insert_with(|| Active {
                            address: address.clone(),
                            config: settings.clone(),
                            connected: false,
                            since: None,
                            retry_at: now,
                            backoff: BACKOFF_FIRST,
                            at_once: false,
                            last_error: None,
                        });
                        active.config = settings.clone();
                    }
                    Err(error) => {
                        if self.controllers.refused.insert(key) {
                            tracing::warn!(target: "rconn", "{}: {error}", bridge.name);
                        }
                    }
                }
            }
        }
        self.controllers.active.retain(|key, _| wanted.contains(key));
        self.controllers.refused.retain(|key| wanted.contains(key));
        let closed: Vec<_> =
            self.controllers.passive.keys().filter(|k| !wanted.contains(*k)).cloned().collect();
        for key in closed {
            self.controllers.passive.remove(&key);
            self.close_passive(&key, places);
        }
        // Connections to controllers that are no longer named end, or are named for something else, and those that speak
        // a version that is no longer allowed.
        for peer in self.peers.values_mut() {
            let Talk::OpenFlow(t) = &mut peer.talk else { continue };
            if let Some(target) = &t.target
                && let Some(probe) = self.controllers.probe(&t.bridge, target)
            {
                t.session.set_probe_interval(probe);
            }
            let t = &*t;
            let named = |target: &String| {
                let key = (t.bridge.clone(), target.clone());
                let active = self.controllers.active.get(&key);
                active.is_some_and(|a| a.kind() == t.kind) || self.controllers.passive.contains_key(&key)
            };
            let allowed = self.controllers.versions.get(&t.bridge);
            let spoken = t.session.version().filter(|_| t.announced);
            peer.closing |= !t.target.as_ref().is_none_or(named)
                || spoken.is_some_and(|v| allowed.is_some_and(|allowed| !allowed.contains(v)));
        }
    }

    /// Ends connections to controllers, of one bridge or all; those that the daemon made are made again.
    pub fn reconnect(&mut self, bridge: Option<&str>) {
        for peer in self.peers.values_mut() {
            let Talk::OpenFlow(talk) = &peer.talk else { continue };
            peer.closing |= talk.target.is_some() && bridge.is_none_or(|name| name == talk.bridge);
        }
    }

    /// As [`Self::reconnect`] for one bridge, without a pause: the bridge has changed and nothing has failed.
    pub fn reconnect_at_once(&mut self, bridge: &str) {
        self.reconnect(Some(bridge));
        let of_bridge = self.controllers.active.iter_mut().filter(|((b, _), a)| b == bridge && a.connected);
        of_bridge.for_each(|(_, active)| active.at_once = true);
    }

    /// Whether connecting to controllers is to wait: until bridges are what they will be, they would not know whom they
    /// talk to.
    pub fn hold_controllers(&mut self, held: bool) {
        self.controllers.held = held;
    }

    fn open_passive(&mut self, key: (String, String), settings: &ControllerConfig, places: &Places) {
        if let Some(config) = self.controllers.passive.get_mut(&key) {
            *config = settings.clone();
            return;
        }
        let (bridge, target) = &key;
        let opened = Target::passive(target, &places.rundir, OPENFLOW_PORT)
            .map_err(anyhow::Error::msg)
            .and_then(|t| {
                let door = Door::OpenFlow { bridge: bridge.clone(), target: Some(target.clone()) };
                self.listen(door, &t)
            });
        match opened {
            Ok(()) => {
                self.controllers.refused.remove(&key);
                self.controllers.passive.insert(key, settings.clone());
            }
            Err(error) => {
                if self.controllers.refused.insert(key.clone()) {
                    tracing::warn!(target: "rconn", "{}: {}: {error}", key.0, key.1);
                }
            }
        }
    }

    fn close_passive(&mut self, key: &(String, String), places: &Places) {
        let (bridge, target) = key;
        let Ok(address) = Target::passive(target, &places.rundir, OPENFLOW_PORT) else { return };
        let found = self.listeners.iter().find(|(_, (door, listener))| {
            matches!(door, Door::OpenFlow { bridge: b, .. } if b == bridge) && listener.is_at(&address)
        });
        if let Some(token) = found.map(|(t, _)| *t) {
            self.listeners.remove(&token);
        }
        if let Target::Unix(path) = address {
            self.paths.retain(|p| *p != path);
            let _ = sys::unix_socket::remove(&path);
        }
    }

    /// Begins connections whose time has come.
    pub(super) fn reach_controllers(&mut self, now: Instant) {
        if self.controllers.held {
            return;
        }
        let due: Vec<(String, String)> = self
            .controllers
            .active
            .iter()
            .filter(|(_, a)| !a.connected && a.retry_at <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(active) = self.controllers.active.get(&key) else { continue };
            let (address, kind) = (active.address.clone(), active.kind());
            let (bridge, target) = key.clone();
            let probe = self.controllers.probe(&bridge, &target).flatten();
            let connected = Stream::connect(&address).and_then(|stream| {
                let talk = OpenFlowTalk {
                    conn: self.conn_id(),
                    session: self.session(&bridge, probe, now),
                    bridge,
                    kind,
                    announced: false,
                    target: Some(target),
                    pending: false,
                    queued: false,
                    is_behind: false,
                };
                self.add_peer(stream, Talk::OpenFlow(Box::new(talk)))
            });
            self.changed = true;
            let Some(active) = self.controllers.active.get_mut(&key) else { continue };
            match connected {
                Ok(_) => (active.connected, active.since) = (true, Some(now)),
                Err(error) => {
                    let error = reason(&error);
                    tracing::info!(target: "rconn", "{}<->{}: connection failed ({error})", key.0, key.1);
                    active.fail(Some(error), now);
                }
            }
        }
    }

    /// What the Controller table is to say.
    pub fn controller_status(
        &self,
        brain: &Brain,
        now: Instant,
    ) -> BTreeMap<(String, String), ControllerStatus> {
        let mut all = BTreeMap::new();
        for ((bridge, target), active) in &self.controllers.active {
            let talk = self.peers.values().find_map(|p| match &p.talk {
                Talk::OpenFlow(t) if t.bridge == *bridge && t.target.as_ref() == Some(target) => Some(t),
                _ => None,
            });
            let established = talk.filter(|t| t.announced);
            let role =
                established.and_then(|t| brain.connections(bridge).find(|c| c.id == t.conn)).map(|c| match c
                    .role
                {
                    Role::Primary => "master",
                    Role::Secondary => "slave",
                    _ => "other",
                });
            let state = match (established.is_some(), active.connected) {
                (true, _) => "ACTIVE",
                (false, true) => "CONNECTING",
                _ => "BACKOFF",
            };
            let mut status = BTreeMap::from([("state".to_owned(), state.to_owned())]);
            if let Some(error) = &active.last_error {
                status.insert("last_error".to_owned(), error.clone());
            }
            // Whole tens of seconds: the database need not be written every second to tell the time.
            if let Some(since) = active.since {
                let seconds = now.saturating_since(since).as_secs() / 10 * 10;
                let key = if established.is_some() { "sec_since_connect" } else { "sec_since_disconnect" };
                status.insert(key.to_owned(), seconds.to_string());
            }
            all.insert(
                (bridge.clone(), target.clone()),
                ControllerStatus { is_connected: established.is_some(), role, status },
            );
        }
        all
    }
}

#[cfg(test)]
#[path = "controller_tests.rs"]
mod tests;
