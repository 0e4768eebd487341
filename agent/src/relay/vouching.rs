//! A voucher and its times: how long a head may take, and how long whoever was refused may take to hear of it.

use core::{future::Future as _, pin::Pin, task::Context, time::Duration};

use tokio::time::{Sleep, sleep};

use super::{Ending, Wait};
use crate::vouch::Voucher;

pub(super) struct Vouching {
    pub(super) voucher: Voucher,
    /// For the head of that number.
    patience: Option<(u64, Pin<Box<Sleep>>)>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl Vouching {
    pub(super) const fn new(voucher: Voucher) -> Self {
        Self { voucher, patience: None, linger: None }
    }

    /// Returns how it ends, once a refusal was said and heard, or was not heard for a while.
    pub(super) fn poll_ending(&mut self, (up, down): (Wait, Wait), cx: &mut Context<'_>) -> Option<Ending> {
        let why = self.voucher.refusal().filter(|_| down == Wait::Ended)?;
        // A close with octets that nobody has read is a reset, which may overtake what was said.
        let linger = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        (up == Wait::Ended || linger.as_mut().poll(cx).is_ready()).then_some(Ending::Refused(why))
    }

    /// Returns whether there is something to do at once.
    pub(super) fn poll_turn(&mut self, up: Wait, cx: &mut Context<'_>) -> bool {
        // The upstream may take its time; only what the caller owes is waited for.
        let Some(number) = self.voucher.partial().filter(|_| up == Wait::Caller) else {
            self.patience = None;
            return self.voucher.poll_released();
        };
        let (of, patience) = self.patience.get_or_insert_with(|| (number, Box::pin(sleep(PATIENCE))));
        if *of != number {
            (*of, *patience) = (number, Box::pin(sleep(PATIENCE)));
        }
        if patience.as_mut().poll(cx).is_ready() {
            self.patience = None;
            self.voucher.handle_late();
            return true;
        }
        self.voucher.poll_released()
    }
}

/// How long a head of a request, or what trails it, may take from its first octet.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long whoever was refused may go on sending.
const LINGER: Duration = Duration::from_secs(2);
