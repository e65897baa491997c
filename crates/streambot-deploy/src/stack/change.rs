//! What a change set will do, in words: one line for each resource, and the question about all of
//! them. It refuses to know how a change set is made.

use aws_sdk_cloudformation::types as cloudformation;
use serde::Serialize;

/// One resource that will change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    action: Action,
    pub(super) logical_id: String,
    #[serde(rename = "type")]
    kind: String,
    /// What of the resource changes: names of its properties, or attributes such as `Tags`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<String>,
    /// Whether the resource, or the one it replaces, leaves the stack and stays on AWS.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retained: bool,
    /// What changes within it, where it is a nested stack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nested: Vec<Change>,
}

/// What will become of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Add,
    Import,
    Change,
    /// CloudFormation knows only while it works.
    MayChange,
    MayReplace,
    Replace,
    Remove,
}

impl Action {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Add => ("+", "add"),
            Self::Import => ("+", "import"),
            Self::Change => ("~", "change"),
            Self::MayChange => ("~", "may change"),
            Self::MayReplace => ("±", "may replace"),
            Self::Replace => ("±", "replace"),
            Self::Remove => ("-", "remove"),
        }
    }

    /// Red where something is lost, which is what a reader must not miss.
    fn colour(self) -> &'static str {
        match self {
            Self::Add | Self::Import => "\u{1b}[32m",
            Self::Change | Self::MayChange => "\u{1b}[33m",
            Self::MayReplace | Self::Replace | Self::Remove => "\u{1b}[31m",
        }
    }
}

impl Change {
    /// Reads one resource's part of a change set.
    pub(super) fn new(change: &cloudformation::ResourceChange) -> Self {
        use cloudformation::{ChangeAction, PolicyAction, Replacement};
        let action = match (change.action(), change.replacement()) {
            (Some(ChangeAction::Add), _) => Action::Add,
            (Some(ChangeAction::Import), _) => Action::Import,
            (Some(ChangeAction::Remove), _) => Action::Remove,
            (_, Some(Replacement::True)) => Action::Replace,
            (_, Some(Replacement::Conditional)) => Action::MayReplace,
            (Some(ChangeAction::Modify), _) => Action::Change,
            _ => Action::MayChange,
        };
        let mut properties: Vec<String> = Vec::new();
        for target in change.details().iter().filter_map(|detail| detail.target()) {
            let attribute = target.attribute().map(|attribute| attribute.as_str());
            let name = target.name().or(attribute).filter(|name| !name.is_empty());
            if let Some(name) = name.filter(|name| !properties.iter().any(|known| known == name)) {
                properties.push(name.to_owned());
            }
        }
        Self {
            action,
            logical_id: change.logical_resource_id().unwrap_or_default().to_owned(),
            kind: change.resource_type().unwrap_or_default().to_owned(),
            properties,
            retained: matches!(
                change.policy_action(),
                Some(PolicyAction::Retain | PolicyAction::ReplaceAndRetain)
            ),
            nested: Vec::new(),
        }
    }

    fn line(&self, depth: usize, coloured: bool) -> String {
        let (mark, word) = self.action.words();
        let mut line = format!(
            "{:indent$}{mark} {word} {} ({})",
            "",
            self.logical_id,
            self.kind,
            indent = 2 + 2 * depth
        );
        if !self.properties.is_empty() {
            line = format!("{line}: {}", self.properties.join(", "));
        }
        if self.retained {
            line.push_str(match self.action {
                Action::Remove => "; it stays on AWS",
                _ => "; the old one stays on AWS",
            });
        }
        if coloured { format!("{}{line}\u{1b}[0m", self.action.colour()) } else { line }
    }
}

/// A line for each change, those of a nested stack indented below it.
pub(super) fn lines(changes: &[Change], coloured: bool) -> Vec<String> {
    fn add(lines: &mut Vec<String>, changes: &[Change], depth: usize, coloured: bool) {
        for change in changes {
            lines.push(change.line(depth, coloured));
            add(lines, &change.nested, depth + 1, coloured);
        }
    }
    let mut lines = Vec::new();
    add(&mut lines, changes, 0, coloured);
    lines
}

