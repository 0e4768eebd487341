//! Why an endpoint is given up or not asked for, as the network is told.

use adit_core::Code;

use super::places::is_refusal;
use crate::errors::Fault;

/// Why an endpoint is given up or not asked for. The network hears a code and a few words, and nothing of what is inside (BIND-020, BIND-021).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// No rule of the customer's policy is for it.
    Disallowed,
    /// The network bound something else than was asked for, and no rule is for that.
    BoundOtherwise,
    /// Everything is closed.
    Frozen,
    /// The configuration does not have it any more.
    Removed,
    /// The vendor has sent it by a command, and the customer takes none from there any more.
    Withdrawn,
    /// The configuration has it otherwise: it is asked for anew.
    Changed,
    /// There is no certificate that callers could be shown.
    Certificate,
    /// Something else that the configuration says of it cannot be carried out.
    Unusable,
}

impl Farewell {
    /// Returns why an endpoint with this fault is not asked for.
    pub(super) fn of(fault: Fault) -> Self {
        if is_refusal(fault) {
            Self::Disallowed
        } else if fault == Fault::CertificateUnusable {
            Self::Certificate
        } else {
            Self::Unusable
        }
    }

    /// Returns the code on the wire.
    pub(super) const fn code(self) -> Code {
        match self {
            Self::Disallowed | Self::BoundOtherwise | Self::Withdrawn => Code::DISALLOWED,
            Self::Frozen => Code::FROZEN,
            Self::Removed | Self::Changed | Self::Unusable => Code::CONFIGURATION,
            Self::Certificate => Code::CERTIFICATE,
        }
    }

    /// Returns what it is in words.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Disallowed => "the customer's policy does not allow the endpoint",
            Self::BoundOtherwise => "the customer's policy does not allow what was bound",
            Self::Frozen => "the customer has frozen this agent",
            Self::Removed => "the agent's configuration does not have the endpoint any more",
            Self::Withdrawn => "the customer does not take the endpoint from the vendor any more",
            Self::Changed => "the agent's configuration of the endpoint has changed",
            Self::Unusable => "the agent cannot carry out what its configuration says of the endpoint",
            Self::Certificate => "the agent has no certificate for the endpoint that it can use",
        }
    }
}
