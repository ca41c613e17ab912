//! OpenFlow errors: one closed enum, and the number each has on the wire in each version.
//!
//! An error that a version lacks is written as OVS does: the Nicira or ONF experimenter's number where there is one,
//! else `NXBRC_UNENCODABLE_ERROR`. The numbers are those that `ovs-ofctl print-error` shows, which a test compares.

use crate::version::OfVersion;
use std::fmt;

/// Vendor id of Nicira, whose extensions OVS speaks.
pub const NICIRA: u32 = 0x0000_2320;
/// Experimenter id of the Open Networking Foundation.
pub const ONF: u32 = 0x4f4e_4600;

/// Number of an error: type and code, and who numbered it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ErrorNumber {
    /// 0 for OpenFlow itself, else the experimenter.
    pub experimenter: u32,
    /// `type` (for experimenters in OpenFlow 1.2 and later: `exp_type`).
    pub kind: u16,
    /// `code`; 0 for experimenters in OpenFlow 1.2 and later.
    pub code: u16,
}

const NONE: Option<ErrorNumber> = None;
const fn of(kind: u16, code: u16) -> Option<ErrorNumber> {
    Some(ErrorNumber { experimenter: 0, kind, code })
}
const fn nx(kind: u16, code: u16) -> Option<ErrorNumber> {
    Some(ErrorNumber { experimenter: NICIRA, kind, code })
}
const fn onf(kind: u16) -> Option<ErrorNumber> {
    Some(ErrorNumber { experimenter: ONF, kind, code: 0 })
}

macro_rules! errors {
    ($($id:ident $name:literal [$v10:expr, $v13:expr, $v14:expr, $v15:expr];)*) => {
        /// What a switch answers to a request that it refuses (OpenFlow 1.5.1 §7.5.4). The names are those of the
        /// standard's error types and codes; [`OfError::name`] gives the standard's own spelling.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum OfError { $(#[doc = concat!("`", $name, "`.")] $id),* }

        impl OfError {
            /// Every error.
            pub const ALL: &[OfError] = &[$(OfError::$id),*];

            /// The standard's name, as ovs-ofctl(8) prints it.
            pub const fn name(self) -> &'static str {
                match self { $(OfError::$id => $name),* }
            }

            /// The number in a version; `None` if it has none.
            pub const fn number(self, version: OfVersion) -> Option<ErrorNumber> {
                let row = match self { $(OfError::$id => [$v10, $v13, $v14, $v15]),* };
                let [v10, v13, v14, v15] = row;
                match version {
                    OfVersion::V10 => v10,
                    OfVersion::V13 => v13,
                    OfVersion::V14 => v14,
                    OfVersion::V15 => v15,
                }
            }
        }
    };
}

