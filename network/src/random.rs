//! Random octets for ids, which are no secrets.

use core::cell::RefCell;

/// Octets that were fetched and not given out yet.
struct Stock {
    octets: [u8; SIZE],
    left: usize,
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { octets: [0; SIZE], left: 0 }) };
}

/// Fills `octets`, of which there are at most 64, from a stock of the thread's own: each request wants some, and to fetch them one
/// by one costs as much as to route it. For ids alone: secrets are fetched when they are needed.
///
/// Without randomness they are zeros.
pub(crate) fn fill(octets: &mut [u8]) {
    STOCK.with_borrow_mut(|stock| {
        if stock.left < octets.len() {
            stock.left = if aws_lc_rs::rand::fill(&mut stock.octets).is_ok() { SIZE } else { 0 };
        }
        let Some(left) = stock.left.checked_sub(octets.len()) else { return octets.fill(0) };
        octets.copy_from_slice(&stock.octets[left..stock.left]);
        stock.left = left;
    });
}

/// Fetched at once.
const SIZE: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_given_out_twice() {
        let mut seen = HashSet::new();
        for _ in 0..1_000 {
            let mut id = [0; 24];
            fill(&mut id);
            assert!(seen.insert(id));
        }
    }
}
