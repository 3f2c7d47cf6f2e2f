//! Whose a container is: an id and a label are copied with a data directory, and the folder that a
//! container works in is not. A host that shares its id with another one, because one of the two
//! directories is a copy of the other, leaves the other's containers alone.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use twobox_shared::paths::container as inside;

use super::engine::Engine;
use crate::RuntimeError;
use twobox_system::lock::lock;

/// How many strangers are remembered, so that each is told of once.
const TOLD_MAX: usize = 1024;

/// Where this installation's sessions lie, and whom it has told about.
#[derive(Debug)]
pub(super) struct Whose {
    sessions: PathBuf,
    told: Mutex<HashSet<String>>,
}

/// The containers that have our id.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// They work in folders of ours.
    pub(super) ours: Vec<ContainerSummary>,
    /// They work elsewhere; each with the folder of its inbox.
    pub(super) foreign: Vec<(ContainerSummary, PathBuf)>,
}

impl Whose {
    /// `sessions` is the folder with all sessions of the installation.
    pub(super) fn new(sessions: &Path) -> Self {
        Self { sessions: sessions.to_owned(), told: Mutex::default() }
    }

    /// Tells ours from others', and warns once of each of these.
    pub(super) async fn sort(
        &self,
        engine: &Engine,
        containers: Vec<ContainerSummary>,
    ) -> Result<Found, RuntimeError> {
        let mut found = Found::default();
        for container in containers {
            match self.stranger(engine, &container).await? {
                None => found.ours.push(container),
                Some(source) => {
                    self.tell(&container, &source);
                    found.foreign.push((container, source));
                }
            }
        }
        Ok(found)
    }

    /// The folder that the container works in, if it is not one of ours.
    async fn stranger(
        &self,
        engine: &Engine,
        container: &ContainerSummary,
    ) -> Result<Option<PathBuf>, RuntimeError> {
        let listed = inbox_in_list(container);
        if listed.as_ref().is_some_and(|source| source.starts_with(&self.sessions)) {
            return Ok(None); // nearly always: no more questions
        }
        // The list may lack it, or show it as the engine sees it and not as it was asked for.
        let id = container.id.as_deref().unwrap_or_default();
        let inspected = engine.inspect(id).await?.map(|found| inbox_when_inspected(&found));
        let mut sources: Vec<PathBuf> = listed.into_iter().collect();
        sources.extend(inspected.unwrap_or_default());
        let Some(first) = sources.first().cloned() else { return Ok(None) };
        let sessions = self.sessions.clone();
        let ours = move || sources.iter().any(|source| lies_in(source, &sessions));
        let ours = tokio::task::spawn_blocking(ours).await.unwrap_or(false);
        Ok((!ours).then_some(first))
    }

    fn tell(&self, container: &ContainerSummary, source: &Path) {
        let mut told = lock(&self.told);
        if told.len() >= TOLD_MAX {
            told.clear();
        }
        if told.insert(container.id.clone().unwrap_or_default()) {
            tracing::warn!(
                container = name_of(container),
                folder = %source.display(),
                "a container with this installation's id works in a folder of another data \
                 directory and is left alone: one of the two is a copy of the other, which \
                 `twobox init --copy` gives an id of its own"
            );
        }
    }
}

/// The name that people know a container by.
pub(super) fn name_of(container: &ContainerSummary) -> String {
    let names = container.names.as_deref().unwrap_or_default();
    let name = names.first().map(|name| name.trim_start_matches('/').to_owned());
    name.or_else(|| container.id.clone()).unwrap_or_default()
}

fn inbox_in_list(container: &ContainerSummary) -> Option<PathBuf> {
    let mounts = container.mounts.as_deref().unwrap_or_default();
    let inbox = mounts.iter().find(|mount| mount.destination.as_deref() == Some(inside::IN));
    inbox?.source.as_ref().filter(|source| !source.is_empty()).map(PathBuf::from)
}

