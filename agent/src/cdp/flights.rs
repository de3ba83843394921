//! How long browsers take for commands, by method: from when a command was read until its answer
//! is on its way.
//!
//! Each client has a small table of its commands in flight, where a command's number says its
//! place: nothing is looked up, locked or allocated for a message. Who has more in flight than
//! there are places, or uses numbers twice, has some commands that are not measured.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::metrics::COUNTS;

/// The commands that are told apart. The last stands for all others.
pub(crate) const METHODS: [&str; METHODS_LEN] = [
    "DOM.getDocument",
    "DOM.querySelector",
    "Fetch.continueRequest",
    "Input.dispatchKeyEvent",
    "Input.dispatchMouseEvent",
    "Network.getCookies",
    "Network.getResponseBody",
    "Page.captureScreenshot",
    "Page.enable",
    "Page.navigate",
    "Page.printToPDF",
    "Runtime.callFunctionOn",
    "Runtime.enable",
    "Runtime.evaluate",
    "Target.attachToTarget",
    "Target.closeTarget",
    "Target.createTarget",
    "other",
];
/// How many those are.
pub(crate) const METHODS_LEN: usize = 18;

/// Commands of a client whose time is taken at once. A power of two.
const PLACES: u32 = 64;

/// One command: 26 bits of its number (the rest is its place), a mark, the place of its method in
/// 5 bits, and when it was read in microseconds, in 32 bits that begin anew after 71 minutes.
#[derive(Clone, Copy)]
struct Flight(u64);

impl Flight {
    const MARK: u64 = 1 << 37;

    fn new(id: i32, method: usize, now_us: u64) -> Self {
        let rest = u64::from(id.cast_unsigned() / PLACES);
        Self((rest << 38) | Self::MARK | ((method as u64) << 32) | (now_us & 0xffff_ffff))
    }

    fn is_of(self, id: i32) -> bool {
        self.0 & Self::MARK != 0 && self.0 >> 38 == u64::from(id.cast_unsigned() / PLACES)
    }

    fn method(self) -> usize {
        (self.0 >> 32) as usize & 0x1f
    }

    fn span(self, now_us: u64) -> Duration {
        Duration::from_micros(now_us.wrapping_sub(self.0) & 0xffff_ffff)
    }
}

/// The commands of one client that are in flight.
pub(super) struct Flights([AtomicU64; PLACES as usize]);

impl Default for Flights {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; PLACES as usize])
    }
}

impl Flights {
    /// A command goes to the browser.
    pub fn sent(&self, id: i32, method: &str) {
        self.place(id).store(Flight::new(id, place_of(method), now_us()).0, Relaxed);
    }

    /// The answer to it is there.
    pub fn answered(&self, id: i32) {
        if let Some((method, span)) = self.landed(id, now_us()) {
            COUNTS.cdp.commands[method].observe(span.as_secs_f64());
        }
    }

    fn landed(&self, id: i32, now_us: u64) -> Option<(usize, Duration)> {
        let place = self.place(id);
        let flight = Flight(place.load(Relaxed));
        if !flight.is_of(id) {
            return None;
        }
        place.store(0, Relaxed);
        Some((flight.method(), flight.span(now_us)))
    }

    fn place(&self, id: i32) -> &AtomicU64 {
        &self.0[(id.cast_unsigned() % PLACES) as usize]
    }
}

fn place_of(method: &str) -> usize {
    METHODS.iter().position(|known| *known == method).unwrap_or(METHODS_LEN - 1)
}

fn now_us() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_method_has_a_place_that_a_flight_can_hold() {
        assert!(METHODS.is_sorted_by(|a, b| a < b), "in order, and none twice");
        const { assert!(METHODS_LEN <= 32) };
        assert_eq!(METHODS[place_of("Page.navigate")], "Page.navigate");
        assert_eq!(METHODS[place_of("Page.navigateToHistoryEntry")], "other");
        assert_eq!(METHODS[place_of("other")], "other");
    }

    #[test]
    fn a_command_is_measured_once_and_only_by_its_own_answer() {
        let flights = Flights::default();
        flights.place(7).store(Flight::new(7, 3, 1_000).0, Relaxed);
        assert_eq!(flights.landed(7 + 64, 2_000), None, "another number of the same place");
        assert_eq!(flights.landed(8, 2_000), None);
        assert_eq!(flights.landed(7, 2_500), Some((3, Duration::from_micros(1_500))));
        assert_eq!(flights.landed(7, 3_000), None);
        assert_eq!(flights.landed(0, 0), None, "an empty place is no command 0");
    }

    proptest! {
        #[test]
        fn what_a_flight_holds_comes_back(
            id: i32, method in 0..METHODS_LEN, begun_us in 0..1_u64 << 50, took_us: u32,
        ) {
            let flights = Flights::default();
            flights.place(id).store(Flight::new(id, method, begun_us).0, Relaxed);
            let landed = flights.landed(id, begun_us + u64::from(took_us));
            prop_assert_eq!(landed, Some((method, Duration::from_micros(took_us.into()))));
        }
    }
}
