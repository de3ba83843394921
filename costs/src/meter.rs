//! Carries cases out and counts what they allocate. What callgrind counts lies between the two
//! functions here that it knows by their names.

use std::{alloc::System, fmt::Write as _, hint::black_box};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds before those that count: what is set up once, is set up in them.
const WARM_UP: u32 = 8;

/// Rounds that count. What a round leaves to chance, such as the order in which tokio's `select!`
/// looks at its branches, is even over so many.
const ROUNDS: u32 = 64;

/// Callgrind counts while this runs.
pub(crate) const COUNTED: &str = "costs_of_the_counted_part";

/// After this, callgrind writes down what it counted and begins anew.
pub(crate) const CASE_OVER: &str = "costs_of_one_case_are_counted";

#[inline(never)]
fn costs_of_the_counted_part(work: &mut dyn FnMut()) {
    work();
}

#[inline(never)]
fn costs_of_one_case_are_counted() {
    black_box(());
}

/// Takes the cases of one crate.
#[derive(Default)]
pub struct Meter(Vec<Allocated>);

/// What all counted rounds of one case allocated.
struct Allocated {
    case: String,
    /// Things done in all rounds.
    times: u32,
    count: usize,
    bytes: usize,
}

impl Meter {
    /// Carries a case out, round by round. `each` is how many of what the case is named after
    /// one round does; the figures are of one of them.
    pub fn case(&mut self, case: &str, each: u32, mut round: impl FnMut(&mut Round)) {
        let mut warm_up = Round { counts: false, count: 0, bytes: 0 };
        (0..WARM_UP).for_each(|_| round(&mut warm_up));
        let mut counting = Round { counts: true, count: 0, bytes: 0 };
        (0..ROUNDS).for_each(|_| round(&mut counting));
        costs_of_one_case_are_counted();
        let Round { count, bytes, .. } = counting;
        self.0.push(Allocated { case: case.to_owned(), times: ROUNDS * each, count, bytes });
    }

    /// One line a case, in their order: times, allocations and bytes of all, name.
    pub(crate) fn report(&self) -> String {
        let mut report = String::new();
        for Allocated { case, times, count, bytes } in &self.0 {
            let _ = writeln!(report, "{times} {count} {bytes} {case}");
        }
        report
    }
}

/// One round of a case.
pub struct Round {
    counts: bool,
    count: usize,
    bytes: usize,
}

impl Round {
    /// Counts this part of the round. What it answers with is dropped uncounted.
    pub fn counted<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (mut work, mut answer) = (Some(work), None);
        let mut run = || answer = work.take().map(|work| black_box(work()));
        if self.counts {
            let region = Region::new(ALLOCATOR);
            costs_of_the_counted_part(&mut run);
            let change = region.change();
            self.count += change.allocations + change.reallocations;
            self.bytes += change.bytes_allocated;
        } else {
            run();
        }
        answer.unwrap_or_else(|| unreachable!("it was carried out"))
    }
}
