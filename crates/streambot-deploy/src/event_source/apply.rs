//! The calls that make event source mappings what a plan says. A mapping is updated wherever Lambda
//! can do that, so it keeps its place in the stream.

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::FunctionResponseType;
use serde::Serialize;

use super::Described;
use super::find::{list, read};
use super::mapping::Mapping;
use super::plan::{Plan, Removal, Step, Wanted, plan};
use crate::aws::{Aws, failed};
use crate::error::{Error, Result};
use crate::function::ALIAS;
use crate::progress;

/// How often a source is looked at again where its mapping turns out to be there already.
const ROUNDS: usize = 3;

/// A mapping as a deploy leaves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Connected {
    /// Its id.
    pub(crate) uuid: String,
    /// ARN of the stream or consumer it reads.
    pub(crate) event_source_arn: String,
    /// Whether it reads.
    pub(crate) state: String,
}

/// Makes existing mappings honour partial answers. This comes before new code goes live: without it
/// Lambda would take an answer that names failed records for a success, and lose them.
///
/// # Errors
/// Failed where Lambda refuses, or a mapping does not settle.
pub(crate) async fn honour_partial_answers(aws: &Aws, plan: &Plan) -> Result<()> {
    let client = Client::new(&aws.config);
    let staying = plan.mappings.iter().filter_map(|step| match step {
        Step::Update { uuid, report_batch_item_failures: true, .. } => Some(uuid),
        _ => None,
    });
    // What is to be removed invokes the new code until then.
    let going = plan
        .remove
        .iter()
        .filter(|removal| removal.report_batch_item_failures)
        .map(|removal| &removal.uuid);
    for uuid in staying.chain(going) {
        progress::say(format!("setting ReportBatchItemFailures on event source mapping {uuid}"));
        let request = client
            .update_event_source_mapping()
            .uuid(uuid)
            .function_response_types(FunctionResponseType::ReportBatchItemFailures);
        let doing = format!("changing event source mapping {uuid}");
        aws.patience
            .call(&doing, async || request.clone().send().await)
            .await
            .map_err(|error| failed(doing, error))?;
        wait_until_settled(aws, &client, uuid, Known::Honouring).await?;
    }
    Ok(())
}

/// Carries out `plan`, one source beside the other, and tells the mappings in the order of
/// `wanted`.
///
/// # Errors
/// Failed where Lambda refuses, or a mapping does not settle in time.
pub(crate) async fn apply(
    aws: &Aws,
    plan: &Plan,
    wanted: &[Wanted],
    function: &str,
) -> Result<Vec<Connected>> {
    let work = Work { aws, client: Client::new(&aws.config), function };
    for removal in &plan.remove {
        work.remove(removal).await?;
    }
    let steps = plan.mappings.iter().zip(wanted).map(|(step, wanted)| work.carry_out(step, wanted));
    futures_util::future::try_join_all(steps).await
}

/// The way to the mappings of one function.
struct Work<'a> {
    aws: &'a Aws,
    client: Client,
    function: &'a str,
}

impl Work<'_> {
    async fn remove(&self, removal: &Removal) -> Result<()> {
        let Removal { uuid, source, under_way, .. } = removal;
        if !under_way {
            progress::say(format!("deleting event source mapping {uuid} of {source}"));
            delete(self.aws, &self.client, uuid).await?;
        }
        wait_until_gone(self.aws, &self.client, uuid).await
    }

    async fn carry_out(&self, step: &Step, wanted: &Wanted) -> Result<Connected> {
        match step {
            Step::Update { uuid, changes, is_busy, .. } if changes.is_empty() && !is_busy => {
                Ok(Connected {
                    uuid: uuid.clone(),
                    event_source_arn: wanted.arn.clone(),
                    state: if wanted.settings.enabled() { "Enabled" } else { "Disabled" }
                        .to_owned(),
                })
            }
            Step::Update { uuid, .. } => self.update(uuid, wanted).await,
            Step::Create => self.create(wanted).await,
        }
    }

    /// Creates a mapping, unless it turns out to be there: an attempt whose answer was lost has
    /// made it.
    async fn create(&self, wanted: &Wanted) -> Result<Connected> {
        let arn = &wanted.arn;
        let doing = format!("creating an event source mapping of {arn}");
        for _ in 0..ROUNDS {
            progress::say(&doing);
            let request = self
                .client
                .create_event_source_mapping()
                .event_source_arn(arn)
                .function_name(self.alias());
            let request = Mapping::declared(&wanted.settings).create(request, &wanted.settings);
            let error =
                match self.aws.patience.call(&doing, async || request.clone().send().await).await {
                    Ok(answer) => {
                        return self
                            .settled(&answer.uuid.unwrap_or_default(), wanted, Known::New)
                            .await;
                    }
                    Err(error) => error,
                };
            if !error.as_service_error().is_some_and(|error| error.is_resource_conflict_exception())
            {
                return Err(failed(doing, error));
            }
            let existing = list(&self.client, self.function, &[arn]).await?;
            let of_source: Vec<_> = existing
                .into_iter()
                .filter(|mapping| mapping.event_source_arn() == Some(arn))
                .collect();
            let again = plan(&of_source, std::slice::from_ref(wanted), self.function, false)?;
            for removal in &again.remove {
                self.remove(removal).await?;
            }
            if let [Step::Update { uuid, .. }] = &again.mappings[..] {
                return self.update(uuid, wanted).await;
            }
        }
        Err(Error::failed(doing)
            .hint("Lambda says that there is one and does not list it: deploy again in a minute"))
    }

    /// Gives a mapping what it lacks, from what it is once it has settled: a change under way may
    /// be what is wanted.
    async fn update(&self, uuid: &str, wanted: &Wanted) -> Result<Connected> {
        let before = wait_until_settled(self.aws, &self.client, uuid, Known::AsItIs).await?;
        let current = Mapping::told(&before);
        let declared = Mapping::declared(&wanted.settings);
        let changes = current.changes(&declared);
        let reports = before
            .function_response_types()
            .contains(&FunctionResponseType::ReportBatchItemFailures);
        if changes.is_empty() && reports {
            return self.settled(uuid, wanted, Known::Honouring).await;
        }
        for change in changes {
            progress::say(format!("changing event source mapping {uuid}, {change}"));
        }
        let request = self
            .client
            .update_event_source_mapping()
            .uuid(uuid)
            .function_response_types(FunctionResponseType::ReportBatchItemFailures);
        let request = declared.update(request, &current, &self.alias());
        let doing = format!("changing event source mapping {uuid}");
        self.aws
            .patience
            .call(&doing, async || request.clone().send().await)
            .await
            .map_err(|error| failed(doing, error))?;
        self.settled(uuid, wanted, Known::Honouring).await
    }

    async fn settled(&self, uuid: &str, wanted: &Wanted, known: Known) -> Result<Connected> {
        let mapping = wait_until_settled(self.aws, &self.client, uuid, known).await?;
        Ok(Connected {
            uuid: uuid.to_owned(),
            event_source_arn: wanted.arn.clone(),
            state: mapping.state.unwrap_or_default(),
        })
    }

    /// The function by its alias, as Lambda takes it for a name.
    fn alias(&self) -> String {
        format!("{}:{ALIAS}", self.function)
    }
}

