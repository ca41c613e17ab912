//! Instructions of OpenFlow 1.3 and later (OpenFlow 1.5.1 §7.2.5), flattened into one list of actions: the meter,
//! apply_actions, then clear_actions, write_actions, write_metadata, goto_table, as they take effect.

use super::EncodeError;
use super::action::{peek_header, read_actions};
use super::action_out::{Seen, put_actions};
use crate::error::OfError;
use crate::version::OfVersion;
use crate::wire::{Put, Reader, patch_len};
use flowtable::{MeterId, OfAction, TableId};

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;
const EXPERIMENTER: u16 = 0xffff;

/// Reads the instructions that fill `bytes`.
pub(crate) fn read_instructions(version: OfVersion, bytes: &[u8]) -> Result<Vec<OfAction>, OfError> {
    let mut r = Reader::new(bytes, OfError::BadInstructionBadLen);
    let mut bodies: [Option<Reader<'_>>; 6] = [None; 6];
    while !r.is_empty() {
        let (kind, len) = peek_header(&r)?;
        let mut body = r.sub(len)?;
        body.skip(4)?;
        let place = match kind {
            // In OpenFlow 1.5 it is an action.
            METER if version == OfVersion::V15 => None,
            GOTO_TABLE..=METER => bodies.get_mut(kind as usize - 1),
            EXPERIMENTER => return Err(OfError::BadInstructionBadExperimenter),
            _ => None,
        };
        if place.ok_or(OfError::BadInstructionUnknownInst)?.replace(body).is_some() {
            return Err(OfError::BadInstructionDupInst);
        }
    }
    let [goto, metadata, write, apply, clear, meter] = bodies;
    let mut actions = Vec::new();
    if let Some(mut body) = meter {
        actions.push(OfAction::Meter(MeterId(body.u32()?)));
        body.end()?;
    }
    if let Some(mut body) = apply {
        body.skip(4)?;
        actions.append(&mut read_actions(version, body.rest())?);
    }
    if let Some(mut body) = clear {
        body.skip(4)?;
        body.end()?;
        actions.push(OfAction::ClearActions);
    }
    if let Some(mut body) = write {
        body.skip(4)?;
        actions.push(OfAction::WriteActions(read_actions(version, body.rest())?));
    }
    if let Some(mut body) = metadata {
        body.skip(4)?;
        let (value, mask) = (body.u64()?, body.u64()?);
        body.end()?;
        actions.push(OfAction::WriteMetadata { value: value & mask, mask });
    }
    if let Some(mut body) = goto {
        let table = body.u8()?;
        body.skip(3)?;
        body.end()?;
        actions.push(OfAction::GotoTable(TableId(table)));
    }
    Ok(actions)
}

/// Writes a flattened list as instructions.
pub(crate) fn put_instructions(
    out: &mut Vec<u8>,
    version: OfVersion,
    actions: &[OfAction],
    seen: &mut Seen,
) -> Result<(), EncodeError> {
    let metered = |a: &OfAction| matches!(a, OfAction::Meter(_)) && version != OfVersion::V15;
    if let Some(OfAction::Meter(id)) = actions.iter().find(|a| metered(a)) {
        out.put_u16(METER);
        out.put_u16(8);
        out.put_u32(id.0);
    }
    let applied = || actions.iter().filter(|a| !a.is_instruction() && !metered(a));
    if applied().next().is_some() {
        put_list(out, APPLY_ACTIONS, |out| put_actions(out, version, applied(), seen))?;
    }
    for action in actions.iter().filter(|a| a.is_instruction()) {
        match action {
            OfAction::ClearActions => put_list(out, CLEAR_ACTIONS, |_| Ok(()))?,
            OfAction::WriteActions(list) => {
                put_list(out, WRITE_ACTIONS, |out| put_actions(out, version, list, &mut seen.clone()))?;
            }
            OfAction::WriteMetadata { value, mask } => put_list(out, WRITE_METADATA, |out| {
                out.put_u64(*value);
                out.put_u64(*mask);
                Ok(())
            })?,
            OfAction::GotoTable(table) => {
                out.put_u16(GOTO_TABLE);
                out.put_u16(8);
                out.put_u8(table.0);
                out.zeros(3);
            }
            _ => {}
        }
    }
    Ok(())
}

fn put_list(
    out: &mut Vec<u8>,
    kind: u16,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u16(kind);
    out.put_u16(0);
    out.zeros(4);
    body(out)?;
    patch_len(out, start, start + 2)?;
    Ok(())
}
