//! Who listens on an address of this machine, as far as the kernel tells.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use twobox_system::owner;

/// The state of a socket that listens, in the kernel's tables.
const LISTENS: &str = "0A";

/// Somebody who listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    user: String,
    /// Its number and its name. Only root, and the same user, see that.
    process: Option<(u32, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "process {pid} ({name}) of user {}", self.user),
            None => write!(f, "a process of user {}", self.user),
        }
    }
}

/// Whose port that is by default, of programs that run where a host may: what a process is called says
/// less, when it is called `python3`.
pub fn usual(port: u16) -> Option<&'static str> {
    match port {
        8642 => Some("Hermes Agent"),
        8080 | 8000 | 3000 => Some("many a web server"),
        11434 => Some("Ollama"),
        18789 => Some("OpenClaw"),
        _ => None,
    }
}

/// `holder` in words, and whose port it usually is.
pub fn described(holder: Option<&Holder>, port: u16) -> String {
    let who = holder.map_or_else(|| "another program".to_owned(), ToString::to_string);
    match usual(port) {
        Some(program) => format!("{who} (port {port} is usually that of {program})"),
        None => who,
    }
}

/// Who listens on `address`, or in a way that takes it. Blocks.
///
/// Source: "/proc/net/tcp" in <https://docs.kernel.org/networking/proc_net_tcp.html>.
pub fn of(address: SocketAddr) -> Option<Holder> {
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| {
        let (uid, inode) = listener(&fs::read_to_string(table).ok()?, address)?;
        Some(Holder { user: owner::name(uid), process: process_with(inode) })
    })
}

/// The user and the socket of whoever listens on `wanted`, in a table of the kernel.
fn listener(table: &str, wanted: SocketAddr) -> Option<(u32, u64)> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, LISTENS, _, _, _, uid, _, inode, ..] = fields[..] else { return None };
        let (ip, port) = local.split_once(':')?;
        let (ip, port) = (address(ip)?, u16::from_str_radix(port, 16).ok()?);
        let meets = ip == wanted.ip() || ip.is_unspecified() || wanted.ip().is_unspecified();
        match port == wanted.port() && meets {
            true => Some((uid.parse().ok()?, inode.parse().ok()?)),
            false => None,
        }
    })
}

/// An address as the kernel writes it: words of 32 bits, each in the machine's own order.
fn address(hex: &str) -> Option<IpAddr> {
    let words: Vec<[u8; 4]> = (0..hex.len())
        .step_by(8)
        .map(|at| Some(u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    match words[..] {
        [v4] => Some(Ipv4Addr::from(v4).into()),
        [a, b, c, d] => {
            let bytes: [u8; 16] = [a, b, c, d].concat().try_into().ok()?;
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

/// The process that has the socket open, if it can be seen.
fn process_with(inode: u64) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find_map(|pid: u32| {
        let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let is_it = |link: std::path::PathBuf| link.as_os_str() == wanted.as_str();
        files.any(|file| fs::read_link(file.path()).is_ok_and(is_it)).then(|| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // A process calls itself what it likes.
            let harmless = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
            (pid, name.trim().chars().filter(harmless).collect())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_said_to_be_whose_it_seems() {
        let holder = Holder { user: "ann".to_owned(), process: Some((7, "python3".to_owned())) };
        let said = described(Some(&holder), 8642);
        assert_eq!(
            said,
            "process 7 (python3) of user ann (port 8642 is usually that of Hermes Agent)"
        );
        assert_eq!(described(None, 28_642), "another program");
    }

    #[test]
    fn who_listens_is_found_by_the_kernels_word() {
        for at in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let Ok(socket) = std::net::TcpListener::bind(at) else {
                eprintln!("SKIPPED: nobody can listen on {at} here");
                continue;
            };
            let there = socket.local_addr().unwrap();
            let said = of(there).unwrap_or_else(|| panic!("nobody on {there}")).to_string();
            let ours = format!("process {} (", std::process::id());
            let user = format!(") of user {}", owner::name(owner::us()));
            assert!(said.starts_with(&ours) && said.ends_with(&user), "{said}");
            drop(socket);
        }
        let freed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(of(freed), None);
    }

    #[test]
    fn a_table_names_those_that_are_in_the_way_and_no_others() {
        // As the kernel of a little-endian machine writes it.
        if cfg!(target_endian = "big") {
            return;
        }
        let head =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid";
        let line = |local: &str, state: &str| {
            format!(
                "{head}\n   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 \
                 00000000  1000        0 4711 1 0 100 0 0 10 0"
            )
        };
        let mapped = "0000000000000000FFFF00000100007F:21C2";
        let cases = [
            ("it", "0100007F:21C2", "0A", "127.0.0.1:8642", true),
            ("all addresses", "00000000:21C2", "0A", "127.0.0.1:8642", true),
            ("all are wanted", "0100007F:21C2", "0A", "0.0.0.0:8642", true),
            ("another port", "0100007F:21C3", "0A", "127.0.0.1:8642", false),
            ("another address", "0200007F:21C2", "0A", "127.0.0.1:8642", false),
            ("connected", "0100007F:21C2", "01", "127.0.0.1:8642", false),
            ("an old address in a new one", mapped, "0A", "127.0.0.1:8642", true),
            ("nonsense", "0100:21C2", "0A", "127.0.0.1:8642", false),
        ];
        for (case, local, state, wanted, found) in cases {
            let seen = listener(&line(local, state), wanted.parse().unwrap());
            assert_eq!(seen, found.then_some((1000, 4711)), "{case}");
        }
    }
}
