//! What `agent-runner mcp` is asked.

use std::ffi::OsString;

use lexopt::{Arg, Parser};

use super::Asked;

/// Reads what stands behind the word: where the desk is, or a server of others and where it is to run.
pub(super) fn parse(mut parser: Parser) -> Result<Asked, String> {
    let (mut socket, mut folder) = (None, None);
    while let Some(arg) = parser.next().map_err(|error| error.to_string())? {
        match arg {
            Arg::Long("socket") => {
                socket = Some(parser.value().map_err(|error| error.to_string())?);
            }
            Arg::Long("in") => folder = Some(parser.value().map_err(|error| error.to_string())?),
            Arg::Value(program) if folder.is_some() => {
                let folder = folder.unwrap_or_default().into();
                let rest = parser.raw_args().map_err(|error| error.to_string())?;
                let command: Vec<OsString> = std::iter::once(program).chain(rest).collect();
                return Ok(Asked::McpOfOthers { folder, command });
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    match (socket, folder) {
        (Some(socket), None) => Ok(Asked::Mcp(socket.into())),
        (_, Some(_)) => Err("mcp: --in DIR is followed by the program to run there".to_owned()),
        (None, None) => {
            Err("mcp: --socket is missing: a runner gives it to its programs".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_for_the_hosts_tools_or_for_a_server_of_others() {
        let of = |args: &[&str]| parse(Parser::from_args(args));
        assert!(matches!(of(&["--socket", "/s"]), Ok(Asked::Mcp(socket)) if socket == *"/s"));
        let others = of(&["--in", "/p", "python3", "--in", "x"]);
        let Ok(Asked::McpOfOthers { folder, command }) = others else { panic!("{others:?}") };
        assert_eq!((folder.to_str(), command.len()), (Some("/p"), 3));
        for (args, why) in [
            (&[][..], "--socket is missing"),
            (&["--in", "/p"], "followed by the program"),
            (&["python3"], "unexpected argument"),
        ] {
            let error = of(args).map(drop).unwrap_err();
            assert!(error.contains(why), "{args:?}: {error}");
        }
    }
}
