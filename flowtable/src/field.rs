//! The field table: one row a field, and nothing about a field stands anywhere else. Names, widths, masks, prerequisites
//! and wire identifiers are those of ovs-fields(7), which a test reads the table against.

use crate::key::{FlowKey, Mask, Match, Words, pipeline_slot};
use packet::key::{Slot, TUN_METADATA, VLAN_PRESENT, slot};

/// How a field may be masked in a match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masking {
    /// Exact or not at all.
    Exact,
    /// Any bits.
    Arbitrary,
}

/// How values are written in text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Decimal number.
    Decimal,
    /// Hexadecimal number with 0x.
    Hex,
    /// `aa:bb:cc:dd:ee:ff`.
    Ethernet,
    /// Dotted quad, mask as /len or dotted quad.
    Ipv4,
    /// RFC 5952, mask as /len or address.
    Ipv6,
    /// OpenFlow port: number, reserved name or port name.
    OfPort,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Frag,
    /// `+syn-ack` or a number.
    TcpFlags,
    /// `+trk-new` or a number.
    CtState,
    /// `oam` flags or a number.
    TunFlags,
}

/// What a match must say about a packet before the field makes sense (OpenFlow 1.5.1 §7.2.3.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prereq {
    /// Nothing.
    None,
    /// A VLAN tag is present.
    Vlan,
    /// EtherType 0x8847 or 0x8848.
    Mpls,
    /// EtherType 0x0800.
    Ipv4,
    /// EtherType 0x86dd.
    Ipv6,
    /// IPv4 or IPv6.
    Ip,
    /// EtherType 0x0806 or 0x8035 (RARP).
    Arp,
    /// TCP over IP, not a later fragment.
    Tcp,
    /// UDP over IP.
    Udp,
    /// SCTP over IP.
    Sctp,
    /// ICMP over IPv4.
    Icmpv4,
    /// ICMPv6 over IPv6.
    Icmpv6,
    /// ICMPv6 type 135 or 136, code 0.
    Nd,
    /// ICMPv6 type 135, code 0.
    NdSolicit,
    /// ICMPv6 type 136, code 0.
    NdAdvert,
    /// The packet has been tracked.
    Ct,
}

/// Whether actions may write a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Matches only.
    ReadOnly,
    /// Matches and actions.
    Writable,
}

/// OpenFlow's version byte on the wire.
pub const V1_0: u8 = 1;
/// OpenFlow 1.2.
pub const V1_2: u8 = 3;
/// OpenFlow 1.3.
pub const V1_3: u8 = 4;
/// OpenFlow 1.4.
pub const V1_4: u8 = 5;
/// OpenFlow 1.5.
pub const V1_5: u8 = 6;

/// Identifier of a field in NXM or OXM headers (OpenFlow 1.5.1 §7.2.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OxmId {
    /// `oxm_class`: 0x0000 and 0x0001 are NXM's.
    pub class: u16,
    /// `oxm_field`.
    pub field: u8,
    /// Experimenter id, with class 0xffff only; else 0.
    pub experimenter: u32,
    /// Lowest OpenFlow version byte in which the switch sends it. NXM identifiers are good in every version.
    pub since: u8,
    /// Name in subfields of actions: `NXM_NX_REG0`.
    pub name: &'static str,
}

const fn nx(field: u8, name: &'static str) -> OxmId {
    OxmId { class: 0x0001, field, experimenter: 0, since: V1_0, name }
}
const fn nxm_of(field: u8, name: &'static str) -> OxmId {
    OxmId { class: 0x0000, field, experimenter: 0, since: V1_0, name }
}
const fn oxm(field: u8, since: u8, name: &'static str) -> OxmId {
    OxmId { class: 0x8000, field, experimenter: 0, since, name }
}
const fn packet_reg(field: u8, name: &'static str) -> OxmId {
    OxmId { class: 0x8001, field, experimenter: 0, since: V1_3, name }
}
const fn onf(field: u8, since: u8, name: &'static str) -> OxmId {
    OxmId { class: 0xffff, field, experimenter: 0x4f4e_4600, since, name }
}
const fn eric(field: u8, name: &'static str) -> OxmId {
    OxmId { class: 0x1000, field, experimenter: 0, since: V1_0, name }
}

/// One row of the field table.
#[derive(Debug)]
pub struct Field {
    /// Which field.
    pub id: FieldId,
    /// Name in matches and actions.
    pub name: &'static str,
    /// Other names that text may use.
    pub aliases: &'static [&'static str],
    /// Bytes of a value on the wire; the value is right-aligned in them. More than 16: see
    /// [`has_variable_length`](Self::has_variable_length).
    pub wire_bytes: u8,
    /// Where the value stands in a [`FlowKey`]; its width is the field's width in bits.
    pub slot: Slot,
    /// How it may be masked.
    pub masking: Masking,
    /// How it is written.
    pub format: Format,
    /// What must hold of the packet.
    pub prereq: Prereq,
    /// Whether actions may write it.
    pub access: Access,
    /// Its wire identifiers, the preferred one first; none if it is not matched through NXM/OXM.
    pub oxm: &'static [OxmId],
}

