//! What must hold for CloudFormation to take a template: names are unique and well formed, whatever
//! is referred to is there, and no resource waits for itself. It knows references and limits, not
//! what any resource type means.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use crate::template::Template;

/// CloudFormation's limits, from its [quotas page][quotas].
///
/// [quotas]: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
const MOST_RESOURCES: usize = 500;
const MOST_PARAMETERS: usize = 200;
const MOST_OUTPUTS: usize = 200;
const LONGEST_NAME: usize = 255;

/// See [Pseudo
/// parameters](https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/pseudo-parameter-reference.html).
const PSEUDO_PARAMETERS: [&str; 8] = [
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
];

/// Why a template is not one that CloudFormation would take. Each names both ends of what does not
/// fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Something refers to a name that the template does not have.
    #[error(
        "{from} refers to `{to}`, and the template has no {wanted} of that name: add it or correct the name"
    )]
    Dangling {
        /// What refers to it, such as ``resource `Policy` ``.
        from: String,
        /// The name referred to.
        to: String,
        /// What would have satisfied the reference, such as `parameter or resource`.
        wanted: &'static str,
    },
    /// Two parts have the same name where CloudFormation wants one.
    #[error("{first} and {second} have the same name: rename one of them")]
    Duplicate {
        /// The part that was there.
        first: String,
        /// The part that came later.
        second: String,
    },
    /// Resources that wait for each other, so that none of them can be made.
    #[error("resources wait for each other in a circle, {circle}: break it at one of them")]
    Circular {
        /// The logical ids in the order of their references, the first one again at the end.
        circle: String,
    },
    /// A name that CloudFormation does not accept.
    #[error("{part} is no valid name: use 1 to 255 letters and digits of ASCII")]
    InvalidName {
        /// The part, with its name.
        part: String,
    },
    /// More of something than one stack may have.
    #[error(
        "the template has {count} {what}, and CloudFormation takes {limit}: move some to a nested stack"
    )]
    TooMany {
        /// `resources`, `parameters` or `outputs`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A template without a resource, which CloudFormation refuses.
    #[error("the template has no resource: add at least one")]
    NoResource,
}

/// Finds the first reason not to accept the template.
pub(crate) fn check(template: &Template) -> Result<(), TemplateError> {
    check_sizes(template)?;
    check_names(template)?;
    let names = Names::of(template);
    let mut waits: HashMap<&str, Vec<&str>> = HashMap::new();

    for (name, condition) in &template.conditions {
        let from = format!("condition `{name}`");
        for mention in Mention::in_condition(&condition.0) {
            names.check_condition(&from, mention)?;
        }
    }
    for (id, resource) in &template.resources {
        let from = format!("resource `{id}`");
        let mut mentions: Vec<Mention<'_>> = Vec::new();
        mentions.extend(resource.condition.as_deref().map(Mention::Condition));
        mentions.extend(resource.depends_on.iter().map(|other| Mention::Resource(other)));
        for property in resource.properties.values() {
            collect(property, false, &mut mentions);
        }
        for &mention in &mentions {
            names.check(&from, mention)?;
        }
        let targets = mentions.iter().filter_map(|mention| names.resource(*mention));
        waits.insert(id, targets.collect());
    }
    for (name, output) in &template.outputs {
        let from = format!("output `{name}`");
        let value = Json::from(output.value.clone());
        let mut mentions: Vec<Mention<'_>> = Vec::new();
        mentions.extend(output.condition.as_deref().map(Mention::Condition));
        collect(&value, false, &mut mentions);
        for mention in mentions {
            names.check(&from, mention)?;
        }
    }
    check_circles(template, &waits)
}

/// All names that the template's parts refer to: those of parameters and resources, and those of
/// conditions.
pub(crate) fn named(template: &Template) -> (HashSet<String>, HashSet<String>) {
    let mut mentions: Vec<Mention<'_>> = Vec::new();
    for (_, condition) in &template.conditions {
        collect(&condition.0, true, &mut mentions);
    }
    for (_, resource) in &template.resources {
        mentions.extend(resource.condition.as_deref().map(Mention::Condition));
        for property in resource.properties.values() {
            collect(property, false, &mut mentions);
        }
    }
    let values: Vec<Json> =
        template.outputs.iter().map(|(_, output)| output.value.clone().into()).collect();
    for value in &values {
        collect(value, false, &mut mentions);
    }
    mentions.extend(
        template
            .outputs
            .iter()
            .filter_map(|(_, output)| output.condition.as_deref().map(Mention::Condition)),
    );
    let mut names = HashSet::new();
    let mut conditions = HashSet::new();
    for mention in mentions {
        match mention {
            Mention::Name(name) | Mention::Resource(name) => names.insert(name.to_owned()),
            Mention::Condition(name) => conditions.insert(name.to_owned()),
        };
    }
    (names, conditions)
}

