//! The resources of a stack and of the stacks nested in it, with the state each of them is in:
//! built from events, read as lines. It refuses to know where the lines are shown.

use super::event::{Event, in_progress};
use crate::progress::Line;

/// A stack that is being changed.
#[derive(Debug)]
pub(super) struct Tree {
    root: Resource,
    /// In the order of their first events.
    resources: Vec<Resource>,
    /// The ids of nested stacks, each with the id of the stack around it and its logical id there.
    nested: Vec<(String, String, String)>,
}

#[derive(Debug)]
struct Resource {
    /// The id of the stack it belongs to.
    stack_id: String,
    logical_id: String,
    kind: String,
    status: String,
    reason: Option<String>,
}

impl Resource {
    fn is_of(&self, event: &Event) -> bool {
        self.stack_id == event.stack_id && self.logical_id == event.logical_id
    }

    fn line(&self, depth: usize, coloured: bool) -> Line {
        let failed = self.status.ends_with("FAILED");
        let (mark, colour) = match self.status.as_str() {
            status if status.is_empty() || in_progress(status) => (' ', ""),
            _ if failed => ('✗', "\u{1b}[31m"),
            _ => ('✓', "\u{1b}[32m"),
        };
        let (colour, reset) =
            if coloured && !colour.is_empty() { (colour, "\u{1b}[0m") } else { ("", "") };
        let mut text =
            format!("{} ({}) {colour}{}{reset}", self.logical_id, self.kind, self.status);
        if let Some(reason) = self.reason.as_ref().filter(|_| failed) {
            text = format!("{text}: {}", one_line(reason));
        }
        Line {
            key: format!("{}/{}", self.stack_id, self.logical_id),
            indent: 2 + 2 * depth,
            mark: (mark != ' ').then(|| format!("{colour}{mark}{reset}")),
            text,
        }
    }
}

impl Tree {
    /// The tree of a stack of which nothing is known yet.
    pub(super) fn new(name: &str, id: &str) -> Self {
        let root = Resource {
            stack_id: id.to_owned(),
            logical_id: name.to_owned(),
            kind: "AWS::CloudFormation::Stack".to_owned(),
            status: String::new(),
            reason: None,
        };
        Self { root, resources: Vec::new(), nested: Vec::new() }
    }

    /// Takes in which stacks are nested in which, before their events are recorded.
    pub(super) fn nest(&mut self, events: &[Event]) {
        for event in events {
            let Some(id) = event.nested_stack() else { continue };
            if !self.nested.iter().any(|(known, ..)| known == id) {
                self.nested.push((id.to_owned(), event.stack_id.clone(), event.logical_id.clone()));
            }
        }
    }

    /// Takes an event in, and says what it tells where that is a change of state.
    pub(super) fn record(&mut self, event: &Event) -> Option<String> {
        if event.is_of_stack() && event.stack_id != self.root.stack_id {
            // The stack around it tells the same.
            return None;
        }
        let place = if event.is_of_stack() {
            &mut self.root
        } else {
            let index =
                self.resources.iter().position(|resource| resource.is_of(event)).unwrap_or_else(
                    || {
                        self.resources.push(Resource {
                            stack_id: event.stack_id.clone(),
                            logical_id: event.logical_id.clone(),
                            kind: event.kind.clone(),
                            status: String::new(),
                            reason: None,
                        });
                        self.resources.len() - 1
                    },
                );
            &mut self.resources[index]
        };
        if place.status == event.status {
            return None;
        }
        place.status.clone_from(&event.status);
        place.reason.clone_from(&event.reason);
        let mut told = format!("{} ({}) {}", self.path(event), event.kind, event.status);
        if let Some(reason) = event.reason.as_ref().filter(|_| event.status.ends_with("FAILED")) {
            told = format!("{told}: {}", one_line(reason));
        }
        Some(told)
    }

    /// The logical ids that lead to an event's resource, below the root.
    pub(super) fn path(&self, event: &Event) -> String {
        if event.is_of_stack() && event.stack_id == self.root.stack_id {
            return self.root.logical_id.clone();
        }
        let mut path = event.logical_id.clone();
        let mut stack_id = &event.stack_id;
        while let Some((_, parent, logical_id)) = self.nested.iter().find(|(id, ..)| id == stack_id)
        {
            path = format!("{logical_id}/{path}");
            stack_id = parent;
        }
        path
    }

