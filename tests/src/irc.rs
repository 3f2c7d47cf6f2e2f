//! Real servers of IRC, ngircd and InspIRCd, the latter with the services of Atheme where people are to log in; and people
//! who are there and see what everybody in a channel sees.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use crate::scenario::skipped;
use crate::wait::{wait_for, wait_within};

/// Set where the tests must not be skipped.
const REQUIRED: &str = "TWOBOX_REQUIRE_IRC";

/// How long a line may take that a server holds back.
const SLOW: Duration = Duration::from_secs(90);

/// Which software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    /// Old and small: no labels, no echo, no times.
    Ngircd,
    /// It has all of that.
    Inspircd,
    /// The same, where people have accounts.
    InspircdWithServices,
}

/// A server of its own. It ends with its test.
#[derive(Debug)]
pub struct Ircd {
    software: Software,
    dir: TempDir,
    program: PathBuf,
    plain: u16,
    tls: u16,
    services: u16,
    fingerprint: String,
    process: Option<Child>,
    atheme: Option<Child>,
}

impl Ircd {
    /// Begins one; `None` with a loud word where it is not here.
    ///
    /// # Panics
    /// If it is not there and `TWOBOX_REQUIRE_IRC` is set, unless to 0.
    #[track_caller]
    pub fn begin(software: Software) -> Option<Self> {
        let names: &[&str] = match software {
            Software::Ngircd => &["ngircd"],
            Software::Inspircd => &["inspircd"],
            Software::InspircdWithServices => &["inspircd", "atheme-services"],
        };
        if let Some(missing) = names.iter().find(|name| find(name).is_none()) {
            skipped(
                REQUIRED,
                &format!("there is no {missing}: apt-get install ngircd inspircd atheme-services"),
            );
            return None;
        }
        let dir = tempfile::Builder::new().prefix("twobox-irc-").tempdir().unwrap();
        // The servers give up root, and read what is theirs afterwards.
        open_to_all(dir.path());
        let fingerprint = certificate(dir.path());
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut ircd = Self {
            software,
            program: find(names[0]).unwrap(),
            plain: port(),
            tls: port(),
            services: port(),
            fingerprint,
            process: None,
            atheme: None,
            dir,
        };
        ircd.start();
        Some(ircd)
    }

