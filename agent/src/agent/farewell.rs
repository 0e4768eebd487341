//! Why an endpoint is given up, as the network is told.

use adit_core::Code;

/// Why an endpoint is given up. The network hears a code and a few words, and nothing of what is inside (BIND-020).
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
    /// The configuration has it otherwise, and there is no certificate that callers could be shown.
    Certificate,
}

impl Farewell {
    /// Returns the code on the wire.
    pub(super) const fn code(self) -> Code {
        match self {
            Self::Disallowed | Self::BoundOtherwise | Self::Withdrawn => Code::DISALLOWED,
            Self::Frozen => Code::FROZEN,
            Self::Removed | Self::Changed => Code::CONFIGURATION,
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
            Self::Certificate => "the agent has no certificate for the endpoint that it can use",
        }
    }
}
