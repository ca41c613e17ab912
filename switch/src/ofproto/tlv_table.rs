//! Which Geneve option each `tun_metadata` field of a bridge stands for (NXT_TLV_TABLE_MOD, NXT_TLV_TABLE_REQUEST).
//!
//! Open vSwitch has 64 fields and 256 bytes of option data; here there are [`GeneveMap::FIELDS_MAX`] fields of at most
//! [`GeneveMap::LEN_MAX`] bytes each. Options are read when a frame leaves its tunnel, before it is known which bridge it
//! goes to, so the maps of two bridges may not contradict each other: what one bridge has mapped otherwise counts as mapped.

use super::{Answer, Request};
use crate::brain::Brain;
use flowtable::{Mask, Match, OfAction, Rule, TableId};
use openflow::OfError;
use openflow::message::{Message, TlvMapping, TlvTableCommand, TlvTableMod, TlvTableReply};
use packet::GeneveMap;
use packet::key::slot;
use packet::tunnel::GeneveOption;

/// Bytes of option data that all fields hold together.
const SPACE_MAX: u32 = (GeneveMap::FIELDS_MAX * GeneveMap::LEN_MAX) as u32;

/// The `tun_metadata` fields that a match or actions name, bit n for field n.
fn named(matching: &Match, actions: &[OfAction]) -> u8 {
    let mut mask: Mask<_> = *matching.mask();
    // Written fields count as read there.
    mask.union(&crate::profile::summarize(TableId(0), actions).reads);
    mask.slot(slot::TUN_METADATA_PRESENT) as u8
}

/// Checks that every `tun_metadata` field that a match or actions name stands for an option.
///
/// # Errors
/// `NXFMFC_INVALID_TLV_FIELD`.
pub(super) fn check_fields(map: &GeneveMap, matching: &Match, actions: &[OfAction]) -> Result<(), OfError> {
    let mapped = map.iter().fold(0u8, |bits, (index, _)| bits | 1 << index);
    match named(matching, actions) & !mapped {
        0 => Ok(()),
        _ => Err(OfError::NxFlowModFailedInvalidTlvField),
    }
}

/// Adds options to a map.
fn add(map: &mut GeneveMap, mappings: &[TlvMapping], others: &[&GeneveMap]) -> Result<(), OfError> {
    for mapping in mappings {
        let index = usize::from(mapping.index);
        let option = GeneveOption { class: mapping.class, kind: mapping.kind, len: mapping.len };
        if index >= GeneveMap::FIELDS_MAX {
            return Err(OfError::NxTlvTableModFailedBadFieldIdx);
        }
        let is_other = |other: &&GeneveMap| other.get(index).is_some_and(|o| o != option);
        if map.get(index).is_some() || others.iter().any(is_other) {
            return Err(OfError::NxTlvTableModFailedAlreadyMapped);
        }
        let is_elsewhere =
            |other: &&GeneveMap| other.index_of(option.class, option.kind).is_some_and(|i| i != index);
        if map.index_of(option.class, option.kind).is_some() || others.iter().any(is_elsewhere) {
            return Err(OfError::NxTlvTableModFailedDupEntry);
        }
        // The length is the only thing left that can be wrong: one that OpenFlow can have, but no field here.
        map.insert(index, option).map_err(|_| OfError::NxTlvTableModFailedTableFull)?;
    }
    Ok(())
}

impl Brain {
    /// The map of a request's bridge.
    pub(super) fn geneve_map(&self, r: &Request<'_>) -> Result<&GeneveMap, OfError> {
        let id = self.bridge(&r.bridge)?.id;
        let bridge = self.staging.bridge(id).ok_or(OfError::BadRequestUnknown)?;
        Ok(&bridge.settings().geneve_map)
    }

    pub(super) fn tlv_table(&self, r: &Request<'_>) -> Answer {
        let mapping = |(index, option): (usize, GeneveOption)| TlvMapping {
            class: option.class,
            kind: option.kind,
            len: option.len,
            index: index as u16,
        };
        Ok(vec![Message::TlvTableReply(TlvTableReply {
            max_option_space: SPACE_MAX,
            max_fields: GeneveMap::FIELDS_MAX as u16,
            mappings: self.geneve_map(r)?.iter().map(mapping).collect(),
        })])
    }

    /// Carries out all of a change or nothing.
    ///
    /// # Errors
    /// As OVS answers: what is named twice or mapped already, what does not fit, what a rule still needs.
    pub(super) fn tlv_table_mod(&mut self, r: &Request<'_>, change: &TlvTableMod) -> Answer {
        let mut map = self.geneve_map(r)?.clone();
        match change.command {
            TlvTableCommand::Add => {
                let bridges = self.staging.forwarding().bridges().filter(|b| b.name() != r.bridge);
                let others: Vec<&GeneveMap> = bridges.map(|b| &b.settings().geneve_map).collect();
                add(&mut map, &change.mappings, &others)?;
            }
            TlvTableCommand::Delete => {
                // The index alone counts, and what is not mapped may be deleted.
                for mapping in &change.mappings {
                    map.remove(mapping.index.into());
                }
            }
            TlvTableCommand::Clear => map.clear(),
        }
        let tables = self.bridge(&r.bridge)?.rules.tables();
        let fits = |rule: &Rule| check_fields(&map, &rule.matching(), &rule.actions).is_ok();
        if change.command != TlvTableCommand::Add && !tables.iter().all(|t| t.rules().all(|rule| fits(rule)))
        {
            return Err(OfError::NxTlvTableModFailedInvalidTlvDel);
        }
        let bridge = self.staging_bridge(r)?;
        if bridge.settings().geneve_map != map {
            bridge.settings_mut().geneve_map = map;
        }
        Ok(vec![])
    }
}
