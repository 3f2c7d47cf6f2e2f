//! Runs the stand-in for Discord until it is ended, and says on standard output where it is.

use std::io::Write;
use std::time::Duration;

use twobox_tests::discord::{Discord, Options};

fn main() -> std::io::Result<()> {
    // Who judges it connects more often than a bot does, and gives signs of life at once.
    let options =
        Options { beat: Duration::from_secs(2), introductions: 100, ..Options::default() };
    let discord = Discord::open(options)?;
    // At once: whoever waits for the first line reads the second, too.
    print!("{}\n{}\n", discord.url(), discord.token());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}
