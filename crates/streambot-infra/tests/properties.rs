//! What holds for every template: an accepted one refers to nothing that is not there, and is the
//! same JSON every time.

#![allow(clippy::unwrap_used)]

mod ways;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use streambot_infra::{
    Condition, Intrinsic, Output, Parameter, Resource, Template, get_att, if_, import_value,
    no_value, reference, select, split, sub,
};
use ways::{SETTINGS, WAYS, Way};

fn any_ways() -> impl Strategy<Value = [Way; SETTINGS]> {
    prop::array::uniform16(prop::sample::select(&WAYS))
}

/// So few names that many templates are sound by luck, and many are not.
const PARAMETERS: [&str; 2] = ["Alpha", "Beta"];
const CONDITIONS: [&str; 2] = ["Early", "Late"];
const RESOURCES: [&str; 3] = ["One", "Two", "Three"];

fn any_parameter() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&PARAMETERS)
}

fn any_condition() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&CONDITIONS)
}

fn any_resource_id() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&RESOURCES)
}

fn some_of(names: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    let fewest = names.len() - 1;
    prop::sample::subsequence(names, fewest..=names.len())
}

fn any_intrinsic() -> impl Strategy<Value = Intrinsic> {
    let leaf = prop_oneof![
        prop_oneof![any_parameter(), any_resource_id()].prop_map(reference),
        any_resource_id().prop_map(|name| get_att(name, "Arn")),
        any_parameter().prop_map(|name| sub(format!("${{AWS::Region}} ${{{name}}}"))),
        any_resource_id().prop_map(|name| sub(format!("${{!Literal}}/${{{name}.Arn}}"))),
        any_resource_id().prop_map(|name| select(1, split("/", get_att(name, "Arn")))),
        any_parameter().prop_map(|name| import_value(reference(name))),
        Just(no_value()),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        (any_condition(), inner.clone(), inner)
            .prop_map(|(condition, then, otherwise)| if_(condition, then, otherwise))
    })
}

fn any_resource() -> impl Strategy<Value = Resource> {
    (
        prop::option::of(any_intrinsic()),
        prop::option::weighted(0.2, any_condition()),
        prop::option::weighted(0.2, any_resource_id()),
    )
        .prop_map(|(value, condition, other)| {
            let mut resource = Resource::new("Any::Resource::Type");
            if let Some(value) = value {
                resource =
                    resource.property("Nested", json!({ "In": [{ "A": 1, "List": [value] }] }));
            }
            if let Some(condition) = condition {
                resource = resource.condition(condition);
            }
            if let Some(other) = other {
                resource = resource.depends_on(other);
            }
            resource
        })
}

fn any_template() -> impl Strategy<Value = Template> {
    (
        some_of(&PARAMETERS),
        some_of(&CONDITIONS),
        any_parameter(),
        some_of(&RESOURCES),
        prop::collection::vec(any_resource(), RESOURCES.len()),
        prop::option::of(any_intrinsic()),
    )
        .prop_map(|(parameters, conditions, tested, ids, resources, output)| {
            let mut template = Template::new();
            for name in parameters {
                template.parameter(name, Parameter::string());
            }
            for name in conditions {
                template.condition(name, Condition::not_empty(tested));
            }
            for (id, resource) in ids.into_iter().zip(resources) {
                template.resource(id, resource);
            }
            if let Some(value) = output {
                template.output("Result", Output::new(value));
            }
            template
        })
}

/// Everything in a template's JSON that is referred to and not there, found without the crate's own
/// rules.
fn dangling(template: &Json) -> BTreeSet<String> {
    let names = |section: &str| -> BTreeSet<String> {
        template[section]
            .as_object()
            .map(|entries| entries.keys().cloned().collect())
            .unwrap_or_default()
    };
    let resources = names("Resources");
    let mut found = Vec::new();
    mentions(template, &mut found);
    for (_, resource) in template["Resources"].as_object().into_iter().flatten() {
        found.extend(resource["Condition"].as_str().map(|name| ("condition", name.to_owned())));
        let others = resource["DependsOn"].as_array().into_iter().flatten();
        found.extend(others.map(|name| ("resource", name.as_str().unwrap().to_owned())));
    }
    found.retain(|(kind, name)| match *kind {
        "condition" => !names("Conditions").contains(name),
        "resource" => !resources.contains(name),
        _ => {
            !name.starts_with("AWS::")
                && !resources.contains(name)
                && !names("Parameters").contains(name)
        }
    });
    found.into_iter().map(|(_, name)| name).collect()
}

fn mentions(json: &Json, found: &mut Vec<(&'static str, String)>) {
    let text = |json: &Json| json.as_str().unwrap().to_owned();
    match json {
        Json::Object(members) => {
            for (key, value) in members {
                match key.as_str() {
                    "Ref" => found.push(("any", text(value))),
                    "Fn::GetAtt" => found.push(("resource", text(&value[0]))),
                    "Fn::If" => found.push(("condition", text(&value[0]))),
                    "Fn::Sub" => sub_mentions(value, found),
                    _ => {}
                }
                mentions(value, found);
            }
        }
        Json::Array(items) => items.iter().for_each(|item| mentions(item, found)),
        _ => {}
    }
}

fn sub_mentions(argument: &Json, found: &mut Vec<(&'static str, String)>) {
    let text = argument.as_str().or(argument[0].as_str()).unwrap();
    for name in text.split("${").skip(1).map(|rest| rest.split('}').next().unwrap()) {
        match name.split('.').collect::<Vec<_>>()[..] {
            _ if name.starts_with('!') || !argument[1][name].is_null() => {}
            [resource, _] => found.push(("resource", resource.to_owned())),
            _ => found.push(("any", name.to_owned())),
        }
    }
}

proptest! {
    #[test]
    fn a_streambot_of_any_settings_is_sound_and_the_same_every_time(
        ways in any_ways(),
        composed: bool,
    ) {
        let document = ways::template(ways, composed).build().unwrap();
        let text = document.to_string();
        prop_assert!(text.ends_with('\n'));
        prop_assert_eq!(&text, &ways::template(ways, composed).build().unwrap().to_string());
        prop_assert_eq!(dangling(&serde_json::to_value(&document).unwrap()), BTreeSet::new());
    }

    #[test]
    fn two_streambots_of_any_settings_fit_in_one_template(ways in any_ways()) {
        let document = ways::two_in_one(ways).build().unwrap();
        let template = serde_json::to_value(&document).unwrap();
        prop_assert_eq!(dangling(&template), BTreeSet::new());
        for output in template["Outputs"].as_object().unwrap().keys() {
            prop_assert!(output.starts_with("Orders") || output.starts_with("Payments"), "{}", output);
        }
    }

    #[test]
    fn an_accepted_template_refers_to_nothing_that_is_not_there(template in any_template()) {
        let built = template.clone().build();
        if let Ok(document) = built {
            prop_assert_eq!(dangling(&serde_json::to_value(&document).unwrap()), BTreeSet::new());
            prop_assert_eq!(document.to_string(), template.build().unwrap().to_string());
        }
    }
}

#[test]
fn generated_templates_are_both_accepted_and_refused() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = (0..200)
        .filter(|_| any_template().new_tree(&mut runner).unwrap().current().build().is_ok())
        .count();
    assert!((20..180).contains(&accepted), "{accepted} of 200 were accepted");
}
