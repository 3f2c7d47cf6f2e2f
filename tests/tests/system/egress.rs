//! Programs of an agent reach the hosts that it was allowed, through the host, with a real server, real
//! certificates and real clients; and no others.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use twobox_tests::models::{ModelServer, Script, Step};
use twobox_tests::{Setup, World, agent_image, on_docker, on_sandbox, skipped};

use crate::scripts::echo;

on_sandbox!(
    curl_python_and_git_reach_what_is_allowed_and_nothing_else,
    a_page_is_fetched_by_the_host_and_read_as_text,
);

on_docker!(a_container_without_a_network_reaches_what_is_allowed);

/// Not the address that programs go to without a proxy.
const ADDRESS: &str = "127.0.0.2";

/// Serves a folder over TLS and says its port.
const SERVER: &str = r#"
import functools, http.server, ssl, sys
address, folder = sys.argv[1:]
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
server = http.server.ThreadingHTTPServer((address, 0), handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/../cert.pem", folder + "/../key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// A web server with a certificate of its own.
struct Web {
    server: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Web {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site");
        fs::create_dir(&site).unwrap();
        fs::write(site.join("note.txt"), "it is here").unwrap();
        let page =
            "<title>Boxes</title><script>no</script><p>Two &amp; <a href='/note.txt'>more</a>";
        fs::write(site.join("page.html"), page).unwrap();
        fs::write(site.join("picture.png"), b"\x89PNG\0").unwrap();
        let made = |program: &str, arguments: &[&str], within: &Path| {
            let output =
                Command::new(program).args(arguments).current_dir(within).output().unwrap();
            assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        };
        // Not one of an authority, as openssl makes them by itself: rustls takes none of those for a server's.
        let settings = format!(
            "[req]\ndistinguished_name = name\nx509_extensions = server\n[name]\n[server]\n\
             basicConstraints = critical, CA:FALSE\nsubjectAltName = IP:{ADDRESS}\n"
        );
        fs::write(dir.path().join("settings"), settings).unwrap();
        let request = "req -x509 -config settings -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
                       -days 2 -keyout key.pem -out cert.pem -subj /CN=test";
        made("openssl", &request.split_whitespace().collect::<Vec<_>>(), dir.path());
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        made("git", &["init", "-q", "-b", "main"], &work);
        let commit = "-c user.name=a -c user.email=a@b commit -q --allow-empty -m first";
        made("git", &commit.split(' ').collect::<Vec<_>>(), &work);
        made("git", &["clone", "-q", "--bare", "../work", "../site/shop.git"], &work);
        made("git", &["update-server-info"], &site.join("shop.git"));
        let mut server = Command::new("/usr/bin/python3")
            .args(["-c", SERVER, ADDRESS])
            .arg(&site)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { server, port: line.trim().parse().unwrap(), dir }
    }

    fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    fn url(&self, path: &str) -> String {
        format!("https://{ADDRESS}:{}/{path}", self.port)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

/// An agent of a model that may reach `web`.
fn agent(setup: Setup, models: &ModelServer, web: &Web) -> World {
    let upstream = |key: &str| format!("gateway.upstreams.near.{key}");
    let world = setup
        .setting(&upstream("kind"), "compatible")
        .setting(&upstream("base_url"), format!("{}/v1", models.url()))
        .agent("ada", echo())
        .make();
    let (rule, file) = (format!("{ADDRESS}:{}", web.port), web.certificate());
    world.twobox(&["agents", "edit", "ada", "--model", "near/any", "--egress", &rule]);
    world.twobox(&["agents", "put", "ada", file.to_str().unwrap()]);
    // The host believes in nobody but this server.
    let authority = file.to_str().unwrap();
    world.up_with(&[("TWOBOX_SECRET_NEAR", "a key"), ("SSL_CERT_FILE", authority)]);
    world
}

/// What the command line `bash` prints, as the model is told.
fn printed(world: &World, models: &ModelServer, bash: &str) -> String {
    models.script(Script::from(vec![
        Step::call("bash", json!({"command": bash})),
        Step::text("done"),
    ]));
    assert_eq!(world.chat("ada").ask("do it"), "done");
    let requests = models.requests();
    let messages = requests.last().unwrap().body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"].to_string()
}

const CERTIFICATE: &str = "export SSL_CERT_FILE=$TWOBOX_PROGRAM/cert.pem";

fn curl_python_and_git_reach_what_is_allowed_and_nothing_else(setup: Setup) {
    let (models, web) = (ModelServer::start(), Web::start());
    let world = agent(setup, &models, &web);
    let (note, shop) = (web.url("note.txt"), web.url("shop.git"));
    let other = note.replace(&web.port.to_string(), "1");
    let said = printed(
        &world,
        &models,
        &format!(
            "{CERTIFICATE}\n\
             curl -sS --cacert $SSL_CERT_FILE {note}; echo \" curl $?\"\n\
             /usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"{note}\").read())'\n\
             GIT_SSL_CAINFO=$SSL_CERT_FILE git ls-remote {shop} main\n\
             curl -sS --noproxy '*' --cacert $SSL_CERT_FILE {note}; echo \"around $?\"\n\
             curl -sS {other}; echo \"other $?\"\n\
             /usr/bin/python3 -c 'import urllib.request as u; u.urlopen(\"{other}\")' 2>&1 | tail -1\n\
             echo $HTTPS_PROXY"
        ),
    );
    for part in [
        "it is here curl 0\\n",
        "b'it is here'\\n",
        "\\trefs/heads/main\\n",
        "around 7\\n",
        "response 403\\nother 56\\n",
        "Tunnel connection failed: 403 Twobox: this agent may not reach 127.0.0.2:1",
        "http://session:[the host's key]@127.0.0.1:",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    // What is taken back is not reached any more, by the container that lives.
    let container = world.wait_container(&world.session("ada"));
    world.configure_agent("ada", &json!({"egress": ["a.example"]}));
    let said = printed(
        &world,
        &models,
        &format!("{CERTIFICATE}; curl -sS --cacert $SSL_CERT_FILE {note}; echo \"curl $?\""),
    );
    assert!(said.contains("response 403\\ncurl 56\\n"), "{said}");
    assert_eq!(world.wait_container(&world.session("ada")).handle, container.handle);
}

fn a_page_is_fetched_by_the_host_and_read_as_text(setup: Setup) {
    let (models, web) = (ModelServer::start(), Web::start());
    let world = agent(setup, &models, &web);
    let fetch = |url: String| Step::call("web_fetch", json!({"url": url}));
    let other = web.url("page.html").replace(&web.port.to_string(), "1");
    models.script(Script::from(vec![
        fetch(web.url("page.html")),
        fetch(web.url("picture.png")),
        fetch(web.url("nothing")),
        fetch(other),
        Step::text("done"),
    ]));
    assert_eq!(world.chat("ada").ask("read"), "done");
    let requests = models.requests();
    let told = |request: usize| {
        let messages = requests[request].body["messages"].as_array().unwrap();
        messages.last().unwrap()["content"].to_string()
    };
    assert!(told(1).contains("# Boxes\\n\\nTwo & [more](/note.txt)"), "{}", told(1));
    let picture = r#"this is no text but what its server calls \"image/png\", of 5 bytes"#;
    assert!(told(2).contains(picture), "{}", told(2));
    assert!(told(3).contains("[the server answered with status 404]"), "{}", told(3));
    assert!(told(4).contains("may not reach 127.0.0.2:1"), "{}", told(4));
}

fn a_container_without_a_network_reaches_what_is_allowed(setup: Setup) {
    let image = match agent_image() {
        Ok(image) => image,
        Err(missing) => return skipped("TWOBOX_REQUIRE_AGENT_IMAGE", &missing),
    };
    let (models, web) = (ModelServer::start(), Web::start());
    let world = agent(setup.setting("containers.image", image), &models, &web);
    let (note, shop) = (web.url("note.txt"), web.url("shop.git"));
    let said = printed(
        &world,
        &models,
        &format!(
            "{CERTIFICATE}\n\
             curl -sS --cacert $SSL_CERT_FILE {note}; echo \" curl $?\"\n\
             python3 -c 'import urllib.request as u; print(u.urlopen(\"{note}\").read())'\n\
             GIT_SSL_CAINFO=$SSL_CERT_FILE git ls-remote {shop} main\n\
             curl -sS --noproxy '*' --cacert $SSL_CERT_FILE {note}; echo \"around $?\""
        ),
    );
    for part in ["it is here curl 0\\n", "b'it is here'\\n", "\\trefs/heads/main\\n", "around 7\\n"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
}
