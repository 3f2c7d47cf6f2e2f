//! A stand-in for the Bot API of Telegram, until it is ended: see `twobox_tests::telegram`.
//!
//! `telegram-stand-in [--port N]`
//!
//! The first line that it prints is its URL, and the second the token of its bot.

use std::process::ExitCode;

use twobox_tests::telegram::{TOKEN, Telegram};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port = match &arguments[..] {
        [] => Some(0),
        [name, port] if name == "--port" => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("usage: telegram-stand-in [--port N]");
        return ExitCode::from(2);
    };
    let server = match Telegram::open(port) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("error: could not listen: {error}");
            return ExitCode::from(2);
        }
    };
    println!("{}\n{TOKEN}", server.url());
    loop {
        std::thread::park();
    }
}