/// The question before a change set is executed. It names what may be lost.
pub(super) fn question(name: &str, creates: bool, changes: &[Change]) -> String {
    let mut replaced = Vec::new();
    let mut removed = Vec::new();
    let count = sort_out(changes, "", &mut replaced, &mut removed);
    let resources = if count == 1 { "1 resource".to_owned() } else { format!("{count} resources") };
    if creates {
        return format!("create stack `{name}` with {resources}?");
    }
    if count == 0 {
        return format!("change stack `{name}`, though none of its resources?");
    }
    let mut question = format!("change {resources} of stack `{name}`");
    for (doing, lost) in [("replacing", replaced), ("removing", removed)] {
        if !lost.is_empty() {
            question = format!("{question}, {doing} {}", lost.join(", "));
        }
    }
    question + "?"
}

fn sort_out(
    changes: &[Change],
    parent: &str,
    replaced: &mut Vec<String>,
    removed: &mut Vec<String>,
) -> usize {
    let mut count = changes.len();
    for change in changes {
        let path = format!("{parent}{}", change.logical_id);
        count += sort_out(&change.nested, &format!("{path}/"), replaced, removed);
        match change.action {
            Action::Replace | Action::MayReplace => replaced.push(format!("`{path}`")),
            Action::Remove => removed.push(format!("`{path}`")),
            _ => {}
        }
    }
    count
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use cloudformation::{ChangeAction, PolicyAction, Replacement, ResourceAttribute};

    fn change(action: ChangeAction, id: &str) -> cloudformation::builders::ResourceChangeBuilder {
        cloudformation::ResourceChange::builder()
            .action(action)
            .logical_resource_id(id)
            .resource_type("AWS::Kinesis::Stream")
    }

    fn detail(
        attribute: ResourceAttribute,
        name: Option<&str>,
    ) -> cloudformation::ResourceChangeDetail {
        let target = cloudformation::ResourceTargetDefinition::builder()
            .attribute(attribute)
            .set_name(name.map(str::to_owned))
            .build();
        cloudformation::ResourceChangeDetail::builder().target(target).build()
    }

    pub(in super::super) fn all() -> Vec<Change> {
        let mut child = Change::new(&change(ChangeAction::Modify, "Child").build());
        child.nested = vec![
            Change::new(
                &change(ChangeAction::Remove, "Table").policy_action(PolicyAction::Retain).build(),
            ),
            Change::new(&change(ChangeAction::Dynamic, "Later").build()),
        ];
        vec![
            Change::new(&change(ChangeAction::Add, "Topic").build()),
            Change::new(
                &change(ChangeAction::Modify, "Queue")
                    .replacement(Replacement::False)
                    .details(detail(ResourceAttribute::Properties, Some("DelaySeconds")))
                    .details(detail(ResourceAttribute::Tags, None))
                    .details(detail(ResourceAttribute::Properties, Some("DelaySeconds")))
                    .build(),
            ),
            Change::new(
                &change(ChangeAction::Modify, "Stream")
                    .replacement(Replacement::True)
                    .policy_action(PolicyAction::ReplaceAndRetain)
                    .details(detail(ResourceAttribute::Properties, Some("Name")))
                    .build(),
            ),
            Change::new(
                &change(ChangeAction::Modify, "Role").replacement(Replacement::Conditional).build(),
            ),
            child,
        ]
    }

    #[test]
    fn each_change_is_a_line_and_a_nested_one_is_indented() {
        let expected = [
            "  + add Topic (AWS::Kinesis::Stream)",
            "  ~ change Queue (AWS::Kinesis::Stream): DelaySeconds, Tags",
            "  ± replace Stream (AWS::Kinesis::Stream): Name; the old one stays on AWS",
            "  ± may replace Role (AWS::Kinesis::Stream)",
            "  ~ change Child (AWS::Kinesis::Stream)",
            "    - remove Table (AWS::Kinesis::Stream); it stays on AWS",
            "    ~ may change Later (AWS::Kinesis::Stream)",
        ];
        assert_eq!(lines(&all(), false), expected);
    }

    #[test]
    fn what_may_be_lost_is_red_and_nothing_else_is() {
        let red: Vec<bool> =
            lines(&all(), true).iter().map(|line| line.starts_with("\u{1b}[31m")).collect();
        assert_eq!(red, [false, false, true, true, false, true, false]);
    }

    #[test]
    fn the_question_names_what_may_be_lost() {
        assert_eq!(question("quakes", true, &all()[..1]), "create stack `quakes` with 1 resource?");
        assert_eq!(
            question("quakes", false, &[]),
            "change stack `quakes`, though none of its resources?"
        );
        assert_eq!(question("quakes", false, &all()[..2]), "change 2 resources of stack `quakes`?");
        assert_eq!(
            question("quakes", false, &all()),
            "change 7 resources of stack `quakes`, replacing `Stream`, `Role`, removing `Child/Table`?"
        );
    }
}
