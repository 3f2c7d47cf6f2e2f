//! What the kernel says of a process of this machine.

use std::fs::File;
use std::io::{self, Read};

use rustix::process::Pid;

/// How much is read. What a process shows as its arguments and environment is its own memory, and it
/// may point that at as much as it likes.
const SIZE_MAX: u64 = 256 << 10;

/// The beginning of the file `what` of process `pid`, such as `cmdline` or `environ`.
///
/// # Errors
/// The system's: the process has ended, or is somebody else's.
pub fn read(pid: Pid, what: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/{what}"))?.take(SIZE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn of_a_process_that_shows_much_the_beginning_is_read() {
        let mut child = Command::new("sleep")
            .arg("60")
            .env_clear()
            .envs((0..8).map(|n| (format!("V{n}"), "x".repeat(100_000))))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        // Until the program has begun, its memory is still this one's.
        while read(pid, "cmdline").unwrap() != b"sleep\x0060\0" {
            std::thread::yield_now();
        }
        let read = read(pid, "environ").unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(read.len() as u64, SIZE_MAX);
        assert!(read.starts_with(b"V0=xxx"));
    }
}