/// Where the engine says that the inbox comes from, and where it was told to take it from.
fn inbox_when_inspected(found: &ContainerInspectResponse) -> Vec<PathBuf> {
    let mounts = found.mounts.as_deref().unwrap_or_default().iter();
    let seen = mounts
        .filter(|mount| mount.destination.as_deref() == Some(inside::IN))
        .filter_map(|mount| mount.source.as_deref());
    let host = found.host_config.as_ref();
    let wanted = host.and_then(|host| host.mounts.as_deref()).unwrap_or_default().iter();
    let wanted = wanted
        .filter(|mount| mount.target.as_deref() == Some(inside::IN))
        .filter_map(|mount| mount.source.as_deref());
    let binds = host.and_then(|host| host.binds.as_deref()).unwrap_or_default().iter();
    let binds = binds.filter_map(|bind| {
        let (source, rest) = bind.split_once(&format!(":{}", inside::IN))?;
        (rest.is_empty() || rest.starts_with(':')).then_some(source)
    });
    let sources = seen.chain(wanted).chain(binds).filter(|source| !source.is_empty());
    sources.map(PathBuf::from).collect()
}

/// Whether `source` lies in `sessions`, under whatever name. Blocks.
///
/// A folder that is not there any more is nobody else's: the directory was renamed while the
/// container ran, or the one that it was copied from is gone.
fn lies_in(source: &Path, sessions: &Path) -> bool {
    if source.starts_with(sessions) {
        return true;
    }
    let place = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match (place(source), place(sessions)) {
        (Err(error), _) => error.kind() == io::ErrorKind::NotFound,
        (Ok(_), Err(_)) => false,
        (Ok(_), Ok(ours)) => {
            let real = source.canonicalize().unwrap_or_else(|_| source.to_owned());
            real.ancestors().any(|folder| place(folder).is_ok_and(|other| other == ours))
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{HostConfig, Mount, MountPoint};

    use super::*;

    #[test]
    fn a_folder_is_ours_under_whatever_name_and_a_copy_of_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let sessions = root.join("data/sessions");
        for folder in ["data/sessions/g/s/in", "copy/sessions/g/s/in"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("data"), root.join("link")).unwrap();
        let cases = [
            ("its own name", "data/sessions/g/s/in", true),
            ("through a link", "link/sessions/g/s/in", true),
            ("a copy", "copy/sessions/g/s/in", false),
            ("a name that only begins alike", "data/sessions-2", false),
            ("nothing is there any more", "gone/sessions/g/s/in", true),
        ];
        fs::create_dir_all(root.join("data/sessions-2")).unwrap();
        for (case, source, expected) in cases {
            assert_eq!(lies_in(&root.join(source), &sessions), expected, "{case}");
        }
        let linked = root.join("link/sessions");
        assert!(lies_in(&root.join("data/sessions/g/s/in"), &linked), "our own name is a link");
    }

    #[test]
    fn the_folder_is_found_wherever_an_engine_shows_it() {
        let point = |source: &str, destination: &str| MountPoint {
            source: Some(source.to_owned()),
            destination: Some(destination.to_owned()),
            ..MountPoint::default()
        };
        let listed = ContainerSummary {
            mounts: Some(vec![point("/d/out", inside::OUT), point("/d/in", inside::IN)]),
            ..ContainerSummary::default()
        };
        assert_eq!(inbox_in_list(&listed), Some("/d/in".into()));
        assert_eq!(inbox_in_list(&ContainerSummary::default()), None);
        let mount = Mount {
            source: Some("/asked/in".to_owned()),
            target: Some(inside::IN.to_owned()),
            ..Mount::default()
        };
        let inspected = ContainerInspectResponse {
            mounts: Some(vec![point("/host_mnt/in", inside::IN)]),
            host_config: Some(HostConfig {
                mounts: Some(vec![mount]),
                binds: Some(vec![
                    format!("/bound/in:{}:ro,rbind", inside::IN),
                    format!("/other:{}side", inside::IN),
                ]),
                ..HostConfig::default()
            }),
            ..ContainerInspectResponse::default()
        };
        let expected = ["/host_mnt/in", "/asked/in", "/bound/in"].map(PathBuf::from);
        assert_eq!(inbox_when_inspected(&inspected), expected);
    }
}
