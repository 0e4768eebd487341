//! Hashes of passwords: Argon2id (RFC 9106) in the form of PHC, and bcrypt.
//!
//! What a hash costs is written in it, so that a configuration could make each caller cost seconds or gigabytes: what costs more than
//! [`MOST_MEMORY`], [`MOST_WORK`] or [`MOST_ROUNDS`] is refused when it is read.

use core::{error::Error, fmt};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::encoding::Base64;

/// The most memory of one check with Argon2, in KiB.
pub const MOST_MEMORY: u32 = 128 << 10;
/// The most memory times passes of one check with Argon2, in KiB: about half a second.
pub const MOST_WORK: u64 = 512 << 10;
/// The most lanes of Argon2. They are gone over one after another.
pub const MOST_LANES: u32 = 16;
/// The highest cost of bcrypt, the power of two of its rounds: about half a second.
pub const MOST_ROUNDS: u32 = 13;
/// The longest password that bcrypt looks at whole, in octets. A longer one is never right.
pub const BCRYPT_OCTETS: usize = 72;

/// A hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Argon2id { params: Params, salt: Vec<u8>, hash: Vec<u8> },
    Bcrypt { cost: u32, salt: [u8; 16], hash: [u8; 23] },
}

impl PasswordHash {
    /// Reads a hash; nothing when the text has not the form of any, so that it is a password itself.
    ///
    /// # Errors
    /// [`BadHash`] when it begins as a hash does and is none that is offered.
    pub fn parse(text: &str) -> Result<Option<Self>, BadHash> {
        if text.starts_with("$argon2") {
            return argon2id(text).map(Self).map(Some);
        }
        match text.as_bytes() {
            [b'$', b'2', b'a' | b'b' | b'y', b'$', rest @ ..] => bcrypt_form(rest).map(Self).map(Some),
            [b'$', b'2', b'x' | b'$', ..] => Err(BadHash::Kind),
            _ => Ok(None),
        }
    }

    /// Returns whether a password has this hash. It takes up to half a second and [`MOST_MEMORY`]: a thread that serves others must not wait for it.
    pub fn verify(&self, password: &[u8]) -> bool {
        match &self.0 {
            Kind::Argon2id { params, salt, hash } => {
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                let mut made = vec![0; hash.len()];
                let hashed = argon2.hash_password_into(password, salt, &mut made);
                hashed.is_ok() && verify_slices_are_equal(&made, hash).is_ok()
            }
            Kind::Bcrypt { cost, salt, hash } => {
                let mut key = password.to_vec();
                key.push(0);
                key.truncate(BCRYPT_OCTETS);
                let [made @ .., _] = bcrypt::bcrypt(*cost, *salt, &key);
                // Who knows the first 72 octets of a longer password does not know the password.
                verify_slices_are_equal(&made, hash).is_ok() && password.len() <= BCRYPT_OCTETS
            }
        }
    }

    /// Returns about how many microseconds a check takes, to compare two of them.
    pub(super) fn cost(&self) -> u64 {
        match &self.0 {
            Kind::Argon2id { params, .. } => u64::from(params.m_cost()) * u64::from(params.t_cost()),
            Kind::Bcrypt { cost, .. } => 60 << cost,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Argon2id { .. } => "PasswordHash(argon2id)",
            Kind::Bcrypt { .. } => "PasswordHash(bcrypt)",
        })
    }
}

fn argon2id(text: &str) -> Result<Kind, BadHash> {
    let [_, kind, version, cost, salt, hash] = fields(text).ok_or(BadHash::Form)?;
    if kind != "argon2id" || version != "v=19" {
        return Err(BadHash::Kind);
    }
    let mut numbers = cost.split(',').zip(["m=", "t=", "p="]).map(|(part, key)| part.strip_prefix(key)?.parse().ok());
    let mut number = || -> Option<u32> { numbers.next()? };
    let (memory, passes, lanes) = (number(), number(), number());
    if cost.split(',').count() != 3 {
        return Err(BadHash::Form);
    }
    let (Some(memory), Some(passes), Some(lanes)) = (memory, passes, lanes) else { return Err(BadHash::Form) };
    if memory > MOST_MEMORY || u64::from(memory) * u64::from(passes) > MOST_WORK || lanes > MOST_LANES {
        return Err(BadHash::Costly);
    }
    let decode = |text: &str, least: usize| {
        Base64::Bare.decode(text.as_bytes()).filter(|octets| (least..=64).contains(&octets.len())).ok_or(BadHash::Form)
    };
    let (salt, hash) = (decode(salt, 8)?, decode(hash, 16)?);
    let params = Params::new(memory, passes, lanes, Some(hash.len())).map_err(|_| BadHash::Form)?;
    Ok(Kind::Argon2id { params, salt, hash })
}