macro_rules! fields {
    ($($(#[$doc:meta])* $id:ident $name:literal [$($alias:literal),*] $bytes:literal $slot:expr, $masking:ident $format:ident
       $prereq:ident $access:ident [$($oxm:expr),*];)*) => {
        /// Which field. In the order of the field table.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum FieldId { $($(#[$doc])* $id),* }

        /// The field table, indexed by `FieldId`.
        pub static FIELDS: &[Field] = &[$(Field {
            id: FieldId::$id, name: $name, aliases: &[$($alias),*], wire_bytes: $bytes, slot: $slot,
            masking: Masking::$masking, format: Format::$format, prereq: Prereq::$prereq,
            access: Access::$access, oxm: &[$($oxm),*],
        }),*];
    };
}

fields! {
    /// Tunnel id: VNI or GRE key.
    TunId "tun_id" ["tunnel_id"] 8 slot::TUN_ID, Arbitrary Hex None Writable [oxm(38, V1_3, "OXM_OF_TUNNEL_ID"), nx(16, "NXM_NX_TUN_ID")];
    /// Outer IPv4 source.
    TunSrc "tun_src" [] 4 slot::TUN_SRC, Arbitrary Ipv4 None Writable [nx(31, "NXM_NX_TUN_IPV4_SRC")];
    /// Outer IPv4 destination.
    TunDst "tun_dst" [] 4 slot::TUN_DST, Arbitrary Ipv4 None Writable [nx(32, "NXM_NX_TUN_IPV4_DST")];
    /// Outer IPv6 source.
    TunIpv6Src "tun_ipv6_src" [] 16 slot::TUN_IPV6_SRC, Arbitrary Ipv6 None Writable [nx(109, "NXM_NX_TUN_IPV6_SRC")];
    /// Outer IPv6 destination.
    TunIpv6Dst "tun_ipv6_dst" [] 16 slot::TUN_IPV6_DST, Arbitrary Ipv6 None Writable [nx(110, "NXM_NX_TUN_IPV6_DST")];
    /// VXLAN group policy id.
    TunGbpId "tun_gbp_id" [] 2 slot::TUN_GBP_ID, Arbitrary Decimal None Writable [nx(38, "NXM_NX_TUN_GBP_ID")];
    /// VXLAN group policy flags.
    TunGbpFlags "tun_gbp_flags" [] 1 slot::TUN_GBP_FLAGS, Arbitrary Hex None Writable [nx(39, "NXM_NX_TUN_GBP_FLAGS")];
    /// Tunnel flags; bit 0 is OAM.
    TunFlags "tun_flags" [] 2 slot::TUN_FLAGS.part(0, 1), Arbitrary TunFlags None Writable [nx(104, "NXM_NX_TUN_FLAGS")];
    /// Value of the Geneve option that the tlv-map calls 0: up to 124 bytes on the wire, of which 16 are kept.
    TunMetadata0 "tun_metadata0" [] 124 slot::TUN_METADATA0, Arbitrary Hex None Writable [nx(40, "NXM_NX_TUN_METADATA0")];
    /// The same of option 1.
    TunMetadata1 "tun_metadata1" [] 124 slot::TUN_METADATA1, Arbitrary Hex None Writable [nx(41, "NXM_NX_TUN_METADATA1")];
    /// The same of option 2.
    TunMetadata2 "tun_metadata2" [] 124 slot::TUN_METADATA2, Arbitrary Hex None Writable [nx(42, "NXM_NX_TUN_METADATA2")];
    /// The same of option 3.
    TunMetadata3 "tun_metadata3" [] 124 slot::TUN_METADATA3, Arbitrary Hex None Writable [nx(43, "NXM_NX_TUN_METADATA3")];
    /// The same of option 4.
    TunMetadata4 "tun_metadata4" [] 124 slot::TUN_METADATA4, Arbitrary Hex None Writable [nx(44, "NXM_NX_TUN_METADATA4")];
    /// The same of option 5.
    TunMetadata5 "tun_metadata5" [] 124 slot::TUN_METADATA5, Arbitrary Hex None Writable [nx(45, "NXM_NX_TUN_METADATA5")];
    /// The same of option 6.
    TunMetadata6 "tun_metadata6" [] 124 slot::TUN_METADATA6, Arbitrary Hex None Writable [nx(46, "NXM_NX_TUN_METADATA6")];
    /// The same of option 7.
    TunMetadata7 "tun_metadata7" [] 124 slot::TUN_METADATA7, Arbitrary Hex None Writable [nx(47, "NXM_NX_TUN_METADATA7")];
    /// Ingress port, as an OpenFlow 1.0 number on the wire.
    InPort "in_port" [] 2 slot::IN_PORT, Exact OfPort None Writable [nxm_of(0, "NXM_OF_IN_PORT")];
    /// Ingress port, 32 bits on the wire.
    InPortOxm "in_port_oxm" [] 4 slot::IN_PORT, Exact OfPort None Writable [oxm(0, V1_2, "OXM_OF_IN_PORT")];
    /// Packet mark.
    PktMark "pkt_mark" [] 4 slot::PKT_MARK, Arbitrary Hex None Writable [nx(33, "NXM_NX_PKT_MARK")];
    /// Datapath hash.
    DpHash "dp_hash" [] 4 slot::DP_HASH, Arbitrary Hex None ReadOnly [nx(35, "NXM_NX_DP_HASH")];
    /// Recirculation id.
    RecircId "recirc_id" [] 4 slot::RECIRC_ID, Exact Hex None ReadOnly [nx(36, "NXM_NX_RECIRC_ID")];
    /// Output port in the action set.
    ActsetOutput "actset_output" [] 4 pipeline_slot::ACTSET_OUTPUT, Exact OfPort None ReadOnly [onf(43, V1_3, "ONFOXM_ET_ACTSET_OUTPUT"), oxm(43, V1_5, "OXM_OF_ACTSET_OUTPUT")];
    /// Connection state.
    CtState "ct_state" [] 4 slot::CT_STATE, Arbitrary CtState None ReadOnly [nx(105, "NXM_NX_CT_STATE")];
    /// Connection zone.
    CtZone "ct_zone" [] 2 slot::CT_ZONE, Exact Hex None ReadOnly [nx(106, "NXM_NX_CT_ZONE")];
    /// Connection mark.
    CtMark "ct_mark" [] 4 slot::CT_MARK, Arbitrary Hex None Writable [nx(107, "NXM_NX_CT_MARK")];
    /// Connection label.
    CtLabel "ct_label" [] 16 slot::CT_LABEL, Arbitrary Hex None Writable [nx(108, "NXM_NX_CT_LABEL")];
    /// Protocol of the original direction.
    CtNwProto "ct_nw_proto" [] 1 slot::CT_NW_PROTO, Exact Decimal Ct ReadOnly [nx(119, "NXM_NX_CT_NW_PROTO")];
    /// IPv4 source of the original direction.
    CtNwSrc "ct_nw_src" [] 4 slot::CT_NW_SRC, Arbitrary Ipv4 Ct ReadOnly [nx(120, "NXM_NX_CT_NW_SRC")];
    /// IPv4 destination of the original direction.
    CtNwDst "ct_nw_dst" [] 4 slot::CT_NW_DST, Arbitrary Ipv4 Ct ReadOnly [nx(121, "NXM_NX_CT_NW_DST")];
    /// IPv6 source of the original direction.
    CtIpv6Src "ct_ipv6_src" [] 16 slot::CT_IPV6_SRC, Arbitrary Ipv6 Ct ReadOnly [nx(122, "NXM_NX_CT_IPV6_SRC")];
    /// IPv6 destination of the original direction.
    CtIpv6Dst "ct_ipv6_dst" [] 16 slot::CT_IPV6_DST, Arbitrary Ipv6 Ct ReadOnly [nx(123, "NXM_NX_CT_IPV6_DST")];
    /// Source port of the original direction.
    CtTpSrc "ct_tp_src" [] 2 slot::CT_TP_SRC, Arbitrary Decimal Ct ReadOnly [nx(124, "NXM_NX_CT_TP_SRC")];
    /// Destination port of the original direction.
    CtTpDst "ct_tp_dst" [] 2 slot::CT_TP_DST, Arbitrary Decimal Ct ReadOnly [nx(125, "NXM_NX_CT_TP_DST")];
    /// OpenFlow metadata.
    Metadata "metadata" [] 8 pipeline_slot::METADATA, Arbitrary Hex None Writable [oxm(2, V1_2, "OXM_OF_METADATA")];
    /// Register 0.
    Reg0 "reg0" [] 4 pipeline_slot::reg(0), Arbitrary Hex None Writable [nx(0, "NXM_NX_REG0")];
    /// Register 1.
    Reg1 "reg1" [] 4 pipeline_slot::reg(1), Arbitrary Hex None Writable [nx(1, "NXM_NX_REG1")];
    /// Register 2.
    Reg2 "reg2" [] 4 pipeline_slot::reg(2), Arbitrary Hex None Writable [nx(2, "NXM_NX_REG2")];
    /// Register 3.
    Reg3 "reg3" [] 4 pipeline_slot::reg(3), Arbitrary Hex None Writable [nx(3, "NXM_NX_REG3")];
    /// Register 4.
    Reg4 "reg4" [] 4 pipeline_slot::reg(4), Arbitrary Hex None Writable [nx(4, "NXM_NX_REG4")];
    /// Register 5.
    Reg5 "reg5" [] 4 pipeline_slot::reg(5), Arbitrary Hex None Writable [nx(5, "NXM_NX_REG5")];
    /// Register 6.
    Reg6 "reg6" [] 4 pipeline_slot::reg(6), Arbitrary Hex None Writable [nx(6, "NXM_NX_REG6")];
    /// Register 7.
    Reg7 "reg7" [] 4 pipeline_slot::reg(7), Arbitrary Hex None Writable [nx(7, "NXM_NX_REG7")];
    /// Register 8.
    Reg8 "reg8" [] 4 pipeline_slot::reg(8), Arbitrary Hex None Writable [nx(8, "NXM_NX_REG8")];
    /// Register 9.
    Reg9 "reg9" [] 4 pipeline_slot::reg(9), Arbitrary Hex None Writable [nx(9, "NXM_NX_REG9")];
    /// Register 10.
    Reg10 "reg10" [] 4 pipeline_slot::reg(10), Arbitrary Hex None Writable [nx(10, "NXM_NX_REG10")];
    /// Register 11.
    Reg11 "reg11" [] 4 pipeline_slot::reg(11), Arbitrary Hex None Writable [nx(11, "NXM_NX_REG11")];
    /// Register 12.
    Reg12 "reg12" [] 4 pipeline_slot::reg(12), Arbitrary Hex None Writable [nx(12, "NXM_NX_REG12")];
    /// Register 13.
    Reg13 "reg13" [] 4 pipeline_slot::reg(13), Arbitrary Hex None Writable [nx(13, "NXM_NX_REG13")];
    /// Register 14.
    Reg14 "reg14" [] 4 pipeline_slot::reg(14), Arbitrary Hex None Writable [nx(14, "NXM_NX_REG14")];
    /// Register 15.
    Reg15 "reg15" [] 4 pipeline_slot::reg(15), Arbitrary Hex None Writable [nx(15, "NXM_NX_REG15")];
    /// 64-bit register 0: registers 0 and 1.
    Xreg0 "xreg0" [] 8 pipeline_slot::xreg(0), Arbitrary Hex None Writable [packet_reg(0, "OXM_OF_PKT_REG0")];
    /// 64-bit register 1: registers 2 and 3.
    Xreg1 "xreg1" [] 8 pipeline_slot::xreg(1), Arbitrary Hex None Writable [packet_reg(1, "OXM_OF_PKT_REG1")];
    /// 64-bit register 2: registers 4 and 5.
    Xreg2 "xreg2" [] 8 pipeline_slot::xreg(2), Arbitrary Hex None Writable [packet_reg(2, "OXM_OF_PKT_REG2")];
    /// 64-bit register 3: registers 6 and 7.
    Xreg3 "xreg3" [] 8 pipeline_slot::xreg(3), Arbitrary Hex None Writable [packet_reg(3, "OXM_OF_PKT_REG3")];
    /// 64-bit register 4: registers 8 and 9.
    Xreg4 "xreg4" [] 8 pipeline_slot::xreg(4), Arbitrary Hex None Writable [packet_reg(4, "OXM_OF_PKT_REG4")];
    /// 64-bit register 5: registers 10 and 11.
    Xreg5 "xreg5" [] 8 pipeline_slot::xreg(5), Arbitrary Hex None Writable [packet_reg(5, "OXM_OF_PKT_REG5")];
    /// 64-bit register 6: registers 12 and 13.
    Xreg6 "xreg6" [] 8 pipeline_slot::xreg(6), Arbitrary Hex None Writable [packet_reg(6, "OXM_OF_PKT_REG6")];
    /// 64-bit register 7: registers 14 and 15.
    Xreg7 "xreg7" [] 8 pipeline_slot::xreg(7), Arbitrary Hex None Writable [packet_reg(7, "OXM_OF_PKT_REG7")];
    /// 128-bit register 0: registers 0 to 3.
    Xxreg0 "xxreg0" [] 16 pipeline_slot::xxreg(0), Arbitrary Hex None Writable [nx(111, "NXM_NX_XXREG0")];
    /// 128-bit register 1: registers 4 to 7.
    Xxreg1 "xxreg1" [] 16 pipeline_slot::xxreg(1), Arbitrary Hex None Writable [nx(112, "NXM_NX_XXREG1")];
    /// 128-bit register 2: registers 8 to 11.
    Xxreg2 "xxreg2" [] 16 pipeline_slot::xxreg(2), Arbitrary Hex None Writable [nx(113, "NXM_NX_XXREG2")];
    /// 128-bit register 3: registers 12 to 15.
    Xxreg3 "xxreg3" [] 16 pipeline_slot::xxreg(3), Arbitrary Hex None Writable [nx(114, "NXM_NX_XXREG3")];
    /// Ethernet source.
    EthSrc "eth_src" ["dl_src"] 6 slot::DL_SRC, Arbitrary Ethernet None Writable [oxm(4, V1_2, "OXM_OF_ETH_SRC"), nxm_of(2, "NXM_OF_ETH_SRC")];
    /// Ethernet destination.
    EthDst "eth_dst" ["dl_dst"] 6 slot::DL_DST, Arbitrary Ethernet None Writable [oxm(3, V1_2, "OXM_OF_ETH_DST"), nxm_of(1, "NXM_OF_ETH_DST")];
    /// EtherType after VLAN tags.
    EthType "eth_type" ["dl_type"] 2 slot::DL_TYPE, Exact Hex None ReadOnly [oxm(5, V1_2, "OXM_OF_ETH_TYPE"), nxm_of(3, "NXM_OF_ETH_TYPE")];
    /// Outer tag: PCP, presence bit, VID.
    VlanTci "vlan_tci" [] 2 slot::VLAN_TCI, Arbitrary Hex None Writable [nxm_of(4, "NXM_OF_VLAN_TCI")];
    /// VID of the outer tag, OpenFlow 1.0 style; 0xffff for no tag.
    DlVlan "dl_vlan" [] 2 slot::VLAN_TCI.part(0, 12), Exact Decimal None Writable [];
    /// VID of the outer tag with the presence bit.
    VlanVid "vlan_vid" [] 2 slot::VLAN_TCI.part(0, 13), Arbitrary Decimal None Writable [oxm(6, V1_2, "OXM_OF_VLAN_VID")];
    /// Priority of the outer tag, OpenFlow 1.0 style.
    DlVlanPcp "dl_vlan_pcp" [] 1 slot::VLAN_TCI.part(13, 3), Exact Decimal None Writable [];
    /// Priority of the outer tag.
    VlanPcp "vlan_pcp" [] 1 slot::VLAN_TCI.part(13, 3), Exact Decimal Vlan Writable [oxm(7, V1_2, "OXM_OF_VLAN_PCP")];
    /// Label of the outermost MPLS entry.
    MplsLabel "mpls_label" [] 4 slot::MPLS_LSE0.part(12, 20), Exact Decimal Mpls Writable [oxm(34, V1_2, "OXM_OF_MPLS_LABEL")];
    /// Traffic class of the outermost MPLS entry.
    MplsTc "mpls_tc" [] 1 slot::MPLS_LSE0.part(9, 3), Exact Decimal Mpls Writable [oxm(35, V1_2, "OXM_OF_MPLS_TC")];
    /// Bottom-of-stack bit of the outermost MPLS entry.
    MplsBos "mpls_bos" [] 1 slot::MPLS_LSE0.part(8, 1), Exact Decimal Mpls ReadOnly [oxm(36, V1_3, "OXM_OF_MPLS_BOS")];
    /// TTL of the outermost MPLS entry.
    MplsTtl "mpls_ttl" [] 1 slot::MPLS_LSE0.part(0, 8), Exact Decimal Mpls Writable [nx(30, "NXM_NX_MPLS_TTL")];
    /// IPv4 source.
    IpSrc "ip_src" ["nw_src"] 4 slot::NW_SRC, Arbitrary Ipv4 Ipv4 Writable [oxm(11, V1_2, "OXM_OF_IPV4_SRC"), nxm_of(7, "NXM_OF_IP_SRC")];
    /// IPv4 destination.
    IpDst "ip_dst" ["nw_dst"] 4 slot::NW_DST, Arbitrary Ipv4 Ipv4 Writable [oxm(12, V1_2, "OXM_OF_IPV4_DST"), nxm_of(8, "NXM_OF_IP_DST")];
    /// IPv6 source.
    Ipv6Src "ipv6_src" [] 16 slot::IPV6_SRC, Arbitrary Ipv6 Ipv6 Writable [oxm(26, V1_2, "OXM_OF_IPV6_SRC"), nx(19, "NXM_NX_IPV6_SRC")];
    /// IPv6 destination.
    Ipv6Dst "ipv6_dst" [] 16 slot::IPV6_DST, Arbitrary Ipv6 Ipv6 Writable [oxm(27, V1_2, "OXM_OF_IPV6_DST"), nx(20, "NXM_NX_IPV6_DST")];
    /// IPv6 flow label.
    Ipv6Label "ipv6_label" [] 4 slot::IPV6_LABEL.part(0, 20), Arbitrary Hex Ipv6 Writable [oxm(28, V1_2, "OXM_OF_IPV6_FLABEL"), nx(27, "NXM_NX_IPV6_LABEL")];
    /// IP protocol.
    NwProto "nw_proto" ["ip_proto"] 1 slot::NW_PROTO, Exact Decimal Ip ReadOnly [oxm(10, V1_2, "OXM_OF_IP_PROTO"), nxm_of(6, "NXM_OF_IP_PROTO")];
    /// TTL or hop limit.
    NwTtl "nw_ttl" [] 1 slot::NW_TTL, Exact Decimal Ip Writable [nx(29, "NXM_NX_IP_TTL")];
    /// Fragment bits.
    IpFrag "ip_frag" ["nw_frag"] 1 slot::NW_FRAG.part(0, 2), Arbitrary Frag Ip ReadOnly [nx(26, "NXM_NX_IP_FRAG")];
    /// TOS without its ECN bits.
    NwTos "nw_tos" [] 1 slot::NW_TOS, Exact Decimal Ip Writable [nxm_of(5, "NXM_OF_IP_TOS")];
    /// DSCP, right-aligned.
    IpDscp "ip_dscp" [] 1 slot::NW_TOS.part(2, 6), Exact Decimal Ip Writable [oxm(8, V1_2, "OXM_OF_IP_DSCP")];
    /// ECN bits.
    NwEcn "nw_ecn" ["ip_ecn"] 1 slot::NW_TOS.part(0, 2), Exact Decimal Ip Writable [oxm(9, V1_2, "OXM_OF_IP_ECN"), nx(28, "NXM_NX_IP_ECN")];
    /// ARP opcode (8 bits kept).
    ArpOp "arp_op" [] 2 slot::NW_PROTO, Exact Decimal Arp Writable [oxm(21, V1_2, "OXM_OF_ARP_OP"), nxm_of(15, "NXM_OF_ARP_OP")];
    /// ARP sender protocol address.
    ArpSpa "arp_spa" [] 4 slot::NW_SRC, Arbitrary Ipv4 Arp Writable [oxm(22, V1_2, "OXM_OF_ARP_SPA"), nxm_of(16, "NXM_OF_ARP_SPA")];
    /// ARP target protocol address.
    ArpTpa "arp_tpa" [] 4 slot::NW_DST, Arbitrary Ipv4 Arp Writable [oxm(23, V1_2, "OXM_OF_ARP_TPA"), nxm_of(17, "NXM_OF_ARP_TPA")];
    /// ARP sender hardware address.
    ArpSha "arp_sha" [] 6 slot::ARP_SHA, Arbitrary Ethernet Arp Writable [oxm(24, V1_2, "OXM_OF_ARP_SHA"), nx(17, "NXM_NX_ARP_SHA")];
    /// ARP target hardware address.
    ArpTha "arp_tha" [] 6 slot::ARP_THA, Arbitrary Ethernet Arp Writable [oxm(25, V1_2, "OXM_OF_ARP_THA"), nx(18, "NXM_NX_ARP_THA")];
    /// TCP source port.
    TcpSrc "tcp_src" ["tp_src"] 2 slot::TP_SRC, Arbitrary Decimal Tcp Writable [oxm(13, V1_2, "OXM_OF_TCP_SRC"), nxm_of(9, "NXM_OF_TCP_SRC")];
    /// TCP destination port.
    TcpDst "tcp_dst" ["tp_dst"] 2 slot::TP_DST, Arbitrary Decimal Tcp Writable [oxm(14, V1_2, "OXM_OF_TCP_DST"), nxm_of(10, "NXM_OF_TCP_DST")];
    /// TCP flags.
    TcpFlags "tcp_flags" [] 2 slot::TCP_FLAGS.part(0, 12), Arbitrary TcpFlags Tcp ReadOnly [onf(42, V1_3, "ONFOXM_ET_TCP_FLAGS"), oxm(42, V1_5, "OXM_OF_TCP_FLAGS"), nx(34, "NXM_NX_TCP_FLAGS")];
    /// UDP source port.
    UdpSrc "udp_src" [] 2 slot::TP_SRC, Arbitrary Decimal Udp Writable [oxm(15, V1_2, "OXM_OF_UDP_SRC"), nxm_of(11, "NXM_OF_UDP_SRC")];
    /// UDP destination port.
    UdpDst "udp_dst" [] 2 slot::TP_DST, Arbitrary Decimal Udp Writable [oxm(16, V1_2, "OXM_OF_UDP_DST"), nxm_of(12, "NXM_OF_UDP_DST")];
    /// SCTP source port.
    SctpSrc "sctp_src" [] 2 slot::TP_SRC, Arbitrary Decimal Sctp Writable [oxm(17, V1_2, "OXM_OF_SCTP_SRC")];
    /// SCTP destination port.
    SctpDst "sctp_dst" [] 2 slot::TP_DST, Arbitrary Decimal Sctp Writable [oxm(18, V1_2, "OXM_OF_SCTP_DST")];
    /// ICMP type.
    IcmpType "icmp_type" [] 1 slot::TP_SRC.part(0, 8), Exact Decimal Icmpv4 Writable [oxm(19, V1_2, "OXM_OF_ICMPV4_TYPE"), nxm_of(13, "NXM_OF_ICMP_TYPE")];
    /// ICMP code.
    IcmpCode "icmp_code" [] 1 slot::TP_DST.part(0, 8), Exact Decimal Icmpv4 Writable [oxm(20, V1_2, "OXM_OF_ICMPV4_CODE"), nxm_of(14, "NXM_OF_ICMP_CODE")];
    /// ICMPv6 type.
    Icmpv6Type "icmpv6_type" [] 1 slot::TP_SRC.part(0, 8), Exact Decimal Icmpv6 Writable [oxm(29, V1_2, "OXM_OF_ICMPV6_TYPE"), nx(21, "NXM_NX_ICMPV6_TYPE")];
    /// ICMPv6 code.
    Icmpv6Code "icmpv6_code" [] 1 slot::TP_DST.part(0, 8), Exact Decimal Icmpv6 Writable [oxm(30, V1_2, "OXM_OF_ICMPV6_CODE"), nx(22, "NXM_NX_ICMPV6_CODE")];
    /// Target of a neighbour solicitation or advertisement.
    NdTarget "nd_target" [] 16 slot::ND_TARGET, Arbitrary Ipv6 Nd Writable [oxm(31, V1_2, "OXM_OF_IPV6_ND_TARGET"), nx(23, "NXM_NX_ND_TARGET")];
    /// Source link-layer address option.
    NdSll "nd_sll" [] 6 slot::ARP_SHA, Arbitrary Ethernet NdSolicit Writable [oxm(32, V1_2, "OXM_OF_IPV6_ND_SLL"), nx(24, "NXM_NX_ND_SLL")];
    /// Target link-layer address option.
    NdTll "nd_tll" [] 6 slot::ARP_THA, Arbitrary Ethernet NdAdvert Writable [oxm(33, V1_2, "OXM_OF_IPV6_ND_TLL"), nx(25, "NXM_NX_ND_TLL")];
    /// Reserved word of a neighbour message.
    NdReserved "nd_reserved" [] 4 slot::ND_RESERVED, Exact Decimal Nd Writable [eric(1, "ERICOXM_OF_ICMPV6_ND_RESERVED")];
    /// Type of the neighbour message's option.
    NdOptionsType "nd_options_type" [] 1 slot::ND_OPTIONS_TYPE, Exact Decimal Nd Writable [eric(2, "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE")];
}

/// Fields and actions see the same number of bits of most fields as a key has; in these few they differ.
const fn visible_bits(id: FieldId, width: u8) -> u16 {
    match id {
        FieldId::InPort | FieldId::ArpOp => 16,
        // The presence bit is part of matches and of set_field values, not of subfields.
        FieldId::VlanVid => 12,
        _ => width as u16,
    }
}

impl Field {
    /// Width in bits as ovs-fields(7) gives it, which subfields such as `NXM_OF_IN_PORT[]` go by.
    pub const fn bits(&self) -> u16 {
        visible_bits(self.id, self.slot.width)
    }

    /// Bits that a value may have: those of the slot, but for `nw_tos`, which has no ECN bits.
    pub const fn value_bits(&self) -> u128 {
        match self.id {
            FieldId::NwTos => 0xfc,
            _ => self.slot.ones(),
        }
    }

    /// Whether a value takes only as many bytes on the wire as it needs, at most `wire_bytes`: the fields of Geneve options
    /// (ovs-fields(7), "Geneve TLV option"). No more than 128 bits of them are kept.
    pub const fn has_variable_length(&self) -> bool {
        self.wire_bytes > 16
    }

    /// Bytes of the longest value: those on the wire, as far as they are kept.
    pub const fn value_bytes(&self) -> u8 {
        if self.has_variable_length() { 16 } else { self.wire_bytes }
    }

    /// The bit that says that the packet has the field, where zero is a value like any other: of `tun_metadata` only.
    pub fn presence(&self) -> Option<Slot> {
        let index = TUN_METADATA.iter().position(|s| *s == self.slot)?;
        let all = slot::TUN_METADATA_PRESENT;
        Some(Slot::at(all.word, all.shift + index as u8, 1))
    }

    /// Name in subfields: Nicira's where there is one, as Open vSwitch prints it. None if actions cannot name the field.
    pub fn subfield_name(&self) -> Option<&'static str> {
        self.oxm.iter().find(|o| o.class <= 1).or(self.oxm.first()).map(|o| o.name)
    }
}

