//! What goes wrong, as clients get it: `{"error":{"code":…,"message":…,"field":…}}`.

use std::error::Error;
use std::path::Path;

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::guard::BODY_MAX;
use twobox_schedule::service::{MEND, ServiceError};
use twobox_shared::errors::chain;
use twobox_store::storage::explain;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $status:ident $word:literal),+ $(,)?) => {
        /// What went wrong, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code {
            $($(#[$doc])* $code),+
        }

        impl Code {
            /// All of them.
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$code),+];

            /// Its word.
            pub(super) const fn word(self) -> &'static str {
                match self { $(Self::$code => $word),+ }
            }

            /// The status that goes with it.
            pub(super) const fn status(self) -> StatusCode {
                match self { $(Self::$code => StatusCode::$status),+ }
            }
        }
    };
}

codes! {
    /// Not a request that this path takes: its query, its path, or a body that broke off.
    BadRequest = BAD_REQUEST "bad_request",
    /// The body is not JSON.
    MalformedJson = BAD_REQUEST "malformed_json",
    /// No token, or a wrong one.
    Unauthorized = UNAUTHORIZED "unauthorized",
    /// The signature of a message is missing, or wrong.
    BadSignature = UNAUTHORIZED "bad_signature",
    /// A message was signed at another time than now.
    ClockSkew = UNAUTHORIZED "clock_skew",
    /// It came from a web page.
    OriginRefused = FORBIDDEN "origin_refused",
    /// It was meant for another host's name.
    HostRefused = FORBIDDEN "host_refused",
    /// Whoever said it is not heard in that chat.
    Unheard = FORBIDDEN "unheard",
    /// No such path.
    NotFound = NOT_FOUND "not_found",
    /// The path takes other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed",
    /// The body did not come in time.
    RequestTimeout = REQUEST_TIMEOUT "request_timeout",
    /// The body is too large.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body_too_large",
    /// The body says that it is something else than JSON.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type",
    /// A field that is not known, or whose value is not allowed.
    Invalid = UNPROCESSABLE_ENTITY "invalid",
    /// No such schedule.
    ScheduleNotFound = NOT_FOUND "schedule_not_found",
    /// No such run.
    RunNotFound = NOT_FOUND "run_not_found",
    /// No such channel.
    HookNotFound = NOT_FOUND "hook_not_found",
    /// No agent is wired to the chat.
    NobodyListens = CONFLICT "nobody_listens",
    /// A person has to mend something first.
    Blocked = CONFLICT "blocked",
    /// Another schedule has the name.
    NameTaken = CONFLICT "name_taken",
    /// The schedule is not the one that was read.
    Stale = CONFLICT "stale",
    /// The schedule's agent was removed.
    AgentGone = CONFLICT "agent_gone",
    /// What is stored makes no sense to this build.
    Unreadable = CONFLICT "unreadable",
    /// A run of the schedule goes on, and it allows no other beside it.
    Overlaps = CONFLICT "overlaps",
    /// The run has ended.
    RunEnded = CONFLICT "run_ended",
    /// As many runs go on as may.
    CapacityFull = TOO_MANY_REQUESTS "capacity_full",
    /// The chat has begun as many threads as it may for now.
    TooManyThreads = TOO_MANY_REQUESTS "too_many_threads",
    /// The run could not be made ready, and has ended.
    PrepareFailed = INTERNAL_SERVER_ERROR "prepare_failed",
    /// A failure of the host or of its disk.
    Internal = INTERNAL_SERVER_ERROR "internal",
    /// Somebody else holds `host.db`: the same again, later, may work.
    Busy = SERVICE_UNAVAILABLE "busy",
    /// The host cannot work now.
    NotReady = SERVICE_UNAVAILABLE "not_ready",
}

/// What went wrong.
#[derive(Debug)]
pub(super) struct ApiError {
    code: Code,
    message: String,
    field: Option<String>,
    /// What the answer has beside `error`.
    beside: Option<(&'static str, Value)>,
    /// When the same may be asked again, in seconds.
    after: Option<u64>,
}

impl ApiError {
    /// An error; `message` is for people: what is wrong, and what to do.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None, beside: None, after: None }
    }

