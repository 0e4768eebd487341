//! Where certificates say that lists are.

use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{DistributionPointName, GeneralName, ParsedExtension},
    prelude::FromDer as _,
};

use super::MAX_URLS;
use crate::config::ListUrl;

/// Returns where a certificate says that its list is: by plain HTTP, a few at most.
pub(super) fn distribution_points(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut urls = Vec::new();
    for extension in parsed.extensions() {
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else { continue };
        for point in points.points.iter() {
            let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { continue };
            for name in names {
                if let GeneralName::URI(uri) = name
                    && ListUrl::parse(uri).is_some()
                    && urls.len() < MAX_URLS
                {
                    urls.push((*uri).to_owned());
                }
            }
        }
    }
    urls
}