    /// Starts it and waits until somebody is let in.
    #[track_caller]
    pub fn start(&mut self) {
        let dir = self.dir.path();
        let config = dir.join("conf");
        let mut command = Command::new(&self.program);
        match self.software {
            Software::Ngircd => {
                fs::write(&config, self.ngircd("")).unwrap();
                command.args(["--nodaemon", "--config"]).arg(&config);
            }
            Software::Inspircd | Software::InspircdWithServices => {
                fs::write(&config, self.inspircd()).unwrap();
                command.args(["--nofork", "--nolog", "--runasroot", "--config"]).arg(&config);
            }
        }
        self.process = Some(self.spawn(command, "log"));
        wait_for("the server to let somebody in", || {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "the server ended: {}", self.read("log"));
            IrcPerson::try_enter(self.address(), "starter", None).map(drop)
        });
        if self.software == Software::InspircdWithServices {
            self.start_services();
        }
    }

    /// Starts it anew with another section of ngircd's configuration.
    #[track_caller]
    pub fn start_with(&mut self, more: &str) {
        let config = self.dir.path().join("conf");
        fs::write(&config, self.ngircd(more)).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["--nodaemon", "--config"]).arg(&config);
        self.process = Some(self.spawn(command, "log"));
        wait_for("the server", || TcpStream::connect(self.address()).ok());
    }

    fn start_services(&mut self) {
        let config = self.dir.path().join("atheme.conf");
        fs::write(&config, self.atheme()).unwrap();
        let data = self.dir.path().join("atheme");
        fs::create_dir_all(&data).unwrap();
        open_to_all(&data);
        let mut command = Command::new(find("atheme-services").unwrap());
        command.args(["-n", "-c"]).arg(&config).arg("-D").arg(&data);
        command.arg("-p").arg(data.join("pid")).arg("-l").arg(data.join("log"));
        self.atheme = Some(self.spawn(command, "atheme.log"));
        wait_within(SLOW, "the services to be there", || {
            let ended = self.atheme.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "the services ended: {}", self.read("atheme.log"));
            let mut somebody = IrcPerson::try_enter(self.address(), "asker", None)?;
            somebody.line("CAP LS 302");
            wait_for("the capabilities", || somebody.find(" LS :")).contains("sasl=").then_some(())
        });
    }

    fn spawn(&self, mut command: Command, log: &str) -> Child {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(log))
            .unwrap();
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command.spawn().unwrap()
    }

    fn ngircd(&self, more: &str) -> String {
        let Self { plain, tls, .. } = self;
        let dir = self.dir.path().display();
        format!(
            "[Global]\nName = irc.t.local\nInfo = test\nListen = 127.0.0.1\nPorts = {plain}\nMotdPhrase = hi\n\
             ServerUID = nobody\nServerGID = nogroup\n{more}\n\
             [Limits]\nMaxConnectionsIP = 0\nMaxJoins = 0\n\
             [Options]\nDNS = no\nIdent = no\nPAM = no\n\
             [SSL]\nCertFile = {dir}/cert.pem\nKeyFile = {dir}/key.pem\nPorts = {tls}\n"
        )
    }

    fn inspircd(&self) -> String {
        let Self { plain, tls, services, .. } = self;
        let dir = self.dir.path().display();
        let modules = [
            "cap",
            "ircv3",
            "ircv3_servertime",
            "ircv3_msgid",
            "ircv3_ctctags",
            "ircv3_echomessage",
            "ircv3_labeledresponse",
            "ircv3_batch",
            "ircv3_accounttag",
            "blockcolor",
            "botmode",
            "ssl_gnutls",
        ];
        let modules: String =
            modules.iter().map(|name| format!("<module name=\"{name}\">\n")).collect();
        let with_services = match self.software {
            Software::InspircdWithServices => format!(
                "<module name=\"services_account\">\n<module name=\"spanningtree\">\n<module name=\"sasl\">\n\
                 <sasl target=\"services.t.local\">\n<uline server=\"services.t.local\">\n\
                 <bind address=\"127.0.0.1\" port=\"{services}\" type=\"servers\">\n\
                 <link name=\"services.t.local\" ipaddr=\"127.0.0.1\" port=\"7000\" allowmask=\"127.0.0.1\" \
                 sendpass=\"link\" recvpass=\"link\">\n"
            ),
            Software::Ngircd | Software::Inspircd => String::new(),
        };
        format!(
            "<config format=\"xml\">\n<server name=\"i.t.local\" description=\"test\" network=\"T\">\n\
             <admin name=\"a\" nick=\"a\" email=\"a@t.local\">\n<pid file=\"{dir}/pid\">\n{modules}\
             <sslprofile name=\"Clients\" provider=\"gnutls\" certfile=\"{dir}/cert.pem\" keyfile=\"{dir}/key.pem\">\n\
             <bind address=\"127.0.0.1\" port=\"{plain}\" type=\"clients\">\n\
             <bind address=\"127.0.0.1\" port=\"{tls}\" type=\"clients\" sslprofile=\"Clients\">\n\
             <connect allow=\"*\" timeout=\"60\" pingfreq=\"120\" localmax=\"100\" globalmax=\"100\" \
             resolvehostnames=\"no\">\n{with_services}"
        )
    }

    fn atheme(&self) -> String {
        let modules = [
            "protocol/inspircd",
            "backend/opensex",
            "crypto/pbkdf2v2",
            "nickserv/main",
            "nickserv/register",
            "nickserv/identify",
            "saslserv/main",
            "saslserv/plain",
        ];
        let modules: String =
            modules.iter().map(|name| format!("loadmodule \"modules/{name}\";\n")).collect();
        let service = |nick: &str| {
            format!(
                "{{ nick = \"{nick}\"; user = \"s\"; host = \"services.t.local\"; real = \"s\"; }};\n"
            )
        };
        format!(
            "{modules}serverinfo {{ name = \"services.t.local\"; desc = \"s\"; numeric = \"00A\"; recontime = 1; \
             netname = \"T\"; hidehostsuffix = \"h\"; adminname = \"a\"; adminemail = \"a@t.local\"; \
             registeremail = \"a@t.local\"; mta = \"/bin/true\"; loglevel = {{ error; info; }}; maxlogins = 100; \
             maxusers = 0; maxnicks = 5; maxchans = 5; mdlimit = 30; emaillimit = 100; emailtime = 300; auth = none; \
             casemapping = rfc1459; }};\n\
             uplink \"i.t.local\" {{ host = \"127.0.0.1\"; port = {}; send_password = \"link\"; \
             receive_password = \"link\"; }};\ngeneral {{ commit_interval = 1; }};\n\
             nickserv {}saslserv {}",
            self.services,
            service("NickServ"),
            service("SaslServ")
        )
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        for process in [&mut self.process, &mut self.atheme] {
            if let Some(mut process) = process.take() {
                process.kill().unwrap();
                process.wait().unwrap();
            }
        }
    }

    fn read(&self, log: &str) -> String {
        fs::read_to_string(self.dir.path().join(log)).unwrap_or_default()
    }

    /// Where it is, without TLS.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.plain))
    }

    /// Where it is, with TLS.
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tls))
    }

    /// The SHA-256 of its certificate.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Somebody who is there.
    #[track_caller]
    pub fn person(&self, nick: &str) -> IrcPerson {
        wait_for(&format!("{nick} to be let in"), || {
            IrcPerson::try_enter(self.address(), nick, None)
        })
    }

    /// Somebody who is there and says before what they speak.
    #[track_caller]
    pub fn person_with(&self, nick: &str, caps: &str) -> IrcPerson {
        wait_for(&format!("{nick} to be let in"), || {
            IrcPerson::try_enter(self.address(), nick, Some(caps))
        })
    }

    /// Has the services know an account, with the password `password-NAME`. Whoever asks for it is logged in.
    #[track_caller]
    pub fn register(&self, name: &str) -> IrcPerson {
        let mut person = self.person(name);
        person.line(&format!("PRIVMSG NickServ :REGISTER password-{name} {name}@t.local"));
        wait_for("the account", || person.find(&format!(" 900 {name} ")));
        person
    }
}

