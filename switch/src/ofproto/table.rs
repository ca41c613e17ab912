//! What tables can do and how they are set.

use super::statistics::{TABLE_FEATURES_SINCE, table_name};
use super::{Answer, Request, TABLES_ANNOUNCED};
use crate::brain::{Brain, BridgeState};
use crate::bridge::MissBehaviour;
use flowtable::TableId;
use flowtable::field::{Access, Masking};
use openflow::message::{
    ActionAbilities, FieldSet, Message, MultipartReply, TableAbilities, TableConfig, TableFeatures, TableMod,
    TableSet,
};
use openflow::{OfError, OfVersion};

// ofp_instruction_type (OpenFlow 1.3.5 §A.2.4): goto_table, write_metadata, write, apply and clear actions, meter.
const INSTRUCTIONS: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6;
const GOTO_TABLE: u32 = 1 << 1;
// ofp_action_type (OpenFlow 1.3.5 §A.2.5): output, the MPLS TTL pair, VLAN and MPLS push and pop, group, IP TTL pair,
// set_field.
const ACTIONS: u32 = 1 << 0
    | 1 << 15
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 22
    | 1 << 23
    | 1 << 24
    | 1 << 25;

// ofp_table_config before 1.4: what happens to frames that no rule matches (OpenFlow 1.1 §A.3.3).
const MISS_CONTINUE: u32 = 1;
const MISS_DROP: u32 = 2;
const MISS_MASK: u32 = 3;

fn features(bridge: &BridgeState, table: &flowtable::Table) -> TableFeatures {
    let actions = ActionAbilities {
        actions: ACTIONS,
        set_fields: FieldSet::filter(|f| f.access == Access::Writable && !f.oxm.is_empty()),
    };
    let last = table.id.0 + 1 >= TABLES_ANNOUNCED;
    let abilities = TableAbilities {
        instructions: if last { INSTRUCTIONS & !GOTO_TABLE } else { INSTRUCTIONS },
        next_tables: if last {
            TableSet::default()
        } else {
            TableSet::range(table.id.0 + 1, TABLES_ANNOUNCED - 1)
        },
        write: actions,
        apply: actions,
    };
    let matchable = FieldSet::filter(|f| !f.oxm.is_empty());
    TableFeatures {
        table: table.id,
        name: table_name(bridge, table.id),
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        capabilities: 0,
        max_entries: u32::try_from(table.config.rules_max).unwrap_or(u32::MAX),
        hit: abilities,
        miss: abilities,
        matchable,
        maskable: FieldSet::filter(|f| f.masking == Masking::Arbitrary && !f.oxm.is_empty()),
        wildcardable: matchable,
    }
}

impl Brain {
    /// Tables cannot be changed by features: a request that describes some is refused as OVS refuses it.
    pub(super) fn table_features(&mut self, r: &Request<'_>, wanted: Vec<TableFeatures>) -> Answer {
        if !wanted.is_empty() || r.version < TABLE_FEATURES_SINCE {
            return Err(OfError::TableFeaturesFailedEperm);
        }
        let bridge = self.bridge(&r.bridge)?;
        let tables = bridge.rules.tables().iter().filter(|t| t.id.0 < TABLES_ANNOUNCED);
        let reply = MultipartReply::TableFeatures(tables.map(|t| features(bridge, t)).collect());
        Ok(vec![Message::MultipartReply { more: false, reply }])
    }

    pub(super) fn table_descs(&mut self, r: &Request<'_>) -> Answer {
        let bridge = self.bridge(&r.bridge)?;
        let tables = bridge.rules.tables().iter().filter(|t| t.id.0 < TABLES_ANNOUNCED);
        let descs =
            tables.map(|t| TableConfig { table: t.id, eviction: false, vacancy: None, bits: 0 }).collect();
        Ok(vec![Message::MultipartReply { more: false, reply: MultipartReply::TableDesc(descs) }])
    }

    /// Miss behaviour (before 1.3 standardised the miss rule); eviction and vacancy events are not built.
    pub(super) fn table_mod(&mut self, r: &Request<'_>, table_mod: TableMod) -> Answer {
        if table_mod.table != TableId::ALL && table_mod.table.0 as usize >= TableId::COUNT {
            return Err(OfError::TableModFailedBadTable);
        }
        if r.version >= OfVersion::V14 {
            let asks = table_mod.eviction || table_mod.vacancy.is_some();
            return if asks { Err(OfError::TableModFailedBadConfig) } else { Ok(vec![]) };
        }
        let behaviour = match table_mod.bits & MISS_MASK {
            0 => None,
            MISS_CONTINUE => Some(MissBehaviour::Continue),
            MISS_DROP => Some(MissBehaviour::Drop),
            _ => return Err(OfError::TableModFailedBadConfig),
        };
        let id = self.bridge(&r.bridge)?.id;
        let Some(bridge) = self.staging.bridge_mut(id) else { return Err(OfError::BadRequestUnknown) };
        let settings = bridge.settings_mut();
        let tables: Vec<TableId> = match table_mod.table {
            TableId::ALL => (0..TableId::COUNT).map(|t| TableId(t as u8)).collect(),
            one => vec![one],
        };
        for table in tables {
            match behaviour {
                Some(behaviour) => settings.table_miss.insert(table, behaviour),
                None => settings.table_miss.remove(&table),
            };
        }
        Ok(vec![])
    }
}