impl FieldId {
    /// The field's row.
    pub fn row(self) -> &'static Field {
        // The macro writes enum and table from one list, so the index exists.
        &FIELDS[self as usize]
    }

    /// Where the field stands in a key.
    pub fn slot(self) -> Slot {
        self.row().slot
    }

    /// Replaces the condition of a match on the field. One on a field whose [`presence`](Field::presence) is known asks for
    /// that too, and for nothing else if no bits are asked for.
    pub fn set_condition(self, matching: &mut Match, value: u128, bits: u128) {
        matching.set(self.slot(), value, bits);
        if let Some(presence) = self.row().presence() {
            matching.set_exact(presence, 1);
        }
    }

    /// The field with this name or alias.
    pub fn from_name(name: &str) -> Option<FieldId> {
        FIELDS.iter().find(|f| f.name == name || f.aliases.contains(&name)).map(|f| f.id)
    }

    /// The field with this wire identifier.
    pub fn from_oxm(class: u16, field: u8, experimenter: u32) -> Option<FieldId> {
        let same = |o: &OxmId| (o.class, o.field, o.experimenter) == (class, field, experimenter);
        FIELDS.iter().find(|f| f.oxm.iter().any(same)).map(|f| f.id)
    }
}

impl Prereq {
    /// Whether a packet with this key satisfies the prerequisite.
    pub fn holds(self, key: &FlowKey) -> bool {
        self.check(|s| Some(key.slot(s)))
    }

