//! What a call is: its service, its operation and its protocol, read off the request; and an error
//! in the words of that protocol.

use std::time::Instant;

use anyhow::Result;
use hyper::body::Bytes;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};

/// A call, as it went through the proxy.
#[derive(Debug, Clone)]
pub struct Call {
    /// The service's name in the signature, such as `lambda`.
    pub service: String,
    /// Such as `UpdateFunctionCode`.
    pub operation: String,
    /// Which one it is among the calls of its operation, from 1.
    pub occurrence: usize,
    /// Method and path such as `PUT functions/x/code`, where the service has paths.
    pub request: String,
    /// Whether it may change something.
    pub write: bool,
    /// The revision of a function or alias that it is to change.
    pub revision: Option<String>,
    pub began: Instant,
    /// When it was answered or given up.
    pub ended: Option<Instant>,
    /// How it was answered; nothing where the client got no answer.
    pub status: Option<u16>,
    pub(super) protocol: Protocol,
}

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    RestJson,
    RestXml,
    Query,
    Json,
}

impl Call {
    pub(super) fn of(request: &Request<Bytes>) -> Self {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        // Credential=<key>/<date>/<region>/<service>/aws4_request
        let signature = header("authorization").unwrap_or_default();
        let service = signature.split('/').nth(3).unwrap_or_default().to_owned();
        let path = request.uri().path().trim_matches('/');
        let target = header("x-amz-target").and_then(|target| target.split_once('.'));
        let form = || {
            request
                .body()
                .split(|byte| *byte == b'&')
                .find_map(|field| field.strip_prefix(b"Action="))
        };
        let (operation, protocol) = if service == "lambda" {
            (lambda_operation(request.method(), path).to_owned(), Protocol::RestJson)
        } else if let Some((_, operation)) = target {
            (operation.to_owned(), Protocol::Json)
        } else if let Some(operation) = form() {
            (String::from_utf8_lossy(operation).into_owned(), Protocol::Query)
        } else if let Some((_, operation)) = path.split_once("/operation/") {
            (operation.to_owned(), Protocol::Json)
        } else {
            let what = if path.contains('/') { "Object" } else { "Bucket" };
            let does = request.method().as_str().to_lowercase();
            (format!("{}{}{what}", does[..1].to_uppercase(), &does[1..]), Protocol::RestXml)
        };
        let reads = ["Describe", "List", "Get", "Head", "Simulate", "Lookup", "Validate", "Filter"];
        let write = !reads.iter().any(|reads| operation.starts_with(reads));
        let sent: Option<Value> =
            (service == "lambda").then(|| serde_json::from_slice(request.body()).ok()).flatten();
        let revision = sent.and_then(|sent| sent["RevisionId"].as_str().map(str::to_owned));
        let began = Instant::now();
        let request = format!("{} {}", request.method(), unversioned(path));
        Self {
            service,
            operation,
            occurrence: 0,
            request,
            write,
            revision,
            began,
            ended: None,
            status: None,
            protocol,
        }
    }

    /// How many calls had to wait for one another: the longest chain in which each began after the
    /// one before had ended.
    pub fn depth(calls: &[Self]) -> usize {
        let mut calls: Vec<_> = calls.iter().collect();
        calls.sort_by_key(|call| call.began);
        let mut depths: Vec<usize> = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            let before = calls[..index]
                .iter()
                .zip(&depths)
                .filter(|(other, _)| other.ended.is_some_and(|end| end <= call.began));
            let deepest = before.map(|(_, depth)| *depth).max().unwrap_or_default();
            depths.push(deepest + 1);
        }
        depths.into_iter().max().unwrap_or_default()
    }
}

/// The path without the API's version, which is its first segment.
fn unversioned(path: &str) -> &str {
    path.split_once('/').map_or("", |(_, path)| path)
}

fn lambda_operation(method: &Method, path: &str) -> &'static str {
    let path: Vec<_> = unversioned(path).split('/').collect();
    match (method.as_str(), path.as_slice()) {
        ("POST", ["functions"]) => "CreateFunction",
        ("GET", ["functions"]) => "ListFunctions",
        ("GET", ["functions", _]) => "GetFunction",
        ("DELETE", ["functions", _]) => "DeleteFunction",
        ("GET", ["functions", _, "configuration"]) => "GetFunctionConfiguration",
        ("PUT", ["functions", _, "configuration"]) => "UpdateFunctionConfiguration",
        ("PUT", ["functions", _, "code"]) => "UpdateFunctionCode",
        ("POST", ["functions", _, "versions"]) => "PublishVersion",
        ("GET", ["functions", _, "versions"]) => "ListVersionsByFunction",
        ("POST", ["functions", _, "aliases"]) => "CreateAlias",
        ("GET", ["functions", _, "aliases"]) => "ListAliases",
        ("GET", ["functions", _, "aliases", _]) => "GetAlias",
        ("PUT", ["functions", _, "aliases", _]) => "UpdateAlias",
        ("DELETE", ["functions", _, "aliases", _]) => "DeleteAlias",
        ("POST", ["functions", _, "invocations"]) => "Invoke",
        ("POST", ["event-source-mappings"]) => "CreateEventSourceMapping",
        ("GET", ["event-source-mappings"]) => "ListEventSourceMappings",
        ("GET", ["event-source-mappings", _]) => "GetEventSourceMapping",
        ("PUT", ["event-source-mappings", _]) => "UpdateEventSourceMapping",
        ("DELETE", ["event-source-mappings", _]) => "DeleteEventSourceMapping",
        ("GET", ["tags", ..]) => "ListTags",
        ("POST", ["tags", ..]) => "TagResource",
        ("DELETE", ["tags", ..]) => "UntagResource",
        ("GET", _) => "GetSomethingElse",
        _ => "ChangeSomethingElse",
    }
}

/// An answer that is an error.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// What Lambda answers while it is out of order.
    pub fn server_error() -> Self {
        Self::new(500, "ServiceException", "An internal error occurred.")
    }

    /// What is answered to one who calls too often: Lambda's words, which the others' clients know
    /// too.
    pub fn throttled() -> Self {
        Self::new(429, "TooManyRequestsException", "Rate exceeded")
    }

    /// The error as services of this protocol word it.
    pub(super) fn answer(&self, protocol: Protocol) -> Result<Response<Bytes>> {
        let throttled = self.status == 429;
        let (code, status) = match protocol {
            Protocol::RestJson => (self.code, self.status),
            Protocol::RestXml if throttled => ("SlowDown", 503),
            Protocol::Query if throttled => ("Throttling", 400),
            Protocol::Json if throttled => ("ThrottlingException", 400),
            _ if self.status == 500 => ("InternalFailure", 500),
            _ => (self.code, self.status),
        };
        let message = self.message.replace('&', "&amp;").replace('<', "&lt;");
        let (kind, body) = match protocol {
            Protocol::RestJson => {
                ("application/json", json!({ "Type": "User", "Message": self.message }).to_string())
            }
            Protocol::Json => (
                "application/x-amz-json-1.1",
                json!({ "__type": code, "message": self.message }).to_string(),
            ),
            Protocol::RestXml => (
                "application/xml",
                format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"),
            ),
            Protocol::Query => (
                "text/xml",
                format!(
                    "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                     <RequestId>0</RequestId></ErrorResponse>"
                ),
            ),
        };
        let answer = Response::builder()
            .status(status)
            .header("content-type", kind)
            .header("x-amzn-errortype", code);
        Ok(answer.body(body.into())?)
    }
}
