//! Actions to bytes. What a version lacks is written in Nicira's form, or translated between OpenFlow 1.0's actions and
//! set_field, as OVS does; instructions in OpenFlow 1.0, which has none, become what comes nearest or are left out.

use super::EncodeError;
use super::action::{controller2, nxast, ofpat, reason_number};
use super::oxm;
use crate::error::NICIRA;
use crate::version::OfVersion;
use crate::wire::{Put, patch_len};
use flowtable::field::OxmId;
use flowtable::{FieldId, Match, OfAction, OfPort, PacketInReason, SubField, TableId};
use packet::key::slot;

/// What is known of the frame at a point of an action list: some actions are written by it.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    tagged: bool,
    nw_proto: Option<u8>,
}

impl Seen {
    /// What a match tells.
    pub(crate) fn from_match(matching: &Match) -> Seen {
        let (tci, bits) = matching.get(slot::VLAN_TCI);
        let (proto, proto_bits) = matching.get(slot::NW_PROTO);
        Seen { tagged: tci & bits & 0x1000 != 0, nw_proto: (proto_bits == 0xff).then_some(proto as u8) }
    }

    /// Nothing: packet-outs.
    pub(crate) fn nothing() -> Seen {
        Seen { tagged: false, nw_proto: None }
    }
}

/// Writes actions.
pub(crate) fn put_actions<'a>(
    out: &mut Vec<u8>,
    version: OfVersion,
    actions: impl IntoIterator<Item = &'a OfAction>,
    seen: &mut Seen,
) -> Result<(), EncodeError> {
    let mut w = Writer { out, version, seen };
    for action in actions {
        w.action(action)?;
    }
    Ok(())
}

pub(crate) struct Writer<'a> {
    pub(crate) out: &'a mut Vec<u8>,
    version: OfVersion,
    pub(crate) seen: &'a mut Seen,
}

