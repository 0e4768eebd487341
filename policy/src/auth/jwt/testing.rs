//! An issuer for tests: its keys, and what it signs.

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding,
    },
};

use crate::cel::base64;

pub(crate) enum Signer {
    Rsa(Box<RsaKeyPair>),
    Curve(&'static str, EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub(crate) fn curve(name: &'static str) -> Self {
        let how: &'static EcdsaSigningAlgorithm = match name {
            "P-256" => &ECDSA_P256_SHA256_FIXED_SIGNING,
            "P-384" => &ECDSA_P384_SHA384_FIXED_SIGNING,
            _ => &ECDSA_P521_SHA512_FIXED_SIGNING,
        };
        Self::Curve(name, EcdsaKeyPair::generate(how).unwrap())
    }

    pub(crate) fn edwards() -> Self {
        Self::Edwards(Ed25519KeyPair::generate().unwrap())
    }

    /// Returns the key as a set has it, with more members.
    pub(crate) fn public(&self, more: &str) -> String {
        let more = if more.is_empty() { String::new() } else { format!(",{more}") };
        match self {
            Self::Rsa(key) => {
                let (modulus, exponent) = components(key.public_key().as_ref());
                format!(r#"{{"kty":"RSA","n":"{}","e":"{}"{more}}}"#, url(&modulus), url(&exponent))
            }
            Self::Curve(name, key) => {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                format!(r#"{{"kty":"EC","crv":"{name}","x":"{}","y":"{}"{more}}}"#, url(x), url(y))
            }
            Self::Edwards(key) => {
                format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"{more}}}"#, url(key.public_key().as_ref()))
            }
        }
    }

    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let how: &'static dyn RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(how, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Curve(_, key) => key.sign(&random, message).unwrap().as_ref().into(),
            Self::Edwards(key) => key.sign(message).as_ref().into(),
        }
    }

    /// Makes a token of a header and claims, written as they are given.
    pub(crate) fn token(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", url(header.as_bytes()), url(claims.as_bytes()));
        let algorithm = header.split("\"alg\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", url(&signature))
    }
}

pub(crate) fn set(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

pub(crate) fn url(octets: &[u8]) -> String {
    base64(octets).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

/// Takes modulus and exponent out of the DER of an RSA key.
fn components(der: &[u8]) -> (Vec<u8>, Vec<u8>) {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (len, start) = match der[1] {
            0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
            0x81 => (usize::from(der[2]), 3),
            short => (usize::from(short), 2),
        };
        (&der[start..start + len], &der[start + len..])
    }
    let (modulus, rest) = element(element(der).0);
    let strip = |octets: &[u8]| octets.iter().copied().skip_while(|octet| *octet == 0).collect();
    (strip(modulus), strip(element(rest).0))
}
