//! Real mail servers, Exim and Dovecot, with mailboxes of their own under a temporary folder; and people who have one.
//! Debian's packages `exim4-daemon-light`, `dovecot-core` and `dovecot-imapd` have them.

mod parted;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mailparse::{MailHeaderMap, ParsedMail, parse_mail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, User};
use tempfile::TempDir;

use crate::scenario::skipped;
use crate::wait::{PATIENCE, wait_for, wait_within};

pub use parted::{Parted, Parting};

/// Set where the tests must not be skipped.
const REQUIRED: &str = "TWOBOX_REQUIRE_MAIL";

/// Who the servers run as, by the packages.
const OWNER: &str = "Debian-exim";

/// The domain of all mailboxes.
const DOMAIN: &str = "t.local";

/// What the receiving server calls itself in `Authentication-Results`.
pub const AUTHSERV: &str = "mx.t.local";

/// Whether the servers speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// They are on this machine, and do not.
    Open,
    /// They want it.
    Tls,
}

/// Servers of their own. They end with their test.
#[derive(Debug)]
pub struct MailServers {
    dir: TempDir,
    secrecy: Secrecy,
    smtp: u16,
    imap: u16,
    exim: Option<Child>,
    dovecot: Option<Child>,
}

/// A mail as it lies in a mailbox.
#[derive(Debug, Clone)]
pub struct Mail {
    raw: Vec<u8>,
}

impl Mail {
    fn read<T>(&self, look: impl FnOnce(&ParsedMail<'_>) -> T) -> T {
        look(&parse_mail(&self.raw).unwrap())
    }

    /// A header; empty if it is not there.
    pub fn header(&self, name: &str) -> String {
        self.read(|mail| mail.headers.get_first_value(name).unwrap_or_default())
    }

    /// What is written in it.
    pub fn text(&self) -> String {
        self.read(|mail| text(mail).unwrap_or_default().replace("\r\n", "\n").trim_end().to_owned())
    }

    /// As it came.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// The names of its files, with what is in them.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.read(|mail| {
            let file = |part: &ParsedMail<'_>| {
                let name = part.get_content_disposition().params.get("filename").cloned()?;
                Some((name, part.get_body_raw().unwrap()))
            };
            mail.subparts.iter().filter_map(file).collect()
        })
    }
}

fn text(part: &ParsedMail<'_>) -> Option<String> {
    match part.ctype.mimetype.as_str() {
        "text/plain" => part.get_body().ok(),
        _ => part.subparts.iter().find_map(text),
    }
}

