//! A template file and the local templates it nests: read, and rewritten to name where those are
//! uploaded to. It refuses to know buckets and stacks, and what any other part of a template means.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::{Spanned, Tagged};

use crate::error::{Error, Result};

/// What CloudFormation takes within a call; a larger template is read from a bucket.
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>
pub(super) const LARGEST_INLINE: usize = 51_200;

/// What CloudFormation takes from a bucket.
const LARGEST: u64 = 1_048_576;

const STACK: &str = "AWS::CloudFormation::Stack";

/// A template as its file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// The templates it names by a path, in the order of the file.
    pub(super) nested: Vec<Nested>,
}

/// A template that another one names by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nested {
    reference: Reference,
    pub(super) template: Template,
}

/// Where a template says `TemplateURL`, and the path that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference {
    logical_id: String,
    path: String,
    /// Which bytes of YAML hold it. JSON is written anew instead: its escapes are not YAML's.
    bytes: Option<Range<usize>>,
}

impl Template {
    /// Reads a template and those it nests by a path that is relative to its own folder.
    ///
    /// # Errors
    /// Bad usage where a file cannot be read, is no template, is too large, or nests itself.
    pub(super) fn read(path: &Path) -> Result<Self> {
        Self::read_below(path, &mut Vec::new())
    }

