//! States of containers in words that Docker does not have.
//!
//! Podman calls a container `stopped` that has ended and is not cleaned up, as Docker never would, and
//! the client's types take no word that they do not know: one such container spoils a whole list.

use std::str::FromStr;

use bollard::errors::Error;
use bollard::models::{ContainerStateStatusEnum, ContainerSummaryStateEnum};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The answer, with the words that Docker has for what it says.
pub(super) fn of_docker<T: DeserializeOwned>(answer: Result<T, Error>) -> Result<T, Error> {
    let Err(Error::JsonDataError { contents, .. }) = &answer else { return answer };
    let Ok(mut said) = serde_json::from_str::<Value>(contents) else { return answer };
    match &mut said {
        Value::Array(listed) => listed.iter_mut().for_each(|one| translate(one.get_mut("State"))),
        shown => translate(shown.pointer_mut("/State/Status")),
    }
    serde_json::from_value(said).or(answer)
}

/// A word that nobody knows says nothing: then the process and `Running` have to do.
fn translate(word: Option<&mut Value>) {
    let Some(Value::String(word)) = word else { return };
    let known = ContainerSummaryStateEnum::from_str(word).is_ok()
        && ContainerStateStatusEnum::from_str(word).is_ok();
    if !known {
        *word = if word == "stopped" { "exited" } else { "" }.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerInspectResponse, ContainerSummary};

    use super::*;

    fn refused<T: DeserializeOwned>(contents: &str) -> Result<T, Error> {
        serde_json::from_str(contents).map_err(|error| Error::JsonDataError {
            message: error.to_string(),
            contents: contents.to_owned(),
            column: error.column(),
        })
    }

    #[test]
    fn what_podman_says_is_understood_whatever_the_word() {
        use ContainerStateStatusEnum as Status;
        use ContainerSummaryStateEnum as State;
        let list = r#"[{"Id":"1","State":"stopped"},{"Id":"2","State":"running"},
                       {"Id":"3","State":"unknown"},{"Id":"4"}]"#;
        assert!(refused::<Vec<ContainerSummary>>(list).is_err(), "the client does not know it");
        let listed = of_docker(refused::<Vec<ContainerSummary>>(list)).unwrap();
        let states: Vec<_> = listed.iter().map(|one| one.state).collect();
        assert_eq!(states, [Some(State::EXITED), Some(State::RUNNING), Some(State::EMPTY), None]);

        for (word, expected) in [("stopped", Status::EXITED), ("initialized", Status::EMPTY)] {
            let shown = format!(r#"{{"Id":"1","State":{{"Status":"{word}","Pid":7}}}}"#);
            let shown = of_docker(refused::<ContainerInspectResponse>(&shown)).unwrap();
            let state = shown.state.unwrap();
            assert_eq!((state.status, state.pid), (Some(expected), Some(7)), "{word}");
        }
        for nonsense in ["7", "\"x\"", "[7]", "{\"State\":7}"] {
            assert!(of_docker(refused::<Vec<ContainerSummary>>(nonsense)).is_err(), "{nonsense}");
        }
    }
}
