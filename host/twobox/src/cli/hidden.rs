//! A line that is typed on a terminal and not shown there.

use std::io::{self, Stdin};

use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// What Ctrl-C, Ctrl-D and the two keys that take a letter back send.
const CANCEL: u8 = 3;
const END: u8 = 4;
const BACK: [u8; 2] = [8, 127];

/// Reads a line of at most `most` bytes and one more; `None` if the person thought better of it. The
/// terminal is as before afterwards.
pub(super) fn line(terminal: &Stdin, most: usize) -> io::Result<Option<Vec<u8>>> {
    let _quiet = Quiet::begin(terminal)?;
    let mut typed = Vec::new();
    loop {
        let mut key = [0_u8];
        let read = match rustix::io::read(terminal, &mut key) {
            Err(Errno::INTR) => continue,
            read => read?,
        };
        match key[0] {
            CANCEL => return Ok(None),
            _ if read == 0 => return Ok(Some(typed)),
            b'\n' | b'\r' | END => return Ok(Some(typed)),
            key if BACK.contains(&key) => drop(typed.pop()),
            key if typed.len() <= most => typed.push(key),
            _ => {} // it is too long by now, whatever follows
        }
    }
}

/// A terminal that shows nothing of what is typed, and hands on each key, until this is dropped. Keys that
/// would end the program are keys: it would leave the terminal mute.
struct Quiet<'t> {
    terminal: &'t Stdin,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn begin(terminal: &'t Stdin) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing any more.
        drop(
            tcsetattr(self.terminal, OptionalActions::Flush, &self.before).map_err(io::Error::from),
        );
    }
}
