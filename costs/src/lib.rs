//! Counts what code costs, and holds it to figures that are kept beside this crate.
//!
//! Times depend on the machine and on what else it does; instructions and allocations do not. A
//! test of another crate describes its cases and calls [`hold`]. That starts the same test once
//! more, under callgrind, where the cases are carried out; this process reads what they cost and
//! compares. So what is counted may be private to its crate, and is what the tests run anyway:
//! nothing is built for it.
//!
//! Programs that this crate is linked into have an allocator that counts.

mod callgrind;
mod figures;
mod meter;

use std::{env, fs, path::Path};

use anyhow::{Context, ensure};

use self::figures::Figures;
pub use self::meter::{Meter, Round};

/// Set to anything, it makes [`hold`] write the figures anew.
const UPDATE: &str = "UPDATE_COSTS";

/// Carries the cases out, and fails when they do not cost what the figures say. To be called by a
/// test, whose own whole name is `test`; the figures are those in `figures/<name>.txt`.
///
/// # Panics
///
/// With the name of every case that costs more, or less, than it did, and how to accept that.
/// Also when valgrind is missing, or a case fails.
pub fn hold(name: &str, test: &str, cases: impl FnOnce(&mut Meter)) {
    let held = match env::var_os(callgrind::REPORT) {
        Some(report) => carry_out(Path::new(&report), cases),
        None => compare(name, test),
    };
    if let Err(why) = held {
        panic!("{why:#}");
    }
}

/// Under callgrind.
fn carry_out(report: &Path, cases: impl FnOnce(&mut Meter)) -> anyhow::Result<()> {
    let mut meter = Meter::default();
    cases(&mut meter);
    fs::write(report, meter.report()).context("cannot report the costs")
}

fn compare(name: &str, test: &str) -> anyhow::Result<()> {
    let measured = callgrind::measure(test)?;
    ensure!(!measured.cases.is_empty(), "nothing was measured");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("figures/{name}.txt"));
    if env::var_os(UPDATE).is_some() {
        let written = fs::write(&path, measured.to_string());
        return written.with_context(|| format!("cannot write {}", path.display()));
    }
    let kept = fs::read_to_string(&path)
        .with_context(|| format!("no figures in {}; {}", path.display(), figures::ACCEPT))?;
    let kept: Figures = kept.parse().with_context(|| format!("cannot read {}", path.display()))?;
    let changes = kept.changes(&measured);
    ensure!(changes.is_empty(), "\n{}\n{}", changes.join("\n"), figures::ACCEPT);
    Ok(())
}
