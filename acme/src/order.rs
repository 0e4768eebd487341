//! The steps of one order: from a name to a certificate and the key that was made for it here.

use core::{future::Future, time::Duration};

use adit_core::Secret;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::blame::is_problem;

/// Who answers the challenges of an order.
pub trait Answer {
    /// Why it cannot.
    type Failure;

    /// Answers one challenge of an authorization. What it puts in place has to stand until the order is proved.
    fn answer(
        &mut self,
        authorization: AuthorizationHandle<'_>,
    ) -> impl Future<Output = Result<(), Self::Failure>> + Send;
}

/// Why an order is not proved.
#[derive(Debug)]
pub enum Unproved<F> {
    /// A challenge cannot be answered.
    Answer(F),
    /// The authority cannot be asked, or refuses.
    Error(Error),
    /// The authority has an authorization that is not valid.
    Authorization,
    /// The authority says what is wrong with an answer.
    Challenge(Problem),
    /// The order is invalid, and nobody says why.
    Silence,
}

/// Asks for an order. An authority that gives advice about renewals is told which certificate the new one replaces (RFC 9773 §5);
/// one that does not take it for that tells `declined`.
///
/// # Errors
/// The authority cannot be asked, or refuses.
pub async fn begin(
    account: &Account,
    name: &str,
    replaced: Option<CertificateIdentifier<'_>>,
    declined: impl FnOnce(&Error),
) -> Result<Order, Error> {
    let identifiers = [Identifier::Dns(name.to_owned())];
    if let Some(replaced) = replaced {
        match account.new_order(&NewOrder::new(&identifiers).replaces(replaced)).await {
            Ok(order) => return Ok(order),
            Err(Error::Unsupported(_)) => {}
            // Another order has it, or the authority does not know it: the certificate is wanted all the same.
            Err(error) if is_problem(&error, "alreadyReplaced") || is_problem(&error, "malformed") => declined(&error),
            Err(error) => return Err(error),
        }
    }
    account.new_order(&NewOrder::new(&identifiers)).await
}

/// Answers what is still to be answered, and waits until the authority has looked.
///
/// # Errors
/// Why there will be no certificate.
pub async fn prove<A: Answer>(
    order: &mut Order,
    answer: &mut A,
    polls: &RetryPolicy,
) -> Result<(), Unproved<A::Failure>> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let authorization = authorization.map_err(Unproved::Error)?;
        match authorization.status {
            AuthorizationStatus::Valid => {}
            AuthorizationStatus::Pending => answer.answer(authorization).await.map_err(Unproved::Answer)?,
            AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated => return Err(Unproved::Authorization),
        }
    }
    if order.state().status == OrderStatus::Ready {
        return Ok(());
    }
    match order.poll_ready(polls).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid | OrderStatus::Processing) => Ok(()),
        Ok(OrderStatus::Pending | OrderStatus::Invalid) | Err(Error::Api(_)) => Err(why_invalid(order).await),
        Err(error) => Err(Unproved::Error(error)),
    }
}

/// Asks each authorization why the order is invalid.
async fn why_invalid<F>(order: &mut Order) -> Unproved<F> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let Ok(state) = authorization.refresh().await else { continue };
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Unproved::Challenge(problem.clone());
        }
    }
    let problem = order.state().error.clone();
    problem.map_or(Unproved::Silence, |problem| Unproved::Error(problem.into()))
}

/// Hands in the request for the certificate of an order that is proved; returns the chain, PEM.
///
/// # Errors
/// The authority cannot be asked, or refuses.
pub async fn obtain(order: &mut Order, request: &[u8], polls: &RetryPolicy) -> Result<String, Error> {
    order.finalize_csr(request).await?;
    let chain = match order.state().status {
        OrderStatus::Valid => order.certificate().await?,
        OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Invalid => None,
    };
    match chain {
        Some(chain) => Ok(chain),
        None => order.poll_certificate(polls).await,
    }
}

/// Makes a key and the request for a name's certificate, DER. Of the key nothing else leaves this function.
///
/// # Errors
/// The name cannot stand in a certificate.
pub fn request(name: &str) -> Result<(Vec<u8>, Secret), rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate()?;
    let request = params.serialize_request(&key)?;
    Ok((request.der().to_vec(), Secret::new(key.serialize_pem())))
}

/// Reads the HMAC key of an external account: base64url, with or without padding.
pub fn hmac_key(text: &Secret) -> Option<Secret> {
    let trimmed = text.expose().trim_ascii();
    let end = trimmed.iter().rposition(|octet| *octet != b'=').map_or(0, |at| at + 1);
    let octets = BASE64_URL_SAFE_NO_PAD.decode(trimmed.get(..end).unwrap_or_default());
    octets.ok().filter(|octets| octets.len() >= MIN_KEY).map(Secret::new)
}

/// How often an order is begun anew because the authority forgot a nonce.
pub const NONCES: u32 = 4;
/// An order takes at most so long, beside what answering its challenges may take.
pub const ORDER: Duration = Duration::from_secs(300);
/// How often an authority is asked whether it has looked, or issued.
pub const POLLS: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(100)).backoff(1.5).timeout(Duration::from_secs(120));
/// Octets of a key at least.
const MIN_KEY: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hmac_key_is_base64url_with_or_without_padding() {
        let read = |text: &str| hmac_key(&Secret::new(text)).map(|key| key.expose().len());

        assert_eq!(read("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n"), Some(48));
        assert_eq!(read("AAAAAAAAAAAAAAAAAAAAAA=="), Some(16));
        for wrong in ["", "====", "AAAA", "not base64 at all!", "a+/a+/a+/a+/a+/a+/a+/a+/"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
