//! The PROXY protocol towards an upstream: who calls, and over which TLS.

use core::net::SocketAddr;

use adit_core::{Open, TlsInfo};
use bytes::Bytes;
use proxy_header::{ProxiedAddress, ProxyHeader, SslInfo, Tlv};

use crate::{
    config::ProxyVersion,
    termination::{Caller, Identity},
};

/// Returns the header that tells what `open` says of the caller, and what its TLS said where that has ended here; a caller
/// without address is UNKNOWN or LOCAL.
pub(crate) fn header(version: ProxyVersion, open: &Open, caller: Option<&Caller>) -> Bytes {
    let mut header = match (open.caller, open.local) {
        (Some(address), local) => {
            let (source, destination) = same_family(address, local);
            ProxyHeader::with_address(ProxiedAddress::stream(source, destination))
        }
        (None, _) => ProxyHeader::with_local(),
    };
    let mut octets = Vec::with_capacity(256);
    let encoded = match version {
        ProxyVersion::V1 => header.encode_v1(&mut octets),
        ProxyVersion::V2 => {
            append(&mut header, open, caller);
            header.encode_v2(&mut octets)
        }
    };
    debug_assert!(encoded.is_ok(), "OPEN is far shorter than a header may be");
    octets.into()
}

fn append(header: &mut ProxyHeader<'_>, open: &Open, caller: Option<&Caller>) {
    let identity = caller.and_then(|caller| caller.identity.as_ref());
    if let Some(tls) = caller.map(|caller| &caller.tls).or(open.tls.as_ref()) {
        if !tls.alpn.is_empty() {
            header.append_tlv(Tlv::Alpn(tls.alpn.as_bytes().into()));
        }
        if !tls.sni.is_empty() {
            header.append_tlv(Tlv::Authority(tls.sni.as_str().into()));
        }
        header.append_tlv(Tlv::Ssl(ssl(tls, identity)));
    }
    if let Some(identity) = identity {
        header.append_tlv(Tlv::Custom(FINGERPRINT, identity.sha256.as_bytes().into()));
    }
    if !open.endpoint.is_empty() {
        header.append_tlv(Tlv::Custom(ENDPOINT, open.endpoint.as_bytes().into()));
    }
}

fn ssl(tls: &TlsInfo, identity: Option<&Identity>) -> SslInfo<'static> {
    let verified = identity.filter(|identity| identity.verified);
    // What nobody vouches for anybody can write: of that no name is told.
    let mut ssl = SslInfo::new(true, identity.is_some(), identity.is_some(), u32::from(verified.is_none()));
    if let Some(identity) = verified {
        if !identity.common_name.is_empty() {
            ssl.append_tlv(Tlv::SslCn(identity.common_name.as_str().into()));
        }
        if identity.certificate.len() <= MAX_CERTIFICATE {
            ssl.append_tlv(Tlv::Custom(CLIENT_CERT, identity.certificate.to_vec().into()));
        }
    }
    if !tls.version.is_empty() {
        ssl.append_tlv(Tlv::SslVersion(tls.version.as_str().into()));
    }
    if !tls.cipher.is_empty() {
        ssl.append_tlv(Tlv::SslCipher(tls.cipher.as_str().into()));
    }
    ssl
}

/// Returns both addresses in one family, as the header wants them: IPv4 unless one of them is truly IPv6.
fn same_family(caller: SocketAddr, local: Option<SocketAddr>) -> (SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let caller = canonical(caller);
    let unspecified = if caller.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0; 16], 0)) };
    let local = local.map_or(unspecified, canonical);
    if caller.is_ipv4() == local.is_ipv4() {
        return (caller, local);
    }
    let mapped = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => address,
    };
    (mapped(caller), mapped(local))
}

/// The TLV that names the endpoint, from the range for private use.
const ENDPOINT: u8 = 0xe0;
/// The TLV that has the SHA-256 of the caller's certificate in hexadecimal, from the same range.
const FINGERPRINT: u8 = 0xe1;
/// PP2_SUBTYPE_SSL_CLIENT_CERT: the caller's certificate.
const CLIENT_CERT: u8 = 0x28;
/// A larger certificate is not told, in octets: there are servers that read no more than 4,096 of a header.
const MAX_CERTIFICATE: usize = 2 << 10;

#[cfg(test)]
mod tests {
    use proxy_header::ParseConfig;

    use super::*;

    fn open() -> Open {
        Open {
            caller: Some("192.0.2.7:50000".parse().unwrap()),
            local: Some("198.51.100.1:443".parse().unwrap()),
            tls: Some(TlsInfo {
                sni: "crm.example.com".into(),
                alpn: "h2".into(),
                version: "TLSv1.3".into(),
                cipher: "TLS13_AES_128_GCM_SHA256".into(),
            }),
            endpoint: "https://crm.example.com".into(),
            ..Open::default()
        }
    }

