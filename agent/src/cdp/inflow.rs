//! What clients of one browser have sent of messages that are not whole yet.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Most bytes of it: one message of the greatest length, and room for others.
const INFLOW_MAX: usize = 160 << 20;

/// The bytes of all clients of a browser.
#[derive(Default)]
pub(super) struct Inflow(AtomicUsize);

/// One client's part, gone with it.
pub(super) struct Part<'a> {
    of: &'a Inflow,
    held: usize,
}

impl Inflow {
    pub fn part(&self) -> Part<'_> {
        Part { of: self, held: 0 }
    }
}

impl Part<'_> {
    /// Notes what the client has sent of a message so far. `false`: it has sent more, and all
    /// clients together are over the bound.
    pub fn fits(&mut self, held: usize) -> bool {
        let before = std::mem::replace(&mut self.held, held);
        if held <= before {
            self.of.0.fetch_sub(before - held, Relaxed);
            return true;
        }
        let others = self.of.0.fetch_add(held - before, Relaxed);
        others + (held - before) <= INFLOW_MAX
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.fits(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_over_the_bound_is_told_and_who_leaves_makes_room() {
        let inflow = Inflow::default();
        let (mut one, mut two) = (inflow.part(), inflow.part());
        assert!(one.fits(100 << 20));
        assert!(two.fits(60 << 20));
        assert!(!two.fits((60 << 20) + 1));
        assert!(two.fits(1 << 20), "less is never too much");
        drop(one);
        assert!(two.fits(100 << 20));
    }
}