fn fields<const N: usize>(text: &str) -> Option<[&str; N]> {
    let parts: Vec<&str> = text.split('$').collect();
    parts.try_into().ok()
}

/// Reads what follows the version: two digits of cost, and salt and hash in digits of bcrypt's own.
fn bcrypt_form(rest: &[u8]) -> Result<Kind, BadHash> {
    let [tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'$', digits @ ..] = rest else { return Err(BadHash::Form) };
    let cost = u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
    if cost > MOST_ROUNDS {
        return Err(BadHash::Costly);
    }
    let (salt, hash) = digits.split_at_checked(22).ok_or(BadHash::Form)?;
    let (salt, hash) = (bcrypt_base64(salt), bcrypt_base64(hash));
    match (salt.and_then(|salt| salt.try_into().ok()), hash.and_then(|hash| hash.try_into().ok())) {
        (Some(salt), Some(hash)) if cost >= 4 => Ok(Kind::Bcrypt { cost, salt, hash }),
        _ => Err(BadHash::Form),
    }
}

/// Bcrypt has the digits of base64 in another order. Bits beyond the last octet are ignored, as its tools write them in several ways.
fn bcrypt_base64(text: &[u8]) -> Option<Vec<u8>> {
    let value = |digit: u8| {
        Some(u32::from(match digit {
            b'.' => 0,
            b'/' => 1,
            b'A'..=b'Z' => digit - b'A' + 2,
            b'a'..=b'z' => digit - b'a' + 28,
            b'0'..=b'9' => digit - b'0' + 54,
            _ => return None,
        }))
    };
    let mut octets = Vec::with_capacity(24);
    for group in text.chunks(4) {
        let mut bits = 0;
        for place in 0..4 {
            bits = bits << 6 | group.get(place).map_or(Some(0), |digit| value(*digit))?;
        }
        let [_, triple @ ..] = u32::to_be_bytes(bits);
        octets.extend(triple.iter().take(group.len() - 1));
    }
    Some(octets)
}

/// Why a text that begins as a hash is refused. The text itself is never told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHash {
    /// It is of a kind that is not offered.
    Kind,
    /// It is not of the form of its kind.
    Form,
    /// A check would cost too much.
    Costly,
}

impl fmt::Display for BadHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("a hash of a password that is neither `$argon2id$v=19$…` nor `$2b$…`"),
            Self::Form => f.write_str("a hash of a password that is cut or misspelt"),
            Self::Costly => write!(
                f,
                "a hash that costs more than is allowed: Argon2 up to m={MOST_MEMORY}, m times t {MOST_WORK} and p={MOST_LANES}, bcrypt up to {MOST_ROUNDS}"
            ),
        }
    }
}

