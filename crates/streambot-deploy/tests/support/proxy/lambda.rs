//! What Lambda does and moto does not, one function each. The words of its errors and what changes
//! a revision are as LocalStack has recorded them on AWS.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use hyper::body::Bytes;
use hyper::{Request, Response, Uri};
use serde_json::{Value, json};

use super::call::Refusal;

/// What Lambda remembers of functions and mappings, beside what moto does.
#[derive(Default)]
pub(super) struct Corrections {
    settle_after: u32,
    functions: HashMap<String, Function>,
    mappings: HashMap<String, Mapping>,
}

/// A function; one that was made behind the proxy's back is remembered from its first sight on.
struct Function {
    /// Of `$LATEST`.
    revision: String,
    /// Looks at it until its last change is done.
    settling: u32,
    /// Whether that change is its creation.
    new: bool,
    code_sha256: Option<String>,
    /// The last version, and the revision that `$LATEST` has had since.
    published: Option<(String, String)>,
    versions: HashMap<String, Version>,
    aliases: HashMap<String, Alias>,
}

struct Version {
    revision: String,
    settling: u32,
}

struct Alias {
    revision: String,
    /// The versions it names.
    versions: Vec<String>,
}

struct Mapping {
    function_arn: String,
    source: String,
    settling: u32,
    /// What it is called meanwhile.
    state: &'static str,
}

/// What was asked for.
pub(super) struct Asked {
    operation: String,
    /// The function's name, without what may stand around it; or a mapping's id.
    name: String,
    /// The version or alias.
    qualifier: Option<String>,
    /// The source whose mappings are listed.
    source: Option<String>,
    body: Value,
}

/// What becomes of a request.
pub(super) enum Prepared {
    Ask(Box<(Request<Bytes>, Asked)>),
    Refuse(Refusal),
}

impl Corrections {
    pub(super) fn settle_after(&mut self, looks: u32) {
        self.settle_after = looks;
    }

    /// Refuses what Lambda would refuse, and asks moto for what it can answer. `existing` are the
    /// mappings there are, where one is to be created.
    pub(super) fn prepare(
        &mut self,
        operation: &str,
        request: Request<Bytes>,
        existing: &Bytes,
    ) -> Result<Prepared> {
        let asked = Asked::of(operation, &request);
        let refused = match operation {
            "UpdateFunctionCode" | "UpdateFunctionConfiguration" | "PublishVersion" => {
                self.refuse_change(&asked)
            }
            "UpdateAlias" => self.refuse_alias(&asked),
            "DeleteFunction" => self.refuse_deletion(&asked),
            "CreateEventSourceMapping" => self.refuse_double(&asked, existing)?,
            "UpdateEventSourceMapping" => self.refuse_mapping(&asked),
            _ => None,
        };
        if let Some(refusal) = refused {
            return Ok(Prepared::Refuse(refusal));
        }
        let request = match (operation, self.unchanged(&asked)) {
            ("PublishVersion", Some(version)) => {
                let path = request.uri().path().replace("/versions", "/configuration");
                with_uri(request, "GET", format!("{path}?Qualifier={version}"))?
            }
            ("ListEventSourceMappings", _) => all_mappings(&request)?,
            ("CreateEventSourceMapping", _) => of_stream(request, &asked)?,
            _ => request,
        };
        Ok(Prepared::Ask(Box::new((request, asked))))
    }

    fn function(&mut self, name: &str) -> &mut Function {
        self.functions.entry(name.to_owned()).or_insert_with(|| Function::new(false))
    }

    /// One change at a time; none of what someone else has changed meanwhile; no version of code
    /// that is another's.
    fn refuse_change(&mut self, asked: &Asked) -> Option<Refusal> {
        let function = self.function(&asked.name);
        if look(&mut function.settling, &mut function.revision) {
            let message = "The operation cannot be performed at this time. An update is in progress for resource: ";
            return Some(Refusal::new(
                409,
                "ResourceConflictException",
                format!("{message}{}", asked.name),
            ));
        }
        let another = asked.text("CodeSha256").filter(|_| asked.operation == "PublishVersion");
        let another =
            another.zip(function.code_sha256.as_deref()).filter(|(asked, is)| asked != is);
        refuse_revision(asked, &function.revision).or_else(|| {
            let (asked, is) = another?;
            let message = format!(
                "CodeSHA256 ({asked}) is different from current CodeSHA256 in $LATEST ({is}). \
                 Please try again with the CodeSHA256 in $LATEST."
            );
            Some(Refusal::new(400, "InvalidParameterValueException", message))
        })
    }

