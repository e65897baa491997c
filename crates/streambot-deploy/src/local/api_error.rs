//! An error as Lambda's local APIs respond with it.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// The response that refuses a request.
pub(crate) fn refused(status: StatusCode, error_type: &str, message: &str) -> Response {
    let body = json!({ "errorMessage": message, "errorType": error_type }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
