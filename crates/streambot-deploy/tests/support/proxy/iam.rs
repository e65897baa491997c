//! What IAM does and moto does not: it tells what a role may do.

use anyhow::Result;
use hyper::body::Bytes;
use hyper::{Request, Response};

/// The answer to SimulatePrincipalPolicy, for a role that may do all but what is denied.
pub(super) fn simulated(request: &Request<Bytes>, denied: &[String]) -> Result<Response<Bytes>> {
    let form = String::from_utf8_lossy(request.body()).replace("%3A", ":");
    let values = |name: &'static str| {
        form.split('&').filter_map(move |field| field.strip_prefix(name)?.split_once('='))
    };
    let results: String = values("ActionNames.member.")
        .map(|(_, action)| {
            let decision = if denied.iter().any(|denied| denied == action) { "implicitDeny" } else { "allowed" };
            format!("<member><EvalActionName>{action}</EvalActionName><EvalDecision>{decision}</EvalDecision></member>")
        })
        .collect();
    let body = format!(
        "<SimulatePrincipalPolicyResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
         <SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated>\
         <EvaluationResults>{results}</EvaluationResults></SimulatePrincipalPolicyResult>\
         <ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>"
    );
    Ok(Response::builder().header("content-type", "text/xml").body(body.into())?)
}
