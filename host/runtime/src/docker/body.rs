//! What a container is allowed, as one value: everything that confines an agent is in
//! [`container`], and nothing turns it off.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountType, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use twobox_shared::ids::{InstallId, SessionId};
use twobox_shared::paths::container as inside;

use super::folder::User;
use crate::mounts::{self, Seen};
use crate::profile::Limits;
use crate::{Profile, StartSpec, command};

/// The labels by which the containers of an installation are found again.
pub(super) const INSTALL_LABEL: &str = "twobox.install";
/// See [`INSTALL_LABEL`].
pub(super) const SESSION_LABEL: &str = "twobox.session";
/// See [`INSTALL_LABEL`].
pub(super) const RUNNER_LABEL: &str = "twobox.runner";

/// On a container that only looks around, and the only one: nobody takes it for one of theirs. Its
/// value is the installation that tried.
pub(super) const PROBE_LABEL: &str = "twobox.probe";

/// A file system in memory: where, how many MiB, its mode, and who may write it follows from that.
/// Engines differ in what they add to these by themselves, and Podman gives a read-only container
/// two of them without a size, so everything is asked for.
pub(super) const MEMORY: [(&str, u64, &str); 3] =
    [("/tmp", 64, "1777"), ("/var/tmp", 64, "1777"), ("/run", 1, "755")];
/// What all of them have, and `/dev/shm` too.
pub(super) const MEMORY_FLAGS: [&str; 3] = ["nosuid", "nodev", "noexec"];
/// The size of `/dev/shm` in MiB.
pub(super) const SHARED_MEMORY: u64 = 64;
/// How many files a process may have open, and how far it may raise that by itself.
const OPEN_FILES: (u64, u64) = (1024, 4096);
/// How many processes the user of the containers may have on the whole machine. It is no limit for one
/// session, which has `pids`; it stands here because Podman asks for a million unless told.
const PROCESSES: u64 = 32_768;

/// What a body depends on besides the start itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ground {
    /// Who the processes inside are.
    pub(super) user: User,
    /// Whether the engine has to be told that this user is the same outside.
    pub(super) keep_id: bool,
    /// How far this host may raise its own limits on open files and processes. An engine that may not
    /// go further either refuses every start with more.
    pub(super) reach: (u64, u64),
    /// How willingly the kernel ends this host when memory is short, from -1000 to 1000.
    pub(super) oom_score: i64,
}

/// The one name that a container of the session can have, so that of two starts one fails. Ids begin
/// with the time at which they were made, so the installation's gives its end, which is random.
pub(super) fn name(install: InstallId, session: SessionId) -> String {
    let install = install.to_string();
    let random = install.rsplit('-').next().unwrap_or_default();
    format!("twobox-{random}-{session}")
}

/// The container that looks around where one of `spec` would be, and is like it in everything else.
pub(super) fn probe(install: InstallId, spec: &StartSpec, ground: Ground) -> ContainerCreateBody {
    let mut body = container(install, spec, ground);
    body.cmd.get_or_insert_default().push("--probe".to_owned());
    body.labels = Some(HashMap::from([(PROBE_LABEL.to_owned(), install.to_string())]));
    body
}

/// The container of `spec`.
pub(super) fn container(
    install: InstallId,
    spec: &StartSpec,
    ground: Ground,
) -> ContainerCreateBody {
    let arguments = command::arguments(install, spec, Seen::Mounted);
    let marks = command::marks(install, spec).map(|(name, value)| format!("{name}={value}"));
    let crash_points = command::crash_points(|name| std::env::var_os(name));
    let others = command::folders(spec, Seen::Mounted).into_iter().chain(crash_points);
    let others = others.map(|(name, value)| format!("{name}={}", value.to_string_lossy()));
    let text = |(name, value): (&str, String)| (name.to_owned(), value);
    let own = spec.profile.environment.variables().map(|(name, value)| format!("{name}={value}"));
    ContainerCreateBody {
        image: Some(spec.profile.image.value.clone()),
        user: Some(ground.user.to_string()),
        cmd: Some(arguments.into_iter().map(|part| part.to_string_lossy().into_owned()).collect()),
        env: Some(own.chain(marks).chain(others).collect()),
        working_dir: Some(inside::PROGRAM.to_owned()),
        labels: Some(HashMap::from([
            text((INSTALL_LABEL, install.to_string())),
            text((SESSION_LABEL, spec.incarnation.session.to_string())),
            text((RUNNER_LABEL, spec.incarnation.runner.to_string())),
        ])),
        stop_timeout: Some(i64::from(super::whole_seconds(spec.grace))),
        host_config: Some(HostConfig {
            mounts: Some(mounts(spec)),
            ..confinement(&spec.profile, ground)
        }),
        ..ContainerCreateBody::default()
    }
}

