//! Who goes first at the processor.
//!
//! A page can have hundreds of threads, so the processor must be divided among browsers and not
//! among threads. The kernel does that by cgroup, and by session of processes (sched(7), "The
//! autogroup feature"): a browser leads one of its own. It does neither in a container that was
//! given no cgroup to divide, and everywhere it lets others wait for a tick. So who takes most of
//! a crowded machine is also put behind, and leaves some cores free.

use std::{
    collections::HashMap,
    fs,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use rustix::{
    process::{Pid, Uid, geteuid, setpriority_pgrp, setpriority_user},
    thread::{CapabilitySet, CpuSet, capabilities, sched_getaffinity, sched_setaffinity},
};
use tracing::debug;

use super::{
    Limits, bound, cgroup,
    processes::{Mark, Taken},
};

/// How much nicer than the agent a browser is: the agent answers first (nice(2)).
pub const NICE: i32 = 5;

/// How nice a browser is that was put behind: it gets all that the others leave, and of what they
/// want a third of what they get. Not less: what it waits for may be held by others still.
const NICE_BEHIND: i32 = 10;

/// Of so many cores, those that were put behind leave one free, and of fewer one as well.
/// Niceness alone does not do it: beside 16 busy threads on 2 cores the slowest of 100 answers of
/// a neighbour took 13 to 90 ms and with autogroups 4 ms, but with a core left free 0.6 to 1.7 ms,
/// and 0.9 ms beside nobody.
const ONE_FREE_OF: usize = 4;

/// Cores' worth that a browser may take without being counted.
const UNNOTICED: f64 = 0.1;

/// Cores' worth that a browser takes which does nothing: one tick now and then.
const AT_REST: f64 = 0.01;

/// Who takes so many times what is fair is put behind.
const TOO_MUCH: f64 = 1.2;

/// And who takes less than so much of what is fair, or of what is left to it, no longer is.
const MODEST: f64 = 0.5;

/// The machine is crowded when fewer cores idle than one of so many.
const CROWDED: f64 = 8.0;

/// And browsers are what crowds it when they take so much of it. Where it is others, each browser
/// has little enough.
const BY_BROWSERS: f64 = 0.5;

/// Clock ticks a second, as `/proc` counts them: the same on every Linux (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Lets a browser, which was just started, go after the agent.
pub fn behind_the_agent(leader: Pid) {
    // Not allowed to every agent, and then browsers run beside it as equals.
    let _ = setpriority_pgrp(Some(leader), NICE);
    let _ = fs::write(format!("/proc/{leader}/autogroup"), NICE.to_string());
}

/// Lets a browser that is about to be killed go first: to free what it holds takes the processor
/// too, and its user and directory are wanted back.
pub fn before_others(leader: Pid, user: Option<u32>) {
    if let Some(user) = user {
        let _ = setpriority_user(Uid::from_raw(user), 0);
    }
    let _ = fs::write(format!("/proc/{leader}/autogroup"), "0");
}

/// Whether the kernel divides the processor among browsers without being told to.
pub fn is_kept_by_kernel() -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    read("/proc/sys/kernel/sched_autogroup_enabled").trim() == "1" && !cgroup::divides_cpu()
}

/// Puts behind who takes too much.
pub struct Order {
    may_renice: bool,
    cores: Cores,
    /// Cores' worth that one browser may take; infinite without a bound.
    most: f64,
    idle: Mutex<Idle>,
}

/// How much the machine idles.
#[derive(Default)]
struct Idle {
    ticks: u64,
    looked: Option<Instant>,
}

/// The cores that browsers may use.
struct Cores {
    all: CpuSet,
    /// What those behind may use of them.
    behind: CpuSet,
}

/// What one browser takes of the processor, and whether it was put behind.
#[derive(Default)]
pub struct Standing {
    ticks: u64,
    looked: Option<Instant>,
    /// Cores' worth, the last seconds counting most.
    share: f64,
    behind: bool,
}

/// What a browser may take at present, in cores' worth.
#[derive(Clone, Copy)]
struct Bounds {
    /// More, and it is put behind.
    upper: f64,
    /// Not even that, and it is behind no longer.
    lower: f64,
}

