//! How fast streamed answers come: the time from each piece of text to the next. What is no text, such as the arguments of a
//! call, is no piece.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Peer, Telemetry};

/// A piece of a streamed answer that came after another.
#[derive(Clone, Copy, Debug)]
pub struct PieceTold<'a> {
    /// Who answers.
    pub peer: &'a Peer,
    /// The model, as its provider calls it.
    pub model: &'a str,
    /// How long after the piece before it.
    pub after: Duration,
}

/// The pieces of one answer.
pub struct Pieces {
    telemetry: Telemetry,
    peer: Peer,
    model: String,
    /// When the last one came.
    last: Mutex<Option<Instant>>,
}

impl Pieces {
    pub(super) fn new(telemetry: Telemetry, peer: Peer, model: &str) -> Self {
        Self { telemetry, peer, model: model.to_owned(), last: Mutex::default() }
    }

    /// A piece came. The first one is told with its attempt.
    pub fn came(&self) {
        let now = Instant::now();
        let before = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if let Some(before) = before {
            let told = PieceTold { peer: &self.peer, model: &self.model, after: now.duration_since(before) };
            self.telemetry.sinks().for_each(|sink| sink.piece(&told));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Gauges, Peers};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_piece_is_told_by_the_time_since_the_one_before() {
        let telemetry = Telemetry::new(None, Peers::default());
        let pieces = telemetry.pieces(&"openai/gpt-5-mini".into());
        for wait in [5_000, 30, 50] {
            tokio::time::advance(Duration::from_millis(wait)).await;
            pieces.came();
        }
        let text = telemetry.metrics().text(&Gauges::default()).expect("metrics");
        let of = "{gen_ai_provider_name=\"openai\",gen_ai_request_model=\"gpt-5-mini\"}";
        for said in [format!("seconds_sum{of} 0.08"), format!("seconds_count{of} 2")] {
            let name = "gen_ai_client_inference_time_per_output_chunk";
            assert!(text.contains(&format!("{name}_{said}")), "{said}: {text}");
        }
    }
}
