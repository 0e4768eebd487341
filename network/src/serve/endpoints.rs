//! Puts what the configuration says of endpoints in force.

use std::{collections::HashMap, sync::Arc};

use tracing::{info, warn};

use crate::{
    endpoints::{Draft, Endpoints},
    ingress::Ingress,
    router::{Configured, Key},
    store::{Claim, StoreError},
};

/// Finds the accounts; nothing changes.
///
/// # Errors
/// When the database fails.
pub(super) async fn prepare(ingress: &Ingress, draft: Draft) -> Result<Endpoints, StoreError> {
    let mut accounts = HashMap::new();
    for name in draft.accounts() {
        if !accounts.contains_key(name) {
            let account = ingress.store.account(name).await?;
            ingress.edge.metrics.traffic.name(account, name);
            accounts.insert(name.to_owned(), account);
        }
    }
    Ok(draft.resolve(&accounts, &ingress.edge.world))
}

/// Replaces what was in force.
pub(super) async fn apply(ingress: &Ingress, endpoints: Endpoints) {
    let (edge, configured) = (&ingress.edge, endpoints.configured());
    if configured.is_empty() && edge.endpoints.load().is_empty() {
        return;
    }
    let before = edge.endpoints.swap(Arc::new(endpoints));
    // From here on rules hold; a moment later everything is found that they serve.
    let taken = edge.router.write().configure(configured.clone());
    ingress.taken(taken);
    ingress.take_passed_through();
    for Configured { key, account, cloud } in &configured {
        // Names that are set here are kept from other accounts for as long afterwards as names that were bound (V77).
        match ingress.claim(key, *account).await {
            Ok(Claim::Owned) => {}
            Ok(Claim::Taken) => {
                warn!(endpoint = %key, "another account had the endpoint: the configuration goes first")
            }
            Ok(Claim::Limit) => {
                warn!(endpoint = %key, "the account has as many endpoints as it may: the name is not kept")
            }
            Err(error) => warn!(endpoint = %key, %error, "the name cannot be kept in the database"),
        }
        if let (true, Key::Port(port), Some(ports)) = (cloud, key, &ingress.entrances.tcp)
            && let Err(error) = ports.open(*port)
        {
            warn!(port, %error, "a TCP port cannot be opened");
        }
    }
    for Configured { key, .. } in before.configured() {
        ingress.close_unless_served(&key);
    }
    edge.arrived();
    info!(count = configured.len(), "endpoints of the configuration are in force");
}