impl Order {
    /// `None` where the kernel does not say which cores there are.
    pub fn of(limits: &Limits) -> Option<Self> {
        let cores = Cores::of(sched_getaffinity(None).ok()?);
        let most =
            bound(limits.cpu_percent).map_or(f64::INFINITY, |percent| count(percent) / 100.0);
        let own = capabilities(None);
        let may_renice = geteuid().is_root()
            && own.is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_NICE));
        Some(Self { may_renice, cores, most, idle: Mutex::default() })
    }

    /// Puts behind or lets up again, by what browsers have taken until `now`.
    pub fn keep<'a>(
        &self,
        browsers: impl Iterator<Item = (Mark, &'a mut Standing)>,
        taken: &HashMap<Mark, Taken>,
        now: Instant,
    ) {
        let mut browsers: Vec<_> = browsers
            .filter_map(|(mark, standing)| {
                let taken = taken.get(&mark)?;
                standing.note(taken.ticks, now);
                Some((mark, standing, taken))
            })
            .collect();
        let standings = browsers.iter().map(|(_, standing, _)| &**standing);
        let bounds = self.bounds(standings, self.is_full(now));
        for (mark, standing, taken) in &mut browsers {
            let changed = standing.judge(bounds);
            if changed {
                debug!(?mark, behind = standing.behind, "its place at the processor");
            }
            if changed && self.may_renice {
                renice(*mark, taken, if standing.behind { NICE_BEHIND } else { NICE });
            }
            // Again and again while it is behind: what it started meanwhile may be elsewhere.
            if changed || standing.behind {
                let cores = if standing.behind { &self.cores.behind } else { &self.cores.all };
                for thread in taken.threads() {
                    let _ = sched_setaffinity(Some(thread), cores);
                }
            }
        }
    }

    /// Whether hardly any core has idled since the last look.
    fn is_full(&self, now: Instant) -> bool {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.note(idle_ticks(&stat).unwrap_or(0), now)
            .is_some_and(|cores| cores < f64::from(self.cores.all.count()) / CROWDED)
    }

    fn bounds<'a>(&self, standings: impl Iterator<Item = &'a Standing>, full: bool) -> Bounds {
        let (mut sum, mut awake, mut active, mut behind) = (0.0, 0, 0, 0);
        for standing in standings {
            sum += standing.share;
            awake += u32::from(standing.share > AT_REST);
            active += u32::from(standing.share > UNNOTICED);
            behind += u32::from(standing.behind);
        }
        if awake < 2 {
            // Nobody is there to be held up, and who comes is seen with the next look.
            return Bounds { upper: self.most.max(UNNOTICED), lower: MODEST * self.most };
        }
        let fair = sum / f64::from(active.max(2));
        let crowded = full && sum >= BY_BROWSERS * f64::from(self.cores.all.count());
        let most = if crowded { self.most.min(TOO_MUCH * fair) } else { self.most };
        let room = f64::from(self.cores.behind.count()) / f64::from(behind.max(1));
        let lower = MODEST * fair.min(room).min(self.most);
        Bounds { upper: most.max(UNNOTICED), lower }
    }
}

impl Idle {
    /// Takes in how long all cores have idled so far; answers how many that are since last time.
    fn note(&mut self, ticks: u64, now: Instant) -> Option<f64> {
        let before = std::mem::replace(&mut self.ticks, ticks);
        let looked = self.looked.replace(now)?;
        Some(count(ticks.saturating_sub(before)) / TICKS / (now - looked).as_secs_f64())
    }
}

/// From `/proc/stat`: the time that cores had nothing to do, or nothing but to wait for a disk.
fn idle_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().skip(3);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Among threads of one session, and among sessions. What a browser starts from then on is as
/// nice as what starts it.
fn renice(mark: Mark, taken: &Taken, nice: i32) {
    if let Mark::User(user) = mark {
        let _ = setpriority_user(Uid::from_raw(user), nice);
    }
    for process in taken.processes() {
        let _ = fs::write(format!("/proc/{process}/autogroup"), nice.to_string());
    }
}

impl Cores {
    fn of(all: CpuSet) -> Self {
        let free = (all.count() as usize / ONE_FREE_OF).max(1);
        let mut behind = all;
        for core in (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).take(free) {
            behind.unset(core);
        }
        Self { all, behind: if behind.count() == 0 { all } else { behind } }
    }
}

impl Standing {
    /// Takes in what was taken so far.
    fn note(&mut self, ticks: u64, now: Instant) {
        if let Some(looked) = self.looked.replace(now) {
            // What ended since then took its time with it.
            let taken = count(ticks.saturating_sub(self.ticks)) / TICKS;
            self.share = f64::midpoint(self.share, taken / (now - looked).as_secs_f64());
        }
        self.ticks = ticks;
    }

