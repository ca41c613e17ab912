//! A bridge's OpenFlow sockets: `BRIDGE.mgmt` for who wants to manage it, `BRIDGE.snoop` for who wants to listen.

use super::{Door, OPENFLOW_PER_CONNECTION_MAX, OpenFlowRequest, Peer, Sockets, Talk};
use crate::args::Places;
use crate::streams::Target;
use base::Instant;
use mio::Token;
use openflow::session::{OUTPUT_PAUSE, Received, SessionConfig, SessionEvent, Side};
use openflow::{OfVersions, Session, encode_to_vec};
use std::time::Duration;
use switch::brain::Brain;

impl Sockets {
    /// Opens the sockets of a new bridge.
    ///
    /// # Errors
    /// One cannot be had.
    pub fn add_bridge(&mut self, bridge: &str, places: &Places) -> anyhow::Result<()> {
        let path = |kind: &str| Target::Unix(places.rundir.join(format!("{bridge}.{kind}")));
        self.listen(Door::OpenFlow { bridge: bridge.to_owned(), target: None }, &path("mgmt"))?;
        self.listen(Door::Snoop { bridge: bridge.to_owned() }, &path("snoop"))
    }

    /// Closes the sockets of a bridge that is gone, and every connection about it.
    pub fn remove_bridge(&mut self, bridge: &str) {
        let doors: Vec<Token> = self
            .listeners
            .iter()
            .filter(|(_, (door, _))| {
                matches!(door, Door::OpenFlow { bridge: b, .. } | Door::Snoop { bridge: b } if b == bridge)
            })
            .map(|(token, _)| *token)
            .collect();
        for token in doors {
            self.listeners.remove(&token);
        }
        let of_bridge = |path: &std::path::PathBuf| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name == format!("{bridge}.mgmt") || name == format!("{bridge}.snoop")
        };
        for path in self.paths.extract_if(.., |p| of_bridge(p)) {
            let _ = sys::unix_socket::remove(&path);
        }
        self.controllers.forget_bridge(bridge);
        for peer in self.peers.values_mut() {
            match &peer.talk {
                Talk::OpenFlow(t) if t.bridge == bridge => peer.closing = true,
                Talk::Snoop { bridge: b, .. } if b == bridge => peer.closing = true,
                _ => {}
            }
        }
    }

    /// A session that offers what the bridge allows.
    pub(super) fn session(&self, bridge: &str, probe: Option<Duration>, now: Instant) -> Session {
        let versions = self.controllers.versions(bridge).unwrap_or(OfVersions::ALL);
        Session::new(SessionConfig { versions, probe_interval: probe, side: Side::Switch }, now)
    }

    /// The next OpenFlow message of any connection; none when all are through, or when enough were taken in this turn.
    /// The answer to one message must be sent before the next is asked for: a peer that does not read its replies is then
    /// not listened to. The brain is told of a connection once its version is known.
    pub fn next_openflow(&mut self, brain: &mut Brain, now: Instant) -> Option<OpenFlowRequest> {
        while self.budget_left > 0 {
            // Each has its share before the next is listened to, and then goes to the end of the queue.
            let token = *self.queue.front()?;
            let exhausted = self.share_left == 0;
            let Some(Peer { talk: Talk::OpenFlow(talk), closing, .. }) = self.peers.get_mut(&token) else {
                self.next_in_queue();
                continue;
            };
            while !exhausted
                && !*closing
                && let Some(event) = talk.session.poll(now)
            {
                self.budget_left = self.budget_left.saturating_sub(1);
                self.share_left = self.share_left.saturating_sub(1);
                match event {
                    SessionEvent::Up(version) => {
                        talk.announced = true;
                        brain.connect(talk.conn, &talk.bridge, talk.kind, version);
                        if let Some(target) = &talk.target {
                            self.changed = true;
                            self.controllers.established(&talk.bridge, target);
                        }
                    }
                    SessionEvent::Message(received) => {
                        let Received { xid, message, quote } = *received;
                        let request = OpenFlowRequest { conn: talk.conn, xid, message, quote };
                        if super::peer_is_controller(talk) {
                            let copy = encode_to_vec(talk.session.dialect(), xid, &request.message);
                            let bridge = talk.bridge.clone();
                            self.snoop(&bridge, &copy.unwrap_or_default());
                        }
                        return Some(request);
                    }
                }
            }
            // It stays pending if it stopped because its replies have not been read, and comes back when they are.
            let stalled = talk.session.output().len() >= OUTPUT_PAUSE;
            talk.pending = exhausted || stalled;
            talk.queued = exhausted && !stalled && !*closing;
            if let Some(reason) = talk.session.closed().filter(|_| !*closing) {
                if self.complaints.take(now) {
                    tracing::warn!(target: "vconn", "{}: connection closed: {reason}", talk.bridge);
                }
                *closing = true;
            }
            let again = talk.queued;
            self.next_in_queue();
            if again {
                self.queue.push_back(token);
            }
        }
        None
    }

    fn next_in_queue(&mut self) {
        self.queue.pop_front();
        self.share_left = OPENFLOW_PER_CONNECTION_MAX;
    }
}
