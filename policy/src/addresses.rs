//! Sets of IP addresses, as a policy lists them.
//!
//! An IPv4 address that is written or seen as an IPv6 one (`::ffff:10.0.0.1`, RFC 4291 section 2.5.5.2) is the IPv4 address: a
//! socket that listens for both families sees callers so, and a rule for `10.0.0.0/8` means them.

use core::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// The most entries of one set.
pub const MAX_ENTRIES: usize = 200_000;

/// The addresses of a list of addresses and networks. Looking one up takes the logarithm of their number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    four: Box<[(u32, u32)]>,
    six: Box<[(u128, u128)]>,
    /// The networks as they are listed, sorted: looked at only to name one.
    listed_four: Box<[(u32, u32)]>,
    listed_six: Box<[(u128, u128)]>,
}

impl Addresses {
    /// Reads a list: addresses (`10.1.2.3`, `2001:db8::1`) and networks (`10.0.0.0/8`, `2001:db8::/32`) in any order, which may
    /// overlap. Bits beyond a network's prefix mean nothing: `10.1.2.3/8` is `10.0.0.0/8`.
    ///
    /// # Errors
    /// [`BadAddress`]: the first entry that is neither, or one too many.
    pub fn parse<T: AsRef<str>>(entries: &[T]) -> Result<Self, BadAddress> {
        if entries.len() > MAX_ENTRIES {
            return Err(BadAddress { entry: MAX_ENTRIES, text: String::new(), why: Why::TooMany });
        }
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for (entry, text) in entries.iter().map(AsRef::as_ref).enumerate() {
            let network = text.parse().map_err(|why| BadAddress { entry, text: shortened(text), why })?;
            match network {
                Network::Four(first, last) => four.push((first, last)),
                Network::Six(first, last) => six.push((first, last)),
            }
        }
        four.sort_unstable();
        six.sort_unstable();
        let (listed_four, listed_six) = (four.clone().into(), six.clone().into());
        let (four, six) = (disjoint(four, u32::checked_add), disjoint(six, u128::checked_add));
        Ok(Self { four, six, listed_four, listed_six })
    }

    /// Returns the smallest network of the list that has an address, as `10.0.0.0/8`.
    pub fn network(&self, address: IpAddr) -> Option<String> {
        match address.to_canonical() {
            IpAddr::V4(address) => (0..=32).rev().find_map(|prefix| {
                let rest = u32::MAX.checked_shr(prefix).unwrap_or(0);
                let first = address.to_bits() & !rest;
                self.listed_four.binary_search(&(first, first | rest)).ok()?;
                Some(format!("{}/{prefix}", Ipv4Addr::from_bits(first)))
            }),
            IpAddr::V6(address) => (0..=128).rev().find_map(|prefix| {
                let rest = u128::MAX.checked_shr(prefix).unwrap_or(0);
                let first = address.to_bits() & !rest;
                self.listed_six.binary_search(&(first, first | rest)).ok()?;
                Some(format!("{}/{prefix}", Ipv6Addr::from_bits(first)))
            }),
        }
    }

    /// Returns whether an address is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.four, address.to_bits()),
            IpAddr::V6(address) => holds(&self.six, address.to_bits()),
        }
    }

    /// Returns whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.four.is_empty() && self.six.is_empty()
    }
}

/// Returns whether one entry of a list means an address; nothing when it is no entry.
pub(crate) fn means(entry: &str, address: IpAddr) -> Option<bool> {
    let network = entry.parse().ok()?;
    Some(match (network, address.to_canonical()) {
        (Network::Four(first, last), IpAddr::V4(address)) => (first..=last).contains(&address.to_bits()),
        (Network::Six(first, last), IpAddr::V6(address)) => (first..=last).contains(&address.to_bits()),
        (Network::Four(..), IpAddr::V6(_)) | (Network::Six(..), IpAddr::V4(_)) => false,
    })
}

