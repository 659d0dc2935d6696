//! An answer of this wire: one document, or a stream of documents that each say what is new and count all so far.

use serde_json::{Value, json};

use super::{Gemini, SIGNATURE, TOKEN, signs};
use crate::sim::completion::{Completion, Event, Finish, Shown, Stream};

/// The body of an answer in one piece.
pub(super) fn whole(completion: &Completion, api: &Gemini) -> String {
    let answer = Answer { completion, api };
    if completion.choices == 0 {
        return answer.blocked().to_string();
    }
    let parts: Vec<Value> = answer.pieces(usize::MAX).into_iter().map(|piece| piece.0).collect();
    answer.document(&parts, Some(finish(&completion.finish)), answer.usage(completion.usage.completion)).to_string()
}

/// A streamed answer in its parts. The thoughts come first, unseen; usage stands in every document.
pub(super) fn stream<'a>(completion: &'a Completion, api: &Gemini) -> Stream<'a> {
    let answer = Answer { completion, api };
    let event = |document: Value| format!("data: {document}\r\n\r\n");
    if completion.choices == 0 {
        return Stream { last: vec![event(answer.blocked())], ..Stream::default() };
    }
    let pieces = answer.pieces(completion.chunk_bytes);
    let most = completion.usage.completion.saturating_sub(completion.usage.reasoning);
    let said = pieces.into_iter().enumerate().map(|(index, (part, said))| {
        let so_far = u64::try_from(index).unwrap_or(u64::MAX).min(most) + completion.usage.reasoning;
        let count = if completion.shown == Shown::EveryChunk { completion.usage.completion } else { so_far };
        let usage = answer.usage(count);
        Event { reasoned: true, ..Event::new(event(answer.document(&[part], None, usage)), said) }
    });
    let said = said.collect();
    let usage = answer.usage(completion.usage.completion);
    let mut last = vec![event(answer.document(&[], Some(finish(&completion.finish)), usage.clone()))];
    if completion.shown == Shown::Twice {
        last.push(event(json!({"usageMetadata": usage, "modelVersion": completion.model})));
    }
    Stream { said, finish: Vec::new(), last }
}

struct Answer<'a, 'b> {
    completion: &'a Completion,
    api: &'b Gemini,
}

impl<'a> Answer<'a, '_> {
    /// Parts, each with what it says. The first call is signed, and the last text where there is no call.
    fn pieces(&self, bytes: usize) -> Vec<(Value, &'a str)> {
        let Completion { text, refusal, calls, model, .. } = self.completion;
        let pieces = |text: &'a str| {
            let whole = bytes >= text.len();
            let one = whole.then_some(text).filter(|text| !text.is_empty());
            let many = self.completion.chunks(text).filter(move |_| !whole);
            one.into_iter().chain(many)
        };
        let texts = pieces(text).chain(refusal.as_deref().into_iter().flat_map(pieces));
        let mut parts: Vec<(Value, &str)> = texts.map(|piece| (json!({"text": piece}), piece)).collect();
        let texts = parts.len();
        for (index, (name, arguments)) in calls.iter().enumerate() {
            parts.push((self.call(index, name, arguments), arguments));
        }
        let signed = if calls.is_empty() { texts.checked_sub(1) } else { Some(texts) };
        if let Some((part, _)) = signed.filter(|_| signs(model)).and_then(|place| parts.get_mut(place)) {
            part["thoughtSignature"] = format!("{SIGNATURE}{}==", self.completion.usage.reasoning).into();
        }
        parts
    }

    /// Arguments that are no object have no form here: such a call has none.
    fn call(&self, index: usize, name: &str, arguments: &str) -> Value {
        let arguments: Value = serde_json::from_str(arguments).unwrap_or(Value::Null);
        let mut call = json!({"name": name, "args": arguments});
        if matches!(self.api, Gemini::Api) {
            call["id"] = format!("{}-{index}", self.completion.id.trim_start_matches("response-")).into();
        }
        json!({"functionCall": call})
    }

    fn document(&self, parts: &[Value], finish: Option<&str>, usage: Option<Value>) -> Value {
        let Completion { id, model, .. } = self.completion;
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = finish.into();
        }
        if finish == Some("CONTINUATION") {
            candidate["continuationToken"] = format!("{TOKEN}{}", self.completion.usage.completion).into();
        }
        let mut document = json!({"candidates": [candidate], "modelVersion": model, "responseId": id});
        if let Some(usage) = usage {
            document["usageMetadata"] = usage;
        }
        document
    }

    /// The prompt was stopped: there is no candidate.
    fn blocked(&self) -> Value {
        let Completion { id, model, .. } = self.completion;
        let prompt = self.completion.usage.prompt;
        json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "modelVersion": model, "responseId": id,
            "usageMetadata": {"promptTokenCount": prompt, "totalTokenCount": prompt}})
    }

    /// The usage with so much output by now; thoughts are counted beside what is seen.
    fn usage(&self, output: u64) -> Option<Value> {
        let counts = self.completion.usage;
        match self.completion.shown {
            Shown::Missing => return None,
            Shown::Null => return Some(Value::Null),
            Shown::Garbage => return Some(json!({"promptTokenCount": -1, "candidatesTokenCount": "many"})),
            Shown::Once | Shown::Twice | Shown::EveryChunk => {}
        }
        let mut usage = json!({
            "promptTokenCount": counts.prompt,
            "candidatesTokenCount": output.saturating_sub(counts.reasoning),
            "totalTokenCount": counts.prompt.saturating_add(output),
        });
        // What is zero is left out.
        for (field, count) in
            [("cachedContentTokenCount", counts.cached), ("thoughtsTokenCount", counts.reasoning.min(output))]
        {
            if count > 0 {
                usage[field] = count.into();
            }
        }
        if matches!(self.api, Gemini::Vertex) {
            usage["trafficType"] = "ON_DEMAND".into();
        }
        Some(usage)
    }
}

/// Calls end as anything else that is said.
fn finish(finish: &Finish) -> &str {
    match finish {
        Finish::Stop | Finish::Calls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filter => "SAFETY",
        Finish::Given(word) => word,
    }
}