    fn refuse_alias(&mut self, asked: &Asked) -> Option<Refusal> {
        let alias = self.function(&asked.name).alias(asked.qualifier.as_deref()?);
        refuse_revision(asked, &alias.revision)
    }

    /// A version stays as long as an alias names it.
    fn refuse_deletion(&mut self, asked: &Asked) -> Option<Refusal> {
        let version = asked.qualifier.as_ref()?;
        let aliases = &self.function(&asked.name).aliases;
        let (alias, _) = aliases.iter().find(|(_, alias)| alias.versions.contains(version))?;
        let message = format!(
            "Unable to delete version because the following aliases reference it: [{alias}]"
        );
        Some(Refusal::new(409, "ResourceConflictException", message))
    }

    /// No two mappings of one source to one function, by the name it has there.
    fn refuse_double(&mut self, asked: &Asked, existing: &Bytes) -> Result<Option<Refusal>> {
        let source = asked.text("EventSourceArn").unwrap_or_default();
        let function = parted(asked.text("FunctionName").unwrap_or_default());
        let existing: Value = serde_json::from_slice(existing).context("the mappings there are")?;
        let mut mappings = existing["EventSourceMappings"].as_array().into_iter().flatten();
        let double = mappings.find(|mapping| {
            let known = self.mappings.get(mapping["UUID"].as_str().unwrap_or_default());
            let told = |key: &str| mapping[key].as_str().unwrap_or_default();
            known.map_or(told("EventSourceArn"), |known| &known.source) == source
                && parted(known.map_or(told("FunctionArn"), |known| &known.function_arn))
                    == function
        });
        Ok(double.map(|mapping| {
            let uuid = mapping["UUID"].as_str().unwrap_or_default();
            let message = format!(
                "The event source arn (\" {source} \") and function (\" {} \") provided mapping already exists. \
                 Please update or delete the existing mapping with UUID {uuid}",
                function.0
            );
            Refusal::new(409, "ResourceConflictException", message)
        }))
    }

    fn refuse_mapping(&mut self, asked: &Asked) -> Option<Refusal> {
        let mapping = self.mappings.get_mut(&asked.name)?;
        let busy = mapping.look();
        let message = "Cannot update the event source mapping because it is in use.";
        busy.then(|| Refusal::new(400, "ResourceInUseException", message))
    }

    /// The last version, where nothing has changed since: Lambda publishes no second one.
    fn unchanged(&mut self, asked: &Asked) -> Option<String> {
        let function = self.functions.get(&asked.name)?;
        let (version, revision) = function.published.as_ref()?;
        (*revision == function.revision).then(|| version.clone())
    }

