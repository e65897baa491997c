//! Doing a thing once: deposits are added to balances in DynamoDB, each of them once, however often
//! its record comes.
//!
//! One transaction notes the record's id, which must not be there yet, and adds the deposit. Either
//! both happen or neither does: a function that dies at any point, before the answer or after it,
//! leaves nothing half done.
//!
//! The stack has two tables. `SeenTable` has the partition key `id` (text) and the time to live
//! `expires`, `BalanceTable` the partition key `account` (text). The function's role may
//! `dynamodb:PutItem` and `dynamodb:UpdateItem`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem, Update};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use serde::Deserialize;
use streambot_runtime::{Error, Json, Record, Stack, each, metrics, run};

/// How long an id is remembered: longer than the stream keeps its records.
const REMEMBERED: Duration = Duration::from_hours(8 * 24);

/// Producers put it with the account as its partition key, so that no two transactions meet at one
/// balance.
#[derive(Deserialize)]
struct Deposit {
    account: String,
    cents: u64,
}

fn main() -> Result<(), Error> {
    run(async || {
        let ledger = Ledger::new(Stack::from_env()).await?;
        let handler = async move |(record, deposit): (Record, Json<Deposit>)| -> Result<(), Error> {
            if !ledger.add(&record.id(), &deposit).await? {
                metrics::count("RepeatedDeposits", 1);
            }
            Ok(())
        };
        Ok(each(handler).concurrency(16))
    })
}

/// The two tables.
struct Ledger {
    client: Client,
    seen: String,
    balances: String,
}

impl Ledger {
    async fn new(stack: Stack) -> Result<Self, Error> {
        // The client asks for rustls on ring; the SDK's default brings a C build of AWS-LC.
        let https = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let settings = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .http_client(https)
            .load()
            .await;
        Ok(Self {
            client: Client::new(&settings),
            seen: stack.value("SeenTable").ok_or("the stack has no SeenTable")?,
            balances: stack.value("BalanceTable").ok_or("the stack has no BalanceTable")?,
        })
    }

    /// Adds a deposit unless it was added before under this id; says whether it was added now.
    async fn add(&self, id: &str, deposit: &Deposit) -> Result<bool, Error> {
        let expires = (SystemTime::now() + REMEMBERED).duration_since(UNIX_EPOCH)?.as_secs();
        let note = Put::builder()
            .table_name(&self.seen)
            .item("id", AttributeValue::S(id.to_owned()))
            .item("expires", AttributeValue::N(expires.to_string()))
            .condition_expression("attribute_not_exists(id)")
            .build()?;
        let add = Update::builder()
            .table_name(&self.balances)
            .key("account", AttributeValue::S(deposit.account.clone()))
            .update_expression("ADD cents :cents")
            .expression_attribute_values(":cents", AttributeValue::N(deposit.cents.to_string()))
            .build()?;
        let transaction = self
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().put(note).build())
            .transact_items(TransactWriteItem::builder().update(add).build());
        match transaction.send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(was_seen) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the note, the transaction's first part, was there already. Any other reason is worth
/// another attempt.
fn was_seen(error: &TransactWriteItemsError) -> bool {
    let TransactWriteItemsError::TransactionCanceledException(canceled) = error else {
        return false;
    };
    canceled.cancellation_reasons().first().and_then(|reason| reason.code())
        == Some("ConditionalCheckFailed")
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::CancellationReason;
    use aws_sdk_dynamodb::types::error::TransactionCanceledException;

    use super::*;

    #[test]
    fn only_a_note_that_is_there_already_tells_of_a_repeat() {
        let canceled = |codes: [&str; 2]| {
            let reasons =
                codes.map(|code| CancellationReason::builder().code(code).build()).to_vec();
            let exception = TransactionCanceledException::builder()
                .set_cancellation_reasons(Some(reasons))
                .build();
            TransactWriteItemsError::TransactionCanceledException(exception)
        };
        assert!(was_seen(&canceled(["ConditionalCheckFailed", "None"])));
        assert!(
            !was_seen(&canceled(["None", "TransactionConflict"])),
            "two at one balance: to be tried again"
        );
    }
}