/// The limits. Seccomp is absent on purpose: then the engine's default profile holds.
fn confinement(profile: &Profile, ground: Ground) -> HostConfig {
    let Limits { memory_mb, cpus, pids } = &profile.limits;
    let memory = i64::try_from(memory_mb.value.saturating_mul(1024 * 1024)).unwrap_or(i64::MAX);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    HostConfig {
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        pids_limit: Some(pids.value),
        memory: Some(memory),
        // Memory and swap together: the same number means no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(nano_cpus(cpus.value)),
        ulimits: Some(ulimits(ground)),
        // When memory is short, a conversation goes before the host that would start it again.
        oom_score_adj: Some((ground.oom_score.max(0) + 500).min(1000)),
        userns_mode: ground.keep_id.then(|| "keep-id".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        tmpfs: Some(MEMORY.map(tmpfs).into()),
        shm_size: i64::try_from(SHARED_MEMORY * 1024 * 1024).ok(),
        init: Some(true),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([pair("max-size", "1m"), pair("max-file", "2")])),
        }),
        network_mode: Some(profile.network.value.clone()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(false),
        ..HostConfig::default()
    }
}

fn ulimits(Ground { reach: (open_files, processes), .. }: Ground) -> Vec<ResourcesUlimits> {
    let most = PROCESSES.min(processes);
    let limits = [
        ("core", 0, 0),
        ("nofile", OPEN_FILES.0.min(open_files), OPEN_FILES.1.min(open_files)),
        ("nproc", most, most),
    ];
    let number = |limit| i64::try_from(limit).ok();
    let ulimit = |(name, soft, hard): (&str, u64, u64)| ResourcesUlimits {
        name: Some(name.to_owned()),
        soft: number(soft),
        hard: number(hard),
    };
    limits.map(ulimit).into()
}

fn tmpfs((place, mebibytes, mode): (&str, u64, &str)) -> (String, String) {
    let flags = MEMORY_FLAGS.join(",");
    (place.to_owned(), format!("rw,{flags},size={mebibytes}m,mode={mode}"))
}

#[expect(clippy::cast_possible_truncation, reason = "a float to an integer saturates")]
fn nano_cpus(cpus: f64) -> i64 {
    (cpus * 1e9).round() as i64
}

