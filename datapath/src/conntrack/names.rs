//! What a connection is called in both directions, in as few bytes as can be: most of what a connection takes is its names.

use super::tuple::{Direction, Tuple};
use std::num::NonZeroU64;

/// The tuples of both directions. Those of IPv4 are 16 bytes each. The reply tuple of IPv6 is kept, and elsewhere, only if it is
/// not the reverse of the original one.
#[derive(Debug)]
pub(super) enum Names {
    V4 { original: [u64; 2], reply: [u64; 2] },
    V6 { original: Long, reply: Option<Box<Tuple>> },
}

/// The words of a tuple, of which the last is not zero if it is one of IPv6, so that telling [`Names`] apart takes no room.
#[derive(Debug)]
pub(super) struct Long([u64; 4], NonZeroU64);

impl Long {
    #[inline]
    fn tuple(&self) -> Tuple {
        let Long([a, b, c, d], last) = *self;
        Tuple::from_words([a, b, c, d, last.get()])
    }
}

impl Names {
    pub fn new(original: &Tuple, reply: &Tuple) -> Names {
        let [a, b, c, d, last] = original.words();
        match NonZeroU64::new(last) {
            Some(last) if original.is_ipv6() => Names::V6 {
                original: Long([a, b, c, d], last),
                reply: (*reply != original.reversed()).then(|| Box::new(*reply)),
            },
            _ => Names::V4 { original: original.words_v4(), reply: reply.words_v4() },
        }
    }

    /// The name of a direction.
    #[inline]
    pub fn of(&self, direction: Direction) -> Tuple {
        match (self, direction) {
            (Names::V4 { original, .. }, Direction::Original) => Tuple::from_words_v4(*original),
            (Names::V4 { reply, .. }, Direction::Reply) => Tuple::from_words_v4(*reply),
            (Names::V6 { original, .. }, Direction::Original) => original.tuple(),
            (Names::V6 { original, reply }, Direction::Reply) => match reply {
                Some(reply) => **reply,
                None => original.tuple().reversed(),
            },
        }
    }

    /// Whether that is the name of a direction.
    #[inline]
    pub fn is(&self, direction: Direction, tuple: &Tuple) -> bool {
        match (self, direction) {
            // The last word says that it is one of IPv4.
            (Names::V4 { original, .. }, Direction::Original) => tuple.words_v4() == *original,
            (Names::V4 { reply, .. }, Direction::Reply) => tuple.words_v4() == *reply,
            (Names::V6 { .. }, _) => self.of(direction) == *tuple,
        }
    }

    /// The direction that a tuple names, the original one if it names both.
    #[inline]
    pub fn direction_of(&self, tuple: &Tuple) -> Option<Direction> {
        let directions = [Direction::Original, Direction::Reply];
        directions.into_iter().find(|direction| self.is(*direction, tuple))
    }

    /// IP protocol.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.of(Direction::Original).protocol()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tuple::{TupleFields, Zone};
    use super::*;
    use packet::wire::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP};
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn tuples() -> impl Strategy<Value = Tuple> {
        let address = |is_ipv6: bool| -> BoxedStrategy<IpAddr> {
            match is_ipv6 {
                true => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
                false => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
            }
        };
        let ends = any::<bool>().prop_flat_map(move |is_ipv6| (address(is_ipv6), address(is_ipv6)));
        let protocol = prop_oneof![any::<u8>(), Just(PROTO_TCP), Just(PROTO_ICMP), Just(PROTO_ICMPV6)];
        (ends, any::<(u16, u16, u16)>(), protocol).prop_map(|((src, dst), (zone, from, to), protocol)| {
            let (src_port, dst_port) = (from, to);
            Tuple::new(TupleFields { zone: Zone(zone), protocol, src, dst, src_port, dst_port })
        })
    }

    proptest! {
        /// Whatever is kept of tuples and however: they come out as they went in, and nothing else is taken for them.
        #[test]
        fn names_are_the_tuples_that_they_were_made_of(
            original in tuples(),
            other in tuples(),
            bit in 0usize..320,
        ) {
            let same_family = original.is_ipv6() == other.is_ipv6();
            let replies = [Some(original.reversed()), Some(original), same_family.then_some(other)];
            for reply in replies.into_iter().flatten() {
                let names = Names::new(&original, &reply);
                prop_assert_eq!(names.of(Direction::Original), original);
                prop_assert_eq!(names.of(Direction::Reply), reply);
                prop_assert_eq!(names.protocol(), original.protocol());
                prop_assert_eq!(names.direction_of(&original), Some(Direction::Original));
                if reply != original {
                    prop_assert_eq!(names.direction_of(&reply), Some(Direction::Reply));
                }
                let mut words = original.words();
                words[bit / 64] ^= 1 << (bit % 64);
                let near = Tuple::from_words(words);
                let is_tuple = near.is_ipv6() || near.src_number().max(near.dst_number()) <= u128::from(u32::MAX);
                if is_tuple && near != reply {
                    prop_assert_eq!(names.direction_of(&near), None);
                }
            }
        }
    }
}