/// Sorts ranges and joins those that touch.
fn disjoint<T: Ord + Copy + From<u8>>(mut ranges: Vec<(T, T)>, add: fn(T, T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            // After the highest address there is none to begin at.
            Some((_, end)) if add(*end, T::from(1)).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined.into()
}

fn holds<T: Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

/// One entry: the first and the last address.
enum Network {
    Four(u32, u32),
    Six(u128, u128),
}

impl FromStr for Network {
    type Err = Why;

    fn from_str(text: &str) -> Result<Self, Why> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| Why::NoAddress)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) => length(digits).filter(|prefix| *prefix <= most).ok_or(Why::NoPrefix(most))?,
        };
        match (address, address.to_canonical()) {
            // A prefix within the 96 bits that mark a mapped address names more than IPv4.
            (IpAddr::V6(_), IpAddr::V4(mapped)) if prefix >= 96 => Ok(four(mapped, prefix - 96)),
            (IpAddr::V4(address), _) => Ok(four(address, prefix)),
            (IpAddr::V6(address), _) => Ok(six(address, prefix)),
        }
    }
}

/// Reads a length of a prefix: digits alone, and no other way to write the same.
fn length(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain)
}

fn four(address: Ipv4Addr, prefix: u32) -> Network {
    let rest = u32::MAX.checked_shr(prefix).unwrap_or(0);
    Network::Four(address.to_bits() & !rest, address.to_bits() | rest)
}

fn six(address: Ipv6Addr, prefix: u32) -> Network {
    let rest = u128::MAX.checked_shr(prefix).unwrap_or(0);
    Network::Six(address.to_bits() & !rest, address.to_bits() | rest)
}

/// An entry that is no address and no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress {
    /// Its place in the list, counted from 0.
    pub entry: usize,
    text: String,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NoAddress,
    NoPrefix(u32),
    TooMany,
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.why {
            Why::NoAddress => {
                write!(f, "`{text}` is no IP address and no network; write `10.1.2.3`, `10.0.0.0/8` or `2001:db8::/32`")
            }
            Why::NoPrefix(most) => write!(f, "the prefix of `{text}` is no number from 0 to {most}"),
            Why::TooMany => write!(f, "there are more than {MAX_ENTRIES} addresses; join neighbours to networks"),
        }
    }
}

impl Error for BadAddress {}

