use std::path::PathBuf;

use super::*;
use crate::config::{ExternalAccount, ExternalKey};

/// What is ordered for `crm.example.com`, bound to an account if `key_id` names one.
pub(super) fn config(folder: PathBuf, key_id: &str) -> AcmeConfig {
    let text = "endpoints:\n  - name: crm\n    url: https://crm.example.com\n    upstream: { url: '1' }\n    \
                agent_tls_termination: { acme: { accept_terms: true } }\n";
    let mut config = crate::testing::config_in(text, &folder).endpoints.remove(0).termination.unwrap().acme.unwrap();
    config.folder = folder;
    config.external = (!key_id.is_empty()).then(|| {
        let (key_id, key) = (key_id.to_owned(), ExternalKey::Given(adit_core::Secret::new(*b"AAAAAAAAAAAAAAAAAAAAAA")));
        ExternalAccount { key_id, key }
    });
    config
}

pub(super) fn desk() -> Arc<Desk> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let route = Route::new(&crate::testing::config("version: 1\n").agent, &provider).unwrap();
    Desk::new(route, Guard::new(), provider, Arc::default())
}

#[tokio::test]
async fn whom_the_policy_does_not_have_is_not_asked() {
    let (desk, folder) = (desk(), crate::testing::folder("acme-policy"));
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, crate::testing::root_pem()).unwrap();
    let config =
        AcmeConfig { ca: Some(ca.into()), directory: "https://127.0.0.1:1/dir".to_owned(), ..config(folder, "") };
    let reached = look(&config, &desk).await.unwrap_err();
    assert_eq!(reached.fault, Fault::DirectoryUnreachable, "{reached}");

    desk.guard.freeze(Some("by hand".to_owned()));
    assert_eq!(look(&config, &desk).await.unwrap_err().fault, Fault::PolicyRefused);
}

#[tokio::test]
async fn an_address_that_is_never_dialed_is_not_dialed_for_a_certificate_either() {
    let (desk, folder) = (desk(), crate::testing::folder("acme-forbidden"));
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, crate::testing::root_pem()).unwrap();
    let directory = "https://169.254.169.254/dir".to_owned();

    let error = look(&AcmeConfig { ca: Some(ca.into()), directory, ..config(folder, "") }, &desk).await.unwrap_err();

    assert!(error.detail.contains("no address that is ever dialed"), "{error}");
}