impl Drop for Ircd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.read("log") + &self.read("atheme.log");
            let last: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the server's last words:");
            last.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}

fn find(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&folders).chain(more).map(|it| it.join(name)).find(|it| it.is_file())
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Makes a certificate that nobody has signed, and returns its SHA-256.
fn certificate(dir: &Path) -> String {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let made = [
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-subj",
        "/CN=t.local",
    ];
    openssl(&[&["req", "-x509", "-days", "2"], &made[..]].concat());
    open_to_all(&dir.join("key.pem"));
    let shown = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", "cert.pem"]);
    shown.trim().rsplit_once('=').unwrap().1.to_owned()
}

/// Somebody who is there, and keeps every line that came.
#[derive(Debug)]
pub struct IrcPerson {
    /// What they are called.
    pub nick: String,
    stream: TcpStream,
    lines: Arc<Mutex<Vec<String>>>,
}

impl IrcPerson {
    fn try_enter(address: SocketAddr, nick: &str, caps: Option<&str>) -> Option<Self> {
        let mut stream = TcpStream::connect(address).ok()?;
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (mut answers, kept) = (stream.try_clone().unwrap(), Arc::clone(&lines));
        let read = BufReader::new(stream.try_clone().unwrap());
        std::thread::spawn(move || {
            for line in read.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some((_, token)) =
                    line.split_once("PING ").filter(|(before, _)| !before.contains(" PRIVMSG "))
                {
                    // Whoever is gone needs no answer.
                    drop(answers.write_all(format!("PONG {token}\r\n").as_bytes()));
                }
                kept.lock().unwrap().push(line);
            }
        });
        let caps = caps.map_or_else(String::new, |caps| format!("CAP REQ :{caps}\r\nCAP END\r\n"));
        stream
            .write_all(format!("{caps}NICK {nick}\r\nUSER {nick} 0 * :{nick}\r\n").as_bytes())
            .ok()?;
        let person = Self { nick: nick.to_owned(), stream, lines };
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while std::time::Instant::now() < end {
            if person.find(" 376 ").or_else(|| person.find(" 422 ")).is_some() {
                return Some(person);
            }
            if person.find("ERROR ").is_some() || person.find(" 433 ").is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Says a line of the protocol.
    #[track_caller]
    pub fn line(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    }

    /// Says something to a channel or to somebody.
    #[track_caller]
    pub fn say(&mut self, target: &str, text: &str) {
        self.line(&format!("PRIVMSG {target} :{text}"));
    }

    /// Goes to a channel, and waits until that is so.
    #[track_caller]
    pub fn join(&mut self, channel: &str) {
        self.line(&format!("JOIN {channel}"));
        wait_for("the channel", || self.find(&format!(" 366 {} {channel} ", self.nick)));
    }

    /// Every line that came.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// A line that has this in it.
    pub fn find(&self, part: &str) -> Option<String> {
        self.lines().into_iter().find(|line| line.contains(part))
    }

    /// What `who` has said to `target`, oldest first: to everybody there, or to this one.
    pub fn said_by(&self, who: &str, target: &str) -> Vec<String> {
        let text = |line: &String| {
            let line = if line.starts_with('@') { line.split_once(' ')?.1 } else { line };
            let (source, rest) = line.strip_prefix(':')?.split_once(' ')?;
            let (command, rest) = rest.split_once(' ')?;
            let (to, text) = rest.split_once(' ')?;
            let is_it = source.split('!').next() == Some(who)
                && ["PRIVMSG", "NOTICE"].contains(&command)
                && to == target;
            is_it.then(|| text.strip_prefix(':').unwrap_or(text).to_owned())
        };
        self.lines().iter().filter_map(text).collect()
    }

    /// Waits until `who` has said this.
    #[track_caller]
    pub fn wait_said(&self, who: &str, target: &str, text: &str) {
        wait_within(SLOW, &format!("{who} to say {text:?} to {target}"), || {
            self.said_by(who, target).iter().any(|it| it == text).then_some(())
        });
    }

    /// How often `who` has said each text.
    pub fn count(&self, who: &str, target: &str) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for text in self.said_by(who, target) {
            *count.entry(text).or_default() += 1;
        }
        count
    }

    /// Waits until somebody is in a channel.
    #[track_caller]
    pub fn wait_for_person(&mut self, channel: &str, who: &str) {
        wait_within(SLOW, &format!("{who} to be in {channel}"), || {
            self.lines.lock().unwrap().retain(|line| !line.contains(" 353 "));
            self.line(&format!("NAMES {channel}"));
            let names = wait_for("the names", || self.find(" 353 "));
            let (_, names) = names.rsplit_once(" :")?;
            names
                .split(' ')
                .any(|it| it.trim_start_matches(['@', '+', '~', '&', '%']) == who)
                .then_some(())
        });
    }
}
