//! Keeping what a container printed, because removing the container removes it.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;

use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;

use super::engine::{Engine, QUICK};
use crate::{RuntimeError, log};

/// How much of the end is kept.
const KEPT: usize = 256 * 1024;

/// Appends the last part of the container's output to `path`. What the engine cannot read any more
/// is lost with a warning, because the place must become free. If the removal that follows fails,
/// the same part is appended again the next time.
pub(super) async fn save(engine: &Engine, id: &str, path: &Path) -> Result<(), RuntimeError> {
    let (tail, read) = tail(engine, id).await?;
    let path = path.to_owned();
    let write = move || log::open(&path)?.write_all(&tail);
    let written = tokio::task::spawn_blocking(write).await;
    if let Err(error) = read {
        tracing::warn!(container = id, %error, "could not read all of the container's output");
    }
    if let Ok(Err(error)) = written {
        tracing::warn!(container = id, %error, "could not keep the container's output");
    }
    Ok(())
}

/// The last part of the container's output, and whether it could be read to its end.
pub(super) async fn tail(
    engine: &Engine,
    id: &str,
) -> Result<(Vec<u8>, Result<(), RuntimeError>), RuntimeError> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    let mut stream = std::pin::pin!(engine.client().await?.logs(id, Some(options)));
    let mut tail = Tail::default();
    let read = async {
        while let Some(part) = stream.next().await {
            tail.push(&part?.into_bytes());
        }
        Ok(())
    };
    let read = engine.within(QUICK, read).await;
    Ok((tail.into_bytes(), read))
}

/// The last [`KEPT`] bytes of a stream.
#[derive(Debug, Default)]
struct Tail(VecDeque<u8>);

impl Tail {
    fn push(&mut self, part: &[u8]) {
        self.0.extend(part);
        let excess = self.0.len().saturating_sub(KEPT);
        self.0.drain(..excess);
    }

    fn into_bytes(self) -> Vec<u8> {
        self.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let mut tail = Tail::default();
        tail.push(b"lost");
        tail.push(&vec![b'x'; KEPT - 4]);
        tail.push(b"kept");
        let bytes = tail.into_bytes();
        assert_eq!(bytes.len(), KEPT);
        assert!(bytes.starts_with(b"x") && bytes.ends_with(b"kept"));
    }
}