fn check_sizes(template: &Template) -> Result<(), TemplateError> {
    if template.resources.is_empty() {
        return Err(TemplateError::NoResource);
    }
    for (what, count, limit) in [
        ("resources", template.resources.len(), MOST_RESOURCES),
        ("parameters", template.parameters.len(), MOST_PARAMETERS),
        ("outputs", template.outputs.len(), MOST_OUTPUTS),
    ] {
        if count > limit {
            return Err(TemplateError::TooMany { what, count, limit });
        }
    }
    Ok(())
}

/// Parameters and resources share one name space, since `Ref` reaches both; conditions and outputs
/// have their own.
fn check_names(template: &Template) -> Result<(), TemplateError> {
    fn names<'a, T>(
        part: &'static str,
        entries: &'a [(String, T)],
    ) -> impl Iterator<Item = (&'static str, &'a str)> {
        entries.iter().map(move |(name, _)| (part, name.as_str()))
    }
    let referable =
        names("parameter", &template.parameters).chain(names("resource", &template.resources));
    check_unique(referable)?;
    check_unique(names("condition", &template.conditions))?;
    check_unique(names("output", &template.outputs))
}

fn check_unique<'a>(
    entries: impl Iterator<Item = (&'static str, &'a str)>,
) -> Result<(), TemplateError> {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (part, name) in entries {
        let well_formed = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if name.is_empty() || name.len() > LONGEST_NAME || !well_formed {
            return Err(TemplateError::InvalidName { part: format!("{part} `{name}`") });
        }
        if let Some(first) = seen.insert(name, part) {
            return Err(TemplateError::Duplicate {
                first: format!("{first} `{name}`"),
                second: format!("{part} `{name}`"),
            });
        }
    }
    Ok(())
}

/// The names that can be referred to.
struct Names<'a> {
    parameters: HashSet<&'a str>,
    conditions: HashSet<&'a str>,
    resources: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(template: &'a Template) -> Self {
        fn names<T>(entries: &[(String, T)]) -> HashSet<&str> {
            entries.iter().map(|(name, _)| name.as_str()).collect()
        }
        Self {
            parameters: names(&template.parameters),
            conditions: names(&template.conditions),
            resources: names(&template.resources),
        }
    }

    fn check(&self, from: &str, mention: Mention<'_>) -> Result<(), TemplateError> {
        let (found, wanted) = match mention {
            Mention::Name(name) => {
                (self.is_parameter(name) || self.resources.contains(name), "parameter or resource")
            }
            Mention::Resource(name) => (self.resources.contains(name), "resource"),
            Mention::Condition(name) => (self.conditions.contains(name), "condition"),
        };
        found.then_some(()).ok_or_else(|| mention.dangling(from, wanted))
    }

    /// Conditions are worked out before any resource is there, so they see parameters and other
    /// conditions only.
    fn check_condition(&self, from: &str, mention: Mention<'_>) -> Result<(), TemplateError> {
        match mention {
            Mention::Name(name) if self.is_parameter(name) => Ok(()),
            Mention::Name(_) | Mention::Resource(_) => Err(mention.dangling(from, "parameter")),
            Mention::Condition(_) => self.check(from, mention),
        }
    }

    fn is_parameter(&self, name: &str) -> bool {
        self.parameters.contains(name) || PSEUDO_PARAMETERS.contains(&name)
    }

    /// The resource that a mention makes its owner wait for, where it is one.
    fn resource<'m>(&self, mention: Mention<'m>) -> Option<&'m str> {
        match mention {
            Mention::Name(name) | Mention::Resource(name) => {
                self.resources.contains(name).then_some(name)
            }
            Mention::Condition(_) => None,
        }
    }
}