impl MailServers {
    /// Begins them; `None` with a loud word where they are not here.
    ///
    /// # Panics
    /// If they are not there and `TWOBOX_REQUIRE_MAIL` is set, unless to 0.
    #[track_caller]
    pub fn begin(secrecy: Secrecy) -> Option<Self> {
        let has = |program: &str| Path::new("/usr/sbin").join(program).exists();
        if !has("exim4") || !has("dovecot") {
            skipped(
                REQUIRED,
                "there are no mail servers: install exim4-daemon-light and dovecot-imapd",
            );
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            skipped(REQUIRED, "only root can start mail servers of its own");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("twobox-mail-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = User::from_name(OWNER).unwrap().expect("the package has made its user");
        for name in ["spool", "log", "box"] {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            chown(&folder, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
        }
        let [smtp, imap] = [free_port(), free_port()];
        let mut servers = Self { dir, secrecy, smtp, imap, exim: None, dovecot: None };
        servers.settle(owner.uid.as_raw());
        servers.start_exim();
        servers.start_dovecot();
        Some(servers)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settle(&self, owner: u32) {
        if self.secrecy == Secrecy::Tls {
            let (key, certificate) = (self.path("key.pem"), self.certificate());
            let made = Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ])
                .args([
                    "-days",
                    "2",
                    "-subj",
                    "/CN=localhost",
                    "-addext",
                    "basicConstraints=critical,CA:FALSE",
                ])
                .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout"])
                .args([&key, Path::new("-out"), &certificate])
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            chown(&key, Some(owner), None).unwrap();
        }
        fs::write(self.path("exim.conf"), self.exim_settings()).unwrap();
        fs::write(self.path("dovecot.conf"), self.dovecot_settings()).unwrap();
    }

    /// The certificate by which the servers are known, for `SSL_CERT_FILE`.
    pub fn certificate(&self) -> PathBuf {
        self.path("certificate.pem")
    }

    fn exim_settings(&self) -> String {
        let (dir, port) = (self.dir.path().display(), self.smtp);
        let tls = match self.secrecy {
            Secrecy::Open => "tls_advertise_hosts =".to_owned(),
            Secrecy::Tls => format!(
                "tls_advertise_hosts = *\ntls_certificate = {dir}/certificate.pem\n\
                 tls_privatekey = {dir}/key.pem\nauth_advertise_hosts = ${{if def:tls_in_cipher{{*}}}}"
            ),
        };
        // Whoever writes in the name of another here is told from them by the envelope, as a server tells by a signature.
        format!(
            "primary_hostname = {DOMAIN}\nspool_directory = {dir}/spool\nlog_file_path = {dir}/log/%slog\n\
             pid_file_path = {dir}/log/exim.pid\ndaemon_smtp_ports = {port}\nlocal_interfaces = 127.0.0.1\n{tls}\n\
             keep_environment =\nnever_users =\nqueue_run_max = 5\nacl_smtp_rcpt = accept_rcpt\n\
             acl_smtp_data = accept_data\nrecipients_max = 50\nmessage_size_limit = 40M\n\
             begin acl\n\
             accept_rcpt:\n  deny local_parts = full\n    message = the mailbox is gone\n  defer local_parts = busy\n    \
             message = come back later\n  accept\n\
             accept_data:\n  warn condition = ${{if eqi{{$sender_address}}{{${{address:$h_from:}}}}}}\n    \
             add_header = :at_start:Authentication-Results: {AUTHSERV}; dmarc=pass header.from={DOMAIN}\n  \
             warn condition = ${{if !eqi{{$sender_address}}{{${{address:$h_from:}}}}}}\n    \
             add_header = :at_start:Authentication-Results: {AUTHSERV}; dmarc=fail header.from={DOMAIN}\n  accept\n\
             begin routers\n\
             sent:\n  driver = accept\n  unseen\n  senders = bot@{DOMAIN}\n  domains = {DOMAIN}\n  transport = sent\n  \
             no_verify\n\
             local:\n  driver = accept\n  domains = {DOMAIN}\n  local_parts = bot : me : you : eve : full : busy\n  \
             transport = box\n\
             begin transports\n\
             box:\n  driver = appendfile\n  maildir_format\n  directory = {dir}/box/$local_part_data\n  create_directory\n  \
             return_path_add\n  user = {OWNER}\n  group = {OWNER}\n\
             sent:\n  driver = appendfile\n  maildir_format\n  directory = {dir}/box/bot/.Sent\n  create_directory\n  \
             user = {OWNER}\n  group = {OWNER}\n\
             begin authenticators\n\
             plain:\n  driver = plaintext\n  public_name = PLAIN\n  \
             server_condition = ${{if and{{{{eq{{$auth2}}{{bot@{DOMAIN}}}}}{{eq{{$auth3}}{{pw}}}}}}}}\n  \
             server_set_id = $auth2\n"
        )
    }

    fn dovecot_settings(&self) -> String {
        let (dir, port) = (self.dir.path().display(), self.imap);
        let tls = match self.secrecy {
            Secrecy::Open => "ssl = no\ndisable_plaintext_auth = no".to_owned(),
            Secrecy::Tls => format!(
                "ssl = required\nssl_cert = <{dir}/certificate.pem\nssl_key = <{dir}/key.pem"
            ),
        };
        format!(
            "base_dir = {dir}/run\nlog_path = {dir}/log/dovecot.log\nprotocols = imap\nlisten = 127.0.0.1\n{tls}\n\
             first_valid_uid = 1\nmail_location = maildir:{dir}/box/%n\n\
             passdb {{\n  driver = static\n  args = password=pw\n}}\n\
             userdb {{\n  driver = static\n  args = uid={OWNER} gid={OWNER} home={dir}/box/%n\n}}\n\
             service imap-login {{\n  inet_listener imap {{\n    port = {port}\n  }}\n  inet_listener imaps {{\n    \
             port = 0\n  }}\n}}\n"
        )
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Child {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.path("log/said")).unwrap();
        let mut command = Command::new(Path::new("/usr/sbin").join(program));
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null()).process_group(0);
        command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }

    /// Starts the one that takes mail, and waits until it greets.
    #[track_caller]
    pub fn start_exim(&mut self) {
        let config = self.path("exim.conf");
        self.exim = Some(self.command("exim4", &["-C", config.to_str().unwrap(), "-bdf", "-q1m"]));
        wait_for("exim to greet", || greets(self.smtp).then_some(()));
    }

    /// Starts the one for reading, and waits until it greets. A port that it had before may not be free at once.
    #[track_caller]
    pub fn start_dovecot(&mut self) {
        let config = self.path("dovecot.conf");
        wait_within(Duration::from_secs(60), "dovecot to greet", || {
            let gone = match &mut self.dovecot {
                Some(process) => process.try_wait().unwrap().is_some(),
                None => true,
            };
            if gone {
                self.dovecot =
                    Some(self.command("dovecot", &["-F", "-c", config.to_str().unwrap()]));
            }
            greets(self.imap).then_some(())
        });
    }

    /// SIGKILL to all of exim.
    pub fn kill_exim(&mut self) {
        end(self.exim.take(), Signal::SIGKILL);
    }

    /// SIGKILL to all of dovecot.
    pub fn kill_dovecot(&mut self) {
        end(self.dovecot.take(), Signal::SIGKILL);
    }

    /// Has dovecot lose its list of the mails in a folder, and keep its index, as a copy from a backup may.
    #[track_caller]
    pub fn lose_uid_list(&mut self, name: &str) {
        self.kill_dovecot();
        fs::remove_file(self.folder(name).join("dovecot-uidlist")).unwrap();
        self.start_dovecot();
    }

    /// Makes a mailbox anew, empty.
    #[track_caller]
    pub fn renew_folder(&mut self, name: &str) {
        self.kill_dovecot();
        fs::remove_dir_all(self.folder(name)).unwrap();
        self.start_dovecot();
    }

    /// What was written to somebody, in the order in which the server has numbered it.
    pub fn texts_by_number(&self, name: &str) -> Vec<String> {
        let list = fs::read_to_string(self.folder(name).join("dovecot-uidlist")).unwrap();
        let files = list.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.1));
        let read = |file: &str| {
            let found = ["new", "cur"].iter().find_map(|it| {
                let mut entries = fs::read_dir(self.folder(name).join(it)).unwrap().flatten();
                entries.find(|entry| entry.file_name().to_string_lossy().starts_with(file))
            });
            Mail { raw: fs::read(found.expect("a mail that is numbered").path()).unwrap() }.text()
        };
        files.map(read).collect()
    }

    /// The port for sending.
    pub fn smtp_port(&self) -> u16 {
        self.smtp
    }

    /// The port for reading.
    pub fn imap_port(&self) -> u16 {
        self.imap
    }

    /// The address of somebody.
    pub fn address(&self, name: &str) -> String {
        format!("{name}@{DOMAIN}")
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.path("box").join(name)
    }

    /// All mail of somebody, in the order in which it came.
    pub fn mails(&self, name: &str) -> Vec<Mail> {
        let mut files: Vec<(std::time::SystemTime, PathBuf)> = ["new", "cur"]
            .iter()
            .filter_map(|it| fs::read_dir(self.folder(name).join(it)).ok())
            .flatten()
            .map(|entry| entry.unwrap())
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        files.iter().filter_map(|(_, path)| Some(Mail { raw: fs::read(path).ok()? })).collect()
    }

    /// What was written to somebody, in order.
    pub fn texts(&self, name: &str) -> Vec<String> {
        self.mails(name).iter().map(Mail::text).collect()
    }

    /// How often each text was written to somebody.
    pub fn count(&self, name: &str) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for text in self.texts(name) {
            *count.entry(text).or_default() += 1;
        }
        count
    }

    /// Waits for a mail with this text.
    #[track_caller]
    pub fn wait_mail(&self, name: &str, text: &str) -> Mail {
        wait_within(Duration::from_secs(60), &format!("a mail to {name} with {text:?}"), || {
            self.mails(name).into_iter().find(|mail| mail.text() == text)
        })
    }

    /// Has the server take a mail from `from` to `to`, as it is. Returns its answer to the end of it.
    #[track_caller]
    pub fn post(&self, from: &str, to: &str, mail: &str) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.smtp)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = BufReader::new(stream);
        let mut said = String::new();
        let mail = mail.replace("\r\n", "\n").replace("\n.", "\n..").replace('\n', "\r\n");
        let commands = [
            String::new(),
            "EHLO witness\r\n".to_owned(),
            format!("MAIL FROM:<{from}>\r\n"),
            format!("RCPT TO:<{to}>\r\n"),
            "DATA\r\n".to_owned(),
            format!("{mail}\r\n.\r\n"),
        ];
        for command in commands {
            stream.get_mut().write_all(command.as_bytes()).unwrap();
            loop {
                said.clear();
                stream.read_line(&mut said).unwrap();
                if said.as_bytes().get(3) != Some(&b'-') {
                    break;
                }
            }
        }
        said.trim_end().to_owned()
    }

    /// As [`MailServers::post`], of a mail between people, with `more` in its head.
    #[track_caller]
    pub fn write(&self, from: &str, subject: &str, more: &str, text: &str) -> String {
        let (from, to) = (self.address(from), self.address("bot"));
        let id = format!("<{:x}@witness>", fastrand::u64(..));
        let has_id = more.to_lowercase().contains("message-id:");
        let head = if has_id { String::new() } else { format!("Message-ID: {id}\n") };
        let mail =
            format!("From: Me <{from}>\nTo: {to}\nSubject: {subject}\n{head}{more}\n{text}\n");
        let answer = self.post(&from, &to, &mail);
        assert!(answer.starts_with("250"), "{answer}");
        id
    }

    /// A connection in between that parts as it is told.
    pub fn parted(&self) -> Parted {
        Parted::before(self.smtp)
    }

    fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.path("log").join(name)).unwrap_or_default();
        ["mainlog", "rejectlog", "paniclog", "dovecot.log", "said"].map(read).concat()
    }
}

impl Drop for MailServers {
    fn drop(&mut self) {
        end(self.exim.take(), Signal::SIGTERM);
        end(self.dovecot.take(), Signal::SIGTERM);
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("the mail servers' last words:");
            lines.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

/// Ends a server with all that it has started, which is in a group of its own.
fn end(process: Option<Child>, signal: Signal) {
    let Some(mut process) = process else { return };
    let group = Pid::from_raw(process.id().cast_signed());
    killpg(group, signal).ok();
    let gone = |process: &mut Child| {
        let end = std::time::Instant::now() + Duration::from_secs(5);
        while std::time::Instant::now() < end {
            if process.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    };
    if !gone(&mut process) {
        killpg(group, Signal::SIGKILL).ok();
        process.wait().unwrap();
    }
    killpg(group, Signal::SIGKILL).ok(); // who was left behind
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a server at this port says something.
fn greets(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok_and(|length| length > 0)
}