    /// Whether every packet that `matching` matches satisfies the prerequisite.
    pub fn implied_by(self, matching: &Match) -> bool {
        self.check(|s| {
            let (value, bits) = matching.get(s);
            (bits == s.ones()).then_some(value)
        })
    }

    /// Adds to `mask` the bits that `holds` looks at.
    pub fn consult(self, mask: &mut Mask<FlowKey>) {
        let (l4, nd) = match self {
            Prereq::None => return,
            Prereq::Vlan => return mask.add(slot::VLAN_TCI, VLAN_PRESENT as u128),
            Prereq::Ct => return mask.add_all(slot::CT_STATE),
            Prereq::Mpls | Prereq::Ipv4 | Prereq::Ipv6 | Prereq::Ip | Prereq::Arp => (false, false),
            Prereq::Nd | Prereq::NdSolicit | Prereq::NdAdvert => (true, true),
            Prereq::Tcp | Prereq::Udp | Prereq::Sctp | Prereq::Icmpv4 | Prereq::Icmpv6 => (true, false),
        };
        mask.add_all(slot::DL_TYPE);
        if l4 {
            mask.add_all(slot::NW_PROTO);
            mask.add(slot::NW_FRAG, packet::key::FRAG_LATER as u128);
        }
        if nd {
            mask.add_all(slot::TP_SRC);
            mask.add_all(slot::TP_DST);
        }
    }