    /// The ids of the nested stacks that are being changed.
    pub(super) fn nested_in_progress(&self) -> Vec<String> {
        let changing = self.resources.iter().filter(|resource| in_progress(&resource.status));
        changing.flat_map(|resource| self.stacks_of(resource)).map(str::to_owned).collect()
    }

    /// The ids of the stacks that a resource is; two where one replaces the other.
    fn stacks_of<'a>(&'a self, resource: &'a Resource) -> impl Iterator<Item = &'a str> {
        let of = self.nested.iter().filter(move |(_, parent, logical_id)| {
            *parent == resource.stack_id && *logical_id == resource.logical_id
        });
        of.map(|(id, ..)| id.as_str())
    }

    /// A line for each resource, below the stack it belongs to.
    pub(super) fn lines(&self, coloured: bool) -> Vec<Line> {
        let mut lines = vec![self.root.line(0, coloured)];
        self.lines_below(&self.root.stack_id, 1, coloured, &mut lines);
        lines
    }

    fn lines_below(&self, stack_id: &str, depth: usize, coloured: bool, lines: &mut Vec<Line>) {
        for resource in self.resources.iter().filter(|resource| resource.stack_id == stack_id) {
            lines.push(resource.line(depth, coloured));
            for nested in self.stacks_of(resource) {
                self.lines_below(nested, depth + 1, coloured, lines);
            }
        }
    }
}

/// Reasons of some services have several lines.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::{arn, event};
    use super::*;

    fn told(tree: &mut Tree, events: &[Event]) -> Vec<String> {
        tree.nest(events);
        events.iter().filter_map(|event| tree.record(event)).collect()
    }

    fn shown(tree: &Tree) -> Vec<String> {
        let line = |line: &Line| {
            format!(
                "{:indent$}{}{}",
                "",
                line.mark.as_deref().unwrap_or("…"),
                line.text,
                indent = line.indent
            )
        };
        tree.lines(false).iter().map(line).collect()
    }

    #[test]
    fn nested_resources_stand_below_their_stack_whenever_they_are_told() {
        let mut tree = Tree::new("quakes", &arn("quakes"));
        let events = [
            event("quakes", "quakes", "Stack", "CREATE_IN_PROGRESS", "User Initiated"),
            event("quakes", "Child", "Stack", "CREATE_IN_PROGRESS", ""),
            event("quakes", "Queue", "Queue", "CREATE_IN_PROGRESS", ""),
            event("Child", "Child", "Stack", "CREATE_IN_PROGRESS", ""),
            event("Child", "Dead", "Queue", "CREATE_IN_PROGRESS", ""),
            event("Child", "Dead", "Queue", "CREATE_IN_PROGRESS", "Resource creation Initiated"),
            event("Child", "Dead", "Queue", "CREATE_FAILED", "no\n such  queue"),
            event("quakes", "Queue", "Queue", "CREATE_COMPLETE", ""),
        ];
        assert_eq!(
            told(&mut tree, &events),
            [
                "quakes (AWS::CloudFormation::Stack) CREATE_IN_PROGRESS",
                "Child (AWS::CloudFormation::Stack) CREATE_IN_PROGRESS",
                "Queue (AWS::SQS::Queue) CREATE_IN_PROGRESS",
                "Child/Dead (AWS::SQS::Queue) CREATE_IN_PROGRESS",
                "Child/Dead (AWS::SQS::Queue) CREATE_FAILED: no such queue",
                "Queue (AWS::SQS::Queue) CREATE_COMPLETE",
            ]
        );
        assert_eq!(
            shown(&tree),
            [
                "  …quakes (AWS::CloudFormation::Stack) CREATE_IN_PROGRESS",
                "    …Child (AWS::CloudFormation::Stack) CREATE_IN_PROGRESS",
                "      ✗Dead (AWS::SQS::Queue) CREATE_FAILED: no such queue",
                "    ✓Queue (AWS::SQS::Queue) CREATE_COMPLETE",
            ]
        );
        assert_eq!(tree.nested_in_progress(), [arn("Child")]);
    }

    #[test]
    fn colours_are_for_a_terminal() {
        let mut tree = Tree::new("quakes", &arn("quakes"));
        assert_eq!(tree.lines(true)[0].mark, None);
        told(&mut tree, &[event("quakes", "quakes", "Stack", "ROLLBACK_FAILED", "")]);
        assert!(tree.lines(true)[0].text.contains("\u{1b}[31mROLLBACK_FAILED\u{1b}[0m"));
        assert!(!tree.lines(false)[0].text.contains('\u{1b}'));
    }
}
