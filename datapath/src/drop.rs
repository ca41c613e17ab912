//! Why a frame was dropped: every frame that is not sent ends in exactly one of these, counted per port.

macro_rules! drops {
    ($($(#[$doc:meta])* $variant:ident $name:literal $what:literal;)*) => {
        /// Reason of a drop.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Drop { $($(#[$doc])* $variant),* }

        impl Drop {
            /// Every reason, in the order of their counters.
            pub const ALL: &[Drop] = &[$(Drop::$variant),*];

            /// Name of the counter: stable, lower case with underscores.
            pub const fn name(self) -> &'static str {
                match self { $(Drop::$variant => $name),* }
            }

            /// One line for people.
            pub const fn what(self) -> &'static str {
                match self { $(Drop::$variant => $what),* }
            }
        }
    };
}

drops! {
    /// Shorter than an Ethernet header.
    TooShort "too_short" "frame shorter than an Ethernet header";
    /// Longer than a frame may be.
    TooLong "too_long" "frame longer than the largest frame";
    /// Checksum or segmentation metadata contradicts the headers.
    BadOffload "bad_offload" "offload metadata contradicts the frame";
    /// No bridge has the ingress port.
    NoBridge "no_bridge" "ingress port belongs to no bridge";
    /// The rules say so.
    Rule "rule" "dropped by a rule without output";
    /// No rule matched and the table's miss behaviour is to drop.
    TableMiss "table_miss" "no rule matched";
    /// The only output would have been the ingress port.
    NoAction "no_action" "no port to send to";
    /// NORMAL: VLAN of the frame is not one that the ingress port carries.
    BadVlan "bad_vlan" "VLAN not carried by the ingress port";
    /// NORMAL: reserved multicast destination (IEEE 802.1D, 01:80:c2:00:00:0x).
    ReservedMulticast "reserved_multicast" "reserved multicast destination";
    /// NORMAL: received on a member of a bond other than the one that it forwards on.
    BackupMember "backup_member" "received on a bond's member that is only in reserve";
    /// The ingress port is set not to receive.
    PortNoReceive "port_no_receive" "ingress port does not receive";
    /// IP fragments are set to be dropped.
    Fragment "fragment" "fragment, and fragments are not let in";
    /// The pipeline nested or resubmitted too deeply.
    TooDeep "too_deep" "too many resubmits, or too deep";
    /// Too many recirculations of one frame.
    Recirculation "recirculation" "too many recirculations, or unknown recirculation id";
    /// The miss budget of the ingress port is used up.
    MissCredit "miss_credit" "ingress port has used up its flow set-up budget";
    /// TTL expired.
    TtlExceeded "ttl_exceeded" "TTL or hop limit expired";
    /// Rules name a port that is not there or is off, or a patch without peer. Of the ingress port, as nobody else is there to count.
    NoEgress "no_egress" "output to a port that is not there";
    /// Egress port unknown or gone.
    NoPort "no_port" "egress port is gone";
    /// Egress queue full: the device did not take the frame.
    TxFull "tx_full" "egress device has no room";
    /// Egress device is switched off: nobody is there to miss the frame, such as behind a bridge's own port that is not used.
    TxDown "tx_down" "egress device is switched off";
    /// Egress device failed.
    TxError "tx_error" "egress device failed";
    /// Larger than the egress device takes.
    TxTooBig "tx_too_big" "frame larger than the egress device takes";
    /// The queue to the slow path is full.
    UpcallFull "upcall_full" "queue to the controller is full";
    /// A header could not be written: no room or no such header.
    Rewrite "rewrite" "header rewrite impossible";
    /// Beyond the rate of a meter.
    Meter "meter" "beyond the rate of a meter";
    /// The frame was only for the controller.
    Consumed "consumed" "consumed by the controller";
    /// No tunnel interface lets the packet in: none has its key and addresses.
    NoTunnel "no_tunnel" "no tunnel interface for the packet's key and addresses";
    /// The outer headers of a tunnel packet are malformed, or not of the tunnel's protocol.
    BadTunnel "bad_tunnel" "malformed tunnel packet";
    /// The packet does not fit the tunnel; its sender was told so.
    TunnelTooBig "tunnel_too_big" "packet larger than the tunnel takes";
    /// There is no route to the other end of the tunnel, or its addresses are not given.
    NoRoute "no_route" "no route to the other end of the tunnel";
    /// The Ethernet address of the other end of the tunnel, or of the router to it, is not known; it was asked for.
    NoNeighbour "no_neighbour" "neighbour on the way to the other end of the tunnel not known yet";
    /// Reassembly: a fragment overlaps another with other bytes or another end, and with it goes the whole datagram.
    FragmentOverlap "fragment_overlap" "fragments of the packet overlap or contradict each other";
    /// Reassembly: the same fragment is held already.
    FragmentDuplicate "fragment_duplicate" "fragment came twice";
    /// Reassembly: the other fragments did not come in time.
    FragmentTimeout "fragment_timeout" "other fragments of the packet did not come in time";
    /// Reassembly: the port or the source holds too many fragments.
    FragmentLimit "fragment_limit" "too many fragments are held";
    /// Reassembly: less than the least size, or a first fragment without its whole transport header.
    FragmentTooSmall "fragment_too_small" "fragment is too small, or cuts the transport header";
    /// Reassembly: the packet would be longer than a packet may be.
    FragmentTooLong "fragment_too_long" "packet put together would be too long";
    /// Reassembly: header checksum wrong, or a length that no fragment has.
    FragmentMalformed "fragment_malformed" "fragment with a wrong header";
    /// A translation was asked for and no tuple of its range is free.
    NatExhausted "nat_exhausted" "no free address and port to translate to";
    /// A connection was to be made and translated, and a limit is reached.
    CtFull "ct_full" "connection table or zone is full";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_in_order() {
        let names: HashSet<_> = Drop::ALL.iter().map(|d| d.name()).collect();
        assert_eq!(names.len(), Drop::ALL.len());
        for (i, d) in Drop::ALL.iter().enumerate() {
            assert_eq!(*d as usize, i);
        }
    }
}