/// A name somewhere in a template, and what it must be the name of.
#[derive(Clone, Copy)]
enum Mention<'a> {
    /// A parameter, a pseudo parameter or a resource.
    Name(&'a str),
    Resource(&'a str),
    Condition(&'a str),
}

impl<'a> Mention<'a> {
    fn in_condition(condition: &'a Json) -> Vec<Self> {
        let mut mentions = Vec::new();
        collect(condition, true, &mut mentions);
        mentions
    }

    fn dangling(self, from: &str, wanted: &'static str) -> TemplateError {
        let (Mention::Name(to) | Mention::Resource(to) | Mention::Condition(to)) = self;
        TemplateError::Dangling { from: from.to_owned(), to: to.to_owned(), wanted }
    }
}

/// Collects all mentions in a piece of JSON. `{"Condition": name}` is one only among conditions: a
/// policy's statement has a `Condition` of its own.
fn collect<'a>(json: &'a Json, among_conditions: bool, mentions: &mut Vec<Mention<'a>>) {
    match json {
        Json::Array(items) => {
            for item in items {
                collect(item, among_conditions, mentions);
            }
        }
        Json::Object(members) => {
            if members.len() == 1 {
                for (function, argument) in members {
                    collect_function(function, argument, among_conditions, mentions);
                }
            }
            for member in members.values() {
                collect(member, among_conditions, mentions);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn collect_function<'a>(
    function: &str,
    argument: &'a Json,
    among_conditions: bool,
    mentions: &mut Vec<Mention<'a>>,
) {
    match (function, argument) {
        ("Ref", Json::String(name)) => mentions.push(Mention::Name(name)),
        ("Fn::GetAtt", Json::String(path)) => mentions.push(Mention::Resource(before_dot(path))),
        ("Fn::GetAtt", Json::Array(path)) => {
            mentions.extend(path.first().and_then(Json::as_str).map(Mention::Resource));
        }
        ("Fn::If", Json::Array(arguments)) => {
            mentions.extend(arguments.first().and_then(Json::as_str).map(Mention::Condition));
        }
        ("Fn::Sub", Json::String(text)) => mentions.extend(placeholders(text).map(placeholder)),
        ("Fn::Sub", Json::Array(arguments)) => {
            let text = arguments.first().and_then(Json::as_str).unwrap_or_default();
            let own = arguments.get(1).and_then(Json::as_object);
            let is_own = |name: &str| own.is_some_and(|names| names.contains_key(name));
            mentions.extend(placeholders(text).filter(|name| !is_own(name)).map(placeholder));
        }
        ("Condition", Json::String(name)) if among_conditions => {
            mentions.push(Mention::Condition(name));
        }
        _ => {}
    }
}

fn before_dot(path: &str) -> &str {
    path.split_once('.').map_or(path, |(resource, _)| resource)
}

fn placeholder(name: &str) -> Mention<'_> {
    match name.split_once('.') {
        Some((resource, _)) => Mention::Resource(resource),
        None => Mention::Name(name),
    }
}

/// The names between `${` and `}`. `${!Name}` is how a template writes a plain `${Name}`.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split("${")
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| name)
        .filter(|name| !name.starts_with('!'))
}

fn check_circles(
    template: &Template,
    waits: &HashMap<&str, Vec<&str>>,
) -> Result<(), TemplateError> {
    let mut done = HashSet::new();
    for (id, _) in &template.resources {
        follow(id, waits, &mut Vec::new(), &mut done)?;
    }
    Ok(())
}

/// Follows references depth first; meeting a resource of the path again closes a circle.
fn follow<'a>(
    id: &'a str,
    waits: &HashMap<&str, Vec<&'a str>>,
    path: &mut Vec<&'a str>,
    done: &mut HashSet<&'a str>,
) -> Result<(), TemplateError> {
    if let Some(start) = path.iter().position(|&earlier| earlier == id) {
        let circle = path[start..].iter().copied().chain([id]);
        return Err(TemplateError::Circular { circle: circle.collect::<Vec<_>>().join(" → ") });
    }
    if done.contains(id) {
        return Ok(());
    }
    path.push(id);
    for next in waits.get(id).into_iter().flatten() {
        follow(next, waits, path, done)?;
    }
    path.pop();
    done.insert(id);
    Ok(())
}
