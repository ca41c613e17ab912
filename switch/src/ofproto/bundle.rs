//! Bundles (OpenFlow 1.4 §7.3.9): messages that are kept, then take effect together or not at all.

use super::connection::{BUNDLE_MESSAGES_MAX, BUNDLES_MAX, Bundle};
use super::{Answer, Request};
use crate::brain::Brain;
use openflow::OfError;
use openflow::message::{BundleAdd, BundleControl, BundleControlKind, Message};

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
                let bundle = Bundle { flags: control.flags, closed: false, messages: Vec::new() };
                bundles.insert(control.bundle, bundle);
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
                bundle.closed = true;
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
            let bundle = Bundle { flags: add.flags, closed: false, messages: Vec::new() };
            bundles.insert(add.bundle, bundle);
        }
        let bundle = bundles.get_mut(&add.bundle).ok_or(OfError::BundleFailedBadId)?;
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
        if bundle.messages.len() >= BUNDLE_MESSAGES_MAX {
            return Err(OfError::BundleFailedMsgTooMany);
        }
        match &*add.message {
            Message::FlowMod(_) | Message::PortMod(_) | Message::PacketOut(_) => {}
            // Groups are not built, so a bundle with one cannot succeed; the error is the one it would get alone.
            Message::GroupMod(_) => return Err(OfError::GroupModFailedOutOfGroups),
            _ => return Err(OfError::BundleFailedMsgUnsup),
        }
        bundle.messages.push((add.xid, *add.message, add.quote));
        Ok(vec![])
    }

    /// Carries out a bundle on a copy of the bridge; nothing has happened if a message fails.
    fn bundle_commit(&mut self, r: &Request<'_>, bundle: Bundle) -> Result<(), OfError> {
        if !self.connection_mut(r.conn)?.may_write() {
            return Err(OfError::BadRequestIsSecondary);
        }
        self.stage_bundle(r, bundle.messages)
    }
}
