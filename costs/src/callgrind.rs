//! Runs a test of this very program under callgrind, and reads what it counted.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};

use crate::{
    figures::{Cost, Figures, made_with},
    meter::{CASE_OVER, COUNTED},
};

/// Where the test writes what it allocated, when it runs under callgrind.
pub(crate) const REPORT: &str = "COSTS_REPORT";

/// Carries out the cases of a test.
pub(crate) fn measure(test: &str) -> anyhow::Result<Figures> {
    let directory = tempfile::tempdir()?;
    let (counts, report) = (directory.path().join("counts"), directory.path().join("report"));
    let program = env::current_exe()?;
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--combine-dumps=no"])
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(format!("--toggle-collect=*{COUNTED}*"))
        .arg(format!("--dump-after=*{CASE_OVER}*"))
        .arg(program)
        .args(["--exact", test, "--test-threads=1", "--nocapture"])
        // What surrounds a program moves its stack, and with it what depends on alignment.
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_default())
        .env(REPORT, &report)
        .output()
        .context("cannot run valgrind; `scripts/install test` installs it")?;
    let said = || {
        let all = [run.stdout.as_slice(), run.stderr.as_slice()].concat();
        String::from_utf8_lossy(&all).into_owned()
    };
    ensure!(run.status.success(), "the cases failed under valgrind:\n{}", said());
    let Ok(report) = fs::read_to_string(report) else {
        bail!("no test named {test} under valgrind:\n{}", said());
    };
    let mut cases = Vec::new();
    for (line, part) in report.lines().zip(1..) {
        let instructions = total(&part_of(&counts, part))?;
        cases.push(cost(line, instructions).with_context(|| format!("cannot read `{line}`"))?);
    }
    Ok(Figures { made_with: made_with()?, cases })
}

fn part_of(counts: &Path, part: u32) -> PathBuf {
    PathBuf::from(format!("{}.{part}", counts.display()))
}

/// The sum in a file of callgrind's ("Callgrind Format Specification": `totals`).
fn total(path: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("callgrind wrote no {}", path.display()))?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    totals.context("no totals")?.trim().parse().context("no number")
}

/// What one of a case's things costs, from a line of the report.
fn cost(line: &str, instructions: u64) -> Option<Cost> {
    let mut words = line.splitn(4, ' ');
    let mut number = || words.next()?.parse::<u64>().ok();
    let (times, allocations, bytes) = (number()?, number()?, number()?);
    Some(Cost {
        name: words.next()?.to_owned(),
        instructions: instructions / times,
        allocations_hundredths: 100 * allocations / times,
        bytes: bytes / times,
    })
}
