//! Sets of public keys (RFC 7517), as an issuer serves them.

use core::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};

use crate::{
    auth::{
        encoding::Base64,
        json::{get, object},
    },
    cel::{Map, Value},
};

/// The longest set of keys, in octets.
pub const MOST_OCTETS: usize = 256 << 10;
/// The most keys of a set.
pub const MOST_KEYS: usize = 100;
/// The most keys that are tried for a token that does not say which it is signed by.
pub const MOST_TRIED: usize = 16;

/// A way to sign (RFC 7518, section 3.1; RFC 8037). None that is not public is here: a secret that both sides have is no key that
/// somebody may fetch, and a public key taken for one would let everybody sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1 v1.5, SHA-256.
    Rs256,
    /// RSA, PKCS #1 v1.5, SHA-384.
    Rs384,
    /// RSA, PKCS #1 v1.5, SHA-512.
    Rs512,
    /// RSA, PSS, SHA-256.
    Ps256,
    /// RSA, PSS, SHA-384.
    Ps384,
    /// RSA, PSS, SHA-512.
    Ps512,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// ECDSA on P-521.
    Es512,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All of them, by name. Ed25519 has two.
    pub const NAMES: [(&str, Self); 11] = [
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("ES512", Self::Es512),
        ("EdDSA", Self::EdDsa),
        ("Ed25519", Self::EdDsa),
    ];

    /// Returns the algorithm of a name, in its spelling.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, algorithm)| algorithm)
    }

    /// Returns how RSA is checked, if it is RSA.
    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }
}

/// The keys of an issuer with which signatures can be checked.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a set. Keys that are of another kind or for another use are passed over (RFC 7517, section 5).
    ///
    /// # Errors
    /// [`BadKeys`] when it is no set, or one that is too large.
    pub fn parse(octets: &[u8]) -> Result<Self, BadKeys> {
        if octets.len() > MOST_OCTETS {
            return Err(BadKeys::TooLarge);
        }
        let set = object(octets).ok_or(BadKeys::Form)?;
        let Some(Value::List(keys)) = get(&set, "keys") else { return Err(BadKeys::Form) };
        if keys.len() > MOST_KEYS {
            return Err(BadKeys::TooLarge);
        }
        let key = |value| if let Value::Map(key) = value { Key::read(&key) } else { None };
        Ok(Self { keys: keys.iter().filter_map(key).collect() })
    }

    /// Returns the keys that may have made such a signature: those of the identity that the token names, else a few.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| key.allows(algorithm) && id.is_none_or(|id| key.id.as_deref() == Some(id));
        self.keys.iter().filter(fits).take(MOST_TRIED)
    }

    /// Returns how many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Why something is no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKeys {
    /// It is not of the form of one.
    Form,
    /// It has more than [`MOST_OCTETS`] or [`MOST_KEYS`].
    TooLarge,
}

impl fmt::Display for BadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("not a set of keys"),
            Self::TooLarge => write!(f, "a set of more than {MOST_OCTETS} octets or {MOST_KEYS} keys"),
        }
    }
}

impl core::error::Error for BadKeys {}

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    id: Option<String>,
    /// The only algorithm that it is for, if it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Curve { algorithm: Algorithm, key: ParsedPublicKey },
}

impl Key {
    /// Reads a key; nothing when it is not one for checking signatures of the kinds that are here.
    fn read(key: &Map<'static>) -> Option<Self> {
        let text = |name: &str| match get(key, name) {
            None => Some(None),
            Some(Value::String(text)) => Some(Some(String::from(&*text))),
            Some(_) => None,
        };
        let octets = |name: &str| Base64::Url.decode(text(name)??.as_bytes());
        if text("use")?.is_some_and(|usage| usage != "sig") {
            return None;
        }
        match get(key, "key_ops") {
            None => {}
            Some(Value::List(list)) if list.iter().any(|it| it.as_str() == Some("verify")) => {}
            Some(_) => return None,
        }
        let algorithm = match text("alg")? {
            Some(name) => Some(Algorithm::named(&name)?),
            None => None,
        };
        let curve = |algorithm, how: &'static dyn VerificationAlgorithm, point: Vec<u8>| {
            Some(Material::Curve { algorithm, key: ParsedPublicKey::new(how, point).ok()? })
        };
        let point = |size: usize| {
            let (x, y) = (octets("x")?, octets("y")?);
            (x.len() == size && y.len() == size).then(|| [&[4], &*x, &*y].concat())
        };
        let material = match (&*text("kty")??, text("crv")?.as_deref()) {
            ("RSA", _) => {
                let stripped = |octets: Vec<u8>| octets.into_iter().skip_while(|octet| *octet == 0).collect();
                Material::Rsa { modulus: stripped(octets("n")?), exponent: stripped(octets("e")?) }
            }
            ("EC", Some("P-256")) => curve(Algorithm::Es256, &ECDSA_P256_SHA256_FIXED, point(32)?)?,
            ("EC", Some("P-384")) => curve(Algorithm::Es384, &ECDSA_P384_SHA384_FIXED, point(48)?)?,
            ("EC", Some("P-521")) => curve(Algorithm::Es512, &ECDSA_P521_SHA512_FIXED, point(66)?)?,
            ("OKP", Some("Ed25519")) => curve(Algorithm::EdDsa, &ED25519, octets("x")?)?,
            _ => return None,
        };
        Some(Self { id: text("kid")?, algorithm, material })
    }

    /// Returns whether it may make signatures of an algorithm: by its kind, and by what it says.
    fn allows(&self, algorithm: Algorithm) -> bool {
        let kind = match &self.material {
            Material::Rsa { .. } => algorithm.rsa().is_some(),
            Material::Curve { algorithm: own, .. } => *own == algorithm,
        };
        kind && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Returns whether it has signed a message so.
    pub(super) fn signed(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, algorithm.rsa()) {
            (Material::Rsa { modulus, exponent }, Some(how)) => {
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(how, message, signature).is_ok()
            }
            (Material::Curve { algorithm: own, key }, _) if *own == algorithm => {
                key.verify_sig(message, signature).is_ok()
            }
            (Material::Rsa { .. } | Material::Curve { .. }, _) => false,
        }
    }
}