errors! {
    HelloFailedEperm "OFPHFC_EPERM" [of(0, 1), of(0, 1), of(0, 1), of(0, 1)];
    HelloFailedIncompatible "OFPHFC_INCOMPATIBLE" [of(0, 0), of(0, 0), of(0, 0), of(0, 0)];
    BadRequestBadLen "OFPBRC_BAD_LEN" [of(1, 6), of(1, 6), of(1, 6), of(1, 6)];
    BadRequestBadPacket "OFPBRC_BAD_PACKET" [NONE, of(1, 12), of(1, 12), of(1, 12)];
    BadRequestBadPort "OFPBRC_BAD_PORT" [nx(1, 514), of(1, 11), of(1, 11), of(1, 11)];
    BadRequestBadStat "OFPBRC_BAD_STAT" [of(1, 2), of(1, 2), of(1, 2), of(1, 2)];
    BadRequestBadSubtype "OFPBRC_BAD_SUBTYPE" [of(1, 4), of(1, 4), of(1, 4), of(1, 4)];
    BadRequestBadTableId "OFPBRC_BAD_TABLE_ID" [nx(1, 512), of(1, 9), of(1, 9), of(1, 9)];
    BadRequestBadType "OFPBRC_BAD_TYPE" [of(1, 1), of(1, 1), of(1, 1), of(1, 1)];
    BadRequestBadVendor "OFPBRC_BAD_VENDOR" [of(1, 3), of(1, 3), of(1, 3), of(1, 3)];
    BadRequestBadVersion "OFPBRC_BAD_VERSION" [of(1, 0), of(1, 0), of(1, 0), of(1, 0)];
    BadRequestBufferEmpty "OFPBRC_BUFFER_EMPTY" [of(1, 7), of(1, 7), of(1, 7), of(1, 7)];
    BadRequestBufferUnknown "OFPBRC_BUFFER_UNKNOWN" [of(1, 8), of(1, 8), of(1, 8), of(1, 8)];
    BadRequestEperm "OFPBRC_EPERM" [of(1, 5), of(1, 5), of(1, 5), of(1, 5)];
    BadRequestIsSecondary "OFPBRC_IS_SECONDARY" [of(1, 5), of(1, 10), of(1, 10), of(1, 10)];
    BadRequestMultipartBadSched "OFPBRC_MULTIPART_BAD_SCHED" [NONE, NONE, NONE, of(1, 16)];
    BadRequestMultipartBufferOverflow "OFPBRC_MULTIPART_BUFFER_OVERFLOW" [NONE, of(1, 13), of(1, 13), of(1, 13)];
    BadRequestMultipartReplyTimeout "OFPBRC_MULTIPART_REPLY_TIMEOUT" [NONE, onf(2641), of(1, 15), of(1, 15)];
    BadRequestMultipartRequestTimeout "OFPBRC_MULTIPART_REQUEST_TIMEOUT" [NONE, onf(2640), of(1, 14), of(1, 14)];
    BadRequestPipelineFieldsOnly "OFPBRC_PIPELINE_FIELDS_ONLY" [NONE, NONE, NONE, of(1, 17)];
    BadRequestUnknown "OFPBRC_UNKNOWN" [NONE, NONE, NONE, of(1, 18)];
    BadActionBadArgument "OFPBAC_BAD_ARGUMENT" [of(2, 5), of(2, 5), of(2, 5), of(2, 5)];
    BadActionBadLen "OFPBAC_BAD_LEN" [of(2, 1), of(2, 1), of(2, 1), of(2, 1)];
    BadActionBadMeter "OFPBAC_BAD_METER" [NONE, NONE, NONE, of(2, 17)];
    BadActionBadOutGroup "OFPBAC_BAD_OUT_GROUP" [nx(2, 9), of(2, 9), of(2, 9), of(2, 9)];
    BadActionBadOutPort "OFPBAC_BAD_OUT_PORT" [of(2, 4), of(2, 4), of(2, 4), of(2, 4)];
    BadActionBadQueue "OFPBAC_BAD_QUEUE" [of(2, 8), of(2, 8), of(2, 8), of(2, 8)];
    BadActionBadSetArgument "OFPBAC_BAD_SET_ARGUMENT" [nx(1, 525), of(2, 15), of(2, 15), of(2, 15)];
    BadActionBadSetLen "OFPBAC_BAD_SET_LEN" [nx(1, 524), of(2, 14), of(2, 14), of(2, 14)];
    BadActionBadSetMask "OFPBAC_BAD_SET_MASK" [NONE, onf(4250), onf(4250), of(2, 16)];
    BadActionBadSetType "OFPBAC_BAD_SET_TYPE" [nx(1, 523), of(2, 13), of(2, 13), of(2, 13)];
    BadActionBadTag "OFPBAC_BAD_TAG" [NONE, of(2, 12), of(2, 12), of(2, 12)];
    BadActionBadType "OFPBAC_BAD_TYPE" [of(2, 0), of(2, 0), of(2, 0), of(2, 0)];
    BadActionBadVendor "OFPBAC_BAD_VENDOR" [of(2, 2), of(2, 2), of(2, 2), of(2, 2)];
    BadActionBadVendorType "OFPBAC_BAD_VENDOR_TYPE" [of(2, 3), of(2, 3), of(2, 3), of(2, 3)];
    BadActionEperm "OFPBAC_EPERM" [of(2, 6), of(2, 6), of(2, 6), of(2, 6)];
    BadActionMatchInconsistent "OFPBAC_MATCH_INCONSISTENT" [nx(1, 522), of(2, 10), of(2, 10), of(2, 10)];
    BadActionTooMany "OFPBAC_TOO_MANY" [of(2, 7), of(2, 7), of(2, 7), of(2, 7)];
    BadActionUnsupportedOrder "OFPBAC_UNSUPPORTED_ORDER" [NONE, of(2, 11), of(2, 11), of(2, 11)];
    BadInstructionBadExperimenter "OFPBIC_BAD_EXPERIMENTER" [NONE, of(3, 5), of(3, 5), of(3, 5)];
    BadInstructionBadExpType "OFPBIC_BAD_EXP_TYPE" [NONE, of(3, 6), of(3, 6), of(3, 6)];
    BadInstructionBadLen "OFPBIC_BAD_LEN" [NONE, of(3, 7), of(3, 7), of(3, 7)];
    BadInstructionBadTableId "OFPBIC_BAD_TABLE_ID" [NONE, of(3, 2), of(3, 2), of(3, 2)];
    BadInstructionDupInst "OFPBIC_DUP_INST" [NONE, onf(2600), of(3, 9), of(3, 9)];
    BadInstructionEperm "OFPBIC_EPERM" [NONE, of(3, 8), of(3, 8), of(3, 8)];
    BadInstructionUnknownInst "OFPBIC_UNKNOWN_INST" [NONE, of(3, 0), of(3, 0), of(3, 0)];
    BadInstructionUnsupInst "OFPBIC_UNSUP_INST" [nx(2, 257), of(3, 1), of(3, 1), of(3, 1)];
    BadInstructionUnsupMetadata "OFPBIC_UNSUP_METADATA" [NONE, of(3, 3), of(3, 3), of(3, 3)];
    BadInstructionUnsupMetadataMask "OFPBIC_UNSUP_METADATA_MASK" [NONE, of(3, 4), of(3, 4), of(3, 4)];
    BadMatchBadDlAddrMask "OFPBMC_BAD_DL_ADDR_MASK" [NONE, of(4, 3), of(4, 3), of(4, 3)];
    BadMatchBadField "OFPBMC_BAD_FIELD" [nx(0, 263), of(4, 6), of(4, 6), of(4, 6)];
    BadMatchBadLen "OFPBMC_BAD_LEN" [NONE, of(4, 1), of(4, 1), of(4, 1)];
    BadMatchBadMask "OFPBMC_BAD_MASK" [nx(1, 259), of(4, 8), of(4, 8), of(4, 8)];
    BadMatchBadNwAddrMask "OFPBMC_BAD_NW_ADDR_MASK" [NONE, of(4, 4), of(4, 4), of(4, 4)];
    BadMatchBadPrereq "OFPBMC_BAD_PREREQ" [nx(1, 260), of(4, 9), of(4, 9), of(4, 9)];
    BadMatchBadTag "OFPBMC_BAD_TAG" [NONE, of(4, 2), of(4, 2), of(4, 2)];
    BadMatchBadType "OFPBMC_BAD_TYPE" [NONE, of(4, 0), of(4, 0), of(4, 0)];
    BadMatchBadValue "OFPBMC_BAD_VALUE" [nx(1, 258), of(4, 7), of(4, 7), of(4, 7)];
    BadMatchBadWildcards "OFPBMC_BAD_WILDCARDS" [nx(1, 262), of(4, 5), of(4, 5), of(4, 5)];
    BadMatchDupField "OFPBMC_DUP_FIELD" [nx(1, 261), of(4, 10), of(4, 10), of(4, 10)];
    BadMatchEperm "OFPBMC_EPERM" [NONE, of(4, 11), of(4, 11), of(4, 11)];
    FlowModFailedBadCommand "OFPFMFC_BAD_COMMAND" [of(3, 4), of(5, 6), of(5, 6), of(5, 6)];
    FlowModFailedBadEmergTimeout "OFPFMFC_BAD_EMERG_TIMEOUT" [of(3, 3), NONE, NONE, NONE];
    FlowModFailedBadFlags "OFPFMFC_BAD_FLAGS" [nx(3, 258), of(5, 7), of(5, 7), of(5, 7)];
    FlowModFailedBadPriority "OFPFMFC_BAD_PRIORITY" [NONE, onf(2360), of(5, 9), of(5, 9)];
    FlowModFailedBadTableId "OFPFMFC_BAD_TABLE_ID" [NONE, of(5, 2), of(5, 2), of(5, 2)];
    FlowModFailedBadTimeout "OFPFMFC_BAD_TIMEOUT" [NONE, of(5, 5), of(5, 5), of(5, 5)];
    FlowModFailedCantSync "OFPFMFC_CANT_SYNC" [NONE, NONE, of(5, 8), of(5, 8)];
    FlowModFailedEperm "OFPFMFC_EPERM" [of(3, 2), of(5, 4), of(5, 4), of(5, 4)];
    FlowModFailedIsSync "OFPFMFC_IS_SYNC" [NONE, NONE, of(5, 10), of(5, 10)];
    FlowModFailedOverlap "OFPFMFC_OVERLAP" [of(3, 1), of(5, 3), of(5, 3), of(5, 3)];
    FlowModFailedTableFull "OFPFMFC_TABLE_FULL" [of(3, 0), of(5, 1), of(5, 1), of(5, 1)];
    FlowModFailedUnknown "OFPFMFC_UNKNOWN" [NONE, of(5, 0), of(5, 0), of(5, 0)];
    FlowModFailedUnsupported "OFPFMFC_UNSUPPORTED" [of(3, 5), NONE, NONE, NONE];
    GroupModFailedBadBucket "OFPGMFC_BAD_BUCKET" [nx(6, 12), of(6, 12), of(6, 12), of(6, 12)];
    GroupModFailedBadCommand "OFPGMFC_BAD_COMMAND" [nx(6, 11), of(6, 11), of(6, 11), of(6, 11)];
    GroupModFailedBadType "OFPGMFC_BAD_TYPE" [nx(6, 10), of(6, 10), of(6, 10), of(6, 10)];
    GroupModFailedBadWatch "OFPGMFC_BAD_WATCH" [nx(6, 13), of(6, 13), of(6, 13), of(6, 13)];
    GroupModFailedBucketExists "OFPGMFC_BUCKET_EXISTS" [nx(6, 16), NONE, NONE, of(6, 16)];
    GroupModFailedChainedGroup "OFPGMFC_CHAINED_GROUP" [nx(6, 9), of(6, 9), of(6, 9), of(6, 9)];
    GroupModFailedChainingUnsupported "OFPGMFC_CHAINING_UNSUPPORTED" [nx(6, 5), of(6, 5), of(6, 5), of(6, 5)];
    GroupModFailedEperm "OFPGMFC_EPERM" [nx(6, 14), of(6, 14), of(6, 14), of(6, 14)];
    GroupModFailedGroupExists "OFPGMFC_GROUP_EXISTS" [nx(6, 0), of(6, 0), of(6, 0), of(6, 0)];
    GroupModFailedInvalidGroup "OFPGMFC_INVALID_GROUP" [nx(6, 1), of(6, 1), of(6, 1), of(6, 1)];
    GroupModFailedLoop "OFPGMFC_LOOP" [nx(6, 7), of(6, 7), of(6, 7), of(6, 7)];
    GroupModFailedOutOfBuckets "OFPGMFC_OUT_OF_BUCKETS" [nx(6, 4), of(6, 4), of(6, 4), of(6, 4)];
    GroupModFailedOutOfGroups "OFPGMFC_OUT_OF_GROUPS" [nx(6, 3), of(6, 3), of(6, 3), of(6, 3)];
    GroupModFailedUnknownBucket "OFPGMFC_UNKNOWN_BUCKET" [nx(6, 15), NONE, NONE, of(6, 15)];
    GroupModFailedUnknownGroup "OFPGMFC_UNKNOWN_GROUP" [nx(6, 8), of(6, 8), of(6, 8), of(6, 8)];
    GroupModFailedWatchUnsupported "OFPGMFC_WATCH_UNSUPPORTED" [nx(6, 6), of(6, 6), of(6, 6), of(6, 6)];
    GroupModFailedWeightUnsupported "OFPGMFC_WEIGHT_UNSUPPORTED" [nx(6, 2), of(6, 2), of(6, 2), of(6, 2)];
    PortModFailedBadAdvertise "OFPPMFC_BAD_ADVERTISE" [NONE, of(7, 3), of(7, 3), of(7, 3)];
    PortModFailedBadConfig "OFPPMFC_BAD_CONFIG" [NONE, of(7, 2), of(7, 2), of(7, 2)];
    PortModFailedBadHwAddr "OFPPMFC_BAD_HW_ADDR" [of(4, 1), of(7, 1), of(7, 1), of(7, 1)];
    PortModFailedBadPort "OFPPMFC_BAD_PORT" [of(4, 0), of(7, 0), of(7, 0), of(7, 0)];
    PortModFailedEperm "OFPPMFC_EPERM" [NONE, of(7, 4), of(7, 4), of(7, 4)];
    TableModFailedBadConfig "OFPTMFC_BAD_CONFIG" [NONE, of(8, 1), of(8, 1), of(8, 1)];
    TableModFailedBadTable "OFPTMFC_BAD_TABLE" [NONE, of(8, 0), of(8, 0), of(8, 0)];
    TableModFailedEperm "OFPTMFC_EPERM" [NONE, of(8, 2), of(8, 2), of(8, 2)];
    QueueOpFailedBadPort "OFPQOFC_BAD_PORT" [of(5, 0), of(9, 0), of(9, 0), of(9, 0)];
    QueueOpFailedBadQueue "OFPQOFC_BAD_QUEUE" [of(5, 1), of(9, 1), of(9, 1), of(9, 1)];
    QueueOpFailedEperm "OFPQOFC_EPERM" [of(5, 2), of(9, 2), of(9, 2), of(9, 2)];
    SwitchConfigFailedBadFlags "OFPSCFC_BAD_FLAGS" [NONE, of(10, 0), of(10, 0), of(10, 0)];
    SwitchConfigFailedBadLen "OFPSCFC_BAD_LEN" [NONE, of(10, 1), of(10, 1), of(10, 1)];
    SwitchConfigFailedEperm "OFPSCFC_EPERM" [NONE, of(10, 2), of(10, 2), of(10, 2)];
    RoleRequestFailedBadRole "OFPRRFC_BAD_ROLE" [nx(1, 513), of(11, 2), of(11, 2), of(11, 2)];
    RoleRequestFailedIdInUse "OFPRRFC_ID_IN_USE" [NONE, NONE, NONE, of(11, 4)];
    RoleRequestFailedIdUnsup "OFPRRFC_ID_UNSUP" [NONE, NONE, NONE, of(11, 3)];
    RoleRequestFailedStale "OFPRRFC_STALE" [nx(1, 534), of(11, 0), of(11, 0), of(11, 0)];
    RoleRequestFailedUnsup "OFPRRFC_UNSUP" [NONE, of(11, 1), of(11, 1), of(11, 1)];
    MeterModFailedBadBand "OFPMMFC_BAD_BAND" [NONE, of(12, 8), of(12, 8), of(12, 8)];
    MeterModFailedBadBandValue "OFPMMFC_BAD_BAND_VALUE" [NONE, of(12, 9), of(12, 9), of(12, 9)];
    MeterModFailedBadBurst "OFPMMFC_BAD_BURST" [NONE, of(12, 7), of(12, 7), of(12, 7)];
    MeterModFailedBadCommand "OFPMMFC_BAD_COMMAND" [NONE, of(12, 4), of(12, 4), of(12, 4)];
    MeterModFailedBadFlags "OFPMMFC_BAD_FLAGS" [NONE, of(12, 5), of(12, 5), of(12, 5)];
    MeterModFailedBadRate "OFPMMFC_BAD_RATE" [NONE, of(12, 6), of(12, 6), of(12, 6)];
    MeterModFailedInvalidMeter "OFPMMFC_INVALID_METER" [NONE, of(12, 2), of(12, 2), of(12, 2)];
    MeterModFailedMeterExists "OFPMMFC_METER_EXISTS" [NONE, of(12, 1), of(12, 1), of(12, 1)];
    MeterModFailedOutOfBands "OFPMMFC_OUT_OF_BANDS" [NONE, of(12, 11), of(12, 11), of(12, 11)];
    MeterModFailedOutOfMeters "OFPMMFC_OUT_OF_METERS" [NONE, of(12, 10), of(12, 10), of(12, 10)];
    MeterModFailedUnknown "OFPMMFC_UNKNOWN" [NONE, of(12, 0), of(12, 0), of(12, 0)];
    MeterModFailedUnknownMeter "OFPMMFC_UNKNOWN_METER" [NONE, of(12, 3), of(12, 3), of(12, 3)];
    TableFeaturesFailedBadCapa "OFPTFFC_BAD_CAPA" [NONE, NONE, NONE, of(13, 6)];
    TableFeaturesFailedBadCommand "OFPTFFC_BAD_COMMAND" [NONE, NONE, NONE, of(13, 9)];
    TableFeaturesFailedBadFeatures "OFPTFFC_BAD_FEATURES" [NONE, NONE, NONE, of(13, 8)];
    TableFeaturesFailedBadMaxEnt "OFPTFFC_BAD_MAX_ENT" [NONE, NONE, NONE, of(13, 7)];
    TableFeaturesFailedBadMetadata "OFPTFFC_BAD_METADATA" [NONE, of(13, 1), of(13, 1), of(13, 1)];
    TableFeaturesFailedBadTable "OFPTFFC_BAD_TABLE" [NONE, of(13, 0), of(13, 0), of(13, 0)];
    TableFeaturesFailedEperm "OFPTFFC_EPERM" [NONE, of(13, 5), of(13, 5), of(13, 5)];
    TableFeaturesFailedTooMany "OFPTFFC_TOO_MANY" [NONE, NONE, NONE, of(13, 10)];
    BadPropertyBadExperimenter "OFPBPC_BAD_EXPERIMENTER" [nx(14, 5), onf(4445), of(14, 5), of(14, 5)];
    BadPropertyBadExpType "OFPBPC_BAD_EXP_TYPE" [nx(14, 6), onf(4446), of(14, 6), of(14, 6)];
    BadPropertyBadExpValue "OFPBPC_BAD_EXP_VALUE" [nx(14, 7), onf(4447), of(14, 7), of(14, 7)];
    BadPropertyBadLen "OFPBPC_BAD_LEN" [nx(13, 3), of(13, 3), of(14, 1), of(14, 1)];
    BadPropertyBadType "OFPBPC_BAD_TYPE" [nx(13, 2), of(13, 2), of(14, 0), of(14, 0)];
    BadPropertyBadValue "OFPBPC_BAD_VALUE" [nx(13, 4), of(13, 4), of(14, 2), of(14, 2)];
    BadPropertyDupType "OFPBPC_DUP_TYPE" [nx(14, 4), onf(4444), of(14, 4), of(14, 4)];
    BadPropertyEperm "OFPBPC_EPERM" [nx(14, 8), onf(4448), of(14, 8), of(14, 8)];
    BadPropertyTooMany "OFPBPC_TOO_MANY" [nx(14, 3), onf(4443), of(14, 3), of(14, 3)];
    AsyncConfigFailedEperm "OFPACFC_EPERM" [NONE, onf(2372), of(15, 2), of(15, 2)];
    AsyncConfigFailedInvalid "OFPACFC_INVALID" [NONE, onf(2370), of(15, 0), of(15, 0)];
    AsyncConfigFailedUnsupported "OFPACFC_UNSUPPORTED" [NONE, onf(2371), of(15, 1), of(15, 1)];
    FlowMonitorFailedBadCommand "OFPMOFC_BAD_COMMAND" [NONE, NONE, of(16, 4), of(16, 4)];
    FlowMonitorFailedBadFlags "OFPMOFC_BAD_FLAGS" [nx(1, 518), nx(7, 0), of(16, 5), of(16, 5)];
    FlowMonitorFailedBadOut "OFPMOFC_BAD_OUT" [NONE, NONE, of(16, 7), of(16, 7)];
    FlowMonitorFailedBadTableId "OFPMOFC_BAD_TABLE_ID" [NONE, NONE, of(16, 6), of(16, 6)];
    FlowMonitorFailedInvalidMonitor "OFPMOFC_INVALID_MONITOR" [NONE, NONE, of(16, 2), of(16, 2)];
    FlowMonitorFailedMonitorExists "OFPMOFC_MONITOR_EXISTS" [nx(1, 517), nx(6, 0), of(16, 1), of(16, 1)];
    FlowMonitorFailedUnknown "OFPMOFC_UNKNOWN" [NONE, NONE, of(16, 0), of(16, 0)];
    FlowMonitorFailedUnknownMonitor "OFPMOFC_UNKNOWN_MONITOR" [nx(1, 519), nx(8, 0), of(16, 3), of(16, 3)];
    BundleFailedBadFlags "OFPBFC_BAD_FLAGS" [NONE, onf(2307), of(17, 7), of(17, 7)];
    BundleFailedBadId "OFPBFC_BAD_ID" [NONE, onf(2302), of(17, 2), of(17, 2)];
    BundleFailedBadType "OFPBFC_BAD_TYPE" [NONE, onf(2306), of(17, 6), of(17, 6)];
    BundleFailedBadVersion "OFPBFC_BAD_VERSION" [NONE, NONE, nx(22, 0), nx(22, 0)];
    BundleFailedBundleClosed "OFPBFC_BUNDLE_CLOSED" [NONE, onf(2304), of(17, 4), of(17, 4)];
    BundleFailedBundleExist "OFPBFC_BUNDLE_EXIST" [NONE, onf(2303), of(17, 3), of(17, 3)];
    BundleFailedBundleInProgress "OFPBFC_BUNDLE_IN_PROGRESS" [NONE, onf(2315), of(17, 15), of(17, 15)];
    BundleFailedEperm "OFPBFC_EPERM" [NONE, onf(2301), of(17, 1), of(17, 1)];
    BundleFailedMsgBadLen "OFPBFC_MSG_BAD_LEN" [NONE, onf(2308), of(17, 8), of(17, 8)];
    BundleFailedMsgBadXid "OFPBFC_MSG_BAD_XID" [NONE, onf(2309), of(17, 9), of(17, 9)];
    BundleFailedMsgConflict "OFPBFC_MSG_CONFLICT" [NONE, onf(2311), of(17, 11), of(17, 11)];
    BundleFailedMsgFailed "OFPBFC_MSG_FAILED" [NONE, onf(2313), of(17, 13), of(17, 13)];
    BundleFailedMsgTooMany "OFPBFC_MSG_TOO_MANY" [NONE, onf(2312), of(17, 12), of(17, 12)];
    BundleFailedMsgUnsup "OFPBFC_MSG_UNSUP" [NONE, onf(2310), of(17, 10), of(17, 10)];
    BundleFailedOutOfBundles "OFPBFC_OUT_OF_BUNDLES" [NONE, onf(2305), of(17, 5), of(17, 5)];
    BundleFailedSchedFuture "OFPBFC_SCHED_FUTURE" [NONE, NONE, NONE, of(17, 17)];
    BundleFailedSchedNotSupported "OFPBFC_SCHED_NOT_SUPPORTED" [NONE, NONE, NONE, of(17, 16)];
    BundleFailedSchedPast "OFPBFC_SCHED_PAST" [NONE, NONE, NONE, of(17, 18)];
    BundleFailedTimeout "OFPBFC_TIMEOUT" [NONE, onf(2314), of(17, 14), of(17, 14)];
    BundleFailedUnknown "OFPBFC_UNKNOWN" [NONE, onf(2300), of(17, 0), of(17, 0)];
    NxBadRequestBadReason "NXBRC_BAD_REASON" [nx(1, 516), nx(5, 0), nx(5, 0), nx(5, 0)];
    NxBadRequestFmBadEvent "NXBRC_FM_BAD_EVENT" [nx(1, 520), nx(9, 0), nx(9, 0), nx(9, 0)];
    NxBadRequestMustBeZero "NXBRC_MUST_BE_ZERO" [nx(1, 515), nx(4, 0), nx(4, 0), nx(4, 0)];
    NxBadRequestNxmBadType "NXBRC_NXM_BAD_TYPE" [nx(1, 257), nx(3, 0), nx(3, 0), nx(3, 0)];
    NxBadRequestNxmInvalid "NXBRC_NXM_INVALID" [nx(1, 256), nx(2, 0), nx(2, 0), nx(2, 0)];
    NxBadRequestUnencodableError "NXBRC_UNENCODABLE_ERROR" [nx(1, 521), nx(10, 0), nx(10, 0), nx(10, 0)];
    NxBadMatchCtDatapathSupport "NXBMC_CT_DATAPATH_SUPPORT" [nx(1, 264), nx(43, 0), nx(43, 0), nx(43, 0)];
    NxBadActionBadConjunction "NXBAC_BAD_CONJUNCTION" [nx(2, 526), nx(15, 0), nx(15, 0), nx(15, 0)];
    NxBadActionBadEdProp "NXBAC_BAD_ED_PROP" [NONE, nx(41, 0), nx(41, 0), nx(41, 0)];
    NxBadActionBadHeaderType "NXBAC_BAD_HEADER_TYPE" [NONE, nx(39, 0), nx(39, 0), nx(39, 0)];
    NxBadActionCtDatapathSupport "NXBAC_CT_DATAPATH_SUPPORT" [nx(1, 265), nx(42, 0), nx(42, 0), nx(42, 0)];
    NxBadActionMustBeZero "NXBAC_MUST_BE_ZERO" [nx(2, 256), nx(11, 0), nx(11, 0), nx(11, 0)];
    NxBadActionUnknownEdProp "NXBAC_UNKNOWN_ED_PROP" [NONE, nx(40, 0), nx(40, 0), nx(40, 0)];
    NxFlowModFailedBadTableId "NXFMFC_BAD_TABLE_ID" [nx(5, 257), nx(13, 0), nx(13, 0), nx(13, 0)];
    NxFlowModFailedHardware "NXFMFC_HARDWARE" [nx(5, 256), nx(12, 0), nx(12, 0), nx(12, 0)];
    NxFlowModFailedInvalidTlvField "NXFMFC_INVALID_TLV_FIELD" [nx(1, 536), nx(37, 0), nx(37, 0), nx(37, 0)];
    NxNotSupported "NXR_NOT_SUPPORTED" [nx(1, 533), nx(34, 0), nx(34, 0), nx(34, 0)];
    NxStatisticsNotConfigured "NXST_NOT_CONFIGURED" [nx(1, 535), nx(36, 0), nx(36, 0), nx(36, 0)];
    NxTlvTableModFailedAlreadyMapped "NXTTMFC_ALREADY_MAPPED" [nx(1, 531), nx(20, 0), nx(20, 0), nx(20, 0)];
    NxTlvTableModFailedBadCommand "NXTTMFC_BAD_COMMAND" [nx(1, 527), nx(16, 0), nx(16, 0), nx(16, 0)];
    NxTlvTableModFailedBadFieldIdx "NXTTMFC_BAD_FIELD_IDX" [nx(1, 529), nx(18, 0), nx(18, 0), nx(18, 0)];
    NxTlvTableModFailedBadOptLen "NXTTMFC_BAD_OPT_LEN" [nx(1, 528), nx(17, 0), nx(17, 0), nx(17, 0)];
    NxTlvTableModFailedDupEntry "NXTTMFC_DUP_ENTRY" [nx(1, 532), nx(21, 0), nx(21, 0), nx(21, 0)];
    NxTlvTableModFailedInvalidTlvDel "NXTTMFC_INVALID_TLV_DEL" [nx(1, 537), nx(38, 0), nx(38, 0), nx(38, 0)];
    NxTlvTableModFailedTableFull "NXTTMFC_TABLE_FULL" [nx(1, 530), nx(19, 0), nx(19, 0), nx(19, 0)];
    NxTableFeaturesFailedDupTable "NXTFFC_DUP_TABLE" [NONE, nx(44, 0), nx(44, 0), nx(44, 0)];
    NxQueueOpFailedQueueError "NXQOFC_QUEUE_ERROR" [NONE, NONE, nx(23, 0), nx(23, 0)];
}

impl OfError {
    /// The error with this number in a version. Of two with one number the first in the standard's order.
    pub fn from_number(version: OfVersion, number: ErrorNumber) -> Option<OfError> {
        OfError::ALL.iter().copied().find(|e| e.number(version) == Some(number))
    }
}

impl fmt::Display for OfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for OfError {}