/// Returns as much of a text as belongs in a message.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(entries: &[&str]) -> Addresses {
        Addresses::parse(entries).unwrap()
    }

    fn has(entries: &[&str], address: &str) -> bool {
        set(entries).contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_holds_its_first_and_last_address_and_no_neighbour() {
        let expected = [("9.255.255.255", false), ("10.0.0.0", true), ("10.255.255.255", true), ("11.0.0.0", false)];
        for (address, is_in) in expected {
            assert_eq!(has(&["10.0.0.0/8"], address), is_in, "{address}");
        }
        let expected = [("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false), ("2001:db8::", true), ("2001:db9::", false)];
        for (address, is_in) in expected {
            assert_eq!(has(&["2001:db8::/32"], address), is_in, "{address}");
        }
        assert!(has(&["2001:db8::/32"], "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
    }

    #[test]
    fn an_address_is_a_network_of_one() {
        assert!(has(&["10.1.2.3"], "10.1.2.3") && has(&["10.1.2.3/32"], "10.1.2.3") && has(&["::1"], "::1"));
        assert!(!has(&["10.1.2.3"], "10.1.2.4") && !has(&["::1"], "::2"));
    }

    #[test]
    fn a_mapped_address_is_the_one_that_it_maps() {
        assert!(has(&["10.0.0.0/8"], "::ffff:10.1.2.3"));
        assert!(has(&["::ffff:10.0.0.0/104"], "10.1.2.3") && !has(&["::ffff:10.0.0.0/104"], "11.0.0.0"));
        assert!(has(&["::ffff:10.1.2.3"], "10.1.2.3"));
        assert!(!has(&["::10.1.2.3"], "10.1.2.3")); // of another, older kind (RFC 4291, 2.5.5.1)
    }

    #[test]
    fn all_of_one_family_is_nothing_of_the_other() {
        assert!(
            has(&["0.0.0.0/0"], "255.255.255.255") && has(&["0.0.0.0/0"], "0.0.0.0") && !has(&["0.0.0.0/0"], "::1")
        );
        assert!(has(&["::/0"], "::") && !has(&["::/0"], "10.1.2.3") && !has(&["::/0"], "::ffff:10.1.2.3"));
        assert!(has(&["::/0"], "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
    }

    #[test]
    fn bits_beyond_the_prefix_mean_nothing() {
        assert_eq!(set(&["10.1.2.3/8"]), set(&["10.0.0.0/8"]));
    }

    #[test]
    fn what_overlaps_or_touches_is_one_range() {
        let joined =
            set(&["10.0.0.128/25", "10.0.0.0/25", "10.0.0.7", "10.0.1.0/24", "255.255.255.255", "255.255.255.254/31"]);

        assert_eq!(joined.four.len(), 2);
        assert_eq!(joined.four, set(&["10.0.0.0/23", "255.255.255.254/31"]).four);
    }

    #[test]
    fn what_is_no_address_is_named_with_its_place() {
        for text in ["", "10.0.0", "010.0.0.1", "10.0.0.1 ", "localhost", "fe80::1%eth0", "/8", "10.0.0.0-10.0.0.9"] {
            let bad = Addresses::parse(&["::1", text]).unwrap_err();
            assert_eq!((bad.entry, bad.why), (1, Why::NoAddress), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/8/8", "::/129"]
        {
            let bad = Addresses::parse(&[text]).unwrap_err();
            assert!(matches!(bad.why, Why::NoPrefix(_)), "{text}");
        }
        let bad = Addresses::parse(&["10.0.0.0/33"]).unwrap_err();
        assert_eq!(bad.to_string(), "the prefix of `10.0.0.0/33` is no number from 0 to 32");
    }

    #[test]
    fn a_list_is_no_longer_than_the_limit() {
        let mut entries = vec!["10.0.0.0/8"; MAX_ENTRIES];
        assert!(Addresses::parse(&entries).is_ok());

        entries.push("10.0.0.0/8");
        assert_eq!(Addresses::parse(&entries).unwrap_err().why, Why::TooMany);
    }

    #[test]
    fn a_message_holds_only_the_beginning_of_a_long_text() {
        let bad = Addresses::parse(&["x".repeat(1_000)]).unwrap_err();

        assert!(bad.to_string().len() < 200);
    }

    #[test]
    fn nothing_is_in_an_empty_set() {
        let empty = set(&[]);

        assert!(empty.is_empty() && !empty.contains("10.0.0.1".parse().unwrap()));
        assert!(!set(&["::1"]).is_empty());
    }

    proptest! {
        /// A set holds what one of its entries holds, however they overlap.
        #[test]
        fn a_set_holds_what_its_entries_hold(
            networks in prop::collection::vec((any::<u32>(), 0..=32_u32), 0..40),
            address: u32,
            near in 0..40_usize,
        ) {
            let entries: Vec<String> =
                networks.iter().map(|(bits, prefix)| format!("{}/{prefix}", Ipv4Addr::from_bits(*bits))).collect();
            let set = Addresses::parse(&entries).unwrap();
            let close = networks.get(near).map_or(address, |(bits, prefix)| bits ^ (address & 3) ^ (1_u32.rotate_right(*prefix)));

            for address in [address, close] {
                let expected = networks.iter().any(|(bits, prefix)| (bits ^ address).leading_zeros() >= *prefix);
                prop_assert_eq!(set.contains(Ipv4Addr::from_bits(address).into()), expected);
                prop_assert_eq!(set.contains(Ipv4Addr::from_bits(address).to_ipv6_mapped().into()), expected);
            }
        }
    }
}