    /// Makes moto's answer Lambda's, and remembers what it changed.
    pub(super) fn correct(
        &mut self,
        asked: &Asked,
        answer: Response<Bytes>,
    ) -> Result<Response<Bytes>> {
        let (mut parts, bytes) = answer.into_parts();
        if !parts.status.is_success() {
            return reworded(asked, Response::from_parts(parts, bytes));
        }
        let Ok(mut body) = serde_json::from_slice::<Value>(&bytes) else {
            if asked.operation == "DeleteFunction" && asked.qualifier.is_none() {
                self.functions.remove(&asked.name);
            }
            return Ok(Response::from_parts(parts, bytes));
        };
        let settle_after = self.settle_after;
        match asked.operation.as_str() {
            "CreateFunction" => {
                let name = body["FunctionName"].as_str().unwrap_or_default().to_owned();
                self.functions.insert(name.clone(), Function::new(true));
                self.function(&name).changed(&mut body, settle_after);
            }
            "UpdateFunctionCode" | "UpdateFunctionConfiguration" => {
                self.function(&asked.name).changed(&mut body, settle_after);
            }
            "GetFunction" => self.function(&asked.name).seen(asked, &mut body["Configuration"]),
            "GetFunctionConfiguration" => self.function(&asked.name).seen(asked, &mut body),
            "PublishVersion" => self.function(&asked.name).published(&mut body, settle_after),
            "ListVersionsByFunction" => {
                let function = self.function(&asked.name);
                for version in body["Versions"].as_array_mut().into_iter().flatten() {
                    let number = version["Version"].as_str().unwrap_or_default().to_owned();
                    version["RevisionId"] = match number.as_str() {
                        "$LATEST" => json!(function.revision),
                        number => json!(function.version(number).revision),
                    };
                }
            }
            "CreateAlias" | "UpdateAlias" | "GetAlias" => {
                self.function(&asked.name).named(asked, &mut body)
            }
            "ListAliases" => {
                for alias in body["Aliases"].as_array_mut().into_iter().flatten() {
                    self.function(&asked.name).named(asked, alias);
                }
            }
            "CreateEventSourceMapping" | "UpdateEventSourceMapping" => {
                self.mapped(asked, &mut body)
            }
            "GetEventSourceMapping" | "DeleteEventSourceMapping" => self.mapping_seen(&mut body),
            "ListEventSourceMappings" => {
                let mappings = body["EventSourceMappings"].as_array_mut().context("mappings")?;
                mappings.iter_mut().for_each(|mapping| self.mapping_seen(mapping));
                // Lambda lists those that were made for exactly this function, version or alias.
                if !asked.name.is_empty() {
                    let wanted = (asked.name.clone(), asked.qualifier.clone());
                    mappings.retain(|mapping| {
                        parted(mapping["FunctionArn"].as_str().unwrap_or_default()) == wanted
                    });
                }
                if let Some(source) = &asked.source {
                    mappings.retain(|mapping| mapping["EventSourceArn"] == *source);
                }
            }
            _ => {}
        }
        parts.headers.remove("x-amz-crc32");
        Ok(Response::from_parts(parts, Bytes::from(body.to_string())))
    }

    /// A mapping keeps the name it knows its function by: moto tells the version an alias stands
    /// for.
    fn mapped(&mut self, asked: &Asked, body: &mut Value) {
        let uuid = body["UUID"].as_str().unwrap_or_default().to_owned();
        let told = body["FunctionArn"].as_str().unwrap_or_default().to_owned();
        let function_arn = match asked.text("FunctionName") {
            Some(function) => with_qualifier(&told, parted(function).1.as_deref()),
            None => self.mappings.get(&uuid).map_or(told, |mapping| mapping.function_arn.clone()),
        };
        let state = match (asked.operation.as_str(), asked.body["Enabled"].as_bool()) {
            ("CreateEventSourceMapping", _) => "Creating",
            (_, Some(false)) if body["State"] == "Disabled" => "Disabling",
            _ => "Updating",
        };
        let source = asked
            .text("EventSourceArn")
            .or(self.mappings.get(&uuid).map(|mapping| mapping.source.as_str()));
        let source = source.or(body["EventSourceArn"].as_str()).unwrap_or_default().to_owned();
        body["FunctionArn"] = json!(function_arn);
        body["EventSourceArn"] = json!(source);
        body["State"] = json!(state);
        self.mappings
            .insert(uuid, Mapping { function_arn, source, settling: self.settle_after, state });
    }

    fn mapping_seen(&mut self, body: &mut Value) {
        let Some(mapping) = body["UUID"].as_str().and_then(|uuid| self.mappings.get_mut(uuid))
        else {
            return;
        };
        body["FunctionArn"] = json!(mapping.function_arn);
        body["EventSourceArn"] = json!(mapping.source);
        if mapping.look() {
            body["State"] = json!(mapping.state);
        }
    }
}

impl Function {
    fn new(new: bool) -> Self {
        Self {
            revision: new_revision(),
            settling: 0,
            new,
            code_sha256: None,
            published: None,
            versions: HashMap::new(),
            aliases: HashMap::new(),
        }
    }

