//! Whether Chrome's own sandbox could be put up here.

use std::{ffi::CStr, thread};

use rustix::{
    io::Errno,
    process::chroot,
    thread::{UnshareFlags, unshare_unsafe},
};

use super::{Check, number_in};

const NAME: &str = "user namespaces";

/// Settings that bar them, and the value that does.
const BARRED: [(&str, &str); 3] = [
    ("user/max_user_namespaces", "0"),
    ("kernel/unprivileged_userns_clone", "0"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1"),
];

/// Chrome's own sandbox needs them. Its setuid helper, which some systems have instead, gains
/// no rights in the jail.
pub fn check(no_sandbox: bool) -> Check {
    let setting = BARRED.iter().find(|(setting, value)| {
        number_in(&format!("/proc/sys/{setting}")).is_some_and(|now| now.to_string() == *value)
    });
    let (found, remedy) = match setting {
        Some((setting, value)) => by_setting(&setting.replace('/', "."), value),
        None => match filtered() {
            Some(call) => by_filter(call),
            None => return Check::ok(NAME, "usable"),
        },
    };
    if no_sandbox { Check::warn(NAME, found, remedy) } else { Check::fail(NAME, found, remedy) }
}

fn by_setting(setting: &str, value: &str) -> (String, String) {
    let better = match value {
        "1" => "0",
        _ if setting.starts_with("user.") => "65536",
        _ => "1",
    };
    (format!("barred: {setting} is {value}"), format!("sysctl -w {setting}={better}"))
}

fn by_filter(call: &str) -> (String, String) {
    let found = format!("barred: a seccomp profile refuses the system call {call}");
    let remedy = "run the container with docs/kubernetes/seccomp.json as its seccomp profile, or \
                  with --no-sandbox as the last resort";
    (found, remedy.to_owned())
}

/// The system call of those that the sandbox begins with which a seccomp filter refuses.
///
/// A filter answers before the kernel looks at what is asked, so each is asked for what the
/// kernel itself refuses, in another way: a process of several threads can have no new user
/// namespace, and there is no directory without a name.
fn filtered() -> Option<&'static str> {
    const NO_DIRECTORY: &CStr = c"";
    let unshared = thread::scope(|scope| {
        #[expect(unsafe_code, reason = "other flags of this call are dangerous")]
        // SAFETY: descriptors stay shared; that is what the call is unsafe for.
        let asked = || unsafe { unshare_unsafe(UnshareFlags::NEWUSER) };
        scope.spawn(asked).join()
    });
    if !matches!(unshared, Ok(Err(Errno::INVAL))) {
        return Some("unshare");
    }
    (chroot(NO_DIRECTORY) != Err(Errno::NOENT)).then_some("chroot")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::*;
    use crate::checks::Outcome;

    /// What is found on a thread with a filter that refuses one call, as a container's does.
    fn found_without(call: i64) -> Option<&'static str> {
        let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let rules = BTreeMap::from([(call, Vec::new())]);
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
        let filter = BpfProgram::try_from(filter).unwrap();
        let asked = || {
            rustix::thread::set_no_new_privs(true).unwrap();
            seccompiler::apply_filter(&filter).unwrap();
            filtered()
        };
        thread::scope(|scope| scope.spawn(asked).join().unwrap())
    }

    #[test]
    fn a_call_that_a_filter_refuses_is_named() {
        assert_eq!(found_without(libc::SYS_unshare), Some("unshare"));
        assert_eq!(found_without(libc::SYS_chroot), Some("chroot"));
        assert_eq!(found_without(libc::SYS_acct), None);
    }

    #[test]
    fn what_bars_them_is_a_failure_only_where_they_are_needed() {
        assert_eq!(filtered(), None, "this machine runs the other tests");
        assert_eq!(check(false).outcome, Outcome::Ok);
        let (found, remedy) = by_setting("user.max_user_namespaces", "0");
        assert!(found.contains("max_user_namespaces is 0"), "{found}");
        assert_eq!(remedy, "sysctl -w user.max_user_namespaces=65536");
    }
}