impl Error for BadHash {}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$";

    fn hash(text: &str) -> PasswordHash {
        PasswordHash::parse(text).unwrap().unwrap()
    }

    #[test]
    fn argon2id_is_that_of_its_reference() {
        // Made with the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1`.
        let made = hash("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc");

        assert!(made.verify(b"password"));
        assert!(!made.verify(b"passwore") && !made.verify(b"") && !made.verify(b"password\0"));
    }

    #[test]
    fn bcrypt_is_that_of_its_reference() {
        // Of the test vectors of jBCrypt and OpenBSD.
        let vectors = [
            ("a", "$2a$06$m0CrhHm10qJ3lXRY.5zDGO3rS2KdeeWLuGmsfGlMfOxih58VYVfxe"),
            ("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"),
            ("abcdefghijklmnopqrstuvwxyz", "$2a$06$.rCVZVOThsIa97pEDOxvGuRRgzG64bvtJ0938xuqzv18d3ZpQhstC"),
        ];
        for (password, text) in vectors {
            for version in ["$2a$", "$2b$", "$2y$"] {
                assert!(hash(&text.replace("$2a$", version)).verify(password.as_bytes()), "{text}");
            }
            assert!(!hash(text).verify(format!("{password}x").as_bytes()));
        }
    }

    #[test]
    fn bcrypt_does_not_take_the_beginning_of_a_password_for_the_whole() {
        let long = [b'x'; 73];
        let salt = [7; 16];
        let [made @ .., _] = bcrypt::bcrypt(4, salt, &long[..72]);
        let hash = PasswordHash(Kind::Bcrypt { cost: 4, salt, hash: made });

        assert!(hash.verify(&long[..72]));
        assert!(!hash.verify(&long) && !hash.verify(&long[..71]));
    }

    #[test]
    fn what_does_not_begin_as_a_hash_is_a_password() {
        for text in ["", "secret", "$", "$1$abc", "argon2id$", "$2", "$2z$", "2b$"] {
            assert_eq!(PasswordHash::parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn what_begins_as_a_hash_and_is_none_is_refused() {
        let hash = "AAAAAAAAAAAAAAAAAAAAAA";
        assert!(PasswordHash::parse(&format!("{ARGON2}{hash}")).is_ok());
        for (text, why) in [
            ("$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA".into(), BadHash::Kind),
            (format!("{ARGON2}{hash}").replace("v=19", "v=16"), BadHash::Kind),
            ("$2x$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i".into(), BadHash::Kind),
            ("$argon2id$".into(), BadHash::Form),
            ("$2b$".into(), BadHash::Form),
            (format!("{ARGON2}{hash}$"), BadHash::Form),
            (format!("{ARGON2}AAAA"), BadHash::Form),
            (format!("{ARGON2}{hash}=="), BadHash::Form),
            (format!("{ARGON2}{hash}").replace(",p=1", ""), BadHash::Form),
            (format!("{ARGON2}{hash}").replace("p=1", "p=1,x=1"), BadHash::Form),
            (format!("{ARGON2}{hash}").replace("m=64", "m=-64"), BadHash::Form),
            (format!("{ARGON2}{hash}").replace("t=1", "t=0"), BadHash::Form),
            ("$2b$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0".into(), BadHash::Form),
            ("$2b$03$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i".into(), BadHash::Form),
        ] {
            assert_eq!(PasswordHash::parse(&text), Err(why), "{text}");
        }
    }

    #[test]
    fn what_costs_more_than_the_bound_is_refused_and_the_bound_is_not() {
        let with =
            |cost: &str| PasswordHash::parse(&format!("$argon2id$v=19${cost}$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"));
        for cost in ["m=131072,t=4,p=1", "m=64,t=8192,p=1", "m=128,t=1,p=16"] {
            assert!(with(cost).is_ok(), "{cost}");
        }
        for cost in [
            "m=131073,t=1,p=1",
            "m=131072,t=5,p=1",
            "m=64,t=8193,p=1",
            "m=136,t=1,p=17",
            "m=4294967295,t=4294967295,p=1",
        ] {
            assert_eq!(with(cost), Err(BadHash::Costly), "{cost}");
        }
        let with = |cost: &str| {
            PasswordHash::parse(&format!("$2b${cost}$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i"))
        };
        assert!(with("13").is_ok());
        assert_eq!((with("14"), with("99")), (Err(BadHash::Costly), Err(BadHash::Costly)));
    }

    #[test]
    fn nothing_of_a_hash_is_shown() {
        let text = format!("{ARGON2}AAAAAAAAAAAAAAAAAAAAAA");

        assert_eq!(format!("{:?}", hash(&text)), "PasswordHash(argon2id)");
        assert!(!BadHash::Costly.to_string().contains("c29t"));
    }
}