    fn version(&mut self, number: &str) -> &mut Version {
        self.versions
            .entry(number.to_owned())
            .or_insert_with(|| Version { revision: new_revision(), settling: 0 })
    }

    fn alias(&mut self, name: &str) -> &mut Alias {
        self.aliases
            .entry(name.to_owned())
            .or_insert_with(|| Alias { revision: new_revision(), versions: Vec::new() })
    }

    /// A change gives the function a revision, and another one when it is done: that of the answer
    /// is of no use.
    fn changed(&mut self, body: &mut Value, settle_after: u32) {
        self.new = body.get("LastUpdateStatus").is_none();
        self.revision = new_revision();
        self.settling = settle_after;
        self.under_way(body);
        if settle_after == 0 {
            self.revision = new_revision();
        }
        self.code_sha256 = body["CodeSha256"].as_str().map(str::to_owned);
    }

    fn under_way(&self, body: &mut Value) {
        body["RevisionId"] = json!(self.revision);
        body["LastUpdateStatus"] = json!("InProgress");
        if self.new {
            body["State"] = json!("Pending");
            body["StateReason"] = json!("The function is being created.");
            body["StateReasonCode"] = json!("Creating");
        }
    }

    fn seen(&mut self, asked: &Asked, body: &mut Value) {
        let latest = |qualifier: &&str| *qualifier != "$LATEST";
        let Some(qualifier) = asked.qualifier.as_deref().filter(latest) else {
            if look(&mut self.settling, &mut self.revision) {
                self.under_way(body);
            }
            body["RevisionId"] = json!(self.revision);
            self.code_sha256 = body["CodeSha256"].as_str().map(str::to_owned);
            return;
        };
        let version = self.version(body["Version"].as_str().unwrap_or_default());
        if look(&mut version.settling, &mut version.revision) {
            body["State"] = json!("Pending");
        }
        body["RevisionId"] = json!(version.revision);
        // Lambda names what was asked for, moto the version behind it.
        body["FunctionArn"] = json!(with_qualifier(
            body["FunctionArn"].as_str().unwrap_or_default(),
            Some(qualifier)
        ));
    }

    /// A version that is new gives `$LATEST` another revision too.
    fn published(&mut self, body: &mut Value, settle_after: u32) {
        let number = body["Version"].as_str().unwrap_or_default().to_owned();
        if !self.versions.contains_key(&number) {
            self.versions.insert(
                number.clone(),
                Version { revision: new_revision(), settling: settle_after },
            );
            self.revision = new_revision();
            body["State"] = json!("Pending");
        }
        body["RevisionId"] = json!(self.version(&number).revision);
        self.published = Some((number, self.revision.clone()));
    }

    fn named(&mut self, asked: &Asked, body: &mut Value) {
        let alias = self.alias(body["Name"].as_str().unwrap_or_default());
        if asked.operation != "GetAlias" && asked.operation != "ListAliases" {
            alias.revision = new_revision();
        }
        let weighted =
            body["RoutingConfig"]["AdditionalVersionWeights"].as_object().into_iter().flatten();
        let named = body["FunctionVersion"].as_str().map(str::to_owned).into_iter();
        alias.versions = named.chain(weighted.map(|(version, _)| version.clone())).collect();
        body["RevisionId"] = json!(alias.revision);
    }
}

impl Mapping {
    fn look(&mut self) -> bool {
        look(&mut self.settling, &mut String::new())
    }
}

/// Looks at something that may be under change; each look brings the end of it nearer, which makes
/// another revision of it.
fn look(settling: &mut u32, revision: &mut String) -> bool {
    if *settling == 0 {
        return false;
    }
    *settling -= 1;
    if *settling == 0 {
        *revision = new_revision();
    }
    true
}

fn new_revision() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn refuse_revision(asked: &Asked, revision: &str) -> Option<Refusal> {
    let message = "The Revision Id provided does not match the latest Revision Id. \
                   Call the GetFunction/GetAlias API to retrieve the latest Revision Id";
    let another = asked.text("RevisionId").is_some_and(|asked| asked != revision);
    another.then(|| Refusal::new(412, "PreconditionFailedException", message))
}

