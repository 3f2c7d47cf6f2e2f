//! The container engine, by its socket: a command line between would be half of what is measured.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use twobox_tests::docker;

use crate::client::PATIENCE;
use crate::sample::Sample;
use crate::{Error, trivial};

const IMAGE: &str = "twobox-bench:trivial";

/// Creating and starting a container around a program that does nothing, with the confinement and
/// the mounts that Twobox gives its own: what any such container costs here.
pub(crate) fn container_start(dir: &Path, rounds: usize) -> Result<Sample, Error> {
    import(dir)?;
    let mounts = mounts(dir)?;
    let result = (0..rounds).map(|_| start_once(&mounts)).collect();
    docker(&["image", "rm", "--force", IMAGE]);
    result
}

/// Five folders, as a runner has.
fn mounts(dir: &Path) -> Result<Value, Error> {
    ["in", "out", "session", "program", "agent"]
        .map(|name| {
            let source = dir.join("mounts").join(name);
            std::fs::create_dir_all(&source)?;
            let target = format!("/workspace/{name}");
            let read_only = ["in", "program"].contains(&name);
            Ok(json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only }))
        })
        .into_iter()
        .collect()
}

fn start_once(mounts: &Value) -> Result<Duration, Error> {
    let body = json!({
        "Image": IMAGE,
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": true,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 256,
            "Memory": 512 << 20,
            "MemorySwap": 512 << 20,
            "NanoCpus": 1_000_000_000,
            "Tmpfs": { "/tmp": "rw,nosuid,nodev,size=64m" },
            "Init": true,
            "LogConfig": { "Type": "json-file", "Config": { "max-size": "1m", "max-file": "2" } },
            "Mounts": mounts,
        },
    });
    let start = Instant::now();
    let created = call("POST", "/containers/create", Some(&body))?;
    let id = created["Id"].as_str().ok_or("the engine gave no id")?.to_owned();
    let started = call("POST", &format!("/containers/{id}/start"), None);
    let span = start.elapsed();
    call("DELETE", &format!("/containers/{id}?force=true"), None)?;
    started.map(|_| span)
}

fn import(dir: &Path) -> Result<(), Error> {
    let program = trivial::write(dir)?;
    let archive = dir.join("trivial.tar");
    let packed = Command::new("tar")
        .arg("--create")
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(program.parent().ok_or("a program lies in a folder")?)
        .arg("trivial")
        .stdin(Stdio::null())
        .status()?;
    if !packed.success() {
        return Err(format!("tar ended with {packed}").into());
    }
    let change = r#"ENTRYPOINT ["/trivial"]"#;
    docker(&["import", "--change", change, &archive.to_string_lossy(), IMAGE]);
    Ok(())
}

fn socket() -> PathBuf {
    let named = std::env::var("DOCKER_HOST").ok();
    named
        .as_deref()
        .and_then(|host| host.strip_prefix("unix://"))
        .unwrap_or("/var/run/docker.sock")
        .into()
}

fn call(verb: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
    let mut stream = UnixStream::connect(socket())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    // Version 1.0 of HTTP, so that the answer ends with the connection and is not in chunks.
    let head = "Host: engine\r\nContent-Type: application/json";
    let length = body.len();
    write!(stream, "{verb} {path} HTTP/1.0\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the engine's answer has no end")?;
    match head.split(' ').nth(1) {
        Some("200" | "201" | "204") => Ok(serde_json::from_str(body).unwrap_or_default()),
        _ => Err(format!("{verb} {path}: {answer}").into()),
    }
}