    fn read_below(path: &Path, above: &mut Vec<PathBuf>) -> Result<Self> {
        let doing = || format!("reading the template {}", path.display());
        let file = path.canonicalize().map_err(|error| Error::usage(doing()).because(error))?;
        if above.contains(&file) {
            return Err(Error::usage(format!("the template {} nests itself", path.display()))
                .hint("a template may not be among those that it nests"));
        }
        let text =
            std::fs::read_to_string(&file).map_err(|error| Error::usage(doing()).because(error))?;
        if text.len() as u64 > LARGEST {
            return Err(Error::usage(format!(
                "the template {} has {} bytes, and CloudFormation takes {LARGEST}",
                path.display(),
                text.len()
            ))
            .hint("move a part of its resources into a nested stack"));
        }
        let references = references(&text).map_err(|because| {
            Error::usage(doing()).because(because).hint("it must be a template in JSON or YAML")
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        above.push(file);
        let nest = |reference: Reference| {
            let template =
                Self::read_below(&folder.join(&reference.path), above).map_err(|error| {
                    let resource = &reference.logical_id;
                    match error.exit_code() {
                        2 => Error::usage(format!(
                            "the template {} nests another in `{resource}`",
                            path.display()
                        )),
                        _ => Error::failed(format!(
                            "the template {} nests another in `{resource}`",
                            path.display()
                        )),
                    }
                    .because(error)
                })?;
            Ok(Nested { reference, template })
        };
        let nested = references.into_iter().map(nest).collect::<Result<_>>()?;
        above.pop();
        Ok(Self { path: path.to_owned(), text, nested })
    }

    /// Whether CloudFormation has to read any of it from a bucket.
    pub(super) fn needs_bucket(&self) -> bool {
        !self.nested.is_empty() || self.text.len() > LARGEST_INLINE
    }

    /// The template's text with an address for each template it nests, in their order.
    ///
    /// # Errors
    /// Failed where an address cannot be put in its place.
    pub(super) fn naming(&self, addresses: &[String]) -> Result<String> {
        if self.nested.is_empty() {
            return Ok(self.text.clone());
        }
        let replacements: Vec<_> =
            self.nested.iter().map(|nested| &nested.reference).zip(addresses).collect();
        let text = rewrite(&self.text, &replacements);
        let done =
            text.as_deref().is_some_and(|text| references(text).is_ok_and(|left| left.is_empty()));
        text.filter(|_| done).ok_or_else(|| {
            Error::failed(format!(
                "putting addresses of nested templates into {}",
                self.path.display()
            ))
            .hint("write each `TemplateURL` with a path on one line, without an anchor or an alias")
        })
    }
}

/// The paths that a template's nested stacks have for an address.
fn references(text: &str) -> Result<Vec<Reference>, Box<dyn std::error::Error + Send + Sync>> {
    if is_json(text) {
        return Ok(references_in_json(&serde_json::from_str(text)?));
    }
    let outline: Outline = serde_saphyr::from_str(text)?;
    Ok(outline.references().collect())
}

fn references_in_json(template: &Value) -> Vec<Reference> {
    let reference = |(logical_id, resource): (&String, &Value)| {
        let path = resource.get("Properties")?.get("TemplateURL")?.as_str()?;
        let nested = resource.get("Type").is_some_and(|kind| kind == STACK) && is_path(path);
        nested.then(|| Reference {
            logical_id: logical_id.clone(),
            path: path.to_owned(),
            bytes: None,
        })
    };
    template
        .get("Resources")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(reference)
        .collect()
}

/// Anything with a scheme is CloudFormation's to read, or to refuse.
fn is_path(address: &str) -> bool {
    !address.is_empty() && !address.contains("://")
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

fn rewrite(text: &str, replacements: &[(&Reference, &String)]) -> Option<String> {
    if is_json(text) {
        let mut template: Value = serde_json::from_str(text).ok()?;
        for (reference, address) in replacements {
            let url = template
                .get_mut("Resources")?
                .get_mut(&reference.logical_id)?
                .get_mut("Properties")?;
            *url.get_mut("TemplateURL")? = Value::String((*address).clone());
        }
        return serde_json::to_string_pretty(&template).ok();
    }
    let mut places =
        replacements.iter().map(|(reference, address)| Some((reference.bytes.clone()?, *address)));
    let mut places = places.by_ref().collect::<Option<Vec<_>>>()?;
    places.sort_by_key(|(bytes, _)| std::cmp::Reverse(bytes.start));
    let mut rewritten = text.to_owned();
    for (bytes, address) in places {
        rewritten.get(bytes.clone())?;
        rewritten.replace_range(bytes, &Value::String(address.clone()).to_string());
    }
    Some(rewritten)
}

/// As much of a template in YAML as says which others it nests.
#[derive(Deserialize)]
struct Outline {
    #[serde(rename = "Resources", default)]
    resources: Resources,
}

impl Outline {
    fn references(self) -> impl Iterator<Item = Reference> {
        self.resources.0.into_iter().filter_map(|(logical_id, resource)| {
            let Resource { kind, properties } = resource.0?;
            let address = properties?.0?.template_url?;
            let plain = address.value.1.as_deref().is_none_or(|tag| tag == "tag:yaml.org,2002:str");
            let Value::String(path) = address.value.0 else { return None };
            let stack = kind.is_some_and(|kind| kind == STACK);
            if !stack || !plain || !is_path(&path) {
                return None;
            }
            let span = address.referenced.span();
            let start = span.byte_offset().and_then(|offset| usize::try_from(offset).ok());
            let length = span.byte_len().and_then(|length| usize::try_from(length).ok());
            let bytes = start.zip(length).map(|(start, length)| start..start + length);
            Some(Reference { logical_id, path, bytes })
        })
    }
}

/// Resources in the order of the file.
#[derive(Default)]
struct Resources(Vec<(String, Lenient<Resource>)>);

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "Type")]
    kind: Option<Value>,
    #[serde(rename = "Properties")]
    properties: Option<Lenient<Properties>>,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "TemplateURL")]
    template_url: Option<Spanned<Tagged<Value>>>,
}

impl<'de> Deserialize<'de> for Resources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Resources;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("resources by their logical ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resources, A::Error> {
                let mut resources = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    resources.push(entry);
                }
                Ok(Resources(resources))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A map, or nothing where a macro or a loop stands in its place.
struct Lenient<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LenientVisitor(PhantomData))
    }
}

