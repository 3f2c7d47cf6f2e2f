//! What goes wrong, as clients get it: `{"error":{"code":…,"message":…}}`.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

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
    /// No token, or a wrong one.
    Unauthorized = UNAUTHORIZED "unauthorized",
    /// It came from a web page.
    OriginRefused = FORBIDDEN "origin_refused",
    /// It was meant for another host's name.
    HostRefused = FORBIDDEN "host_refused",
    /// No such path.
    NotFound = NOT_FOUND "not_found",
    /// The path takes other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed",
    /// The body did not come in time.
    RequestTimeout = REQUEST_TIMEOUT "request_timeout",
    /// The body is too large.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body_too_large",
    /// The host cannot work now.
    NotReady = SERVICE_UNAVAILABLE "not_ready",
}

/// What went wrong.
#[derive(Debug)]
pub(super) struct ApiError {
    code: Code,
    message: String,
}

impl ApiError {
    /// An error; `message` is for people: what is wrong, and what to do.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "code": self.code.word(), "message": self.message } });
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
            Code::NotReady => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
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

impl ApiError {
    /// The body is larger than [`super::guard::BODY_MAX`].
    pub(super) fn too_large() -> Self {
        let most = super::guard::BODY_MAX / (1024 * 1024);
        Self::new(Code::BodyTooLarge, format!("the body is larger than {most} MiB"))
    }
}