/// The errors that moto words in its own way.
fn reworded(asked: &Asked, answer: Response<Bytes>) -> Result<Response<Bytes>> {
    let said = String::from_utf8_lossy(answer.body()).into_owned();
    let refusal = if asked.operation == "CreateAlias" && said.contains("Alias already exists") {
        Refusal::new(
            409,
            "ResourceConflictException",
            format!("Alias already exists: {}", asked.name),
        )
    } else if asked.operation == "CreateEventSourceMapping"
        && said.contains("Invalid EventSourceArn")
    {
        let stream = asked.text("EventSourceArn").unwrap_or_default();
        Refusal::new(400, "InvalidParameterValueException", format!("Stream not found: {stream}"))
    } else {
        return Ok(answer);
    };
    refusal.answer(super::call::Protocol::RestJson)
}

/// A request for all mappings: moto filters by other names than Lambda.
pub(super) fn all_mappings(request: &Request<Bytes>) -> Result<Request<Bytes>> {
    let mut list = request.clone();
    *list.body_mut() = Bytes::new();
    list.headers_mut().remove("content-length");
    let path = request.uri().path().to_owned();
    with_uri(list, "GET", path)
}

/// moto knows no consumers, so a mapping of one is made for its stream there.
fn of_stream(mut request: Request<Bytes>, asked: &Asked) -> Result<Request<Bytes>> {
    if let Some((stream, _)) =
        asked.text("EventSourceArn").and_then(|source| source.split_once("/consumer/"))
    {
        let mut body = asked.body.clone();
        body["EventSourceArn"] = json!(stream);
        let body = Bytes::from(body.to_string());
        request.headers_mut().insert("content-length", body.len().into());
        *request.body_mut() = body;
    }
    Ok(request)
}

fn with_uri(mut request: Request<Bytes>, method: &str, uri: String) -> Result<Request<Bytes>> {
    *request.method_mut() = method.parse()?;
    *request.uri_mut() = uri.parse::<Uri>()?;
    if method == "GET" {
        *request.body_mut() = Bytes::new();
        request.headers_mut().remove("content-length");
    }
    Ok(request)
}

/// The name and, where there is one, the version or alias, of a function's name or ARN.
fn parted(function: &str) -> (String, Option<String>) {
    let mut parts = function.split(':').skip(if function.starts_with("arn:") { 6 } else { 0 });
    (parts.next().unwrap_or_default().to_owned(), parts.next().map(str::to_owned))
}

fn with_qualifier(arn: &str, qualifier: Option<&str>) -> String {
    arn.split(':').take(7).chain(qualifier).collect::<Vec<_>>().join(":")
}

impl Asked {
    fn of(operation: &str, request: &Request<Bytes>) -> Self {
        let decoded = |text: &str| text.replace("%3A", ":").replace("%24", "$").replace("%2F", "/");
        let path: Vec<_> = request.uri().path().trim_matches('/').split('/').map(decoded).collect();
        let query = request.uri().query().unwrap_or_default();
        let parameter = |name: &str| {
            let mut parts = query.split('&').filter_map(|part| part.split_once('='));
            parts.find(|(key, _)| *key == name).map(|(_, value)| decoded(value))
        };
        let segment = |index: usize| path.get(index).map(String::as_str).unwrap_or_default();
        // <version>/functions/<name>/…, <version>/functions/<name>/aliases/<alias>,
        // <version>/event-source-mappings/<id>
        let listed = parameter("FunctionName");
        let (name, qualifier) = parted(listed.as_deref().unwrap_or(segment(2)));
        let alias = (segment(3) == "aliases").then(|| path.get(4).cloned()).flatten();
        Self {
            operation: operation.to_owned(),
            name,
            qualifier: parameter("Qualifier").or(alias).or(qualifier),
            source: parameter("EventSourceArn"),
            body: serde_json::from_slice(request.body()).unwrap_or_default(),
        }
    }

    /// A text in what was sent.
    fn text(&self, key: &str) -> Option<&str> {
        self.body[key].as_str()
    }
}
