//! The layer of Landlock: which files, ports, signals and sockets a process can reach
//! (landlock(7)).
//!
//! The lists are the least with which both builds of Chromium 156 did all that they do
//! without a jail; found with strace, and by leaving entries out. What is not on them does
//! not exist for a browser, `/home`, `/root`, `/run`, `/sys` and most of `/etc` and `/var`
//! first of all.

use std::path::Path;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
    path_beneath_rules,
};

use crate::browser::directory::Directory;

/// What is asked for; an older kernel gives what it has. The newest versions close paths
/// of sockets (9) and UDP (10), which no browser here opens: nothing it needs goes.
const NEWEST: ABI = ABI::V10;

/// From where on files, TCP, signals and abstract sockets are all confined.
const COMPLETE: i32 = 6;

/// Libraries, and data that they and the browser look up. Policies are the operator's word
/// to the browser. Without fontconfig's cache a browser reads every font at its start.
const READABLE: [&str; 32] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/usr/share/fontconfig",
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "/usr/share/X11/xkb",
    "/etc/fonts",
    "/var/cache/fontconfig",
    "/usr/share/icu",
    "/usr/share/locale",
    "/usr/share/zoneinfo",
    "/etc/localtime",
    "/usr/share/mime",
    "/usr/share/vulkan",
    "/usr/share/ca-certificates",
    "/usr/share/pki",
    "/usr/local/share/ca-certificates",
    "/etc/ca-certificates",
    "/etc/pki",
    "/etc/ssl",
    "/etc/chromium",
    "/etc/chromium-browser",
    "/etc/opt/chrome",
    "/etc/opt/chrome_for_testing",
    "/usr/share/chromium",
    "/dev/urandom",
    "/dev/zero",
];

/// Loaders of programs, which are run with every program.
const LOADERS: [&str; 5] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// How far the kernel's Landlock goes: `Err` when that is not far enough, with why. Confines
/// the calling thread: nothing else tells.
pub fn reach() -> Result<String, String> {
    let tried = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(Ruleset::create)
        .and_then(RulesetCreated::restrict_self);
    match tried.map_err(|error| error.to_string())?.landlock {
        LandlockStatus::Available { effective_abi, .. } => match effective_abi as i32 {
            ..=3 => Err(format!("version {effective_abi}: TCP, signals and sockets are open")),
            4..COMPLETE => Err(format!("version {effective_abi}: signals and sockets are open")),
            _ => Ok(format!("version {effective_abi}: files, TCP, signals and sockets")),
        },
        LandlockStatus::NotEnabled => Err("the kernel has it, but switched off".into()),
        LandlockStatus::NotImplemented => Err("the kernel does not have it".into()),
    }
}

/// Confines the calling thread, and all that it starts, for good: to running `program`, to
/// the browser's directory, and to its gateway. As far as the kernel can.
pub fn restrict(program: &Path, directory: &Directory, gateway: u16) -> Result<(), RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let run: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::Execute;
    let own = make_bitflags!(AccessFs::{
        ReadFile | ReadDir | WriteFile | Truncate | Refer | MakeReg | MakeDir | MakeSym | MakeFifo
            | MakeSock | RemoveFile | RemoveDir | ResolveUnix
    });
    let installation = program.parent().into_iter();
    // Beside it lies what it runs to be told of crashes.
    let helpers =
        ["chrome_crashpad_handler", "chrome-sandbox"].map(|helper| program.with_file_name(helper));
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(READABLE, read))?
        .add_rules(path_beneath_rules(installation, read))?
        .add_rules(path_beneath_rules(LOADERS, run))?
        .add_rules(path_beneath_rules([program], run))?
        .add_rules(path_beneath_rules(helpers, run))?
        // Its own processes are there, and where its sandbox writes how users are mapped. Of
        // others it sees no more than what everybody may see: Landlock guards the rest.
        .add_rules(path_beneath_rules(["/proc"], read | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
        // Not to be listed: names there are secrets between a browser's processes.
        .add_rules(path_beneath_rules(
            ["/dev/shm"],
            make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate | MakeReg | RemoveFile}),
        ))?
        .add_rules(path_beneath_rules([directory.path()], read))?
        .add_rules(path_beneath_rules(directory.writable(), own))?
        .add_rule(NetPort::new(gateway, AccessNet::ConnectTcp))?
        .restrict_self()
        .map(drop)
}
