//! A bridge's OpenFlow sockets: `BRIDGE.mgmt` for who wants to manage it, `BRIDGE.snoop` for who wants to listen.

use super::{Door, OpenFlowRequest, SOCKET_MODE, Sockets, Talk};
use crate::args::Places;
use crate::streams::Target;
use base::Instant;
use mio::Token;
use crate::of_session::{Session, SessionOptions};
use openflow::OfVersions;
use std::time::Duration;
use switch::brain::Brain;

const _: u32 = SOCKET_MODE;

impl Sockets {
    /// Opens the sockets of a new bridge.
    ///
    /// # Errors
    /// One cannot be had.
    pub fn add_bridge(&mut self, bridge: &str, places: &Places) -> anyhow::Result<()> {
        let path = |kind: &str| Target::Unix(places.rundir.join(format!("{bridge}.{kind}")));
        self.listen(Door::OpenFlow { bridge: bridge.to_owned() }, &path("mgmt"))?;
        self.listen(Door::Snoop { bridge: bridge.to_owned() }, &path("snoop"))
    }

    /// Closes the sockets of a bridge that is gone, and every connection about it.
    pub fn remove_bridge(&mut self, bridge: &str) {
        let doors: Vec<Token> = self
            .listeners
            .iter()
            .filter(|(_, (door, _))| {
                matches!(door, Door::OpenFlow { bridge: b } | Door::Snoop { bridge: b } if b == bridge)
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
        Session::new(SessionOptions { versions: Some(versions), probe }, now)
    }

    /// Moves complete messages from a session to `requests`; tells the brain of a connection once its version is known.
    pub(super) fn take_messages(&mut self, token: Token, brain: &mut Brain, requests: &mut Vec<OpenFlowRequest>) {
        let Some(peer) = self.peers.get_mut(&token) else { return };
        let Talk::OpenFlow(talk) = &mut peer.talk else { return };
        let mut copies = Vec::new();
        while let Some(received) = talk.session.next_message() {
            if !talk.announced
                && let Some(version) = talk.session.version()
            {
                talk.announced = true;
                brain.connect(talk.conn, &talk.bridge, talk.kind, version);
            }
            copies.extend_from_slice(&received.raw);
            requests.push(OpenFlowRequest {
                conn: talk.conn,
                xid: received.xid,
                message: received.message,
                raw: received.raw,
            });
        }
        if !talk.announced
            && let Some(version) = talk.session.version()
        {
            talk.announced = true;
            brain.connect(talk.conn, &talk.bridge, talk.kind, version);
            if let Some(target) = &talk.target {
                self.controllers.established(&talk.bridge, target);
            }
        }
        if super::peer_is_controller(talk) && !copies.is_empty() {
            let bridge = talk.bridge.clone();
            self.snoop(&bridge, &copies);
        }
    }
}
