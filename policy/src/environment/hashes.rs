//! Hashes of texts: `hash.sha256(text)`, `text.sha256()`, and the same `('base64')`.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};
use md5::Digest as _;

use crate::{
    auth::hex,
    cel::{BadArgument, Call, Fault, Function, Prepared, Type, Value, base64},
};

/// Declares the hashes under both of their names.
pub(super) fn functions() -> Vec<Function> {
    let mut functions = Vec::new();
    functions.extend(named::<Crc32>("crc32"));
    functions.extend(named::<Crc64>("crc64"));
    functions.extend(named::<Md5>("md5"));
    functions.extend(named::<Sha1>("sha1"));
    functions.extend(named::<Sha256>("sha256"));
    functions.extend(named::<Sha512>("sha512"));
    functions.extend(named::<Xxhash64>("xxhash64"));
    functions
}

fn named<H: Hash>(name: &str) -> [Function; 4] {
    const S: Type = Type::STRING;
    let global = format!("hash.{name}");
    [
        Function::global(&global, &[S], S, hash::<H>).constant(),
        Function::global(&global, &[S, S], S, hash::<H>).constant().prepare(known_format),
        Function::member(name, &[S], S, hash::<H>).constant(),
        Function::member(name, &[S, S], S, hash::<H>).constant().prepare(known_format),
    ]
}

/// Refuses a format that is a constant and none.
fn known_format(known: &[Option<Value<'static>>]) -> Result<Option<Box<dyn Prepared>>, BadArgument> {
    match known {
        [_, Some(Value::String(format))] if !matches!(&**format, "hex" | "base64") => {
            Err(BadArgument { argument: 1, what: "the format of a hash is `hex` or `base64`".into() })
        }
        _ => Ok(None),
    }
}

fn hash<'a, H: Hash>(call: &mut Call<'_, 'a>) -> Result<Value<'a>, Fault> {
    let (text, format) = match call.arguments {
        [Value::String(text)] => (text, "hex"),
        [Value::String(text), Value::String(format)] => (text, &**format),
        _ => return Err(Fault::NoSuchOverload),
    };
    let write = match format {
        "hex" => hex,
        "base64" => base64,
        _ => return Err(Fault::Invalid("the format of a hash is `hex` or `base64`")),
    };
    call.budget.look(text.len().saturating_mul(H::COST))?;
    let hashed = write(&H::of(text.as_bytes()));
    call.budget.make(hashed.len())?;
    Ok(hashed.into())
}

/// A hash.
trait Hash {
    /// How much longer an octet takes than to look at it.
    const COST: usize = 2;

    fn of(octets: &[u8]) -> Vec<u8>;
}

struct Sha1;
struct Sha256;
struct Sha512;
struct Md5;
struct Crc32;
struct Crc64;
struct Xxhash64;

impl Hash for Sha1 {
    fn of(octets: &[u8]) -> Vec<u8> {
        digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref().into()
    }
}

impl Hash for Sha256 {
    fn of(octets: &[u8]) -> Vec<u8> {
        digest(&SHA256, octets).as_ref().into()
    }
}

impl Hash for Sha512 {
    fn of(octets: &[u8]) -> Vec<u8> {
        digest(&SHA512, octets).as_ref().into()
    }
}

impl Hash for Md5 {
    const COST: usize = 4;

    fn of(octets: &[u8]) -> Vec<u8> {
        md5::Md5::digest(octets).to_vec()
    }
}

/// The polynomial of IEEE 802.3.
impl Hash for Crc32 {
    const COST: usize = 16;

    fn of(octets: &[u8]) -> Vec<u8> {
        let bit = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        let octet = |crc: u32, octet: &u8| (0..8).fold(crc ^ u32::from(*octet), |crc, _| bit(crc));
        (!octets.iter().fold(u32::MAX, octet)).to_be_bytes().into()
    }
}

/// The polynomial of ISO 3309.
impl Hash for Crc64 {
    const COST: usize = 16;

    fn of(octets: &[u8]) -> Vec<u8> {
        let bit = |crc: u64| crc >> 1 ^ if crc & 1 == 1 { 0xd800_0000_0000_0000 } else { 0 };
        let octet = |crc: u64, octet: &u8| (0..8).fold(crc ^ u64::from(*octet), |crc, _| bit(crc));
        (!octets.iter().fold(u64::MAX, octet)).to_be_bytes().into()
    }
}

/// XXH64 without a seed (<https://github.com/Cyan4973/xxHash/blob/v0.8.3/doc/xxhash_spec.md>).
impl Hash for Xxhash64 {
    fn of(octets: &[u8]) -> Vec<u8> {
        let (stripes, rest) = octets.as_chunks::<32>();
        let mut hash = if stripes.is_empty() {
            PRIMES[4]
        } else {
            let mut lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0_u64.wrapping_sub(PRIMES[0])];
            for stripe in stripes {
                let (words, _) = stripe.as_chunks::<8>();
                for (lane, word) in lanes.iter_mut().zip(words) {
                    *lane = round(*lane, u64::from_le_bytes(*word));
                }
            }
            let mixed = lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
            let mixed = mixed.fold(0, u64::wrapping_add);
            lanes
                .iter()
                .fold(mixed, |hash, lane| (hash ^ round(0, *lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]))
        };
        hash = hash.wrapping_add(octets.len() as u64);
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            hash ^= round(0, u64::from_le_bytes(*word));
            hash = hash.rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
        }
        let (halves, rest) = rest.as_chunks::<4>();
        for half in halves {
            hash ^= u64::from(u32::from_le_bytes(*half)).wrapping_mul(PRIMES[0]);
            hash = hash.rotate_left(23).wrapping_mul(PRIMES[1]).wrapping_add(PRIMES[2]);
        }
        for octet in rest {
            hash ^= u64::from(*octet).wrapping_mul(PRIMES[4]);
            hash = hash.rotate_left(11).wrapping_mul(PRIMES[0]);
        }
        hash = (hash ^ hash >> 33).wrapping_mul(PRIMES[1]);
        hash = (hash ^ hash >> 29).wrapping_mul(PRIMES[2]);
        (hash ^ hash >> 32).to_be_bytes().into()
    }
}

const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}
