//! What an upload has beyond any other call to AWS: a bar that fills as its body leaves, and ten
//! times the time. It refuses to know what is uploaded and by which call.
//!
//! A call that uploads takes both:
//!
//! ```ignore
//! request
//!     .customize()
//!     .interceptor(upload::bar())
//!     .config_override(Config::builder().timeout_config(aws.patience.for_upload()))
//!     .send()
//! ```

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_lambda::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_lambda::error::BoxError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Patience;
use crate::progress;

/// How much of a body is handed to the connection at once: it takes the next piece when it has
/// written what it had.
const PIECE: usize = 64 * 1024;

/// How many times longer than another call an upload may take.
const TIMES: u32 = 10;

impl Patience {
    /// The time-outs of a call that uploads.
    pub(crate) fn for_upload(self) -> TimeoutConfig {
        TimeoutConfig::builder().operation_attempt_timeout(self.call * TIMES).build()
    }
}

/// Shows how much of the call's body has left, in a bar that goes when the call is over and starts
/// again with each attempt.
pub(crate) fn bar() -> impl Intercept + 'static {
    let bar = OnceLock::new();
    Meter(Arc::new(move |sent, total| bar.get_or_init(|| progress::upload_bar(total)).set(sent)))
}

/// Is told how many bytes of how many have left.
type Told = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// Puts a [`Metered`] in place of each attempt's body, after it was signed.
#[derive(Clone)]
struct Meter(Told);

impl fmt::Debug for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Meter").finish_non_exhaustive()
    }
}

impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "upload"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _runtime_components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.request_mut().body_mut();
        // A body of unknown length is none that a bar could show.
        let Some(total) = body.content_length() else { return Ok(()) };
        (self.0)(0, total);
        let whole = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(Metered {
            whole,
            rest: Bytes::new(),
            sent: 0,
            total,
            told: Arc::clone(&self.0),
        });
        Ok(())
    }
}

/// A body that tells how much of it has left.
struct Metered {
    whole: SdkBody,
    /// What was taken from the body and has not left.
    rest: Bytes,
    sent: u64,
    total: u64,
    told: Told,
}

impl Body for Metered {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.whole).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.sent += length as u64;
        (self.told)(self.sent, self.total);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.whole.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.total.saturating_sub(self.sent))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use aws_sdk_lambda::primitives::Blob;
    use aws_sdk_s3::primitives::ByteStream;
    use axum::extract::{DefaultBodyLimit, State};
    use axum::http::StatusCode;

    use super::*;
    use crate::aws::Aws;

    /// Lengths of the bodies that came, how many of the calls fail first, and how late they are
    /// answered.
    #[derive(Clone)]
    struct Answers {
        came: Arc<Mutex<Vec<u64>>>,
        failures: usize,
        late: Duration,
    }

    async fn answer(State(answers): State<Answers>, body: Bytes) -> (StatusCode, &'static str) {
        let attempt = {
            let mut came = answers.came.lock().unwrap();
            came.push(body.len() as u64);
            came.len()
        };
        tokio::time::sleep(answers.late).await;
        if attempt <= answers.failures {
            (StatusCode::INTERNAL_SERVER_ERROR, "{}")
        } else {
            (StatusCode::OK, "{}")
        }
    }

    async fn server(failures: usize, late: Duration) -> (String, Answers) {
        let answers = Answers { came: Arc::default(), failures, late };
        let app = axum::Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::disable())
            .with_state(answers.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (url, answers)
    }

    type Notes = Arc<Mutex<Vec<(u64, u64)>>>;

    /// A meter that notes all it is told.
    fn noted() -> (Meter, Notes) {
        let notes = Notes::default();
        let told = Arc::clone(&notes);
        (Meter(Arc::new(move |sent, total| told.lock().unwrap().push((sent, total)))), notes)
    }

    /// The notes of each attempt: it begins with nothing sent.
    fn attempts(notes: &[(u64, u64)]) -> Vec<&[(u64, u64)]> {
        notes.chunk_by(|_, (sent, _)| *sent != 0).collect()
    }

    #[tokio::test]
    async fn an_upload_to_lambda_is_counted_to_the_last_byte_and_starts_again_when_it_is_retried() {
        let (url, answers) = server(1, Duration::ZERO).await;
        let aws = Aws::of_test(&url, Duration::from_secs(60)).await;
        let (meter, notes) = noted();
        aws_sdk_lambda::Client::new(&aws.config)
            .update_function_code()
            .function_name("quakes")
            .zip_file(Blob::new(vec![7; 1_000_000]))
            .customize()
            .interceptor(meter)
            .send()
            .await
            .unwrap();
        let came = answers.came.lock().unwrap().clone();
        // In base64, within JSON.
        assert!(came.len() == 2 && came[0] == came[1] && came[0] > 1_333_336, "{came:?}");
        let notes = notes.lock().unwrap().clone();
        let attempts = attempts(&notes);
        assert_eq!(attempts.len(), 2);
        for attempt in attempts {
            assert_eq!(attempt.last(), Some(&(came[0], came[0])));
            assert!(attempt.is_sorted() && attempt.len() > 20, "piece by piece: {attempt:?}");
        }
    }

    #[tokio::test]
    async fn an_upload_to_s3_is_counted_to_the_last_byte_and_starts_again_when_it_is_retried() {
        let (url, answers) = server(2, Duration::ZERO).await;
        let aws = Aws::of_test(&url, Duration::from_secs(60)).await;
        let (meter, notes) = noted();
        let settings =
            aws_sdk_s3::config::Builder::from(&aws.config).force_path_style(true).build();
        aws_sdk_s3::Client::from_conf(settings)
            .put_object()
            .bucket("bucket")
            .key("key")
            .body(ByteStream::from(vec![7; 1_000_000]))
            .customize()
            .interceptor(meter)
            .send()
            .await
            .unwrap();
        assert_eq!(*answers.came.lock().unwrap(), [1_000_000; 3]);
        let notes = notes.lock().unwrap().clone();
        let attempts = attempts(&notes);
        assert_eq!(attempts.len(), 3);
        assert!(
            attempts.iter().all(|attempt| attempt.last() == Some(&(1_000_000, 1_000_000))),
            "{attempts:?}"
        );
    }

    #[tokio::test]
    async fn an_upload_may_take_ten_times_as_long_as_another_call() {
        let (url, answers) = server(0, Duration::from_millis(400)).await;
        let aws = Aws::of_test(&url, Duration::from_millis(200)).await;
        let client = aws_sdk_lambda::Client::new(&aws.config);
        let request =
            client.update_function_code().function_name("quakes").zip_file(Blob::new("zip"));
        assert!(request.clone().send().await.is_err());
        assert_eq!(std::mem::take(&mut *answers.came.lock().unwrap()).len(), 3);

        let timeouts = aws_sdk_lambda::Config::builder().timeout_config(aws.patience.for_upload());
        request.customize().interceptor(bar()).config_override(timeouts).send().await.unwrap();
        assert_eq!(answers.came.lock().unwrap().len(), 1);
    }
}
