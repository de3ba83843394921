//! A network of its own for an agent: a namespace with one line to this machine, which can be
//! cut without a word, so that packets vanish and nobody is told. Only root can.

use std::{
    net::Ipv4Addr,
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
};

/// Which packets vanish.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// All.
    Both,
    /// Those that come to the agent: it is heard, and hears nothing.
    Inbound,
    /// Those that it sends.
    Outbound,
}

/// Removed when it is dropped, with what runs in it still running.
pub struct Network {
    /// Of the namespace.
    name: String,
    /// Which of the small nets in 198.18.0.0/15, kept for tests by RFC 2544.
    number: u32,
}

/// 198.18.0.0, and how many nets of four addresses begin there.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const NETS: u32 = 1 << 15;
/// So many a test process may have before they could be another's.
const A_PROCESS: u32 = 4;

impl Network {
    /// Makes one.
    ///
    /// # Panics
    ///
    /// When we may not.
    #[expect(clippy::new_without_default, reason = "it changes the machine")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = (id() * A_PROCESS + NEXT.fetch_add(1, Ordering::Relaxed)) % NETS;
        let network = Self { name: format!("vt{number}"), number };
        let (name, here, there) = (&network.name, network.line('h'), network.line('n'));
        run(&format!("ip netns add {name}"));
        run(&format!("ip link add {here} type veth peer name {there} netns {name}"));
        run(&format!("ip address add {}/30 dev {here}", network.machine()));
        run(&format!("ip link set {here} up"));
        run(&format!("ip -n {name} address add {}/30 dev {there}", network.inside()));
        run(&format!("ip -n {name} link set {there} up"));
        run(&format!("ip -n {name} link set lo up"));
        network
    }

    /// This machine as it is seen from within.
    pub fn machine(&self) -> Ipv4Addr {
        Ipv4Addr::from(FIRST + self.number * 4 + 1)
    }

    /// Where those within are seen from this machine.
    pub fn inside(&self) -> Ipv4Addr {
        Ipv4Addr::from(FIRST + self.number * 4 + 2)
    }

    /// What goes before a command that is to run within, as the same process.
    pub fn enter(&self) -> [String; 3] {
        ["nsenter".into(), format!("--net=/run/netns/{}", self.name), "--".into()]
    }

    /// From now on packets to and from these ports of this machine vanish.
    ///
    /// # Panics
    ///
    /// When it is cut already.
    pub fn cut(&self, ports: &[u16], which: Cut) {
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        let (inbound, outbound) = match which {
            Cut::Both => (true, true),
            Cut::Inbound => (true, false),
            Cut::Outbound => (false, true),
        };
        let rule = |on: bool, side| match on {
            true => format!("tcp {side} {{ {ports} }} drop;"),
            false => String::new(),
        };
        let chain = |name, hook, rule| {
            format!("chain {name} {{ type filter hook {hook} priority 0; {rule} }}")
        };
        let rules = format!(
            "table ip cut {{ {}; {}; }}",
            chain("inbound", "input", rule(inbound, "sport")),
            // Behind what tells a sender that its packet went nowhere.
            chain("outbound", "postrouting", rule(outbound, "dport")),
        );
        self.nft(&rules);
    }

    /// The end of a [`Self::cut`].
    ///
    /// # Panics
    ///
    /// When it is not cut.
    pub fn mend(&self) {
        self.nft("delete table ip cut");
    }

    fn nft(&self, rules: &str) {
        let [program, network, end] = self.enter();
        let mut command = Command::new(program);
        done(command.args([&network, &end]).args(["nft", rules]));
    }

    /// The name of one end of the line.
    fn line(&self, end: char) -> String {
        format!("{}{end}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The line goes with one of its ends; the namespace when the last process in it has gone.
        for command in
            [format!("ip link delete {}", self.line('h')), format!("ip netns delete {}", self.name)]
        {
            let mut words = command.split(' ');
            let ended = Command::new(words.next().unwrap_or_default()).args(words).status();
            assert!(ended.is_ok_and(|ended| ended.success()) || std::thread::panicking());
        }
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    done(Command::new(words.next().unwrap_or_default()).args(words));
}

fn done(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