/// The folders. They are mounts and not binds, because a missing source is then an error and not a
/// new directory of root's. Engines since API 1.44 make read-only mounts read-only all the way down;
/// the host mounts nothing inside a folder, so on older ones there is nothing below.
fn mounts(spec: &StartSpec) -> Vec<Mount> {
    let mount = |mount: mounts::Mount| Mount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target),
        read_only: Some(mount.read_only),
        ..Mount::default()
    };
    mounts::mounts(spec).into_iter().map(mount).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use twobox_shared::ids::SystemIds;

    use super::*;
    use twobox_config::Config;

    const REACH: (u64, u64) = (u64::MAX, u64::MAX);

    fn usual() -> Profile {
        Profile::usual(&Config::default().containers)
    }

    #[test]
    fn no_limit_is_asked_for_that_lies_beyond_the_hosts_own() {
        let user = User { uid: 7, gid: 8 };
        let ground = Ground { user, keep_id: false, reach: (512, 100), oom_score: 0 };
        let asked: Vec<_> = ulimits(ground).iter().map(|it| (it.soft, it.hard)).collect();
        assert_eq!(asked, [(0, 0), (512, 512), (100, 100)].map(|(s, h)| (Some(s), Some(h))));
    }

    #[test]
    fn a_container_is_confined_in_every_way_that_the_engine_offers() {
        let install = InstallId::generate(&SystemIds);
        let spec = StartSpec {
            folder: "/data/s".into(),
            idle: Duration::from_secs(600),
            grace: Duration::from_millis(7500),
            heartbeat: twobox_config::HEARTBEAT,
            poll: Some(Duration::from_millis(250)),
            ..command::tests::spec()
        };
        let incarnation = spec.incarnation;
        let user = User { uid: 7, gid: 8 };
        let body =
            container(install, &spec, Ground { user, keep_id: false, reach: REACH, oom_score: 0 });

        assert_eq!(body.user.as_deref(), Some("7:8"));
        assert_eq!(body.stop_timeout, Some(8), "rounded up");
        let command = body.cmd.unwrap().join(" ");
        assert!(command.ends_with(
            "--in /workspace/in --out /workspace/out --agent /workspace/agent \
             --idle-ms 600000 --grace-ms 5625 --poll-ms 250"
        ));
        let labels = body.labels.unwrap();
        assert_eq!(labels[INSTALL_LABEL], install.to_string());
        assert_eq!(labels[SESSION_LABEL], incarnation.session.to_string());
        assert_eq!(labels[RUNNER_LABEL], incarnation.runner.to_string());
        let env = body.env.unwrap();
        assert!(env.contains(&format!("TWOBOX_RUNNER={}", incarnation.runner)));
        assert!(env.contains(&"TWOBOX_PROGRAM=/workspace/program".to_owned()), "{env:?}");
        assert_eq!(body.working_dir.as_deref(), Some("/workspace/program"));

        let host = body.host_config.unwrap();
        assert_eq!(host.readonly_rootfs, Some(true));
        assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(host.cap_add, None);
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert_eq!(host.privileged, Some(false));
        assert_eq!(host.pids_limit, Some(256));
        assert_eq!((host.memory, host.memory_swap), (Some(512 << 20), Some(512 << 20)));
        assert_eq!(host.nano_cpus, Some(1_000_000_000));
        let memory = host.tmpfs.unwrap();
        assert_eq!(memory["/tmp"], "rw,nosuid,nodev,noexec,size=64m,mode=1777");
        assert_eq!(memory["/var/tmp"], "rw,nosuid,nodev,noexec,size=64m,mode=1777");
        assert_eq!(memory["/run"], "rw,nosuid,nodev,noexec,size=1m,mode=755");
        assert_eq!(host.shm_size, Some(64 << 20));
        let limits = host.ulimits.unwrap().into_iter();
        let limits: Vec<_> = limits.map(|it| (it.name.unwrap(), it.soft, it.hard)).collect();
        let limit = |name: &str, soft, hard| (name.to_owned(), Some(soft), Some(hard));
        let nproc = limit("nproc", 32_768, 32_768);
        assert_eq!(limits, [limit("core", 0, 0), limit("nofile", 1024, 4096), nproc]);
        assert_eq!(host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::PRIVATE));
        assert_eq!(host.oom_score_adj, Some(500));
        assert_eq!(host.userns_mode, None);
        assert_eq!(host.init, Some(true));
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.auto_remove, Some(false));
        assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::NO));
        let log = host.log_config.unwrap();
        assert_eq!(log.typ.as_deref(), Some("json-file"));
        assert_eq!(log.config.as_ref().unwrap()["max-size"], "1m");
        assert_eq!(log.config.unwrap()["max-file"], "2");
        assert_eq!(host.binds, None, "a bind would create what is missing");
        let mounts: Vec<_> = host
            .mounts
            .unwrap()
            .into_iter()
            .map(|mount| {
                assert_eq!(mount.typ, Some(MountType::BIND));
                (mount.source.unwrap(), mount.target.unwrap(), mount.read_only.unwrap())
            })
            .collect();
        let expected = [
            ("/data/s/in", "/workspace/in", true),
            ("/data/s/out", "/workspace/out", false),
            ("/data/s/work", "/workspace/session", false),
            ("/p", "/workspace/program", true),
            ("/g", "/workspace/agent", false),
        ];
        assert_eq!(mounts, expected.map(|(s, t, ro)| (s.to_owned(), t.to_owned(), ro)));
    }

    #[test]
    fn a_container_is_as_the_profile_of_its_agent_says() {
        let settings = Config::default().containers;
        let text = r#"{"image": "mine:1", "network": "agents", "limits": {"memory_mb": 64, "cpus": 0.5,
            "pids": 50}, "mounts": [{"source": "/srv/docs", "target": "/mnt/docs"}],
            "environment": {"COLOUR": "dark green"}}"#;
        let profile = Profile::of(crate::profile::File::parse(text).unwrap(), &settings).unwrap();
        let spec = StartSpec { profile, ..command::tests::spec() };
        let ground =
            Ground { user: User { uid: 7, gid: 8 }, keep_id: false, reach: REACH, oom_score: 0 };
        let body = container(InstallId::generate(&SystemIds), &spec, ground);
        assert_eq!(body.image.as_deref(), Some("mine:1"));
        assert_eq!(body.env.unwrap()[0], "COLOUR=dark green", "before what the host says");
        let host = body.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("agents"));
        assert_eq!((host.memory, host.memory_swap), (Some(64 << 20), Some(64 << 20)));
        assert_eq!((host.nano_cpus, host.pids_limit), (Some(500_000_000), Some(50)));
        let last = host.mounts.unwrap().pop().unwrap();
        let given = (last.source.unwrap(), last.target.unwrap(), last.read_only);
        assert_eq!(given, ("/srv/docs".to_owned(), "/mnt/docs".to_owned(), Some(true)));
    }

    #[test]
    fn whoever_looks_around_is_confined_as_a_session_is() {
        let install = InstallId::generate(&SystemIds);
        let dir = tempfile::tempdir().unwrap();
        let room = crate::probe::Room::make(dir.path(), usual()).unwrap();
        let ground =
            Ground { user: User { uid: 7, gid: 8 }, keep_id: true, reach: REACH, oom_score: 0 };
        let (probe, session) =
            (probe(install, room.spec(), ground), container(install, room.spec(), ground));
        let labels = HashMap::from([(PROBE_LABEL.to_owned(), install.to_string())]);
        assert_eq!(probe.labels, Some(labels), "nobody takes it for a session's");
        let mut command = session.cmd.clone().unwrap();
        command.push("--probe".to_owned());
        assert_eq!(probe.cmd, Some(command.clone()));
        let alike =
            |body: ContainerCreateBody| ContainerCreateBody { cmd: None, labels: None, ..body };
        assert_eq!(alike(probe), alike(session.clone()), "and in nothing else");
        let mapping = session.host_config.unwrap().userns_mode;
        assert_eq!(mapping.as_deref(), Some("keep-id"));
    }

    #[test]
    fn installations_made_in_one_minute_do_not_share_names() {
        let session = SessionId::generate(&SystemIds);
        let (one, other) = (InstallId::generate(&SystemIds), InstallId::generate(&SystemIds));
        assert_eq!(one.to_string()[..8], other.to_string()[..8], "made at the same time");
        assert_ne!(name(one, session), name(other, session));
    }

    #[test]
    fn memory_that_is_short_ends_a_conversation_before_the_host() {
        let user = User { uid: 7, gid: 8 };
        let profile = usual();
        for (own, expected) in [(-1000, 500), (0, 500), (200, 700), (900, 1000), (1000, 1000)] {
            let ground = Ground { user, keep_id: false, reach: REACH, oom_score: own };
            assert_eq!(confinement(&profile, ground).oom_score_adj, Some(expected), "{own}");
        }
    }

    #[test]
    fn the_name_is_the_same_for_every_start_of_a_session() {
        let install: InstallId = "0192f000-1111-7000-8000-000000000001".parse().unwrap();
        let session: SessionId = "0192f000-2222-7000-8000-000000000002".parse().unwrap();
        let expected = "twobox-000000000001-0192f000-2222-7000-8000-000000000002";
        assert_eq!(name(install, session), expected);
    }
}