impl Writer<'_> {
    fn v10(&self) -> bool {
        self.version == OfVersion::V10
    }

    /// One action of type `kind`: header, `body`, padding.
    fn plain(&mut self, kind: u16, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), EncodeError> {
        let start = self.out.len();
        self.out.put_u16(kind);
        self.out.put_u16(0);
        body(self.out);
        self.out.pad8(start);
        patch_len(self.out, start, start + 2)?;
        Ok(())
    }

    fn nx(&mut self, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), EncodeError> {
        self.plain(ofpat::EXPERIMENTER, |out| {
            out.put_u32(NICIRA);
            out.put_u16(subtype);
            body(out);
        })
    }

    pub(crate) fn action(&mut self, action: &OfAction) -> Result<(), EncodeError> {
        use OfAction::*;
        match action {
            Output { port, max_len } => self.output(*port, *max_len),
            OutputReg { src, max_len } => self.output_reg(*src, *max_len),
            OutputTrunc { port, max_len } => {
                let port = port16(*port)?;
                self.nx(nxast::OUTPUT_TRUNC, |o| {
                    o.put_u16(port);
                    o.put_u32(*max_len);
                })
            }
            Controller { .. } => self.controller(action),
            Enqueue { port, queue } => self.enqueue(*port, *queue),
            SetField { field, value, mask } => self.set_field(*field, *value, *mask),
            Load { value, dst } => self.load(*value, *dst),
            Move { src, dst } => self.move_field(*src, *dst),
            Resubmit { port, table } => self.resubmit(*port, table.unwrap_or(TableId(255))),
            Note(bytes) => self.nx(nxast::NOTE, |o| o.put(bytes)),
            Exit => self.nx(nxast::EXIT, |o| o.zeros(6)),
            Ct(ct) => self.ct(ct),
            CtClear => self.nx(nxast::CT_CLEAR, |o| o.zeros(6)),
            Clone(list) => self.clone_list(list),
            CheckPktLarger { len, dst } => self.check_pkt_larger(*len, *dst),
            Group(id) if self.v10() => self.nx(nxast::GROUP, |o| {
                o.zeros(2);
                o.put_u32(id.0);
            }),
            Group(id) => self.plain(ofpat::GROUP, |o| o.put_u32(id.0)),
            Meter(id) if self.version == OfVersion::V15 => self.plain(ofpat::METER, |o| o.put_u32(id.0)),
            // An instruction of its own in OpenFlow 1.3 and 1.4; 1.0 has no meters.
            Meter(_) => Ok(()),
            SetTunnel(id) if self.v10() => self.set_tunnel10(*id),
            SetTunnel(id) => self.native_set(FieldId::TunId, *id as u128),
            DecTtl(ids) => self.dec_ttl(ids),
            PushMpls(_) | PopMpls(_) | SetMplsLabel(_) | SetMplsTc(_) | SetMplsTtl(_) | DecMplsTtl => {
                self.mpls(action)
            }
            WriteMetadata { .. } | ClearActions | WriteActions(_) | GotoTable(_) => self.instruction(action),
            _ if self.v10() => self.legacy10(action),
            _ => self.legacy13(action),
        }
    }

    fn output(&mut self, port: OfPort, max_len: u16) -> Result<(), EncodeError> {
        // Only outputs to the controller have a length; elsewhere OVS writes 0.
        let max_len = if port == OfPort::CONTROLLER { max_len } else { 0 };
        if self.v10() {
            let port = port16(port)?;
            return self.plain(0, |o| {
                o.put_u16(port);
                o.put_u16(max_len);
            });
        }
        self.plain(ofpat::OUTPUT, |o| {
            o.put_u32(port.0);
            o.put_u16(max_len);
            o.zeros(6);
        })
    }

    fn output_reg(&mut self, src: SubField, max_len: u16) -> Result<(), EncodeError> {
        let id = nx_id(src.field)?;
        let packed = pack(src)?;
        let bytes = src.field.row().wire_bytes as usize;
        if id.class == 0xffff {
            return self.nx(nxast::OUTPUT_REG2, |o| {
                o.put_u16(packed);
                o.put_u16(max_len);
                oxm::put_header(o, id, false, bytes);
            });
        }
        self.nx(nxast::OUTPUT_REG, |o| {
            o.put_u16(packed);
            oxm::put_header(o, id, false, bytes);
            o.put_u16(max_len);
            o.zeros(6);
        })
    }

    fn id(&self, field: FieldId) -> Result<&'static OxmId, EncodeError> {
        oxm::wire_id(self.version, field).ok_or(EncodeError::Inexpressible("field"))
    }

    fn controller(&mut self, action: &OfAction) -> Result<(), EncodeError> {
        let OfAction::Controller { max_len, controller_id, reason, userdata, pause } = action else {
            return Ok(());
        };
        // The action keeps its reason whatever the version's packet-ins can say.
        let number = reason_number(OfVersion::V15, *reason);
        if userdata.is_empty() && !pause {
            return self.nx(nxast::CONTROLLER, |o| {
                o.put_u16(*max_len);
                o.put_u16(*controller_id);
                o.put_u8(number);
                o.zeros(1);
            });
        }
        if userdata.len() > USERDATA_MAX {
            return Err(EncodeError::TooLong);
        }
        self.nx(nxast::CONTROLLER2, |o| {
            o.zeros(6);
            if *max_len != 0xffff {
                super::put_property(o, controller2::MAX_LEN, &pad_to_4(*max_len));
            }
            if *controller_id != 0 {
                super::put_property(o, controller2::CONTROLLER_ID, &pad_to_4(*controller_id));
            }
            if *reason != PacketInReason::Action {
                super::put_property(o, controller2::REASON, &[number]);
            }
            if !userdata.is_empty() {
                super::put_property(o, controller2::USERDATA, userdata);
            }
            if *pause {
                super::put_property(o, controller2::PAUSE, &[]);
            }
        })
    }

    fn enqueue(&mut self, port: OfPort, queue: u32) -> Result<(), EncodeError> {
        if self.v10() {
            let port = port16(port)?;
            return self.plain(11, |o| {
                o.put_u16(port);
                o.zeros(6);
                o.put_u32(queue);
            });
        }
        self.plain(ofpat::SET_QUEUE, |o| o.put_u32(queue))?;
        self.output(port, 0)?;
        self.nx(nxast::POP_QUEUE, |o| o.zeros(6))
    }

    fn resubmit(&mut self, port: Option<OfPort>, table: TableId) -> Result<(), EncodeError> {
        let port = port16(port.unwrap_or(OfPort::IN_PORT))?;
        self.nx(nxast::RESUBMIT_TABLE, |o| {
            o.put_u16(port);
            o.put_u8(table.0);
            o.zeros(3);
        })
    }

    fn set_tunnel10(&mut self, id: u64) -> Result<(), EncodeError> {
        match u32::try_from(id) {
            Ok(id) => self.nx(nxast::SET_TUNNEL, |o| {
                o.zeros(2);
                o.put_u32(id);
            }),
            Err(_) => self.nx(nxast::SET_TUNNEL64, |o| {
                o.zeros(6);
                o.put_u64(id);
            }),
        }
    }

    fn dec_ttl(&mut self, ids: &[u16]) -> Result<(), EncodeError> {
        let count = u16::try_from(ids.len()).map_err(|_| EncodeError::TooLong)?;
        match ids {
            [] if self.v10() => self.nx(nxast::DEC_TTL, |o| o.zeros(6)),
            [] => self.plain(ofpat::DEC_NW_TTL, |o| o.zeros(4)),
            _ => self.nx(nxast::DEC_TTL_CNT_IDS, |o| {
                o.put_u16(count);
                o.zeros(4);
                ids.iter().for_each(|id| o.put_u16(*id));
            }),
        }
    }

    fn mpls(&mut self, action: &OfAction) -> Result<(), EncodeError> {
        use OfAction::*;
        let v10 = self.v10();
        let mut ether_type = |native, extension, value: u16| {
            if v10 {
                self.nx(extension, |o| {
                    o.put_u16(value);
                    o.zeros(4);
                })
            } else {
                self.plain(native, |o| o.put_u16(value))
            }
        };
        match action {
            PushMpls(t) => ether_type(ofpat::PUSH_MPLS, nxast::PUSH_MPLS, *t),
            PopMpls(t) => ether_type(ofpat::POP_MPLS, nxast::POP_MPLS, *t),
            SetMplsLabel(label) if v10 => self.nx(nxast::SET_MPLS_LABEL, |o| {
                o.zeros(2);
                o.put_u32(*label);
            }),
            SetMplsLabel(label) => self.native_set(FieldId::MplsLabel, *label as u128),
            SetMplsTc(tc) if v10 => self.nx(nxast::SET_MPLS_TC, |o| o.put_u8(*tc)),
            SetMplsTc(tc) => self.native_set(FieldId::MplsTc, *tc as u128),
            SetMplsTtl(ttl) if v10 => self.nx(nxast::SET_MPLS_TTL, |o| o.put_u8(*ttl)),
            SetMplsTtl(ttl) => self.plain(ofpat::SET_MPLS_TTL, |o| o.put_u8(*ttl)),
            _ if v10 => self.nx(nxast::DEC_MPLS_TTL, |o| o.zeros(6)),
            _ => self.plain(ofpat::DEC_MPLS_TTL, |o| o.zeros(4)),
        }
    }

    /// Instructions where only actions can stand: OpenFlow 1.0, and goto_table there is a resubmit.
    fn instruction(&mut self, action: &OfAction) -> Result<(), EncodeError> {
        match action {
            OfAction::GotoTable(table) => self.resubmit(None, *table),
            OfAction::WriteMetadata { value, mask } => self.nx(nxast::WRITE_METADATA, |o| {
                o.zeros(6);
                o.put_u64(*value);
                o.put_u64(*mask);
            }),
            _ => Ok(()),
        }
    }

    fn legacy10(&mut self, action: &OfAction) -> Result<(), EncodeError> {
        use OfAction::*;
        match *action {
            SetVlanVid(vid) => self.plain(1, |o| o.put_u16(vid)),
            SetVlanPcp(pcp) => self.plain(2, |o| o.put_u8(pcp)),
            PopVlan => self.plain(3, |o| o.zeros(4)),
            // The tag comes with the set_vlan action that follows.
            PushVlan(_) => Ok(()),
            SetDlSrc(mac) => self.plain(4, |o| o.put_mac(mac)),
            SetDlDst(mac) => self.plain(5, |o| o.put_mac(mac)),
            SetNwSrc(ip) => self.plain(6, |o| o.put_u32(ip)),
            SetNwDst(ip) => self.plain(7, |o| o.put_u32(ip)),
            SetNwTos(tos) => self.plain(8, |o| o.put_u8(tos)),
            SetTpSrc(port) => self.plain(9, |o| o.put_u16(port)),
            SetTpDst(port) => self.plain(10, |o| o.put_u16(port)),
            SetNwEcn(ecn) => self.load_all(FieldId::NwEcn, ecn as u128),
            SetNwTtl(ttl) => self.load_all(FieldId::NwTtl, ttl as u128),
            _ => Err(EncodeError::Inexpressible("action")),
        }
    }

    fn load_all(&mut self, field: FieldId, value: u128) -> Result<(), EncodeError> {
        self.loads(field, value, field.slot().ones())
    }

    fn legacy13(&mut self, action: &OfAction) -> Result<(), EncodeError> {
        use OfAction::*;
        match *action {
            SetVlanVid(vid) => {
                self.push_vlan_if_none()?;
                self.native_set(FieldId::VlanVid, vid as u128 | 0x1000)
            }
            SetVlanPcp(pcp) => {
                self.push_vlan_if_none()?;
                self.native_set(FieldId::VlanPcp, pcp as u128)
            }
            PopVlan => {
                self.seen.tagged = false;
                self.plain(ofpat::POP_VLAN, |o| o.zeros(4))
            }
            PushVlan(tpid) => {
                self.seen.tagged = true;
                self.plain(ofpat::PUSH_VLAN, |o| o.put_u16(tpid))
            }
            SetDlSrc(mac) => self.native_set(FieldId::EthSrc, mac as u128),
            SetDlDst(mac) => self.native_set(FieldId::EthDst, mac as u128),
            SetNwSrc(ip) => self.native_set(FieldId::IpSrc, ip as u128),
            SetNwDst(ip) => self.native_set(FieldId::IpDst, ip as u128),
            SetNwTos(tos) => self.native_set(FieldId::IpDscp, tos as u128 >> 2),
            SetNwEcn(ecn) => self.native_set(FieldId::NwEcn, ecn as u128),
            SetNwTtl(ttl) => self.plain(ofpat::SET_NW_TTL, |o| o.put_u8(ttl)),
            SetTpSrc(port) => {
                let field = self.transport([FieldId::TcpSrc, FieldId::UdpSrc, FieldId::SctpSrc]);
                self.native_set(field, port as u128)
            }
            SetTpDst(port) => {
                let field = self.transport([FieldId::TcpDst, FieldId::UdpDst, FieldId::SctpDst]);
                self.native_set(field, port as u128)
            }
            _ => Err(EncodeError::Inexpressible("action")),
        }
    }

    fn transport(&self, [tcp, udp, sctp]: [FieldId; 3]) -> FieldId {
        match self.seen.nw_proto {
            Some(17) => udp,
            Some(132) => sctp,
            _ => tcp,
        }
    }

    fn push_vlan_if_none(&mut self) -> Result<(), EncodeError> {
        if std::mem::replace(&mut self.seen.tagged, true) {
            return Ok(());
        }
        self.plain(ofpat::PUSH_VLAN, |o| o.put_u16(0x8100))
    }

    /// A whole field by set_field.
    fn native_set(&mut self, field: FieldId, value: u128) -> Result<(), EncodeError> {
        self.put_set_field(field, value, None)
    }

    fn put_set_field(&mut self, field: FieldId, value: u128, mask: Option<u128>) -> Result<(), EncodeError> {
        self.id(field)?;
        let wire = oxm::to_wire(field, value).ok_or(EncodeError::Inexpressible("set_field value"))?;
        let version = self.version;
        self.plain(ofpat::SET_FIELD, |o| {
            oxm::put_field(o, version, field, wire, mask);
        })
    }

    fn set_field(&mut self, field: FieldId, value: u128, mask: u128) -> Result<(), EncodeError> {
        let whole = mask == field.slot().ones();
        match self.version {
            OfVersion::V10 => self.set_field10(field, value, mask),
            _ if whole => self.native_set(field, value),
            OfVersion::V13 | OfVersion::V14 if field.row().has_variable_length() => {
                self.reg_load2(field, value, Some(mask))
            }
            OfVersion::V15 => self.put_set_field(field, value, Some(mask)),
            _ => self.loads(field, value, mask),
        }
    }

    fn set_field10(&mut self, field: FieldId, value: u128, mask: u128) -> Result<(), EncodeError> {
        use FieldId as F;
        if field.row().has_variable_length() {
            return self.reg_load2(field, value, (mask != field.slot().ones()).then_some(mask));
        }
        if mask != field.slot().ones() {
            return self.loads(field, value, mask);
        }
        let legacy = match field {
            F::VlanVid | F::DlVlan => OfAction::SetVlanVid(value as u16 & 0xfff),
            F::VlanPcp | F::DlVlanPcp => OfAction::SetVlanPcp(value as u8),
            F::EthSrc => OfAction::SetDlSrc(value as u64),
            F::EthDst => OfAction::SetDlDst(value as u64),
            F::IpSrc => OfAction::SetNwSrc(value as u32),
            F::IpDst => OfAction::SetNwDst(value as u32),
            F::IpDscp => OfAction::SetNwTos((value as u8) << 2),
            F::NwTos => OfAction::SetNwTos(value as u8),
            F::TcpSrc | F::UdpSrc => OfAction::SetTpSrc(value as u16),
            F::TcpDst | F::UdpDst => OfAction::SetTpDst(value as u16),
            _ => return self.load_all(field, value),
        };
        self.legacy10(&legacy)
    }

    /// NXAST_REG_LOAD for each run of ones in the mask, 64 bits at a time.
    fn loads(&mut self, field: FieldId, value: u128, mask: u128) -> Result<(), EncodeError> {
        let (value, mask) = match field {
            // The field is 16 bits wide for actions.
            FieldId::InPort => {
                (oxm::to_wire(field, value).ok_or(EncodeError::Inexpressible("in_port"))?, mask & 0xffff)
            }
            _ => (value, mask),
        };
        let mut at = 0u32;
        while at < 128 && mask >> at != 0 {
            at += (mask >> at).trailing_zeros();
            let width = (mask >> at).trailing_ones().min(64);
            let part = value >> at & ((1u128 << width) - 1);
            self.reg_load(part as u64, SubField { field, start: at as u16, width: width as u16 })?;
            at += width;
        }
        Ok(())
    }

    /// NXAST_REG_LOAD2, which carries a field with its length.
    fn reg_load2(&mut self, field: FieldId, value: u128, mask: Option<u128>) -> Result<(), EncodeError> {
        self.nx(nxast::REG_LOAD2, |o| {
            oxm::put_field(o, OfVersion::V10, field, value, mask);
        })
    }

    fn reg_load(&mut self, value: u64, dst: SubField) -> Result<(), EncodeError> {
        let id = nx_id(dst.field)?;
        let packed = pack(dst)?;
        if id.class == 0xffff {
            return Err(EncodeError::Inexpressible("load to an experimenter's field"));
        }
        self.nx(nxast::REG_LOAD, |o| {
            o.put_u16(packed);
            oxm::put_header(o, id, false, dst.field.row().wire_bytes as usize);
            o.put_u64(value);
        })
    }

    fn load(&mut self, value: u128, dst: SubField) -> Result<(), EncodeError> {
        if dst.field.row().has_variable_length() {
            let shifted = |bits: u128| bits.checked_shl(dst.start.into()).unwrap_or(0);
            return self.set_field(dst.field, shifted(value), shifted(ones(dst.width)));
        }
        if self.version != OfVersion::V15 {
            let ones = ones(dst.width);
            return self.load_bits(value, ones, dst);
        }
        let mask = ones(dst.width) << dst.start;
        let field = dst.field;
        let wire = if dst.width == oxm::bits(field) { None } else { Some(mask) };
        self.id(field)?;
        let version = self.version;
        self.plain(ofpat::SET_FIELD, |o| {
            oxm::put_field(o, version, field, value << dst.start, wire);
        })
    }

    fn load_bits(&mut self, value: u128, ones: u128, dst: SubField) -> Result<(), EncodeError> {
        if dst.width <= 64 {
            return self.reg_load(value as u64, dst);
        }
        self.loads(dst.field, value << dst.start, ones << dst.start)
    }

    fn move_field(&mut self, src: SubField, dst: SubField) -> Result<(), EncodeError> {
        let native = self.version == OfVersion::V15;
        let id = |field| if native { self.id(field) } else { nx_id(field) };
        let (from, to) = (id(src.field)?, id(dst.field)?);
        let headers = |o: &mut Vec<u8>| {
            oxm::put_header(o, from, false, src.field.row().wire_bytes as usize);
            oxm::put_header(o, to, false, dst.field.row().wire_bytes as usize);
        };
        if native {
            return self.plain(ofpat::COPY_FIELD, |o| {
                o.put_u16(src.width);
                o.put_u16(src.start);
                o.put_u16(dst.start);
                o.zeros(2);
                headers(o);
            });
        }
        self.nx(nxast::REG_MOVE, |o| {
            o.put_u16(src.width);
            o.put_u16(src.start);
            o.put_u16(dst.start);
            headers(o);
        })
    }
}

/// Identifier in Nicira's actions, which in every version is that of OpenFlow 1.0's match if there is one.
pub(crate) fn nx_id(field: FieldId) -> Result<&'static OxmId, EncodeError> {
    oxm::wire_id(OfVersion::V10, field).ok_or(EncodeError::Inexpressible("field"))
}

/// Longest userdata of a controller action.
const USERDATA_MAX: usize = 0xf000;

fn ones(width: u16) -> u128 {
    if width >= 128 { u128::MAX } else { (1 << width) - 1 }
}

fn pad_to_4(v: u16) -> [u8; 4] {
    let [high, low] = v.to_be_bytes();
    [high, low, 0, 0]
}

fn port16(port: OfPort) -> Result<u16, EncodeError> {
    port.to_u16().ok_or(EncodeError::Inexpressible("port number beyond 16 bits"))
}

/// Offset in the upper 10 bits, width minus 1 in the lower 6.
pub(crate) fn pack(sub: SubField) -> Result<u16, EncodeError> {
    if sub.width == 0 || sub.width > 64 || sub.start >= 1 << 10 {
        return Err(EncodeError::Inexpressible("bit range"));
    }
    Ok(sub.start << 6 | (sub.width - 1))
}
