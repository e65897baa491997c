//! A change set: made, read, executed or given up, so that nothing is left behind which was not
//! wanted. It refuses to decide which of these it will be.

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata as _;
use aws_sdk_cloudformation::operation::describe_change_set::DescribeChangeSetOutput;
use aws_sdk_cloudformation::types::{
    Capability, ChangeSetStatus, ChangeSetType, Parameter, ParameterDeclaration, StackStatus,
};

use super::change::Change;
use super::upload::{Placed, Source};
use crate::aws::{self, Patience};
use crate::error::{Error, Result};
use crate::progress;

/// What templates say of themselves.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// The parameters of the outermost one.
    pub(super) parameters: Vec<ParameterDeclaration>,
    /// What the caller has to acknowledge, of all of them.
    pub(super) capabilities: Vec<Capability>,
    /// Why, in CloudFormation's words.
    pub(super) reasons: Vec<String>,
    nests: bool,
}

impl Summary {
    /// Asks CloudFormation about a template and those it nests.
    ///
    /// # Errors
    /// Failed where one of them is not valid.
    pub(super) async fn of(client: &Client, placed: &Placed) -> Result<Self> {
        let call = client.get_template_summary();
        let call = match &placed.source {
            Source::Body(body) => call.template_body(body),
            Source::Url(url) => call.template_url(url),
        };
        let doing = "asking CloudFormation what the template needs";
        let root = call.send().await.map_err(|error| aws::failed(doing, error))?;
        let nests = root.resource_types().iter().any(|kind| kind == "AWS::CloudFormation::Stack");
        let mut summary = Self { nests, ..Self::default() };
        summary.needs(root.capabilities(), root.declared_transforms(), root.capabilities_reason());
        summary.parameters = root.parameters.unwrap_or_default();
        for url in &placed.nested {
            let nested = client.get_template_summary().template_url(url).send().await;
            let nested =
                nested.map_err(|error| aws::failed(format!("{doing} nested at {url}"), error))?;
            summary.needs(
                nested.capabilities(),
                nested.declared_transforms(),
                nested.capabilities_reason(),
            );
        }
        Ok(summary)
    }

    fn needs(&mut self, capabilities: &[Capability], transforms: &[String], reason: Option<&str>) {
        // A macro may make anything of a template, which CloudFormation wants acknowledged in every
        // case.
        let expand = Some(Capability::CapabilityAutoExpand).filter(|_| !transforms.is_empty());
        for capability in capabilities.iter().cloned().chain(expand) {
            if !self.capabilities.contains(&capability) {
                self.capabilities.push(capability);
            }
        }
        self.reasons.extend(reason.map(str::to_owned));
    }
}

/// The capabilities that an error names, such as `Requires capabilities : [CAPABILITY_NAMED_IAM]`.
fn capabilities_in(message: &str) -> Vec<Capability> {
    let words =
        message.split(|character: char| !(character.is_ascii_uppercase() || character == '_'));
    words.filter(|word| word.starts_with("CAPABILITY_")).map(Capability::from).collect()
}

/// Adds what an error wants acknowledged, and tells whether that is anything new. A template's
/// summary does not know what the nested ones need that lie elsewhere.
fn add_capabilities(capabilities: &mut Vec<Capability>, message: &str) -> bool {
    let before = capabilities.len();
    for capability in capabilities_in(message) {
        if !capabilities.contains(&capability) {
            capabilities.push(capability);
        }
    }
    capabilities.len() > before
}

fn new_name() -> String {
    format!("streambot-{}", uuid::Uuid::new_v4().simple())
}

/// What CloudFormation says of a change set that changes nothing.
fn is_empty(reason: &str) -> bool {
    reason.contains("didn't contain changes") || reason.contains("No updates are to be performed")
}

/// A change set of a stack. It is there from [`ChangeSet::prepare`] on, and [`ChangeSet::discard`]
/// takes it away.
#[derive(Debug)]
pub(super) struct ChangeSet<'a> {
    pub(super) client: &'a Client,
    pub(super) patience: Patience,
    /// The stack's name.
    pub(super) stack: &'a str,
    /// Whether the stack will come about by it.
    pub(super) creates: bool,
    name: String,
}

/// What a change set was found to do.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The stack's id.
    pub(super) stack_id: String,
    pub(super) changes: Vec<Change>,
    /// Whether the stack is as its template says.
    pub(super) empty: bool,
    /// What executing it acknowledges.
    pub(super) capabilities: Vec<Capability>,
}

impl<'a> ChangeSet<'a> {
    pub(super) fn new(
        client: &'a Client,
        patience: Patience,
        stack: &'a str,
        creates: bool,
    ) -> Self {
        Self { client, patience, stack, creates, name: new_name() }
    }

