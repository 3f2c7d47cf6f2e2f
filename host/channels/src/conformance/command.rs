//! The `command` channel, whose platform is a shell script with a folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tempfile::TempDir;
use twobox_config::ChannelSettings;

use super::{BUSY, Bench, Weather, conforms};
use crate::Channel;
use crate::command::CommandChannel;
use crate::kinds::Setup;

/// Shows what it is given in the file `shown`, as a line of key and text.
const SCRIPT: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 75
line=$(cat)
field() { printf '%s' "$line" | sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
key=$(field key) text=$(field text)
case $text in
    busy*) [ -e mended ] || { echo '{"retry_after_secs":SECONDS}'; exit 75; } ;;
    never*) [ -e mended ] || exit 1 ;;
esac
if ! [ -e keys ] || ! grep -q "^$key " shown 2>/dev/null; then
    printf '%s %s\n' "$key" "$text" >>shown
    path=$(field path)
    if [ -n "$path" ]; then { cat "$path" && echo; } >>files; fi
fi
case $text in
    silent*) [ -e mended ] || kill -s KILL $$ ;;
esac
"#;

struct CommandBench {
    folder: TempDir,
    keys: bool,
}

impl CommandBench {
    fn new(keys: bool) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), keys };
        bench.install();
        if keys {
            bench.touch("keys");
        }
        bench
    }

    fn touch(&self, name: &str) {
        fs::write(self.folder.path().join(name), "").unwrap();
    }

    fn install(&self) {
        let program = self.folder.path().join("program");
        // Renamed into its place, so that nobody who forks meanwhile has it open for writing.
        let fresh = self.folder.path().join("fresh");
        fs::write(&fresh, SCRIPT.replace("SECONDS", &BUSY.as_secs().to_string())).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o700)).unwrap();
        fs::rename(fresh, program).unwrap();
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Bench for CommandBench {
    fn begin(&mut self) -> Arc<dyn Channel> {
        let folder = self.folder.path();
        let mut settings = toml::Table::new();
        let program = folder.join("program").display().to_string();
        settings.insert("program".to_owned(), program.into());
        settings.insert("keys".to_owned(), self.keys.into());
        let settings = &ChannelSettings { kind: "command".to_owned(), settings };
        let scratch = &folder.join("scratch");
        let secrets = Arc::new(|_: &str| Ok(None));
        let name_of = &str::to_owned;
        let journal = Arc::new(crate::parts::MemoryJournal::default());
        let setup = Setup {
            id: "c",
            settings,
            name_of,
            folder,
            scratch,
            secrets,
            journal,
            file_max: 20 << 20,
        };
        Arc::new(CommandChannel::new(&setup).unwrap())
    }

    fn shown(&self) -> Vec<String> {
        let text = |line: String| line.split_once(' ').unwrap().1.to_owned();
        self.lines("shown").into_iter().map(text).collect()
    }

    fn files(&self) -> Vec<String> {
        self.lines("files")
    }

    fn knows(&self, _weather: Weather) -> bool {
        true
    }

    fn mend(&mut self) {
        self.touch("mended");
    }

    fn cut(&mut self, cut: bool) {
        match cut {
            true => fs::remove_file(self.folder.path().join("program")).unwrap(),
            false => self.install(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_conforms_with_keys_and_without() {
    for keys in [false, true] {
        conforms(|| CommandBench::new(keys)).await;
    }
}