/// Deletes a mapping; one that is gone already is as good.
///
/// # Errors
/// Failed where Lambda refuses.
pub(crate) async fn delete(aws: &Aws, client: &Client, uuid: &str) -> Result<()> {
    let request = client.delete_event_source_mapping().uuid(uuid);
    let doing = format!("deleting event source mapping {uuid}");
    match aws.patience.call(&doing, async || request.clone().send().await).await {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(|error| error.is_resource_not_found_exception()) =>
        {
            Ok(())
        }
        Err(error) => Err(failed(doing, error)),
    }
}

/// Waits until a mapping that is being deleted is not there any more. The SDK has no waiter for
/// mappings.
///
/// # Errors
/// Failed where it stays.
pub(crate) async fn wait_until_gone(aws: &Aws, client: &Client, uuid: &str) -> Result<()> {
    let mut waits = aws.patience.waits();
    while read(client, uuid).await?.is_some() {
        if !waits.wait().await {
            return Err(Error::failed(format!(
                "event source mapping {uuid} is still being deleted"
            ))
            .hint("try again in a minute"));
        }
    }
    Ok(())
}

/// What is known of a mapping that is waited for: what was just asked for may not be told at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Nothing was asked for.
    AsItIs,
    /// It was made a moment ago.
    New,
    /// It was told to honour partial answers.
    Honouring,
}

/// Waits until Lambda is done with a change of a mapping, and tells what it is then.
async fn wait_until_settled(
    aws: &Aws,
    client: &Client,
    uuid: &str,
    known: Known,
) -> Result<Described> {
    let mut waits = aws.patience.waits();
    loop {
        let mapping = read(client, uuid).await?;
        if mapping.is_none() && known != Known::New {
            return Err(deleted(uuid));
        }
        let honours = |mapping: &Described| {
            known != Known::Honouring
                || mapping
                    .function_response_types()
                    .contains(&FunctionResponseType::ReportBatchItemFailures)
        };
        match mapping {
            Some(mapping)
                if matches!(mapping.state(), Some("Enabled" | "Disabled")) && honours(&mapping) =>
            {
                return Ok(mapping);
            }
            mapping if !waits.wait().await => {
                let Some(mapping) = mapping else { return Err(deleted(uuid)) };
                let state = mapping.state().unwrap_or_default();
                let reason = mapping
                    .state_transition_reason()
                    .unwrap_or("Lambda gives no reason")
                    .to_owned();
                return Err(Error::failed(format!("event source mapping {uuid} stays {state}"))
                    .because(reason)
                    .hint("deploy again once it is Enabled and has ReportBatchItemFailures"));
            }
            _ => {}
        }
    }
}

fn deleted(uuid: &str) -> Error {
    Error::failed(format!("event source mapping {uuid} was deleted meanwhile")).hint("deploy again")
}

/// Moves mappings that invoke the function itself, as 1.0 made them, to the alias.
///
/// # Errors
/// Failed where Lambda refuses, or one does not settle.
pub(crate) async fn move_to_alias(aws: &Aws, mappings: &[Described], function: &str) -> Result<()> {
    let client = Client::new(&aws.config);
    for uuid in
        mappings.iter().filter(|mapping| invokes_latest(mapping)).filter_map(Described::uuid)
    {
        let doing = format!("moving event source mapping {uuid} to alias `{ALIAS}`");
        progress::say(&doing);
        let request = client
            .update_event_source_mapping()
            .uuid(uuid)
            .function_name(format!("{function}:{ALIAS}"));
        aws.patience
            .call(&doing, async || request.clone().send().await)
            .await
            .map_err(|error| failed(doing, error))?;
        wait_until_settled(aws, &client, uuid, Known::AsItIs).await?;
    }
    Ok(())
}

/// Whether a mapping invokes `$LATEST`, and so whatever is uploaded at once.
pub(crate) fn invokes_latest(mapping: &Described) -> bool {
    matches!(mapping.function_arn().map(|arn| arn.split(':').nth(7)), Some(None | Some("$LATEST")))
}