    /// Makes the change set and reads what it will do.
    ///
    /// # Errors
    /// Failed where CloudFormation refuses the template or its parameters.
    pub(super) async fn prepare(
        &mut self,
        source: &Source,
        parameters: Vec<Parameter>,
        summary: &Summary,
    ) -> Result<Prepared> {
        let doing = format!("making a change set of stack `{}`", self.stack);
        let mut capabilities = summary.capabilities.clone();
        let mut nested = summary.nests;
        loop {
            let kind = if self.creates { ChangeSetType::Create } else { ChangeSetType::Update };
            let call =
                self.client.create_change_set().stack_name(self.stack).change_set_name(&self.name);
            let call = match source {
                Source::Body(body) => call.template_body(body),
                Source::Url(url) => call.template_url(url),
            };
            let made = call
                .change_set_type(kind)
                .set_parameters(Some(parameters.clone()))
                .set_capabilities(Some(capabilities.clone()))
                .set_include_nested_stacks(nested.then_some(true))
                .send()
                .await;
            if let Err(error) = made {
                let refused = error.as_service_error();
                let message = refused.and_then(|error| error.message()).unwrap_or_default();
                // Nobody else has the name: an earlier attempt of the call came through, and its
                // answer did not.
                let made = refused.and_then(|error| error.code()) == Some("AlreadyExistsException");
                // A server without change sets of nested stacks changes them all the same; it only
                // cannot tell how.
                if nested && message.contains("IncludeNestedStacks") {
                    nested = false;
                    continue;
                }
                if add_capabilities(&mut capabilities, message) {
                    continue;
                }
                if !made {
                    return Err(aws::failed(doing, error));
                }
            }
            let (status, reason, stack_id) = self.wait().await?;
            if status == ChangeSetStatus::CreateComplete {
                // Without a change of a resource it may still change outputs.
                let changes = self.changes(Some(self.stack), &self.name).await?;
                return Ok(Prepared { stack_id, changes, empty: false, capabilities });
            }
            if is_empty(&reason) {
                return Ok(Prepared { stack_id, changes: Vec::new(), empty: true, capabilities });
            }
            if !add_capabilities(&mut capabilities, &reason) {
                return Err(Error::failed(format!("{doing} ({})", status.as_str())).because(reason));
            }
            self.delete().await?;
            self.name = new_name();
        }
    }

    /// Waits until it is made, or cannot be: how it stands, why, and the id of its stack.
    async fn wait(&self) -> Result<(ChangeSetStatus, String, String)> {
        let mut waits = self.patience.waits();
        loop {
            let call = self
                .client
                .describe_change_set()
                .stack_name(self.stack)
                .change_set_name(&self.name);
            let answer = call.send().await.map_err(|error| self.unread(error))?;
            let status = answer.status.unwrap_or(ChangeSetStatus::CreatePending);
            if !matches!(status, ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress)
            {
                let stack_id = answer.stack_id.unwrap_or_else(|| self.stack.to_owned());
                return Ok((status, answer.status_reason.unwrap_or_default(), stack_id));
            }
            if !waits.wait().await {
                return Err(Error::failed(format!(
                    "waiting for the change set of stack `{}`",
                    self.stack
                ))
                .hint("try again, with a longer --wait-timeout"));
            }
        }
    }

