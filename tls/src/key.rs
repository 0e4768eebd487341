//! Keys by their digests, and the words for them.

use core::fmt::{self, Write as _};

use rustls::crypto::{CryptoProvider, hash::HashAlgorithm};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// The SHA-256 of a public key, as certificates have it (SubjectPublicKeyInfo, DER): the same over all certificates of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrint(pub [u8; 32]);

impl KeyPrint {
    /// Returns the print of the key in a certificate; nothing for what is none.
    pub fn of(certificate: &[u8], provider: &CryptoProvider) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        sha256(parsed.public_key().raw, provider).map(Self)
    }

    /// Reads `sha256:` and the digest in base64, or in hexadecimal, with colons or without.
    pub fn parse(text: &str) -> Option<Self> {
        let digest = text.trim().strip_prefix("sha256:")?;
        let hex: String = digest.chars().filter(|letter| *letter != ':').collect();
        let octets = if hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            (0..32).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()).collect::<Option<Vec<_>>>()?
        } else {
            from_base64(digest)?
        };
        octets.try_into().ok().map(Self)
    }
}

/// Writes `sha256:` and base64.
impl fmt::Display for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        for chunk in self.0.chunks(3) {
            let mut triple = [0; 4];
            triple.iter_mut().skip(1).zip(chunk).for_each(|(place, octet)| *place = *octet);
            let triple = u32::from_be_bytes(triple);
            for place in 0..4 {
                let sextet = usize::try_from(triple >> (18 - 6 * place) & 0x3f).unwrap_or_default();
                let letter = ALPHABET.get(sextet).filter(|_| place <= chunk.len()).map_or('=', |it| char::from(*it));
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for KeyPrint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Returns the SHA-256 of `data`; nothing when the provider has no such hash.
pub fn sha256(data: &[u8], provider: &CryptoProvider) -> Option<[u8; 32]> {
    let suites = provider.cipher_suites.iter().filter_map(|suite| suite.tls13());
    let mut hashes = suites.map(|suite| suite.common.hash_provider);
    let hash = hashes.find(|hash| hash.algorithm() == HashAlgorithm::SHA256)?;
    hash.hash(data).as_ref().try_into().ok()
}

/// Reads base64 of 32 octets, with the padding or without it.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_suffix('=').unwrap_or(text);
    if text.len() != 43 {
        return None;
    }
    let (mut octets, mut bits, mut held) = (Vec::with_capacity(32), 0_u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|other| *other == letter)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            octets.push(u8::try_from(bits >> held & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(octets) // what is left over of the last letter says nothing
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_is_read_in_base64_and_hexadecimal_and_written_in_base64() {
        let hex: String = (0..32_u8).map(|octet| format!("{octet:02X}")).collect();
        let colons: Vec<_> = (0..32_u8).map(|octet| format!("{octet:02x}")).collect();
        let base64 = "sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let print = KeyPrint(core::array::from_fn(|at| u8::try_from(at).unwrap()));

        for text in
            [base64, base64.trim_end_matches('='), &format!("sha256:{hex}"), &format!("sha256:{}", colons.join(":"))]
        {
            assert_eq!(KeyPrint::parse(text), Some(print), "{text}");
        }
        assert_eq!(print.to_string(), base64);
        for wrong in [
            "",
            "sha256:",
            &base64[7..],
            "sha1:AAEC",
            &format!("sha256:{}", &hex[2..]),
            &base64.replace("8=", "9="),
            &base64.replace('A', "-"),
        ] {
            assert_eq!(KeyPrint::parse(wrong), None, "{wrong}");
        }
    }
}