    fn plain(version: ProxyVersion, open: &Open) -> Bytes {
        header(version, open, None)
    }

    #[test]
    fn version_1_is_a_line_with_the_callers_address() {
        assert_eq!(&plain(ProxyVersion::V1, &open())[..], b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 443\r\n");
        assert_eq!(&plain(ProxyVersion::V1, &Open::default())[..], b"PROXY UNKNOWN\r\n");
    }

    #[test]
    fn version_2_tells_the_endpoint_and_its_tls() {
        let octets = plain(ProxyVersion::V2, &open());
        let (parsed, length) = ProxyHeader::parse(&octets, ParseConfig::default()).unwrap();

        assert_eq!(length, octets.len());
        let address = parsed.proxied_address().unwrap();
        assert_eq!((address.source, address.destination), (open().caller.unwrap(), open().local.unwrap()));
        assert_eq!(parsed.authority(), Some("crm.example.com"));
        assert_eq!(parsed.alpn(), Some(&b"h2"[..]));
        let ssl = parsed.ssl().unwrap();
        assert!(ssl.client_ssl() && !ssl.client_cert_conn());
        assert_eq!((ssl.version(), ssl.cipher()), (Some("TLSv1.3"), Some("TLS13_AES_128_GCM_SHA256")));
        let endpoint = parsed.tlvs().find_map(|tlv| match tlv {
            Ok(Tlv::Custom(ENDPOINT, value)) => Some(value.into_owned()),
            _ => None,
        });
        assert_eq!(endpoint.as_deref(), Some(&b"https://crm.example.com"[..]));
    }

    #[test]
    fn addresses_of_two_families_are_written_in_one() {
        let mixed = Open { local: Some("[2001:db8::1]:443".parse().unwrap()), ..open() };
        let line = plain(ProxyVersion::V1, &mixed);
        assert_eq!(&line[..], b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 50000 443\r\n");

        let alone = Open { local: None, ..open() };
        assert_eq!(&plain(ProxyVersion::V1, &alone)[..], b"PROXY TCP4 192.0.2.7 0.0.0.0 50000 0\r\n");
    }

    #[test]
    fn names_of_any_length_leave_a_header_that_can_be_read() {
        let long = "x".repeat(253);
        let tls = TlsInfo { sni: long.clone(), alpn: long.clone(), version: long.clone(), cipher: long.clone() };
        let octets = plain(ProxyVersion::V2, &Open { tls: Some(tls), endpoint: "y".repeat(512), ..open() });

        let (parsed, length) = ProxyHeader::parse(&octets, ParseConfig::default()).unwrap();
        assert_eq!((length, parsed.authority()), (octets.len(), Some(long.as_str())));
    }

    #[test]
    fn version_2_tells_who_a_caller_is_whose_tls_ended_here() {
        let caller = |verified, size| Caller {
            tls: TlsInfo {
                sni: "crm.example.com".into(),
                alpn: "http/1.1".into(),
                version: "TLSv1.2".into(),
                cipher: "TLS_ECDHE".into(),
            },
            identity: Some(Identity {
                verified,
                common_name: "client".into(),
                certificate: vec![7; size].into(),
                sha256: "07".into(),
            }),
            chain: None,
            fields: None,
        };
        let told = |caller: &Caller| {
            let octets = header(ProxyVersion::V2, &open(), Some(caller));
            let (parsed, _) = ProxyHeader::parse(&octets, ParseConfig::default()).unwrap();
            let ssl = parsed.ssl().unwrap().into_owned();
            let custom = |wanted, mut tlvs: proxy_header::Tlvs<'_>| {
                tlvs.find_map(|tlv| match tlv {
                    Ok(Tlv::Custom(kind, value)) if kind == wanted => Some(value.into_owned()),
                    _ => None,
                })
            };
            let certificate = custom(CLIENT_CERT, ssl.tlvs()).map(|der| der.len());
            let facts = (ssl.client_cert_conn(), ssl.verify(), ssl.cn().map(str::to_owned), certificate);
            assert_eq!(
                (parsed.alpn(), ssl.version()),
                (Some(&b"http/1.1"[..]), Some("TLSv1.2")),
                "not the network's word"
            );
            (facts, custom(FINGERPRINT, parsed.tlvs()), octets.len())
        };
        let print = Some(b"07".to_vec());

        let (facts, found, _) = told(&caller(true, 700));
        assert_eq!((facts, found), ((true, 0, Some("client".to_owned()), Some(700)), print.clone()));
        let (facts, found, length) = told(&caller(true, 8 << 10));
        assert_eq!((facts, found), ((true, 0, Some("client".to_owned()), None), print.clone()));
        assert!(length < 4_096);
        let (facts, found, _) = told(&caller(false, 700));
        assert_eq!((facts, found), ((true, 1, None, None), print), "nobody vouches for its name");
    }
}
