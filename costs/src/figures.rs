//! What cases cost: the file that keeps it, and what has changed.

use std::{fmt, process::Command, str::FromStr};

use anyhow::Context;

/// How much a case may move, in percent: nothing that was seen to move by itself moves so much,
/// see `docs/performance.md`.
const BOUND: u64 = 3;

/// The same where compiler, libc or valgrind are not those of the figures. Still tells work that
/// is done twice.
const BOUND_ELSEWHERE: u64 = 25;

/// How new figures are accepted.
pub(crate) const ACCEPT: &str = "if this is wanted, accept it: make costs";

/// Figures of one crate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Figures {
    pub made_with: String,
    pub cases: Vec<Cost>,
}

/// What it costs to do a thing once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub name: String,
    pub instructions: u64,
    /// Hundredths: some allocations are shared by several.
    pub allocations_hundredths: u64,
    /// Bytes that were allocated.
    pub bytes: u64,
}

impl Figures {
    /// What is not as it was, one line each.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let bound = if self.made_with == now.made_with { BOUND } else { BOUND_ELSEWHERE };
        let mut changes = Vec::new();
        for cost in &now.cases {
            match self.cases.iter().find(|kept| kept.name == cost.name) {
                Some(kept) => kept.compare(cost, bound, &mut changes),
                None => changes.push(format!("{}: there is no figure for it", cost.name)),
            }
        }
        for kept in &self.cases {
            if !now.cases.iter().any(|cost| cost.name == kept.name) {
                changes.push(format!("{}: is not measured any more", kept.name));
            }
        }
        if !changes.is_empty() && self.made_with != now.made_with {
            let (then, now) = (&self.made_with, &now.made_with);
            changes.push(format!("the figures were made with {then}; this is {now}"));
        }
        changes
    }
}

impl Cost {
    fn compare(&self, now: &Self, bound: u64, changes: &mut Vec<String>) {
        let mut note = |what: &str, was: String, is: String, rose: bool, by: &str| {
            let verb = if rose { "rose" } else { "fell" };
            changes.push(format!("{}: {what} {verb} from {was} to {is}{by}", self.name));
        };
        let (was, is) = (self.instructions, now.instructions);
        // Instructions of another architecture are not comparable at all, see `made_with`.
        if cfg!(target_arch = "x86_64") && was.abs_diff(is) * 100 > was * bound {
            let percent = was.abs_diff(is) as f64 * 100.0 / was.max(1) as f64;
            let by = format!(" ({percent:.1} %, the bound is {bound} %)");
            note("instructions", was.to_string(), is.to_string(), is > was, &by);
        }
        let (was, is) = (self.allocations_hundredths, now.allocations_hundredths);
        if was != is {
            note("allocations", hundredths(was), hundredths(is), is > was, "");
        }
        let (was, is) = (self.bytes, now.bytes);
        if was != is {
            note("bytes allocated", was.to_string(), is.to_string(), is > was, "");
        }
    }
}

fn hundredths(number: u64) -> String {
    format!("{}.{:02}", number / 100, number % 100)
}

/// What decides, beside the code, how many instructions there are.
pub(crate) fn made_with() -> anyhow::Result<String> {
    let libc = first_line("getconf", "GNU_LIBC_VERSION")?;
    let valgrind = first_line("valgrind", "--version")?;
    Ok(format!("{}, {libc}, {valgrind}, {}", env!("COMPILER"), std::env::consts::ARCH))
}

fn first_line(program: &str, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg(argument).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

const HEAD: &str = "\
# What it costs to do a thing once: docs/performance.md, \"The guard\". Counted in what the tests
# run: the dev profile of Cargo.toml, with the dependencies of Cargo.lock.
";
const MADE_WITH: &str = "# Made with ";
const COLUMNS: &str = "#\n# instructions  allocations  bytes allocated  thing\n";

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEAD}{MADE_WITH}{}\n{COLUMNS}", self.made_with)?;
        for Cost { name, instructions, allocations_hundredths, bytes } in &self.cases {
            let allocations = hundredths(*allocations_hundredths);
            writeln!(f, "{instructions:>14}  {allocations:>11}  {bytes:>15}  {name}")?;
        }
        Ok(())
    }
}

impl FromStr for Figures {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let made_with = text.lines().find_map(|line| line.strip_prefix(MADE_WITH));
        let made_with = made_with.context("it does not say what made it")?.to_owned();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let cases = lines.map(|line| cost(line).with_context(|| format!("no figures: {line}")));
        Ok(Self { made_with, cases: cases.collect::<anyhow::Result<_>>()? })
    }
}

fn cost(line: &str) -> Option<Cost> {
    let (instructions, rest) = line.trim_start().split_once(' ')?;
    let (allocations, rest) = rest.trim_start().split_once(' ')?;
    let (bytes, name) = rest.trim_start().split_once("  ")?;
    Some(Cost {
        name: name.to_owned(),
        instructions: instructions.parse().ok()?,
        allocations_hundredths: allocations.replace('.', "").parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(made_with: &str, cases: &[(&str, u64, u64, u64)]) -> Figures {
        let cases = cases.iter().map(|&(name, instructions, allocations_hundredths, bytes)| Cost {
            name: name.to_owned(),
            instructions,
            allocations_hundredths,
            bytes,
        });
        Figures { made_with: made_with.to_owned(), cases: cases.collect() }
    }

    #[test]
    fn what_is_kept_reads_as_it_was_written() {
        let kept = figures("rustc 9", &[("a  wide name", 123_456, 307, 0), ("b", 1, 5, 9)]);
        assert_eq!(kept.to_string().parse::<Figures>().unwrap(), kept);
        assert!("1 2 3  a\n".parse::<Figures>().is_err(), "who made it?");
        assert!(format!("{kept}1 2\n").parse::<Figures>().is_err());
    }

    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "instructions are compared on x86-64 only")]
    fn what_moved_is_told_with_both_figures() {
        let kept = figures("rustc 9", &[("a", 1_000, 300, 64), ("b", 1_000, 0, 0)]);
        let within = figures("rustc 9", &[("a", 1_030, 300, 64), ("b", 970, 0, 0)]);
        assert_eq!(kept.changes(&within), Vec::<String>::new());
        let outside = figures("rustc 9", &[("a", 1_031, 400, 96), ("b", 969, 0, 0)]);
        let told = [
            "a: instructions rose from 1000 to 1031 (3.1 %, the bound is 3 %)",
            "a: allocations rose from 3.00 to 4.00",
            "a: bytes allocated rose from 64 to 96",
            "b: instructions fell from 1000 to 969 (3.1 %, the bound is 3 %)",
        ];
        assert_eq!(kept.changes(&outside), told);
    }

    #[test]
    fn cases_come_and_go_only_with_their_figures() {
        let kept = figures("rustc 9", &[("a", 1, 0, 0)]);
        let now = figures("rustc 9", &[("b", 1, 0, 0)]);
        let told = ["b: there is no figure for it", "a: is not measured any more"];
        assert_eq!(kept.changes(&now), told);
    }

    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "instructions are compared on x86-64 only")]
    fn another_compiler_may_move_them_further() {
        let kept = figures("rustc 9", &[("a", 1_000, 100, 8)]);
        assert!(kept.changes(&figures("rustc 10", &[("a", 1_250, 100, 8)])).is_empty());
        let told = kept.changes(&figures("rustc 10", &[("a", 2_000, 100, 8)]));
        assert_eq!(told[1], "the figures were made with rustc 9; this is rustc 10");
    }
}
