//! Bundles (OpenFlow 1.4 §7.3.9): messages that are kept, then take effect together or not at all.

use super::connection::{BUNDLE_BYTES_MAX, BUNDLE_IDLE_MAX, BUNDLE_MESSAGES_MAX, BUNDLES_MAX, Bundle};
use super::{Answer, Request};
use crate::brain::Brain;
use base::Instant;
use openflow::message::{BundleAdd, BundleControl, BundleControlKind, Message, Xid};
use openflow::{Dialect, OfError, OfVersion, encode_to_vec};

/// Memory of a message, about. Messages read are a few times as large as their bytes were.
fn weight(message: &Message, version: OfVersion) -> usize {
    let bytes = encode_to_vec(&Dialect::new(version), Xid(0), message);
    size_of::<Message>() + 6 * bytes.map_or(usize::from(u16::MAX), |b| b.len())
}

impl Brain {
    pub(super) fn bundle_control(&mut self, r: &Request<'_>, control: BundleControl) -> Answer {
        let answer = |kind| Ok(vec![Message::BundleControl(BundleControl { kind, ..control })]);
        match control.kind {
            BundleControlKind::OpenRequest => {
                let bundles = &mut self.connection_mut(r.conn)?.bundles;
                if bundles.contains_key(&control.bundle) {
                    // As OVS: opening it again is an error and throws the old one away.
                    bundles.remove(&control.bundle);
                    return Err(OfError::BundleFailedBadId);
                }
                if bundles.len() >= BUNDLES_MAX {
                    return Err(OfError::BundleFailedOutOfBundles);
                }
                bundles.insert(control.bundle, Bundle::new(control.flags, r.now));
                answer(BundleControlKind::OpenReply)
            }
            BundleControlKind::CloseRequest => {
                let bundles = &mut self.connection_mut(r.conn)?.bundles;
                let bundle = bundles.get_mut(&control.bundle).ok_or(OfError::BundleFailedBadId)?;
                if bundle.closed {
                    bundles.remove(&control.bundle);
                    return Err(OfError::BundleFailedBundleClosed);
                }
                if bundle.flags != control.flags {
                    bundles.remove(&control.bundle);
                    return Err(OfError::BundleFailedBadFlags);
                }
                (bundle.closed, bundle.touched) = (true, r.now);
                answer(BundleControlKind::CloseReply)
            }
            BundleControlKind::CommitRequest => {
                let bundles = &mut self.connection_mut(r.conn)?.bundles;
                let bundle = bundles.remove(&control.bundle).ok_or(OfError::BundleFailedBadId)?;
                if bundle.flags != control.flags {
                    return Err(OfError::BundleFailedBadFlags);
                }
                self.bundle_commit(r, bundle)?;
                answer(BundleControlKind::CommitReply)
            }
            BundleControlKind::DiscardRequest => {
                let removed = self.connection_mut(r.conn)?.bundles.remove(&control.bundle);
                removed.ok_or(OfError::BundleFailedBadId)?;
                answer(BundleControlKind::DiscardReply)
            }
            _ => Err(OfError::BundleFailedBadType),
        }
    }

    pub(super) fn bundle_add(&mut self, r: &Request<'_>, add: BundleAdd) -> Answer {
        let bundles = &mut self.connection_mut(r.conn)?.bundles;
        if !bundles.contains_key(&add.bundle) {
            if bundles.len() >= BUNDLES_MAX {
                return Err(OfError::BundleFailedOutOfBundles);
            }
            // OpenFlow 1.4 §7.3.9.4: adding to a bundle that is not open opens it.
            bundles.insert(add.bundle, Bundle::new(add.flags, r.now));
        }
        let held: usize = bundles.values().map(|b| b.bytes).sum();
        let bundle = bundles.get_mut(&add.bundle).ok_or(OfError::BundleFailedBadId)?;
        bundle.touched = r.now;
        let problem = if bundle.closed {
            Some(OfError::BundleFailedBundleClosed)
        } else if bundle.flags != add.flags {
            Some(OfError::BundleFailedBadFlags)
        } else {
            None
        };
        if let Some(error) = problem {
            bundles.remove(&add.bundle);
            return Err(error);
        }
        if add.xid != r.xid {
            return Err(OfError::BundleFailedMsgBadXid);
        }
        let bytes = weight(&add.message, r.version) + add.quote.len();
        if bundle.messages.len() >= BUNDLE_MESSAGES_MAX || held + bytes > BUNDLE_BYTES_MAX {
            return Err(OfError::BundleFailedMsgTooMany);
        }
        match &*add.message {
            Message::FlowMod(_) | Message::GroupMod(_) | Message::PortMod(_) | Message::PacketOut(_) => {}
            _ => return Err(OfError::BundleFailedMsgUnsup),
        }
        bundle.bytes += bytes;
        bundle.messages.push((add.xid, *add.message, add.quote));
        Ok(vec![])
    }

    /// Forgets bundles that were left alone, and says so.
    pub(crate) fn expire_bundles(&mut self, now: Instant) {
        let mut late = Vec::new();
        for c in self.connections.values_mut() {
            let old = c.bundles.extract_if(.., |_, b| b.touched + BUNDLE_IDLE_MAX <= now).count();
            late.extend(std::iter::repeat_n(c.id, old));
        }
        for conn in late {
            self.refuse(conn, Xid(0), OfError::BundleFailedTimeout, &[]);
        }
    }

    /// Carries out a bundle on a copy of the bridge; nothing has happened if a message fails.
    fn bundle_commit(&mut self, r: &Request<'_>, bundle: Bundle) -> Result<(), OfError> {
        if !self.connection_mut(r.conn)?.may_write() {
            return Err(OfError::BadRequestIsSecondary);
        }
        self.stage_bundle(r, bundle.messages)
    }
}