    fn unread<E, R>(&self, error: aws_sdk_cloudformation::error::SdkError<E, R>) -> Error
    where
        E: aws_sdk_cloudformation::error::ProvideErrorMetadata
            + std::error::Error
            + Send
            + Sync
            + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        aws::failed(format!("reading the change set of stack `{}`", self.stack), error)
    }

    /// What a change set will do, and those of nested stacks below it. One of a nested stack is
    /// known by its id alone.
    async fn changes(&self, stack: Option<&str>, name: &str) -> Result<Vec<Change>> {
        let call = self
            .client
            .describe_change_set()
            .set_stack_name(stack.map(str::to_owned))
            .change_set_name(name);
        let mut pages = call.into_paginator().send();
        let mut changes = Vec::new();
        while let Some(page) = pages.next().await {
            let page: DescribeChangeSetOutput = page.map_err(|error| self.unread(error))?;
            for change in page
                .changes
                .unwrap_or_default()
                .iter()
                .filter_map(|change| change.resource_change())
            {
                let mut read = Change::new(change);
                if let Some(nested) = change.change_set_id() {
                    read.nested = Box::pin(self.changes(None, nested)).await?;
                }
                changes.push(read);
            }
        }
        Ok(changes)
    }

    /// Begins the change.
    ///
    /// # Errors
    /// Failed where the stack was changed in the meantime, or the caller may not.
    pub(super) async fn execute(&self) -> Result<()> {
        let call =
            self.client.execute_change_set().stack_name(self.stack).change_set_name(&self.name);
        // With a token, a second attempt of the call is known as one.
        let done = call.client_request_token(&self.name).send().await;
        done.map(|_| ()).map_err(|error| {
            aws::failed(format!("executing the change set of stack `{}`", self.stack), error)
        })
    }

    /// Takes the change set away, and the shell of a stack that was made for it. What cannot be
    /// taken away is told.
    pub(super) async fn discard(&self) {
        if let Err(error) = self.try_to_discard().await {
            progress::warn(format!(
                "a change set of stack `{}` is left behind: {}",
                self.stack,
                error.report()
            ));
        }
    }

    async fn try_to_discard(&self) -> Result<()> {
        self.delete().await?;
        if self.creates { self.discard_shell().await } else { Ok(()) }
    }

    async fn delete(&self) -> Result<()> {
        let mut waits = self.patience.waits();
        loop {
            let call =
                self.client.delete_change_set().stack_name(self.stack).change_set_name(&self.name);
            let Err(error) = call.send().await else { return Ok(()) };
            let code = error.as_service_error().and_then(|error| error.code()).unwrap_or_default();
            // Where it was never made there is nothing to take away; one that is being made is not
            // yet for deletion.
            if code.starts_with("ChangeSetNotFound") || code == "ValidationError" {
                return Ok(());
            }
            if !(code.starts_with("InvalidChangeSetStatus") && waits.wait().await) {
                return Err(aws::failed(
                    format!("deleting the change set `{}` of stack `{}`", self.name, self.stack),
                    error,
                ));
            }
        }
    }

    /// A stack that was only ever under review holds nothing, so it goes unless another change set
    /// is for it.
    async fn discard_shell(&self) -> Result<()> {
        let Some(stack) = super::describe(self.client, self.stack).await? else { return Ok(()) };
        if stack.status != StackStatus::ReviewInProgress.as_str() {
            return Ok(());
        }
        let call = self.client.list_change_sets().stack_name(&stack.id);
        let others =
            call.send().await.map_err(|error| aws::failed("listing other change sets", error))?;
        if others.summaries().iter().any(|other| other.change_set_name() != Some(&self.name)) {
            return Ok(());
        }
        let deleted = self.client.delete_stack().stack_name(&stack.id).send().await;
        deleted
            .map(|_| ())
            .map_err(|error| aws::failed("deleting the stack that holds nothing else", error))
    }
}

/// Capabilities as a sentence names them.
pub(super) fn words(capabilities: &[Capability]) -> String {
    capabilities.iter().map(Capability::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_those_of_all_templates_once_and_a_macro_needs_its_own() {
        let mut summary = Summary::default();
        summary.needs(
            &[Capability::CapabilityIam],
            &[],
            Some("The following resource(s) require capabilities: [Role]"),
        );
        summary.needs(
            &[Capability::CapabilityIam, Capability::CapabilityNamedIam],
            &["Macro".to_owned()],
            None,
        );
        assert_eq!(
            words(&summary.capabilities),
            "CAPABILITY_IAM, CAPABILITY_NAMED_IAM, CAPABILITY_AUTO_EXPAND"
        );
        assert_eq!(summary.reasons.len(), 1);
        let mut none = Summary::default();
        none.needs(&[], &[], None);
        assert_eq!(none.capabilities, []);
    }

    #[test]
    fn an_error_names_the_capabilities_it_wants() {
        let message = "Requires capabilities : [CAPABILITY_NAMED_IAM, CAPABILITY_AUTO_EXPAND]";
        assert_eq!(
            capabilities_in(message),
            [Capability::CapabilityNamedIam, Capability::CapabilityAutoExpand]
        );
        assert_eq!(capabilities_in("Template format error"), []);
        let mut known = vec![Capability::CapabilityNamedIam];
        assert!(add_capabilities(&mut known, message));
        assert_eq!(words(&known), "CAPABILITY_NAMED_IAM, CAPABILITY_AUTO_EXPAND");
        assert!(!add_capabilities(&mut known, message));
    }

    #[test]
    fn a_change_set_without_changes_is_told_by_its_reason() {
        assert!(is_empty(
            "The submitted information didn't contain changes. Submit different information."
        ));
        assert!(is_empty("No updates are to be performed."));
        assert!(!is_empty("Transform AWS::Serverless failed"));
    }
}