struct LenientVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for LenientVisitor<T> {
    type Value = Lenient<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|value| Lenient(Some(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Lenient(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Lenient(None))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const YAML: &str = "\
# A comment that stays
Parameters:
  Name: {Type: String}
Resources:
  Loop:
    Fn::ForEach::Topics: [A, [x], {}]
  Fn::ForEach::Queues: [B, [y], {}]
  Ünïcode: {Type: AWS::SNS::Topic}
  Plain:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: nested/plain.yaml # and this one
      Parameters: {Name: !Ref Name}
  Quoted:
    Type: \"AWS::CloudFormation::Stack\"
    Properties: {TemplateURL: 'nested/quoted.json', TimeoutInMinutes: 5}
  Remote:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: https://bucket.s3.amazonaws.com/remote.yaml
  Short:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: !Ref Name
  Long:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: {Ref: Name}
  Other:
    Type: AWS::S3::Bucket
    Properties:
      TemplateURL: not/a/stack
  Macro:
    Type: AWS::CloudFormation::Stack
    Properties: !Transform {Name: M}
  Bare:
    Type: AWS::CloudFormation::WaitConditionHandle
";

    fn paths(text: &str) -> Vec<(String, String)> {
        references(text)
            .unwrap()
            .into_iter()
            .map(|reference| (reference.logical_id, reference.path))
            .collect()
    }

    fn template(text: &str) -> Template {
        let empty = |reference| Nested {
            reference,
            template: Template { path: PathBuf::new(), text: String::new(), nested: Vec::new() },
        };
        let nested = references(text).unwrap().into_iter().map(empty).collect();
        Template { path: "parent".into(), text: text.into(), nested }
    }

    #[test]
    fn paths_are_told_from_addresses_intrinsics_and_macros() {
        let expected = [("Plain", "nested/plain.yaml"), ("Quoted", "nested/quoted.json")]
            .map(|(id, path)| (id.to_owned(), path.to_owned()));
        assert_eq!(paths(YAML), expected);
    }

    #[test]
    fn an_address_takes_the_place_of_a_path_and_all_else_stays_as_it_is() {
        let rewritten =
            template(YAML).naming(&["https://s3/a".into(), "https://s3/b".into()]).unwrap();
        let expected = YAML
            .replace("TemplateURL: nested/plain.yaml", "TemplateURL: \"https://s3/a\"")
            .replace("'nested/quoted.json'", "\"https://s3/b\"");
        assert_eq!(rewritten, expected);
    }

    #[test]
    fn json_is_rewritten_in_its_order() {
        let text = r#"{"Resources":{"Z":{"Type":"AWS::CloudFormation::Stack","Properties":{"TemplateURL":"a\/b.json"}},
            "A":{"Type":"AWS::CloudFormation::Stack","Properties":{"TemplateURL":{"Ref":"Url"}}}},"Description":"\ud83e\udd80"}"#;
        assert_eq!(paths(text), [("Z".into(), "a/b.json".into())]);
        let rewritten = template(text).naming(&["https://s3/a".into()]).unwrap();
        let value: Value = serde_json::from_str(&rewritten).unwrap();
        assert_eq!(value["Resources"]["Z"]["Properties"]["TemplateURL"], "https://s3/a");
        assert_eq!(value["Description"], "🦀");
        assert!(rewritten.find("\"Z\"") < rewritten.find("\"A\""));
    }

    #[test]
    fn a_template_without_paths_stays_as_it_is() {
        for text in ["Resources: {}\n", "{ \"Resources\" : { } }", "Description: no resources\n"] {
            let template = template(text);
            assert_eq!(template.naming(&[]).unwrap(), text);
            assert!(!template.needs_bucket());
        }
        assert!(template(YAML).needs_bucket());
    }

    #[test]
    fn nested_templates_are_read_from_their_parents_folder() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let nest = |path: &str| {
            format!(
                "Resources:\n  N:\n    Type: {STACK}\n    Properties:\n      TemplateURL: {path}\n"
            )
        };
        write("parent.yaml", &nest("below/child.yaml"));
        write("below/child.yaml", &nest("grandchild.yaml"));
        let read = || Template::read(&folder.path().join("parent.yaml"));

        let report = read().unwrap_err().report();
        assert!(report.contains("parent.yaml nests another in `N`"), "{report}");
        assert!(
            report.contains("reading the template") && report.contains("grandchild.yaml"),
            "{report}"
        );

        write("below/grandchild.yaml", "Resources: {}\n");
        assert_eq!(read().unwrap().nested[0].template.nested[0].template.text, "Resources: {}\n");

        write("below/grandchild.yaml", &nest("../parent.yaml"));
        let error = read().unwrap_err();
        assert!(error.report().contains("nests itself"), "{}", error.report());
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn what_is_no_template_is_bad_usage() {
        for text in ["{", "Resources: [", "- a list\n", "Resources: 1"] {
            assert!(references(text).is_err(), "{text}");
        }
    }
}