    /// Names the field that is wrong.
    pub(super) fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says more, beside the error.
    pub(super) fn beside(mut self, name: &'static str, value: Value) -> Self {
        self.beside = Some((name, value));
        self
    }

    /// Says when the same may be asked again, in seconds.
    pub(super) fn after(mut self, seconds: u64) -> Self {
        self.after = Some(seconds);
        self
    }

    /// The body is larger than [`BODY_MAX`].
    pub(super) fn too_large() -> Self {
        Self::new(Code::BodyTooLarge, format!("the body has more than {BODY_MAX} bytes"))
    }

    /// What the schedule service says. `root` is the data directory.
    pub(super) fn of_service(error: &ServiceError, root: &Path) -> Self {
        let code = match error {
            ServiceError::Mistake(mistake) => {
                return Self::new(Code::Invalid, mistake.to_string()).field(mistake.field);
            }
            ServiceError::Db(error) if error.is_busy() => {
                return Self::new(Code::Busy, "another program holds host.db: try again");
            }
            ServiceError::Db(error) if error.is_unreadable() => {
                return Self::new(Code::Unreadable, format!("{}; {MEND}", chain(error)));
            }
            ServiceError::Db(error) => return Self::new(Code::Internal, explain(error, root)),
            ServiceError::NothingSaid => Code::Invalid,
            ServiceError::NameTaken { .. } => Code::NameTaken,
            ServiceError::UnknownSchedule { .. } => Code::ScheduleNotFound,
            ServiceError::UnknownRun { .. } => Code::RunNotFound,
            ServiceError::AgentGone { .. } => Code::AgentGone,
            ServiceError::Stale { .. } | ServiceError::Contended { .. } => Code::Stale,
            ServiceError::Unreadable { .. } => Code::Unreadable,
        };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code.word(), "message": self.message });
        if let Some(field) = self.field {
            error["field"] = field.into();
        }
        let mut body = json!({ "error": error });
        if let Some((name, value)) = self.beside {
            body[name] = value;
        }
        let mut response = (self.code.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        match self.code {
            Code::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What is left of the body is not waited for.
            Code::BodyTooLarge | Code::RequestTimeout => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Code::Busy | Code::NotReady => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if let Some(seconds) = self.after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(),
            _ => Self::new(Code::BadRequest, "the body broke off"),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let cause = deserialization(&rejection);
        let reason = cause.map_or_else(|| rejection.body_text(), |it| it.inner().to_string());
        match rejection {
            JsonRejection::JsonDataError(_) => match cause {
                Some(cause) => cause.into(),
                None => Self::new(Code::Invalid, reason),
            },
            JsonRejection::JsonSyntaxError(_) => {
                Self::new(Code::MalformedJson, format!("the body is not JSON: {reason}"))
            }
            JsonRejection::MissingJsonContentType(_) => {
                let message = "the body has to be JSON, with content-type: application/json";
                Self::new(Code::UnsupportedMediaType, message)
            }
            JsonRejection::BytesRejection(rejection) => rejection.into(),
            other => Self::new(Code::BadRequest, other.body_text()),
        }
    }
}

/// Reads a value as a body is read.
pub(super) fn from_json<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(value).map_err(|error| (&error).into())
}

impl From<&serde_path_to_error::Error<serde_json::Error>> for ApiError {
    fn from(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let field = Some(error.path().to_string()).filter(|path| path != ".");
        // For people, not for whoever reads the source.
        let reason = error.inner().to_string().replace("expected i64", "expected a whole number");
        let message = match &field {
            Some(field) => format!("{field}: {reason}"),
            None => reason,
        };
        Self { field, ..Self::new(Code::Invalid, message) }
    }
}

/// The error of the JSON reader beneath a rejection.
fn deserialization(
    rejection: &JsonRejection,
) -> Option<&serde_path_to_error::Error<serde_json::Error>> {
    let mut next: Option<&(dyn Error + 'static)> = Some(rejection);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::BadRequest, format!("the query is not understood: {}", beneath(&rejection)))
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Code::BadRequest, format!("the path is not understood: {}", beneath(&rejection)))
    }
}

/// The last cause.
fn beneath(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