    fn check(self, exact: impl Fn(Slot) -> Option<u128>) -> bool {
        let one_of = |s: Slot, values: &[u128]| exact(s).is_some_and(|v| values.contains(&v));
        let ip = || one_of(slot::DL_TYPE, &[0x0800, 0x86dd]);
        let l4 = |proto: u128| {
            // An unknown fragment state passes: a match on tp_dst without nw_frag is legal, later fragments have ports 0.
            let later = exact(slot::NW_FRAG).is_some_and(|f| f & packet::key::FRAG_LATER as u128 != 0);
            one_of(slot::NW_PROTO, &[proto]) && !later
        };
        let icmpv6 = || one_of(slot::DL_TYPE, &[0x86dd]) && l4(58);
        let icmpv6_type = slot::TP_SRC.part(0, 8);
        let icmpv6_code = slot::TP_DST.part(0, 8);
        let nd = |types: &[u128]| {
            icmpv6() && one_of(icmpv6_type, types) && exact(icmpv6_code).is_none_or(|code| code == 0)
        };
        match self {
            Prereq::None => true,
            Prereq::Vlan => exact(slot::VLAN_TCI.part(12, 1)) == Some(1),
            Prereq::Mpls => one_of(slot::DL_TYPE, &[0x8847, 0x8848]),
            Prereq::Ipv4 => one_of(slot::DL_TYPE, &[0x0800]),
            Prereq::Ipv6 => one_of(slot::DL_TYPE, &[0x86dd]),
            Prereq::Ip => ip(),
            Prereq::Arp => one_of(slot::DL_TYPE, &[0x0806, 0x8035]),
            Prereq::Tcp => ip() && l4(6),
            Prereq::Udp => ip() && l4(17),
            Prereq::Sctp => ip() && l4(132),
            Prereq::Icmpv4 => one_of(slot::DL_TYPE, &[0x0800]) && l4(1),
            Prereq::Icmpv6 => icmpv6(),
            Prereq::Nd => nd(&[135, 136]),
            Prereq::NdSolicit => nd(&[135]),
            Prereq::NdAdvert => nd(&[136]),
            // Validity of the tuple fields follows from the tracker's having filled them.
            Prereq::Ct => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rows_stand_at_their_index_and_names_are_unique() {
        let mut names = HashSet::new();
        let mut ids = HashSet::new();
        for (i, f) in FIELDS.iter().enumerate() {
            assert_eq!(f.id as usize, i);
            assert!(f.slot.width as u32 <= f.wire_bytes as u32 * 8 || f.id == FieldId::InPort, "{}", f.name);
            for name in f.aliases.iter().chain([&f.name]) {
                assert!(names.insert(*name), "{name} twice");
                assert_eq!(FieldId::from_name(name), Some(f.id));
            }
            for o in f.oxm {
                assert!(ids.insert((o.class, o.field, o.experimenter)), "{} shares {o:?}", f.name);
                assert_eq!(FieldId::from_oxm(o.class, o.field, o.experimenter), Some(f.id));
            }
        }
    }

    #[test]
    fn prerequisites_of_matches() {
        let mut m = Match::any();
        assert!(!Prereq::Tcp.implied_by(&m));
        m.set_exact(slot::DL_TYPE, 0x0800);
        m.set_exact(slot::NW_PROTO, 6);
        assert!(Prereq::Tcp.implied_by(&m) && Prereq::Ip.implied_by(&m) && Prereq::Ipv4.implied_by(&m));
        assert!(!Prereq::Udp.implied_by(&m) && !Prereq::Ipv6.implied_by(&m));
        m.set_exact(slot::NW_FRAG, 3);
        assert!(!Prereq::Tcp.implied_by(&m), "a later fragment has no transport header");
    }
}