    /// Whether that changes its place.
    fn judge(&mut self, bounds: Bounds) -> bool {
        let bound = if self.behind { bounds.lower } else { bounds.upper };
        let behind = self.share > bound;
        std::mem::replace(&mut self.behind, behind) != behind
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
fn count(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: Bounds = Bounds { upper: 1.0, lower: 0.5 };

    fn order(cores: usize, most: f64) -> Order {
        let mut all = CpuSet::new();
        (0..cores).for_each(|core| all.set(core));
        Order { may_renice: false, cores: Cores::of(all), most, idle: Mutex::default() }
    }

    fn standing(share: f64, behind: bool) -> Standing {
        Standing { share, behind, ..Standing::default() }
    }

    #[test]
    fn who_takes_too_much_is_put_behind_until_it_takes_less() {
        let (mut standing, mut now, mut ticks) = (Standing::default(), Instant::now(), 0);
        let mut second = |cores: f64| {
            now += Duration::from_secs(1);
            ticks += (cores * TICKS).round() as u64;
            standing.note(ticks, now);
            standing.judge(BOUNDS);
            standing.behind
        };
        assert!(!second(0.0));
        assert!(!second(1.5), "a burst is no offence");
        assert!(second(1.5));
        assert!(second(0.1), "not at once");
        assert!(!second(0.1));
    }

    fn bounds(shares: &[(f64, bool)], crowded: bool) -> Bounds {
        let standings: Vec<_> = shares.iter().map(|(share, b)| standing(*share, *b)).collect();
        order(2, 4.0).bounds(standings.iter(), crowded)
    }

    #[test]
    fn what_is_fair_goes_by_what_others_take() {
        let fair = |shares: &[f64]| {
            let shares: Vec<_> = shares.iter().map(|share| (*share, false)).collect();
            bounds(&shares, true).upper
        };
        assert_eq!(fair(&[1.98, 0.02]), 1.2, "who does little is not to wait for who does much");
        assert_eq!(fair(&[1.0, 1.0, 0.0]), 1.2, "who does nothing does not count");
        assert_eq!(fair(&[0.75, 0.5, 0.25]), 0.6);
        assert_eq!(bounds(&[(2.0, false), (0.3, false)], false).upper, 4.0, "nobody wants it");
        assert_eq!(bounds(&[(9.0, false), (0.3, false)], true).upper, 4.0, "more than it may");
        assert_eq!(bounds(&[(0.6, false), (0.1, false)], true).upper, 4.0, "others crowd it");
    }

    #[test]
    fn who_works_alone_has_all_of_the_machine() {
        for others in [&[][..], &[(0.0, false), (0.01, false)]] {
            let of = |alone| bounds(&[&[(2.0, alone)], others].concat(), true);
            assert_eq!(of(false).upper, 4.0, "beside {others:?}");
            assert!(of(true).lower >= 2.0, "and has it again beside {others:?}");
        }
    }

    #[test]
    fn who_takes_all_that_is_left_to_it_stays_behind() {
        assert!(bounds(&[(1.0, true), (0.3, false)], false).lower < 1.0);
        assert!(bounds(&[(0.5, true), (0.5, true)], false).lower < 0.5);
    }

    #[test]
    fn how_much_the_machine_idles_is_read_from_its_ticks() {
        let stat = "cpu  10 2 30 4000 50 6 7 0 0 0\ncpu0 1 2 3 4 5\n";
        assert_eq!(idle_ticks(stat), Some(4050));
        let (mut idle, now) = (Idle::default(), Instant::now());
        assert_eq!(idle.note(4050, now), None);
        assert_eq!(idle.note(4200, now + Duration::from_secs(1)), Some(1.5));
    }

    #[test]
    fn those_behind_leave_a_core_free_where_there_are_two() {
        for (cores, left) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (64, 48)] {
            assert_eq!(order(cores, 1.0).cores.behind.count(), left, "of {cores}");
        }
    }

    #[test]
    fn every_thread_of_who_is_behind_leaves_the_free_core() {
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("sh");
        let mut child = child.args(["-c", "sleep 60 & wait"]).process_group(0).spawn().unwrap();
        let leader = Pid::from_child(&child);
        let mark = Mark::Group(leader.as_raw_nonzero().get());
        let order = Order {
            may_renice: false,
            cores: Cores::of(sched_getaffinity(None).unwrap()),
            most: 4.0,
            idle: Mutex::default(),
        };
        let mut told = standing(100.0, false);
        let mut keep = |share: f64| {
            told.share = share;
            let taken = super::super::processes::taken(&[mark], false);
            order.keep([(mark, &mut told)].into_iter(), &taken, Instant::now());
            sched_getaffinity(Some(leader)).unwrap()
        };
        let (behind, again) = (keep(100.0), keep(0.0));
        rustix::process::kill_process_group(leader, rustix::process::Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(behind == order.cores.behind, "it is behind");
        assert!(again == order.cores.all, "and no longer");
    }
}
