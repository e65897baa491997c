//! As much of the Lambda Extensions API as an internal extension needs that asks for no events: it
//! registers, and waits for an event that never comes.
//!
//! Lambda sends SIGTERM to a function only if an extension is registered.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html>

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;
use uuid::Uuid;

use super::api_error::refused;

const NAME: &str = "lambda-extension-name";
const IDENTIFIER: &str = "lambda-extension-identifier";

/// The extensions of one process, by the identifiers they were given.
#[derive(Debug, Default)]
pub(crate) struct Extensions(Mutex<Vec<String>>);

impl Extensions {
    /// Whether the process has registered one.
    pub(crate) fn is_any(&self) -> bool {
        !self.identifiers().is_empty()
    }

    fn register(&self) -> String {
        let identifier = Uuid::new_v4().to_string();
        self.identifiers().push(identifier.clone());
        identifier
    }

    fn knows(&self, identifier: &str) -> bool {
        self.identifiers().iter().any(|known| known == identifier)
    }

    fn identifiers(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The paths of the API, for these extensions.
pub(crate) fn routes(extensions: Arc<Extensions>) -> Router {
    Router::new()
        .route("/2020-01-01/extension/register", post(register))
        .route("/2020-01-01/extension/event/next", get(next))
        .with_state(extensions)
}

async fn register(State(extensions): State<Arc<Extensions>>, headers: HeaderMap) -> Response {
    if !headers.contains_key(NAME) {
        let message = format!("the header {NAME} is missing");
        return refused(StatusCode::BAD_REQUEST, "Extension.MissingHeader", &message);
    }
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (HeaderName::from_static(IDENTIFIER), extensions.register()),
    ];
    let body = json!({ "functionVersion": "$LATEST", "handler": "bootstrap" });
    (headers, body.to_string()).into_response()
}

async fn next(State(extensions): State<Arc<Extensions>>, headers: HeaderMap) -> Response {
    let identifier = headers.get(IDENTIFIER).and_then(|identifier| identifier.to_str().ok());
    if !identifier.is_some_and(|identifier| extensions.knows(identifier)) {
        let message = "no extension has this identifier";
        return refused(StatusCode::FORBIDDEN, "Extension.UnknownExtensionIdentifier", message);
    }
    std::future::pending().await
}
